"""Which model of a pass is taken: the rule of one standard error, by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sentiment.metrics import Interval
from sentiment.training.search import SearchResult, choose_winner

PREFERRED, OTHER = "LogisticRegression", "LinearSVM"
FOLDS = (0.80, 0.82, 0.81, 0.83, 0.79)


def result(algorithm: str, folds: Sequence[float]) -> SearchResult:
    mean = float(np.mean(folds))
    return SearchResult(algorithm, mean, tuple(folds), 0.9, Interval(0.8, 0.78, 0.82), None)


def ahead(*by: float) -> list[float]:
    return [fold + more for fold, more in zip(FOLDS, by, strict=True)]


@pytest.mark.parametrize(
    ("by", "winner"),
    [
        # Mean .002, deviations ±.004 and 0: s² = 4 · .004² / 4 = .000016, s = .004. Of five folds,
        # each a quarter of what is trained on: √(1/5 + 1/4) · .004 = .00268 > .002
        ((0.006, 0.006, 0.002, -0.002, -0.002), PREFERRED),
        # Mean .003, the same deviations: .003 > .00268, though less than the .0018 · 2 of a t-test
        ((0.007, 0.007, 0.003, -0.001, -0.001), OTHER),
        # ahead by the same on every fold, however little
        ((0.0001,) * 5, OTHER),
        ((-0.001,) * 5, PREFERRED),
    ],
)
def test_the_preferred_one_is_taken_within_one_standard_error(
    by: tuple[float, ...], winner: str
) -> None:
    results = [result(PREFERRED, FOLDS), result(OTHER, ahead(*by))]
    for given in (results, results[::-1]):
        choice = choose_winner(given)
        assert choice.result.algorithm == winner
        if sum(by) > 0:
            assert "standard error" in choice.why and OTHER in choice.why


def test_without_the_preferred_one_the_best_mean_wins() -> None:
    results = [result("NaiveBayes", FOLDS), result(OTHER, ahead(0.001, 0, 0, 0, 0))]
    assert choose_winner(results).result.algorithm == OTHER
