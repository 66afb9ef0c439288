"""Tracking: the store's place, also when it moves; runs written and found; what goes wrong."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import sqlite3
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Dataset, DatasetInput
from mlflow.exceptions import MlflowException

from sentiment.errors import TrackingError
from sentiment.predictions.log import default_log_url
from sentiment.tracking import store as tracking
from sentiment.tracking.store import (
    Settings,
    Store,
    begin_run,
    end_run,
    find_runs,
    git_commit,
    log_inputs,
    log_values,
    open_existing_store,
    open_store,
    run_url,
    scores_of,
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


def test_a_deleted_experiment_is_restored_to_write_and_not_to_look(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    first = tracking.experiment_id(store, "Deleted")
    run_id = begin_run(store, "Deleted", {"k": "v"})
    store.client.delete_experiment(first)
    store = open_store(store.folder)  # as the next process does
    assert find_runs(store, "Deleted", {"k": "v"}) == []
    assert store.client.get_experiment(first).lifecycle_stage == "deleted"
    later = begin_run(store, "Deleted", {"k": "v"})
    assert "Deleted was deleted" in caplog.text
    assert [run.info.run_id for run in find_runs(store, "Deleted", {"k": "v"})] == [run_id, later]


def test_runs_of_the_same_data_are_logged_at_once(store: Store) -> None:
    """MLflow looks whether the data are known and then inserts them, so that two collide."""
    for turn in range(4):
        runs, gate = [begin_run(store, "Same data", {}) for _ in range(8)], threading.Barrier(8)
        used = [DatasetInput(Dataset("reviews.csv", f"digest {turn}", "local", "{}"))]

        def log(run_id: str, gate: Any = gate, used: Any = used) -> None:
            gate.wait()
            log_inputs(store, run_id, used)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(log, runs))
        for run_id in runs:
            inputs = store.client.get_run(run_id).inputs
            assert inputs is not None
            assert [one.dataset.digest for one in inputs.dataset_inputs] == [f"digest {turn}"]


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
    second = open_store(shutil.copytree(store.folder, tmp_path / "second"))
    assert second.uri == f"sqlite:///{tmp_path / 'second' / 'mlflow.db'}" != store.uri
    begin_run(store, "Apart", {"k": "v"})
    assert len(find_runs(store, "Apart", {"k": "v"})) == 1
    assert find_runs(second, "Apart", {"k": "v"}) == []


def test_the_experiments_of_projects_stay_apart(store: Store) -> None:
    ours = replace(store, settings=Settings("ours"))
    run_id = begin_run(ours, "Shared", {"k": "v"})
    assert [run.info.run_id for run in find_runs(ours, "Shared", {"k": "v"})] == [run_id]
    assert find_runs(store, "Shared", {"k": "v"}) == []
    assert store.client.get_experiment_by_name("ours-Shared") is not None


def test_the_names_of_a_project_and_without_one() -> None:
    store = Path("/data")
    plain = Settings()
    assert plain.registered_model == "FlipkartSentimentModel"
    assert plain.experiment("NaiveBayes") == "NaiveBayes"
    assert plain.experiment(plain.ledger) == "FLIPKART_SENTIMENT_ANALYSIS"
    assert plain.deployments == (
        "flipkart-sentiment-logistic-deployment",
        "flipkart-sentiment-drift-deployment",
    )
    assert (plain.artifact("drift-report"), plain.home(store)) == ("drift-report", store)
    assert Settings("").registered_model == plain.registered_model
    shoes = Settings("shoes")
    assert shoes.registered_model == "shoes-SentimentModel"
    assert shoes.experiment("NaiveBayes") == "shoes-NaiveBayes"
    assert shoes.experiment(shoes.ledger) == "shoes-SENTIMENT_ANALYSIS"
    assert shoes.deployments == ("shoes-retraining", "shoes-drift-check")
    assert shoes.home(store) == Path("/data/projects/shoes")
    assert (plain.option, shoes.option) == ("", " --project shoes")
    assert Settings("Shoes_2").artifact("drift-report") == "shoes-2-drift-report"


@pytest.mark.parametrize(
    "name", ["a b", "a/b", "a:b", "../b", "-a", "_a", ".", "a.b", "ä", "٣", "a\n", "a" * 41]
)
def test_what_cannot_be_the_name_of_a_project(name: str) -> None:
    assert Settings("a" * 40).project  # and this can
    with pytest.raises(TrackingError, match="SENTIMENT_PROJECT") as caught:
        Settings(name)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_away_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the discard port: closed
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(tracking, "PROJECT", tmp_path)
    with pytest.raises(TrackingError, match="does not answer") as caught:
        open_store()
    assert "\n" not in str(caught.value) and "http://127.0.0.1:9" in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg"])
def test_a_server_that_says_nothing_is_away_after_seconds(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the connection, and nothing else: 5 s, shortened here; PostgreSQL's least are 2."""
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    monkeypatch.setitem(tracking.IMPATIENT, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    for name, value in tracking.PATIENT.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        began = time.monotonic()
        with pytest.raises(TrackingError, match="does not answer"):
            open_store()
        assert time.monotonic() - began < 8
    assert {name: os.environ[name] for name in tracking.PATIENT} == tracking.PATIENT


def test_the_password_of_the_server_is_where_mlflow_does_not_repeat_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ada:g%2Fh77@host:5000/path")
    tracking.keep_private()
    told = {name: os.environ[f"MLFLOW_TRACKING_{name}"] for name in ("URI", "USERNAME", "PASSWORD")}
    assert told == {"URI": "https://host:5000/path", "USERNAME": "ada", "PASSWORD": "g/h77"}


def test_a_file_where_the_store_should_be_and_a_broken_database(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(TrackingError, match="cannot keep the store there"):
        open_store(tmp_path / "file")
    (tmp_path / "mlflow.db").write_text("this is no database, but it is long enough to be read")
    with pytest.raises(TrackingError, match="does not answer"):
        open_store(tmp_path)


# --- a store that moves ---------------------------------------------------------------------

NOTE, MODEL = "note.txt", "FlipkartSentimentModel"
PLAIN, ODD = "plain", "of a#b 100%41 é{x}"  # MLflow itself would read %41 as A


def places(folder: Path) -> set[str]:
    """All that MLflow's tables say about where artifacts are."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        return {
            row[0]
            for table, column in (
                ("experiments", "artifact_location"),
                ("runs", "artifact_uri"),
                ("logged_models", "artifact_location"),
                ("model_versions", "source"),
                ("model_versions", "storage_location"),
            )
            for row in connection.execute(f"SELECT {column} FROM {table}")
        }


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file of a store but SQLite's index of its log, which readers share."""
    files = (file for file in sorted(folder.rglob("*")) if not file.name.endswith("-shm"))
    return {file.relative_to(folder): file.read_bytes() for file in files if file.is_file()}


def note_of(store: Store, run_id: str, folder: Path) -> str:
    return Path(store.client.download_artifacts(run_id, NOTE, str(folder))).read_text()


@pytest.fixture(params=[PLAIN, ODD])
def lived_in(
    request: pytest.FixtureRequest, empty_store: Path, tmp_path: Path
) -> tuple[Store, str, set[str]]:
    """A store with a run, model and versions, the run's id, and the places the user has chosen."""
    store = open_store(shutil.copytree(empty_store, tmp_path / request.param))
    run_id = begin_run(store, "Tried", {})
    store.client.log_text(run_id, "text", NOTE)
    experiment = tracking.experiment_id(store, "Tried")
    model = store.client.create_logged_model(experiment, source_run_id=run_id)
    chosen = {"s3://bucket/Chosen", str(tmp_path / "chosen" / "mlruns" / "Other")}
    for place in chosen:
        store.client.create_experiment(Path(place).name, place)
    store.client.create_registered_model(MODEL)
    file_uri = (store.folder / "mlruns" / "Tried" / "by hand").as_uri()
    for source in (f"models:/{model.model_id}", file_uri):
        store.client.create_model_version(MODEL, source, run_id, model_id=model.model_id)
    return store, run_id, chosen | {f"models:/{model.model_id}"}


def test_a_store_that_is_renamed_and_copied_is_mended(
    lived_in: tuple[Store, str, set[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, run_id, chosen = lived_in
    renamed = made.folder.rename(tmp_path / "renamed %2F here")
    store = open_store(renamed)
    (said,) = caplog.messages
    assert str(made.folder) in said and str(renamed) in said and "places mended" in said
    copy = open_store(shutil.copytree(renamed, tmp_path / "copy"))
    before = contents(renamed)
    for opened in (copy, open_store(copy.folder)):  # as the next process does
        assert note_of(opened, run_id, tmp_path) == "text"
        begin_run(opened, "New", {})
        opened.client.log_text(begin_run(opened, "Tried", {}), "new", NOTE)
    assert len(caplog.messages) == 2 and contents(renamed) == before
    for folder in (renamed, copy.folder):
        root = str(folder / "mlruns").replace("%", "%25") + "/"
        assert {place for place in places(folder) if not place.startswith(root)} == chosen
    assert len([*copy.folder.rglob(NOTE)]) == 3 and not made.folder.exists()
    versions = store.client.search_model_versions(f"name = '{MODEL}'")
    by_hand = str(renamed / "mlruns" / "Tried" / "by hand").replace("%", "%25")
    assert by_hand in {str(version.source) for version in versions}


def test_of_several_that_open_a_moved_store_at_once_one_mends(
    lived_in: tuple[Store, str, set[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moved, gate = lived_in[0].folder.rename(tmp_path / "moved"), threading.Barrier(6)

    def opened(_: int) -> str:
        gate.wait()
        return note_of(open_store(moved), lived_in[1], tmp_path / str(_))

    for number in range(6):
        (tmp_path / str(number)).mkdir()
    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(opened, range(6))) == {"text"}
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("log_is_empty", [True, False])
def test_a_moved_store_that_may_not_be_written_is_read(
    log_is_empty: bool,
    lived_in: tuple[Store, str, set[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if log_is_empty:  # as after a process that ended well
        with closing(sqlite3.connect(lived_in[0].folder / "mlflow.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    moved = Path(shutil.copytree(lived_in[0].folder, tmp_path / "moved"))
    shutil.rmtree(lived_in[0].folder)
    if log_is_empty:
        for file in (*moved.glob("mlflow.db-*"), moved / "mlruns" / ".store.lock"):
            file.unlink()
    before = contents(moved)
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    with pytest.raises(TrackingError, match="may not be written"):
        open_store(moved)
    with pytest.raises(TrackingError, match="may not be written"):
        open_existing_store(moved, to_write=True)
    store = open_existing_store(moved)
    assert not store.writable and len(caplog.messages) == 1
    assert note_of(store, lived_in[1], tmp_path) == "text"
    assert len(store.client.search_model_versions(f"name = '{MODEL}'")) == 2
    with pytest.raises(MlflowException, match=r"cannot modify|readonly"):
        begin_run(store, "Tried", {})
    assert contents(moved) == before


def test_a_database_whose_artifacts_were_left_behind_is_refused(
    lived_in: tuple[Store, str, set[str]], tmp_path: Path
) -> None:
    """Else new runs would be written here, and be added to runs there."""
    (tmp_path / "alone").mkdir()
    for file in lived_in[0].folder.glob("mlflow.db*"):
        shutil.copy(file, tmp_path / "alone")
    before = places(tmp_path / "alone")
    with pytest.raises(TrackingError, match="its artifacts are still in"):
        open_store(tmp_path / "alone")
    assert places(tmp_path / "alone") == before


def test_opening_a_store_to_read_it_makes_nothing(store_folder: Path) -> None:
    shutil.rmtree(store_folder / "mlruns")
    assert find_runs(open_existing_store(store_folder), "Tried", {"k": "v"}) == []
    assert not [file for file in store_folder.iterdir() if not file.name.startswith("mlflow.db")]


def test_a_question_mark_in_a_path_is_refused(tmp_path: Path) -> None:
    for opens in (open_store, default_log_url):
        with pytest.raises(TrackingError, match=r"we\?ird.*'\?'"):
            opens(tmp_path / "we?ird")
    assert not list(tmp_path.iterdir())


def test_the_command_that_shows_a_store_can_be_given_to_a_shell(store: Store) -> None:
    odd = replace(store, uri="sqlite:////a b/c#'d'/mlflow.db")
    assert shlex.split(odd.ui_command() or "")[-1] == odd.uri


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


def test_a_store_on_a_server_wants_no_folder_here_but_for_studies(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container, whose files may not be written."""
    monkeypatch.setattr(tracking, "PROJECT", tmp_path / "project")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    server = replace(store, uri="http://mlflow:5000", folder=tmp_path / "project", artifacts=None)
    other = replace(server, settings=Settings("shoes"))
    assert server.locks == server.locks != other.locks
    assert server.locks.parent == tmp_path / "temporary"
    assert server.studies == server.locks  # since the project may not be written
    assert not (tmp_path / "project").exists()
    (tmp_path / "project").mkdir()
    assert server.studies == tmp_path / "project" / "studies"
    assert store.locks == store.studies


def test_links_have_the_public_address(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = begin_run(store, "Linked", {})
    at = f"#/experiments/{store.client.get_run(run_id).info.experiment_id}/runs/{run_id}"
    at += "?workflowType=machine_learning"  # or MLflow opens its page for language models
    assert run_url(store, run_id) == f"http://127.0.0.1:5000/{at}"
    server = replace(store, uri="https://me:secret@mlflow.internal/", artifacts=None)
    assert run_url(server, run_id) == f"https://…@mlflow.internal/{at}"
    assert server.ui_command() is None and "mlflow ui" in str(store.ui_command())
    monkeypatch.setenv("SENTIMENT_MLFLOW_UI", "https://mlflow.example.org/")
    for one in (store, server):
        assert run_url(one, run_id) == f"https://mlflow.example.org/{at}"
        assert one.ui_command() is None


def test_what_mlflow_shows_is_named_and_described(store: Store) -> None:
    labelled = store.client.get_run(begin_run(store, "Named", {}, label="LinearSVM"))
    assert re.fullmatch(r"[a-z]+-[a-z]+-\d+ LinearSVM", str(labelled.info.run_name))
    begin_run(store, store.settings.ledger, {})
    notes = {one.name: one.tags.get(tracking.NOTE, "") for one in store.client.search_experiments()}
    assert "Named" in notes["Named"] and "edger" in notes[store.settings.ledger]


def test_ends_of_intervals_are_read_from_tags_and_from_earlier_metrics(store: Store) -> None:
    run_id = begin_run(store, "Scores", {tracking.INTERVAL + "test_f1": "[0.7, 0.9]"})
    log_values(store, run_id, metrics={"test_f1": 0.8, "old": 0.5, "old_low": 0.4, "old_high": 0.6})
    assert scores_of(store.client.get_run(run_id)) == {
        **{"test_f1": 0.8, "test_f1_low": 0.7, "test_f1_high": 0.9},
        **{"old": 0.5, "old_low": 0.4, "old_high": 0.6},
    }


def test_the_commit_is_gits_or_the_images(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SENTIMENT_COMMIT", "0a1b")
    monkeypatch.setattr(tracking, "PROJECT", tmp_path)  # no repository, as in an image
    assert git_commit() == "0a1b"
    monkeypatch.setenv("SENTIMENT_COMMIT", "")
    assert git_commit() == "unknown"
