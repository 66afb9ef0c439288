"""How fast a trial is scored: against scikit-learn, against the solvers alone, and as data grows.

    python tools/bench_cross_validation.py [--data data.csv] [--trials 20] [--repeats 3]
    python tools/bench_cross_validation.py --rows 5000,50000,500000   # growth; "" leaves it out

First part, on `--data`: the same candidates, drawn once, are scored with
`cross_val_score(n_jobs=-1)`, with `FoldMatrices` and with nothing but the fits and predictions on
matrices made beforehand, in turn. Second part, on made-up reviews: seconds, processor seconds and
peak memory of each stage, every number of rows in a process of its own.
Exit code: 0; 1 when any score differs from scikit-learn's at all; 2 for bad input.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
if str(PROJECT) not in sys.path:  # run as a script, Python puts only tools/ on the path
    sys.path.insert(0, str(PROJECT))

SEED = 42
TIMES_FASTER_WANTED = 10.0  # than scikit-learn with n_jobs=-1, on the published data
TIMES_SOLVERS_ALLOWED = 1.3
STAGES = ("load", "clean", "first matrices")  # and one trial of each algorithm


def draw_candidates(trials: int) -> list[Any]:
    """Return `trials` candidates of each algorithm, drawn at random with a fixed seed."""
    import optuna

    from sentiment.model.algorithms import ALGORITHMS, suggest_candidate

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    candidates = []
    for algorithm in ALGORITHMS:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=SEED))
        candidates += [suggest_candidate(algorithm, study.ask()) for _ in range(trials)]
    return candidates


def read_training_part(data: Path) -> tuple[list[str], Any]:
    """Return the cleaned texts and the labels that the experiment cross-validates."""
    from sentiment.data.reviews import load_reviews, split_reviews
    from text_cleaning import clean_texts

    split = split_reviews(load_reviews(data).frame)
    return list(clean_texts(split.train_texts)), split.y_train


def score_plainly(texts: list[str], labels: Any, candidates: list[Any]) -> tuple[float, Any]:
    """Return seconds and fold scores, shape (candidates, 5), of scikit-learn on all processors."""
    import numpy as np
    from sklearn.base import clone
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import Pipeline

    cv = StratifiedKFold(5, shuffle=True, random_state=42)
    pipelines = [
        Pipeline([("tfidf", clone(one.vectorizer)), ("model", clone(one.model))])
        for one in candidates
    ]
    start = time.perf_counter()
    scores = [
        cross_val_score(pipeline, texts, labels, scoring="f1_macro", cv=cv, n_jobs=-1)
        for pipeline in pipelines
    ]
    return time.perf_counter() - start, np.array(scores)


def score_ours(texts: list[str], labels: Any, candidates: list[Any]) -> tuple[float, Any]:
    """Return the same of FoldMatrices, counting the terms included."""
    import numpy as np

    from sentiment.training.folds import FoldMatrices

    start = time.perf_counter()
    folds = FoldMatrices(texts, labels)
    scores = [folds.score(one.vectorizer, one.model) for one in candidates]
    return time.perf_counter() - start, np.array(scores)


class ReadyMadeFolds:
    """The matrices of all candidates, for timing the solvers alone."""

    def __init__(self, texts: list[str], labels: Any, candidates: list[Any]) -> None:
        from sklearn.model_selection import StratifiedKFold

        from sentiment.training.folds import FoldMatrices

        folds = FoldMatrices(texts, labels, cache_bytes=1 << 33)  # equal matrices made once
        self.jobs = [folds._jobs(one.vectorizer) for one in candidates]
        cv = StratifiedKFold(5, shuffle=True, random_state=42)
        self.labels = [labels[train] for train, _ in cv.split(texts, labels)]
        self.models = [one.model for one in candidates]

    def seconds(self) -> float:
        """Return the seconds of fitting and predicting, as many folds at once as `score` runs."""
        from sklearn.base import clone
        from threadpoolctl import threadpool_limits

        def solve(model: Any, y: Any, train: Any, test: Any) -> None:
            model.fit(train, y).predict(test)

        total = 0.0
        workers = min(os.cpu_count() or 1, 5)
        with ThreadPoolExecutor(workers) as threads, threadpool_limits(1, user_api="blas"):
            for model, jobs in zip(self.models, self.jobs, strict=True):
                # Unsorted copies as in `score`, made outside the time taken
                tasks = [
                    (clone(model), y, *(matrix.copy() for matrix in job.build()))
                    for job, y in zip(jobs, self.labels, strict=True)
                ]
                start = time.perf_counter()
                list(threads.map(solve, *zip(*tasks, strict=True)))
                total += time.perf_counter() - start
        return total


def compare(data: Path, trials: int, repeats: int) -> bool:
    """Print the first part; tell whether all scores are equal to scikit-learn's."""
    import numpy as np

    texts, labels = read_training_part(data)
    candidates = draw_candidates(trials)
    print(f"{data.name}: {len(texts)} training reviews, {len(candidates)} trials of 5 folds")
    score_plainly(texts, labels, candidates[:1])  # starts joblib's worker processes
    score_ours(texts, labels, candidates[::trials])
    ready_made = ReadyMadeFolds(texts, labels, candidates)
    ready_made.seconds()
    print(f"{'seconds':>10} {'plain':>9} {'ours':>9} {'solvers':>9} {'plain/ours':>11}"
          f" {'ours/solvers':>13}")  # fmt: skip
    rows, difference = [], 0.0
    for repeat in range(1, repeats + 1):
        plain, expected = score_plainly(texts, labels, candidates)
        ours, scores = score_ours(texts, labels, candidates)
        solvers = ready_made.seconds()
        difference = max(difference, float(np.abs(scores - expected).max()))
        rows.append((plain, ours, solvers, plain / ours, ours / solvers))
        print_row(f"repeat {repeat}", rows[-1])
    faster, of_solvers = (median(row[at] for row in rows) for at in (3, 4))
    print_row("median", tuple(median(column) for column in zip(*rows, strict=True)))
    print(f"times faster than plain: {faster:.1f} (wanted: {TIMES_FASTER_WANTED:g} or more)")
    print(f"times the solvers alone: {of_solvers:.2f} (wanted: {TIMES_SOLVERS_ALLOWED:g} or less)")
    print(f"largest difference in score: {difference!r} (must be 0.0)")
    return difference == 0.0


