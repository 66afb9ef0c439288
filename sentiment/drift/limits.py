"""Set the limits: how far chance alone takes a window from the reference.

Both sides of the comparison are drawn anew from the reference's own reviews, with replacement, the
window at sizes on a grid and the reference at its own size: the two-sample bootstrap (Efron &
Tibshirani 1993, ch. 16). So a limit allows for the chance in both, and does not shrink with a long
window below what a reference of some hundreds of reviews can tell.

An alarm is "any signal beyond its limit", so the limits are set together. Each signal gets the same
rank among its resamples: the highest rank at which the share of resamples with any signal beyond
its limit stays within what is allowed (the single-step minP method: Westfall & Young 1993, ch. 2).
So signals that move together are not paid for twice.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sentiment.drift.features import FLAGS, TOTALS, ReviewRows, Tally
from sentiment.drift.signals import MEASURED, distances
from sentiment.metrics import Floats

# A window between two sizes gets a limit in between, a longer one that of the last: 5,000 reviews
# are three times a usual reference, whose own chance is most of the limit by then.
SIZES = (50, 150, 500, 1_500, 5_000)
MIN_REFERENCE = 100  # reviews; fewer do not show how reviews vary, so limits would be too narrow
RESAMPLES = 1_000
BLOCK = 250  # resamples in memory at once: some 10 MB per array for a reference of 5,000 reviews
LEVELS = ("watch", "drifted")
# How often a check of unchanged reviews may exceed a level, all signals together. We promise at
# most 10 and 5 %, and aim lower, since the reference is itself only a sample.
FALSE_ALARMS = {"watch": 0.07, "drifted": 0.03}
# How that is shared: most for the signals that every check has, the rest for the score by true
# labels, which is not always there.
TOGETHER, ALONE = 0.8, 0.2


def limits_at(table: Floats, size: int) -> dict[str, float]:
    """Return a signal's limits by level for a window of `size` reviews.

    `table` has shape (`SIZES`, `LEVELS`). Between two sizes of the grid the limits are linear in
    the logarithm of the size, beyond its ends constant.
    """
    columns = zip(LEVELS, table.T, strict=True)
    return {
        level: float(np.interp(np.log(size), np.log(SIZES), column)) for level, column in columns
    }


def chance_limits(rows: ReviewRows, generator: np.random.Generator) -> dict[str, Floats]:
    """Return for each signal its limits on the distance, of shape (`SIZES`, `LEVELS`).

    There are none for a reference of fewer than `MIN_REFERENCE` reviews.
    """
    from threadpoolctl import threadpool_limits

    if len(rows.totals) < MIN_REFERENCE:
        return {}
    # These matrices are small: a second thread of BLAS gains little on a free core, and on a busy
    # machine the threads wait for each other, up to ten times as long.
    with threadpool_limits(limits=1, user_api="blas"):
        chance = _chance_distances(rows, generator)
    tables: dict[str, list[tuple[float, ...]]] = {}
    for by_signal in chance.values():
        measured = by_signal.pop(MEASURED, None)
        limits = _limits_together(by_signal)
        if measured is not None:
            limits[MEASURED] = _limits_alone(measured)
        for signal, by_level in limits.items():
            tables.setdefault(signal, []).append(by_level)
    return {name: np.array(table) for name, table in tables.items() if len(table) == len(SIZES)}


def _chance_distances(
    rows: ReviewRows, generator: np.random.Generator
) -> dict[int, dict[str, Floats]]:
    """Return for each of `SIZES` the distances of `RESAMPLES` pairs of resamples, by signal."""
    by_size: dict[int, list[dict[str, Floats]]] = {size: [] for size in SIZES}
    reviews = len(rows.totals)
    for _ in range(RESAMPLES // BLOCK):
        reference = _resampled(rows, _draw(reviews, reviews, generator), generator)
        weights, drawn = np.zeros((BLOCK, reviews)), 0
        for size in SIZES:
            weights, drawn = weights + _draw(reviews, size - drawn, generator), size
            by_size[size].append(distances(reference, _resampled(rows, weights, generator)))
    return {
        size: {
            name: np.concatenate([block[name] for block in blocks])
            for name in blocks[0]
            if all(name in block for block in blocks)  # a small resample may have no true labels
        }
        for size, blocks in by_size.items()
    }


def _draw(reviews: int, size: int, generator: np.random.Generator) -> Floats:
    """Return how often each review is drawn, in `BLOCK` draws of `size` with replacement."""
    drawn = generator.integers(0, reviews, (BLOCK, size))
    drawn += reviews * np.arange(BLOCK)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=BLOCK * reviews)
    return counts.reshape(BLOCK, reviews).astype(np.float64)


def _resampled(rows: ReviewRows, weights: Floats, generator: np.random.Generator) -> Tally:
    """Return the tally of resamples, with half a review more than was seen for each flag.

    Without it, a flag that no review of the reference has would never come up, and the first window
    with such a review would raise an alarm.
    """
    tally = rows.weighted(weights)
    for flag in FLAGS:
        unseen = generator.poisson(0.5 * tally.total("reviews") / weights.shape[1])
        tally.totals[:, TOTALS.index(flag)] += unseen
    return tally


def _limits_together(by_signal: Mapping[str, Floats]) -> dict[str, tuple[float, ...]]:
    """Return joint limits at one size, by level; the module's docstring gives the method."""
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
    """Return the limits of a signal on its own, by level."""
    quantiles = [1 - FALSE_ALARMS[level] * ALONE for level in LEVELS]
    return tuple(np.quantile(values, quantiles, method="higher").tolist())
