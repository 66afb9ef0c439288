"""Draw the pictures that are logged with each model.

Each drawing function returns a matplotlib `Figure`; nothing is shown. Margins are fixed: a layout
that matplotlib works out itself takes longer than the drawing. matplotlib is imported when the
first figure is drawn, which a pass of the experiment leaves to its `Worker`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from sentiment.metrics import Floats, Interval, Labels, confusion, wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from optuna import Study

Drawing: TypeAlias = tuple[Callable[..., "Figure"], tuple[Any, ...]]  # and its arguments
# Okabe and Ito's palette (2008): told apart by colour-blind readers too
NEGATIVE, POSITIVE, NEUTRAL = "#D55E00", "#0072B2", "#7F7F7F"
DARK = "#222222"
SIZE = (12.0, 6.75)  # inches; at 100 dots per inch 1,200 pixels wide
STYLE: Any = {
    "font.size": 14,
    "axes.titlesize": 17,
    "axes.titlelocation": "left",
    "axes.titlepad": 14,
}
ABOVE = 38  # points between a title and the axes, with room for a legend
TOP = 15  # words of each class in the figure


def draw(title: str, drawings: Mapping[str, Drawing], folder: Path) -> None:
    """Draw figures with `title` above them, and save each in the folder as `<name>.png`."""
    from matplotlib import rc_context

    for name, (function, arguments) in drawings.items():
        with rc_context(STYLE):
            figure = function(*arguments)
            figure.text(0.99, 0.985, title, ha="right", va="top", color=NEUTRAL)
            figure.savefig(folder / f"{name}.png")


def confusion_matrix_figure(y_true: Labels, y_pred: Labels, class_names: tuple[str, ...]) -> Figure:
    """Draw counts and row shares of the confusion matrix."""
    matrix = confusion(y_true, y_pred, len(class_names))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure, axes = _canvas("What the reviews of the holdout are, and what the model says")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(matrix):
        share = shares[row, column]
        label = f"{int(count):,}\n{share:.1%}"
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, label, ha="center", va="center", color=colour, fontsize=20)
    axes.set_xticks(range(len(class_names)), class_names)
    axes.set_yticks(range(len(class_names)), class_names, rotation=90, va="center")
    axes.set(xlabel="the model says (share of the row)", ylabel="it is")
    axes.spines[:].set_visible(False)
    return figure


def precision_recall_figure(y_true: Labels, decision: Floats, y_pred: Labels) -> Figure:
    """Draw precision against recall of the negative class, the rare one.

    `decision` is any score that grows with the positive class; the point is where `y_pred` is.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    negative = 1 - y_true
    precision, recall, _ = precision_recall_curve(negative, -decision)
    average = average_precision_score(negative, -decision)
    figure, axes = _canvas("How many negative reviews it finds, and how often it is right then")
    label = f"average precision {average:.3f}"
    axes.step(recall, precision, where="post", color=NEGATIVE, label=label, linewidth=2)
    found = confusion(y_true, y_pred, 2)[:, 0]
    at = found[0] / max(negative.sum(), 1), found[0] / max(found.sum(), 1)
    label = f"where it decides: finds {at[0]:.0%}, right in {at[1]:.0%}"
    axes.plot(*at, "o", color=DARK, markersize=11, label=label)
    axes.axhline(negative.mean(), color=NEUTRAL, linestyle="--", label="always negative")
    axes.set(xlabel="share of the negative reviews that is found (recall)")
    axes.set(ylabel="of those called negative, share that is (precision)")
    _shares(axes)
    axes.legend(loc="lower left")
    return figure


def reliability_figure(reliability: pd.DataFrame, brier: Interval) -> Figure:
    """Draw the share of positive reviews against the predicted probability.

    `reliability` is what `metrics.reliability_table` returns. Bars are 95 % Wilson intervals, and
    how many reviews a point stands for is said.
    """
    figure, axes = _canvas("How often a predicted probability comes true")
    axes.plot([0, 1], [0, 1], color=NEUTRAL, linestyle="--", label="as often as predicted")
    forecast, share = reliability["forecast"].to_numpy(), reliability["share"].to_numpy()
    counts = reliability["reviews"].to_numpy()
    intervals = [wilson_interval(round(s * n), int(n)) for s, n in zip(share, counts, strict=True)]
    ends = np.array([(one.low, one.high) for one in intervals if one is not None])
    bars = np.abs(ends.T - share)
    sizes = " to ".join(f"{count:,}" for count in sorted({counts.min(), counts.max()}))
    label = f"groups of {sizes} reviews; Brier score {brier.value:.3f}"
    axes.errorbar(forecast, share, bars, fmt="o-", color=POSITIVE, capsize=4, label=label)
    axes.set(xlabel="predicted probability of positive")
    axes.set(ylabel="share that is positive")
    _shares(axes)
    axes.legend(loc="upper left")
    return figure


