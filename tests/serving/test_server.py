"""Server: clients that are slow or too many, signals, workers that die; with short deadlines."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPResponse
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask, Response, request
from support.serving import wait_until
from waitress.channel import ClientDisconnected

from sentiment.errors import ServerError, ServingConfigError
from sentiment.serving import server
from sentiment.serving.app import HEADERS
from sentiment.serving.server import Listener, run_server

BIG = 30_000_000  # bytes, far more than the system keeps for a client
DEADLINE, LONG = 1, 60  # seconds, in these tests; a client gives up after 20
GET = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /length HTTP/1.1\r\nHost: localhost\r\n"
DEADLINES = ("REQUEST_SECONDS", "KEEP_ALIVE_SECONDS", "ANSWER_SECONDS")


@pytest.fixture(autouse=True)
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DEADLINES:
        monkeypatch.setattr(server, name, DEADLINE)
    monkeypatch.setattr(server, "CONNECTIONS", 20)


@pytest.fixture
def long_deadlines(short_deadlines: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens within a test does not happen because of a deadline."""
    for name in DEADLINES:
        monkeypatch.setattr(server, name, LONG)


@pytest.fixture
def small_app(tmp_path: Path) -> Callable[[], Flask]:
    """Make an app whose `close` leaves a file; each worker leaves one when it begins."""

    def make() -> Flask:
        app = Flask("small")
        app.config["MAX_CONTENT_LENGTH"] = 1_000
        (tmp_path / f"began {os.getpid()}").touch()
        closed = tmp_path / f"closed {os.getpid()}"
        app.extensions["serving"] = SimpleNamespace(close=closed.touch)

        @app.get("/pid")
        def pid() -> str:
            return str(os.getpid())

        @app.get("/cpu")
        def cpu() -> str:
            return str(time.process_time())

        @app.get("/big")
        def big() -> Response:
            return Response(bytes(BIG))

        @app.get("/slow")
        def slow() -> str:
            (tmp_path / "slow began").touch()
            time.sleep(1.5)
            return "done"

        @app.get("/slow-and-big")
        def slow_and_big() -> Response:
            slow()
            return big()

        @app.post("/length")
        def length() -> str:
            return str(len(request.get_data()))

        return app

    return make


Serve = Callable[..., "Served"]


class Served:
    """A server in a process of its own; what is not closed here is at the end of the test."""

    def __init__(self, stack: ExitStack, process: Any, port: int) -> None:
        self.process, self.port, self._stack = process, port, stack

    def connect(self, data: bytes = b"") -> socket.socket:
        """Open a connection and send the start of a request."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        self._stack.callback(client.close)
        client.sendall(data)
        return client

    def ask(self, data: bytes) -> tuple[int, bytes]:
        """Status and body of what is sent on a connection of its own."""
        return answer(self.connect(data))

    def pid(self) -> int:
        """Ask for the worker's process id."""
        return int(self.ask(GET % b"pid")[1])

    def has_left(self, client: socket.socket) -> bool:
        """Whether it has closed its end, of which a client that does not read is not told."""
        ends = f":{self.port:04X}", f":{client.getsockname()[1]:04X}"
        for line in Path("/proc/net/tcp").read_text().splitlines():
            _, local, remote, state = line.split()[:4]
            if (local[-5:], remote[-5:]) == ends:
                return state != "01"  # established
        return True


def answer(client: socket.socket) -> tuple[int, bytes]:
    response = HTTPResponse(client)
    response.begin()
    return response.status, response.read()


def read_to_the_end(client: socket.socket) -> int:
    """Wait until the server closes the connection; how many bytes it sent before."""
    count = 0
    with suppress(ConnectionError):
        while data := client.recv(1 << 20):
            count += len(data)
    return count


@pytest.fixture
def serve(small_app: Callable[[], Flask]) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(workers: int = 1, threads: int = 2) -> Served:
            listener, context = Listener("127.0.0.1", 0), get_context("fork")
            ready = context.Event()
            process = context.Process(
                target=lambda: os._exit(
                    run_server(
                        small_app,
                        listener,
                        workers=workers,
                        threads=threads,
                        ready=lambda _: ready.set(),
                    )
                )
            )
            process.start()
            stack.callback(end, process)
            listener.socket.close()
            assert ready.wait(60)
            return Served(stack, process, listener.port)

        yield start


def end(process: Any) -> None:
    process.terminate()
    process.join(20)
    process.kill()


def test_who_sends_slowly_is_told_so_and_holds_no_thread(serve: Serve) -> None:
    served = serve(threads=1)
    started = (b"GET /p", POST + b"Content-Length: 900\r\n\r\n1")
    clients = [served.connect(start) for start in started]

    def all_are_answered() -> bool:
        """Send a byte more, which wins no time."""
        waiting = [client for client in clients if not select.select([client], [], [], 0.1)[0]]
        for client in waiting:
            client.sendall(b"x")
        assert served.pid()
        return not waiting

    wait_until(all_are_answered)
    for client in clients:
        status, body = answer(client)
        assert (status, sorted(json.loads(body))) == (408, ["error", "expected", "where"])


def test_who_is_silent_or_idle_is_left_after_a_while(serve: Serve) -> None:
    served = serve()
    silent, idle = served.connect(), served.connect(GET % b"pid")
    assert answer(idle)[0] == 200
    for client in (silent, idle):
        assert read_to_the_end(client) == 0


