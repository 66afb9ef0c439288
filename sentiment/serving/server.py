"""Run the app in worker processes that share one listening socket, until a signal ends them.

Each worker is a waitress, which hands a request to a thread when it has all of it, and sends the
answer by itself: a client that sends or reads slowly, or not at all, costs a connection and some
memory, never a thread. What waitress leaves open is settled here: how long one may take for a
request or an answer, who has to go when there are too many, and what is said of that.

SIGTERM lets open requests end and the log be written; a worker that dies is replaced.
"""

from __future__ import annotations

import gc
import json
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection
from types import FrameType
from typing import Any, NoReturn

from flask import Flask
from waitress import create_server
from waitress.buffers import OverflowableBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import BadRequest, RequestHeaderFieldsTooLarge

from sentiment.errors import ServerError, UserError, raise_if_interrupted
from sentiment.serving.app import HEADERS, NOT_KEPT
from sentiment.serving.metrics import FOLDER_VARIABLE, forget_process

GRACE_SECONDS = 30  # for open requests after SIGTERM; a full batch takes a few
CLOSING_SECONDS = 15  # more, for the log to be written, before a worker is killed
# From the first byte of a request, or from the connection, to the last byte of its body
REQUEST_SECONDS = 15
KEEP_ALIVE_SECONDS = 15  # between an answer and the next request
ANSWER_SECONDS = 60  # to read an answer: ten thousand reviews over a slow line
# Of one worker. Beyond that, those go first that have kept it waiting longest
CONNECTIONS = 1_000
FILES = 3  # a connection may have: itself, a long body, a long answer
OTHER_FILES = 100
HEAD_BYTES = 16 * 2**10  # twice what servers usually take
# A body that is too large is still read so far: a client that is sending does not listen, and would
# find the connection broken instead of the answer. What is read in vain is not kept (`_Body`)
READ_ON = 16 * 2**20
BACKLOG = 1024
# Python's own 5 ms between threads let a review wait for a batch at each of its steps
SWITCH_SECONDS = 0.0005
RESTART_SECONDS = 1.0  # before another try, where a worker died before it could answer
ENDINGS = (signal.SIGTERM, signal.SIGINT)
Ready = Callable[[Flask], None]


class Listener:
    """A socket that is bound and does not listen yet; `str` gives `host:port`."""

    def __init__(self, host: str, port: int) -> None:
        """Bind; port 0 becomes a free one. Raises `ServerError`."""
        self.host, self.port = host, port
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # "Urgent" bytes are data: apart from them, they would wake the worker without end
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
            self.socket.bind((host, port))
        except OSError as error:
            self._refuse(error)
        self.port = self.socket.getsockname()[1]

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def listen(self) -> None:
        """Let clients connect. Raises `ServerError` when another program came first."""
        try:
            self.socket.listen(BACKLOG)
        except OSError as error:
            self._refuse(error)

    def _refuse(self, error: OSError) -> NoReturn:
        self.socket.close()
        raise ServerError(
            f"cannot listen on {self} ({error.strerror}); name another with --host or --port"
        ) from None


# --- all workers -----------------------------------------------------------------------------


def run_server(
    make_app: Callable[[], Flask], listener: Listener, *, workers: int, threads: int, ready: Ready
) -> int:
    """Serve until a signal; return the exit code. Raise `ServerError` if a worker cannot start.

    `make_app` is called in each worker, after the fork, and `ready` in the first one when it is
    about to answer. What the caller imported before is shared by all workers.
    """
    supervisor = _Supervisor(make_app, listener, threads, ready)
    with _metrics_of_all(workers), supervisor.handling_signals():
        # What is imported stays: left out of every later garbage collection, its memory remains
        # shared, no request waits for it to be looked through, and a worker ends in an instant.
        gc.collect()
        gc.freeze()
        raise_if_interrupted()
        listener.listen()
        supervisor.run(workers)
    return 0


