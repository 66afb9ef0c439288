"""Simulate retrainings whose truth is known, and count what the promotion gate lets through.

    python tools/simulate_gate.py --data data.csv --pairs 500 --chains 40 --seed 42

First pairs of logistic regressions, each really trained on nine tenths of the training part, drawn
anew: how often is the second one promoted over the first, on the same file, on the file reordered,
and with .1 % of its reviews new? Such models differ a little in truth; that they are equal is sure
when for each review a coin decides which of the two answers counts for which. Then chains of 50
retrainings, with simulated answers to a holdout of which 5 % is new each time: how far below the
first version does production end, and does an improvement of .02 still get through? Verdicts are
those of the product's own `judge`, and the ledger's `replay` says which version is in production
and which is the best. Two to three minutes. Bad options or reviews: one line on stderr and exit
code 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

PROJECT = Path(__file__).resolve().parent.parent
if str(PROJECT) not in sys.path:  # run as a script, Python puts only tools/ on the path
    sys.path.insert(0, str(PROJECT))

from sentiment.data.reviews import (  # noqa: E402
    TextHashes,
    load_reviews,
    split_reviews,
    text_hashes,
)
from sentiment.errors import UserError  # noqa: E402
from sentiment.metrics import Floats, Labels, f1_macro, paired_difference  # noqa: E402
from sentiment.model.algorithms import build_candidate  # noqa: E402
from sentiment.registry.gate import judge, new_share  # noqa: E402
from sentiment.tracking.ledger import PROMOTE, Event, replay  # noqa: E402
from text_cleaning import clean_texts  # noqa: E402

VARIANTS = 5  # reordered files and grown files, each for a fifth of the pairs
GROWTH = 0.001  # share of new reviews in a grown file
TRAINED_ON = 0.9  # share of the training part that a model of a pair is trained on
PARAMETERS = {"C": 1.0, "max_features": 3000, "min_df": 3, "max_df": 0.9}
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)

STEPS = 50
NEW_ROWS = 0.05  # share of the holdout that each retraining replaces
NEGATIVE = 0.18  # share of negative reviews
START = 0.82  # true macro-F1 of the first version
STEP = 0.003  # what each retraining loses
GAIN = 0.02  # the improvement that should get through
ERRORS = np.array([0.25, 0.075])  # of negative and of positive reviews, in this proportion
SHARED, CARRIED = 0.85, 0.8  # of what makes a review hard: for all versions; from one to the next


# --- pairs of equal models -------------------------------------------------------------------


@dataclass(frozen=True)
class TrainedOn:
    """A file as a version sees it: its split, cleaned, and the vectorizer of its training part."""

    vectorizer: Any
    train: Any  # TF-IDF of the training part
    y_train: Labels
    cleaned_test: list[str]
    y_test: Labels
    hashes: TextHashes

    @classmethod
    def of(cls, frame: pd.DataFrame, cleaned: dict[str, str]) -> TrainedOn:
        """Split a frame of `text` and `rating`; `cleaned` maps each text to its cleaned form."""
        split = split_reviews(frame, [cleaned[text] for text in frame["text"]])
        texts = [cleaned[text] for text in split.train_texts]
        vectorizer = build_candidate("LogisticRegression", PARAMETERS).vectorizer
        return cls(
            vectorizer,
            vectorizer.fit_transform(texts),
            split.y_train,
            [cleaned[text] for text in split.test_texts],
            split.y_test,
            text_hashes(texts),
        )

    def fit(self, rng: np.random.Generator) -> LogisticRegression:
        """Fit the model on `TRAINED_ON` of the training part, drawn at random."""
        drawn = rng.permutation(len(self.y_train))[: round(TRAINED_ON * len(self.y_train))]
        model = build_candidate("LogisticRegression", PARAMETERS).model
        return model.fit(self.train[drawn], self.y_train[drawn])


@dataclass(frozen=True)
class Comparison:
    """A candidate's file beside production's: what both answer, which neither was trained on."""

    candidate: TrainedOn
    of_candidate: Any  # TF-IDF of the reviews compared, by the candidate's vectorizer
    of_production: Any
    truth: Labels
    new: float

    @classmethod
    def of(cls, candidate: TrainedOn, production: TrainedOn) -> Comparison:
        """Compare on the holdout of the candidate's file, as the gate does."""
        hashes = np.array([text_hashes([text])[0] for text in candidate.cleaned_test])
        unknown = ~np.isin(hashes, np.concatenate([candidate.hashes, production.hashes]))
        texts = np.array(candidate.cleaned_test, dtype=object)[unknown].tolist()
        return cls(
            candidate,
            candidate.vectorizer.transform(texts),
            production.vectorizer.transform(texts),
            candidate.y_test[unknown],
            new_share(candidate.hashes, production.hashes),
        )


