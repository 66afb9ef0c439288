"""Calibration against scikit-learn's own, labels that stay the classifier's, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import BAD, GOOD, THINGS
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, StratifiedKFold
from sklearn.naive_bayes import BernoulliNB, ComplementNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC

from sentiment.data.reviews import load_reviews
from sentiment.errors import CalibrationError
from sentiment.model.algorithms import build_candidate
from sentiment.model.calibration import (
    DecisionRule,
    calibrate,
    decision_values,
    linear_form,
    read_calibration,
    term_weights,
    threshold_at_recall,
)
from sentiment.training.folds import FoldMatrices
from sentiment.training.report import fit_and_evaluate, folds_of, prepare_reviews

FOLDS = StratifiedKFold(5, shuffle=True, random_state=42)
MODELS: dict[str, Any] = {
    "LR": LogisticRegression(C=0.5, class_weight="balanced", solver="liblinear", random_state=42),
    "NB": MultinomialNB(alpha=0.3),
    "complement NB": ComplementNB(alpha=0.3),
    "SVM": LinearSVC(C=0.1, class_weight="balanced", random_state=42),
}
Texts = tuple[list[str], Any]


@pytest.fixture(scope="module")
def texts() -> Texts:
    rng = np.random.default_rng(5)
    labels = (rng.random(600) < 0.7).astype(np.int64)
    rows = []
    for label in labels:
        words = [*rng.choice(GOOD if label else BAD, 2), *rng.choice(THINGS, 2)]
        if rng.random() < 0.25:
            words.append(rng.choice(BAD if label else GOOD))
        rows.append(" ".join(words))
    return rows, labels


@pytest.fixture(scope="module")
def matrix(texts: Texts) -> Any:
    return TfidfVectorizer().fit_transform(texts[0])


def calibrated(model: Any, texts: Texts, matrix: Any) -> FixedThresholdClassifier:
    rows, labels = texts
    fitted = clone(model).fit(matrix, labels)
    decisions = FoldMatrices(rows, labels).decisions(TfidfVectorizer(), model)
    return calibrate(fitted, decisions, matrix, labels)


@pytest.mark.parametrize("algorithm", ["LogisticRegression", "LinearSVM"])
def test_training_calibrates_on_reviews_that_the_model_has_not_seen(
    algorithm: str, small_reviews: Path
) -> None:
    """Against scikit-learn's own calibration, which fits the vectorizer of each fold anew."""
    data = prepare_reviews(load_reviews(small_reviews))
    params = {"C": 2.0, "max_features": 3000, "min_df": 3, "max_df": 0.9}
    candidate = build_candidate(algorithm, params)
    fitted = fit_and_evaluate(algorithm, candidate, data, folds_of(data))
    ours = fitted.pipeline["model"].predict_proba(candidate.vectorizer.transform(data.cleaned_test))

    pipeline = make_pipeline(clone(candidate.vectorizer), clone(candidate.model))
    theirs = CalibratedClassifierCV(pipeline, method="sigmoid", cv=FOLDS, ensemble=False)
    theirs.fit(data.cleaned_train, data.split.y_train)
    np.testing.assert_allclose(ours, theirs.predict_proba(data.cleaned_test), atol=1e-5)

    # decisions about reviews that it has seen give other probabilities
    train = candidate.vectorizer.transform(data.cleaned_train)
    seen = decision_values(candidate.model, train)
    wrong = calibrate(candidate.model, seen, train, data.split.y_train)
    test = candidate.vectorizer.transform(data.cleaned_test)
    assert np.abs(wrong.predict_proba(test) - ours).max() > 0.005


def test_two_points_by_hand() -> None:
    """One review a class at -1 and +1: targets 2/3 and 1/3, so the slope is log 2, the offset 0."""
    matrix, labels = csr_matrix([[0.0, 1.0], [1.0, 0.0]]), np.array([0, 1])
    model = LogisticRegression().fit(matrix, labels)
    found = read_calibration(calibrate(model, np.array([-1.0, 1.0]), matrix, labels))
    assert found.slope == pytest.approx(np.log(2), rel=1e-5)
    assert found.offset == pytest.approx(0, abs=1e-6)
    assert found.threshold == pytest.approx(0.5, abs=1e-6)
    assert found.prior == 0.5


