"""Compute how many users a test needs, and judge the counts of its two arms.

The interval of a difference in accuracy is always valid: however often one looks at it, the chance
that it ever misses the true difference is at most alpha. It is the normal mixture of Robbins (1970,
"Statistical methods related to the law of the iterated logarithm"), for two arms that of the
mixture SPRT (Johari, Koomen, Pekelis & Walsh 2022, "Always valid inference", Operations Research
70). Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024, "Time-uniform central limit theory and
asymptotic confidence sequences", Annals of Statistics 52) show that it holds with an estimated
variance in large samples. `PLUS` and `enough` make it hold in small ones, as `tools/simulate_ab.py`
measures.

Counts of the two arms are in the last axis of an array, shape (…, 2): champion, challenger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sentiment.metrics import Bools, Floats, Interval

# The difference in accuracy that a test should detect. Also the standard deviation of the mixture
# over true differences, which must be fixed beforehand: compared with an interval for a single
# look, this one is best where it is about as wide as the differences that matter.
EFFECT = 0.03
POWER = 0.8
# Right and wrong answers added to each arm to estimate its variance (two of each, Agresti & Coull
# 1998). Without them an arm of 50 users with no wrong answer seems to have no variance: at an
# accuracy of .95 and a share of .2, looking after every label gave 10 % false alarms.
PLUS = 2
MIN_UNITS = 50  # labelled users an arm
MIN_EXPECTED = 5.0  # right, and wrong, answers in the smaller arm, for a normal approximation
# A sample-ratio mismatch is a fault of the set-up, reported only where chance is all but ruled out
# (Fabijan et al. 2019, "Diagnosing sample ratio mismatch in online controlled experiments"). It is
# a test for a single look: at 20 looks, a right split is called wrong in 1 % of all tests.
MISMATCH = 0.001


@dataclass(frozen=True)
class Judgement:
    """A verdict with its figures in `sentence`; what cannot be said yet is None.

    `difference` is the challenger's accuracy minus the champion's with its always-valid interval,
    `split_p` the chance of such a split of the users.
    """

    verdict: str
    sentence: str
    difference: Interval | None
    split_p: float | None


def required_sample_size(
    baseline: float,
    smallest_effect: float,
    *,
    alpha: float = 0.05,
    power: float = POWER,
    share: float = 0.5,
) -> tuple[int, int]:
    """Return the labelled users that champion and challenger need in a test looked at once.

    That is the two-sided z-test of two proportions with pooled variance; the formula is
    statsmodels' (Fleiss, Levin & Paik 2003, "Statistical methods for rates and proportions",
    section 4.2). `baseline` is the champion's accuracy, `smallest_effect` the challenger's minus
    that, `share` the challenger's share of the users. All but the effect lie between 0 and 1, and
    so must the challenger's accuracy; else `ValueError`.

    An always-valid test needs about twice as many users for the same power.
    """
    from statsmodels.stats.proportion import samplesize_proportions_2indep_onetail

    values = {"baseline": baseline, "alpha": alpha, "power": power, "share": share}
    for name, value in {**values, "baseline + smallest_effect": baseline + smallest_effect}.items():
        if not 0 < value < 1:
            raise ValueError(f"{name}: expected a number between 0 and 1, found {value:g}")
    if smallest_effect == 0:
        raise ValueError("smallest_effect: expected a difference other than 0")
    ratio = (1 - share) / share
    challenger = samplesize_proportions_2indep_onetail(
        smallest_effect, baseline, power, ratio=ratio, alpha=alpha, alternative="two-sided"
    )
    return math.ceil(challenger * ratio), math.ceil(challenger)


def enough(correct: Floats, counted: Floats) -> Bools:
    """Return whether the counts, shape (…, 2), suffice for an interval; shape (…).

    Each arm needs `MIN_UNITS` users. At the rates of both arms together, `MIN_EXPECTED` right and
    as many wrong answers must be expected in the smaller arm.
    """
    smaller, total = counted.min(axis=-1), counted.sum(axis=-1)
    right = correct.sum(axis=-1)
    expected = smaller * np.minimum(right, total - right) / np.maximum(total, 1)
    return np.asarray((smaller >= MIN_UNITS) & (expected >= MIN_EXPECTED))


def always_valid_difference(
    correct: Floats, counted: Floats, alpha: float = 0.05
) -> tuple[Floats, Floats, Floats]:
    """Return the challenger's accuracy minus the champion's, and its always-valid interval's ends.

    `correct` of `counted` answers are right, one answer a user, shape (…, 2); users' answers must
    be independent. The three results have shape (…) and lie between -1 and 1; they are NaN where
    the counts are not `enough`.
    """
    usable = enough(correct, counted)
    rates = np.divide(correct, counted, out=np.zeros(correct.shape), where=usable[..., None])
    difference = np.where(usable, rates[..., 1] - rates[..., 0], np.nan)
    half = _half_width((_spread(correct, counted) / (counted + 2 * PLUS)).sum(axis=-1), alpha)
    return difference, np.maximum(difference - half, -1), np.minimum(difference + half, 1)


def units_to_show(
    correct: Floats, counted: Floats, share: float, alpha: float = 0.05
) -> tuple[int, int]:
    """Return the labelled users an arm that detect a true difference of `EFFECT` with `POWER`.

    This takes the variance of the answers so far, counts of shape (2,), and one look at the end;
    earlier looks can only find it sooner. `share` lies between 0 and 1.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    def excess(variance: float) -> float:
        half = float(_half_width(np.array(variance), alpha))
        return half + float(ndtri(POWER)) * math.sqrt(variance) - EFFECT

    variance = brentq(excess, EFFECT**2 * 1e-6, EFFECT**2)
    shares = np.array([1 - share, share])
    total = float((_spread(correct, counted) / shares).sum()) / variance
    champion, challenger = (math.ceil(part) for part in total * shares)
    return champion, challenger


