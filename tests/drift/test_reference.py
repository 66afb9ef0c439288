"""The reference: its content, no review in it, which reviews it is made of, and reading it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT
from support import REGISTERED_MODEL
from support.drift_reviews import fitted, made_up, reference
from support.drift_store import copy_of, shared_drift_store
from support.serving import fit_calibrated

from sentiment import metrics as evaluation
from sentiment.data.reviews import (
    RATING_COLUMN,
    TEXT_COLUMN,
    Split,
    data_digest,
    split_reviews,
)
from sentiment.drift.compare import compare_reviews
from sentiment.drift.features import TRUE, row_features
from sentiment.drift.reference import (
    ARTIFACT,
    Reference,
    common_terms,
    ensure_reference,
    has_reference,
    read_reference,
    reference_reviews,
)
from sentiment.drift.signals import SIGNALS
from sentiment.errors import DriftReferenceError
from sentiment.metrics import Ints
from sentiment.registry.lifecycle import register_version
from sentiment.tracking.artifact import log_pipeline
from sentiment.tracking.store import Store, begin_run
from text_cleaning import clean_texts, cleaning_fingerprint, undo_scraping

pytestmark = pytest.mark.xdist_group("drift")
TEXTS, LABELS = made_up(600, 3)  # those of `reference`


def test_it_holds_what_the_reviews_are_like() -> None:
    found = reference()
    assert found.reviews == 600
    assert found.cleaning_fingerprint == cleaning_fingerprint()
    lengths = Counter(len(text) for text in TEXTS)
    values, reviews = found.counts["characters"]
    assert dict(zip(values.tolist(), reviews.tolist(), strict=True)) == lengths
    words = [text.split() for text in clean_texts(TEXTS)]
    for term in ("good", "cork"):
        column = found.terms.index(term)
        assert found.term_reviews[column] == sum(term in row for row in words)
    predicted = fitted().predict(TEXTS)
    assert (
        found.tally({}).confusion(TRUE).tolist() == evaluation.confusion(LABELS, predicted).tolist()
    )


def test_no_review_is_in_it() -> None:
    text = reference().to_json()
    for review in TEXTS:
        words = review.split()
        assert len(words) < 2 or review not in text
    # a word that too few training reviews had to be in the vocabulary is not there either
    strange = {word for row in clean_texts(TEXTS) for word in row.split()} - set(
        fitted()["tfidf"].vocabulary_
    )
    assert len(strange) > 20
    assert not [word for word in strange if word in text]
    assert set(reference().terms) <= set(fitted()["tfidf"].vocabulary_)


def test_terms_are_the_commonest_single_words_of_the_training_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = Counter(word for row in clean_texts(made_up(800, 1)[0]) for word in set(row.split()))
    vocabulary = {term for term in fitted()["tfidf"].vocabulary_ if " " not in term}
    assert common_terms(fitted()) == tuple(sorted(vocabulary))
    monkeypatch.setattr("sentiment.drift.reference.MAX_TERMS", 4)
    expected = [word for word, _ in words.most_common() if word in vocabulary][:4]
    assert common_terms(fitted()) == tuple(sorted(expected))


def test_it_is_the_same_after_a_round_trip_and_when_made_again() -> None:
    text = reference().to_json()
    assert Reference.from_json(text).to_json() == text
    assert Reference.build(fitted(), TEXTS, LABELS).to_json() == text


def test_a_large_holdout_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentiment.drift.reference.MAX_REVIEWS", 150)
    found = Reference.build(fitted(), TEXTS, LABELS)
    assert found.reviews == 150
    assert found.tally({}).total("answered") <= 150


@pytest.mark.parametrize(("count", "signals"), [(99, set()), (100, set(SIGNALS))])
def test_limits_need_a_hundred_reviews(count: int, signals: set[str]) -> None:
    found = Reference.build(fitted(), TEXTS[:count], LABELS[:count])
    assert (found.reviews, set(found.limits)) == (count, signals)
    assert Reference.from_json(found.to_json()).to_json() == found.to_json()


def test_equal_scores_make_no_empty_bin() -> None:
    found = Reference.build(fitted(), ["bad box"] * 10 + ["good box"] * 10, np.repeat([0, 1], 10))
    low, high = found.counts["score"][0]
    assert low < high and found.score_edges.tolist() == [high]


def test_reviews_without_a_known_word_make_a_reference() -> None:
    found = Reference.build(fitted(), ["qqq www", "!!!"] * 60, np.tile([1, 0], 60))
    assert found.counts["score"][0].tolist() == []
    assert found.tally({}).total("answered") == 0


def test_no_reviews_are_an_error() -> None:
    with pytest.raises(DriftReferenceError, match="no reviews to make a drift reference of"):
        Reference.build(fitted(), [], np.array([], dtype=np.int64))


def damaged(*path: str, value: Any) -> str:
    """Return the reference with another value at a place."""
    found = json.loads(reference().to_json())
    at = found
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return json.dumps(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema": 3', "not valid JSON"),
        ("[]", "has schema None, expected 4"),
        ('{"schema": 3}', "has schema 3, expected 4"),
        ('{"schema": 4}', "damaged (KeyError"),
        (damaged("reviews", value="many"), "damaged (ValueError"),
        (damaged("totals", value=[1, 2]), "damaged (TypeError"),
        (damaged("counts", "words", value=[[1, 2], [1]]), "damaged (ValueError"),
        (damaged("terms", value=[1, 2]), "damaged (TypeError"),
        (damaged("limits", "terms", value=[[1, 2]] * 4), "damaged (ValueError"),
        (damaged("limits", value=None), "damaged (AttributeError"),
    ],
)
def test_a_damaged_or_old_reference_is_reported_in_one_line(text: str, said: str) -> None:
    with pytest.raises(DriftReferenceError) as caught:
        Reference.from_json(text)
    message = str(caught.value)
    assert message.startswith("drift reference: ") and said in message
    assert message.endswith("retrain the model to get one") and "\n" not in message


# --- which reviews ---------------------------------------------------------------------------


def split_of(texts: list[str], labels: np.ndarray, held_out: list[int]) -> Split:
    """A split that holds these rows out."""
    test = np.array(held_out, dtype=np.int64)
    train = np.setdiff1d(np.arange(len(texts)), test)
    train_texts, test_texts = ([texts[row] for row in rows] for rows in (train, test))
    return Split(train_texts, test_texts, labels[train], labels[test], train, test)


def test_a_text_that_came_once_is_taken_from_the_holdout_alone() -> None:
    texts = [f"text {'ab'[row // 26]}{chr(97 + row % 26)}x" for row in range(50)]
    labels = np.arange(50) % 2
    split = split_of(texts, labels, [3, 10, 44])
    taken, of_taken = reference_reviews(texts, labels, np.ones(50, np.int64), split)
    assert taken == ["text adx", "text akx", "text bsx"]
    assert of_taken.tolist() == [1, 0, 0]


def test_of_a_text_that_came_often_three_in_ten_are_taken_wherever_it_is() -> None:
    """All rows that clean to `good` count as often met, though one of them came once only."""
    texts, labels = ["good", "Good!", "bad", "rare"], np.array([1, 0, 0, 1])
    copies = np.array([6_000, 1, 4_000, 1])
    split = split_of(texts, labels, [2])
    found: Counter[tuple[str, int]] = Counter()
    for seed in range(40):
        taken, of_taken = reference_reviews(texts, labels, copies, split, seed=seed)
        found.update(zip(taken, of_taken.tolist(), strict=True))
    # binomial: mean 40 · 6,000 · .3 = 72,000 and sd 224; 48,000 and 183; 12 and 3
    assert abs(found["good", 1] - 72_000) < 1_120
    assert abs(found["bad", 0] - 48_000) < 915
    assert 1 <= found["Good!", 0] <= 27
    assert found["rare", 1] == 0
    again = [reference_reviews(texts, labels, copies, split)[0] for _ in range(2)]
    assert again[0] == again[1]


def test_what_comes_in_is_steady_against_it_and_not_against_reviews_without_duplicates() -> None:
    """On the stand-in reviews, a third of which plays what comes in after the training."""
    table = pd.read_csv(PROJECT / "data.csv", dtype=str).dropna(subset=[TEXT_COLUMN])
    texts, ratings = table[TEXT_COLUMN].map(undo_scraping), table[RATING_COLUMN].astype(int)
    rows = pd.DataFrame({"text": texts, "rating": ratings, "label": ratings > 2})
    rows = rows[rows["text"] != ""].sample(frac=1, random_state=5)
    later, before = rows[:2_800], rows[2_800:]
    frame = (
        before.groupby(["text", "rating", "label"], sort=False).size().reset_index(name="copies")
    )
    split = split_reviews(frame)
    pipeline = fit_calibrated("LogisticRegression", split.train_texts, split.y_train)
    window = row_features(later["text"].tolist(), pipeline)

    def drifted(reviews: list[str], labels: Ints) -> int:
        """Return how many of seven windows are called drifted against a reference of these."""
        reference = Reference.build(pipeline, reviews, labels)
        windows = (window.take(np.arange(at, at + 400)) for at in range(0, 2_800, 400))
        return sum(compare_reviews(reference, part).verdict == "drifted" for part in windows)

    labels, copies = frame["label"].to_numpy(dtype=np.int64), frame["copies"].to_numpy()
    assert drifted(*reference_reviews(frame["text"].tolist(), labels, copies, split)) <= 1
    assert drifted(split.test_texts, split.y_test) == 7


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Store:
    return copy_of(shared_drift_store(tmp_path_factory), tmp_path)


def new_version(store: Store, run_id: str, fingerprint: str) -> str:
    """A version of a run that has no model."""
    version = store.client.create_model_version(
        REGISTERED_MODEL, "nowhere", run_id, tags={"cleaning_fingerprint": fingerprint}
    )
    return str(version.version)


def test_a_version_that_has_none_gets_the_reference_of_the_reviews_it_was_trained_on(
    store: Store,
) -> None:
    texts, labels = made_up(300, 22)
    frame = pd.DataFrame({"text": texts, "label": labels, "copies": 1})
    frame["rating"] = np.where(labels == 1, 5, 1)
    frame = frame.drop_duplicates("text").reset_index(drop=True)
    split = split_reviews(frame)
    run_id = begin_run(store, "LogisticRegression", {})
    uri, _ = log_pipeline(store, run_id, fitted(), ["good"])
    tags = {"cleaning_fingerprint": cleaning_fingerprint(), "data_digest": data_digest(frame)}
    version = register_version(store, run_id, uri, tags)

    missing = ensure_reference(store, version, frame.iloc[:-1], split)
    assert "trained on other reviews" in missing and not has_reference(store, run_id)

    assert ensure_reference(store, version, frame, split) == ""
    copies = frame["copies"].to_numpy()
    expected = reference_reviews(frame["text"].tolist(), frame["label"].to_numpy(), copies, split)
    found = read_reference(store, version)
    assert found.to_json() == Reference.build(fitted(), *expected).to_json()
    store.client.log_text(run_id, "kept", ARTIFACT)
    assert ensure_reference(store, version, frame, split) == ""  # the one it has is not looked into
    with pytest.raises(DriftReferenceError, match="not valid JSON"):
        read_reference(store, version)


def test_a_reference_that_cannot_be_used_names_the_version(store: Store) -> None:
    bare = store.client.create_model_version(REGISTERED_MODEL, "nowhere", None)
    for version in ("2", str(bare.version)):
        with pytest.raises(DriftReferenceError, match=rf"^version {version}: has no drift ref"):
            read_reference(store, version)
    text = reference().to_json()
    for content, fingerprint, said in (
        (text[:500], reference().cleaning_fingerprint, "drift reference: not valid JSON"),
        (text, "feedfeed", ".*another cleaning .*expected feedfeed"),
    ):
        run_id = begin_run(store, "LogisticRegression", {})
        store.client.log_text(run_id, content, ARTIFACT)
        version = new_version(store, run_id, fingerprint)
        with pytest.raises(DriftReferenceError, match=rf"^version {version}: {said}"):
            read_reference(store, version)
