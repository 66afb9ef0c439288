"""Flow service: what is tried again, which schedules are taken, what ends with its parent."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from prefect import State
from prefect.states import Failed

from sentiment.errors import (
    ConflictError,
    PredictionLogError,
    ReviewDataError,
    ReviewReadError,
    ServiceError,
    TrackingError,
    VersionError,
)
from sentiment.flows import service
from sentiment.flows.prefect_server import Server
from sentiment.tracking.store import open_store


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (OSError("the disk is away"), True),
        (MlflowException("the server is away"), True),
        (TrackingError("the store does not answer"), True),
        (PredictionLogError("the log does not answer"), True),
        (ReviewReadError("cannot be read"), True),
        (ConflictError("another promotion came first"), True),
        (ReviewDataError("no column"), False),
        (VersionError("1", "will not load"), False),
        (ZeroDivisionError("a bug"), False),
    ],
)
def test_what_waiting_may_mend_is_tried_again(error: Exception, again: bool) -> None:
    state: State[Any] = Failed(data=error)
    assert service.is_transient(None, None, state) == again  # type: ignore[arg-type]


@pytest.mark.parametrize("cron", ["*/5 * * * *", "0 3 * * 1"])
def test_a_cron_expression_is_taken(cron: str) -> None:
    service.check_cron("--cron", cron)


@pytest.mark.parametrize("cron", ["every day", "", "61 * * * *", "* * * *"])
def test_what_is_no_cron_expression_is_refused_with_its_option(cron: str) -> None:
    with pytest.raises(ServiceError, match=f"^--drift-cron '{cron}'".replace("*", r"\*")):
        service.check_cron("--drift-cron", cron)


def test_a_store_has_one_service_or_run_at_a_time(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for _ in range(2):  # it is free again afterwards
        with (
            service.only_one(store),
            pytest.raises(ServiceError, match="another process"),
            service.only_one(store),
        ):
            pass


def test_a_server_that_does_not_answer_is_no_server() -> None:
    assert not Server("http://127.0.0.1:9/api").answers()
    assert not Server("no address").answers()


def test_a_process_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    """The output of both is one pipe, which is closed only when both have ended."""
    child, parent = tmp_path / "child.py", tmp_path / "parent.py"
    child.write_text(
        "import sys, time\n"
        "from sentiment.flows.prefect_server import end_with\n"
        "end_with(int(sys.argv[1]))\n"
        "time.sleep(600)\n"
    )
    parent.write_text(
        "import os, signal, subprocess, sys\n"
        f"subprocess.Popen([sys.executable, {str(child)!r}, str(os.getpid())])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, str(parent)]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
