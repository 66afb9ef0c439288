"""The macro-F1 of a trial by cross-validation: scikit-learn's to the last bit, much faster.

Cross-validating a text pipeline spends nearly all its time reading the same texts again, fold by
fold and trial by trial. Here the terms are counted once for all folds and trials that analyse text
alike; a trial then only chooses columns, and trials that choose the same share their matrices.

To be scikit-learn's to the last bit the matrices must hold their entries in the same order, since
sums of floats depend on it. Within a row, `TfidfVectorizer` stores the terms of its training texts
in the order in which it first met them, and those of other texts alphabetically.
"""

from __future__ import annotations

import os
import threading
from array import array
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property, partial
from hashlib import blake2b
from itertools import repeat
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from joblib.parallel import ThreadingBackend, get_active_backend
from scipy import sparse
from sklearn import config_context
from sklearn.base import ClassifierMixin, clone
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC, LinearSVC, LinearSVR, NuSVC
from sklearn.utils import assert_all_finite
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

# Room for about fifteen selections of terms from 500,000 short reviews (70 MB for the five folds);
# a search on 5,000 reviews needs 10 MB in all
CACHE_BYTES = 1 << 30
# The vectorizer's parameters that the counts do not depend on
WEIGHTING = ("norm", "use_idf", "smooth_idf", "sublinear_tf")
SELECTION = ("min_df", "max_df", "max_features", "vocabulary", "binary", "dtype")

# One trial at a time in a process: every liblinear fit seeds the one generator, even a fit that
# never draws from it, and the limits of BLAS are the process's. Folds keep the processors busy.
_solving = threading.Lock()

Ints: TypeAlias = npt.NDArray[np.int_]
Floats: TypeAlias = npt.NDArray[np.float64]
Matrix: TypeAlias = "sparse.csr_matrix[Any]"
FoldMatrix: TypeAlias = tuple[Matrix, Matrix]  # of a training part, of the rest


