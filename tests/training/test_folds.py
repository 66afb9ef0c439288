"""Fold scores against scikit-learn's own, shared matrices, and fits that must not run at once."""

from __future__ import annotations

import threading
import time
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_info, threadpool_limits

from sentiment.training import folds as folds_module
from sentiment.training.folds import FoldMatrices

VOCABULARY = (
    "court shoe string racket feather cork not good bad fine grip light heavy fast slow the and"
    " is was torn new old net serve smash rally point match sweat towel bag bottle cap sock"
)
WORDS = VOCABULARY.split()
FOLDS = StratifiedKFold(5, shuffle=True, random_state=42)
LR = LogisticRegression(solver="liblinear", class_weight="balanced", random_state=42)
NB = MultinomialNB(alpha=0.1)
SVM = LinearSVC(class_weight="balanced", random_state=42)
PUBLISHED: dict[str, Any] = {"ngram_range": (1, 2), "min_df": 3, "max_df": 0.75}
PARAMETERS: dict[str, dict[str, Any]] = {
    "published": {**PUBLISHED, "max_features": 2000, "sublinear_tf": True},
    # far fewer than there are terms of equal frequency at the limit
    "ties": {"ngram_range": (1, 2), "max_features": 90, "sublinear_tf": True},
    "ties of document frequency": {"ngram_range": (1, 2), "max_features": 70, "binary": True},
    "share and count": {"min_df": 0.03, "max_df": 60},
    "count and share": {"min_df": 4, "max_df": 0.3, "ngram_range": (2, 3)},
    "stop words": {"stop_words": "english", "max_features": 15},
    "weighting": {"stop_words": ["court", "net"], "norm": "l1", "use_idf": False},
}


