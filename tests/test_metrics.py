"""Evaluation: metrics worked out by hand, intervals against resampling the rows themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    f1_score,
    precision_recall_fscore_support,
    recall_score,
)
from statsmodels.stats.proportion import proportion_confint

from sentiment import metrics as evaluation

# 10 rows: true positives 5, true negatives 2, false positives 1, false negatives 2
TRUE = np.array([1, 1, 1, 1, 1, 0, 0, 0, 1, 1])
PREDICTED = np.array([1, 1, 1, 1, 1, 0, 0, 1, 0, 0])


def random_labels(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = (rng.random(rows) < 0.8).astype(int)
    first = np.where(rng.random(rows) < 0.9, true, 1 - true)
    second = np.where(rng.random(rows) < 0.85, true, 1 - true)
    return true, first, second


def test_metrics_by_hand() -> None:
    # positive: 2·5 / (2·5 + 1 + 2) = 10/13; negative: 2·2 / (2·2 + 2 + 1) = 4/7
    assert evaluation.score(TRUE, PREDICTED) == pytest.approx((10 / 13 + 4 / 7) / 2, abs=1e-15)
    assert evaluation.score(TRUE, PREDICTED, "accuracy") == pytest.approx(0.7)
    assert evaluation.score(TRUE, PREDICTED, "recall_negative") == pytest.approx(2 / 3)
    assert evaluation.confusion(TRUE, PREDICTED).tolist() == [[2, 1], [2, 5]]


def test_metrics_agree_with_scikit_learn() -> None:
    true, predicted, _ = random_labels(500, 0)
    expected = {
        "f1_macro": f1_score(true, predicted, average="macro"),
        "accuracy": accuracy_score(true, predicted),
        "recall_negative": recall_score(true, predicted, pos_label=0),
    }
    assert set(expected) == set(evaluation.METRICS)
    for name, value in expected.items():
        assert evaluation.score(true, predicted, name) == pytest.approx(value, abs=1e-12)


def test_a_class_never_seen_counts_as_zero_not_as_an_error() -> None:
    ones = np.ones(4, dtype=int)
    assert evaluation.score(ones, ones) == pytest.approx(0.5)
    assert evaluation.score(ones, ones, "recall_negative") == 0.0


def resampled_f1(
    rng: np.random.Generator, true: np.ndarray, *predictions: np.ndarray, resamples: int = 4_000
) -> list[np.ndarray]:
    """Macro-F1 of each prediction on the same resamples of the rows themselves."""
    rows = rng.integers(0, len(true), (resamples, len(true)))
    drawn = true[rows]
    scores = []
    for predicted in predictions:
        given = predicted[rows]
        of_class = [
            2
            * ((drawn == label) & (given == label)).sum(axis=1)
            / ((drawn == label).sum(axis=1) + (given == label).sum(axis=1))
            for label in (0, 1)
        ]
        scores.append((of_class[0] + of_class[1]) / 2)
    assert scores[0][0] == pytest.approx(
        f1_score(drawn[0], predictions[0][rows[0]], average="macro")
    )
    return scores


def test_interval_agrees_with_resampling_the_rows() -> None:
    true, predicted, _ = random_labels(400, 3)
    (draws,) = resampled_f1(np.random.default_rng(7), true, predicted)
    interval = evaluation.bootstrap_interval(true, predicted, resamples=4_000)
    assert interval == evaluation.bootstrap_interval(true, predicted, resamples=4_000)
    assert interval.value == pytest.approx(f1_score(true, predicted, average="macro"))
    assert [interval.low, interval.high] == pytest.approx(
        np.percentile(draws, [2.5, 97.5]), abs=0.004
    )


def test_paired_difference_agrees_with_resampling_the_rows() -> None:
    true, first, second = random_labels(400, 5)
    draws = resampled_f1(np.random.default_rng(8), true, first, second)
    difference = evaluation.paired_difference(true, first, second, resamples=4_000)
    assert [difference.low, difference.high] == pytest.approx(
        np.percentile(draws[0] - draws[1], [2.5, 97.5]), abs=0.006
    )
    scores = [f1_score(true, given, average="macro") for given in (first, second)]
    assert difference.value == pytest.approx(scores[0] - scores[1], abs=1e-12)
    same = evaluation.paired_difference(true, first, first)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    back = evaluation.paired_difference(true, second, first, resamples=4_000)
    assert back.value == pytest.approx(-difference.value)


def test_unpaired_difference_agrees_with_resampling_each_sample_by_itself() -> None:
    arms = []
    for rows, seed in ((500, 6), (200, 7)):
        true, better, worse = random_labels(rows, seed)
        arms.append((true, better if rows == 200 else worse))
    rng = np.random.default_rng(9)
    draws = [resampled_f1(rng, *arm)[0] for arm in arms]
    scores = [f1_score(*arm, average="macro") for arm in arms]
    first, second = (evaluation.confusion(*arm) for arm in arms)
    found = evaluation.unpaired_difference(second, first)
    assert found.value == pytest.approx(scores[1] - scores[0], abs=1e-12)
    # the ends of two such bootstraps differ by chance by about .002
    assert [found.low, found.high] == pytest.approx(
        np.percentile(draws[1] - draws[0], [2.5, 97.5]), abs=0.006
    )


def test_wilson_interval_by_hand_and_by_statsmodels() -> None:
    # (8 + 1.9207) / 13.8415 = .71674; 1.95996 / 13.8415 · √(10 · .8 · .2 + .9604) = .22658
    interval = evaluation.wilson_interval(8, 10)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((0.49016, 0.94332), abs=1e-5)
    for hits, rows in ((0, 10), (10, 10), (970, 1_000)):
        interval = evaluation.wilson_interval(hits, rows)
        assert interval is not None and interval.value == hits / rows
        theirs = proportion_confint(hits, rows, method="wilson")
        assert (interval.low, interval.high) == pytest.approx(theirs, abs=1e-12)
        assert interval.low >= 0 and interval.high <= 1
    assert evaluation.wilson_interval(0, 0) is None


def test_per_class_table_agrees_with_scikit_learn() -> None:
    true, predicted, _ = random_labels(500, 2)
    table = evaluation.per_class_table(true, predicted, ("negative", "positive"))
    expected = precision_recall_fscore_support(true, predicted)
    for column, values in zip(("precision", "recall", "f1", "reviews"), expected, strict=True):
        assert table[column].to_numpy() == pytest.approx(values)
    assert table["class"].tolist() == ["negative", "positive"]


def test_no_rows_is_an_error() -> None:
    empty = np.array([], dtype=int)
    with pytest.raises(ValueError, match="no rows"):
        evaluation.bootstrap_interval(empty, empty)


def test_brier_score_by_hand_and_by_scikit_learn() -> None:
    truth, forecast = np.array([1, 0, 1, 1]), np.array([0.8, 0.3, 0.6, 0.5])
    # .04 + .09 + .16 + .25 = .54, over four
    assert evaluation.brier_interval(truth, forecast).value == pytest.approx(0.135)
    rng = np.random.default_rng(3)
    forecast = rng.random(500)
    truth = (rng.random(500) < forecast).astype(np.int64)
    found = evaluation.brier_interval(truth, forecast)
    assert found.value == pytest.approx(brier_score_loss(truth, forecast))
    assert found.low < found.value < found.high
    # the mean of n numbers has a standard error of sd / sqrt(n)
    error = ((forecast - truth) ** 2).std() / np.sqrt(500)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_reliability_table_is_scikit_learns_curve() -> None:
    rng = np.random.default_rng(4)
    forecast = rng.random(997)
    truth = (rng.random(997) < forecast).astype(np.int64)
    table = evaluation.reliability_table(truth, forecast)
    share, mean = calibration_curve(truth, forecast, n_bins=10, strategy="quantile")
    np.testing.assert_allclose(table["share"], share, atol=0.011)  # a review on an edge may move
    np.testing.assert_allclose(table["forecast"], mean, atol=0.002)
    assert table["reviews"].sum() == 997 and len(table) == 10
    constant = evaluation.reliability_table(truth, np.full(997, 0.5))
    assert constant["reviews"].tolist() == [997]


def test_corrected_interval_by_hand() -> None:
    # Mean .82, deviations -.02, 0, +.02: s² = .0008/2 = .0004. With 30 of 70 % the factor is
    # 1/3 + 3/7 = 16/21, and a table of Student's t has 4.3027 for 2 degrees of freedom:
    # 4.3027 sqrt(.0004 · 16/21) = 4.3027 · .0174574 = .075114
    values = np.array([0.80, 0.82, 0.84])
    assert evaluation.corrected_error(values, 3 / 7) == pytest.approx(0.0174574, abs=1e-7)
    found = evaluation.corrected_interval(values, 3 / 7)
    assert found.value == pytest.approx(0.82, abs=1e-12)
    assert [found.low, found.high] == pytest.approx([0.82 - 0.075114, 0.82 + 0.075114], abs=2e-6)


def test_nothing_held_out_leaves_the_interval_of_a_plain_t_test() -> None:
    values = np.random.default_rng(0).normal(0.01, 0.02, 20)
    plain = ttest_1samp(values, 0).confidence_interval(0.95)
    found = evaluation.corrected_interval(values, 0.0)
    assert [found.low, found.high] == pytest.approx([plain.low, plain.high], abs=1e-12)


@pytest.mark.parametrize(
    ("score", "options", "said"),
    [
        (0.8312, {}, ".831"),
        (1.0, {}, "1.000"),
        (0.0, {}, ".000"),
        (-0.0421, {}, "−.042"),
        (-0.0001, {"sign": True}, "+.000"),
        (0.025, {"sign": True}, "+.025"),
        (-1.0, {"sign": True}, "−1.000"),
        (0.83, {"digits": 1}, ".8"),
    ],
)
def test_scores_are_shown_without_the_zero(score: float, options: Any, said: str) -> None:
    assert evaluation.short(score, **options) == said
