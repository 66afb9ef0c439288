"""Benchmark: seconds and peak memory of training in one process, and on Dask workers.

    python tools/bench_dask_training.py [--rows 200000,1000000,2000000] [--workers 2] [--trials 4]

A review is two texts of the file with the same rating, one after the other, and a number, so that
no two are equal; they come as Parquet parts. Both ways read, clean, split and count them, and score
the same few candidates of logistic regression, drawn at random from the published space: one
process by itself, which fits as many folds at once as there are cores, and one that has workers of
one thread. Starting Python is not in the seconds, and workers have imported the package before. The
scores must be equal. Memory is the highest resident set, of the process and of each worker.

Of two sizes or more: what 10 and 100 million rows would take, and what that assumes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

PART = 50_000  # rows of a file
STEPS = ("read", "clean", "split", "count", "trials")  # seconds
LARGER = (10_000_000, 100_000_000)
ASSUMED = """\
Extrapolated along the straight line through the sizes that were measured. That assumes machines
like this one, {workers} workers, and
- that reading, cleaning, splitting and counting take a time in proportion to the rows. Cleaning and
  counting are the workers' and take with n times the workers 1/n of it, as long as this process
  keeps up; reading, splitting and putting the counts together are this process's own and stay;
- that one fit's steps do not become more. From {many:,} training rows on lbfgs fits, before
  liblinear, so that a line through both is too steep or too flat;
- that memory is in proportion to the rows: new terms become rarer, so it is an upper bound, except
  that each worker keeps no more than {kept:.0f} GiB of fold matrices beside those it is at;
- that no index passes 2^31: above some 180 million counted terms SciPy needs 64 bits for them, and
  a third more memory."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Time both ways, a line each. Exit codes: 0 done, 1 the scores differ, 2 bad options."""
    parser = argparse.ArgumentParser(description="Time training alone and with Dask.")
    parser.add_argument("--data", type=Path, default=PROJECT / "data.csv", help="reviews")
    parser.add_argument("--rows", default="200000,1000000,2000000", help="numbers, by comma")
    parser.add_argument("--trials", type=int, default=4, help="candidates (default: 4)")
    parser.add_argument("--workers", type=int, default=2, help="Dask workers (default: 2)")
    parser.add_argument("--measure", type=Path, help="the parts to measure (it calls itself)")
    parser.add_argument("--dask", help="with --measure: the scheduler")
    options = parser.parse_args(arguments)
    if options.measure is not None:
        print(json.dumps(_measure(options.measure, options.trials, options.dask)))
        return 0
    sizes = [int(size) if size.isdecimal() else 0 for size in options.rows.split(",")]
    if min(*sizes, options.trials, options.workers, 1) < 1:
        print("bench_dask_training: expected numbers of 1 or more", file=sys.stderr)
        return 2
    found: dict[str, list[dict[str, Any]]] = {"alone": [], f"{options.workers} workers": []}
    print(f"{os.cpu_count()} cores, {options.trials} trials of LogisticRegression, seconds and MiB")
    print(
        f"{'rows':>11} way        " + "".join(f"{step:>8}" for step in STEPS) + "  process workers"
    )
    for rows in sizes:
        with tempfile.TemporaryDirectory() as name:
            write_parts(options.data, Path(name), rows)
            for way, lines in found.items():
                lines.append(_time(options, Path(name), rows, way))
            if len({str(lines[-1]["scores"]) for lines in found.values()}) > 1:
                print("bench_dask_training: the scores differ", file=sys.stderr)
                return 1
    if len(set(sizes)) > 1:
        _extrapolate(found, sizes, options.workers)
    return 0


def write_parts(data: Path, folder: Path, rows: int) -> None:
    """Write so many reviews as Parquet parts, each different from all others."""
    import pyarrow
    from pyarrow import parquet

    from sentiment.data.reviews import load_reviews

    frame = load_reviews(data).frame
    of_rating = [group.to_numpy() for _, group in frame.groupby("rating")["text"]]
    ratings = sorted(frame["rating"].unique())
    shares = [len(texts) / len(frame) for texts in of_rating]
    draw = np.random.default_rng(42)
    for first in range(0, rows, PART):
        size = min(PART, rows - first)
        drawn = draw.choice(len(ratings), size, p=shares)
        texts = [
            f"{draw.choice(of_rating[at])}. {draw.choice(of_rating[at])} {first + row}"
            for row, at in enumerate(drawn)
        ]
        table = pyarrow.table({"text": texts, "rating": [int(ratings[at]) for at in drawn]})
        parquet.write_table(table, folder / f"part-{first:010}.parquet")


