"""Search spaces against the published ones, rebuilding from records, and a fourth algorithm."""

from __future__ import annotations

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
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.svm import LinearSVC
from sklearn.utils.validation import check_is_fitted

from sentiment.model import algorithms as candidate_models
from sentiment.model.algorithms import (
    ALGORITHMS,
    Candidate,
    SearchSpace,
    build_candidate,
    build_pipeline,
    logged_parameters,
    suggest_candidate,
)
from sentiment.training.folds import FoldMatrices

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


def test_pipeline_goes_from_raw_text_and_leaves_the_candidate_unfitted() -> None:
    candidate = build_candidate("NaiveBayes", RECORDED["NaiveBayes"])
    pipeline = build_pipeline(candidate)
    assert list(pipeline.named_steps) == ["clean", "tfidf", "model"]
    with pytest.raises(NotFittedError):
        check_is_fitted(pipeline["model"])
    texts = ["GOOD grip!!", "good, GOOD bag", "Bad net...", "bad string; torn"] * 5
    pipeline.fit(texts, [1, 1, 0, 0] * 5)
    assert pipeline.predict(["Bad, bad!", "good?"]).tolist() == [0, 1]
    assert "good" in pipeline["tfidf"].vocabulary_
    assert "GOOD" not in pipeline["tfidf"].vocabulary_
    parts: tuple[Any, ...] = (candidate.model, candidate.vectorizer)
    for part in parts:
        with pytest.raises(NotFittedError):
            check_is_fitted(part)


def test_a_fourth_algorithm_is_one_function_and_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def suggest_complement_naive_bayes(
        trial: optuna.trial.BaseTrial, space: SearchSpace
    ) -> Candidate:
        model = ComplementNB(alpha=trial.suggest_float("alpha", 0.01, 1.0, log=True))
        vectorizer = candidate_models._suggest_vectorizer(trial, space, (3000, 10000, 1000))
        return Candidate(vectorizer, model)

    monkeypatch.setitem(ALGORITHMS, "ComplementNaiveBayes", suggest_complement_naive_bayes)

    _, candidate = ask("ComplementNaiveBayes", "published")
    texts = ["good grip", "good good bag", "bad net", "bad string torn"] * 10
    folds = FoldMatrices(texts, np.array([1, 1, 0, 0] * 10))
    assert folds.score(candidate.vectorizer, candidate.model).tolist() == [1.0] * 5
    logged = logged_parameters("ComplementNaiveBayes", candidate)
    assert list(logged) == ["model", "alpha", "max_features", "min_df", "max_df", "ngram_range"]
    with pytest.raises(ValueError, match="ComplementNaiveBayes"):
        build_candidate("nothing", {})
