"""Drift window: the reviews to compare, from the prediction log or a file, as features and labels.

Both are read piece by piece. Of more than `SAMPLE` reviews so many are drawn at random, so that
memory does not grow with the window. Little is lost by it: how narrow limits are is decided by the
reference, which is smaller by far. True labels are rarer, so as many are drawn of them alone.
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
from sentiment.drift.features import NO_LABEL, Ints, WindowFeatures, logged_features, row_features
from sentiment.errors import EmptyWindowError, WindowError
from sentiment.predictions.log import PredictionLog
from sentiment.predictions.reading import ARMS, begin_of, existing_log, nothing, others

if TYPE_CHECKING:
    from sentiment.model.predictor import LoadedVersion

# Against a reference of 1,500 reviews the chance of 50,000 adds 1.5 % to a limit, and that of a
# million nothing: all of them would say no more.
SAMPLE = 50_000
PORTION = 20_000  # rows read at a time: some tens of megabytes
SEED = 42
LOG_SOURCE = "prediction log"
PLACES_SAID = 3  # rows of a file that could not be read


@dataclass(frozen=True, eq=False)
class Window:
    """The reviews to compare.

    `reviews` is how many there are. `features` and `true` (true labels, or `NO_LABEL`) are of all
    of them, or of `SAMPLE`; then `labelled` has the same of those with a true label, if any.
    `began` and `ended` are the times of the first and the last review in seconds since 1970, where
    they are known. `notes` say in sentences what was drawn or left out.
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
    """The reviews in a file; columns have the usual names unless they are given."""

    path: Path
    text_column: str | None = None
    rating_column: str | None = None


class Draw:
    """Rows drawn at random, at most `size`, from frames that come one after another.

    Each row gets a random key, and those with the smallest keys are kept, in the order they came.
    `count` is how many came.
    """

    def __init__(self, size: int, seed: int = SEED) -> None:
        self.count = 0
        self._size, self._generator = size, np.random.default_rng(seed)
        self._kept: list[pd.DataFrame] = []
        self._bar = math.inf  # a key above it is out

    def add(self, frame: pd.DataFrame) -> None:
        """Take in the next rows."""
        keys = self._generator.random(len(frame))
        self.count += len(frame)
        self._kept.append(frame.assign(key=keys)[keys < self._bar])
        if sum(map(len, self._kept)) > 2 * self._size:
            self._kept = [self.rows()]
            self._bar = float(self._kept[0]["key"].max())

    def rows(self) -> pd.DataFrame:
        """What is kept."""
        kept = pd.concat(self._kept, ignore_index=True)
        return kept.nsmallest(self._size, "key").sort_index()


class Gathering:
    """Rows of the log or of a file; `true_label` is a column of theirs."""

    def __init__(self) -> None:
        self._every, self._labelled = Draw(SAMPLE), Draw(SAMPLE)

    @property
    def count(self) -> int:
        """How many rows came."""
        return self._every.count

    def add(self, frame: pd.DataFrame) -> None:
        """Take in the next rows."""
        self._every.add(frame)
        self._labelled.add(frame[frame["true_label"].notna()])

    def window(
        self,
        source: str,
        features: Callable[[pd.DataFrame], WindowFeatures],
        notes: Sequence[str],
        times: tuple[float, float] | None = None,
    ) -> Window:
        """The window of these rows, which are not none."""

        def found(rows: pd.DataFrame) -> tuple[WindowFeatures, Ints]:
            return features(rows), rows["true_label"].fillna(NO_LABEL).to_numpy(dtype=np.int64)

        labelled = None
        if self.count > SAMPLE:
            said = f"{SAMPLE:,} of {self.count:,} reviews are compared, drawn at random"
            notes = [said, *notes]
            labelled = found(self._labelled.rows()) if self._labelled.count else None
        began, ended = times or (None, None)
        of_window, true = found(self._every.rows())
        return Window(source, self.count, of_window, true, labelled, began, ended, tuple(notes))


