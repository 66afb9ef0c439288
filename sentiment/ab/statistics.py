"""Judge the counts of the two arms of a test: accuracy, and the recall of each class as guardrails.

Accuracy alone hides a challenger that gives up the small class for the large one. So a verdict also
has guardrails: a challenger whose recall of a class falls is worse, whatever its accuracy.

The interval of a difference is always valid: however often one looks at it, the chance that it ever
misses the true difference is at most its alpha. It is the normal mixture of Robbins (1970,
"Statistical methods related to the law of the iterated logarithm"), for two arms that of the
mixture SPRT (Johari, Koomen, Pekelis & Walsh 2022, "Always valid inference", Operations Research
70). Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024, "Time-uniform central limit theory and
asymptotic confidence sequences", Annals of Statistics 52) show that it holds with an estimated
variance in large samples. `PLUS` and `enough` make it hold in small ones, as `tools/simulate_ab.py`
measures.

How the verdict's errors are shared (Bonferroni's inequality, which asks nothing of how the three
differences depend on one another): the chance that a verdict ever names a difference that is not
there is at most `ALPHA`. Accuracy may err in two directions, each guardrail only in one, a fall,
which is half the error of its interval, since the interval is symmetric (and hardly ever left on
both sides). With three intervals of the same alpha a, that is a + a/2 + a/2 = `ALPHA`: each is at
1 - `ALPHA` / 2, 97.5 %. For accuracy this costs an interval that is a tenth wider than alone.

Counts of the two arms are in the last axis of an array, shape (…, 2): champion, challenger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sentiment.data.labels import CLASS_NAMES
from sentiment.metrics import Bools, Floats, Interval, short
from sentiment.registry.gate import MAX_RECALL_FALL

ALPHA = 0.05  # chance that the verdict ever names a difference that is not there
INTERVAL_ALPHA = ALPHA / 2  # of each of its three intervals
LEVEL = f"{1 - INTERVAL_ALPHA:.1%}"
# The difference in accuracy that a test should detect. Also the standard deviation of the mixture
# over true differences, which must be fixed beforehand: compared with an interval for a single
# look, this one is best where it is about as wide as the differences that matter.
EFFECT = 0.03
# The same for the recall of a class. A challenger gives up much more of a small class than of all,
# and there are few labels of it: with 300 users of the class an arm this interval is a fifth
# narrower than with .03, with 900 a twentieth, and with 4,500 only a twentieth wider.
RECALL_EFFECT = 0.06
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
class Guardrail:
    """The recall of one class in both arms, over the users whose true label is of that class.

    `users` are those of champion and challenger, `recalls` their recalls, 0–1, None without users.
    `difference` is the challenger's recall minus the champion's with its always-valid interval, and
    None while there are not `enough` labels. `falls` says whether it `is_fall`.
    """

    class_name: str
    users: tuple[int, int]
    recalls: tuple[float | None, float | None]
    difference: Interval | None
    falls: bool


@dataclass(frozen=True)
class Judgement:
    """A verdict with its figures in `sentence`; what cannot be said yet is None.

    `difference` is the challenger's accuracy minus the champion's with its always-valid interval,
    `split_p` the chance of such a split of the users. There is a guardrail for each class.
    """

    verdict: str
    sentence: str
    difference: Interval | None
    guardrails: tuple[Guardrail, ...]
    split_p: float | None


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
    correct: Floats, counted: Floats, alpha: float = INTERVAL_ALPHA, effect: float = EFFECT
) -> tuple[Floats, Floats, Floats]:
    """Return the challenger's accuracy minus the champion's, and its always-valid interval's ends.

    `correct` of `counted` answers are right, one answer a user, shape (…, 2); users' answers must
    be independent. `effect` is the mixture's standard deviation. The three results have shape (…)
    and lie between -1 and 1; they are NaN where the counts are not `enough`. Counts of one class,
    with `RECALL_EFFECT`, give its recall.
    """
    usable = enough(correct, counted)
    rates = np.divide(correct, counted, out=np.zeros(correct.shape), where=usable[..., None])
    difference = np.where(usable, rates[..., 1] - rates[..., 0], np.nan)
    variance = (_spread(correct, counted) / (counted + 2 * PLUS)).sum(axis=-1)
    half = _half_width(variance, alpha, effect)
    return difference, np.maximum(difference - half, -1), np.minimum(difference + half, 1)


def is_fall(difference: Floats, high: Floats) -> Bools:
    """Return whether a guardrail is broken, given a difference in recall and its interval's end.

    The fall must be shown, with the interval below 0, and the estimate must fall by more than
    `MAX_RECALL_FALL`, which is what the promotion gate lets pass. With very many labels a fall of
    .005 can be shown, for which nobody would refuse a challenger whose accuracy is better.
    """
    return np.asarray((high < 0) & (difference < -MAX_RECALL_FALL))  # NaN is neither


def units_to_show(correct: Floats, counted: Floats, share: float) -> tuple[int, int]:
    """Return the labelled users an arm that detect a true difference of `EFFECT` with `POWER`.

    This takes the variance of the answers so far, counts of shape (2,), and one look at the end;
    earlier looks can only find it sooner. `share` lies between 0 and 1.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    def excess(variance: float) -> float:
        half = float(_half_width(np.array(variance), INTERVAL_ALPHA, EFFECT))
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


