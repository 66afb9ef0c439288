"""Drift figures: the pictures logged with a check and with a replay, drawn without pyplot.

Each function returns a matplotlib `Figure`; nothing is shown or saved here. The page of a check
(`drift_page.py`) draws the same numbers in its own way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sentiment.drift.outcome import FARTHEST, SCORES, Distribution, scores, way
from sentiment.drift.report import DriftReport
from sentiment.drift.signals import SIGNALS
from sentiment.metrics import Interval
from sentiment.training.figures import NEUTRAL, POSITIVE, SIZE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Not told by the colour alone: each has a mark of its own too
STATE_COLOURS = {
    "steady": "#009E73",
    "watch": "#E69F00",
    "drifted": "#D55E00",
    "not enough yet": NEUTRAL,
}
STATE_MARKS = {"steady": "o", "watch": "D", "drifted": "X", "not enough yet": "."}


def signals_figure(report: DriftReport, title: str) -> Figure:
    """Every signal on its way from no change to its limit."""
    figure = Figure(figsize=(7.6, 0.34 * len(report.signals) + 1.5), dpi=100, layout="constrained")
    axes = _axes(figure, title)
    places = range(len(report.signals), 0, -1)
    for place, signal in zip(places, report.signals, strict=True):
        at, colour = way(signal, signal.value), STATE_COLOURS[signal.state]
        axes.plot([0, at], [place, place], color=colour, linewidth=2.5)
        axes.plot(at, place, STATE_MARKS[signal.state], color=colour, markersize=8)
        watch = way(signal, signal.watch_limit)
        axes.plot([watch, watch], [place - 0.3, place + 0.3], color=NEUTRAL, linewidth=1)
    axes.axvline(1, color="black", linewidth=1)
    axes.axvline(0, color=NEUTRAL, linewidth=0.8)
    axes.set_yticks(list(places), [SIGNALS[signal.name].title for signal in report.signals])
    axes.set_xlim(right=FARTHEST * 1.05)
    axes.set_xticks([0, 1, FARTHEST], ["no change", "limit", "twice as far\nor more"])
    axes.spines["left"].set_visible(False)
    return figure


def distribution_figure(found: Distribution, title: str) -> Figure:
    """Bars of the window in front of steps of the reference."""
    figure = Figure(figsize=SIZE, dpi=100, layout="constrained")
    axes = _axes(figure, f"{title}: {found.title[0].lower()}{found.title[1:]}")
    places = np.arange(len(found.classes))
    axes.bar(places, found.window, width=0.8, color=POSITIVE, alpha=0.75, label="now")
    edges = np.append(places, len(places)) - 0.5
    axes.stairs(found.reference, edges, color="black", linewidth=1.5, label="reference")
    every = max(1, len(places) // 10)
    axes.set_xticks(places[::every], found.classes[::every], fontsize=8)
    axes.set_ylabel("share of reviews")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend()
    return figure


def performance_figure(report: DriftReport, title: str) -> Figure:
    """Macro-F1 with intervals: the reference's, the estimate, and by true labels."""
    found = scores(report.performance)
    shown = [(name, interval) for name, interval in found.items() if interval is not None]
    figure = Figure(figsize=(6.4, 0.5 * len(shown) + 1.3), dpi=100, layout="constrained")
    axes = _axes(figure, title)
    for place, (name, interval) in enumerate(reversed(shown)):
        colour = NEUTRAL if name == "reference_f1" else POSITIVE
        mark = "s" if name.startswith("estimated") else "o"
        _whisker(axes, interval, place, colour, mark)
    axes.set_yticks(range(len(shown)), [SCORES[name] for name, _ in reversed(shown)])
    axes.set(xlabel="macro-F1, 95 % intervals", ylim=(-0.6, len(shown) - 0.4))
    axes.grid(axis="x", color=NEUTRAL, alpha=0.25)
    return figure


def replay_figure(table: pd.DataFrame, reference: Interval | None, title: str) -> Figure:
    """True and estimated macro-F1 of window after window, marked with the verdict.

    `table` has the columns of `drift_replay.REPLAY_COLUMNS`.
    """
    figure = Figure(figsize=(max(7.6, 0.3 * len(table) + 2), 5.4), dpi=100, layout="constrained")
    axes = _axes(figure, title)
    places = np.arange(len(table))
    if reference is not None:
        axes.axhspan(reference.low, reference.high, color=NEUTRAL, alpha=0.15)
        axes.axhline(reference.value, color=NEUTRAL, linewidth=1, label="reference, 95 %")
    axes.fill_between(
        places,
        table["estimated_low"],
        table["estimated_high"],
        color=POSITIVE,
        alpha=0.15,
        linewidth=0,
    )
    axes.plot(places, table["estimated_f1"], color=POSITIVE, label="estimated without labels, 95 %")
    axes.vlines(places, table["true_low"], table["true_high"], color="black", linewidth=0.8)
    for verdict, colour in STATE_COLOURS.items():
        rows = (table["verdict"] == verdict).to_numpy() & table["true_f1"].notna().to_numpy()
        if rows.any():
            axes.plot(
                places[rows],
                table["true_f1"][rows],
                STATE_MARKS[verdict],
                color=colour,
                markersize=8,
                label=f"true, verdict {verdict}",
            )
    axes.set_xticks(places, table["window"], rotation=90, fontsize=8)
    axes.set_ylabel("macro-F1")
    axes.margins(x=0.02)
    figure.legend(loc="outside upper center", fontsize=8, ncols=3, frameon=False)
    return figure


def _whisker(axes: Axes, interval: Interval, place: int, colour: str, mark: str) -> None:
    axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=2)
    axes.plot(interval.value, place, mark, color=colour, markersize=8)
    axes.annotate(
        f"{interval.value:.3f}",
        (interval.value, place),
        (0, 7),
        textcoords="offset points",
        ha="center",
        fontsize=8,
    )


def _axes(figure: Figure, title: str) -> Axes:
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def drawn(report: DriftReport, shares: Sequence[Distribution], title: str) -> dict[str, Figure]:
    """Every figure of a check, by the name of its file."""
    found = {}
    if report.signals:
        found["signals"] = signals_figure(report, f"{title}: {report.verdict}")
    for distribution in shares:
        name = distribution.title.lower().replace(" ", "_")
        found[name] = distribution_figure(distribution, title)
    if any(scores(report.performance).values()):
        found["macro_f1"] = performance_figure(report, f"{title}: macro-F1")
    return found
