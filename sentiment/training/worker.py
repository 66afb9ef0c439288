"""Write models and figures in a second process, while this one searches on.

worker = Worker()
worker.open_store(folder, project)
worker.begin(function, *arguments)     # there: function(store, *arguments)
worker.finish()                        # its result, or the error it raised
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from sentiment.errors import SearchError
from sentiment.tracking.store import keep_private, open_store

if TYPE_CHECKING:
    from sentiment.tracking.store import Store

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What takes a second and more to import, in the order in which it is needed
AHEAD = (
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "sentiment.training.search",
    "matplotlib.figure",
    "mlflow.sklearn",
    "skops.io",
)
POLL_SECONDS = 0.1  # between two looks whether the owner still lives


class Worker:
    """A forked process that does one job after the other, with an MLflow store of its own.

    It should be made before there are threads, open databases and locks. While it has nothing to
    do it imports what its jobs need: made before the slow imports of this process, it is ready
    when they are. It ends when this process does, however that ends, and leaves Ctrl-C to this one.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[Any], object]] = deque()
        self._sender = ThreadPoolExecutor(1)  # its thread starts with the first job
        self._connection, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(
            target=_work, args=(theirs, self._connection), daemon=True
        )
        # Until it handles them itself: with the handlers of this one it would end in a traceback
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def open_store(self, folder: str | None, project: str | None = None) -> None:
        """Begin to open the store, which is made when it is new."""
        self.begin(None, folder, project)

    def begin(
        self,
        function: Callable[..., Any] | None,
        *arguments: Any,
        then: Callable[[Any], object] = lambda _: None,
    ) -> None:
        """Queue the call of a module's function with the store and these arguments.

        `then` gets its result, in this process, from `collect` or `finish`.
        """
        # in a thread, since a pipe takes little while the process at its other end is busy
        self._sender.submit(self._connection.send_bytes, pickle.dumps((function, arguments)))
        self._waiting.append(then)

    def collect(self) -> None:
        """Take the results that are there; raises as `finish`."""
        while self._waiting and self._connection.poll():
            self._receive()

    def finish(self) -> None:
        """Wait for all jobs. Raises what one raised, or `SearchError` if the process was killed."""
        while self._waiting:
            self._receive()

    def _receive(self) -> None:
        then = self._waiting.popleft()
        try:
            result, error = self._connection.recv()
        except (EOFError, ConnectionResetError):  # reset: it left something unread
            raise SearchError(
                "the process that writes the models was killed; --resume carries the pass on, or "
                "--join where it is shared"
            ) from None
        if error is not None:
            raise error
        then(result)

    def end(self) -> None:
        """Kill the process, whatever it is doing: a resumed pass does it again."""
        self._process.kill()
        self._process.join()


def _work(connection: Connection, other_end: Connection) -> None:
    other_end.close()  # or the end of the other process would go unnoticed
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    warnings.filterwarnings("ignore")  # libraries warn of their own futures
    keep_private()
    store: Store | None = None
    ahead = iter(AHEAD)
    while True:
        while not connection.poll() and (name := next(ahead, None)):
            import_module(name)
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        try:
            if function is None:
                store, result = open_store(*arguments), None
            else:
                result = function(store, *arguments)
            connection.send((result, None))
        except Exception as error:
            connection.send((None, _sendable(error)))


def _end_with(owner: int) -> None:
    """End at once when the owner is gone: a resumed pass may do the same work by then."""
    while os.getppid() == owner:
        time.sleep(POLL_SECONDS)
    os._exit(1)


def _sendable(error: Exception) -> Exception:
    """Return the error if it survives being sent, else one of its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
