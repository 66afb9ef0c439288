"""Calibration: the sigmoid against scikit-learn's own, and labels that agree with thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import BAD, GOOD, THINGS
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from calibration import (
    CalibratedClassifier,
    decision_values,
    fit_sigmoid,
    intercept,
    term_weights,
)
from sentiment.training.folds import FoldMatrices

MODELS: list[Any] = [
    LogisticRegression(C=0.5, class_weight="balanced", solver="liblinear", random_state=42),
    MultinomialNB(alpha=0.3),
    LinearSVC(C=0.1, class_weight="balanced", random_state=42),
]


@pytest.fixture(scope="module")
def texts() -> tuple[list[str], Any]:
    rng = np.random.default_rng(5)
    labels = (rng.random(600) < 0.7).astype(np.int64)
    rows = []
    for label in labels:
        words = [*rng.choice(GOOD if label else BAD, 2), *rng.choice(THINGS, 2)]
        if rng.random() < 0.25:
            words.append(rng.choice(BAD if label else GOOD))
        rows.append(" ".join(words))
    return rows, labels


def test_the_sigmoid_is_the_one_scikit_learn_fits(texts: tuple[list[str], Any]) -> None:
    """CalibratedClassifierCV(ensemble=False) is the same method, for models with a margin."""
    rows, labels = texts
    model = make_pipeline(TfidfVectorizer(), MODELS[2])
    folds = StratifiedKFold(5, shuffle=True, random_state=42)
    theirs = CalibratedClassifierCV(model, method="sigmoid", cv=folds, ensemble=False)
    fitted = theirs.fit(rows, labels).calibrated_classifiers_[0].calibrators[0]
    ours = FoldMatrices(rows, labels).decisions(TfidfVectorizer(), MODELS[2])
    slope, offset = fit_sigmoid(ours, labels)
    # theirs is 1 / (1 + exp(a f + b)), found by another solver to a tolerance of its own
    assert slope == pytest.approx(-fitted.a_, rel=1e-3)
    assert offset == pytest.approx(-fitted.b_, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("model", [MODELS[0], MODELS[2]])
def test_decisions_are_out_of_fold(model: Any, texts: tuple[list[str], Any]) -> None:
    rows, labels = texts
    plain = cross_val_predict(
        make_pipeline(TfidfVectorizer(), model),
        rows,
        labels,
        cv=StratifiedKFold(5, shuffle=True, random_state=42),
        method="decision_function",
    )
    ours = FoldMatrices(rows, labels).decisions(TfidfVectorizer(), model)
    np.testing.assert_allclose(ours, plain, rtol=1e-12, atol=1e-14)


def test_two_points_by_hand() -> None:
    """One review a class at -1 and +1: targets 2/3 and 1/3, so the slope is log 2, the offset 0."""
    slope, offset = fit_sigmoid(np.array([-1.0, 1.0]), np.array([0, 1]))
    assert slope == pytest.approx(np.log(2), rel=1e-6)
    assert offset == pytest.approx(0, abs=1e-9)


def test_a_scale_of_the_margins_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    margins = rng.normal(size=300)
    labels = (margins + rng.normal(size=300) > 0).astype(np.int64)
    slope, offset = fit_sigmoid(margins, labels)
    tiny, same = fit_sigmoid(margins * 1e-4, labels)
    assert tiny == pytest.approx(slope * 1e4, rel=1e-5)
    assert same == pytest.approx(offset, rel=1e-5, abs=1e-7)


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="both classes"):
        fit_sigmoid(np.array([0.1, 0.2]), np.array([1, 1]))


@pytest.mark.parametrize("model", MODELS)
def test_labels_stay_the_classifiers_and_agree_with_the_threshold(
    model: Any, texts: tuple[list[str], Any]
) -> None:
    rows, labels = texts
    vectorizer = TfidfVectorizer(ngram_range=(1, 2))
    matrix = vectorizer.fit_transform(rows)
    fitted = clone(model).fit(matrix, labels)
    slope, offset = fit_sigmoid(FoldMatrices(rows, labels).decisions(vectorizer, model), labels)
    ours = CalibratedClassifier(fitted, slope, offset, float(labels.mean()))
    predicted = ours.predict(matrix)
    assert predicted.tolist() == fitted.predict(matrix).tolist()
    positive = ours.predict_proba(matrix)[:, 1]
    assert ((positive >= ours.threshold) == (predicted == 1)).all()
    assert 0 < positive.min() < positive.max() < 1


def test_label_and_probability_agree_next_to_the_boundary() -> None:
    ours = CalibratedClassifier(MODELS[0], 2.0, 0.7, 0.5)
    tiny = np.array([-1.0, -1e-17, -0.0, 0.0, 5e-324, 1e-17, 1.0])
    given = ours.probabilities(tiny)
    assert (given >= ours.threshold).tolist() == [False] * 4 + [True] * 3
    assert given[1] == pytest.approx(ours.threshold, abs=1e-15)


@pytest.mark.parametrize("model", MODELS)
def test_terms_times_weights_and_the_intercept_are_the_decision(
    model: Any, texts: tuple[list[str], Any]
) -> None:
    rows, labels = texts
    matrix = TfidfVectorizer().fit_transform(rows)
    fitted = clone(model).fit(matrix, labels)
    weights = term_weights(fitted)
    assert weights is not None
    values = decision_values(fitted, matrix)
    for row in range(50):
        total = 0.0
        for value, column in zip(matrix[row].data, matrix[row].indices, strict=True):
            total += float(value) * float(weights[column])
        assert total + intercept(fitted) == values[row]  # to the last bit
    if hasattr(fitted, "decision_function"):
        theirs = fitted.decision_function(matrix)
    else:
        log_odds = fitted.predict_joint_log_proba(matrix)
        theirs = log_odds[:, 1] - log_odds[:, 0]
    np.testing.assert_allclose(values, theirs, rtol=1e-9, atol=1e-12)


def test_a_row_without_terms_gets_the_prior() -> None:
    model = LogisticRegression().fit(np.array([[0.0, 1.0], [1.0, 0.0]]), [0, 1])
    ours = CalibratedClassifier(model, 1.0, 0.0, 0.82)
    given = ours.predict_proba(csr_matrix([[0.0, 0.0], [1.0, 0.0]]))
    assert given[0].tolist() == pytest.approx([0.18, 0.82])
    assert given[1, 1] != 0.82


def test_a_model_without_weights_gives_its_log_odds() -> None:
    model = DummyClassifier(strategy="prior").fit(np.zeros((4, 1)), [0, 1, 1, 1])
    assert term_weights(model) is None and intercept(model) == 0.0
    assert decision_values(model, np.zeros((2, 1))).tolist() == pytest.approx([np.log(3)] * 2)
