"""Render a drift check as one HTML file that needs nothing else: style inside, figures as SVG.

The page loads nothing from anywhere and says so to the browser (its own content security policy),
so it can be kept, sent, or shown by the server. Text from reviews, which strangers write, is
escaped.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sentiment.drift.performance import TITLES, Performance
from sentiment.drift.report import Distribution, DriftCheck, Signal, as_past, time_in_words
from sentiment.drift.signals import SIGNALS, relative
from sentiment.metrics import short

TEMPLATE, STYLE = "drift_report.html", "drift_report.css"  # beside this module
HEADLINES = {
    "steady": "Steady",
    "watch": "Keep watching",
    "drifted": "Drifted",
    "not enough yet": "Not enough yet",
}
GROUP_TITLES = {"input": "Incoming reviews", "score": "Answers", "performance": "Performance"}
FARTHEST = 2.0  # distances are drawn up to twice the limit
LABELLED_CLASSES = 5  # of a distribution; more would not fit on a phone


def render_page(check: DriftCheck) -> str:
    """Return the page of a check."""
    folder = Path(__file__).parent
    templates = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    base = folder.parent / "serving" / "static" / "base.css"  # of all pages
    style = "\n".join(file.read_text(encoding="utf-8") for file in (base, folder / STYLE))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    report = check.report
    groups = {
        title: [signal for signal in report.signals if signal.group == group]
        for group, title in GROUP_TITLES.items()
    }
    return templates.get_template(TEMPLATE).render(
        policy=f"default-src 'none'; style-src 'sha256-{digest}'",
        style=Markup(style),
        headline=HEADLINES[report.verdict],
        check=check,
        report=report,
        groups=[(title, signals) for title, signals in groups.items() if signals],
        place=place,
        missing=[(SIGNALS[name].title, why) for name, why in report.not_computed.items()],
        intervals=_intervals(report.performance),
        distributions=[_bars(distribution) for distribution in check.distributions],
        checked_at=time_in_words(check.checked_at),
        trend=_trend(check),
    )


def place(signal: Signal, value: float) -> float:
    """Return where to draw a value: 0 is no change, 50 the limit, 100 twice as far or more.

    A value on the other side of the reference is drawn at 0.
    """
    return _drawn(relative(value, signal.limit, signal.reference))


def _drawn(distance: float) -> float:
    return round(100 * max(0.0, min(distance, FARTHEST)) / FARTHEST, 2)


def _trend(check: DriftCheck) -> list[dict[str, Any]]:
    """Return the last checks and this one as the page draws them; none where it is the first."""
    if not check.before or not check.report.signals:
        return []
    checks = [*check.before, as_past(check)]
    return [
        {
            "check": each,
            "x": round(100 * (at + 0.5) / len(checks), 2),
            "y": 100 - _drawn(each.distance),
            "when": time_in_words(each.at),
            "estimated": "" if each.estimated is None else short(each.estimated),
        }
        for at, each in enumerate(checks)
    ]


def _intervals(performance: Performance) -> dict[str, Any] | None:
    """Return the macro-F1s with their places on one axis over whole tenths; None without any."""
    scores = performance.scores()
    if not scores:
        return None
    low = min(0.9, int(10 * min(interval.low for interval in scores.values())) / 10)
    high = min(1.0, int(10 * max(interval.high for interval in scores.values()) + 1) / 10)
    steps = round(10 * (high - low))
    return {
        "ticks": [(100 * at / steps, short(low + at / 10, 1)) for at in range(steps + 1)],
        "rows": [
            {
                "name": TITLES[name],
                "kind": "before" if name == "reference_f1" else "now",
                "words": "{} ({} to {})".format(
                    *map(short, (interval.value, interval.low, interval.high))
                ),
                "places": [
                    round(100 * (value - low) / (high - low), 2)
                    for value in (interval.low, interval.value, interval.high)
                ],
            }
            for name, interval in scores.items()
        ],
    }


def _bars(shares: Distribution) -> dict[str, Any]:
    """Return bars of the window and marks of the reference, in per cent of a field."""
    highest = max(*shares.reference, *shares.window, 1e-9)
    width = 100 / len(shares.classes)
    every = -(-len(shares.classes) // LABELLED_CLASSES)
    rows = list(zip(shares.classes, shares.reference, shares.window, strict=True))
    return {
        "title": shares.title,
        "bars": [
            {
                "x": round(at * width + 0.1 * width, 3),
                "end": round(at * width + 0.9 * width, 3),
                "width": round(0.8 * width, 3),
                "height": round(100 * now / highest, 2),
                "before": round(100 - 100 * before / highest, 2),
            }
            for at, (_, before, now) in enumerate(rows)
        ],
        "labels": [
            (round((at + 0.5) * width, 2), shares.classes[at])
            for at in range(0, len(shares.classes), every)
        ],
        "highest": f"{highest:.0%}",
        "table": [(name, f"{before:.1%}", f"{now:.1%}") for name, before, now in rows],
    }
