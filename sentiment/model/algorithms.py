"""Define the candidate models: for each algorithm its search space and its estimator.

Another algorithm is one function that suggests a `Candidate`, and one line in `ALGORITHMS`. Any
classifier will do that has a decision function, or is a multinomial or complement naive Bayes.
Each function imports its estimator itself: the names of `ALGORITHMS` are options of the command
line, which must not wait for libraries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from optuna.trial import BaseTrial
    from sklearn.base import ClassifierMixin
    from sklearn.feature_extraction.text import TfidfVectorizer

    from text_cleaning import TextCleaner

# `published` is the space of the published code; `guide` also tunes what its guide lists as
# tunable, n-grams and the solver of logistic regression
SearchSpace = Literal["published", "guide"]
RANDOM_STATE = 42  # the published seed, given to every estimator that takes one
# By the strings that are suggested and logged: Optuna keeps tuples, but warns at every one
NGRAM_RANGES = {"(1, 1)": (1, 1), "(1, 2)": (1, 2)}
OF_MODELS = ("C", "alpha", "beta", "solver")  # what a run logs of a classifier that has it


def _guides_cleaner() -> TextCleaner:
    from text_cleaning import TextCleaner

    return TextCleaner()


@dataclass(frozen=True)
class Candidate:
    """One point of a search space: an unfitted vectorizer and classifier, and what they read."""

    vectorizer: TfidfVectorizer
    model: ClassifierMixin
    cleaner: TextCleaner = field(default_factory=_guides_cleaner)


# Training texts from which lbfgs fits logistic regression where the solver is not searched. One fit
# of 1,000,000 texts of 11 terms took it 3.3 s of processor time at C = 0.1 and 7.7 s at C = 2, and
# liblinear 10.2 and 26.5 s; their accuracy on these texts agrees to .001. Below, either is fast,
# and liblinear is the published one.
MANY_TEXTS = 1_000_000
MOST_STEPS = 1000  # of lbfgs: that fit at C = 2 took 106, and 100 is the default


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


def suggest_nb_logistic_regression(trial: BaseTrial, space: SearchSpace = "published") -> Candidate:
    """Suggest `NBLogisticRegression`, with its own `beta`, of words with marked negations.

    `C` 0.2–2 and smoothing `alpha` 0.5–2, both log-uniform; `min_df` 1 or 2; `reach` 0 or 2
    words. Either space is this one: on the real reviews wider ones found nothing better.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    from sentiment.model.nb_logistic import NBLogisticRegression
    from text_cleaning import TextCleaner

    vectorizer = TfidfVectorizer(
        min_df=trial.suggest_int("min_df", 1, 2), ngram_range=(1, 2), sublinear_tf=True
    )
    model = NBLogisticRegression(
        C=trial.suggest_float("C", 0.2, 2.0, log=True),
        alpha=trial.suggest_float("alpha", 0.5, 2.0, log=True),
        random_state=RANDOM_STATE,
    )
    cleaner = TextCleaner("negation", reach=trial.suggest_int("reach", 0, 2, step=2))
    return Candidate(vectorizer, model, cleaner)


# The guide's choice, since its weights are log-odds: taken unless another is clearly better.
PREFERRED = "LogisticRegression"
ALGORITHMS: dict[str, Suggest] = {
    "LogisticRegression": suggest_logistic_regression,
    "NaiveBayes": suggest_naive_bayes,
    "LinearSVM": suggest_linear_svm,
    "NBLogisticRegression": suggest_nb_logistic_regression,
}
GUIDES_ALGORITHMS = ("LogisticRegression", "NaiveBayes", "LinearSVM")  # of a pass by default
RECOMMENDED = "recommended"  # short for these and the one that is better on the real reviews


