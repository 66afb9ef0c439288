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
from sentiment.metrics import Floats, short

EVERY_TENTH = np.arange(100, 5_001, 10)  # labelled users at 491 looks, from the first possible on


def counts(*pairs: tuple[int, int]) -> tuple[Floats, Floats]:
    """`counts((8, 10), (9, 10))`: the champion was right 8 times of 10, the challenger 9."""
    return np.array([pair[0] for pair in pairs], float), np.array(
        [pair[1] for pair in pairs], float
    )


def matrix(negative: tuple[int, int], positive: tuple[int, int]) -> Floats:
    """`matrix((8, 10), (9, 12))`: 8 of 10 negative and 9 of 12 positive were answered right."""
    (right, users), (found, others) = negative, positive
    return np.array([[right, users - right], [others - found, found]], float)


def even(right: int, users: int) -> Floats:
    """Right answers of an arm, half of them and half of the users of each class."""
    half, rest = (right // 2, users // 2), (right - right // 2, users - users // 2)
    return matrix(half, rest)


# --- the always-valid interval ---


def test_the_interval_by_hand() -> None:
    # 852/1004 = .848606 and 892/1004 = .888446 with two right and two wrong ones added;
    # variance (.848606 · .151394 + .888446 · .111554) / 1004 = .00022667, mixture .03² = .0009;
    # .00022667 · .00112667 / .0009 · (ln(1 + .0009 / .00022667) + 2 ln 20) = .0021552 = .046424²
    both = counts((850, 1000), (890, 1000))
    difference, low, high = ab_statistics.always_valid_difference(*both, 0.05)
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
    rng, world = np.random.default_rng(2), simulate_ab.equal(0.7, 0.7, 0.5, 0.5)
    for users, expected in ((np.array([20_000]), 0.05), (simulate_ab.even_looks(20_000), 0.248)):
        found = simulate_ab.share_rejected(simulate_ab.naive_test, world, users, 4_000, rng)
        assert found == pytest.approx(expected, abs=0.02)


def test_the_draws_have_the_shares_and_recalls_of_the_world() -> None:
    world = simulate_ab.World((0.9, 0.8), (0.6, 0.95), share=0.2, negative=0.25)
    users = np.array([400, 1_000])
    correct, counted = simulate_ab.simulate(world, users, 2_000, np.random.default_rng(3))
    assert correct.shape == counted.shape == (2_000, 2, 2, 2)
    assert (counted.sum(axis=(-2, -1)) == users).all() and (correct <= counted).all()
    # of 1,000: 800 and 200 users of the arms, a quarter of each negative; errors are below .5 %
    mean = counted[:, -1].mean(axis=0)
    assert mean == pytest.approx(np.array([[200, 50], [600, 150]]), rel=0.01)
    recalls = correct[:, -1].sum(axis=0) / counted[:, -1].sum(axis=0)
    assert recalls == pytest.approx(np.array([[0.9, 0.6], [0.8, 0.95]]), abs=0.006)


@pytest.mark.parametrize(
    ("champion", "challenger", "share", "negative"),
    [
        ((0.85, 0.85), (0.85, 0.85), 0.5, 0.5),
        ((0.95, 0.95), (0.95, 0.95), 0.2, 0.5),
        ((0.98, 0.98), (0.98, 0.98), 0.05, 0.5),
        ((0.87, 0.91), (0.82, 0.94), 0.2, 0.18),
    ],
)
def test_the_truth_is_in_all_intervals_at_every_look_from_the_first_on(
    champion: tuple[float, float], challenger: tuple[float, float], share: float, negative: float
) -> None:
    """At 491 looks, the first with few labels, one leaves it out in at most 7.5 % of all tests."""
    world = simulate_ab.World(champion, challenger, share, negative)
    rng = np.random.default_rng(4)
    missed = simulate_ab.share_rejected(
        simulate_ab.misses_any(world), world, EVERY_TENTH, 1_000, rng
    )
    assert 0 < missed <= 0.075


@pytest.mark.parametrize("world", simulate_ab.EQUAL[1::2])
def test_equal_arms_are_called_different_in_at_most_one_test_of_twenty(
    world: simulate_ab.World,
) -> None:
    """By the accuracy in either direction, or by a guardrail, at any of 491 looks."""
    found = simulate_ab.share_rejected(
        simulate_ab.whole_verdict, world, EVERY_TENTH, 1_000, np.random.default_rng(6)
    )
    assert 0 < found <= 0.05


def test_the_guardrail_finds_what_the_accuracy_hides() -> None:
    """18 % of the users are negative: their recall falls by .10, and the accuracy is the same."""
    rng, users = np.random.default_rng(7), simulate_ab.even_looks(10_000)
    world = simulate_ab.World((0.87, 0.91), (0.77, 0.91 + 0.10 * 0.18 / 0.82))
    found = [
        simulate_ab.share_rejected(test, world, users, 400, rng)
        for test in (simulate_ab.always_valid_test(0.0), simulate_ab.called_worse)
    ]
    assert found[0] < 0.05 and found[1] > 0.9


def test_as_many_more_users_as_it_says_show_the_difference() -> None:
    """Looked at only then, with 80 % probability."""
    share, seen = 0.2, counts((430, 500), (178, 200))  # accuracies .86 and .89
    champion, challenger = ab_statistics.units_to_show(*seen, share)
    assert challenger / (champion + challenger) == pytest.approx(share, abs=0.001)
    rates, looks = (0.86, 0.86 + ab_statistics.EFFECT), np.array([champion + challenger])
    world = simulate_ab.World((rates[0],) * 2, (rates[1],) * 2, share)
    test, rng = simulate_ab.always_valid_test(0.0), np.random.default_rng(5)
    found = simulate_ab.share_rejected(test, world, looks, 4_000, rng)
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
    better = ab_statistics.judge((1000, 1000), (even(800, 1000), even(890, 1000)), 0.5)
    assert better.verdict == "challenger better" and better.difference is not None
    assert (
        f"+.090, always-valid 97.5% interval {short(better.difference.low, sign=True)}…"
        in better.sentence
    )
    worse = ab_statistics.judge((1000, 1000), (even(890, 1000), even(830, 1000)), 0.5)
    assert worse.verdict == "challenger worse" and "accuracy −.060, always-valid" in worse.sentence
    assert not any(rail.falls for rail in worse.guardrails)  # 500 users a class are too few
    unsure = ab_statistics.judge((1000, 1000), (even(850, 1000), even(850, 1000)), 0.5)
    # half the interval: variance 2 · .848606 · .151394 / 1004 = .00025592, mixture .03² = .0009;
    # .00025592 · .00115592 / .0009 · (ln(1 + .0009 / .00025592) + 2 ln 40) = .0029204 = .054041²
    # with 80 %: at a variance of .00005253 half the interval and .8416 standard errors,
    # .02390 + .00610, make .03; 2 · .12847 / .00005253 = 4,890 an arm
    assert unsure.verdict == "no difference shown yet"
    assert "−.054…+.054" in unsure.sentence and unsure.sentence.count("3,900") == 2
    long = ab_statistics.judge((9000, 9000), (even(7650, 9000), even(7650, 9000)), 0.5)
    assert "a difference of .03 would have been detected" in long.sentence


def test_a_guardrail_by_hand() -> None:
    # 18 % of 5,000 users an arm are negative; of these 780 and 690 of 900 are found, and of the
    # 4,100 others 3,700 and 3,790: as many right answers in both arms
    arms = matrix((780, 900), (3700, 4100)), matrix((690, 900), (3790, 4100))
    found = ab_statistics.judge((5000, 5000), arms, 0.5)
    negative, positive = found.guardrails
    assert (negative.class_name, negative.users, negative.falls) == ("negative", (900, 900), True)
    assert negative.recalls == pytest.approx((780 / 900, 690 / 900))
    # variance with two right and two wrong added: 782/904 = .865044 and 692/904 = .765487;
    # (.865044 · .134956 + .765487 · .234513) / 904 = .00032772; mixture .06² = .0036;
    # .00032772 · .00392772 / .0036 · (ln(1 + .0036 / .00032772) + 2 ln 40) = .0035260 = .059380²
    assert negative.difference is not None
    assert negative.difference.low == pytest.approx(-0.1 - 0.059380, abs=2e-6)
    assert negative.difference.high == pytest.approx(-0.1 + 0.059380, abs=2e-6)
    assert positive.difference is not None and positive.difference.value > 0
    assert found.verdict == "challenger worse"
    assert "recall of negative falls by .100, always-valid 97.5%" in found.sentence
    assert "accuracy +.000" in found.sentence and "positive" not in found.sentence


def test_what_was_seen_on_the_real_reviews_is_called_worse() -> None:
    """LogisticRegression against NaiveBayes, 25,000 users an arm: the accuracy hid it."""
    confusions = [
        simulate_ab.expected_confusion(simulate_ab.SEEN, recalls, 25_000)
        for recalls in (simulate_ab.SEEN.champion, simulate_ab.SEEN.challenger)
    ]
    found = ab_statistics.judge((25_000, 25_000), confusions, 0.5)
    assert found.difference is not None and found.difference.low < 0.001 < found.difference.high
    assert found.sentence.startswith("challenger worse: recall of negative falls by .228, always")


def test_a_broken_guardrail_outweighs_a_better_accuracy() -> None:
    arms = matrix((870, 1000), (7200, 9000)), matrix((700, 1000), (8600, 9000))
    found = ab_statistics.judge((10_000, 10_000), arms, 0.5)
    assert found.difference is not None and found.difference.low > 0
    assert found.verdict == "challenger worse" and "accuracy +.123" in found.sentence
    other = ab_statistics.judge((10_000, 10_000), arms[::-1], 0.5)
    assert "recall of positive falls by .156" in other.sentence
    split = ab_statistics.judge((10_000, 9_000), arms, 0.5)
    assert split.verdict == "the split is not as configured"


def test_a_fall_that_is_shown_and_small_is_let_pass() -> None:
    """As by the promotion gate: .03 is."""
    for now, falls in ((44_000, False), (43_600, False), (43_400, True)):  # of 50,000; .90 before
        arms = matrix((45_000, 50_000), (40_000, 50_000)), matrix((now, 50_000), (46_000, 50_000))
        found = ab_statistics.judge((100_000, 100_000), arms, 0.5)
        difference = found.guardrails[0].difference
        assert difference is not None and difference.high < 0
        assert found.guardrails[0].falls is falls
        assert found.verdict == ("challenger worse" if falls else "challenger better")


def test_a_guardrail_with_few_labels_says_so_and_decides_nothing() -> None:
    # none of 49 negative users was told right by the challenger
    arms = matrix((60, 60), (800, 1000)), matrix((0, 49), (990, 1000))
    found = ab_statistics.judge((1060, 1049), arms, 0.5)
    assert found.verdict == "challenger better" and not found.guardrails[0].falls
    assert found.guardrails[0].difference is None
    assert "too few labels yet for the recall of negative (60 and 49 users)" in found.sentence
    none = ab_statistics.judge((9, 9), (np.zeros((2, 2)), np.zeros((2, 2))), 0.5)
    assert [rail.recalls for rail in none.guardrails] == [(None, None)] * 2


def test_too_few_labels_and_a_wrong_split_come_before_any_difference() -> None:
    few = ab_statistics.judge((60, 60), (even(20, 60), even(46, 49)), 0.5)
    assert few.difference is None and few.verdict == "not enough labels yet"
    assert re.findall(r"\d+", few.sentence) == ["60", "49", "66", "43", "50", "5", "5"]
    wrong = ab_statistics.judge((1800, 1200), (even(800, 1000), even(890, 1000)), 0.5)
    assert wrong.verdict == "the split is not as configured" and wrong.difference is not None
    assert "1,200 of 3,000 users" in wrong.sentence and "(p < 0.0001)" in wrong.sentence
    nothing = np.zeros((2, 2)), np.zeros((2, 2))
    # 77 too many of 2,750: 77² / 2200 + 77² / 550 = 13.475, p = 2 (1 − Φ(3.671)) = .00024
    assert "(p = 0.0002)" in ab_statistics.judge((2123, 627), nothing, 0.2).sentence
    # 51 of 1,000: 51² / 500 · 2 = 10.4, p = .00126: rare, but it may well be chance
    assert ab_statistics.judge((551, 449), nothing, 0.5).verdict == "not enough labels yet"


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
    assert "recall of negative falls by" in printed and "challenger worse: " in printed


def test_the_script_refuses_bad_options_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--simulations", "0"], ["--seed", "-1"]):
        assert simulate_ab.main(options) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1
