"""Flow service: run the flow once, or keep its deployment served until a signal ends it.

The runner that executes scheduled runs is a child process in a session of its own, so that Ctrl-C
reaches this process alone, which then lets the run in progress end before it takes things down.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from httpx import HTTPError
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
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Crashed

from prefect_server import Server, answers, stop_group
from reviews import ReviewDataError
from tracking import PRIVATE, PROJECT, Store, TrackingError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.flows import Flow

FLOW_NAME = "Flipkart Sentiment Analysis Flow (Logistic)"
DEPLOYMENT_NAME = "flipkart-sentiment-logistic-deployment"
POLL_SECONDS = 0.5
DEPLOYED_SECONDS = 90  # the child imports Prefect, MLflow and scikit-learn first
DRAIN_SECONDS = 600  # a run takes seconds; one that hangs must not keep the service up for ever
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


def run_once(server: Server, flow: Flow[Any, Any], parameters: Mapping[str, Any]) -> int:
    """Run the flow in this process, visible on the server; 0 when it ended well, else 1.

    Raises what concerns the user: `ReviewDataError`, `TrackingError`.
    """
    started = time.perf_counter()
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        try:
            flow(**parameters)
        except (ReviewDataError, TrackingError):
            raise  # one line for the user already
        except Exception as error:  # Prefect has printed it whole
            print(f"the run failed: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
        finally:
            # now, while the server is there: at exit Prefect would wait for one that is gone
            APILogWorker.drain_all(timeout=DRAIN_LOGS_SECONDS)
            EventsWorker.drain_all(timeout=DRAIN_LOGS_SECONDS)
    print(f"the run took {time.perf_counter() - started:.1f} s in all; see {server.ui_url}")
    return 0


def serve(
    server: Server,
    script: Path,
    cron: str,
    parameters: Mapping[str, Any],
    say: Callable[[str], None],
) -> int:
    """Serve the deployment until SIGTERM or Ctrl-C, then let the run in progress end; returns 0.

    Raises `ServiceError` when the deployment is served already, or the server refuses.
    """
    stopping = threading.Event()
    with _only_server(server), _on_signals(stopping), _client(server) as client:
        missed = tidy_up(client, say)
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
            ours = deployment(client)
            if missed and ours is not None:
                client.create_flow_run_from_deployment(ours.id)
            say(f"serving '{DEPLOYMENT_NAME}' on cron {cron}; Prefect UI: {server.ui_url}")
            while not stopping.wait(POLL_SECONDS):
                if child.poll() is None:
                    continue
                say("the runner ended; it is started again when the Prefect server answers")
                while not answers(server.api_url) and not stopping.wait(POLL_SECONDS):
                    server.restart_if_ours_died()
                stop_group(child, signal.SIGINT)  # what is left of its runs
                if not stopping.is_set():
                    tidy_up(client, say)
                    child = _start(command, env)
            say("stopping: no new runs; a run in progress ends first")
            stopping.clear()
            drain(client, stopping)
        finally:
            stop_group(child, signal.SIGINT)  # a runner takes SIGTERM with a warning of its own
    return 0


def serve_child(flow: Flow[Any, Any], cron: str, parameters: dict[str, Any]) -> None:
    """What the runner's process does: create the deployment and execute its scheduled runs.

    It ends by itself when the service that started it is gone, however that died.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
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
        pause_on_shutdown=False,  # `drain` does it; a runner that dies late must not
    )


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGINT)


def deployment(client: SyncPrefectClient) -> DeploymentResponse | None:
    """Our deployment on the server, or None."""
    try:
        return client.read_deployment_by_name(f"{FLOW_NAME}/{DEPLOYMENT_NAME}")
    except ObjectNotFound:
        return None


def tidy_up(client: SyncPrefectClient, say: Callable[[str], None]) -> int:
    """Close what an earlier service left behind; returns how many runs came due since.

    A dead run would hold the one place for ever, and hours of downtime would be caught up with;
    so the missed runs are cancelled, and the caller makes one in their stead.
    """
    try:
        ours = deployment(client)
        if ours is None:
            return 0
        for run in flow_runs(client, ours, ACTIVE):
            client.set_flow_run_state(run.id, Crashed(message="its service was killed"), force=True)
            say(f"run '{run.name}' was left behind by a service that was killed: closed as crashed")
        missed = 0
        while due := flow_runs(client, ours, [StateType.SCHEDULED], due=True):
            for run in due:
                state: State[Any] = Cancelled(message="due while not served")
                client.set_flow_run_state(run.id, state, force=True)
            missed += len(due)
    except HTTPError as error:
        raise ServiceError(f"the Prefect server refuses: {str(error).splitlines()[0]}") from None
    if missed:
        say(f"{missed} runs came due while nothing served them: one run makes up for all")
    return missed


def flow_runs(
    client: SyncPrefectClient,
    ours: DeploymentResponse,
    states: list[StateType],
    *,
    due: bool = False,
) -> list[FlowRun]:
    """The deployment's runs in these states, at most 200; `due` leaves out what lies ahead."""
    wanted: dict[str, Any] = {"state": {"type": {"any_": states}}}
    if due:
        wanted["next_scheduled_start_time"] = {"before_": datetime.now(UTC)}
    return client.read_flow_runs(
        deployment_filter=DeploymentFilter.model_validate({"id": {"any_": [ours.id]}}),
        flow_run_filter=FlowRunFilter.model_validate(wanted),
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
    except (OSError, HTTPError):  # the server is away: there is nobody to ask
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
def only_one(store: Store) -> Iterator[None]:
    """Hold the store's lock for services and single runs. Raises `ServiceError` when it is held."""
    with _held(store.studies / "flow.lock", f"the store in {store.folder}"):
        yield


@contextmanager
def _only_server(server: Server) -> Iterator[None]:
    """Hold this machine's lock for the deployment, of which a Prefect server has one."""
    name = hashlib.sha256(server.api_url.encode()).hexdigest()[:16]
    file = Path(tempfile.gettempdir()) / f"{DEPLOYMENT_NAME}-{name}.lock"
    with _held(file, f"this deployment on {server.ui_url}"):
        yield


@contextmanager
def _held(file: Path, what: str) -> Iterator[None]:
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ServiceError(
            f"another process serves {what}: start the run in its UI, or end it first"
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
