"""Drift page: a check as one HTML file that needs nothing else: style inside, figures as SVG.

It loads nothing from anywhere and says so to the browser (its own content security policy), so it
may be kept, sent, or shown by the server. Text from reviews, which strangers write, is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sentiment.drift.outcome import (
    FARTHEST,
    SCORES,
    CheckedWindow,
    Distribution,
    scores,
    shown,
    way,
)
from sentiment.drift.report import GROUPS, DriftReport, Signal
from sentiment.drift.signals import SIGNALS
from sentiment.metrics import Interval
from sentiment.tracking.store import PROJECT

SERVING = PROJECT / "sentiment" / "serving"
HEADLINES = {
    "steady": "Steady",
    "watch": "Keep watching",
    "drifted": "Drifted",
    "not enough yet": "Not enough yet",
}
GROUP_TITLES = {"input": "What comes in", "score": "What is answered", "performance": "Performance"}
LABELLED_CLASSES = 5  # of a distribution; more would not fit on a phone


def drift_page(checked: CheckedWindow) -> str:
    """The page of a check."""
    templates = Environment(
        loader=FileSystemLoader(SERVING / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    styles = (SERVING / "static" / "base.css", SERVING / "templates" / "drift_report.css")
    style = "\n".join(file.read_text(encoding="utf-8") for file in styles)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    report = checked.report
    return templates.get_template("drift_report.html").render(
        policy=f"default-src 'none'; style-src 'sha256-{digest}'",
        style=Markup(style),
        headline=HEADLINES[report.verdict],
        checked=checked,
        report=report,
        compared=_compared(checked),
        period=_period(checked),
        groups=[(GROUP_TITLES[group], rows) for group, rows in _groups(report)],
        missing=[(SIGNALS[name].title, why) for name, why in report.not_computed.items()],
        intervals=_intervals(scores(report.performance)),
        distributions=[_bars(distribution) for distribution in checked.distributions],
        moved=[
            (term.term, f"{term.reference:.1%}", f"{term.window:.1%}")
            for term in report.moved_terms
        ],
        telling=[
            (word.term, f"{word.reference:.1%}", f"{word.window:.1%}")
            for word in report.domain_words
        ],
        unknown=[(word.word, f"{word.window:.1%}") for word in report.new_words],
        checked_at=_time(checked.checked_at),
    )


def _compared(checked: CheckedWindow) -> str:
    compared = f"{checked.report.reviews:,}"
    of = f" of {checked.reviews:,}" if checked.reviews != checked.report.reviews else ""
    return f"{compared}{of} reviews against {checked.report.reference_reviews:,} of the reference"


def _period(checked: CheckedWindow) -> str:
    """From when to when; empty where that is not known."""
    if checked.began is None or checked.ended is None:
        return ""
    began, ended = _time(checked.began), _time(checked.ended)
    return began if began == ended else f"{began} to {ended}"


def _groups(report: DriftReport) -> Iterable[tuple[str, list[dict[str, Any]]]]:
    """The signals by group, each with its words and its places on the way to the limit."""
    for group in GROUPS:
        rows = [_row(signal) for signal in report.signals if signal.group == group]
        if rows:
            yield group, rows


def _row(signal: Signal) -> dict[str, Any]:
    return {
        "title": SIGNALS[signal.name].title,
        "state": signal.state,
        "now": shown(signal.name, signal.value),
        "reference": ("" if signal.reference is None else shown(signal.name, signal.reference)),
        "limit": shown(signal.name, signal.limit),
        "sentence": signal.sentence(),
        "at": _place(signal, signal.value),
        "watch": _place(signal, signal.watch_limit),
    }


def _place(signal: Signal, value: float) -> float:
    """In per cent of the width, on which the limit is at 50."""
    return round(100 * max(way(signal, value), 0.0) / FARTHEST, 2)


def _intervals(found: dict[str, Interval | None]) -> dict[str, Any] | None:
    """Macro-F1s with places on one axis over whole tenths; None without any."""
    known = {name: interval for name, interval in found.items() if interval is not None}
    if not known:
        return None
    low = min(0.9, int(10 * min(interval.low for interval in known.values())) / 10)
    high = min(1.0, int(10 * max(interval.high for interval in known.values()) + 1) / 10)
    steps = round(10 * (high - low))

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    return {
        "ticks": [(100 * at / steps, f"{low + at / 10:.1f}") for at in range(steps + 1)],
        "rows": [
            {
                "name": SCORES[name],
                "kind": "before" if name == "reference_f1" else "now",
                "words": f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})",
                "places": [place(end) for end in (interval.low, interval.value, interval.high)],
            }
            for name, interval in known.items()
        ],
    }


def _bars(found: Distribution) -> dict[str, Any]:
    """Bars of the window and marks of the reference, in per cent of a field."""
    highest = max(*found.reference, *found.window, 1e-9)
    width = 100 / len(found.classes)
    every = -(-len(found.classes) // LABELLED_CLASSES)
    return {
        "title": found.title,
        "bars": [
            {
                "x": round(at * width + 0.1 * width, 3),
                "end": round(at * width + 0.9 * width, 3),
                "width": round(0.8 * width, 3),
                "height": round(100 * now / highest, 2),
                "before": round(100 - 100 * before / highest, 2),
            }
            for at, (now, before) in enumerate(zip(found.window, found.reference, strict=True))
        ],
        "labels": [
            (round((at + 0.5) * width, 2), found.classes[at])
            for at in range(0, len(found.classes), every)
        ],
        "highest": f"{highest:.0%}",
        "table": [
            (name, f"{before:.1%}", f"{now:.1%}")
            for name, before, now in zip(found.classes, found.reference, found.window, strict=True)
        ],
    }


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
