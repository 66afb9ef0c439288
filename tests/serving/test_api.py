"""Web API: the JSON routes through Flask's client, on a store with real versions."""

from __future__ import annotations

import base64
import html
import json
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import REGISTERED_MODEL
from support.drift_checks import BY_VERDICT, check_of
from support.html import Checker, words_of
from support.serving import (
    BAD_TEXT,
    GOOD_TEXT,
    UNKNOWN_TEXT,
    copy_store,
    put_into_production,
    running_app,
    served_probabilities,
    wait_until,
)

from sentiment.ab.comparison import assign_arm
from sentiment.data.labels import LabelRule
from sentiment.drift import LATEST
from sentiment.drift.page import render_page
from sentiment.drift.runs import log_check
from sentiment.errors import PredictionLogError
from sentiment.predictions import writer
from sentiment.predictions.log import running_comparison
from sentiment.serving.config import Limits
from sentiment.serving.service import digest
from sentiment.serving.versions import AWAY, NO_CHAMPION
from sentiment.tracking.artifact import load_pipeline
from sentiment.tracking.store import Store
from text_cleaning import cleaning_fingerprint

pytestmark = pytest.mark.xdist_group("serving")
TEXTS = [GOOD_TEXT, BAD_TEXT, UNKNOWN_TEXT, "not good 👎 READ MORE", "Good", "GOOD!!"]
TOKEN = "a-token-of-the-test"
SMALL = Limits(max_body=20_000, max_texts=50, max_characters=500)
Start = Callable[..., FlaskClient]


