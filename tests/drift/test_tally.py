"""Drift tally: totals of three reviews worked out by hand, and of many against pandas."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
from scipy import sparse
from support.drift_reviews import window_of

from sentiment.drift.features import NO_LABEL, TextFeatures, WindowFeatures
from sentiment.drift.tally import (
    COUNTED,
    EXPECTED,
    TOTALS,
    TRUE,
    bin_of,
    counted_values,
    tally_window,
    term_columns,
    totals_by_row,
)

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
    totals = dict(
        zip(TOTALS, totals_by_row(WINDOW, np.array([0, 0, 1])).sum(axis=0).tolist(), strict=True)
    )
    assert totals == {
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
    tally = tally_window(
        WINDOW, np.array([0, 0, 1]), supports, score_edges=np.array([300, 901]), terms=("good",)
    )
    assert {name: tally.counts[name].tolist() for name in COUNTED} == {
        "characters": [1, 0, 1, 1],
        "words": [2, 1],
        "score": [1, 1, 0],  # of the answered ones
    }
    assert tally.bins.tolist() == [0, 2, 0]  # below .3, up to .9, above
    assert tally.terms is not None
    # `good`, another known word (`cork`), an unknown word
    assert tally.terms.tolist() == [1, 1, 2]
    assert tally.share("unknown_words") == 0.5
    assert tally.share("no_known_words") == 1 / 3
    assert tally.share("positive_share") == 0.5
    assert tally.confusion(TRUE).tolist() == [[1, 1], [0, 0]]
    np.testing.assert_allclose(tally.confusion(EXPECTED), [[0.7, 0.1], [0.3, 0.9]], atol=1e-15)


def test_terms_that_the_model_does_not_have_stay_empty() -> None:
    columns = term_columns(WINDOW, ("good", "kettl", "cork"))
    assert columns is not None
    assert columns.toarray().tolist() == [[1, 0, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1]]


def test_without_texts_there_are_no_terms() -> None:
    window = WindowFeatures(
        WINDOW.characters, WINDOW.words, WINDOW.known_words, WINDOW.probability, WINDOW.label, None
    )
    assert term_columns(window, ("good",)) is None
    totals = totals_by_row(window, np.zeros(3, dtype=np.int64)).sum(axis=0)
    assert totals[TOTALS.index("emoji")] == totals[TOTALS.index("non_ascii")] == 0


def test_a_share_of_nothing_is_0() -> None:
    nobody = WINDOW.take(np.array([], dtype=np.int64))
    supports = {name: np.array([], dtype=np.int64) for name in COUNTED}
    tally = tally_window(nobody, np.array([], dtype=np.int64), supports, np.array([500]), ())
    assert tally.share("positive_share") == 0
    assert tally.bins.tolist() == [0, 0]


def test_many_reviews_against_pandas() -> None:
    window, true = window_of(500, 20)
    values = counted_values(window)
    supports = {name: np.unique(found) for name, found in values.items()}
    edges = np.array([250, 500, 750])
    tally = tally_window(window, true, supports, edges, ("cork", "good"))
    for name, support in supports.items():
        expected = pd.Series(values[name]).value_counts().sort_index()
        assert tally.counts[name].tolist() == expected.tolist()
        assert support.tolist() == expected.index.tolist()
    cut = pd.cut(values["score"], [-1, 249, 499, 749, 1000]).value_counts()
    assert tally.bins.tolist() == cut.tolist()
    assert tally.bins.tolist() == np.bincount(bin_of(values["score"], edges)).tolist()
    crossed = pd.crosstab(true[window.answered], window.label[window.answered])
    assert tally.confusion(TRUE).tolist() == crossed.to_numpy().tolist()
