"""Run flows: how tasks are retried, one run now, a service with a schedule, or a pool of workers.

In a service Prefect's runner works in a thread and executes each run in a process of its own.
Ctrl-C and SIGTERM let a run in progress end first; a second one cancels it.

In a work pool the runs are made by Prefect's workers, on any machine. No lock tells there which
runs are alive: whoever has the deployment's one place knows that no other run of it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import platform
import shlex
import signal
import sys
import tempfile
import threading
import time
import zoneinfo
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import copy_context
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import tzlocal
from filelock import FileLock, Timeout
from httpx import HTTPError
from prefect import State, Task, tags
from prefect._vendor.croniter.croniter import croniter
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import objects
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.client.schemas.objects import DeploymentStatus, FlowRun, StateType, TaskRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import DeploymentApplyError
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.logging.handlers import APILogWorker
from prefect.runner import Runner
from prefect.runtime import deployment as deployment_of_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Crashed
from prefect.tasks import exponential_backoff

from sentiment import errors, masking
from sentiment.errors import ServiceError, UserError
from sentiment.flows.prefect_server import STOP_SECONDS, UI_VARIABLE, Server, end_with
from sentiment.flows.report import alert
from sentiment.flows.terminal import say
from sentiment.masking import line, mask
from sentiment.tracking.store import PROJECT, Settings, Store
from sentiment.tracking.store import UI_VARIABLE as MLFLOW_UI_VARIABLE

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment
    from prefect.flows import Flow

RETRIES = 3  # 2, 4 and 8 seconds apart: a server that restarts is back by then
LOOK_SECONDS = 0.5
HOUR = 3600
FLUSH_SECONDS = 10  # for the last logs and events of a run
DRAIN_SECONDS = 600  # a run takes seconds; one that hangs must not keep the service up for ever
SERVICE = "FLOW_SERVICE_PID"  # what a run's process is told of the service that started it
FIELDS = 5  # of a cron expression
ACTIVE = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]


def is_transient(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Return whether a failed task is tried again: never for wrong data or a bug."""
    from mlflow.exceptions import MlflowException  # not before its telemetry is off

    # What waiting may mend: a server, a database or a disk that is away
    away = (OSError, MlflowException, errors.TrackingError, errors.PredictionLogError)
    error = state.result(raise_on_failure=False)
    if isinstance(error, errors.VersionError):
        return False
    return isinstance(error, (*away, errors.ReviewReadError, errors.ConflictError))


def end_with_service(*_: object) -> None:
    """Hook of a run that starts: end the run's process when the service that started it is gone."""
    if SERVICE in os.environ:
        end_with(int(os.environ[SERVICE]))


def close_predecessors(_flow: Flow[Any, Any], run: FlowRun, _state: State[Any]) -> None:
    """Hook of a run that starts: close what runs of its deployment left behind in a work pool.

    This run has the one place of its deployment. So another that is under way has lost it: its
    worker was killed, or Prefect ends it at the next look, since it did not give signs of life.
    Where somebody has changed the number of places, nothing is known of the others.
    """
    if in_a_pool() and run.deployment_id is not None:
        others = {"deployment_id": {"any_": [run.deployment_id]}, "id": {"not_any_": [run.id]}}
        with get_client(sync_client=True) as client:
            places = client.read_deployment(run.deployment_id).global_concurrency_limit
            if places is not None and places.limit == ONE_AT_A_TIME.limit:
                _close_left_over(client, others)


def in_a_pool() -> bool:
    """Return whether this is the process of a run that a worker of a work pool made."""
    # the server is asked for the former, so it comes last
    return SERVICE not in os.environ and deployment_of_run.id is not None


# The options of every task and flow. No result is stored, or hashed for a cache: frames and
# matrices are passed on in memory only.
STEP: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
RETRIED: dict[str, Any] = {
    **STEP,
    "retries": RETRIES,
    "retry_delay_seconds": exponential_backoff(2),
    "retry_condition_fn": is_transient,
}
FLOW: dict[str, Any] = {
    "log_prints": True,
    "on_running": [end_with_service, close_predecessors],
    "on_failure": [alert],
    "on_crashed": [alert],
}
# Of a deployment: a run that comes due while another is under way is cancelled, not queued.
ONE_AT_A_TIME = objects.ConcurrencyLimitConfig(
    limit=1, collision_strategy=objects.ConcurrencyLimitStrategy.CANCEL_NEW
)


