"""The process that writes models beside a pass: results in order, errors, and its end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from sentiment.errors import SearchError, TrackingError, VersionError
from sentiment.training.worker import Worker


def folder_of(store: Any, word: str) -> str:
    """What a job is: a function of a module, of the store and what was sent along."""
    return f"{store.folder.name}/{word}"


def broken(_: Any, error: Exception) -> None:
    raise error


def unsendable(_: Any) -> None:
    raise VersionError("3", "will not load")  # made of two arguments, so it is not sent as it is


def end_process(_: Any) -> None:
    os._exit(9)


@pytest.mark.slow
def test_jobs_are_done_in_order_and_errors_come_back(tmp_path: Path) -> None:
    others = {*multiprocessing.active_children()}  # of passes that other tests ran in this process
    worker, results = Worker(), list[str]()
    worker.open_store(str(tmp_path / "store"))
    worker.begin(folder_of, "a", then=results.append)
    worker.begin(folder_of, "b", then=results.append)
    worker.finish()
    assert (tmp_path / "store" / "mlflow.db").exists()
    assert results == ["store/a", "store/b"]
    worker.begin(broken, TrackingError("away"))
    worker.begin(unsendable)
    worker.begin(folder_of, "c", then=results.append)
    with pytest.raises(TrackingError, match=r"^away$"):
        worker.finish()
    # a package that Dask brings makes every error sendable, once it is imported
    with pytest.raises((RuntimeError, VersionError), match="version 3: will not load"):
        worker.finish()
    deadline = time.monotonic() + 60
    while len(results) < 3 and time.monotonic() < deadline:
        worker.collect()  # which does not wait
    assert results[2:] == ["store/c"]
    assert {*multiprocessing.active_children()} - others
    worker.end()
    assert not {*multiprocessing.active_children()} - others


def test_a_worker_that_is_killed_is_one_line() -> None:
    worker = Worker()
    worker.begin(end_process)
    worker.begin(folder_of, "never read")
    with pytest.raises(SearchError, match="--resume"):
        worker.finish()


def test_it_ends_when_its_owner_is_killed_even_while_it_works() -> None:
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)

    def owner(connection: Connection) -> None:
        worker = Worker()
        worker.begin(sleep)
        (process,) = multiprocessing.active_children()
        connection.send(process.pid)
        signal.pause()

    process = context.Process(target=owner, args=(theirs,))
    process.start()
    assert mine.poll(60)
    worker, deadline = mine.recv(), time.monotonic() + 60
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    while Path(f"/proc/{worker}").exists() and not is_zombie(worker):
        assert time.monotonic() < deadline, "the worker outlives its owner"
        time.sleep(0.05)


def sleep(_: Any) -> None:
    time.sleep(600)


def is_zombie(pid: int) -> bool:
    """Whether the process has ended and nobody has asked for its exit code, as in a container."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
