"""Fold scores against scikit-learn's own, to the last bit; the cache; the shared generator."""

from __future__ import annotations

import os
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import parallel_config
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import (
    threadpool_info,
    threadpool_limits,
)

from sentiment.training import folds as cross_validation
from sentiment.training import term_counts
from sentiment.training.folds import FoldMatrices, macro_f1
from sentiment.training.shared_generator import draws_from_shared_generator
from sentiment.training.term_counts import count_terms, in_order_of_first_use

VOCABULARY = (
    "court shoe string racket feather cork not good bad fine grip light heavy fast slow the and"
    " is was torn new old net serve smash rally point match sweat towel bag bottle cap sock"
)
WORDS = VOCABULARY.split()
MODELS = {
    "LR": LogisticRegression(solver="liblinear", class_weight="balanced", random_state=42),
    "LR lbfgs": LogisticRegression(C=0.5),
    "NB": MultinomialNB(alpha=0.1),
    "complement NB": ComplementNB(),
    "SVM": LinearSVC(dual=False, class_weight="balanced", random_state=42),
    "SVM auto": LinearSVC(random_state=42),
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "published": {
        "ngram_range": (1, 2),
        "min_df": 3,
        "max_df": 0.75,
        "max_features": 2000,
        "sublinear_tf": True,
    },
    # far fewer than there are terms of equal frequency at the limit
    "ties": {"ngram_range": (1, 2), "max_features": 90, "sublinear_tf": True},
    "ties in single precision": {"max_features": 20, "dtype": np.float32},
    "ties of document frequency": {"ngram_range": (1, 2), "max_features": 70, "binary": True},
    "share and count": {"min_df": 0.03, "max_df": 60},
    "count and share": {"min_df": 4, "max_df": 0.3, "ngram_range": (2, 3)},
    "stop words": {"stop_words": "english", "max_features": 15},
    "listed stop words": {"stop_words": ["court", "net"], "norm": "l1"},
    "characters": {"analyzer": "char_wb", "ngram_range": (2, 3), "max_features": 200},
    "token pattern": {"token_pattern": r"[a-z]{4,}", "smooth_idf": False},
    "no weighting": {"norm": None, "use_idf": False},
    "fixed vocabulary": {"vocabulary": ["bad", "good", "not"]},
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


def plain(texts: Any, labels: Any, vectorizer: Any, model: Any, n_splits: int = 5) -> Any:
    """Return what scikit-learn itself scores."""
    return cross_val_score(
        Pipeline([("tfidf", vectorizer), ("model", model)]),
        texts,
        labels,
        scoring="f1_macro",
        cv=StratifiedKFold(n_splits, shuffle=True, random_state=42),
        error_score="raise",
    )


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
    for model in MODELS.values():
        ours = folds.score(vectorizer, model)
        assert ours.tolist() == plain(*corpus, vectorizer, model).tolist(), (name, model)


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name != "fixed vocabulary"])
def test_matrices_equal_the_vectorizers_entry_for_entry(
    name: str, corpus: tuple[list[str], Any], folds: FoldMatrices
) -> None:
    # sums of floats depend on the order of the entries, which scores would rarely show
    texts, labels = corpus
    cv = StratifiedKFold(5, shuffle=True, random_state=42)
    jobs = folds._jobs(TfidfVectorizer(**PARAMETERS[name]))
    for (train, test), job in zip(cv.split(texts, labels), jobs, strict=True):
        vectorizer = TfidfVectorizer(**PARAMETERS[name])
        expected = (
            vectorizer.fit_transform([texts[i] for i in train]),
            vectorizer.transform([texts[i] for i in test]),
        )
        for ours, theirs in zip(job.build(), expected, strict=True):
            assert ours.shape == theirs.shape
            assert ours.dtype == theirs.dtype
            assert ours.indices.tolist() == theirs.indices.tolist()
            assert ours.indptr.tolist() == theirs.indptr.tolist()
            assert ours.data.tolist() == theirs.data.tolist()
        assert job.n_features == expected[0].shape[1]


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
def test_any_corpus_scores_or_fails_as_scikit_learn_does(
    texts: list[str], min_df: Any, max_df: Any, max_features: Any, top: int, sublinear: bool
) -> None:
    labels = np.arange(len(texts)) % 3 % 2
    vectorizer = TfidfVectorizer(
        min_df=min_df,
        max_df=max_df,
        max_features=max_features,
        ngram_range=(1, top),
        sublinear_tf=sublinear,
    )
    outcomes = []
    for score in (
        lambda: plain(texts, labels, vectorizer, MultinomialNB(), 3),
        lambda: FoldMatrices(texts, labels, 3).score(vectorizer, MultinomialNB()),
    ):
        try:
            outcomes.append(score().tolist())
        except ValueError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


