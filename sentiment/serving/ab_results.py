"""Read the running comparison of two versions from the log, keep a record of all, and show them.

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
from flask import render_template

from sentiment.ab import comparison as ab_test
from sentiment.ab.comparison import ARMS, CHAMPION, SHADOW, Comparison, ShadowAgreement
from sentiment.ab.statistics import MISMATCH
from sentiment.data.labels import CLASS_NAMES
from sentiment.metrics import Interval, short
from sentiment.predictions.log import AB, LoggedComparison, PredictionLog
from sentiment.serving.config import ServingConfig
from sentiment.serving.versions import Arms, VersionWatcher

# An answer is read again after this many seconds, or ten times what reading took if that is more
FRESH_SECONDS = 5.0
FRESH_FACTOR = 10.0
# Between two notes in the log that a comparison runs. One that nobody has noted for three times as
# long runs on no server: the next server that has another challenger, or none, may end it.
SEEN_SECONDS = 20.0
GONE_SECONDS = 3 * SEEN_SECONDS
PAST_SHOWN = 50
# Rows that are read, the oldest first: some 100 MB. Such a comparison has long been decided.
MAX_ROWS = 500_000
AB_COLUMNS = ["unit", "arm", "version", "label", "true_label", "at"]
SHADOW_COLUMNS = [*AB_COLUMNS, "request_id", "position", "probability", "text"]
TICKS = 5  # at most as many on an axis
MARGIN = 0.04  # of an axis, beyond the outermost values
NOTHING = "–"  # where a figure cannot be given yet


@dataclass(frozen=True)
class RunningComparison:
    """One experiment so far.

    With arms that share the answers `comparison` and `history` are set, with a shadow `agreement`
    and `disagreements`. `note` says what makes the two hard to compare. `complete` is false where
    there were more than `MAX_ROWS` rows. `algorithms` are those of champion and challenger.
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
    note: str = ""
    algorithms: tuple[str, str] = ("", "")

    @property
    def sentence(self) -> str:
        """What there is to say of it."""
        said = self.comparison or self.agreement
        return "" if said is None else said.sentence

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON takes it."""
        return {name: _plain(value) for name, value in vars(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        return value.to_dict("records")
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


class Comparisons:
    """The running comparison, for any number of threads, of which one reads the log at a time.

    `keep_record` keeps in the log which comparisons run and how they ended, so that they can be
    read afterwards and a scheduled run knows that an A/B test runs. `known` are those of its last
    look.
    """

    def __init__(self, log: PredictionLog, config: ServingConfig) -> None:
        self.known: list[LoggedComparison] = []
        self._log, self._config = log, config
        self._lock = threading.Lock()
        self._last: RunningComparison | None = None
        self._fresh_until = 0.0
        self._own: LoggedComparison | None = None  # that this server runs
        self._look_at = 0.0  # on the monotonic clock

    def read(self, arms: Arms) -> RunningComparison | None:
        """Return the comparison of these versions; None when there is no challenger.

        Raises `PredictionLogError` when the log is away.
        """
        wanted = self._asked_for(arms)
        if wanted is None or arms.challenger is None:
            return None
        with self._lock:
            last = self._last
            if (
                last is None
                or (last.experiment, last.champion, last.challenger)
                != (wanted.experiment, wanted.champion, wanted.challenger)
                or time.monotonic() > self._fresh_until
            ):
                begun = time.monotonic()
                algorithms = arms.champion.algorithm, arms.challenger.algorithm
                last = self._read(wanted)
                last = replace(last, note=_rules_differ(arms), algorithms=algorithms)
                self._last = last
                now = time.monotonic()
                self._fresh_until = now + max(FRESH_SECONDS, FRESH_FACTOR * (now - begun))
            return last

    def past(self, arms: Arms) -> list[LoggedComparison]:
        """Return the other comparisons, the one that ended last first.

        Those before them have not ended: another server runs them, or did until a moment ago.
        Raises `PredictionLogError`.
        """
        running = None if arms.challenger is None else self._asked_for(arms)
        return [
            one
            for one in self._log.comparisons()
            if one.ended is not None or running is None or one.key != running.key
        ]

    def keep_record(self, watcher: VersionWatcher) -> None:
        """Keep that the comparison runs, and that others have ended; to be called every second.

        It looks at the log when the versions have changed, and every `SEEN_SECONDS`. Raises
        `PredictionLogError`; the next call tries again.
        """
        arms = watcher.arms
        if arms is None:
            return
        wanted, own = self._asked_for(arms), self._own
        same = (wanted and wanted.key) == (own and own.key)
        if same and time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + SEEN_SECONDS
        if wanted is not None:
            seen = self._log.see_comparison(wanted, wanted.seen)
            if not seen and same:  # another process ended it, which may know the registry better
                watcher.check()
                if watcher.arms != arms:
                    return self.keep_record(watcher)
            if not seen and arms.challenger is not None:
                self._log.begin_comparison(wanted)
        now = time.time()
        for one in self._log.comparisons():
            if one.ended is not None or (wanted is not None and one.key == wanted.key):
                continue
            if (own is not None and one.key == own.key) or one.seen <= now - GONE_SECONDS:
                self._log.end_comparison(one, now, self._why(one, arms), self._read(one).sentence)
        self._own, self.known = wanted, self._log.comparisons()

    def leave(self) -> None:
        """Keep that this server goes, so that the next one need not wait to know it gone."""
        if self._own is not None:
            self._log.see_comparison(self._own, time.time() - GONE_SECONDS)
            self._own = None

    def _asked_for(self, arms: Arms) -> LoggedComparison | None:
        """Return the comparison that these versions are, or would be if the challenger loaded."""
        rival = arms.named if arms.challenger is None else arms.challenger.version
        if rival is None:
            return None
        champion, now = arms.champion.version, time.time()
        name = self._config.experiment or f"{champion}-vs-{rival}"
        kind = AB if self._config.shadow is None else SHADOW
        return LoggedComparison(name, kind, champion, rival, self._config.share, now, now)

    def _why(self, one: LoggedComparison, arms: Arms) -> str:
        """Say why a comparison ended, now that these versions answer."""
        champion, wanted = arms.champion, self._asked_for(arms)
        if champion.version != one.champion:
            when = f" at {_time(champion.since.timestamp())}" if champion.since else ""
            return (
                f"version {champion.version} was put into production{when}; version {one.champion} "
                "is no longer the champion"
            )
        if wanted is None and self._config.challenger is None:
            return "the server was started without a challenger"
        if wanted is None:
            return f"version {one.challenger} is no longer the challenger"
        if wanted.challenger != one.challenger:
            return f"version {wanted.challenger} is the challenger now"
        return "the server was started with another share or name of the comparison"

    def _read(self, wanted: LoggedComparison) -> RunningComparison:
        """Read the rows of this name and these versions.

        A name may be given to several comparisons, one after another. Those of the page count too:
        its requests are shared out among the arms as all others are, and one is one user, however
        long its list.
        """
        shadow = wanted.kind == SHADOW
        columns = SHADOW_COLUMNS if shadow else AB_COLUMNS
        arms = (CHAMPION, SHADOW) if shadow else ARMS
        versions = dict(zip(arms, (wanted.champion, wanted.challenger), strict=True))
        frames, count = [pd.DataFrame(columns=columns)], 0
        rows = self._log.read(experiment=wanted.experiment, arms=arms)
        for frame in rows:
            own = frame[frame["version"] == frame["arm"].map(versions)]
            frames.append(own[columns].astype({"label": "Int8", "true_label": "Int8"}))
            count += len(own)
            if count >= MAX_ROWS:
                break
        answers = pd.concat(frames[1:] or frames, ignore_index=True)
        so_far = RunningComparison(
            wanted.experiment, wanted.champion, wanted.challenger, count, count < MAX_ROWS
        )
        if shadow:
            table, agreement = ab_test.disagreements(answers), ab_test.shadow_agreement(answers)
            return replace(so_far, agreement=agreement, disagreements=table)
        comparison = ab_test.compare_arms(answers, share=wanted.share)
        return replace(so_far, comparison=comparison, history=ab_test.history(answers))


def _rules_differ(arms: Arms) -> str:
    """Say so where the two versions were trained with different rules of what is negative."""
    one, other = arms.champion, arms.challenger
    if other is None or one.rule == other.rule:
        return ""
    return (
        f"Not comparable: version {one.version} was trained with “{one.rule}”, version "
        f"{other.version} with “{other.rule}”; true labels follow the champion’s rule"
    )


# --- the page --------------------------------------------------------------------------------


NEXT = {  # by verdict: what to do, and the command that does it
    "challenger better": (
        "Promote the challenger. The gate compares both on labelled reviews once more.",
        "python -m sentiment promote {challenger} --to production{option}",
    ),
    "challenger worse": (
        "End the test: start the server again without it.",
        "python -m sentiment serve{option}",
    ),
    "the split is not as configured": (
        "Find out who assigns users, then begin a new experiment.",
        "python -m sentiment serve{option} --ab {challenger}={share:g} --ab-name {experiment}-2",
    ),
}
WAIT = "Nothing yet: let it run, and send what reviews really were.", "POST /feedback"
SHADOWED = (
    "To see how users fare with it, give it a share of the answers.",
    "python -m sentiment serve{option} --ab {challenger}=0.2",
)


def render_ab(
    running: RunningComparison | None, past: Sequence[LoggedComparison] = (), *, option: str = ""
) -> str:
    """Return the running comparison, if any, and past ones as an HTML page; within a request.

    `option` is what a command needs to be about this project.
    """
    axes, history, what_next = {}, None, None
    if running is not None:
        what_next = _next_step(running, option)
        if running.comparison is not None:
            arms = (running.comparison.champion, running.comparison.challenger)
            for name in ("accuracy", "f1_macro"):
                intervals = [part for arm in arms if (part := getattr(arm, name))]
                ends = [end for part in intervals for end in (part.low, part.high)]
                axes[name] = fitted_axis(ends) if ends else None
        if running.history is not None and len(running.history):
            history = _history_view(running.history)
    fixed = {"class_names": CLASS_NAMES, "least_split_p": MISMATCH, "difference": _difference}
    fixed |= {"here": "ab", "time": _time, "short": short, "interval_words": _interval}
    shown = past[:PAST_SHOWN]
    return render_template(
        "ab.html", running=running, past=shown, axes=axes, history=history, next=what_next, **fixed
    )


def _next_step(running: RunningComparison, option: str) -> tuple[str, str]:
    """Return what to do next, and the command."""
    comparison = running.comparison
    words, command = SHADOWED if comparison is None else NEXT.get(comparison.verdict, WAIT)
    share = 0.5 if comparison is None else comparison.share
    given = {"challenger": running.challenger, "share": share, "experiment": running.experiment}
    return words, command.format(option=option, **given)


@dataclass(frozen=True)
class Axis:
    """An axis with round numbers; `ticks` are (place in per cent from its start, number)."""

    low: float
    high: float
    step: float

    @property
    def ticks(self) -> list[tuple[float, float]]:
        """The round numbers within."""
        first, last = math.ceil(self.low / self.step), math.floor(self.high / self.step)
        return [(self.place(at * self.step), at * self.step) for at in range(first, last + 1)]

    def words(self, value: float, *, sign: bool = False) -> str:
        """Return a number of it as a score, with as many decimals as its steps have."""
        digits = max(1, -math.floor(math.log10(self.step) + 1e-9))
        return short(value, digits, sign=sign) if round(value, 9) else "0"

    def place(self, value: float) -> float:
        """Return where the value is, in per cent from the start; outside values are at the ends."""
        share = (value - self.low) / (self.high - self.low)
        return 100 * min(max(share, 0.0), 1.0)


def fitted_axis(values: Sequence[float]) -> Axis:
    """Return an axis that the values fill but for a margin, with `TICKS` round numbers at most.

    Their step is 1, 2 or 5 times a power of ten. It takes at least one value; around values that
    are all the same it is one unit of them wide.
    """
    low, high = min(values), max(values)
    if high == low:
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    power = 10.0 ** math.floor(math.log10((high - low) / TICKS))
    steps = (power * size for size in (1, 2, 5, 10, 20))
    step = next(each for each in steps if (high - low) / each <= TICKS)
    return Axis(low, high, step)


def _history_view(history: pd.DataFrame) -> dict[str, Any]:
    """Return the difference over time, with its interval, as SVG paths in a field of 100 × 100."""
    if len(history) == 1:  # drawn as a level line
        history = history.loc[history.index.repeat(2)]
    # the first intervals are so wide that the later ones would look like a line: they are cut
    later = history.iloc[len(history) // 4 :]
    axis = fitted_axis([0.0, *later["low"], *later["high"]])
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
        "ticks": [(100 - place, axis.words(value, sign=True)) for place, value in axis.ticks],
        "zero": 100 - axis.place(0.0),
        "last": places["difference"][-1],
        "first_units": f"{units[0]:,}",
        "last_units": f"{units[-1]:,}",
        "period": began if began == ended else f"{began} to {ended}",
        "sentence": f"Challenger minus champion after {units[-1]:,} users: {_difference(last)}",
    }


def _difference(interval: Interval | None) -> str:
    """Return a difference of scores with its interval."""
    if interval is None:
        return NOTHING
    low, value, high = (
        short(end, sign=True) for end in (interval.low, interval.value, interval.high)
    )
    return f"{value} ({low} to {high})"


def _interval(interval: Interval | None) -> str:
    """Return a score with its interval."""
    if interval is None:
        return NOTHING
    return f"{short(interval.value)} ({short(interval.low)} to {short(interval.high)})"


def _path(places: Iterable[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x:.2f} {y:.2f}" for x, y in places)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
