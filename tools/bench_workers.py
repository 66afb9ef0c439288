"""Benchmark: trials a second of one worker and of two that share a pass.

    python tools/bench_workers.py [--rows 100000] [--trials 4] [--storage postgresql+psycopg://…]

The reviews are those of `tools/make_data.py`, so many that a trial takes seconds. Each line is a
new pass in a store of its own, with `--batch` as large as the number of trials. The clock runs from
the begin of the first trial to the end of the last, as Optuna has stored them: reading and cleaning
the file, which each worker does for itself, is the column before. One worker fits a fold on each
core; two are timed with one thread each, and with as many as there are cores. Processor seconds are
those of the whole passes, less noisy than the clock where others use the machine as well.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from make_data import write_data  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    """Time each way and print a line of it. Exit codes: 0 done, 2 bad options."""
    parser = argparse.ArgumentParser(description="Time one worker and two that share a pass.")
    parser.add_argument("--rows", type=int, default=100_000, help="reviews (default: 100000)")
    parser.add_argument("--trials", type=int, default=4, help="of each algorithm (default: 4)")
    parser.add_argument("--models", default="LogisticRegression,LinearSVM", help="algorithms")
    parser.add_argument("--storage", help="database of the studies (default: SQLite)")
    options = parser.parse_args(arguments)
    if min(options.rows, options.trials) < 1:
        print("bench_workers: --rows and --trials: expected 1 or more", file=sys.stderr)
        return 2
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "reviews.csv"
        write_data(data, 42, options.rows)
        print(
            f"{options.rows:,} rows, {options.models}, {options.trials} trials each, {cores} cores"
        )
        print("workers  threads each  before, s  search, s  trials a second  all, s  processor, s")
        for workers, jobs in dict.fromkeys([(1, cores), (1, 1), (2, 1), (2, cores)]):
            _time(options, data, workers, jobs)
    return 0


def _time(options: argparse.Namespace, data: Path, workers: int, jobs: int) -> None:
    """Run a pass with so many workers of so many threads, and print how long it took."""
    import optuna

    from sentiment.training.studies import open_storage

    store, name = data.parent / f"store_{workers}_{jobs}", f"bench-{os.getpid()}-{workers}-{jobs}"
    command = [sys.executable, str(PROJECT / "sentiment_mlflow_optuna.py"), "--data", str(data)]
    command += ["--store", str(store), "--join", name, "--jobs", str(jobs), "--quiet"]
    command += ["--trials", str(options.trials), "--batch", str(options.trials)]
    command += ["--models", options.models]
    if options.storage:
        command += ["--storage", options.storage]
    env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    started, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = [
        subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(workers)
    ]
    for process in begun:
        _, errors = process.communicate()
        if process.returncode != 0:
            raise SystemExit(f"bench_workers: a worker failed:\n{errors.decode()}")
    whole, after = time.time() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    storage = open_storage(store / "studies", options.storage)
    trials = [
        trial
        for algorithm in options.models.split(",")
        for trial in optuna.load_study(storage=storage, study_name=f"{name}/{algorithm}").trials
    ]
    first = min(trial.datetime_start.timestamp() for trial in trials if trial.datetime_start)
    last = max(trial.datetime_complete.timestamp() for trial in trials if trial.datetime_complete)
    print(
        f"{workers:>7}  {jobs:>12}  {first - started:>9.1f}  {last - first:>9.1f}  "
        f"{len(trials) / (last - first):>15.2f}  {whole:>6.1f}  {processor:>12.1f}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
