"""Figures: the pictures logged with each model, drawn without pyplot so that threads may draw.

Each function returns a matplotlib `Figure`; nothing is shown or saved here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sentiment.metrics import Floats, Interval, Labels, confusion

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette (2008): told apart by colour-blind readers too
NEGATIVE, POSITIVE, NEUTRAL = "#D55E00", "#0072B2", "#7F7F7F"
SIZE = (6.4, 4.2)  # inches; at 100 dots per inch a picture the MLflow UI shows whole
LOG_PARAMETERS = ("C", "alpha")  # searched on a logarithmic scale


def confusion_matrix_figure(
    y_true: Labels, y_pred: Labels, class_names: tuple[str, ...], title: str
) -> Figure:
    """Counts and row shares of the confusion matrix on the holdout."""
    matrix = confusion(y_true, y_pred, len(class_names))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure, axes = _canvas(title, (4.8, 4.2))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        share = shares[row, column]
        label = f"{int(count):,}\n{share:.1%}"
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, label, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(class_names)), class_names)
    axes.set_yticks(range(len(class_names)), class_names, rotation=90, va="center")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return figure


def precision_recall_figure(y_true: Labels, decision: Floats, title: str) -> Figure:
    """Precision against recall for the negative class, the rare one, with average precision.

    `decision` is any score that grows with the positive class.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    negative = 1 - y_true
    precision, recall, _ = precision_recall_curve(negative, -decision)
    figure, axes = _canvas(title)
    average = average_precision_score(negative, -decision)
    axes.step(recall, precision, where="post", color=NEGATIVE, label=f"average {average:.3f}")
    axes.axhline(negative.mean(), color=NEUTRAL, linestyle="--", label="always negative")
    axes.set(xlabel="recall of negative", ylabel="precision of negative", ylim=(0, 1.02))
    axes.legend(loc="lower left")
    return figure


def reliability_figure(reliability: pd.DataFrame, brier: Interval, title: str) -> Figure:
    """Share of positive reviews against the forecast; `evaluation.reliability_table` has both."""
    figure, axes = _canvas(title)
    axes.plot([0, 1], [0, 1], color=NEUTRAL, linestyle="--", label="every forecast true")
    axes.plot(
        reliability["forecast"],
        reliability["share"],
        "o-",
        color=POSITIVE,
        label=f"Brier score {brier.value:.3f}",
    )
    axes.set(
        xlabel="probability of positive", ylabel="share of positive", xlim=(0, 1), ylim=(0, 1.02)
    )
    axes.legend(loc="upper left")
    return figure


def optimisation_history_figure(trials: pd.DataFrame, title: str) -> Figure:
    """Score of each trial and the best so far. `trials` has `number` and `value` (0–1)."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _canvas(title)
    axes.plot(trials["number"], trials["value"], "o", color=NEUTRAL, label="trial")
    axes.step(
        trials["number"],
        trials["value"].cummax(),
        where="post",
        color=POSITIVE,
        label="best so far",
    )
    axes.set(xlabel="trial", ylabel="CV macro-F1")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right")
    return figure


def parameter_importance_figure(importances: dict[str, float], title: str) -> Figure:
    """Share (0–1) of the variation of the score that each parameter accounts for."""
    figure, axes = _canvas(title)
    names = sorted(importances, key=lambda name: importances[name])
    bars = axes.barh(names, [importances[name] for name in names], color=POSITIVE)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set(xlabel="importance (share of the variation of the score)", xlim=(0, 1.1))
    return figure


def parallel_coordinates_figure(trials: pd.DataFrame, title: str) -> Figure:
    """One line a trial across its parameters, dark where the score is high.

    `trials` has `number`, `value` and one column a parameter.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    names = [name for name in trials.columns if name not in ("number", "value")]
    heights = np.column_stack([_unit_scale(trials[name], name) for name in names])
    figure, axes = _canvas(title, (7.6, 4.4))
    scale = Normalize(trials["value"].min(), trials["value"].max())
    colours = ScalarMappable(scale, colormaps["viridis_r"])
    for line in np.argsort(trials["value"].to_numpy()):  # the best are drawn last, on top
        axes.plot(heights[line], color=colours.to_rgba(trials["value"].iloc[line]), linewidth=1.3)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks([])
    axes.set_ylim(-0.12, 1.12)
    axes.margins(x=0.08)
    for position, name in enumerate(names):
        axes.axvline(position, color=NEUTRAL, linewidth=0.8)
        low, high = _ends(trials[name])
        axes.text(position, 1.03, high, ha="center", va="bottom", fontsize=8)
        axes.text(position, -0.03, low, ha="center", va="top", fontsize=8)
    figure.colorbar(colours, ax=axes, label="CV macro-F1")
    return figure


def top_words_figure(words: Sequence[str], weights: Floats, title: str, count: int = 15) -> Figure:
    """The `count` terms that pull most to each class. Positive weights speak for positive."""
    order = np.argsort(weights)
    shown = np.concatenate([order[:count], order[-count:]])
    figure, axes = _canvas(title, (6.4, 6.4))
    colours = [NEGATIVE if weights[i] < 0 else POSITIVE for i in shown]
    axes.barh(range(len(shown)), weights[shown], color=colours)
    axes.set_yticks(range(len(shown)), [words[i] for i in shown], fontsize=8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("weight: ← negative    positive →")
    return figure


def _canvas(title: str, size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _unit_scale(values: pd.Series, name: str) -> Floats:
    """Values on 0–1: logarithms for `LOG_PARAMETERS`, ranks of the categories for text."""
    if not pd.api.types.is_numeric_dtype(values):
        codes = pd.Categorical(values).codes.astype(np.float64)
        return np.asarray(codes / max(codes.max(), 1.0))
    numbers = values.to_numpy(dtype=np.float64)
    if name in LOG_PARAMETERS:
        numbers = np.log(numbers)
    span = numbers.max() - numbers.min()
    return (numbers - numbers.min()) / span if span > 0 else np.full(len(numbers), 0.5)


def _ends(values: pd.Series) -> tuple[str, str]:
    if not pd.api.types.is_numeric_dtype(values):
        return str(values.min()), str(values.max())
    return f"{values.min():.4g}", f"{values.max():.4g}"
