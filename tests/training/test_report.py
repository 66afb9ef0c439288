"""What is reported of a model is what it answers, and its fingerprint is all it follows from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sentiment.data.labels import LabelRule
from sentiment.data.reviews import load_reviews
from sentiment.flows.retraining import published_candidate
from sentiment.model.algorithms import build_candidate, logged_parameters
from sentiment.model.calibration import DecisionRule
from sentiment.training import report
from sentiment.training.report import fit_and_evaluate, folds_of, prepare_reviews
from sentiment.training.report import training_fingerprint as fingerprint

# Of `MODEL_VERSION` 1, written down on the day it was set
ANSWERS_OF_VERSION = [0.763230, 0.008714, 0.948170, 0.032278]
PARAMS = {"C": 0.7431298, "max_features": 4000, "min_df": 4, "max_df": 0.8939611817674713}


def test_the_scores_are_those_of_the_pipelines_own_answers(small_reviews: Path) -> None:
    data = prepare_reviews(load_reviews(small_reviews))
    candidate = build_candidate("NaiveBayes", {**PARAMS, "alpha": 0.5})
    fitted = fit_and_evaluate("NaiveBayes", candidate, data, folds_of(data))
    truth, texts = data.split.y_test, data.split.test_texts
    probability = fitted.pipeline.predict_proba(texts)[:, 1]
    np.testing.assert_allclose(fitted.probability, probability, atol=1e-12)
    assert fitted.test_brier.value == pytest.approx(np.mean((probability - truth) ** 2))
    labels = fitted.pipeline.predict(texts)
    assert (
        fitted.predicted.tolist() == labels.tolist() == (fitted.decision > 0).astype(int).tolist()
    )
    assert fitted.test_accuracy.value == np.mean(labels == truth)
    assert fitted.test_recall_negative.value == np.mean(labels[truth == 0] == 0)


def test_it_depends_on_all_a_model_follows_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = fingerprint("digest", published_candidate())
    assert first == fingerprint("digest", published_candidate())
    assert len(first) == 16 and int(first, 16) >= 0
    found = {first, fingerprint("other", published_candidate())}
    changed = published_candidate()
    changed.model.set_params(max_iter=2000)
    found.add(fingerprint("digest", changed))
    changed = published_candidate()
    changed.vectorizer.set_params(min_df=4)
    found.add(fingerprint("digest", changed))
    found.add(fingerprint("digest", published_candidate(), "published"))
    found.add(fingerprint("digest", published_candidate(), rule=LabelRule(drop_neutral=True)))
    decision = DecisionRule(0.85)
    found.add(fingerprint("digest", published_candidate(), decision=decision))
    for name, value in (("MODEL_VERSION", 0), ("cleaning_fingerprint", lambda _: "another")):
        monkeypatch.setattr(report, name, value)
        found.add(fingerprint("digest", published_candidate()))
    assert len(found) == 9


def test_the_version_of_the_code_is_raised_when_it_makes_another_model(
    small_reviews: Path,
) -> None:
    """Where this fails and the change was meant: raise `MODEL_VERSION`, and put the new values in.

    Not for a change of the reviews of the tests, nor of scikit-learn's in the last digits.
    """
    data = prepare_reviews(load_reviews(small_reviews))
    folds, answers = folds_of(data), []
    for algorithm, params in (("LogisticRegression", PARAMS), ("NaiveBayes", {"alpha": 0.5})):
        candidate = build_candidate(algorithm, {**PARAMS, **params})
        fitted = fit_and_evaluate(algorithm, candidate, data, folds)
        answers += fitted.pipeline.predict_proba(["good grip not bad", "bad cork"])[:, 1].tolist()
    assert report.MODEL_VERSION == 1
    np.testing.assert_allclose(answers, ANSWERS_OF_VERSION, atol=2e-6)


def test_fitting_a_candidate_does_not_change_it() -> None:
    candidate = build_candidate("LogisticRegression", {**PARAMS, "min_df": 3})
    before = fingerprint("digest", candidate)
    matrix = candidate.vectorizer.fit_transform(["good grip", "good box", "good bat", "bad bat"])
    candidate.model.fit(matrix, [1, 1, 1, 0])
    assert fingerprint("digest", candidate) == before


@pytest.mark.parametrize(
    ("algorithm", "params"),
    [
        ("LogisticRegression", PARAMS),
        ("NaiveBayes", {**PARAMS, "alpha": 0.1 + 0.2}),
        ("LinearSVM", {**PARAMS, "C": 1e-2}),
    ],
)
def test_a_candidate_rebuilt_from_what_was_logged_has_the_same(
    algorithm: str, params: dict[str, float]
) -> None:
    """MLflow keeps strings, and the retraining reads them in the wider space."""
    searched = build_candidate(algorithm, params, "published")
    logged = {name: str(value) for name, value in logged_parameters(algorithm, searched).items()}
    rebuilt = build_candidate(algorithm, logged, "guide")
    assert fingerprint("digest", rebuilt) == fingerprint("digest", searched)