def test_three_classes_one_of_them_tiny() -> None:
    texts, labels = write_texts(120, seed=2)
    names = np.array(["bad", "good"])[labels].astype("U7")
    names[:3] = "neither"  # fewer members than folds: absent from two of them
    for model in (MultinomialNB(), LogisticRegression()):
        with pytest.warns(UserWarning, match="least populated class"):
            ours = FoldMatrices(texts, names).score(TfidfVectorizer(), model)
        with pytest.warns(UserWarning, match="least populated class"):
            expected = plain(texts, names, TfidfVectorizer(), model)
        assert ours.tolist() == expected.tolist()


def test_folds_run_in_threads(corpus: tuple[list[str], Any]) -> None:
    at_once = threading.Barrier(2, timeout=10)

    class Waiting(MultinomialNB):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Any:
            at_once.wait()  # passed only if the other fold is being fitted too
            return super().fit(X, y)

    folds = FoldMatrices(*corpus, n_splits=2, n_jobs=2)
    ours = folds.score(TfidfVectorizer(), Waiting())
    assert ours.tolist() == plain(*corpus, TfidfVectorizer(), MultinomialNB(), 2).tolist()


@pytest.mark.parametrize("backend", ["sequential", "loky"])
def test_folds_run_where_joblib_is_told_to(backend: str, corpus: tuple[list[str], Any]) -> None:
    class Here(MultinomialNB):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Any:
            super().fit(X, y)
            self.process_ = os.getpid()
            return self

        def predict(self, X: Any) -> Any:
            return np.full(X.shape[0], int(self.process_ == parent))

    parent = os.getpid()
    folds = FoldMatrices(*corpus, n_jobs=2)
    with parallel_config(backend=backend):
        ours = folds.score(TfidfVectorizer(), Here())
        assert folds.score(TfidfVectorizer(), MODELS["LR"]).tolist() == (
            plain(*corpus, TfidfVectorizer(), MODELS["LR"]).tolist()
        )
    # in this process all is called 1, the commoner class; elsewhere all 0
    assert bool(ours.mean() > 0.35) is (backend == "sequential")


def test_two_trials_at_a_time_give_the_same_scores(corpus: tuple[list[str], Any]) -> None:
    folds = FoldMatrices(*corpus, cache_bytes=60_000)
    trials = [
        (TfidfVectorizer(min_df=min_df, ngram_range=(1, top)), model)
        for min_df in (1, 2, 3)
        for top in (1, 2)
        for model in (MODELS["NB"], LinearSVC(dual=True, random_state=42))
    ]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda trial: folds.score(*trial).tolist(), trials))
    assert together == [plain(*corpus, *trial).tolist() for trial in trials]


