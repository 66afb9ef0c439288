"""Drift outcome: a check that was made, and the numbers that its figures and its page draw."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from sentiment.drift.features import Floats, Ints, WindowFeatures
from sentiment.drift.performance import Performance
from sentiment.drift.reference import ReferenceProfile
from sentiment.drift.report import DriftReport, Signal
from sentiment.drift.signals import SIGNALS
from sentiment.drift.tally import SCORE_STEPS, counted_values
from sentiment.metrics import Interval

FARTHEST, BACK = 2.0, -0.5  # in limits; what is farther is drawn there
SCORE_BINS = 20
# First of each class of words per review; half of all reviews have five or fewer
WORD_CLASSES = (0, 1, 2, 3, 4, 6, 9, 14, 25)
SCORES = {
    "reference_f1": "reference, by its labels",
    "estimated_f1": "now, estimated",
    "measured_f1": "now, by true labels",
    "estimated_f1_on_labelled": "now, estimated on those",
}


@dataclass(frozen=True)
class Distribution:
    """The shares (0–1) of reviews in classes, of reference and window; both add up to 1."""

    title: str
    classes: tuple[str, ...]
    reference: tuple[float, ...]
    window: tuple[float, ...]


@dataclass(frozen=True)
class CheckedWindow:
    """A check that was made: the report, and of which version and reviews it is.

    `source` is the prediction log or the name of a file; `reviews` is how many there were, of which
    `report.reviews` were compared; `began` and `ended` are the times of the first and the last one,
    None where they are not known. All times have a zone. `run_id` is empty before it is logged.
    """

    report: DriftReport
    version: str
    algorithm: str
    source: str
    reviews: int
    began: datetime | None
    ended: datetime | None
    notes: tuple[str, ...]
    distributions: tuple[Distribution, ...]
    checked_at: datetime
    run_id: str = ""

    def as_dict(self) -> dict[str, Any]:
        """All of it but the distributions, ready for JSON; the report's fields are on top."""
        return {
            "version": self.version,
            "algorithm": self.algorithm,
            "source": self.source,
            "checked_at": self.checked_at.isoformat(),
            "window": {
                "reviews": self.reviews,
                "began": self.began and self.began.isoformat(),
                "ended": self.ended and self.ended.isoformat(),
                "notes": list(self.notes),
            },
            "run_id": self.run_id,
            **self.report.as_dict(),
        }


def way(signal: Signal, value: float) -> float:
    """How far a value of the signal's is on the way from no change (0) to the limit (1).

    Below 0 where it lies the other way; kept between `BACK` and `FARTHEST`.
    """
    start = signal.reference or 0.0
    if SIGNALS[signal.name].scale == "auc":
        start = 0.5
    whole, part = signal.limit - start, value - start
    if whole == 0:
        return FARTHEST if part else 0.0
    return max(BACK, min(part / whole, FARTHEST))


def distributions(profile: ReferenceProfile, window: WindowFeatures) -> list[Distribution]:
    """How probabilities and lengths are distributed in reference and window."""
    score_edges = np.arange(0, SCORE_STEPS, SCORE_STEPS // SCORE_BINS)
    step = 100 // SCORE_BINS
    now = counted_values(window)
    found = []
    for name, title, edges, classes in (
        (
            "score",
            "Probability of positive",
            score_edges,
            [f"{at * step}–{(at + 1) * step}%" for at in range(SCORE_BINS)],
        ),
        ("words", "Words per review", np.array(WORD_CLASSES), _word_classes()),
    ):
        values, reviews = profile.counts[name]
        found.append(
            Distribution(
                title,
                tuple(classes),
                _shares(values, edges, reviews.astype(np.float64)),
                _shares(now[name], edges, np.ones(len(now[name]))),
            )
        )
    return found


def _word_classes() -> list[str]:
    ends = [following - 1 for following in WORD_CLASSES[1:]]
    closed = [
        str(first) if first == last else f"{first}–{last}"
        for first, last in zip(WORD_CLASSES, ends, strict=False)
    ]
    return [*closed, f"{WORD_CLASSES[-1]}+"]


def _shares(values: Ints, edges: Ints, weights: Floats) -> tuple[float, ...]:
    """The share of the weights that lies in each class; a class begins at its edge."""
    places = np.searchsorted(edges, values, side="right") - 1
    counts = np.bincount(places, weights, minlength=len(edges))
    return tuple((counts / max(counts.sum(), 1.0)).tolist())


def scores(performance: Performance) -> dict[str, Interval | None]:
    """The macro-F1s that stand side by side, by the names of `SCORES`; None for one not known."""
    found = (
        performance.reference,
        performance.estimated,
        performance.measured,
        performance.estimated_on_labelled,
    )
    return dict(zip(SCORES, found, strict=True))


def shown(name: str, value: float) -> str:
    """A signal's value as people read it: shares in per cent, all else in its own units."""
    scale = SIGNALS[name].scale
    if scale == "share":
        return f"{value:.1%}"
    return f"{value:.1f}" if scale == "chi2" else f"{value:.3f}"
