"""Drift limits: against the laws that statistics knows for them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from support.drift_reviews import fitted, window_of

from sentiment.drift import limits as drift_limits
from sentiment.drift.features import TOTALS, ReviewRows, counted_values
from sentiment.drift.limits import LEVELS, RESAMPLES, SIZES, chance_limits, limits_at
from sentiment.drift.reference import common_terms
from sentiment.drift.signals import SIGNALS
from sentiment.metrics import Floats

EDGES = np.array([300, 600, 900])


@pytest.fixture(scope="module")
def rows() -> ReviewRows:
    window, true = window_of(600, 40)
    supports = {name: np.unique(column) for name, column in counted_values(window).items()}
    return ReviewRows.of(window, true, supports, EDGES, common_terms(fitted()))


@pytest.fixture(scope="module")
def chance(rows: ReviewRows) -> dict[int, dict[str, Floats]]:
    return drift_limits._chance_distances(rows, np.random.default_rng(4))


def test_limits_between_sizes_by_hand() -> None:
    table = np.array([[1.0, 2.0], [3.0, 6.0], [4.0, 7.0], [5.0, 8.0], [6.0, 9.0]])
    assert limits_at(table, 10) == {"watch": 1.0, "drifted": 2.0}
    # half way between 50 and 150 on the logarithmic scale: √(50 · 150) = 86.6
    assert limits_at(table, 87) == pytest.approx({"watch": 2.0, "drifted": 4.0}, rel=0.01)
    assert limits_at(table, 1_000_000) == {"watch": 6.0, "drifted": 9.0}


def test_signals_that_have_nothing_to_do_with_each_other_get_sidaks_level() -> None:
    """Six independent signals at 2.4 % together: each at 1 - .976^(1/6) = .40 %."""
    generator = np.random.default_rng(0)
    drawn = {f"signal {number}": generator.random(100_000) for number in range(6)}
    limits = drift_limits._limits_together(drawn)
    together = {"watch": 0.056, "drifted": 0.024}  # eight tenths of 7 and 3 %
    for at, level in enumerate(LEVELS):
        alone = 1 - (1 - together[level]) ** (1 / 6)
        for limit in limits.values():
            assert limit[at] == pytest.approx(1 - alone, abs=0.001)
        beyond = np.any([drawn[name] > limits[name][at] for name in drawn], axis=0)
        assert beyond.mean() <= together[level]
        assert beyond.mean() == pytest.approx(together[level], abs=0.001)


def test_joint_limits_by_hand() -> None:
    """A signal that says the same twice costs nothing: of 1,000 resamples 24 may lie beyond."""
    drawn = np.random.default_rng(5).permutation(1_000).astype(float)
    limits = drift_limits._limits_together({"one": drawn, "again": drawn * 2})
    assert limits == {"one": (943.0, 975.0), "again": (1_886.0, 1_950.0)}


def test_values_that_are_all_alike_are_never_beyond() -> None:
    drawn = {"flat": np.zeros(1_000), "other": np.random.default_rng(2).random(1_000)}
    assert drift_limits._limits_together(drawn)["flat"] == (0.0, 0.0)


def test_a_signal_alone_gets_its_own_level() -> None:
    drawn = np.random.default_rng(3).permutation(1_000).astype(float)
    # of 0 … 999, 1.4 and .6 % lie beyond: two tenths of 7 and 3 %
    assert drift_limits._limits_alone(drawn) == (986.0, 994.0)


def test_the_chance_of_resamples_is_what_statistics_says(
    chance: dict[int, dict[str, Floats]],
) -> None:
    """A share's angle is normal, a difference of distribution functions Kolmogorov's."""
    for size in SIZES:
        for name in ("positive_share", "emoji"):
            values = chance[size][name]
            assert len(values) == RESAMPLES
            assert (values**2).mean() == pytest.approx(1, abs=0.3)
        # bad in one direction: by chance it goes as often in the other
        assert (chance[size]["unknown_words"] < 0).mean() == pytest.approx(0.5, abs=0.15)
        assert (chance[size]["positive_share"] >= 0).all()
        if size >= 500:
            level = np.quantile(chance[size]["positive_share"], 0.95)
            assert level == pytest.approx(stats.norm.isf(0.025), abs=0.25)
            # many reviews have equal lengths, so a little below the law for distinct values
            level = np.quantile(chance[size]["characters_ks"], 0.95)
            assert level == pytest.approx(stats.kstwobign.isf(0.05), abs=0.15)


def test_both_sides_are_drawn_anew(chance: dict[int, dict[str, Floats]]) -> None:
    """Were the 600 of the reference held fixed, a window of 5,000 would be three times nearer."""
    found = chance[5_000]
    spread = np.sqrt((found["positive_share"] ** 2).mean() / (5_000 * 600 / 5_600))
    assert spread == pytest.approx(np.sqrt(1 / 5_000 + 1 / 600), rel=0.2)


def test_a_flag_that_nobody_had_gets_a_limit_all_the_same(rows: ReviewRows) -> None:
    totals = rows.totals.copy()
    totals[:, TOTALS.index("emoji")] = 0
    bare = ReviewRows(totals, rows.counts, rows.terms)
    limits = chance_limits(bare, np.random.default_rng(6))
    # 1 of 500 reviews against 0 of 600: an angle of 2 arcsin √.002, at size 500·600/1100
    one = 2 * np.arcsin(np.sqrt(0.002)) * np.sqrt(500 * 600 / 1100)
    assert limits_at(limits["emoji"], 500)["drifted"] >= one


def test_every_signal_has_limits_and_the_watch_limit_is_the_nearer(rows: ReviewRows) -> None:
    limits = chance_limits(rows, np.random.default_rng(7))
    assert set(limits) == set(SIGNALS)
    for table in limits.values():
        assert table.shape == (len(SIZES), 2) and (table[:, 0] <= table[:, 1]).all()
