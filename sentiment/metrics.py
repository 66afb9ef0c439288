"""Score predictions, and say how sure the score is; also the names of the array types.

All metrics of `METRICS` depend on the rows only through the confusion matrix. So a bootstrap
resample of n rows is one multinomial draw of the matrix's cells: the same distribution as drawing
rows with replacement, some hundred times cheaper.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64]  # 0 negative, 1 positive
Bools = npt.NDArray[np.bool_]
# A metric maps confusion matrices of shape (..., k, k), rows true and columns predicted, to (...).
Metric = Callable[[Floats], Floats]

RESAMPLES = 2_000  # leaves a Monte Carlo error of about .0005 on the ends of a .82 ± .02 interval
BRIER_RESAMPLES = 1_000  # of the rows themselves, which takes longer
CONFIDENCE = 0.95
HOLDOUT_SCORES = {  # as people read them → as runs have them
    "macro-F1": "test_f1",
    "macro-F1, texts not in training": "test_f1_unseen",
    "accuracy": "test_accuracy",
    "recall of negative": "test_recall_negative",
    "recall of negative, out of fold": "cv_recall_negative",
    "Brier score of the probabilities": "test_brier",
}


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def short(score: float, digits: int = 3, *, sign: bool = False) -> str:
    """Return a score as pages show it, `.831` or `−.042`; a difference has a `sign`."""
    text = f"{round(score, digits) + 0.0:{'+' if sign else ''}.{digits}f}"
    return re.sub(r"^(\D?)0", r"\1", text).replace("-", "−")


def confusion(y_true: Labels, y_pred: Labels, classes: int = 2) -> Floats:
    """Return counts of shape (classes, classes): row true label, column predicted label."""
    cells = np.bincount(np.asarray(y_true) * classes + np.asarray(y_pred), minlength=classes**2)
    return cells.reshape(classes, classes).astype(np.float64)


def f1_per_class(matrix: Floats) -> Floats:
    """Return the F1 of each class, 2TP / (2TP + FP + FN), or 0 where that would be 0 / 0."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    total = matrix.sum(axis=-1) + matrix.sum(axis=-2)
    return np.asarray(np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0))


def f1_macro(matrix: Floats) -> Floats:
    """Return the unweighted mean of the classes' F1, 0–1 (F1: van Rijsbergen 1979, ch. 7)."""
    return np.asarray(f1_per_class(matrix).mean(axis=-1))


def accuracy(matrix: Floats) -> Floats:
    """Return the share of rows predicted right, 0–1."""
    return np.asarray(np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum(axis=(-2, -1)))


def recall_negative(matrix: Floats) -> Floats:
    """Return the share of the negative rows (label 0) that are predicted negative, 0–1."""
    hits, row = matrix[..., 0, 0], matrix[..., 0, :].sum(axis=-1)
    return np.asarray(np.divide(hits, row, out=np.zeros_like(row), where=row > 0))


METRICS: dict[str, Metric] = {
    "f1_macro": f1_macro,
    "accuracy": accuracy,
    "recall_negative": recall_negative,
}


def score(y_true: Labels, y_pred: Labels, metric: str = "f1_macro") -> float:
    """Return one metric of `METRICS` on 0/1 labels of equal length."""
    return float(METRICS[metric](confusion(y_true, y_pred)))


def bootstrap_interval(
    y_true: Labels,
    y_pred: Labels,
    metric: str = "f1_macro",
    *,
    resamples: int = RESAMPLES,
    seed: int = 42,
) -> Interval:
    """Return the metric with its 95 % percentile interval (Efron & Tibshirani 1993, ch. 13).

    Raises `ValueError` without rows.
    """
    matrix, measure = confusion(y_true, y_pred), METRICS[metric]
    draws = _resample(matrix, resamples, np.random.default_rng(seed))
    return _interval(measure(matrix), measure(draws))


def paired_difference(
    y_true: Labels,
    y_pred: Labels,
    y_other: Labels,
    metric: str = "f1_macro",
    *,
    resamples: int = RESAMPLES,
    seed: int = 42,
) -> Interval:
    """Return the metric of `y_pred` minus that of `y_other`, with its 95 % interval.

    Both are predictions for the same rows. Rows are resampled in pairs, so what both models find
    hard cancels out.
    """
    # 2 × 2 × 2 cells: true label, first prediction, other prediction
    cells = np.asarray(y_true) * 4 + np.asarray(y_pred) * 2 + np.asarray(y_other)
    cube = np.bincount(cells, minlength=8).reshape(2, 2, 2).astype(np.float64)
    value, draws = (
        METRICS[metric](counts.sum(axis=-1)) - METRICS[metric](counts.sum(axis=-2))
        for counts in (cube, _resample(cube, resamples, np.random.default_rng(seed)))
    )
    return _interval(value, draws)


