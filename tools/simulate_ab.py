"""Simulate A/B tests whose truth is known: the split, the honesty of the verdict, the power.

    python tools/simulate_ab.py --simulations 2000 --seed 42

Prints how 100,000 ids are split; how often two equal arms are called different, by the accuracy or
a guardrail, when looked at 20 times and after every single label; how often an interval misses a
true difference; how often a true difference in accuracy is found; how often a challenger whose
recall of negative falls is called worse; and how often a right split is called wrong. The Monte
Carlo error stands beside each. Three to five minutes. Bad options: one line on stderr and exit
code 2.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parent.parent
if str(PROJECT) not in sys.path:  # run as a script, Python puts only tools/ on the path
    sys.path.insert(0, str(PROJECT))

from sentiment.ab import statistics as ab_statistics  # noqa: E402
from sentiment.ab.comparison import assign_arm  # noqa: E402
from sentiment.metrics import Bools, Floats, Ints  # noqa: E402

# Tells at which looks, shape (simulations, looks), a test would reject its hypothesis. It gets
# right answers and labelled users, each of shape (simulations, looks, classes, arms).
Test = Callable[[Floats, Floats], Bools]

IDS = 100_000
LOOKS = 20
USERS = 10_000  # with a label, both arms, at the last look
BLOCK = 50  # simulations held in memory at once
NORMAL_95 = 1.959964  # two-sided 5 % of the standard normal
NEGATIVE = 0.18  # share of the real reviews that are negative


@dataclass(frozen=True)
class World:
    """What is true: recalls of (negative, positive), and the shares of negative and challenger."""

    champion: tuple[float, float]
    challenger: tuple[float, float]
    share: float = 0.5
    negative: float = NEGATIVE

    def accuracy(self, recalls: tuple[float, float]) -> float:
        """Return the accuracy of an arm with these recalls."""
        return self.negative * recalls[0] + (1 - self.negative) * recalls[1]


def equal(negative_recall: float, positive_recall: float, share: float, negative: float) -> World:
    """Return a world in which the arms are equal."""
    recalls = negative_recall, positive_recall
    return World(recalls, recalls, share, negative)


EQUAL = (
    equal(0.70, 0.70, 0.5, 0.5),
    equal(0.65, 0.97, 0.5, NEGATIVE),
    equal(0.87, 0.91, 0.5, NEGATIVE),
    equal(0.87, 0.91, 0.2, NEGATIVE),
    equal(0.95, 0.95, 0.2, 0.5),
    equal(0.85, 0.95, 0.05, NEGATIVE),
)
DIFFERENT = (
    World((0.87, 0.91), (0.82, 0.94)),
    World((0.87, 0.91), (0.82, 0.94), share=0.2),
    World((0.90, 0.90), (0.98, 0.98), share=0.2, negative=0.5),
)
# Accuracies, share of the challenger, and the labelled users of both arms with which a two-sided
# z-test at 5 % that looks once has 80 % power (Fleiss, Levin & Paik 2003, section 4.2)
PLANS = ((0.85, 0.88, 0.5, 4_072), (0.85, 0.88, 0.2, 6_498), (0.90, 0.92, 0.5, 6_426))
RECALLS = (0.87, 0.91)  # of negative and positive, as the real logistic regression has them
FALLS = (0.0, 0.03, 0.05, 0.10, 0.23)  # of the recall of negative
# The real LogisticRegression and NaiveBayes: accuracy .907 and .908, macro-F1 .857 and .830
SEEN, SEEN_USERS = World((0.873, 0.914), (0.645, 0.966)), 50_000


def simulate(
    world: World, users: Ints, simulations: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draw right answers and labelled users, each of shape (simulations, looks, classes, arms).

    `users` are the labelled users of both arms at each look. Each comes to the challenger with
    probability `share`, and to a class with that of the class.
    """
    new = np.diff(users, prepend=0)
    challenger = rng.binomial(new, world.share, size=(simulations, len(users)))
    arms = np.stack([new - challenger, challenger], axis=-1)
    negative = rng.binomial(arms, world.negative)
    counted = np.stack([negative, arms - negative], axis=-2)
    correct = rng.binomial(counted, np.array([world.champion, world.challenger]).T)
    return correct.cumsum(axis=1).astype(float), counted.cumsum(axis=1).astype(float)


def naive_test(correct: Floats, counted: Floats) -> Bools:
    """Apply the two-sided z-test of two proportions at 5 %, as if each look were the only one."""
    correct, counted = correct.sum(axis=-2), counted.sum(axis=-2)
    pooled = correct.sum(axis=-1) / counted.sum(axis=-1)
    error = np.sqrt(pooled * (1 - pooled) * (1 / np.maximum(counted, 1)).sum(axis=-1))
    rates = correct / np.maximum(counted, 1)
    return np.asarray(np.abs(rates[..., 1] - rates[..., 0]) > NORMAL_95 * error)


