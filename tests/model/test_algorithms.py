"""Search spaces against the published ones, rebuilding from records, and a fourth algorithm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

import sentiment_mlflow_optuna as script
from sentiment.data.reviews import load_reviews, split_reviews, text_hashes
from sentiment.drift.features import row_features
from sentiment.drift.reference import read_reference
from sentiment.errors import CalibrationError
from sentiment.flows.retraining import choose, unchanged_since
from sentiment.metrics import score
from sentiment.model.algorithms import (
    ALGORITHMS,
    GUIDES_ALGORITHMS,
    MANY_TEXTS,
    Candidate,
    SearchSpace,
    build_candidate,
    logged_parameters,
    suggest_candidate,
    suggest_vectorizer,
)
from sentiment.model.predictor import load_version
from sentiment.predictions.feedback import with_feedback
from sentiment.tracking.store import open_store
from sentiment.training.report import fit_and_evaluate, folds_of, prepare_reviews
from text_cleaning import TextCleaner, clean_texts, cleaning_fingerprint

PUBLISHED: dict[str, dict[str, BaseDistribution]] = {
    "LogisticRegression": {
        "C": FloatDistribution(0.01, 2.0, log=True),
        "max_features": IntDistribution(2000, 5000, step=500),
    },
    "NaiveBayes": {
        "alpha": FloatDistribution(0.01, 1.0, log=True),
        "max_features": IntDistribution(3000, 10000, step=1000),
    },
    "LinearSVM": {
        "C": FloatDistribution(0.01, 2.0, log=True),
        "max_features": IntDistribution(3000, 10000, step=1000),
    },
}
FIXED: dict[str, tuple[Any, dict[str, Any]]] = {
    "LogisticRegression": (
        LogisticRegression,
        {"solver": "liblinear", "class_weight": "balanced", "random_state": 42},
    ),
    "NaiveBayes": (MultinomialNB, {"fit_prior": True}),
    "LinearSVM": (LinearSVC, {"class_weight": "balanced", "max_iter": 5000, "random_state": 42}),
}
RECORDED: dict[str, Any] = {"C": 0.5, "max_features": 4000, "min_df": 4, "max_df": 0.8}


def ask(algorithm: str, space: SearchSpace) -> tuple[dict[str, BaseDistribution], Candidate]:
    """Draw one candidate; return what was asked for, and it."""
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3)).ask()
    candidate = suggest_candidate(algorithm, trial, space)
    return trial.distributions, candidate


@pytest.mark.parametrize("algorithm", GUIDES_ALGORITHMS)
def test_spaces_and_fixed_settings_are_the_published_ones(algorithm: str) -> None:
    asked, candidate = ask(algorithm, "published")
    space = {
        **PUBLISHED[algorithm],
        "min_df": IntDistribution(3, 7),
        "max_df": FloatDistribution(0.7, 0.9),
    }
    assert asked == space
    vectorizer = candidate.vectorizer.get_params()
    assert (vectorizer["ngram_range"], vectorizer["sublinear_tf"]) == ((1, 2), True)
    assert vectorizer["stop_words"] is None
    kind, settings = FIXED[algorithm]
    assert type(candidate.model) is kind
    assert settings.items() <= candidate.model.get_params().items()

    added = {"ngram_range": CategoricalDistribution(["(1, 1)", "(1, 2)"])}
    if algorithm == "LogisticRegression":
        added["solver"] = CategoricalDistribution(["liblinear", "lbfgs"])
    assert ask(algorithm, "guide")[0] == {**space, **added}


@pytest.mark.parametrize("space", ["published", "guide"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_trial_can_be_rebuilt_from_what_it_logged(algorithm: str, space: SearchSpace) -> None:
    _, drawn = ask(algorithm, space)
    # MLflow gives every parameter back as a string, those we did not suggest included
    logged = {name: str(value) for name, value in logged_parameters(algorithm, drawn).items()}
    rebuilt = build_candidate(algorithm, logged, space)
    assert rebuilt.model.get_params() == drawn.model.get_params()
    assert rebuilt.vectorizer.get_params() == drawn.vectorizer.get_params()
    assert rebuilt.cleaner.get_params() == drawn.cleaner.get_params()


def test_a_version_of_another_mixture_keeps_it() -> None:
    params = {"C": "1.0", "alpha": "1.0", "beta": "0.8", "min_df": "1", "reach": "2"}
    assert build_candidate("NBLogisticRegression", params).model.beta == 0.8


def test_what_is_logged() -> None:
    params = {**RECORDED, "ngram_range": "(1, 1)", "solver": "lbfgs"}
    candidate = build_candidate("LogisticRegression", params, "guide")
    assert candidate.vectorizer.ngram_range == (1, 1)
    logged = logged_parameters("LogisticRegression", candidate)
    assert logged == {"model": "LogisticRegression", **params, "cleaning": "guide", "max_iter": 100}
    logged = logged_parameters("LinearSVM", build_candidate("LinearSVM", RECORDED))
    rest = {"ngram_range": "(1, 2)", "cleaning": "guide"}
    assert logged == {"model": "LinearSVM", **RECORDED, **rest}


def test_unknown_names_list_the_known_ones_and_a_missing_one_is_named() -> None:
    with pytest.raises(ValueError, match="'SVM'; known are LogisticRegression, NaiveBayes, Linear"):
        build_candidate("SVM", {})
    with pytest.raises(ValueError, match="'wide'; known are published, guide"):
        build_candidate("LinearSVM", RECORDED, "wide")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'alpha'"):
        build_candidate("NaiveBayes", RECORDED)


# --- a fourth algorithm: one function, and one line in ALGORITHMS ---------------------------------


def suggest_complement_naive_bayes(
    trial: optuna.trial.BaseTrial, space: SearchSpace = "published"
) -> Candidate:
    model = ComplementNB(alpha=trial.suggest_float("alpha", 0.01, 1.0, log=True))
    return Candidate(suggest_vectorizer(trial, space, (3000, 10000, 1000)), model)


def test_a_fourth_algorithm_is_served_as_it_was_scored(
    small_reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ALGORITHMS, "ComplementNaiveBayes", suggest_complement_naive_bayes)
    options = ["--data", str(small_reviews), "--store", str(tmp_path), "--trials", "1", "--quiet"]
    assert script.main([*options, "--models", "ComplementNaiveBayes"]) == 0

    store = open_store(tmp_path)
    version = load_version(store, "1")
    assert version.algorithm == "ComplementNaiveBayes"
    run = store.client.get_run(version.run_id)
    split = split_reviews(load_reviews(small_reviews).frame)
    served = version.predict(split.test_texts)
    assert score(split.y_test, np.array([p.label for p in served])) == run.data.metrics["test_f1"]

    # the published steps by hand, without calibration
    candidate = build_candidate("ComplementNaiveBayes", run.data.params)
    own = make_pipeline(TextCleaner(), candidate.vectorizer, candidate.model)
    own.fit(split.train_texts, split.y_train)
    assert [p.label for p in served] == own.predict(split.test_texts).tolist()
    total = sum(contribution.weight for contribution in served[0].contributions)
    joint = own[-1].predict_joint_log_proba(own[:-1].transform(split.test_texts[:1]))[0]
    assert total == pytest.approx(joint[1] - joint[0])


def test_the_recommended_algorithm_is_searched_served_and_retrained(
    small_reviews: Path, tmp_path: Path
) -> None:
    options = ["--data", str(small_reviews), "--store", str(tmp_path), "--trials", "3", "--quiet"]
    assert script.main([*options, "--models", "NBLogisticRegression", "--promote"]) == 0

    store = open_store(tmp_path)
    version = load_version(store, "champion")
    found = store.client.get_model_version("FlipkartSentimentModel", "1")
    assert (version.algorithm, found.tags["cleaning"]) == ("NBLogisticRegression", "negation")
    assert found.tags["cleaning_fingerprint"] == cleaning_fingerprint("negation")
    run = store.client.get_run(version.run_id)
    assert {"C", "alpha", "min_df", "reach", "cleaning"} <= run.data.params.keys()
    split = split_reviews(load_reviews(small_reviews).frame)
    served = version.predict(split.test_texts)
    assert score(split.y_test, np.array([p.label for p in served])) == run.data.metrics["test_f1"]

    # the steps by hand, without calibration
    candidate = build_candidate("NBLogisticRegression", run.data.params)
    own = make_pipeline(candidate.cleaner, candidate.vectorizer, candidate.model)
    own.fit(split.train_texts, split.y_train)
    assert [p.label for p in served] == own.predict(split.test_texts).tolist()
    (decision,) = own.decision_function(split.test_texts[:1])
    total = sum(one.weight for one in served[0].contributions) + version.intercept
    assert total == pytest.approx(decision) == pytest.approx(served[0].decision)

    # the flow retrains what is in production, and sees that nothing changed
    loaded = load_reviews(small_reviews)
    chosen = choose(store, "champion", prepare_reviews(loaded))
    assert chosen.algorithm == "NBLogisticRegression"
    unchanged = unchanged_since(store, chosen.candidate, with_feedback(loaded))
    assert unchanged is not None and unchanged.version == "1"
    assert read_reference(store, "1").cleaning_fingerprint == cleaning_fingerprint("negation")
    texts = split.test_texts
    features = row_features(texts, version.pipeline)
    assert features.label.tolist() == [p.label for p in served]
    assert features.known_words.tolist() == [p.known_words for p in served]
    # training texts are known again by the guide's cleaning
    assert features.text is not None
    assert features.text.hashes.tolist() == text_hashes(clean_texts(texts)).tolist()


def test_a_model_that_would_be_served_otherwise_is_refused(small_reviews: Path) -> None:
    """One that calls positive what is probably so, whatever the sign of its decision value."""
    strict = FixedThresholdClassifier(LogisticRegression(), threshold=0.9)
    data = prepare_reviews(load_reviews(small_reviews))
    with pytest.raises(CalibrationError, match=r"^FixedThresholdClassifier: .* another label"):
        fit_and_evaluate("Strict", Candidate(TfidfVectorizer(), strict), data, folds_of(data))


def test_many_texts_take_a_solver_that_scales_unless_it_is_searched_or_recorded() -> None:
    def solver(algorithm: str, texts: int, space: Any = "published", **params: Any) -> Any:
        own = {"alpha": 1.0, "reach": 2, "min_df": 2} if algorithm.startswith("NB") else {}
        given = {**RECORDED, **own, **params}
        return build_candidate(algorithm, given, space, texts).model.get_params().get("solver")

    for algorithm in ("LogisticRegression", "NBLogisticRegression"):
        assert solver(algorithm, MANY_TEXTS - 1) == "liblinear"
        assert solver(algorithm, MANY_TEXTS) == "lbfgs"
        # a recorded one is taken, whatever there is to train on by now
        assert solver(algorithm, 0, solver="lbfgs") == "lbfgs"
        assert solver(algorithm, MANY_TEXTS, solver="liblinear") == "liblinear"
    searched = {"solver": "liblinear", "ngram_range": "(1, 2)"}
    assert solver("LogisticRegression", MANY_TEXTS, "guide", **searched) == "liblinear"
    assert solver("LinearSVM", MANY_TEXTS) is None
    # it is one of the parameters that a run logs
    candidate = build_candidate("LogisticRegression", RECORDED, texts=MANY_TEXTS)
    logged = logged_parameters("LogisticRegression", candidate)
    assert logged["solver"] == "lbfgs"
    again = {name: str(value) for name, value in logged.items()}
    rebuilt = build_candidate("LogisticRegression", again, "guide")  # as the flow does
    assert rebuilt.model.get_params() == candidate.model.get_params()