def check_cron(option: str, cron: str) -> None:
    """Raise `ServiceError` unless `cron`, given as `option`, is a schedule that Prefect takes.

    Prefect would read a sixth field as seconds, and names such as `@daily`, which its UI cannot
    show. Both are refused, and what never comes due, such as 30 February.
    """
    try:
        CronSchedule(cron=cron)
        croniter(cron).get_next()  # type: ignore[no-untyped-call]  # as the server does
        known = len(cron.split()) == FIELDS
    except ValueError:
        known = False
    if not known:
        raise ServiceError(
            f"{option} '{cron[:100]}': not a cron expression that comes due; expected five fields "
            "such as '*/5 * * * *'"
        )


def local_zone() -> str:
    """Return the IANA name of the local time zone. Where none is known, say so and return UTC."""
    try:
        name = str(tzlocal.get_localzone())
    except zoneinfo.ZoneInfoNotFoundError:  # TZ=CET-1CEST, say
        name = ""
    if name in zoneinfo.available_timezones():
        return name
    say("the local time zone has no known name: schedules are read in UTC; see --timezone")
    return "UTC"


@contextmanager
def only_one(lock: Path, what: str) -> Iterator[None]:
    """Hold a lock for a service or a single run on `what`. Raises `ServiceError` if it is taken."""
    held = FileLock(lock, timeout=0)
    try:
        held.acquire()
    except Timeout:
        raise ServiceError(
            f"another process serves {what}: start the run in its UI, or end it first"
        ) from None
    try:
        yield
    finally:
        held.release()


def place_of(store: str | Path | None, project: str | None = None) -> list[str]:
    """Return the tags of the flow runs of a project: its folder, and the machine that runs them.

    Who holds the lock there knows that no other run with these tags is alive. Runs of a work pool
    have the first only, since workers are on any machine and take no lock.
    """
    return [f"store:{Settings(project).home(Path(store or PROJECT))}", f"host:{platform.node()}"]


