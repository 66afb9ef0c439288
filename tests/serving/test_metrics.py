"""Serving metrics: what is counted, how the processes add up, and that labels stay few."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sentiment.serving.metrics import FOLDER_VARIABLE, ServingMetrics

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    """Each sample by its name and its labels' values in the order of their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def answer(arm: str, version: str, labels: list[int | None]) -> Any:
    return SimpleNamespace(
        arm=arm,
        version=SimpleNamespace(version=version),
        predictions=[SimpleNamespace(label=label) for label in labels],
    )


def arms(champion: str, challenger: str | None = None) -> Any:
    champion_, challenger_ = (
        number and SimpleNamespace(version=number, algorithm="NaiveBayes")
        for number in (champion, challenger)
    )
    return SimpleNamespace(champion=champion_, challenger=challenger_)


def test_requests_and_their_times() -> None:
    metrics = ServingMetrics()
    for seconds in (0.0015, 0.004, 0.3):
        metrics.count_request("/predict", "POST", 200, seconds)
    metrics.count_request("/predict", "POST", 400, 0.0001)
    metrics.count_request("other", "PROPFIND", 404, 0.0001)
    metrics.count_request("other", "BREW", 404, 0.0001)
    found = samples(metrics.as_text())
    assert found["sentiment_requests_total", "/predict", "POST", "200"] == 3
    assert found["sentiment_requests_total", "/predict", "POST", "400"] == 1
    assert found["sentiment_requests_total", "other", "other", "404"] == 2
    buckets = {
        name[2]: value
        for name, value in found.items()
        if name[:2] == ("sentiment_request_seconds_bucket", "/predict")
    }
    assert (buckets["0.001"], buckets["0.002"], buckets["0.005"], buckets["0.25"]) == (1, 2, 3, 3)
    assert (buckets["0.5"], buckets["+Inf"]) == (4, 4)
    total = found["sentiment_request_seconds_sum", "/predict"]
    assert total == pytest.approx(0.0015 + 0.004 + 0.3 + 0.0001)


def test_answers_by_arm_version_and_label() -> None:
    metrics = ServingMetrics()
    metrics.count_answer(answer("champion", "1", [1, 1, 0, None]))
    metrics.count_answer(answer("champion", "1", [1]))
    metrics.count_answer(answer("challenger", "7", [None, None]))
    found = {
        name[1:]: value
        for name, value in samples(metrics.as_text()).items()
        if name[0] == "sentiment_answers_total"
    }
    assert found == {
        ("champion", "positive", "1"): 3,
        ("champion", "negative", "1"): 1,
        ("champion", "unknown", "1"): 1,
        ("challenger", "unknown", "7"): 2,
    }


def test_what_the_writer_and_the_watcher_know() -> None:
    metrics = ServingMetrics()
    watcher: Any = SimpleNamespace(arms=None, problem="no version in production")
    writer: Any = SimpleNamespace(written=0, dropped=0, failed=0, queued=0)
    metrics.follow(watcher, writer)
    found = samples(metrics.as_text())
    assert found["sentiment_refresh_problem",] == 1
    assert found["sentiment_log_rows_total", "dropped"] == 0

    watcher.arms, watcher.problem = arms("1", "2"), None
    writer.written, writer.dropped, writer.failed, writer.queued = 10, 2, 1, 4
    metrics.follow(watcher, writer)
    writer.written, writer.queued = 15, 0
    watcher.arms = arms("2")
    metrics.follow(watcher, writer)
    found = samples(metrics.as_text())
    assert found["sentiment_refresh_problem",] == 0
    assert found["sentiment_log_queue",] == 0
    rows = [found["sentiment_log_rows_total", name] for name in ("written", "dropped", "failed")]
    assert rows == [15, 2, 1]
    model = {name[2:]: value for name, value in found.items() if name[0] == "sentiment_model_info"}
    assert model == {("champion", "1"): 0, ("challenger", "2"): 0, ("champion", "2"): 1}


def test_two_apps_of_one_process_count_apart() -> None:
    first, second = ServingMetrics(), ServingMetrics()
    first.count_request("/predict", "POST", 200, 0.1)
    assert not [name for name in samples(second.as_text()) if name[0] == "sentiment_requests_total"]


def test_processes_add_up_and_a_dead_one_leaves_its_counts(tmp_path: Path) -> None:
    """Two processes count and end; a third one adds up, after the second was declared dead."""
    count = (
        "import os, sys\n"
        "from types import SimpleNamespace as S\n"
        "from sentiment.serving.metrics import ServingMetrics\n"
        "metrics = ServingMetrics()\n"
        "for _ in range(int(sys.argv[1])): metrics.count_request('/predict', 'POST', 200, 0.003)\n"
        "writer = S(written=int(sys.argv[1]), dropped=1, failed=0, queued=int(sys.argv[1]))\n"
        "version = S(version='1', algorithm='A')\n"
        "arms = S(champion=version, challenger=None)\n"
        "metrics.follow(S(arms=arms, problem=None), writer)\n"
        "print(os.getpid())\n"
    )
    show = (
        "import sys\n"
        "from sentiment.serving.metrics import ServingMetrics, forget_process\n"
        "for pid in sys.argv[1:]: forget_process(int(pid))\n"
        "sys.stdout.buffer.write(ServingMetrics().as_text())\n"
    )

    def run(code: str, *arguments: str) -> bytes:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=PROJECT,
            env={**os.environ, FOLDER_VARIABLE: str(tmp_path)},
            capture_output=True,
            check=True,
        ).stdout

    first, second = (run(count, number).decode().strip() for number in ("3", "4"))
    together = samples(run(show))
    assert together["sentiment_requests_total", "/predict", "POST", "200"] == 7
    assert together["sentiment_request_seconds_bucket", "/predict", "0.005"] == 7
    assert together["sentiment_log_rows_total", "written"] == 7
    assert together["sentiment_log_rows_total", "dropped"] == 2
    assert together["sentiment_log_queue",] == 7
    assert together["sentiment_model_info", "A", "champion", "1"] == 1
    left = samples(run(show, second))
    assert left["sentiment_requests_total", "/predict", "POST", "200"] == 7
    assert left["sentiment_log_queue",] == 3
    assert first != second
