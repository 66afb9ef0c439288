"""Drift shifts: each changes what it says, as much as it says, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from drift_shifts import PARTS, Changed, misspelling, other_product, rows_of_share, turned_topic
from support.drift_reviews import made_up

from text_cleaning import clean_texts

TEXTS, LABELS = made_up(400, 70)


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("shift", [other_product, misspelling])
def test_nothing_changes_without_strength(shift: Callable[..., Changed]) -> None:
    texts, labels = shift(TEXTS, LABELS, 0.0, generator())
    assert texts == TEXTS and labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("shift", [other_product, misspelling, turned_topic])
def test_the_seed_decides(shift: Callable[..., Changed]) -> None:
    once, again = (shift(TEXTS, LABELS, 0.3, generator()) for _ in range(2))
    assert str(once) == str(again)


def test_a_share_of_the_reviews_is_of_another_product() -> None:
    texts, labels = other_product(TEXTS, LABELS, 0.2, generator())
    changed = [now for now, before in zip(texts, TEXTS, strict=True) if now != before]
    assert 50 <= len(changed) <= 110  # 80 of 400
    assert labels.tolist() == LABELS.tolist()
    words = {word for text in changed for word in text.lower().replace(",", "").split()}
    assert len(words & set(PARTS)) > 10
    assert not any("{" in text for text in changed)
    known = {word for text in TEXTS for word in text.split()}
    assert not known & set(PARTS)


def test_a_share_of_the_words_has_one_letter_changed() -> None:
    texts, labels = misspelling(TEXTS, LABELS, 0.3, generator())
    assert labels.tolist() == LABELS.tolist()
    pairs = [
        (before, now)
        for old, new in zip(TEXTS, texts, strict=True)
        for before, now in zip(old.split(" "), new.split(" "), strict=True)
    ]
    changed = [(before, now) for before, now in pairs if before != now]
    # a letter may be swapped with itself
    assert 0.24 <= len(changed) / len(pairs) <= 0.31
    for before, now in changed:
        assert abs(len(before) - len(now)) <= 1
        if len(before) == len(now):
            apart = [at for at in range(len(now)) if before[at] != now[at]]
            assert len(apart) == 1 or apart[1] == apart[0] + 1


def test_the_labels_of_one_word_are_turned() -> None:
    texts, labels = turned_topic(TEXTS, LABELS, 0.2, generator())
    assert texts == TEXTS
    turned = {row for row in range(400) if labels[row] != LABELS[row]}
    words = [set(cleaned.split()) for cleaned in clean_texts(TEXTS)]
    topics = set.intersection(*(words[row] for row in turned))
    assert any({row for row in range(400) if topic in words[row]} == turned for topic in topics)
    shares = [sum(word in row for row in words) / 400 for word in set().union(*words)]
    assert abs(len(turned) / 400 - 0.2) == min(abs(share - 0.2) for share in shares)


def test_rows_have_the_share_that_is_wanted() -> None:
    rows = rows_of_share(LABELS, 100, 0.6, generator())
    assert len(set(rows.tolist())) == 100
    assert LABELS[rows].sum() == 60
    negative = int((LABELS == 0).sum())
    again = rows_of_share(LABELS, 2 * negative, 0.25, generator())
    assert (LABELS[again] == 0).mean() == pytest.approx(0.75, abs=0.01)
    assert len(set(again[LABELS[again] == 0].tolist())) == negative
