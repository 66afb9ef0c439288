"""Score candidates by cross-validation: scikit-learn's fold scores at a fraction of the cost.

`cross_val_score` reads every text anew in each fold of each trial. Here terms are counted once for
all folds and trials. A trial only chooses columns of the counts, and trials that choose the same
columns share their TF-IDF matrices, so that nearly all of the time is the solvers' own.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from hashlib import blake2b
from numbers import Integral
from typing import Any, Protocol, TypeAlias

import numpy as np
from scipy import sparse
from sklearn import config_context
from sklearn.base import ClassifierMixin, clone
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.svm import LinearSVC
from threadpoolctl import ThreadpoolController

from sentiment.metrics import Floats, Ints, Labels, score
from sentiment.model.calibration import decision_values
from text_cleaning import TextCleaner

Matrix: TypeAlias = "sparse.csr_matrix[Any]"
FoldMatrix: TypeAlias = tuple[Matrix, Matrix]  # TF-IDF of a fold's training part and of the rest

# Parameters of the vectorizer that choose among the terms; all others change how they are counted
SELECTION = ("min_df", "max_df", "max_features", "vocabulary")
# Choices of terms whose matrices are kept, 5 folds each: 1 MB for 5,000 short reviews, 70 MB for
# 500,000. The published space has no more than five that differ on the real reviews, one a `min_df`
KEPT = 16
KEPT_BYTES = 2**30  # of which no more than this, but the last one: 500,000 reviews have few of them
# One trial at a time in a process: liblinear has one random generator, which every fit seeds, and
# the number of BLAS threads is set for the whole process
_solving = threading.RLock()


@dataclass(frozen=True)
class Counts:
    """Term counts of all texts, shape (texts, terms), and the sums over each training part."""

    matrix: Matrix
    document_frequency: list[Ints]
    term_frequency: list[Floats]


@dataclass(frozen=True)
class Attempt:
    """What came of a trial: the scores of its folds, or None and the `reason`.

    `warnings` are all that were given on the way, and `seconds` what it took.
    """

    scores: Floats | None
    reason: str
    warnings: list[str]
    seconds: float


class Folds(Protocol):
    """Folds that score candidates, here or elsewhere; see `FoldMatrices`."""

    def score(
        self,
        vectorizer: TfidfVectorizer,
        model: ClassifierMixin,
        cleaner: TextCleaner | None = None,
    ) -> Floats:
        """Return the macro-F1 of each fold."""

    def decisions(
        self,
        vectorizer: TfidfVectorizer,
        model: ClassifierMixin,
        cleaner: TextCleaner | None = None,
    ) -> Floats:
        """Return each text's decision value by the fold that held it out."""


