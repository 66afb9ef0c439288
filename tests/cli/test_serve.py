"""Serve sentiment: as a user runs it, in processes of its own, under load and with faults."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.serving import (
    BAD_TEXT,
    GOOD_TEXT,
    UNKNOWN_TEXT,
    Running,
    add_of_another_cleaning,
    copy_store,
    put_alias,
    put_into_production,
    running_server,
    served_probabilities,
    shared_store,
    wait_until,
)

from sentiment.__main__ import main
from sentiment.cli.options import parse_command
from sentiment.cli.serve import serving_config
from sentiment.model.predictor import load_version
from sentiment.registry.lifecycle import rollback
from sentiment.serving.config import TOKEN_VARIABLE, check_start
from sentiment.tracking.store import Store

pytestmark = pytest.mark.xdist_group("serving")
TEXTS = [GOOD_TEXT, BAD_TEXT, UNKNOWN_TEXT]
Answers = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return shared_store(tmp_path_factory)


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    return copy_store(made, tmp_path / "store")


@pytest.fixture(scope="module")
def server(made: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One worker on a copy of the store, for tests that leave it as it is."""
    copy = copy_store(made, tmp_path_factory.mktemp("served") / "store")
    with running_server("--store", copy.folder) as running:
        yield running


@pytest.fixture(scope="module")
def pair(made: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Store]]:
    """Two workers and the store they follow; each test leaves both with version 1."""
    copy = copy_store(made, tmp_path_factory.mktemp("pair") / "store")
    options = ("--store", copy.folder, "--workers", "2", "--refresh", "0.5")
    with running_server(*options) as running:
        yield running, copy