@pytest.mark.parametrize("name", MODELS)
def test_labels_stay_the_classifiers_and_what_is_served_are_the_pipelines_bits(
    name: str, texts: Texts, matrix: Any
) -> None:
    ours = calibrated(MODELS[name], texts, matrix)
    own = clone(MODELS[name]).fit(matrix, texts[1]).predict(matrix)
    assert ours.predict(matrix).tolist() == own.tolist()
    positive = ours.predict_proba(matrix)[:, 1]
    assert ((positive >= ours.threshold) == (own == 1)).all()
    assert 0 < positive.min() < positive.max() < 1
    decisions, probabilities = read_calibration(ours).answers(matrix)
    assert probabilities.tolist() == positive.tolist()
    assert ((decisions > 0) == (own == 1)).all()


def test_the_label_turns_where_the_decision_turns_positive() -> None:
    """As scikit-learn's classifiers have it: 0 is negative, and anything above is not."""
    matrix, labels = csr_matrix([[-1.0], [0.0], [1.0], [2.0]]), np.array([0, 0, 1, 1])
    model = LogisticRegression(fit_intercept=False).fit(matrix, labels)
    ours = calibrate(model, np.array([-1.0, 0.5, 0.2, 1.0]), matrix, labels)
    assert ours.predict(matrix).tolist() == model.predict(matrix).tolist() == [0, 0, 1, 1]
    near = csr_matrix([[-1e-3], [0.0], [1e-9], [1e-3], [0.1]])
    assert model.decision_function(near)[-1] < 0.1
    assert ours.predict(near).tolist() == [0, 0, 1, 1, 1]


def test_a_row_without_terms_gets_the_prior() -> None:
    matrix, labels = csr_matrix([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0]]), np.array([0, 1, 1])
    model = LogisticRegression().fit(matrix, labels)
    ours = read_calibration(calibrate(model, np.array([-1.0, 1.0, 2.0]), matrix, labels))
    decisions, probabilities = ours.answers(csr_matrix([[0.0, 0.0], [1.0, 0.0]]))
    assert probabilities[0] == ours.prior == pytest.approx(2 / 3)
    assert probabilities[1] != ours.prior
    assert decisions[0] == ours.intercept == model.intercept_[0]


# --- a threshold by the recall of negative ---


@pytest.mark.parametrize(
    ("recall", "above", "lost"),
    [(0.01, 0.1, 0), (0.25, 0.1, 0), (0.5, 0.2, 0), (0.75, 0.3, 0), (0.76, 0.4, 1), (0.99, 0.4, 1)],
)
def test_the_threshold_by_hand(recall: float, above: float, lost: int) -> None:
    """Just above the negative review that makes the share full; `lost` positive ones go with it."""
    probabilities = np.array([0.4, 0.1, 0.9, 0.3, 0.35, 0.2])
    labels = np.array([0, 0, 1, 0, 1, 0])
    found = threshold_at_recall(probabilities, labels, recall)
    assert above < found < above + 1e-12
    assert (probabilities[labels == 1] < found).sum() == lost


def test_equal_probabilities_are_on_one_side() -> None:
    probabilities, labels = np.array([0.2, 0.2, 0.2, 0.9]), np.array([0, 0, 0, 1])
    found = threshold_at_recall(probabilities, labels, 0.4)
    assert 0.2 < found < 0.9  # 2 of 3 would do, 3 of 3 it is


@pytest.mark.parametrize(
    ("probabilities", "recall"), [([0.1, 0.8, 0.5, 0.6], 0.9), ([0.1, 1.0, 0.5, 1.0], 0.9)]
)
def test_a_recall_that_costs_every_positive_review_is_out_of_reach(
    probabilities: list[float], recall: float
) -> None:
    labels = np.array([0, 0, 1, 1])
    with pytest.raises(
        CalibrationError, match=r"recall of negative of 0\.9 is out of reach"
    ) as said:
        threshold_at_recall(np.array(probabilities), labels, recall)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("recall", [0.3, 0.85, 0.95])
