"""Version lifecycle: what a change does to ledger, aliases and stages; crashes and races."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from support.prediction_logs import POSTGRES_URL, database_url
from support.versions import (
    add_version,
    aliases,
    force,
    snapshot,
    stages,
    twin,
    versions_store,
)

from sentiment.data.labels import GUIDES, LabelRule
from sentiment.data.reviews import load_reviews, split_reviews
from sentiment.errors import ConflictError, RegistryError
from sentiment.metrics import Interval
from sentiment.registry.gate import Verdict
from sentiment.registry.lifecycle import (
    judge_version,
    known_version,
    production_rule,
    production_version,
    promote,
    reconcile,
    register_version,
    registered_versions,
    registry_state,
    retire_versions,
    rollback,
    rule_in_production,
    stage,
    stage_challenger,
    vacancy,
)
from sentiment.tracking.artifact import load_pipeline, log_pipeline
from sentiment.tracking.ledger import REGISTRY_KIND, read_events
from sentiment.tracking.store import (
    Store,
    begin_run,
    find_runs,
    log_values,
    open_store,
)

pytestmark = pytest.mark.xdist_group("versions")  # the store is made once


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Store:
    return versions_store(tmp_path_factory, tmp_path)


def statuses(store: Store) -> list[str]:
    runs = find_runs(store, store.settings.ledger, REGISTRY_KIND)
    return [str(run.info.status) for run in runs]


def test_a_run_makes_one_version(store: Store) -> None:
    one = known_version(store, "1")
    assert register_version(store, str(one.run_id), str(one.source), {}) == "1"
    assert list(registered_versions(store)) == ["1", "2", "3"]
    with pytest.raises(RegistryError, match="newest: 1, 2, 3"):
        known_version(store, "9")


@pytest.mark.slow
@pytest.mark.xdist_group("postgres")
@pytest.mark.skipif(not POSTGRES_URL, reason="POSTGRES_URL names no PostgreSQL")
def test_a_life_in_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own archiving compares a number with a string, which PostgreSQL refuses."""
    work, model = tmp_path / "work", tmp_path / "model"
    for folder in (work, model):
        folder.mkdir()
    (model / "MLmodel").write_text("no digest is taken of nothing")
    monkeypatch.chdir(work)
    with database_url("postgresql", tmp_path) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        store = open_store()
        for _ in range(3):
            run_id = begin_run(store, "LogisticRegression", {})
            register_version(store, run_id, model.as_uri(), {})
        stage(store, "3", "why")
        force(store, "1", "2", "3")
        assert stages(store) == {"1": "Archived", "2": "Archived", "3": "Production"}
        rollback(store)
        assert stages(store) == {"1": "Archived", "2": "Production", "3": "Archived"}
        assert aliases(store) == {"champion": "2", "previous": "1"}
    assert not list(work.iterdir())


def test_the_names_of_the_settings_are_used(store: Store) -> None:
    """Another project in the same store has another registered model and ledger."""
    other = open_store(store.folder, "other")
    expected = "no version '1' of other-SentimentModel; expected a number, the newest: none"
    with pytest.raises(RegistryError, match=expected):
        stage(other, "1", "why")
    assert registered_versions(other) == {} and production_version(other) is None
    force(store, "1")
    assert production_version(other) is None and production_version(store) == "1"


def test_a_version_is_challenger_once(store: Store) -> None:
    assert stage_challenger(store, "3", "better") is True
    assert aliases(store) == {"challenger": "3", "staging": "3"}
    assert stages(store) == {"1": "None", "2": "Archived", "3": "Staging"}
    before = snapshot(store)
    assert stage_challenger(store, "2", "a resumed pass says it again") is False
    assert snapshot(store) == before
    force(store, "1")
    with pytest.raises(RegistryError, match="version 1 is in production; it cannot go"):
        stage(store, "1", "why")
    assert stage_challenger(store, "1", "it was promoted before") is False


