"""Windows: what is read from log and file, what is left out, and nothing created by looking."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.drift_reviews import fitted, made_up
from support.drift_store import NOON, champion, shared_drift_store, write_answers
from support.serving import running_app

from sentiment.data.labels import Labelling, LabelRule
from sentiment.drift import window as drift_window
from sentiment.drift.features import COLUMNS, NO_LABEL, WindowFeatures, row_features
from sentiment.drift.window import (
    FileWindow,
    LogWindow,
    RandomSample,
    Window,
    window_of_file,
    window_of_log,
)
from sentiment.errors import PredictionLogError, ReviewDataError, WindowError
from sentiment.model.predictor import LoadedVersion
from sentiment.predictions.log import COUNTED_SOURCES, PredictionLog, open_log
from text_cleaning import undo_scraping

pytestmark = pytest.mark.xdist_group("drift")


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> LoadedVersion:
    return champion(shared_drift_store(tmp_path_factory))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'log.db'}"


@pytest.fixture
def log(url: str) -> Iterator[PredictionLog]:
    opened = open_log(url)
    yield opened
    opened.close()


def of_log(
    url: str, version: LoadedVersion, since: float | None = None, newest: int | None = None
) -> Window:
    return window_of_log(LogWindow(since=since, newest=newest), url, version)


def clock(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# --- the log -------------------------------------------------------------------------------


def test_the_log_gives_the_features_of_the_texts_and_the_labels_of_feedback(
    log: PredictionLog, url: str, version: LoadedVersion
) -> None:
    texts, _ = made_up(40, 7)
    requests = write_answers(log, version, texts)
    log.add_feedback(requests[3], 0, 1, None, NOON)
    log.add_feedback(requests[5], 0, 0, 2, NOON)
    window = of_log(url, version)
    expected = row_features(texts, fitted())
    for name in COLUMNS:
        assert getattr(window.features, name).tolist() == getattr(expected, name).tolist()
    assert window.features.text is not None and expected.text is not None
    assert window.features.text.terms.toarray().tolist() == expected.text.terms.toarray().tolist()
    assert window.true.tolist() == [NO_LABEL] * 3 + [1, NO_LABEL, 0] + [NO_LABEL] * 34
    assert (window.source, window.reviews, window.labelled) == ("prediction log", 40, None)
    assert (window.times, window.notes) == ((clock(NOON), clock(NOON + 39)), ())


def test_other_versions_and_shadows_are_kept_apart_and_said(
    log: PredictionLog, url: str, version: LoadedVersion
) -> None:
    write_answers(log, version, ["good box"] * 3)
    write_answers(log, version, ["bad box"] * 2, name="c", arm="challenger")
    write_answers(log, version, ["poor box"] * 4, name="s", arm="shadow")
    write_answers(log, version, ["late box"] * 5, name="o", number="2")
    write_answers(log, version, ["late box"], name="x", number="3", begin=NOON - 99)
    window = of_log(url, version)
    assert window.features.words.tolist() == [2] * 5
    shadow = "left out: answers of a shadow (4), of version 2 (5)"
    assert window.notes == (f"{shadow}, of version 3 (1)",)
    # of the same time only
    assert of_log(url, version, since=NOON).notes == (shadow,)


def test_what_is_sent_to_the_page_is_kept_out_of_the_window(
    log: PredictionLog, url: str, version: LoadedVersion
) -> None:
    write_answers(log, version, ["good box"] * 4)
    late = ["a late bad box"] * 9
    requests = write_answers(log, version, late, name="p", begin=NOON + 50, source="page")
    for newest in (None, 3, 9):  # the newest answers of all are the page's
        window = of_log(url, version, newest=newest)
        assert window.features.words.tolist() == [2] * min(newest or 4, 4)
        assert window.times is not None and window.times[1] == clock(NOON + 3)
        assert window.notes == ("left out: answers to the page (9)",)
    with pytest.raises(WindowError, match=r"since .*the newest is"):
        of_log(url, version, since=NOON + 50)
    # one whose reader said what it was is as good as an answer of the API
    log.add_feedback(requests[3], 0, 1, None, NOON)
    window = of_log(url, version, newest=3)
    assert window.features.words.tolist() == [2, 2, 3] and window.true.tolist() == [-1, -1, 1]
    assert window.times is not None and window.times[1] == clock(NOON + 53)
    assert window.notes == ("left out: answers to the page (8)",)
    assert of_log(url, version, since=NOON + 50).reviews == 1


def test_a_window_is_of_the_newest_even_where_many_came_at_once(
    log: PredictionLog, url: str, version: LoadedVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"good {'box ' * at}" for at in range(1, 31)]  # told apart by their words
    write_answers(log, version, texts, step=0.0)
    monkeypatch.setattr(drift_window, "PORTION", 7)  # what is too old fills several portions
    for newest in (1, 4, 29, 30, 99):
        window = of_log(url, version, newest=newest)
        assert window.features.words.tolist() == list(range(2, 32))[-newest:]


def test_since_and_newest_both_hold(log: PredictionLog, url: str, version: LoadedVersion) -> None:
    write_answers(log, version, ["good box"] * 10)
    write_answers(log, version, ["bad box"] * 10, number="2", name="o")  # none of these count
    for since, newest, expected in (
        (None, None, 10),
        (4, None, 6),
        (4.5, None, 5),
        (None, 3, 3),
        (4, 3, 3),
        (8, 3, 2),
    ):
        window = of_log(url, version, None if since is None else NOON + since, newest)
        assert window.reviews == len(window.features) == expected


def test_a_window_of_the_page_or_of_all_is_named_so(
    log: PredictionLog, url: str, version: LoadedVersion
) -> None:
    write_answers(log, version, ["good box"] * 4)
    write_answers(log, version, ["a bad big box"] * 9, name="p", begin=NOON + 50, source="page")
    for sources, expected, name, notes in (
        (("page",), 9, "prediction log (page)", ("left out: answers to the API (4)",)),
        (("api", "page"), 13, "prediction log (all)", ()),
        (("api",), 4, "prediction log (api)", ("left out: answers to the page (9)",)),
        (COUNTED_SOURCES, 4, "prediction log", ("left out: answers to the page (9)",)),
    ):
        window = window_of_log(LogWindow(sources=sources), url, version)
        assert (window.reviews, window.source, window.notes) == (expected, name, notes)


@pytest.mark.parametrize(
    ("asked", "last", "expected", "new"),
    [
        ((None, 20), (0, 49), range(50, 100), True),  # the 50 after it are enough
        ((None, 20), (0, 79), range(80, 100), True),
        ((None, 20), (60, 80), range(60, 100), False),  # 19 are not: from its own beginning on
        ((None, 20), (90, 99), range(80, 100), False),  # it was of fewer than a check needs now
        ((None, 200), (0, 99), range(100), False),
        ((30, 20), (0, 49), range(70, 100), True),  # at most the newest 30
        ((30, 20), (0, 90), range(70, 100), False),
        ((10, 20), (0, 95), range(90, 100), False),
        ((30, 20), None, range(70, 100), True),  # the first check
    ],
)
def test_a_scheduled_window_begins_after_the_last_check_or_where_that_began(
    log: PredictionLog,
    url: str,
    version: LoadedVersion,
    asked: tuple[int | None, int],
    last: tuple[int, int] | None,
    expected: range,
    new: bool,
) -> None:
    write_answers(log, version, ["good box"] * 100)
    before = last and (NOON + last[0], NOON + last[1])
    newest, least = asked
    wanted = LogWindow(newest=newest, since_check=True)
    window = window_of_log(wanted, url, version, before, least)
    assert window.times == (clock(NOON + expected[0]), clock(NOON + expected[-1]))
    assert (window.reviews, window.new) == (len(expected), new)
    assert bool(window.notes) != new  # it is said


def test_without_texts_there_are_no_features_of_texts(
    log: PredictionLog, url: str, version: LoadedVersion
) -> None:
    write_answers(log, version, ["good box", "bad box"], keep_text=False)
    assert of_log(url, version).features.text is None


def test_a_long_window_is_drawn_from_and_all_its_labels_are_kept(
    log: PredictionLog, url: str, version: LoadedVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"good {'box ' * (at % 2)}" for at in range(1_000)]
    requests = write_answers(log, version, texts)
    for request in requests[::20]:
        log.add_feedback(request, 0, 1, None, NOON)
    monkeypatch.setattr(drift_window, "SAMPLE", 150)
    monkeypatch.setattr(drift_window, "PORTION", 200)
    window = of_log(url, version)
    assert (window.reviews, len(window.features), len(window.true)) == (1_000, 150, 150)
    assert window.notes == ("a random sample of 150 of 1,000 reviews",)
    assert window.times == (clock(NOON), clock(NOON + 999))
    # half of the texts have one word; 99.9 % of draws of 150 lie within .14 of it
    assert abs((window.features.words == 1).mean() - 0.5) < 0.14
    assert window.labelled is not None
    features, true = window.labelled
    assert (len(features), true.tolist()) == (50, [1] * 50)
    again = of_log(url, version)
    assert again.features.words.tolist() == window.features.words.tolist()


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("sqlite:///{folder}/log.db", WindowError, "log.db: no prediction log there; start "),
        ("sqlite:///{folder}/other.db", WindowError, "no prediction log there"),
        ("sqlite:///{folder}/text.db", PredictionLogError, "not a database"),
        ("postgresql://x:secret@127.0.0.1:1/log", PredictionLogError, "127.0.0.1:1/log: the pred"),
    ],
)
def test_what_is_no_log_is_said_in_a_line_and_left_alone(
    tmp_path: Path, version: LoadedVersion, url: str, error: type[Exception], said: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE other (id)")
    (tmp_path / "text.db").write_text("no database, but long enough to look like one " * 99)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(error) as caught:
        of_log(url.format(folder=tmp_path), version)
    message = str(caught.value)
    assert said in message and "secret" not in message and "\n" not in message
    assert {file: file.read_bytes() for file in before} == before
    assert not (tmp_path / "log.db").exists()


def test_a_log_without_answers_of_the_version_says_what_it_has(
    log: PredictionLog, url: str, version: LoadedVersion
) -> None:
    with pytest.raises(match=r"no answers of version 1 .*among the 0 predictions"):
        of_log(url, version)
    write_answers(log, version, ["good box"] * 3, number="2")
    with pytest.raises(match=r"no answers of version 1 .*among the 3 predictions"):
        of_log(url, version, newest=10)
    write_answers(log, version, ["good box"] * 3, name="n")
    with pytest.raises(match=r"of version 1 .*since 2023-11-1\S+ .*the newest is"):
        of_log(url, version, since=NOON + 3)
    assert of_log(url, version, since=NOON + 2).reviews == 1


# --- drawing -------------------------------------------------------------------------------


def test_a_draw_takes_every_row_equally_often_and_keeps_the_order() -> None:
    taken, labelled = np.zeros(60), np.zeros(60)
    every = pd.DataFrame({"row": range(60), "true_label": [1, None, None] * 20})
    for seed in range(60):
        draw = RandomSample(10, seed)
        for end in (7, 7, 41, 60):  # pieces of several sizes, one of them empty
            draw.add(every[draw.count : end])
        for drawn, rows in ((taken, draw.rows()), (labelled, draw.rows(labelled=True))):
            assert len(rows) == 10 and rows["row"].is_monotonic_increasing
            drawn[rows["row"]] += 1
    # each row is in 60 · 10/60 = 10 samples; four standard deviations are 11.5
    assert abs(taken - 10).max() < 11.5
    # each of the 20 with a label is in 30; four standard deviations are 15.5
    assert abs(labelled[::3] - 30).max() < 15.5


def test_a_draw_of_fewer_rows_is_all_of_them() -> None:
    draw = RandomSample(10)
    for rows in ([3, 1], [2]):
        draw.add(pd.DataFrame({"row": rows}))
    assert (draw.count, draw.rows()["row"].tolist()) == (3, [3, 1, 2])


# --- a file --------------------------------------------------------------------------------


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_keeps_duplicates_and_its_ratings_are_labels(
    tmp_path: Path, version: LoadedVersion
) -> None:
    file = write(
        tmp_path / "in.csv",
        "Ratings,Review text\n5,good boxREAD MORE\n5,good box\n2,bad box\n1,\n3,\n0,late box\n"
        "4.3,poor box\n,fine box\n4.0,neat box\n",
    )
    window = window_of_file(FileWindow(file), version)
    assert window.true.tolist() == [1, 1, 0, NO_LABEL, NO_LABEL, NO_LABEL, 1]
    assert window.features.characters.tolist() == [8, 8, 7, 8, 8, 8, 8]
    texts = ["good box", "good box", "bad box", "late box", "poor box", "fine box", "neat box"]
    assert window.features.probability.tolist() == fitted().predict_proba(texts)[:, 1].tolist()
    assert window.notes == (
        "texts from 'Review text', true labels from 'Ratings'",
        "left out: 2 rows without a readable text (line 5: no text; line 6: no text)",
        "left out: 2 ratings that are not stars of the scale",
    )
    assert (window.source, window.reviews, window.times) == ("in.csv", 7, None)


def test_true_labels_follow_the_version_s_rule_and_another_is_said(
    tmp_path: Path, version: LoadedVersion
) -> None:
    file = write(tmp_path / "in.csv", "rating,review\n3,good box\n5,late box\n1,bad box\n")
    neutral_out = replace(version, rule=LabelRule(drop_neutral=True))
    window = window_of_file(FileWindow(file), neutral_out)
    assert window.true.tolist() == [NO_LABEL, 1, 0]
    assert window.notes[1:] == ("left out: 1 of 3 stars",)
    wanted = FileWindow(file, labelling=Labelling(negative_up_to=3))
    window = window_of_file(wanted, neutral_out)
    assert window.true.tolist() == [0, 1, 0]
    assert "1–3 negative, 4–5 positive, not 1–2 negative, 4–5 positive" in window.notes[1]
    file = write(tmp_path / "in.csv", "mood,review\npos,good box\nmixed,late box\n-1,bad box\n")
    window = window_of_file(FileWindow(file, labelling=Labelling("mood")), version)
    assert window.true.tolist() == [1, NO_LABEL, 0]
    assert window.notes[1] == "left out: 1 of other labels ('mixed')"
    file = write(tmp_path / "in.csv", "rating,review\n8,good box\n3,late box\n")
    with pytest.raises(ReviewDataError, match="--scale 10"):
        window_of_file(FileWindow(file), version)


def test_columns_may_have_other_names_and_ratings_may_be_missing(
    tmp_path: Path, version: LoadedVersion
) -> None:
    frame = pd.DataFrame({"said": ["good box", "bad box"], "stars": [4, 1]})
    frame.to_parquet(tmp_path / "in.parquet")
    for rating_column in (None, "stars"):
        wanted = FileWindow(tmp_path / "in.parquet", "said", rating_column)
        assert window_of_file(wanted, version).true.tolist() == [1, 0]
    frame.drop(columns="stars").to_parquet(tmp_path / "in.parquet")
    wanted = FileWindow(tmp_path / "in.parquet", "said")
    assert window_of_file(wanted, version).true.tolist() == [NO_LABEL, NO_LABEL]


def same(found: WindowFeatures, expected: WindowFeatures) -> bool:
    """Whether two windows count the same in every review, in the same order."""
    assert found.text is not None and expected.text is not None
    columns = all(
        getattr(found, name).tolist() == getattr(expected, name).tolist() for name in COLUMNS
    )
    texts = all(
        getattr(found.text, name).tolist() == getattr(expected.text, name).tolist()
        for name in ("emoji", "non_ascii", "hashes")
    )
    terms = (found.text.terms.toarray() == expected.text.terms.toarray()).all()
    return bool(columns and texts and terms) and found.text.new_words == expected.text.new_words


def test_a_file_counts_the_same_when_it_is_uploaded_and_when_it_is_sent(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, version: LoadedVersion
) -> None:
    """As scraped: with the marker and white space, which nothing may count. By service and log."""
    texts = [f"{text}READ MORE" for text in made_up(60, 8)[0]]
    texts += [
        "\u00a0 good box \u2003READ MORE Read More",
        " good box",
        "  ",
        "READ MORE",
        "qqq \u00e9",
    ]
    file = tmp_path / "in.csv"
    pd.DataFrame({"Review text": texts}).to_csv(file, index=False)
    expected = window_of_file(FileWindow(file), version).features
    url = f"sqlite:///{tmp_path / 'log.db'}"
    sent = [text for text in texts if undo_scraping(text)]  # the API refuses empty ones
    assert len(expected) == len(sent) == 63
    assert expected.characters[60:].tolist() == [8, 8, 5]
    with running_app(shared_drift_store(tmp_path_factory), tmp_path) as app:
        client = app.test_client()
        upload = {"file": (io.BytesIO(file.read_bytes()), "in.csv")}
        assert client.post("/", data=upload).status_code == 200
        assert client.post("/predict", json={"texts": sent}).status_code == 200
        app.extensions["serving"].writer.flush(5.0)
        for sources in (("page",), ("api",)):
            window = window_of_log(LogWindow(sources=sources), url, version)
            assert same(window.features, expected), sources


@pytest.mark.parametrize(
    ("text", "options", "error", "said"),
    [
        ("text\n", {}, WindowError, "has no reviews; expected one per row"),
        ("text,Ratings\n,5\n", {}, WindowError, "has no reviews"),
        ("a,b\nx,y\n", {}, ReviewDataError, "no column of reviews"),
        ("text,b\nx,y\n", {"rating_column": "c"}, ReviewDataError, "with --rating-column"),
        (None, {}, ReviewDataError, "in.csv: no such file; give one with --data"),
    ],
)
def test_a_file_that_cannot_be_compared(
    tmp_path: Path,
    version: LoadedVersion,
    text: str | None,
    options: dict[str, Any],
    error: type[Exception],
    said: str,
) -> None:
    file = tmp_path / "in.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(error) as caught:
        window_of_file(FileWindow(file, **options), version)
    assert said in str(caught.value) and str(file) in str(caught.value)


def test_a_long_file_is_drawn_from(
    tmp_path: Path, version: LoadedVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(f"good box,{5 if at < 30 else 'x'}\n" for at in range(500))
    monkeypatch.setattr(drift_window, "SAMPLE", 100)
    file = write(tmp_path / "in.csv", f"text,Ratings\n{rows}")
    window = window_of_file(FileWindow(file), version)
    assert (window.reviews, len(window.features)) == (500, 100)
    assert window.labelled is not None and window.labelled[1].tolist() == [1] * 30
    write(file, "text,Ratings\n" + "good box,5\n" * 500)
    window = window_of_file(FileWindow(file), version)
    # a label for each: they are those of the sample, and not read twice
    assert (window.labelled, window.true.tolist()) == (None, [1] * 100)
