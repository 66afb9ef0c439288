"""Replays: months read and joined, the walk over a file that changes half way, and its run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import LEDGER
from support.drift_reviews import kettles, made_up

from sentiment.data.reviews import month_number
from sentiment.drift.latest import KIND
from sentiment.drift.window import FileWindow
from sentiment.errors import ReviewDataError, WindowError
from sentiment.flows import replay as drift_replay
from sentiment.flows.replay import Replay, log_replay, read_months, replay
from sentiment.metrics import Ints
from sentiment.tracking.store import Store, find_runs, open_store

pytestmark = pytest.mark.xdist_group("replay")
MONTHS = ["Nov 2019", "Dec 2019", "Jan 2020", "Feb 2020", "Mar 2020", "Apr 2020"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(tmp_path_factory.mktemp("store"))


def rows_of(texts: Sequence[str], labels: Ints, month: str) -> pd.DataFrame:
    """Rows as they are scraped: ratings of 5 and 1."""
    return pd.DataFrame(
        {
            "Month": month,
            "Review text": [f"{text}READ MORE" for text in texts],
            "Ratings": np.where(labels == 1, 5, 1),
        }
    )


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 reviews in two months to train on, two months alike, one of kettles, one turned round.

    The rows are in no order.
    """
    file = tmp_path_factory.mktemp("data") / "changing.csv"
    parts = [
        rows_of(*made_up(count, seed), month)
        for seed, (count, month) in enumerate([(300, MONTHS[0]), (300, MONTHS[1])], 130)
    ]
    parts += [rows_of(*made_up(200, 140 + at), MONTHS[2 + at]) for at in range(2)]
    parts.append(rows_of(*kettles(200, 150), MONTHS[4]))
    texts, labels = made_up(200, 160)
    parts.append(rows_of(texts, 1 - labels, MONTHS[5]))
    pd.concat(parts).sample(frac=1, random_state=1).to_csv(file, index=False)
    return file


