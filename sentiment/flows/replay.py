"""Drift replay: a file of reviews walked through month by month, as if a model had been watching.

A model is trained on the first months, once. Every later month is compared with its reference
without labels, as the monitor would have done; then the ratings tell how right the verdict was.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sentiment.data.reviews import (
    RATINGS,
    TEXTS,
    LoadedReviews,
    texts_of,
    to_labels,
    to_ratings,
)
from sentiment.data.tables import ANY, Column, cells, open_table
from sentiment.drift.compare import MIN_WINDOW, check
from sentiment.drift.features import row_features
from sentiment.drift.reference import ReferenceProfile
from sentiment.drift.report import DriftReport
from sentiment.drift.runs import FIGURES, REPLAY, SOURCE, written_run
from sentiment.drift.training_profile import reference_reviews
from sentiment.drift.window import FileWindow
from sentiment.errors import WindowError
from sentiment.flows.drift_figures import replay_figure
from sentiment.flows.retraining import ALGORITHM, choose
from sentiment.metrics import Interval
from sentiment.tracking.store import Store, log_values
from sentiment.training.report import fit_and_evaluate, folds_of, prepare_reviews

FIRST = 1_000  # reviews of the months that are trained on, at least
MONTHS = ("%b %Y", "%B %Y", "%Y-%m")  # how a month is written, besides a date as ISO 8601 has it
MEASURED = "measured_f1"
TABLE = "replay.csv"
# A row a window. `verdict` is the one without labels; `measured` is what true labels alone say.
# F1s and their ends are 0–1, NaN where a window has too few labels of a class.
REPLAY_COLUMNS = (
    "window",
    "reviews",
    "verdict",
    "true_f1",
    "true_low",
    "true_high",
    "estimated_f1",
    "estimated_low",
    "estimated_high",
    "measured",
    "beyond",
)


@dataclass(frozen=True, eq=False)
class Replay:
    """What a replay came to: `table` has `REPLAY_COLUMNS`; `notes` are sentences."""

    source: str
    trained_on: str
    reference: Interval | None
    table: pd.DataFrame
    notes: tuple[str, ...]


def replay(
    store: Store, reviews: FileWindow, column: str, *, min_reviews: int = MIN_WINDOW
) -> Replay:
    """Train on the first months of the file that have `FIRST` reviews, and check the later ones.

    The configuration is the one that the flow would train (`retraining.choose`); duplicates are
    dropped for training, and stay in the windows and in the reference. Months with fewer than
    `min_reviews` reviews are put together with the next ones. Nothing is written. Raises
    `WindowError` and `ReviewDataError`.
    """
    frame, left_out = read_months(reviews, column)
    path = reviews.path
    so_far = frame.groupby("month").size().cumsum()
    last = so_far.index[so_far >= FIRST].min()  # NaN where there are fewer
    later = frame[frame["month"] > last]
    if later.empty:
        raise WindowError(
            f"{path}: {len(frame):,} reviews have a month in column '{column}'; expected at least "
            f"{FIRST:,} to train on and later months to compare"
        )
    pipeline, profile, origin = _train(store, path, frame[frame["month"] <= last])
    rows, merged = [], 0
    for months, window in _windows(later, min_reviews):
        labels = to_labels(window["rating"])
        features = row_features(window["text"].tolist(), pipeline)
        report = check(profile, features, labels, min_reviews=min_reviews)
        rows.append((_period(months), *_outcome(report)))
        merged += len(months) > 1
    first = int(frame["month"].min())
    trained_on = (
        f"trained on {_period([first, int(last)])}, {int(so_far[last]):,} reviews; configuration: "
        f"{origin}; the reference has {profile.reviews:,} reviews"
    )
    notes = [f"left out: {count:,} rows {why}" for why, count in left_out.items()]
    if merged:
        notes.append(f"{merged:,} windows are of several months, to have {min_reviews:,} reviews")
    table = pd.DataFrame(rows, columns=list(REPLAY_COLUMNS))
    return Replay(path.name, trained_on, report.performance.reference, table, tuple(notes))


def log_replay(store: Store, found: Replay) -> Path | str:
    """Write the run: table, figure, and the scores window by window; returns where the figure is.

    On a store in a folder that is a path, else the artifact's address.
    """
    from mlflow.entities import Metric

    table, now = found.table, int(time.time() * 1000)
    names = ("true_f1", "estimated_f1", "reviews")
    values = [
        Metric(f"replay.{name}", float(value), now, step)
        for name in names
        for step, value in enumerate(table[name])
        if not math.isnan(value)
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / FIGURES).mkdir()
        figure = replay_figure(table, found.reference, f"Replay of {found.source}")
        figure.savefig(folder / FIGURES / "replay.png")
        table.to_csv(folder / TABLE, index=False)
        tags = {SOURCE: found.source, "mlflow.note.content": found.trained_on}
        with written_run(store, REPLAY, f"replay of {found.source}", tags) as run_id:
            drifted = float((table["verdict"] == "drifted").mean())
            log_values(store, run_id, metrics={"replay.drifted_share": drifted})
            store.client.log_batch(run_id, metrics=values)
            store.client.log_artifacts(run_id, name)
    place = f"{store.client.get_run(run_id).info.artifact_uri}/{FIGURES}/replay.png"
    return place if "://" in place else Path(place)


def read_months(reviews: FileWindow, column: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """The usable rows of a file, and by reason how many others there are.

    The frame has `text` without the scraper's marker, `rating` (1–5) and `month` (as
    `month_number`), duplicates included, in the file's order. Raises `WindowError` and
    `ReviewDataError`.
    """
    parts: list[pd.DataFrame] = []
    with open_table(reviews.path, "--data") as table:
        columns = [
            table.find(TEXTS, reviews.text_column),
            table.find(RATINGS, reviews.rating_column),
            table.find(Column("months", (), ANY, "--replay"), column),
        ]
        for chunk in table.chunks(columns):
            _, ratings, months = (cells(column) for column in chunk.columns)
            parts.append(
                pd.DataFrame(
                    {
                        "text": pd.Series(texts_of(chunk), dtype=object),
                        "rating": to_ratings(ratings),
                        "month": pd.Series(months, dtype=object).map(month_number),
                    }
                )
            )
    if not parts:
        raise WindowError(f"{reviews.path}: has no reviews; expected a row for each")
    frame = pd.concat(parts, ignore_index=True)
    usable = {
        "without text": frame["text"].notna(),
        f"without a month in '{column}'": frame["month"].notna(),
        "without a rating from 1 to 5": frame["rating"] > 0,
    }
    kept = np.ones(len(frame), dtype=bool)
    left_out = {}
    for why, fits in usable.items():
        left_out[why] = int((kept & ~fits).sum())
        kept &= fits.to_numpy()
    frame = frame[kept].astype({"rating": np.int64, "month": np.int64})
    return frame.reset_index(drop=True), {why: n for why, n in left_out.items() if n}


def month_number(written: object) -> int | None:
    """Months since year 0 of `Feb 2021`, `February 2021` or an ISO date; None for anything else."""
    text = str(written).strip()
    for form in MONTHS:
        try:
            found = datetime.strptime(text, form)
        except ValueError:
            continue
        break
    else:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            return None
    return 12 * found.year + found.month - 1


def _train(store: Store, path: Path, rows: pd.DataFrame) -> tuple[Any, ReferenceProfile, str]:
    """A pipeline trained on these rows as the flow would, its reference, and with what."""
    frame = rows.groupby(["text", "rating"], sort=False).size().reset_index(name="copies")
    data = prepare_reviews(
        LoadedReviews(
            frame=frame,
            source=path,
            rows_read=len(rows),
            without_text=0,
            marker_removed=0,
            exact_duplicates=len(rows) - len(frame),
        )
    )
    chosen = choose(store, "champion")
    fitted = fit_and_evaluate(ALGORITHM, chosen.candidate, data, folds_of(data))
    texts, labels = reference_reviews(
        frame["text"].tolist(),
        to_labels(frame["rating"]),
        frame["copies"].to_numpy(),
        data.split,
    )
    profile = ReferenceProfile.build(fitted.pipeline, texts, labels)
    return fitted.pipeline, profile, chosen.origin


def _windows(later: pd.DataFrame, least: int) -> Iterator[tuple[list[int], pd.DataFrame]]:
    """The months in order, so many together that they have `least` reviews, but for the last."""
    months: list[int] = []
    reviews = 0
    for month, count in later.groupby("month").size().items():
        months.append(int(str(month)))
        reviews += count
        if reviews >= least or month == later["month"].max():
            yield months, later[later["month"].isin(months)]
            months, reviews = [], 0


def _outcome(report: DriftReport) -> tuple[Any, ...]:
    """The columns of the table after the first."""
    blind = tuple(signal for signal in report.signals if signal.name != MEASURED)
    measured = [signal.state for signal in report.signals if signal.name == MEASURED]
    without_labels = replace(report, signals=blind)
    beyond = [signal.name for signal in blind if signal.state == "drifted"]
    return (
        report.reviews,
        without_labels.verdict,
        *_ends(report.performance.measured),
        *_ends(report.performance.estimated),
        measured[0] if measured else "",
        " ".join(beyond),
    )


def _ends(interval: Interval | None) -> tuple[float, float, float]:
    if interval is None:
        return math.nan, math.nan, math.nan
    return interval.value, interval.low, interval.high


def _period(months: Sequence[int]) -> str:
    """The first and the last month, as `Feb 2021`."""
    first, last = (
        datetime(month // 12, month % 12 + 1, 1).strftime("%b %Y")
        for month in (months[0], months[-1])
    )
    return first if first == last else f"{first} – {last}"
