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
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

import sentiment_mlflow_optuna as script
from sentiment.data.reviews import load_reviews, split_reviews
from sentiment.metrics import score
from sentiment.model.algorithms import (
    ALGORITHMS,
    Candidate,
    SearchSpace,
    build_candidate,
    logged_parameters,
    suggest_candidate,
    suggest_vectorizer,
)
from sentiment.model.predictor import load_version
from sentiment.tracking.store import REGISTERED_MODEL, open_store
from text_cleaning import TextCleaner

COMMON: dict[str, BaseDistribution] = {
    "min_df": IntDistribution(3, 7),
    "max_df": FloatDistribution(0.7, 0.9),
}
PUBLISHED: dict[str, dict[str, BaseDistribution]] = {
    "LogisticRegression": {
        "C": FloatDistribution(0.01, 2.0, log=True),
        "max_features": IntDistribution(2000, 5000, step=500),
        **COMMON,
    },
    "NaiveBayes": {
        "alpha": FloatDistribution(0.01, 1.0, log=True),
        "max_features": IntDistribution(3000, 10000, step=1000),
        **COMMON,
    },
    "LinearSVM": {
        "C": FloatDistribution(0.01, 2.0, log=True),
        "max_features": IntDistribution(3000, 10000, step=1000),
        **COMMON,
    },
}
RECORDED: dict[str, dict[str, Any]] = {
    "LogisticRegression": {"C": 0.5, "max_features": 3500, "min_df": 4, "max_df": 0.8},
    "NaiveBayes": {"alpha": 0.09, "max_features": 5000, "min_df": 3, "max_df": 0.75},
    "LinearSVM": {"C": 0.05, "max_features": 10000, "min_df": 7, "max_df": 0.9},
}


def ask(algorithm: str, space: SearchSpace) -> tuple[dict[str, BaseDistribution], Candidate]:
    """Draw one candidate; return what was asked for, and it."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    trial = study.ask()
    candidate = suggest_candidate(algorithm, trial, space)
    return trial.distributions, candidate


def test_names() -> None:
    assert list(ALGORITHMS) == ["LogisticRegression", "NaiveBayes", "LinearSVM"]


@pytest.mark.parametrize("algorithm", PUBLISHED)
def test_published_space(algorithm: str) -> None:
    assert ask(algorithm, "published")[0] == PUBLISHED[algorithm]


@pytest.mark.parametrize("algorithm", PUBLISHED)
def test_guide_space_adds_ngrams_and_the_solver(algorithm: str) -> None:
    added: dict[str, BaseDistribution] = {
        "ngram_range": CategoricalDistribution(["(1, 1)", "(1, 2)"])
    }
    if algorithm == "LogisticRegression":
        added["solver"] = CategoricalDistribution(["liblinear", "lbfgs"])
    assert ask(algorithm, "guide")[0] == {**PUBLISHED[algorithm], **added}


@pytest.mark.parametrize("algorithm", PUBLISHED)
def test_fixed_settings(algorithm: str) -> None:
    _, candidate = ask(algorithm, "published")
    vectorizer = candidate.vectorizer.get_params()
    assert vectorizer["ngram_range"] == (1, 2)
    assert vectorizer["sublinear_tf"] is True
    assert vectorizer["stop_words"] is None
    expected: dict[str, tuple[Any, dict[str, Any]]] = {
        "LogisticRegression": (
            LogisticRegression,
            {"solver": "liblinear", "class_weight": "balanced", "random_state": 42},
        ),
        "NaiveBayes": (MultinomialNB, {"fit_prior": True}),
        "LinearSVM": (
            LinearSVC,
            {"class_weight": "balanced", "max_iter": 5000, "random_state": 42},
        ),
    }
    kind, settings = expected[algorithm]
    assert type(candidate.model) is kind
    assert settings.items() <= candidate.model.get_params().items()


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("algorithm", PUBLISHED)
def test_candidate_from_recorded_parameters(algorithm: str, as_text: bool) -> None:
    params = RECORDED[algorithm]
    # MLflow gives every parameter back as a string, those we did not suggest included
    given = {"model": algorithm, **{n: str(v) for n, v in params.items()}} if as_text else params
    candidate = build_candidate(algorithm, given)
    assert logged_parameters(algorithm, candidate) == {
        "model": algorithm,
        **({"solver": "liblinear"} if algorithm == "LogisticRegression" else {}),
        **params,
        "ngram_range": "(1, 2)",
    }


def test_guide_candidate_from_recorded_parameters() -> None:
    params = {**RECORDED["LogisticRegression"], "ngram_range": "(1, 1)", "solver": "lbfgs"}
    candidate = build_candidate("LogisticRegression", params, "guide")
    assert candidate.vectorizer.ngram_range == (1, 1)
    assert logged_parameters("LogisticRegression", candidate) == {
        "model": "LogisticRegression",
        **params,
    }


@pytest.mark.parametrize("space", ["published", "guide"])
@pytest.mark.parametrize("algorithm", PUBLISHED)
def test_a_trial_can_be_rebuilt_from_what_it_logged(algorithm: str, space: SearchSpace) -> None:
    _, drawn = ask(algorithm, space)
    logged = {name: str(value) for name, value in logged_parameters(algorithm, drawn).items()}
    rebuilt = build_candidate(algorithm, logged, space)
    assert rebuilt.model.get_params() == drawn.model.get_params()
    assert rebuilt.vectorizer.get_params() == drawn.vectorizer.get_params()


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'SVM'; known are LogisticRegression, NaiveBayes, Linear"):
        build_candidate("SVM", {})
    with pytest.raises(ValueError, match="'wide'; known are published, guide"):
        build_candidate("LinearSVM", RECORDED["LinearSVM"], "wide")  # type: ignore[arg-type]


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(ValueError, match="'alpha'"):
        build_candidate("NaiveBayes", {"max_features": 3000, "min_df": 3, "max_df": 0.8})


# --- a fourth algorithm: one function, and one line in ALGORITHMS ---------------------------------


def suggest_complement_naive_bayes(
    trial: optuna.trial.BaseTrial, space: SearchSpace = "published"
) -> Candidate:
    model = ComplementNB(alpha=trial.suggest_float("alpha", 0.01, 1.0, log=True))
    return Candidate(suggest_vectorizer(trial, space, (3000, 10000, 1000)), model)


def suggest_strict_regression(
    trial: optuna.trial.BaseTrial, space: SearchSpace = "published"
) -> Candidate:
    """Only calls positive what is probably so, whatever the sign of its decision value."""
    model = FixedThresholdClassifier(LogisticRegression(), threshold=0.9)
    return Candidate(suggest_vectorizer(trial, space, (3000, 10000, 1000)), model)


def experiment(data: Path, store: Path, algorithm: str) -> int:
    options = ["--data", str(data), "--store", str(store), "--models", algorithm]
    return script.main([*options, "--trials", "2", "--quiet"])


def test_a_fourth_algorithm_is_served_as_it_was_scored(
    small_reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ALGORITHMS, "ComplementNaiveBayes", suggest_complement_naive_bayes)
    assert experiment(small_reviews, tmp_path, "ComplementNaiveBayes") == 0

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


def test_a_model_that_would_be_served_otherwise_is_refused(
    small_reviews: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(ALGORITHMS, "Strict", suggest_strict_regression)
    assert experiment(small_reviews, tmp_path, "Strict") == 2
    told = capsys.readouterr().err
    assert (
        told.count("\n") == 1 and "FixedThresholdClassifier: " in told and "another label" in told
    )
    assert not open_store(tmp_path).client.search_model_versions(f"name='{REGISTERED_MODEL}'")
