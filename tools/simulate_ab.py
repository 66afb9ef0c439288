"""Simulate A/B tests whose truth is known: the split, the honesty of the verdict, the power.

    python tools/simulate_ab.py --simulations 2000 --seed 42

Prints how 100,000 ids are split; how often two equal arms are called different when looked at 20
times, and after every single label; how often the interval misses a true difference; how often a
true difference is found with the sample that `required_sample_size` asks for, and with twice that;
and how often a right split is called wrong. The Monte Carlo error stands beside each. Two to four
minutes. Bad options: one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parent.parent
if str(PROJECT) not in sys.path:  # run as a script, Python puts only tools/ on the path
    sys.path.insert(0, str(PROJECT))

from sentiment.ab import statistics as ab_statistics  # noqa: E402
from sentiment.ab.comparison import assign_arm  # noqa: E402
from sentiment.metrics import Bools, Floats, Ints  # noqa: E402

# Tells at which looks, shape (simulations, looks), a test would reject its hypothesis.
Test = Callable[[Floats, Floats], Bools]

IDS = 100_000
LOOKS = 20
USERS = 10_000  # with a label, both arms, at the last look
BLOCK = 100  # simulations held in memory at once
NORMAL_95 = 1.959964  # two-sided 5 % of the standard normal
ACCURACIES, SHARES = (0.7, 0.85, 0.95), (0.5, 0.2, 0.05)
DIFFERENCES = ((0.85, 0.88), (0.95, 0.9), (0.9, 0.98))  # accuracies of champion and challenger
PLANS = ((0.85, 0.03, 0.5), (0.85, 0.03, 0.2), (0.9, 0.02, 0.5))  # baseline, effect, share


def simulate(
    rates: tuple[float, float],
    share: float,
    users: Ints,
    simulations: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Draw right answers and labelled users of the arms, each of shape (simulations, looks, 2).

    `rates` are the accuracies of champion and challenger, `users` the labelled users of both arms
    at each look; each user comes to the challenger with probability `share`.
    """
    new = np.diff(users, prepend=0)
    challenger = rng.binomial(new, share, size=(simulations, len(users)))
    counted = np.stack([new - challenger, challenger], axis=-1)
    correct = rng.binomial(counted, np.array(rates))
    return correct.cumsum(axis=1).astype(float), counted.cumsum(axis=1).astype(float)


def naive_test(correct: Floats, counted: Floats) -> Bools:
    """Apply the two-sided z-test of two proportions at 5 %, as if each look were the only one."""
    pooled = correct.sum(axis=-1) / counted.sum(axis=-1)
    error = np.sqrt(pooled * (1 - pooled) * (1 / np.maximum(counted, 1)).sum(axis=-1))
    rates = correct / np.maximum(counted, 1)
    return np.asarray(np.abs(rates[..., 1] - rates[..., 0]) > NORMAL_95 * error)


def always_valid_test(truth: float) -> Test:
    """Return the test whether the always-valid interval leaves out `truth`, a difference."""

    def leaves_out(correct: Floats, counted: Floats) -> Bools:
        _, low, high = ab_statistics.always_valid_difference(correct, counted)
        return (low > truth) | (high < truth)  # NaN, for want of labels, is neither

    return leaves_out


def share_rejected(
    test: Test,
    rates: tuple[float, float],
    share: float,
    users: Ints,
    simulations: int,
    rng: np.random.Generator,
) -> float:
    """Return the share of simulations, 0–1, in which the test rejects at any of the looks."""
    rejected = 0
    for begun in range(0, simulations, BLOCK):
        block = min(BLOCK, simulations - begun)
        rejected += int(test(*simulate(rates, share, users, block, rng)).any(axis=1).sum())
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


def report_false_alarms(simulations: int, rng: np.random.Generator) -> None:
    """Print how often two arms of the same accuracy are called different."""
    every = np.arange(100, USERS + 1)
    print(f"\nequal arms called different; {LOOKS} even looks at up to {USERS:,} labelled users")
    print(
        f"{'accuracy':>10}{'share':>8}{'naive z-test':>17}{'always valid':>17}{'every label*':>17}"
    )
    for accuracy in ACCURACIES:
        for share in SHARES:
            rates, valid = (accuracy, accuracy), always_valid_test(0.0)
            found = [
                share_rejected(test, rates, share, users, simulations, rng)
                for test, users in (
                    (naive_test, even_looks(USERS)),
                    (valid, even_looks(USERS)),
                    (valid, every),
                )
            ]
            cells = "".join(f"{shown(value, simulations):>17}" for value in found)
            print(f"{accuracy:10.2f}{share:8.0%}{cells}")
    print(f"* always valid, looked at after each label from the 100th to the {every[-1]:,}th")


def report_coverage(simulations: int, rng: np.random.Generator) -> None:
    """Print how often the interval ever misses a true difference."""
    every = np.arange(100, USERS + 1)
    print("\ntrue difference ever missed by the always-valid interval, looked at after every label")
    print(f"{'accuracies':>14}{'share':>8}{'missed':>17}")
    for rates in DIFFERENCES:
        for share in SHARES[:2]:
            test = always_valid_test(rates[1] - rates[0])
            found = share_rejected(test, rates, share, every, simulations, rng)
            print(f"{rates[0]:7.2f} {rates[1]:.2f} {share:8.0%}{shown(found, simulations):>17}")


def report_power(simulations: int, rng: np.random.Generator) -> None:
    """Print how often a true difference is found with the sample that was asked for."""
    print(f"\npower with `required_sample_size` for 80 %: z-test once, always valid {LOOKS} looks")
    print(
        f"{'accuracies':>14}{'share':>8}{'sample':>16}{'z-test, once':>17}"
        f"{'always valid':>17}{'of twice that':>17}"
    )
    for baseline, effect, share in PLANS:
        sample = ab_statistics.required_sample_size(baseline, effect, share=share)
        rates, total = (baseline, baseline + effect), sum(sample)
        found = [
            share_rejected(test, rates, share, users, simulations, rng)
            for test, users in (
                (naive_test, np.array([total])),
                (always_valid_test(0.0), even_looks(total)),
                (always_valid_test(0.0), even_looks(2 * total)),
            )
        ]
        cells = "".join(f"{shown(value, simulations):>17}" for value in found)
        print(
            f"{baseline:7.2f} {baseline + effect:.2f} {share:8.0%}"
            f"{f'{sample[0]:,} + {sample[1]:,}':>16}{cells}"
        )


def report_mismatch(simulations: int, rng: np.random.Generator) -> None:
    """Print how often a right split, and one that loses users, is called wrong."""

    def test(share: float) -> Test:
        def mismatched(_: Floats, counted: Floats) -> Bools:
            looks = counted.reshape(-1, 2).astype(int)
            values = [ab_statistics.split_p_value((one, other), share) for one, other in looks]
            below = [value is not None and value < ab_statistics.MISMATCH for value in values]
            return np.array(below).reshape(counted.shape[:2])

        return mismatched

    print(f"\nsplit called wrong at {LOOKS} looks at up to {USERS:,} users")
    for really, name in ((0.2, "20 % as configured"), (0.18, "18 %, a tenth of them lost")):
        found = share_rejected(test(0.2), (0.9, 0.9), really, even_looks(USERS), simulations, rng)
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
    for report in (report_false_alarms, report_coverage, report_power, report_mismatch):
        report(options.simulations, rng)
    return 0


if __name__ == "__main__":
    sys.exit(main())