def unpaired_difference(
    matrix: Floats, other: Floats, metric: str = "f1_macro", *, seed: int = 42
) -> Interval:
    """Return the metric of `matrix` minus that of `other`, with its 95 % percentile interval.

    Both are confusion matrices, rows true, of two independent samples; each is resampled by itself.
    """
    # one stream for both: the second sample's draws continue where the first one's end
    measure, rng = METRICS[metric], np.random.default_rng(seed)
    draws, other_draws = (measure(_resample(cells, RESAMPLES, rng)) for cells in (matrix, other))
    return _interval(measure(matrix) - measure(other), draws - other_draws)


def wilson_interval(hits: int, rows: int) -> Interval | None:
    """Return `hits` of `rows` as a share, 0–1, with its 95 % interval; None without rows.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if rows == 0:
        return None
    share, z = hits / rows, NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    centre = (hits + z**2 / 2) / (rows + z**2)
    half = z / (rows + z**2) * math.sqrt(rows * share * (1 - share) + z**2 / 4)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def corrected_error(values: Floats, test_per_train: float) -> float:
    """Return the standard error of a mean over splits of one set of reviews.

    The splits share reviews, so that their scores are correlated, and s²/n is far too small: Nadeau
    & Bengio (2003, "Inference for the generalization error", Machine Learning 52) put
    (1/n + n_test/n_train) s² instead. `values` are of n ≥ 2 splits or folds.
    """
    return float(np.sqrt((1 / len(values) + test_per_train) * np.var(values, ddof=1)))


def corrected_interval(values: Floats, test_per_train: float) -> Interval:
    """Return the mean over n ≥ 2 splits of one set of reviews with its 95 % interval.

    By Student's t with n − 1 degrees of freedom and `corrected_error`.
    """
    from scipy.special import stdtrit  # which takes a moment, and most do not need

    mean = float(np.mean(values))
    quantile = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2))
    half = quantile * corrected_error(values, test_per_train)
    return Interval(mean, mean - half, mean + half)


def brier_interval(y_true: Labels, probability: Floats, *, seed: int = 42) -> Interval:
    """Return the Brier score of probabilities of label 1 with its 95 % percentile interval.

    The score is the mean squared difference to the labels: 0–1, 0 is best (Brier 1950,
    "Verification of forecasts expressed in terms of probability"). Always forecasting the share s
    of label 1 scores s(1 - s).
    """
    squared = (np.asarray(probability) - np.asarray(y_true)) ** 2
    rng, rows = np.random.default_rng(seed), len(squared)
    means = [squared[rng.integers(0, rows, rows)].mean() for _ in range(BRIER_RESAMPLES)]
    return _interval(squared.mean(), np.asarray(means))


def reliability_table(y_true: Labels, probability: Floats, bins: int = 10) -> pd.DataFrame:
    """Compare forecasts with what came true, in `bins` groups of equal size by probability.

    Returns a row a group, with the columns `forecast` (mean probability of label 1), `share` (of
    reviews with label 1) and `reviews`. Groups of equal probabilities become one.
    """
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1]))
    groups = pd.DataFrame({"forecast": probability, "share": y_true}).groupby(
        np.searchsorted(edges, probability, side="right")
    )
    return groups.mean().assign(reviews=groups.size()).reset_index(drop=True)


def per_class_table(y_true: Labels, y_pred: Labels, class_names: tuple[str, ...]) -> pd.DataFrame:
    """Return a row a class: `class`, `precision`, `recall`, `f1` (0–1), `reviews` (true count)."""
    matrix = confusion(y_true, y_pred, len(class_names))
    hits, true, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    return pd.DataFrame(
        {
            "class": class_names,
            "precision": np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0),
            "recall": np.divide(hits, true, out=np.zeros_like(hits), where=true > 0),
            "f1": f1_per_class(matrix),
            "reviews": true.astype(int),
        }
    )


def _resample(counts: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Return tables like this one, shape (resamples, *shape), each of as many rows drawn anew."""
    rows = int(counts.sum())
    if rows == 0:
        raise ValueError("no rows to resample; expected at least one prediction")
    draws = rng.multinomial(rows, counts.ravel() / rows, size=resamples)
    return draws.reshape(-1, *counts.shape).astype(np.float64)


def _interval(value: Floats, draws: Floats) -> Interval:
    tail = (1 - CONFIDENCE) / 2 * 100
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Interval(float(value), float(low), float(high))
