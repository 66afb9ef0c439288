"""Retention: which runs of the ledger go, and what of them stays on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import LoggedModel
from prefect.settings import PREFECT_API_URL, temporary_settings
from support import LEDGER, REGISTERED_MODEL

from sentiment.flows.retention import forget_old_runs
from sentiment.tracking.ledger import PROMOTE, append, read_events
from sentiment.tracking.store import (
    KILLED,
    Store,
    begin_run,
    end_run,
    experiment_id,
    find_runs,
    open_store,
)


@pytest.fixture(autouse=True)
def no_server() -> Iterator[None]:
    """Without an address Prefect's client would start a server of its own."""
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield


def ended(store: Store, kind: str, status: str = "FINISHED") -> str:
    run_id = begin_run(store, LEDGER, {"flipkart.kind": kind})
    store.client.log_text(run_id, "a page", "page.html")
    end_run(store, run_id, status)
    return run_id


def with_model(store: Store, run_id: str) -> tuple[LoggedModel, Path]:
    """Log a model of the run, and return it with its file."""
    made = store.client.create_logged_model(experiment_id(store, LEDGER), source_run_id=run_id)
    (store.folder / "model.skops").write_text("terms")
    store.client.log_model_artifact(made.model_id, str(store.folder / "model.skops"))
    return made, Path(made.artifact_location.removeprefix("file://")) / "model.skops"


def test_old_retrainings_and_checks_go_and_what_a_version_or_the_ledger_needs_stays(
    store_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(store_folder)
    of_version = ended(store, "retraining")
    kept_model, kept_file = with_model(store, of_version)
    store.client.create_registered_model(REGISTERED_MODEL)
    source = f"models:/{kept_model.model_id}"
    store.client.create_model_version(REGISTERED_MODEL, source, of_version)
    others = [ended(store, "retraining"), ended(store, "retraining", KILLED)]
    others += [ended(store, "drift") for _ in range(4)]
    old_model, old_file = with_model(store, others[0])
    page = Path(store.client.get_run(others[0]).info.artifact_uri) / "page.html"
    assert page.exists() and old_file.exists()
    newer = [ended(store, "retraining") for _ in range(2)]
    running = begin_run(store, LEDGER, {"flipkart.kind": "retraining"})
    passes = [ended(store, "experiment") for _ in range(4)]
    for version in ("1", "2", "3"):
        append(store, PROMOTE, version, lambda state: state.production, why="")

    # a Prefect server that is away is said, and tried again an hour later
    forget_old_runs(store, ["any"], "store:any", 2)
    assert "not deleted for now" in capsys.readouterr().err
    forget_old_runs(store, [], "store:any", 2)
    left = {run.info.run_id for run in find_runs(store, LEDGER, {})}
    events = {event.run_id for event in read_events(store)}
    assert left == {of_version, *newer, running, *others[-2:], *passes, *events}
    assert len(events) == 3
    assert not page.exists() and not old_file.exists() and kept_file.exists()
    models = store.client.search_logged_models([experiment_id(store, LEDGER)])
    assert [model.model_id for model in models] == [kept_model.model_id] != [old_model.model_id]


def test_nothing_outside_the_store_is_deleted(store_folder: Path, tmp_path: Path) -> None:
    """Somebody may keep the ledger's artifacts elsewhere; they are not ours to delete."""
    store = open_store(store_folder)
    elsewhere = tmp_path / "elsewhere"
    store.client.create_experiment(LEDGER, artifact_location=str(elsewhere))
    old, new = ended(store, "drift"), ended(store, "drift")
    forget_old_runs(store, [], "store:any", 1)
    assert [run.info.run_id for run in find_runs(store, LEDGER, {})] == [new]
    assert (elsewhere / old / "artifacts" / "page.html").exists()


def test_what_was_interrupted_is_done_by_the_next_call(
    store_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(store_folder)
    old, new = ended(store, "drift"), ended(store, "drift")
    page = Path(store.client.get_run(old).info.artifact_uri) / "page.html"

    def full(*_: object) -> None:
        raise OSError("the disk is away")

    monkeypatch.setattr("sentiment.flows.retention.free_places", full)
    forget_old_runs(store, [], "store:any", 1)
    assert "the disk is away" in capsys.readouterr().err and page.exists()
    monkeypatch.undo()
    forget_old_runs(store, [], "store:any", 1)
    assert [run.info.run_id for run in find_runs(store, LEDGER, {})] == [new]
    assert not page.exists()
