"""Flow deployments: what of ours is on a Prefect server, its runs, and how they are tidied up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed

from sentiment.errors import DeploymentError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.client.schemas.responses import DeploymentResponse

POLL_SECONDS = 0.5
DRAIN_SECONDS = 600  # a run takes seconds; one that hangs must not keep the service up for ever
ACTIVE = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]


@dataclass(frozen=True)
class Scheduled:
    """A deployment by the names of its flow and its own; without a schedule it is not served."""

    flow: str
    deployment: str
    cron: str | None
    parameters: Mapping[str, Any]


def deployments(
    client: SyncPrefectClient, scheduled: Sequence[Scheduled]
) -> list[DeploymentResponse | None]:
    """Each one's deployment on the server, None where it has none yet."""
    found: list[DeploymentResponse | None] = []
    for one in scheduled:
        try:
            found.append(client.read_deployment_by_name(f"{one.flow}/{one.deployment}"))
        except ObjectNotFound:
            found.append(None)
    return found


def tidy_up(client: SyncPrefectClient, one: Scheduled, say: Callable[[str], None]) -> int:
    """Close what an earlier service left behind; returns how many runs came due since.

    A dead run would hold the one place for ever, and hours of downtime would be caught up with;
    so the missed runs are cancelled, and the caller makes one in their stead. A deployment without
    a schedule is paused. Raises `DeploymentError`.
    """
    try:
        (ours,) = deployments(client, [one])
        if ours is None:
            return 0
        if one.cron is None:
            client.set_deployment_paused_state(ours.id, True)
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
        raise DeploymentError(f"the Prefect server refuses: {str(error).splitlines()[0]}") from None
    if missed and one.cron is not None:
        what = f"{missed} runs of '{one.deployment}'"
        say(f"{what} came due while nothing served them: one run makes up for all")
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


def drain(client: SyncPrefectClient, served: Sequence[Scheduled], hurry: threading.Event) -> None:
    """Pause the schedules and wait for runs in progress; a second signal ends the wait."""
    try:
        ours = [found for found in deployments(client, served) if found is not None]
        for one in ours:
            client.set_deployment_paused_state(one.id, True)
        until = time.monotonic() + DRAIN_SECONDS
        while any(flow_runs(client, one, ACTIVE) for one in ours) and time.monotonic() < until:
            if hurry.wait(POLL_SECONDS):
                return
    except (OSError, HTTPError):  # the server is away: there is nobody to ask
        return
