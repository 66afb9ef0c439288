"""The Optuna studies: one that is cut short and carried on equals one that never stopped."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
from collections.abc import Callable
from pathlib import Path
from statistics import median

import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import Trial, TrialState

from sentiment.errors import StudyStorageError
from sentiment.training.studies import TrialSeededSampler, best_value, open_storage, open_study

History = list[tuple[int, dict[str, object], float | None, str]]


def objective(trial: Trial) -> float:
    x = trial.suggest_float("x", 0.01, 2.0, log=True)
    n = trial.suggest_int("n", 3, 7)
    kind = trial.suggest_categorical("kind", ["a", "b"])
    return -((x - 0.5) ** 2) - abs(n - 4) / 10 - (kind == "b") / 20


def carry_on(study: Study, stored: Study | None, until: int) -> None:
    """Run trials as a pass does; the third one fails."""
    while len(study.trials) < until:
        trial = study.ask()
        value = objective(trial)
        failed = trial.number == 2
        ended = study.tell(trial, None if failed else value, TrialState.FAIL if failed else None)
        if stored is not None:
            stored.add_trial(ended)


def history(study: Study) -> History:
    return [(t.number, t.params, t.value, t.state.name) for t in study.trials]


@pytest.fixture(scope="module")
def whole() -> History:
    """An uninterrupted study that was never stored."""
    study = optuna.create_study(direction="maximize", sampler=TrialSeededSampler(1))
    carry_on(study, None, 20)
    return history(study)


@pytest.mark.parametrize(("done", "file"), [(0, None), (2, None), (3, "elsewhere.db"), (13, None)])
def test_a_resumed_study_has_the_same_trials(
    tmp_path: Path, whole: History, done: int, file: str | None
) -> None:
    url = f"sqlite:///{tmp_path / file}" if file else None
    study, stored = open_study(open_storage(tmp_path, url), "pass/A", seed=1)
    carry_on(study, stored, done)
    study.ask().suggest_float("x", 0.01, 2.0, log=True)  # under way when the process dies
    study, stored = open_study(open_storage(tmp_path, url), "pass/A", seed=1)
    assert history(study) == whole[:done]
    carry_on(study, stored, 20)
    assert history(study) == history(stored) == whole
    assert [number for number, *_ in whole] == list(range(20))


def test_a_kill_while_trials_are_written_loses_none_that_was_stored(
    tmp_path: Path, whole: History
) -> None:
    """A process stores trials as fast as it can and is killed; twice on the same file."""

    def child(connection: multiprocessing.connection.Connection) -> None:
        study, stored = open_study(open_storage(tmp_path), "pass/A", seed=1)
        while len(study.trials) < 20:
            carry_on(study, stored, len(study.trials) + 1)
            connection.send(len(study.trials))
        os._exit(0)

    context = multiprocessing.get_context("fork")
    for stop_at in (4, 12):
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(target=child, args=(theirs,))
        process.start()
        theirs.close()
        done = 0
        while done < stop_at:
            assert mine.poll(60), "the writer hangs"
            done = mine.recv()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(30)
        study, _ = open_study(open_storage(tmp_path), "pass/A", seed=1)
        assert len(study.trials) >= done
        assert history(study) == whole[: len(study.trials)]


def test_studies_are_apart_by_name_and_seed(tmp_path: Path, whole: History) -> None:
    storage = open_storage(tmp_path)
    study, stored = open_study(storage, "pass/A", seed=1)
    carry_on(study, stored, 4)
    other, _ = open_study(storage, "pass/B", seed=2)
    assert other.trials == [] and best_value(other) is None
    carry_on(other, None, 20)
    assert history(other) != whole
    assert len({str(params) for _, params, *_ in whole}) == 20  # no draw is repeated


def test_the_sampler_learns_as_tpe_does_and_random_search_does_not() -> None:
    def typical(sampler: Callable[[int], optuna.samplers.BaseSampler]) -> float:
        late = []
        for seed in range(6):
            study = optuna.create_study(direction="maximize", sampler=sampler(seed))
            carry_on(study, None, 20)
            # the first ten are drawn at random
            late.append(median(trial.value or 0 for trial in study.trials[10:]))
        return sum(late) / len(late)

    ours, random = typical(TrialSeededSampler), typical(lambda s: RandomSampler(seed=s))
    tpe = typical(lambda s: TPESampler(seed=s))
    assert ours > random + 0.05 and ours > tpe - 0.1


def test_a_database_that_does_not_answer_is_one_line_without_the_password(tmp_path: Path) -> None:
    for url in ("nosuch://me:secret@host/x", f"sqlite:///{tmp_path}/none/x.db", "no url"):
        with pytest.raises(StudyStorageError) as caught:
            open_storage(tmp_path, url)
        assert "\n" not in str(caught.value) and "secret" not in str(caught.value)
    (tmp_path / "studies.db").write_text("not a database, but long enough to look at" * 50)
    with pytest.raises(StudyStorageError, match=r"studies\.db"):
        open_storage(tmp_path)
