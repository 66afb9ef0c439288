"""Answering: one version a request, arms that stick, the rows of the log, feedback that waits."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.serving import BAD_TEXT, GOOD_TEXT, UNKNOWN_TEXT, served_probabilities, wait_until

from sentiment.ab.comparison import assign_arm
from sentiment.model.predictor import LoadedVersion, Prediction, load_version
from sentiment.predictions.log import PredictionLog, open_log
from sentiment.serving.config import ServingConfig
from sentiment.serving.service import WRITTEN_AFTER, Service, digest
from sentiment.serving.versions import Arms
from sentiment.tracking.store import Store

pytestmark = pytest.mark.xdist_group("serving")
TEXTS = [GOOD_TEXT, BAD_TEXT, UNKNOWN_TEXT]
Make = Callable[..., Service]


@pytest.fixture(scope="module")
def versions(store: Store) -> dict[str, LoadedVersion]:
    """Two versions that disagree in their figures."""
    return {number: load_version(store, number) for number in ("1", "2")}


@pytest.fixture
def log(tmp_path: Path) -> PredictionLog:
    return open_log(f"sqlite:///{tmp_path / 'predictions.db'}")


@pytest.fixture
def make(log: PredictionLog, versions: dict[str, LoadedVersion]) -> Iterator[Make]:
    """Make a service on the champion alone, or on both versions; only its writer runs."""
    made: list[Service] = []

    def service(**config: Any) -> Service:
        new = Service(ServingConfig(token=None, **config), log)
        both = new.config.challenger is not None
        arms = Arms(versions["1"], versions["2"] if both else None, "1-vs-2" if both else "")
        new.watcher.arms = arms
        new.writer.start()
        new.feedback.start()
        made.append(new)
        return new

    yield service
    for each in made:
        each.writer.close()
        each.feedback.close()
    log.close()


def rows(service: Service) -> pd.DataFrame:
    assert service.writer.flush(5.0)
    return pd.concat(service.log.read(), ignore_index=True)


def plain(column: pd.Series[Any]) -> list[Any]:
    """The values, a missing one as None."""
    return column.astype(object).where(column.notna(), None).tolist()


def test_an_answer_is_the_versions_own(make: Make, versions: dict[str, LoadedVersion]) -> None:
    answer = make().answer(TEXTS, explain=True)
    expected = served_probabilities(versions["1"].pipeline, TEXTS)
    assert [prediction.probability for prediction in answer.predictions] == expected
    assert [prediction.label for prediction in answer.predictions] == [1, 0, None]
    assert (answer.arm, answer.version) == ("champion", versions["1"])
    assert answer.milliseconds > 0
    assert answer.predictions[0].contributions
    bare = make().answer(TEXTS)
    assert not bare.predictions[0].contributions
    assert [found.probability for found in bare.predictions] == expected


def test_every_review_has_its_row(make: Make, versions: dict[str, LoadedVersion]) -> None:
    service, before = make(), time.time()
    answer = service.answer(TEXTS, digest("somebody"))
    found = rows(service)
    assert found["request_id"].unique().tolist() == [answer.request_id]
    assert found["position"].tolist() == [0, 1, 2]
    assert found["text"].tolist() == TEXTS
    assert found["characters"].tolist() == [len(text) for text in TEXTS]
    digests = [hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for text in TEXTS]
    assert found["text_digest"].tolist() == digests
    assert found["unit"].unique().tolist() == [
        hashlib.blake2b(b"somebody", digest_size=16).hexdigest()
    ]
    assert found["probability"].tolist() == [item.probability for item in answer.predictions]
    assert plain(found["label"]) == [1, 0, None]
    assert found[["arm", "version", "experiment"]].drop_duplicates().to_numpy().tolist() == [
        ["champion", "1", ""]
    ]
    assert found["known_words"].tolist() == [4, 4, 0]
    assert found["words"].tolist() == [item.words for item in answer.predictions]
    assert before <= found["at"].min() <= found["at"].max() <= time.time()
    assert found["milliseconds"].sum() == pytest.approx(answer.milliseconds)


def test_texts_stay_out_of_the_log_and_a_request_without_a_user_is_a_unit(make: Make) -> None:
    service = make(store_text=False)
    answers = [service.answer([GOOD_TEXT]) for _ in range(3)]
    found = rows(service)
    assert found["text"].isna().all() and found["text_digest"].str.len().eq(32).all()
    assert found["unit"].tolist() == [answer.request_id for answer in answers]


def test_request_ids_are_alone_and_in_the_order_of_time(make: Make) -> None:
    services = make(), make()
    made = [service.new_id() for _ in range(500) for service in services]
    assert len(set(made)) == 1_000
    assert all(re.fullmatch("[0-9a-f]{32}", request_id) for request_id in made)
    times = [int(request_id[:12], 16) for request_id in made]
    assert times == sorted(times)
    assert abs(times[-1] / 1000 - time.time()) < 5


def test_a_user_stays_with_the_arm_of_the_hash(
    make: Make, versions: dict[str, LoadedVersion]
) -> None:
    service = make(ab=("2", 0.3))
    units = [digest(f"user {number}") for number in range(60)]
    expected = [assign_arm(unit, "1-vs-2", 0.3) for unit in units]
    assert set(expected) == {"champion", "challenger"}
    answers = [service.answer([GOOD_TEXT], unit) for unit in units * 2]
    assert [answer.arm for answer in answers] == expected * 2
    numbers = [{"champion": "1", "challenger": "2"}[arm] for arm in expected]
    assert [answer.version.version for answer in answers] == numbers * 2
    logged = rows(service)
    assert logged["arm"].tolist() == expected * 2
    assert logged["version"].tolist() == numbers * 2
    assert logged["experiment"].eq("1-vs-2").all()


def test_a_shadow_is_logged_beside_the_answer(
    make: Make, versions: dict[str, LoadedVersion]
) -> None:
    service = make(shadow="2")
    answer = service.answer(TEXTS, digest("somebody"))
    assert (answer.arm, answer.version.version) == ("champion", "1")
    found = rows(service)
    by_arm = dict(iter(found.groupby("arm")))
    assert set(by_arm) == {"champion", "shadow"}
    shadow = by_arm["shadow"]
    assert shadow["version"].tolist() == ["2"] * 3
    assert shadow["probability"].tolist() == (served_probabilities(versions["2"].pipeline, TEXTS))
    same = ["request_id", "position", "at", "unit", "experiment", "text"]
    assert shadow[same].to_numpy().tolist() == by_arm["champion"][same].to_numpy().tolist()


def test_a_shadow_costs_the_request_nothing_and_its_failure_neither(
    make: Make, versions: dict[str, LoadedVersion]
) -> None:
    """The shadow scores in another thread; here it waits there until the answers are out."""
    service, gate, threads = make(shadow="2"), threading.Event(), set[str]()

    class Stuck:
        version, algorithm = "2", "stuck"

        def predict(self, texts: list[str], *, explain: bool) -> list[Prediction]:
            threads.add(threading.current_thread().name)
            assert gate.wait(20)
            raise RuntimeError("the shadow fell over")

    stuck: Any = Stuck()
    service.watcher.arms = Arms(versions["1"], stuck, "1-vs-2")
    answers = [service.answer([GOOD_TEXT]) for _ in range(5)]
    assert [answer.arm for answer in answers] == ["champion"] * 5
    gate.set()
    assert rows(service)["arm"].tolist() == ["champion"] * 5
    assert threading.current_thread().name not in threads and len(threads) == 1


def test_a_request_takes_one_version_whatever_is_promoted_meanwhile(
    make: Make, versions: dict[str, LoadedVersion]
) -> None:
    service, stop = make(), threading.Event()
    arms = [Arms(versions[number], None, "") for number in ("1", "2")]
    expected = {
        number: served_probabilities(version.pipeline, TEXTS)
        for number, version in versions.items()
    }

    def promote() -> None:
        while not stop.is_set():
            for each in arms:
                service.watcher.arms = each

    thread = threading.Thread(target=promote)
    thread.start()
    try:
        answers = [service.answer(TEXTS) for _ in range(50)]
    finally:
        stop.set()
        thread.join()
    for answer in answers:
        probabilities = [prediction.probability for prediction in answer.predictions]
        assert probabilities == expected[answer.version.version]
    logged = rows(service).groupby("request_id")
    assert (logged["version"].nunique() == 1).all()


def test_feedback_finds_the_row_of_an_answer_just_given(make: Make) -> None:
    service = make()
    answer = service.answer(TEXTS)
    assert service.add_feedback(answer.request_id, 1, 0, 2) == "kept"
    assert service.add_feedback(answer.request_id, 3, 0, 2) == "unknown"
    assert plain(rows(service)["true_label"]) == [None, 0, None]


def test_feedback_for_a_row_that_another_process_is_writing_is_kept_once_it_is_there(
    make: Make, log: PredictionLog
) -> None:
    service = make()
    answer = service.answer([GOOD_TEXT])
    (row,) = service._rows(answer, [GOOD_TEXT], "", "unit", time.time(), "api")
    late = replace(row, request_id=service.new_id())
    begun = time.monotonic()
    assert service.add_feedback(late.request_id, 0, 1, None) == "later"
    assert service.add_feedback(late.request_id, 0, 0, None) == "later"  # replaces it
    assert time.monotonic() - begun < 1
    log.write([late])
    wait_until(lambda: plain(rows(service)["true_label"]) == [None, 0])


def test_feedback_on_what_was_never_there_is_refused_or_forgotten(
    make: Make,
    log: PredictionLog,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("sentiment.predictions.writer.GIVE_UP", 0.1)
    service = make()
    for seconds in (-WRITTEN_AFTER - 5, WRITTEN_AFTER + 5):
        other = f"{int((time.time() + seconds) * 1000):012x}{'0' * 20}"
        assert service.add_feedback(other, 0, 1, None) == "unknown"
    assert service.add_feedback(service.new_id(), 0, 1, None) == "later"
    wait_until(lambda: service.feedback.lost == 1)
    monkeypatch.setattr("sentiment.predictions.writer.GIVE_UP", 10.0)
    assert service.add_feedback(service.new_id(), 0, 1, None) == "later"
    with caplog.at_level("WARNING"):
        service.feedback.close()
    assert service.feedback.lost == 2 and "1 feedback(s) lost" in caplog.text
    assert log.counts()["feedback"] == 0
