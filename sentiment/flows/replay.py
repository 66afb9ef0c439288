"""Replay a file of reviews month by month, as if a model had been watched for drift.

A model is trained once, on the first months. Every later month is compared with its reference
without labels, as a drift check would have done. Then the ratings tell whether the verdict was
right.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sentiment.data.labels import OTHER, LabelCells
from sentiment.data.reviews import (
    TEXTS,
    LoadedReviews,
    find_judgement,
    month_number,
    texts_of,
    to_labels,
)
from sentiment.data.tables import ANY, PLACES_SHOWN, Column, Unreadable, cells, open_table
from sentiment.drift import MIN_WINDOW
from sentiment.drift.compare import compare_reviews
from sentiment.drift.features import row_features
from sentiment.drift.reference import Reference, reference_reviews
from sentiment.drift.report import DriftReport
from sentiment.drift.runs import REPLAY, SOURCE, written_run
from sentiment.drift.signals import MEASURED
from sentiment.drift.window import FileWindow
from sentiment.errors import WindowError
from sentiment.flows.retraining import choose
from sentiment.metrics import Interval
from sentiment.tracking.store import Store, log_values
from sentiment.training.figures import NEUTRAL, POSITIVE
from sentiment.training.report import fit_and_evaluate, folds_of, prepare_reviews

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST = 1_000  # reviews to train on, at least; whole months
TABLE, FIGURE = "replay.csv", "figures/replay.png"  # artifacts
# Colour and mark of each verdict: readers who cannot tell the colours apart have the marks
VERDICT_STYLES = {
    "steady": ("#009E73", "o"),
    "watch": ("#E69F00", "D"),
    "drifted": ("#D55E00", "X"),
    "not enough yet": (NEUTRAL, "."),
}


@dataclass(frozen=True)
class Replay:
    """The result of a replay; `notes` are sentences.

    `table` has a row per window of one or more months: `window`, `reviews`, the `verdict` without
    labels, true and estimated macro-F1 with their intervals (`true_f1`, `true_low`, …; NaN without
    enough labels or answers), `measured`, the state of the score by true labels alone (empty
    without enough), and `beyond`, the signals beyond their limits, separated by blanks.
    """

    source: str
    trained_on: str
    reference: Interval | None
    table: pd.DataFrame
    notes: tuple[str, ...]


def replay(
    store: Store,
    reviews: FileWindow,
    column: str,
    read: tuple[pd.DataFrame, dict[str, int], str] | None = None,
    *,
    min_reviews: int = MIN_WINDOW,
) -> Replay:
    """Train on the first months of the file that have `FIRST` reviews, and check the later ones.

    The configuration is the one that the flow would train (`retraining.choose`). Duplicates are
    dropped for training; the windows and the reference keep them. Months with fewer than
    `min_reviews` reviews are joined with the next ones. `read` is what `read_months` gave, where it
    was read before. Nothing is written. Raises `WindowError`
    and `ReviewDataError`.
    """
    frame, dropped, read_as = read or read_months(reviews, column)
    path = reviews.path
    so_far = frame.groupby("month").size().cumsum()
    last = so_far.index[so_far >= FIRST].min()  # NaN where there are fewer
    later = frame[frame["month"] > last]
    if later.empty:
        raise WindowError(
            f"{path}: {len(frame):,} reviews have a month in column '{column}'; expected at least "
            f"{FIRST:,} to train on and later months to compare"
        )
    pipeline, reference, origin = _train(store, reviews, frame[frame["month"] <= last])
    rows, joined = [], 0
    for months, window in _windows(later, min_reviews):
        features = row_features(window["text"].tolist(), pipeline)
        labels = window["label"].to_numpy(dtype=np.int64)
        report = compare_reviews(reference, features, labels, min_reviews=min_reviews)
        rows.append({"window": _period(months), **_outcome(report)})
        joined += len(months) > 1
    first = int(frame["month"].min())
    trained_on = (
        f"trained on {_period([first, int(last)])}, {int(so_far[last]):,} reviews; configuration: "
        f"{origin}; the reference has {reference.reviews:,} reviews"
    )
    notes = [read_as, *(f"left out: {count:,} rows {why}" for why, count in dropped.items())]
    if joined:
        notes.append(f"{joined:,} windows join several months, to have {min_reviews:,} reviews")
    on_reference = report.performance.reference
    return Replay(path.name, trained_on, on_reference, pd.DataFrame(rows), tuple(notes))


def log_replay(store: Store, done: Replay) -> Path | str:
    """Log the table, the figure and the scores by window as a run, and return where the figure is.

    For a store in a folder that is a path, else the artifact's address.
    """
    from mlflow.entities import Metric

    table, now = done.table, int(time.time() * 1000)
    values = [
        Metric(f"replay.{name}", float(value), now, step)
        for name in ("true_f1", "estimated_f1", "reviews")
        for step, value in enumerate(table[name])
        if not np.isnan(value)
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / FIGURE).parent.mkdir()
        replay_figure(done).savefig(folder / FIGURE)
        table.to_csv(folder / TABLE, index=False)
        tags = {SOURCE: done.source, "mlflow.note.content": done.trained_on}
        with written_run(store, REPLAY, f"replay of {done.source}", tags) as run_id:
            drifted = float((table["verdict"] == "drifted").mean())
            log_values(store, run_id, metrics={"replay.drifted_share": drifted})
            store.client.log_batch(run_id, metrics=values)
            store.client.log_artifacts(run_id, name)
    place = f"{store.client.get_run(run_id).info.artifact_uri}/{FIGURE}"
    return place if "://" in place else Path(place)


def replay_figure(done: Replay) -> Figure:
    """Return a figure of true and estimated macro-F1 by window, marked with the verdicts."""
    from matplotlib.figure import Figure  # without pyplot, which keeps every figure in memory

    table, places = done.table, np.arange(len(done.table))
    figure = Figure(figsize=(max(7.6, 0.3 * len(table) + 2), 5.4), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set_title(f"Replay of {done.source}", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    if done.reference is not None:
        axes.axhspan(done.reference.low, done.reference.high, color=NEUTRAL, alpha=0.15)
        axes.axhline(done.reference.value, color=NEUTRAL, linewidth=1, label="reference, 95 %")
    axes.fill_between(
        places, table["estimated_low"], table["estimated_high"], color=POSITIVE, alpha=0.15, lw=0
    )
    axes.plot(places, table["estimated_f1"], color=POSITIVE, label="estimated without labels, 95 %")
    axes.vlines(places, table["true_low"], table["true_high"], color="black", linewidth=0.8)
    for verdict, (colour, mark) in VERDICT_STYLES.items():
        rows = (table["verdict"] == verdict).to_numpy() & table["true_f1"].notna().to_numpy()
        if rows.any():
            true, label = table["true_f1"][rows], f"true, verdict {verdict}"
            axes.plot(places[rows], true, mark, color=colour, markersize=8, label=label)
    axes.set_xticks(places, table["window"], rotation=90, fontsize=8)
    axes.set_ylabel("macro-F1")
    axes.margins(x=0.02)
    figure.legend(loc="outside upper center", fontsize=8, ncols=3, frameon=False)
    return figure


def read_months(reviews: FileWindow, column: str) -> tuple[pd.DataFrame, dict[str, int], str]:
    """Return the usable rows of a file, how many others there are, by reason, and how it was read.

    The frame has `text` after `undo_scraping`, `rating` (1–5), `month` (as in `month_number`) and
    `label` (0 or 1), with duplicates, in the file's order. Raises `WindowError` and
    `ReviewDataError`.
    """
    parts, judged, unreadable = [], LabelCells(reviews.labelling), Unreadable(PLACES_SHOWN)
    with open_table(reviews.path, "--data", reviews.reading) as table:
        columns = [
            table.find(TEXTS, reviews.text_column),
            find_judgement(table, reviews.labelling, reviews.rating_column),
            table.find(Column("months", (), ANY, "--month-column"), column),
        ]
        for chunk in table.chunks(columns):
            torn = dict(chunk.problems)
            unreadable.add(chunk, torn)
            _, ratings, months = (cells(column) for column in chunk.columns)
            part = pd.DataFrame({"text": texts_of(chunk), "rating": judged.stars(ratings)})
            written = pd.Series(months, dtype=object)
            part["readable"] = ~part.index.isin([*torn])
            parts.append(part.assign(month=written.map(month_number)))
        if doubt := judged.doubt():
            raise table.error(doubt)
    if not parts:
        raise WindowError(f"{reviews.path}: has no reviews; expected one per row")
    frame = pd.concat(parts, ignore_index=True)
    usable = {
        f"that cannot be read ({unreadable})": frame["readable"],
        "without text": frame["text"].notna(),
        f"without a month in '{column}'": frame["month"].notna(),
        f"of {judged.others()}": frame["rating"] != OTHER,
        "without a rating or label": frame["rating"] > 0,
    }
    kept = np.ones(len(frame), dtype=bool)
    dropped = {}
    for why, fits in usable.items():
        dropped[why] = int((kept & ~fits).sum())
        kept &= fits.to_numpy()
    frame = frame[kept].astype({"rating": np.int64, "month": np.int64})
    frame["label"] = to_labels(frame["rating"], judged.rule)
    dropped = {why: n for why, n in dropped.items() if n}
    described = table.described(*zip(("texts", judged.what, "months"), columns, strict=True))
    described = ", ".join([described, *judged.notes()])
    read_as = "; ".join(filter(None, (described, table.warning())))
    return frame.drop(columns="readable").reset_index(drop=True), dropped, read_as


def _train(store: Store, reviews: FileWindow, rows: pd.DataFrame) -> tuple[Any, Reference, str]:
    """Train as the flow would; return the pipeline, its reference and the configuration."""
    frame = rows.groupby(["text", "rating", "label"], sort=False).size().reset_index(name="copies")
    loaded = LoadedReviews(
        frame=frame,
        source=reviews.path,
        rows_read=len(rows),
        without_text=0,
        marker_removed=0,
        exact_duplicates=len(rows) - len(frame),
        rule=reviews.labelling.rule,
    )
    data = prepare_reviews(loaded)
    chosen = choose(store, "champion", data)
    fitted = fit_and_evaluate(chosen.algorithm, chosen.candidate, data, folds_of(data))
    texts, copies = frame["text"].tolist(), frame["copies"].to_numpy()
    labels = frame["label"].to_numpy(dtype=np.int64)
    like_later = reference_reviews(texts, labels, copies, data.split)
    return fitted.pipeline, Reference.build(fitted.pipeline, *like_later), chosen.origin


def _windows(later: pd.DataFrame, least: int) -> Iterator[tuple[list[int], pd.DataFrame]]:
    """Yield the months in order, joined to have `least` reviews; the last may have fewer."""
    months: list[int] = []
    reviews = 0
    for month, count in later.groupby("month").size().items():
        months.append(int(str(month)))
        reviews += count
        if reviews >= least or month == later["month"].max():
            yield months, later[later["month"].isin(months)]
            months, reviews = [], 0


def _outcome(report: DriftReport) -> dict[str, Any]:
    """Return the columns of `Replay.table` but the window's name."""
    without_labels = tuple(signal for signal in report.signals if signal.name != MEASURED)
    row: dict[str, Any] = {
        "reviews": report.reviews,
        "verdict": replace(report, signals=without_labels).verdict,
    }
    scores = {"true": report.performance.measured, "estimated": report.performance.estimated}
    for name, score in scores.items():
        interval = score or Interval(np.nan, np.nan, np.nan)
        row[f"{name}_f1"], row[f"{name}_low"] = interval.value, interval.low
        row[f"{name}_high"] = interval.high
    row["measured"] = "".join(signal.state for signal in report.signals if signal.name == MEASURED)
    beyond = [signal.name for signal in without_labels if signal.state == "drifted"]
    return {**row, "beyond": " ".join(beyond)}


def _period(months: Sequence[int]) -> str:
    """Return the first and the last month, as in `Feb 2021 – Mar 2021`."""
    ends = [datetime(month // 12, month % 12 + 1, 1) for month in (months[0], months[-1])]
    return " – ".join(dict.fromkeys(f"{month:%b %Y}" for month in ends))
