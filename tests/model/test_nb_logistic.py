"""Logistic regression on log-count ratios, against the paper's formulas written plainly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from sentiment.model.calibration import decision_values, linear_form, term_weights
from sentiment.model.nb_logistic import NBLogisticRegression

# Six texts, three terms: the first is only in positive ones, the last in all but one
VALUES = np.array(
    [[0.6, 0.0, 0.8], [1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 0.6, 0.8], [0.0, 1.0, 0.0], [0, 0, 1]]
)
LABELS = np.array([1, 1, 1, 0, 0, 1])


def plain_weights(values: Any, labels: Any, c: float, alpha: float) -> tuple[Any, float]:
    """Minimise the penalised balanced loss on values times ratio by a general optimiser."""
    p, n = (alpha + (values[labels == label] > 0).sum(axis=0) for label in (1, 0))
    ratio = np.log((p / p.sum()) / (n / n.sum()))
    weight = np.where(labels == 1, *(len(labels) / (2 * (labels == x).sum()) for x in (1, 0)))
    scaled, sign = np.column_stack([values * ratio, np.ones(len(values))]), 2 * labels - 1

    def loss(w: Any) -> Any:  # liblinear's penalty holds for the intercept as well
        return w @ w / 2 + c * (weight * np.log1p(np.exp(-sign * (scaled @ w)))).sum()

    *found, intercept = minimize(loss, np.zeros(scaled.shape[1]), tol=1e-12).x
    return np.array(found) * ratio, intercept


@pytest.mark.parametrize(("c", "alpha"), [(0.7, 1.0), (3.0, 0.25)])
def test_weights_are_those_of_the_paper(c: float, alpha: float) -> None:
    model = NBLogisticRegression(C=c, alpha=alpha, random_state=0, max_iter=1000)
    model.tol = 1e-8
    matrix = csr_matrix(VALUES)
    model.fit(matrix, LABELS)
    weights, intercept = plain_weights(VALUES, LABELS, c, alpha)
    np.testing.assert_allclose(model.coef_[0], weights, atol=1e-4)
    assert model.intercept_[0] == pytest.approx(intercept, abs=1e-4)
    # one weight a term, in the unit of the values, which are left as they were
    np.testing.assert_allclose(model.decision_function(matrix), VALUES @ weights + intercept, 1e-3)
    assert (matrix.toarray() == VALUES).all()


def test_what_is_kept_in_a_file_is_scikit_learns_own() -> None:
    model = NBLogisticRegression().fit(csr_matrix(VALUES), LABELS)
    kept = linear_form(model)
    assert type(kept) is LogisticRegression
    assert kept.decision_function(VALUES).tolist() == decision_values(model, VALUES).tolist()
    weights = term_weights(model)
    assert weights is not None and weights.tolist() == model.coef_[0].tolist()


def test_it_can_be_cloned_with_its_parameters() -> None:
    copied = clone(NBLogisticRegression(C=3.0, alpha=2.0, random_state=1))
    assert (copied.C, copied.alpha, copied.random_state) == (3.0, 2.0, 1)
    assert copied.class_weight == "balanced"


@pytest.mark.parametrize(
    ("settings", "values", "labels", "message"),
    [
        ({"alpha": 0}, VALUES, LABELS, "alpha 0: expected a smoothing above 0"),
        ({}, -VALUES, LABELS, "negative values"),
        ({}, VALUES, np.ones(6), "1 classes: expected two"),
    ],
)
def test_what_has_no_ratio_is_refused(
    settings: dict[str, Any], values: Any, labels: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        NBLogisticRegression(**settings).fit(csr_matrix(values), labels)