def run_once(server: Server, flow: Flow[Any, Any], parameters: Mapping[str, Any]) -> int:
    """Run the flow in this process, visible on the server; return 0 if it succeeded, else 1.

    Raises `UserError` where the flow does: that needs no traceback; and `ServiceError` where the
    workers of a pool run it on this store, since they would not know of this run.
    """
    began = time.perf_counter()
    place = place_of(parameters["store"], parameters.get("project"))
    try:
        with get_client(sync_client=True) as client, refusals():
            for name in Settings(parameters.get("project")).deployments:
                found = _find(client, f"{flow.name}/{name}")
                if found is not None and found.parameters.get("store") == parameters["store"]:
                    _refuse_a_pools(found)
            _close_left_over(client, {"tags": {"all_": place}})
        with tags(*place):
            flow(**parameters)
    except UserError:
        raise
    except Exception as error:  # Prefect has printed the traceback
        print(f"the run failed: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    finally:
        _flush()
    print(f"the run took {time.perf_counter() - began:.1f} s in all; see {server.ui_url}")
    return 0


def serve(
    server: Server, deployments: Sequence[RunnerDeployment], hourly: Callable[[], None]
) -> int:
    """Serve the deployments until SIGTERM or Ctrl-C, let runs in progress end, and return 0.

    `hourly` is called at the start and each hour. A paused deployment can only be run by hand.
    Raises `ServiceError` if the first is served already, one is a pool's, or the server refuses.
    """
    os.environ[SERVICE] = str(os.getpid())
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    # A Prefect server has one deployment of a name, whatever store it is for
    address = hashlib.sha256(server.api_url.encode()).hexdigest()[:16]
    lock = Path(tempfile.gettempdir()) / f"{deployments[0].name}-{address}.lock"
    with (
        only_one(lock, f"this deployment on {server.ui_url}"),
        get_client(sync_client=True) as client,
    ):
        runner = _RunnerThread(client, deployments)
        try:
            for deployment in deployments:
                for when in _crons(deployment):
                    say(f"serving '{deployment.name}' on {when}; Prefect UI: {server.ui_url}")
            called = -math.inf
            while not stopping.wait(LOOK_SECONDS):
                if runner.is_alive() and time.monotonic() - called > HOUR:
                    called = time.monotonic()
                    hourly()
                server.restart_if_ours_died()
                if not runner.is_alive() and server.answers():
                    say("the Prefect server was away: the runner is started again")
                    runner = _RunnerThread(client, deployments)
                    say("the runner works again")
            say("stopping: no new runs; a run in progress ends first")
            stopping.clear()
            runner.finish()
            until = time.monotonic() + DRAIN_SECONDS
            while runner.is_alive() and time.monotonic() < until and not stopping.is_set():
                stopping.wait(LOOK_SECONDS)
        finally:
            runner.cancel()
            _flush()
    return 0


def check_server_is_named() -> None:
    """Raise `ServiceError` unless Prefect's settings name a server, which workers can reach."""
    if not PREFECT_API_URL.value():
        raise ServiceError(
            "deploy needs a Prefect server that the workers reach: start one (prefect server "
            "start) and name it, as PREFECT_API_URL=http://HOST:4200/api"
        )


def deploy(server: Server, deployments: Sequence[RunnerDeployment], pool: str, store: Store) -> int:
    """Make or update the deployments for the workers of a pool, and say how to start one; return 0.

    The pool is made, of type `process`, if it is missing. The runs import the flows as modules, so
    the project may be in another place on each machine. The current folder must be the project.
    Raises `ServiceError` if a service serves one, the pool has no workers, or the server refuses.
    """
    with get_client(sync_client=True) as client, refusals():
        kind = _pool_of(client, pool).type
        for deployment in deployments:
            found = _find(client, deployment.full_name)
            if found is not None and _is_served(found):
                raise ServiceError(
                    f"a service serves '{deployment.name}', or did so less than a minute ago: end "
                    "it, then deploy again"
                )
        for deployment in deployments:
            file, _, function = str(deployment.entrypoint).partition(":")
            deployment.entrypoint = ".".join((*Path(file).with_suffix("").parts, function))
            deployment.apply(work_pool_name=pool)
            for when in _crons(deployment):
                what = f"deployed '{deployment.name}' to the pool '{pool}' ({kind}) on {when}"
                say(f"{what}; Prefect UI: {server.ui_url}")
    named = {"PREFECT_API_URL": server.api_url, "PYTHONPATH": str(PROJECT)}
    where = f"on this machine, which has the store in {store.folder}"
    if store.artifacts is None:
        where, named["MLFLOW_TRACKING_URI"] = "on each machine that is to run them", store.uri
    words = " ".join(f"{name}={shlex.quote(mask(value))}" for name, value in named.items())
    say(f"{where}, with this project and its requirements.txt, start:")
    say(f"  {words} prefect worker start --pool {pool}")
    known = (*masking.KNOWN, UI_VARIABLE, MLFLOW_UI_VARIABLE)
    if more := [name for name in known if os.environ.get(name) and name not in named]:
        say(f"  and in its environment, as here: {', '.join(more)}")
    return 0


def _pool_of(client: SyncPrefectClient, name: str) -> WorkPool:
    """Return the work pool, which is made if it is missing. Raises `ServiceError`."""
    from prefect.workers.process import ProcessWorker  # its import takes long

    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        new = WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template)
        with suppress(ObjectAlreadyExists):  # made by another just now
            client.create_work_pool(new)
        pool = client.read_work_pool(name)
    if pool.is_push_pool or pool.is_managed_pool:
        raise ServiceError(
            f"--pool {name}: of type {pool.type}, which has no workers; name one of type process, "
            "or one that is not there yet"
        )
    return pool