def _measure(folder: Path, trials: int, dask: str | None) -> dict[str, Any]:
    """Return the seconds of each step, and the scores; in a process of its own."""
    import optuna

    from sentiment.cluster import connect
    from sentiment.console import Terminal
    from sentiment.data.reviews import load_reviews
    from sentiment.model.algorithms import suggest_candidate
    from sentiment.tracking.artifact import REQUIREMENTS
    from sentiment.training.on_cluster import ClusterFolds, clean_by_part
    from sentiment.training.report import folds_of, prepare_reviews
    from text_cleaning import clean_texts

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=42))
    steps = iter(STEPS)
    seconds: dict[str, Any] = {}
    begun = time.perf_counter()

    def lap() -> None:
        nonlocal begun
        seconds[next(steps)] = time.perf_counter() - begun
        begun = time.perf_counter()

    with connect(dask, Terminal(), REQUIREMENTS) if dask else nullcontext() as cluster:
        begun = time.perf_counter()
        loaded = load_reviews(folder)
        lap()
        texts = loaded.frame["text"]
        cleaned = clean_texts(texts) if cluster is None else clean_by_part(cluster, texts)
        lap()
        data = prepare_reviews(loaded, cleaned)
        number = len(data.split.train_texts)
        asked = [study.ask() for _ in range(trials)]
        candidates = [suggest_candidate("LogisticRegression", one, texts=number) for one in asked]
        lap()
        alone = folds_of(data)
        shared = None if cluster is None else ClusterFolds(cluster, data)
        (shared or alone).count(candidates[0].vectorizer, candidates[0].cleaner)
        lap()
        if cluster is None or shared is None:
            attempts = [alone.attempt(one.vectorizer, one.model, one.cleaner) for one in candidates]
        else:
            attempts = list(map(cluster.result, [shared.begin(one) for one in candidates]))
        lap()
    return {
        **seconds,
        "scores": [one.scores.tolist() for one in attempts if one.scores is not None],
    }


def _time(options: argparse.Namespace, folder: Path, rows: int, way: str) -> dict[str, Any]:
    """Measure one way in a process of its own, with new workers; print and return it."""
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", str(folder)]
    command += ["--trials", str(options.trials)]
    if way == "alone":
        found, peak = _run(command)
        peaks: list[int] = []
    else:
        from distributed import Client, LocalCluster

        from text_cleaning import clean_text

        os.environ["PYTHONPATH"] = str(PROJECT)
        with LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=options.workers, threads_per_worker=1, dashboard_address=None
        ) as cluster:
            with Client(cluster, set_as_default=False) as client:  # type: ignore[no-untyped-call]
                client.run(__import__, "sentiment.training.folds")
                client.run(clean_text, "good")  # imports the stemmer
            found, peak = _run([*command, "--dask", cluster.scheduler_address])
            peaks = [_peak(worker.pid) for worker in cluster.workers.values()]
    found |= {"process": peak, "workers": max(peaks, default=0)}
    times = "".join(f"{found[step]:>8.1f}" for step in STEPS)
    shown = " + ".join(f"{one:,}" for one in peaks)
    print(f"{rows:>11,} {way:<10} {times} {peak:>8,} {shown}", flush=True)
    return found


def _run(command: list[str]) -> tuple[dict[str, Any], int]:
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)  # of this process alone
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit("bench_dask_training: a process failed")
    found: dict[str, Any] = json.loads(said)
    return found, used.ru_maxrss // 1024


def _peak(process: int) -> int:
    """Return the highest resident set of a process that is running, in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def _extrapolate(found: dict[str, list[dict[str, Any]]], sizes: list[int], workers: int) -> None:
    from sentiment.model.algorithms import MANY_TEXTS
    from sentiment.training.folds import KEPT_BYTES

    for rows in LARGER:
        for way, lines in found.items():
            values = {
                name: np.polyval(np.polyfit(sizes, [line[name] for line in lines], 1), rows)
                for name in (*STEPS, "process", "workers")
            }
            times = "".join(f"{values[step]:>8,.0f}" for step in STEPS)
            memory = f"{values['process']:>8,.0f} {values['workers']:,.0f} each"
            print(f"{rows:>11,} {way:<10} {times} {memory}  extrapolated")
    print(ASSUMED.format(workers=workers, many=MANY_TEXTS, kept=KEPT_BYTES / 2**30))


if __name__ == "__main__":
    sys.exit(main())
