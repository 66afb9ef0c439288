"""Drift limits: how far a window may be from the reference before it says something.

Both sides of the comparison are drawn anew from the reference's own reviews, with replacement, the
window at sizes on a grid and the reference at its own: the two-sample bootstrap (Efron & Tibshirani
1993, ch. 16). So a limit holds the chance of both, and gets no narrower than a reference of some
hundreds of reviews allows, however long the window.

An alarm is "any signal beyond its limit", so the limits of the signals are set together, and what
may go wrong is shared out among three families. Within the first each signal gets the same rank
among its resamples, the highest at which the share of resamples with any signal beyond its limit
stays within the family's part (the single-step minP method: Westfall & Young 1993, ch. 2); how the
signals hang together is thereby taken into account.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from sentiment.drift.domain import POOL, chance_distances, one_thread
from sentiment.drift.features import Floats, Ints, Matrix, WindowFeatures
from sentiment.drift.signals import distances
from sentiment.drift.tally import TOTALS, Tally, bin_of, counted_values, term_columns, totals_by_row

# Windows between two sizes get a limit in between, longer ones that of the last: 5,000 reviews are
# three times a usual reference, whose own chance is by then most of what there is.
SIZES = (50, 150, 500, 1_500, 5_000)
MIN_REFERENCE = 100  # reviews; fewer do not show how reviews differ, so that limits are too narrow
RESAMPLES = 1_000
BLOCK = 250  # resamples in memory at once: some 10 MB an array for a reference of 5,000 reviews
LEVELS = ("watch", "drifted")
# How often a check of unchanged data says so, all signals together. Promised is 10 and 5 % at most,
# aimed at is less, since the reference is but a sample of what it stands for.
FALSE_ALARMS = {"watch": 0.08, "drifted": 0.035}
# How that is shared out: the signals of the log's columns and texts together; the domain classifier
# alone, for which rows cannot be drawn with replacement; and the score by true labels alone, which
# are not always there.
TOGETHER, ALONE = 0.6, 0.2
FLAGS = ("no_known_words", "emoji", "non_ascii")


@dataclass(frozen=True)
class Limits:
    """For each signal its limit on the distance at each of `sizes`, by level of `LEVELS`."""

    sizes: tuple[int, ...]
    signals: Mapping[str, tuple[tuple[float, ...], ...]]

    def at(self, signal: str, size: int) -> dict[str, float] | None:
        """The limits for a window of `size` reviews by level; None for a signal without any.

        Linear in the logarithm of the size between two of the grid, constant beyond its ends.
        """
        if signal not in self.signals:
            return None
        grid, columns = np.log(self.sizes), zip(*self.signals[signal], strict=True)
        return {
            level: float(np.interp(np.log(size), grid, column))
            for level, column in zip(LEVELS, columns, strict=True)
        }


@dataclass(frozen=True, eq=False)
class Rows:
    """The reference's reviews as rows of numbers that a weighted sum turns into a `Tally`."""

    totals: Floats
    counts: Mapping[str, Matrix]
    bins: Matrix
    terms: Matrix

    @classmethod
    def of(
        cls, window: WindowFeatures, true: Ints, score_edges: Ints, terms: tuple[str, ...]
    ) -> Rows:
        """The rows of reviews that have their texts; the arguments are those of `tally_window`."""
        columns = term_columns(window, terms)
        if columns is None:
            raise ValueError("limits are drawn from reviews that have their texts")
        values = counted_values(window)
        places = {name: np.searchsorted(np.unique(found), found) for name, found in values.items()}
        every, answered = np.arange(len(window)), np.flatnonzero(window.answered)
        return cls(
            totals_by_row(window, true),
            {
                name: _one_hot(answered if name == "score" else every, place, len(window))
                for name, place in places.items()
            },
            _one_hot(answered, bin_of(values["score"], score_edges), len(window)),
            columns,
        )

    def weighted(self, weights: Floats) -> Tally:
        """The tally of each row of `weights`, shape (samples, reviews)."""
        across = np.ascontiguousarray(weights.T)
        return Tally(
            weights @ self.totals,
            {name: (rows.T @ across).T for name, rows in self.counts.items()},
            (self.bins.T @ across).T,
            (self.terms.T @ across).T,
        )


