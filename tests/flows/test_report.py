"""Alerts: what a webhook gets, which addresses are taken, and what happens when nobody answers.

The report's complaints: of the newest reviews, and never what a run fails of.
"""

from __future__ import annotations

import logging
import socket
import time

import pytest
from support.complaint_reviews import write_complaints
from support.webhook import receiving

from sentiment.complaints.reviews import Reviews
from sentiment.data.reviews import LoadedReviews, load_reviews
from sentiment.errors import ServiceError
from sentiment.flows import report
from sentiment.flows.report import check_alerts, complaints_section, post

LOG = logging.getLogger("test")
SLACK = "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"


def test_a_plain_webhook_gets_json_and_each_address_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving() as (first, one), receiving() as (second, other):
        monkeypatch.setenv("ALERT_URL", f"{first}?key=geheim77 {second}")
        check_alerts()
        assert post("flow", "1", "Failed", "it <broke> & *fell*", LOG)
        assert post("flow", "2", "Failed", "again", LOG, "shoes")
    assert one == other and not caplog.text
    body = {"flow": "flow", "run": "1", "state": "Failed", "message": "it <broke> & *fell*"}
    again = {"flow": "flow", "run": "2", "state": "Failed", "message": "again", "project": "shoes"}
    assert one == [body, again]


@pytest.mark.parametrize("address", ["file:///etc/passwd", "http://", "http://h:port/x", "geheim7"])
def test_an_address_that_cannot_be_used(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ALERT_URL", f"{SLACK} {address}")
    with pytest.raises(ServiceError, match="address 2") as caught:
        check_alerts()
    assert address not in str(caught.value)
    monkeypatch.setenv("ALERT_URL", address)
    assert not post("flow", "1", "Failed", "it broke", LOG)
    assert "ALERT_URL" in caplog.text and address not in caplog.text


def test_services_are_known_to_apprise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERT_URL", f"{SLACK} mailto://ada:geheim@example.org jsons://host/x")
    check_alerts()


def test_a_server_that_never_answers_costs_seconds_and_raises_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_address = f"http://127.0.0.1:{silent.getsockname()[1]}/gh0okgh0ok"
        with receiving() as (address, received):
            monkeypatch.setenv("ALERT_URL", f"{silent_address} {address}")
            monkeypatch.setattr(report, "ALERT_SECONDS", 2.0)
            assert post("flow", "1", "Failed", "it broke", LOG) and len(received) == 1
        monkeypatch.setattr(report, "ALERT_SECONDS", 0.3)
        monkeypatch.setenv("ALERT_URL", silent_address)
        began = time.monotonic()
        assert not post("flow", "1", "Failed", "it broke", LOG)
        assert time.monotonic() - began < 3
    assert "1 of 1" in caplog.text and "127.0.0.1" not in caplog.text
    assert "gh0ok" not in caplog.text


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedReviews:
    return load_reviews(write_complaints(tmp_path_factory.mktemp("data") / "kettles.csv"))


def test_complaints_are_those_of_the_newest_reviews(
    loaded: LoadedReviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = len(loaded.frame)
    assert f"of {every:,} reviews are" in (whole := complaints_section(loaded, LOG))
    assert "newest" not in whole and "leak" in whole
    monkeypatch.setattr(report, "MOST_REVIEWS", 300)
    cut = complaints_section(loaded, LOG)
    negative = int((loaded.frame["label"].tail(300) == 0).sum())
    assert f"newest 300 of {every:,}" in cut and f"{negative} of 300 reviews are" in cut


def test_complaints_that_cannot_be_found_fail_no_run(
    loaded: LoadedReviews, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(reviews: Reviews) -> None:
        raise ValueError(reviews.texts[0])

    monkeypatch.setattr(report, "find_complaints", fails)
    section = complaints_section(loaded, LOG)
    (logged,) = caplog.records
    for said in (section, caplog.text):
        assert "ValueError" in said and loaded.frame["text"].iloc[0] not in said
    assert logged.levelno == logging.WARNING and not logged.exc_info
