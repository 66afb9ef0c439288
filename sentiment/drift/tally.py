"""Drift tally: totals and counts of a sample of reviews, all that comparing two samples needs.

Everything in it adds up over reviews. So a resample of the reference is a vector of weights, and
thousands of resamples are tallied by a few matrix products (`drift_limits`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from sentiment.drift.features import Floats, Ints, Matrix, WindowFeatures

# Cells of confusion matrices, first the true label, then the model's
EXPECTED = ("expected_00", "expected_01", "expected_10", "expected_11")
TRUE = ("true_00", "true_01", "true_10", "true_11")
TOTALS = (
    "reviews",
    "words",
    "unknown_words",
    "no_known_words",
    "emoji",
    "non_ascii",
    "answered",
    "positive",
    *EXPECTED,
    *TRUE,
)
# Share = a total over a total
SHARES = {
    "unknown_words": ("unknown_words", "words"),
    "no_known_words": ("no_known_words", "reviews"),
    "emoji": ("emoji", "reviews"),
    "non_ascii": ("non_ascii", "reviews"),
    "positive_share": ("positive", "answered"),
}
COUNTED = ("characters", "words", "score")
SCORE_STEPS = 1_000  # probabilities are counted in steps of a thousandth
PSI_BINS = 10  # as is usual, with equal shares of the reference
OTHER_WORD, UNKNOWN_WORD = "(another known word)", "(an unknown word)"


@dataclass(frozen=True, eq=False)
class Tally:
    """A sample of reviews, or many at once along leading axes.

    `totals` has shape (..., len(TOTALS)). `counts` has for each of `COUNTED` how many reviews have
    each value of its support, shape (..., values); the score's are of answered reviews. `bins` is
    the same by the bins of the PSI. `terms` is how many reviews have each term, None without texts.
    """

    totals: Floats
    counts: Mapping[str, Floats]
    bins: Floats
    terms: Floats | None

    def total(self, name: str) -> Floats:
        """One of `TOTALS`, shape (...)."""
        return np.asarray(self.totals[..., TOTALS.index(name)])

    def share(self, name: str) -> Floats:
        """One of `SHARES`, 0–1; 0 where there is nothing to take a share of."""
        part, whole = (self.total(total) for total in SHARES[name])
        return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)

    def confusion(self, cells: tuple[str, ...]) -> Floats:
        """`EXPECTED` or `TRUE` as confusion matrices of shape (..., 2, 2), row true label."""
        first = TOTALS.index(cells[0])
        found = self.totals[..., first : first + len(cells)]
        return found.reshape(*found.shape[:-1], 2, 2)


def tally_window(
    window: WindowFeatures,
    true: Ints,
    supports: Mapping[str, Ints],
    score_edges: Ints,
    terms: tuple[str, ...],
) -> Tally:
    """The tally of a window.

    `true` has true labels or `NO_LABEL`; `supports` the ascending values of each of `COUNTED`, the
    window's own among them; `score_edges` the first value of each bin of the PSI but the first's;
    `terms` the columns to count.
    """
    values = counted_values(window)
    columns = term_columns(window, terms)
    counts = {
        name: count(np.searchsorted(support, values[name]), len(support))
        for name, support in supports.items()
    }
    return Tally(
        totals_by_row(window, true).sum(axis=0),
        counts,
        count(bin_of(values["score"], score_edges), len(score_edges) + 1),
        None if columns is None else reviews_with(columns),
    )


def totals_by_row(window: WindowFeatures, true: Ints) -> Floats:
    """What each review adds to `TOTALS`, shape (n, len(TOTALS))."""
    text, labelled = window.text, window.answered & (true >= 0)
    flags = np.zeros((2, len(window))) if text is None else (text.emoji, text.non_ascii)
    chances = (1 - window.probability, window.probability)  # of the true labels 0 and 1
    cells = [(positive, label) for positive in (0, 1) for label in (0, 1)]
    columns = [
        np.ones(len(window)),
        window.words,
        window.words - window.known_words,
        window.known_words == 0,
        *flags,
        window.answered,
        window.label == 1,
        *(chances[positive] * (window.label == label) for positive, label in cells),
        *(labelled & (true == positive) & (window.label == label) for positive, label in cells),
    ]
    return np.array(columns, dtype=np.float64).T


def counted_values(window: WindowFeatures) -> dict[str, Ints]:
    """The whole numbers that `COUNTED` counts; the score's of answered reviews only."""
    score = np.rint(window.probability * SCORE_STEPS).astype(np.int64)
    return {
        "characters": window.characters,
        "words": window.words,
        "score": score[window.answered],
    }


def bin_of(score: Ints, edges: Ints) -> Ints:
    """The bin of the PSI that each score lies in, from 0."""
    return np.searchsorted(edges, score, side="right")


def count(places: Ints, size: int, weights: Ints | None = None) -> Floats:
    """How often each of the places 0 … size - 1 comes up, each time with its weight."""
    return np.bincount(places, weights, minlength=size).astype(np.float64)


def term_columns(window: WindowFeatures, terms: tuple[str, ...]) -> Matrix | None:
    """A column of ones and zeros for each term, then one for any other known word, one for unknown.

    Shape (n, len(terms) + 2); None without texts.
    """
    if window.text is None:
        return None
    column_of = {term: column for column, term in enumerate(window.text.vocabulary)}
    found = [(column_of[term], at) for at, term in enumerate(terms) if term in column_of]
    pick = sparse.csc_matrix(
        (np.ones(len(found)), tuple(zip(*found, strict=True)) or ([], [])),
        shape=(len(column_of), len(terms)),
    )
    picked = window.text.terms.astype(np.float64) @ pick
    other = np.diff(window.text.terms.indptr) > np.diff(picked.tocsr().indptr)
    last = sparse.csr_matrix(np.column_stack([other, window.words > window.known_words]))
    return sparse.csr_matrix(sparse.hstack([picked, last.astype(np.float64)]))


def reviews_with(columns: Matrix) -> Floats:
    """The number of reviews that have each term."""
    return np.asarray(columns.sum(axis=0), dtype=np.float64).ravel()
