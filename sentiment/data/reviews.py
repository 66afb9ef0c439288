"""Turn a file of reviews into checked reviews, labels and the split, and audit it.

    loaded = load_reviews("data.csv")        # frame of texts and labels, and what was dropped
    split = split_reviews(loaded.frame)      # 70 % training part, 30 % holdout of each class

`tables` reads the file, and `labels` says what a rating or a label is. Which columns are meant and
which rows have a text is decided here, for training, scoring, the page and the drift check alike.
Whatever is wrong with a file ends in a `ReviewDataError` of one line; rows that are dropped are
counted by reason.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from sentiment.data.folders import open_folder
from sentiment.data.labels import (
    AS_RATED,
    CLASS_NAMES,
    GUIDES,
    NO_RATING,
    OTHER,
    WRONG_RATING,
    LabelCells,
    Labelling,
    LabelRule,
)
from sentiment.data.sources import Reading
from sentiment.data.tables import (
    ANY,
    AS_WRITTEN,
    NO_TEXT,
    PLACES_SHOWN,
    TEXT,
    TEXT_OR_NUMBER,
    Chunk,
    Column,
    Table,
    Unreadable,
    cells,
    open_table,
    suspicion,
)
from sentiment.errors import ReviewDataError
from sentiment.metrics import Labels
from text_cleaning import MARKERS, clean_texts, undo_scraping

# `hashed` keeps its holdout when rows are added or reordered; `published` is the guide's
SplitMethod = Literal["hashed", "published"]
TEXT_COLUMN = "Review text"  # the scraped file's own names
RATING_COLUMN = "Ratings"
# Groups, best first. A table with two of a group is asked about, not guessed at: beside a `text` a
# `summary` or a `review` is a title, but of `review` and `summary` either may be.
_TEXT_NAMES = (
    ("review text", "reviews text", "review body"),
    ("text", "body", "content"),
    ("review", "reviews", "comment", "comments", "summary"),
)
_RATING_NAMES = (
    ("ratings", "rating", "stars", "star rating", "review rating", "reviews rating"),
    ("score", "rate", "overall"),
)
RATINGS = Column("ratings", _RATING_NAMES, TEXT_OR_NUMBER, "--rating-column")
LABELS = Column("labels", (), ANY, "--label-column")
TEXTS = Column("reviews", _TEXT_NAMES, TEXT, "--text-column")
MONTH_FORMATS = ("%b %Y", "%B %Y", "%Y-%m")  # besides dates as in ISO 8601
HOLDOUT_SHARE = 0.3
SPLIT_SEED = 42  # the published split; a search seed does not move it
TextHashes = npt.NDArray[np.uint64]  # distinct, as of `text_hashes`
TEXT_HASHES = "training_text_hashes.npy"  # artifact of a run: `text_hashes` of the training part
# Share of texts without a word of a–z from which it is said, and from which the file is refused
WARN_FOREIGN, MOST_FOREIGN = 0.02, 0.5
_LATIN = re.compile("[A-Za-z]")
_NO_LETTER = re.compile(r"[\W\d_]+")
_READS = "the cleaning reads Latin letters"
# What a message quotes of a wrong rating: never words, which may be a customer's
_QUOTABLE = re.compile(r"[-+.,/\d ]{1,20}")


@dataclass(frozen=True)
class LoadedReviews:
    """A checked file.

    `frame` has `text` (str, never blank), `rating` (1–5), `label` (0 or 1, by the `rule`) and
    `copies` (1 up). Where the file has labels and no ratings, a rating is 1 or 5.
    """

    frame: pd.DataFrame
    source: Path
    rows_read: int
    without_text: int
    marker_removed: int
    exact_duplicates: int
    without_rating: int = 0
    unreadable: int = 0
    first_unreadable: str = ""  # where and why
    suspicious: int = 0  # rows with a cell of several lines and delimiters
    warning: str = ""  # of these, in a sentence
    read_as: str = ""  # which columns were taken, and what of the file was not as usual
    rule: LabelRule = GUIDES
    left_out: int = 0  # rows that are neither negative nor positive
    others: str = ""  # what these are

    def dropped(self) -> str:
        """Return what was left out and why, in a sentence."""
        reasons = [f"{self.without_text:,} without text"]
        if self.unreadable:
            reasons.insert(0, f"{self.unreadable:,} that cannot be read ({self.first_unreadable})")
        if self.without_rating:
            what = "label" if self.rule.negative else "rating"
            reasons.append(f"{self.without_rating:,} without a {what}")
        if self.left_out:
            reasons.append(f"{self.left_out:,} of {self.others}")
        read_as = f" ({self.read_as})" if self.read_as else ""
        kept = f"; {self.warning}" if self.warning else ""
        return (
            f"{self.rows_read:,} rows read{read_as}: {', '.join(reasons)} and "
            f"{self.exact_duplicates:,} exact duplicates dropped, {len(self.frame):,} left{kept}"
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
    path: str | Path,
    text_column: str | None = None,
    rating_column: str | None = None,
    reading: Reading = AS_WRITTEN,
    labelling: Labelling = AS_RATED,
) -> LoadedReviews:
    """Read and check a file of reviews of any format that `tables` reads, or a folder of parts.

    What scrapers leave is undone first. Rows that cannot be read, rows without text or rating,
    rows that are neither negative nor positive, and exact (text, rating) duplicates are dropped and
    counted; `copies` says how often each row came. Columns are found by their usual names unless
    they are named; `labelling` says what ratings or labels mean. Raises `ReviewDataError`, also for
    wrong ratings.
    """
    source = Path(path)
    reviews = _Distinct()
    unreadable, wrong, suspicious = (Unreadable(PLACES_SHOWN) for _ in range(3))
    rows_read = without_text = without_rating = left_out = marked = 0
    judged = LabelCells(labelling)
    read_as = ""
    for part, table in tables_of(source, reading):
        columns = table.find(TEXTS, text_column), find_judgement(table, labelling, rating_column)
        torn_here, wrong_here = Unreadable(PLACES_SHOWN), Unreadable(PLACES_SHOWN)
        for chunk in table.chunks(columns):
            torn = dict(chunk.problems)
            torn_here.add(chunk, torn)
            texts = texts_of(chunk)
            written, rated = map(cells, chunk.columns)
            stars = judged.stars(rated)
            rows_read += len(texts)
            without_text += len(chunk.problems) - len(torn)
            marked += sum(
                (cell or "").rstrip().endswith(MARKERS)
                for at, (cell, text) in enumerate(zip(written, texts, strict=True))
                if cell is not text and at not in torn
            )
            wrong_here.add(chunk, _wrong_ratings(chunk, rated, stars))
            if NO_RATING in stars or OTHER in stars:
                pairs = zip(stars, texts, strict=True)
                with_text = [rating for rating, text in pairs if text is not None]
                without_rating += with_text.count(NO_RATING)
                left_out += with_text.count(OTHER)
            reviews.add(texts, stars)
        unreadable.add_all(torn_here, part)
        wrong.add_all(wrong_here, part)
        suspicious.add_all(table.suspicious, part)
        read_as = read_as or table.described(("texts", columns[0]), (judged.what, columns[1]))
    table = Table(f"{source}: ")  # from here on messages are of the whole
    if doubt := judged.doubt():
        raise table.error(doubt)
    if wrong.count:
        said = f"{wrong.count:,} ratings are not {judged.expected} ({wrong})"
        raise table.error(f"{said}; correct or remove these rows")
    frame = reviews.frame(judged.rule)
    if missing := judged.missing(set(frame["rating"])):
        raise table.error(missing)
    share = _foreign_share(reviews.texts)
    warnings = [suspicion(suspicious)] if suspicious.count else []
    if share > WARN_FOREIGN:
        warnings.append(f"{share:.1%} of these texts have no a–z word; {_READS}")
    loaded = LoadedReviews(
        frame=frame,
        source=source,
        rows_read=rows_read,
        without_text=without_text,
        marker_removed=marked,
        exact_duplicates=int(frame["copies"].sum()) - len(frame),
        without_rating=without_rating,
        unreadable=unreadable.count,
        first_unreadable=str(unreadable),
        suspicious=suspicious.count,
        warning="; ".join(warnings),
        read_as=", ".join([read_as, *judged.notes()]),
        rule=judged.rule,
        left_out=left_out,
        others=judged.others() if left_out else "",
    )
    if not rows_read:
        raise table.error("has a header but no rows; expected one row per review")
    if frame.empty:
        raise table.error(f"no row has a text and a {judged.what[:-1]}: {loaded.dropped()}")
    return loaded


def tables_of(source: Path, reading: Reading) -> Iterator[tuple[str, Table]]:
    """Open the file, or the parts of the folder one after the other; a file's own name is "".

    Raises `ReviewDataError`.
    """
    if not source.is_dir():
        with open_table(source, "--data", reading) as table:
            yield "", table
        return
    folder = open_folder(str(source), "--data")
    for name in folder.parts():
        with folder.open_table(name, "--data", reading) as table:
            yield name, table


def find_judgement(table: Table, labelling: Labelling, rating_column: str | None) -> int:
    """Return the column of labels, where one was named, or of ratings.

    Raises `ReviewDataError`, also where both were named.
    """
    if labelling.label_column is None:
        return table.find(RATINGS, rating_column)
    if rating_column is not None:
        raise ReviewDataError("--rating-column and --label-column: give one of them")
    return table.find(LABELS, labelling.label_column)


class _Distinct:
    """Pairs of text and rating in the order they came first, and how often each came."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._ratings: list[int] = []
        self._copies: list[int] = []
        self._places: dict[int, dict[str, int]] = {}  # by rating and text

    def add(self, texts: Sequence[str | None], ratings: Sequence[int]) -> None:
        """Count those that have both."""
        for text, rating in zip(texts, ratings, strict=True):
            if text is None or rating <= 0:
                continue
            new = len(self.texts)
            at = self._places.setdefault(rating, {}).setdefault(text, new)
            if at < new:
                self._copies[at] += 1
            else:
                self.texts.append(text)
                self._ratings.append(rating)
                self._copies.append(1)

    def frame(self, rule: LabelRule) -> pd.DataFrame:
        """Return the columns of `LoadedReviews.frame`."""
        return pd.DataFrame(
            {
                "text": pd.Series(self.texts, dtype=str),
                "rating": self._ratings,
                "label": to_labels(self._ratings, rule),
                "copies": self._copies,
            }
        )


