"""Show what customers complain about in the reviews that the API answered last.

They are those that a drift check looks at: the newest answers of the production version. The log is
read at most once in a while, whoever asks and however often.
"""

from __future__ import annotations

import threading
import time

from flask import render_template

from sentiment.complaints.page import PAGE, page_view
from sentiment.complaints.reviews import reviews_of_log
from sentiment.complaints.themes import Complaints, find_complaints
from sentiment.predictions.log import PredictionLog

# What was found is found again after this many seconds, or ten times what it took if that is more
FRESH_SECONDS = 60.0
FRESH_FACTOR = 10.0


class LoggedComplaints:
    """The complaints in the log, for any number of threads, of which one looks at a time."""

    def __init__(self, log: PredictionLog) -> None:
        self._log, self._lock = log, threading.Lock()
        self._last: Complaints | None = None
        self._version, self._fresh_until = "", 0.0

    def read(self, version: str) -> Complaints:
        """Return the complaints among the newest answers of a version.

        Raises `PredictionLogError` when the log is away.
        """
        last = self._last
        # who comes meanwhile gets the last ones, and holds no thread
        if not self._lock.acquire(blocking=last is None or self._version != version):
            assert last is not None
            return last
        try:
            fresh = self._version == version and time.monotonic() < self._fresh_until
            if self._last is None or not fresh:
                begun = time.monotonic()
                self._last = find_complaints(reviews_of_log(self._log, version))
                now = time.monotonic()
                self._version = version
                # an empty log is looked at each time, for it takes nothing
                wait = max(FRESH_SECONDS, FRESH_FACTOR * (now - begun))
                self._fresh_until = now + (wait if self._last.reviews else 0.0)
            return self._last
        finally:
            self._lock.release()


def render_complaints(complaints: Complaints) -> str:
    """Return the page; within a request."""
    fixed = {"layout": "layout.html", "here": "complaints"}
    return render_template(PAGE, **fixed, **page_view(complaints))
