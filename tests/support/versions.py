"""A store with three small versions for the tests of the registry, made once and then copied."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_reviews
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline

from sentiment.data.reviews import (
    TEXT_HASHES,
    data_digest,
    load_reviews,
    split_reviews,
    text_hashes,
)
from sentiment.registry.gate import Verdict
from sentiment.registry.lifecycle import production_version, promote, stage
from sentiment.tracking.artifact import DIGESTS, file_digests, log_pipeline
from sentiment.tracking.ledger import read_events
from sentiment.tracking.store import Store, begin_run, end_run, log_values, open_store, use_uri
from text_cleaning import TextCleaner, clean_texts, cleaning_fingerprint

MODELS: dict[str, Any] = {  # versions 1 and 2; version 3 has the model of version 2
    "LogisticRegression": LogisticRegression(class_weight="balanced"),
    "NaiveBayes": MultinomialNB(alpha=0.1),
}
_made: list[Store] = []


def write_noisy(file: Path, rows: int = 400) -> Path:
    """The made-up reviews with every seventh rating turned round, so that no model is perfect."""
    lines = write_reviews(file, rows=rows).read_text(encoding="utf-8").splitlines()
    for number in range(7, len(lines), 7):
        text, rating = lines[number].rsplit(",", 1)
        lines[number] = f"{text},{6 - int(rating)}"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def versions_store(factory: pytest.TempPathFactory, folder: Path) -> Store:
    """A copy, in `folder`, of a store with versions 1, 2 and 3 on `write_noisy`; 2 is staged.

    The reviews are in `reviews.csv` of the folder.
    """
    if not _made:
        _made.append(_make(factory.mktemp("versions")))
    return open_store(shutil.copytree(_made[0].folder, folder, dirs_exist_ok=True))


def _make(folder: Path) -> Store:
    store = open_store(folder)
    loaded = load_reviews(write_noisy(folder / "reviews.csv"))
    split = split_reviews(loaded.frame)
    cleaned = clean_texts(split.train_texts)
    np.save(folder / TEXT_HASHES, text_hashes(cleaned))
    tags = {
        "data_digest": data_digest(loaded.frame),
        "cleaning_fingerprint": cleaning_fingerprint(),
        "test_f1": "0.7",
    }
    store.client.create_registered_model(store.settings.registered_model)
    use_uri(store.uri)
    for name, model in MODELS.items():
        vectorizer = TfidfVectorizer(min_df=3).fit(cleaned)
        vectorizer.vocabulary_ = {term: int(at) for term, at in vectorizer.vocabulary_.items()}
        fitted = model.fit(vectorizer.transform(cleaned), split.y_train)
        pipeline = Pipeline([("clean", TextCleaner()), ("tfidf", vectorizer), ("model", fitted)])
        run_id = begin_run(store, name, {})
        log_values(store, run_id, params={"model": name, "C": 1}, metrics={"test_f1": 0.7})
        store.client.log_artifact(run_id, str(folder / TEXT_HASHES))
        uri, _ = log_pipeline(store, run_id, pipeline, split.test_texts[:2])
        end_run(store, run_id)
        add_version(store, run_id, uri, {**tags, "model": name, "cv_f1_macro": "0.65"})
    twin(store, "2")
    stage(store, "2", "the test says so")
    return store


def add_version(store: Store, run_id: str, source: str, tags: dict[str, str]) -> str:
    """One more version, whatever others its run has; its files are signed unless `tags` are."""
    if DIGESTS not in tags:
        tags = {**tags, DIGESTS: file_digests(store, source)}
    version = store.client.create_model_version(
        store.settings.registered_model, source, run_id=run_id, tags=tags
    )
    return str(version.version)


def twin(store: Store, version: str, **changes: str) -> str:
    """One more version with the model and run of another, or what `changes` names."""
    one = store.client.get_model_version(store.settings.registered_model, version)
    named = {"run_id": str(one.run_id), "source": str(one.source), **changes}
    return add_version(store, named["run_id"], named["source"], dict(one.tags))


def force(store: Store, *versions: str) -> None:
    """Promote each without the gate's opinion."""
    for version in versions:
        verdict = Verdict(False, "not compared", version, production_version(store))
        promote(store, verdict, why="the test says so", force=True)


def aliases(store: Store) -> dict[str, str]:
    found = store.client.get_registered_model(store.settings.registered_model).aliases
    return {alias: str(version) for alias, version in found.items()}


def stages(store: Store) -> dict[str, str]:
    found = store.client.search_model_versions(f"name = '{store.settings.registered_model}'")
    return {str(version.version): str(version.current_stage) for version in found}


def snapshot(store: Store) -> Any:
    """All that a command that failed must not have changed."""
    return aliases(store), stages(store), read_events(store)
