"""Say what a comparison came to: the verdict, the reasons in sentences, and what to do.

A signal beyond its limit makes the verdict `drifted`, one beyond its watch limit makes it `watch`.
While nothing changes, at most 5 of 100 checks say `drifted` and at most 10 say either, all signals
together (`limits`). For hourly checks that is about one false alarm a day.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from sentiment.drift.features import SCORE_STEPS, WindowFeatures, counted_values
from sentiment.drift.performance import Performance
from sentiment.drift.reference import Reference
from sentiment.drift.signals import MEASURED, SIGNALS, Group, mirrored, relative
from sentiment.metrics import Ints, short

State = Literal["steady", "watch", "drifted"]
Verdict = Literal["steady", "watch", "drifted", "not enough yet"]
STATES: tuple[State, ...] = ("steady", "watch", "drifted")
GROUPS: tuple[Group, ...] = ("input", "score", "performance")
LEAST_SHARE = 0.001  # that one decimal of a percentage tells from none
NAMED = 5  # words named in a sentence
ADVICE = {  # by verdict, and where it is `drifted` by what is known of the score
    "not enough yet": "wait for more reviews, or compare a longer window",
    "steady": "nothing to do",
    "watch": "check the next window before doing anything",
    "worse": "the model does worse on these reviews: retrain on everything labelled so far",
    "holds": "{changed} changed, but the measured score holds: retraining can wait; look at what "
    "moved",
    "input": "{changed} changed: get true labels for some of these reviews, and retrain if the "
    "score has fallen",
    "answers": "{changed} changed: get true labels for some of these reviews, and retrain on "
    "everything labelled so far",
}
SCORE_BINS = 20
# The first number of each class of words per review; half of all reviews have five or fewer
WORD_CLASSES = (0, 1, 2, 3, 4, 6, 9, 14, 25)
WORD_NAMES = ("0", "1", "2", "3", "4–5", "6–8", "9–13", "14–24", "25+")


@dataclass(frozen=True)
class Signal:
    """One number about a window, and how far it may go.

    `reference` is the reference's own value where there is one. `limit` and `watch_limit` are in
    the value's units, for a window of `reviews` reviews. A value is beyond a limit when it is
    higher than the limit if `above`, else when it is lower.
    """

    name: str
    group: Group
    value: float
    reference: float | None
    watch_limit: float
    limit: float
    above: bool
    reviews: int

    @property
    def state(self) -> State:
        """Return whether the value is beyond neither limit, the watch limit, or both."""
        beyond = [
            self.value > limit if self.above else self.value < limit
            for limit in (self.watch_limit, self.limit)
        ]
        return STATES[sum(beyond)]

    @property
    def title(self) -> str:
        """Return the name that people read."""
        return SIGNALS[self.name].title

    def sentence(self) -> str:
        """Return the value, the reference and the limit in words."""
        name, limit = "limit", self.limit
        if self.state == "watch":
            name, limit = "watch limit", self.watch_limit
        reference = "" if self.reference is None else f"reference {self.format(self.reference)}, "
        return (
            f"{self.title}: {self.format(self.value)} "
            f"({reference}{name} {self.format(limit)} for {self.reviews:,} reviews)"
        )

    @property
    def chance(self) -> str:
        """Return the values that chance alone explains, as they follow "by chance"."""
        kind, limit = SIGNALS[self.name], self.format(self.limit)
        if kind.bad != "both" or self.reference is None:
            return f"up to {limit}" if self.above else f"down to {limit}"
        other = self.format(mirrored(self.limit, self.reference))
        return f"{other} to {limit}" if self.above else f"{limit} to {other}"

    def format(self, value: float) -> str:
        """Return a value of this signal for people: shares in per cent, others in their units."""
        scale = SIGNALS[self.name].scale
        if scale == "share":  # what is not 0 does not read as 0
            return f"{value:.{1 if value >= LEAST_SHARE or value == 0 else 2}%}"
        return f"{value:.1f}" if scale == "chi2" else short(value)


@dataclass(frozen=True)
class PastCheck:
    """An earlier check of the same version and source.

    `farthest` is the title of the signal that was the farthest from the reference, `distance` how
    far it was: 1 is its limit.
    """

    at: datetime
    verdict: str
    reviews: int
    farthest: str
    distance: float
    estimated: float | None  # macro-F1


@dataclass(frozen=True)
class MovedTerm:
    """A term whose share of reviews moved, 0–1; `p_value` is corrected for the number of terms."""

    term: str
    reference: float
    window: float
    p_value: float


@dataclass(frozen=True)
class NewWord:
    """A stem that the model does not know, and the share of the window's reviews that have it."""

    word: str
    window: float