def test_shared_matrices_stay_as_they_are(corpus: tuple[list[str], Any]) -> None:
    # liblinear's logistic regression sorts the entries of the matrix it is given, and this
    # one overwrites them: neither may reach the next trial
    class Vandal(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Vandal:
            X.data[:] = 0
            self.classes_ = np.unique(y)
            return self

        def predict(self, X: Any) -> Any:
            X.data[:] = 0
            return np.full(X.shape[0], self.classes_[0])

    folds = FoldMatrices(*corpus)
    jobs = folds._jobs(TfidfVectorizer())
    before = [(train.copy(), test.copy()) for train, test in (job.build() for job in jobs)]
    folds.score(TfidfVectorizer(), Vandal())
    folds.score(TfidfVectorizer(), MODELS["LR"])
    for old, job in zip(before, jobs, strict=True):
        for kept, now in zip(old, job.build(), strict=True):
            assert kept.indices.tolist() == now.indices.tolist()
            assert kept.data.tolist() == now.data.tolist()


def test_estimators_are_not_changed(corpus: tuple[list[str], Any]) -> None:
    folds = FoldMatrices(*corpus)  # none that has analysed such texts before
    vectorizer, model = TfidfVectorizer(min_df=2), MultinomialNB()
    folds.score(vectorizer, model)
    assert set(vars(vectorizer)) == set(vars(TfidfVectorizer()))
    assert not hasattr(model, "classes_")


def test_equal_texts_are_read_once_per_analysis(corpus: tuple[list[str], Any]) -> None:
    texts, labels = corpus
    read: list[str] = []

    def split(text: str) -> list[str]:
        read.append(text)
        return text.split()

    folds = FoldMatrices(texts, labels)
    for min_df in (1, 2, 3):
        vectorizer = TfidfVectorizer(tokenizer=split, token_pattern=None, min_df=min_df)
        folds.score(vectorizer, MODELS["NB"])
    assert sorted(read) == sorted(set(texts))


def test_same_terms_share_their_matrices(corpus: tuple[list[str], Any]) -> None:
    folds = FoldMatrices(*corpus)
    folds.score(TfidfVectorizer(max_df=0.95, max_features=5000), MODELS["NB"])
    size = folds.cached_bytes
    assert size > 0
    folds.score(TfidfVectorizer(max_df=0.96, max_features=9000), MODELS["LR"])
    assert folds.cached_bytes == size
    folds.score(TfidfVectorizer(sublinear_tf=True), MODELS["NB"])
    assert folds.cached_bytes == 2 * size  # the same terms, weighted otherwise


def test_the_cache_stays_below_its_limit(corpus: tuple[list[str], Any]) -> None:
    unlimited = FoldMatrices(*corpus)
    unlimited.score(TfidfVectorizer(), MODELS["NB"])
    one_selection = unlimited.cached_bytes
    folds = FoldMatrices(*corpus, cache_bytes=int(1.5 * one_selection))
    for min_df in (1, 2, 3, 4, 1, 5):
        vectorizer = TfidfVectorizer(min_df=min_df)
        ours = folds.score(vectorizer, MODELS["NB"])
        assert 0 < folds.cached_bytes <= 1.5 * one_selection
        assert ours.tolist() == plain(*corpus, vectorizer, MODELS["NB"]).tolist()
    nothing = FoldMatrices(*corpus, cache_bytes=0)
    assert nothing.score(TfidfVectorizer(), MODELS["NB"]).mean() > 0
    assert nothing.cached_bytes == 0


def test_the_least_recently_used_matrices_go_first() -> None:
    eye = sparse.csr_matrix(np.eye(4))
    pair = (eye, eye)
    room_for_two = 2 * term_counts.bytes_of(pair)
    cache = term_counts.MatrixCache(room_for_two)
    built: list[str] = []

    def build(key: str) -> term_counts.FoldMatrix:
        built.append(key)
        return pair

    for key in ("a", "b", "a", "c", "a", "b"):
        cache.get(key, partial(build, key))
    assert built == ["a", "b", "c", "b"]  # "b" had to go for "c", "a" was in use
    assert cache.size == room_for_two


# --- the generator that liblinear's fits share ------------------------------------------------


@pytest.fixture(scope="module")
def wide_corpus() -> tuple[list[str], Any]:
    """More terms than texts, so that LinearSVC chooses the dual."""
    return write_texts(150, 3, [a + b for a in WORDS for b in WORDS[:12]])


@pytest.mark.parametrize(
    "model",
    [
        LinearSVC(C=5, random_state=42),
        LinearSVC(C=5, dual=True, loss="hinge", max_iter=20_000, random_state=1),
        LogisticRegression(C=20, solver="liblinear", dual=True, random_state=42),
        LogisticRegression(C=20, solver="liblinear", l1_ratio=1, random_state=42),
    ],
)
def test_drawing_fits_run_one_after_another(
    model: Any, wide_corpus: tuple[list[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    fit_predict = cross_validation._fit_predict

    def recorded(*task: Any) -> Any:
        threads.add(threading.get_ident())
        return fit_predict(*task)

    monkeypatch.setattr(cross_validation, "_fit_predict", recorded)
    folds = FoldMatrices(*wide_corpus, n_jobs=4)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2))
    assert min(job.n_features for job in folds._jobs(vectorizer)) > len(wide_corpus[0])
    ours = folds.score(vectorizer, model)
    assert threads == {threading.get_ident()}
    assert ours.tolist() == plain(*wide_corpus, vectorizer, model).tolist()


@pytest.mark.parametrize(
    ("model", "drawing"),
    [
        (LinearSVC(), False),  # auto, with more samples than features
        (LinearSVC(dual=True), True),
        (LinearSVC(loss="hinge"), True),
        (LinearSVC(penalty="l1"), True),
        (LinearSVC(multi_class="crammer_singer"), True),
        (OneVsRestClassifier(LinearSVC(dual=False)), False),
        (OneVsRestClassifier(LinearSVC()), True),  # only its data can tell
        (OneVsRestClassifier(LinearSVC(dual=True)), True),
        (LogisticRegression(solver="liblinear"), False),
        (LogisticRegression(solver="liblinear", dual=True), True),
        (LogisticRegression(solver="liblinear", penalty="l1"), True),
        (LogisticRegression(solver="liblinear", l1_ratio=1), True),
        (LogisticRegression(), False),
        (MultinomialNB(), False),
        (SVC(), True),
    ],
)
def test_which_fits_draw(model: Any, drawing: bool) -> None:
    assert draws_from_shared_generator(model, n_samples=100, n_features=100) is drawing


def test_linear_svc_draws_when_there_are_more_features_than_samples() -> None:
    assert draws_from_shared_generator(LinearSVC(), n_samples=100, n_features=101)


def test_blas_has_one_thread_during_fits_and_its_own_number_afterwards(
    corpus: tuple[list[str], Any],
) -> None:
    def blas_threads() -> set[int]:
        return {i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"}

    class Recorder(MultinomialNB):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Any:
            during.append(blas_threads())
            return super().fit(X, y)

    during: list[set[int]] = []
    folds = FoldMatrices(*corpus)
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
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda trial: folds.score(TfidfVectorizer(), Alone(trial)), range(1, 7)))
    assert overlapping == set()


# --- errors and warnings ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"min_df": 10_000, "max_df": 20_000}, "no terms remain"),
        ({"min_df": 5, "max_df": 3}, "max_df corresponds to < documents than min_df"),
        ({"token_pattern": "[0-9]+"}, "empty vocabulary"),
        ({"ngram_range": (2, 1)}, "Invalid value for ngram_range"),
        ({"max_features": 0}, "max_features"),
        ({"min_df": -1}, "min_df"),
        ({"max_df": 1.5}, "max_df"),
        ({"norm": "l3"}, "norm"),
        ({"analyzer": "syllable"}, "analyzer"),
    ],
)
def test_impossible_parameters_fail_as_in_scikit_learn(
    parameters: dict[str, Any],
    message: str,
    corpus: tuple[list[str], Any],
    folds: FoldMatrices,
) -> None:
    for score in (folds.score, lambda *trial: plain(*corpus, *trial)):
        with pytest.raises(ValueError, match=message):
            score(TfidfVectorizer(**parameters), MultinomialNB())


