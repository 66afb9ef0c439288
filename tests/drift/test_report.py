"""Reports and checks put together by hand: verdict, sentences, advice, shares by class."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from support.drift_checks import DRIFTED, TOO_FEW, UNKNOWN, check_of
from support.drift_reviews import fitted, reference

from sentiment.drift.features import WindowFeatures, row_features
from sentiment.drift.performance import Performance
from sentiment.drift.report import ADVICE, DriftReport, MovedTerm, NewWord, Signal, distributions
from sentiment.metrics import Interval

PERFORMANCE = Performance(
    answered=480,
    labelled=0,
    reference=Interval(0.83, 0.81, 0.85),
    estimated=Interval(0.82, 0.79, 0.85),
    measured=None,
    estimated_on_labelled=None,
)


def share(name: str = "unknown_words", value: float = 0.1) -> Signal:
    """A share with the reference at 10 %, watched below 7 and above 14 %, drifted at 5 and 16 %."""
    above = value >= 0.1
    group: Any = "score" if name == "positive_share" else "input"
    watch, limit = (0.14, 0.16) if above else (0.07, 0.05)
    return Signal(name, group, value, 0.1, watch, limit, above, 500)


def f1(name: str, value: float) -> Signal:
    return Signal(name, "performance", value, 0.83, 0.80, 0.79, False, 400)


def report(*signals: Signal, **more: Any) -> DriftReport:
    return DriftReport(500, 1573, 100, PERFORMANCE, signals, **more)


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (0.10, "steady"),
        (0.14, "steady"),  # at the limit is not beyond it
        (0.141, "watch"),
        (0.16, "watch"),
        (0.161, "drifted"),
        (0.07, "steady"),
        (0.069, "watch"),
        (0.049, "drifted"),
    ],
)
def test_a_state_by_hand(value: float, state: str) -> None:
    assert share(value=value).state == state
    assert report(share("emoji"), share(value=value)).verdict == state


@pytest.mark.parametrize(
    ("signal", "numbers"),
    [
        (share(value=0.182), ["unknown words", "18.2%", "10.0%", "limit 16.0%", "500"]),
        (share("positive_share", 0.06), ["6.0%", "10.0%", "watch limit 7.0%"]),
        (
            Signal("characters_ks", "input", 0.142, None, 0.08, 0.09, True, 1_200),
            [".142", "limit .090", "1,200"],
        ),
        (Signal("terms", "input", 20.77, None, 15.0, 17.5, True, 500), ["20.8", "limit 17.5"]),
        (f1("measured_f1", 0.7), [".700", ".830", "limit .790", "400"]),
    ],
)
def test_a_sentence_has_the_value_and_what_it_is_compared_with(
    signal: Signal, numbers: list[str]
) -> None:
    sentence = signal.sentence()
    places = [sentence.find(number) for number in numbers]
    assert -1 not in places and places == sorted(places), sentence


def test_reasons_name_the_words_and_begin_with_the_worst() -> None:
    found = report(
        share("emoji", 0.15),
        share("unknown_words", 0.2),
        Signal("terms", "input", 88.12, None, 15.0, 17.5, True, 500),
        share("positive_share"),
        moved_terms=(MovedTerm("cork", 0.1, 0.02, 1e-9), MovedTerm("box", 0.05, 0.1, 0.001)),
        new_words=(NewWord("kettl", 0.12),),
    )
    unknown, terms, emoji = found.reasons
    assert unknown.startswith("unknown words") and "kettl (12.0%)" in unknown
    assert "cork 10.0% → 2.0%, box 5.0% → 10.0%" in terms
    assert emoji.startswith("reviews with emoji")
    assert found.summary == "input drifted, score steady, performance steady"


def test_steady_says_how_much_was_looked_at() -> None:
    [reason] = report(share("emoji"), share("unknown_words")).reasons
    assert "2 signals" in reason and "500 reviews" in reason


def test_too_few_reviews_are_not_steady() -> None:
    few, small = replace(report(), reviews=40), report()
    assert few.verdict == small.verdict == "not enough yet"
    assert "40 reviews" in few.summary and "at least 100" in few.summary
    assert "the reference has only 1,573 reviews" in small.reasons[0]


INPUT, SCORE = share("unknown_words", 0.3), share("positive_share", 0.3)
LENGTH = Signal("words_ks", "input", 0.2, None, 0.08, 0.09, True, 500)


@pytest.mark.parametrize(
    ("signals", "advice", "changed"),
    [
        ([share()], "steady", ""),
        ([share(value=0.15)], "watch", ""),
        ([INPUT, share("positive_share")], "input", "words"),
        ([share(), share("emoji", 0.3)], "input", "emoji and other symbols"),
        ([INPUT, f1("estimated_f1", 0.7)], "answers", "words and the estimated score"),
        ([INPUT, SCORE], "answers", "words and the share of positive answers"),
        ([LENGTH, INPUT, SCORE], "answers", "lengths, words and the share of positive answers"),
        ([share(), SCORE], "answers", "the share of positive answers"),
        ([share(value=0.15), f1("estimated_f1", 0.7)], "answers", "the estimated score"),
        ([share(), SCORE, f1("measured_f1", 0.83)], "holds", "the share of positive answers"),
        ([INPUT, f1("measured_f1", 0.795)], "input", "words"),  # nearly fallen: it does not hold
        ([INPUT, f1("measured_f1", 0.7)], "worse", ""),
        ([share(), f1("measured_f1", 0.7)], "worse", ""),
    ],
)
def test_advice_names_what_moved_and_nothing_else(
    signals: list[Signal], advice: str, changed: str
) -> None:
    assert report(*signals).advice == ADVICE[advice].format(changed=changed)


def test_distributions_are_shares_by_class() -> None:
    window = WindowFeatures(
        characters=np.array([1, 1, 1, 1, 1]),
        words=np.array([0, 1, 5, 13, 80]),
        known_words=np.array([0, 1, 5, 13, 80]),
        probability=np.array([0.7, 0.0, 0.049, 0.951, 1.0]),
        label=np.array([-1, 0, 0, 1, 1]),
        text=None,
    )
    score, words = distributions(reference(), window)
    assert words.classes == ("0", "1", "2", "3", "4–5", "6–8", "9–13", "14–24", "25+")
    assert words.window == pytest.approx((0.2, 0.2, 0, 0, 0.2, 0, 0.2, 0, 0.2))
    assert (len(score.classes), score.classes[0], score.classes[-1]) == (20, "0–5%", "95–100%")
    assert score.window == pytest.approx((0.5, *(0,) * 18, 0.5))  # of the four with an answer
    # of the reference, from its own counts
    values, reviews = reference().counts["words"]
    of_two = reviews[values == 2].sum() / reviews.sum()
    assert words.reference[2] == pytest.approx(of_two)
    assert sum(words.reference) == pytest.approx(1) and sum(score.reference) == pytest.approx(1)


def test_a_window_without_answers_has_no_scores_to_share_out() -> None:
    score, words = distributions(reference(), row_features(["qqq", "zzz qqq"], fitted()))
    assert set(score.window) == {0.0}
    assert words.window[1:3] == (0.5, 0.5)


def test_a_check_as_a_dictionary_says_what_it_is_about() -> None:
    check = check_of(DRIFTED, run_id="abc")
    found = json.loads(check.to_json())
    assert (found["version"], found["source"], found["run_id"]) == ("3", "prediction log", "abc")
    assert found["checked_at"] == "2026-03-01T12:30:00+00:00"
    assert found["window"] == {
        "reviews": 400,
        "began": "2026-02-28T09:00:00+00:00",
        "ended": "2026-03-01T12:30:00+00:00",
        "notes": ["left out: answers of a shadow (4)"],
    }
    assert found["signals"][0] == {**asdict(UNKNOWN), "title": "unknown words", "state": "steady"}
    assert found["reasons"] == list(DRIFTED.reasons)
    assert list(found["not_computed"]) == ["emoji"]
    assert found["moved_terms"][0]["term"] == "kettl"
    assert found["min_reviews"] == 100
    assert (found["verdict"], found["reviews"]) == ("drifted", 400)
    assert [signal["state"] for signal in found["signals"]] == ["steady", "watch", "drifted"]
    assert found["performance"]["measured"] == {"value": 0.70, "low": 0.61, "high": 0.78}
    without = check_of(TOO_FEW, times=None).as_dict()
    assert (without["verdict"], without["window"]["began"]) == ("not enough yet", None)