def test_aliases_and_stages_through_a_life(store: Store) -> None:
    force(store, "1", "2", "3")  # version 2 leaves staging
    assert aliases(store) == {"champion": "3", "previous": "2"}
    assert stages(store) == {"1": "Archived", "2": "Archived", "3": "Production"}
    event = rollback(store, "it\nfails")
    assert (event.origin, event.target, event.why) == ("3", "2", "it fails")
    assert aliases(store) == {"champion": "2", "previous": "1"}
    assert rollback(store).why == "rolled back"
    assert aliases(store) == {"champion": "1"}
    assert stages(store) == {"1": "Production", "2": "Archived", "3": "Archived"}
    before = snapshot(store)
    with pytest.raises(RegistryError, match="nothing to go back to"):
        rollback(store)
    assert snapshot(store) == before
    force(store, "3")
    assert aliases(store) == {"champion": "3", "previous": "1"}


def test_a_rollback_passes_over_a_version_that_was_deleted(store: Store) -> None:
    force(store, "1", "2", "3")
    store.client.delete_model_version(store.settings.registered_model, "2")
    assert reconcile(store) == ["previous is version 1"]
    assert rollback(store).target == "1"
    with pytest.raises(RegistryError):
        rollback(store)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_was_changed_by_hand_follows_the_ledger_again(store: Store) -> None:
    model = store.settings.registered_model
    force(store, "1")
    right = snapshot(store)
    for alias, version in (("champion", "2"), ("previous", "3"), ("mine", "3")):
        store.client.set_registered_model_alias(model, alias, version)
    store.client.transition_model_version_stage(model, "3", "Production")
    done = reconcile(store)
    assert sorted(done) == [
        "champion is version 1",
        "previous is no version",
        "version 3 is Archived",
    ]
    store.client.delete_registered_model_alias(model, "mine")
    now = snapshot(store)
    assert (now[0], now[2]) == (right[0], right[2]) and now[1] == {**right[1], "3": "Archived"}
    assert reconcile(store) == []


def test_the_rule_in_production_is_that_of_its_version(store: Store, tmp_path: Path) -> None:
    assert production_rule(store) == GUIDES  # nothing is in production
    tag = store.settings.registered_model, "1", "label_rule", "1–3 negative, 4–5 positive"
    store.client.set_model_version_tag(*tag)
    force(store, "1")
    assert production_rule(store) == rule_in_production(store.folder) == LabelRule(3)
    force(store, "2")
    assert production_rule(store) == GUIDES
    nowhere = tmp_path / "nowhere"
    assert rule_in_production(nowhere) == GUIDES and not nowhere.exists()


def test_an_empty_ledger_changes_nothing(store: Store) -> None:
    """Aliases that somebody set by hand are left alone."""
    for event in read_events(store):
        store.client.delete_run(event.run_id)
    store.client.set_registered_model_alias(store.settings.registered_model, "champion", "2")
    before = snapshot(store)
    assert reconcile(store) == [] and snapshot(store) == before


def test_a_refusal_is_overruled_only_with_a_reason(store: Store) -> None:
    refused = Verdict(False, "worse", "2", None)
    before = snapshot(store)
    with pytest.raises(RegistryError, match="refused: worse"):
        promote(store, refused)
    for why in ("", " "):
        with pytest.raises(RegistryError, match="needs a reason"):
            promote(store, refused, why=why, force=True)
    assert snapshot(store) == before
    assert promote(store, refused, why="we\nknow", force=True).forced
    event = promote(store, Verdict(True, "better", "3", "2", rows=7), force=True, why="sure")
    assert not event.forced and event.metrics == {"rows": 7, "rows_left_out": 0}
    assert promote(store, Verdict(True, "better", "1", "3")).why == "promoted: better"
    assert [event.why for event in read_events(store)][1:3] == ["we know", "sure"]


