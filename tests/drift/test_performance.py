"""Drift performance: CBPE by hand, against drawing the labels, and where labels can be had."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from sentiment import metrics as evaluation
from sentiment.drift.performance import (
    MIN_CLASS,
    MIN_LABELLED,
    at_new_share,
    estimated_f1,
    f1_of_confusion,
    measured_f1,
)

PROBABILITY = np.array([0.9, 0.8, 0.6, 0.4, 0.1])
LABEL = np.array([1, 1, 1, 0, 0])


def test_estimate_by_hand() -> None:
    # called positive: 2.3 are, .7 are not; called negative: 1.5 are, .5 are not
    estimate = estimated_f1(PROBABILITY, LABEL)
    assert estimate is not None
    expected = (2 * 2.3 / (2 * 2.3 + 0.7 + 0.5) + 2 * 1.5 / (2 * 1.5 + 0.5 + 0.7)) / 2
    assert estimate.value == pytest.approx(expected)
    assert estimate.low < estimate.value < estimate.high


def test_sure_probabilities_leave_no_doubt() -> None:
    sure = np.array([1.0, 1.0, 0.0, 0.0])
    estimate = estimated_f1(sure, np.array([1, 0, 0, 0]))
    score = f1_score([1, 1, 0, 0], [1, 0, 0, 0], average="macro")
    assert estimate is not None
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((score, score, score))


def test_the_interval_is_that_of_drawn_labels() -> None:
    generator = np.random.default_rng(0)
    probability = generator.beta(4, 1.5, 300)
    label = (probability > 0.6).astype(np.int64)
    scores = [
        evaluation.score((generator.random(300) < probability).astype(np.int64), label)
        for _ in range(3_000)
    ]
    estimate = estimated_f1(probability, label)
    assert estimate is not None
    low, high = np.quantile(scores, [0.025, 0.975])
    assert estimate.low == pytest.approx(low, abs=0.006)
    assert estimate.high == pytest.approx(high, abs=0.006)
    assert estimate.value == pytest.approx(np.mean(scores), abs=0.004)


@pytest.mark.parametrize("share", [0.3, 0.8, 0.95])
def test_probabilities_at_another_share_are_those_of_bayes(share: float) -> None:
    """Two normal classes a distance of 2 apart; the posterior was worked out at a share of .8."""
    generator = np.random.default_rng(1)
    true = generator.random(20_000) < share
    value = generator.normal(np.where(true, 1.0, -1.0), 1.0)
    odds = np.exp(2 * value)  # the ratio of the two densities
    at_old = 0.8 * odds / (0.8 * odds + 0.2)
    found = at_new_share(at_old, 0.8)
    assert found.mean() == pytest.approx(true.mean(), abs=0.015)
    assert np.abs(found - share * odds / (share * odds + 1 - share)).max() < 0.03
    label = (at_old > 0.5).astype(np.int64)
    score = evaluation.score(true.astype(np.int64), label)
    corrected, trusting = estimated_f1(found, label), estimated_f1(at_old, label)
    assert corrected is not None and trusting is not None
    assert corrected.value == pytest.approx(score, abs=0.015)
    if share == 0.3:  # which nobody may overlook
        assert abs(trusting.value - score) > 0.03


def test_probabilities_that_say_one_thing_stay_probabilities() -> None:
    for sure in (np.ones(50), np.zeros(50), np.full(50, 0.8)):
        found = at_new_share(sure, 0.8)
        assert np.isfinite(found).all() and 0 <= found.min() <= found.max() <= 1
    assert at_new_share(np.full(50, 0.8), 0.8) == pytest.approx(0.8)


def test_nothing_answered_is_no_estimate() -> None:
    nothing = np.array([], dtype=np.int64)
    assert estimated_f1(np.array([]), nothing) is None
    assert measured_f1(nothing, nothing) is None
    assert f1_of_confusion(np.zeros((2, 2))) is None


def test_one_label_only_is_an_estimate_all_the_same() -> None:
    estimate = estimated_f1(np.array([0.9, 0.8]), np.array([1, 1]))
    assert estimate is not None
    assert estimate.value == pytest.approx(2 * 1.7 / (2 * 1.7 + 0.3) / 2)


def test_true_labels_give_the_bootstrap_interval() -> None:
    true, label = np.tile([1, 1, 1, 0], 25), np.tile([1, 1, 0, 0, 1], 20)
    found = measured_f1(true, label)
    assert found == evaluation.bootstrap_interval(true, label)
    reference = f1_of_confusion(evaluation.confusion(true, label))
    assert reference is not None
    assert reference.value == pytest.approx(f1_score(true, label, average="macro"))
    assert reference.low == pytest.approx(found.low, abs=1e-9)


@pytest.mark.parametrize(
    ("positive", "negative", "enough"),
    [
        (MIN_LABELLED - MIN_CLASS, MIN_CLASS, True),
        (MIN_LABELLED - MIN_CLASS - 1, MIN_CLASS, False),
        (500, MIN_CLASS - 1, False),
        (MIN_CLASS - 1, 500, False),
    ],
)
def test_few_true_labels_say_nothing(positive: int, negative: int, enough: bool) -> None:
    true = np.repeat([1, 0], [positive, negative])
    assert (measured_f1(true, true) is not None) == enough