class FoldMatrices:
    """Stratified folds of texts, whose TF-IDF matrices are cut from shared counts.

    `labels`, shape (n,), are 0 or 1, and `random_state` seeds the shuffling of `StratifiedKFold`.
    Up to `n_jobs` folds are fitted at once, by default as many as there are processors. `cleaned`
    are the texts as cleaners leave them, by the `repr` of these, where that is known. Threads may
    share it; they take turns. Raises `ValueError` when texts and labels differ in number, or no
    class has `n_splits` members.
    """

    def __init__(
        self,
        texts: Sequence[str],
        labels: Labels,
        n_splits: int = 5,
        random_state: int = 42,
        n_jobs: int | None = None,
        cleaned: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        if len(texts) != len(labels):
            raise ValueError(f"{len(texts)} texts but {len(labels)} labels: give one for each")
        self._texts = list(texts)
        self._labels = np.asarray(labels)
        splitter = StratifiedKFold(n_splits, shuffle=True, random_state=random_state)
        self._parts: list[tuple[Ints, Ints]] = list(splitter.split(self._texts, self._labels))
        self._workers = min(n_jobs or os.cpu_count() or 1, n_splits)
        self._cleaned = {**(cleaned or {})}
        self._counted: dict[str, Matrix] = {}
        self._counts: dict[str, Counts] = {}
        self._kept: OrderedDict[Any, list[FoldMatrix]] = OrderedDict()
        self._blas = _find_blas()

    def over(self, parts: Sequence[tuple[Ints, Ints]]) -> FoldMatrices:
        """Return others that are fitted and held out as `parts` say; what was counted is shared.

        Each of `parts` is two arrays of row numbers of the texts, which need not name them all.
        """
        others = copy(self)
        others._parts, others._counts, others._kept = list(parts), {}, OrderedDict()
        return others

    def alone_with(self, analysis: str, counted: Matrix) -> FoldMatrices:
        """Return the same folds without the texts, who know the terms of one `analysis` only.

        They are small enough to be sent to other processes.
        """
        others = self.over(self._parts)
        others._texts, others._cleaned, others._counted = [], {}, {analysis: counted}
        return others

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_blas"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._blas = _find_blas()

    def score(
        self,
        vectorizer: TfidfVectorizer,
        model: ClassifierMixin,
        cleaner: TextCleaner | None = None,
    ) -> Floats:
        """Return the macro-F1 of each fold, 0–1; their mean is the objective of a trial.

        They are the scores, shape (n_splits,), of scikit-learn's `cross_val_score(Pipeline([
        ("tfidf", vectorizer), ("model", model)]), texts, labels, scoring="f1_macro",
        cv=StratifiedKFold(n_splits, shuffle=True, random_state=…))`. A `cleaner` cleans the texts
        first, once for all trials; without one they are taken as they are. Both estimators are
        cloned and never changed; the model's warnings reach the caller. Raises `ValueError` when no
        terms are left in some fold or a parameter is out of its range, and `TypeError` for another
        vectorizer than a `TfidfVectorizer` without a fixed vocabulary.
        """
        predicted = self.run(
            vectorizer, model, cleaner, lambda fitted, matrix: fitted.predict(matrix)
        )
        pairs = zip(self._parts, predicted, strict=True)
        return np.array([score(self._labels[test], found) for (_, test), found in pairs])

    def decisions(
        self,
        vectorizer: TfidfVectorizer,
        model: ClassifierMixin,
        cleaner: TextCleaner | None = None,
    ) -> Floats:
        """Return each text's `decision_values`, shape (n,), by the fold that held it out.

        Raises as `score` does.
        """
        found = np.empty(len(self._labels))
        values = self.run(vectorizer, model, cleaner, decision_values)
        for (_, test), of_fold in zip(self._parts, values, strict=True):
            found[test] = of_fold
        return found

    def attempt(
        self,
        vectorizer: TfidfVectorizer,
        model: ClassifierMixin,
        cleaner: TextCleaner | None = None,
    ) -> Attempt:
        """Score as `score` does, whatever comes of it: a study goes on when a trial fails."""
        scores, reason = None, ""
        # warnings are caught for the whole process, and another thread's trial is not this one's
        with _solving, warnings.catch_warnings(record=True) as caught:
            begun = time.perf_counter()
            warnings.simplefilter("always")
            try:
                scores = self.score(vectorizer, model, cleaner)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
        messages = {f"{item.category.__name__}: {item.message}" for item in caught}
        return Attempt(scores, reason, sorted(messages), time.perf_counter() - begun)

    def run(
        self,
        vectorizer: TfidfVectorizer,
        model: ClassifierMixin,
        cleaner: TextCleaner | None,
        answer: Callable[..., Any],
    ) -> list[Any]:
        """Fit the model on every fold; return what `answer(model, matrix)` says of the other rows.

        Raises as `score` does.
        """

        def fit(matrices: FoldMatrix, rows: tuple[Ints, Ints]) -> Any:
            # TF-IDF is finite. Fits may write into their matrices, which serve other trials too
            train, test = (matrix.copy() for matrix in matrices)
            with config_context(assume_finite=True):
                return answer(clone(model).fit(train, self._labels[rows[0]]), test)

        with _solving:
            matrices = self._matrices(vectorizer, cleaner)
            threads = self._workers
            if any(_must_run_alone(model, *train.shape) for train, _ in matrices):
                threads = 1
            # One BLAS thread for each of ours: with more they would wait for one another
            with self._blas.limit(limits=1), ThreadPoolExecutor(threads) as pool:
                return list(pool.map(fit, matrices, self._parts))

    def count(self, vectorizer: TfidfVectorizer, cleaner: TextCleaner | None = None) -> None:
        """Count the terms for vectorizers of this kind, which else their first trial does."""
        analysis, params, _ = analysis_of(vectorizer, cleaner)
        if analysis in self._counts:
            return
        if analysis not in self._counted:
            counter, texts = CountVectorizer(**params), self._cleaned_by(cleaner)
            self._counted[analysis] = counter.fit_transform(texts)
            self._counted[analysis].sort_indices()
        self._counts[analysis] = self._sums(self._counted[analysis])

    def _matrices(
        self, vectorizer: TfidfVectorizer, cleaner: TextCleaner | None = None
    ) -> list[FoldMatrix]:
        """Return the TF-IDF matrices of every fold, those kept of an earlier trial if there are."""
        analysis, _, weighting = analysis_of(vectorizer, cleaner)
        self.count(vectorizer, cleaner)
        counts = self._counts[analysis]
        chosen = [
            _choose_columns(vectorizer, df, tf, len(train))
            for df, tf, (train, _) in zip(
                counts.document_frequency, counts.term_frequency, self._parts, strict=True
            )
        ]
        digest = blake2b(b"".join(columns.tobytes() for columns in chosen)).digest()
        key = (analysis, repr(weighting), digest)
        if key not in self._kept:
            made = []  # kept when it is whole: a parameter out of its range fails here
            for columns, (train, test) in zip(chosen, self._parts, strict=True):
                of_fold, weigh = counts.matrix[:, columns], TfidfTransformer(**weighting)
                # document frequencies are the training part's
                made.append((weigh.fit_transform(of_fold[train]), weigh.transform(of_fold[test])))
            self._kept[key] = made
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and (
            len(self._kept) > KEPT or sum(map(_bytes, self._kept.values())) > KEPT_BYTES
        ):
            self._kept.popitem(last=False)
        return self._kept[key]

    def _cleaned_by(self, cleaner: TextCleaner | None) -> Sequence[str]:
        if cleaner is None:
            return self._texts
        name = repr(cleaner)
        if name not in self._cleaned:
            self._cleaned[name] = cleaner.transform(self._texts)
        return self._cleaned[name]

    def _sums(self, matrix: Any) -> Counts:
        parts = [matrix[train] for train, _ in self._parts]
        return Counts(
            matrix,
            [np.bincount(part.indices, minlength=matrix.shape[1]) for part in parts],
            [np.asarray(part.sum(axis=0)).ravel() for part in parts],
        )


def analysis_of(
    vectorizer: TfidfVectorizer, cleaner: TextCleaner | None
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return how a vectorizer counts terms, as a name and as parameters, and how it weighs them.

    Vectorizers of one name differ in which terms they choose at most. Raises `TypeError` for
    another one than a `TfidfVectorizer` without a fixed vocabulary.
    """
    if type(vectorizer) is not TfidfVectorizer or vectorizer.vocabulary is not None:
        raise TypeError(f"expected a TfidfVectorizer without vocabulary, got {vectorizer!r}")
    params = vectorizer.get_params()
    weighting = {name: params.pop(name) for name in TfidfTransformer().get_params()}
    for name in SELECTION:
        del params[name]
    return repr((cleaner, sorted(params.items()))), params, weighting


def _find_blas() -> ThreadpoolController:
    """Find the BLAS libraries the process has loaded, which takes too long for every trial."""
    return ThreadpoolController().select(user_api="blas")


def _bytes(matrices: list[FoldMatrix]) -> int:
    return sum(
        part.nbytes
        for of_fold in matrices
        for matrix in of_fold
        for part in (matrix.data, matrix.indices, matrix.indptr)
    )


def _choose_columns(
    vectorizer: TfidfVectorizer, document_frequency: Ints, term_frequency: Floats, n_texts: int
) -> Ints:
    """Return the columns, ascending, that CountVectorizer would keep of a fold's training part.

    Among terms of equal frequency at the limit, `max_features` keeps those that NumPy's unstable
    sort happens to put first: the same call on the same numbers as in scikit-learn.
    """
    highest, lowest = (
        float(limit if isinstance(limit, Integral) else limit * n_texts)
        for limit in (vectorizer.max_df, vectorizer.min_df)
    )
    if highest < lowest:
        raise ValueError("max_df corresponds to < documents than min_df")
    columns = np.flatnonzero(
        (document_frequency >= max(lowest, 1)) & (document_frequency <= highest)
    )
    if vectorizer.max_features is not None and len(columns) > vectorizer.max_features:
        commonest = (-term_frequency[columns]).argsort()[: vectorizer.max_features]
        columns = np.sort(columns[commonest])
    if not len(columns):
        raise ValueError("After pruning, no terms remain. Try a lower min_df or a higher max_df.")
    return columns


def _must_run_alone(model: ClassifierMixin, n_samples: int, n_features: int) -> bool:
    """Tell whether a fit may draw from liblinear's random generator.

    The generator is one per process, so two such fits at a time would draw each other's numbers.
    Coordinate descent draws (the dual solvers and those of l1), the primal Newton solvers do not.
    A model whose doings are not known here is taken to draw.
    """
    if isinstance(model, LinearSVC):
        primal = model.dual is False or (model.dual == "auto" and n_samples >= n_features)
        newton = (model.penalty, model.loss, model.multi_class) == ("l2", "squared_hinge", "ovr")
        return not (primal and newton)
    if isinstance(model, LogisticRegression):
        l1 = model.penalty == "l1" or model.l1_ratio != 0
        return model.solver == "liblinear" and bool(model.dual or l1)
    return not isinstance(model, (MultinomialNB, ComplementNB))
