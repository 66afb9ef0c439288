"""Keep the ledger: who put which version where, when and why, and the state that follows from it.

Each change is one run of the ledger experiment. RUNNING, it is a claim; FINISHED, the change has
happened; KILLED, the claim was withdrawn. Replaying the finished ones tells which version is in
production, now or at an earlier time; aliases and stages only follow. So a tracking server is all
that is needed, and a crash at any point leaves a change whole or not made.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sentiment.errors import ConflictError
from sentiment.tracking.store import (
    FINISHED,
    KILLED,
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
# Metrics of a promotion: the best version so far that the gate compared with, and how the macro-F1
# of the promoted one differs from its
BEST_VERSION, BEST_DIFFERENCE = "best_version", "best_difference_f1_macro"
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
    """What the ledger says. `stack` holds the versions in production, the present one last.

    `best` is the best of them as far as the gate could tell: the first, until a later one was shown
    to be better than the best before. A version that was rolled back is not.
    """

    stack: tuple[str, ...] = ()
    staging: str | None = None
    staged: frozenset[str] = frozenset()  # ever in staging
    promoted: frozenset[str] = frozenset()  # ever in production
    events: int = 0  # the number of the last event
    best: str | None = None

    @property
    def production(self) -> str | None:
        """The version in production; None before the first promotion."""
        return self.stack[-1] if self.stack else None


# Tells from the present state which version the change's target replaces, None for none. Raises
# `RegistryError` or `ConflictError` when the change may not be made.
Decision = Callable[[RegistryState], str | None]


def replay(events: Iterable[Event], until: datetime | None = None) -> RegistryState:
    """Return the state after these events, taken in their order.

    A promotion pushes its target. A rollback pops down to its target, so a second one goes further
    back. With `until`, a time with a zone, it is the state at that time.
    """
    stack: list[str] = []
    bests: list[str] = []  # the best version since each of the stack came
    staging: str | None = None
    staged: set[str] = set()
    promoted: set[str] = set()
    last, clock = 0, datetime.min.replace(tzinfo=UTC)
    for event in sorted(events, key=_in_order):
        clock = max(clock, event.when)  # a clock that was set back does not undo the order
        if until is not None and clock > until:
            break
        last = event.number
        if event.action == STAGE:
            staging = event.target
            staged.add(event.target)
            continue
        if event.action == ROLLBACK:
            del stack[-1:], bests[-1:]
            while stack and stack[-1] != event.target:
                del stack[-1], bests[-1]
        if not stack or event.action == PROMOTE:
            stack.append(event.target)
            bests.append(_best(event, bests))
        promoted.add(event.target)
        if staging == event.target:
            staging = None
    best = bests[-1] if bests else None
    return RegistryState(tuple(stack), staging, frozenset(staged), frozenset(promoted), last, best)


def _best(event: Event, before: list[str]) -> str:
    """Return the best version after a promotion.

    The event says which one the gate compared with: production, where the best before was gone.
    """
    compared = event.metrics.get(BEST_VERSION)
    shown = event.metrics.get(f"{BEST_DIFFERENCE}_low", 0.0) > 0
    if shown or (compared is None and not before):
        return event.target
    return before[-1] if compared is None else str(int(compared))


def read_events(store: Store) -> list[Event]:
    """Return every change that happened, in order."""
    return sorted(map(_event, _changes(store, FINISHED)), key=_in_order)


def close_abandoned(store: Store) -> None:
    """Mark claims as KILLED when their process is gone or they are older than `ABANDONED`.

    A process that began after a claim is not the one that wrote it, though it has its number.
    """
    for run in _changes(store, RUNNING):
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
    """Write one change. Of several processes at once, one writes and the others raise.

    A process first writes its claim, then reads the other claims, and waits while there are any. Of
    two that see each other, the later one withdraws and the earlier one waits until it has. So only
    one process is past that point, and the state that `decide` gets stays true. Raises
    `ConflictError`, or what `decide` raises; then the claim is KILLED.
    """
    tags = {
        **REGISTRY_KIND,
        TAG + "action": action,
        TAG + "to": target,
        TAG + "who": user_name(),
        TAG + "why": why,
        TAG + "forced": str(forced).lower(),
        TAG + "host": platform.node(),
        TAG + "processes": processes(),
        TAG + "pid": str(os.getpid()),
    }
    run_id = begin_run(store, store.settings.ledger, tags, name=f"{action} {target}")
    try:
        _wait_for_turn(store, run_id)
        state = replay(read_events(store))
        origin, now = decide(state), int(time.time() * 1000)
        tags = {
            TAG + "number": str(state.events + 1),
            TAG + "from": origin or "",
            TAG + "time": datetime.fromtimestamp(now / 1000, UTC).isoformat(),
        }
        log_values(store, run_id, metrics=metrics, tags=tags)
        if store.client.get_run(run_id).info.status != RUNNING:
            raise ConflictError(f"{action} {target} took too long and was given up; try again")
        store.client.set_terminated(run_id, FINISHED, end_time=now)  # the change has happened
    except BaseException:
        with suppress(Exception):  # a server that is away: the claim is closed as abandoned later
            store.client.set_terminated(run_id, KILLED)
        raise
    return _event(store.client.get_run(run_id))


def _wait_for_turn(store: Store, run_id: str) -> None:
    """Wait until there is no other claim. Raises `ConflictError` when an earlier one stands."""
    close_abandoned(store)
    deadline = time.monotonic() + PATIENCE
    while True:
        claims = sorted(
            _changes(store, RUNNING), key=lambda run: (run.info.start_time, run.info.run_id)
        )
        others = [run for run in claims if run.info.run_id != run_id]
        if not others:
            return
        first = others[0]
        if claims[0] is first or time.monotonic() > deadline:
            tags = first.data.tags
            raise ConflictError(
                f"{tags[TAG + 'action']} of version {tags[TAG + 'to']} by {tags[TAG + 'who']} on "
                f"{tags[TAG + 'host']} came first and is under way; look at `which`, then try again"
            )
        time.sleep(POLL)


def _changes(store: Store, status: str) -> list[Run]:
    """Return the changes that happened (FINISHED) or the claims that stand (RUNNING)."""
    runs = find_runs(store, store.settings.ledger, REGISTRY_KIND)
    return [run for run in runs if run.info.status == status]


def _abandoned(run: Run) -> bool:
    if time.time() - run.info.start_time / 1000 > ABANDONED:
        return True
    tags = run.data.tags
    # signal 0 asks whether a process is there; elsewhere than on POSIX it would end it
    if tags[TAG + "processes"] != processes() or os.name != "posix":
        return False
    pid = int(tags[TAG + "pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is there, and somebody else's
        pass
    # A process that began after the claim did not write it: the number was given away again, as
    # in a container that was restarted.
    began = _began(pid)
    return began is not None and began > run.info.start_time / 1000


def processes() -> str:
    """Return a name for the processes whose numbers this one knows: a machine's, or a container's.

    Containers may share a host name, and then a number of one says nothing in the other.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return platform.node()


def _began(pid: int) -> float | None:
    """Return when a process began, in seconds since 1970; None where Linux does not tell."""
    try:
        # the name, in brackets, may have spaces and brackets; field 22 is the 20th after it
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    running = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - running


def _in_order(event: Event) -> tuple[int, datetime, str]:
    return event.number, event.when, event.run_id


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