@contextmanager
def _metrics_of_all(workers: int) -> Iterator[None]:
    """Give several workers a folder in which their metrics are added up."""
    if workers == 1:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="sentiment_metrics_") as folder:
        os.environ[FOLDER_VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[FOLDER_VARIABLE]


class _Supervisor:
    """Starts the workers, replaces those that die, and ends them."""

    def __init__(
        self, make_app: Callable[[], Flask], listener: Listener, threads: int, ready: Ready
    ) -> None:
        self._what = make_app, listener.socket, threads
        self._ready = ready
        self._workers: dict[multiprocessing.process.BaseProcess, Any] = {}  # and: is it ready?
        self._served = False  # whether any worker ever was ready
        self._kill_at: float | None = None  # set when all are to end

    @contextmanager
    def handling_signals(self) -> Iterator[None]:
        """Let the signals end the workers; a second one does so at once."""
        before = {number: signal.signal(number, self._end) for number in ENDINGS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self, count: int) -> None:
        """Keep so many workers running until a signal."""
        self._start(self._ready)
        for _ in range(1, count):
            self._start(None)
        try:
            while self._workers:
                connection.wait([worker.sentinel for worker in self._workers], 1.0)
                for worker in [each for each in self._workers if not each.is_alive()]:
                    self._replace(worker)
                if self._kill_at is not None and time.monotonic() > self._kill_at:
                    break
        finally:
            for worker in self._workers:
                worker.kill()
                worker.join()

    def _end(self, *_: object) -> None:
        again = self._kill_at is not None
        self._kill_at = time.monotonic() + (0 if again else GRACE_SECONDS + CLOSING_SECONDS)
        for worker in self._workers:
            worker.terminate()

    def _start(self, ready: Ready | None) -> None:
        """Fork a worker. Until it has handlers of its own, signals wait."""
        context = multiprocessing.get_context("fork")
        is_ready = context.RawValue("b", 0)
        worker = context.Process(target=_work, args=(*self._what, ready, is_ready), name="worker")
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
        try:
            if self._kill_at is None:
                worker.start()
                self._workers[worker] = is_ready
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)

    def _replace(self, worker: multiprocessing.process.BaseProcess) -> None:
        was_ready = bool(self._workers.pop(worker).value)
        self._served |= was_ready
        if FOLDER_VARIABLE in os.environ:
            assert worker.pid is not None
            forget_process(worker.pid)
        if self._kill_at is not None:
            return
        if not was_ready:
            if not self._served and not any(each.value for each in self._workers.values()):
                raise ServerError("a worker could not start, as said above")
            time.sleep(RESTART_SECONDS)
        self._start(None)


# --- one worker ------------------------------------------------------------------------------


def _work(
    make_app: Callable[[], Flask],
    listening: socket.socket,
    threads: int,
    ready: Ready | None,
    is_ready: Any,
) -> None:
    """Be a worker, from the fork to the end; `is_ready` tells the parent when it can answer."""
    try:
        app = make_app()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    worker = _Worker(app, listening, threads)
    for number in ENDINGS:
        signal.signal(number, worker.end)
    gc.freeze()  # the model as well
    sys.setswitchinterval(SWITCH_SECONDS)
    is_ready.value = 1
    if ready is not None:
        ready(app)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
    worker.server.run()
    app.extensions["serving"].close()


