"""Read the reviews to compare, from the prediction log or from a file, as features and labels.

Both are read piece by piece. Of more than `SAMPLE` reviews a random sample is kept, so that memory
does not grow with the window. Little is lost: the reference, which is far smaller, decides how
narrow the limits are. True labels are rarer, so the labelled reviews are sampled on their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sentiment.data.reviews import RATINGS, TEXTS, WRONG_RATING, texts_of, to_labels, to_ratings
from sentiment.data.sources import Reading
from sentiment.data.tables import AS_WRITTEN, Chunk, Unreadable, cells, open_table
from sentiment.drift.features import NO_LABEL, WindowFeatures, logged_features, row_features
from sentiment.errors import WindowError
from sentiment.metrics import Ints
from sentiment.predictions.log import ARMS, COUNTED_SOURCES, SOURCES, existing_log

if TYPE_CHECKING:
    from sentiment.model.predictor import LoadedVersion

# Against a reference of 1,500 reviews, chance in 50,000 adds 1.5 % to a limit, and in a million
# nothing: comparing all of them would tell no more.
SAMPLE = 50_000
PORTION = 20_000  # rows read at a time: some tens of megabytes
SEED = 42
Period = tuple[float, float]  # times of the first and the last answer, in seconds since 1970
MICROSECOND = 1e-6  # to which times are kept
PLACES_SHOWN = 3  # rows of a file that could not be read


@dataclass(frozen=True, eq=False)
class Window:
    """The reviews to compare.

    `reviews` is how many there are. `features` and `true` (true labels, or `NO_LABEL`) are of all
    of them, or of a sample of `SAMPLE`; then `labelled` has the same for those with a true label,
    unless all of them are in the sample. `times` are those of the first and the last review, where
    known. `notes` say in sentences what was sampled or left out. `new` is False where a scheduled
    check takes reviews that the check before has seen.
    """

    source: str
    reviews: int
    features: WindowFeatures
    true: Ints
    labelled: tuple[WindowFeatures, Ints] | None = None
    times: tuple[datetime, datetime] | None = None
    notes: tuple[str, ...] = ()
    new: bool = True


@dataclass(frozen=True)
class LogWindow:
    """Answers in the prediction log: since a time (seconds since 1970), at most the `newest`.

    Without a `url` it is the log beside the store. `sources` are those of the log that count. With
    `since_check` and without `since` the window begins after the last such check that had a verdict
    (`window_of_log`).
    """

    url: str | None = None
    since: float | None = None
    newest: int | None = None
    sources: tuple[str, ...] = COUNTED_SOURCES
    since_check: bool = False

    @property
    def name(self) -> str:
        """What a report calls the window; checks of other sources are a series of their own."""
        if self.sources == COUNTED_SOURCES:
            return "prediction log"
        every = set(self.sources) == set(SOURCES)
        return f"prediction log ({'all' if every else ', '.join(self.sources)})"


@dataclass(frozen=True)
class FileWindow:
    """The reviews in a file; columns have the usual names unless given."""

    path: Path
    text_column: str | None = None
    rating_column: str | None = None
    reading: Reading = AS_WRITTEN


class RandomSample:
    """At most `size` random rows of frames that come one after another, in the order they came.

    The rows with a `true_label` are sampled a second time, on their own. Each row gets a random
    key, and the rows with the smallest keys are kept. `count` is how many came.
    """

    def __init__(self, size: int, seed: int = SEED) -> None:
        self.count = 0
        self._size, self._generator = size, np.random.default_rng(seed)
        self._kept: list[pd.DataFrame] = []

    def add(self, frame: pd.DataFrame) -> None:
        """Add the next rows."""
        self.count += len(frame)
        self._kept.append(frame.assign(key=self._generator.random(len(frame))))
        if sum(map(len, self._kept)) > 4 * self._size:
            wanted = self.rows().index.union(self.rows(labelled=True).index)
            self._kept = [pd.concat(self._kept, ignore_index=True).loc[wanted]]

    def rows(self, *, labelled: bool = False) -> pd.DataFrame:
        """Return the sample of all rows, or of those with a true label."""
        kept = pd.concat(self._kept, ignore_index=True)
        if labelled:
            kept = kept[kept["true_label"].notna()]
        return kept.nsmallest(self._size, "key").sort_index()


def _window(
    source: str,
    reviews: RandomSample,
    features: Callable[[pd.DataFrame], WindowFeatures],
    notes: Sequence[str],
    times: tuple[datetime, datetime] | None = None,
) -> Window:
    """Return the window of reviews with a column `true_label`; there is at least one."""

    def with_labels(rows: pd.DataFrame) -> tuple[WindowFeatures, Ints]:
        return features(rows), rows["true_label"].fillna(NO_LABEL).to_numpy(dtype=np.int64)

    labelled, sample = None, reviews.rows()
    if reviews.count > SAMPLE:
        notes = [f"a random sample of {SAMPLE:,} of {reviews.count:,} reviews", *notes]
        rows = reviews.rows(labelled=True)
        if not rows.index.isin(sample.index).all():  # else they are read once
            labelled = with_labels(rows)
    sampled, true = with_labels(sample)
    return Window(source, reviews.count, sampled, true, labelled, times, tuple(notes))


def window_of_log(
    wanted: LogWindow, url: str, version: LoadedVersion, last: Period | None = None, least: int = 0
) -> Window:
    """Return what a version answered according to the log at `url`, in either arm of an A/B test.

    With the period of the `last` check the window begins after it. Where fewer than `least` answers
    came since then, it begins where the last check began, so that the verdict does not change with
    the mere number of reviews; earlier if even those are too few. A log that does not exist is not
    created. Raises `WindowError` and `PredictionLogError`.
    """
    reviews, times, notes, new = RandomSample(SAMPLE), [], [], True
    number, newest, sources = version.version, wanted.newest, wanted.sources
    with existing_log(url) as log:
        since = wanted.since if last is None else last[1] + MICROSECOND
        since, skip = log.start_of_newest(number, since, newest, sources)
        if last is not None and since is not None:
            fewest = least if newest is None else min(least, newest)
            earliest, more = log.start_of_newest(number, None, fewest, sources)
            if earliest is None or earliest < since:
                new = False
                notes.append(f"fewer than {least:,} new answers: with those of the check before")
                since, skip = log.start_of_newest(number, last[0], newest, sources)
                if earliest is None or since is None or earliest < since:
                    since, skip = earliest, more
        portions = log.read(since=since, version=number, arms=ARMS, sources=sources, chunk=PORTION)
        for portion in portions:
            frame, skip = portion.iloc[skip:], max(skip - len(portion), 0)
            if len(frame):
                reviews.add(frame)
                times += [datetime.fromtimestamp(frame["at"].iloc[at], UTC) for at in (0, -1)]
        if not reviews.count:
            raise log.no_answers(number, since, sources)
        notes += log.left_out(number, since, sources)
    answers = partial(logged_features, pipeline=version.pipeline)
    window = _window(wanted.name, reviews, answers, notes, (times[0], times[-1]))
    return replace(window, new=new)


def window_of_file(wanted: FileWindow, version: LoadedVersion) -> Window:
    """Return the reviews in a file, answered by the version; duplicates stay.

    A rating of 1–5 gives the true label; without a column of ratings there are no true labels.
    Rows that cannot be read are left out and counted in the notes. Raises `WindowError` and
    `ReviewDataError`.
    """
    reviews, unreadable, wrong = RandomSample(SAMPLE), Unreadable(PLACES_SHOWN), 0
    with open_table(wanted.path, "--data", wanted.reading) as table:
        columns = [table.find(TEXTS, wanted.text_column)]
        if wanted.rating_column or table.look(RATINGS, None) is not None:
            columns.append(table.find(RATINGS, wanted.rating_column))
        for chunk in table.chunks(columns):
            frame, wrong_here = _labelled_texts(chunk)
            reviews.add(frame)
            wrong += wrong_here
            unreadable.add(chunk, chunk.problems)
    taken = zip(("texts", "true labels"), columns, strict=False)
    notes = [table.described(*taken)]
    if table.suspicious.count:
        notes.append(table.warning())
    if unreadable.count:
        notes.append(f"left out: {unreadable.count:,} rows without a readable text ({unreadable})")
    if wrong:
        notes.append(f"left out: {wrong:,} ratings that are not whole stars from 1 to 5")
    if not reviews.count:
        raise WindowError(f"{wanted.path}: has no reviews; expected one per row")
    return _window(
        wanted.path.name,
        reviews,
        lambda rows: row_features(rows["text"].tolist(), version.pipeline),
        notes,
    )


def _labelled_texts(chunk: Chunk) -> tuple[pd.DataFrame, int]:
    """Return the readable texts with their true labels, and how many of their ratings are wrong."""
    texts = pd.Series(texts_of(chunk), dtype=object)
    frame = pd.DataFrame({"text": texts, "true_label": pd.Series(pd.NA, texts.index, "Int64")})
    frame = frame[texts.notna()]
    if len(chunk.columns) == 1:
        return frame, 0
    stars = pd.Series(to_ratings(cells(chunk.columns[1])))[frame.index]
    frame.loc[stars > 0, "true_label"] = to_labels(stars[stars > 0])
    return frame, int((stars == WRONG_RATING).sum())