def always_valid_test(truth: float) -> Test:
    """Return the test whether the interval of the accuracy leaves out `truth`, a difference."""

    def leaves_out(correct: Floats, counted: Floats) -> Bools:
        _, low, high = ab_statistics.always_valid_difference(
            correct.sum(axis=-2), counted.sum(axis=-2)
        )
        return (low > truth) | (high < truth)  # NaN, for want of labels, is neither

    return leaves_out


def recall_differences(correct: Floats, counted: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the differences in recall and their intervals' ends, (simulations, looks, classes)."""
    effect = ab_statistics.RECALL_EFFECT
    return ab_statistics.always_valid_difference(correct, counted, effect=effect)


def guardrails(correct: Floats, counted: Floats) -> Bools:
    """Return where the guardrail of a class is broken, shape (simulations, looks, classes)."""
    difference, _, high = recall_differences(correct, counted)
    return ab_statistics.is_fall(difference, high)


def whole_verdict(correct: Floats, counted: Floats) -> Bools:
    """Return where the verdict names a difference, by the accuracy or a guardrail."""
    return always_valid_test(0.0)(correct, counted) | guardrails(correct, counted).any(axis=-1)


def called_worse(correct: Floats, counted: Floats) -> Bools:
    """Return where the verdict is "challenger worse"."""
    _, _, high = ab_statistics.always_valid_difference(correct.sum(axis=-2), counted.sum(axis=-2))
    return (high < 0) | guardrails(correct, counted).any(axis=-1)


def misses_any(world: World) -> Test:
    """Return the test whether any of the three intervals leaves out its true difference."""
    truths = np.subtract(world.challenger, world.champion)

    def misses(correct: Floats, counted: Floats) -> Bools:
        _, low, high = recall_differences(correct, counted)
        accuracy = world.accuracy(world.challenger) - world.accuracy(world.champion)
        missed = ((low > truths) | (high < truths)).any(axis=-1)
        return np.asarray(missed | always_valid_test(accuracy)(correct, counted))

    return misses


def share_rejected(
    test: Test, world: World, users: Ints, simulations: int, rng: np.random.Generator
) -> float:
    """Return the share of simulations, 0–1, in which the test rejects at any of the looks."""
    rejected = 0
    for begun in range(0, simulations, BLOCK):
        block = min(BLOCK, simulations - begun)
        rejected += int(test(*simulate(world, users, block, rng)).any(axis=1).sum())
    return rejected / simulations


def even_looks(users: int, looks: int = LOOKS) -> Ints:
    """Return the labelled users at evenly spaced looks, the last of them at `users`."""
    return np.linspace(users / looks, users, looks).round().astype(np.int64)


def shown(found: float, simulations: int) -> str:
    """Format as `4.3 % ± 0.3`, with one standard error."""
    return f"{found:6.1%} ± {math.sqrt(found * (1 - found) / simulations):.1%}"


def report_split() -> None:
    """Print what share of numbered ids comes to the challenger, and what assigning costs."""
    print(f"split of {IDS:,} ids")
    ids = [f"user-{number}" for number in range(IDS)]
    for share in (0.5, 0.2):
        begun = time.perf_counter()
        first = [assign_arm(unit, "1-vs-2", share) == "challenger" for unit in ids]
        cost = (time.perf_counter() - begun) / IDS * 1e6
        other = [assign_arm(unit, "1-vs-3", share) == "challenger" for unit in ids]
        both = np.mean(np.array(first) & np.array(other))
        print(
            f"  share {share:.0%}: {np.mean(first):.2%} to the challenger; {both:.2%} in two "
            f"experiments at once, {share**2:.2%} if independent; {cost:.1f} µs an id"
        )


def print_row(name: str, found: Iterable[float], simulations: int) -> None:
    """Print a line of a table."""
    print(f"{name:>36}" + "".join(f"{shown(value, simulations):>17}" for value in found))


def report_false_alarms(simulations: int, rng: np.random.Generator) -> None:
    """Print how often two equal arms are called different."""
    every = np.arange(100, USERS + 1)
    print(f"\nequal arms called different; {LOOKS} even looks at up to {USERS:,} labelled users")
    print(
        f"{'recalls':>13}{'negative':>11}{'share':>12}{'naive z-test':>17}{'whole verdict':>17}"
        f"{'every label*':>17}"
    )
    for world in EQUAL:
        found = [
            share_rejected(test, world, users, simulations, rng)
            for test, users in (
                (naive_test, even_looks(USERS)),
                (whole_verdict, even_looks(USERS)),
                (whole_verdict, every),
            )
        ]
        recalls = "{:.2f} {:.2f}".format(*world.champion)
        print_row(f"{recalls:>13}{world.negative:>11.0%}{world.share:>12.0%}", found, simulations)
    print(f"* whole verdict, looked at after each label from the 100th to the {every[-1]:,}th")


def report_coverage(simulations: int, rng: np.random.Generator) -> None:
    """Print how often any of the intervals ever misses its true difference."""
    every = np.arange(100, USERS + 1)
    print("\ntrue difference ever missed by any of the three intervals, a look after every label")
    for world in DIFFERENT:
        found = share_rejected(misses_any(world), world, every, simulations, rng)
        recalls = "{:.2f} {:.2f} against {:.2f} {:.2f}".format(*world.champion, *world.challenger)
        print_row(f"{recalls}{world.share:>9.0%}", [found], simulations)


def report_power(simulations: int, rng: np.random.Generator) -> None:
    """Print how often a true difference in accuracy is found with what a z-test asks for."""
    print(f"\npower with the users of a z-test at 80 %: z-test once, accuracy alone {LOOKS} looks")
    print(
        f"{'accuracies':>14}{'share':>8}{'users':>14}{'z-test, once':>17}{'always valid':>17}"
        f"{'of twice that':>17}"
    )
    for baseline, better, share, users in PLANS:
        world = World((baseline, baseline), (better, better), share)
        found = [
            share_rejected(test, world, looks, simulations, rng)
            for test, looks in (
                (naive_test, np.array([users])),
                (always_valid_test(0.0), even_looks(users)),
                (always_valid_test(0.0), even_looks(2 * users)),
            )
        ]
        print_row(f"{baseline:7.2f} {better:.2f} {share:8.0%}{users:14,}", found, simulations)


def expected_confusion(world: World, recalls: tuple[float, float], users: int) -> Floats:
    """Return the confusion matrix of an arm that is as it should be on average, rows true."""
    of_class = np.array([users * world.negative, users * (1 - world.negative)]).round()
    right = (of_class * recalls).round()
    wrong = of_class - right
    return np.array([[right[0], wrong[0]], [wrong[1], right[1]]])


def report_guardrails(simulations: int, rng: np.random.Generator) -> None:
    """Print how often a challenger is called worse when its recall of negative falls.

    The recall of positive rises so that the accuracy stays the same.
    """
    print(
        f"\nchallenger called worse; {LOOKS} looks, {NEGATIVE:.0%} negative, accuracy the same; "
        "recall of negative falls by"
    )
    print(f"{'users':>36}" + "".join(f"{f'{fall:.2f}':>17}" for fall in FALLS))
    for users in (USERS, 2 * USERS, 5 * USERS):
        found = []
        for fall in FALLS:
            gained = fall * NEGATIVE / (1 - NEGATIVE)
            world = World(RECALLS, (RECALLS[0] - fall, RECALLS[1] + gained))
            found.append(share_rejected(called_worse, world, even_looks(users), simulations, rng))
        print_row(f"{users:,}", found, simulations)
    looks = even_looks(SEEN_USERS)
    names = ("accuracy alone", "whole verdict")
    print(f"\nseen: recalls {SEEN.champion} against {SEEN.challenger}, {SEEN_USERS:,} users")
    for name, test in zip(names, (always_valid_test(0.0), called_worse), strict=True):
        print_row(name, [share_rejected(test, SEEN, looks, simulations, rng)], simulations)
    users = SEEN_USERS // 2
    confusions = [expected_confusion(SEEN, arm, users) for arm in (SEEN.champion, SEEN.challenger)]
    judgement = ab_statistics.judge((users, users), confusions, SEEN.share)
    print(f"  {judgement.sentence}")


def report_mismatch(simulations: int, rng: np.random.Generator) -> None:
    """Print how often a right split, and one that loses users, is called wrong."""

    def test(share: float) -> Test:
        def mismatched(_: Floats, counted: Floats) -> Bools:
            arms = counted.sum(axis=-2)
            looks = arms.reshape(-1, 2).astype(int)
            values = [ab_statistics.split_p_value((one, other), share) for one, other in looks]
            below = [value is not None and value < ab_statistics.MISMATCH for value in values]
            return np.array(below).reshape(arms.shape[:2])

        return mismatched

    print(f"\nsplit called wrong at {LOOKS} looks at up to {USERS:,} users")
    for really, name in ((0.2, "20 % as configured"), (0.18, "18 %, a tenth of them lost")):
        world = equal(*RECALLS, really, NEGATIVE)
        found = share_rejected(test(0.2), world, even_looks(USERS), simulations, rng)
        print(f"  {name}: {shown(found, simulations)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulations on the command line's `arguments` and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--simulations", type=int, default=2_000, help="of each kind, 1 or more (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=42, help="0 or more (%(default)s)")
    options = parser.parse_args(arguments)
    if options.simulations < 1 or options.seed < 0:
        print(
            "simulate_ab: --simulations must be 1 or more and --seed 0 or more, found "
            f"{options.simulations} and {options.seed}",
            file=sys.stderr,
        )
        return 2
    rng = np.random.default_rng(options.seed)
    report_split()
    for report in (
        report_false_alarms,
        report_coverage,
        report_power,
        report_guardrails,
        report_mismatch,
    ):
        report(options.simulations, rng)
    return 0


if __name__ == "__main__":
    sys.exit(main())
