"""The macro-F1 of a trial by cross-validation: scikit-learn's to the last bit, much faster.

Cross-validating a text pipeline spends nearly all its time reading the same texts again, fold by
fold and trial by trial. Here the terms are counted once for all folds and trials that analyse text
alike; a trial then only chooses columns, and trials that choose the same share their matrices.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from hashlib import blake2b
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from joblib.parallel import ThreadingBackend, get_active_backend
from sklearn import config_context
from sklearn.base import ClassifierMixin, clone
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import assert_all_finite
from threadpoolctl import ThreadpoolController

from calibration import decision_values
from sentiment.training.shared_generator import draws_from_shared_generator
from sentiment.training.term_counts import (
    SELECTION,
    WEIGHTING,
    FoldCounts,
    FoldMatrix,
    Ints,
    Matrix,
    MatrixCache,
    count_terms,
)

# Room for about fifteen selections of terms from 500,000 short reviews (70 MB for the five folds);
# a search on 5,000 reviews needs 10 MB in all
CACHE_BYTES = 1 << 30
# One trial at a time in a process: every liblinear fit seeds the one generator, even a fit that
# never draws from it, and the limits of BLAS are the process's. Folds keep the processors busy.
_solving = threading.Lock()

Floats: TypeAlias = npt.NDArray[np.float64]
Answer: TypeAlias = Callable[[Any, Matrix], npt.NDArray[Any]]  # of a fitted model to a matrix


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
        self._train_labels = [self._labels[train] for train, _ in self._parts]
        self._workers = min(n_jobs or os.cpu_count() or 1, n_splits)
        self._threads = ThreadPoolExecutor(self._workers)
        self._analyses: dict[Hashable, list[FoldCounts]] = {}
        self._counting = threading.Lock()
        self._cache = MatrixCache(cache_bytes)

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
        predicted = self._run(self._jobs(vectorizer), model, _labels)
        return np.array(
            [
                macro_f1(
                    self._codes[test], np.searchsorted(self._classes, found), len(self._classes)
                )
                for (_, test), found in zip(self._parts, predicted, strict=True)
            ]
        )

    def decisions(self, vectorizer: TfidfVectorizer, model: ClassifierMixin) -> Floats:
        """Decision value of each text, shape (n,), by the model of the fold that held it out.

        Parameters and errors are those of `score`; values are `calibration.decision_values`.
        """
        found = np.empty(len(self._texts))
        values = self._run(self._jobs(vectorizer), model, decision_values)
        for (_, test), of_fold in zip(self._parts, values, strict=True):
            found[test] = of_fold
        return found

    def _run(
        self, jobs: list[_FoldJob], model: ClassifierMixin, answer: Answer
    ) -> list[npt.NDArray[Any]]:
        """Fit every fold and let it answer, at most as many at once as there are workers."""
        # few texts and many terms make a fit draw: if not the most extreme of both, then none
        fewest = min(len(labels) for labels in self._train_labels)
        most = max(job.n_features for job in jobs)
        alone = draws_from_shared_generator(model, fewest, most)
        models, labels, answers = repeat(model), self._train_labels, repeat(answer)
        backend, _ = get_active_backend(prefer="threads")
        if not alone and not isinstance(backend, ThreadingBackend):  # sent somewhere else
            return list(
                Parallel(n_jobs=self._workers)(
                    delayed(_fit_predict)(model, y, answer, *job.build())
                    for y, job in zip(labels, jobs, strict=True)
                )
            )
        # One BLAS thread for each of ours, as joblib gives the processes of cross_val_score: from
        # 10,000 features on, where OpenBLAS shares out its work, more took five times as long
        with _solving, _blas().limit(limits=1):
            if alone:
                return list(map(_build_fit_predict, models, labels, answers, jobs))
            # joblib's own threads are asked for results every 10 ms, longer than a fit may take
            return list(self._threads.map(_build_fit_predict, models, labels, answers, jobs))

    def _jobs(self, vectorizer: TfidfVectorizer) -> list[_FoldJob]:
        """Choose the terms of every fold; the matrices are built when their turn comes."""
        if (
            type(vectorizer) is not TfidfVectorizer
            or vectorizer.vocabulary is not None
            or np.dtype(vectorizer.dtype) not in (np.float32, np.float64)
        ):
            return self._plain_jobs(vectorizer)
        params = vectorizer.get_params()
        counting = {name: value for name, value in params.items() if name not in WEIGHTING}
        CountVectorizer(**{**counting, "vocabulary": ["a"]}).fit([])  # scikit-learn's own checks
        recipe = (
            np.dtype(vectorizer.dtype),
            vectorizer.binary,
            *(params[name] for name in WEIGHTING),
        )
        jobs = []
        for fold in self._counts(vectorizer, params):
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

    def _counts(self, vectorizer: TfidfVectorizer, params: dict[str, Any]) -> list[FoldCounts]:
        """Return the counts of all folds, made the first time an analysis is asked for."""
        analysis = tuple(
            (name, tuple(value) if isinstance(value, list) else value)
            for name, value in sorted(params.items())
            if name not in WEIGHTING + SELECTION
        )
        with self._counting:
            if analysis not in self._analyses:
                counts = count_terms(self._texts, vectorizer)
                self._analyses[analysis] = [FoldCounts(counts, *part) for part in self._parts]
            return self._analyses[analysis]


@dataclass(frozen=True)
class _FoldJob:
    """What one fold of a trial needs: its matrices when asked, and how wide they will be."""

    build: Callable[[], FoldMatrix]
    n_features: int


@cache
def _blas() -> ThreadpoolController:
    """Find the BLAS libraries that the process has loaded; too slow to do at every trial."""
    return ThreadpoolController().select(user_api="blas")


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


def _labels(fitted: Any, matrix: Matrix) -> npt.NDArray[Any]:
    predicted: npt.NDArray[Any] = fitted.predict(matrix)
    return predicted


def _build_fit_predict(
    model: ClassifierMixin, y: npt.NDArray[Any], answer: Answer, job: _FoldJob
) -> npt.NDArray[Any]:
    return _fit_predict(model, y, answer, *job.build())


def _fit_predict(
    model: ClassifierMixin, y: npt.NDArray[Any], answer: Answer, train: Matrix, test: Matrix
) -> npt.NDArray[Any]:
    # On copies: some fits sort the entries of what they are given (liblinear's logistic regression
    # does), and the matrices have to serve other trials in the order they have. TF-IDF is finite.
    with config_context(assume_finite=True):
        return answer(clone(model).fit(train.copy(), y), test.copy())