def test_who_does_not_read_an_answer_holds_no_thread_and_is_left(serve: Serve) -> None:
    served = serve(threads=1)
    deaf = [served.connect(GET % b"big") for _ in range(3)]
    assert served.pid()
    wait_until(lambda: all(served.has_left(client) for client in deaf))
    for client in deaf:
        assert 0 < read_to_the_end(client) < BIG
    assert len(served.ask(GET % b"big")[1]) == BIG  # who reads gets all of it


def test_who_asks_again_and_does_not_read_holds_no_thread(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ANSWER_SECONDS", 3 * DEADLINE)
    served = serve(threads=1)
    deaf = served.connect(GET % b"slow-and-big")
    wait_until((tmp_path / "slow began").exists)
    deaf.sendall(GET % b"pid")
    assert served.pid() and not served.has_left(deaf)
    wait_until(lambda: served.has_left(deaf))
    assert 0 < read_to_the_end(deaf) < BIG


def test_who_comes_when_all_are_busy_waits_and_costs_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 5)
    served = serve(threads=5)
    first = served.connect(GET % b"cpu")
    used = float(answer(first)[1])
    first.close()
    busy = [served.connect(GET % b"slow") for _ in range(5)]
    time.sleep(0.2)
    late = served.connect(GET % b"cpu")
    for client in busy:
        assert answer(client) == (200, b"done")
        client.close()
    status, now = answer(late)
    assert status == 200
    assert float(now) - used < 0.5  # of the second and more that it waited
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("long_deadlines")
def test_a_crowd_throws_out_its_own(serve: Serve) -> None:
    served = serve()
    crowd = [served.connect(b"GET") for _ in range(60)]
    assert served.pid()
    assert read_to_the_end(crowd[0]) == 0
    kept = crowd[-1]
    kept.sendall((GET % b"pid")[3:])
    assert answer(kept)[0] == 200


@pytest.mark.usefixtures("long_deadlines")
def test_who_sends_more_before_the_answer_has_to_ask_again(serve: Serve) -> None:
    served = serve()
    client = served.connect((GET % b"pid") * 300)
    assert answer(client)[0] == 200
    assert read_to_the_end(client) == 0
    blank = served.connect(GET % b"pid" + b"\r\n")  # some clients end so
    for _ in range(2):
        assert answer(blank)[0] == 200
        blank.sendall(GET % b"pid")


def test_urgent_bytes_are_no_trouble(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    served = serve()
    client = served.connect()
    client.send(b"G", socket.MSG_OOB)
    time.sleep(0.2)
    client.sendall((GET % b"pid")[1:])
    assert answer(client)[0] == 200
    assert capfd.readouterr().err == ""


ODD = [
    (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
    (POST + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n", 400),
    (POST + b"Transfer-Encoding: rot13\r\n\r\n", 400),  # not a 5xx, which would be our fault
    (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n: \xff\r\n\r\n", 200),
    (POST + b"SCRIPT_NAME: /x\r\nContent-Length: 0\r\n\r\n", 200),
    (POST + b"Content-Length: 1001\r\n\r\n" + bytes(1_001), 413),
    (POST + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n", 413),
    (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nA: " + b"x" * 20_000 + b"\r\n\r\n", 431),
]


def test_odd_requests_are_answered(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    served = serve()
    for data, status in ODD:
        assert served.ask(data)[0] == status, data[:80]
    refused = HTTPResponse(served.connect(ODD[0][0]))
    refused.begin()
    expected = {**HEADERS, "Cache-Control": "no-store"}
    assert {name: refused.headers[name] for name in expected} == expected
    assert capfd.readouterr().err == ""


def test_a_client_that_left_before_it_was_refused_is_no_error(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def has_left(*_: object) -> None:
        raise ClientDisconnected

    monkeypatch.setattr(server._Refusal, "write", has_left)
    served = serve()
    assert read_to_the_end(served.connect(b"no HTTP\r\n\r\n")) == 0
    assert served.pid()
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("long_deadlines")
def test_sigterm_lets_open_requests_end(serve: Serve, tmp_path: Path) -> None:
    served = serve(workers=2)
    idle, working = served.connect(), served.connect(GET % b"slow")
    wait_until((tmp_path / "slow began").exists)
    served.process.terminate()
    assert read_to_the_end(idle) == 0
    assert answer(working) == (200, b"done")
    served.process.join(LONG / 2)  # less than it waits for those that stay
    assert served.process.exitcode == 0
    assert len([*tmp_path.glob("closed *")]) == 2


def test_a_worker_that_dies_is_replaced_and_none_outlives_the_server(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve()
    first = served.pid()
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len([*tmp_path.glob("began *")]) == 2)
    second = served.pid()
    assert second != first
    served.process.kill()
    wait_until((tmp_path / f"closed {second}").exists)


@pytest.mark.parametrize("error", [ServingConfigError("not like this"), ValueError("a fault")])
def test_an_app_that_cannot_be_made_ends_the_server(
    error: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    def make() -> Flask:
        raise error

    with pytest.raises(ServerError, match="worker"):
        run_server(make, Listener("127.0.0.1", 0), workers=2, threads=1, ready=print)
    said = capfd.readouterr().err
    assert str(error) in said
    assert ("Traceback" in said) == isinstance(error, ValueError)


def test_an_address_that_is_taken_is_refused_before_anything_starts() -> None:
    first = Listener("127.0.0.1", 0)
    first.listen()
    with pytest.raises(ServerError, match=rf"127\.0\.0\.1:{first.port}"):
        Listener("127.0.0.1", first.port)
    first.socket.close()
