"""Read the reviews whose complaints are looked for, from a file or from the prediction log.

    reviews = reviews_of_file(FileWindow(Path("reviews.csv")))
    reviews = reviews_of_log(log, "3")

A file needs neither ratings nor dates: without the first a model says which reviews are negative,
without the second there are no months.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np

from sentiment.data.labels import NEUTRAL, OTHER, WRONG_RATING, LabelCells
from sentiment.data.reviews import (
    RATINGS,
    TEXTS,
    LoadedReviews,
    find_judgement,
    month_number,
    tables_of,
    texts_of,
    to_labels,
)
from sentiment.data.tables import ANY, Column, Table, Unreadable, cells
from sentiment.drift import NEWEST
from sentiment.drift.features import NO_LABEL
from sentiment.drift.window import FileWindow
from sentiment.errors import WindowError
from sentiment.metrics import Bools, Ints
from sentiment.predictions.log import ARMS, COUNTED_SOURCES, PredictionLog
from text_cleaning import undo_scraping

_MONTH_NAMES = (
    ("month", "date", "review date", "reviews date", "review time", "reviewed at", "time"),
    ("timestamp", "created at", "at", "year month"),
)
MONTHS = Column("dates", _MONTH_NAMES, ANY, "--month-column")
NO_MONTH, NO_STARS = -1, 0
PLACES_SHOWN = 3
# Seconds, or thousandths of them, since 1970: 2001 to 2096
_STAMP = re.compile(r"([1-3]\d{9})(?:\d{3})?(?:\.0*)?")
Judge = Callable[[], tuple[str, Callable[[list[str]], Sequence[int | None]]]]


@dataclass(frozen=True, eq=False)
class Reviews:
    """The reviews to look at; all arrays have shape (n,).

    `stars` are 1–5, or `NO_STARS`. `months` are months since year 0, or `NO_MONTH`. `source` and
    `notes` say what was read and what was left out; `judged` says what made a review negative.
    """

    texts: list[str]
    negative: Bools
    stars: Ints
    months: Ints
    source: str
    judged: str
    notes: tuple[str, ...] = ()

    @property
    def positive(self) -> Bools:
        """Return which reviews negative ones are compared with: without 3 stars."""
        return np.asarray(~self.negative & (self.stars != NEUTRAL))

    @property
    def dated(self) -> bool:
        """Return whether any review has a month."""
        return bool((self.months != NO_MONTH).any())


class _Collected:
    """Reviews as they come; one that repeats text, stars and month of another is left out."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int, int], None] = {}
        self.repeated = 0

    def add(self, rows: Iterable[tuple[str, int, int]]) -> None:
        for row in rows:
            self.repeated += row in self._rows
            self._rows[row] = None

    def __len__(self) -> int:
        return len(self._rows)

    def columns(self) -> tuple[list[str], Ints, Ints]:
        texts, stars, months = zip(*self._rows, strict=True) if self._rows else ((), (), ())
        return list(texts), np.array(stars, dtype=np.int64), np.array(months, dtype=np.int64)


def reviews_of_file(
    wanted: FileWindow, month_column: str | None = None, judge: Judge | None = None
) -> Reviews:
    """Return the reviews of a file, or of a folder of parts.

    Ratings or labels say which are negative. Where the file has neither, `judge` is called once,
    for a name and for what labels texts (0 negative, 1 positive, None unknown). Raises
    `ReviewDataError` and `WindowError`, and what `judge` raises.
    """
    found, unreadable = _Collected(), Unreadable(PLACES_SHOWN)
    judged, left = LabelCells(wanted.labelling), Counter[str]()
    table, described = Table(f"{wanted.path}: "), ""
    named = wanted.rating_column or judged.by_labels
    rated: bool | None = None
    dated = False
    for part, table in tables_of(wanted.path, wanted.reading):
        columns = {"texts": table.find(TEXTS, wanted.text_column)}
        if rated is None:  # as the first part says
            rated = bool(named) or judge is None or table.look(RATINGS, None) is not None
        if rated:
            columns[judged.what] = find_judgement(table, wanted.labelling, wanted.rating_column)
        at = table.look(MONTHS, None) if month_column is None else table.find(MONTHS, month_column)
        if at is not None:
            columns["months"], dated = at, True
        places = list(columns)
        torn = Unreadable(PLACES_SHOWN)
        for chunk in table.chunks(list(columns.values())):
            texts = texts_of(chunk)
            torn.add(chunk, chunk.problems)
            read = dict(zip(places, map(cells, chunk.columns), strict=True))
            stars = judged.stars(read[judged.what]) if rated else [NO_STARS] * len(texts)
            months = [month_of(cell) for cell in read.get("months", ())]
            found.add(_usable(texts, stars, months or [NO_MONTH] * len(texts), rated, left))
        unreadable.add_all(torn, part)
        described = described or table.described(*columns.items())
    table = Table(f"{wanted.path}: ")
    if doubt := judged.doubt():
        raise table.error(doubt)
    if not len(found):
        raise WindowError(f"{wanted.path}: has no reviews; expected one per row")
    kept, given, dates = found.columns()
    notes = [described, *judged.notes()]
    left[f"without a readable text ({unreadable})"] = unreadable.count
    left["that repeat another"] = found.repeated
    left[f"of {judged.others()}"] = left.pop("neither", 0)
    notes += [f"left out: {count:,} rows {why}" for why, count in left.items() if count]
    undated = int((dates == NO_MONTH).sum())
    if dated and undated:
        notes.append(f"{undated:,} reviews have no month that can be read")
    if rated:
        negative = to_labels(given.tolist(), judged.rule) == 0
        by = str(judged.rule) if judged.by_labels else f"stars, {judged.rule}"
        given = np.full_like(given, NO_STARS) if judged.by_labels else given
    else:
        by, label = judge() if judge is not None else ("", None)
        negative = np.array([one == 0 for one in label(kept)] if label else [], dtype=bool)
    return Reviews(kept, negative, given, dates, wanted.path.name, by, tuple(notes))


