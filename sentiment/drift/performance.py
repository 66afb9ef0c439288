"""Drift performance: macro-F1 without true labels, estimated from confidence, and with them.

The estimate is confidence-based performance estimation (CBPE; NannyML's documentation, "How it
works: performance estimation"; Białek et al. 2024, "Estimating model performance under covariate
shift without labels", arXiv:2401.08348): a review that got the label 1 at probability p is a true
positive with probability p and a false positive with 1 - p, one that got the label 0 a false
negative or a true negative. Summed up that is the expected confusion matrix, and its macro-F1 the
estimate.

It trusts the probabilities. Other words, other lengths or another share of easy reviews it can
follow. It cannot see that the same words now mean something else (the true label given the text has
changed), nor all of a change in the share of the labels; without assumptions no method can (Garg et
al. 2022, "Leveraging unlabeled data to predict out-of-distribution performance"). Only true labels
show that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sentiment.metrics import CONFIDENCE, RESAMPLES, Interval, bootstrap_interval, f1_macro

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

# Reviews whose probabilities agree to a twentieth are drawn together: 2,000 draws of a million
# reviews then cost no more than of a hundred. It adds at most .025² to a variance of about .1.
STEPS = 20
MIN_LABELLED = 50  # reviews with a true label; below, an interval of macro-F1 says nothing
MIN_CLASS = 5  # of each class, for the same reason


@dataclass(frozen=True)
class Performance:
    """Macro-F1 of a window, all intervals 95 %, over the reviews that the model answered.

    `estimated` needs no labels. `measured` does, and is None where `labelled` reviews are too few;
    `estimated_on_labelled` is the estimate on those very reviews, so that a difference between the
    two is not one between reviews. `reference` is what the model scored on the reference, and
    `reference_estimated` what the estimate says of it, to hold `estimated` against.
    """

    answered: int
    labelled: int
    reference: Interval | None
    estimated: Interval | None
    measured: Interval | None
    estimated_on_labelled: Interval | None
    reference_estimated: float | None = None


def expected_confusion(probability: Floats, label: Labels) -> Floats:
    """Expected counts of shape (2, 2), row true label, column the model's label.

    `probability` is that of label 1, 0–1, `label` the model's own 0 or 1; both of shape (n,).
    """
    positive = np.bincount(label, probability, minlength=2)
    return np.stack([np.bincount(label, minlength=2) - positive, positive])


def estimated_f1(probability: Floats, label: Labels, *, seed: int = 42) -> Interval | None:
    """Macro-F1 by CBPE, with the range in which 95 % of the scores would lie; None without rows.

    Were the probabilities right, the true labels would be independent draws, so that the number of
    positive reviews among those with one label is Poisson-binomial; the interval is that of 2,000
    draws. That the calibration itself may be off is not in it.
    """
    if len(label) == 0:
        return None
    value = float(f1_macro(expected_confusion(probability, label)))
    generator = np.random.default_rng(seed)
    drawn = np.zeros((RESAMPLES, 2, 2))  # row true label, column the model's
    for own in (0, 1):
        chances = probability[label == own]
        group = np.rint(chances * STEPS).astype(np.int64)
        reviews = np.bincount(group)
        occupied = np.flatnonzero(reviews)
        mean = np.bincount(group, chances)[occupied] / reviews[occupied]
        positive = generator.binomial(
            reviews[occupied], np.clip(mean, 0, 1), (RESAMPLES, len(occupied))
        ).sum(axis=1)
        drawn[:, 0, own], drawn[:, 1, own] = len(chances) - positive, positive
    draws = f1_macro(drawn)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def measured_f1(true: Labels, label: Labels) -> Interval | None:
    """Macro-F1 against true labels with its bootstrap interval.

    None for fewer than `MIN_LABELLED` reviews, or than `MIN_CLASS` of a class.
    """
    enough = len(true) >= MIN_LABELLED and np.bincount(true, minlength=2).min() >= MIN_CLASS
    return bootstrap_interval(true, label) if enough else None


def from_confusion(confusion: Floats) -> Interval | None:
    """Macro-F1 of counts of shape (2, 2), row true label, with its interval; None without rows."""
    cells = np.rint(confusion).astype(np.int64).ravel()
    if cells.sum() == 0:
        return None
    true, label = np.repeat([0, 0, 1, 1], cells), np.repeat([0, 1, 0, 1], cells)
    return bootstrap_interval(true, label)