def suggest_candidate(
    algorithm: str, trial: BaseTrial, space: SearchSpace = "published", texts: int = 0
) -> Candidate:
    """Return the unfitted candidate of a trial, which is asked for the parameters of the space.

    `texts` is how many it is to be trained on: from `MANY_TEXTS` on the solver is another one.

    These are `C` or `alpha`, `max_features`, `min_df` and `max_df`; in the space `guide` also
    `ngram_range` ("(1, 1)" or "(1, 2)") and, for logistic regression, `solver`. Of
    `NBLogisticRegression` they are `C`, `alpha`, `min_df` and `reach`. Raises `ValueError` for an
    unknown algorithm or space; the message lists the known ones.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {algorithm!r}; known are {', '.join(ALGORITHMS)}")
    if space not in ("published", "guide"):
        raise ValueError(f"unknown search space {space!r}; known are published, guide")
    candidate = ALGORITHMS[algorithm](trial, space)
    solver = candidate.model.get_params().get("solver")
    if texts >= MANY_TEXTS and solver == "liblinear" and "solver" not in trial.params:
        candidate.model.set_params(solver="lbfgs", max_iter=MOST_STEPS)
    return candidate


def build_candidate(
    algorithm: str, params: Mapping[str, Any], space: SearchSpace = "published", texts: int = 0
) -> Candidate:
    """Return the candidate that a finished trial had, unfitted, from its recorded parameters.

    `params` are a trial's, or those of an MLflow run, which are all strings; names that the space
    does not suggest, such as `model`, are ignored, but for `beta`, `solver` and `max_iter`. `texts`
    are as in `suggest_candidate`. Raises `ValueError` for an unknown algorithm or space, or when a
    parameter of the space is missing.
    """
    from optuna.trial import FixedTrial

    def number_or_text(value: Any) -> Any:
        for number in (int, float) if isinstance(value, str) else ():
            with suppress(ValueError):
                return number(value)
        return value

    values = {name: number_or_text(value) for name, value in params.items()}
    candidate = suggest_candidate(algorithm, FixedTrial(values), space, texts)
    fixed = {"beta", "solver", "max_iter"} & values.keys() & candidate.model.get_params().keys()
    candidate.model.set_params(**{name: values[name] for name in fixed})
    return candidate


def logged_parameters(algorithm: str, candidate: Candidate) -> dict[str, str | int | float]:
    """Return the parameters that a run logs: the estimators' own, so fixed ones are among them.

    These are the `algorithm` as `model`; `OF_MODELS` where the model has them; the `max_iter` of
    lbfgs, which ends at it; `max_features`, `min_df` and `max_df`; `ngram_range` as "(1, 2)";
    `cleaning`, and `reach` where the cleaning has one.
    """
    reach = {} if candidate.cleaner.cleaning == "guide" else {"reach": candidate.cleaner.reach}
    of_model = candidate.model.get_params(deep=False)
    of_vectorizer = candidate.vectorizer.get_params(deep=False)
    return {
        "model": algorithm,
        **{name: of_model[name] for name in OF_MODELS if name in of_model},
        **({"max_iter": of_model["max_iter"]} if of_model.get("solver") == "lbfgs" else {}),
        **{name: of_vectorizer[name] for name in ("max_features", "min_df", "max_df")},
        "ngram_range": str(of_vectorizer["ngram_range"]),
        "cleaning": candidate.cleaner.cleaning,
        **reach,
    }


def suggest_vectorizer(
    trial: BaseTrial, space: SearchSpace, max_features: tuple[int, int, int]
) -> TfidfVectorizer:
    """Suggest the vectorizer of any algorithm; `max_features` is (lowest, highest, step)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    lowest, highest, step = max_features
    vectorizer = TfidfVectorizer(
        max_features=trial.suggest_int("max_features", lowest, highest, step=step),
        min_df=trial.suggest_int("min_df", 3, 7),
        max_df=trial.suggest_float("max_df", 0.7, 0.9),
        ngram_range=(1, 2),
        sublinear_tf=True,
    )
    if space == "guide":
        name = trial.suggest_categorical("ngram_range", list(NGRAM_RANGES))
        vectorizer.set_params(ngram_range=NGRAM_RANGES[name])
    return vectorizer
