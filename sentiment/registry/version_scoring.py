"""Version scoring: let registered versions answer the same reviews, none of them trained on.

What comes out are the labels and times that the rules of `promotion_gate.py` judge.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentiment.data.reviews import TEXT_HASHES, Split, text_hashes
from sentiment.errors import VersionError
from sentiment.metrics import Labels
from sentiment.registry.gate import Verdict, judge, judge_first, too_few
from sentiment.tracking.artifact import load_pipeline
from sentiment.tracking.store import REGISTERED_MODEL, Store
from text_cleaning import clean_texts, cleaning_fingerprint

TIMED_TEXTS = 100  # single predictions timed, a millisecond each


def compare_versions(store: Store, candidate: str, production: str | None, split: Split) -> Verdict:
    """Load the versions, let them answer the holdout of `split`, and judge.

    `split` is `reviews.split_reviews` of the current file. With `production` None the candidate
    is the first. Raises `VersionError` when one of them cannot be loaded or scored.
    """
    cleaned = clean_texts(split.test_texts)
    versions = [candidate] if production is None else [candidate, production]
    loaded = [_load(store, version) for version in versions]
    note = ""
    if loaded[0].fingerprint != cleaning_fingerprint():
        raise VersionError(
            candidate,
            f"trained with another cleaning ({loaded[0].fingerprint}, now "
            f"{cleaning_fingerprint()}), so its training texts cannot be told; retrain it",
        )
    if loaded[-1].fingerprint != cleaning_fingerprint():
        # what may be left in of its training texts is to its advantage, so the gate stays safe
        note = f"version {production} was trained with another cleaning, which may flatter it"
    # each holdout row's own hash: text_hashes sorts and drops doubles, so one text at a time
    hashes = np.array([text_hashes([text])[0] for text in cleaned], dtype=np.uint64)
    new = ~np.isin(hashes, np.concatenate([version.hashes for version in loaded]))
    texts = [text for text, kept in zip(split.test_texts, new, strict=True) if kept]
    truth, left_out = split.y_test[new], int((~new).sum())
    if not texts:
        return Verdict(False, too_few(truth), candidate, production, 0, left_out, note=note)
    predicted = [_predict(version, texts) for version in loaded]
    seconds = median_seconds([version.pipeline for version in loaded], texts[:TIMED_TEXTS])
    if production is None:
        return judge_first(candidate, truth, predicted[0], seconds[0], left_out=left_out)
    return judge(
        (candidate, production),
        truth,
        (predicted[0], predicted[1]),
        (seconds[0], seconds[1]),
        same_data=loaded[0].digest == loaded[1].digest,
        left_out=left_out,
        note=note,
    )


def median_seconds(pipelines: Sequence[Any], texts: Sequence[str]) -> list[float]:
    """The median time of predicting one text, for each pipeline; all take turns at each text."""
    times: list[list[float]] = [[] for _ in pipelines]
    for number, text in enumerate(texts):
        turns = list(enumerate(pipelines))
        for index, pipeline in turns if number % 2 else turns[::-1]:
            begun = time.perf_counter()
            pipeline.predict([text])
            times[index].append(time.perf_counter() - begun)
    return [float(np.median(taken)) for taken in times]


@dataclass(frozen=True)
class _LoadedVersion:
    version: str
    pipeline: Any
    hashes: npt.NDArray[np.uint64]
    digest: str
    fingerprint: str


def _load(store: Store, version: str) -> _LoadedVersion:
    import mlflow

    try:
        found = store.client.get_model_version(REGISTERED_MODEL, version)
        pipeline = load_pipeline(store, f"models:/{REGISTERED_MODEL}/{version}")
    except Exception as error:  # a damaged file fails in as many ways as there are libraries
        raise VersionError(version, f"will not load: {_one_line(error)}") from None
    try:
        file = mlflow.artifacts.download_artifacts(
            run_id=found.run_id, artifact_path=TEXT_HASHES, tracking_uri=store.uri
        )
        hashes = np.load(Path(file), allow_pickle=False)
    except Exception as error:
        raise VersionError(
            version,
            f"its run has no readable {TEXT_HASHES} ({_one_line(error)}), so it "
            "cannot be told what it was trained on; register a model of the experiment or the flow",
        ) from None
    return _LoadedVersion(
        version,
        pipeline,
        hashes,
        found.tags.get("data_digest", ""),
        found.tags.get("cleaning_fingerprint", ""),
    )


def _predict(version: _LoadedVersion, texts: Sequence[str]) -> Labels:
    try:
        return np.asarray(version.pipeline.predict(list(texts)), dtype=np.int64)
    except Exception as error:
        raise VersionError(version.version, f"fails: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
