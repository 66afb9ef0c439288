"""Logistic regression on terms that are weighted by naive Bayes' log-count ratio."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.utils._param_validation import Interval

from sentiment.metrics import Bools, Floats

BOUNDARY_C = 100.0  # two numbers on hundreds of reviews need no penalty to speak of


class NBLogisticRegression(LogisticRegression):  # type: ignore[misc]  # scikit-learn is untyped
    """Logistic regression on terms times naive Bayes' log-count ratio, which ends in `coef_`.

    The ratio of a term is `log((alpha + p) / |alpha + p|) - log((alpha + n) / |alpha + n|)`: `p`
    and `n` count the positive and the negative texts that have it, `|.|` sums over all terms. A
    term that says much of the class gets a large value, which the penalty then shrinks less (Wang &
    Manning 2012, "Baselines and bigrams: simple, good sentiment and topic classification"). They
    apply it to presence (0 or 1), this class to the vectorizer's values.

    As in their paper, each weight is `beta` times the fitted one plus `1 - beta` times the mean
    size of all. The second part alone is naive Bayes, which is steady for rare terms, where a
    fitted weight says little. A logistic regression on the mixture then sets its scale and its
    boundary.

    A fitted one is linear in the terms' own values: the ratio is folded into `coef_`. So it is one
    weight a term, and predicts as `LogisticRegression` does.

    Parameters
    ----------
    C : float, default 1.0
        Inverse strength of the penalty.
    alpha : float, default 1.0
        Smoothing of the ratio, in texts, above 0.
    beta : float, default 0.25
        Share of the fitted weights in the mixture, 0–1; the default is Wang & Manning's.
    solver, class_weight, max_iter, random_state
        As in `LogisticRegression`.

    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **LogisticRegression._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "beta": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        C: float = 1.0,
        alpha: float = 1.0,
        beta: float = 0.25,
        *,
        solver: str = "liblinear",
        class_weight: str | dict[int, float] | None = "balanced",
        max_iter: int = 100,
        random_state: int | None = None,
    ) -> None:
        super().__init__(
            C=C,
            solver=solver,
            class_weight=class_weight,
            max_iter=max_iter,
            random_state=random_state,
        )
        self.alpha = alpha
        self.beta = beta

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit on values of at least 0, shape (n, terms), and labels of two classes.

        Raises `ValueError` for other values, for another number of classes, and for a parameter out
        of its range.
        """
        self._validate_params()
        matrix, labels = csr_matrix(X, dtype=np.float64, copy=True), np.asarray(y)
        matrix.eliminate_zeros()
        classes = np.unique(labels)
        if len(classes) != 2:
            raise ValueError(f"{len(classes)} classes: expected two")
        if matrix.nnz and matrix.data.min() < 0:
            raise ValueError("negative values: expected term counts or TF-IDF")
        ratio = _log_count_ratio(matrix, labels == classes[1], self.alpha)
        matrix.data *= ratio[matrix.indices]
        super().fit(matrix, labels, sample_weight)
        fitted = self.coef_[0]
        mixture = self.beta * fitted + (1 - self.beta) * np.abs(fitted).mean()
        boundary = LogisticRegression(C=BOUNDARY_C, class_weight=self.class_weight, tol=1e-8)
        boundary.fit((matrix @ mixture)[:, np.newaxis], labels, sample_weight)
        weights = boundary.coef_[0, 0] * mixture * ratio
        # the model file is 6 % smaller without digits that nothing can depend on
        self.coef_: Any = np.float32(weights[np.newaxis]).astype(np.float64)
        self.intercept_: Any = boundary.intercept_
        return self


def _log_count_ratio(matrix: Any, positive: Bools, alpha: float) -> Floats:
    """Return each term's log-count ratio, shape (terms,), above 0 where it speaks for positive."""
    in_positive = np.repeat(positive, np.diff(matrix.indptr))
    counts = [
        alpha + np.bincount(matrix.indices[of_class], minlength=matrix.shape[1])
        for of_class in (in_positive, ~in_positive)
    ]
    share, other = (of_class / of_class.sum() for of_class in counts)
    return np.asarray(np.log(share) - np.log(other))
