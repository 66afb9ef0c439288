"""A pass of the experiment: its settings, its lock, and how an interrupted one is found again.

A pass is a run in the ledger experiment that carries its settings. A process that works on it
holds `studies/<pass>.lock`, which the operating system frees when the process dies, however it
dies. So a pass whose run is not FINISHED and whose lock is free was interrupted.

A pass that several workers share has a name that the user gave it, and no lock: its tasks are
claimed in the storage of its studies. It is never taken for an interrupted one, since no machine
can tell: whoever joins it carries it on.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from sentiment.errors import ResumeError
from sentiment.tracking.store import (
    FINISHED,
    KILLED,
    RUNNING,
    TAG,
    Store,
    begin_run,
    find_runs,
    git_commit,
    log_values,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

    from sentiment.data.reviews import SplitMethod
    from sentiment.model.algorithms import SearchSpace
    from sentiment.training.claims import Claims, Ticket

PASS, KIND, TRIAL = TAG + "pass", TAG + "kind", TAG + "trial"
SETTINGS = TAG + "settings"  # a tag, since only tags are written in one step with the run
SHARED = TAG + "shared"  # tag of a pass that is shared: the id of its tasks
BEGIN = "begin"  # task of a shared pass: to write its run in the ledger
EXPERIMENT_KIND, PARENT_KIND, TRIAL_KIND = "experiment", "search", "trial"


@dataclass(frozen=True)
class PassSettings:
    """All that decides what a pass computes. Two passes with equal settings give equal results."""

    data: str  # absolute path
    text_column: str | None  # None: found by its name
    rating_column: str | None
    delimiter: str | None  # None: found out
    encoding: str | None
    max_bytes: int | None
    label_column: str | None  # None: the file has ratings
    positive: str | None
    negative: str | None
    scale: int | None  # None: as `Labelling` has it
    negative_up_to: int | None
    drop_neutral: bool | None
    data_digest: str
    split: SplitMethod
    cleaning: str
    trials: int
    models: str  # joined by commas, in order
    seed: int
    search_space: SearchSpace
    file_format: str
    batch: int = 1
    recall_negative: float | None = None  # None: each classifier's own threshold


@dataclass(frozen=True)
class ExperimentPass:
    """A pass that this process works on: alone, with a `lock` until it ends, or with others."""

    id: str
    run_id: str
    settings: PassSettings
    lock: FileLock | None = None
    claims: Claims | None = None  # of a pass that is shared

    @property
    def algorithms(self) -> list[str]:
        """The names of the algorithms, in order."""
        return self.settings.models.split(",")

    def tags(self, kind: str) -> dict[str, str]:
        """Return the tags by which the pass's runs of one kind are found again."""
        return {PASS: self.id, KIND: kind}

    def require(self, **settings: object) -> None:
        """Raise `ResumeError` unless the pass was begun with these very settings."""
        for name, value in settings.items():
            began = getattr(self.settings, name)
            if value != began:
                how = "resume it with the same, or start a new one without --resume"
                if self.claims is not None:
                    how = "join it with the same, or begin another with --join and a new name"
                raise ResumeError(
                    f"pass {self.id} was begun with {name.replace('_', ' ')} {began}, not {value}; "
                    f"{how}"
                )

    def take(self, task: str) -> bool:
        """Tell whether this process is to do what is done once; waits until another has done it."""
        return self.claims is None or self.claims.wait(task)

    def holds(self, task: str) -> bool:
        """Tell whether what this process took is still its own, and not taken for a dead one's."""
        return self.claims is None or self.claims.holds(task)

    def ticket(self, task: str) -> Ticket | None:
        """Return the ticket of what this process took; None where nobody else can have it."""
        return None if self.claims is None else self.claims.ticket(task)

    def finish(self, task: str, _: object = None) -> None:
        """Say that what this process was to do is done; the worker may call it with a result."""
        if self.claims is not None:
            self.claims.finish(task)


def begin_pass(
    store: Store, settings: PassSettings, claims: Claims | None = None
) -> ExperimentPass:
    """Begin a new pass: take its lock, then create its run in the ledger.

    With `claims` it is shared under their name, and others may join from now on.
    """
    tags = {KIND: EXPERIMENT_KIND, TAG + "git_commit": git_commit()}
    lock = None
    if claims is None:
        pass_id = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
        lock = _lock(store, pass_id)
        lock.acquire()
    else:
        pass_id = claims.name
        tags[SHARED] = claims.id()
    tags |= {PASS: pass_id, SETTINGS: json.dumps(asdict(settings))}
    run_id = begin_run(store, store.settings.ledger, tags, name=f"experiment {pass_id}")
    log_values(store, run_id, params=asdict(settings))
    begun = ExperimentPass(pass_id, run_id, settings, lock, claims)
    begun.finish(BEGIN)
    return begun