def _find(client: SyncPrefectClient, full_name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        return None


def _is_served(deployment: DeploymentResponse) -> bool:
    """Return whether a service asks for the runs of a deployment; it pauses it as it ends."""
    ready = deployment.status == DeploymentStatus.READY and not deployment.paused
    return ready and deployment.work_pool_name is None


def _refuse_a_pools(deployment: DeploymentResponse) -> None:
    """Raise `ServiceError` if the runs of a deployment are those of a pool's workers."""
    if deployment.work_pool_name is not None:
        raise ServiceError(
            f"'{deployment.name}' is run by the workers of the pool '{deployment.work_pool_name}': "
            "start a run in Prefect's UI, or delete the deployment there first"
        )


def _crons(deployment: RunnerDeployment) -> Iterator[str]:
    """Yield the schedules in words; none of a paused deployment, which is run by hand only."""
    for one in () if deployment.paused else deployment.schedules or ():
        assert isinstance(one.schedule, CronSchedule)
        yield f"cron {one.schedule.cron} ({one.schedule.timezone})"


class _Runner(Runner):
    """Prefect's runner, but stopping it lets runs in progress end."""

    async def cancel_all(self) -> None:
        """Do nothing, where Prefect cancels the runs in progress."""


class _RunnerThread(threading.Thread):
    """The runner at work; it gives up, and the thread ends, when the server is away."""

    def __init__(self, client: SyncPrefectClient, deployments: Sequence[RunnerDeployment]) -> None:
        super().__init__(daemon=True)
        self.runner = _Runner(pause_on_shutdown=False)
        with refusals():
            there = {one.name: _find(client, one.full_name) for one in deployments}
            for found in filter(None, there.values()):
                _refuse_a_pools(found)
            for deployment in deployments:
                _close_left_over(client, {"tags": {"all_": deployment.tags}})
                missed = _tidy_up(client, there[deployment.name])
                number = self.runner.add_deployment(deployment)
                assert isinstance(number, UUID)  # a coroutine only in asynchronous code
                if missed and not deployment.paused:
                    client.create_flow_run_from_deployment(number)
        self.context = copy_context()  # Prefect's settings
        self.start()
        while self.is_alive() and not self.runner.started:
            time.sleep(LOOK_SECONDS)

    def run(self) -> None:
        # Inherited by the runs: Ctrl-C, which reaches every process of a terminal, is not for them.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.context.run(asyncio.run, self.runner.start())
        except Exception as error:
            print(f"the runner gave up: {type(error).__name__}: {error}", file=sys.stderr)

    def finish(self) -> None:
        """Pause the deployments and end after the runs in progress."""
        if self.runner.started:
            self.runner.pause_on_shutdown = True  # not before: without a server it would fail
            self.runner.execute_in_background(self.runner.astop)

    def cancel(self) -> None:
        """Cancel the runs in progress and end."""
        self.finish()
        if self.is_alive():
            self.runner.execute_in_background(Runner.cancel_all, self.runner)
            self.join(2 * STOP_SECONDS)


@contextmanager
def refusals() -> Iterator[None]:
    """Raise what the Prefect server refuses within the block as a `ServiceError`."""
    try:
        yield
    except (HTTPError, DeploymentApplyError) as error:
        said = str(error).partition("\n")[0]
        raise ServiceError(f"the Prefect server refuses: {line(said)}") from None


def _close_left_over(client: SyncPrefectClient, whose: Mapping[str, object]) -> None:
    """Close the flow runs that this filter takes, and their task runs, if they are not ended yet.

    Their processes are gone: one that was killed cannot tell the server, or not all.
    """
    killed: State[Any] = Crashed(message="its process was killed")
    active = FlowRunFilter.model_validate({**whose, "state": {"type": {"any_": ACTIVE}}})
    for run in client.read_flow_runs(flow_run_filter=active):
        client.set_flow_run_state(run.id, killed, force=True)
        say(f"run '{run.name}' was left behind by a process that was killed: closed as crashed")
    begun = TaskRunFilter.model_validate(
        {"state": {"type": {"any_": [*ACTIVE, StateType.SCHEDULED, StateType.PAUSED]}}}
    )
    theirs = FlowRunFilter.model_validate(whose)
    for step in client.read_task_runs(flow_run_filter=theirs, task_run_filter=begun):
        client.set_task_run_state(step.id, killed, force=True)


def _tidy_up(client: SyncPrefectClient, deployment: DeploymentResponse | None) -> bool:
    """Close what an earlier service left behind, and return whether runs came due since.

    A dead run would hold the one place for ever, and hours of downtime would be caught up with:
    so the runs that came due are cancelled, and the caller makes one in their stead.
    """
    if deployment is None:
        return False
    number = deployment.id
    # also those of a service of another store, or on another machine: this one takes its place
    _close_left_over(client, {"deployment_id": {"any_": [number]}})
    missed = 0
    while due := client.get_scheduled_flow_runs_for_deployments([number], datetime.now(UTC)):
        for late in due:
            cancelled: State[Any] = Cancelled(message="due while not served")
            client.set_flow_run_state(late.id, cancelled, force=True)
        missed += len(due)
    if missed:
        what = f"{missed} runs of '{deployment.name}'"
        say(f"{what} came due while nothing served them: one run makes up for all")
    return missed > 0


def _flush() -> None:
    """Send the last logs and events; at exit Prefect would wait for a server that is gone."""
    APILogWorker.drain_all(timeout=FLUSH_SECONDS)
    EventsWorker.drain_all(timeout=FLUSH_SECONDS)
