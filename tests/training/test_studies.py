"""The Optuna search: a study cut short and carried on equals one that never stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median

import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import Trial

from sentiment.errors import StudyStorageError
from sentiment.training import studies as optuna_search
from sentiment.training.studies import (
    TrialSeededSampler,
    chosen_trial,
    finished_trials,
    open_database,
    open_journal,
    open_study,
)


def objective(trial: Trial) -> float:
    x = trial.suggest_float("x", 0.01, 2.0, log=True)
    n = trial.suggest_int("n", 3, 7)
    kind = trial.suggest_categorical("kind", ["a", "b"])
    return -((x - 0.5) ** 2) - abs(n - 4) / 10 - (kind == "b") / 20


def carry_on(study: Study, until: int) -> None:
    while len(finished_trials(study)) < until:
        trial = study.ask()
        study.tell(trial, objective(trial))


def history(study: Study) -> list[tuple[int, dict[str, object], float | None]]:
    return [(t.number, t.params, t.value) for t in finished_trials(study)]


@pytest.fixture
def whole(tmp_path: Path) -> Study:
    study = open_study(open_journal(tmp_path / "whole.journal"), "pass/A", seed=1)
    carry_on(study, 20)
    return study


@pytest.mark.parametrize("suggested", [0, 1, 3])
@pytest.mark.parametrize("done", [0, 4, 13])
def test_resumed_study_has_the_same_trials(
    tmp_path: Path, whole: Study, done: int, suggested: int
) -> None:
    journal = tmp_path / "cut.journal"
    cut = open_study(open_journal(journal), "pass/A", seed=1)
    carry_on(cut, done)
    under_way = cut.ask()  # the process dies after some of this trial's suggestions
    if suggested >= 1:
        under_way.suggest_float("x", 0.01, 2.0, log=True)
    if suggested >= 2:
        under_way.suggest_int("n", 3, 7)
    if suggested >= 3:
        under_way.suggest_categorical("kind", ["a", "b"])
    resumed = open_study(open_journal(journal), "pass/A", seed=1)
    carry_on(resumed, 15)
    resumed.ask()  # and dies again
    resumed = open_study(open_journal(journal), "pass/A", seed=1)
    carry_on(resumed, 20)
    assert history(resumed) == history(whole)
    assert [number for number, _, _ in history(resumed)] == list(range(20))


def test_seed_and_study_decide_the_trials(tmp_path: Path, whole: Study) -> None:
    other = open_study(open_journal(tmp_path / "other.journal"), "pass/A", seed=2)
    carry_on(other, 20)
    assert history(other) != history(whole)
    assert len({str(params) for _, params, _ in history(whole)}) == 20  # no draw is repeated


def test_the_sampler_learns_as_tpe_does_and_random_search_does_not() -> None:
    def typical(sampler: Callable[[int], optuna.samplers.BaseSampler]) -> float:
        late = []
        for seed in range(10):
            study = optuna.create_study(direction="maximize", sampler=sampler(seed))
            carry_on(study, 20)
            values = [trial.value for trial in study.trials if trial.value is not None]
            late.append(median(values[10:]))  # the first ten are drawn at random
        return sum(late) / len(late)

    ours, random = typical(TrialSeededSampler), typical(lambda s: RandomSampler(seed=s))
    tpe = typical(lambda s: TPESampler(seed=s))
    assert ours > random + 0.05 and ours > tpe - 0.1


def test_a_torn_last_line_of_the_journal_is_dropped(tmp_path: Path) -> None:
    journal = tmp_path / "torn.journal"
    carry_on(open_study(open_journal(journal), "pass/A", seed=1), 3)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "work')
    (tmp_path / "torn.journal.lock").write_text("")  # left by a killed process
    assert len(finished_trials(open_study(open_journal(journal), "pass/A", seed=1))) == 3
    assert journal.read_bytes().startswith(whole)


def test_failed_trials_keep_their_numbers_when_resumed(tmp_path: Path) -> None:
    journal = tmp_path / "failed.journal"
    study = open_study(open_journal(journal), "pass/A", seed=1)
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    carry_on(study, 2)
    study.ask()
    resumed = open_study(open_journal(journal), "pass/A", seed=1)
    assert [t.state.name for t in resumed.trials] == ["FAIL", "COMPLETE"]


def test_studies_live_in_a_database_as_well(tmp_path: Path, whole: Study) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    study = open_study(open_database(url), "pass/A", seed=1)
    carry_on(study, 6)
    study.ask()
    resumed = open_study(open_database(url), "pass/A", seed=1)
    carry_on(resumed, 20)
    assert history(resumed) == history(whole)


def test_a_database_that_does_not_answer_is_one_line_without_the_password(tmp_path: Path) -> None:
    for url in ("nosuch://me:secret@host/x", f"sqlite:///{tmp_path}/none/x.db", "no url"):
        with pytest.raises(StudyStorageError) as caught:
            open_database(url)
        assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_of_tied_trials_the_one_with_the_fewest_terms_is_chosen() -> None:
    study = optuna.create_study(direction="maximize")
    scored = [(3, 0.8100), (4, 0.8095), (4, 0.8097), (5, 0.8089), (7, 0.8050)]
    for min_df, value in scored:
        study.add_trial(
            optuna.trial.create_trial(
                params={"min_df": min_df},
                distributions={"min_df": optuna.distributions.IntDistribution(3, 7)},
                value=value,
            )
        )
    assert chosen_trial(study).number == 2  # 5 and 7 lie more than .001 below the best


def test_importances_of_a_study_that_says_nothing_are_empty() -> None:
    study = optuna.create_study(direction="maximize")
    assert optuna_search.parameter_importances(study) == {}