@pytest.fixture(scope="module")
def client(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """The champion alone, with small limits; for tests that leave it as it is."""
    with running_app(store, tmp_path_factory.mktemp("log"), limits=SMALL) as app:
        yield app.test_client()


def is_error(response: Any, status: int) -> dict[str, str]:
    """The one form of all errors."""
    assert response.status_code == status, response.text
    assert response.mimetype == "application/json"
    body = json.loads(response.data)
    assert sorted(body) == ["error", "expected", "where"]
    assert all(isinstance(value, str) and value for value in body.values())
    assert "Traceback" not in response.text
    return dict(body)


# --- predict ---------------------------------------------------------------------------------


def test_many_reviews_get_the_pipelines_answer_to_the_last_bit(
    store: Store, client: FlaskClient
) -> None:
    pipeline = load_pipeline(store, f"models:/{REGISTERED_MODEL}@champion")
    expected = served_probabilities(pipeline, [*TEXTS[:3], "not good 👎", "Good", "GOOD!!"])
    response = client.post("/predict", json={"texts": TEXTS, "explain": True})
    assert response.status_code == 200
    body = json.loads(response.data)
    assert [found["probability"] for found in body["predictions"]] == expected
    model = pipeline.named_steps["model"]
    assert body["threshold"] == model.threshold
    assert (body["arm"], body["version"], body["algorithm"]) == (
        "champion",
        "1",
        "LogisticRegression",
    )
    assert body["prior"] == model.prior_
    for found in body["predictions"]:
        if found["label"] is None:
            assert (found["reason"], found["probability"]) == ("no known words", body["prior"])
            assert (found["known_words"], found["words"]) == (0, [])
            continue
        assert (found["label"] == "positive") == (found["probability"] >= body["threshold"])
        assert (found["label"] == "positive") == (found["decision"] > 0)
        assert found["reason"] is None
        total = sum(word["weight"] for word in found["words"]) + body["intercept"]
        assert total == pytest.approx(found["decision"], abs=1e-12)
        assert 0 < found["known_words"] <= found["words_total"]
    labels = [found["label"] for found in body["predictions"]]
    assert labels[:3] == ["positive", "negative", None]


def test_one_review_is_a_list_of_one_whose_words_can_be_asked_for(client: FlaskClient) -> None:
    text = "😀 The GREAT box, really great"
    one, many, bare = (
        client.post("/predict", json=asked).get_json()
        for asked in (
            {"text": text, "explain": True},
            {"texts": [text], "explain": True},
            {"text": text},
        )
    )
    assert one["predictions"] == many["predictions"]
    assert one["request_id"] != many["request_id"]
    (found,) = one["predictions"]
    places = {word["term"]: [text[a:b] for a, b in word["at"]] for word in found["words"]}
    assert places["great"] == ["GREAT", "great"]
    assert places["box"] == ["box"]
    del found["words"]
    assert bare["predictions"] == [found]


def test_a_user_sticks_to_an_arm_and_the_id_is_kept_nowhere(start: Start, tmp_path: Path) -> None:
    client = start(ab=("challenger", 0.5))
    for user in ["kilroy@example.org"] * 3 + ["another"]:
        asked = {"text": GOOD_TEXT, "user_id": user}
        arm = client.post("/predict", json=asked).get_json()["arm"]
        assert arm == assign_arm(digest(user), "1-vs-2", 0.5)
    serving = client.application.extensions["serving"]
    assert serving.writer.flush(5)
    serving.close()
    kept = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert GOOD_TEXT.encode() in kept and b"kilroy" not in kept


# --- feedback --------------------------------------------------------------------------------


def test_feedback_is_kept_and_a_later_one_replaces_it(start: Start) -> None:
    client = start()
    request_id = client.post("/predict", json={"texts": TEXTS}).get_json()["request_id"]
    for said, label in (({"rating": 2}, "negative"), ({"label": "positive"}, "positive")):
        response = client.post("/feedback", json={"request_id": request_id, "position": 1, **said})
        assert response.status_code == 200
        assert response.get_json() == {"request_id": request_id, "position": 1, "label": label}
    (frame,) = client.application.extensions["serving"].log.read()
    known = frame[frame["true_label"].notna()]
    assert known[["position", "true_label"]].to_numpy().tolist() == [[1, 1]]


def test_stars_count_by_the_rule_of_the_version_that_answers(
    store: Store, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start()
    assert client.get("/model").get_json()["champion"]["label_rule"] == "1–2 negative, 3–5 positive"
    watcher = client.application.extensions["serving"].watcher
    champion = replace(watcher.arms.champion, rule=LabelRule(drop_neutral=True))
    monkeypatch.setattr(watcher, "arms", replace(watcher.arms, champion=champion))
    assert client.get("/model").get_json()["champion"]["label_rule"] == "1–2 negative, 4–5 positive"
    asked = {"request_id": client.post("/predict", json={"text": "x"}).get_json()["request_id"]}
    error = is_error(client.post("/feedback", json={**asked, "rating": 3}), 400)
    assert error["where"] == "rating" and "4–5 positive" in error["expected"]
    assert client.post("/feedback", json={**asked, "rating": 2}).get_json()["label"] == "negative"


def test_feedback_on_what_was_never_answered_is_404(start: Start) -> None:
    client = start()
    request_id = client.post("/predict", json={"text": GOOD_TEXT}).get_json()["request_id"]
    for unknown, position in (("0" * 32, 0), (request_id, 1)):
        asked = {"request_id": unknown, "position": position, "rating": 5}
        error = is_error(client.post("/feedback", json=asked), 404)
        assert error["where"] == "request_id and position"
    perhaps = {"request_id": client.application.extensions["serving"].new_id(), "rating": 5}
    response = client.post("/feedback", json=perhaps)
    assert (response.status_code, response.get_json()["label"]) == (202, "positive")


def test_feedback_does_not_wait_for_a_log_that_is_locked(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start()
    client.application.extensions["serving"].writer.put([])  # nothing waits before
    asked = {"request_id": client.post("/predict", json={"text": "good"}).get_json()["request_id"]}
    assert client.post("/feedback", json={**asked, "rating": 5}).status_code == 200
    with closing(sqlite3.connect(tmp_path / "log.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(writer, "PROMPT", 0.2)
        begun = time.monotonic()
        for _ in range(6):
            is_error(client.post("/feedback", json={**asked, "rating": 1}), 503)
        assert time.monotonic() - begun < 5  # the database waits for longer, and that six times
        monkeypatch.setattr(writer, "PROMPT", 60.0)
        other.rollback()
    wait_until(lambda: client.post("/feedback", json={**asked, "rating": 2}).status_code == 200)
    (frame,) = client.application.extensions["serving"].log.read()
    assert frame["true_label"].tolist() == [0]


def test_a_log_that_is_away_is_503(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    client = start(ab=("challenger", 0.5))

    def away(*_: object, **__: object) -> None:
        raise PredictionLogError("postgresql://…@secret-host/x: does not answer")

    log = client.application.extensions["serving"].log
    monkeypatch.setattr(log, "add_feedback", away)
    monkeypatch.setattr(log, "read", away)
    asked = {"request_id": "0" * 32, "rating": 5}
    for response in (client.post("/feedback", json=asked), client.get("/ab")):
        assert "secret-host" not in json.dumps(is_error(response, 503))
    assert client.post("/predict", json={"text": GOOD_TEXT}).status_code == 200


# --- the token -------------------------------------------------------------------------------


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


def test_what_is_the_operators_needs_the_token_and_nothing_else_does(start: Start) -> None:
    client = start(token=TOKEN, ab=("challenger", 0.5))
    request_id = client.post("/predict", json={"text": GOOD_TEXT}).get_json()["request_id"]
    asked = {"request_id": request_id, "rating": 5}
    wrong = ["", "Bearer", "Bearer x", f"Bearer {TOKEN}x", f"bearer {TOKEN[:-1]}", f"Token {TOKEN}"]
    wrong += [basic("x"), basic(""), "Basic ???", "Basic " + "A" * 5, f"Basic {TOKEN}", "Bearer é"]
    for header in wrong:
        headers = {"Authorization": header} if header else {}
        for response in (
            client.post("/feedback", json=asked, headers=headers),
            client.post("/feedback", data=b"{", headers=headers),  # nothing is said of the body
            client.get("/ab", headers=headers),
        ):
            error = is_error(response, 401)
            assert TOKEN not in json.dumps(error)
            ways = response.headers.getlist("WWW-Authenticate")
            assert [way.split()[0] for way in ways] == ["Bearer", "Basic"]
    for header in (f"Bearer {TOKEN}", f"bearer {TOKEN}", basic(TOKEN)):
        headers = {"Authorization": header}
        assert client.post("/feedback", json=asked, headers=headers).status_code == 200
        assert client.get("/ab", headers=headers).status_code == 200
        for path in ("/model", "/metrics"):
            is_error(client.get(path), 401)
            assert client.get(path, headers=headers).status_code == 200
        assert client.get("/health", headers=headers).get_json()["version"] == "1"
    assert client.get("/health").get_json() == {"status": "ok"}
    assert client.get("/openapi.json").status_code == 200


# --- what is served --------------------------------------------------------------------------


def test_health_and_model(store: Store, start: Start) -> None:
    client = start(ab=("challenger", 0.2))
    health = client.get("/health")
    assert (health.status_code, health.get_json()) == (
        200,
        {
            "status": "ok",
            "version": "1",
            "problem": None,
            "log": {"queued": 0, "dropped": 0, "failed": 0},
        },
    )
    model = client.get("/model").get_json()
    champion = model["champion"]
    version = store.client.get_model_version(REGISTERED_MODEL, "1")
    assert (champion["version"], champion["algorithm"]) == ("1", "LogisticRegression")
    assert champion["data_digest"] == version.tags["data_digest"]
    assert champion["cleaning_fingerprint"] == cleaning_fingerprint()
    assert champion["run_id"] == version.run_id
    assert champion["scores"]["test_f1"] == pytest.approx(float(version.tags["test_f1"]), abs=1e-6)
    since = datetime.fromisoformat(champion["since"])
    assert 0 < (datetime.now(UTC) - since).total_seconds() < 3_600
    assert (model["challenger"]["version"], model["challenger"]["since"]) == ("2", None)
    assert model["experiment"] == "1-vs-2"
    alone = start().get("/model").get_json()
    assert (alone["challenger"], alone["experiment"]) == (None, None)


def test_not_ready_is_said_everywhere(store: Store, tmp_path: Path, start: Start) -> None:
    copy = copy_store(store, tmp_path / "store")
    copy.client.delete_registered_model_alias(REGISTERED_MODEL, "champion")
    client = start(on=copy)
    health = client.get("/health")
    assert health.status_code == 503
    body = health.get_json()
    assert (body["status"], body["version"]) == ("not ready", None)
    assert body["problem"] == NO_CHAMPION
    for response in (
        client.post("/predict", json={"text": GOOD_TEXT}),
        client.get("/model"),
        client.get("/ab"),
    ):
        assert NO_CHAMPION in is_error(response, 503)["error"]
    assert client.get("/metrics").status_code == client.get("/openapi.json").status_code == 200


def test_clients_are_told_no_words_of_a_library(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = start()
    watcher = client.application.extensions["serving"].watcher

    def away() -> Store:
        raise RuntimeError("http://user:hunter2@tracking/api failed")

    monkeypatch.setattr(watcher, "_open_store", away)
    monkeypatch.setattr(watcher, "_store", None)
    for arms in (watcher.arms, None):
        watcher.arms = arms
        watcher.check()
        page = client.post("/", data={"text": "good"})
        answers = [client.get("/health"), client.get("/model"), page]
        answers.append(client.post("/predict", json={"text": "good"}))
        assert "tracking" not in "".join(answer.text for answer in answers)
        assert client.get("/health").get_json()["problem"] == AWAY
    assert AWAY in page.text
    assert "tracking" in caplog.text, "the operator is told"


# --- the comparison --------------------------------------------------------------------------


def test_without_a_comparison_ab_says_how_to_get_one(client: FlaskClient) -> None:
    error = is_error(client.get("/ab"), 404)
    assert "--ab challenger=0.2" in error["expected"]


def test_ab_counts_what_was_answered(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    client = start(ab=("challenger", 0.5))
    counts = {"champion": 0, "challenger": 0}
    for number in range(60):
        asked = {"text": GOOD_TEXT, "user_id": str(number)}
        answer = client.post("/predict", json=asked).get_json()
        counts[answer["arm"]] += 1
        if number % 2:
            feedback = {"request_id": answer["request_id"], "rating": 5}
            assert client.post("/feedback", json=feedback).status_code == 200
    assert client.application.extensions["serving"].writer.flush(5)
    found = client.get("/ab").get_json()
    assert (found["experiment"], found["champion"], found["challenger"]) == ("1-vs-2", "1", "2")
    assert (found["rows"], found["complete"]) == (60, True)
    for arm, count in counts.items():
        assert found["comparison"][arm]["answers"] == count
    labelled = [found["comparison"][arm]["labelled"] for arm in counts]
    assert sum(labelled) == 30
    assert found["comparison"]["share"] == 0.5
    assert (found["agreement"], found["disagreements"]) == (None, None)
    # it is not read again at once, whoever asks
    client.post("/predict", json={"text": GOOD_TEXT})
    assert client.application.extensions["serving"].writer.flush(5)
    assert client.get("/ab").get_json() == found
    later = time.monotonic() + 3_600
    monkeypatch.setattr("sentiment.serving.ab_results.time.monotonic", lambda: later)
    assert client.get("/ab").get_json()["rows"] == 61


def test_a_shadow_is_compared_review_by_review(start: Start) -> None:
    client = start(shadow="3")
    client.post("/predict", json={"texts": TEXTS})
    assert client.application.extensions["serving"].writer.flush(5)
    found = client.get("/ab").get_json()
    assert (found["experiment"], found["rows"]) == ("1-vs-3", 2 * len(TEXTS))
    assert found["comparison"] is None
    assert found["agreement"]["pairs"] + found["agreement"]["unanswered"] == len(TEXTS)
    assert isinstance(found["disagreements"], list)


def test_a_comparison_that_ended_stays_readable(store: Store, tmp_path: Path) -> None:
    copy, log = copy_store(store, tmp_path / "store"), f"sqlite:///{tmp_path / 'log.db'}"
    with running_app(
        copy, tmp_path, ab=("challenger", 0.5), refresh_seconds=0.05, log_url=log
    ) as app:
        client = app.test_client()
        answer = client.post("/predict", json={"text": GOOD_TEXT, "user_id": "a"}).get_json()
        client.post("/feedback", json={"request_id": answer["request_id"], "rating": 5})
        wait_until(lambda: running_comparison(log, time.time()))
        put_into_production(copy, "3")
        wait_until(lambda: client.get("/ab").get_json()["past"])
        wait_until(lambda: client.get("/ab").get_json()["past"][0]["ended"])
        found = client.get("/ab").get_json()
        assert found["experiment"] == "3-vs-2"
        (past,) = found["past"]
        assert (past["experiment"], past["kind"], past["share"]) == ("1-vs-2", "ab", 0.5)
        assert "version 3 was put into production at 20" in past["why"]
        assert past["verdict"].startswith("not enough labels yet: ")
    with running_app(copy, tmp_path, log_url=log) as app:  # started again, without a challenger
        client = app.test_client()
        wait_until(lambda: running_comparison(log, time.time()) is None)
        found = client.get("/ab").get_json()
        assert found["experiment"] is None
        assert [one["experiment"] for one in found["past"]] == ["3-vs-2", "1-vs-2"]
        assert "started without a challenger" in found["past"][0]["why"]
        browser = client.get("/ab", headers={"Accept": "text/html"})
        assert browser.mimetype == "text/html" and "No comparison runs" in browser.text
        assert "/ab" in client.get("/").text


@pytest.mark.parametrize("config", [{"ab": ("challenger", 0.5)}, {"shadow": "challenger"}])
def test_browsers_get_the_comparison_as_a_page(start: Start, config: dict[str, Any]) -> None:
    client = start(**config)
    browser = "text/html,application/xhtml+xml,*/*;q=0.8"
    for accept in (browser, "*/*", "application/json, text/html;q=0.5"):
        response = client.get("/ab", headers={"Accept": accept})
        kind = "text/html" if accept == browser else "application/json"
        assert (response.status_code, response.mimetype) == (200, kind)


# --- bad input -------------------------------------------------------------------------------


def test_methods_and_paths(client: FlaskClient) -> None:
    for path, method, allowed in (
        ("/predict", "GET", "POST"),
        ("/predict", "PUT", "POST"),
        ("/health", "POST", "GET"),
        ("/metrics", "DELETE", "GET"),
        ("/feedback", "TRACE", "POST"),
    ):
        response = client.open(path, method=method)
        is_error(response, 405)
        assert allowed in response.headers["Allow"]
    for path in ("/nope", "/predict/", "/health//", "/health/x", "/static/nope.js", "/%00"):
        is_error(client.get(path), 404)
    assert client.head("/health").status_code == 200
    options = client.options("/predict")
    assert options.status_code == 200 and "POST" in options.headers["Allow"]


def test_too_much_is_refused(client: FlaskClient) -> None:
    for asked, status, where in (
        ({"texts": ["good"] * 51}, 422, "texts"),
        ({"text": "x" * 501}, 422, "text"),
        ({"text": "x" * 20_001}, 413, "body"),
    ):
        assert is_error(client.post("/predict", json=asked), status)["where"] == where
    assert client.post("/predict", json={"texts": ["good"] * 50}).status_code == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
PREDICT = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("text", "texts", "user_id", "explain", "Text"), JSON)
)
FEEDBACK = st.fixed_dictionaries(
    {"request_id": st.just("0" * 32) | JSON},
    optional=dict.fromkeys(("position", "label", "rating"), JSON),
)
BODIES = (PREDICT | FEEDBACK | JSON).map(lambda value: json.dumps(value).encode()) | st.binary()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(["/predict", "/feedback"]),
    body=BODIES,
    damage=st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=2)), max_size=2),
    content_type=st.sampled_from([*["application/json"] * 9, "", "text/plain", ";;", "é"]),
    headers=st.dictionaries(
        st.sampled_from(["Authorization", "Content-Encoding", "Accept", "Expect"]),
        st.sampled_from(["gzip", "Basic !", "Bearer", "x" * 5_000, ";=,"]),
        max_size=1,
    ),
)
def test_no_body_is_the_servers_fault_and_all_refusals_have_one_form(
    client: FlaskClient, path: str, body: bytes, damage: Any, content_type: str, headers: Any
) -> None:
    for at, piece in damage:
        body = body[:at] + piece + body[at + 1 :]
    response = client.post(path, data=body, content_type=content_type, headers=headers)
    if response.status_code != 200:
        assert response.status_code in (400, 404, 413, 415, 422)
        is_error(response, response.status_code)


def test_complaints_are_of_what_was_answered(start: Start) -> None:
    client = start(token=TOKEN)
    as_owner = {"Authorization": f"Bearer {TOKEN}"}
    is_error(client.get("/complaints"), 401)
    is_error(client.get("/complaints", headers=as_owner), 404)
    bad = [UNKNOWN_TEXT, *(f"{BAD_TEXT} <i>{at}" for at in range(20))]
    client.post("/predict", json={"texts": [*bad, *[f"{GOOD_TEXT} {at}" for at in range(40)]]})
    wait_until(lambda: client.get("/complaints", headers=as_owner).status_code == 200)
    found = client.get("/complaints", headers=as_owner).get_json()
    assert (found["reviews"], found["negative"]) == (61, 20)
    assert found["themes"][0]["reviews"] == 20 and bad[1] not in json.dumps(found)
    page = client.get("/complaints", headers={**as_owner, "Accept": "text/html"})
    Checker(page.text)
    assert "&lt;i&gt;" in page.text and "Review sentiment" in page.text


def test_the_last_drift_check_says_whose_and_how_old_it_is(
    store: Store, tmp_path: Path, start: Start
) -> None:
    copy = copy_store(store, tmp_path / "store")
    client = start(on=copy)
    missing = client.get("/drift")
    assert missing.status_code == 404
    assert "drift" in missing.get_json()["expected"]
    made = datetime.now(UTC) - timedelta(hours=3, minutes=5)
    folder = copy.folder / LATEST
    folder.mkdir()
    for version in ("3", "1"):  # version 1 answers
        check = check_of(BY_VERDICT["steady"], version=version, checked_at=made)
        (folder / "latest.json").write_text(check.to_json(), encoding="utf-8")
        (folder / "latest.html").write_text(render_page(check), encoding="utf-8")
        report = client.get("/drift").get_json()
        assert report == {**report, **json.loads(check.to_json()), "answers_now": "1"}
        assert report["age_seconds"] == pytest.approx(3 * 3_600 + 300, abs=30)
        page = client.get("/drift", headers={"Accept": "text/html"})
        assert f"version {version} was made 3 hours ago" in page.text
        assert '<a href="/drift" aria-current="page">' in page.text  # among the others
        warned = re.search(r'<main id="content"><p class="other" role="alert">([^<]*)', page.text)
        if version == "1":
            assert warned is None
        else:
            assert warned is not None
            assert "Version 1 answers" in warned[1] and "of version 3" in warned[1]
    (folder / "latest.json").write_text('{"checked_at": 5}', encoding="utf-8")
    is_error(client.get("/drift"), 503)
    (policy,) = page.headers.getlist("Content-Security-Policy")
    assert "script-src 'self'" in policy and "style-src 'unsafe-inline'" in policy
    assert "frame-ancestors 'none'" in policy and "form-action 'self'" in policy


def test_the_last_drift_check_of_a_tracking_server_is_held_while_that_is_away(
    store: Store,
    tmp_path: Path,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A new one is seen soon, and no request opens the store."""
    copy = copy_store(store, tmp_path / "store")
    remote = replace(copy, artifacts=None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", copy.uri)
    client = start(store=None, refresh_seconds=0.1)
    wait_until(lambda: client.get("/drift").status_code == 404)
    for verdict in ("steady", "drifted"):
        found = log_check(remote, check_of(BY_VERDICT[verdict]))
        wait_until(lambda: client.get("/drift").get_json().get("run_id") == found.run_id)  # noqa: B023
    opened = list[str]()

    def away(*_: Any, **__: Any) -> Any:
        opened.append(threading.current_thread().name)
        raise OSError("postgresql://kilroy:hunter2@db/x does not answer")

    for name in ("newest_run", "read_run"):
        monkeypatch.setattr(f"sentiment.serving.service.{name}", away)
    wait_until(lambda: len(opened) > 2)
    assert client.get("/drift").get_json()["run_id"] == found.run_id
    assert set(opened) == {"drift-checks"}
    assert caplog.text.count("the last drift check cannot be read") == 1
    assert "hunter2" not in caplog.text


def test_a_tracking_server_that_never_answered_is_no_fault_of_the_server(
    store: Store, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    is_error(start(store=None).get("/drift"), 503)


def test_people_read_of_the_api_what_programs_do(start: Start) -> None:
    client = start(token="a secret")
    document = client.get("/openapi.json").get_json()
    page = client.get("/api", headers={"Accept": "text/html"}).text
    Checker(page)
    words = words_of(page)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            guarded = "asks for the token" if operation["security"] else "open"
            assert f"{method.upper()} {path} {guarded} {operation['summary']}" in words
            assert f"curl http://localhost{path}" in words
    for name in ("predictions[].words[].term", "user_id", "champion.scores", "log.queued"):
        assert f'<span class="code">{name}</span>' in page
    example = re.search("-d '([^']+)'", html.unescape(page))
    assert example is not None
    answer = client.post("/predict", json=json.loads(example[1])).get_json()
    assert answer["predictions"][0]["words"]


def test_browsers_get_a_model_card_and_programs_json(start: Start) -> None:
    client = start(ab=("challenger", 0.2))
    found = client.get("/model").get_json()
    response = client.get("/model", headers={"Accept": "text/html"})
    assert response.mimetype == "text/html" and 'href="/model" aria-current' in response.text
    Checker(response.text)
    words = words_of(response.text)
    for role, algorithm in (("champion", "LogisticRegression"), ("challenger", "NaiveBayes")):
        version = found[role]
        assert f"{role.capitalize()}: version {version['version']} {algorithm}" in words
        scores = version["scores"]
        low, value, high = (
            f"{scores[name]:.3f}".removeprefix("0")
            for name in ("test_f1_low", "test_f1", "test_f1_high")
        )
        assert f"Macro-F1 {value} {low} to {high}" in words
        assert f"{version['threshold']:.1%}" in words and version["label_rule"] in words


def test_browsers_get_every_error_as_a_page(start: Start) -> None:
    client = start(token="a secret")
    for path, status in (("/nothing", 404), ("/model", 401), ("/feedback", 405)):
        response = client.get(path, headers={"Accept": "text/html,*/*;q=0.8"})
        assert (response.status_code, response.mimetype) == (status, "text/html")
        Checker(response.text)
        assert f"Error {status}" in words_of(response.text)
        assert client.get(path).mimetype == "application/json"
    page = client.get("/ab", headers={"Accept": "text/html"}, auth=("x", "a secret"))
    assert page.status_code == 404 and "--ab challenger=0.2" in words_of(page.text)
