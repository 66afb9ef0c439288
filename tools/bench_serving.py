"""Benchmark: our server against `mlflow models serve`, side by side, with the same model.

    python tools/bench_serving.py --data reviews.csv [--rounds 5] [--seconds 3] [--workers 1]

A logistic regression is searched, promoted, and served by both at once, with as many workers each;
they are loaded in turn, round by round. Ours does more for each review: it gives a calibrated
probability and the words that decided it, and writes a log. The client runs on the same machine.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from load_client import Load, drive, post

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

HOST = "127.0.0.1"
OURS, THEIRS = "ours", "mlflow models serve"
BATCH = 100
START_LIMIT = 120  # seconds a server may take to start
SINGLE_TEXTS = 500  # different reviews that are sent one by one


@dataclass(frozen=True)
class Server:
    """A running server: its name, port, process, path, and seconds from start to first answer."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    path: str
    ready: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its tables. Exit codes: 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(description="Load our server and MLflow's, side by side.")
    parser.add_argument("--data", default=str(PROJECT / "data.csv"), help="file of reviews")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a turn (default: 3)")
    parser.add_argument("--workers", type=int, default=1, help="workers of each (default: 1)")
    options = parser.parse_args(arguments)
    if not Path(options.data).is_file() or min(options.rounds, options.workers) < 1:
        print(
            f"bench_serving: {options.data}: no such file, or fewer than one round or worker; "
            "name the reviews with --data",
            file=sys.stderr,
        )
        return 2
    from sentiment.data.reviews import load_reviews

    texts = load_reviews(options.data).frame["text"].tolist()
    with tempfile.TemporaryDirectory() as store:
        search(options.data, store)
        print(
            f"{Path(options.data).name}, {os.cpu_count()} cores, {options.workers} worker(s) each"
        )
        in_process(store, texts)
        with ExitStack() as stack:
            servers = [
                stack.enter_context(running(name, store, options.workers))
                for name in (OURS, THEIRS)
            ]
            for server in servers:
                print(f"{server.name}: ready after {server.ready:.1f} s")
            for connections in (1, 16):
                for size in (1, BATCH):
                    compare(servers, texts, connections, size, options)
            for server in servers:
                print(f"{server.name}: memory {memory(server.process.pid)}")
    return 0


