"""A/B statistics: formulas by hand, and error rates and power in tests whose truth is known."""

from __future__ import annotations

import math
import re
from statistics import NormalDist

import numpy as np
import pytest
import simulate_ab
from scipy.integrate import quad

from sentiment.ab import statistics as ab_statistics
from sentiment.metrics import Floats

Z = NormalDist().inv_cdf
EVERY_TENTH = np.arange(100, 5_001, 10)  # labelled users at 491 looks, from the first possible on


def counts(*pairs: tuple[int, int]) -> tuple[Floats, Floats]:
    """`counts((8, 10), (9, 10))`: the champion was right 8 times of 10, the challenger 9."""
    return np.array([pair[0] for pair in pairs], float), np.array(
        [pair[1] for pair in pairs], float
    )


# --- how many users ---


def test_sample_size_by_hand() -> None:
    # pooled accuracy .865: 1.95996 √(2 · .865 · .135) = .94719
    # both accuracies:       .84162 √(.85 · .15 + .88 · .12) = .40634
    # (.94719 + .40634)² / .03² = 2035.6
    assert ab_statistics.required_sample_size(0.85, 0.03) == (2036, 2036)


@pytest.mark.parametrize(
    ("baseline", "effect", "share"), [(0.85, 0.03, 0.1), (0.9, -0.03, 0.2), (0.95, 0.02, 0.7)]
)
def test_sample_size_for_unequal_arms_is_that_of_the_textbook(
    share: float, baseline: float, effect: float
) -> None:
    """Fleiss, Levin & Paik 2003, section 4.2, from the champion's side."""
    ratio, other = share / (1 - share), baseline + effect
    pooled = (baseline + ratio * other) / (1 + ratio)
    null = Z(0.995) * math.sqrt((1 + ratio) * pooled * (1 - pooled))
    alternative = Z(0.9) * math.sqrt(ratio * baseline * (1 - baseline) + other * (1 - other))
    champion = (null + alternative) ** 2 / (ratio * effect**2)
    assert ab_statistics.required_sample_size(
        baseline, effect, alpha=0.01, power=0.9, share=share
    ) == (math.ceil(champion), math.ceil(champion * ratio))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"baseline": 1.0}, "baseline: expected a number between 0 and 1, found 1"),
        ({"smallest_effect": 0.2}, r"baseline \+ smallest_effect: .*, found 1.05"),
        ({"smallest_effect": 0.0}, "expected a difference other than 0"),
        ({"alpha": math.nan}, "alpha: .* found nan"),
    ],
)
def test_a_sample_size_of_nonsense_is_refused(changed: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ab_statistics.required_sample_size(**{"baseline": 0.85, "smallest_effect": 0.03, **changed})


@pytest.mark.parametrize(("baseline", "effect", "share"), [(0.85, 0.03, 0.5), (0.7, -0.04, 0.3)])
def test_the_sample_has_the_power_it_promises(baseline: float, effect: float, share: float) -> None:
    """And the always-valid test, looked at 20 times, has it with twice that sample."""
    rng = np.random.default_rng(1)
    total = sum(ab_statistics.required_sample_size(baseline, effect, share=share))
    found = []
    for test, users, simulations in (
        (simulate_ab.naive_test, np.array([total]), 4_000),
        (simulate_ab.always_valid_test(0.0), simulate_ab.even_looks(total), 1_000),
        (simulate_ab.always_valid_test(0.0), simulate_ab.even_looks(2 * total), 1_000),
    ):
        rates = (baseline, baseline + effect)
        found.append(simulate_ab.share_rejected(test, rates, share, users, simulations, rng))
    once, sequential, sequential_twice = found
    # Three standard errors of 4,000 simulations are .019; statsmodels' normal approximation of a
    # binomial adds some thousandths.
    assert once == pytest.approx(0.8, abs=0.025)
    assert 0.3 < sequential < once
    assert sequential_twice > 0.8


# --- the always-valid interval ---


def test_the_interval_by_hand() -> None:
    # 852/1004 = .848606 and 892/1004 = .888446 with two right and two wrong ones added;
    # variance (.848606 · .151394 + .888446 · .111554) / 1004 = .00022667, mixture .03² = .0009;
    # .00022667 · .00112667 / .0009 · (ln(1 + .0009 / .00022667) + 2 ln 20) = .0021552 = .046424²
    difference, low, high = ab_statistics.always_valid_difference(*counts((850, 1000), (890, 1000)))
    assert float(difference) == pytest.approx(0.04)
    assert float(low) == pytest.approx(0.04 - 0.046424, abs=2e-6)
    assert float(high) == pytest.approx(0.04 + 0.046424, abs=2e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_at_its_ends_the_mixture_is_one_over_alpha_times_as_likely(alpha: float) -> None:
    """The definition that the formula solves: the likelihood ratio, integrated numerically."""
    correct, counted = counts((410, 500), (185, 200))
    difference, low, high = map(
        float, ab_statistics.always_valid_difference(correct, counted, alpha)
    )
    rates = (correct + 2) / (counted + 4)
    error = math.sqrt(float((rates * (1 - rates) / (counted + 4)).sum()))
    for end in (low, high):

        def mixed(theta: float, end: float = end) -> float:
            prior = NormalDist(end, ab_statistics.EFFECT).pdf(theta)
            return NormalDist(theta, error).pdf(difference) * prior

        likelihood, _ = quad(mixed, end - 1, end + 1, points=[end, difference], limit=200)
        ratio = likelihood / NormalDist(end, error).pdf(difference)
        assert ratio == pytest.approx(1 / alpha, rel=1e-6)


def test_what_is_enough() -> None:
    for champion, challenger, sufficient in (
        ((45, 50), (45, 50), True),  # 10 wrong of 100: 5 of the 50 of the smaller arm
        ((45, 50), (46, 50), False),  # 4.5
        ((5, 50), (5, 50), True),  # the same with right and wrong exchanged
        ((5, 50), (4, 50), False),
        ((25, 49), (500, 1000), False),
        ((895, 1000), (50, 50), True),  # 105 of 1,050, though the smaller arm has none wrong
        ((896, 1000), (50, 50), False),
        ((100, 100), (100, 100), False),
        ((0, 0), (0, 0), False),
        ((500, 1000), (0, 0), False),
    ):
        both = counts(champion, challenger)
        assert bool(ab_statistics.enough(*both)) is sufficient
        difference, low, high = map(float, ab_statistics.always_valid_difference(*both))
        assert math.isnan(difference) is math.isnan(low) is math.isnan(high) is not sufficient


def test_the_interval_stays_within_what_accuracies_can_differ_by() -> None:
    difference, low, high = ab_statistics.always_valid_difference(*counts((2, 50), (50, 50)))
    assert float(difference) == pytest.approx(0.96)
    assert float(low) > 0.5 and float(high) == 1.0


# --- error rates in tests whose truth is known ---


def test_the_simulation_has_the_error_rates_of_the_textbook() -> None:
    """A z-test at 5 %: looked at once it errs so often, at 20 even looks in 24.8 % of all tests.

    The second is from Armitage, McPherson & Rowe 1969, "Repeated significance tests on
    accumulating data", table 2.
    """
    rng = np.random.default_rng(2)
    for users, expected in ((np.array([20_000]), 0.05), (simulate_ab.even_looks(20_000), 0.248)):
        found = simulate_ab.share_rejected(
            simulate_ab.naive_test, (0.7, 0.7), 0.5, users, 4_000, rng
        )
        assert found == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    ("champion", "challenger", "share"),
    [
        (0.85, 0.85, 0.5),
        (0.95, 0.95, 0.2),
        (0.98, 0.98, 0.05),
        (0.9, 0.98, 0.2),
    ],
)
def test_the_truth_is_in_the_interval_at_every_look_from_the_first_on(
    champion: float, challenger: float, share: float
) -> None:
    """At 491 looks, the first with few labels, it is left out in at most 5 % of all tests."""
    missed = simulate_ab.share_rejected(
        simulate_ab.always_valid_test(challenger - champion),
        (champion, challenger),
        share,
        EVERY_TENTH,
        2_000,
        np.random.default_rng(4),
    )
    assert 0 < missed <= 0.05


def test_as_many_more_users_as_it_says_show_the_difference() -> None:
    """Looked at only then, with 80 % probability."""
    share, seen = 0.2, counts((430, 500), (178, 200))  # accuracies .86 and .89
    champion, challenger = ab_statistics.units_to_show(*seen, share)
    assert challenger / (champion + challenger) == pytest.approx(share, abs=0.001)
    rates, looks = (0.86, 0.86 + ab_statistics.EFFECT), np.array([champion + challenger])
    test, rng = simulate_ab.always_valid_test(0.0), np.random.default_rng(5)
    found = simulate_ab.share_rejected(test, rates, share, looks, 4_000, rng)
    assert found == pytest.approx(0.8, abs=0.03)  # the two rates added blur the spread


# --- single figures ---


def test_the_split_by_hand() -> None:
    """With one degree of freedom, chi-square is the square of a standard normal."""
    for units, share, chi_square in (
        ((520, 480), 0.5, 1.6),  # 20² / 500 + 20² / 500
        ((750, 250), 0.2, 15.625),  # 50² / 800 + 50² / 200
        ((800, 200), 0.2, 0.0),
        ((5, 5), 0.5, 0.0),
    ):
        expected = 2 * (1 - NormalDist().cdf(math.sqrt(chi_square)))
        assert ab_statistics.split_p_value(units, share) == pytest.approx(expected, rel=1e-6)


def test_a_split_of_few_users_or_of_none_to_an_arm() -> None:
    for units, share in (((9, 0), 0.5), ((20, 3), 0.2), ((0, 0), 0.5), ((100, 0), 0.0)):
        assert ab_statistics.split_p_value(units, share) is None  # below 5 expected, or none
    assert ab_statistics.split_p_value((0, 99), 1.0) is None
    for units, share in (((99, 1), 0.0), ((1, 99), 1.0)):
        assert ab_statistics.split_p_value(units, share) == 0.0


# --- the verdict ---


def test_verdicts() -> None:
    better = ab_statistics.judge((1000, 1000), *counts((800, 1000), (890, 1000)), 0.5)
    assert better.verdict == "challenger better" and better.difference is not None
    assert f"+0.090, always-valid 95% interval +{better.difference.low:.3f}…" in better.sentence
    worse = ab_statistics.judge((1000, 1000), *counts((890, 1000), (800, 1000)), 0.5, 0.001)
    assert worse.verdict == "champion better"
    assert "−0.090, always-valid 99.9% interval −0.1" in worse.sentence
    unsure = ab_statistics.judge((1000, 1000), *counts((850, 1000), (850, 1000)), 0.5)
    # half the interval: variance 2 · .848606 · .151394 / 1004 = .00025592 and, as above, .0496
    # with 80 %: at a variance of .0658 · .03² = .0000592 half the interval and .8416 standard
    # errors, .02353 + .00648, make .03; 2 · .12847 / .0000592 = 4,340 an arm
    assert unsure.verdict == "no difference shown yet"
    assert "−0.050…+0.050" in unsure.sentence and unsure.sentence.count("3,300") == 2
    long = ab_statistics.judge((9000, 9000), *counts((7650, 9000), (7650, 9000)), 0.5)
    assert "a difference of 0.03 would have been detected" in long.sentence


def test_too_few_labels_and_a_wrong_split_come_before_any_difference() -> None:
    few = ab_statistics.judge((60, 60), *counts((20, 60), (46, 49)), 0.5)
    assert few.difference is None and few.verdict == "not enough labels yet"
    assert re.findall(r"\d+", few.sentence) == ["60", "49", "66", "43", "50", "5", "5"]
    wrong = ab_statistics.judge((1800, 1200), *counts((800, 1000), (890, 1000)), 0.5)
    assert wrong.verdict == "the split is not as configured" and wrong.difference is not None
    assert "1,200 of 3,000 users" in wrong.sentence and "(p < 0.0001)" in wrong.sentence
    nothing = counts((0, 0), (0, 0))
    # 77 too many of 2,750: 77² / 2200 + 77² / 550 = 13.475, p = 2 (1 − Φ(3.671)) = .00024
    assert "(p = 0.0002)" in ab_statistics.judge((2123, 627), *nothing, 0.2).sentence
    # 51 of 1,000: 51² / 500 · 2 = 10.4, p = .00126: rare, but it may well be chance
    assert ab_statistics.judge((551, 449), *nothing, 0.5).verdict == "not enough labels yet"


# --- the script ---


def test_the_script_prints_every_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulate_ab, "IDS", 2_000)
    monkeypatch.setattr(simulate_ab, "USERS", 500)
    assert simulate_ab.main(["--simulations", "3", "--seed", "1"]) == 0
    printed = capsys.readouterr().out
    for heading in ("split of 2,000 ids", "equal arms called different", "ever missed", "power"):
        assert heading in printed
    assert "2,036 + 2,036" in printed


def test_the_script_refuses_bad_options_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--simulations", "0"], ["--seed", "-1"]):
        assert simulate_ab.main(options) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1