def window_of_log(wanted: LogWindow, url: str, version: LoadedVersion) -> Window:
    """What a version answered according to the log at `url`, in either arm of a comparison.

    A log that is not there is not made. Raises `WindowError` and `PredictionLogError`.
    """
    gathering, times = Gathering(), []
    with existing_log(url) as engine:
        since, skip = begin_of(engine, version.version, wanted.since, wanted.newest)
        log = PredictionLog(engine)
        for portion in log.read(since=since, version=version.version, arms=ARMS, chunk=PORTION):
            frame, skip = portion.iloc[skip:], max(skip - len(portion), 0)
            if len(frame):
                gathering.add(frame)
                times += [float(frame["at"].iloc[0]), float(frame["at"].iloc[-1])]
        if not gathering.count:
            raise nothing(engine, version.version, since)
        notes = others(engine, version.version, since)
    return gathering.window(
        LOG_SOURCE,
        lambda rows: logged_features(rows, version.pipeline),
        notes,
        (times[0], times[-1]),
    )


def window_of_file(wanted: FileWindow, version: LoadedVersion) -> Window:
    """The reviews in a CSV, TSV or Parquet file, answered by the version; duplicates stay.

    A rating of 1–5 gives the true label; the column is `Ratings` by default, and need not be there
    then. A row that cannot be read is left out and said. Raises `WindowError` and `BatchError`.
    """
    gathering = Gathering()
    places: list[str] = []
    unreadable = strange = 0
    with open_reviews(wanted) as source:
        rating_at = None
        if wanted.rating_column is not None or RATING_COLUMN in source.names:
            name = wanted.rating_column or RATING_COLUMN
            rating_at = column_at(wanted.path, source, name, "--rating-column")
        for chunk in source.chunks():
            frame, no_rating = _labelled_texts(chunk, rating_at)
            gathering.add(frame)
            strange += no_rating
            unreadable += len(chunk.problems)
            for at in sorted(chunk.problems)[: PLACES_SAID - len(places)]:
                places.append(f"{source.place} {chunk.places[at]:,}: {chunk.problems[at]}")
    notes = []
    if unreadable:
        more = "; …" if unreadable > len(places) else ""
        notes.append(f"{unreadable:,} rows without a readable text ({'; '.join(places)}{more})")
    if strange:
        notes.append(f"{strange:,} ratings that are no whole number of stars from 1 to 5")
    if not gathering.count:
        raise EmptyWindowError(f"{wanted.path}: has no reviews; expected a row for each")
    return gathering.window(
        wanted.path.name,
        lambda rows: row_features([remove_marker(text) for text in rows["text"]], version.pipeline),
        [f"left out: {note}" for note in notes],
    )


@contextmanager
def open_reviews(wanted: FileWindow) -> Iterator[Source]:
    """Open the file and find its column of texts. Raises `WindowError` and `BatchError`."""
    if not wanted.path.exists():
        raise WindowError(f"{wanted.path}: no such file; give one with --data")
    with open_source(wanted.path, wanted.text_column) as source:
        yield source


def column_at(path: Path, source: Source, name: str, option: str) -> int:
    """The position of a column of this name. Raises `WindowError`, which names the option."""
    if name in source.names:
        return source.names.index(name)
    found = ", ".join(f"'{name}'" for name in source.names[:20])
    raise WindowError(f"{path}: no column '{name}', found {found}; name it with {option}")


def cells(column: Any) -> pd.Series:
    """A column of a `Chunk` as it was read: strings (CSV, TSV) or values (Parquet)."""
    return pd.Series(column if isinstance(column, list) else column.to_pylist(), dtype=object)


def _labelled_texts(chunk: Chunk, rating_at: int | None) -> tuple[pd.DataFrame, int]:
    """The readable texts with their true labels, and how many ratings of theirs are none."""
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