def test_texts_and_labels_of_different_number() -> None:
    with pytest.raises(ValueError, match="3 texts but 2 labels"):
        FoldMatrices(["a", "b", "c"], np.array([0, 1]))


def test_fewer_texts_of_every_class_than_folds() -> None:
    with pytest.raises(ValueError, match="n_splits"):
        FoldMatrices(["aa", "bb", "cc", "dd"], np.array([0, 0, 1, 1]))


@pytest.mark.parametrize("dual", [False, True])  # in threads, and in the caller's
def test_convergence_warnings_reach_the_caller(dual: bool, folds: FoldMatrices) -> None:
    with pytest.warns(ConvergenceWarning):
        folds.score(TfidfVectorizer(), LinearSVC(dual=dual, max_iter=1))


def test_no_warnings_of_our_own(folds: FoldMatrices) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds.score(TfidfVectorizer(ngram_range=(1, 2), min_df=2), MODELS["SVM"])


def test_another_vectorizer_is_fitted_fold_by_fold(
    corpus: tuple[list[str], Any], folds: FoldMatrices
) -> None:
    vectorizer = CountVectorizer(min_df=2)
    ours = folds.score(vectorizer, MODELS["NB"])
    assert ours.tolist() == plain(*corpus, vectorizer, MODELS["NB"]).tolist()