def texts_of(chunk: Chunk, column: int = 0) -> list[str | None]:
    """Return the texts after `undo_scraping`; None where there is none to read.

    `chunk.problems` gets `NO_TEXT` for the rows that could be read and have none.
    """
    texts = [undo_scraping(text) or None if text else None for text in cells(chunk.columns[column])]
    for at in chunk.problems:
        texts[at] = None
    if None in texts:
        for at, text in enumerate(texts):
            if text is None:
                chunk.problems.setdefault(at, NO_TEXT)
    return texts


def _wrong_ratings(chunk: Chunk, written: Sequence[Any], stars: Sequence[int]) -> dict[int, str]:
    """Return what is written where rows that can be read have no rating but something else."""
    if WRONG_RATING not in stars:
        return {}
    return {
        at: f"'{written[at]}'" if _QUOTABLE.fullmatch(str(written[at])) else "no number"
        for at, rating in enumerate(stars)
        if rating == WRONG_RATING and at not in chunk.problems
    }


def month_number(written: object) -> int | None:
    """Return the months since year 0; None for anything but a month or a date.

    A month is written as in `Feb 2021`, `February 2021` or `2021-02`, a date as in ISO 8601.
    """
    text = str(written).strip()
    for month_format in MONTH_FORMATS:
        with suppress(ValueError):
            date = datetime.strptime(text, month_format)
            return 12 * date.year + date.month - 1
    with suppress(ValueError):
        date = datetime.fromisoformat(text)
        return 12 * date.year + date.month - 1
    return None


