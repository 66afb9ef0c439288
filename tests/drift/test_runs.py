"""Runs: what a check leaves in MLflow and beside the store, also when something goes wrong."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import LEDGER
from support.drift_checks import BY_VERDICT, DRIFTED, STEADY, TOO_FEW, check_of
from support.drift_store import last_report

from sentiment.drift import runs as drift_runs
from sentiment.drift.latest import DRIFT, KIND, page_beside, read_latest
from sentiment.drift.page import render_page
from sentiment.drift.runs import (
    REPLAY,
    close_abandoned,
    log_check,
    metrics,
    verdict_changed,
    written_run,
)
from sentiment.tracking.store import Store, begin_run, end_run, find_runs, open_store

pytestmark = pytest.mark.xdist_group("drift_run")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("store")
    open_store(made)
    return made


@pytest.fixture
def store(folder: Path) -> Store:
    """One store for all tests of this file, without runs of earlier tests."""
    opened = open_store(folder)
    for run in find_runs(opened, LEDGER, {}):
        opened.client.delete_run(run.info.run_id)
    return opened


def artifacts(store: Store, run_id: str) -> list[str]:
    return [item.path for item in store.client.list_artifacts(run_id)]


def test_a_check_is_a_finished_run_with_metrics_by_name(store: Store) -> None:
    found = log_check(store, check_of(DRIFTED))
    run = store.client.get_run(found.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "drift of 3: drifted"
    tags = {key: run.data.tags[f"flipkart.{key}"] for key in ("kind", "verdict", "version")}
    assert tags == {"kind": "drift", "verdict": "drifted", "version": "3"}
    assert run.data.tags["flipkart.source"] == "prediction log"
    assert store.client.get_experiment(run.info.experiment_id).name == LEDGER
    expected = {
        "drift.verdict": 2,
        "drift.reviews": 400,
        "drift.window_reviews": 400,
        "drift.labelled": 120,
        "drift.unknown_words": 0.11,
        "drift.unknown_words_reference": 0.10,
        "drift.unknown_words_limit": 0.14,
        "drift.unknown_words_watch_limit": 0.13,
        "drift.positive_share": 0.74,
        "drift.measured_f1": 0.70,
        "drift.measured_f1_low": 0.61,
        "drift.measured_f1_high": 0.78,
        "drift.estimated_f1": 0.80,
        "drift.reference_f1": 0.82,
    }
    assert {name: run.data.metrics[name] for name in expected} == expected
    assert sorted(artifacts(store, found.run_id)) == ["drift_report.html", "drift_report.json"]


def test_with_a_tracking_server_the_last_check_is_the_one_of_the_newest_run(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing lies beside it: who asks is another machine than who checked."""
    monkeypatch.setattr("sentiment.tracking.store.PROJECT", tmp_path)
    remote = replace(store, folder=tmp_path, artifacts=None)
    assert read_latest(remote) is None
    for check in (check_of(DRIFTED), check_of(STEADY)):
        found = log_check(remote, check)
        assert read_latest(remote) == (render_page(found), found.to_json())
    with written_run(remote, REPLAY, "no check", {}):
        assert read_latest(remote) == (render_page(found), found.to_json())
    assert not list(tmp_path.iterdir())
    assert page_beside(remote) is None


def test_page_and_report_are_the_same_in_the_run_and_beside_the_store(
    store: Store, tmp_path: Path
) -> None:
    found = log_check(store, check_of(DRIFTED))
    latest = store.folder / "drift"
    assert sorted(file.name for file in latest.iterdir()) == ["latest.html", "latest.json"]
    for name, kept in (("html", "latest.html"), ("json", "latest.json")):
        path = store.client.download_artifacts(found.run_id, f"drift_report.{name}", str(tmp_path))
        assert Path(path).read_bytes() == (latest / kept).read_bytes()
    assert (latest / "latest.html").read_text(encoding="utf-8") == render_page(found)
    report = last_report(store)
    assert (report["run_id"], report["verdict"]) == (found.run_id, "drifted")
    log_check(store, check_of(STEADY))
    assert last_report(store)["verdict"] == "steady"


def test_what_is_not_known_has_no_metric() -> None:
    assert metrics(check_of(TOO_FEW)) == {
        "drift.reviews": 40,
        "drift.window_reviews": 40,
        "drift.labelled": 0,
    }
    of_many = metrics(check_of(STEADY, reviews=9_000))
    assert (of_many["drift.reviews"], of_many["drift.window_reviews"]) == (400, 9_000)


@pytest.mark.parametrize("error", [OSError("the disk is full"), KeyboardInterrupt()])
def test_a_run_that_cannot_be_written_is_failed_and_the_last_report_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    before = log_check(store, check_of(STEADY))

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(store.client, "log_text", fail)
    with pytest.raises(type(error)):
        log_check(store, check_of(DRIFTED))
    found = find_runs(store, LEDGER, {KIND: DRIFT})
    statuses = {run.info.run_name: run.info.status for run in found}
    assert statuses == {"drift of 3: steady": "FINISHED", "drift of 3: drifted": "FAILED"}
    assert last_report(store)["run_id"] == before.run_id


def test_what_a_killed_check_left_running_is_closed(store: Store) -> None:
    long_ago = time.time() - 3_600
    tags = {KIND: DRIFT}
    dead = begin_run(store, LEDGER, tags, started=long_ago)
    replayed = begin_run(store, LEDGER, {KIND: "drift-replay"}, started=long_ago)
    alive = begin_run(store, LEDGER, tags)
    other = begin_run(store, LEDGER, {KIND: "retraining"}, started=long_ago)
    close_abandoned(store)
    statuses = [store.client.get_run(run).info.status for run in (dead, replayed, alive, other)]
    assert statuses == ["KILLED", "KILLED", "RUNNING", "RUNNING"]


def test_a_change_of_verdict_is_told_once(store: Store) -> None:
    """What a reader of the alerts expects; the answer is the same before and after it is logged."""
    expected = [
        ("steady", False),  # the first, and all is well
        ("drifted", True),
        ("drifted", False),
        ("not enough yet", False),
        ("drifted", False),  # nothing was known in between
        ("steady", True),
    ]
    for verdict, changed in expected:
        this = check_of(BY_VERDICT[verdict])
        before = verdict_changed(store, this)
        logged = log_check(store, this)
        assert (before, verdict_changed(store, logged)) == (changed, changed), verdict


def test_verdicts_are_compared_within_version_and_source(store: Store) -> None:
    first = log_check(store, check_of(DRIFTED))
    assert verdict_changed(store, first)  # the first check is compared with steady
    assert not verdict_changed(store, check_of(DRIFTED))
    assert verdict_changed(store, check_of(DRIFTED, version="4"))
    quoted = check_of(DRIFTED, source="""it's "mine" 100%.csv""")
    assert verdict_changed(store, quoted)
    log_check(store, quoted)
    assert not verdict_changed(store, quoted)
    assert not verdict_changed(store, check_of(STEADY, version="4"))


def test_a_run_that_failed_is_no_verdict(store: Store) -> None:
    log_check(store, check_of(STEADY))
    tags = {drift_runs.VERSION: "3", drift_runs.SOURCE: "prediction log"}
    failed = begin_run(store, LEDGER, {KIND: DRIFT, drift_runs.VERDICT: "drifted", **tags})
    end_run(store, failed, "FAILED")
    assert not verdict_changed(store, check_of(STEADY))
    assert verdict_changed(store, check_of(DRIFTED))
