"""Flow service: run the flow once, or keep its deployment served until a signal ends it.

The runner that executes scheduled runs is a child process in a session of its own, so that Ctrl-C
reaches this process alone, which then lets the run in progress end before it takes things down.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.objects import (
    ConcurrencyLimitConfig,
    ConcurrencyLimitStrategy,
    StateType,
)
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound
from prefect.logging.handlers import APILogWorker
from prefect.logging.loggers import flow_run_logger
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Crashed

from prefect_server import Server, answers, stop_group
from tracking import PRIVATE, PROJECT, Store

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.flows import Flow

FLOW_NAME = "Flipkart Sentiment Analysis Flow (Logistic)"
DEPLOYMENT_NAME = "flipkart-sentiment-logistic-deployment"
POLL_SECONDS = 0.5
DEPLOYED_SECONDS = 90  # the child imports Prefect, MLflow and scikit-learn first
DRAIN_SECONDS = 600  # a run takes seconds; one that hangs must not keep the service up for ever
WEBHOOK_SECONDS = 5
DRAIN_LOGS_SECONDS = 10
ACTIVE = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]


class ServiceError(RuntimeError):
    """The flow cannot be served as asked; the message is one line for the user."""


def check_cron(cron: str) -> None:
    """Raise `ServiceError` unless `cron` is a schedule that Prefect takes."""
    try:
        CronSchedule(cron=cron)
    except ValueError:
        raise ServiceError(
            f"--cron '{cron}': not a cron expression; expected five fields such as '*/5 * * * *'"
        ) from None


def alert(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook of a run that failed or crashed: log it, and post it to `ALERT_WEBHOOK_URL` if set.

    The body is JSON: `flow`, `run`, `state`, `message`. Nothing that goes wrong here is raised.
    """
    message = (state.message or "").splitlines()[:1]
    body = {
        "flow": flow.name,
        "run": str(flow_run.id),
        "state": state.name,
        "message": message[0] if message else "",
    }
    log = flow_run_logger(flow_run, flow)
    log.error("run %s: %s: %s", body["run"], body["state"], body["message"])
    url = os.environ.get("ALERT_WEBHOOK_URL")
    if not url:
        return
    try:
        request = urllib.request.Request(
            url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=WEBHOOK_SECONDS).close()
    except (OSError, ValueError) as error:
        log.error("the alert could not be posted: %s", error)


def run_once(server: Server, flow: Flow[Any, Any], parameters: Mapping[str, Any]) -> int:
    """Run the flow in this process, visible on the server. Returns 0; a failure raises."""
    started = time.perf_counter()
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        try:
            flow(**parameters)
        finally:
            # now, while the server is there: at exit Prefect would wait for one that is gone
            APILogWorker.drain_all(timeout=DRAIN_LOGS_SECONDS)
            EventsWorker.drain_all(timeout=DRAIN_LOGS_SECONDS)
    print(f"the run took {time.perf_counter() - started:.1f} s in all; see {server.ui_url}")
    return 0


def serve(
    server: Server,
    script: Path,
    store: Store,
    cron: str,
    parameters: Mapping[str, Any],
    say: Callable[[str], None],
) -> int:
    """Serve the deployment until SIGTERM or Ctrl-C, then let the run in progress end; returns 0.

    Raises `ServiceError` when another process already serves this store.
    """
    stopping = threading.Event()
    with _only_one(store), _on_signals(stopping), _client(server) as client:
        tidy_up(client, say)
        command = [
            sys.executable,
            str(script),
            "--serve-child",
            json.dumps([cron, dict(parameters)]),
        ]
        env = {**PRIVATE, **os.environ, "PREFECT_API_URL": server.api_url}
        child = _start(command, env)
        try:
            _wait_until_deployed(client, child, stopping)
            say(f"serving '{DEPLOYMENT_NAME}' on cron {cron}; Prefect UI: {server.ui_url}")
            while not stopping.wait(POLL_SECONDS):
                if child.poll() is None:
                    continue
                say("the runner ended; it is started again when the Prefect server answers")
                while not answers(server.api_url) and not stopping.wait(POLL_SECONDS):
                    server.restart_if_ours_died()
                if not stopping.is_set():
                    child = _start(command, env)
            say("stopping: no new runs; a run in progress ends first")
            stopping.clear()
            drain(client, stopping)
        finally:
            stop_group(child, signal.SIGINT)  # a runner takes SIGTERM with a warning of its own
    return 0


