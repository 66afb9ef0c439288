"""Time a drift check of a long prediction log: seconds and peak memory.

    python tools/bench_drift_log.py [--data data.csv] [--sizes 10000 100000 1000000]

A model is trained on a random half of the reviews and put into production in a temporary store. For
each size a SQLite log of that many answers is written, to random reviews of the other half; one in
a hundred gets feedback. Then a process of its own checks all of it. If memory is bounded, its peak
stays the same. The verdict means nothing here and is not printed: no customers repeat the same
reviews so often. About three minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parent.parent
if str(PROJECT) not in sys.path:  # run as a script, Python puts only tools/ on the path
    sys.path.insert(0, str(PROJECT))

from sentiment.data.reviews import RATING_COLUMN, TEXT_COLUMN, load_reviews  # noqa: E402
from sentiment.errors import ReviewDataError  # noqa: E402
from sentiment.metrics import Ints  # noqa: E402
from sentiment.model.predictor import LoadedVersion, load_version  # noqa: E402
from sentiment.predictions.log import LoggedPrediction, PredictionLog, open_log  # noqa: E402
from sentiment.tracking.store import open_store  # noqa: E402

BATCH = 5_000  # rows written in one transaction
FEEDBACK_EVERY = 100
SECONDS = 0.05  # between two answers
SEED = 42


def make_store(data: Path, folder: Path) -> LoadedVersion:
    """Train a logistic regression as the experiment does and put it into production."""
    command = [sys.executable, str(PROJECT / "sentiment_mlflow_optuna.py"), "--data", str(data)]
    command += ["--store", str(folder), "--models", "LogisticRegression", "--trials", "3"]
    subprocess.run([*command, "--promote", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return load_version(open_store(folder), "champion")


def fill(
    log: PredictionLog, version: LoadedVersion, texts: list[str], true: Ints, size: int
) -> None:
    """Log this many answers to random texts of these, with some feedback."""
    answers = version.predict(texts, explain=False)
    generator = np.random.default_rng(SEED)
    began = time.time() - size * SECONDS
    for begin in range(0, size, BATCH):
        drawn = generator.integers(0, len(texts), min(BATCH, size - begin)).tolist()
        log.write(
            [
                LoggedPrediction(
                    request_id=f"{begin + at:032x}",
                    position=0,
                    at=began + (begin + at) * SECONDS,
                    arm="champion",
                    version=version.version,
                    experiment="",
                    unit=f"{begin + at:032x}",
                    text_digest=f"{row:032x}",
                    text=texts[row],
                    characters=len(texts[row]),
                    words=answers[row].words,
                    known_words=answers[row].known_words,
                    probability=answers[row].probability,
                    label=answers[row].label,
                    milliseconds=0.5,
                )
                for at, row in enumerate(drawn)
            ]
        )
        for at in range(0, len(drawn), FEEDBACK_EVERY):
            log.add_feedback(f"{begin + at:032x}", 0, int(true[drawn[at]]), None, time.time())


def check(folder: Path, url: str) -> tuple[float, float, float, str]:
    """Check the whole log; return seconds, CPU seconds, peak memory in MiB, and the second line."""
    command = [sys.executable, "-m", "sentiment", "drift", "--store", str(folder)]
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [*command, "--log-url", url, "--since", "52w"], cwd=PROJECT, stdout=said, stderr=said
        )
        _, _, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        said.seek(0)
        lines = said.read().splitlines()
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, lines[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark on the command line's `arguments` and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=PROJECT / "data.csv", help="file of reviews")
    sizes = (10_000, 100_000, 1_000_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, help="answers in the log")
    options = parser.parse_args(arguments)
    try:
        frame = load_reviews(options.data).frame
    except ReviewDataError as error:
        print(f"bench_drift_log: {error}", file=sys.stderr)
        return 2
    # as often as they came, in random order
    rows = frame.loc[frame.index.repeat(frame["copies"])].sample(frac=1, random_state=SEED)
    before, after = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    texts, true = after["text"].tolist(), after["label"].to_numpy()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        named = {"text": TEXT_COLUMN, "rating": RATING_COLUMN}
        before.rename(columns=named).to_csv(folder / "before.csv", index=False)
        version = make_store(folder / "before.csv", folder)
        print(f"{'answers':>10}{'MB of log':>11}{'seconds':>9}{'of CPU':>9}{'MiB at most':>13}")
        for size in options.sizes:
            file = folder / f"{size}.db"
            log = open_log(f"sqlite:///{file}")
            fill(log, version, texts, true, size)
            log.close()
            seconds, used, memory, said = check(folder, f"sqlite:///{file}")
            megabytes = file.stat().st_size / 1e6
            print(
                f"{size:10,}{megabytes:11,.0f}{seconds:9.1f}{used:9.1f}{memory:13,.0f}   {said}",
                flush=True,
            )
            file.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
