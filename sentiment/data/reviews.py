"""Reviews: a file of scraped reviews → a checked frame → labels → the split, and the audit of it.

    loaded = load_reviews("data.csv")        # frame of text and rating, and what was dropped
    split = split_reviews(loaded.frame)      # 70 % training part, 30 % holdout, stratified

Whatever is wrong with a file ends in a `ReviewDataError` of one line that says what, where,
what was expected and what to do; nothing is repaired in silence.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pandas as pd

from sentiment.errors import ReviewDataError, ReviewReadError

TEXT_COLUMN = "Review text"  # the scraped file's own names
RATING_COLUMN = "Ratings"
# The scraper keeps the label of Flipkart's "read on" link, glued to the last word. Lower case is
# left alone: a person may well end a sentence on it.
MARKERS = ("READ MORE", "Read More")
NEGATIVE_UP_TO = 2  # ratings 1–2 are negative, 3–5 positive, as in the guide
CLASS_NAMES = ("negative", "positive")  # index = label
HOLDOUT_SHARE = 0.3
SPLIT_SEED = 42  # the published split; a search seed does not move it
TEXT_HASHES = "training_text_hashes.npy"  # artifact of a run: `text_hashes` of its training part

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LoadedReviews:
    """A checked file: `frame` has `text` (str, never blank), `rating` (1–5) and `copies` (1 up)."""

    frame: pd.DataFrame
    source: Path
    rows_read: int
    without_text: int
    marker_removed: int
    exact_duplicates: int

    def dropped(self) -> str:
        """What was left out and why, in a sentence."""
        return (
            f"{self.rows_read:,} rows read: {self.without_text:,} without text and "
            f"{self.exact_duplicates:,} exact duplicates dropped, {len(self.frame):,} left"
        )


@dataclass(frozen=True)
class Split:
    """Raw texts, 0/1 labels and row numbers in the frame, of training part and holdout."""

    train_texts: list[str]
    test_texts: list[str]
    y_train: Labels
    y_test: Labels
    train_rows: Labels
    test_rows: Labels


def load_reviews(
    path: str | Path, text_column: str | None = None, rating_column: str | None = None
) -> LoadedReviews:
    """Read and check a CSV, TSV or Parquet file of reviews, gzipped or not, UTF-8.

    Rows without text and exact (text, rating) duplicates are dropped and counted; the scraper's
    trailing marker is removed first, and `copies` says how often each row came. Columns default
    to `Review text` and `Ratings`. Raises `ReviewDataError`.
    """
    source = Path(path)
    columns = (text_column or TEXT_COLUMN, rating_column or RATING_COLUMN)
    table = _read_table(source, columns)
    if table.empty:
        raise ReviewDataError(f"{source}: has a header but no rows; expected one row per review")
    present = table[columns[0]].notna()
    raw = table.loc[present, columns[0]].astype(str)
    texts = raw.map(remove_marker)
    blank = texts == ""
    if blank.all():
        raise ReviewDataError(f"{source}: no row has text in column '{columns[0]}'")
    kept = texts[~blank]
    ratings = _checked_ratings(table.loc[kept.index, columns[1]], columns[1], source)
    frame = pd.DataFrame({"text": kept, "rating": ratings})
    unique = frame.groupby(["text", "rating"], sort=False).size().reset_index(name="copies")
    return LoadedReviews(
        frame=unique,
        source=source,
        rows_read=len(table),
        without_text=len(table) - len(frame),
        marker_removed=int(raw.str.rstrip().str.endswith(MARKERS).sum()),
        exact_duplicates=len(frame) - len(unique),
    )


def remove_marker(text: str) -> str:
    """The text without the scraper's trailing marker (repeated ones too) and outer white space."""
    text = text.strip()
    while text.endswith(MARKERS):
        text = text[: -len(MARKERS[0])].rstrip()
    return text


def to_labels(ratings: Sequence[int] | pd.Series) -> Labels:
    """Ratings 1–5 → labels: 0 negative (1–2), 1 positive (3–5)."""
    return (np.asarray(ratings) > NEGATIVE_UP_TO).astype(np.int64)


