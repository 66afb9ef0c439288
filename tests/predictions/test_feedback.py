"""Labelled feedback: what a label in the log makes of a review, and what the file gains by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from support.prediction_logs import ROW

from sentiment.data.labels import Labelling
from sentiment.data.reviews import data_digest, load_reviews
from sentiment.errors import PredictionLogError
from sentiment.predictions.feedback import Feedback, read_feedback, with_feedback
from sentiment.predictions.log import open_log


def reviews_file(folder: Path, *rows: tuple[str, int]) -> Path:
    file = folder / "reviews.csv"
    pd.DataFrame(rows, columns=["Review text", "Ratings"]).to_csv(file, index=False)
    return file


def rows_of(frame: pd.DataFrame) -> list[tuple[str, int]]:
    return list(zip(frame["text"], frame["rating"], strict=True))


def test_a_label_makes_a_review_of_what_was_answered(file_url: str) -> None:
    answers: tuple[tuple[str, str | None, float, str], ...] = (
        ("late", "torn box", 30.0, "challenger"),
        ("early", "Great grip READ MORE", 10.0, "champion"),
        ("unasked", "nobody said what this is", 11.0, "champion"),
        ("secret", None, 12.0, "champion"),
        ("both", "fine", 20.0, "champion"),
        ("both", "fine", 20.0, "shadow"),
    )
    log = open_log(file_url)
    log.write([replace(ROW, request_id=r, text=t, at=at, arm=arm) for r, t, at, arm in answers])
    log.write([replace(ROW, request_id="page", text="sent to the page", at=50.0, source="page")])
    log.add_feedback("page", 0, 0, 2, at=51.0)
    log.add_feedback("late", 0, 0, 2, at=40.0)
    log.add_feedback("early", 0, 0, None, at=40.0)
    log.add_feedback("early", 0, 1, None, at=41.0)  # on second thoughts
    log.add_feedback("secret", 0, 0, None, at=42.0)
    log.add_feedback("both", 0, 1, 3, at=43.0)
    feedback = read_feedback(file_url)
    # oldest review first; a rating as it was given, else the farthest of its side
    given = [("Great grip READ MORE", 5), ("fine", 3), ("torn box", 2), ("sent to the page", 2)]
    assert rows_of(feedback.frame) == given
    assert (feedback.without_text, feedback.labels) == (1, 5)


def test_feedback_goes_below_the_file_as_rows_of_it_would(tmp_path: Path) -> None:
    file = reviews_file(tmp_path, ("good", 5), ("good", 5), ("bad", 1), ("", 4))
    loaded = load_reviews(file)
    sent = pd.DataFrame(
        {
            "text": ["good", "good", "Great gripREAD MORE", " READ MORE ", "Great grip"],
            "rating": [5, 1, 5, 2, 5],
        }
    )
    found = with_feedback(loaded, Feedback(sent, without_text=3))
    assert rows_of(found.loaded.frame) == [("good", 5), ("bad", 1), ("good", 1), ("Great grip", 5)]
    # how often each came, in the file and from customers
    assert list(found.loaded.frame["copies"]) == [3, 1, 1, 2]
    assert list(found.loaded.frame.index) == [0, 1, 2, 3]
    assert (found.loaded.frame.dtypes == loaded.frame.dtypes).all()
    assert found.added == 2
    assert found.note == (
        "8 labels in the prediction log: 4 without a stored text and 2 exact duplicates left out, "
        "2 added"
    )
    # 4 rows of the file and 8 labels; without text one of the file, three that were not stored and
    # one that is the marker alone; twice the file's "good", once each of "good" and "Great grip"
    said = "5 without text and 3 exact duplicates dropped, 4 left"
    assert (found.loaded.rows_read, said in found.loaded.dropped()) == (12, True)
    assert found.loaded.marker_removed == 2 and found.loaded.source == file
    assert found.file_digest == data_digest(loaded.frame)
    whole = [("good", 5), ("bad", 1), ("good", 1), ("Great grip", 5)]
    assert found.digest == data_digest(load_reviews(reviews_file(tmp_path, *whole)).frame)


def test_ratings_count_by_the_file_s_rule(tmp_path: Path) -> None:
    file = reviews_file(tmp_path, ("good", 5), ("bad", 1))
    sent = pd.DataFrame({"text": ["so so", "fine", "poor"], "rating": [3, 4, 1]})
    for labelling, labels in (
        (Labelling(), [1, 0, 1, 1, 0]),
        (Labelling(negative_up_to=3), [1, 0, 0, 1, 0]),
        (Labelling(drop_neutral=True), [1, 0, 1, 0]),
    ):
        found = with_feedback(load_reviews(file, labelling=labelling), Feedback(sent))
        assert found.loaded.frame["label"].tolist() == labels
        left_out = 5 - len(labels)
        assert found.loaded.left_out == left_out and found.added == 3 - left_out
        assert ("1 of 3 stars" in found.note) == ("1 of 3 stars" in found.loaded.dropped())
        assert ("1 of 3 stars" in found.note) == bool(left_out)


def test_without_labels_it_is_the_file(file_url: str, tmp_path: Path) -> None:
    loaded = load_reviews(reviews_file(tmp_path, ("good", 5), ("bad", 1)))
    log = open_log(file_url)
    log.write([replace(ROW, text=None)])
    for feedback in (None, read_feedback(file_url)):
        found = with_feedback(loaded, feedback)
        assert found.loaded is loaded and found.added == 0 and found.note == ""
        assert found.digest == found.file_digest == data_digest(loaded.frame)
    log.add_feedback(ROW.request_id, 0, 0, None, at=42.0)  # without any text it adds nothing
    found = with_feedback(loaded, read_feedback(file_url))
    assert found.added == 0 and found.digest == found.file_digest
    assert found.note.startswith("1 labels in the prediction log: 1 without a stored text")


def test_a_log_that_is_not_there_has_no_labels_and_is_not_made(
    file_url: str, tmp_path: Path
) -> None:
    assert read_feedback(file_url).labels == 0
    assert not list(tmp_path.iterdir())


def test_a_log_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "predictions.db"
    file.write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(PredictionLogError) as caught:
        read_feedback(f"sqlite:///{file}")
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