def split_p_value(units: tuple[int, int], share: float) -> float | None:
    """Return the chance of a split at least as far from `share` (Pearson's chi-square test).

    `units` are the users of the champion and the challenger. None where fewer than `MIN_EXPECTED`
    are expected in an arm; 0 where an arm has users that a share of 0 or 1 leaves none.
    """
    from scipy.stats import chisquare

    expected = [sum(units) * (1 - share), sum(units) * share]
    if share in (0, 1):
        return 0.0 if units[0 if share == 1 else 1] else None
    if min(expected) < MIN_EXPECTED:
        return None
    return float(chisquare(units, expected).pvalue)


def judge(
    units: tuple[int, int], correct: Floats, counted: Floats, share: float, alpha: float = 0.05
) -> Judgement:
    """Judge the counts of the arms.

    `units` are all users of the champion and the challenger. `counted` of them have a label, and
    `correct` of these were answered right, shape (2,). `share` (0–1) is the challenger's share.
    """
    split_p, difference = split_p_value(units, share), None
    if enough(correct, counted):
        difference = Interval(*map(float, always_valid_difference(correct, counted, alpha)))
    right = int(correct.sum())
    if split_p is not None and split_p < MISMATCH:
        verdict = "the split is not as configured"
        figures = (
            f"{units[1]:,} of {sum(units):,} users came to the challenger, {share:.1%} should have "
            f"(p {'< 0.0001' if split_p < 1e-4 else f'= {split_p:.4f}'}); fix the assignment, or "
            "begin a new experiment if the share was changed"
        )
    elif difference is None:
        verdict = "not enough labels yet"
        figures = (
            f"{counted[0]:,.0f} labelled users with the champion and {counted[1]:,.0f} with the "
            f"challenger, {right:,} answered right and {int(counted.sum()) - right:,} wrong; each "
            f"needs {MIN_UNITS} users, with {MIN_EXPECTED:g} right and {MIN_EXPECTED:g} wrong "
            "answers to be expected in the smaller arm"
        )
    else:
        verdict = "no difference shown yet"
        figures = (
            f"accuracy {_signed(difference.value)}, always-valid {(1 - alpha) * 100:g}% interval "
            f"{_signed(difference.low)}…{_signed(difference.high)}"
        )
        if difference.low > 0 or difference.high < 0:
            verdict = f"{'challenger' if difference.low > 0 else 'champion'} better"
        else:
            figures += f"; {_outlook(counted, units_to_show(correct, counted, share, alpha))}"
    return Judgement(verdict, f"{verdict}: {figures}", difference, split_p)


def _outlook(counted: Floats, needed: tuple[int, int]) -> str:
    likely = f"{POWER:.0%} probability"
    more = [max(0, all_in_all - int(now)) for all_in_all, now in zip(needed, counted, strict=True)]
    if not any(more):
        return f"a difference of {EFFECT:g} would have been detected by now with {likely}"
    champion, challenger = (f"{float(f'{number:.2g}'):,.0f}" for number in more)  # two digits
    return (
        f"about {champion} more labelled users with the champion and {challenger} with the "
        f"challenger would detect a difference of {EFFECT:g} with {likely}"
    )


def _signed(number: float) -> str:
    """Format as `+0.031` or `−0.004`."""
    return f"{round(number, 3) + 0.0:+.3f}".replace("-", "−")


def _half_width(variance: Floats, alpha: float) -> Floats:
    """Return half the always-valid interval of an estimate with this squared standard error."""
    mixture = EFFECT**2
    widening = np.log1p(mixture / variance) - 2 * math.log(alpha)
    return np.asarray(np.sqrt(variance * (variance + mixture) / mixture * widening))


def _spread(correct: Floats, counted: Floats) -> Floats:
    """Return the variance of one answer in each arm, with `PLUS` right and wrong ones added."""
    rates = (correct + PLUS) / (counted + 2 * PLUS)
    return np.asarray(rates * (1 - rates))