def chance_limits(rows: Rows, pools: Matrix, generator: np.random.Generator) -> Limits:
    """The limits for a reference of these reviews, and of these pools of them.

    There are none for fewer than `MIN_REFERENCE` reviews.
    """
    if len(rows.totals) < MIN_REFERENCE:
        return Limits(SIZES, {})
    with one_thread():
        domain = _chance_of_pools(pools, generator)
        chance = _chance_of_rows(rows, generator)
    found: dict[str, list[tuple[float, ...]]] = {}
    for by_signal in chance.values():
        measured = by_signal.pop("measured_f1", None)
        for signal, limits in _limits_together(by_signal).items():
            found.setdefault(signal, []).append(limits)
        for signal, values in (("measured_f1", measured), ("domain_auc", domain)):
            if values is not None:
                found.setdefault(signal, []).append(_limits_alone(values))
    return Limits(
        SIZES, {name: tuple(table) for name, table in found.items() if len(table) == len(SIZES)}
    )


def _chance_of_pools(pools: Matrix, generator: np.random.Generator) -> Floats | None:
    """Distances of the domain classifier, of `RESAMPLES` parts of the reference in all.

    The parts are as large as the windows of `SIZES`, or half of the reference where that is less.
    In units of the standard error their distances have one law, so one limit does for all.
    """
    parts = sorted({min(size // POOL, pools.shape[0] // 2) for size in SIZES})
    drawn = [chance_distances(pools, part, RESAMPLES // len(parts), generator) for part in parts]
    enough = [values for values in drawn if values is not None]
    return np.concatenate(enough) if enough else None


def _chance_of_rows(rows: Rows, generator: np.random.Generator) -> dict[int, dict[str, Floats]]:
    """For each of `SIZES` the distances of `RESAMPLES` pairs of resamples, by signal."""
    found: dict[int, list[dict[str, Floats]]] = {size: [] for size in SIZES}
    reviews = len(rows.totals)
    for _ in range(RESAMPLES // BLOCK):
        reference = _resampled(rows, _draw(reviews, reviews, generator), generator)
        weights, drawn = np.zeros((BLOCK, reviews)), 0
        for size in SIZES:
            weights, drawn = weights + _draw(reviews, size - drawn, generator), size
            found[size].append(distances(reference, _resampled(rows, weights, generator)))
    return {
        size: {
            name: np.concatenate([block[name] for block in blocks])
            for name in blocks[0]
            if all(name in block for block in blocks)  # of few answered reviews one may lack labels
        }
        for size, blocks in found.items()
    }


def _draw(reviews: int, size: int, generator: np.random.Generator) -> Floats:
    """How often each review is drawn, in `BLOCK` draws of `size` with replacement."""
    drawn = generator.integers(0, reviews, (BLOCK, size))
    drawn += reviews * np.arange(BLOCK)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=BLOCK * reviews)
    return counts.reshape(BLOCK, reviews).astype(np.float64)


def _resampled(rows: Rows, weights: Floats, generator: np.random.Generator) -> Tally:
    """The tally of resamples in which half a review more than was seen has each flag.

    A flag that no review of the reference has would otherwise never come up, and the first window
    with one would be an alarm.
    """
    tally = rows.weighted(weights)
    for flag in FLAGS:
        unseen = generator.poisson(0.5 * tally.total("reviews") / weights.shape[1])
        tally.totals[:, TOTALS.index(flag)] += unseen
    return tally


def _limits_together(by_signal: Mapping[str, Floats]) -> dict[str, tuple[float, ...]]:
    """Limits of the first family at one size, by level; the method is told at the top."""
    values = np.array(list(by_signal.values()))
    ordered = np.sort(values, axis=1)
    # how many resamples are at least as far as this one, itself included
    as_far = [
        len(row) - np.searchsorted(row, own, side="left")
        for row, own in zip(ordered, values, strict=True)
    ]
    ranks = np.sort(np.min(as_far, axis=0))
    chosen = [ranks[int(FALSE_ALARMS[level] * TOGETHER * len(ranks))] for level in LEVELS]
    return {
        name: tuple(float(row[-rank]) for rank in chosen)
        for name, row in zip(by_signal, ordered, strict=True)
    }


def _limits_alone(values: Floats) -> tuple[float, ...]:
    """Limits of a signal that is a family of its own, by level."""
    quantiles = [1 - FALSE_ALARMS[level] * ALONE for level in LEVELS]
    return tuple(np.quantile(values, quantiles, method="higher").tolist())


def _one_hot(rows: Ints, columns: Ints, reviews: int) -> Matrix:
    """A one in each of these places of a matrix with a row a review."""
    shape = reviews, int(columns.max(initial=-1)) + 1
    return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
