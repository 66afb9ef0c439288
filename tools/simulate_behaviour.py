"""Count how often models that are equal, or lost their negations, fail the gate's behaviour tests.

    python tools/simulate_behaviour.py --data data.csv --models 40 --seed 42

Trains so many logistic regressions, each on nine tenths of the training part, drawn anew: as good
as one another but for chance. With "searched" their parameters differ as well, as those of two
searches do. Each is put beside each other one, and `compare_behaviour` says how often it would be
refused; then as many that cannot see negations, beside the first ones. About two minutes. Bad
options or reviews: one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.pipeline import Pipeline

PROJECT = Path(__file__).resolve().parent.parent
if str(PROJECT) not in sys.path:  # run as a script, Python puts only tools/ on the path
    sys.path.insert(0, str(PROJECT))

from sentiment.data.reviews import load_reviews  # noqa: E402
from sentiment.errors import UserError  # noqa: E402
from sentiment.model.algorithms import build_candidate  # noqa: E402
from sentiment.model.behaviour import (  # noqa: E402
    Behaviour,
    BehaviourChange,
    behaviour_of,
    compare_behaviour,
)
from sentiment.model.calibration import calibrate  # noqa: E402
from sentiment.training.folds import FoldMatrices  # noqa: E402
from sentiment.training.report import PreparedReviews, prepare_reviews  # noqa: E402

ALGORITHM = "LogisticRegression"
TRAINED_ON = 0.9  # share of the training part that a model is trained on
NEGATIONS = ["not", "no", "nor", "never", "dont", "didnt", "wont", "cant"]


def behaviour_of_one(
    data: PreparedReviews, rng: np.random.Generator, *, searched: bool = False, deaf: bool = False
) -> Behaviour:
    """Train one model and run its behaviour tests; `deaf` ones do not see `NEGATIONS`."""
    rows = rng.permutation(len(data.cleaned_train))
    rows = rows[: round(TRAINED_ON * len(rows))]
    texts, labels = [data.cleaned_train[row] for row in rows], data.split.y_train[rows]
    c, min_df = (float(np.exp(rng.uniform(-0.7, 0.7))), int(rng.integers(3, 6)))
    params = {"C": c if searched else 1.0, "min_df": min_df if searched else 3}
    candidate = build_candidate(ALGORITHM, {"max_features": 3000, "max_df": 0.9, **params})
    vectorizer, model = candidate.vectorizer, candidate.model
    vectorizer.set_params(stop_words=NEGATIONS if deaf else None)
    matrix = vectorizer.fit_transform(texts)
    decisions = FoldMatrices(texts, labels).decisions(vectorizer, model)
    calibrated = calibrate(model.fit(matrix, labels), decisions, matrix, labels)
    steps = [("clean", candidate.cleaner), ("tfidf", vectorizer), ("model", calibrated)]
    return behaviour_of(Pipeline(steps), data.loaded.rule)


def report(data: PreparedReviews, models: int, rng: np.random.Generator) -> None:
    """Print how often one model would be refused after another."""
    print(f"{models} of each kind; {data.loaded.source.name}, {len(data.loaded.frame):,} reviews")
    print(f"{'':<26}{'failed':>8}{'newly failed':>14}{'refused':>9}")
    equal = [behaviour_of_one(data, rng) for _ in range(models)]
    searched = [behaviour_of_one(data, rng, searched=True) for _ in range(models)]
    deaf = [behaviour_of_one(data, rng, deaf=True) for _ in range(models)]
    for name, candidates, others in (
        ("equal", equal, equal),
        ("equal, searched anew", searched, searched),
        ("negations not seen", deaf, equal),
    ):
        changes: list[BehaviourChange] = [
            compare_behaviour(one, other)
            for one in candidates
            for other in others
            if one is not other
        ]
        failed = np.mean([len(one.failed) for one in candidates])
        newly = np.mean([len(change.newly_failed) for change in changes])
        refused = np.mean([change.worse for change in changes])
        print(f"{name:<26}{failed:>8.1f}{newly:>14.1f}{refused:>9.1%}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulation on the command line's `arguments` and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--data", type=Path, default=PROJECT / "data.csv", help="reviews (data.csv)"
    )
    parser.add_argument("--models", type=int, default=40, help="of each kind (%(default)s)")
    parser.add_argument("--seed", type=int, default=42, help="0 or more (%(default)s)")
    options = parser.parse_args(arguments)
    if options.models < 2 or options.seed < 0:
        found = f"found {options.models} and {options.seed}"
        print(
            f"simulate_behaviour: --models must be 2 or more and --seed 0 or more, {found}",
            file=sys.stderr,
        )
        return 2
    try:
        data = prepare_reviews(load_reviews(options.data))
        report(data, options.models, np.random.default_rng(options.seed))
    except UserError as error:
        print(f"simulate_behaviour: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
