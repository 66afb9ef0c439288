"""Show complaints: as one HTML file that needs nothing else, as lines of a terminal, as Markdown.

The page holds customers' texts. It loads nothing from anywhere and says so to the browser, and text
is escaped. The server shows the same page with its own header. The Markdown, which Prefect keeps in
a store of its own, has themes and counts and nobody's review: a phrase in it was written by several
customers.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sentiment.complaints.statistics import StarOdds
from sentiment.complaints.themes import LEAST_REVIEWS, Complaints, Example, Theme
from sentiment.console import Terminal
from sentiment.metrics import Interval

PAGE, ALONE = "complaints.html", "alone.html"  # among the server's templates
STYLES = ("base.css", "style.css")  # of all pages
GENERAL = "Says only that it is bad"
LONGEST_TEXT = 600  # characters of an example that is shown; more around its first marked word
MARK = Markup('<mark class="negative strength-2">{}</mark>')
ARROWS = {"rising": "▲", "falling": "▼", "no clear change": ""}
OF_MARKDOWN = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_[]<>|#~"})


def render_file(complaints: Complaints) -> str:
    """Return the page as one file, with its style and its content security policy inside."""
    folder = Path(__file__).parent.parent / "serving"
    templates = Environment(
        loader=FileSystemLoader(folder / "templates"), autoescape=True, undefined=StrictUndefined
    )
    style = "\n".join((folder / "static" / name).read_text(encoding="utf-8") for name in STYLES)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'"
    view = page_view(complaints)
    return templates.get_template(PAGE).render(
        layout=ALONE, policy=policy, style=Markup(style), **view
    )


def page_view(complaints: Complaints) -> dict[str, Any]:
    """Return what the template `PAGE` shows."""
    themes = complaints.themes
    largest = max((theme.share.value for theme in themes), default=1.0)
    compared = [theme for theme in themes if theme.odds]
    axis = _odds_axis([theme.odds for theme in compared if theme.odds])
    return {
        "complaints": complaints,
        "themes": [_theme_view(theme, largest) for theme in themes],
        "compared": [
            {"title": _title(theme), "place": axis.place, "odds": theme.odds}
            | {"words": _odds_in_words(theme.odds)}
            for theme in sorted(compared, key=_odds_value, reverse=True)
            if theme.odds
        ],
        "ticks": axis.ticks,
        "least": LEAST_REVIEWS,
        "headline": _headline(complaints),
        "sentence": _sentence,
    }


def _headline(complaints: Complaints) -> str:
    named = [theme for theme in complaints.themes if not theme.is_general]
    if not complaints.negative:
        return "No complaints"
    if not named:
        return "No common complaint"
    return "What customers complain about"


def _title(theme: Theme) -> str:
    return GENERAL if theme.is_general else _sentence(theme.name)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _range(interval: Interval) -> str:
    return f"{100 * interval.low:.1f}–{_percent(interval.high)}"


def _theme_view(theme: Theme, largest: float) -> dict[str, Any]:
    change = theme.trend.change if theme.trend else ""
    return {
        "title": _title(theme),
        "said": theme.name if theme.is_general else "",
        "reviews": f"{theme.reviews:,}",
        "share": _percent(theme.share.value),
        "range": _range(theme.share),
        "width": round(100 * theme.share.value / largest, 2),
        "change": change,
        "arrow": ARROWS.get(change, ""),
        "trend": _trend_view(theme),
        "odds": _odds_sentence(theme.odds) if theme.odds else "",
        "examples": [
            {"text": marked(example), "stars": example.stars} for example in theme.examples
        ],
    }


def _trend_view(theme: Theme) -> dict[str, Any] | None:
    """Return the share over time with its band, as SVG paths in a field of 100 × 100."""
    if theme.trend is None:
        return None
    periods = theme.trend.periods
    said = f"{_sentence(theme.trend.change)} ({p_in_words(theme.trend.p_value)})"
    first, last = periods[0], periods[-1]
    view = {
        "said": said,
        "words": f"{said}: {_percent(first.share.value)} of all reviews in {first.name}, "
        f"{_percent(last.share.value)} in {last.name}",
        "line": "",
    }
    if len(periods) < 2:
        return view
    top = 1.1 * max(part.share.high for part in periods)
    across = [100 * at / (len(periods) - 1) for at in range(len(periods))]

    def path(values: Sequence[float], places: Sequence[float]) -> str:
        ends = (f"{x:.2f} {100 - 100 * y / top:.2f}" for x, y in zip(places, values, strict=True))
        return " L".join(ends)

    low, high = ([getattr(part.share, end) for part in periods] for end in ("low", "high"))
    step = _step(top)
    return view | {
        "line": "M" + path([part.share.value for part in periods], across),
        "band": "M" + path(high, across) + " L" + path(low[::-1], across[::-1]) + " Z",
        "ticks": [
            (round(100 - 100 * value / top, 2), f"{100 * value:g} %")
            for value in (at * step for at in range(1, int(top / step) + 1))
        ],
        "last": round(100 - 100 * last.share.value / top, 2),
        "first_period": first.name,
        "last_period": last.name,
        "periods": [
            (
                part.name,
                f"{part.hits:,} of {part.reviews:,}",
                _percent(part.share.value),
                _range(part.share),
            )
            for part in periods
        ],
    }


def _step(top: float) -> float:
    """Return a round step of which two to four fit below the top."""
    power = 10.0 ** math.floor(math.log10(top))
    return next(power * size for size in (5, 2, 1, 0.5) if top / (power * size) >= 2)


def p_in_words(p_value: float) -> str:
    """Return a p-value for people."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