def report_pairs(data: Path, pairs: int, rng: np.random.Generator) -> None:
    """Print how often a candidate as good as production is promoted over it."""
    frame = load_reviews(data).frame
    cleaned = dict(zip(frame["text"], clean_texts(frame["text"]), strict=True))
    rows = rng.permutation(len(frame))
    size = max(1, round(GROWTH * len(frame)))
    known, later = rows[VARIANTS * size :], rows[: VARIANTS * size].reshape(VARIANTS, size)
    known.sort()  # the file's own order
    production = TrainedOn.of(frame.iloc[known], cleaned)
    orders = [rng.permutation(known) for _ in range(VARIANTS)]
    grown = [np.concatenate([known, few]) for few in later]
    kinds = {
        "the same file": [Comparison.of(production, production)],
        "reordered": [
            Comparison.of(TrainedOn.of(frame.iloc[order], cleaned), production) for order in orders
        ],
        f"{GROWTH:.1%} new": [
            Comparison.of(TrainedOn.of(frame.iloc[more], cleaned), production) for more in grown
        ],
    }
    print(f"promoted of {pairs} candidates as good as production; {data.name}, {len(frame):,} rows")
    print(f"{'':<16}{'compared on':>12}{'new':>7}{'disagree':>10}{'equal':>16}{'as trained':>16}")
    print(f"{'':<45}{'now':>8}{'before*':>8}{'now':>8}{'before*':>8}")
    first = [production.fit(rng) for _ in range(pairs)]
    for name, comparisons in kinds.items():
        promoted, disagree = np.zeros(4), 0.0
        for number, model in enumerate(first):
            one = comparisons[number % len(comparisons)]
            mine = one.candidate.fit(rng).predict(one.of_candidate)
            other = model.predict(one.of_production)
            disagree += float(np.mean(mine != other)) / pairs
            coin = rng.random(len(mine)) < 0.5
            equal = np.where(coin, other, mine), np.where(coin, mine, other)
            before = float(one.candidate is not production)  # the share that was taken for new
            promoted += [
                _promoted(one.truth, answers, new)
                for answers in (equal, (mine, other))
                for new in (one.new, before)
            ]
        print(
            f"{name:<16}{len(comparisons[0].truth):>12,}{comparisons[0].new:>7.1%}{disagree:>10.1%}"
            + "".join(f"{share:>8.1%}" for share in promoted / pairs),
            flush=True,
        )
    print("* when any change of the file counted as new data")


def _promoted(truth: Labels, answers: tuple[Labels, Labels], new: float) -> bool:
    return judge(("2", "1"), truth, answers, (1.0, 1.0), new=new).promoted


# --- chains of retrainings -------------------------------------------------------------------


def true_f1(scale: float) -> float:
    """Return the macro-F1 of a model with the error rates `ERRORS` times `scale`."""
    share, wrong = np.array([NEGATIVE, 1 - NEGATIVE]), ERRORS * scale
    right = share * (1 - wrong)
    missed = share * wrong
    return float(f1_macro(np.array([[right[0], missed[0]], [missed[1], right[1]]])))


_SCALES = np.linspace(0.05, 3.2, 2_000)
_F1 = np.array([true_f1(scale) for scale in _SCALES])  # falls from one scale to the next


def thresholds(f1: float) -> Floats:
    """Return below which standard normal value a model of this true macro-F1 errs, by label."""
    scale = float(np.interp(-f1, -_F1, _SCALES))
    return np.array([NormalDist().inv_cdf(rate) for rate in ERRORS * scale])


@dataclass(frozen=True)
class Chain:
    """What came of a chain; losses are of true macro-F1, below the first version."""

    lost: float
    promoted: int
    disagree: float  # share of reviews that two neighbours answer differently
    gained: bool  # whether a candidate that is `GAIN` better than production got through at its end


