"""Run the app in gunicorn's worker processes, each with threads, until a signal ends them.

SIGTERM lets open requests end and the log be written; a worker that dies is replaced.
"""

from __future__ import annotations

import gc
import json
import os
import select
import shutil
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]
from gunicorn.http.errors import (  # type: ignore[import-untyped]
    ConfigurationProblem,
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from sentiment.errors import ServerError, raise_if_interrupted
from sentiment.serving.metrics import FOLDER_VARIABLE, forget_process

BOOT_SECONDS = 120  # a worker that says nothing for so long is replaced
GRACE_SECONDS = 30  # for open requests after SIGTERM; a full batch takes a few
KEEP_ALIVE_SECONDS = 15
# A client that sends a part of its request and then nothing holds a thread for so long
RECEIVE_SECONDS = 10
# A body that was refused is still read so far: a client that is sending does not listen, and would
# find the connection broken instead of the answer
READ_ON = 16 * 2**20
# How long a thread stays with a client that may ask again, while there are threads to spare: going
# back to the worker's loop for the next request costs a third of a request's time
STAY_MILLISECONDS = 10
# Python's own 5 ms between threads let a review wait for a batch at each of its steps
SWITCH_SECONDS = 0.0005
STATUSES = {
    LimitRequestLine: (414, "URI Too Long"),
    ExpectationFailed: (417, "Expectation Failed"),
    LimitRequestHeaders: (431, "Request Header Fields Too Large"),
}


@dataclass(frozen=True)
class Address:
    """Where the server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def free_address(host: str, port: int) -> Address:
    """Return the address if it can be listened on; port 0 becomes a free one.

    Raises `ServerError`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return Address(host, probe.getsockname()[1])
    except OSError as error:
        raise ServerError(
            f"cannot listen on {Address(host, port)} ({error.strerror}); name another with --host "
            "or --port"
        ) from None


def run_server(
    make_app: Callable[[], Flask],
    address: Address,
    *,
    workers: int,
    threads: int,
    ready: Callable[[Flask], None],
) -> int:
    """Serve until a signal; return the exit code.

    `make_app` is called in each worker, after the fork, and `ready` in the first one when it is
    about to answer. What the caller imported before is shared by all workers.
    """
    memory = Path("/dev/shm")  # a heartbeat must not wait for a disk

    def began(worker: Any) -> None:
        gc.freeze()  # the model as well
        sys.setswitchinterval(SWITCH_SECONDS)
        if worker.age == 1:  # the first of all; later ones replace those that died
            ready(worker.app.wsgi())

    options = {
        "bind": str(address),
        "workers": workers,
        "threads": threads,
        "worker_class": SentimentWorker,
        "logger_class": QuietLogger,
        "loglevel": "warning",
        "timeout": BOOT_SECONDS,
        "graceful_timeout": GRACE_SECONDS,
        "keepalive": KEEP_ALIVE_SECONDS,
        "worker_tmp_dir": str(memory) if os.access(memory, os.W_OK) else None,
        "control_socket_disable": True,
        "post_worker_init": began,
        "worker_exit": _ended,
        "child_exit": _reaped,
    }
    owner = os.getpid()
    folder = tempfile.mkdtemp(prefix="sentiment_metrics_") if workers > 1 else None
    if folder is not None:
        os.environ[FOLDER_VARIABLE] = folder
    # What is imported stays: left out of every later garbage collection, its memory remains shared,
    # no request waits for it to be looked through, and a worker ends in an instant.
    gc.collect()
    gc.freeze()
    raise_if_interrupted()
    try:
        Arbiter(_Application(make_app, options)).run()
    except SystemExit as error:
        if os.getpid() != owner:  # a worker ends through here as well
            raise
        return error.code if isinstance(error.code, int) else 0
    finally:
        if folder is not None and os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)
            del os.environ[FOLDER_VARIABLE]
    return 0


class _Application(BaseApplication):  # type: ignore[misc]  # gunicorn is untyped
    def __init__(self, make_app: Callable[[], Flask], options: dict[str, Any]) -> None:
        self.load, self._options = make_app, options
        super().__init__()

    def load_config(self) -> None:
        """Hand our settings to gunicorn."""
        for name, value in self._options.items():
            self.cfg.set(name, value)


def _ended(_: Any, worker: Any) -> None:
    """In the worker, after its last request."""
    app = worker.app.callable
    if app is not None:
        app.extensions["serving"].close()


def _reaped(_: Any, worker: Any) -> None:
    """In the master, when a worker is gone."""
    if FOLDER_VARIABLE in os.environ:
        forget_process(worker.pid)


class SentimentWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn is untyped
    """Gunicorn's threaded worker, patient with slow clients for a while only."""

    def handle(self, conn: Any) -> Any:
        """Answer a request of the connection, and those that follow at once."""
        seconds = struct.pack("ll", RECEIVE_SECONDS, 0)
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
        again = super().handle(conn)
        while again is True and self.alive and self.nr_conns < self.cfg.threads:
            more = select.poll()
            more.register(conn.sock, select.POLLIN)
            if not more.poll(STAY_MILLISECONDS):
                break
            again = super().handle(conn)
        return again

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Run the app; return whether the connection can be used again."""
        again = super().handle_request(req, conn)
        until = time.monotonic() + RECEIVE_SECONDS
        return bool(conn.parser.finish_body(deadline=until, max_bytes=READ_ON)) and again

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Refuse what is not HTTP, in the form that all errors of the API have."""
        if not isinstance(exc, ParseException) or isinstance(exc, ConfigurationProblem):
            super().handle_error(req, client, addr, exc)
            return
        status, reason = STATUSES.get(type(exc), (400, "Bad Request"))
        error = {"error": reason.lower(), "where": "the request's head", "expected": "HTTP/1.1"}
        body = json.dumps(error)
        head = (
            f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            client.sendall((head + body).encode())
        except OSError:
            self.log.debug("a client that sent no HTTP did not wait for the answer")


class QuietLogger(Logger):  # type: ignore[misc]  # gunicorn is untyped
    """Gunicorn's log without the clients that stopped sending: that is no error of ours."""

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Log the exception that is being handled."""
        if not isinstance(sys.exc_info()[1], BlockingIOError):
            super().exception(msg, *args, **kwargs)
