"""Running comparison: read from the log in portions, at most once in a while, and up to a limit."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from sentiment.errors import PredictionLogError
from sentiment.predictions.log import LoggedPrediction, PredictionLog, open_log
from sentiment.serving import ab_results as running_comparison
from sentiment.serving.ab_results import ComparisonReader


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PredictionLog]:
    opened = open_log(f"sqlite:///{tmp_path / 'log.db'}")
    yield opened
    opened.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the module sees; to be set by the test."""
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def versions(champion: str = "1", challenger: str | None = "2", experiment: str = "1-vs-2") -> Any:
    made = [number and SimpleNamespace(version=number) for number in (champion, challenger)]
    return SimpleNamespace(champion=made[0], challenger=made[1], experiment=experiment)


def row(number: int, arm: str, label: int | None = 1, **other: Any) -> LoggedPrediction:
    values = {
        "request_id": f"{number:032x}",
        "position": 0,
        "at": float(number),
        "arm": arm,
        "version": {"champion": "1"}.get(arm, "2"),
        "experiment": "1-vs-2",
        "unit": f"unit {number}",
        "text_digest": "",
        "text": f"review {number}",
        "characters": 8,
        "words": 1,
        "known_words": 1,
        "probability": 0.75,
        "label": label,
        "milliseconds": 1.0,
    }
    return LoggedPrediction(**{**values, **other})


def test_only_the_arms_of_the_running_experiment_count(log: PredictionLog) -> None:
    rows = [row(number, ("champion", "challenger")[number % 3 == 0]) for number in range(30)]
    rows += [row(40 + number, "champion", experiment="1-vs-9") for number in range(5)]
    rows += [row(50 + number, "champion", experiment="") for number in range(5)]
    rows += [row(60 + number, "shadow") for number in range(5)]
    log.write(rows)
    found = ComparisonReader(log, share=1 / 3, shadow=False).read(versions())
    assert found is not None and found.comparison is not None
    assert (found.rows, found.complete, found.agreement) == (30, True, None)
    assert (found.comparison.champion.answers, found.comparison.challenger.answers) == (20, 10)
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["experiment"] == "1-vs-2"


def test_a_shadow_is_compared_pair_by_pair(log: PredictionLog) -> None:
    rows = [row(number, "champion") for number in range(10)]
    rows += [row(number, "shadow", int(number < 8), probability=0.25) for number in range(10)]
    log.write(rows)
    log.add_feedback(f"{9:032x}", 0, 1, 5, 100.0)
    found = ComparisonReader(log, share=0.0, shadow=True).read(versions())
    assert found is not None and found.agreement is not None
    assert (found.rows, found.comparison, found.agreement.pairs) == (20, None, 10)
    table = json.loads(json.dumps(found.as_dict(), allow_nan=False))["disagreements"]
    assert sorted((line["text"], line["true_label"]) for line in table) == [
        ("review 8", None),
        ("review 9", 1),
    ]


def test_without_a_challenger_there_is_nothing_to_compare(log: PredictionLog) -> None:
    assert ComparisonReader(log, share=0.5, shadow=False).read(versions(challenger=None)) is None


def test_an_empty_log_is_a_comparison_of_nothing(log: PredictionLog) -> None:
    for shadow in (False, True):
        found = ComparisonReader(log, share=0.5, shadow=shadow).read(versions())
        assert found is not None and (found.rows, found.complete) == (0, True)
        json.dumps(found.as_dict(), allow_nan=False)


def test_the_log_is_read_once_in_a_while(log: PredictionLog, clock: list[float]) -> None:
    reader = ComparisonReader(log, share=0.5, shadow=False)
    log.write([row(1, "champion")])
    rows = []
    for seconds in (0.0, 4.9, 0.2):
        clock[0] += seconds
        found = reader.read(versions())
        assert found is not None
        rows.append(found.rows)
        log.write([row(len(rows) + 1, "champion")])
    assert rows == [1, 1, 3]
    other = reader.read(versions("1", "3", "1-vs-3"))
    assert other is not None and (other.experiment, other.rows) == ("1-vs-3", 0)


def test_a_log_that_takes_long_is_read_less_often(
    log: PredictionLog, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[float] = []

    def slow(**_: object) -> Iterator[pd.DataFrame]:
        reads.append(clock[0])
        clock[0] += 3.0
        yield from ()

    monkeypatch.setattr(log, "read", slow)
    reader = ComparisonReader(log, share=0.5, shadow=False)
    for _ in range(100):
        reader.read(versions())
        clock[0] += 1.0
    waits = [after - before for before, after in itertools.pairwise(reads)]
    assert waits and min(waits) >= 33.0, "3 seconds of reading, 30 of rest"


def test_more_rows_than_the_limit_are_not_read(
    log: PredictionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_comparison, "MAX_ROWS", 25)
    portions: list[int] = []
    read = log.read

    def in_tens(**wanted: Any) -> Iterator[pd.DataFrame]:
        for frame in read(**wanted, chunk=10):
            portions.append(len(frame))
            yield frame

    monkeypatch.setattr(log, "read", in_tens)
    log.write([row(number, "champion") for number in range(100)])
    found = ComparisonReader(log, share=0.5, shadow=False).read(versions())
    assert found is not None and not found.complete
    assert found.rows == sum(portions) == 30, "whole portions, until there are enough"


def test_a_log_that_is_away_is_not_remembered_as_empty(
    log: PredictionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write([row(1, "champion")])
    reader = ComparisonReader(log, share=0.5, shadow=False)

    def away(**_: object) -> Iterator[pd.DataFrame]:
        raise PredictionLogError("away")

    with monkeypatch.context() as patch:
        patch.setattr(log, "read", away)
        with pytest.raises(PredictionLogError):
            reader.read(versions())
    found = reader.read(versions())
    assert found is not None and found.rows == 1
