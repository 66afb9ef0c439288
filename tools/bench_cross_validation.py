"""How fast candidates are scored, against scikit-learn and against the solvers alone.

    python tools/bench_cross_validation.py [--data data.csv] [--space published] [--trials 20]

Candidates of every algorithm are drawn once, at random. They are scored in turn with
`cross_val_score(n_jobs=-1)`, with `FoldMatrices`, and with nothing but the fits and predictions on
matrices made beforehand. Processor seconds are those of all threads; they are less noisy than the
clock. Exit code: 0; 1 when any fold's score differs from scikit-learn's at all; 2 for bad input.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
if str(PROJECT) not in sys.path:  # run as a script, Python puts only tools/ on the path
    sys.path.insert(0, str(PROJECT))

import numpy as np  # noqa: E402
import optuna  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import StratifiedKFold, cross_val_score  # noqa: E402
from sklearn.pipeline import Pipeline  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

from sentiment.data.reviews import load_reviews, split_reviews  # noqa: E402
from sentiment.errors import UserError  # noqa: E402
from sentiment.model.algorithms import GUIDES_ALGORITHMS, Candidate, suggest_candidate  # noqa: E402
from sentiment.training.folds import FoldMatrices  # noqa: E402
from text_cleaning import clean_texts  # noqa: E402

SEED = 42
TIMES_SOLVERS_ALLOWED = 1.35  # in processor seconds
FOLDS = StratifiedKFold(5, shuffle=True, random_state=42)


def draw_candidates(trials: int, space: Any) -> list[Candidate]:
    """Return `trials` candidates of each algorithm, drawn at random with a fixed seed."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    candidates = []
    for algorithm in GUIDES_ALGORITHMS:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=SEED))
        candidates += [suggest_candidate(algorithm, study.ask(), space) for _ in range(trials)]
    return candidates


def score_plainly(texts: list[str], labels: Any, candidates: list[Candidate]) -> Any:
    """Return the fold scores of scikit-learn on all processors, shape (candidates, 5)."""
    scores = []
    for one in candidates:
        pipeline = Pipeline([("tfidf", clone(one.vectorizer)), ("model", clone(one.model))])
        scores.append(
            cross_val_score(pipeline, texts, labels, scoring="f1_macro", cv=FOLDS, n_jobs=-1)
        )
    return np.array(scores)


def score_ours(texts: list[str], labels: Any, candidates: list[Candidate]) -> Any:
    """Return the same of FoldMatrices, counting the terms included."""
    folds = FoldMatrices(texts, labels)
    return np.array([folds.score(one.vectorizer, one.model) for one in candidates])


def prepare_solving(
    texts: list[str], labels: Any, candidates: list[Candidate]
) -> Callable[[], None]:
    """Build all matrices; return a function that only fits and predicts, as `score` does it."""
    folds = FoldMatrices(texts, labels)
    y = [labels[train] for train, _ in FOLDS.split(texts, labels)]
    tasks = [(one.model, folds._matrices(one.vectorizer)) for one in candidates]

    def solve() -> None:
        with (
            ThreadPoolExecutor(min(os.cpu_count() or 1, 5)) as threads,
            threadpool_limits(1, user_api="blas"),
        ):
            for model, matrices in tasks:
                models = [clone(model) for _ in matrices]
                list(
                    threads.map(
                        lambda m, y, of: m.fit(of[0], y).predict(of[1]), models, y, matrices
                    )
                )

    return solve


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[float, float, Any]:
    """Return seconds, processor seconds and what the work returns."""
    clock, processor = time.perf_counter(), time.process_time()
    done = work(*arguments)
    return time.perf_counter() - clock, time.process_time() - processor, done


def compare(data: Path, space: str, trials: int, repeats: int) -> bool:
    """Print the comparison; return whether all scores are equal to scikit-learn's."""
    split = split_reviews(load_reviews(data).frame)
    texts, labels = clean_texts(split.train_texts), split.y_train
    candidates = draw_candidates(trials, space)
    given = (texts, labels, candidates)
    print(f"{data.name}: {len(texts)} training reviews, {len(candidates)} trials of 5 folds")
    score_plainly(texts, labels, candidates[:1])  # starts joblib's worker processes
    score_ours(texts, labels, candidates[::trials])
    solve = prepare_solving(*given)
    solve()
    print(f"{'':10}{'seconds':>27}{'processor seconds':>27}\n{'':10}{'plain':>9}{'ours':>9}"
          f"{'solvers':>9}{'ours':>9}{'solvers':>9}{'ratio':>9}")  # fmt: skip
    rows, different = [], 0
    for repeat in range(1, repeats + 1):
        plain, _, expected = timed(score_plainly, *given)
        ours, our_processor, scores = timed(score_ours, *given)
        solving, solving_processor, _ = timed(solve)
        ratio = our_processor / solving_processor
        rows.append((plain, ours, solving, our_processor, solving_processor, ratio))
        print(f"repeat {repeat:<3}" + "".join(f"{value:9.2f}" for value in rows[-1]))
        different = max(different, int((scores != expected).sum()))
    middle = [median(column) for column in zip(*rows, strict=True)]
    print("median    " + "".join(f"{value:9.2f}" for value in middle))
    print(f"times faster than plain: {median(row[0] / row[1] for row in rows):.1f}")
    print(f"times the solvers' processor seconds: {middle[-1]:.2f} "
          f"(wanted: {TIMES_SOLVERS_ALLOWED:g} or less)")  # fmt: skip
    print(f"fold scores that differ: {different} of {expected.size} (must be 0)")
    return different == 0


def positive(text: str) -> int:
    """Turn text into an integer of 1 or more."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of 1 or more")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, default=PROJECT / "data.csv", help="CSV of reviews")
    parser.add_argument("--space", choices=("published", "guide"), default="published")
    parser.add_argument("--trials", type=positive, default=20, help="of each algorithm (20)")
    parser.add_argument("--repeats", type=positive, default=3, help="of the comparison (3)")
    options = parser.parse_args(arguments)
    try:
        return 0 if compare(options.data, options.space, options.trials, options.repeats) else 1
    except UserError as error:
        print(f"bench_cross_validation.py: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
