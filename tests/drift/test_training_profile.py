"""Training profile: which reviews a reference is made of, and reading it back, or why not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT
from support.drift_reviews import fitted, made_up, profile
from support.drift_store import copy_of, shared_drift_store
from support.serving import fit_calibrated

from sentiment.data.reviews import (
    RATING_COLUMN,
    TEXT_COLUMN,
    Split,
    data_digest,
    remove_marker,
    split_reviews,
    to_labels,
)
from sentiment.drift.compare import check
from sentiment.drift.features import row_features
from sentiment.drift.reference import PROFILE, ReferenceProfile
from sentiment.drift.training_profile import (
    ensure_profile,
    log_profile,
    read_profile,
    reference_reviews,
)
from sentiment.errors import ProfileError
from sentiment.registry.lifecycle import register_version
from sentiment.tracking.artifact import log_pipeline
from sentiment.tracking.store import REGISTERED_MODEL, Store, begin_run
from text_cleaning import cleaning_fingerprint

pytestmark = pytest.mark.xdist_group("drift")


def split_of(texts: list[str], labels: np.ndarray, held_out: list[int]) -> Split:
    """A split that holds these rows out."""
    test = np.array(held_out, dtype=np.int64)
    train = np.setdiff1d(np.arange(len(texts)), test)
    train_texts, test_texts = ([texts[row] for row in rows] for rows in (train, test))
    return Split(train_texts, test_texts, labels[train], labels[test], train, test)


def test_a_text_that_came_once_is_taken_from_the_holdout_alone() -> None:
    texts = [f"text {row}" for row in range(50)]
    labels = np.arange(50) % 2
    split = split_of(texts, labels, [3, 10, 44])
    taken, of_taken = reference_reviews(texts, labels, np.ones(50, np.int64), split)
    assert taken == ["text 3", "text 10", "text 44"]
    assert of_taken.tolist() == [1, 0, 0]


def test_of_a_text_that_came_often_three_in_ten_are_taken_wherever_it_is() -> None:
    """Both rows of `good` count as often met, though one of them came once only."""
    texts, labels = ["good", "good", "bad", "rare"], np.array([1, 0, 0, 1])
    copies = np.array([6_000, 1, 4_000, 1])
    split = split_of(texts, labels, [2])
    found: Counter[tuple[str, int]] = Counter()
    for seed in range(40):
        taken, of_taken = reference_reviews(texts, labels, copies, split, seed=seed)
        found.update(zip(taken, of_taken.tolist(), strict=True))
    # binomial: mean 40 · 6,000 · .3 = 72,000 and sd 224; 48,000 and 183; 12 and 3
    assert abs(found["good", 1] - 72_000) < 1_120
    assert abs(found["bad", 0] - 48_000) < 915
    assert 1 <= found["good", 0] <= 27
    assert found["rare", 1] == 0
    assert (
        reference_reviews(texts, labels, copies, split)[0]
        == (reference_reviews(texts, labels, copies, split)[0])
    )


def test_what_comes_in_is_steady_against_it_and_not_against_reviews_without_duplicates() -> None:
    """On the stand-in reviews, a third of which plays what comes in after the training."""
    table = pd.read_csv(PROJECT / "data.csv", dtype=str).dropna(subset=[TEXT_COLUMN])
    rows = pd.DataFrame(
        {
            "text": table[TEXT_COLUMN].map(remove_marker),
            "rating": table[RATING_COLUMN].astype(int),
        }
    )
    rows = rows[rows["text"] != ""].sample(frac=1, random_state=5)
    later, before = rows[:2_800], rows[2_800:]
    frame = before.groupby(["text", "rating"], sort=False).size().reset_index(name="copies")
    labels = to_labels(frame["rating"])
    split = split_reviews(frame)
    pipeline = fit_calibrated("LogisticRegression", split.train_texts, split.y_train)
    with_copies = ReferenceProfile.build(
        pipeline,
        *reference_reviews(frame["text"].tolist(), labels, frame["copies"].to_numpy(), split),
    )
    without = ReferenceProfile.build(pipeline, split.test_texts, split.y_test)
    window = row_features(later["text"].tolist(), pipeline)
    verdicts: dict[str, list[str]] = {"with": [], "without": []}
    for begin in range(0, 2_800, 400):
        part = window.take(np.arange(begin, begin + 400))
        verdicts["with"].append(check(with_copies, part).verdict)
        verdicts["without"].append(check(without, part).verdict)
    assert verdicts["with"].count("drifted") <= 1  # one of twenty is allowed, these are seven
    assert verdicts["without"] == ["drifted"] * 7


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Store:
    return copy_of(shared_drift_store(tmp_path_factory), tmp_path)


def new_version(store: Store, run_id: str, fingerprint: str) -> str:
    return register_version(
        store, run_id, f"runs:/{run_id}/model", {"cleaning_fingerprint": fingerprint}
    )


def test_a_profile_is_read_as_it_was_logged(store: Store) -> None:
    texts, labels = made_up(300, 21)
    run_id = begin_run(store, "LogisticRegression", {})
    log_profile(store, run_id, fitted(), texts, labels)
    expected = ReferenceProfile.build(fitted(), texts, labels)
    version = new_version(store, run_id, expected.cleaning_fingerprint)
    assert read_profile(store, version).to_json() == expected.to_json()
    with pytest.raises(ProfileError, match="no reviews"):
        log_profile(store, run_id, fitted(), [], np.array([], dtype=np.int64))


def test_a_version_that_has_none_gets_the_profile_of_the_reviews_it_was_trained_on(
    store: Store,
) -> None:
    texts, labels = made_up(300, 22)
    frame = pd.DataFrame({"text": texts, "rating": np.where(labels == 1, 5, 1), "copies": 1})
    frame = frame.drop_duplicates("text").reset_index(drop=True)
    split = split_reviews(frame)
    run_id = begin_run(store, "LogisticRegression", {})
    uri, _ = log_pipeline(store, run_id, fitted(), ["good"])
    tags = {"cleaning_fingerprint": cleaning_fingerprint(), "data_digest": data_digest(frame)}
    version = register_version(store, run_id, uri, tags)

    other = frame.iloc[:-1]
    assert not ensure_profile(store, version, other, split_reviews(other))
    with pytest.raises(ProfileError, match="has no reference profile"):
        read_profile(store, version)

    assert ensure_profile(store, version, frame, split)
    labels_of_rows = to_labels(frame["rating"])
    copies = frame["copies"].to_numpy()
    expected = reference_reviews(frame["text"].tolist(), labels_of_rows, copies, split)
    profile = read_profile(store, version)
    assert profile.to_json() == ReferenceProfile.build(fitted(), *expected).to_json()
    store.client.log_text(run_id, "kept", PROFILE)
    assert ensure_profile(store, version, frame, split)  # it has one: that is not looked into
    with pytest.raises(ProfileError, match="is not JSON"):
        read_profile(store, version)


def test_a_version_without_a_profile_is_to_be_retrained(store: Store) -> None:
    with pytest.raises(ProfileError, match=r"^version 2: has no reference profile.*train the mod"):
        read_profile(store, "2")
    bare = store.client.create_model_version(REGISTERED_MODEL, "nowhere", None)
    with pytest.raises(ProfileError, match=r"^version 3: has no reference profile"):
        read_profile(store, str(bare.version))


def test_a_damaged_profile_names_the_version(store: Store) -> None:
    run_id = begin_run(store, "LogisticRegression", {})
    store.client.log_text(run_id, profile().to_json()[:500], PROFILE)
    version = new_version(store, run_id, profile().cleaning_fingerprint)
    with pytest.raises(ProfileError, match=rf"^version {version}: reference profile: is not JSON"):
        read_profile(store, version)


def test_a_profile_of_another_cleaning_is_refused(store: Store) -> None:
    run_id = begin_run(store, "LogisticRegression", {})
    store.client.log_text(run_id, profile().to_json(), PROFILE)
    version = new_version(store, run_id, "feedfeed")
    with pytest.raises(ProfileError, match=r"another cleaning .*expected feedfeed"):
        read_profile(store, version)
