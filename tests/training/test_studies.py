"""The Optuna studies: one that is cut short and carried on equals one that never stopped."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import random
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
from sentiment.training.studies import PassStudy, TrialSeededSampler, open_storage

History = list[tuple[int, dict[str, object], float | None, str]]


def objective(trial: Trial) -> float:
    x = trial.suggest_float("x", 0.01, 2.0, log=True)
    n = trial.suggest_int("n", 3, 7)
    kind = trial.suggest_categorical("kind", ["a", "b"])
    return -((x - 0.5) ** 2) - abs(n - 4) / 10 - (kind == "b") / 20


def run_alone(study: Study) -> None:
    while len(study.trials) < 20:
        trial = study.ask()
        value = objective(trial)
        if trial.number == 2:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, value)


def pass_study(folder: Path, url: str | None = None, batch: int = 1) -> PassStudy:
    return PassStudy(open_storage(folder, url), "pass/A", 1, 20, batch)


def run_trial(study: PassStudy, number: int) -> None:
    """Run a trial as a pass does; the third one fails."""
    asked, trial = study.ask(number)
    value = objective(trial)
    failed = number == 2
    ended = asked.tell(trial, None if failed else value, TrialState.FAIL if failed else None)
    study.end(number, ended)
    study.store(ended)


def carry_on(study: PassStudy, until: int) -> None:
    while study.ended < until:
        run_trial(study, study.due()[0])


def history(study: Study) -> History:
    return [(t.number, t.params, t.value, t.state.name) for t in study.trials]


@pytest.fixture(scope="module")
def whole() -> History:
    """A study of Optuna's own, that was neither stored nor interrupted."""
    study = optuna.create_study(direction="maximize", sampler=TrialSeededSampler(1))
    run_alone(study)
    return history(study)


@pytest.mark.parametrize(("done", "file"), [(0, None), (2, None), (3, "elsewhere.db"), (13, None)])
def test_a_resumed_study_has_the_same_trials(
    tmp_path: Path, whole: History, done: int, file: str | None
) -> None:
    url = f"sqlite:///{tmp_path / file}" if file else None
    study = pass_study(tmp_path, url)
    carry_on(study, done)
    if done < 20:  # under way when the process dies
        study.ask(done)[1].suggest_float("x", 0.01, 2.0, log=True)
    study = pass_study(tmp_path, url)
    assert history(study.study) == whole[:done]
    carry_on(study, 20)
    assert history(study.study) == history(pass_study(tmp_path, url).study) == whole
    assert [number for number, *_ in whole] == list(range(20))


def test_a_kill_while_trials_are_written_loses_none_that_was_stored(
    tmp_path: Path, whole: History
) -> None:
    """A process stores trials as fast as it can and is killed; twice on the same file."""

    def child(connection: multiprocessing.connection.Connection) -> None:
        study = pass_study(tmp_path)
        while study.ended < 20:
            carry_on(study, study.ended + 1)
            connection.send(study.ended)
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
        study = pass_study(tmp_path)
        assert study.ended >= done
        assert history(study.study) == whole[: study.ended]


def test_the_trials_of_a_batch_do_not_depend_on_who_runs_them_and_in_which_order(
    tmp_path: Path,
) -> None:
    """One worker in order; three that each have their own view, in any order; one cut short."""
    batch = 3  # the last one has two
    one, *several = (tmp_path / name for name in ("one", "several", "short"))
    for folder in (one, *several):
        folder.mkdir()
    alone = pass_study(one, batch=batch)
    carry_on(alone, 20)
    rng = random.Random(batch)
    workers = [pass_study(several[0], batch=batch) for _ in range(3)]
    while any(worker.due() for worker in workers):
        worker = rng.choice(workers)
        worker.refresh()
        if worker.due():
            run_trial(worker, rng.choice(worker.due()))
    for worker in workers:
        worker.refresh()
        assert history(worker.study) == history(alone.study)
    for until in (batch + 1, 2 * batch, 20):
        carry_on(pass_study(several[1], batch=batch), until)
    assert history(pass_study(several[1], batch=batch).study) == history(alone.study)
    assert len({str(trial.params) for trial in alone.study.trials}) == 20  # no draw is repeated


def test_studies_are_apart_by_name_and_seed(tmp_path: Path, whole: History) -> None:
    storage = open_storage(tmp_path)
    carry_on(pass_study(tmp_path), 4)
    other = PassStudy(storage, "pass/B", 2, 20)
    assert other.ended == 0 and other.best is None
    carry_on(other, 20)
    assert history(other.study) != whole
    assert len({str(params) for _, params, *_ in whole}) == 20  # no draw is repeated


def test_the_sampler_learns_as_tpe_does_and_random_search_does_not() -> None:
    def typical(sampler: Callable[[int], optuna.samplers.BaseSampler]) -> float:
        late = []
        for seed in range(6):
            study = optuna.create_study(direction="maximize", sampler=sampler(seed))
            run_alone(study)
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
