"""Tracking: the store's place, runs written and found, and what is said when it does not answer."""

from __future__ import annotations

import os
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from sentiment.errors import TrackingError
from sentiment.tracking import store as tracking
from sentiment.tracking.store import (
    Settings,
    Store,
    begin_run,
    end_run,
    find_runs,
    log_values,
    open_store,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    (folder / "mlflow.db.making").write_bytes(b"half a database")
    return open_store(folder)


def test_store_has_mlflows_default_layout_and_write_ahead_logging(store: Store) -> None:
    """Although a process that was killed had left half a database."""
    assert (store.folder / "mlflow.db").is_file() and (store.folder / "mlruns").is_dir()
    assert not list(store.folder.glob("mlflow.db.making*"))
    with sqlite3.connect(store.folder / "mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store.uri == f"sqlite:///{store.folder / 'mlflow.db'}"


def test_artifacts_lie_beside_the_database_whatever_the_working_directory(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_id = begin_run(store, "Elsewhere", {})
    store.client.log_text(run_id, "text", "note.txt")
    written = store.folder / "mlruns" / "Elsewhere" / run_id / "artifacts" / "note.txt"
    assert written.read_text() == "text"
    assert not list(tmp_path.iterdir())
    default = store.client.get_experiment_by_name("Default")
    assert default is not None
    assert default.artifact_location.startswith(str(store.folder / "mlruns"))


def test_runs_are_written_and_found_again(store: Store) -> None:
    parent = begin_run(store, "Written", {"kind": "parent"}, started=1_700_000_000.5)
    child = begin_run(store, "Written", {"kind": "child"}, name="0", parent=parent)
    for _ in range(2):  # writing the same twice, as a resumed pass does, changes nothing
        log_values(store, child, params={"C": 0.5}, metrics={"f1": 0.25}, tags={"a": "b"})
    end_run(store, child, "FAILED")
    found = find_runs(store, "Written", {"kind": "child"})
    assert [run.info.run_id for run in found] == [child]
    assert found[0].data.params == {"C": "0.5"} and found[0].data.metrics == {"f1": 0.25}
    assert found[0].data.tags["mlflow.parentRunId"] == parent
    assert (found[0].info.status, found[0].info.run_name) == ("FAILED", "0")
    first = find_runs(store, "Written", {"kind": "parent"})[0]
    assert (first.info.status, first.info.start_time) == ("RUNNING", 1_700_000_000_500)
    assert find_runs(store, "Never", {"kind": "child"}) == []


def test_more_runs_than_a_page_are_all_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "PAGE", 2)
    made = [begin_run(store, "Paged", {"kind": "x"}) for _ in range(5)]
    assert [run.info.run_id for run in find_runs(store, "Paged", {"kind": "x"})] == made


def test_a_deleted_experiment_is_restored(store: Store) -> None:
    first = tracking.experiment_id(store, "Deleted")
    store.client.delete_experiment(first)
    store = open_store(store.folder)  # as the next process does
    assert tracking.experiment_id(store, "Deleted") == first
    begin_run(store, "Deleted", {})


def test_a_folder_wins_over_the_users_tracking_uri_and_that_over_the_projects_own(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path / 'own.db'}"
    shutil.copy(store.folder / "mlflow.db", tmp_path / "own.db")  # spares MLflow the making
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(tracking, "PROJECT", tmp_path / "project")
    named = open_store()
    assert named.uri == uri and named.artifacts is None
    assert not (tmp_path / "project" / "mlflow.db").exists()
    assert open_store(store.folder).uri == store.uri


def test_two_stores_in_one_process_stay_apart(store: Store, tmp_path: Path) -> None:
    shutil.copy(store.folder / "mlflow.db", tmp_path)
    second = open_store(tmp_path)
    assert second.uri == f"sqlite:///{tmp_path / 'mlflow.db'}" != store.uri
    begin_run(store, "Apart", {"k": "v"})
    assert len(find_runs(store, "Apart", {"k": "v"})) == 1
    assert find_runs(second, "Apart", {"k": "v"}) == []


def test_a_prefix_keeps_the_experiments_of_projects_apart(store: Store) -> None:
    ours = replace(store, settings=Settings(experiment_prefix="ours/"), experiment_ids={})
    run_id = begin_run(ours, "Shared", {"k": "v"})
    assert [run.info.run_id for run in find_runs(ours, "Shared", {"k": "v"})] == [run_id]
    assert find_runs(store, "Shared", {"k": "v"}) == []
    assert store.client.get_experiment_by_name("ours/Shared") is not None


def test_a_server_that_is_away_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the discard port: closed
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(tracking, "PROJECT", tmp_path)
    with pytest.raises(TrackingError, match="does not answer") as caught:
        open_store()
    assert "\n" not in str(caught.value) and "http://127.0.0.1:9" in str(caught.value)


def test_a_file_where_the_store_should_be_and_a_broken_database(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(TrackingError, match="cannot keep the store there"):
        open_store(tmp_path / "file")
    (tmp_path / "mlflow.db").write_text("this is no database, but it is long enough to be read")
    with pytest.raises(TrackingError, match="does not answer"):
        open_store(tmp_path)


def test_git_commit_is_unknown_outside_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PROJECT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert tracking.git_commit() == "unknown"


def test_telemetry_is_off_unless_the_user_set_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DO_NOT_TRACK", "false")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    open_store(store.folder)
    assert os.environ["DO_NOT_TRACK"] == "false"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