def judge(units: tuple[int, int], confusions: Sequence[Floats], share: float) -> Judgement:
    """Judge the counts of the arms.

    `units` are all users of the champion and the challenger. The two confusion matrices, rows true,
    are of those of them who have a label. `share` (0–1) is the challenger's share. A wrong split
    comes first, since nothing else can be trusted then; next a broken guardrail, which outweighs a
    better accuracy; then the accuracy. A guardrail with too few labels says so and decides nothing.
    """
    cells = np.stack(confusions, axis=-1)  # true class, predicted class, arm
    correct, counted = cells.trace(), cells.sum(axis=(0, 1))
    split_p, difference = split_p_value(units, share), _difference(correct, counted, EFFECT)
    guardrails = tuple(_guardrail(name, cells[at, at], cells[at].sum(axis=0))
                       for at, name in enumerate(CLASS_NAMES))  # fmt: skip
    right, broken = int(correct.sum()), [rail for rail in guardrails if rail.falls]
    accuracy = "" if difference is None else f"accuracy {_with_interval(difference)}"
    if split_p is not None and split_p < MISMATCH:
        verdict = "the split is not as configured"
        figures = [
            f"{units[1]:,} of {sum(units):,} users came to the challenger, {share:.1%} should have "
            f"(p {'< 0.0001' if split_p < 1e-4 else f'= {split_p:.4f}'}); fix the assignment, or "
            "begin a new experiment if the share was changed"
        ]
    elif broken:
        verdict, figures = "challenger worse", [_fall(rail) for rail in broken]
        figures += [accuracy] if accuracy else []
    elif difference is None:
        verdict = "not enough labels yet"
        figures = [
            f"{counted[0]:,.0f} labelled users with the champion and {counted[1]:,.0f} with the "
            f"challenger, {right:,} answered right and {int(counted.sum()) - right:,} wrong; each "
            f"needs {MIN_UNITS} users, with {MIN_EXPECTED:g} right and {MIN_EXPECTED:g} wrong "
            "answers to be expected in the smaller arm"
        ]
    else:
        verdict, figures = "no difference shown yet", [accuracy]
        if difference.low > 0 or difference.high < 0:
            verdict = f"challenger {'better' if difference.low > 0 else 'worse'}"
        else:
            figures.append(_outlook(counted, units_to_show(correct, counted, share)))
        figures += [
            f"too few labels yet for the recall of {rail.class_name} ({rail.users[0]:,} and "
            f"{rail.users[1]:,} users)"
            for rail in guardrails
            if rail.difference is None
        ]
    return Judgement(verdict, f"{verdict}: {'; '.join(figures)}", difference, guardrails, split_p)


def _difference(correct: Floats, counted: Floats, effect: float) -> Interval | None:
    """Return the difference of two arms with its interval; None where the counts do not suffice."""
    if not enough(correct, counted):
        return None
    return Interval(*map(float, always_valid_difference(correct, counted, effect=effect)))


def _guardrail(class_name: str, correct: Floats, counted: Floats) -> Guardrail:
    difference = _difference(correct, counted, RECALL_EFFECT)
    shares = zip(correct.tolist(), counted.tolist(), strict=True)
    champion, challenger = (right / users if users else None for right, users in shares)
    return Guardrail(
        class_name=class_name,
        users=(int(counted[0]), int(counted[1])),
        recalls=(champion, challenger),
        difference=difference,
        falls=difference is not None
        and bool(is_fall(np.array(difference.value), np.array(difference.high))),
    )


def _fall(rail: Guardrail) -> str:
    assert rail.difference is not None
    fall = f"recall of {rail.class_name} falls by {short(-rail.difference.value)}"
    return f"{fall}, {_interval(rail.difference)}"


def _interval(of: Interval) -> str:
    return f"always-valid {LEVEL} interval {short(of.low, sign=True)}…{short(of.high, sign=True)}"


def _outlook(counted: Floats, needed: tuple[int, int]) -> str:
    likely = f"{POWER:.0%} probability"
    more = [max(0, all_in_all - int(now)) for all_in_all, now in zip(needed, counted, strict=True)]
    if not any(more):
        return f"a difference of {short(EFFECT, 2)} would have been detected by now with {likely}"
    champion, challenger = (f"{float(f'{number:.2g}'):,.0f}" for number in more)  # two digits
    return (
        f"about {champion} more labelled users with the champion and {challenger} with the "
        f"challenger would detect a difference of {short(EFFECT, 2)} with {likely}"
    )


def _with_interval(of: Interval) -> str:
    return f"{short(of.value, sign=True)}, {_interval(of)}"


def _half_width(variance: Floats, alpha: float, effect: float) -> Floats:
    """Return half the always-valid interval of an estimate with this squared standard error."""
    mixture = effect**2
    widening = np.log1p(mixture / variance) - 2 * math.log(alpha)
    return np.asarray(np.sqrt(variance * (variance + mixture) / mixture * widening))


def _spread(correct: Floats, counted: Floats) -> Floats:
    """Return the variance of one answer in each arm, with `PLUS` right and wrong ones added."""
    rates = (correct + PLUS) / (counted + 2 * PLUS)
    return np.asarray(rates * (1 - rates))
