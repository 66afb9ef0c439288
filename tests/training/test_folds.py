"""Fold scores against scikit-learn's own, shared matrices, and fits that must not run at once."""

from __future__ import annotations

import pickle
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
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
MODELS: dict[str, Any] = {
    "LR": LogisticRegression(solver="liblinear", class_weight="balanced", random_state=42),
    "LR lbfgs": LogisticRegression(C=0.5),
    "NB": MultinomialNB(alpha=0.1),
    "complement NB": ComplementNB(),
    "SVM": LinearSVC(class_weight="balanced", random_state=42),
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "published": {"ngram_range": (1, 2), "min_df": 3, "max_df": 0.75, "sublinear_tf": True},
    # far fewer than there are terms of equal frequency at the limit
    "ties": {"ngram_range": (1, 2), "max_features": 90, "sublinear_tf": True},
    "ties of document frequency": {"ngram_range": (1, 2), "max_features": 70, "binary": True},
    "share and count": {"min_df": 0.03, "max_df": 60},
    "count and share": {"min_df": 4, "max_df": 0.3, "ngram_range": (2, 3)},
    "stop words": {"stop_words": "english", "max_features": 15},
    "listed stop words": {"stop_words": ["court", "net"], "norm": "l1"},
    "no weighting": {"norm": None, "use_idf": False, "smooth_idf": False},
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
    return write_texts(260, seed=1)


@pytest.fixture(scope="module")
def folds(corpus: tuple[list[str], Any]) -> FoldMatrices:
    return FoldMatrices(*corpus)


@pytest.mark.parametrize("name", PARAMETERS)
def test_scores_equal_cross_val_score(
    name: str, corpus: tuple[list[str], Any], folds: FoldMatrices
) -> None:
    vectorizer = TfidfVectorizer(**PARAMETERS[name])
    for model in MODELS.values() if name in ("defaults", "published") else [MODELS["LR"]]:
        ours = folds.score(vectorizer, model)
        assert ours.tolist() == plain(*corpus, vectorizer, model).tolist(), (name, model)
        assert not hasattr(model, "classes_") and not hasattr(vectorizer, "vocabulary_")


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(
        st.lists(st.sampled_from(WORDS[:9]), min_size=1, max_size=6).map(" ".join),
        min_size=12,
        max_size=30,
    ),
    min_df=st.one_of(st.integers(1, 3), st.floats(0, 0.3)),
    max_df=st.one_of(st.integers(4, 30), st.floats(0.4, 1)),
    max_features=st.one_of(st.none(), st.integers(1, 12)),
    top=st.integers(1, 3),
    sublinear=st.booleans(),
)
def test_of_any_corpus_the_matrices_are_the_vectorizers(
    texts: list[str], min_df: Any, max_df: Any, max_features: Any, top: int, sublinear: bool
) -> None:
    """The same columns and, but for the order in which squares are summed, the same values."""
    labels = np.arange(len(texts)) % 2
    vectorizer = TfidfVectorizer(
        min_df=min_df,
        max_df=max_df,
        max_features=max_features,
        ngram_range=(1, top),
        sublinear_tf=sublinear,
    )

    def expected() -> list[tuple[Any, Any]]:
        return [
            (
                vectorizer.fit_transform([texts[row] for row in train]),
                vectorizer.transform([texts[row] for row in test]),
            )
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
        folds.score(vectorizer, MODELS["NB"])
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
    made: dict[int, Any] = {}
    built = []
    for min_df in (1, 30, 1, 60, 1, 30):
        matrices = folds._matrices(TfidfVectorizer(min_df=min_df))
        if matrices is not made.get(min_df):
            built.append(min_df)
        made[min_df] = matrices
        assert len(folds._kept) <= 2
    assert built == [1, 30, 60, 30]  # 30 had to go for 60, 1 was in use


def test_matrices_of_many_texts_are_kept_by_their_size(
    corpus: tuple[list[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = FoldMatrices(*corpus)
    first = folds._matrices(TfidfVectorizer())
    sizes = [part.nbytes for pair in first for m in pair for part in (m.data, m.indices, m.indptr)]
    monkeypatch.setattr(folds_module, "KEPT_BYTES", sum(sizes) + 1)
    second = folds._matrices(TfidfVectorizer(min_df=30))  # both are more than that
    assert folds._matrices(TfidfVectorizer(min_df=30)) is second and len(folds._kept) == 1
    monkeypatch.setattr(folds_module, "KEPT_BYTES", 1)
    third = folds._matrices(TfidfVectorizer())  # the last one stays, whatever its size
    assert folds._matrices(TfidfVectorizer()) is third is not first


def test_folds_that_are_sent_elsewhere_know_the_counts_and_no_text(
    corpus: tuple[list[str], Any],
) -> None:
    folds, vectorizer, model = FoldMatrices(*corpus), TfidfVectorizer(), MODELS["LR"]
    expected = folds.score(vectorizer, model).tolist()
    (analysis,) = folds._counted
    sent = pickle.dumps(folds.alone_with(analysis, folds._counted[analysis]))
    assert corpus[0][0].encode() not in sent
    there = pickle.loads(sent)
    assert there.score(vectorizer, model).tolist() == expected
    assert (
        there.decisions(vectorizer, model).tolist() == folds.decisions(vectorizer, model).tolist()
    )


def test_a_fit_that_writes_into_its_matrix_harms_no_other_trial(
    corpus: tuple[list[str], Any], folds: FoldMatrices
) -> None:
    class Vandal(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Vandal:
            X.data[:] = 0
            return self

        def predict(self, X: Any) -> Any:
            X.data[:] = 0
            return np.ones(X.shape[0], int)

    folds.score(TfidfVectorizer(), Vandal())
    expected = plain(*corpus, TfidfVectorizer(), MODELS["LR"])
    assert folds.score(TfidfVectorizer(), MODELS["LR"]).tolist() == expected.tolist()


# --- what may run at once ---------------------------------------------------------------------


def test_folds_run_in_threads(corpus: tuple[list[str], Any]) -> None:
    at_once = threading.Barrier(2, timeout=10)

    class Waiting(MultinomialNB):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Any:
            at_once.wait()  # passed only if the other fold is being fitted too
            return super().fit(X, y)

    folds = FoldMatrices(*corpus, n_splits=2, n_jobs=2)
    cv = StratifiedKFold(2, shuffle=True, random_state=42)
    expected = plain(*corpus, TfidfVectorizer(), MultinomialNB(), cv)
    assert folds.score(TfidfVectorizer(), Waiting(alpha=1)).tolist() == expected.tolist()


def test_fits_that_draw_random_numbers_run_one_after_another() -> None:
    """More terms than texts, so that LinearSVC chooses the dual."""
    wide = write_texts(150, 3, [a + b for a in WORDS for b in WORDS[:12]])
    at_once = []

    class Watched(LinearSVC):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Any:
            at_once.append(1)
            time.sleep(0.01)
            done = super().fit(X, y)
            assert at_once == [1]
            at_once.clear()
            return done

    vectorizer, model = TfidfVectorizer(ngram_range=(1, 2)), LinearSVC(C=5, random_state=42)
    ours = FoldMatrices(*wide, n_jobs=4).score(vectorizer, Watched(**model.get_params()))
    assert ours.tolist() == plain(*wide, vectorizer, model).tolist()


ALONE = [
    LinearSVC(dual=True),
    LinearSVC(loss="hinge"),
    LinearSVC(penalty="l1"),
    LinearSVC(multi_class="crammer_singer"),
    LogisticRegression(solver="liblinear", dual=True),
    LogisticRegression(solver="liblinear", penalty="l1"),
    LogisticRegression(solver="liblinear", l1_ratio=1),
    SVC(),  # not known here
]
TOGETHER = [
    LinearSVC(),  # dual="auto", with no more features than samples
    LogisticRegression(solver="liblinear"),
    LogisticRegression(),
    MultinomialNB(),
]


def test_which_fits_run_alone() -> None:
    assert all(folds_module._must_run_alone(model, 100, 100) for model in ALONE)
    assert not any(folds_module._must_run_alone(model, 100, 100) for model in TOGETHER)


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


def test_trials_of_several_threads_take_turns(corpus: tuple[list[str], Any]) -> None:
    class Alone(MultinomialNB):  # type: ignore[misc]
        def __init__(self, trial: int = 0) -> None:
            super().__init__()
            self.trial = trial

        def fit(self, X: Any, y: Any) -> Any:
            under_way.append(self.trial)
            time.sleep(0.002)
            overlapping.update({(self.trial, other) for other in under_way if other != self.trial})
            under_way.remove(self.trial)
            return super().fit(X, y)

    under_way: list[int] = []
    overlapping: set[tuple[int, int]] = set()
    folds = FoldMatrices(*corpus)
    expected = plain(*corpus, TfidfVectorizer(), MultinomialNB()).tolist()
    with ThreadPoolExecutor(3) as pool:
        scores = pool.map(lambda trial: folds.score(TfidfVectorizer(), Alone(trial)), range(1, 7))
        assert [score.tolist() for score in scores] == [expected] * 6
    assert overlapping == set()


# --- errors and warnings ----------------------------------------------------------------------


def test_impossible_parameters_fail_as_in_scikit_learn(
    corpus: tuple[list[str], Any], folds: FoldMatrices
) -> None:
    for parameters, message in (
        ({"min_df": 10_000, "max_df": 20_000}, "no terms remain"),
        ({"min_df": 5, "max_df": 3}, "max_df corresponds to < documents than min_df"),
        ({"token_pattern": "[0-9]+"}, "empty vocabulary"),
        ({"ngram_range": (2, 1)}, "Invalid value for ngram_range"),
        ({"norm": "l3"}, "norm"),
    ):
        for score in (folds.score, lambda *trial: plain(*corpus, *trial)):
            with pytest.raises(ValueError, match=message):
                score(TfidfVectorizer(**parameters), MultinomialNB())


def test_what_cannot_be_folded_is_refused(folds: FoldMatrices) -> None:
    for vectorizer in (CountVectorizer(), TfidfVectorizer(vocabulary=["good"])):
        with pytest.raises(TypeError, match="expected a TfidfVectorizer without vocabulary"):
            folds.score(vectorizer, MODELS["NB"])
    with pytest.raises(ValueError, match="3 texts but 2 labels"):
        FoldMatrices(["a", "b", "c"], np.array([0, 1]))
    with pytest.raises(ValueError, match="n_splits"):
        FoldMatrices(["aa", "bb", "cc", "dd"], np.array([0, 0, 1, 1]))


def test_convergence_warnings_reach_the_caller_and_no_others(folds: FoldMatrices) -> None:
    with pytest.warns(ConvergenceWarning):
        folds.score(TfidfVectorizer(), LinearSVC(max_iter=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds.score(TfidfVectorizer(ngram_range=(1, 2), min_df=2), MODELS["SVM"])