def run_chain(
    truth_of: Callable[[int, float], float],
    rows: int,
    rng: np.random.Generator,
    *,
    steps: int = STEPS,
    floor: bool = True,
) -> Chain:
    """Let the gate judge one candidate after the other on a holdout of `rows` reviews.

    `truth_of(number, production)` is the true macro-F1 of candidate `number`, given production's.
    A version errs where a standard normal value of version and review lies below its threshold. The
    values of neighbours are correlated by `SHARED` + (1 - `SHARED`) `CARRIED`, so that they answer
    3–4 % of the reviews differently; with `floor` false the best version does not count.
    """
    moved = round(NEW_ROWS * rows)
    total = rows + moved * (steps + 1)
    labels = (rng.random(total) > NEGATIVE).astype(np.int64)
    hard, own = rng.standard_normal(total), rng.standard_normal(total)
    values = []
    for _ in range(steps + 2):
        values.append(np.sqrt(SHARED) * hard + np.sqrt(1 - SHARED) * own)
        own = CARRIED * own + np.sqrt(1 - CARRIED**2) * rng.standard_normal(total)

    truths = {"0": START}
    events = [Event(1, BEGAN, PROMOTE, None, "0")]
    disagree, gained = [], False
    for number in range(1, steps + 2):
        part = slice(moved * number, moved * number + rows)
        state = replay(events)
        production, best, candidate = str(state.production), str(state.best), str(number)
        last = number > steps
        now = truths[production]
        truths[candidate] = now + GAIN if last else truth_of(number, now)

        def answers(version: str, part: slice = part) -> Labels:
            wrong = values[int(version)][part] < thresholds(truths[version])[labels[part]]
            return np.where(wrong, 1 - labels[part], labels[part])

        mine, true = answers(candidate), labels[part]
        if not last:
            disagree.append(float(np.mean(mine != answers(str(number - 1)))))
        third = floor and best != production
        verdict = judge(
            (candidate, production),
            true,
            (mine, answers(production)),
            (1.0, 1.0),
            new=1.0,
            floor=(best, paired_difference(true, mine, answers(best))) if third else None,
        )
        if last:
            gained = verdict.promoted
        elif verdict.promoted:
            found = verdict.metrics()
            events.append(
                Event(len(events) + 1, BEGAN, PROMOTE, production, candidate, metrics=found)
            )
    lost = START - truths[str(replay(events).production)]
    return Chain(lost, len(events) - 1, float(np.mean(disagree or [0])), gained)


def report_chains(chains: int, rng: np.random.Generator) -> None:
    """Print how far production ends below the first version, and whether a gain gets through."""

    def falling(number: int, _: float) -> float:
        return START - STEP * number

    def worse(_: int, production: float) -> float:
        return production - STEP

    def equal(*_: float) -> float:
        return START

    print(f"\n{STEPS} retrainings on new data, {chains} chains each; macro-F1 lost in all")
    print(
        f"{'each candidate':<30}{'holdout':>8}{'floor':>7}{'disagree':>10}{'promoted':>10}"
        f"{'lost':>7}{'95th %':>8}{f'+{GAIN} through':>15}"
    )
    for name, truth_of, rows, floor in (
        (f"{STEP} below the one before", falling, 1_570, True),
        (f"{STEP} below production", worse, 1_570, True),
        (f"{STEP} below production", worse, 1_570, False),
        (f"{STEP} below production", worse, 10_000, True),
        (f"{STEP} below production", worse, 10_000, False),
        ("as good as the first", equal, 1_570, True),
    ):
        found = [run_chain(truth_of, rows, rng, floor=floor) for _ in range(chains)]
        lost = np.array([chain.lost for chain in found])
        promoted, disagree, gained = (
            np.mean([getattr(chain, what) for chain in found])
            for what in ("promoted", "disagree", "gained")
        )
        print(
            f"{name:<30}{rows:>8,}{'yes' if floor else 'no':>7}{disagree:>10.1%}{promoted:>10.1f}"
            f"{lost.mean():>7.4f}{np.percentile(lost, 95):>8.4f}{gained:>15.0%}",
            flush=True,
        )
    at_once = [run_chain(equal, 1_570, rng, steps=0).gained for _ in range(10 * chains)]
    print(f"+{GAIN} over the best version, at once: {np.mean(at_once):.0%} through")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulations on the command line's `arguments` and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--data", type=Path, default=PROJECT / "data.csv", help="reviews (data.csv)"
    )
    parser.add_argument("--pairs", type=int, default=500, help="of models (%(default)s)")
    parser.add_argument("--chains", type=int, default=40, help="of each kind (%(default)s)")
    parser.add_argument("--seed", type=int, default=42, help="0 or more (%(default)s)")
    options = parser.parse_args(arguments)
    if min(options.pairs, options.chains) < 1 or options.seed < 0:
        print(
            "simulate_gate: --pairs and --chains must be 1 or more and --seed 0 or more, found "
            f"{options.pairs}, {options.chains} and {options.seed}",
            file=sys.stderr,
        )
        return 2
    rng = np.random.default_rng(options.seed)
    try:
        report_pairs(options.data, options.pairs, rng)
    except UserError as error:
        print(f"simulate_gate: {error}", file=sys.stderr)
        return 2
    report_chains(options.chains, rng)
    return 0


if __name__ == "__main__":
    sys.exit(main())
