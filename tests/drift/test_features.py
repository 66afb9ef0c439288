"""Features and tallies: counts worked out by hand, and the same from the log as from the texts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from support.drift_reviews import fitted, made_up

from sentiment.drift.features import (
    COLUMNS,
    EXPECTED,
    NO_LABEL,
    TOTALS,
    TRUE,
    ReviewRows,
    TextFeatures,
    WindowFeatures,
    counted_values,
    logged_features,
    row_features,
    totals_by_row,
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
    assert window.label.tolist() == [1, window.label[1], NO_LABEL, 1, NO_LABEL]
    assert window.answered.tolist() == [True, True, False, True, False]
    text = text_of(window)
    assert text.vocabulary == ("cork", "good")
    assert text.terms.toarray().tolist() == [[1, 1], [0, 0], [0, 0], [0, 1], [0, 0]]
    # the stems, in the number of reviews that have them
    assert text.new_words == {"broken": 1, "not": 1, "kettl": 1}


def test_emoji_and_other_characters(pipeline: Pipeline) -> None:
    texts = ["plain", "tick \N{WHITE HEAVY CHECK MARK}", "café", "2/5 #1 *", "1\ufe0f\u20e3"]
    text = text_of(row_features(texts, pipeline))
    assert text.emoji.tolist() == [False, True, False, False, True]
    assert text.non_ascii.tolist() == [False, True, True, False, True]


def test_probabilities_and_labels_are_the_pipelines() -> None:
    texts, _ = made_up(200, 9)
    window = row_features(texts, fitted())
    answered = window.answered
    expected = fitted().predict_proba(texts)[:, 1]
    assert window.probability[answered].tolist() == expected[answered].tolist()
    assert window.label[answered].tolist() == fitted().predict(texts)[answered].tolist()


def logged(texts: list[str | None]) -> pd.DataFrame:
    """Rows as the log has them, with numbers that no model would have given."""
    label = pd.array([0, None], dtype="Int64")
    values = ([40, 50], [7, 8], [6, 0], [0.25, 0.8], label)
    return pd.DataFrame({"text": texts, **dict(zip(COLUMNS, values, strict=True))})


def test_the_log_gives_what_was_logged_and_the_texts_the_rest(pipeline: Pipeline) -> None:
    window = logged_features(logged(["good corkREAD MORE", "café kettle"]), pipeline)
    values = [[40, 50], [7, 8], [6, 0], [0.25, 0.8], [0, NO_LABEL]]
    assert [getattr(window, name).tolist() for name in COLUMNS] == values
    text = text_of(window)
    assert text.terms.toarray().tolist() == [[1, 1], [0, 0]]  # the scraper's marker is no word
    assert text.non_ascii.tolist() == [False, True]
    assert text.new_words == {"caf": 1, "kettl": 1}


def test_a_log_without_all_texts_has_no_text_features(pipeline: Pipeline) -> None:
    frame = logged(["good cork", None])
    assert logged_features(frame, pipeline).text is None
    assert logged_features(frame.drop(columns="text"), pipeline).text is None


def test_rows_are_taken_in_the_order_asked_for() -> None:
    texts, _ = made_up(100, 11)
    whole, rows = row_features(texts, fitted()), np.array([99, 0, 40])
    taken, expected = whole.take(rows), row_features([texts[row] for row in rows], fitted())
    for name in COLUMNS:
        assert getattr(taken, name).tolist() == getattr(expected, name).tolist()
    found, wanted = text_of(taken), text_of(expected)
    assert found.emoji.tolist() == wanted.emoji.tolist()
    assert found.non_ascii.tolist() == wanted.non_ascii.tolist()
    assert found.terms.toarray().tolist() == wanted.terms.toarray().tolist()


# --- tallies -------------------------------------------------------------------------------

# Three reviews of a model that knows `cork` and `good`: "good kettle 😀", "cork", "kettle"
WINDOW = WindowFeatures(
    characters=np.array([13, 4, 6]),
    words=np.array([2, 1, 1]),
    known_words=np.array([1, 1, 0]),
    probability=np.array([0.9, 0.3, 0.75]),
    label=np.array([1, 0, NO_LABEL]),
    text=TextFeatures(
        emoji=np.array([True, False, False]),
        non_ascii=np.array([True, False, False]),
        terms=sparse.csr_matrix(np.array([[0, 1], [1, 0], [0, 0]], dtype=np.int8)),
        vocabulary=("cork", "good"),
        new_words=Counter({"kettl": 2}),
    ),
)


def test_totals_by_hand() -> None:
    totals = totals_by_row(WINDOW, np.array([0, 0, 1])).sum(axis=0).tolist()
    assert dict(zip(TOTALS, totals, strict=True)) == {
        "reviews": 3,
        "words": 4,
        "unknown_words": 2,
        "no_known_words": 1,
        "emoji": 1,
        "non_ascii": 1,
        "answered": 2,
        "positive": 1,
        # of the answered two: .9 for positive and called so, .3 and called negative
        "expected_00": 0.7,
        "expected_01": 1 - 0.9,
        "expected_10": 0.3,
        "expected_11": 0.9,
        "true_00": 1,
        "true_01": 1,
        "true_10": 0,
        "true_11": 0,
    }
    # without a label there is nothing to count, and a review without an answer has no cell
    unlabelled = totals_by_row(WINDOW, np.array([NO_LABEL, NO_LABEL, 1])).sum(axis=0)
    assert unlabelled[TOTALS.index(TRUE[0]) :].tolist() == [0, 0, 0, 0]


def test_tally_by_hand() -> None:
    supports = {
        "characters": np.array([4, 5, 6, 13]),
        "words": np.array([1, 2]),
        "score": np.array([300, 900, 1000]),
    }
    tally = ReviewRows.of(
        WINDOW, np.array([0, 0, 1]), supports, np.array([300, 901]), ("good",)
    ).tally()
    assert {name: counts.tolist() for name, counts in tally.counts.items()} == {
        "characters": [1, 0, 1, 1],
        "words": [2, 1],
        "score": [1, 1, 0],  # of the answered ones
        "bins": [0, 2, 0],  # below .3, up to .9, above
    }
    # `good`, another known word (`cork`), an unknown word
    assert tally.terms is not None and tally.terms.tolist() == [1, 1, 2]
    assert tally.share("unknown_words") == 0.5
    assert tally.share("no_known_words") == 1 / 3
    assert tally.share("positive_share") == 0.5
    assert tally.confusion(TRUE).tolist() == [[1, 1], [0, 0]]
    np.testing.assert_allclose(tally.confusion(EXPECTED), [[0.7, 0.1], [0.3, 0.9]], atol=1e-15)


def test_weights_count_a_review_more_than_once() -> None:
    supports = {name: np.unique(column) for name, column in counted_values(WINDOW).items()}
    rows = ReviewRows.of(WINDOW, np.array([0, 0, 1]), supports, np.array([500]), ("good",))
    tally = rows.weighted(np.array([[1.0, 2, 0], [0, 0, 3]]))
    assert tally.total("reviews").tolist() == [3, 3]
    assert tally.counts["words"].tolist() == [[2, 1], [3, 0]]
    assert tally.counts["bins"].tolist() == [[2, 1], [0, 0]]
    assert tally.terms is not None and tally.terms.tolist() == [[1, 2, 1], [0, 0, 3]]
    assert tally.share("positive_share").tolist() == [1 / 3, 0]  # of no answers it is 0
