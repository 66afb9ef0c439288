"""Web app: how its parts are put together: configuration, headers, errors, threads, upkeep."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from support.serving import (
    GOOD_TEXT,
    copy_store,
    put_into_production,
    running_app,
    wait_until,
)
from werkzeug.test import EnvironBuilder, run_wsgi_app

from sentiment.predictions.log import LoggedPrediction
from sentiment.serving.app import create_app
from sentiment.serving.config import Limits, ServingConfig
from sentiment.serving.versions import NO_CHALLENGER
from sentiment.tracking.store import Store

pytestmark = pytest.mark.xdist_group("serving")
Start = Callable[..., FlaskClient]


@pytest.fixture(scope="module")
def shared(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """One app with an allowed origin and a trusted network; for tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("shared")
    options = {"allow_origins": ["http://shop.example"], "trust_proxies": ["10.0.0.0/24"]}
    with running_app(store, folder, **options) as app:
        yield app.test_client()


def metric(client: FlaskClient, name: str) -> float:
    """The value of one sample, written as Prometheus does."""
    lines = client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[-1])


# --- the parts put together ------------------------------------------------------------------


def test_the_log_lies_beside_the_store_by_default(store: Store, tmp_path: Path) -> None:
    copy = copy_store(store, tmp_path / "store")
    app = create_app(ServingConfig(store=str(copy.folder), token=None))
    app.test_client().post("/predict", json={"text": GOOD_TEXT})
    app.extensions["serving"].close()
    with closing(sqlite3.connect(copy.folder / "predictions.db")) as database:
        (count,) = database.execute("SELECT count(*) FROM sentiment_predictions").fetchone()
    assert count == 1


# --- responses -------------------------------------------------------------------------------


def test_every_response_carries_the_security_headers(start: Start) -> None:
    client = start()
    responses = [
        client.get("/"),
        client.get("/health"),
        client.get("/nope"),
        client.post("/predict", json={"text": GOOD_TEXT}),
        client.post("/predict", data=b"x"),
        client.put("/predict"),
        client.get("/static/style.css"),
    ]
    assert [response.status_code for response in responses] == [200, 200, 404, 200, 415, 405, 200]
    for response in responses:
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in policy and "form-action 'self'" in policy
        assert response.headers["Referrer-Policy"] == "same-origin"
    for response in responses[:-1]:
        assert response.headers["Cache-Control"] == "no-store"
    assert responses[-1].headers["Cache-Control"] != "no-store"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # a program
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://elsewhere"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"}, 403),
        ({"Sec-Fetch-Site": ""}, 403),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "http://LOCALHOST:80"}, 200),
        ({"Origin": "http://localhost:81"}, 403),
        ({"Origin": "https://localhost.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://shop.example", "Sec-Fetch-Site": "cross-site"}, 200),  # is allowed
    ],
)
def test_posts_of_other_sites_are_refused(
    shared: FlaskClient, headers: dict[str, str], status: int
) -> None:
    form = {"text": "good", "split": "one"}
    allowed = headers.get("Origin") == "http://shop.example"  # to use the API, not the form
    assert shared.post("/", data=form, headers=headers).status_code == (403 if allowed else status)
    predicted = shared.post("/predict", json={"text": "good"}, headers=headers)
    assert predicted.status_code == status
    assert shared.get("/", headers=headers).status_code == 200


