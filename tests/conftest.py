"""What the tests share: a small file of made-up reviews, and scripts run as a user runs them."""

from __future__ import annotations

import csv
import gc
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache, wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from sentiment import masking
from sentiment.tracking.store import open_store

PROJECT = Path(__file__).resolve().parent.parent
os.environ["PYTHONPATH"] = str(PROJECT)  # children of the tests find the package from any folder
# A background job of a shell ignores interrupts, and all that the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
GOOD = ["good", "great", "sturdy", "lovely", "fine", "fast", "perfect", "happy", "cheap", "neat"]
BAD = ["bad", "broken", "poor", "late", "torn", "fake", "useless", "slow", "weak", "sad"]
THINGS = ["shuttle", "cork", "box", "feather", "delivery", "price", "grip", "tube", "seller"]


def named(script: str) -> list[str]:
    """Return the words after `python` that run a script of the top level, or a command."""
    if script.endswith(".py"):
        return [str(PROJECT / script)]
    return ["-m", "sentiment", *([] if script == "sentiment" else [script])]


def write_reviews(file: Path, rows: int = 400, seed: int = 0) -> Path:
    """Reviews of our own making that a model can learn, about one in four negative."""
    rng = random.Random(seed)
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["Review text", "Ratings"])
        for number in range(rows):
            negative = number % 4 == 0
            words = rng.sample(BAD if negative else GOOD, 2) + rng.sample(THINGS, 2)
            if rng.random() < 0.2:  # some say both, so that no score is perfect
                words.append(rng.choice(GOOD if negative else BAD))
            rng.shuffle(words)
            rating = rng.choice([1, 2]) if negative else rng.choice([3, 4, 5])
            writer.writerow([f"{' '.join(words)} {number}READ MORE", rating])
    return file


@pytest.fixture(scope="session")
def small_reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 400 reviews, enough for every model to learn something within a second."""
    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv")


@pytest.fixture(scope="session", autouse=True)
def schema_is_made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Copy MLflow's empty database into every store but the first: its migrations take 1.4 s."""
    if "sentiment.tracking.store" not in sys.modules:  # no test that was collected opens a store
        yield
        return
    from mlflow.store.db import utils

    schema = tmp_path_factory.mktemp("schema") / "mlflow.db"
    make = utils._initialize_tables

    @wraps(make)
    def copy(engine: Any) -> None:
        if engine.dialect.name != "sqlite":
            return make(engine)  # type: ignore[no-any-return, no-untyped-call]
        ends = [schema, engine.url.database]
        if not schema.exists():
            make(engine)  # type: ignore[no-untyped-call]
            ends.reverse()
        with closing(sqlite3.connect(ends[0])) as made, closing(sqlite3.connect(ends[1])) as new:
            made.backup(new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_initialize_tables", copy)
        # which reads all migrations, for each store that is opened
        latest = cache(utils._get_latest_schema_revision)
        patch.setattr(utils, "_get_latest_schema_revision", latest)
        yield


@pytest.fixture(scope="session", autouse=True)
def what_each_fork_would_do_is_done_once() -> None:
    """Import what the process beside each pass needs, and leave all that stays to no collection.

    A fork, of which these tests make a hundred, would look through all of it, and so copy it.
    """
    if "sentiment.training.worker" in sys.modules:  # a test that was collected runs passes
        for name in (*sys.modules["sentiment.training.worker"].AHEAD, "nltk.stem.porter"):
            import_module(name)
        # which looks into every installed package
        import_module("mlflow.utils.requirements_utils")._init_modules_to_packages_map()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs, not to be changed; to make one takes a second."""
    folder = tmp_path_factory.mktemp("empty")
    open_store(folder)
    return folder


@pytest.fixture
def store_folder(empty_store: Path, tmp_path: Path) -> Path:
    """The folder of a new store, which the test may change."""
    return open_store(shutil.copytree(empty_store, tmp_path / "new_store")).folder  # mended


@pytest.fixture(autouse=True)
def no_tracking_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tests never write to a store or a project that the user's environment names."""
    tracking = [f"MLFLOW_TRACKING_{name}" for name in ("URI", "USERNAME", "PASSWORD")]
    ours = [name for name in os.environ if name.startswith("SENTIMENT_")]
    for name in (*tracking, *ours, masking.LOG_URL):
        monkeypatch.setenv(name, "")  # so that what the code sets is taken back as well
        monkeypatch.delenv(name)
    monkeypatch.setattr(masking, "_told", set())  # secrets of other tests
    yield


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run one of the project's scripts in a process of its own, from another folder."""

    def run(script: str, *arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *named(script), *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run
