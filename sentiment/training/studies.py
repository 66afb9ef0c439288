"""Optuna studies that can be killed at any time and carried on with the same trials.

A study runs in memory. Each trial that ends is added to the stored study of the same name in one
transaction, so no trial is ever stored half-way. A resumed study begins with the stored trials,
and its sampler depends on these alone: it goes on as if it had never stopped.
"""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial

from sentiment.errors import StudyStorageError
from sentiment.masking import line
from sentiment.tracking.store import sqlite_url

DATABASE = "studies.db"


class TrialSeededSampler(TPESampler):
    """TPE that draws each parameter with a generator seeded by (seed, trial number, name).

    `TPESampler(seed=42)` keeps one generator: a study that is carried on in another process would
    repeat its first suggestions. A trial's number is the number of trials that ended before it.
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


def open_storage(folder: Path, url: str | None = None) -> BaseStorage:
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
            return RDBStorage(url or own)
    except (SQLAlchemyError, StorageInternalError, sqlite3.Error, ImportError, ValueError) as error:
        # Optuna says that there was an error, and its cause which
        reason = getattr(error.__cause__ or error, "orig", None) or error
        where = str(folder / DATABASE) if url is None else f"--storage {url}"
        raise StudyStorageError(
            f"{where}: cannot be used ({line(reason)}); expected a SQLAlchemy URL "
            "of a database that answers, with its driver installed"
        ) from None


def open_study(storage: BaseStorage, name: str, seed: int) -> tuple[Study, Study]:
    """Return a maximising study in memory, begun with the trials of the stored one, and the latter.

    Each trial that ends must be added to the stored study (`add_trial`).
    """
    stored = optuna.create_study(
        storage=storage, study_name=name, direction="maximize", load_if_exists=True
    )
    study = optuna.create_study(direction="maximize", sampler=TrialSeededSampler(seed))
    study.add_trials(stored.get_trials(deepcopy=False))
    return study, stored


def best_value(study: Study) -> float | None:
    """Return the best score so far, None as long as no trial was scored."""
    trials = study.get_trials(deepcopy=False)
    return max((trial.value for trial in trials if trial.value is not None), default=None)
