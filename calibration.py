"""Calibration: a fitted classifier with Platt's sigmoid on its decision values, and its own label.

The probabilities of logistic regression, naive Bayes and the SVM are on one scale: all come from a
sigmoid fitted on decision values that the training part got from models that had not seen it.
The label stays the classifier's: with balanced class weights its boundary does not lie at a
probability of one half but at `threshold`.

This file is stored inside every model, so it imports none of the project's other files.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def term_weights(model: Any) -> Floats | None:
    """The weight of each term towards positive, shape (terms,); None for models without any.

    A linear model's coefficients, or the difference of naive Bayes' log probabilities.
    """
    if hasattr(model, "coef_"):
        return np.asarray(model.coef_[0], dtype=np.float64)
    if hasattr(model, "feature_log_prob_"):
        return np.asarray(model.feature_log_prob_[1] - model.feature_log_prob_[0])
    return None


def intercept(model: Any) -> float:
    """What the decision value is without a single known term: the bias, or the prior's log odds."""
    if hasattr(model, "intercept_"):
        return float(np.ravel(model.intercept_)[0])
    if hasattr(model, "class_log_prior_"):
        return float(model.class_log_prior_[1] - model.class_log_prior_[0])
    return 0.0


def decision_values(model: Any, matrix: Any) -> Floats:
    """A score per row that is above 0 where the classifier says positive; shape (rows,).

    For models with term weights it is the sum of term value times weight, plus the intercept, term
    by term in the order of the columns. Others give their margin or the log odds.
    """
    weights = term_weights(model)
    if weights is not None:
        return np.asarray(matrix @ weights + intercept(model), dtype=np.float64)
    if hasattr(model, "decision_function"):
        return np.asarray(model.decision_function(matrix), dtype=np.float64)
    odds = np.clip(model.predict_proba(matrix)[:, 1], 1e-12, 1 - 1e-12)
    return np.asarray(np.log(odds / (1 - odds)), dtype=np.float64)


def fit_sigmoid(decisions: Floats, labels: Labels) -> tuple[float, float]:
    """Slope and offset of `expit(slope * decision + offset)`, fitted by maximum likelihood.

    `decisions` must come from models that were not trained on their rows. The targets are Platt's:
    (N₊ + 1) / (N₊ + 2) and 1 / (N₋ + 2) in place of 1 and 0 (Platt 1999, "Probabilistic outputs
    for support vector machines", section 2.2), given to the solver as weights of two copies of each
    row. Raises `ValueError` when a class is missing.
    """
    positive = np.asarray(labels) == 1
    count = int(positive.sum())
    if not 0 < count < len(positive):
        raise ValueError("a sigmoid needs reviews of both classes")
    target = np.where(positive, (count + 1) / (count + 2), 1 / (len(positive) - count + 2))
    # one unit for both columns of the fit, whatever the scale of the margins
    scale = float(np.std(decisions)) or 1.0
    column = np.asarray(decisions, dtype=np.float64)[:, None] / scale
    solver = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=1_000)
    solver.fit(
        np.vstack([column, column]),
        np.repeat([1, 0], len(column)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    return float(solver.coef_[0, 0]) / scale, float(solver.intercept_[0])


class CalibratedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """A fitted binary classifier, last step of the pipeline: labels 0/1 and their probabilities.

    Parameters
    ----------
    model : classifier
        Fitted on TF-IDF rows with the labels 0 and 1.
    slope, offset : float
        The sigmoid on the model's decision values, as `fit_sigmoid` gives them.
    prior : float
        Share of positive reviews in the training part, 0–1: the answer for a row without terms.

    Notes
    -----
    `predict` gives 1 exactly where `predict_proba` gives at least `threshold`, but for rows without
    a known term, whose probability is `prior` and whose label means nothing.

    """

    def __init__(self, model: Any, slope: float, offset: float, prior: float) -> None:
        self.model = model
        self.slope = slope
        self.offset = offset
        self.prior = prior

    @property
    def classes_(self) -> Labels:
        """The labels, 0 and 1."""
        return np.array([0, 1])

    @property
    def threshold(self) -> float:
        """The probability at the classifier's own boundary, 0–1."""
        return float(expit(self.offset))

    def fit(self, X: Any, y: Any = None) -> "CalibratedClassifier":
        """Raise `TypeError`: the parts are fitted before they are put together."""
        raise TypeError("a CalibratedClassifier is made of fitted parts; fit those")

    def decision_function(self, X: Any) -> Floats:
        """Decision values of TF-IDF rows, shape (rows,); see `decision_values`."""
        return decision_values(self.model, X)

    def predict(self, X: Any) -> Labels:
        """The classifier's own labels, 0 or 1, shape (rows,)."""
        return (self.decision_function(X) > 0).astype(np.int64)

    def predict_proba(self, X: Any) -> Floats:
        """Probabilities of negative and positive, shape (rows, 2)."""
        positive = self.probabilities(self.decision_function(X))
        positive[np.diff(X.indptr) == 0] = self.prior
        return np.column_stack([1 - positive, positive])

    def probabilities(self, decisions: Floats) -> Floats:
        """The sigmoid of decision values, kept on the label's side of `threshold`.

        A decision value that is nearly 0 rounds to the threshold itself, whichever side it is on.
        """
        raw = expit(self.slope * decisions + self.offset)
        at = self.threshold
        return np.where(decisions > 0, np.maximum(raw, at), np.minimum(raw, np.nextafter(at, 0)))

    def __sklearn_is_fitted__(self) -> bool:
        return True
