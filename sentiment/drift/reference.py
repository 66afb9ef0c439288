"""Keep what a model's reviews were like, without their text, to compare later reviews with it.

    texts, labels = reference_reviews(frame["text"], labels, copies, split)
    missing = ensure_reference(store, "3", frame, split)
    reference = read_reference(store, "3")

The reviews of a reference should be like those to come, as often as they come, and new to the
model. On its own training part a model knows more words and gives better answers than on any new
review, so against that part every window would have drifted.

No review can be read from a reference. It has distributions of single numbers (lengths,
probabilities), totals, and terms. The terms are single words of the model's own vocabulary, which
at least `min_df` training reviews have (3 or more in the published search); all others count as "an
unknown word". A salted hash of the words would not be safer: whoever has the reference has the
salt, and can hash a dictionary.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sentiment.data.reviews import HOLDOUT_SHARE, Split, data_digest
from sentiment.drift.features import (
    BINS,
    COUNTED,
    TOTALS,
    ReviewRows,
    Tally,
    WindowFeatures,
    bin_of,
    counted_values,
    row_features,
)
from sentiment.drift.limits import LEVELS, SIZES, chance_limits
from sentiment.errors import CalibrationError, DriftReferenceError, TrackingError
from sentiment.metrics import Floats, Ints
from sentiment.tracking.artifact import load_pipeline
from sentiment.tracking.store import Store
from text_cleaning import clean_texts, cleaning_fingerprint

ARTIFACT = "drift_reference.json"
SCHEMA = 4  # limits of signals that are bad in one direction are one-sided
PSI_BINS = 10  # the usual number, with equal shares of the reference
MAX_TERMS = 500  # the commonest single words; rarer ones have too few reviews to be compared
# Of a larger holdout a random part is taken: limits are fine enough, and cost grows with it
MAX_REVIEWS = 5_000
SEED = 42
RETRAIN = "retrain the model to get one"


@dataclass(frozen=True, eq=False)
class Reference:
    """What the reviews of a model were like.

    `counts` has for each of `COUNTED` the values that occur, ascending, and how many reviews have
    each; the score's values are thousandths, of answered reviews. `totals` are those of `TOTALS`.
    `term_reviews` is how many reviews have each of `terms`, then any other known word, then any
    unknown word. `score_edges` are the first values of the bins of the PSI but the first bin's.
    """

    reviews: int
    cleaning_fingerprint: str
    totals: Floats
    counts: Mapping[str, tuple[Ints, Ints]]
    score_edges: Ints
    terms: tuple[str, ...]
    term_reviews: Floats
    limits: Mapping[str, Floats]

    @classmethod
    def build(
        cls, pipeline: Any, texts: Sequence[str], labels: Ints, *, seed: int = SEED
    ) -> Reference:
        """Return the reference of raw texts and their labels, 0 or 1.

        The same input gives the same reference. From fewer than `limits.MIN_REFERENCE` reviews it
        has no limits. Raises `DriftReferenceError` without a review.
        """
        if not len(texts):
            raise DriftReferenceError("no reviews to make a drift reference of; train on more")
        chosen = np.random.default_rng(seed).permutation(len(texts))[:MAX_REVIEWS]
        features = row_features([texts[row] for row in chosen], pipeline)
        true, cleaning = np.asarray(labels)[chosen], pipeline["clean"].cleaning
        return cls.of_features(features, true, common_terms(pipeline), seed=seed, cleaning=cleaning)

    @classmethod
    def of_features(
        cls,
        features: WindowFeatures,
        true: Ints,
        terms: tuple[str, ...],
        *,
        seed: int = SEED,
        cleaning: str = "guide",
    ) -> Reference:
        """Return the reference of features with texts, true labels, and the terms to name."""
        values = counted_values(features)
        counts = {name: np.unique(column, return_counts=True) for name, column in values.items()}
        edges = _psi_edges(values["score"])
        supports = {name: support for name, (support, _) in counts.items()}
        rows = ReviewRows.of(features, true, supports, edges, terms)
        tally = rows.tally()
        assert tally.terms is not None
        return cls(
            reviews=len(features),
            cleaning_fingerprint=cleaning_fingerprint(cleaning),
            totals=tally.totals,
            counts=counts,
            score_edges=edges,
            terms=terms,
            term_reviews=tally.terms,
            limits=chance_limits(rows, np.random.default_rng(seed)),
        )

    def tally(self, supports: Mapping[str, Ints]) -> Tally:
        """Return the reference as a tally on wider supports, to compare it with a window's."""
        counts = {}
        for name, support in supports.items():
            values, reviews = self.counts[name]
            counts[name] = np.zeros(len(support))
            counts[name][np.searchsorted(support, values)] = reviews
        score, reviews = self.counts["score"]
        bins = bin_of(score, self.score_edges)
        counts[BINS] = np.bincount(bins, reviews, len(self.score_edges) + 1).astype(np.float64)
        return Tally(self.totals, counts, self.term_reviews)

    def to_json(self) -> str:
        """Return the reference as one line of JSON."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "reviews": self.reviews,
                "cleaning_fingerprint": self.cleaning_fingerprint,
                "totals": dict(zip(TOTALS, self.totals.tolist(), strict=True)),
                "counts": {
                    name: np.column_stack(pair).tolist() for name, pair in self.counts.items()
                },
                "score_edges": self.score_edges.tolist(),
                "terms": dict(zip(self.terms, self.term_reviews.tolist(), strict=False)),
                "other_terms": self.term_reviews[len(self.terms) :].tolist(),
                "limits": {name: table.tolist() for name, table in self.limits.items()},
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Reference:
        """Read what `to_json` wrote. Raises `DriftReferenceError`."""
        try:
            content = json.loads(text)
        except ValueError as error:
            raise DriftReferenceError(
                f"drift reference: not valid JSON ({error}); {RETRAIN}"
            ) from None
        schema = content.get("schema") if isinstance(content, dict) else None
        if schema != SCHEMA:
            raise DriftReferenceError(
                f"drift reference: has schema {schema}, expected {SCHEMA}; {RETRAIN}"
            )
        try:
            terms = dict(content["terms"])
            pairs = {  # reshaping refuses what does not belong together
                name: np.array(content["counts"][name], dtype=np.int64).reshape(-1, 2)
                for name in COUNTED
            }
            tables = {
                name: np.array(table, dtype=np.float64).reshape(len(SIZES), len(LEVELS))
                for name, table in content["limits"].items()
            }
            other, unknown = content["other_terms"]
            return cls(
                reviews=int(content["reviews"]),
                cleaning_fingerprint=str(content["cleaning_fingerprint"]),
                totals=np.array([float(content["totals"][name]) for name in TOTALS]),
                counts={name: (pair[:, 0], pair[:, 1]) for name, pair in pairs.items()},
                score_edges=np.array(content["score_edges"], dtype=np.int64),
                terms=tuple(terms),
                term_reviews=np.array([*terms.values(), other, unknown], dtype=np.float64),
                limits=tables,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = " ".join(str(error).split())[:100]
            raise DriftReferenceError(
                f"drift reference: damaged ({type(error).__name__}: {what}); {RETRAIN}"
            ) from None


def reference_reviews(
    texts: Sequence[str], labels: Ints, copies: Ints, split: Split, *, seed: int = SEED
) -> tuple[list[str], Ints]:
    """Return the reviews to make a reference of: three in ten of those that came in.

    Training drops exact duplicates, but customers go on writing "good": incoming reviews have as
    many short ones as ever, and against a reference without duplicates every window would drift. So
    a text that came once is taken if it is in the holdout. Of one that came more often, three in
    ten are taken, wherever the split has put it: it will come again, and the model will know it
    then as well. Texts are the same here when they are cleaned to the same, for so the model sees
    them, and so the split keeps them together. (The share of reviews whose text was met before is
    that of the texts met more than once: Good 1953, "The population frequencies of species".)

    `texts`, 0/1 `labels` and `copies` have shape (n,), without exact duplicates: `copies` is how
    often each row came in, itself included. `split` is of these rows.
    """
    alike = np.asarray(clean_texts(texts), dtype=object)
    came = pd.Series(copies).groupby(alike).transform("sum").to_numpy()
    held_out = np.zeros(len(texts), dtype=np.int64)
    held_out[split.test_rows] = 1
    drawn = np.random.default_rng(seed).binomial(copies, HOLDOUT_SHARE)
    rows = np.repeat(np.arange(len(texts)), np.where(came == 1, held_out, drawn))
    return [texts[row] for row in rows.tolist()], np.asarray(labels)[rows]


def ensure_reference(
    store: Store, version: str, frame: pd.DataFrame, split: Split, *, trust_pickle: bool = False
) -> str:
    """Make the reference of a version that has none, and return why it still has none, or "".

    It can only be made of the reviews the version was trained on: it may know those of another
    holdout, and every later window would seem drifted.

    `frame` has checked reviews, with `text`, `label` and `copies`; `split` is of this frame. With
    `trust_pickle` a model is loaded though it is a pickle: whoever calls has just written it.
    """
    registered = store.client.get_model_version(store.settings.registered_model, version)
    run_id = registered.run_id or ""
    if has_reference(store, run_id):
        return ""
    if registered.tags.get("data_digest") != data_digest(frame):
        return f"version {version} has no drift reference: it was trained on other reviews"
    texts, copies = frame["text"].tolist(), frame["copies"].to_numpy()
    labels = frame["label"].to_numpy(dtype=np.int64)
    reference = reference_reviews(texts, labels, copies, split)
    try:
        uri = f"models:/{registered.name}/{version}"
        pipeline = load_pipeline(store, uri, trust_pickle=trust_pickle)
        store.client.log_text(run_id, Reference.build(pipeline, *reference).to_json(), ARTIFACT)
    except (TrackingError, CalibrationError) as error:
        return f"version {version} has no drift reference: {error}"
    return ""


def has_reference(store: Store, run_id: str) -> bool:
    """Return whether a run has a reference."""
    return ARTIFACT in [item.path for item in store.client.list_artifacts(run_id)]


def read_reference(store: Store, version: str) -> Reference:
    """Return the reference of a registered version, by its number.

    Raises `DriftReferenceError` where it has none, or one that cannot be used.
    """
    registered = store.client.get_model_version(store.settings.registered_model, version)
    run_id = registered.run_id
    if not run_id or not has_reference(store, run_id):
        raise DriftReferenceError(
            f"version {version}: has no drift reference; promote it with the reviews it was "
            f"trained on, or {RETRAIN}"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(store.client.download_artifacts(run_id, ARTIFACT, folder))
        text = file.read_text(encoding="utf-8")
    try:
        reference = Reference.from_json(text)
    except DriftReferenceError as error:
        raise DriftReferenceError(f"version {version}: {error}") from None
    fingerprint = registered.tags.get("cleaning_fingerprint", "none")
    if reference.cleaning_fingerprint != fingerprint:
        raise DriftReferenceError(
            f"version {version}: its drift reference was made with another cleaning "
            f"({reference.cleaning_fingerprint}, expected {fingerprint}); {RETRAIN}"
        )
    return reference


def common_terms(pipeline: Any) -> tuple[str, ...]:
    """Return the `MAX_TERMS` single words that most training reviews had, in alphabetical order.

    The words are chosen by the training part and not by the reference: words that happen to be
    common there would be chosen for it, and any new window would seem to have fewer of them.
    """
    vectorizer = pipeline["tfidf"]
    names, rarity = vectorizer.get_feature_names_out(), vectorizer.idf_
    single = [column for column in np.argsort(rarity, kind="stable") if " " not in names[column]]
    return tuple(sorted(str(names[column]) for column in single[:MAX_TERMS]))


def _psi_edges(score: Ints) -> Ints:
    """Return the first score of each bin but the first; fewer bins where scores are equal."""
    if not len(score):
        return np.array([], dtype=np.int64)
    edges = np.quantile(score, np.linspace(0, 1, PSI_BINS + 1)[1:-1], method="higher")
    return np.unique(edges[edges > score.min()]).astype(np.int64)
