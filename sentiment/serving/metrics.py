"""Count requests, answers and log rows for Prometheus, added up over all worker processes.

With one process the values live in memory. With several, `PROMETHEUS_MULTIPROC_DIR` names a folder
in which each keeps a file, and whichever is asked adds them up. The variable must be set before
prometheus_client is imported, so that happens in here only when the metrics are made. Every label
has few values: a path that is no route counts as `other`.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from sentiment.ab.comparison import ARMS
from sentiment.data.labels import CLASS_NAMES

if TYPE_CHECKING:
    from sentiment.predictions.writer import LogWriter
    from sentiment.serving.service import Answer
    from sentiment.serving.versions import VersionWatcher

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = {"GET", "HEAD", "POST", "OPTIONS"}  # what the routes take; anything else is `other`
# Seconds. One review takes about a millisecond, ten thousand about a second.
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class ServingMetrics:
    """The metrics of this process; any thread may count."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Gauge, Histogram
        from prometheus_client import Counter as Count

        self._registry = CollectorRegistry()

        def make(kind: type, name: str, text: str, *labels: str, **more: Any) -> Any:
            return kind(name, text, labels, registry=self._registry, **more)

        text = "Requests by route, method and status"
        self._requests = make(Count, "sentiment_requests", text, "endpoint", "method", "status")
        text = "Time of a request by route"
        self._seconds = make(
            Histogram, "sentiment_request_seconds", text, "endpoint", buckets=BUCKETS
        )
        text = "Reviews answered; the label unknown is a review without a known word"
        self._answers = make(Count, "sentiment_answers", text, "arm", "version", "label")
        text = "Rows of the prediction log: written, dropped by a full queue, or failed"
        self._log_rows = make(Count, "sentiment_log_rows", text, "outcome")
        # `live…` counts the workers that run
        text = "Entries that wait for the prediction log"
        self._log_queue = make(Gauge, "sentiment_log_queue", text, multiprocess_mode="livesum")
        text = "1 for the version that an arm serves, 0 for one it served before"
        of = ("arm", "version", "algorithm")
        self._model = make(Gauge, "sentiment_model_info", text, *of, multiprocess_mode="livemax")
        text = "1 while the registry's newest version cannot be served, or the registry is away"
        self._problem = make(Gauge, "sentiment_refresh_problem", text, multiprocess_mode="livemax")
        self._logged = dict.fromkeys(("written", "dropped", "failed"), 0)
        self._served: set[tuple[str, str, str]] = set()

    def count_request(self, endpoint: str, method: str, status: int, seconds: float) -> None:
        """Count a request that was answered; `endpoint` is a route, or `other`."""
        method = method if method in METHODS else "other"
        self._requests.labels(endpoint, method, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def count_answer(self, answer: Answer) -> None:
        """Count the labels of an answer."""
        labels = Counter(prediction.label for prediction in answer.predictions)
        for label, count in labels.items():
            name = "unknown" if label is None else CLASS_NAMES[label]  # unknown: no known words
            self._answers.labels(answer.arm, answer.version.version, name).inc(count)

    def follow(self, watcher: VersionWatcher, writer: LogWriter) -> None:
        """Take over the state of these two; one thread calls it every second or so."""
        for outcome, before in self._logged.items():
            now = getattr(writer, outcome)
            self._log_rows.labels(outcome).inc(now - before)
            self._logged[outcome] = now
        self._log_queue.set(writer.queued)
        self._problem.set(watcher.problem is not None)
        arms = watcher.arms
        versions = (arms.champion, arms.challenger) if arms is not None else ()
        serving = {
            (arm, version.version, version.algorithm)
            for arm, version in zip(ARMS, versions, strict=False)
            if version is not None
        }
        for labels in self._served | serving:
            self._model.labels(*labels).set(labels in serving)
        self._served |= serving

    def as_text(self) -> bytes:
        """Return the metrics of all processes in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        if FOLDER_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def forget_process(pid: int) -> None:
    """Leave the gauges of a worker that ended out of the sums; its counts stay."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid)  # type: ignore[no-untyped-call]
