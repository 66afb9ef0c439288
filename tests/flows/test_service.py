"""Flow service: what is tried again, which schedules are taken, what ends with its parent."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from base64 import b64encode
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from prefect import State, Task
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_UI_URL,
    temporary_settings,
)
from prefect.states import Failed
from support import REGISTERED_MODEL

import ml_orchestration_flipkart as script
from sentiment import errors
from sentiment.cli.options import parse_flow
from sentiment.errors import ServerError, ServiceError
from sentiment.flows import prefect_server, service, terminal
from sentiment.flows.prefect_server import Server, server_for
from sentiment.tracking.ledger import PROMOTE, append
from sentiment.tracking.store import open_store


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
    for cron in ("0 3 * * 1", "0 0 29 2 *", "*/5 8-17 * * mon-fri"):
        service.check_cron("--cron", cron)
    # with six fields Prefect would take the first for minutes and the last for seconds
    six, never = "*/5 * * * * *", "0 0 30 2 *"
    for cron in ("every day", "", "61 * * * *", "* * * *", six, never, "@daily", "x" * 999):
        with pytest.raises(
            ServiceError, match=r"^--drift-cron '.*': not a cron expression"
        ) as found:
            service.check_cron("--drift-cron", cron)
        assert len(str(found.value)) < 250


@pytest.mark.parametrize(
    ("variable", "name"),
    [("Asia/Kolkata", "Asia/Kolkata"), (":Europe/Berlin", "Europe/Berlin"), ("CET-1CEST", "UTC")],
)
def test_the_local_time_zone_has_a_name_or_it_is_said(
    variable: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TZ", variable)
    monkeypatch.setattr("tzlocal.unix._cache_tz", None)
    with warnings.catch_warnings(action="ignore"):  # the C library was not told of TZ
        assert service.local_zone() == name
    assert ("read in UTC" in capsys.readouterr().out) == (name == "UTC")


def test_both_schedules_are_read_in_one_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    def zones(*arguments: str) -> list[Any]:
        return [
            (one.schedule.cron, one.schedule.timezone)
            for deployment in script.deployments(parse_flow(arguments))
            for one in deployment.schedules or ()
            if isinstance(one.schedule, CronSchedule)
        ]

    monkeypatch.setattr(service, "local_zone", lambda: "Asia/Kolkata")
    assert zones("--cron", "0 3 * * 1") == [
        ("0 3 * * 1", "Asia/Kolkata"),
        ("0 * * * *", "Asia/Kolkata"),
    ]
    assert [zone for _, zone in zones("--timezone", "Europe/Berlin")] == ["Europe/Berlin"] * 2


def test_two_projects_of_a_store_have_deployments_of_their_own() -> None:
    found = [
        (one.name, one.parameters["project"], one.tags[0])
        for project in ("", "shoes")
        for one in script.deployments(parse_flow(["--store", "/data", "--project", project]))
    ]
    assert found == [
        ("flipkart-sentiment-logistic-deployment", "", "store:/data"),
        ("flipkart-sentiment-drift-deployment", "", "store:/data"),
        ("shoes-retraining", "shoes", "store:/data/projects/shoes"),
        ("shoes-drift-check", "shoes", "store:/data/projects/shoes"),
    ]


def test_a_store_has_one_service_or_run_at_a_time(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    for _ in range(2):  # it is free again afterwards
        with (
            service.only_one(lock, "the store"),
            pytest.raises(ServiceError, match="another process serves the store"),
            service.only_one(lock, "the store"),
        ):
            pass


class Guarded(BaseHTTPRequestHandler):
    """Answers as a Prefect server with a password does."""

    def do_POST(self) -> None:
        """Answer the one question that is asked."""
        token = b64encode(b"admin:secret").decode()
        right = self.headers.get("Authorization") == f"Basic {token}"
        # elsewhere a server shows its page
        found = self.path == "/api/flows/filter"
        self.send_response((200 if right else 401) if found else 405)
        self.end_headers()
        self.wfile.write(b"[]")

    def do_GET(self) -> None:
        """Know no tokens against forged requests."""
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_a_server_is_asked_with_the_users_password_wherever_its_api_is() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as stub:
        threading.Thread(target=stub.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{stub.server_port}"
        with temporary_settings({PREFECT_API_AUTH_STRING: "admin:secret"}):
            for named in (address, f"{address}/", f"{address}/api", f"{address}/api/"):
                assert Server.named(named).api_url == f"{address}/api"
        for password in (None, "admin:other"):
            with (
                temporary_settings({PREFECT_API_AUTH_STRING: password}),
                pytest.raises(ServerError, match=r"401.*PREFECT_API_AUTH_STRING") as found,
            ):
                Server.named(address)
            assert "other" not in str(found.value)
        stub.shutdown()


def test_links_to_prefect_have_the_public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that runs make as well: their processes are told by Prefect's settings."""
    monkeypatch.setattr(Server, "answers", lambda *_, **__: True)
    with temporary_settings({PREFECT_API_URL: "http://prefect:4200/api"}):
        with server_for(Path("nowhere")) as server:
            assert server.ui_url == PREFECT_UI_URL.value() == "http://prefect:4200"
        monkeypatch.setenv("SENTIMENT_PREFECT_UI", "https://prefect.example.org/")
        with server_for(Path("nowhere")) as server:
            assert server.ui_url == PREFECT_UI_URL.value() == "https://prefect.example.org"
            assert server.api_url == "http://prefect:4200/api"


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/api", "no address"])
def test_a_server_that_is_named_and_does_not_answer_is_one_line(
    address: str,
    store_folder: Path,
    small_reviews: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No server of our own is started in its stead."""
    monkeypatch.setattr(prefect_server, "NAMED_SECONDS", 1.0)
    monkeypatch.setattr(Server, "own", None)
    # else a thread of Prefect's says that it cannot send what an earlier test logged
    monkeypatch.setattr(logging, "raiseExceptions", False)
    options = ["--once", "--data", str(small_reviews), "--store", str(store_folder)]
    with temporary_settings({PREFECT_API_URL: address}):
        assert script.main(options) == 2
    said = capsys.readouterr().err
    assert address in said and said.count("\n") == 1 and len(said) <= 300
    assert not (store_folder / ".prefect").exists()


@pytest.mark.parametrize(
    ("promoted", "said"),
    [(None, "no version is in production, as before"), ("4", "version 4 was put into production")],
)
def test_who_interrupts_a_run_is_told_what_is_in_production(
    promoted: str | None,
    said: str,
    store_folder: Path,
    small_reviews: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(*_: object) -> int:
        if promoted is not None:
            store = open_store(store_folder)
            append(store, PROMOTE, promoted, lambda _: None, why="better")
            store.client.create_registered_model(REGISTERED_MODEL)
            for _number in range(int(promoted)):
                store.client.create_model_version(REGISTERED_MODEL, "nowhere")
        raise KeyboardInterrupt

    options = ["--once", "--data", str(small_reviews), "--store", str(store_folder)]
    monkeypatch.setattr(service, "run_once", run)
    monkeypatch.setattr(script, "server_for", nullcontext)
    handler = signal.getsignal(signal.SIGTERM)
    assert script.main(options) == 130
    assert said in capsys.readouterr().err
    # the next one finds it there, whatever was promoted before
    promoted = None
    assert script.main(options) == 130
    assert "in production, as before" in capsys.readouterr().err
    signal.signal(signal.SIGTERM, handler)


def test_the_users_level_of_logging_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(terminal.HANDLER, raising=False)
    monkeypatch.setenv(terminal.LEVEL, "DEBUG")
    terminal.prepare()
    assert terminal.HANDLER not in os.environ
    monkeypatch.delenv(terminal.LEVEL)
    terminal.prepare()
    assert os.environ.pop(terminal.HANDLER) == "sentiment.flows.terminal.RunLines"


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