def test_pages_of_allowed_origins_may_use_the_api(shared: FlaskClient) -> None:
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x"}
    for origin in ("http://shop.example", "http://other.example", "null"):
        allowed = origin == "http://shop.example"
        preflight = shared.options("/predict", headers={"Origin": origin, **ask})
        errors = shared.get("/nothing", headers={"Origin": origin})
        found = [preflight, shared.get("/health", headers={"Origin": origin})]
        found.append(shared.post("/predict", data="x", headers={"Origin": origin}))
        found.append(shared.get("/predict", headers={"Origin": origin}))
        for response in found:
            given = response.headers.get("Access-Control-Allow-Origin")
            assert given == (origin if allowed else None)
            assert response.headers["Vary"] == "Origin"
        assert ("POST" in preflight.headers.get("Access-Control-Allow-Methods", "")) == allowed
        assert "Access-Control-Allow-Origin" not in errors.headers
        page = shared.get("/", headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in page.headers


def test_forwarded_headers_count_from_trusted_proxies_alone(shared: FlaskClient) -> None:
    headers = {
        "X-Forwarded-Prefix": "/reviews",
        "X-Forwarded-Host": "shop.example",
        "X-Forwarded-Proto": "https",
        "Origin": "https://shop.example",
    }
    for peer, trusted in (
        *(("10.0.0.7", True), ("::ffff:10.0.0.7", True), ("127.0.0.1", False), ("", False)),
        *(("10.0.1.7", False), ("::1", False)),
    ):
        of = {"REMOTE_ADDR": peer}
        page = shared.get("/", headers=headers, environ_base=of)
        assert ('action="/reviews/#result"' in page.text) == trusted
        assert ('href="/reviews/static/style.css"' in page.text) == trusted
        servers = shared.get("/openapi.json", headers=headers, environ_base=of).get_json()
        assert servers["servers"] == [{"url": "/reviews/" if trusted else "/"}]
        posted = shared.post("/", data={"text": "good"}, headers=headers, environ_base=of)
        assert posted.status_code == (200 if trusted else 403)
    for prefix in ("//evil.example", "/a b", "/<script>", "https://evil.example", "/a//b", "/é"):
        page = shared.get(
            "/", headers={"X-Forwarded-Prefix": prefix}, environ_base={"REMOTE_ADDR": "10.0.0.7"}
        )
        assert 'action="/#result"' in page.text


def test_people_get_a_small_page_for_what_is_not_there_and_nothing_is_run_in_it(
    start: Start,
) -> None:
    client = start()
    page = client.get("/<script>alert(1)</script>", headers={"Accept": "text/html"})
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert "<script>" not in page.text and "&lt;script&gt;" in page.text
    assert client.get("/nope").mimetype == "application/json"
    api = client.get("/predict", headers={"Accept": "text/html"})
    assert (api.status_code, api.mimetype) == (405, "text/html")
    assert client.get("/predict").mimetype == "application/json"


def test_an_error_of_ours_is_one_line_to_the_client(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = start()

    def fall_over(*_: object) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(client.application.extensions["serving"], "answer", fall_over)
    response = client.post("/predict", json={"text": GOOD_TEXT})
    assert response.status_code == 500
    assert sorted(response.get_json()) == ["error", "expected", "where"]
    assert "secret" not in response.text and "Traceback" not in response.text
    assert "a secret of the inside" in caplog.text, "the operator is told"
    assert GOOD_TEXT not in caplog.text


def test_requests_are_counted_by_route(start: Start) -> None:
    client = start()
    for path in ("/a", "/b/c", "/predict/x"):
        client.get(path)
    for _ in range(3):
        client.post("/predict", json={"text": GOOD_TEXT})
    client.post("/predict", data=b"")
    labels = 'sentiment_requests_total{endpoint="%s",method="%s",status="%s"}'
    assert metric(client, labels % ("other", "GET", "404")) == 3
    assert metric(client, labels % ("/predict", "POST", "200")) == 3
    assert metric(client, labels % ("/predict", "POST", "415")) == 1
    answers = 'sentiment_answers_total{arm="champion",label="positive",version="1"}'
    assert metric(client, answers) == 3


# --- following the registry ------------------------------------------------------------------


def test_a_registry_that_is_away_does_not_stop_answering(
    start: Start, store: Store, tmp_path: Path
) -> None:
    copy = copy_store(store, tmp_path / "store")
    client = start(on=copy, refresh_seconds=0.1)
    away = tmp_path / "away"
    shutil.move(copy.folder, away)
    wait_until(lambda: client.get("/health").get_json()["problem"] is not None)
    health = client.get("/health")
    assert (health.status_code, health.get_json()["version"]) == (200, "1")
    assert client.post("/predict", json={"text": GOOD_TEXT}).status_code == 200
    assert not (copy.folder / "mlflow.db").exists(), "an empty store must not take its place"
    wait_until(lambda: metric(client, "sentiment_refresh_problem") == 1)
    shutil.rmtree(copy.folder, ignore_errors=True)
    shutil.move(away, copy.folder)
    put_into_production(copy, "3")
    wait_until(lambda: client.get("/health").get_json()["version"] == "3")
    assert client.post("/predict", json={"text": GOOD_TEXT}).get_json()["version"] == "3"


def test_without_its_challenger_the_champion_answers_and_health_says_so(start: Start) -> None:
    client = start(ab=("9", 1.0))
    assert client.post("/predict", json={"text": GOOD_TEXT}).get_json()["arm"] == "champion"
    health = client.get("/health")
    assert health.status_code == 200 and health.get_json()["problem"] == NO_CHALLENGER
    assert client.get("/ab").status_code == 404


# --- the log ---------------------------------------------------------------------------------


def test_a_locked_log_costs_rows_and_not_answers(start: Start, tmp_path: Path) -> None:
    client = start(limits=Limits(max_texts=1_000))
    texts = {"texts": ["good box"] * 1_000, "explain": False}
    with closing(sqlite3.connect(tmp_path / "log.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        for _ in range(6):
            assert client.post("/predict", json=texts).status_code == 200
        dropped = 'sentiment_log_rows_total{outcome="dropped"}'
        wait_until(lambda: metric(client, dropped) >= 3_000)
        assert client.get("/health").get_json()["log"]["dropped"] >= 3_000
        assert metric(client, "sentiment_log_queue") > 0
        other.rollback()
    written = 'sentiment_log_rows_total{outcome="written"}'
    wait_until(lambda: metric(client, written) + metric(client, dropped) == 6_000)
    assert metric(client, "sentiment_log_queue") == 0


def test_old_rows_are_retired(start: Start) -> None:
    log = start().application.extensions["serving"].log
    for position, days in enumerate([0.5, 1.5, 2.5, 9.0]):
        row = LoggedPrediction(
            *("0" * 32, position, time.time() - days * 86_400, "champion", "1", "", "", "", None),
            *(1, 1, 1, 0.5, 1, 1.0),
        )
        log.write([row])
    start(retention_days=2.0)
    wait_until(lambda: log.counts()["predictions"] == 2)
    (frame,) = log.read()
    assert sorted(frame["position"]) == [0, 1]


def test_closing_writes_what_waits_and_ends_the_threads(start: Start, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    client = start()
    # libraries start threads of their own
    names = {"log writer", "feedback writer", "version-watcher", "upkeep"}
    ours = [each for each in threading.enumerate() if each not in before and each.name in names]
    assert {each.name for each in ours} == names
    serving = client.application.extensions["serving"]
    for _ in range(20):
        client.post("/predict", json={"text": GOOD_TEXT})
    serving.close()
    serving.close()
    with closing(sqlite3.connect(tmp_path / "log.db")) as database:
        (count,) = database.execute("SELECT count(*) FROM sentiment_predictions").fetchone()
    assert count == 20
    wait_until(lambda: not any(each.is_alive() for each in ours))


def test_a_server_on_loopback_answers_to_its_own_names_alone(start: Start) -> None:
    """Else the page of a stranger, whose name points to this machine, could read the answers."""
    names = ("localhost", "127.0.0.1", "::1", "Box")
    client = start(hosts=names, allow_origins=["https://shop.example"])
    for host in ("localhost:8000", "127.0.0.1", "[::1]:80", "box", "BOX:1", "shop.example"):
        assert client.get("/health", headers={"Host": host}).status_code == 200, host
    for host in ("evil.example", "evil.example:8000", "localhost.evil.example", "[::2]", ""):
        response = client.get("/health", headers={"Host": host})
        assert response.status_code == 421, host
        assert "--allow-origin" in response.get_json()["expected"]
    assert start().get("/health", headers={"Host": "any.example"}).status_code == 200
    environ = EnvironBuilder("/health").get_environ()
    del environ["HTTP_HOST"]  # as some load balancers ask
    assert run_wsgi_app(client.application, environ)[1] == "200 OK"
