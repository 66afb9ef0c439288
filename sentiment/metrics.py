"""Evaluation: what a set of predictions is worth, and how sure one can be of it.

Every interval here is a bootstrap over the holdout's rows. All metrics depend on the rows only
through the confusion matrix, so a resample of n rows is one multinomial draw of its cells: the
same distribution as drawing rows with replacement, some hundred times cheaper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Labels = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
# A metric maps confusion matrices of shape (..., k, k), rows true and columns predicted, to (...).
Metric = Callable[[Floats], Floats]

RESAMPLES = 2_000  # leaves a Monte Carlo error of about .0005 on the ends of a .82 ± .02 interval
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its bootstrap percentile interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def confusion(y_true: Labels, y_pred: Labels, classes: int = 2) -> Floats:
    """Counts of shape (classes, classes): row true label, column predicted label."""
    cells = np.bincount(np.asarray(y_true) * classes + np.asarray(y_pred), minlength=classes**2)
    return cells.reshape(classes, classes).astype(np.float64)


def f1_per_class(matrix: Floats) -> Floats:
    """F1 of each class, 2TP / (2TP + FP + FN); 0 for a class neither present nor predicted."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    total = matrix.sum(axis=-1) + matrix.sum(axis=-2)
    return np.asarray(np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0))


def f1_macro(matrix: Floats) -> Floats:
    """The unweighted mean of the classes' F1, 0–1 (F1: van Rijsbergen 1979, ch. 7)."""
    return np.asarray(f1_per_class(matrix).mean(axis=-1))


def accuracy(matrix: Floats) -> Floats:
    """Share of rows predicted right, 0–1."""
    hits = np.trace(matrix, axis1=-2, axis2=-1)
    return np.asarray(hits / matrix.sum(axis=(-2, -1)))


def recall_negative(matrix: Floats) -> Floats:
    """Share of the negative rows (label 0) that are predicted negative, 0–1."""
    row = matrix[..., 0, :].sum(axis=-1)
    hits = matrix[..., 0, 0]
    return np.asarray(np.divide(hits, row, out=np.zeros_like(row), where=row > 0))


METRICS: dict[str, Metric] = {
    "f1_macro": f1_macro,
    "accuracy": accuracy,
    "recall_negative": recall_negative,
}


def score(y_true: Labels, y_pred: Labels, metric: str = "f1_macro") -> float:
    """One metric of `METRICS` on 0/1 labels of equal length."""
    return float(METRICS[metric](confusion(y_true, y_pred)))


def bootstrap_interval(
    y_true: Labels,
    y_pred: Labels,
    metric: str = "f1_macro",
    *,
    resamples: int = RESAMPLES,
    seed: int = 42,
) -> Interval:
    """The metric with its 95 % percentile interval (Efron & Tibshirani 1993, ch. 13)."""
    matrix = confusion(y_true, y_pred)
    draws = _resample(matrix.ravel(), resamples, seed).reshape(-1, *matrix.shape)
    return _interval(METRICS[metric](matrix), METRICS[metric](draws))


def paired_difference(
    y_true: Labels,
    y_pred: Labels,
    y_other: Labels,
    metric: str = "f1_macro",
    *,
    resamples: int = RESAMPLES,
    seed: int = 42,
) -> Interval:
    """The metric of `y_pred` less that of `y_other` on the same rows, with its 95 % interval.

    Rows are resampled in pairs, so that what both models find hard cancels out.
    """
    # 2 × 2 × 2 cells: true label, first prediction, other prediction
    cells = np.bincount(
        np.asarray(y_true) * 4 + np.asarray(y_pred) * 2 + np.asarray(y_other), minlength=8
    )
    cube = cells.reshape(2, 2, 2).astype(np.float64)
    draws = _resample(cube.ravel(), resamples, seed).reshape(-1, 2, 2, 2)
    measure = METRICS[metric]
    return _interval(
        measure(cube.sum(axis=-1)) - measure(cube.sum(axis=-2)),
        measure(draws.sum(axis=-1)) - measure(draws.sum(axis=-2)),
    )


def brier_interval(y_true: Labels, probability: Floats, *, seed: int = 42) -> Interval:
    """Brier score of probabilities of label 1 with its 95 % percentile interval; 0 is best.

    The mean squared difference to the labels, 0–1 (Brier 1950, "Verification of forecasts
    expressed in terms of probability"); a constant forecast at the share s scores s(1 - s).
    """
    squared = (np.asarray(probability) - np.asarray(y_true)) ** 2
    if len(squared) == 0:
        raise ValueError("no rows to resample; expected at least one prediction")
    generator = np.random.default_rng(seed)
    means = [squared[generator.integers(0, len(squared), len(squared))].mean() for _ in range(1000)]
    return _interval(squared.mean(), np.asarray(means))


def reliability_table(y_true: Labels, probability: Floats, bins: int = 10) -> pd.DataFrame:
    """How often forecasts came true: rows of `bins` groups of equal size, by probability.

    Columns `forecast` (mean probability of label 1), `share` (of reviews with label 1) and
    `reviews`. Groups whose probabilities are all alike fall together.
    """
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1]))
    group = np.searchsorted(edges, probability, side="right")
    frame = pd.DataFrame({"group": group, "forecast": probability, "share": y_true})
    table = frame.groupby("group").agg(
        forecast=("forecast", "mean"), share=("share", "mean"), reviews=("share", "size")
    )
    return table.reset_index(drop=True)


def per_class_table(y_true: Labels, y_pred: Labels, class_names: tuple[str, ...]) -> pd.DataFrame:
    """One row a class: `class`, `precision`, `recall`, `f1` (0–1) and `reviews` (true count)."""
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


def _resample(cells: Floats, resamples: int, seed: int) -> Floats:
    rows = int(cells.sum())
    if rows == 0:
        raise ValueError("no rows to resample; expected at least one prediction")
    draws = np.random.default_rng(seed).multinomial(rows, cells / rows, size=resamples)
    return draws.astype(np.float64)


def _interval(value: Floats, draws: Floats) -> Interval:
    tail = (1 - CONFIDENCE) / 2 * 100
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Interval(float(value), float(low), float(high))
