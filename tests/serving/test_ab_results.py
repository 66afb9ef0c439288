"""The running comparison: read from the log once in a while and up to a limit, and its page."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from flask import Flask
from support.html import EVIL, Checker, words_of
from support.prediction_logs import write_arms

from sentiment.ab import comparison as ab_test
from sentiment.data.labels import GUIDES, LabelRule
from sentiment.errors import PredictionLogError
from sentiment.predictions.log import (
    LoggedComparison,
    LoggedPrediction,
    PredictionLog,
    open_log,
)
from sentiment.serving import ab_results as running_comparison
from sentiment.serving.ab_results import (
    Comparisons,
    RunningComparison,
    fitted_axis,
    render_ab,
)
from sentiment.serving.config import ServingConfig


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
    made = [
        number and SimpleNamespace(version=number, since=None, rule=GUIDES, algorithm=f"A{number}")
        for number in (champion, challenger)
    ]
    return SimpleNamespace(
        champion=made[0], challenger=made[1], experiment=experiment, named=challenger
    )


def reader_of(log: PredictionLog, share: float | None = None, **config: Any) -> Comparisons:
    """Of an A/B test with this share, or of a shadow."""
    asked = {"shadow": "challenger"} if share is None else {"ab": ("challenger", share)}
    return Comparisons(log, ServingConfig(token=None, **{**asked, **config}))


def row(number: int, arm: str, label: int | None = 1, **other: Any) -> LoggedPrediction:
    version = "1" if arm == "champion" else "2"
    made = LoggedPrediction(
        *(f"{number:032x}", 0, float(number), arm, version, "1-vs-2", f"unit {number}", ""),
        *(f"review {number}", 8, 1, 1, 0.75, label, 1.0),
    )
    return replace(made, **other)


def test_only_the_arms_of_the_running_experiment_count(log: PredictionLog) -> None:
    rows = [row(number, ("champion", "challenger")[number % 3 == 0]) for number in range(30)]
    rows += [row(40 + number, "champion", experiment="1-vs-9") for number in range(5)]
    rows += [row(50 + number, "champion", experiment="") for number in range(5)]
    rows += [row(60 + number, "shadow") for number in range(5)]
    log.write(rows)
    found = reader_of(log, 1 / 3).read(versions())
    assert found is not None and found.comparison is not None
    assert (found.rows, found.complete, found.agreement) == (30, True, None)
    assert (found.comparison.champion.answers, found.comparison.challenger.answers) == (20, 10)
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["experiment"] == "1-vs-2"


def test_rows_of_one_name_and_other_versions_are_not_mixed_in(
    log: PredictionLog,
) -> None:
    """Version 2 was promoted under the name; it is the champion of the next test.

    Answers of the page count as those of the API do.
    """
    named: Any = {"experiment": "spring"}
    old = [row(at, ("champion", "challenger")[at % 2], **named) for at in range(20)]
    new = [row(100 + at, "champion", version="2", **named) for at in range(6)]
    new += [row(200 + at, "challenger", version="3", **named) for at in range(4)]
    page = [row(300 + at, "champion", version="2", source="page", **named) for at in range(9)]
    log.write(old + new + page)
    for pair, answers in ((("1", "2"), (10, 10)), (("2", "3"), (15, 4)), (("1", "3"), (10, 4))):
        found = reader_of(log, 0.5, experiment="spring").read(versions(*pair, "spring"))
        assert found is not None and found.comparison is not None
        counts = found.comparison.champion.answers, found.comparison.challenger.answers
        assert (counts, found.rows) == (answers, sum(answers))


def test_a_challenger_that_gives_up_a_class_is_called_worse(tmp_path: Path) -> None:
    """Its accuracy is the same: it finds 100 positive reviews more and 100 negative ones fewer."""
    url = f"sqlite:///{tmp_path / 'log.db'}"
    write_arms(url, [[440, 60], [200, 1800]], [[340, 160], [100, 1900]])
    with closing(open_log(url)) as log:
        found = reader_of(log, 0.5).read(versions())
    assert found is not None and found.comparison is not None
    assert found.rows == found.comparison.challenger.labelled * 2 == 5_000
    assert found.sentence.startswith("challenger worse: recall of negative falls by .200, always")
    assert found.comparison.champion.accuracy == found.comparison.challenger.accuracy


def test_a_shadow_is_compared_pair_by_pair(log: PredictionLog) -> None:
    rows = [row(number, "champion") for number in range(10)]
    rows += [row(number, "shadow", int(number < 8), probability=0.25) for number in range(10)]
    log.write(rows)
    log.add_feedback(f"{9:032x}", 0, 1, 5, 100.0)
    found = reader_of(log).read(versions())
    assert found is not None and found.agreement is not None
    assert (found.rows, found.comparison, found.agreement.pairs) == (20, None, 10)
    table = json.loads(json.dumps(found.as_dict(), allow_nan=False))["disagreements"]
    assert sorted((line["text"], line["true_label"]) for line in table) == [
        ("review 8", None),
        ("review 9", 1),
    ]


def test_versions_of_another_rule_are_compared_with_a_note(app: Flask, log: PredictionLog) -> None:
    arms = versions()
    assert reader_of(log, 0.5).read(arms).note == ""  # type: ignore[union-attr]
    arms.challenger.rule = LabelRule(negative_up_to=3)
    found = reader_of(log, 0.5).read(arms)
    assert found is not None
    page = ab_page(app, found)
    for said in ("1–2 negative, 3–5 positive", "version 2 with “1–3 negative, 4–5 positive”"):
        assert said in found.note and said in page


def test_an_empty_log_is_a_comparison_of_nothing(log: PredictionLog) -> None:
    for share in (0.5, None):
        reader = reader_of(log, share)
        found = reader.read(versions())
        assert found is not None and (found.rows, found.complete) == (0, True)
        json.dumps(found.as_dict(), allow_nan=False)
        assert reader.read(versions(challenger=None)) is None


def test_the_log_is_read_once_in_a_while(log: PredictionLog, clock: list[float]) -> None:
    reader = reader_of(log, 0.5)
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
    reader = reader_of(log, 0.5)
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
    found = reader_of(log, 0.5).read(versions())
    assert found is not None and not found.complete
    assert found.rows == sum(portions) == 30, "whole portions, until there are enough"


def test_a_log_that_is_away_is_not_remembered_as_empty(
    log: PredictionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write([row(1, "champion")])
    reader = reader_of(log, 0.5)

    def away(**_: object) -> Iterator[pd.DataFrame]:
        raise PredictionLogError("away")

    with monkeypatch.context() as patch:
        patch.setattr(log, "read", away)
        with pytest.raises(PredictionLogError):
            reader.read(versions())
    found = reader.read(versions())
    assert found is not None and found.rows == 1


# --- the record ----------------------------------------------------------------------------


class Watcher:
    """The versions that answer, set by the test; `then` are those of the next look."""

    def __init__(self, arms: Any, then: Any = None) -> None:
        self.arms, self.then, self.looks = arms, then or arms, 0

    def check(self) -> None:
        """Look at the registry, as it were."""
        self.arms, self.looks = self.then, self.looks + 1


def kept(reader: Comparisons, watcher: Any, clock: list[float], seconds: float = 25.0) -> list[Any]:
    """All comparisons after one more look, some time later."""
    clock[0] += seconds
    reader.keep_record(watcher)
    return reader.known


def test_a_comparison_is_kept_seen_and_ends_with_its_verdict(
    log: PredictionLog, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = [5_000.0]
    monkeypatch.setattr(time, "time", lambda: wall[0])
    log.write([row(number, ("champion", "challenger")[number % 2]) for number in range(8)])
    reader, watcher = reader_of(log, 0.2), Watcher(versions())
    (one,) = kept(reader, watcher, clock)
    assert one.key == ("1-vs-2", "ab", "1", "2", 0.2)
    assert (one.began, one.seen, one.ended) == (5_000.0, 5_000.0, None)
    for seconds, seen in ((10.0, 5_000.0), (15.0, 5_030.0)):  # not at every call
        wall[0] = 5_030.0
        (one,) = kept(reader, watcher, clock, seconds)
        assert (one.began, one.seen) == (5_000.0, seen)
    assert reader.past(watcher.arms) == []
    promoted = versions("2", None, "")
    promoted.champion.since = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    wall[0], watcher.arms = 6_000.0, promoted
    (one,) = kept(reader, watcher, clock, 0.1)  # at once
    assert one.ended == 6_000.0 and "2 was put into production at 2026-01-02 03:04" in one.why
    assert "version 1 is no longer the champion" in one.why
    assert one.verdict.startswith("not enough labels yet: ")
    assert reader.past(promoted) == [one] and kept(reader, watcher, clock) == [one]


@pytest.mark.parametrize(
    ("after", "config", "said"),
    [
        (versions("1", None, ""), {"ab": None}, "started without a challenger"),
        (versions("1", None, ""), {}, "version 2 is no longer the challenger"),
        (versions("1", "3", "1-vs-3"), {}, "version 3 is the challenger now"),
        (versions("2", "3", "2-vs-3"), {}, "version 1 is no longer the champion"),
        (versions(), {"ab": ("challenger", 0.5)}, "another share or name"),
        (versions("1", "2", "x"), {"experiment": "x"}, "another share or name"),
    ],
)
def test_a_server_that_is_started_anew_ends_what_no_other_runs(
    log: PredictionLog, clock: list[float], after: Any, config: dict[str, Any], said: str
) -> None:
    before, watcher = reader_of(log, 0.2), Watcher(versions())
    kept(before, watcher, clock)
    again = Comparisons(log, ServingConfig(token=None, **{"ab": ("challenger", 0.2), **config}))
    found = {one.key: one for one in kept(again, Watcher(after), clock)}
    mine = ("1-vs-2", "ab", "1", "2", 0.2)
    assert found[mine].ended is None, "the other server may still run it"
    before.leave()
    found = {one.key: one for one in kept(again, Watcher(after), clock)}
    assert found[mine].ended is not None and said in found[mine].why
    assert len(found) == 1 + (after.challenger is not None)
    assert sum(one.ended is None for one in found.values()) == len(found) - 1


def test_a_server_that_was_killed_is_missed_after_a_while(
    log: PredictionLog, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(reader_of(log, 0.2), Watcher(versions()), clock)
    now = time.time()
    alone = Comparisons(log, ServingConfig(token=None))
    for seconds, ended in ((50.0, False), (61.0, True)):
        monkeypatch.setattr(time, "time", lambda later=now + seconds: later)
        (one,) = kept(alone, Watcher(versions("1", None, "")), clock)
        assert (one.ended is not None) is ended


def test_a_server_that_is_started_with_the_same_challenger_goes_on(
    log: PredictionLog, clock: list[float]
) -> None:
    before = reader_of(log, 0.2)
    (one,) = kept(before, Watcher(versions()), clock)
    before.leave()
    again = reader_of(log, 0.2)
    # its challenger will not load: the registry names it all the same
    waiting = versions("1", None, "")
    waiting.named = "2"
    for arms in (waiting, versions()):
        (same,) = kept(again, Watcher(arms), clock)
        assert (same.key, same.began, same.ended) == (one.key, one.began, None)
        assert same.seen >= one.seen
    # and what never began does not begin before it loads
    fresh = versions("1", None, "")
    fresh.named = "9"
    kept(reader_of(log, 0.2), Watcher(fresh), clock)
    assert [row.challenger for row in log.comparisons()] == ["2"]


def test_a_worker_that_knows_less_does_not_begin_anew_what_another_ended(
    log: PredictionLog, clock: list[float]
) -> None:
    first, second = reader_of(log, 0.2), reader_of(log, 0.2)
    after = versions("2", None, "")
    late = Watcher(versions(), then=after)
    for reader in (first, second):
        kept(reader, Watcher(versions()), clock)
    kept(first, Watcher(after), clock)
    (one,) = kept(second, late, clock)
    assert one.ended is not None and late.looks == 1
    # where the registry agrees with the worker, the one who ended it was wrong
    wrong = Watcher(versions())
    (one,) = kept(first, wrong, clock)[:1]
    log.end_comparison(one, 9.0, "a mistake", "")
    assert [each.ended is None for each in kept(first, wrong, clock)] == [True, False, False]
    assert wrong.looks == 1


def test_the_record_is_kept_once_the_log_is_back(
    log: PredictionLog, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, watcher = reader_of(log, 0.2), Watcher(versions())
    kept(reader, watcher, clock)
    watcher.arms = versions("2", None, "")

    def away(**_: object) -> Iterator[pd.DataFrame]:
        raise PredictionLogError("away")

    with monkeypatch.context() as patch, pytest.raises(PredictionLogError):
        patch.setattr(log, "read", away)
        kept(reader, watcher, clock)
    (one,) = kept(reader, watcher, clock)
    assert one.ended is not None and one.verdict


# --- numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.71, 0.89], [0.75, 0.8, 0.85]),
        ([-0.031, 0.052, 0.0], [-0.02, 0.0, 0.02, 0.04]),
        ([0.5], [0.4, 0.6]),
        ([0.0], [-0.5, 0.0, 0.5]),
        ([0.812, 0.838], [0.82, 0.83]),
    ],
)
def test_an_axis_fits_its_values_and_has_round_ticks(
    values: list[float], ticks: list[float]
) -> None:
    axis = fitted_axis(values)
    assert [tick for _, tick in axis.ticks] == pytest.approx(ticks)
    if len(values) > 1:  # a margin of 4 % of what they span
        span = max(values) - min(values)
        ends = min(values) - 0.04 * span, max(values) + 0.04 * span
        assert (axis.low, axis.high) == pytest.approx(ends)
    for place, tick in axis.ticks:
        assert place == pytest.approx(100 * (tick - axis.low) / (axis.high - axis.low))
    assert axis.place(axis.low + (axis.high - axis.low) / 4) == pytest.approx(25)
    assert (axis.place(-1.0), axis.place(2.0)) == (0, 100)


# --- the A/B test --------------------------------------------------------------------------


def answers_of(right: dict[str, int], wrong: dict[str, int]) -> pd.DataFrame:
    """One answer a user, arms in turn: so many right and wrong, half of them truly positive."""
    rows = []
    for arm, count in right.items():
        for at in range(count + wrong[arm]):
            true = at % 2
            label = true if at < count else 1 - true
            rows.append((at, f"{arm}{at}", arm, label, true))
    rows.sort(key=lambda row: row[0])
    frame = pd.DataFrame(rows, columns=["at", "unit", "arm", "label", "true_label"])
    return frame.assign(at=1_700_000_000.0 + frame["at"] * 60)


def running(answers: pd.DataFrame, **more: Any) -> RunningComparison:
    return RunningComparison(
        "1-vs-<3>", "1", "3", len(answers), True,
        comparison=ab_test.compare_arms(answers, share=0.5),
        history=ab_test.history(answers), algorithms=("NaiveBayes", "LinearSVM"), **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def app() -> Flask:
    """An app that has the templates and nothing else."""
    return Flask(running_comparison.__name__)


def ab_page(app: Flask, comparison: RunningComparison | None, *past: LoggedComparison) -> str:
    with app.test_request_context("/ab"):
        page = render_ab(comparison, past)
    Checker(page)
    return page


def test_the_two_arms_are_shown_with_intervals_and_verdict(app: Flask) -> None:
    answers = answers_of({"champion": 700, "challenger": 900}, {"champion": 300, "challenger": 100})
    found = running(answers)
    page = ab_page(app, found)
    words = words_of(page)
    assert "Challenger better Accuracy +.2" in words
    assert "Experiment 1-vs-<3>" in words and "<3>" not in page
    assert (
        "Champion version 1 NaiveBayes Challenger version 3 LinearSVM Answers 1,000 1,000" in words
    )
    assert "With a true label 1,000 (100%) 1,000 (100%)" in words
    # Wilson's intervals of 700 and 900 of 1,000, from a table
    assert "Champion .700 (.671 to .728)" in words
    assert "Challenger .900 (.880 to .917)" in words
    assert "97.5% intervals of accuracy and recalls, valid however" in words
    assert "Accuracy +.200 (+." in words
    assert (
        "50.0% of 2,000 users came to the challenger, 50.0% should have: p = 1.0000, as conf"
        in words
    )
    assert "python -m sentiment promote 3 --to production" in words
    # Wilson's ends, .6709 and .9171, are 4 % of what lies between from those of the axis
    dots = re.findall(r'<circle class="(\w+)" cx="([\d.]+)%" cy="8"', page)
    assert [name for name, _ in dots] == ["champion", "challenger"] * 2
    assert [float(place) for _, place in dots[:2]] == pytest.approx(
        [100 * (0.04 + (at - 0.6709) / 0.2462) / 1.08 for at in (0.7, 0.9)], abs=0.1
    )


def test_guardrails_and_past_comparisons_are_shown(app: Flask) -> None:
    # every second user is positive; the first 20 of the champion's 1,000 are wrong
    answers = answers_of({"champion": 980, "challenger": 900}, {"champion": 20, "challenger": 100})
    past = LoggedComparison(
        *("spring <1>", "ab", "1", "2", 0.2, 0.0, 86_400.0, 86_460.0),
        *("version 1 was put into production", "challenger better: accuracy +0.031"),
    )
    shadow = replace(past, experiment="1-vs-4", kind="shadow", challenger="4", ended=None)
    page = ab_page(app, running(answers), past, shadow)
    words = words_of(page)
    assert "Challenger worse Recall of negative falls by .080" in words
    for name in ("negative", "positive"):
        its = words[words.index(f"Recall of {name} champion") :]
        assert its.split("champion ")[1].startswith(".980 of 500, challenger .900 of 500")
        assert "falls −.080 (−." in its
    assert "python -m sentiment serve" in words
    assert words.count("falls") == 4  # twice in the sentence, twice below
    assert "Other comparisons spring <1> : A/B test, version 1 against 2 with 20% of" in words
    assert "users Challenger better: accuracy +0.031. From 1970-01-01 00:00 UTC to 1970-01" in words
    assert "ended: version 1 was put into production." in words
    assert "1-vs-4 : shadow, version 1 against 4 From 1970-01-01 00:00 UTC; last seen" in words
    alone = words_of(ab_page(app, None, past))
    assert "No comparison runs spring <1> ended at 1970-01-02 00:01 UTC: version 1 was" in alone
    assert "Past comparisons" in alone and "answers read" not in alone
    assert "does not run on this server" in words_of(ab_page(app, None, shadow))
    few = words_of(ab_page(app, running(answers.head(60))))
    assert "negative champion 1.000 of 15, challenger 1.000 of 15 – " in few


def test_the_history_is_a_line_within_a_band(app: Flask) -> None:
    answers = answers_of({"champion": 700, "challenger": 900}, {"champion": 300, "challenger": 100})
    history = pd.DataFrame(
        {
            "at": [0.0, 86_400.0, 172_800.0],
            "labelled_units": [100, 1_100, 2_100],
            "difference": [0.0, 0.1, 0.05],
            "low": [-0.1, 0.0, 0.0],
            "high": [0.1, 0.2, 0.1],
        }
    )
    page = ab_page(app, replace(running(answers), history=history))
    # from −.1 to +.2, and 4 % of that on either side
    (band,) = re.findall(r'class="band" d="M([^"]*) Z"', page)
    (line,) = re.findall(r'class="line" d="M([^"]*)"', page)

    def value_at(place: str) -> float:
        return 0.212 - 0.324 * float(place.split()[1]) / 100

    assert [value_at(each) for each in line.split(" L")] == pytest.approx([0, 0.1, 0.05], abs=1e-4)
    values = [value_at(each) for each in band.split(" L")]
    assert values == pytest.approx([0.1, 0.2, 0.1, 0, 0, -0.1], abs=1e-4)
    words = words_of(page)
    assert "100 users 2,100 users" in words
    assert "1970-01-01 00:00 UTC to 1970-01-03 00:00 UTC" in words
    assert "after 2,100 users: +.050 (+.000 to +.100)" in page
    ab_page(app, replace(running(answers), history=history.head(1)))


def test_a_wrong_split_and_missing_labels_are_said(app: Flask) -> None:
    answers = answers_of({"champion": 400, "challenger": 100}, {"champion": 100, "challenger": 20})
    words = words_of(ab_page(app, running(answers)))
    assert "The split is not as configured" in words and "p < 0.0001, not as configured." in words
    words = words_of(ab_page(app, running(answers.head(0))))
    assert "Not enough labels yet" in words and "Too few users yet to check the split." in words
    assert "Answers 0 0" in words and "–" in words


def test_a_shadow_is_shown_with_what_it_would_have_said_otherwise(app: Flask) -> None:
    rows = pd.DataFrame(
        {
            "request_id": ["a", "a", "b", "b", "c", "c"],
            "position": 0,
            "unit": ["a", "a", "b", "b", "c", "c"],
            "arm": ["champion", "shadow"] * 3,
            "label": [1, 0, 1, 1, 0, 1],
            "probability": [0.9, 0.2, 0.8, 0.7, 0.4, 0.6],
            "true_label": [0, 0, None, None, None, None],
            "text": [EVIL, EVIL, "fine", "fine", None, None],
            "at": range(6),
        }
    )
    found = RunningComparison(
        "1-vs-2", "1", "2", 6, False,
        agreement=ab_test.shadow_agreement(rows), disagreements=ab_test.disagreements(rows),
    )  # fmt: skip
    page = ab_page(app, found)
    words = words_of(page)
    assert "Shadow comparison The same label for 33.3% of 3 users" in words
    assert "{{ 7*7 }} champion + Positive 90.0% shadow − Negative 20.0% true − Negative" in words
    assert "text not stored champion − Negative 40.0% shadow + Positive 60.0%" in words
    assert "fine" not in words.split() and "<script>alert" not in page
    assert "6 answers read from the prediction log, the oldest; there are more." in words


def test_intervals_beyond_what_is_known_are_dashes(app: Flask) -> None:
    answers = answers_of({"champion": 60, "challenger": 3}, {"champion": 2, "challenger": 1})
    page = ab_page(app, running(answers))
    words = words_of(page)
    assert "Accuracy – Recall of negative champion " in words
    assert " of 2 – Macro-F1 95% interval, for a single look –" in words
    assert re.findall(r"Challenger (\S+)", words[words.index("Scores with") :])[1] == "–"
    assert 'class="history"' not in page
