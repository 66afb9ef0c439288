"""The Optuna search: studies that can be killed and carried on with the same trials.

Three things make a resumed study equal to one that never stopped. Every suggestion is drawn with
a generator seeded by (seed, trial number, parameter), so it depends on the finished trials alone.
A trial is told to Optuna last, when its MLflow run is complete. And a trial that was under way
when the process died is dropped from the study, so that its number is given out again.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sentiment.errors import StudyStorageError
from sentiment.tracking.store import without_password

DONE = (TrialState.COMPLETE, TrialState.FAIL)
# A tenth of the spread of a trial's five folds or less: a difference this small says nothing, and
# a smaller vocabulary overfits less (naive Bayes: train-to-test gap .050 instead of .072).
TIE = 0.001
RESUMED = "/resumed-"  # a study carried on under a new name: <pass>/<algorithm>/resumed-1


class TrialSeededSampler(BaseSampler):
    """TPE whose draw for a parameter depends on seed, trial number and name, and on past trials.

    `TPESampler(seed=42)` keeps one generator: restarted after a kill it would repeat its first
    suggestions. Parameters are sampled one by one, as TPESampler does by default.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Nothing is sampled jointly."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing is sampled jointly."""
        return {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """One value from a TPE sampler seeded for this draw."""
        seed = zlib.crc32(f"{self._seed}/{trial.number}/{param_name}".encode())
        return TPESampler(seed=seed).sample_independent(
            study, trial, param_name, param_distribution
        )


def open_database(url: str) -> BaseStorage:
    """The studies' database, any that SQLAlchemy knows. Raises `StudyStorageError`."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return optuna.storages.RDBStorage(url)
    except (SQLAlchemyError, StorageInternalError, ImportError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise StudyStorageError(
            f"--storage {without_password(url)}: cannot be used ({reason}); expected a SQLAlchemy "
            "URL of a database that answers, with its driver installed"
        ) from None


def open_journal(journal: Path) -> BaseStorage:
    """The journal file of one pass, created when missing.

    The caller holds the lock of the pass: whatever a killed process left here is nobody's.
    """
    if journal.exists():
        _drop_torn_line(journal)
    # Optuna would wait 30 s for the lock file of a process that was killed
    Path(f"{journal}.lock").unlink(missing_ok=True)
    lock = JournalFileOpenLock(str(journal))
    return JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))


def open_study(storage: BaseStorage, name: str, seed: int) -> Study:
    """The maximising study `name`, created, or carried on after its last finished trial."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = TrialSeededSampler(seed)
    existing = [
        study.study_name
        for study in optuna.get_all_study_summaries(storage, include_best_trial=False)
        if study.study_name == name or study.study_name.startswith(name + RESUMED)
    ]
    if not existing:
        return optuna.create_study(
            storage=storage, sampler=sampler, study_name=name, direction="maximize"
        )
    studies = [optuna.load_study(study_name=n, storage=storage, sampler=sampler) for n in existing]
    fullest = max(studies, key=lambda study: len(finished_trials(study)))
    if len(finished_trials(fullest)) == len(fullest.trials):
        return fullest
    carried_on = optuna.create_study(
        storage=storage,
        sampler=sampler,
        study_name=f"{name}{RESUMED}{len(existing)}",
        direction="maximize",
    )
    carried_on.add_trials(finished_trials(fullest))
    return carried_on


def finished_trials(study: Study) -> list[FrozenTrial]:
    """The trials that ended, scored or failed, in order of their numbers."""
    return study.get_trials(deepcopy=False, states=DONE)


def chosen_trial(study: Study) -> FrozenTrial:
    """The trial to refit: of those tied with the best, the one with the fewest terms.

    Trials within `TIE` of the best score are tied; of these the largest `min_df` wins, and among
    equals the higher score. Raises `ValueError` when no trial was scored.
    """
    best = study.best_value
    tied = [t for t in finished_trials(study) if t.value is not None and t.value >= best - TIE]
    return max(tied, key=lambda trial: (trial.params.get("min_df", 0), trial.value or 0.0))


def parameter_importances(study: Study) -> dict[str, float]:
    """Share of the score's variation by parameter (PED-ANOVA, Watanabe et al. 2023); may be empty.

    Empty when the trials do not differ enough to say anything.
    """
    import warnings

    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = PedAnovaImportanceEvaluator()
            return dict(get_param_importances(study, evaluator=evaluator))
    except (ValueError, RuntimeError, ZeroDivisionError):
        return {}


def trial_table(trials: Sequence[FrozenTrial]) -> Any:
    """A frame of the scored trials: `number`, `value` and one column a parameter."""
    import pandas as pd

    return pd.DataFrame(
        [{"number": t.number, "value": t.value, **t.params} for t in trials if t.value is not None]
    )


def _drop_torn_line(journal: Path) -> None:
    """Cut off a last line that a kill left half-written: Optuna refuses the whole file for it."""
    data = journal.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with journal.open("r+b") as file:
            file.truncate(whole)
