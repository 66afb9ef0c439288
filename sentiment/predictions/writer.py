"""Log writer: rows reach the prediction log from a thread of its own; no answer waits for them.

    writer = LogWriter(log)
    writer.start()          # after the fork: a thread does not survive it
    writer.put(rows)        # in the request
    writer.close()

The queue is bounded. When it is full, because the database is slow or away, rows are dropped and
counted; an answer is worth more than its row in the log.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from sentiment.errors import PredictionLogError
from sentiment.predictions.log import LoggedPrediction, PredictionLog

Rows = Sequence[LoggedPrediction]
MakeRows = Callable[[], Rows]

GROUP = 500  # rows that are enough for a transaction; more do not make a row cheaper
INTERVAL = 0.2  # seconds that a row may wait for others to share its transaction
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0  # seconds between two attempts, doubled from one to the next

logger = logging.getLogger(__name__)


class LogWriter:
    """A bounded queue of rows and the daemon thread that writes them, in the order they came.

    Parameters
    ----------
    log : PredictionLog
        Where the rows go.
    capacity : int
        Rows that may wait, those being written included.

    Attributes
    ----------
    written : int
        Rows that were committed.
    dropped : int
        Rows and submissions that were not taken, could not be stored or were left at the end.
    failed : int
        Attempts that the database failed, and rows or submissions that raised.

    """

    def __init__(self, log: PredictionLog, *, capacity: int = 10_000) -> None:
        self.dropped = 0
        self.written = 0
        self.failed = 0
        self._log = log
        self._capacity = capacity
        # Unbounded in itself, since it is rows that are bounded. With the rows it counted as;
        # None only wakes the thread.
        self._queue: queue.Queue[tuple[Rows | MakeRows, int] | None] = queue.Queue()
        self._hurry = threading.Event()  # somebody waits, or there is a group: write it now
        self._change = threading.Condition()  # guards what follows
        self._waiting = 0  # rows taken and neither written nor dropped
        self._taken = 0  # items, so that flush knows when those before it are done
        self._done = 0
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._deadline = float("inf")  # on the monotonic clock, once it is closing
        self._ended = False  # the accounts are closed, whatever the thread still does
        self._outage = 0  # failed attempts in a row
        self._complained = False

    @property
    def queued(self) -> int:
        """Rows that were taken and are neither written nor dropped yet."""
        return self._waiting

    def start(self) -> None:
        """Start the thread, in the process that will put rows; again, and nothing happens."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
            self._thread.start()

    def put(self, rows: Rows) -> bool:
        """Hand over rows that will not change; at once, whatever the database does.

        False: dropped, and counted.
        """
        return self._take(rows, len(rows)) if rows else True

    def submit(self, make_rows: MakeRows, rows: int) -> bool:
        """Have the thread make so many rows, and log them. False: dropped, and counted.

        What it raises is counted in `failed`, and the first time logged.
        """
        return self._take(make_rows, rows)

    def flush(self, timeout: float) -> bool:
        """Wait until all that was handed over before is dealt with; False after `timeout` seconds.

        It is written then, or was dropped because it could not be stored.
        """
        with self._change:
            last = self._taken
            self._wake()
            return self._change.wait_for(lambda: self._done >= last, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Take no more, write what can be written in `timeout` seconds and drop the rest.

        A write that hangs at that time counts as dropped, though the database may yet complete it.
        """
        with self._change:
            if not self._closing.is_set():
                self._deadline = time.monotonic() + timeout
                self._closing.set()
                self._wake()
        if self._thread is not None:
            self._thread.join(timeout)
        with self._change:
            self._ended = True
            self.dropped += self._waiting
            self._waiting, self._done = 0, self._taken
            self._change.notify_all()

    def _take(self, item: Rows | MakeRows, rows: int) -> bool:
        with self._change:
            if self._closing.is_set() or self._waiting + rows > self._capacity:
                self.dropped += rows
                return False
            self._waiting += rows
            self._taken += 1
            self._queue.put_nowait((item, rows))
            if self._waiting >= GROUP:
                self._hurry.set()
            return True

    def _wake(self) -> None:
        self._queue.put_nowait(None)
        self._hurry.set()

    def _run(self) -> None:
        while not self._out_of_time():
            rows, items = self._gather()
            if not self._deliver(rows):
                return
            with self._change:
                self._done = min(self._done + items, self._taken)
                self._change.notify_all()
            if self._closing.is_set() and self._queue.empty():
                return

    def _gather(self) -> tuple[list[LoggedPrediction], int]:
        """Rows for one transaction, and of how many items they are; waits for the first of them.

        It sleeps while others join the first: woken by each, it would take the requests' time.
        """
        rows: list[LoggedPrediction] = []
        items = 0
        found = self._queue.get()
        if found is not None:
            self._hurry.wait(INTERVAL)
        self._hurry.clear()
        with suppress(queue.Empty):
            while True:
                if found is not None:
                    rows.extend(self._made(*found))
                    items += 1
                if len(rows) >= GROUP:
                    self._hurry.set()  # what is left, too
                    break
                found = self._queue.get_nowait()
        return rows, items

    def _made(self, item: Rows | MakeRows, counted: int) -> Rows:
        """The rows of an item; none when making them raises."""
        if not callable(item):
            return item
        rows: Rows = ()
        try:
            rows = list(item())
        except Exception as error:  # whatever it is, it must not end the thread
            self._complain(error)
        with self._change:
            self._waiting += len(rows) - counted
        return rows

    def _deliver(self, rows: Rows) -> bool:
        """Write rows, however long the database is away. False: there is no time left."""
        pause = FIRST_PAUSE
        while rows:
            try:
                self._log.write(rows)
            except PredictionLogError as error:
                self._away(error)
                if self._out_of_time():
                    return False
                self._wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            except Exception as error:  # as above; and no attempt will ever store such a row
                if len(rows) > 1:
                    return all(self._deliver([row]) for row in rows)
                self._complain(error)
                self._settle(written=False, rows=1)
                return True
            else:
                self._back()
                self._settle(written=True, rows=len(rows))
                return True
        return True

    def _settle(self, *, written: bool, rows: int) -> None:
        with self._change:
            if self._ended:
                return
            self._waiting -= rows
            if written:
                self.written += rows
            else:
                self.dropped += rows

    def _wait(self, pause: float) -> None:
        """Wait for the next attempt; when it is closing, no longer than there is time."""
        if self._closing.is_set():
            time.sleep(max(0.0, min(FIRST_PAUSE, self._deadline - time.monotonic())))
        else:
            self._closing.wait(pause)

    def _out_of_time(self) -> bool:
        return time.monotonic() >= self._deadline

    def _away(self, error: PredictionLogError) -> None:
        """Count a failed attempt, and say so once in an outage."""
        self.failed += 1
        self._outage += 1
        if self._outage == 1:
            logger.warning("%s; answers go on, their rows wait for it", error)

    def _back(self) -> None:
        if self._outage:
            logger.warning("the prediction log is back after %d failed attempt(s)", self._outage)
        self._outage = 0

    def _complain(self, error: Exception) -> None:
        """Count a row or a submission that raised; the first of them is logged."""
        self.failed += 1
        if not self._complained:
            self._complained = True
            logger.error("not logged, nor will its like be: %s: %s", type(error).__name__, error)