@dataclass(frozen=True)
class DriftReport:
    """What was compared, and the result.

    `not_computed` names each signal that is missing and says why. `min_reviews` is what a window
    needs for a verdict.
    """

    reviews: int
    reference_reviews: int
    min_reviews: int
    performance: Performance
    signals: tuple[Signal, ...] = ()
    not_computed: Mapping[str, str] = field(default_factory=dict)
    moved_terms: tuple[MovedTerm, ...] = ()
    new_words: tuple[NewWord, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Return the state of the worst signal."""
        return _worst(self.signals) if self.signals else "not enough yet"

    def state(self, group: Group) -> State:
        """Return the worst state of a group's signals."""
        return _worst(signal for signal in self.signals if signal.group == group)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return why the verdict is what it is, the worst signals first."""
        if not self.signals:
            return (self._not_enough(),)
        beyond = [signal for signal in self.signals if signal.state != "steady"]
        if not beyond:
            return (
                f"all {len(self.signals)} signals are within their limits for {self.reviews:,} "
                "reviews",
            )
        beyond.sort(key=lambda signal: -STATES.index(signal.state))
        return tuple(signal.sentence() + self._words(signal.name) for signal in beyond)

    @property
    def summary(self) -> str:
        """Return the states of input, score and performance; one need not imply the others."""
        if not self.signals:
            return self._not_enough()
        return ", ".join(f"{group} {self.state(group)}" for group in GROUPS)

    @property
    def advice(self) -> str:
        """Return what to do, in a sentence that names what the drifted signals are about."""
        if self.verdict != "drifted":
            return ADVICE[self.verdict]
        drifted = [signal for signal in self.signals if signal.state == "drifted"]
        measured = [signal.state for signal in self.signals if signal.name == MEASURED]
        if measured == ["drifted"]:
            return ADVICE["worse"]
        changed = list(dict.fromkeys(SIGNALS[signal.name].about for signal in drifted))
        kind = "input" if {signal.group for signal in drifted} == {"input"} else "answers"
        if measured == ["steady"]:
            kind = "holds"
        listed = " and ".join([", ".join(changed[:-1]), changed[-1]] if changed[1:] else changed)
        return ADVICE[kind].format(changed=listed)

    def as_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        fields = asdict(self)
        for signal, values in zip(self.signals, fields["signals"], strict=True):
            values["state"], values["title"] = signal.state, signal.title
        return {
            "verdict": self.verdict,
            "summary": self.summary,
            "reasons": list(self.reasons),
            "advice": self.advice,
            **fields,
        }

    def _words(self, name: str) -> str:
        """Return what to say about words after a signal's sentence."""
        if name == "terms" and self.moved_terms:
            moved = [
                f"{term.term} {term.reference:.1%} → {term.window:.1%}"
                for term in self.moved_terms[:NAMED]
            ]
            return f"; moved: {', '.join(moved)}"
        if name in ("unknown_words", "no_known_words") and self.new_words:
            words = [f"{word.word} ({word.window:.1%})" for word in self.new_words[:NAMED]]
            return f"; most common, by share of reviews: {', '.join(words)}"
        return ""

    def _not_enough(self) -> str:
        if self.reviews < self.min_reviews:
            return f"only {self.reviews:,} reviews; a verdict needs at least {self.min_reviews:,}"
        return (
            f"the reference has only {self.reference_reviews:,} reviews, too few to set limits; "
            "train on more reviews"
        )


def as_past(check: DriftCheck) -> PastCheck:
    """Return what later checks show of this one, which has signals."""
    report = check.report
    values = {each.name: (each.value, each.limit, each.reference) for each in report.signals}
    estimated = report.performance.estimated
    verdict, score = report.verdict, None if estimated is None else estimated.value
    return past_check(check.checked_at, verdict, report.reviews, values, score)


def past_check(
    at: datetime,
    verdict: str,
    reviews: int,
    values: Mapping[str, tuple[float, float, float | None]],
    estimated: float | None,
) -> PastCheck:
    """Return an earlier check; `values` are value, limit and reference of each signal."""
    distances = {name: relative(*each) for name, each in values.items()}
    farthest = max(distances, key=distances.__getitem__)
    title = SIGNALS[farthest].title
    return PastCheck(at, verdict, reviews, title, distances[farthest], estimated)


def _worst(signals: Iterable[Signal]) -> State:
    return STATES[max((STATES.index(signal.state) for signal in signals), default=0)]


@dataclass(frozen=True)
class Distribution:
    """The shares (0–1) of reviews in classes, of reference and window; both add up to 1."""

    title: str
    classes: tuple[str, ...]
    reference: tuple[float, ...]
    window: tuple[float, ...]


@dataclass(frozen=True)
class DriftCheck:
    """The result of one drift check: the report, and which version and reviews it is about.

    `source` is the prediction log or the name of a file. `reviews` is how many reviews there were;
    `report.reviews` of them were compared. `times` are those of the first and the last one, where
    known. All times have a zone. `run_id` is empty without a run.
    """

    report: DriftReport
    version: str
    algorithm: str
    source: str
    reviews: int
    times: tuple[datetime, datetime] | None
    notes: tuple[str, ...]
    distributions: tuple[Distribution, ...]
    checked_at: datetime
    run_id: str = ""
    before: tuple[PastCheck, ...] = ()  # the newest last; the page draws them, JSON leaves them out

    @property
    def period(self) -> str:
        """Return from when to when the reviews came, in words; empty where that is not known."""
        return " to ".join(dict.fromkeys(map(time_in_words, self.times or ())))

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the distributions, ready for JSON; report fields on top."""
        began, ended = self.times or (None, None)
        return {
            "version": self.version,
            "algorithm": self.algorithm,
            "source": self.source,
            "checked_at": self.checked_at.isoformat(),
            "window": {
                "reviews": self.reviews,
                "began": began and began.isoformat(),
                "ended": ended and ended.isoformat(),
                "notes": list(self.notes),
            },
            "run_id": self.run_id,
            **self.report.as_dict(),
        }

    def to_json(self) -> str:
        """Return the check as a JSON document."""
        return json.dumps(self.as_dict(), ensure_ascii=False, allow_nan=False, indent=2)


def time_in_words(at: datetime) -> str:
    """Return a time as people read it, in UTC to the minute."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def distributions(reference: Reference, window: WindowFeatures) -> tuple[Distribution, ...]:
    """Return how probabilities and lengths are distributed in reference and window."""
    now, width = counted_values(window), SCORE_STEPS // SCORE_BINS
    scores = np.arange(0, SCORE_STEPS, width)
    words = np.array(WORD_CLASSES)
    by_name = {
        "score": (
            "Probability of positive",
            scores,
            tuple(f"{at // 10}–{(at + width) // 10}%" for at in scores),
        ),
        "words": ("Words per review", words, WORD_NAMES),
    }
    return tuple(
        Distribution(
            title, classes, _shares(*reference.counts[name], edges), _shares(now[name], None, edges)
        )
        for name, (title, edges, classes) in by_name.items()
    )


def _shares(values: Ints, weights: Ints | None, edges: Ints) -> tuple[float, ...]:
    """Return the share of the weights (1 each by default) in each class; it begins at its edge."""
    places = np.searchsorted(edges, values, side="right") - 1
    counts = np.bincount(places, weights, minlength=len(edges))
    return tuple((counts / max(counts.sum(), 1.0)).tolist())
