"""Estimate macro-F1 without true labels, from the model's confidence, and measure it with them.

The estimate is confidence-based performance estimation (CBPE; NannyML's documentation, "How it
works: performance estimation"; Białek et al. 2024, "Estimating model performance under covariate
shift without labels", arXiv:2401.08348). A review with probability p that got the label 1 is a true
positive with probability p and a false positive with probability 1 - p; with the label 0 it is a
false negative or a true negative. The sum over reviews is the expected confusion matrix, and the
estimate is its macro-F1.

CBPE trusts the probabilities. It can follow other words, other lengths or another share of easy
reviews. Where the share of positive answers has moved, the probabilities are corrected for it first
(`at_new_share`): they were calibrated at the old share. CBPE cannot see that the same words now
mean something else (the true label given the text has changed). Without assumptions no method can
(Garg et al. 2022, "Leveraging unlabeled data to predict out-of-distribution performance"); only
true labels show it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from sentiment.metrics import (
    CONFIDENCE,
    RESAMPLES,
    Floats,
    Interval,
    Labels,
    bootstrap_interval,
    f1_macro,
)

# Reviews whose probabilities agree to a twentieth are drawn together: 2,000 draws of a million
# reviews then cost no more than of a hundred. It adds at most .025² to a variance of about .1.
STEPS = 20
# Of the share of positive reviews; EM gains less than this in a round after some tens of them
NEAR, ROUNDS = 1e-5, 500
MIN_LABELLED = 50  # reviews with a true label; with fewer, the interval of macro-F1 is useless
MIN_CLASS = 5  # of each class, for the same reason
TITLES = {  # of the scores, by the names of their metrics
    "reference_f1": "reference, by true labels",
    "estimated_f1": "now, estimated",
    "measured_f1": "now, by true labels",
    "estimated_f1_on_labelled": "now, estimated on the labelled reviews",
}


@dataclass(frozen=True)
class Performance:
    """Macro-F1 of a window with 95 % intervals, over the reviews that the model answered.

    `estimated` needs no labels. `measured` does, and is None where `labelled` reviews are too few.
    `estimated_on_labelled` is the estimate for those same reviews, so that the two can be compared.
    `reference` is what the model scored on the reference. `note` says in a sentence how far the
    estimate can be trusted; it is empty where nothing speaks against it.
    """

    answered: int
    labelled: int
    reference: Interval | None
    estimated: Interval | None
    measured: Interval | None
    estimated_on_labelled: Interval | None
    note: str = ""

    def scores(self) -> dict[str, Interval]:
        """Return the macro-F1s that are known, by the names of `TITLES`."""
        intervals = (self.reference, self.estimated, self.measured, self.estimated_on_labelled)
        by_name = zip(TITLES, intervals, strict=True)
        return {name: interval for name, interval in by_name if interval is not None}


def estimated_f1(probability: Floats, label: Labels, *, seed: int = 42) -> Interval | None:
    """Return macro-F1 by CBPE with the range that would hold 95 % of the scores; None without rows.

    `probability` is that of label 1, 0–1, `label` the model's own 0 or 1; both of shape (n,).
    If the probabilities were right, the true labels would be independent draws, and the number of
    positive reviews among those with one label would be Poisson-binomial. The interval is that of
    2,000 draws. It does not allow for errors of the calibration itself.
    """
    if len(label) == 0:
        return None
    positive = np.bincount(label, probability, minlength=2)  # expected, by the model's label
    value = float(f1_macro(np.stack([np.bincount(label, minlength=2) - positive, positive])))
    generator = np.random.default_rng(seed)
    drawn = np.zeros((RESAMPLES, 2, 2))  # row true label, column the model's
    for own in (0, 1):
        chances = probability[label == own]
        group = np.rint(chances * STEPS).astype(np.int64)
        reviews = np.bincount(group)
        occupied = np.flatnonzero(reviews)
        mean = np.bincount(group, chances)[occupied] / reviews[occupied]
        size = (RESAMPLES, len(occupied))
        hits = generator.binomial(reviews[occupied], np.clip(mean, 0, 1), size).sum(axis=1)
        drawn[:, 0, own], drawn[:, 1, own] = len(chances) - hits, hits
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(f1_macro(drawn), [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def at_new_share(probability: Floats, share: float) -> Floats:
    """Return probabilities of positive, calibrated at a share of positives, for these reviews.

    `share` is what the probabilities came to on average at calibration, 0–1. The new share is that
    of greatest likelihood, found by EM, and the odds are multiplied by the ratio of new to old
    (Saerens, Latinne & Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori
    probabilities", Neural Computation 14). It is right where nothing but the share has changed.
    Both arrays have shape (n,).
    """
    share = float(np.clip(share, 1e-6, 1 - 1e-6))
    old = logit(np.clip(probability, 1e-9, 1 - 1e-9)) - logit(share)
    new, found = probability, share
    for _ in range(ROUNDS):
        before, found = found, float(np.clip(new.mean(), 1e-6, 1 - 1e-6))
        if abs(found - before) < NEAR:
            break
        new = expit(old + logit(found))
    return np.asarray(new)


def measured_f1(true: Labels, label: Labels) -> Interval | None:
    """Return macro-F1 against true labels with its bootstrap interval.

    None without `enough_labels`.
    """
    return bootstrap_interval(true, label) if enough_labels(true) else None


def enough_labels(true: Labels) -> bool:
    """Return whether so many true labels (0 or 1) are enough for a measured score."""
    return bool(len(true) >= MIN_LABELLED and np.bincount(true, minlength=2).min() >= MIN_CLASS)


def f1_of_confusion(confusion: Floats) -> Interval | None:
    """Return macro-F1 of counts (2, 2), row true label, with its interval; None for no counts."""
    cells = np.rint(confusion).astype(np.int64).ravel()
    if cells.sum() == 0:
        return None
    true, label = np.repeat([0, 0, 1, 1], cells), np.repeat([0, 1, 0, 1], cells)
    return bootstrap_interval(true, label)