def top_words_figure(words: pd.DataFrame) -> Figure:
    """Draw the `TOP` words that pull most to each class; positive weights speak for positive.

    `words` has the columns `word` and `weight`.
    """
    order = words.sort_values("weight", kind="stable")
    shown = pd.concat([order.head(TOP), order.tail(TOP)])
    shown = shown[~shown.index.duplicated()]
    figure, axes = _canvas("The words that decide most", (12.0, 9.0))
    figure.subplots_adjust(left=0.24)  # two long words
    weights = shown["weight"].to_numpy()
    colours = [NEGATIVE if weight < 0 else POSITIVE for weight in weights]
    axes.barh(range(len(shown)), weights, color=colours)
    axes.set_yticks(range(len(shown)), shown["word"].tolist(), fontsize=12, parse_math=False)
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("weight: ← negative    positive →")
    return figure


def trials_figure(study: Study) -> Figure:
    """Draw the score of each trial with the chosen one marked, and what the score depends on.

    That is the share of its variation by parameter (PED-ANOVA, Watanabe et al. 2023), left out
    where the trials do not differ enough to say anything.
    """
    from matplotlib.ticker import MaxNLocator

    scored = {trial.number: trial.value for trial in study.trials if trial.value is not None}
    numbers, scores = list(scored), list(scored.values())
    importance = _importance(study)
    figure, axes = _canvas("Score of each trial by cross-validation")
    axes.plot(numbers, scores, "o", color=POSITIVE, markersize=8, label="a trial")
    so_far = np.maximum.accumulate(scores)
    axes.step(numbers, so_far, where="post", color=NEUTRAL, linewidth=1.5, label="best so far")
    best = study.best_trial.number
    label = f"chosen: trial {best}, {scored[best]:.4f}"
    axes.plot(best, scored[best], "*", color=NEGATIVE, markersize=20, label=label)
    axes.set(xlabel="trial", ylabel="macro-F1, mean of the folds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_above(axes)
    if importance:
        axes.set_position((0.08, 0.12, 0.52, 0.72))
        side = figure.add_axes((0.76, 0.12, 0.2, 0.72))
        side.spines[["top", "right"]].set_visible(False)
        names = list(importance)[::-1]
        side.barh(names, [importance[name] for name in names], color=POSITIVE)
        side.set(xlabel="share of its variation", xlim=(0, 1))
        side.set_title("What it depends on", pad=ABOVE)
        side.set_xticks([0, 0.5, 1])
        side.xaxis.set_major_formatter(_per_cent())
    return figure


def comparison_figure(table: pd.DataFrame) -> Figure:
    """Draw the scores of all models of a pass with intervals, fit times and sizes.

    `table` is what `search.comparison` returns. A model is chosen by cross-validation only.
    """
    figure, axes = _canvas("Scores of the models", (12.0, 2.6 + 1.3 * len(table)))
    bottom, height = 1.0 / figure.get_size_inches()[1], 1 - 2.1 / figure.get_size_inches()[1]
    axes.set_position((0.23, bottom, 0.42, height))
    rows = np.arange(len(table))[::-1]
    for part, colour, shift in (
        ("CV", POSITIVE, 0.22),
        ("train", NEUTRAL, 0.0),
        ("test", NEGATIVE, -0.22),
    ):
        value = table[f"{part} F1"].to_numpy()
        bars = None
        if f"{part} low" in table:
            bars = np.abs(table[[f"{part} low", f"{part} high"]].to_numpy().T - value)
        label = {"CV": "cross-validation", "train": "training part", "test": "holdout"}[part]
        axes.errorbar(value, rows + shift, xerr=bars, fmt="o", color=colour, capsize=4, label=label)
        for x, y in zip(value, rows + shift, strict=True):
            axes.annotate(
                f"{x:.3f}",
                (x, y),
                (0, 6),
                textcoords="offset points",
                fontsize=11,
                ha="center",
                color=colour,
            )
    names = [f"{row.model}{' ★' if row.chosen else ''}" for row in table.itertuples()]
    axes.set_yticks(rows, names)
    axes.set_ylim(-0.6, len(table) - 0.4)
    axes.set_xlabel("macro-F1, bars: 95 % intervals; ★ chosen")
    _legend_above(axes)
    for left, column, title in ((0.69, "fit seconds", "Search, s"), (0.855, "size kB", "Size, kB")):
        side = figure.add_axes((left, bottom, 0.13, height), sharey=axes)
        bars = side.barh(rows, table[column], height=0.5, color=POSITIVE)
        side.bar_label(bars, fmt="{:.3g}", padding=3, fontsize=11)
        side.margins(x=0.25)
        side.set_title(title, pad=ABOVE)
        side.tick_params(labelleft=False)
        side.spines[["top", "right"]].set_visible(False)
    return figure


def _importance(study: Study) -> dict[str, float]:
    """Return what each parameter explains, the most first; nothing where that cannot be said."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    if len({trial.value for trial in study.trials if trial.value is not None}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is experimental
        try:
            return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
        except (ValueError, RuntimeError, ZeroDivisionError):
            return {}


def _legend_above(axes: Axes) -> None:
    axes.set_title(axes.get_title(loc="left"), pad=ABOVE)
    look: Any = {"ncols": 3, "fontsize": 12, "frameon": False, "columnspacing": 1.2}
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), **look)


def _shares(axes: Axes) -> None:
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(np.linspace(0, 1, 6))
        axis.set_major_formatter(_per_cent())


def _per_cent() -> Any:
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(1.0, decimals=0)


def _canvas(title: str, size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=100)
    figure.subplots_adjust(left=0.09, right=0.97, bottom=0.12, top=0.88)
    axes = figure.subplots()
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