def split_reviews(frame: pd.DataFrame, folds: int = 5) -> Split:
    """The one stratified split, 70/30, `random_state=42`; the holdout is for the end.

    Raises `ReviewDataError` when a class is too small for `folds` folds of the training part.
    """
    from sklearn.model_selection import train_test_split

    labels = to_labels(frame["rating"])
    counts = np.bincount(labels, minlength=2)
    needed = math.ceil(folds / (1 - HOLDOUT_SHARE))
    for name, count in zip(CLASS_NAMES, counts, strict=True):
        if count < needed:
            raise ReviewDataError(
                f"{count} {name} reviews left, expected at least {needed} so that each of {folds} "
                f"folds has one; give a file with more ratings of "
                f"{'1–2' if name == CLASS_NAMES[0] else '3–5'}"
            )
    train, test = train_test_split(
        np.arange(len(frame)), test_size=HOLDOUT_SHARE, random_state=SPLIT_SEED, stratify=labels
    )
    texts = frame["text"].tolist()
    train_texts, test_texts = [texts[i] for i in train], [texts[i] for i in test]
    return Split(train_texts, test_texts, labels[train], labels[test], train, test)


def data_digest(frame: pd.DataFrame) -> str:
    """16 hexadecimal digits that change with any text, rating or order of the checked frame."""
    digest = hashlib.sha256()
    for text, rating in zip(frame["text"], frame["rating"], strict=True):
        # the length goes in as well, so that no two frames run together into the same bytes
        data = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d %d " % (rating, len(data)) + data)
    return digest.hexdigest()[:16]


