"""Flow service: what is tried again, which schedules are taken, what ends with its parent."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from prefect import State, Task
from prefect.states import Failed

import ml_orchestration_flipkart as script
from sentiment import errors
from sentiment.errors import ServiceError
from sentiment.flows import service
from sentiment.flows.prefect_server import Server


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (OSError("the disk is away"), True),
        (MlflowException("the server is away"), True),
        (errors.TrackingError("the store does not answer"), True),
        (errors.PredictionLogError("the log does not answer"), True),
        (errors.ReviewReadError("cannot be read"), True),
        (errors.ConflictError("another promotion came first"), True),
        (errors.ReviewDataError("no column"), False),
        (errors.VersionError("1", "will not load"), False),
        (ZeroDivisionError("a bug"), False),
    ],
)
def test_what_waiting_may_mend_is_tried_again(error: Exception, again: bool) -> None:
    state: State[Any] = Failed(data=error)
    assert service.is_transient(None, None, state) == again  # type: ignore[arg-type]


def test_what_may_be_away_is_tried_again() -> None:
    """What runs in memory alone is not: the training, say, would fail the same way again."""
    retried = {name for name, one in vars(script).items() if isinstance(one, Task) and one.retries}
    assert retried == {
        *("check_drift", "open_tracking_store", "load_data", "choose_configuration"),
        *("look_for_change", "log_to_mlflow", "promotion_gate"),
    }
    for name in retried:
        assert vars(script)[name].retry_condition_fn is service.is_transient


def test_what_is_no_cron_expression_is_refused_with_its_option() -> None:
    service.check_cron("--cron", "0 3 * * 1")
    for cron in ("every day", "", "61 * * * *", "* * * *"):
        with pytest.raises(ServiceError, match=r"^--drift-cron '.*': not a cron expression"):
            service.check_cron("--drift-cron", cron)


def test_a_store_has_one_service_or_run_at_a_time(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    for _ in range(2):  # it is free again afterwards
        with (
            service.only_one(lock, "the store"),
            pytest.raises(ServiceError, match="another process serves the store"),
            service.only_one(lock, "the store"),
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
