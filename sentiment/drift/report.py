"""Drift report: the verdict on a window of reviews, with its reasons in sentences and what to do.

A signal beyond its limit makes the verdict `drifted`, one beyond its watch limit `watch`. While
nothing changes, at most 5 and 10 of 100 checks say so, all signals together (`drift_limits`). Of
hourly checks that is one false alarm a day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sentiment.drift.performance import Performance
from sentiment.drift.signals import SIGNALS, Group

State = Literal["steady", "watch", "drifted"]
Verdict = Literal["steady", "watch", "drifted", "not enough yet"]
STATES: tuple[State, ...] = ("steady", "watch", "drifted")
GROUPS: tuple[Group, ...] = ("input", "score", "performance")
NAMED = 5  # words named in a sentence
ADVICE = {
    "not enough yet": "wait for more reviews, or compare a longer window",
    "steady": "nothing is to be done",
    "watch": "look again with the next window before anything is done",
    "worse": "the model is worse on these reviews: retrain on everything labelled so far",
    "holds": "the reviews changed and the measured score holds: retraining can wait; look at what "
    "moved",
    "answers only": "the answers changed and the words did not: perhaps the share of content "
    "customers did; get true labels of some of these reviews, and retrain on them",
    "words only": "the words changed and the answers did not: get true labels of some of these "
    "reviews, and retrain if the score has fallen",
    "both": "words and answers changed: get true labels of some of these reviews, and retrain on "
    "everything labelled so far",
}


@dataclass(frozen=True)
class Signal:
    """One number about a window, and how far it may go.

    `reference` is the reference's own value where there is one. `limit` and `watch_limit` are in
    the value's units, for as many reviews as `reviews`; the value is beyond them where it is higher
    if `above`, else where it is lower.
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
        """Where the value lies."""
        beyond = [
            self.value > limit if self.above else self.value < limit
            for limit in (self.watch_limit, self.limit)
        ]
        return STATES[sum(beyond)]

    def sentence(self) -> str:
        """The value and what it is held against, in words."""
        kind = SIGNALS[self.name]
        limit = self.watch_limit if self.state == "watch" else self.limit
        name = "watch limit" if self.state == "watch" else "limit"
        reference = "" if self.reference is None else f"reference {self._shown(self.reference)}, "
        return (
            f"{kind.title} {self._shown(self.value)}, {reference}{name} {self._shown(limit)} "
            f"for {self.reviews:,} reviews"
        )

    def _shown(self, value: float) -> str:
        scale = SIGNALS[self.name].scale
        if scale == "share":
            return f"{value:.1%}"
        return f"{value:.1f}" if scale == "chi2" else f"{value:.3f}"


@dataclass(frozen=True)
class MovedTerm:
    """A term whose share of reviews moved, 0–1; `p_value` is corrected for the number of terms."""

    term: str
    reference: float
    window: float
    p_value: float


@dataclass(frozen=True)
class DomainWord:
    """A word by which the domain classifier tells now from the reference.

    `weight` is above 0 for words that speak for now; shares of reviews are 0–1.
    """

    term: str
    weight: float
    reference: float
    window: float


@dataclass(frozen=True)
class NewWord:
    """A stem that the model does not know, and the share of the window's reviews that have it."""

    word: str
    window: float


@dataclass(frozen=True)
class DriftReport:
    """What was compared and what came out.

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
    domain_words: tuple[DomainWord, ...] = ()
    new_words: tuple[NewWord, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The state of the signal that is worst."""
        return self._worst(self.signals) if self.signals else "not enough yet"

    def state(self, group: Group) -> State:
        """The worst state of a group's signals."""
        return self._worst(signal for signal in self.signals if signal.group == group)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the verdict is what it is, what weighs most first."""
        if not self.signals:
            return (self._not_enough(),)
        beyond = [signal for signal in self.signals if signal.state != "steady"]
        if not beyond:
            count = len(self.signals)
            return (f"all {count} signals of {self.reviews:,} reviews are within their limits",)
        beyond.sort(key=lambda signal: -STATES.index(signal.state))
        return tuple(signal.sentence() + self._words(signal.name) for signal in beyond)

    @property
    def summary(self) -> str:
        """Input, score and performance apart, since the first need not mean the others."""
        if not self.signals:
            return self._not_enough()
        return ", ".join(f"{group} {self.state(group)}" for group in GROUPS)

    @property
    def advice(self) -> str:
        """What to do, in a sentence."""
        moved = {group for group in GROUPS if self.state(group) == "drifted"}
        measured = self._signal("measured_f1")
        if self.verdict != "drifted":
            return ADVICE[self.verdict]
        if measured is not None and measured.state == "drifted":
            return ADVICE["worse"]
        if measured is not None and measured.state == "steady":
            return ADVICE["holds"]
        if "input" not in moved:
            return ADVICE["answers only"]
        return ADVICE["words only" if moved == {"input"} else "both"]

    def as_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        states = {signal.name: signal.state for signal in self.signals}
        fields = asdict(self)
        for signal in fields["signals"]:
            signal["state"] = states[signal["name"]]
            signal["title"] = SIGNALS[signal["name"]].title
        return {
            "verdict": self.verdict,
            "summary": self.summary,
            "reasons": list(self.reasons),
            "advice": self.advice,
            **fields,
        }

    def _signal(self, name: str) -> Signal | None:
        return next((signal for signal in self.signals if signal.name == name), None)

    def _words(self, name: str) -> str:
        """What is to be said of words after a signal's sentence."""
        if name == "terms" and self.moved_terms:
            moved = [
                f"{term.term} {term.reference:.1%} → {term.window:.1%}"
                for term in self.moved_terms[:NAMED]
            ]
            return f": {', '.join(moved)}"
        if name == "domain_auc" and self.domain_words:
            return f"; it goes by {', '.join(word.term for word in self.domain_words[:NAMED])}"
        if name in ("unknown_words", "no_known_words") and self.new_words:
            words = [f"{word.word} {word.window:.1%}" for word in self.new_words[:NAMED]]
            return f"; unknown are {', '.join(words)} of reviews"
        return ""

    def _not_enough(self) -> str:
        if self.reviews < self.min_reviews:
            return (
                f"{self.reviews:,} reviews to compare, at least {self.min_reviews:,} are needed "
                "for a verdict"
            )
        return (
            f"the reference has {self.reference_reviews:,} reviews, which is too few for limits; "
            "train on more reviews"
        )

    @staticmethod
    def _worst(signals: Iterable[Signal]) -> State:
        return STATES[max((STATES.index(signal.state) for signal in signals), default=0)]
