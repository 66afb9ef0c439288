"""Drift tables: a check and a replay as the terminal shows them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from sentiment.console import Terminal
from sentiment.drift.outcome import SCORES, CheckedWindow, scores, shown
from sentiment.drift.report import DriftReport
from sentiment.drift.signals import SIGNALS

if TYPE_CHECKING:
    from sentiment.flows.replay import Replay


def show_check(checked: CheckedWindow, terminal: Terminal) -> None:
    """The check as lines and tables: the verdict first, what to do last."""
    report = checked.report
    name = f"version {checked.version} ({checked.algorithm})"
    terminal.say(f"{report.verdict}: {name}, {checked.source}", always=True)
    of = "" if checked.reviews == report.reviews else f" of {checked.reviews:,}"
    terminal.say(f"{report.reviews:,}{of} reviews against {report.reference_reviews:,}")
    for line in (*checked.notes, *report.reasons):
        terminal.say(f"- {line}")
    if report.signals:
        terminal.table("Signals", signals_table(report))
    found = scores(report.performance)
    rows = [(SCORES[key], interval) for key, interval in found.items() if interval is not None]
    if rows:
        table = pd.DataFrame(
            [(title, f"{i.value:.3f}", f"{i.low:.3f}–{i.high:.3f}") for title, i in rows],
            columns=["macro-F1", "value", "95%"],
        )
        terminal.table("Performance", table)
    for name, why in report.not_computed.items():
        terminal.say(f"not computed: {SIGNALS[name].title}: {why}")
    terminal.say(f"What to do: {report.advice}")


def signals_table(report: DriftReport) -> pd.DataFrame:
    """A row a signal: `signal`, `now`, `reference`, `limit`, `state`, as they are read."""
    rows = [
        (
            SIGNALS[signal.name].title,
            shown(signal.name, signal.value),
            "" if signal.reference is None else shown(signal.name, signal.reference),
            shown(signal.name, signal.limit),
            signal.state,
        )
        for signal in report.signals
    ]
    return pd.DataFrame(rows, columns=["signal", "now", "reference", "limit", "state"])


def show_replay(found: Replay, terminal: Terminal) -> None:
    """A row a window: the verdict without labels, and what was true."""
    terminal.say(f"{found.source}: {found.trained_on}")
    for note in found.notes:
        terminal.say(f"- {note}")
    table = found.table
    shown_table = pd.DataFrame(
        {
            "window": table["window"],
            "reviews": table["reviews"],
            "verdict": table["verdict"],
            "true macro-F1": _intervals(table, "true"),
            "estimated": _intervals(table, "estimated"),
            "by true labels": table["measured"],
            "beyond their limits": table["beyond"],
        }
    )
    reference = "none" if found.reference is None else str(found.reference)
    terminal.table(f"Replay; macro-F1 of the reference {reference}", shown_table)


def _intervals(table: pd.DataFrame, name: str) -> list[str]:
    columns = table[f"{name}_f1"], table[f"{name}_low"], table[f"{name}_high"]
    return [
        "" if math.isnan(value) else f"{value:.3f} ({low:.3f}–{high:.3f})"
        for value, low, high in zip(*columns, strict=True)
    ]