def join_pass(store: Store, claims: Claims, asked: Mapping[str, object]) -> ExperimentPass | None:
    """Join the shared pass of that name; None when this worker is to begin it (`begin_pass`).

    Waits while another worker begins it. `asked` has the settings that the user named; the reviews
    may be in another place on each machine. Raises `ResumeError` when it was begun alone, in
    another tracking store or database, or with other settings.
    """
    mine = claims.wait(BEGIN)
    found = find_runs(store, store.settings.ledger, {KIND: EXPERIMENT_KIND, PASS: claims.name})
    if not found:
        if mine:
            return None
        raise ResumeError(
            f"pass {claims.name} is in this --storage and not in this tracking store; give all its "
            "workers the same MLflow server and --project"
        )
    run = found[0]
    if SHARED not in run.data.tags:
        raise ResumeError(f"pass {claims.name} was begun without --join, so it is not shared")
    if run.data.tags[SHARED] != claims.id():
        raise ResumeError(
            f"pass {claims.name} has its studies in another database; give all its workers the "
            "same --storage"
        )
    settings = PassSettings(**json.loads(run.data.tags[SETTINGS]))
    joined = ExperimentPass(claims.name, run.info.run_id, settings, claims=claims)
    joined.require(**{name: value for name, value in asked.items() if name != "data"})
    if mine:  # a worker died before it could say so
        log_values(store, joined.run_id, params=asdict(settings))
        joined.finish(BEGIN)
    return joined


def resume_pass(
    store: Store, pass_id: str | None, asked: Mapping[str, object]
) -> ExperimentPass | None:
    """Take up the interrupted pass `pass_id`, the newest by default; None when there is none.

    `asked` has the settings that the user named. The pass is locked, and nothing changes before
    `reopen`. Raises `ResumeError` when there is no such pass, another process works on it, it is
    shared, or it was begun with other settings.
    """
    interrupted = {run.data.tags[PASS]: run for run in interrupted_passes(store)}
    runs = find_runs(store, store.settings.ledger, {KIND: EXPERIMENT_KIND})
    open_ = {run.data.tags[PASS]: run for run in runs if run.info.status != FINISHED}
    if pass_id is None:
        under_way = [
            one
            for one, run in open_.items()
            if SHARED in run.data.tags or Path(_lock(store, one).lock_file).exists()
        ]
        if not under_way:
            return None
        pass_id = next(iter(reversed(interrupted)), under_way[-1])
    if pass_id in open_ and SHARED in open_[pass_id].data.tags:
        raise ResumeError(f"pass {pass_id} is shared; carry it on with --join {pass_id}")
    lock = _lock(store, pass_id)
    known = ", ".join(interrupted) or "none"
    unknown = ResumeError(f"no interrupted pass '{pass_id}' in this store; there are: {known}")
    if not Path(lock.lock_file).exists():
        raise unknown
    try:
        lock.acquire(timeout=2)  # longer than another process's look at whether it is free
    except Timeout:
        raise ResumeError(f"pass {pass_id} is being worked on by another process") from None
    if pass_id not in interrupted:
        lock.release()
        raise unknown
    run = interrupted[pass_id]
    settings = PassSettings(**json.loads(run.data.tags[SETTINGS]))
    resumed = ExperimentPass(pass_id, run.info.run_id, settings, lock)
    resumed.require(**asked)
    return resumed


def reopen(store: Store, run_id: str) -> None:
    """Mark a run that an interrupted attempt left behind as RUNNING again."""
    store.client.update_run(run_id, status=RUNNING)


def interrupted_passes(store: Store) -> list[Run]:
    """Return the ledger runs of passes that were interrupted on this machine, oldest first."""

    def was_interrupted(run: Run) -> bool:
        lock = _lock(store, run.data.tags[PASS])
        # a pass of another machine has no lock here
        if run.info.status == FINISHED or not Path(lock.lock_file).exists():
            return False
        try:
            with lock.acquire(timeout=0):
                return True
        except Timeout:
            return False

    return [
        r
        for r in find_runs(store, store.settings.ledger, {KIND: EXPERIMENT_KIND})
        if was_interrupted(r)
    ]


def close_interrupted(store: Store, experiments: Iterable[str]) -> list[Run]:
    """Mark what interrupted passes left RUNNING as KILLED; return their ledger runs."""
    passes = interrupted_passes(store)
    for run in passes:
        kill_running(store, run.data.tags[PASS], experiments)
    return passes


def kill_running(store: Store, pass_id: str, experiments: Iterable[str]) -> None:
    """Mark every run of the pass that is RUNNING as KILLED, the ledger's last."""
    for experiment in (*experiments, store.settings.ledger):
        for run in find_runs(store, experiment, {PASS: pass_id}):
            if run.info.status == RUNNING:
                store.client.set_terminated(run.info.run_id, KILLED)


def leave_pass(store: Store, this_pass: ExperimentPass, experiments: Iterable[str]) -> None:
    """Leave a pass that did not come to its end: its open runs are KILLED.

    Of a shared one that others work on they stay RUNNING, and the others are given its tasks.
    """
    if this_pass.claims is not None:
        this_pass.claims.close()
        if this_pass.claims.others():
            return
    kill_running(store, this_pass.id, experiments)


def _lock(store: Store, pass_id: str) -> FileLock:
    return FileLock(store.studies / f"{pass_id}.lock")