@pytest.fixture(scope="module")
def found(store: Store, changing: Path) -> Replay:
    """The replay of that file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drift_replay, "FIRST", 500)
        return replay(store, FileWindow(changing), "Month")


def test_a_steady_month_is_steady_and_a_changed_one_is_not(found: Replay) -> None:
    """Turned labels are seen by true labels alone: the words are as ever.

    One steady window in twenty may be called drifted; with these seeds none is.
    """
    table = found.table
    assert table["window"].tolist() == MONTHS[2:]
    assert table["reviews"].tolist() == [200] * 4
    verdicts = table["verdict"].tolist()
    assert verdicts[2] == "drifted"
    assert "unknown_words" in table["beyond"][2].split()
    assert [verdicts[0], verdicts[1], verdicts[3]].count("drifted") == 0
    assert (table["measured"][0], table["measured"][3]) == ("steady", "drifted")


def test_true_scores_are_those_of_the_labels(found: Replay) -> None:
    """One review in eight says the opposite of its label, so a good model has .8 or so."""
    table = found.table
    assert (table["true_f1"][:2] > 0.7).all()
    assert table["true_f1"][3] < 0.3  # every label turned round
    for name in ("true", "estimated"):
        assert (table[f"{name}_low"] < table[f"{name}_f1"]).all()
        assert (table[f"{name}_f1"] < table[f"{name}_high"]).all()
    assert (table["estimated_f1"] > 0.6).all()  # which the estimate cannot know
    assert found.reference is not None and found.reference.value > 0.7


def test_what_was_trained_is_said(found: Replay) -> None:
    taken = "texts from 'Review text', ratings from 'Ratings', months from 'Month'"
    assert (found.source, found.notes) == ("changing.csv", (taken,))
    assert found.trained_on.startswith("trained on Nov 2019 – Dec 2019, 600 reviews; ")
    assert "nothing was searched on this data" in found.trained_on


def test_the_run_has_figure_table_and_a_chart_by_window(store: Store, found: Replay) -> None:
    figure = log_replay(store, found)
    assert isinstance(figure, Path)
    assert figure.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    [run] = find_runs(store, LEDGER, {KIND: "drift-replay"})
    assert (run.info.status, run.data.tags["flipkart.source"]) == ("FINISHED", "changing.csv")
    history = store.client.get_metric_history(run.info.run_id, "replay.true_f1")
    by_step = {metric.step: metric.value for metric in history}
    assert [by_step[at] for at in range(4)] == found.table["true_f1"].tolist()
    table = pd.read_csv(figure.parent.parent / "replay.csv", keep_default_na=False)
    assert table["verdict"].tolist() == found.table["verdict"].tolist()


def write(folder: Path, frame: pd.DataFrame, name: str = "in.csv") -> FileWindow:
    frame.to_csv(folder / name, index=False)
    return FileWindow(folder / name)


def test_months_with_few_reviews_are_joined_and_few_labels_give_no_true_score(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift_replay, "FIRST", 200)
    parts = [rows_of(*made_up(200, 70), "2019-12-31")]
    sizes = {"2020-01-05": 30, "2020-02-05": 30, "2020-04-01": 45, "2020-05-02": 100}
    sizes |= {"2021-01-01": 20, "2021-02-01": 30}
    parts += [rows_of(*made_up(n, 80 + at), day) for at, (day, n) in enumerate(sizes.items())]
    parts[4]["Ratings"] = 5  # none negative in May 2020
    done = replay(store, write(tmp_path, pd.concat(parts)), "Month", min_reviews=100)
    assert list(zip(done.table["window"], done.table["reviews"], strict=True)) == [
        ("Jan 2020 – Apr 2020", 105),
        ("May 2020", 100),
        ("Jan 2021 – Feb 2021", 50),
    ]
    assert done.table["verdict"][2] == "not enough yet"
    assert done.notes[1:] == ("2 windows join several months, to have 100 reviews",)
    assert np.isnan(done.table["true_f1"][1]) and done.table["measured"][1] == ""
    assert isinstance(log_replay(store, done), Path)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Feb 2021", 12 * 2021 + 1),
        (" February 2021 ", 12 * 2021 + 1),
        ("2021-02", 12 * 2021 + 1),
        ("2021-02-28", 12 * 2021 + 1),
        ("2021-02-28T23:59:59+05:30", 12 * 2021 + 1),
        (date(2021, 12, 1), 12 * 2021 + 11),
        ("Feb, 2021", None),
        ("28/02/2021", None),
        ("2021", None),
        ("", None),
        (None, None),
        (math.nan, None),
    ],
)
def test_months_are_read(written: object, expected: int | None) -> None:
    assert month_number(written) == expected


def test_rows_that_cannot_be_used_are_counted_by_reason(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        [
            ("good boxREAD MORE", 5, "Feb 2021"),
            ("good box", 5, "Feb 2021"),
            (None, 5, "Feb 2021"),
            ("READ MORE", 5, "Feb 2021"),
            ("bad box", 1, "yesterday"),
            ("bad box", 1, None),
            ("bad box", 0, "Mar 2021"),
            (None, 0, "yesterday"),  # counted once, for its text
            ("poor box", 2, "2021-03-09"),
        ],
        columns=["body", "stars", "when"],
    )
    write(tmp_path, frame)
    wanted = FileWindow(tmp_path / "in.csv", "body", "stars")
    kept, left_out, read_as = read_months(wanted, "when")
    assert read_as == "texts from 'body', ratings from 'stars', months from 'when'"
    assert kept["label"].tolist() == [1, 1, 0]
    assert kept[["text", "rating", "month"]].to_numpy().tolist() == [
        ["good box", 5, 12 * 2021 + 1],
        ["good box", 5, 12 * 2021 + 1],
        ["poor box", 2, 12 * 2021 + 2],
    ]
    assert left_out == {
        "without text": 3,
        "without a month in 'when'": 2,
        "without a rating or label": 1,
    }
    with (tmp_path / "in.csv").open("a") as file:
        file.write('"open,5,2021-01\n')
    assert "that cannot be read (line 11: a quote" in next(iter(read_months(wanted, "when")[1]))
    frame.assign(when=[date(2021, 2, 1)] * 9).to_parquet(tmp_path / "in.parquet")
    wanted = FileWindow(tmp_path / "in.parquet", "body", "stars")
    assert len(read_months(wanted, "when")[0]) == 5


def change(**columns: Any) -> pd.DataFrame:
    return rows_of(*made_up(300, 95), "Jan 2020").assign(**columns)


@pytest.mark.parametrize(
    ("frame", "column", "error", "said"),
    [
        (change(), "Date", ReviewDataError, "no column 'Date', .* with --month-column"),
        (change(), "Month", WindowError, "300 reviews have a month in column 'Month'; expected at"),
        (change(Month="?"), "Month", WindowError, "0 reviews have a month in column 'Month'"),
        (change().head(0), "Month", WindowError, "has no reviews; expected one per row"),
        (change().drop(columns="Ratings"), "Month", ReviewDataError, "no column of ratings"),
        (
            change(Ratings=5, Month=["Jan 2020"] * 250 + ["Feb 2020"] * 50),
            "Month",
            ReviewDataError,
            "0 negative reviews left",
        ),
    ],
)
def test_a_file_that_cannot_be_replayed(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    frame: pd.DataFrame,
    column: str,
    error: type[Exception],
    said: str,
) -> None:
    monkeypatch.setattr(drift_replay, "FIRST", 200)
    before = len(find_runs(store, LEDGER, {}))
    with pytest.raises(error, match=said):
        replay(store, write(tmp_path, frame), column)
    assert len(find_runs(store, LEDGER, {})) == before
