"""Optuna studies that can be killed at any time and carried on with the same trials.

A study runs in memory. Each trial that ends is added to the stored study of the same name in one
transaction, so no trial is ever stored half-way. A resumed study begins with the stored trials,
and its sampler depends on these alone: it goes on as if it had never stopped.

Trials are drawn in batches. The sampler sees the finished batches only, so the trials of a batch
may be scored in any order and by several workers, and are the same.
"""

from __future__ import annotations

import sqlite3
import time
import warnings
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from sentiment.errors import StudyStorageError
from sentiment.masking import line
from sentiment.tracking.database import sqlite_url

DATABASE = "studies.db"
NUMBER = (
    "number"  # attribute of a stored trial: workers store theirs in the order in which they end
)
# Seconds between two signs of life of a worker, and without one after which it is taken for dead
HEARTBEAT, GRACE = 5, 30
TRIES = 5  # of making the tables: two machines may do so at once


class TrialSeededSampler(TPESampler):
    """TPE that draws each parameter with a generator seeded by (seed, trial number, name).

    `TPESampler(seed=42)` keeps one generator: a study that is carried on in another process would
    repeat its first suggestions.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(multivariate=False)  # parameters are drawn one by one
        self._pass_seed = seed

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw one value with a TPE sampler seeded for it alone."""
        seed = zlib.crc32(f"{self._pass_seed}/{trial.number}/{param_name}".encode())
        return TPESampler(seed=seed).sample_independent(
            study, trial, param_name, param_distribution
        )


def open_storage(folder: Path, url: str | None = None) -> RDBStorage:
    """Open the database of studies at SQLAlchemy's `url`; create it when it is missing.

    The default is a file in `folder`: SQLite, which needs no server and survives `kill -9`. Raises
    `StudyStorageError` when the database does not answer, or its driver is not installed.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        # two processes that create the tables at once would collide
        with FileLock(folder / f"{DATABASE}.lock"):
            if url is None:
                # write-ahead: half the time a trial, and readers wait for nobody
                with closing(sqlite3.connect(folder / DATABASE)) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")
            # Optuna fills in what stands in braces
            own = sqlite_url(folder / DATABASE).replace("{", "{{").replace("}", "}}")
            return _open(url or own)
    except (SQLAlchemyError, StorageInternalError, sqlite3.Error, ImportError, ValueError) as error:
        # Optuna says that there was an error, and its cause which
        reason = getattr(error.__cause__ or error, "orig", None) or error
        where = str(folder / DATABASE) if url is None else f"--storage {url}"
        raise StudyStorageError(
            f"{where}: cannot be used ({line(reason)}); expected a SQLAlchemy URL "
            "of a database that answers, with its driver installed"
        ) from None


def _open(url: str) -> RDBStorage:
    from sqlalchemy.exc import DatabaseError, IntegrityError

    for left in reversed(range(TRIES)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the heartbeat may change in a later Optuna
                return RDBStorage(url, heartbeat_interval=HEARTBEAT, grace_period=GRACE)
        except DatabaseError as error:
            collided = isinstance(error, IntegrityError) or "already exists" in str(error)
            if not left or not collided:
                raise
            time.sleep(0.5)
    raise AssertionError("the last try returns or raises")


class PassStudy:
    """A maximising study of so many `trials`, of which those that ended are in the storage.

    `study` has the trials of the finished batches, in the order of their numbers, and is what the
    sampler sees. It is in memory.
    """

    def __init__(  # all that a study is made of
        self, storage: RDBStorage, name: str, seed: int, trials: int, batch: int = 1
    ) -> None:
        self._stored = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        self._seed, self._trials, self._batch = seed, trials, batch
        self._ended: dict[int, FrozenTrial] = {}  # by number
        self.study = self._new_study()
        self.refresh()

    def refresh(self) -> None:
        """Take over the trials that others have stored."""
        if self.ended == self._trials:
            return
        for trial in self._stored.get_trials(deepcopy=False):
            self.end(trial.user_attrs.get(NUMBER, trial.number), trial)

    def due(self) -> list[int]:
        """Return the numbers of the present batch whose trials have not ended; none at the end."""
        first = len(self.study.get_trials(deepcopy=False))
        batch = range(first, min(first + self._batch, self._trials))
        return [number for number in batch if number not in self._ended]

    def ask(self, number: int) -> tuple[Study, Trial]:
        """Return the trial of a number that is due, and the study to tell its result."""
        study = self.study
        if self._batch > 1:  # a copy: the other trials of the batch must not see the result
            finished = study.get_trials(deepcopy=False)
            study = self._new_study()
            study.add_trials(finished)
            # the sampler passes over failed trials, but they count
            gap = create_trial(state=TrialState.FAIL)
            study.add_trials(gap for _ in range(number - len(finished)))
        trial = study.ask()
        trial.set_user_attr(NUMBER, number)
        return study, trial

    def end(self, number: int, trial: FrozenTrial) -> None:
        """Take a trial that ended; the first of a number counts."""
        self._ended.setdefault(number, trial)
        first = len(self.study.get_trials(deepcopy=False))
        if not self.due() and first < self._trials:
            batch = range(first, min(first + self._batch, self._trials))
            self.study.add_trials(self._ended[one] for one in batch)

    def store(self, trial: FrozenTrial) -> None:
        """Add a trial that ended to the storage, in one transaction."""
        self._stored.add_trial(trial)

    @property
    def ended(self) -> int:
        """How many trials have ended."""
        return len(self._ended)

    @property
    def best(self) -> float | None:
        """The best score so far, None as long as no trial was scored."""
        values = [trial.value for trial in self._ended.values() if trial.value is not None]
        return max(values, default=None)

    def _new_study(self) -> Study:
        return optuna.create_study(direction="maximize", sampler=TrialSeededSampler(self._seed))
