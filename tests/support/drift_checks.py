"""Drift checks written by hand, so that every value is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sentiment.drift.performance import Performance
from sentiment.drift.report import Distribution, DriftCheck, DriftReport, MovedTerm, NewWord, Signal
from sentiment.metrics import Interval

CHECKED_AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
# a share at a quarter of the way to its limit, one beyond its watch limit, and a fallen score
UNKNOWN = Signal("unknown_words", "input", 0.11, 0.10, 0.13, 0.14, True, 400)
POSITIVE = Signal("positive_share", "score", 0.74, 0.80, 0.75, 0.72, False, 400)
MEASURED = Signal("measured_f1", "performance", 0.70, 0.82, 0.78, 0.76, False, 120)
PERFORMANCE = Performance(
    answered=390,
    labelled=120,
    reference=Interval(0.82, 0.79, 0.85),
    estimated=Interval(0.80, 0.76, 0.84),
    measured=Interval(0.70, 0.61, 0.78),
    estimated_on_labelled=Interval(0.79, 0.71, 0.86),
)
NOTHING = Performance(0, 0, None, None, None, None)


def report_of(*signals: Signal, **fields: Any) -> DriftReport:
    """Return a report on 400 reviews with these signals."""
    return DriftReport(400, 1_500, 100, fields.pop("performance", PERFORMANCE), signals, **fields)


STEADY = report_of(UNKNOWN)
WATCH = report_of(UNKNOWN, POSITIVE)
DRIFTED = report_of(
    UNKNOWN,
    POSITIVE,
    MEASURED,
    not_computed={"emoji": "the texts of some of these reviews were not kept"},
    moved_terms=(MovedTerm("kettl", 0.0, 0.25, 1e-9),),
    new_words=(NewWord("spout", 0.125),),
)
TOO_FEW = DriftReport(40, 1_500, 100, NOTHING)
BY_VERDICT = {"steady": STEADY, "watch": WATCH, "drifted": DRIFTED, "not enough yet": TOO_FEW}


def check_of(report: DriftReport, **fields: Any) -> DriftCheck:
    """Return a check of version 3 on the log."""
    made = DriftCheck(
        report=report,
        version="3",
        algorithm="LogisticRegression",
        source="prediction log",
        reviews=report.reviews,
        times=(datetime(2026, 2, 28, 9, 0, tzinfo=UTC), CHECKED_AT),
        notes=("left out: answers of a shadow (4)",),
        distributions=(Distribution("Words per review", ("1", "2+"), (0.25, 0.75), (0.5, 0.5)),),
        checked_at=CHECKED_AT,
    )
    return replace(made, **fields)
