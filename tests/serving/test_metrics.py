"""Serving metrics: what is counted, how the processes add up, and that labels stay few."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import PROJECT
from prometheus_client.parser import text_string_to_metric_families

from sentiment.serving.metrics import FOLDER_VARIABLE, ServingMetrics


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


def test_processes_add_up_and_a_dead_one_leaves_its_counts(tmp_path: Path) -> None:
    """Two processes count and end; their parent adds up, also after the second is declared dead."""
    code = """
import os
from types import SimpleNamespace as S
from sentiment.serving.metrics import ServingMetrics, forget_process
for count in (3, 4):
    child = os.fork()
    if child == 0:
        metrics = ServingMetrics()
        for _ in range(count):
            metrics.count_request("/predict", "POST", 200, 0.003)
        arms = S(champion=S(version="1", algorithm="A"), challenger=None)
        writer = S(written=count, dropped=1, failed=0, queued=count)
        metrics.follow(S(arms=arms, problem=None), writer)
        os._exit(0)
    os.waitpid(child, 0)
metrics = ServingMetrics()
print(metrics.as_text().decode() + "---")
forget_process(child)
print(metrics.as_text().decode())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={**os.environ, FOLDER_VARIABLE: str(tmp_path)},
        capture_output=True,
        check=True,
    )
    together, left = map(samples, done.stdout.split(b"---"))
    assert together["sentiment_requests_total", "/predict", "POST", "200"] == 7
    assert together["sentiment_request_seconds_bucket", "/predict", "0.005"] == 7
    assert together["sentiment_log_rows_total", "written"] == 7
    assert together["sentiment_log_rows_total", "dropped"] == 2
    assert together["sentiment_log_queue",] == 7
    assert together["sentiment_model_info", "A", "champion", "1"] == 1
    assert left["sentiment_requests_total", "/predict", "POST", "200"] == 7
    assert left["sentiment_log_queue",] == 3