class FoldMatrices:
    """Stratified folds of a set of texts, whose TF-IDF matrices are built from shared counts.

    Parameters
    ----------
    texts : sequence of str, length n
        Cleaned already.
    labels : array of shape (n,)
        The class of each text: integers or strings.
    n_splits : int, default=5
        Number of folds, at least 2.
    random_state : int, default=42
        Seeds the shuffling of StratifiedKFold.
    n_jobs : int or None, default=None
        Number of folds that may run at once; None is the number of processors.
    cache_bytes : int, default=CACHE_BYTES
        Upper limit of the memory of matrices kept for later trials; the least recently used go
        first. 0 keeps none.

    Raises
    ------
    ValueError
        Texts and labels differ in number, or no class has `n_splits` members.

    Notes
    -----
    Safe to use from several threads, which take turns; not in a process forked off afterwards.
    The counts of each analysis (tokens, n-grams, stop words) stay in memory: 8 bytes for each
    distinct term of each text, and 8 for each fold and term.

    Examples
    --------
    >>> from sklearn.naive_bayes import MultinomialNB
    >>> folds = FoldMatrices(["good", "bad", "good buy", "bad buy"], np.array([1, 0, 1, 0]), 2)
    >>> folds.score(TfidfVectorizer(), MultinomialNB())
    array([1., 1.])

    """

    def __init__(
        self,
        texts: Sequence[str],
        labels: npt.NDArray[Any],
        n_splits: int = 5,
        random_state: int = 42,
        n_jobs: int | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if len(texts) != len(labels):
            raise ValueError(f"{len(texts)} texts but {len(labels)} labels: give one for each")
        self._texts = list(texts)
        self._labels = np.asarray(labels)
        self._classes, self._codes = np.unique(self._labels, return_inverse=True)
        splitter = StratifiedKFold(n_splits, shuffle=True, random_state=random_state)
        self._parts: list[tuple[Ints, Ints]] = list(splitter.split(self._texts, self._labels))
        self._workers = min(n_jobs or os.cpu_count() or 1, n_splits)
        self._threads = ThreadPoolExecutor(self._workers)
        self._analyses: dict[Hashable, list[_FoldCounts]] = {}
        self._counting = threading.Lock()
        self._cache = _MatrixCache(cache_bytes)

    @property
    def cached_bytes(self) -> int:
        """Memory of the matrices kept for later trials, in bytes; at most `cache_bytes`."""
        return self._cache.size

    def score(self, vectorizer: TfidfVectorizer, model: ClassifierMixin) -> Floats:
        """Macro-F1 of each fold; their mean is the objective of a trial.

        Parameters
        ----------
        vectorizer : TfidfVectorizer
            With any parameters. A subclass, another vectorizer, a fixed `vocabulary` or integer
            matrices are fitted fold by fold, no faster than scikit-learn does it.
        model : classifier
            Fitted on CSR matrices.

        Returns
        -------
        array of float64 of shape (n_splits,)
            0 to 1, each equal to the last bit to that of scikit-learn's `cross_val_score(
            Pipeline([("tfidf", vectorizer), ("model", model)]), texts, labels,
            scoring="f1_macro", cv=StratifiedKFold(n_splits, shuffle=True, random_state=…),
            error_score="raise")`.

        Raises
        ------
        ValueError
            No terms are left in some fold, or a parameter is out of its range.

        Notes
        -----
        Both estimators are cloned and never changed. Warnings of the model, such as
        ConvergenceWarning, reach the caller. Folds run in threads, or where
        `joblib.parallel_config` sends them: processes, or a Dask cluster.

        """
        predicted = self._run(self._jobs(vectorizer), model)
        return np.array(
            [
                macro_f1(
                    self._codes[test], np.searchsorted(self._classes, found), len(self._classes)
                )
                for (_, test), found in zip(self._parts, predicted, strict=True)
            ]
        )

    def _run(self, jobs: list[_FoldJob], model: ClassifierMixin) -> list[npt.NDArray[Any]]:
        """Fit and predict every fold, at most as many at once as there are workers."""
        alone = any(
            draws_from_shared_generator(model, len(train), job.n_features)
            for (train, _), job in zip(self._parts, jobs, strict=True)
        )
        models, labels = repeat(model), (self._labels[train] for train, _ in self._parts)
        backend, _ = get_active_backend(prefer="threads")
        if not alone and not isinstance(backend, ThreadingBackend):  # sent somewhere else
            return list(
                Parallel(n_jobs=self._workers)(
                    delayed(_fit_predict)(model, y, *job.build())
                    for y, job in zip(labels, jobs, strict=True)
                )
            )
        # One BLAS thread for each of ours, as joblib gives the processes of cross_val_score: from
        # 10,000 features on, where OpenBLAS shares out its work, more took five times as long
        with _solving, _blas().limit(limits=1):
            if alone:
                return list(map(_build_fit_predict, models, labels, jobs))
            # joblib's own threads are asked for results every 10 ms, longer than a fit may take
            return list(self._threads.map(_build_fit_predict, models, labels, jobs))

    def _jobs(self, vectorizer: TfidfVectorizer) -> list[_FoldJob]:
        """Choose the terms of every fold; the matrices are built when their turn comes."""
        if (
            type(vectorizer) is not TfidfVectorizer
            or vectorizer.vocabulary is not None
            or np.dtype(vectorizer.dtype) not in (np.float32, np.float64)
        ):
            return self._plain_jobs(vectorizer)
        counting = {n: v for n, v in vectorizer.get_params().items() if n not in WEIGHTING}
        CountVectorizer(**{**counting, "vocabulary": ["a"]}).fit([])  # scikit-learn's own checks
        recipe = (
            np.dtype(vectorizer.dtype),
            vectorizer.binary,
            *(getattr(vectorizer, name) for name in WEIGHTING),
        )
        jobs = []
        for fold in self._counts(vectorizer):
            columns = fold.select(vectorizer)
            key = (fold, recipe, blake2b(columns.tobytes()).digest())
            build = partial(self._cache.get, key, partial(fold.matrices, columns, vectorizer))
            jobs.append(_FoldJob(build, len(columns)))
        return jobs

    def _plain_jobs(self, vectorizer: TfidfVectorizer) -> list[_FoldJob]:
        """Fit a vectorizer whose doings are not known here on every fold."""
        jobs = []
        for train, test in self._parts:
            fitted = clone(vectorizer)
            train_matrix = fitted.fit_transform([self._texts[row] for row in train])
            test_matrix = fitted.transform([self._texts[row] for row in test])
            assert_all_finite(train_matrix)
            assert_all_finite(test_matrix)
            build = partial(tuple, (train_matrix, test_matrix))
            jobs.append(_FoldJob(build, train_matrix.shape[1]))
        return jobs

    def _counts(self, vectorizer: TfidfVectorizer) -> list[_FoldCounts]:
        """Return the counts of all folds, made the first time an analysis is asked for."""
        analysis = tuple(
            (name, tuple(value) if isinstance(value, list) else value)
            for name, value in sorted(vectorizer.get_params().items())
            if name not in WEIGHTING + SELECTION
        )
        with self._counting:
            if analysis not in self._analyses:
                counts = count_terms(self._texts, vectorizer)
                self._analyses[analysis] = [_FoldCounts(counts, *part) for part in self._parts]
            return self._analyses[analysis]


@dataclass(frozen=True)
class _FoldJob:
    """What one fold of a trial needs: its matrices when asked, and how wide they will be."""

    build: Callable[[], FoldMatrix]
    n_features: int


@dataclass(frozen=True, eq=False)
class _FoldCounts:
    """The counts of all texts, shared by the folds, and the rows of one fold."""

    counts: Matrix
    train: Ints
    test: Ints

    @cached_property
    def document_frequency(self) -> Ints:
        """Number of training texts that have each term."""
        return np.bincount(self.counts[self.train].indices, minlength=self.counts.shape[1])

    @cached_property
    def term_frequency(self) -> Ints:
        """Number of times the training texts have each term."""
        return np.asarray(self.counts[self.train].sum(axis=0)).ravel()

    def select(self, vectorizer: TfidfVectorizer) -> Ints:
        """Columns, ascending, that `CountVectorizer._limit_features` would keep of this fold.

        Among terms of equal frequency at the limit, `max_features` keeps those that NumPy's
        unstable sort happens to put first: the same call on the same numbers finds the same.
        """
        df, n_texts = self.document_frequency, len(self.train)
        if not df.any():
            raise ValueError("empty vocabulary; perhaps the documents only contain stop words")
        highest, lowest = (
            float(limit if isinstance(limit, Integral) else limit * n_texts)
            for limit in (vectorizer.max_df, vectorizer.min_df)
        )
        if highest < lowest:
            raise ValueError("max_df corresponds to < documents than min_df")
        columns = np.flatnonzero((df > 0) & (df <= highest) & (df >= lowest))
        if vectorizer.max_features is not None and len(columns) > vectorizer.max_features:
            tf = (df if vectorizer.binary else self.term_frequency).astype(vectorizer.dtype)
            most_frequent = (-tf[columns]).argsort()[: vectorizer.max_features]
            columns = np.sort(columns[most_frequent])
        if not len(columns):
            raise ValueError(
                "After pruning, no terms remain. Try a lower min_df or a higher max_df."
            )
        return columns

    def matrices(self, columns: Ints, vectorizer: TfidfVectorizer) -> FoldMatrix:
        """TF-IDF of both parts, entry for entry as TfidfVectorizer stores it."""
        weighting = TfidfTransformer(**{name: getattr(vectorizer, name) for name in WEIGHTING})
        train = in_order_of_first_use(self.counts[self.train][:, columns])
        test = self.counts[self.test][:, columns]
        test.sort_indices()
        as_floats = [
            sparse.csr_matrix(
                (
                    np.ones(part.nnz, vectorizer.dtype)
                    if vectorizer.binary
                    else part.data.astype(vectorizer.dtype),
                    part.indices,
                    part.indptr,
                ),
                shape=part.shape,
            )
            for part in (train, test)
        ]
        weighting.fit(as_floats[0])
        weighted = [weighting.transform(part, copy=False) for part in as_floats]
        return weighted[0], weighted[1]


class _MatrixCache:
    """The matrices used last, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self._kept: OrderedDict[Hashable, FoldMatrix] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, build: Callable[[], FoldMatrix]) -> FoldMatrix:
        """Return what is kept under `key`, or build it and keep it if there is room at all."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        built = build()
        size = _bytes(built)
        with self._lock:
            if key not in self._kept and size <= self._limit:
                self._kept[key] = built
                self.size += size
                while self.size > self._limit:
                    self.size -= _bytes(self._kept.popitem(last=False)[1])
        return built


@cache
def _blas() -> ThreadpoolController:
    """Find the BLAS libraries that the process has loaded; too slow to do at every trial."""
    return ThreadpoolController().select(user_api="blas")


def draws_from_shared_generator(model: ClassifierMixin, n_samples: int, n_features: int) -> bool:
    """Tell whether a fit draws from the one random generator that liblinear has per process.

    Two such fits at a time would draw each other's numbers (scikit-learn's newrand.h has a
    global Mersenne Twister). Liblinear's coordinate descent draws: all its dual solvers and those
    with an l1 penalty. Its primal Newton solvers do not.

    Parameters
    ----------
    model : classifier
        Unfitted. Estimators among its parameters are looked at too, and taken to draw where
        only the data they will be given can tell.
    n_samples, n_features : int
        Shape of the training matrix: `LinearSVC(dual="auto")` decides by it.

    Returns
    -------
    bool
        True also for the support vector machines of libsvm, which share a generator likewise.

    """

    def draws(part: Any) -> bool:
        if isinstance(part, LinearSVC):
            primal = part.dual is False or (
                part.dual == "auto" and part is model and n_samples >= n_features
            )
            newton = (part.penalty, part.loss, part.multi_class) == ("l2", "squared_hinge", "ovr")
            return not (primal and newton)
        if getattr(part, "solver", None) == "liblinear":
            l2 = part.penalty != "l1" and getattr(part, "l1_ratio", None) == 0
            return bool(part.dual) or not l2
        return isinstance(part, (LinearSVR, SVC, NuSVC))

    return any(map(draws, (model, *model.get_params().values())))


def count_terms(texts: Sequence[str], vectorizer: TfidfVectorizer) -> Matrix:
    """Count the terms of every text as the vectorizer analyses it, without leaving any out.

    Returns
    -------
    csr_matrix of int32 of shape (number of texts, number of terms)
        Columns in alphabetical order of the terms, as `CountVectorizer` sorts them; the entries
        of a row in the order in which its text first uses the terms.

    """
    analyse = vectorizer.build_analyzer()
    column_of: defaultdict[str, int] = defaultdict()
    column_of.default_factory = column_of.__len__
    columns, counts, ends = array("i"), array("i"), array("q", [0])
    rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    for text in rows:
        terms = [column_of[term] for term in analyse(text)]
        if len(set(terms)) == len(terms):  # most short texts, and faster
            columns.extend(terms)
            counts.extend(repeat(1, len(terms)))
        else:
            repeated = Counter(terms)  # in order of first use
            columns.extend(repeated.keys())
            counts.extend(repeated.values())
        ends.append(len(columns))
    alphabetical = np.empty(len(column_of), np.intc)
    alphabetical[[column_of[term] for term in sorted(column_of)]] = np.arange(len(column_of))
    indices = alphabetical[np.frombuffer(columns, np.intc)]
    matrix = (np.frombuffer(counts, np.intc), indices, np.frombuffer(ends, np.int64))
    distinct = sparse.csr_matrix(matrix, shape=(len(rows), len(column_of)))
    return distinct[[rows[text] for text in texts]]


def in_order_of_first_use(matrix: Matrix) -> Matrix:
    """Sort the entries of each row by the place of their column's first entry in the matrix.

    Parameters
    ----------
    matrix : csr_matrix
        With at least one entry in every column.

    Returns
    -------
    csr_matrix
        Equal in value and shape.

    """
    n_columns = matrix.shape[1]
    place = np.arange(matrix.nnz)[::-1]
    first = np.empty(n_columns, np.intp)
    first[matrix.indices[::-1]] = place  # of repeated columns the last assignment stands
    by_first_use = np.argsort(first).astype(matrix.indices.dtype)
    rank = np.empty_like(by_first_use)
    rank[by_first_use] = np.arange(n_columns)
    ranked = sparse.csr_matrix(
        (matrix.data, rank[matrix.indices], matrix.indptr), shape=matrix.shape
    )
    ranked.sort_indices()
    return sparse.csr_matrix(
        (ranked.data, by_first_use[ranked.indices], ranked.indptr), shape=matrix.shape
    )


def macro_f1(true: Ints, predicted: Ints, n_classes: int) -> float:
    """Unweighted mean of the classes' F1, each 2 TP / (2 TP + FP + FN).

    The average of F1 values, not the F1 of averages: `sklearn.metrics.f1_score` with
    `average="macro"`, to the last bit (Opitz and Burst 2019, "Macro F1 and Macro F1",
    arXiv:1911.03347, compare the two).

    Parameters
    ----------
    true, predicted : array of int of shape (n,)
        Class numbers, 0 to `n_classes` - 1.
    n_classes : int
        Classes that neither array holds do not count.

    Returns
    -------
    float
        0 to 1.

    """
    cells = np.bincount(true * n_classes + predicted, minlength=n_classes**2)
    confusion = cells.reshape(n_classes, n_classes)
    members = confusion.sum(axis=0) + confusion.sum(axis=1)
    present = members > 0
    return float(np.mean(2 * np.diag(confusion)[present] / members[present]))


def _build_fit_predict(
    model: ClassifierMixin, y: npt.NDArray[Any], job: _FoldJob
) -> npt.NDArray[Any]:
    return _fit_predict(model, y, *job.build())


def _fit_predict(
    model: ClassifierMixin, y: npt.NDArray[Any], train: Matrix, test: Matrix
) -> npt.NDArray[Any]:
    # On copies: some fits sort the entries of what they are given (liblinear's logistic regression
    # does), and the matrices have to serve other trials in the order they have. TF-IDF is finite.
    with config_context(assume_finite=True):
        predicted: npt.NDArray[Any] = clone(model).fit(train.copy(), y).predict(test.copy())
    return predicted


def _bytes(matrices: FoldMatrix) -> int:
    return sum(m.data.nbytes + m.indices.nbytes + m.indptr.nbytes for m in matrices)
