"""Write to the prediction log from threads of their own, so that no request waits for a database.

    writer = LogWriter(log)
    feedback = FeedbackWriter(log, writer)
    writer.start()          # after the fork: a thread does not survive it
    feedback.start()
    writer.put(rows)        # in the request
    feedback.keep(given)    # in the request, and done within a fifth of a second
    feedback.close()
    writer.close()

The queue of rows is bounded. When it is full, because the database is slow or away, rows are
dropped and counted; an answer is worth more than its row in the log.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sentiment.errors import PredictionLogError
from sentiment.predictions.log import LoggedPrediction, PredictionLog

Rows = Sequence[LoggedPrediction]
MakeRows = Callable[[], Rows]

GROUP = 500  # rows that are enough for a transaction; more do not make a row cheaper
INTERVAL = 0.2  # seconds that a row may wait for others to share its transaction
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0  # seconds between two attempts; each is twice the last

# Seconds that a request waits for what becomes of its feedback, and that its thread waits for rows
# of this process that are on their way
PROMPT, ROWS_SOON = 0.2, 0.1
# Feedback whose answer may still be on its way from another process is looked up again after so
# many seconds, and given up after so many. A writer's longest pause is half of that.
LOOK_AGAIN, GIVE_UP = 0.25, 10.0
MOST_LATER = 200  # such feedbacks that one process remembers

logger = logging.getLogger(__name__)


class LogWriter:
    """A bounded queue of rows and the daemon thread that writes them in their order.

    At most `capacity` rows wait, those being written among them.
    """

    def __init__(self, log: PredictionLog, *, capacity: int = 10_000) -> None:
        self.written = 0  # rows that were committed
        self.dropped = 0  # rows that were not taken, could not be stored, or were left at the end
        self.failed = 0  # attempts to write that failed, and rows or submissions that raised
        self._log, self._capacity = log, capacity
        self._thread: threading.Thread | None = None
        self._outage = 0  # failed attempts in a row
        self._complained = False
        self._change = threading.Condition()  # guards what follows
        self._items: deque[tuple[Rows | MakeRows, int]] = deque()  # with the rows they count as
        self._waiting = 0  # rows that were taken and are neither written nor dropped
        self._taken = self._done = 0  # items, so that flush knows when those before it are done
        self._hurry = False  # somebody waits for what is queued
        self._closing = self._ended = False  # ended: nothing is counted any more
        self._deadline = float("inf")  # on the monotonic clock, once it is closing

    @property
    def queued(self) -> int:
        """Rows that were taken and are neither written nor dropped yet."""
        return self._waiting

    def start(self) -> None:
        """Start the thread, in the process that will put rows. A second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
            self._thread.start()

    def put(self, rows: Rows) -> bool:
        """Queue rows that will not change, without waiting. False: dropped, and counted."""
        return self._take(rows, len(rows)) if rows else True

    def submit(self, make_rows: MakeRows, rows: int) -> bool:
        """Queue a call that makes that many rows in the thread. False: dropped, and counted.

        When the call raises, that is counted in `failed`; the first time it is also logged.
        """
        return self._take(make_rows, rows)

    def flush(self, timeout: float) -> bool:
        """Wait until all that was queued before is written, or dropped since it cannot be stored.

        False when that takes more than `timeout` seconds.
        """
        with self._change:
            last = self._taken
            self._hurry = self._done < last
            self._change.notify_all()
            return self._change.wait_for(lambda: self._done >= last, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Take no more, write what can be written in `timeout` seconds and drop the rest.

        A write that hangs at that time counts as dropped, though the database may yet complete it.
        """
        with self._change:
            if not self._closing:
                self._closing, self._deadline = True, time.monotonic() + timeout
                self._change.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)
        with self._change:
            self._ended = True
            self.dropped += self._waiting
            self._waiting, self._done = 0, self._taken
            self._change.notify_all()

    def _take(self, item: Rows | MakeRows, rows: int) -> bool:
        with self._change:
            before = self._waiting
            if self._closing or before + rows > self._capacity:
                self.dropped += rows
                return False
            self._items.append((item, rows))
            self._waiting += rows
            self._taken += 1
            # only then: woken by every item, the thread would take the requests' time
            if len(self._items) == 1 or before < GROUP <= self._waiting:
                self._change.notify_all()
            return True

    def _run(self) -> None:
        while items := self._gather():
            rows = [row for item, counted in items for row in self._made(item, counted)]
            if not self._deliver(rows):
                return
            with self._change:
                if not self._ended:
                    self._done += len(items)
                self._change.notify_all()

    def _gather(self) -> list[tuple[Rows | MakeRows, int]]:
        """Wait for the items of one transaction; none when it is closing and all is done."""
        with self._change:
            self._change.wait_for(lambda: self._items or self._closing)
            self._change.wait_for(
                lambda: self._hurry or self._closing or self._waiting >= GROUP, INTERVAL
            )
            items, rows = [], 0
            while self._items and rows < GROUP and time.monotonic() < self._deadline:
                items.append(self._items.popleft())
                rows += items[-1][1]
            self._hurry = self._hurry and bool(self._items)
        return items

    def _made(self, item: Rows | MakeRows, counted: int) -> Rows:
        """Return the rows of an item; none when making them raises."""
        if not callable(item):
            return item
        rows: Rows = ()
        try:
            rows = list(item())
        except Exception as error:  # whatever it is, it must not end the thread
            self._complain(error)
        with self._change:
            if not self._ended:
                self._waiting += len(rows) - counted
        return rows

    def _deliver(self, rows: Rows) -> bool:
        """Write rows, however long the database is away. False: there is no time left."""
        pause = FIRST_PAUSE
        while rows:
            if self._ended:  # they count as dropped by now
                return False
            try:
                self._log.write(rows)
            except PredictionLogError as error:
                self.failed += 1
                self._outage += 1
                if self._outage == 1:
                    logger.warning("%s; answers go on, their rows wait for it", error)
                if time.monotonic() >= self._deadline:
                    return False
                self._wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            except Exception as error:  # as above; and no attempt will ever store such a row
                if len(rows) > 1:
                    return all(self._deliver([row]) for row in rows)
                self._complain(error)
                written = 0
            else:
                if self._outage:
                    logger.warning(
                        "the prediction log is back after %d failed attempt(s)", self._outage
                    )
                self._outage, written = 0, len(rows)
            with self._change:
                if not self._ended:
                    self._waiting -= len(rows)
                    self.written += written
                    self.dropped += len(rows) - written
            return True
        return True

    def _wait(self, pause: float) -> None:
        """Wait for the next attempt; closing ends the pause, and makes the next ones short."""
        with self._change:
            if self._closing:
                self._change.wait(max(0.0, min(FIRST_PAUSE, self._deadline - time.monotonic())))
            else:
                self._change.wait_for(lambda: self._closing, pause)

    def _complain(self, error: Exception) -> None:
        """Count a row or a submission that raised; log the first one."""
        self.failed += 1
        if not self._complained:
            self._complained = True
            text = "not logged; further errors of this kind are not reported: %s: %s"
            logger.error(text, type(error).__name__, error)


Outcome = Literal["kept", "later", "unknown"]


@dataclass(eq=False)
class Feedback:
    """What somebody says that a review really was: `label` 0 or 1, `rating` 1–5 or None.

    `at` is when it was given, in seconds since 1970. `recent` says whether the answer may have been
    given a moment ago, so that its row may not be in the log yet.
    """

    request_id: str
    position: int
    label: int
    rating: int | None
    at: float
    recent: bool
    since: float = field(default_factory=time.monotonic)
    done: threading.Event = field(default_factory=threading.Event)
    outcome: Outcome | PredictionLogError | None = None  # set once `done` is

    @property
    def key(self) -> tuple[str, int]:
        """What tells the review from all others."""
        return self.request_id, self.position


class FeedbackWriter:
    """Writes feedback in a daemon thread; a request waits `PROMPT` seconds for it, never longer.

    Once the thread hangs in the database, requests are refused without any wait.
    """

    def __init__(self, log: PredictionLog, writer: LogWriter) -> None:
        self.lost = 0  # feedback that was to be kept later, and whose answer never came
        self._log, self._writer = log, writer
        self._later: dict[tuple[str, int], Feedback] = {}  # of the thread alone
        self._thread: threading.Thread | None = None
        self._change = threading.Condition()  # guards what follows
        self._given: deque[Feedback] = deque()
        self._busy_since = float("inf")  # on the monotonic clock
        self._closing = False

    def start(self) -> None:
        """Start the thread, in the process that will take feedback."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="feedback writer", daemon=True)
            self._thread.start()

    def keep(self, feedback: Feedback) -> Outcome:
        """Write feedback, in place of an earlier one for the same review.

        "kept": it is committed. "unknown": there is no such answer. "later": there may be one, of
        another process, whose row is not in the log yet; it is written as soon as that is, and
        forgotten after `GIVE_UP` seconds. Raises `PredictionLogError` when the log is away or
        locked; such feedback may be written yet, so it may be sent again.
        """
        with self._change:
            hangs = time.monotonic() - self._busy_since > PROMPT
            if self._closing or hangs:
                raise PredictionLogError("the prediction log does not answer; try again later")
            self._given.append(feedback)
            self._change.notify_all()
        if not feedback.done.wait(PROMPT):
            with self._change:
                if feedback in self._given:  # nobody has looked at it
                    self._given.remove(feedback)
            raise PredictionLogError("the prediction log does not answer in time; try again later")
        if isinstance(feedback.outcome, PredictionLogError):
            raise feedback.outcome
        assert feedback.outcome is not None, "set before `done`"
        return feedback.outcome

    def close(self, timeout: float = 1.0) -> None:
        """Take no more, and look once more for what was to be written later."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)
        left, self._later = len(self._later), {}
        self._lose(left)

    def _run(self) -> None:
        look_at = 0.0
        while True:
            with self._change:
                self._busy_since = float("inf")
                pause = max(0.0, look_at - time.monotonic()) if self._later else None
                self._change.wait_for(lambda: self._given or self._closing, pause)
                if self._closing and not self._given:
                    break
                feedback = self._given.popleft() if self._given else None
                self._busy_since = time.monotonic()
            if feedback is not None:
                try:
                    feedback.outcome = self._settled(feedback)
                except PredictionLogError as error:
                    feedback.outcome = error
                except Exception as error:  # whatever it is, it must not end the thread
                    feedback.outcome = PredictionLogError(f"{type(error).__name__}: {error}")
                feedback.done.set()
            if time.monotonic() >= look_at:
                self._look_again()
                look_at = time.monotonic() + LOOK_AGAIN
        self._look_again()

    def _settled(self, feedback: Feedback) -> Outcome:
        """Write the feedback; raise `PredictionLogError` when it cannot be said what it is."""
        if self._written(feedback):
            return "kept"
        # an answer of this process has its row then, and another one's has all or none
        if not self._writer.flush(ROWS_SOON):
            raise PredictionLogError("rows wait for the prediction log; try again later")
        if self._written(feedback):
            return "kept"
        if not feedback.recent or self._log.has_request(feedback.request_id):
            return "unknown"
        if len(self._later) >= MOST_LATER and feedback.key not in self._later:
            raise PredictionLogError("too much feedback waits for its answers; try again later")
        self._later[feedback.key] = feedback
        return "later"

    def _written(self, given: Feedback) -> bool:
        return self._log.add_feedback(
            given.request_id, given.position, given.label, given.rating, given.at
        )

    def _look_again(self) -> None:
        """Write what was to be written later, where its answer has come."""
        lost = 0
        for feedback in list(self._later.values()):
            try:
                found = self._written(feedback)
            except Exception:  # away just now; a request that meets that says so
                logger.debug("feedback waits for the prediction log", exc_info=True)
                break
            if found or time.monotonic() - feedback.since > GIVE_UP:
                self._later.pop(feedback.key, None)  # closing may have taken it
                lost += not found
        self._lose(lost)

    def _lose(self, feedbacks: int) -> None:
        if feedbacks:
            self.lost += feedbacks
            text = "%d feedback(s) lost: no answer of such an id came into the log; %d by now"
            logger.warning(text, feedbacks, self.lost)
