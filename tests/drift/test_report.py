"""Drift report: verdict, sentences and advice of reports put together by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sentiment.drift.performance import Performance
from sentiment.drift.report import ADVICE, DomainWord, DriftReport, MovedTerm, NewWord, Signal
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


def test_sentences_by_hand() -> None:
    assert share(value=0.182).sentence() == (
        "unknown words 18.2%, reference 10.0%, limit 16.0% for 500 reviews"
    )
    assert share("positive_share", 0.06).sentence() == (
        "positive answers 6.0%, reference 10.0%, watch limit 7.0% for 500 reviews"
    )
    ks = Signal("characters_ks", "input", 0.142, None, 0.08, 0.09, True, 1_200)
    assert ks.sentence() == "characters per review (KS) 0.142, limit 0.090 for 1,200 reviews"
    assert f1("measured_f1", 0.7).sentence() == (
        "macro-F1 by true labels 0.700, reference 0.830, limit 0.790 for 400 reviews"
    )


def test_reasons_name_the_words_and_begin_with_the_worst() -> None:
    found = report(
        share("emoji", 0.15),
        share("unknown_words", 0.2),
        Signal("terms", "input", 88.12, None, 15.0, 17.5, True, 500),
        Signal("domain_auc", "input", 0.9, None, 0.58, 0.6, True, 500),
        share("positive_share"),
        moved_terms=(MovedTerm("cork", 0.1, 0.02, 1e-9), MovedTerm("box", 0.05, 0.1, 0.001)),
        domain_words=(DomainWord("cork", -1.0, 0.1, 0.02),),
        new_words=(NewWord("kettl", 0.12),),
    )
    assert found.reasons == (
        "unknown words 20.0%, reference 10.0%, limit 16.0% for 500 reviews; "
        "unknown are kettl 12.0% of reviews",
        "the term that moved most (chi-square) 88.1, limit 17.5 for 500 reviews: "
        "cork 10.0% → 2.0%, box 5.0% → 10.0%",
        "domain classifier (ROC AUC) 0.900, limit 0.600 for 500 reviews; it goes by cork",
        "reviews with emoji 15.0%, reference 10.0%, watch limit 14.0% for 500 reviews",
    )
    assert found.summary == "input drifted, score steady, performance steady"


def test_steady_says_how_much_was_looked_at() -> None:
    found = report(share("emoji"), share("unknown_words"))
    assert found.reasons == ("all 2 signals of 500 reviews are within their limits",)
    assert found.advice == "nothing is to be done"


def test_too_few_reviews_are_not_steady() -> None:
    few = replace(report(), reviews=40)
    assert few.verdict == "not enough yet"
    assert few.reasons == ("40 reviews to compare, at least 100 are needed for a verdict",)
    assert few.summary == few.reasons[0]
    small = report()
    assert small.verdict == "not enough yet"
    assert "the reference has 1,573 reviews, which is too few for limits" in small.reasons[0]


INPUT, SCORE = share("unknown_words", 0.3), share("positive_share", 0.3)


@pytest.mark.parametrize(
    ("signals", "advice"),
    [
        ([share()], "steady"),
        ([share(value=0.15)], "watch"),
        ([INPUT, share("positive_share")], "words only"),
        ([INPUT, f1("estimated_f1", 0.7)], "both"),
        ([INPUT, SCORE], "both"),
        ([share(), SCORE], "answers only"),
        ([share(), f1("estimated_f1", 0.7)], "answers only"),
        ([INPUT, SCORE, f1("measured_f1", 0.83)], "holds"),
        ([INPUT, f1("measured_f1", 0.795)], "words only"),  # nearly fallen: it does not hold
        ([INPUT, f1("measured_f1", 0.7)], "worse"),
        ([share(), f1("measured_f1", 0.7)], "worse"),
    ],
)
def test_advice_by_what_moved(signals: list[Signal], advice: str) -> None:
    assert report(*signals).advice == ADVICE[advice]


def test_as_a_dict_it_is_json_with_everything() -> None:
    found = report(
        INPUT,
        not_computed={"emoji": "the texts were not kept"},
        moved_terms=(MovedTerm("cork", 0.1, 0.02, 1e-9),),
    )
    read = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert read["verdict"] == "drifted"
    assert read["reasons"] == list(found.reasons)
    assert read["signals"] == [
        {
            "name": "unknown_words",
            "title": "unknown words",
            "group": "input",
            "value": 0.3,
            "reference": 0.1,
            "watch_limit": 0.14,
            "limit": 0.16,
            "above": True,
            "reviews": 500,
            "state": "drifted",
        }
    ]
    assert read["not_computed"] == {"emoji": "the texts were not kept"}
    assert read["moved_terms"][0]["term"] == "cork"
    assert read["performance"]["estimated"] == {"value": 0.82, "low": 0.79, "high": 0.85}
    assert read["min_reviews"] == 100
