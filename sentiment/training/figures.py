"""Draw the pictures that are logged with each model.

Each drawing function returns a matplotlib `Figure`; nothing is shown. Margins are fixed: a layout
that matplotlib works out itself takes longer than the drawing. matplotlib is imported when the
first figure is drawn, which a pass of the experiment leaves to its `Worker`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from sentiment.metrics import Floats, Interval, Labels, confusion

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from optuna import Study

Drawing: TypeAlias = tuple[Callable[..., "Figure | None"], tuple[Any, ...]]  # and its arguments
# Okabe and Ito's palette (2008): told apart by colour-blind readers too
NEGATIVE, POSITIVE, NEUTRAL = "#D55E00", "#0072B2", "#7F7F7F"
SIZE = (6.4, 4.2)  # inches; at 100 dots per inch a picture the MLflow UI shows whole


def draw(title: str, drawings: Mapping[str, Drawing], folder: Path) -> None:
    """Draw figures with `title` above them, and save each in the folder as `<name>.png`."""
    for name, (function, arguments) in drawings.items():
        figure = function(*arguments)
        if figure is not None:
            figure.suptitle(title, fontsize=11)
            figure.savefig(folder / f"{name}.png")


def confusion_matrix_figure(y_true: Labels, y_pred: Labels, class_names: tuple[str, ...]) -> Figure:
    """Draw counts and row shares of the confusion matrix."""
    matrix = confusion(y_true, y_pred, len(class_names))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure, axes = _canvas("Confusion matrix on the holdout", (4.8, 4.2))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        share = shares[row, column]
        label = f"{int(count):,}\n{share:.1%}"
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, label, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(class_names)), class_names)
    axes.set_yticks(range(len(class_names)), class_names, rotation=90, va="center")
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def precision_recall_figure(y_true: Labels, decision: Floats) -> Figure:
    """Draw precision against recall of the negative class, the rare one.

    `decision` is any score that grows with the positive class.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    negative = 1 - y_true
    precision, recall, _ = precision_recall_curve(negative, -decision)
    average = average_precision_score(negative, -decision)
    figure, axes = _canvas("Precision and recall")
    label = f"average precision {average:.3f}"
    axes.step(recall, precision, where="post", color=NEGATIVE, label=label)
    axes.axhline(negative.mean(), color=NEUTRAL, linestyle="--", label="always negative")
    axes.set(xlabel="recall of negative", ylabel="precision of negative", ylim=(0, 1.02))
    axes.legend(loc="lower left")
    return figure


def reliability_figure(reliability: pd.DataFrame, brier: Interval) -> Figure:
    """Draw the share of positive reviews against the predicted probability.

    `reliability` is what `metrics.reliability_table` returns.
    """
    figure, axes = _canvas("Calibration")
    axes.plot([0, 1], [0, 1], color=NEUTRAL, linestyle="--", label="perfectly calibrated")
    shown = reliability["forecast"], reliability["share"]
    axes.plot(*shown, "o-", color=POSITIVE, label=f"Brier score {brier.value:.3f}")
    axes.set(xlabel="predicted probability of positive", ylabel="share of positive")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="upper left")
    return figure


def top_words_figure(words: Sequence[str], weights: Floats, count: int = 15) -> Figure:
    """Draw the `count` terms that pull most to each class; positive weights speak for positive."""
    order = np.argsort(weights)
    shown = np.unique(np.concatenate([order[:count], order[-count:]]))
    shown = shown[np.argsort(weights[shown])]
    figure, axes = _canvas("Top words", (6.4, 6.4))
    figure.subplots_adjust(left=0.27)  # two long words
    colours = [NEGATIVE if weights[i] < 0 else POSITIVE for i in shown]
    axes.barh(range(len(shown)), weights[shown], color=colours)
    axes.set_yticks(range(len(shown)), [words[i] for i in shown], fontsize=8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("weight: ← negative    positive →")
    return figure


def parameter_importance_figure(study: Study) -> Figure | None:
    """Draw the share of the score's variation by parameter (PED-ANOVA, Watanabe et al. 2023).

    None when the trials do not differ enough to say anything.
    """
    from matplotlib import pyplot, rc_context
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.visualization.matplotlib import plot_param_importances

    if len({trial.value for trial in study.trials if trial.value is not None}) < 2:
        return None
    with warnings.catch_warnings(), rc_context():  # Optuna changes the style for good
        warnings.simplefilter("ignore")  # that the functions are experimental
        pyplot.switch_backend("agg")  # never a window
        try:
            axes = plot_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
        except (ValueError, RuntimeError, ZeroDivisionError):
            return None
        axes.set_title("", loc="left")
        axes.set_title("Parameter importance", fontsize=11)
        axes.set(xlabel="share of the variation of the score", ylabel="")
        axes.legend().set_visible(False)
        figure = pyplot.gcf()
        figure.set_size_inches(SIZE)
        figure.subplots_adjust(left=0.2)
        pyplot.close(figure)
    return figure


def _canvas(title: str, size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=100)
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