class _Worker:
    """A waitress that neither waits for its clients for ever nor runs out of connections."""

    def __init__(self, app: Flask, listening: socket.socket, threads: int) -> None:
        # neither a full queue nor that all connections are taken is an error
        logging.getLogger("waitress").setLevel(logging.ERROR)
        # By now it may have been killed; `getppid` would name another
        parent = multiprocessing.parent_process()
        assert parent is not None
        self._connections, self._parent = _room(), parent.pid
        self._look_at, self._end_at = 0.0, float("inf")
        self.server = create_server(
            app,
            sockets=[listening],
            threads=threads,
            backlog=BACKLOG,
            # Where `_accept_all` ends: who waits would wake the worker without end. Waitress counts
            # the listening socket and its trigger as well
            connection_limit=self._connections + 2,
            # Never reached: a thread would wait there, without end, for its client to read an
            # answer before the request that follows. What is not read lies on the disk
            outbuf_high_watermark=2**40,
            asyncore_use_poll=True,  # `select` ends at 1,024 files
            cleanup_interval=0,  # `_look_after` is called each time before waitress waits
            # notices that a client left while its request waits for a thread
            channel_request_lookahead=1,
            max_request_header_size=HEAD_BYTES,
            max_request_body_size=app.config["MAX_CONTENT_LENGTH"] + READ_ON,
            clear_untrusted_proxy_headers=False,  # the app knows which of them it believes
            log_socket_errors=False,  # that clients leave is no error
            ident=None,
        )
        self.server.channel_class = _Channel
        self.server.maintenance = self._look_after
        self._accept = self.server.handle_accept
        self.server.handle_accept = self._accept_all

    def end(self, _: int, __: FrameType | None) -> None:
        """Answer what is open, and end; a signal handler."""
        self._end_at = min(self._end_at, time.time() + GRACE_SECONDS)
        self.server.pull_trigger()

    def _accept_all(self) -> None:
        """Accept who waits; one in each round would leave the others to a crowd."""
        channels, before = self.server.active_channels, -1
        while before < len(channels) < self._connections:
            before = len(channels)
            self._accept()

    def _look_after(self, now: float) -> None:
        """Close connections whose clients let us wait for too long, or that are too many."""
        channels = self.server.active_channels
        ending = self._end_at < float("inf")
        if now < self._look_at and len(channels) < self._connections and not ending:
            return
        self._look_at = now + 1.0
        waiting = [channel for channel in [*channels.values()] if not channel.requests]
        for channel in waiting:
            if channel.deadline < now:
                channel.give_up()
        if len(channels) >= self._connections:
            waiting.sort(key=lambda channel: channel.waits_since)
            for channel in waiting[: self._connections // 10]:
                channel.hang_up()
        if os.getppid() != self._parent:  # killed, and nobody will tell us to end
            self.end(0, None)
        if ending:
            self._let_go(now)

    def _let_go(self, now: float) -> None:
        channels = self.server.active_channels
        if self.server.accepting:
            # one round more: what has come by now is still read
            self.server.accepting = False
            self.server.pull_trigger()
            return
        for channel in [*channels.values()]:
            if not channel.requests and not channel.total_outbufs_len and channel.request is None:
                channel.hang_up()
        if not channels or now > self._end_at:
            raise SystemExit


def _room() -> int:
    """Return how many connections the system lets a worker have, at most `CONNECTIONS`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES * CONNECTIONS + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
        return max(1, min(CONNECTIONS, (soft - OTHER_FILES) // FILES))
    return CONNECTIONS


class _RequestTimeout(BadRequest):  # type: ignore[misc]  # waitress is untyped
    code, reason = 408, "Request Timeout"


class _UriTooLong(BadRequest):  # type: ignore[misc]
    code, reason = 414, "URI Too Long"


class _Body(OverflowableBuffer):  # type: ignore[misc]
    """The body of a request, of which one byte more is kept than it may have: the app refuses it.

    The rest would lie on the disk meanwhile, and all connections may send one.
    """

    def __init__(self, overflow: int, most: int) -> None:
        super().__init__(overflow)
        self._kept = most + 1

    def append(self, s: bytes) -> None:
        """Keep the next bytes."""
        super().append(s[: max(0, self._kept - len(self))])


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Waitress' own, which refuses all that is no HTTP."""

    error: Any = None
    path = ""  # waitress names it if the client has left, before there is one if the head is wrong
    followed = False  # by another request before it was answered

    def received(self, data: bytes) -> int:
        """Take more of the request; return how many bytes of the data need no other look.

        What follows a whole request is thrown away. No client we know sends its next request
        before it has the answer, and hundreds fit into what is read at once.
        """
        taken: int = super().received(data)
        if self.completed and not self.empty and taken < len(data):
            self.followed = bool(data[taken:].strip())
            taken = len(data)
        if self.error is not None:
            self.expect_continue = False  # nor is it told to go on, as waitress would
        too_large = isinstance(self.error, RequestHeaderFieldsTooLarge)
        if too_large and b"\n" not in self.header_plus + data:
            self.error = _UriTooLong("")
        return taken

    def parse_header(self, header_plus: bytes) -> None:
        """Read the head. Raises waitress' own errors alone."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # `http://[` as the address, or a number of 5,000 digits
            raise ParsingError(str(error)) from None
        if self.body_rcv is not None:
            most = self.adj.max_request_body_size - READ_ON
            self.body_rcv.buf = _Body(self.adj.inbuf_overflow, most)


class _Task(WSGITask):  # type: ignore[misc]
    def execute(self) -> None:
        """Run the app; the client has to send again what it sent too early."""
        if self.request.followed:
            self.set_close_on_finish()
        super().execute()


class _Refusal(ErrorTask):  # type: ignore[misc]
    def execute(self) -> None:
        """Refuse what is not HTTP, in the form that all errors of the API have."""
        code, reason = self.request.error.code, self.request.error.reason
        where, expected = "the request", "HTTP/1.1"
        if code == 500:
            where, expected = "the server", "an answer; the server's log says what went wrong"
        elif code == 501:  # an unknown Transfer-Encoding: not our fault, as a 5xx would say
            code, reason = 400, BadRequest.reason
        error = {"error": reason.lower(), "where": where, "expected": expected}
        body = json.dumps(error).encode()
        self.status = f"{code} {reason}"
        headers = {"Content-Type": "application/json", **HEADERS, **NOT_KEPT}
        self.response_headers.extend(headers.items())
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection. `waits_since` and `deadline` (seconds) are of what its client is to do now."""

    parser_class, task_class, error_task_class = _Parser, _Task, _Refusal
    request: Any = None  # what has come of the next one

    def __init__(self, *values: Any, **more: Any) -> None:
        super().__init__(*values, **more)
        self._idle = False
        self._wait(REQUEST_SECONDS)

    def received(self, data: bytes) -> bool:
        """Take bytes of a request."""
        if self._idle:
            self._idle = False
            self._wait(REQUEST_SECONDS)
        return bool(super().received(data))

    def handle_expt(self) -> None:
        """Take "urgent" bytes for what they are: `received` has them."""

    def service(self) -> None:
        """Answer a request, in a thread."""
        self.deadline = self.waits_since = float("inf")  # it is our turn
        if not self.requests:  # answered, or given up, since a thread was asked for
            return
        super().service()
        self._idle = True
        self._wait(ANSWER_SECONDS if self.total_outbufs_len else KEEP_ALIVE_SECONDS)

    def give_up(self) -> None:
        """Close a connection whose client is late; say so if that may reach it."""
        if self.request is None or self.total_outbufs_len:
            self.hang_up()
            return
        with self.requests_lock:
            self.request.error = _RequestTimeout("")
            self.requests.append(self.request)
            self.request = None
        self.server.add_task(self)

    def hang_up(self) -> None:
        """Break the connection, so that the wait for its events ends, and waitress closes it.

        Closed here, its number would go to the next connection, and the event with the number.
        """
        self.will_close = True
        with suppress(OSError):  # the client has left
            self.socket.shutdown(socket.SHUT_RDWR)

    def _wait(self, seconds: float) -> None:
        self.waits_since = time.time()
        self.deadline = self.waits_since + seconds
