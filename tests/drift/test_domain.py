"""Drift domain: against scikit-learn's own loop, and what it finds where something was planted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from sentiment.drift.domain import (
    FOLDS,
    MIN_POOLS,
    PENALTY,
    POOL,
    areas,
    chance_distances,
    cross_validated_auc,
    pool_reviews,
    separate,
    standard_error,
    weigh,
)
from sentiment.drift.features import Matrix


def reviews(count: int, seed: int, shares: tuple[float, ...] = (0.5, 0.3, 0.2, 0.1)) -> Matrix:
    """Rows of ones and zeros in which each column has a share of ones."""
    drawn = np.random.default_rng(seed).random((count, len(shares))) < np.array(shares)
    return sparse.csr_matrix(drawn.astype(np.float64))


def pools(count: int, seed: int, shares: tuple[float, ...] = (0.5, 0.3, 0.2, 0.1)) -> Matrix:
    return pool_reviews(reviews(count * POOL, seed, shares), np.random.default_rng(seed))


def test_a_pool_is_the_sum_of_five_reviews_each_used_once() -> None:
    rows = sparse.csr_matrix(np.eye(13))  # each review has a term of its own
    pooled = pool_reviews(rows, np.random.default_rng(0)).toarray()
    assert pooled.shape == (2, 13)
    assert pooled.sum(axis=1).tolist() == [5, 5]
    assert sorted(pooled.sum(axis=0)) == [0, 0, 0, *[1] * 10]  # three are left over
    assert pooled[0].nonzero()[0].tolist() != [0, 1, 2, 3, 4]  # in random order


def test_areas_are_scikit_learns() -> None:
    generator = np.random.default_rng(1)
    scores = generator.integers(0, 8, (60, 5)).astype(float)  # many ties
    positive = (generator.random((60, 5)) < 0.3).astype(float)
    expected = [roc_auc_score(positive[:, at], scores[:, at]) for at in range(5)]
    assert areas(scores, positive).tolist() == pytest.approx(expected, abs=1e-12)


def test_the_auc_is_that_of_scikit_learns_folds() -> None:
    matrix = weigh(pools(60, 2))
    folds = np.arange(60) % FOLDS
    labels = np.zeros((60, 3))
    for column in range(3):
        labels[np.arange(60) % 3 == column, column] = 1
    expected = []
    for column in range(3):
        each = []
        for fold in range(FOLDS):
            train, test = folds != fold, folds == fold
            model = Ridge(alpha=PENALTY).fit(matrix[train], labels[train, column])
            each.append(roc_auc_score(labels[test, column], model.predict(matrix[test])))
        expected.append(np.mean(each))
    assert cross_validated_auc(matrix, folds, labels).tolist() == pytest.approx(expected, abs=1e-9)


def test_tf_idf_is_scikit_learns() -> None:
    found = pools(30, 3)
    expected = TfidfTransformer(norm="l2").fit(found).transform(found).toarray()
    np.testing.assert_allclose(weigh(found), expected)


def test_the_standard_error_is_that_of_scores_without_sense() -> None:
    generator = np.random.default_rng(4)
    positive = np.repeat([1.0, 0.0], [20, 50])[:, None] * np.ones(4_000)
    drawn = areas(generator.random((70, 4_000)), positive)
    assert drawn.mean() == pytest.approx(0.5, abs=0.005)
    assert standard_error(20, 50) == pytest.approx(drawn.std(), rel=0.05)


def test_a_word_that_came_up_is_found_and_named() -> None:
    before, now = pools(120, 5), pools(60, 6, (0.5, 0.3, 0.2, 0.6))
    found = separate(before, now)
    assert found is not None
    assert found.auc > 0.9
    assert np.argmax(found.weights) == 3
    other_way = separate(now, before)
    assert other_way is not None and np.argmin(other_way.weights) == 3


def test_like_reviews_are_told_apart_no_better_than_parts_of_the_reference() -> None:
    """In 60 pairs of samples of one kind, about one in ten lies beyond the chance of one in ten."""
    beyond = 0
    for seed in range(60):
        before, now = pools(100, 100 + seed), pools(40, 300 + seed)
        chance = chance_distances(before, 40, 200, np.random.default_rng(seed))
        found = separate(before, now)
        assert chance is not None and found is not None
        assert abs(chance.mean()) < 0.5
        beyond += bool((found.auc - 0.5) / found.standard_error > np.quantile(chance, 0.9))
    assert 1 <= beyond <= 13  # of 60 at one in ten, fewer or more in one of 500 cases


def test_too_few_pools_are_not_compared() -> None:
    few, many = pools(MIN_POOLS - 1, 7), pools(40, 8)
    assert separate(many, few) is None
    assert separate(few, many) is None
    assert separate(many, pools(MIN_POOLS, 9)) is not None
    generator = np.random.default_rng(0)
    assert chance_distances(many, MIN_POOLS - 1, 10, generator) is None
    assert chance_distances(many, 40 - MIN_POOLS + 1, 10, generator) is None
    assert chance_distances(few, 4, 10, generator) is None


@pytest.mark.parametrize("window", [MIN_POOLS, 13, 20])
def test_each_fold_has_its_part_of_the_window(window: int) -> None:
    """A fold without any pool of one side would have no area; none comes out as NaN."""
    chance = chance_distances(pools(41, 10), window, 300, np.random.default_rng(1))
    assert chance is not None
    assert np.isfinite(chance).all()
