"""Drift domain: a classifier that tries to tell the reviews of now from those of the reference.

Where it cannot, its cross-validated ROC AUC is .5 but for chance; what it goes by names the words
that changed. (Domain or two-sample classifier: Lopez-Paz & Oquab 2017, "Revisiting classifier
two-sample tests".)

It does not read reviews but pools: which terms how many of `POOL` reviews have, the reviews drawn
together at random. So the reference can be kept without keeping anybody's review, not even its
words in disorder, and the test loses nothing: as many words in a fifth of the rows separate as
well as before. An AUC of pools is farther from .5 than one of single reviews would be.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.stats import rankdata

from sentiment.drift.features import Floats, Ints, Matrix

POOL = 5  # reviews; nobody's words can be told from those of four others
FOLDS = 5
MIN_POOLS = 2 * FOLDS  # of either side, so that each fold tests at least two
MAX_POOLS = 1_000  # of the window: more would not help against a reference of some hundreds
# The penalty on squared weights. Rows have length 1, so a word must show in dozens of pools to get
# much weight. On real reviews 1 to 10 separate alike, and like logistic regression at C = 1.
PENALTY = 10.0


@dataclass(frozen=True)
class Separation:
    """How well window and reference can be told apart.

    `auc` is the mean over the folds, and `standard_error` the unit of its limits. `weights` has one
    for each term, above 0 for those that speak for the window.
    """

    auc: float
    standard_error: float
    weights: Floats


def pool_reviews(terms: Matrix, generator: np.random.Generator) -> Matrix:
    """Add up the rows of `POOL` reviews at a time, in random order; what is left over is dropped.

    Takes a row of ones and zeros a review, gives a row of counts, 0 to `POOL`, a pool.
    """
    pools = terms.shape[0] // POOL
    order = generator.permutation(terms.shape[0])[: pools * POOL]
    member = (np.ones(len(order)), (np.repeat(np.arange(pools), POOL), order))
    which = sparse.csr_matrix(member, shape=(pools, terms.shape[0]))
    return sparse.csr_matrix(which @ terms.astype(np.float64))


def standard_error(window: int, reference: int) -> float:
    """Of the AUC of a fixed score on so many rows of two like populations (Mann & Whitney 1947)."""
    return float(np.sqrt((window + reference + 1) / (12 * window * reference)))


def separate(reference: Matrix, window: Matrix) -> Separation | None:
    """Train and test the classifier on pools of both sides; None for fewer than `MIN_POOLS`.

    Both have a row a pool in random order and the same columns. Of the window the first
    `MAX_POOLS` are used.
    """
    from sklearn.linear_model import Ridge

    window = window[:MAX_POOLS]
    sizes = window.shape[0], reference.shape[0]
    if min(sizes) < MIN_POOLS:
        return None
    matrix = weigh(sparse.csr_matrix(sparse.vstack([window, reference])))
    folds = np.concatenate([np.arange(size) % FOLDS for size in sizes])
    is_window = np.repeat([1.0, 0.0], sizes)[:, None]
    auc = float(cross_validated_auc(matrix, folds, is_window)[0])
    weights = Ridge(alpha=PENALTY).fit(matrix, is_window[:, 0]).coef_
    return Separation(auc, standard_error(*sizes), weights)


def chance_distances(
    pools: Matrix, window: int, resamples: int, generator: np.random.Generator
) -> Floats | None:
    """How far the AUC of random parts of the reference against the rest lies above .5.

    In units of `standard_error`, shape (resamples,).

    A part has `window` pools, drawn without replacement: a pool on both sides would be recognised.
    None where either side would have fewer than `MIN_POOLS`.
    """
    size = pools.shape[0]
    if min(window, size - window) < MIN_POOLS:
        return None
    folds = np.arange(size) % FOLDS
    is_window = np.zeros((size, resamples))
    for fold in range(FOLDS):
        rows = np.flatnonzero(folds == fold)
        chosen = generator.random((len(rows), resamples)).argsort(axis=0)
        is_window[rows] = chosen < len(range(fold, window, FOLDS))
    auc = cross_validated_auc(weigh(pools), folds, is_window)
    return (auc - 0.5) / standard_error(window, size - window)


def weigh(pools: Matrix) -> Floats:
    """TF-IDF of pools as a dense array, rows of length 1; the IDF is that of all of them."""
    from sklearn.feature_extraction.text import TfidfTransformer

    weighed = TfidfTransformer().fit_transform(pools)
    return np.asarray(weighed.toarray(), dtype=np.float64)


def cross_validated_auc(matrix: Floats, folds: Ints, is_window: Floats) -> Floats:
    """Mean AUC over the folds of least squares with a penalty, for many labellings at once.

    Parameters
    ----------
    matrix : array of shape (rows, terms)
        TF-IDF.
    folds : array of int of shape (rows,)
        The fold in which a row is tested.
    is_window : array of 0 and 1 of shape (rows, labellings)
        Of every labelling each fold has as many ones, and at least one of either.

    Returns
    -------
    array of shape (labellings,)
        0–1.

    """
    from sklearn.linear_model import Ridge

    total = np.zeros(is_window.shape[1])
    for fold in range(FOLDS):
        test = folds == fold
        model = Ridge(alpha=PENALTY).fit(matrix[~test], is_window[~test])
        total += areas(model.predict(matrix[test]).reshape(-1, is_window.shape[1]), is_window[test])
    return total / FOLDS


def one_thread() -> AbstractContextManager[object]:
    """Within the block BLAS works in the calling thread alone.

    The matrices here are small: a second thread gains little where a core is free, and where none
    is the two wait for each other, up to ten times as long.
    """
    return _blas().limit(limits=1)  # type: ignore[no-any-return]


@cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def areas(scores: Floats, positive: Floats) -> Floats:
    """ROC AUC of each column: the share of pairs that are in order, ties counted half."""
    ones = positive.sum(axis=0)
    ranks = np.asarray(rankdata(scores, axis=0))
    pairs = ones * (len(scores) - ones)
    area: npt.NDArray[np.float64] = ((ranks * positive).sum(axis=0) - ones * (ones + 1) / 2) / pairs
    return area