def to_labels(stars: Sequence[int] | pd.Series, rule: LabelRule) -> Labels:
    """Turn stars 1–5 into labels, 0 negative and 1 positive; none of them may be neither."""
    return (np.asarray(stars) > rule.negative_up_to).astype(np.int64)


def split_reviews(
    frame: pd.DataFrame,
    cleaned: Sequence[str] | None = None,
    *,
    method: SplitMethod = "hashed",
    seed: int = SPLIT_SEED,
    folds: int = 5,
) -> Split:
    """Return the one stratified split, 70/30; the holdout is for the end.

    `hashed` puts the rows of each class in the order of a hash of their cleaned text, and takes the
    first 30 % as the holdout. So it does not depend on the order of the rows, hardly moves when
    some are added, and keeps equal cleaned texts of a class together. `published` is the guide's
    `train_test_split(random_state=42)`. `cleaned` are the frame's texts after cleaning, which is
    done here when they are not given. Another `seed` gives another split.

    Raises `ReviewDataError` when a class is too small for `folds` folds of the training part, and
    when most texts have no word of the letters a–z, of which nothing could be learnt.
    """
    share = _foreign_share(frame["text"].tolist())
    if share > MOST_FOREIGN:
        raise ReviewDataError(
            f"{share:.0%} of these texts have no a–z word; {_READS}, so give reviews in a language "
            "that is written with them"
        )
    labels = frame["label"].to_numpy(dtype=np.int64)
    counts = np.bincount(labels, minlength=2)
    needed = math.ceil(folds / (1 - HOLDOUT_SHARE))
    for name, count in zip(CLASS_NAMES, counts, strict=True):
        if count < needed:
            raise ReviewDataError(
                f"{count} {name} reviews left, expected at least {needed} so that each of {folds} "
                f"folds has one; give a file with more of them"
            )
    if method == "hashed":
        train, test = _hashed_split(frame, cleaned, labels, seed)
    else:
        from sklearn.model_selection import train_test_split

        train, test = train_test_split(
            np.arange(len(frame)), test_size=HOLDOUT_SHARE, random_state=seed, stratify=labels
        )
    texts = frame["text"].tolist()
    train_texts, test_texts = [texts[i] for i in train], [texts[i] for i in test]
    return Split(train_texts, test_texts, labels[train], labels[test], train, test)