def serve_child(flow: Flow[Any, Any], cron: str, parameters: dict[str, Any]) -> None:
    """What the runner's process does: create the deployment and execute its scheduled runs."""
    flow.serve(
        name=DEPLOYMENT_NAME,
        cron=cron,
        paused=False,
        parameters=parameters,
        # one run at a time; a run that is due while another is under way is cancelled, not queued
        global_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        ),
        print_starting_message=False,
    )


def deployment(client: SyncPrefectClient) -> DeploymentResponse | None:
    """Our deployment on the server, or None."""
    try:
        return client.read_deployment_by_name(f"{FLOW_NAME}/{DEPLOYMENT_NAME}")
    except ObjectNotFound:
        return None


def tidy_up(client: SyncPrefectClient, say: Callable[[str], None]) -> None:
    """Close what an earlier service left behind: runs that died, and runs that came due since.

    A dead run would hold the one place for ever, and hours of downtime would be caught up with.
    """
    ours = deployment(client)
    if ours is None:
        return
    for run in flow_runs(client, ours, ACTIVE):
        client.set_flow_run_state(run.id, Crashed(message="its service was killed"), force=True)
        say(f"run '{run.name}' was left behind by a service that was killed: closed as crashed")
    due = [
        run
        for run in flow_runs(client, ours, [StateType.SCHEDULED])
        if run.estimated_start_time_delta.total_seconds() > 0
    ]
    for run in due:
        client.set_flow_run_state(run.id, Cancelled(message="due while not served"), force=True)
    if due:
        say(f"{len(due)} runs came due while nothing served them: cancelled, not caught up with")


def flow_runs(
    client: SyncPrefectClient, ours: DeploymentResponse, states: list[StateType]
) -> list[FlowRun]:
    """The deployment's runs in these states."""
    return client.read_flow_runs(
        deployment_filter=DeploymentFilter.model_validate({"id": {"any_": [ours.id]}}),
        flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": states}}}),
        limit=200,
    )


def drain(client: SyncPrefectClient, hurry: threading.Event) -> None:
    """Pause the schedule and wait for the run in progress; a second signal ends the wait."""
    try:
        ours = deployment(client)
        if ours is None:
            return
        client.set_deployment_paused_state(ours.id, True)
        until = time.monotonic() + DRAIN_SECONDS
        while flow_runs(client, ours, ACTIVE) and time.monotonic() < until:
            if hurry.wait(POLL_SECONDS):
                return
    except OSError:  # the server is away: there is nobody to ask
        return


def _wait_until_deployed(
    client: SyncPrefectClient, child: subprocess.Popen[bytes], stopping: threading.Event
) -> None:
    before = deployment(client)
    stamp = before.updated if before is not None else None
    until = time.monotonic() + DEPLOYED_SECONDS
    while not stopping.wait(POLL_SECONDS):
        now = deployment(client)
        if now is not None and now.updated != stamp:
            return
        if child.poll() is not None or time.monotonic() > until:
            raise ServiceError("the runner did not create the deployment; its output is above")


@contextmanager
def _only_one(store: Store) -> Iterator[None]:
    lock = FileLock(store.studies / "serve.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ServiceError(
            f"another process serves the store in {store.folder}; end it first"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _on_signals(event: threading.Event) -> Iterator[None]:
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: event.set()) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _client(server: Server) -> Iterator[SyncPrefectClient]:
    with (
        temporary_settings({PREFECT_API_URL: server.api_url}),
        get_client(sync_client=True) as client,
    ):
        yield client


def _start(command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=env, cwd=PROJECT, start_new_session=True)