def reviews_of_frame(loaded: LoadedReviews, newest: int) -> Reviews:
    """Return the last `newest` reviews of those loaded for training, without months."""
    frame, by_labels = loaded.frame.tail(newest), bool(loaded.rule.negative)
    stars = frame["rating"].to_numpy(dtype=np.int64)
    return Reviews(
        frame["text"].tolist(),
        frame["label"].to_numpy(dtype=np.int64) == 0,
        np.full_like(stars, NO_STARS) if by_labels else stars,
        np.full_like(stars, NO_MONTH),
        loaded.source.name,
        str(loaded.rule) if by_labels else f"stars, {loaded.rule}",
    )


def _usable(
    texts: Sequence[str | None],
    stars: Sequence[int],
    months: Sequence[int],
    rated: bool,
    left: Counter[str],
) -> Iterable[tuple[str, int, int]]:
    """Yield the rows with a text and, where they are rated, stars; count the others."""
    for text, star, month in zip(texts, stars, months, strict=True):
        if text is None:
            continue
        if star > 0 or not rated:
            yield text, star, month
        elif star == OTHER:
            left["neither"] += 1
        else:
            left["with a wrong rating" if star == WRONG_RATING else "without a rating"] += 1


def month_of(cell: Any) -> int:
    """Return the months since year 0 of a month, a date, or a time since 1970; or `NO_MONTH`."""
    # Parquet has cells that are lists and mappings
    return _month_of(cell) if isinstance(cell, Hashable) else NO_MONTH


@lru_cache(10_000)
def _month_of(cell: Any) -> int:
    if isinstance(cell, datetime):
        return 12 * cell.year + cell.month - 1
    if stamp := _STAMP.fullmatch(str(cell).strip()):
        at = datetime.fromtimestamp(int(stamp[1]), UTC)
        return 12 * at.year + at.month - 1
    month = month_number(cell)
    return NO_MONTH if month is None else month


def reviews_of_log(log: PredictionLog, version: str, newest: int = NEWEST) -> Reviews:
    """Return the `newest` reviews that a version answered through the API, or that got a label.

    Negative is what feedback said, or else the version. Raises `PredictionLogError`.
    """
    since, skip = log.start_of_newest(version, None, newest)
    found, negative = _Collected(), dict[tuple[str, int, int], bool]()
    answers = without_text = told = 0
    sources = COUNTED_SOURCES
    for portion in log.read(since=since, version=version, arms=ARMS, sources=sources):
        frame, skip = portion.iloc[skip:], max(skip - len(portion), 0)
        answers += len(frame)
        label = frame["true_label"].fillna(frame["label"]).fillna(NO_LABEL)  # it knew no word
        told += int(frame["true_label"].notna().sum())
        for text, at, one in zip(frame["text"], frame["at"], label, strict=True):
            if not isinstance(text, str):
                without_text += 1
                continue
            row = undo_scraping(text), NO_STARS, month_of(f"{at:.0f}")
            found.add([row])
            negative[row] = bool(one == 0)
    notes = [f"the newest {answers:,} answers to the API, or with a label"]
    if told:
        notes.append(f"{told:,} of them with a label from feedback")
    if without_text:
        notes.append(f"left out: {without_text:,} whose text was not logged")
    if found.repeated:
        notes.append(f"left out: {found.repeated:,} that repeat another of their month")
    texts, stars, months = found.columns()
    by = f"by version {version}" + (", or feedback where there is some" if told else "")
    return Reviews(
        texts,
        np.array(list(negative.values()), dtype=bool),
        stars,
        months,
        "prediction log",
        by,
        tuple(notes),
    )