def _foreign_share(texts: Sequence[str]) -> float:
    """Return the share, 0–1, of the texts in which other characters stand instead of a–z."""
    others = [text for text in texts if not text.isascii()]
    return sum(_LATIN.search(text) is None for text in others) / max(len(texts), 1)


def _hashed_split(
    frame: pd.DataFrame, cleaned: Sequence[str] | None, labels: Labels, seed: int
) -> tuple[Labels, Labels]:
    """Return the rows of training part and holdout, each in the order of the hash."""
    key = str(seed).encode()
    hashes = [
        hashlib.blake2b(text.encode(), key=key, digest_size=8).digest()
        for text in (clean_texts(frame["text"]) if cleaned is None else cleaned)
    ]
    # text and rating settle the order of rows with the same cleaned text
    of_row = zip(hashes, frame["text"].tolist(), frame["rating"].tolist(), strict=True)
    order = np.array([row for _, row in sorted((key, row) for row, key in enumerate(of_row))])
    held_out = np.zeros(len(frame), dtype=bool)
    for label in range(len(CLASS_NAMES)):
        of_class = order[labels[order] == label]
        held_out[of_class[: round(HOLDOUT_SHARE * len(of_class))]] = True
    return order[~held_out[order]], order[held_out[order]]


def data_digest(frame: pd.DataFrame) -> str:
    """Return 16 hexadecimal digits that change with any text, rating or label, not with the order.

    Labels by the guide's rule add nothing, since they follow from the ratings.
    """
    rows = []
    guides = to_labels(frame["rating"], GUIDES)
    for text, rating, label, usual in zip(
        frame["text"], frame["rating"], frame["label"], guides, strict=True
    ):
        # the length goes in as well, so that no two frames run together into the same bytes
        data = text.encode("utf-8", "surrogatepass")
        own = b"" if label == usual else b"label %d " % label
        rows.append(own + b"%d %d " % (rating, len(data)) + data)
    return hashlib.sha256(b"".join(sorted(rows))).hexdigest()[:16]