@pytest.fixture
def fails(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run the script with what it cannot do; returns its one line."""
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)

    def run(*options: str | Path) -> str:
        try:
            code = main([*map(str, options)])
        except SystemExit as error:  # argparse's own way out
            code = int(str(error.code))
        printed = capfd.readouterr()
        assert (code, printed.out) == (2, ""), printed
        assert printed.err.startswith("sentiment ") and printed.err.count("\n") == 1
        return printed.err

    return run


class Load:
    """Threads that ask the same again and again, each on a connection it keeps."""

    def __init__(self, server: Running, threads: int = 4) -> None:
        self.server = server
        self.answers: list[Answers] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        connection = HTTPConnection(self.server.host, self.server.port, timeout=60)
        headers = {"Content-Type": "application/json"}
        while not self._stop.is_set():
            try:
                connection.request("POST", "/predict", json.dumps({"texts": TEXTS}), headers)
                response = connection.getresponse()
                body = response.read()
                if response.status == 200:
                    self.answers.append(json.loads(body))
                else:
                    self.failures.append(f"{response.status} {body!r}")
            except (OSError, HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
        connection.close()


def figures(answer: Answers) -> list[float]:
    """All that tells the answer of one version from that of another."""
    probabilities = [item["probability"] for item in answer["predictions"]]
    return [answer["threshold"], answer["intercept"], *probabilities]


def expected_figures(store: Store, number: str) -> list[float]:
    version = load_version(store, number)
    probabilities = served_probabilities(version.pipeline, TEXTS)
    return [version.threshold, version.intercept, *probabilities]


def metric(server: Running, start: str) -> float:
    """The sum of the samples that start so, whatever worker is asked."""
    lines = server.ask("GET", "/metrics")[1].splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


def processor_ticks(server: Running) -> int:
    """What its workers have used of the processor, in hundredths of a second."""
    stats = [Path(f"/proc/{pid}/stat").read_text() for pid in server.workers()]
    return sum(sum(map(int, stat.rpartition(")")[2].split()[11:13])) for stat in stats)


# --- one worker ------------------------------------------------------------------------------


def test_it_says_where_it_is_and_what_it_serves(server: Running) -> None:
    pattern = r"http://127\.0\.0\.1:\d+: version 1 \(LogisticRegression\) is in production\n"
    assert re.fullmatch(pattern, server.line)
    assert server.ask("GET", "/health")[0] == 200


def test_it_answers_as_the_model_does(server: Running, made: Store) -> None:
    status, answer = server.ask("POST", "/predict", {"texts": TEXTS})
    assert status == 200 and figures(answer) == expected_figures(made, "1")


def test_the_page_and_its_files_are_there(server: Running) -> None:
    status, page = server.ask("GET", "/")
    assert status == 200 and page.lower().startswith("<!doctype html>")
    for file in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
        assert server.ask("GET", file)[0] == 200


def raw(server: Running, data: bytes) -> str:
    """Send bytes as they are; returns the status line. The body is an error as JSON."""
    with socket.create_connection((server.host, server.port), timeout=40) as connection:
        connection.sendall(data)
        response = HTTPResponse(connection)
        response.begin()
        assert sorted(json.loads(response.read())) == ["error", "expected", "where"]
        return f"{response.status} {response.reason}"


HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (HEAD + b"Content-Length: -1\r\n\r\n{}", 400),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", 400),
        (HEAD + b"Transfer-Encoding: rot13\r\n\r\n{}", 400),
        (HEAD + b"Content-Length: 6\r\n\r\n" + b'{"text": "good"}', 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400),
        (HEAD + b"\r\n", 400),
    ],
)
def test_what_is_no_http_is_refused_in_the_same_form(
    server: Running, data: bytes, status: int
) -> None:
    assert raw(server, data).startswith(f"{status} ")
    assert server.ask("GET", "/health")[0] == 200


def test_a_chunked_body_is_read(server: Running) -> None:
    connection = HTTPConnection(server.host, server.port, timeout=60)
    parts = iter([b'{"text": "', GOOD_TEXT.encode(), b'"}'])
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/predict", parts, headers, encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()


def test_a_client_that_sends_too_much_hears_so(server: Running) -> None:
    """It has sent all of it before it listens, which must not break the connection first."""
    for size in (2_000_000, 10_000_000):
        status, error = server.ask("POST", "/predict", b"x" * size)
        assert (status, error["where"]) == (413, "body")
    assert server.ask("POST", "/predict", {"text": "good"})[0] == 200


# --- two workers -----------------------------------------------------------------------------


@pytest.mark.slow
def test_promotion_and_rollback_under_load_fail_no_request_and_mix_none(
    pair: tuple[Running, Store],
) -> None:
    server, store = pair

    def both_serve(version: str) -> bool:
        """Whether forty requests in a row got this version, so that both workers have it."""
        asked = (server.ask("POST", "/predict", {"text": GOOD_TEXT})[1] for _ in range(40))
        return all(answer["version"] == version for answer in asked)

    with Load(server) as load:
        wait_until(lambda: len(load.answers) > 50)
        for version in ("3", "2"):
            put_into_production(store, version)
            wait_until(partial(both_serve, version), 30)
            rollback(store)
            wait_until(partial(both_serve, "1"), 30)
    assert load.failures == []
    expected = {number: expected_figures(store, number) for number in ("1", "2", "3")}
    assert {answer["version"] for answer in load.answers} == set(expected)
    assert all(figures(answer) == expected[answer["version"]] for answer in load.answers)


@pytest.mark.slow
def test_metrics_of_both_workers_are_added_up_and_a_killed_one_is_replaced(
    pair: tuple[Running, Store],
) -> None:
    server = pair[0]
    names = {
        "requests": 'sentiment_requests_total{endpoint="/predict",method="POST",status="200"}',
        "times": 'sentiment_request_seconds_count{endpoint="/predict"}',
        "answers": "sentiment_answers_total",
        "written": 'sentiment_log_rows_total{outcome="written"}',
    }
    # what earlier tests asked for: the workers' own accounts reach the metrics each second only
    wait_until(lambda: metric(server, names["written"]) == metric(server, names["answers"]))
    before = {name: metric(server, start) for name, start in names.items()}
    with Load(server, threads=8) as load:
        wait_until(lambda: len(load.answers) > 300)
    assert load.failures == []
    count = len(load.answers)
    more = {"requests": count, "times": count, "answers": 3 * count, "written": 3 * count}
    wait_until(
        lambda: (
            more == {name: metric(server, start) - before[name] for name, start in names.items()}
        )
    )
    model = 'sentiment_model_info{algorithm="LogisticRegression",arm="champion",version="1"}'
    assert metric(server, model) == 1

    workers = server.workers()
    assert len(workers) == 2
    with Load(server) as load:
        wait_until(lambda: len(load.answers) > 50)
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: len(server.workers()) == 2 and workers[0] not in server.workers())
        at = len(load.answers)
        wait_until(lambda: len(load.answers) > at + 200)
    # each of the four clients can have had one request with the worker that was killed
    assert len(load.failures) <= 4, load.failures
    counted = metric(server, names["requests"]) - before["requests"]
    assert counted >= count, "what a dead worker counted stays counted"


@pytest.mark.slow
def test_a_worker_that_comes_while_the_log_is_locked_answers(store: Store) -> None:
    log = store.folder / "predictions.db"
    with running_server("--store", store.folder) as server:
        assert server.ask("POST", "/predict", {"text": GOOD_TEXT})[0] == 200
        wait_until(lambda: metric(server, 'sentiment_log_rows_total{outcome="written"}') == 1)
        with closing(sqlite3.connect(log)) as other:
            other.execute("BEGIN EXCLUSIVE")
            (worker,) = server.workers()
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda: server.workers() not in ([], [worker]))
            assert server.ask("POST", "/predict", {"text": BAD_TEXT})[0] == 200
            other.rollback()
        assert server.stop()[0] == 0
    with closing(sqlite3.connect(log)) as database:
        texts = [text for (text,) in database.execute("SELECT text FROM sentiment_predictions")]
    assert texts == [GOOD_TEXT, BAD_TEXT]


@pytest.mark.slow
def test_options_reach_the_workers_and_sigterm_finishes_the_request(store: Store) -> None:
    texts = [f"{GOOD_TEXT} {BAD_TEXT} {number} " * 12 for number in range(3_000)]
    options = ("--ab", "challenger=0.5", "--no-store-text", "--max-body", "50000000")
    secret, allowed = {TOKEN_VARIABLE: "a-secret"}, {"Authorization": "Bearer a-secret"}
    with running_server("--store", store.folder, *options, "--workers", "2", **secret) as server:
        assert "compared with version 2 (NaiveBayes)" in server.line
        answer = server.ask("POST", "/predict", {"text": GOOD_TEXT})[1]
        asked = {"request_id": answer["request_id"], "label": "negative"}
        assert [server.ask("GET", "/ab", **headers)[0] for headers in ({}, allowed)] == [401, 200]
        assert server.ask("POST", "/feedback", asked)[0] == 401
        # 202: the other worker has it, and the answer's row is not in the log yet
        wait_until(lambda: server.ask("POST", "/feedback", asked, **allowed)[0] in (200, 202))
        assert "a-secret" not in Path(f"/proc/{server.process.pid}/cmdline").read_text()
        with ThreadPoolExecutor(1) as client:
            long = client.submit(server.ask, "POST", "/predict", {"texts": texts, "explain": True})
            before = processor_ticks(server)
            wait_until(lambda: processor_ticks(server) > before + 30)  # of the second and more
            assert not long.done(), "the request should still be under way"
            assert server.stop() == (0, "", "")
            status, answer = long.result()
    assert (status, len(answer["predictions"])) == (200, 3_000)
    with closing(sqlite3.connect(store.folder / "predictions.db")) as database:
        logged = database.execute("SELECT count(*), count(text) FROM sentiment_predictions")
        assert logged.fetchall() == [(3_001, 0)]


@pytest.mark.slow
def test_flasks_own_server_serves_it_too(store: Store) -> None:
    with running_server("--store", store.folder, "--debug") as server:
        wait_until(lambda: _answers(server))
        assert server.ask("POST", "/predict", {"text": GOOD_TEXT})[1]["version"] == "1"
        server.process.send_signal(signal.SIGINT)
        server.process.communicate(timeout=30)


def _answers(server: Running) -> bool:
    try:
        return server.ask("GET", "/health")[0] == 200
    except OSError:
        return False


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--ab", "challenger=0.5", "--shadow", "3"], "one challenger at a time"),
        (["--ab-name", "spring"], "--ab-name"),
        (["--host", "256.1.1.1"], "cannot listen"),
        (["--log-url", "mysql://user:hidden@x/y"], "expected sqlite"),
    ],
)
def test_bad_options_end_in_one_line(
    fails: Callable[..., str], made: Store, options: list[str], says: str
) -> None:
    line = fails("serve", "--store", made.folder, "--port", "0", *options)
    assert says in line and "hidden" not in line


def test_a_port_that_is_taken_is_said(fails: Callable[..., str], server: Running) -> None:
    assert f":{server.port}" in fails("serve", "--port", str(server.port))


def test_a_folder_without_a_store_is_said_and_stays_as_it_was(
    fails: Callable[..., str], tmp_path: Path
) -> None:
    assert "sentiment_mlflow_optuna.py --promote" in fails(
        "serve", "--store", tmp_path, "--port", "0"
    )
    assert not list(tmp_path.iterdir())


def test_a_version_that_is_not_there_or_cannot_be_served_is_said(
    fails: Callable[..., str], store: Store
) -> None:
    other = add_of_another_cleaning(store)
    for version, said in ((None, "no version is in production"), (other, "another cleaning")):
        put_alias(store, "champion", version)
        assert said in fails("serve", "--store", store.folder, "--port", "0")


def test_a_challenger_that_is_not_there_does_not_stop_the_server(store: Store) -> None:
    def warning(challenger: str) -> str:
        options = ["serve", "--store", str(store.folder), "--ab", challenger]
        return check_start(serving_config(parse_command(options)))

    said = warning("9=0.5")
    assert "'9'" in said and "answers everything" in said and "\n" not in said
    assert warning("3=0.5") == ""


# --- batch -----------------------------------------------------------------------------------


def test_score_writes_the_files_answers(
    made: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str], fails: Callable[..., str]
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    pd.DataFrame({"body": TEXTS}).to_csv(source, index=False)
    options = ["score", "--store", str(made.folder), "--in", str(source), "--text-column", "body"]
    assert main([*options, "--out", str(target), "--version", "2"]) == 0
    capfd.readouterr()
    scored = pd.read_csv(target)
    pipeline = load_version(made, "2").pipeline
    assert scored["probability"].tolist() == served_probabilities(pipeline, TEXTS)
    assert scored["label"].tolist()[:2] == ["positive", "negative"]
    assert "nope.csv" in fails(*options[:3], "--in", tmp_path / "nope.csv", "--out", target)
    assert "no such store" in fails(
        "score", "--store", tmp_path, "--in", source, "--out", tmp_path / "o.csv"
    )


@pytest.mark.slow
def test_ctrl_c_ends_it_in_one_line_at_any_time(store: Store) -> None:
    command = [sys.executable, "-m", "sentiment", "serve", "--port", "0"]
    for moment in ("while it imports", "when it answers"):
        process = subprocess.Popen(
            [*command, "--store", str(store.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if moment == "while it imports":
            maps = Path(f"/proc/{process.pid}/maps")
            wait_until(lambda maps=maps: "sklearn" in maps.read_text())  # type: ignore[misc]
        else:
            assert process.stdout is not None and "http://" in process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all of them get it
        _, errors = process.communicate(timeout=60)
        # Python ends by the signal where that came within an `exec` of text, as some libraries do
        # when they are imported; a shell says 130 of both
        codes = {"interrupted\n": (130, -signal.SIGINT), "": (0,)}
        assert process.returncode in codes.get(errors, ()), errors
