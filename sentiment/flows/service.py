"""Flow service: run a flow once, or keep deployments served until a signal ends it.

The runner that executes scheduled runs is a child process in a session of its own, so that Ctrl-C
reaches this process alone, which then lets a run in progress end before it takes things down.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from prefect import serve as serve_deployments
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from sentiment.errors import DeploymentError, ReviewDataError, ServiceError, TrackingError
from sentiment.flows.deployments import POLL_SECONDS, Scheduled, deployments, drain, tidy_up
from sentiment.flows.prefect_server import Server, answers, stop_group
from sentiment.tracking.store import PRIVATE, PROJECT, Store

if TYPE_CHECKING:
    from prefect.flows import Flow

DEPLOYED_SECONDS = 90  # the child imports Prefect, MLflow and scikit-learn first
DRAIN_LOGS_SECONDS = 10


def check_cron(option: str, cron: str) -> None:
    """Raise `ServiceError` unless `cron`, given as `option`, is a schedule that Prefect takes."""
    try:
        CronSchedule(cron=cron)
    except ValueError:
        raise ServiceError(
            f"{option} '{cron}': not a cron expression; expected five fields such as '*/5 * * * *'"
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
    scheduled: Sequence[Scheduled],
    say: Callable[[str], None],
) -> int:
    """Serve the deployments until SIGTERM or Ctrl-C, then let runs in progress end; returns 0.

    One that has no schedule is not served, and is paused where an earlier service left it. Raises
    `ServiceError` when the first is served already, or the server refuses.
    """
    stopping = threading.Event()
    served = [one for one in scheduled if one.cron]
    with (
        _only_server(server, served[0].deployment),
        _on_signals(stopping),
        _client(server) as client,
    ):
        missed = _tidied(client, scheduled, say)
        command = [
            *(sys.executable, str(script), "--serve-child"),
            json.dumps([asdict(one) for one in served]),
        ]
        env = {**PRIVATE, **os.environ, "PREFECT_API_URL": server.api_url}
        child = _start(command, env)
        try:
            _wait_until_deployed(client, served, child, stopping)
            for one, ours in zip(served, deployments(client, served), strict=True):
                if ours is not None and one.deployment in missed:
                    client.create_flow_run_from_deployment(ours.id)
                say(f"serving '{one.deployment}' on cron {one.cron}; Prefect UI: {server.ui_url}")
            while not stopping.wait(POLL_SECONDS):
                if child.poll() is None:
                    continue
                say("the runner ended; it is started again when the Prefect server answers")
                while not answers(server.api_url) and not stopping.wait(POLL_SECONDS):
                    server.restart_if_ours_died()
                stop_group(child, signal.SIGINT)  # what is left of its runs
                if not stopping.is_set():
                    _tidied(client, scheduled, say)
                    child = _start(command, env)
            say("stopping: no new runs; a run in progress ends first")
            stopping.clear()
            drain(client, served, stopping)
        finally:
            stop_group(child, signal.SIGINT)  # a runner takes SIGTERM with a warning of its own
    return 0


def serve_child(flows: Mapping[str, Flow[Any, Any]], scheduled: Sequence[Scheduled]) -> None:
    """What the runner's process does: create the deployments and execute their scheduled runs.

    It ends by itself when the service that started it is gone, however that died. `flows` are those
    of this process, by name.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    made: list[Any] = [
        flows[one.flow].to_deployment(
            one.deployment,
            cron=one.cron,
            paused=False,
            parameters=dict(one.parameters),
            # One run of each at a time: one that is due while another is under way is cancelled,
            # not queued. A limit for both would have cancelled each check, since some retraining
            # is always due at the same minute.
            concurrency_limit=ConcurrencyLimitConfig(
                limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
            ),
        )
        for one in scheduled
    ]
    serve_deployments(
        *made,
        print_starting_message=False,
        pause_on_shutdown=False,  # `drain` does it; a runner that dies late must not
    )


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGINT)


def _tidied(
    client: SyncPrefectClient, scheduled: Sequence[Scheduled], say: Callable[[str], None]
) -> set[str]:
    """The deployments of which runs came due since they were served; all are tidied up."""
    try:
        return {one.deployment for one in scheduled if tidy_up(client, one, say)}
    except DeploymentError as error:
        raise ServiceError(str(error)) from None


def _wait_until_deployed(
    client: SyncPrefectClient,
    served: Sequence[Scheduled],
    child: subprocess.Popen[bytes],
    stopping: threading.Event,
) -> None:
    def stamps() -> list[Any]:
        return [found and found.updated for found in deployments(client, served)]

    before = stamps()
    until = time.monotonic() + DEPLOYED_SECONDS
    while not stopping.wait(POLL_SECONDS):
        if all(now != then for now, then in zip(stamps(), before, strict=True)):
            return
        if child.poll() is not None or time.monotonic() > until:
            raise ServiceError("the runner did not create its deployments; its output is above")


@contextmanager
def only_one(store: Store) -> Iterator[None]:
    """Hold the store's lock for services and single runs. Raises `ServiceError` when it is held."""
    with _held(store.studies / "flow.lock", f"the store in {store.folder}"):
        yield


@contextmanager
def _only_server(server: Server, deployment: str) -> Iterator[None]:
    """Hold this machine's lock for the deployment, of which a Prefect server has one."""
    name = hashlib.sha256(server.api_url.encode()).hexdigest()[:16]
    file = Path(tempfile.gettempdir()) / f"{deployment}-{name}.lock"
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