# --- stars ------------------------------------------------------------------------------------


class _OddsAxis:
    """A logarithmic axis over odds ratios: `place` is in per cent of its length."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = math.log(low), math.log(high)
        steps = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20]
        shown = [step for step in steps if low <= step <= high]
        self.ticks = [(self.place(step), f"{step:g}×") for step in shown]

    def place(self, value: float) -> float:
        """Return where a ratio stands; those beyond the ends are at the ends."""
        share = (math.log(value) - self._low) / (self._high - self._low)
        return round(100 * min(max(share, 0.0), 1.0), 2)


def _odds_axis(odds: Sequence[StarOdds]) -> _OddsAxis:
    low = min([0.5, *(one.odds_ratio.low for one in odds)])
    high = max([2.0, *(one.odds_ratio.high for one in odds)])
    return _OddsAxis(max(low, 0.05), min(high, 20.0))


def _odds_value(theme: Theme) -> float:
    return theme.odds.odds_ratio.value if theme.odds else 0.0


def _odds_in_words(odds: StarOdds) -> str:
    ratio = odds.odds_ratio
    return f"{ratio.value:.1f} times [{ratio.low:.1f}, {ratio.high:.1f}]"


def _odds_sentence(odds: StarOdds) -> str:
    shares = f"{_percent(odds.low.value)} of 1–2 stars, {_percent(odds.neutral.value)} of 3 stars"
    if not odds.separates:
        return f"{shares}: may be chance ({p_in_words(odds.p_value)})"
    what = "1–2" if odds.odds_ratio.value > 1 else "3"
    return f"{shares}: speaks for {what} stars ({p_in_words(odds.p_value)})"


# --- texts ------------------------------------------------------------------------------------


def marked(example: Example) -> Markup:
    """Return the text, escaped, with `<mark>` around the theme's words; a long one is cut."""
    text, begin, end = example.text, 0, len(example.text)
    if end > LONGEST_TEXT:
        first = example.places[0][0] if example.places else 0
        begin = max(0, min(first - LONGEST_TEXT // 3, end - LONGEST_TEXT))
        end = begin + LONGEST_TEXT
    parts, done = [Markup("…" if begin else "")], begin
    for start, stop in example.places:
        if begin <= start and stop <= end:
            parts += [Markup("{}").format(text[done:start]), MARK.format(text[start:stop])]
            done = stop
    parts.append(Markup("{}").format(text[done:end]))
    return Markup("").join(parts) + ("…" if end < len(text) else "")


def show_complaints(complaints: Complaints, terminal: Terminal) -> None:
    """Print the themes as a table that fits 80 columns; a piped one has the whole names."""
    terminal.say(f"{complaints.source}: {complaints.summary}", always=True)
    for note in complaints.notes:
        terminal.say(f"- {note}")
    if not complaints.negative:
        return
    if not complaints.themes:
        terminal.say("no theme: no words that several of them use weigh against the product")
        return
    with_trend = any(theme.trend for theme in complaints.themes)
    with_odds = any(theme.odds for theme in complaints.themes)
    rows = []
    for theme in complaints.themes:
        row: dict[str, Any] = {
            "complaint": _title(theme),
            "reviews": theme.reviews,
            "share (95%)": f"{_percent(theme.share.value)} ({_range(theme.share)})",
        }
        if with_trend:
            change = theme.trend.change if theme.trend else ""
            row["trend"] = change if ARROWS.get(change) else ""
        if with_odds:
            row["1–2 / 3 stars"] = _odds_short(theme.odds)
        rows.append(row)
    terminal.table("Complaints, share of the negative reviews", pd.DataFrame(rows))
    terminal.say(f"{complaints.without:,} negative reviews fit no theme")
    if not with_trend:
        terminal.say("no months: a column of dates (--month-column) would show what is rising")
    if with_odds:
        terminal.say("1–2 / 3 stars: the odds of it with 1–2 stars over those with 3; * not chance")
    else:
        terminal.say(f"1–2 and 3 stars are not compared: {complaints.no_stars}")


def _odds_short(odds: StarOdds | None) -> str:
    if odds is None:
        return ""
    return f"{odds.odds_ratio.value:.1f}×{'*' if odds.separates else ''}"


def markdown(complaints: Complaints) -> str:
    """Return themes and counts as Markdown, without any review."""
    lines = [f"{complaints.summary}."]
    if complaints.themes:
        lines += ["", "| complaint | reviews | share of negative | 95 % |", "|---|---|---|---|"]
        lines += [
            f"| {_title(theme).translate(OF_MARKDOWN)} | {theme.reviews:,} "
            f"| {_percent(theme.share.value)} | {_range(theme.share)} |"
            for theme in complaints.themes
        ]
        lines += ["", "`python -m sentiment complaints` shows them with examples."]
    return "\n".join(lines)