def write_texts(n: int, seed: int, words: list[str] = WORDS) -> tuple[list[str], Any]:
    """Write texts whose words lean on their label, common words far commoner than rare ones."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.7).astype(int)
    weights = 1 / np.arange(1, len(words) + 1)
    texts = []
    for label in labels:
        weight = np.roll(weights, 3 * label)
        size = rng.integers(1, 13)
        texts.append(" ".join(rng.choice(words, size, p=weight / weight.sum())))
    return texts, labels


def plain(texts: Any, labels: Any, vectorizer: Any, model: Any, cv: Any = FOLDS) -> Any:
    """Return what scikit-learn itself scores."""
    pipeline = make_pipeline(vectorizer, model)
    return cross_val_score(pipeline, texts, labels, scoring="f1_macro", cv=cv, error_score="raise")


@pytest.fixture(scope="module")
def corpus() -> tuple[list[str], Any]:
    return write_texts(200, seed=1)


@pytest.fixture(scope="module")
def folds(corpus: tuple[list[str], Any]) -> FoldMatrices:
    return FoldMatrices(*corpus)


@pytest.mark.parametrize(
    ("parameters", "model"),
    [
        *((each, model) for each in PARAMETERS.values() for model in (LR, NB)),
        *(({}, model) for model in (LR, LogisticRegression(C=0.5), ComplementNB(), SVM)),
    ],
)
def test_scores_equal_cross_val_score(
    parameters: dict[str, Any], model: Any, corpus: tuple[list[str], Any], folds: FoldMatrices
) -> None:
    vectorizer = TfidfVectorizer(**parameters)
    ours = folds.score(vectorizer, model)
    assert ours.tolist() == plain(*corpus, vectorizer, model).tolist()


def test_other_folds_equal_cross_val_score(corpus: tuple[list[str], Any]) -> None:
    cv = StratifiedKFold(3, shuffle=True, random_state=7)
    folds = FoldMatrices(*corpus, n_splits=3, random_state=7)
    expected = plain(*corpus, TfidfVectorizer(), LR, cv)
    assert folds.score(TfidfVectorizer(), LR).tolist() == expected.tolist()


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(
        st.lists(st.sampled_from(WORDS[:9]), min_size=1, max_size=6).map(" ".join),
        min_size=12,
        max_size=30,
    ),
    parameters=st.fixed_dictionaries(
        {
            "min_df": st.one_of(st.integers(1, 3), st.floats(0, 0.3)),
            "max_df": st.one_of(st.integers(4, 30), st.floats(0.4, 1)),
            "max_features": st.one_of(st.none(), st.integers(1, 12)),
            "ngram_range": st.sampled_from([(1, 1), (1, 2), (1, 3)]),
            "sublinear_tf": st.booleans(),
        }
    ),
)
def test_of_any_corpus_the_matrices_are_the_vectorizers(
    texts: list[str], parameters: dict[str, Any]
) -> None:
    """The same columns and, but for the order in which squares are summed, the same values."""
    labels, rows = np.arange(len(texts)) % 2, np.array(texts, dtype=object)
    vectorizer = TfidfVectorizer(**parameters)

    def expected() -> list[tuple[Any, Any]]:
        return [
            (vectorizer.fit_transform(rows[train]), vectorizer.transform(rows[test]))
            for train, test in FOLDS.split(texts, labels)
        ]

    outcomes: list[Any] = []
    for build in (expected, lambda: FoldMatrices(texts, labels)._matrices(vectorizer)):
        try:
            outcomes.append(build())
        except ValueError as error:
            outcomes.append(str(error))
    theirs, ours = outcomes
    if isinstance(theirs, str):
        assert ours == theirs
        return
    for pair, of_fold in zip(theirs, ours, strict=True):
        for their_part, our_part in zip(pair, of_fold, strict=True):
            assert our_part.shape == their_part.shape
            np.testing.assert_allclose(our_part.toarray(), their_part.toarray(), rtol=1e-13, atol=0)


@pytest.mark.parametrize("model", [LR, SVM])
def test_decisions_are_those_of_the_fold_that_held_the_text_out(
    model: Any, corpus: tuple[list[str], Any], folds: FoldMatrices
) -> None:
    pipeline = make_pipeline(TfidfVectorizer(), model)
    expected = cross_val_predict(pipeline, *corpus, cv=FOLDS, method="decision_function")
    np.testing.assert_allclose(folds.decisions(TfidfVectorizer(), model), expected, atol=1e-6)


def test_estimators_are_not_changed(folds: FoldMatrices) -> None:
    vectorizer, model = TfidfVectorizer(min_df=2), MultinomialNB()
    folds.score(vectorizer, model)
    assert set(vars(vectorizer)) == set(vars(TfidfVectorizer()))
    assert not hasattr(model, "classes_")


# --- what trials share ------------------------------------------------------------------------


def test_texts_are_read_once_per_analysis(corpus: tuple[list[str], Any]) -> None:
    texts, labels = corpus
    read: list[str] = []

    def split(text: str) -> list[str]:
        read.append(text)
        return text.split()

    folds = FoldMatrices(texts, labels)
    for min_df in (1, 2, 3):
        vectorizer = TfidfVectorizer(tokenizer=split, token_pattern=None, min_df=min_df)
        folds.score(vectorizer, NB)
    assert sorted(read) == sorted(texts)


def test_trials_of_the_same_terms_share_their_matrices(corpus: tuple[list[str], Any]) -> None:
    folds = FoldMatrices(*corpus)
    first = folds._matrices(TfidfVectorizer(max_df=0.95, max_features=5000))
    assert folds._matrices(TfidfVectorizer(max_df=0.96, max_features=9000)) is first
    for other in ({"sublinear_tf": True}, {"min_df": 30}, {"binary": True}):
        assert folds._matrices(TfidfVectorizer(**other)) is not first


def test_the_least_recently_used_matrices_go_first(
    corpus: tuple[list[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds_module, "KEPT", 2)
    folds = FoldMatrices(*corpus)
    made = [folds._matrices(TfidfVectorizer(min_df=min_df)) for min_df in (1, 30, 1, 60, 1, 30)]
    assert made[0] is made[2] is made[4] and len(folds._kept) == 2
    assert made[1] is not made[5]  # 30 had to go for 60, 1 was in use


def test_a_fit_that_writes_into_its_matrix_harms_no_other_trial(folds: FoldMatrices) -> None:
    class Vandal(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Vandal:
            X.data[:] = 0
            return self

        def predict(self, X: Any) -> Any:
            X.data[:] = 0
            return np.ones(X.shape[0], int)

    expected = folds.score(TfidfVectorizer(), LR).tolist()
    folds.score(TfidfVectorizer(), Vandal())
    assert folds.score(TfidfVectorizer(), LR).tolist() == expected


# --- what may run at once ---------------------------------------------------------------------


def test_folds_run_in_threads(corpus: tuple[list[str], Any]) -> None:
    at_once = threading.Barrier(2, timeout=10)

    class Waiting(MultinomialNB):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Any:
            at_once.wait()  # passed only if the other fold is being fitted too
            return super().fit(X, y)

    FoldMatrices(*corpus, n_splits=2, n_jobs=2).score(TfidfVectorizer(), Waiting(alpha=1))


def test_fits_that_draw_random_numbers_run_one_after_another() -> None:
    """More terms than texts, so that LinearSVC chooses the dual."""
    wide = write_texts(150, 3, [a + b for a in WORDS for b in WORDS[:12]])
    fitting = threading.Lock()

    class Alone(LinearSVC):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Any:
            assert fitting.acquire(blocking=False), "two fits at once"
            time.sleep(0.01)
            done = super().fit(X, y)
            fitting.release()
            return done

    vectorizer, model = TfidfVectorizer(ngram_range=(1, 2)), Alone(C=5, random_state=42)
    ours = FoldMatrices(*wide, n_jobs=4).score(vectorizer, model)
    expected = plain(*wide, vectorizer, LinearSVC(C=5, random_state=42))
    assert ours.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("model", "alone"),
    [
        (LinearSVC(), False),  # dual="auto", with no more features than samples
        (LinearSVC(dual=True), True),
        (LinearSVC(loss="hinge"), True),
        (LinearSVC(penalty="l1"), True),
        (LinearSVC(multi_class="crammer_singer"), True),
        (LogisticRegression(solver="liblinear"), False),
        (LogisticRegression(solver="liblinear", dual=True), True),
        (LogisticRegression(solver="liblinear", penalty="l1"), True),
        (LogisticRegression(solver="liblinear", l1_ratio=1), True),
        (LogisticRegression(), False),
        (MultinomialNB(), False),
        (SVC(), True),  # not known here
    ],
)
def test_which_fits_run_alone(model: Any, alone: bool) -> None:
    assert folds_module._must_run_alone(model, 100, 100) is alone


def test_blas_has_one_thread_during_fits_and_its_own_number_afterwards(
    folds: FoldMatrices,
) -> None:
    def blas_threads() -> set[int]:
        return {i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"}

    class Recorder(MultinomialNB):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Any:
            during.append(blas_threads())
            return super().fit(X, y)

    during: list[set[int]] = []
    with threadpool_limits(3, user_api="blas"):
        folds.score(TfidfVectorizer(), Recorder())
        assert blas_threads() == {3}
    assert during == [{1}] * 5


# --- errors and warnings ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"min_df": 10_000, "max_df": 20_000}, "no terms remain"),
        ({"min_df": 5, "max_df": 3}, "max_df corresponds to < documents than min_df"),
        ({"token_pattern": "[0-9]+"}, "empty vocabulary"),
        ({"ngram_range": (2, 1)}, "Invalid value for ngram_range"),
        ({"norm": "l3"}, "norm"),
    ],
)
def test_impossible_parameters_fail_as_in_scikit_learn(
    parameters: dict[str, Any], message: str, folds: FoldMatrices
) -> None:
    with pytest.raises(ValueError, match=message):
        folds.score(TfidfVectorizer(**parameters), NB)


def test_what_cannot_be_scored_is_refused(folds: FoldMatrices) -> None:
    for vectorizer in (CountVectorizer(), TfidfVectorizer(vocabulary=["good"])):
        with pytest.raises(TypeError, match="expected a TfidfVectorizer without vocabulary"):
            folds.score(vectorizer, NB)
    with pytest.raises(ValueError, match="3 texts but 2 labels"):
        FoldMatrices(["a", "b", "c"], np.array([0, 1]))
    with pytest.raises(ValueError, match="n_splits"):  # fewer texts of every class than folds
        FoldMatrices(["aa", "bb", "cc", "dd"], np.array([0, 0, 1, 1]))


def test_convergence_warnings_reach_the_caller_and_no_others(folds: FoldMatrices) -> None:
    with pytest.warns(ConvergenceWarning):
        folds.score(TfidfVectorizer(), LinearSVC(max_iter=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds.score(TfidfVectorizer(ngram_range=(1, 2), min_df=2), SVM)
