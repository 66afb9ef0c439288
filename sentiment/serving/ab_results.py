"""Read the running comparison of two versions from the log, and show it as `/ab` does.

The log is read at most once in a while and in portions, whoever asks and however often. The
pictures are SVG drawn by the template; places along the width are in per cent, so that their text
keeps its size on a phone.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from flask import render_template, request

from sentiment.ab import comparison as ab_test
from sentiment.ab.comparison import ARMS, CHAMPION, SHADOW, Comparison, ShadowAgreement
from sentiment.ab.statistics import MISMATCH
from sentiment.data.reviews import CLASS_NAMES
from sentiment.metrics import Interval
from sentiment.predictions.log import COUNTED_SOURCES, PredictionLog
from sentiment.serving.versions import Arms

# An answer is read again after this many seconds, or ten times what reading took if that is more
FRESH_SECONDS = 5.0
FRESH_FACTOR = 10.0
# Rows that are read, the oldest first: some 100 MB. Such a comparison has long been decided.
MAX_ROWS = 500_000
AB_COLUMNS = ["unit", "arm", "label", "true_label", "at"]
SHADOW_COLUMNS = [*AB_COLUMNS, "request_id", "position", "probability", "text"]
TICKS = 5  # at most as many on an axis
NOTHING = "–"  # where a figure cannot be given yet


@dataclass(frozen=True)
class RunningComparison:
    """One experiment so far.

    With arms that share the answers `comparison` and `history` are set, with a shadow `agreement`
    and `disagreements`. `complete` is false where there were more than `MAX_ROWS` rows.
    """

    experiment: str
    champion: str
    challenger: str
    rows: int
    complete: bool
    comparison: Comparison | None = None
    history: pd.DataFrame | None = None
    agreement: ShadowAgreement | None = None
    disagreements: pd.DataFrame | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON takes it."""
        return {name: _plain(value) for name, value in vars(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        return value.to_dict("records")
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


class ComparisonReader:
    """Reads the running comparison for any number of threads, of which one reads at a time."""

    def __init__(self, log: PredictionLog, *, share: float, shadow: bool) -> None:
        self._log, self._share, self._shadow = log, share, shadow
        self._lock = threading.Lock()
        self._last: RunningComparison | None = None
        self._fresh_until = 0.0

    def read(self, arms: Arms) -> RunningComparison | None:
        """Return the comparison of these versions; None when there is no challenger.

        Raises `PredictionLogError` when the log is away.
        """
        if arms.challenger is None:
            return None
        with self._lock:
            last = self._last
            wanted = arms.experiment, arms.champion.version, arms.challenger.version
            if (
                last is None
                or (last.experiment, last.champion, last.challenger) != wanted
                or time.monotonic() > self._fresh_until
            ):
                begun = time.monotonic()
                last = self._last = self._read(*wanted)
                now = time.monotonic()
                self._fresh_until = now + max(FRESH_SECONDS, FRESH_FACTOR * (now - begun))
            return last

    def _read(self, experiment: str, champion: str, challenger: str) -> RunningComparison:
        columns = SHADOW_COLUMNS if self._shadow else AB_COLUMNS
        arms = (CHAMPION, SHADOW) if self._shadow else ARMS
        frames, count = [pd.DataFrame(columns=columns)], 0
        for frame in self._log.read(experiment=experiment, arms=arms, sources=COUNTED_SOURCES):
            frames.append(frame[columns].astype({"label": "Int8", "true_label": "Int8"}))
            count += len(frame)
            if count >= MAX_ROWS:
                break
        rows = pd.concat(frames[1:] or frames, ignore_index=True)
        so_far = RunningComparison(experiment, champion, challenger, count, count < MAX_ROWS)
        if self._shadow:
            table = ab_test.disagreements(rows)
            return replace(so_far, agreement=ab_test.shadow_agreement(rows), disagreements=table)
        comparison = ab_test.compare_arms(rows, share=self._share)
        return replace(so_far, comparison=comparison, history=ab_test.history(rows))


# --- the page --------------------------------------------------------------------------------


def render_ab(running: RunningComparison) -> str:
    """Return the running comparison as an HTML page; within a request."""
    axis = history = None
    if running.comparison is not None:
        arms = (running.comparison.champion, running.comparison.challenger)
        intervals = [part for arm in arms for part in (arm.accuracy, arm.f1_macro) if part]
        if intervals:
            axis = round_axis([end for part in intervals for end in (part.low, part.high)])
    if running.history is not None and len(running.history):
        history = _history_view(running.history)
    result = running.comparison or running.agreement
    fixed = {"class_names": CLASS_NAMES, "least_split_p": MISMATCH, "points": _points}
    fixed |= {"root": request.script_root, "tested": True, "here": "ab"}
    return render_template(
        "ab.html", running=running, result=result, axis=axis, history=history, **fixed
    )


@dataclass(frozen=True)
class Axis:
    """An axis over round numbers; `ticks` are (place in per cent from its start, number)."""

    low: float
    high: float
    ticks: list[tuple[float, float]]

    def place(self, value: float) -> float:
        """Return where the value is, in per cent from the start; outside values are at the ends."""
        share = (value - self.low) / (self.high - self.low)
        return 100 * min(max(share, 0.0), 1.0)


def round_axis(values: Sequence[float]) -> Axis:
    """Return the smallest axis that holds all values, over round numbers.

    Its step is 1, 2 or 5 times a power of ten. It takes at least one value; when all are the same,
    the axis has one step around it.
    """
    low, high = min(values), max(values)
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / TICKS))
    most = TICKS - 2 + 1e-9  # 0.3 / 0.1 is a little more than 3, and 0.7 / 0.1 less than 7
    step = next(power * size for size in (1, 2, 5, 10, 20) if span / (power * size) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = [(100 * (at - first) / (last - first), at * step) for at in range(first, last + 1)]
    return Axis(first * step, last * step, ticks)


def _history_view(history: pd.DataFrame) -> dict[str, Any]:
    """Return the difference over time, with its interval, as SVG paths in a field of 100 × 100."""
    if len(history) == 1:  # drawn as a level line
        history = history.loc[history.index.repeat(2)]
    # the first intervals are so wide that the later ones would look like a line: they are cut
    later = history.iloc[len(history) // 4 :]
    axis = round_axis([0.0, *later["low"], *later["high"]])
    places = {
        name: [100 - axis.place(value) for value in history[name]]
        for name in ("difference", "low", "high")
    }
    across = [100 * at / (len(history) - 1) for at in range(len(history))]
    band = [*zip(across, places["high"], strict=True)]
    band += reversed([*zip(across, places["low"], strict=True)])
    units = [int(count) for count in history["labelled_units"]]
    began, ended = (_time(float(history["at"].iloc[at])) for at in (0, -1))
    last = Interval(*(float(history[name].iloc[-1]) for name in ("difference", "low", "high")))
    return {
        "band": _path(band) + " Z",
        "line": _path(zip(across, places["difference"], strict=True)),
        "ticks": [(100 - place, _tick(value)) for place, value in axis.ticks],
        "zero": 100 - axis.place(0.0),
        "last": places["difference"][-1],
        "first_units": f"{units[0]:,}",
        "last_units": f"{units[-1]:,}",
        "period": began if began == ended else f"{began} to {ended}",
        "sentence": f"Challenger less champion after {units[-1]:,} users: {_points(last)}",
    }


def _points(interval: Interval | None) -> str:
    """Return a difference of shares in percentage points, with its interval."""
    if interval is None:
        return NOTHING
    low, value, high = (_point(end) for end in (interval.low, interval.value, interval.high))
    return f"{value} points ({low} to {high})"


def _point(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _tick(share: float) -> str:
    points = round(100 * share, 6)
    return f"{points:+g}".replace("-", "−") if points else "0"


def _path(places: Iterable[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x:.2f} {y:.2f}" for x, y in places)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
