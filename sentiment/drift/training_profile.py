"""Training profile: what the reference of a model is made of, written on its run and read again.

texts, labels = reference_reviews(frame["text"], labels, copies, split)
log_profile(store, run_id, pipeline, texts, labels)
ensure_profile(store, "3", frame, split)                # for a version that may have one already
profile = read_profile(store, load_version(store, "champion").version)
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sentiment.data.reviews import HOLDOUT_SHARE, Split, data_digest, to_labels
from sentiment.drift.features import Ints
from sentiment.drift.reference import PROFILE, RETRAIN, SEED, ReferenceProfile
from sentiment.errors import ProfileError
from sentiment.tracking.artifact import load_pipeline
from sentiment.tracking.store import REGISTERED_MODEL, Store


def reference_reviews(
    texts: Sequence[str], labels: Ints, copies: Ints, split: Split, *, seed: int = SEED
) -> tuple[list[str], Ints]:
    """The reviews that a profile is made of: three in ten of those that came, as often as they did.

    Training drops exact duplicates, but customers go on writing "good": a window of what comes in
    has as many short reviews as ever, and against a reference without duplicates every window
    drifts. So a text that came once is taken if it is in the holdout, and of the copies of one that
    came more often three in ten are, wherever the split has put it: it will come again, and the
    model will know it then as well. (The share of reviews whose text was met before is that of the
    texts met more than once: Good 1953, "The population frequencies of species".)

    Parameters
    ----------
    texts, labels : of shape (n,)
        The frame's raw texts and their 0/1 labels, without exact duplicates.
    copies : array of int of shape (n,)
        How often each row came, itself included.
    split : Split
        Of this frame.
    seed : int
        The same gives the same reviews.

    """
    came = pd.Series(copies).groupby(np.asarray(texts, dtype=object)).transform("sum").to_numpy()
    held_out = np.zeros(len(texts), dtype=np.int64)
    held_out[split.test_rows] = 1
    drawn = np.random.default_rng(seed).binomial(copies, HOLDOUT_SHARE)
    rows = np.repeat(np.arange(len(texts)), np.where(came == 1, held_out, drawn))
    return [texts[row] for row in rows.tolist()], np.asarray(labels)[rows]


def log_profile(
    store: Store, run_id: str, pipeline: Any, texts: Sequence[str], labels: Ints
) -> None:
    """Make the reference profile of raw texts and 0/1 labels and write it on the model's run.

    The texts should be those of `reference_reviews`. Raises `ProfileError` without a review.
    """
    profile = ReferenceProfile.build(pipeline, texts, labels)
    store.client.log_text(run_id, profile.to_json(), PROFILE)


def ensure_profile(
    store: Store, version: str, frame: pd.DataFrame, split: Split, *, trust_pickle: bool = False
) -> bool:
    """Make the reference profile of a version that has none; return whether it has one now.

    Parameters
    ----------
    store : Store
        Has the version.
    version : str
        Its number.
    frame : DataFrame
        Checked reviews, with `text`, `rating` and `copies`.
    split : Split
        Of this frame.
    trust_pickle : bool, default=False
        Load the model though it is a pickle: whoever calls has just written it.

    Returns
    -------
    bool
        False when the version was trained on other reviews than these: the model may know those of
        the holdout, and every later window would seem drifted.

    Raises
    ------
    TrackingError
        The model cannot be loaded.

    """
    found = store.client.get_model_version(REGISTERED_MODEL, version)
    run_id = found.run_id or ""
    if PROFILE in [item.path for item in store.client.list_artifacts(run_id)]:
        return True
    if found.tags.get("data_digest") != data_digest(frame):
        return False
    reference = reference_reviews(
        frame["text"].tolist(), to_labels(frame["rating"]), frame["copies"].to_numpy(), split
    )
    pipeline = load_pipeline(store, str(found.source), trust_pickle=trust_pickle)
    log_profile(store, run_id, pipeline, *reference)
    return True


def read_profile(store: Store, version: str) -> ReferenceProfile:
    """The reference profile of the version of this number, which the registry has.

    Raises `ProfileError` where it has none, or one that cannot be used.
    """
    found = store.client.get_model_version(REGISTERED_MODEL, version)
    run_id, fingerprint = found.run_id, found.tags.get("cleaning_fingerprint", "none")
    if not run_id or PROFILE not in [item.path for item in store.client.list_artifacts(run_id)]:
        raise ProfileError(
            f"version {version}: has no reference profile; promote it with the reviews it was "
            f"trained on, or {RETRAIN}"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(store.client.download_artifacts(run_id, PROFILE, folder))
        text = file.read_text(encoding="utf-8")
    try:
        profile = ReferenceProfile.from_json(text)
    except ProfileError as error:
        raise ProfileError(f"version {version}: {error}") from None
    if profile.cleaning_fingerprint != fingerprint:
        raise ProfileError(
            f"version {version}: its reference profile was made with another cleaning "
            f"({profile.cleaning_fingerprint}, expected {fingerprint}); {RETRAIN}"
        )
    return profile
