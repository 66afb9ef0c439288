"""Term counts: what the folds share. Terms are counted once, then columns are chosen per trial.

To be scikit-learn's to the last bit the matrices must hold their entries in the same order, since
sums of floats depend on it. Within a row, `TfidfVectorizer` stores the terms of its training texts
in the order in which it first met them, and those of other texts alphabetically.
"""

from __future__ import annotations

import threading
from array import array
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer

# The vectorizer's parameters that the counts do not depend on
WEIGHTING = ("norm", "use_idf", "smooth_idf", "sublinear_tf")
SELECTION = ("min_df", "max_df", "max_features", "vocabulary", "binary", "dtype")

Ints: TypeAlias = npt.NDArray[np.int_]
Matrix: TypeAlias = "sparse.csr_matrix[Any]"
FoldMatrix: TypeAlias = tuple[Matrix, Matrix]  # of a training part, of the rest


def count_terms(texts: Sequence[str], vectorizer: TfidfVectorizer) -> Matrix:
    """Count the terms of every text as the vectorizer analyses it, without leaving any out.

    Returns
    -------
    csr_matrix of int32 of shape (number of texts, number of terms)
        Columns in alphabetical order of the terms, as `CountVectorizer` sorts them; the entries
        of a row in the order in which its text first uses the terms.

    """
    analyse = clone(vectorizer).build_analyzer()  # which notes on the vectorizer what it checked
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


@dataclass(frozen=True, eq=False)
class FoldCounts:
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


class MatrixCache:
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
        size = bytes_of(built)
        with self._lock:
            if key not in self._kept and size <= self._limit:
                self._kept[key] = built
                self.size += size
                while self.size > self._limit:
                    self.size -= bytes_of(self._kept.popitem(last=False)[1])
        return built


def bytes_of(matrices: FoldMatrix) -> int:
    """Memory of both matrices of a fold."""
    return sum(m.data.nbytes + m.indices.nbytes + m.indptr.nbytes for m in matrices)