def text_hashes(cleaned: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Sorted distinct 64-bit BLAKE2b hashes of cleaned texts: which texts a model has seen."""
    digests = {hashlib.blake2b(text.encode(), digest_size=8).digest() for text in cleaned}
    return np.sort(np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64))


def unseen(cleaned_test: Sequence[str], cleaned_train: Sequence[str]) -> npt.NDArray[np.bool_]:
    """For each holdout text whether its cleaned form is absent from the training part."""
    seen = set(cleaned_train)
    return np.array([text not in seen for text in cleaned_test], dtype=bool)


def audit_reviews(
    loaded: LoadedReviews,
    split: Split,
    cleaned_train: Sequence[str],
    cleaned_test: Sequence[str],
) -> pd.DataFrame:
    """The data audit as a table: `check`, `count`, `share` (0–1) and `of` (what it is a share of).

    The cleaned texts belong row by row to `split`.
    """
    cleaned = [*cleaned_train, *cleaned_test]
    labels = np.concatenate([split.y_train, split.y_test])
    kept, distinct = len(cleaned), len(set(cleaned))
    both = pd.Series(labels).groupby(np.array(cleaned, dtype=object)).nunique()
    again = len(cleaned_test) - int(unseen(cleaned_test, cleaned_train).sum())
    rows = [
        ("rows without text", loaded.without_text, loaded.rows_read, "rows read"),
        ("exact duplicates", loaded.exact_duplicates, loaded.rows_read, "rows read"),
        ("reviews left", kept, loaded.rows_read, "rows read"),
        ("duplicates after cleaning", kept - distinct, kept, "reviews left"),
        ("cleaned texts with both labels", int((both > 1).sum()), distinct, "cleaned texts"),
        ("empty after cleaning", sum(text == "" for text in cleaned), kept, "reviews left"),
        ("holdout texts also in training", again, len(cleaned_test), "holdout"),
        ("negative reviews", int((labels == 0).sum()), kept, "reviews left"),
        ("positive reviews", int((labels == 1).sum()), kept, "reviews left"),
    ]
    table = pd.DataFrame(rows, columns=["check", "count", "total", "of"])
    table.insert(2, "share", table["count"] / table.pop("total"))
    return table


def _read_table(source: Path, columns: tuple[str, str]) -> pd.DataFrame:
    """The two named columns, as strings (CSV, TSV) or as the file types them (Parquet)."""
    if source.is_dir():
        raise ReviewDataError(f"{source}: is a folder, expected a CSV, TSV or Parquet file")
    try:
        with source.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise ReviewDataError(f"{source}: no such file; give one with --data") from None
    except OSError as error:
        raise ReviewReadError(f"{source}: cannot be read: {error.strerror}") from None
    if not magic:
        raise ReviewDataError(f"{source}: is empty, expected a header and one row per review")
    if magic == b"PAR1":
        return _read_parquet(source, columns)
    return _read_delimited(source, columns, gzipped=magic[:2] == b"\x1f\x8b")


def _read_parquet(source: Path, columns: tuple[str, str]) -> pd.DataFrame:
    import pyarrow
    from pyarrow import parquet

    try:
        _check_columns(parquet.read_schema(source).names, columns, source)
        return parquet.read_table(source, columns=list(columns)).to_pandas()  # type: ignore[no-any-return]
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ReviewDataError(f"{source}: is not a readable Parquet file: {reason}") from None


def _read_delimited(source: Path, columns: tuple[str, str], *, gzipped: bool) -> pd.DataFrame:
    name = source.name.removesuffix(".gz").lower()
    delimiter = "\t" if name.endswith((".tsv", ".tab")) else ","
    try:
        with _open_text(source, gzipped=gzipped) as file:
            header = next(csv.reader(file, delimiter=delimiter), [])
            _check_columns(header, columns, source)
        with _open_text(source, gzipped=gzipped) as file:
            # All columns, since with `usecols` pandas lets a row with too many fields pass; and
            # only an empty cell is missing: "NA" and "null" are things people write.
            table = pd.read_csv(
                file, sep=delimiter, dtype=str, keep_default_na=False, na_values=[""]
            )
        if not isinstance(table.index, pd.RangeIndex):
            raise pd.errors.ParserError("the first row has more fields than the header")
        return table[list(columns)]
    except UnicodeDecodeError:
        offset = _first_undecodable_byte(source, gzipped=gzipped)
        raise ReviewDataError(
            f"{source}: byte {offset:,} is not UTF-8; save the file as UTF-8 and run again"
        ) from None
    except (pd.errors.ParserError, csv.Error):
        line = _torn_line(source, delimiter, gzipped=gzipped)
        raise ReviewDataError(
            f"{source}: the record that begins at line {line:,} is torn (a quote never closed, or "
            "more fields than the header has); mend that line"
        ) from None
    except (EOFError, gzip.BadGzipFile) as error:
        raise ReviewDataError(f"{source}: the gzip stream is damaged: {error}") from None


def _open_text(source: Path, *, gzipped: bool) -> IO[str]:
    if gzipped:
        return gzip.open(source, "rt", encoding="utf-8-sig", newline="")
    return source.open(encoding="utf-8-sig", newline="")


def _check_columns(found: list[str], columns: tuple[str, str], source: Path) -> None:
    for column, option in zip(columns, ("--text-column", "--rating-column"), strict=True):
        if column in found:
            continue
        by_lower = {name.lower(): name for name in found}
        near = difflib.get_close_matches(column.lower(), by_lower, n=1, cutoff=0.4)
        hint = f"; did you mean {option} '{by_lower[near[0]]}'?" if near else f"; name it: {option}"
        names = ", ".join(f"'{name}'" for name in found)
        raise ReviewDataError(f"{source}: no column '{column}', found {names}{hint}")


def _checked_ratings(column: pd.Series, name: str, source: Path) -> pd.Series:
    """The column as int 1–5; `4`, `"4"` and `4.0` are ratings, `4.5`, `6` and nothing are not."""
    ratings = pd.to_numeric(column, errors="coerce")
    bad = ~ratings.isin([1, 2, 3, 4, 5])
    if bad.any():
        at_fault = column[bad].head(3)
        first = "; ".join(
            f"row {row + 1:,}: {'nothing' if pd.isna(value) else repr(str(value))}"
            for row, value in zip(at_fault.index.to_numpy(), at_fault, strict=True)
        )
        raise ReviewDataError(
            f"{source}: {int(bad.sum()):,} values of '{name}' are not a whole number of stars from "
            f"1 to 5 ({first}); correct or remove these rows"
        )
    return ratings.astype(np.int64)


def _first_undecodable_byte(source: Path, *, gzipped: bool) -> int:
    data = gzip.decompress(source.read_bytes()) if gzipped else source.read_bytes()
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return len(data)


def _torn_line(source: Path, delimiter: str, *, gzipped: bool) -> int:
    """The line at which the first unreadable record begins; the header is line 1."""
    with _open_text(source, gzipped=gzipped) as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        begins, width = 1, 0
        try:
            for fields in reader:
                width = width or len(fields)
                if len(fields) > width:
                    return begins
                begins = reader.line_num + 1
        except csv.Error:
            pass
        return begins
