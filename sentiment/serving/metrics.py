"""Serving metrics: what Prometheus reads at `/metrics`, added up over all worker processes.

With one process the values live in memory. With several, `PROMETHEUS_MULTIPROC_DIR` names a folder
in which each keeps a file, and whichever is asked adds them up. The variable must be set before
prometheus_client is imported, so that happens in here only when the metrics are made. Every label
has few values: a path that is no route counts as `other`.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from sentiment.predictions.writer import LogWriter
    from sentiment.serving.service import Answer
    from sentiment.serving.versions import VersionWatcher

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = {"GET", "HEAD", "POST", "OPTIONS"}  # what the routes take; anything else is `other`
# Seconds. One review takes about a millisecond, ten thousand about a second.
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
LABELS = {0: "negative", 1: "positive", None: "unknown"}  # unknown: no known words


class ServingMetrics:
    """The metrics of this process; any thread may count."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = CollectorRegistry()
        self._requests = Counter(
            "sentiment_requests",
            "Requests by route, method and status",
            ("endpoint", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "sentiment_request_seconds",
            "Time of a request by route",
            ("endpoint",),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._answers = Counter(
            "sentiment_answers",
            "Reviews answered; the label unknown is a review without a known word",
            ("arm", "version", "label"),
            registry=self._registry,
        )
        self._log_rows = Counter(
            "sentiment_log_rows",
            "Rows of the prediction log: written, dropped by a full queue, or failed",
            ("outcome",),
            registry=self._registry,
        )
        self._log_queue = Gauge(
            "sentiment_log_queue",
            "Entries that wait for the prediction log",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._model = Gauge(
            "sentiment_model_info",
            "1 for the version that an arm serves, 0 for one it served before",
            ("arm", "version", "algorithm"),
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        self._problem = Gauge(
            "sentiment_refresh_problem",
            "1 while the registry's newest version cannot be served, or the registry is away",
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        # looked up once for each of the few combinations
        self._requests_of = cache(self._requests.labels)
        self._seconds_of = cache(self._seconds.labels)
        self._answers_of = cache(self._answers.labels)
        self._logged = dict.fromkeys(("written", "dropped", "failed"), 0)
        self._served: set[tuple[str, str, str]] = set()

    def count_request(self, endpoint: str, method: str, status: int, seconds: float) -> None:
        """One request that was answered; `endpoint` is a route, or `other`."""
        method = method if method in METHODS else "other"
        self._requests_of(endpoint, method, str(status)).inc()
        self._seconds_of(endpoint).observe(seconds)

    def count_answer(self, answer: Answer) -> None:
        """The labels of one answer."""
        counts: dict[int | None, int] = {}
        for prediction in answer.predictions:
            counts[prediction.label] = counts.get(prediction.label, 0) + 1
        for label, count in counts.items():
            self._answers_of(answer.arm, answer.version.version, LABELS[label]).inc(count)

    def follow(self, watcher: VersionWatcher, writer: LogWriter) -> None:
        """Take over what these two know by now; to be called every second or so, by one thread."""
        for outcome, before in self._logged.items():
            now = getattr(writer, outcome)
            self._log_rows.labels(outcome).inc(now - before)
            self._logged[outcome] = now
        self._log_queue.set(writer.queued)
        self._problem.set(watcher.problem is not None)
        serving: set[tuple[str, str, str]] = set()
        if (arms := watcher.arms) is not None:
            serving.add(("champion", arms.champion.version, arms.champion.algorithm))
            if arms.challenger is not None:
                serving.add(("challenger", arms.challenger.version, arms.challenger.algorithm))
        for labels in self._served | serving:
            self._model.labels(*labels).set(labels in serving)
        self._served |= serving

    def as_text(self) -> bytes:
        """All metrics in Prometheus' text format, of all processes."""
        from prometheus_client import generate_latest

        return generate_latest(self._all())

    def _all(self) -> CollectorRegistry:
        if FOLDER_VARIABLE not in os.environ:
            return self._registry
        from prometheus_client import CollectorRegistry
        from prometheus_client.multiprocess import MultiProcessCollector

        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return together


def forget_process(pid: int) -> None:
    """Leave the gauges of a worker that ended out of the sums; its counts stay."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid)  # type: ignore[no-untyped-call]
