"""Drift flow: what a check comes to, whatever is in its way, and who is told of it how often.

The flows themselves run against a Prefect server in `test_ml_orchestration_flipkart.py`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger
from support.drift_checks import BY_VERDICT, check_of
from support.drift_reviews import kettles, made_up
from support.drift_store import (
    champion,
    copy_of,
    last_report,
    shared_drift_store,
    write_answers,
)
from support.serving import put_into_production
from support.webhook import receiving

from sentiment.drift.report import DriftCheck
from sentiment.drift.runs import DRIFT, KIND
from sentiment.errors import PredictionLogError, TrackingError
from sentiment.flows import drift as drift_flow
from sentiment.flows.drift import TOLD, Finding, announce, check_drift, check_log
from sentiment.predictions.log import open_log
from sentiment.tracking.store import LEDGER, REGISTERED_MODEL, Store, find_runs, open_store

LOG = logging.getLogger("test")


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Store:
    return copy_of(shared_drift_store(tmp_path_factory), tmp_path / "store")


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, str]]]:
    with receiving() as (address, received):
        monkeypatch.setenv("ALERT_WEBHOOK_URL", address)
        yield received


def finding(store: Store, log_url: str | None = None, *, needed: bool = False) -> Finding:
    with disable_run_logger():
        return check_drift.fn(str(store.folder), log_url, needed=needed)


def answer(store: Store, texts: list[str], name: str = "r") -> None:
    log = open_log(f"sqlite:///{store.folder / 'predictions.db'}")
    write_answers(log, champion(store), texts, name=name)


# --- what a check comes to ------------------------------------------------------------------------


def test_the_same_reviews_are_steady_and_nobody_is_told(
    store: Store, webhook: list[dict[str, str]]
) -> None:
    answer(store, made_up(300, seed=11)[0])
    found = finding(store)
    assert found.verdict == "steady"
    assert found.lines[0].startswith("steady (version 1, 300 reviews of the prediction log): ")
    assert webhook == []


def test_another_products_words_are_drift_and_somebody_is_told_once(
    store: Store, webhook: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    answer(store, kettles(200, seed=4)[0])
    found = finding(store)
    assert found.verdict == "drifted"
    assert any("unknown words" in line for line in found.lines)
    assert "/runs/" in found.lines[-1]
    printed = capsys.readouterr().out
    assert all(line in printed for line in found.lines)
    finding(store)
    (told,) = webhook
    assert told["state"] == "drifted"
    assert told["message"].startswith("version 1: steady → drifted: ")
    assert store.client.get_registered_model(REGISTERED_MODEL).tags[TOLD] == "drifted"


def test_before_a_training_only_a_change_of_verdict_is_a_run(store: Store) -> None:
    def runs() -> int:
        return len(find_runs(store, LEDGER, {KIND: DRIFT}))

    answer(store, made_up(300, seed=11)[0])
    finding(store)
    assert (runs(), last_report(store)["verdict"]) == (0, "steady")
    finding(store, needed=True)
    assert runs() == 1
    answer(store, kettles(300, seed=4)[0], name="k")
    assert "/runs/" in finding(store).lines[-1]
    assert runs() == 2
    again = finding(store)
    assert again.verdict == "drifted" and "/runs/" not in again.lines[-1]
    assert (runs(), last_report(store)["run_id"]) == (2, "")


def test_two_checks_at_the_same_time_tell_it_once(
    store: Store, webhook: list[dict[str, str]]
) -> None:
    """Both flows are due at the full hour."""
    answer(store, kettles(200, seed=4)[0])
    found: list[Finding] = []
    checks = [
        threading.Thread(target=lambda: found.append(check_log(store, None, LOG))) for _ in range(2)
    ]
    for check in checks:
        check.start()
    for check in checks:
        check.join()
    assert [one.verdict for one in found] == ["drifted", "drifted"]
    assert len(webhook) == 1


# --- what is in its way ---------------------------------------------------------------------------


def test_where_nothing_was_answered_yet_there_is_not_enough(store: Store) -> None:
    found = finding(store, needed=True)
    assert found.verdict == "not enough yet" and len(found.lines) == 1
    assert "no prediction log there" in found.lines[0]
    assert not (store.folder / "predictions.db").exists()
    open_log(f"sqlite:///{store.folder / 'predictions.db'}")
    found = finding(store, needed=True)
    assert found.verdict == "not enough yet" and "no answers of version 1" in found.lines[0]
    answer(store, made_up(20, seed=1)[0])
    assert finding(store, needed=True).verdict == "not enough yet"


def test_no_version_in_production_is_said_and_holds_nothing_up(tmp_path: Path) -> None:
    found = finding(open_store(tmp_path), needed=True)
    assert found.verdict is None
    assert found.lines[0].startswith("not checked: no version is in production")


def test_a_version_without_a_reference_is_said_and_holds_nothing_up(store: Store) -> None:
    put_into_production(store, "2")
    answer(store, made_up(200, seed=1)[0])
    found = finding(store, needed=True)
    assert found.verdict is None
    assert found.lines[0].startswith("not checked: version 2: has no drift reference")


def test_a_database_away_fails_the_check_alone_and_not_the_training(store: Store) -> None:
    (store.folder / "predictions.db").write_bytes(b"this is no database" * 100)
    found = finding(store)
    assert found.verdict is None and len(found.lines) == 1
    assert found.lines[0].startswith("not checked: PredictionLogError: ")
    with pytest.raises(PredictionLogError):
        finding(store, needed=True)


def test_a_check_that_breaks_does_not_keep_the_model_from_being_trained(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> DriftCheck:
        raise ZeroDivisionError("a bug\nof two lines")

    monkeypatch.setattr(drift_flow, "run_check", broken)
    assert finding(store) == Finding(None, ("not checked: ZeroDivisionError: a bug of two lines",))
    with pytest.raises(ZeroDivisionError):
        finding(store, needed=True)


def test_a_store_that_cannot_be_had_is_no_finding_either(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with disable_run_logger():
        found = check_drift.fn(str(tmp_path / "file"), None)
        assert found.verdict is None and "cannot keep the store there" in found.lines[0]
        with pytest.raises(TrackingError):
            check_drift.fn(str(tmp_path / "file"), None, needed=True)


# --- who is told ----------------------------------------------------------------------------------


def checked(verdict: str, version: str = "1") -> DriftCheck:
    return check_of(BY_VERDICT[verdict], version=version)


def test_each_change_is_told_once_whichever_version_it_is_of(
    store: Store, webhook: list[dict[str, str]]
) -> None:
    story = [
        *("not enough yet", "steady", "steady", "watch", "watch", "drifted", "drifted"),
        *("not enough yet", "drifted", "steady", "steady"),
    ]
    for place, verdict in enumerate(story):
        announce(store, checked(verdict, version="1" if place < 8 else "2"), LOG)
    assert [body["message"].split(": ")[:2] for body in webhook] == [
        ["version 1", "steady → watch"],
        ["version 1", "watch → drifted"],
        ["version 2", "drifted → steady"],
    ]
    assert all(set(body) == {"flow", "run", "state", "message"} for body in webhook)


def test_what_nobody_took_is_told_by_a_later_check(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("ALERT_WEBHOOK_URL", raising=False)
    announce(store, checked("drifted"), LOG)
    with receiving() as (address, received):
        monkeypatch.setenv("ALERT_WEBHOOK_URL", address)
    announce(store, checked("drifted"), LOG)  # it is away by now
    assert received == [] and "could not be posted" in caplog.text
    with receiving() as (address, received):
        monkeypatch.setenv("ALERT_WEBHOOK_URL", address)
        for _ in range(2):
            announce(store, checked("drifted"), LOG)
        assert [body["state"] for body in received] == ["drifted"]
