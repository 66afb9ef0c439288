"""Drift profile: what it holds, that no review is in it, and what a damaged one is said to be."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from support.drift_reviews import fitted, made_up, profile

from sentiment import metrics as evaluation
from sentiment.drift.domain import POOL
from sentiment.drift.reference import ReferenceProfile, common_terms
from sentiment.drift.signals import SIGNALS
from sentiment.errors import ProfileError
from text_cleaning import clean_texts, cleaning_fingerprint

TEXTS, LABELS = made_up(600, 3)  # those of `profile`


def test_it_holds_what_the_reviews_are_like() -> None:
    found = profile()
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
    assert found.confusion().tolist() == evaluation.confusion(LABELS, predicted).tolist()


def test_no_review_is_in_it() -> None:
    text = profile().to_json()
    for review in TEXTS:
        words = review.split()
        assert len(words) < 2 or review not in text
    # a word that too few training reviews had to be in the vocabulary is not there either
    strange = {word for row in clean_texts(TEXTS) for word in row.split()} - set(
        fitted()["tfidf"].vocabulary_
    )
    assert len(strange) > 20
    assert not [word for word in strange if word in text]
    assert set(profile().terms) <= set(fitted()["tfidf"].vocabulary_)


def test_pools_are_of_five_reviews() -> None:
    found = profile()
    assert found.pools.shape == (600 // POOL, len(found.terms) + 2)
    # all 600 reviews are in a pool, so that the pools add up to what the reviews have
    totals = np.asarray(found.pools.sum(axis=0)).ravel()
    assert totals.tolist() == found.term_reviews.tolist()
    assert found.pools.data.max() <= POOL


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
    text = profile().to_json()
    assert ReferenceProfile.from_json(text).to_json() == text
    assert ReferenceProfile.build(fitted(), TEXTS, LABELS).to_json() == text
    other = ReferenceProfile.build(fitted(), TEXTS, LABELS, seed=1).to_json()
    assert json.loads(other)["pools"] != json.loads(text)["pools"]


def test_it_is_small() -> None:
    assert len(gzip.compress(profile().to_json().encode())) < 30_000


def test_a_large_holdout_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentiment.drift.reference.MAX_REVIEWS", 150)
    found = ReferenceProfile.build(fitted(), TEXTS, LABELS)
    assert found.reviews == 150
    assert found.confusion().sum() <= 150


@pytest.mark.parametrize("count", [1, 3, 99])
def test_few_reviews_make_a_profile_without_limits(count: int) -> None:
    found = ReferenceProfile.build(fitted(), TEXTS[:count], LABELS[:count])
    assert found.reviews == count
    assert found.limits.signals == {}
    assert ReferenceProfile.from_json(found.to_json()).to_json() == found.to_json()


def test_a_hundred_reviews_are_enough_for_all_limits() -> None:
    found = ReferenceProfile.build(fitted(), TEXTS[:100], LABELS[:100])
    assert set(found.limits.signals) == set(SIGNALS)


def test_reviews_without_a_known_word_make_a_profile() -> None:
    found = ReferenceProfile.build(fitted(), ["qqq www", "!!!"] * 60, np.tile([1, 0], 60))
    assert found.counts["score"][0].tolist() == []
    assert found.confusion().sum() == 0


def test_no_reviews_are_an_error() -> None:
    with pytest.raises(ProfileError, match="no reviews to make a reference profile of"):
        ReferenceProfile.build(fitted(), [], np.array([], dtype=np.int64))


def damaged(*path: str, value: Any) -> str:
    """The profile with another value at a place."""
    found = json.loads(profile().to_json())
    at = found
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return json.dumps(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ('{"schema": 1', "is not JSON"),
        ("[]", "is of schema None, expected 1"),
        ('{"schema": 0}', "is of schema 0, expected 1"),
        ('{"schema": 1}', "is damaged (KeyError: 'pools')"),
        (damaged("reviews", value="many"), "is damaged (ValueError"),
        (damaged("totals", value={}), "is damaged (KeyError"),
        (damaged("totals", value=[1, 2]), "is damaged (TypeError"),
        (damaged("counts", "words", "reviews", value=[1]), "words: 1 values, expected"),
        (damaged("term_reviews", value=[1, 2]), "term_reviews: 2 values, expected"),
        (damaged("pools", "terms", value=[]), "is damaged (ValueError"),
        (damaged("pools", "terms", value=[9_999] * profile().pools.nnz), "is damaged (ValueError"),
        (damaged("limits", "sizes", value=[50]), "5 values, expected 1"),
        (damaged("limits", "signals", "terms", value=[[1]] * 5), "levels of terms: 1 values"),
        (damaged("limits", "signals", value=None), "is damaged (AttributeError"),
    ],
)
def test_a_damaged_or_old_profile_is_said_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ProfileError) as caught:
        ReferenceProfile.from_json(text)
    message = str(caught.value)
    assert message.startswith("reference profile: ")
    assert said in message
    assert message.endswith("train the model anew to get one")
    assert "\n" not in message