def test_a_verdict_against_a_version_that_left_production_is_void(store: Store) -> None:
    force(store, "1")
    verdict = judge_version(
        store, "2", split_reviews(load_reviews(store.folder / "reviews.csv").frame)
    )
    assert verdict.production == "1" and verdict.metrics()["candidate_seconds"] > 0
    force(store, "3")
    before = snapshot(store)
    with pytest.raises(ConflictError, match="version 3 is in production now, no longer 1"):
        promote(store, verdict, why="late", force=True)
    assert snapshot(store) == before and statuses(store)[-1] == "KILLED"
    split: Any = None
    with pytest.raises(RegistryError, match="is in production already"):
        judge_version(store, "3", split)
    with pytest.raises(RegistryError, match="no version '9'"):
        judge_version(store, "9", split)


def test_a_version_in_production_that_was_deleted_leaves_the_place_vacant(store: Store) -> None:
    split = split_reviews(load_reviews(store.folder / "reviews.csv").frame)
    model = store.settings.registered_model
    assert vacancy(store) == ""
    last = twin(store, "3")
    force(store, "3", "1")
    assert production_version(store) == "1" and vacancy(store) == ""
    store.client.delete_model_version(model, "1")
    assert production_version(store) is None
    assert vacancy(store).startswith("none: version 1 was in production and has been deleted; ")
    assert "puts back version 3" in vacancy(store)
    reconcile(store)
    assert aliases(store) == {"previous": "3", "challenger": "2", "staging": "2"}

    verdict = judge_version(store, "2", split)  # as the first; but 3, the same model, was the best
    assert verdict.promoted and verdict.production is None and verdict.best == "3"
    assert verdict.best_difference == Interval(0.0, 0.0, 0.0)
    assert verdict.sentence().endswith("(version 1 was there and has been deleted)")
    event = promote(store, verdict)
    assert (event.origin, event.target) == (None, "2") and production_version(store) == "2"
    assert aliases(store) == {"champion": "2", "previous": "3"}
    with pytest.raises(ConflictError, match="version 2 is in production now, no longer none"):
        promote(store, verdict)

    store.client.delete_model_version(model, "2")
    assert judge_version(store, "3", split).production is None
    event = rollback(store)
    assert (event.origin, event.target) == (None, "3") and vacancy(store) == ""
    assert aliases(store) == {"champion": "3"} and stages(store)["3"] == "Production"
    store.client.delete_model_version(model, "3")
    assert "promote another" in vacancy(store)
    with pytest.raises(RegistryError, match="nothing to go back to"):
        rollback(store)
    # the best one is gone as well: the floor begins anew
    promote(store, judge_version(store, last, split))
    assert registry_state(store).best == production_version(store) == last


def test_the_best_version_of_the_ledger_is_the_floor(store: Store) -> None:
    """Version 1 is worse than 2 and 3, which are the same model."""
    split = split_reviews(load_reviews(store.folder / "reviews.csv").frame)
    force(store, "3", "1")
    verdict = judge_version(store, "2", split)
    assert (verdict.production, verdict.best) == ("1", "3")
    assert verdict.best_difference == Interval(0.0, 0.0, 0.0)
    promote(store, verdict, force=True, why="the test says so")
    assert registry_state(store).best == "3"
    again = judge_version(store, "1", split)
    assert again.best == "3" and again.best_difference == again.difference


