"""Share the tasks of a pass among workers: each is done once, even if workers die on the way.

A task is a word, such as `NaiveBayes/7`. Its tickets are trials of an Optuna study in the shared
storage: WAITING, RUNNING while a worker does the task, COMPLETE once it is done, FAIL when its
worker gave it up or died. Death is what Optuna's heartbeat tells. What counts is the first ticket
of a task that has not failed: only one worker can set it RUNNING, and where there is none, whoever
wants the task adds one. A failed ticket never comes back, and a ticket is only seen when all before
it are. So two workers that add a ticket at once still agree on the one that counts.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from secrets import token_hex

import optuna
from filelock import FileLock
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState, create_trial

POLL = 0.2  # seconds between two looks at what the other workers have done
ID, TASK = "id", "task"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ticket:
    """A task that a worker took, as another process of it can ask about it."""

    url: str  # of the storage
    id: int

    def held(self) -> bool:
        """Read from the storage whether the task is still this worker's: it was not taken for dead.

        A ticket that is not RUNNING any more was given up in its name, and never comes back.
        """
        return _reading(self.url).get_trial(self.id).state == TrialState.RUNNING


@cache
def _reading(url: str) -> RDBStorage:
    # its tables are there; Optuna fills in what stands in braces
    url = url.replace("{", "{{").replace("}", "}}")
    return RDBStorage(url, skip_compatibility_check=True, skip_table_creation=True)


class Claims:
    """The tasks of the pass `name`; those that this process holds are kept alive by a thread."""

    def __init__(self, storage: RDBStorage, name: str) -> None:
        self.name = name
        self.storage = storage
        self._study = optuna.create_study(
            storage=storage, study_name=f"{name}/tasks", load_if_exists=True
        )
        self.ended = 0  # tickets of tasks that were done or given up, at the last look
        self._tickets: dict[str, list[FrozenTrial]] = {}
        self._held: dict[str, int] = {}  # ids of tickets
        self._closed = threading.Event()
        # SQLite has no rows to lock, and one machine only
        one_file = storage.engine.dialect.name == "sqlite"
        self._guard: AbstractContextManager[object] = (
            FileLock(f"{storage.engine.url.database}.lock") if one_file else nullcontext()
        )
        threading.Thread(target=self._keep_alive, daemon=True).start()

    def id(self) -> str:
        """Return what tells this study from one of the same name in another database.

        It is made by the first call, which must be the work of a task.
        """
        known = self._study.user_attrs.get(ID)
        if known is None:
            known = token_hex(8)
            self._study.set_user_attr(ID, known)
        return str(known)

    def look(self) -> None:
        """Read what the other workers do and have done; give up the tickets of dead ones."""
        with self._guard, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it may change in a later Optuna
            fail_stale_trials(self._study)
        tickets = self._study.get_trials(deepcopy=False)
        self.ended = sum(ticket.state.is_finished() for ticket in tickets)
        self._tickets = {}
        for ticket in tickets:
            self._tickets.setdefault(ticket.user_attrs[TASK], []).append(ticket)

    def done(self, task: str) -> bool:
        """Tell whether the task was done at the last look."""
        ticket = self._that_counts(task)
        return ticket is not None and ticket.state == TrialState.COMPLETE

    def retried(self, task: str) -> bool:
        """Tell whether another worker had begun the task and not finished it, at the last look."""
        return any(ticket.state == TrialState.FAIL for ticket in self._tickets.get(task, []))

    def take(self, task: str) -> bool:
        """Take the task; False where a worker, this one or another, does it or has done it."""
        if task in self._held:  # even if this worker was taken for dead
            return False
        if self._that_counts(task) is None:
            self._study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={TASK: task}))
            self.look()
        ticket = self._that_counts(task)
        if ticket is None or ticket.state != TrialState.WAITING:
            return False
        # The heartbeat goes first: a ticket without one would never be taken for a dead worker's
        self.storage.record_heartbeat(ticket._trial_id)
        try:
            with self._guard:
                taken = self.storage.set_trial_state_values(ticket._trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:  # done meanwhile
            return False
        if taken:
            self._held[task] = ticket._trial_id
        return taken

    def wait(self, task: str) -> bool:
        """Take the task and return True, or return False when another worker has done it."""
        while True:
            self.look()
            if self.done(task):
                return False
            if self.take(task):
                return True
            time.sleep(POLL)

    def ticket(self, task: str) -> Ticket:
        """Return the ticket of the task that this worker took and has not ended."""
        return Ticket(self.storage.url, self._held[task])

    def holds(self, task: str) -> bool:
        """Read from the storage whether the task that this worker took is still its own."""
        return self.storage.get_trial(self._held[task]).state == TrialState.RUNNING

    def finish(self, task: str) -> None:
        """Say that the held task is done."""
        self._end(task, TrialState.COMPLETE)

    def others(self) -> bool:
        """Tell whether another worker does a task now."""
        self.look()
        return any(
            ticket.state == TrialState.RUNNING and ticket._trial_id not in self._held.values()
            for tickets in self._tickets.values()
            for ticket in tickets
        )

    def close(self) -> None:
        """Give the held tasks to the others, and stop."""
        for task in list(self._held):
            self._end(task, TrialState.FAIL)
        self._closed.set()

    def _that_counts(self, task: str) -> FrozenTrial | None:
        alive = (one for one in self._tickets.get(task, []) if one.state != TrialState.FAIL)
        return next(alive, None)

    def _end(self, task: str, state: TrialState) -> None:
        try:
            with self._guard:
                values = [0.0] if state == TrialState.COMPLETE else None
                self.storage.set_trial_state_values(self._held.pop(task), state, values)
        except UpdateFinishedTrialError:
            _log.warning("%s: was taken for dead and given to another worker", task)

    def _keep_alive(self) -> None:
        while not self._closed.wait(self.storage.heartbeat_interval):
            for ticket in list(self._held.values()):
                try:
                    self.storage.record_heartbeat(ticket)
                except Exception as error:  # a database that is away may come back
                    _log.warning("no heartbeat: %s", type(error).__name__)


@contextmanager
def open_claims(storage: RDBStorage, name: str) -> Iterator[Claims]:
    """Open the tasks of a pass; at the end the held ones are given to the others."""
    claims = Claims(storage, name)
    try:
        yield claims
    finally:
        claims.close()