@pytest.mark.parametrize("name", MODELS)
def test_the_lowest_threshold_with_that_recall_is_served(
    name: str, recall: float, texts: Texts, matrix: Any
) -> None:
    """Against a search of all thresholds just above an out-of-fold probability."""
    rows, labels = texts
    model = clone(MODELS[name]).fit(matrix, labels)
    decisions = FoldMatrices(rows, labels).decisions(TfidfVectorizer(), MODELS[name])
    ours = calibrate(model, decisions, matrix, labels, DecisionRule(recall))
    own = calibrate(model, decisions, matrix, labels)
    served = read_calibration(ours)
    unseen = 1 / (1 + np.exp(-(served.slope * decisions + served.offset)))
    negative = unseen[np.asarray(labels) == 0]
    cuts = np.sort(np.nextafter(negative, 1))
    lowest = next(cut for cut in cuts if np.mean(negative < cut) >= recall)
    assert served.threshold == pytest.approx(lowest, abs=1e-12)
    assert np.mean(negative < served.threshold) >= recall
    # nothing else is changed
    np.testing.assert_array_equal(ours.predict_proba(matrix), own.predict_proba(matrix))
    positive = own.predict_proba(matrix)[:, 1] >= served.threshold
    assert ours.predict(matrix).tolist() == positive.astype(int).tolist()


def test_a_rule_is_kept_as_a_tag() -> None:
    for rule in (DecisionRule(), DecisionRule(0.85), DecisionRule(1 / 3)):
        assert DecisionRule.of_tag(str(rule)) == rule
    assert DecisionRule.of_tag(None) == DecisionRule()


# --- weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_terms_times_weights_and_then_the_intercept_are_the_decision(
    name: str, texts: Texts, matrix: Any
) -> None:
    fitted = clone(MODELS[name]).fit(matrix, texts[1])
    weights = term_weights(fitted)
    assert weights is not None
    intercept = float(linear_form(fitted).intercept_[0])
    values = decision_values(fitted, matrix)
    for row in range(50):
        total = 0.0
        for column in sorted(matrix[row].indices):
            total += float(matrix[row, column]) * float(weights[column])
        assert total + intercept == pytest.approx(values[row], rel=1e-12, abs=1e-14)
    if hasattr(fitted, "decision_function"):
        theirs = fitted.decision_function(matrix)
    else:
        log_odds = fitted.predict_joint_log_proba(matrix)
        theirs = log_odds[:, 1] - log_odds[:, 0]
    np.testing.assert_allclose(values, theirs, rtol=1e-9, atol=1e-12)


# --- what is refused, and what is not linear -----------------------------------------------------


def test_a_model_that_has_learnt_nothing_is_refused(matrix: Any) -> None:
    noise = np.random.default_rng(1).integers(0, 2, 600)
    fitted = LogisticRegression().fit(matrix, noise)
    upside_down = -fitted.decision_function(matrix)
    with pytest.raises(CalibrationError, match="not more often positive"):
        calibrate(fitted, upside_down, matrix, noise)


@pytest.mark.parametrize("model", [RandomForestClassifier(3), BernoulliNB()])
def test_a_classifier_without_a_decision_function_is_refused(
    model: Any, texts: Texts, matrix: Any
) -> None:
    with pytest.raises(CalibrationError, match=f"{type(model).__name__} has no decision function"):
        calibrated(model, texts, matrix)


def test_a_classifier_that_is_not_linear_is_served_without_weights(
    texts: Texts, matrix: Any
) -> None:
    ours = calibrated(SVC(), texts, matrix)
    found = read_calibration(ours)
    assert found.weights is None and found.intercept == 0
    assert found.answers(matrix)[1].tolist() == ours.predict_proba(matrix)[:, 1].tolist()


def test_only_what_calibrate_made_can_be_read() -> None:
    for model in (LogisticRegression(), FixedThresholdClassifier(LogisticRegression())):
        with pytest.raises(CalibrationError, match="not calibrated"):
            read_calibration(model)
