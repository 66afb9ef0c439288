"""Define the candidate models: for each algorithm its search space and its estimator.

A fourth algorithm is one function that suggests a `Candidate`, and one line in `ALGORITHMS`. Any
classifier will do that has a decision function, or is a multinomial or complement naive Bayes.
Each function imports its estimator itself: the names of `ALGORITHMS` are options of the command
line, which must not wait for libraries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from optuna.trial import BaseTrial
    from sklearn.base import ClassifierMixin
    from sklearn.feature_extraction.text import TfidfVectorizer

# `published` is the space of the published code; `guide` also tunes what its guide lists as
# tunable, n-grams and the solver of logistic regression
SearchSpace = Literal["published", "guide"]
RANDOM_STATE = 42  # the published seed, given to every estimator that takes one
# By the strings that are suggested and logged: Optuna keeps tuples, but warns at every one
NGRAM_RANGES = {"(1, 1)": (1, 1), "(1, 2)": (1, 2)}
PUBLISHED_NGRAM_RANGE = "(1, 2)"
LOGGED_OF_MODEL = ("C", "alpha", "solver")
LOGGED_OF_VECTORIZER = ("max_features", "min_df", "max_df")


@dataclass(frozen=True)
class Candidate:
    """One point of a search space: an unfitted vectorizer and an unfitted classifier."""

    vectorizer: TfidfVectorizer
    model: ClassifierMixin


Suggest = Callable[["BaseTrial", SearchSpace], Candidate]


def suggest_logistic_regression(trial: BaseTrial, space: SearchSpace = "published") -> Candidate:
    """Suggest logistic regression with balanced class weights: `C` 0.01–2, log-uniform."""
    from sklearn.linear_model import LogisticRegression

    c = trial.suggest_float("C", 0.01, 2.0, log=True)
    solver = "liblinear"
    if space == "guide":
        solver = trial.suggest_categorical("solver", ["liblinear", "lbfgs"])
    model = LogisticRegression(
        C=c, solver=solver, class_weight="balanced", random_state=RANDOM_STATE
    )
    return Candidate(suggest_vectorizer(trial, space, (2000, 5000, 500)), model)


def suggest_naive_bayes(trial: BaseTrial, space: SearchSpace = "published") -> Candidate:
    """Suggest multinomial naive Bayes: smoothing `alpha` 0.01–1, log-uniform."""
    from sklearn.naive_bayes import MultinomialNB

    model = MultinomialNB(alpha=trial.suggest_float("alpha", 0.01, 1.0, log=True))
    return Candidate(suggest_vectorizer(trial, space, (3000, 10000, 1000)), model)


def suggest_linear_svm(trial: BaseTrial, space: SearchSpace = "published") -> Candidate:
    """Suggest a linear SVM with balanced class weights: `C` 0.01–2, log-uniform."""
    from sklearn.svm import LinearSVC

    model = LinearSVC(
        C=trial.suggest_float("C", 0.01, 2.0, log=True),
        class_weight="balanced",
        max_iter=5000,
        random_state=RANDOM_STATE,
    )
    return Candidate(suggest_vectorizer(trial, space, (3000, 10000, 1000)), model)


ALGORITHMS: dict[str, Suggest] = {
    "LogisticRegression": suggest_logistic_regression,
    "NaiveBayes": suggest_naive_bayes,
    "LinearSVM": suggest_linear_svm,
}


def suggest_candidate(
    algorithm: str, trial: BaseTrial, space: SearchSpace = "published"
) -> Candidate:
    """Return the candidate of a trial.

    Parameters
    ----------
    algorithm : str
        A name in `ALGORITHMS`.
    trial : optuna.trial.BaseTrial
        Is asked for `C` or `alpha`, `max_features`, `min_df` and `max_df`; in the space `guide`
        also for `ngram_range` ("(1, 1)" or "(1, 2)") and, by logistic regression, `solver`.
    space : {"published", "guide"}
        Which parameters are tuned.

    Returns
    -------
    Candidate
        Unfitted.

    Raises
    ------
    ValueError
        The algorithm or the space is unknown; the message lists the known ones.

    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {algorithm!r}; known are {', '.join(ALGORITHMS)}")
    if space not in ("published", "guide"):
        raise ValueError(f"unknown search space {space!r}; known are published, guide")
    return ALGORITHMS[algorithm](trial, space)


def build_candidate(
    algorithm: str, params: Mapping[str, Any], space: SearchSpace = "published"
) -> Candidate:
    """Return the candidate that a finished trial had, from its recorded parameters.

    Parameters
    ----------
    algorithm : str
        A name in `ALGORITHMS`.
    params : mapping of str to number or str
        `study.best_params`, `trial.params`, or the parameters of an MLflow run, which are all
        strings. Names that the space does not suggest, such as `model`, are ignored.
    space : {"published", "guide"}
        The one the parameters were drawn from: `published` always has `ngram_range` (1, 2).

    Returns
    -------
    Candidate
        Unfitted, equal to that of the trial.

    Raises
    ------
    ValueError
        The algorithm or the space is unknown, or a parameter of the space is missing.

    """
    from optuna.trial import FixedTrial

    values = {name: _number_or_text(value) for name, value in params.items()}
    return suggest_candidate(algorithm, FixedTrial(values), space)


def logged_parameters(algorithm: str, candidate: Candidate) -> dict[str, str | int | float]:
    """Return the parameters that a run logs: the estimators' own, so fixed ones are among them.

    Parameters
    ----------
    algorithm : str
        Logged as `model`.
    candidate : Candidate
        Fitted or not.

    Returns
    -------
    dict of str to str, int or float
        `model`; `C`, `alpha` and `solver` where the model has them; `max_features`, `min_df` and
        `max_df`; `ngram_range` as "(1, 2)".

    """
    of_model = candidate.model.get_params(deep=False)
    of_vectorizer = candidate.vectorizer.get_params(deep=False)
    logged: dict[str, str | int | float] = {"model": algorithm}
    logged.update({name: of_model[name] for name in LOGGED_OF_MODEL if name in of_model})
    logged.update({name: of_vectorizer[name] for name in LOGGED_OF_VECTORIZER})
    logged["ngram_range"] = str(of_vectorizer["ngram_range"])
    return logged


def suggest_vectorizer(
    trial: BaseTrial, space: SearchSpace, max_features: tuple[int, int, int]
) -> TfidfVectorizer:
    """Suggest the vectorizer of any algorithm; `max_features` is (lowest, highest, step)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    lowest, highest, step = max_features
    limit = trial.suggest_int("max_features", lowest, highest, step=step)
    min_df = trial.suggest_int("min_df", 3, 7)
    max_df = trial.suggest_float("max_df", 0.7, 0.9)
    ngram_range = PUBLISHED_NGRAM_RANGE
    if space == "guide":
        ngram_range = trial.suggest_categorical("ngram_range", list(NGRAM_RANGES))
    return TfidfVectorizer(
        max_features=limit,
        min_df=min_df,
        max_df=max_df,
        ngram_range=NGRAM_RANGES[ngram_range],
        sublinear_tf=True,
    )


def _number_or_text(value: Any) -> Any:
    """Turn the strings that MLflow makes of numbers back into numbers."""
    if isinstance(value, str):
        for number in (int, float):
            try:
                return number(value)
            except ValueError:
                continue
    return value
