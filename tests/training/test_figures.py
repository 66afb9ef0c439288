"""The figures: what they show."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

from sentiment.metrics import Interval
from sentiment.training import figures
from sentiment.training.figures import Drawing

TRUTH = np.array([0, 0, 0, 1, 1, 1, 1, 1])
PREDICTED = np.array([0, 0, 1, 1, 1, 1, 1, 0])
LABELS = (TRUTH, PREDICTED, ("negative", "positive"))
CONFUSION: Drawing = (figures.confusion_matrix_figure, LABELS)


def shown(texts: Iterable[Text]) -> list[str]:
    return [text.get_text() for text in texts]


def legend(figure: Figure) -> list[str]:
    found = figure.axes[0].get_legend()
    assert found is not None
    return shown(found.get_texts())


def test_the_confusion_matrix_has_counts_and_shares_of_rows() -> None:
    figure = figures.confusion_matrix_figure(*LABELS)
    assert shown(figure.axes[0].texts) == ["2\n66.7%", "1\n33.3%", "1\n20.0%", "4\n80.0%"]


def test_curves_are_of_the_negative_class_and_carry_their_scores() -> None:
    # negative first by rising decision: hit, hit, miss, hit → (1 + 1 + 3/4) / 3
    decision = np.array([-3.0, -2.0, 0.5, -1.0, 1.0, 2.0, 3.0, 4.0])
    assert "average precision 0.917" in legend(figures.precision_recall_figure(TRUTH, decision))
    table = pd.DataFrame({"forecast": [0.2, 0.8], "share": [0.1, 0.9]})
    figure = figures.reliability_figure(table, Interval(0.125, 0.1, 0.15))
    assert "Brier score 0.125" in legend(figure)
    drawn = np.asarray(figure.axes[0].lines[1].get_xydata())
    assert drawn.tolist() == [[0.2, 0.1], [0.8, 0.9]]


def test_top_words_are_in_order_and_none_is_drawn_twice() -> None:
    words, weights = ["a", "b", "c", "d", "e"], np.array([0.1, -2.0, 3.0, -0.5, 0.0])
    for count, expected in ((2, "bdac"), (4, "bdeac")):
        figure = figures.top_words_figure(words, weights, count=count)
        assert shown(figure.axes[0].get_yticklabels()) == list(expected)


def test_parameter_importance_or_none_where_trials_say_nothing() -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(lambda trial: trial.suggest_float("C", 0, 1), n_trials=1)
    assert figures.parameter_importance_figure(study) is None
    study.optimize(lambda trial: trial.suggest_float("C", 0, 1), n_trials=12)
    figure = figures.parameter_importance_figure(study)
    assert figure is not None and shown(figure.axes[0].get_yticklabels()) == ["C"]


def broken() -> Figure:
    raise ValueError("no ink")
