"""Read the reviews to compare, from the prediction log or from a file, as features and labels.

Both are read piece by piece. Of more than `SAMPLE` reviews a random sample is kept, so that memory
does not grow with the window. Little is lost: the reference, which is far smaller, decides how
narrow the limits are. True labels are rarer, so the labelled reviews are sampled on their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sentiment.data.reviews import RATING_COLUMN, remove_marker, to_labels
from sentiment.data.tables import Chunk, Source, open_source
from sentiment.drift.features import NO_LABEL, WindowFeatures, logged_features, row_features
from sentiment.errors import WindowError
from sentiment.metrics import Ints
from sentiment.predictions.log import PredictionLog
from sentiment.predictions.reading import ARMS, existing_log, left_out, no_answers, oldest_wanted

if TYPE_CHECKING:
    from sentiment.model.predictor import LoadedVersion

# Against a reference of 1,500 reviews, chance in 50,000 adds 1.5 % to a limit, and in a million
# nothing: comparing all of them would tell no more.
SAMPLE = 50_000
PORTION = 20_000  # rows read at a time: some tens of megabytes
SEED = 42
LOG_SOURCE = "prediction log"
PLACES_NAMED = 3  # rows of a file that could not be read


@dataclass(frozen=True, eq=False)
class Window:
    """The reviews to compare.

    `reviews` is how many there are. `features` and `true` (true labels, or `NO_LABEL`) are of all
    of them, or of a sample of `SAMPLE`; then `labelled` has the same for those with a true label,
    if any. `began` and `ended` are the times of the first and the last review in seconds since
    1970, where known. `notes` say in sentences what was sampled or left out.
    """

    source: str
    reviews: int
    features: WindowFeatures
    true: Ints
    labelled: tuple[WindowFeatures, Ints] | None = None
    began: float | None = None
    ended: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LogWindow:
    """Answers in the prediction log: since a time (seconds since 1970), at most the `newest`.

    Without a `url` it is the log beside the store.
    """

    url: str | None = None
    since: float | None = None
    newest: int | None = None


@dataclass(frozen=True)
class FileWindow:
    """The reviews in a file; columns have the usual names unless given."""

    path: Path
    text_column: str | None = None
    rating_column: str | None = None


class RandomSample:
    """At most `size` random rows of frames that come one after another.

    Each row gets a random key. The rows with the smallest keys are kept, in the order they came.
    `count` is how many came.
    """

    def __init__(self, size: int, seed: int = SEED) -> None:
        self.count = 0
        self._size, self._generator = size, np.random.default_rng(seed)
        self._kept: list[pd.DataFrame] = []
        self._largest = math.inf  # key that can still be among the smallest

    def add(self, frame: pd.DataFrame) -> None:
        """Add the next rows."""
        keys = self._generator.random(len(frame))
        self.count += len(frame)
        self._kept.append(frame.assign(key=keys)[keys < self._largest])
        if sum(map(len, self._kept)) > 2 * self._size:
            self._kept = [self.rows()]
            self._largest = float(self._kept[0]["key"].max())

    def rows(self) -> pd.DataFrame:
        """Return the sample."""
        kept = pd.concat(self._kept, ignore_index=True)
        return kept.nsmallest(self._size, "key").sort_index()


class _Reviews:
    """Reviews as they are read, with a column `true_label` that may be missing."""

    def __init__(self) -> None:
        self._every, self._labelled = RandomSample(SAMPLE), RandomSample(SAMPLE)

    @property
    def count(self) -> int:
        return self._every.count

    def add(self, frame: pd.DataFrame) -> None:
        self._every.add(frame)
        self._labelled.add(frame[frame["true_label"].notna()])

    def window(
        self,
        source: str,
        features: Callable[[pd.DataFrame], WindowFeatures],
        notes: Sequence[str],
        times: tuple[float, float] | None = None,
    ) -> Window:
        """Return the window of these reviews, of which there is at least one."""

        def with_labels(rows: pd.DataFrame) -> tuple[WindowFeatures, Ints]:
            return features(rows), rows["true_label"].fillna(NO_LABEL).to_numpy(dtype=np.int64)

        labelled = None
        if self.count > SAMPLE:
            notes = [f"a random sample of {SAMPLE:,} of {self.count:,} reviews", *notes]
            labelled = with_labels(self._labelled.rows()) if self._labelled.count else None
        began, ended = times or (None, None)
        sampled, true = with_labels(self._every.rows())
        return Window(source, self.count, sampled, true, labelled, began, ended, tuple(notes))


def window_of_log(wanted: LogWindow, url: str, version: LoadedVersion) -> Window:
    """Return what a version answered according to the log at `url`, in either arm of an A/B test.

    A log that does not exist is not created. Raises `WindowError` and `PredictionLogError`.
    """
    reviews, times = _Reviews(), []
    with existing_log(url) as engine:
        since, skip = oldest_wanted(engine, version.version, wanted.since, wanted.newest)
        log = PredictionLog(engine)
        for portion in log.read(since=since, version=version.version, arms=ARMS, chunk=PORTION):
            frame, skip = portion.iloc[skip:], max(skip - len(portion), 0)
            if len(frame):
                reviews.add(frame)
                times += [float(frame["at"].iloc[0]), float(frame["at"].iloc[-1])]
        if not reviews.count:
            raise no_answers(engine, version.version, since)
        notes = left_out(engine, version.version, since)
    return reviews.window(
        LOG_SOURCE,
        lambda rows: logged_features(rows, version.pipeline),
        notes,
        (times[0], times[-1]),
    )


def window_of_file(wanted: FileWindow, version: LoadedVersion) -> Window:
    """Return the reviews in a CSV, TSV or Parquet file, answered by the version; duplicates stay.

    A rating of 1–5 gives the true label. Its column is `Ratings` unless named, and then it need not
    be there. Rows that cannot be read are left out and counted in the notes. Raises `WindowError`
    and `BatchError`.
    """
    reviews = _Reviews()
    places: list[str] = []
    unreadable = invalid = 0
    with open_reviews(wanted) as source:
        rating_at = None
        if wanted.rating_column is not None or RATING_COLUMN in source.names:
            name = wanted.rating_column or RATING_COLUMN
            rating_at = column_at(wanted.path, source, name, "--rating-column")
        for chunk in source.chunks():
            frame, without_rating = _labelled_texts(chunk, rating_at)
            reviews.add(frame)
            invalid += without_rating
            unreadable += len(chunk.problems)
            for at in sorted(chunk.problems)[: PLACES_NAMED - len(places)]:
                places.append(f"{source.place} {chunk.places[at]:,}: {chunk.problems[at]}")
    notes = []
    if unreadable:
        more = "; …" if unreadable > len(places) else ""
        notes.append(
            f"left out: {unreadable:,} rows without a readable text ({'; '.join(places)}{more})"
        )
    if invalid:
        notes.append(f"left out: {invalid:,} ratings that are not whole stars from 1 to 5")
    if not reviews.count:
        raise WindowError(f"{wanted.path}: has no reviews; expected one per row")
    return reviews.window(
        wanted.path.name,
        lambda rows: row_features([remove_marker(text) for text in rows["text"]], version.pipeline),
        notes,
    )


@contextmanager
def open_reviews(wanted: FileWindow) -> Iterator[Source]:
    """Open the file and find its column of texts. Raises `WindowError` and `BatchError`."""
    if not wanted.path.exists():
        raise WindowError(f"{wanted.path}: no such file; give one with --data")
    with open_source(wanted.path, wanted.text_column) as source:
        yield source


def column_at(path: Path, source: Source, name: str, option: str) -> int:
    """Return the position of a column. Raises `WindowError`, which names the option."""
    if name in source.names:
        return source.names.index(name)
    found = ", ".join(f"'{name}'" for name in source.names[:20])
    raise WindowError(f"{path}: no column '{name}', found {found}; name it with {option}")


def cells(column: Any) -> pd.Series:
    """Return a column of a `Chunk` as it was read: strings (CSV, TSV) or values (Parquet)."""
    return pd.Series(column if isinstance(column, list) else column.to_pylist(), dtype=object)


def _labelled_texts(chunk: Chunk, rating_at: int | None) -> tuple[pd.DataFrame, int]:
    """Return the readable texts with their true labels, and how many ratings are invalid."""
    texts = pd.Series(chunk.texts, dtype=object)
    frame = pd.DataFrame({"text": texts, "true_label": pd.Series(pd.NA, texts.index, "Int64")})
    frame = frame[texts.notna()]
    if rating_at is None:
        return frame, 0
    ratings = cells(chunk.columns[rating_at])[frame.index]
    stars = pd.to_numeric(ratings, errors="coerce")
    known = stars.isin([1, 2, 3, 4, 5])
    frame.loc[known, "true_label"] = to_labels(stars[known])
    return frame, int((~known & ratings.notna() & (ratings != "")).sum())