def search(data: str, store: str) -> None:
    """Search a logistic regression and put it into production in a store of its own."""
    command = [sys.executable, str(PROJECT / "sentiment_mlflow_optuna.py"), "--quiet", "--promote"]
    command += ["--data", data, "--store", store, "--models", "LogisticRegression"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def in_process(store: str, texts: Sequence[str]) -> None:
    """Time one review at a time without any server: ours with words, and MLflow's pyfunc."""
    import mlflow
    import pandas as pd

    from sentiment.model.predictor import load_version
    from sentiment.tracking.store import open_store

    opened = open_store(store)
    version = load_version(opened, "champion")
    pyfunc = mlflow.pyfunc.load_model("models:/FlipkartSentimentModel@champion")
    ways: dict[str, Any] = {
        "ours, with words": lambda text: version.predict([text]),
        "ours, without words": lambda text: version.predict([text], explain=False),
        "mlflow.pyfunc": lambda text: pyfunc.predict(pd.DataFrame({"text": [text]})),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for text in texts[: 4 * SINGLE_TEXTS]:
        for name, way in ways.items():
            begun = time.perf_counter()
            way(text)
            times[name].append(time.perf_counter() - begun)
    print("one review in process, milliseconds")
    for name, values in times.items():
        p50, p95, p99 = np.percentile(values, [50, 95, 99]) * 1000
        print(f"  {name:<20} p50 {p50:6.3f}  p95 {p95:6.3f}  p99 {p99:6.3f}")


@contextmanager
def running(
    name: str, store: str, workers: int, errors: Any = subprocess.DEVNULL
) -> Iterator[Server]:
    """Start a server on a free port, and stop it at the end with all its workers.

    `name` is `OURS` or `THEIRS`; `errors` is a file for what it writes to stderr.
    """
    folder = Path(sys.executable).parent  # where mlflow looks for uvicorn by its name
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db",
        "PYTHONPATH": str(PROJECT),  # of `-m sentiment`, from any folder
        "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    port = free_port()
    if name == OURS:
        health, path = "/health", "/predict"
        command = [sys.executable, "-m", "sentiment", "serve", "--store", store]
        command += ["--port", str(port), "--workers", str(workers)]
    else:
        health, path = "/ping", "/invocations"
        command = [str(folder / "mlflow"), "models", "serve", "--env-manager", "local"]
        command += ["-m", "models:/FlipkartSentimentModel@champion"]
        command += ["-p", str(port), "--workers", str(workers)]
    begun = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=store,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=errors,
    )
    try:
        wait_until_it_answers(port, health, process)
        yield Server(name, port, process, path, time.perf_counter() - begun)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def compare(
    servers: Sequence[Server],
    texts: Sequence[str],
    connections: int,
    size: int,
    options: argparse.Namespace,
) -> None:
    """Load the servers in turn with requests of `size` reviews, and print rates and ratios."""
    loads: dict[str, list[Load]] = {server.name: [] for server in servers}
    for turn in range(options.rounds + 1):
        for server in servers if turn % 2 else servers[::-1]:
            requests = post(HOST, server.port, server.path, bodies(server, texts, size))
            load = drive(
                HOST, server.port, requests, connections=connections, seconds=options.seconds
            )
            if turn:  # the first is for warming up
                loads[server.name].append(load)
    what = "single reviews" if size == 1 else f"batches of {size}"
    print(f"{what}, {connections} connection(s), medians of {options.rounds} turns")
    medians: dict[str, dict[str, float]] = {}
    for name, found in loads.items():
        medians[name] = {
            "rate": statistics.median(load.per_second for load in found),
            **{
                f"p{share}": statistics.median(load.percentile(share) for load in found)
                for share in (50, 95, 99)
            },
        }
        row, failed = medians[name], sum(load.failed for load in found)
        print(
            f"  {name:<20} {row['rate']:8.1f}/s  p50 {row['p50']:8.2f}  p95 {row['p95']:8.2f}  "
            f"p99 {row['p99']:8.2f} ms  failed {failed}"
        )
    ours, theirs = (medians[server.name] for server in servers)
    ratios = sorted(
        mine.per_second / other.per_second
        for mine, other in zip(*(loads[server.name] for server in servers), strict=True)
    )
    print(
        f"  ours: {ours['rate'] / theirs['rate']:.1f} times the throughput (turns "
        f"{ratios[0]:.1f}–{ratios[-1]:.1f}), {ours['p99'] / theirs['p99']:.2f} of the p99"
    )


def bodies(server: Server, texts: Sequence[str], size: int) -> list[dict[str, Any]]:
    """The same reviews in the format of the server's own API."""
    groups = [list(texts[at : at + size]) for at in range(0, len(texts) - size, size)]
    groups = groups[:SINGLE_TEXTS]
    if server.path == "/predict":
        return [{"text": group[0]} if size == 1 else {"texts": group} for group in groups]
    split = "dataframe_split"
    return [{split: {"columns": ["text"], "data": [[text] for text in group]}} for group in groups]


def memory(leader: int) -> str:
    """Proportional share of the memory (PSS) of each process of the server's session, in MiB."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) != leader:
                continue
            lines = (folder / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        kibibytes = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        found.append(kibibytes / 1024)
    return " + ".join(f"{size:.0f}" for size in sorted(found, reverse=True)) + " MiB"


def wait_until_it_answers(port: int, path: str, process: subprocess.Popen[bytes]) -> None:
    """Ask until the server answers 200. Raises `RuntimeError` when it ends or takes too long."""
    until = time.monotonic() + START_LIMIT
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not answer on port {port}")


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
