"""A store with a version in production, and a log of its answers, for the drift tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentiment.data.reviews import TEXT_HASHES, text_hashes
from sentiment.drift import LATEST
from sentiment.drift.reference import ARTIFACT
from sentiment.model.predictor import LoadedVersion, load_version
from sentiment.predictions.log import LoggedPrediction, PredictionLog
from sentiment.registry.lifecycle import register_version
from sentiment.tracking.artifact import log_pipeline
from sentiment.tracking.store import Store, begin_run, end_run, open_store
from support.drift_reviews import fitted, made_up, reference
from support.serving import put_into_production
from text_cleaning import clean_texts, cleaning_fingerprint

NOON = 1_700_000_000.0  # seconds since 1970
_shared: list[Store] = []


def drift_store(folder: Path) -> Store:
    """Return a store with version 1 in production and version 2, which has no reference."""
    folder.mkdir(parents=True, exist_ok=True)
    store = open_store(folder)
    for number in (1, 2):
        run_id = begin_run(store, "LogisticRegression", {})
        if number == 1:
            store.client.log_text(run_id, reference().to_json(), ARTIFACT)
            np.save(folder / TEXT_HASHES, text_hashes(clean_texts(made_up(800, 1)[0])))
            store.client.log_artifact(run_id, str(folder / TEXT_HASHES))
        uri, _ = log_pipeline(store, run_id, fitted(), ["good box"])
        end_run(store, run_id)
        tags = {"model": "LogisticRegression", "cleaning_fingerprint": cleaning_fingerprint()}
        register_version(store, run_id, uri, tags)
    put_into_production(store, "1")
    return store


def shared_drift_store(factory: pytest.TempPathFactory) -> Store:
    """Return one `drift_store` for all tests of this process; tests change a `copy_of` it."""
    if not _shared:
        _shared.append(drift_store(factory.mktemp("drift")))
    return _shared[0]


def copy_of(made: Store, folder: Path) -> Store:
    """Return a copy that may be changed."""
    return open_store(shutil.copytree(made.folder, folder, dirs_exist_ok=True))


def last_report(store: Store) -> dict[str, Any]:
    """Return what the last check left beside the store, as JSON."""
    found: dict[str, Any] = json.loads((store.folder / LATEST / "latest.json").read_bytes())
    return found


def champion(store: Store) -> LoadedVersion:
    return load_version(store, "champion")


def write_answers(
    log: PredictionLog,
    version: LoadedVersion,
    texts: Sequence[str],
    *,
    begin: float = NOON,
    step: float = 1.0,
    name: str = "r",
    arm: str = "champion",
    number: str | None = None,
    keep_text: bool = True,
    source: str = "api",
) -> list[str]:
    """Answer the texts and log them, a request each, `step` seconds apart; returns the request ids.

    `number` is another version's, in whose name it is done.
    """
    answers = version.predict(texts, explain=False)
    rows = [
        LoggedPrediction(
            request_id=f"{name}{at}",
            position=0,
            at=begin + step * at,
            arm=arm,
            version=number or version.version,
            experiment="",
            unit=f"u{at}",
            text_digest=f"d{at}",
            text=text if keep_text else None,
            characters=len(text),
            words=answer.words,
            known_words=answer.known_words,
            probability=answer.probability,
            label=answer.label,
            milliseconds=0.5,
            source=source,
        )
        for at, (text, answer) in enumerate(zip(texts, answers, strict=True))
    ]
    log.write(rows)
    return [row.request_id for row in rows]