def test_retired_versions_free_their_files_and_no_others(store: Store, tmp_path: Path) -> None:
    force(store, "1", "2", "3")  # so these stay
    client, model = store.client, store.settings.registered_model
    client.create_experiment("Elsewhere", artifact_location=(tmp_path / "elsewhere").as_uri())
    pipeline = load_pipeline(store, f"models:/{model}/1")

    def made(experiment: str) -> str:
        run_id = begin_run(store, experiment, {})
        log_values(store, run_id, metrics={"test_f1": 0.7})
        client.log_text(run_id, "a table", "tables/audit.csv")
        uri, _ = log_pipeline(store, run_id, pipeline, ["good"])
        return add_version(store, run_id, uri, {})

    def files(experiment: str, version: ModelVersion) -> int:
        """Of the run, and of the model."""
        folders = (str(version.run_id), f"models/{str(version.source).removeprefix('models:/')}")
        root = tmp_path / experiment
        return sum(path.is_file() for name in folders for path in (root / name).rglob("*"))

    own, shared, outside = made("Own"), made("Own"), made("Elsewhere")
    kept = twin(store, shared)
    versions = {number: known_version(store, number) for number in (own, shared, outside)}
    assert files("mlruns/Own", versions[own]) > 3
    before = [files("mlruns/Own", versions[shared]), files("elsewhere", versions[outside])]
    assert min(before) > 3

    retired = retire_versions(store, keep=1)
    assert retired[:2] == [own, shared] and retired[2].startswith(f"{outside} (its files stay: ")
    assert list(registered_versions(store)) == ["1", "2", "3", kept]
    assert files("mlruns/Own", versions[own]) == 0
    after = [files("mlruns/Own", versions[shared]), files("elsewhere", versions[outside])]
    assert after == before
    run = client.get_run(str(versions[own].run_id))
    assert run.data.metrics == {"test_f1": 0.7} and client.list_artifacts(run.info.run_id) == []
    assert load_pipeline(store, f"models:/{model}/{kept}").predict(["good"]).tolist() in ([0], [1])
    assert retire_versions(store, keep=1) == []


# --- crashes and races ---


def in_a_fork(work: Any) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=lambda: os._exit(work()))
    process.start()
    return process


@pytest.mark.parametrize(
    ("name", "after", "happened"),
    [
        ("create_run", True, False),  # a claim, and nobody behind it
        ("log_batch", True, False),
        ("set_terminated", False, False),
        ("set_terminated", True, True),
        ("set_registered_model_alias", True, True),
        ("transition_model_version_stage", False, True),  # aliases, no stages
    ],
)
def test_a_crash_leaves_a_change_whole_or_not_made(
    name: str, after: bool, happened: bool, store: Store
) -> None:
    """A process that kills itself before or after it calls a function; `reconcile` mends."""
    force(store, "1", "2")

    def work() -> int:
        original = getattr(MlflowClient, name)

        def deadly(*positional: Any, **named: Any) -> None:
            if after:
                original(*positional, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(MlflowClient, name, deadly)
        rollback(open_store(store.folder))
        return 0

    process = in_a_fork(work)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    expected = "1" if happened else "2"
    reconcile(store)
    assert production_version(store) == aliases(store)["champion"] == expected
    assert ("previous" in aliases(store)) is not happened
    assert [v for v, stage in stages(store).items() if stage == "Production"] == [expected]
    assert reconcile(store) == [] and set(statuses(store)) <= {"FINISHED", "KILLED"}
    force(store, "3")
    assert aliases(store) == {"champion": "3", "previous": expected}


def test_of_two_promotions_at_once_one_is_made(store: Store, tmp_path: Path) -> None:
    """Two processes that both passed the gate against version 1 write at the same time."""
    force(store, "1")
    go = tmp_path / "go"

    def racer(version: str) -> int:
        mine = open_store(store.folder)
        (tmp_path / f"ready{version}").touch()
        while not go.exists():
            time.sleep(0.001)
        try:
            promote(mine, Verdict(True, "better", version, "1"))
        except ConflictError as error:
            return 1 if "came first" in str(error) else 2
        return 0

    racers = [in_a_fork(lambda version=version: racer(version)) for version in ("2", "3")]
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("ready*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    go.touch()
    for process in racers:
        process.join(60)
    codes = [process.exitcode for process in racers]
    assert sorted(codes, key=str) == [0, 1]
    won = ("2", "3")[codes.index(0)]
    assert production_version(store) == won
    assert aliases(store) == {"champion": won, "previous": "1"} | (
        {} if won == "2" else {"challenger": "2", "staging": "2"}
    )
    assert [v for v, stage in stages(store).items() if stage == "Production"] == [won]
