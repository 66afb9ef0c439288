"""The figures: what they show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from matplotlib import image
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from sentiment.metrics import Interval
from sentiment.training import figures
from sentiment.training.figures import Drawing

TRUTH = np.array([0, 0, 0, 1, 1, 1, 1, 1])
PREDICTED = np.array([0, 0, 1, 1, 1, 1, 1, 0])
LABELS = (TRUTH, PREDICTED, ("negative", "positive"))
CONFUSION: Drawing = (figures.confusion_matrix_figure, LABELS)


def words(weights: Sequence[float]) -> pd.DataFrame:
    return pd.DataFrame({"word": list("abcde")[: len(weights)], "weight": weights})


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
    assert "average precision 0.917" in legend(
        figures.precision_recall_figure(TRUTH, decision, PREDICTED)
    )
    figure = figures.precision_recall_figure(TRUTH, decision, PREDICTED)
    # 2 of the 3 negative reviews are found, and 2 of the 3 that are called negative are
    assert "finds 67%, right in 67%" in " ".join(legend(figure))
    table = pd.DataFrame({"forecast": [0.2, 0.8], "share": [0.1, 0.9], "reviews": [10, 20]})
    figure = figures.reliability_figure(table, Interval(0.125, 0.1, 0.15))
    assert "groups of 10 to 20 reviews; Brier score 0.125" in legend(figure)
    drawn = np.asarray(figure.axes[0].lines[1].get_xydata())
    assert drawn.tolist() == [[0.2, 0.1], [0.8, 0.9]]


def test_top_words_are_in_order_and_none_is_drawn_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    table = words([0.1, -2.0, 3.0, -0.5, 0.0])
    for count, expected in ((2, "bdac"), (4, "bdeac")):
        monkeypatch.setattr(figures, "TOP", count)
        figure = figures.top_words_figure(table)
        assert shown(figure.axes[0].get_yticklabels()) == list(expected)


def test_words_are_drawn_as_customers_wrote_them(tmp_path: Path) -> None:
    table = pd.DataFrame({"word": ["money $$ waste", r"$\frac"], "weight": [-1.0, 1.0]})
    figures.draw("A model", {"words": (figures.top_words_figure, (table,))}, tmp_path)
    assert len([*tmp_path.iterdir()]) == 1


def test_the_chosen_trial_is_marked_and_importance_is_drawn_where_trials_differ() -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(lambda trial: trial.suggest_float("C", 0, 1), n_trials=1)
    assert len(figures.trials_figure(study).axes) == 1
    study.optimize(lambda trial: trial.suggest_float("C", 0, 1), n_trials=12)
    figure = figures.trials_figure(study)
    assert shown(figure.axes[1].get_yticklabels()) == ["C"]
    assert f"chosen: trial {study.best_trial.number}, {study.best_value:.4f}" in legend(figure)


def test_the_comparison_marks_the_chosen_model_and_draws_intervals() -> None:
    row = {"CV F1": 0.8, "CV low": 0.7, "CV high": 0.9, "train F1": 0.95}
    row |= {"test F1": 0.75, "test low": 0.7, "test high": 0.8, "fit seconds": 2.0, "size kB": 40.0}
    table = pd.DataFrame(
        [{"model": "A", "chosen": False, **row}, {"model": "B", "chosen": True, **row}]
    )
    scores = figures.comparison_figure(table).axes[0]
    assert [name.partition(" ")[::2] for name in shown(scores.get_yticklabels())] == [
        ("A", ""),
        ("B", "★"),
    ]
    drawn = [one for one in scores.collections if isinstance(one, LineCollection)]
    bars = [one.get_segments()[0][:, 0].tolist() for one in drawn]
    assert bars == [pytest.approx([0.7, 0.9]), pytest.approx([0.7, 0.8])]


def test_figures_are_1200_pixels_wide(tmp_path: Path) -> None:
    drawn = {"words": (figures.top_words_figure, (words([1.0, -1.0]),)), "confusion": CONFUSION}
    figures.draw("A model", drawn, tmp_path)
    sizes = [image.imread(file).shape[1] for file in tmp_path.iterdir()]
    assert sizes == [1200, 1200]
