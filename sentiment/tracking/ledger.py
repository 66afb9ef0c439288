"""Registry ledger: who put which version where, when and why; and the state that follows from it.

Each change is a run of the ledger experiment, written once and never altered: RUNNING it is a
claim, FINISHED it has happened, KILLED it was withdrawn. Which version is in production, now or
then, is found by replaying the finished ones; aliases and stages only follow. So nothing is needed
but a tracking server, and a crash at any point leaves the change whole or not made.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sentiment.errors import ConflictError
from sentiment.tracking.store import (
    FINISHED,
    KILLED,
    LEDGER,
    RUNNING,
    TAG,
    Store,
    begin_run,
    find_runs,
    log_values,
    user_name,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

REGISTRY_KIND = {TAG + "kind": "registry"}
PROMOTE, STAGE, ROLLBACK = "promote", "stage", "rollback"
PATIENCE = 10.0  # seconds a claim waits for an earlier one; a change takes well under one
POLL = 0.1  # seconds between two looks at the other claims
ABANDONED = 600.0  # seconds after which a claim of another machine is taken for a dead one's


@dataclass(frozen=True)
class Event:
    """One change that happened. `origin` and `target` are version numbers, `origin` may be None."""

    number: int  # 1, 2, …: the order of the ledger, whatever the clocks of several machines say
    when: datetime  # with a zone
    action: str
    origin: str | None
    target: str
    why: str = ""
    who: str = ""
    forced: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    run_id: str = ""


@dataclass(frozen=True)
class RegistryState:
    """What the ledger says: `stack` has the versions in production, the present one last."""

    stack: tuple[str, ...] = ()
    staging: str | None = None
    staged: frozenset[str] = frozenset()  # ever in staging
    promoted: frozenset[str] = frozenset()  # ever in production
    events: int = 0  # the number of the last event

    @property
    def production(self) -> str | None:
        """The version in production; None before the first promotion."""
        return self.stack[-1] if self.stack else None

    @property
    def previous(self) -> str | None:
        """The version that a rollback puts back."""
        return self.stack[-2] if len(self.stack) > 1 else None


# What a change comes to in a state: (origin, target). Raises `RegistryError` or `ConflictError`.
Decision = Callable[[RegistryState], tuple[str | None, str]]


def replay(events: Iterable[Event], until: datetime | None = None) -> RegistryState:
    """The state after these events, in their order; with `until`, as it was at that time.

    A promotion pushes its target; a rollback pops down to its target, so that a second one walks
    further back. `until` must have a zone.
    """
    stack: list[str] = []
    staging: str | None = None
    staged: set[str] = set()
    promoted: set[str] = set()
    last, clock = 0, datetime.min.replace(tzinfo=UTC)
    for event in sorted(events, key=lambda event: (event.number, event.when, event.run_id)):
        clock = max(clock, event.when)  # a clock that was set back does not undo the order
        if until is not None and clock > until:
            break
        last = event.number
        if event.action == STAGE:
            staging = event.target
            staged.add(event.target)
            continue
        if event.action == ROLLBACK:
            del stack[-1:]
            while stack and stack[-1] != event.target:
                del stack[-1]
        if not stack or event.action == PROMOTE:
            stack.append(event.target)
        promoted.add(event.target)
        if staging == event.target:
            staging = None
    return RegistryState(tuple(stack), staging, frozenset(staged), frozenset(promoted), last)


def read_events(store: Store) -> list[Event]:
    """Every change that happened, in order."""
    events = [_event(run) for run in find_runs(store, LEDGER, REGISTRY_KIND) if _is(run, FINISHED)]
    return sorted(events, key=lambda event: (event.number, event.when, event.run_id))


def close_abandoned(store: Store) -> None:
    """Mark claims as KILLED whose process is gone, or that are older than `ABANDONED`."""
    for run in _claims(store):
        if _abandoned(run):
            store.client.set_terminated(run.info.run_id, KILLED)


def append(
    store: Store,
    action: str,
    target: str,
    decide: Decision,
    *,
    why: str,
    forced: bool = False,
    metrics: Mapping[str, float] | None = None,
) -> Event:
    """Write one change, alone: of several at once one is written, the others raise.

    First a claim is written, then the other claims are read, and nobody goes on while it sees
    another. Of two that see each other the later withdraws, and the earlier waits for its end. So
    between the door and FINISHED there is one process, and what `decide` is shown stays true.
    Raises `ConflictError`, or what `decide` raises; then the claim is KILLED.
    """
    tags = {
        **REGISTRY_KIND,
        TAG + "action": action,
        TAG + "to": target,
        TAG + "who": user_name(),
        TAG + "why": why,
        TAG + "forced": str(forced).lower(),
        TAG + "host": platform.node(),
        TAG + "pid": str(os.getpid()),
    }
    run_id = begin_run(store, LEDGER, tags, name=f"{action} {target}")
    try:
        _wait_for_turn(store, run_id)
        state = replay(read_events(store))
        origin, target = decide(state)
        now = int(time.time() * 1000)
        log_values(
            store,
            run_id,
            metrics=metrics,
            tags={
                TAG + "number": str(state.events + 1),
                TAG + "from": origin or "",
                TAG + "to": target,
                TAG + "time": datetime.fromtimestamp(now / 1000, UTC).isoformat(),
            },
        )
        if not _is(store.client.get_run(run_id), RUNNING):
            raise ConflictError(f"{action} {target} took too long and was given up; try again")
        store.client.set_terminated(run_id, FINISHED, end_time=now)  # the change has happened
    except BaseException:
        with suppress(Exception):  # a server that is away: the claim is closed as abandoned later
            store.client.set_terminated(run_id, KILLED)
        raise
    return _event(store.client.get_run(run_id))


def _wait_for_turn(store: Store, run_id: str) -> None:
    """Return when no other claim is in sight. Raises `ConflictError` when an earlier one is."""
    close_abandoned(store)
    deadline = time.monotonic() + PATIENCE
    while True:
        claims = _claims(store)
        mine = [run for run in claims if run.info.run_id == run_id]
        others = [run for run in claims if run.info.run_id != run_id]
        if not others:
            return
        first = min(others, key=_order)
        if not mine or _order(first) < _order(mine[0]) or time.monotonic() > deadline:
            tags = first.data.tags
            raise ConflictError(
                f"{tags[TAG + 'action']} of version {tags[TAG + 'to']} by {tags[TAG + 'who']} on "
                f"{tags[TAG + 'host']} came first and is under way; look at `which`, then try again"
            )
        time.sleep(POLL)


def _claims(store: Store) -> list[Run]:
    return [run for run in find_runs(store, LEDGER, REGISTRY_KIND) if _is(run, RUNNING)]


def _abandoned(run: Run) -> bool:
    if time.time() - run.info.start_time / 1000 > ABANDONED:
        return True
    tags = run.data.tags
    # signal 0 asks whether a process is there; elsewhere than on POSIX it would end it
    if tags[TAG + "host"] != platform.node() or os.name != "posix":
        return False
    try:
        os.kill(int(tags[TAG + "pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # there, and somebody else's
        pass
    return False


def _event(run: Run) -> Event:
    tags = run.data.tags
    return Event(
        number=int(tags[TAG + "number"]),
        when=datetime.fromisoformat(tags[TAG + "time"]),
        action=tags[TAG + "action"],
        origin=tags[TAG + "from"] or None,
        target=tags[TAG + "to"],
        why=tags[TAG + "why"],
        who=tags[TAG + "who"],
        forced=tags[TAG + "forced"] == "true",
        metrics=dict(run.data.metrics),
        run_id=run.info.run_id,
    )


def _is(run: Run, status: str) -> bool:
    return bool(run.info.status == status)


def _order(run: Run) -> tuple[int, str]:
    return run.info.start_time, run.info.run_id
