"""Passes: what `--resume` says of one that is under way, and how a shared one begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentiment.errors import ResumeError
from sentiment.tracking.store import open_store
from sentiment.training.claims import open_claims
from sentiment.training.passes import (
    BEGIN,
    ExperimentPass,
    PassSettings,
    begin_pass,
    join_pass,
    resume_pass,
)
from sentiment.training.studies import open_storage

READING = dict.fromkeys(
    ("text_column", "rating_column", "delimiter", "encoding", "max_bytes", "label_column")
)
LABELS = dict.fromkeys(("positive", "negative", "scale", "negative_up_to", "drop_neutral"))
SETTINGS = PassSettings(
    data="reviews.csv",
    **READING,  # type: ignore[arg-type]
    **LABELS,  # type: ignore[arg-type]
    data_digest="digest",
    split="hashed",
    cleaning="cleaning",
    trials=3,
    models="NaiveBayes",
    seed=42,
    search_space="published",
    file_format="skops",
)


def test_resume_says_that_a_pass_is_being_worked_on(store_folder: Path) -> None:
    store = open_store(store_folder)
    with pytest.raises(ResumeError, match="nothing to resume"):
        resume_pass(store, None, {})
    begun = begin_pass(store, SETTINGS)
    for named in (None, begun.id):
        with pytest.raises(ResumeError, match=f"{begun.id} is being worked on"):
            resume_pass(store, named, {})
    assert begun.lock is not None
    begun.lock.release()
    resumed = resume_pass(store, None, {"seed": 42})
    assert resumed.settings == SETTINGS


def test_a_shared_pass_whose_first_worker_died_while_it_began_is_begun_once(
    store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(store_folder)
    storage = open_storage(store.studies)
    with open_claims(storage, "night") as claims, monkeypatch.context() as patch:
        assert join_pass(store, claims, {}) is None
        patch.setattr(ExperimentPass, "finish", lambda *_: None)
        begun = begin_pass(store, SETTINGS, claims)
    for _ in range(2):
        with open_claims(storage, "night") as claims:
            joined = join_pass(store, claims, {"seed": 42, "data": "elsewhere.csv"})
            assert joined is not None
            assert (joined.run_id, joined.settings) == (begun.run_id, SETTINGS)
            claims.look()
            assert claims.done(BEGIN)
    alone = begin_pass(store, SETTINGS).id
    with open_claims(storage, alone) as claims, pytest.raises(ResumeError, match="not shared"):
        join_pass(store, claims, {})
