"""Benchmark: rows a second and peak memory of `score` on a folder, alone and on Dask workers.

    python tools/bench_score_folder.py [--data reviews.csv] [--rows 1000000] [--parts 20]

The texts of the file are repeated, each with a number of its own, up to so many rows, as Parquet
parts; the version is one that is trained here on the file, by a single trial. One process and the
workers take turns, `--rounds` times, since a machine is not equally fast all the time. Seconds are
those of the scoring, as `score` says them: starting Python is not in them, and workers have
imported the package before. Memory is the highest resident set of the process, or of each worker.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
SCORED = re.compile(r"rows scored by version \S+ in ([\d.,]+) s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Time each way and print a line of it. Exit codes: 0 done, 2 bad options."""
    parser = argparse.ArgumentParser(description="Time score on a folder, alone and with Dask.")
    parser.add_argument("--data", type=Path, default=PROJECT / "data.csv", help="reviews")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows (default: 1000000)")
    parser.add_argument("--parts", type=int, default=20, help="files of them (default: 20)")
    parser.add_argument("--workers", type=int, default=2, help="Dask workers (default: 2; 0: none)")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each (default: 1)")
    options = parser.parse_args(arguments)
    if min(options.rows, options.parts, options.rounds) < 1 or options.workers < 0:
        print("bench_score_folder: expected numbers of 1 or more", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name, _cluster(options.workers) as cluster:
        folder = Path(name)
        _train(options.data, folder / "store")
        write_parts(options.data, folder / "in", options.rows, options.parts)
        print(f"{options.rows:,} rows in {options.parts} parts, {os.cpu_count()} cores")
        print("way        seconds   rows/s  peak MiB")
        for _ in range(options.rounds):
            _time(folder, options.rows, None)
            if cluster is not None:
                _time(folder, options.rows, cluster)
    return 0


def write_parts(data: Path, folder: Path, rows: int, parts: int) -> None:
    """Write so many rows of the file's texts, each different from all others, as Parquet parts."""
    import pyarrow
    from pyarrow import parquet

    from sentiment.data.reviews import load_reviews

    texts = load_reviews(data).frame["text"].tolist()
    numbered = (f"{text} {number}" for number, text in enumerate(itertools.cycle(texts)))
    folder.mkdir()
    for part in range(parts):
        size = rows // parts + (part < rows % parts)
        table = pyarrow.table({"id": range(size), "text": list(itertools.islice(numbered, size))})
        parquet.write_table(table, folder / f"part-{part:04}.parquet")


@contextmanager
def _cluster(workers: int) -> Iterator[Any]:
    """Start workers of one thread each, as `dask worker` would."""
    if not workers:
        yield None
        return
    from distributed import LocalCluster

    os.environ["PYTHONPATH"] = str(PROJECT)
    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as made:  # type: ignore[no-untyped-call]
        yield made


def _train(data: Path, store: Path) -> None:
    script = [str(PROJECT / "sentiment_mlflow_optuna.py"), "--data", str(data), "--promote"]
    more = ["--models", "LogisticRegression", "--trials", "1", "--store", str(store), "--quiet"]
    subprocess.run([sys.executable, *script, *more], check=True, stdout=subprocess.DEVNULL)


def _time(folder: Path, rows: int, cluster: Any) -> None:
    """Score the folder in a process of its own, and print how long it took."""
    out = folder / "out"
    command = [sys.executable, "-m", "sentiment", "score", "--store", str(folder / "store")]
    command += ["--in", str(folder / "in"), "--out", str(out)]
    if cluster is not None:
        _warm_up(cluster)
        command += ["--dask", cluster.scheduler_address]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)  # of this process alone
        process.returncode = os.waitstatus_to_exitcode(status)
    shutil.rmtree(out)
    found = SCORED.search(said)
    if found is None:
        raise SystemExit(f"bench_score_folder: score failed: {said}")
    seconds = float(found[1].replace(",", ""))
    if cluster is None:
        way, peaks = "alone", [used.ru_maxrss // 1024]
    else:
        peaks = [_peak(worker.pid) for worker in cluster.workers.values()]
        way = f"{len(peaks)} workers"
    shown = " + ".join(f"{peak:,}" for peak in peaks)
    print(f"{way:<9} {seconds:>8.1f} {rows / seconds:>8,.0f}  {shown}", flush=True)


def _warm_up(cluster: Any) -> None:
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:  # type: ignore[no-untyped-call]
        client.run(__import__, "sentiment.serving.parts")


def _peak(process: int) -> int:
    """Return the highest resident set of a process that is running, in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


if __name__ == "__main__":
    sys.exit(main())