def test_another_vectorizer_that_is_not_finite_fails(folds: FoldMatrices) -> None:
    class Broken(CountVectorizer):  # type: ignore[misc]
        def fit_transform(self, raw_documents: Any, y: Any = None) -> Any:
            return super().fit_transform(raw_documents) * np.inf

    with pytest.raises(ValueError, match="infinity"):
        folds.score(Broken(), MODELS["NB"])


# --- the parts, by hand -----------------------------------------------------------------------


def test_macro_f1_by_hand() -> None:
    true, predicted = np.array([0, 0, 0, 1, 1, 1, 1]), np.array([0, 1, 1, 1, 1, 1, 0])
    # class 0: TP 1, FP 1, FN 2 → 2/5; class 1: TP 3, FP 2, FN 1 → 6/9
    assert macro_f1(true, predicted, 2) == pytest.approx((2 / 5 + 2 / 3) / 2, abs=1e-15)


def test_macro_f1_counts_no_absent_class() -> None:
    # class 0: 2·1/(2·1+0+1) = 2/3; class 2: 2·1/(2·1+1+0) = 2/3; class 1 nowhere
    assert macro_f1(np.array([0, 0, 2]), np.array([0, 2, 2]), 3) == pytest.approx(2 / 3)
    # all of class 1 missed: F1 of 0 counts
    assert macro_f1(np.array([0, 1]), np.array([0, 0]), 2) == pytest.approx((2 / 3 + 0) / 2)


@given(
    st.integers(1, 4).flatmap(
        lambda n: st.lists(st.tuples(*[st.integers(0, n - 1)] * 2), min_size=1, max_size=60)
    )
)
def test_macro_f1_equals_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    true, predicted = np.array(pairs).T
    assert macro_f1(true, predicted, 4) == f1_score(true, predicted, average="macro")


def test_counts_by_hand() -> None:
    counts = count_terms(["net cap net", "", "bag net"], TfidfVectorizer())
    # columns in alphabetical order: bag, cap, net; entries as the texts have them
    assert counts.toarray().tolist() == [[0, 1, 2], [0, 0, 0], [1, 0, 1]]
    assert counts.indices.tolist() == [2, 1, 0, 2]


def test_order_of_first_use_by_hand() -> None:
    # columns are first met in the order 2, 0, 1
    matrix = sparse.csr_matrix(
        (np.array([5, 6, 7, 8, 9]), np.array([2, 0, 1, 0, 2]), np.array([0, 2, 5])), shape=(2, 3)
    )
    ordered = in_order_of_first_use(matrix)
    assert ordered.indices.tolist() == [2, 0, 2, 0, 1]
    assert ordered.data.tolist() == [5, 6, 9, 8, 7]
    assert ordered.indptr.tolist() == [0, 2, 5]