def text_hashes(cleaned: Sequence[str]) -> TextHashes:
    """Return the sorted distinct 64-bit BLAKE2b hashes of texts: which ones a model has seen."""
    digests = {hashlib.blake2b(text.encode(), digest_size=8).digest() for text in cleaned}
    return np.sort(np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64))


def unseen(cleaned_test: Sequence[str], cleaned_train: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return for each holdout text whether its cleaned form is absent from the training part."""
    seen = set(cleaned_train)
    return np.array([text not in seen for text in cleaned_test], dtype=bool)


def audit_reviews(
    loaded: LoadedReviews, split: Split, cleaned_train: Sequence[str], cleaned_test: Sequence[str]
) -> pd.DataFrame:
    """Return the data audit: `check`, `count`, `share` (0–1) and `of` (what it is a share of).

    The cleaned texts belong row by row to `split`.
    """
    cleaned = [*cleaned_train, *cleaned_test]
    labels = np.concatenate([split.y_train, split.y_test])
    kept, distinct = len(cleaned), len(set(cleaned))
    both = pd.Series(labels).groupby(np.array(cleaned, dtype=object)).nunique()
    again = len(cleaned_test) - int(unseen(cleaned_test, cleaned_train).sum())
    rows = [
        ("rows that cannot be read", loaded.unreadable, loaded.rows_read, "rows read"),
        (
            "rows with several lines and delimiters",
            loaded.suspicious,
            loaded.rows_read,
            "rows read",
        ),
        ("rows without text", loaded.without_text, loaded.rows_read, "rows read"),
        ("rows without a rating", loaded.without_rating, loaded.rows_read, "rows read"),
        ("neither negative nor positive", loaded.left_out, loaded.rows_read, "rows read"),
        ("exact duplicates", loaded.exact_duplicates, loaded.rows_read, "rows read"),
        ("reviews left", kept, loaded.rows_read, "rows read"),
        ("duplicates after cleaning", kept - distinct, kept, "reviews left"),
        ("cleaned texts with both labels", int((both > 1).sum()), distinct, "cleaned texts"),
        ("letters other than a–z, removed", *_removed_letters(split), "letters"),
        ("empty after cleaning", sum(text == "" for text in cleaned), kept, "reviews left"),
        ("holdout texts also in training", again, len(cleaned_test), "holdout"),
        ("negative reviews", int((labels == 0).sum()), kept, "reviews left"),
        ("positive reviews", int((labels == 1).sum()), kept, "reviews left"),
    ]
    table = pd.DataFrame(rows, columns=["check", "count", "total", "of"])
    table.insert(2, "share", table["count"] / table.pop("total"))
    return table


def _removed_letters(split: Split) -> tuple[int, int]:
    """Return how many letters the cleaning removes from the texts, and how many they have."""
    letters = [_NO_LETTER.sub("", text) for text in (*split.train_texts, *split.test_texts)]
    removed = sum(len(_LATIN.sub("", text)) for text in letters if not text.isascii())
    return removed, max(sum(map(len, letters)), 1)
