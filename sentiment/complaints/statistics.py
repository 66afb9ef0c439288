"""Test how the share of a theme changes with the months, and whether stars set it apart.

A theme is given as the reviews that have it: an array of bools, of all reviews of the file. What is
tested for several themes is corrected for their number (Benjamini & Hochberg 1995).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from sentiment.complaints.reviews import NO_MONTH, Reviews
from sentiment.data.labels import NEUTRAL
from sentiment.metrics import Bools, Floats, Interval, Ints, wilson_interval

MONTH_REVIEWS = 50  # months with fewer are joined with the next ones
MOST_PERIODS = 24  # of a trend that is shown; more would not fit on a phone
ALPHA = 0.05
Z_95 = 1.959964
Change = Literal["rising", "falling", "no clear change"]


@dataclass(frozen=True)
class Period:
    """One or more months, with how many of all their reviews have the theme."""

    name: str
    hits: int
    reviews: int
    share: Interval


@dataclass(frozen=True)
class Trend:
    """How the share of all reviews changes with the months.

    `p_value` is that of the Cochran–Armitage test, corrected for the number of themes (Benjamini &
    Hochberg 1995).
    """

    change: Change
    p_value: float
    periods: tuple[Period, ...]


@dataclass(frozen=True)
class StarOdds:
    """How much commoner a theme is with 1–2 stars than with 3.

    `odds_ratio` has its 95 % interval, `p_value` is Fisher's exact one, corrected for the number of
    themes.
    """

    low: Interval  # share of the reviews with 1–2 stars
    neutral: Interval  # share of those with 3
    odds_ratio: Interval
    p_value: float

    @property
    def separates(self) -> bool:
        """Return whether the two shares differ by more than chance."""
        return self.p_value < ALPHA


def trend_test(hits: Ints, reviews: Ints, scores: Floats) -> tuple[float, float]:
    """Return z and the two-sided p-value of the Cochran–Armitage test for a trend in shares.

    `hits` of `reviews` in each group, whose place in time is `scores` (Armitage 1955, "Tests for
    linear trends in proportions and frequencies", Biometrics 11). z is above 0 where the share
    rises. Without two groups, or where all or none are hits, z is 0 and p is 1.
    """
    total = int(reviews.sum())
    share = hits.sum() / total if total else 0.0
    mean = (reviews * scores).sum() / total if total else 0.0
    variance = share * (1 - share) * (reviews * (scores - mean) ** 2).sum()
    if not variance > 0:
        return 0.0, 1.0
    z = float((hits * (scores - mean)).sum() / np.sqrt(variance))
    return z, float(2 * stats.norm.sf(abs(z)))


def odds_ratio(hits: int, of: int, other_hits: int, of_others: int) -> tuple[Interval, float]:
    """Return the odds of hits among `of` over those among the others, and Fisher's p-value.

    The 95 % interval is Woolf's (1955) with a half added to each cell (Haldane 1956).
    """
    cells = np.array([hits, of - hits, other_hits, of_others - other_hits])
    a, b, c, d = cells + 0.5
    log, half = np.log(a * d / (b * c)), Z_95 * np.sqrt(1 / a + 1 / b + 1 / c + 1 / d)
    p_value = float(stats.fisher_exact(cells.reshape(2, 2)).pvalue)
    return Interval(*(float(np.exp(end)) for end in (log, log - half, log + half))), p_value


def trends(rows_of: Sequence[Bools], reviews: Reviews) -> list[Trend | None]:
    """Return the trend of each theme, from which reviews have it; None without two months."""
    dated = reviews.months != NO_MONTH
    months, group = np.unique(reviews.months[dated], return_inverse=True)
    if len(months) < 2 or not rows_of:
        return [None] * len(rows_of)
    sizes = np.bincount(group)
    joined = _joined(months, sizes)
    tests, periods = [], []
    for rows in rows_of:
        complaints = (rows & reviews.negative)[dated]
        hits = np.bincount(group, weights=complaints, minlength=len(months)).astype(np.int64)
        tests.append(trend_test(hits, sizes, months.astype(np.float64)))
        periods.append(
            tuple(
                Period(name, int(hits[at].sum()), int(sizes[at].sum()), share)
                for name, at in joined
                if (share := wilson_interval(int(hits[at].sum()), int(sizes[at].sum())))
            )
        )
    adjusted = stats.false_discovery_control([p for _, p in tests])
    return [
        Trend(_change(z, float(p)), float(p), shown)
        for (z, _), p, shown in zip(tests, adjusted, periods, strict=True)
    ]


def _change(z: float, p_value: float) -> Change:
    if p_value >= ALPHA:
        return "no clear change"
    return "rising" if z > 0 else "falling"


def _joined(months: Ints, sizes: Ints) -> list[tuple[str, slice]]:
    """Return periods of enough reviews; what is left at the end is joined with the last."""
    least = max(MONTH_REVIEWS, int(sizes.sum()) / MOST_PERIODS)
    if len(months) <= MOST_PERIODS:
        least = MONTH_REVIEWS
    periods: list[tuple[int, int]] = []
    begin = 0
    for at in range(len(months)):
        if sizes[begin : at + 1].sum() >= least:
            periods.append((begin, at + 1))
            begin = at + 1
    if begin < len(months):
        first = periods.pop()[0] if periods else begin
        periods.append((first, len(months)))
    return [(_period_name(months[first:end]), slice(first, end)) for first, end in periods]


def _period_name(months: Ints) -> str:
    names = [month_name(int(month)) for month in (months[0], months[-1])]
    return names[0] if names[0] == names[1] else f"{names[0]} to {names[1]}"


def month_name(month: int) -> str:
    """Return a month since year 0 as in `2021-02`."""
    return f"{month // 12:04d}-{month % 12 + 1:02d}"


def odds_by_stars(rows_of: Sequence[Bools], reviews: Reviews) -> list[StarOdds | None]:
    """Return the odds of each theme, from which reviews have it; None without both stars."""
    low, neutral = (reviews.stars > 0) & (reviews.stars < NEUTRAL), reviews.stars == NEUTRAL
    of_low, of_neutral = int(low.sum()), int(neutral.sum())
    if not of_low or not of_neutral or not rows_of:
        return [None] * len(rows_of)
    tests = []
    for rows in rows_of:
        hits, others = int((rows & low).sum()), int((rows & neutral).sum())
        shares = wilson_interval(hits, of_low), wilson_interval(others, of_neutral)
        tests.append((*shares, *odds_ratio(hits, of_low, others, of_neutral)))
    adjusted = stats.false_discovery_control([test[3] for test in tests])
    return [
        StarOdds(low_share, neutral_share, ratio, float(p))
        for (low_share, neutral_share, ratio, _), p in zip(tests, adjusted, strict=True)
        if low_share and neutral_share
    ]


def why_no_odds(reviews: Reviews) -> str:
    """Return why 1–2 and 3 stars are not compared."""
    if not (reviews.stars > 0).any():
        return "there are no stars"
    if not (reviews.stars == NEUTRAL).any():
        return "no review has 3 stars"
    low = (reviews.stars > 0) & (reviews.stars < NEUTRAL)
    return "there is no theme" if low.any() else "no review has 1 or 2 stars"