def print_row(name: str, row: tuple[float, ...]) -> None:
    """Print three times and two ratios."""
    plain, ours, solvers, faster, of_solvers = row
    print(f"{name:>10} {plain:9.2f} {ours:9.2f} {solvers:9.2f} {faster:11.1f} {of_solvers:13.2f}")


def measure(data: Path) -> dict[str, Any]:
    """Return for every stage seconds, processor seconds and the process's peak memory in MiB."""
    from sklearn.dummy import DummyClassifier

    from sentiment.data.reviews import load_reviews, split_reviews
    from sentiment.model.algorithms import ALGORITHMS
    from sentiment.training.folds import FoldMatrices
    from text_cleaning import clean_texts

    result: dict[str, Any] = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        start, cpu_start = time.perf_counter(), time.process_time()
        done = work()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result[stage] = [seconds, cpu, peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)]
        return done

    frame = timed("load", lambda: load_reviews(data).frame)
    split = split_reviews(frame)
    texts = timed("clean", lambda: list(clean_texts(split.train_texts)))
    folds = FoldMatrices(texts, split.y_train)
    candidates = draw_candidates(1)
    # a model that costs nothing leaves the counting and the matrices
    first = candidates[0].vectorizer
    timed("first matrices", lambda: folds.score(first, DummyClassifier()))
    for algorithm, one in zip(ALGORITHMS, candidates, strict=True):
        timed(algorithm, partial(folds.score, one.vectorizer, one.model))
    result["reviews"] = len(frame)
    result["entries"] = max(job.build()[0].nnz for job in folds._jobs(first))
    return result


def show_growth(sizes: list[int]) -> None:
    """Print the second part."""
    from sentiment.model.algorithms import ALGORITHMS

    stages = (*STAGES, *ALGORITHMS)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in sizes:
            data = Path(folder) / f"{rows}.csv"
            make_data = [sys.executable, str(PROJECT / "tools" / "make_data.py")]
            options = ["--out", str(data), "--rows", str(rows), "--seed", str(SEED)]
            subprocess.run(make_data + options, check=True)
            alone = [sys.executable, __file__, "--measure", str(data)]
            done = subprocess.run(alone, check=True, stdout=subprocess.PIPE, text=True)
            results.append(json.loads(done.stdout))
            data.unlink()
    print(f"\ngrowth {'':14}" + "".join(f"{rows:>23,} rows" for rows in sizes))
    for what, name in (("reviews", "unique reviews"), ("entries", "matrix entries")):
        print(f"{name:<21}" + "".join(f"{result[what]:>28,}" for result in results))
    for stage in stages:
        cells = ["{:.2f} s {:7.2f} s {:5.0f} MiB".format(*r[stage]) for r in results]
        print(f"{stage:<21}" + "".join(f"{cell:>28}" for cell in cells))
    for before, after, small, large in zip(results, results[1:], sizes, sizes[1:], strict=False):
        print(f"\n{small:,} → {large:,} rows: {large / small:g} times the rows,"
              f" {after['reviews'] / before['reviews']:.1f} times the unique reviews,"
              f" {after['entries'] / before['entries']:.1f} times the matrix entries")  # fmt: skip
        for stage in stages:
            growth = after[stage][1] / before[stage][1]  # wall time feels what else is running
            print(f"{stage:<21} {growth:6.1f} times the processor seconds, "
                  f"{growth / (large / small):.2f} of linear in the rows")  # fmt: skip


def parse_rows(text: str) -> list[int]:
    """Turn "5000,50000" into numbers; an empty string gives none."""
    try:
        sizes = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        sizes = [0]
    if any(rows < 1000 for rows in sizes):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected numbers of 1000 or more such as 5000,50000"
        )
    return sizes


def positive(text: str) -> int:
    """Turn text into an integer of 1 or more."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of 1 or more")
    return int(text)


class OneLineParser(argparse.ArgumentParser):
    """A parser whose complaint is one line, without the usage above it."""

    def error(self, message: str) -> Any:
        """Print the complaint and leave with exit code 2."""
        self.exit(2, f"bench_cross_validation.py: {message}; see --help\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = OneLineParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, default=PROJECT / "data.csv", help="CSV of reviews")
    parser.add_argument("--trials", type=positive, default=20, help="of each algorithm (20)")
    parser.add_argument("--repeats", type=positive, default=3, help="of the comparison (3)")
    parser.add_argument(
        "--rows", type=parse_rows, default="5000,50000,500000", help='sizes, or "" for none'
    )
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    from sentiment.errors import ReviewDataError

    try:
        if options.measure:
            print(json.dumps(measure(options.measure)))
            return 0
        equal = compare(options.data, options.trials, options.repeats)
    except (ReviewDataError, OSError) as error:
        print(f"bench_cross_validation.py: {error}", file=sys.stderr)
        return 2
    if options.rows:
        show_growth(options.rows)
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
