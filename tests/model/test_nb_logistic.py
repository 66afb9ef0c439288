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


def plain_weights(
    values: Any, labels: Any, c: float, alpha: float, beta: float
) -> tuple[Any, float]:
    """Minimise the penalised balanced losses by a general optimiser, and mix as the paper does."""
    p, n = (alpha + (values[labels == label] > 0).sum(axis=0) for label in (1, 0))
    ratio = np.log((p / p.sum()) / (n / n.sum()))
    weight = np.where(labels == 1, *(len(labels) / (2 * (labels == x).sum()) for x in (1, 0)))
    sign = 2 * labels - 1

    def fitted(columns: Any, c: float, penalised: Any) -> Any:
        def loss(w: Any) -> Any:
            errors = weight * np.log1p(np.exp(-sign * (columns @ w)))
            return (penalised * w) @ w / 2 + c * errors.sum()

        return minimize(loss, np.zeros(columns.shape[1]), tol=1e-14).x

    ones = np.ones(len(values))
    # liblinear's penalty holds for the intercept as well
    *found, _ = fitted(np.column_stack([values * ratio, ones]), c, np.ones(4))
    mixture = (beta * np.array(found) + (1 - beta) * np.abs(found).mean()) * ratio
    scale, intercept = fitted(np.column_stack([values @ mixture, ones]), 100.0, np.array([1, 0]))
    return scale * mixture, intercept


@pytest.mark.parametrize(("c", "alpha", "beta"), [(0.7, 1.0, 0.25), (3.0, 0.25, 0.8)])
def test_weights_are_those_of_the_paper(c: float, alpha: float, beta: float) -> None:
    model = NBLogisticRegression(C=c, alpha=alpha, beta=beta, random_state=0, max_iter=1000)
    model.tol = 1e-8
    matrix = csr_matrix(VALUES)
    model.fit(matrix, LABELS)
    weights, intercept = plain_weights(VALUES, LABELS, c, alpha, beta)
    np.testing.assert_allclose(model.coef_[0], weights, rtol=2e-3)
    assert model.intercept_[0] == pytest.approx(intercept, rel=2e-3)
    # one weight a term, in the unit of the values, which are left as they were
    np.testing.assert_allclose(model.decision_function(matrix), VALUES @ weights + intercept, 1e-2)
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
        ({"alpha": 0}, VALUES, LABELS, "'alpha' parameter"),
        ({"beta": 1.5}, VALUES, LABELS, "'beta' parameter"),
        ({}, -VALUES, LABELS, "negative values"),
        ({}, VALUES, np.ones(6), "1 classes: expected two"),
    ],
)
def test_what_has_no_ratio_is_refused(
    settings: dict[str, Any], values: Any, labels: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        NBLogisticRegression(**settings).fit(csr_matrix(values), labels)
