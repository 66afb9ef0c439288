"""Drift features: counts worked out by hand, and the same from the log as from the texts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from support.drift_reviews import fitted, made_up

from sentiment.drift.features import (
    COLUMNS,
    NO_LABEL,
    TextFeatures,
    WindowFeatures,
    logged_features,
    row_features,
)
from sentiment.model.calibration import calibrate
from text_cleaning import TextCleaner


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    """A model of the terms `cork`, `good` and `not broken`, that finds `good` good."""
    vectorizer = TfidfVectorizer(vocabulary=["cork", "good", "not broken"], ngram_range=(1, 2))
    rows = vectorizer.fit_transform(["good cork", "cork", "good not broken", "not broken cork"])
    labels = np.array([1, 0, 1, 0])
    model = LogisticRegression().fit(rows, labels)
    calibrated = calibrate(model, model.decision_function(rows), rows, labels)
    calibrated.prior_ = 0.8
    return Pipeline([("clean", TextCleaner()), ("tfidf", vectorizer), ("model", calibrated)])


def text_of(window: WindowFeatures) -> TextFeatures:
    assert window.text is not None
    return window.text


def test_words_are_counted_as_the_vectorizer_counts_them(pipeline: Pipeline) -> None:
    window = row_features(
        [
            "Good cork",  # both known
            "The not broken x",  # a stop word and a letter alone are no words; a known bigram
            "broken, not",  # the same words, not next to each other in that order
            "good good kettle",
            "!!!",
        ],
        pipeline,
    )
    assert window.characters.tolist() == [9, 16, 11, 16, 3]
    assert window.words.tolist() == [2, 2, 2, 3, 0]
    assert window.known_words.tolist() == [2, 2, 0, 2, 0]
    text = text_of(window)
    assert text.vocabulary == ("cork", "good")
    assert text.terms.toarray().tolist() == [[1, 1], [0, 0], [0, 0], [0, 1], [0, 0]]
    # the stems, in the number of reviews that have them
    assert text.new_words == {"broken": 1, "not": 1, "kettl": 1}


def test_no_known_word_is_no_label_and_the_prior(pipeline: Pipeline) -> None:
    window = row_features(["kettle", "good", "", "cork"], pipeline)
    assert window.label.tolist() == [NO_LABEL, 1, NO_LABEL, 0]
    assert window.probability[[0, 2]].tolist() == [0.8, 0.8]
    assert window.answered.tolist() == [False, True, False, True]


def test_emoji_and_other_characters(pipeline: Pipeline) -> None:
    texts = ["plain", "tick \N{WHITE HEAVY CHECK MARK}", "café", "2/5 #1 *", "1\ufe0f\u20e3"]
    text = text_of(row_features(texts, pipeline))
    assert text.emoji.tolist() == [False, True, False, False, True]
    assert text.non_ascii.tolist() == [False, True, True, False, True]


def test_probabilities_are_the_pipelines_to_the_last_bit() -> None:
    texts, _ = made_up(200, 9)
    window = row_features(texts, fitted())
    answered = window.answered
    expected = fitted().predict_proba(texts)[:, 1]
    assert window.probability[answered].tolist() == expected[answered].tolist()
    assert window.label[answered].tolist() == fitted().predict(texts)[answered].tolist()


def logged(texts: list[str | None]) -> pd.DataFrame:
    """Rows as the log has them, with numbers that no model would have given."""
    return pd.DataFrame(
        {
            "text": texts,
            "characters": [40, 50],
            "words": [7, 8],
            "known_words": [6, 0],
            "probability": [0.25, 0.8],
            "label": pd.array([0, None], dtype="Int64"),
        }
    )


def test_the_log_gives_what_was_logged_and_the_texts_the_rest(pipeline: Pipeline) -> None:
    window = logged_features(logged(["good corkREAD MORE", "café kettle"]), pipeline)
    assert [getattr(window, name).tolist() for name in COLUMNS] == [
        [40, 50],
        [7, 8],
        [6, 0],
        [0.25, 0.8],
        [0, NO_LABEL],
    ]
    text = text_of(window)
    assert text.terms.toarray().tolist() == [[1, 1], [0, 0]]  # the scraper's marker is no word
    assert text.non_ascii.tolist() == [False, True]
    assert text.new_words == {"caf": 1, "kettl": 1}


@pytest.mark.parametrize("texts", [["good cork", None], [None, None]])
def test_a_log_without_all_texts_has_no_text_features(
    pipeline: Pipeline, texts: list[str | None]
) -> None:
    window = logged_features(logged(texts), pipeline)
    assert window.text is None
    assert window.words.tolist() == [7, 8]
    without = logged_features(logged(texts).drop(columns="text"), pipeline)
    assert without.text is None


def test_rows_are_taken_in_the_order_asked_for() -> None:
    texts, _ = made_up(100, 11)
    whole, rows = row_features(texts, fitted()), np.array([99, 0, 40])
    taken, expected = whole.take(rows), row_features([texts[row] for row in rows], fitted())
    for name in COLUMNS:
        assert getattr(taken, name).tolist() == getattr(expected, name).tolist()
    assert text_of(taken).emoji.tolist() == text_of(expected).emoji.tolist()
    assert text_of(taken).non_ascii.tolist() == text_of(expected).non_ascii.tolist()
    assert text_of(taken).terms.toarray().tolist() == text_of(expected).terms.toarray().tolist()
