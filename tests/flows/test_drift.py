"""Drift flow: what a check comes to, whatever is in its way, and who is told of it how often.

The flows themselves run against a Prefect server in `test_ml_orchestration_flipkart.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger
from support import LEDGER, REGISTERED_MODEL
from support.drift_checks import BY_VERDICT, check_of
from support.drift_reviews import kettles, made_up
from support.drift_store import (
    NOON,
    champion,
    copy_of,
    last_report,
    shared_drift_store,
    write_answers,
)
from support.serving import put_into_production
from support.webhook import receiving

from sentiment.drift.latest import DRIFT, KIND
from sentiment.drift.window import LogWindow
from sentiment.errors import PredictionLogError
from sentiment.flows import drift as drift_flow
from sentiment.flows.drift import TOLD, Finding, announce, check_drift, check_log
from sentiment.predictions.log import open_log
from sentiment.tracking.store import Settings, Store, find_runs

LOG = logging.getLogger("test")


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Store:
    return copy_of(shared_drift_store(tmp_path_factory), tmp_path / "store")


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, str]]]:
    with receiving() as (address, received):
        monkeypatch.setenv("ALERT_URL", address)
        yield received


def finding(store: Store, *, needed: bool = False, **window: Any) -> Finding:
    with disable_run_logger():
        return check_drift.fn(str(store.folder), None, needed=needed, **window)


def answer(store: Store, texts: list[str], name: str = "r", begin: float = NOON) -> None:
    log = open_log(f"sqlite:///{store.folder / 'predictions.db'}")
    write_answers(log, champion(store), texts, name=name, begin=begin)


# --- what a check comes to ------------------------------------------------------------------------


def test_only_a_change_of_verdict_is_told_and_before_a_training_a_run(
    store: Store, webhook: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    def runs() -> int:
        return len(find_runs(store, LEDGER, {KIND: DRIFT}))

    answer(store, made_up(300, seed=11)[0])
    found = finding(store)
    assert found.verdict == "steady"
    assert found.lines[0].startswith("steady (version 1, 300 reviews of the prediction log from ")
    assert (runs(), last_report(store)["verdict"], webhook) == (0, "steady", [])
    finding(store, needed=True)
    assert runs() == 1

    answer(store, kettles(300, seed=4)[0], name="k", begin=NOON + 1_000)
    found = finding(store)
    assert found.verdict == "drifted"
    assert any("unknown words" in line for line in found.lines)
    assert found.lines[-1].startswith("MLflow run: ") and runs() == 2
    printed = capsys.readouterr().out
    assert all(line in printed for line in found.lines)
    again = finding(store)
    assert again.verdict == "drifted" and not again.lines[-1].startswith("MLflow run: ")
    assert (runs(), last_report(store)["run_id"]) == (2, "")
    (told,) = webhook
    assert told["state"] == "drifted"
    assert told["message"].startswith("version 1: steady → drifted: ")
    assert store.client.get_registered_model(REGISTERED_MODEL).tags[TOLD] == "drifted"


def test_two_checks_at_the_same_time_tell_it_once(
    store: Store, webhook: list[dict[str, str]]
) -> None:
    """Both flows are due at the full hour."""
    answer(store, kettles(200, seed=4)[0])
    with ThreadPoolExecutor(2) as pool:
        wanted = LogWindow(since_check=True)
        found = list(pool.map(lambda _: check_log(store, wanted, 100, LOG), range(2)))
    assert [one.verdict for one in found] == ["drifted", "drifted"]
    assert len(webhook) == 1


def test_each_check_is_of_what_came_since_the_one_before(store: Store) -> None:
    """An hour of kettles is not drowned by the weeks before, and not seen for ever."""

    def reviews(**window: Any) -> tuple[str | None, int]:
        found = finding(store, needed=True, **window)
        assert " UTC" in found.lines[0]  # the period
        return found.verdict, int(last_report(store)["window"]["reviews"])

    answer(store, made_up(400, seed=12)[0])
    assert reviews() == ("steady", 400)
    answer(store, kettles(150, seed=5)[0], "k", NOON + 1_000)
    assert reviews() == ("drifted", 150)
    answer(store, made_up(30, seed=13)[0], "m", NOON + 2_000)
    for _ in range(2):  # too few: with those of the check before, as long as it takes
        assert reviews() == ("drifted", 180)
    answer(store, made_up(200, seed=205)[0], "n", NOON + 3_000)
    assert reviews() == ("steady", 230)
    assert reviews(drift_window=120) == ("steady", 120)
    days = (time.time() - NOON) / 86_400 + 1
    assert reviews(drift_days=days)[1] == 780
    assert reviews(min_reviews=300)[1] == 300


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


def test_no_version_in_production_or_none_with_a_reference(
    store: Store, store_folder: Path
) -> None:
    with disable_run_logger():
        found = check_drift.fn(str(store_folder), None, needed=True)
    assert found.verdict is None
    assert found.lines[0].startswith("not checked: no version is in production")
    put_into_production(store, "2")
    answer(store, made_up(200, seed=1)[0])
    found = finding(store, needed=True)
    assert found.verdict is None
    assert found.lines[0].startswith("not checked: version 2: has no drift reference")


def test_a_check_that_breaks_does_not_keep_the_model_from_being_trained(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store.folder / "predictions.db").write_bytes(b"this is no database" * 100)
    assert finding(store).lines[0].startswith("not checked: PredictionLogError: ")
    with pytest.raises(PredictionLogError):
        finding(store, needed=True)

    def broken(*_: object) -> Store:
        raise ZeroDivisionError("a bug\nof two lines")

    monkeypatch.setattr(drift_flow, "open_store", broken)
    assert finding(store) == Finding(None, ("not checked: ZeroDivisionError: a bug of two lines",))
    with pytest.raises(ZeroDivisionError):
        finding(store, needed=True)


# --- who is told ----------------------------------------------------------------------------------


def test_each_change_is_told_once_whichever_version_it_is_of(
    store: Store, webhook: list[dict[str, str]]
) -> None:
    story = [
        *("not enough yet", "steady", "steady", "watch", "watch", "drifted", "drifted"),
        *("not enough yet", "drifted", "steady", "steady"),
    ]
    for place, verdict in enumerate(story):
        version = "1" if place < 8 else "2"
        announce(store, check_of(BY_VERDICT[verdict], version=version), LOG)
    assert [body["message"].split(": ")[:2] for body in webhook] == [
        ["version 1", "steady → watch"],
        ["version 1", "watch → drifted"],
        ["version 2", "drifted → steady"],
    ]
    assert all(set(body) == {"flow", "run", "state", "message"} for body in webhook)


def test_two_projects_of_a_store_are_told_apart(
    store: Store, webhook: list[dict[str, str]]
) -> None:
    shoes = replace(store, settings=Settings("shoes"))
    shoes.client.create_registered_model("shoes-SentimentModel")
    for one in (store, shoes, store, shoes):
        announce(one, check_of(BY_VERDICT["drifted"]), LOG)
    assert [body.get("project") for body in webhook] == [None, "shoes"]


def test_what_nobody_took_is_told_by_a_later_check(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    drifted = check_of(BY_VERDICT["drifted"])
    monkeypatch.delenv("ALERT_URL", raising=False)
    announce(store, drifted, LOG)
    with receiving() as (address, received):
        monkeypatch.setenv("ALERT_URL", address)
    announce(store, drifted, LOG)  # it is away by now
    assert received == [] and "ALERT_URL" in caplog.text
    with receiving() as (address, received):
        monkeypatch.setenv("ALERT_URL", address)
        for _ in range(2):
            announce(store, drifted, LOG)
        assert [body["state"] for body in received] == ["drifted"]
