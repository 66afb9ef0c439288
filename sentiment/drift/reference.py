"""Drift profile: what a model's reviews were like, kept with the model, without their text.

    profile = ReferenceProfile.build(pipeline, texts, labels)
    log_text(profile.to_json(), PROFILE)
    profile = ReferenceProfile.from_json(text)

The reviews should be like those to come, as often as they come, and fresh to the model: those of
the holdout. Of its own training part a model knows the words and the answers better than those of
any fresh review, so that a profile of that part would call every window drifted.

No review can be read from it. It has distributions of single numbers (lengths, probabilities),
totals, and terms. Of these it names only single words of the model's own vocabulary, which at least
`min_df` training reviews have (3 or more in the published search); all others count as "an unknown
word". For the domain classifier it keeps how many reviews of a pool have each term, five reviews
taken together at random (`drift_domain`), in no order and beside none of the other numbers. A
salted hash of the words would not be safer: whoever has the profile has the salt, and can hash a
dictionary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from sentiment.drift.domain import pool_reviews
from sentiment.drift.features import (
    Floats,
    Ints,
    Matrix,
    WindowFeatures,
    row_features,
)
from sentiment.drift.limits import LEVELS, Limits, Rows, chance_limits
from sentiment.drift.tally import (
    COUNTED,
    PSI_BINS,
    TOTALS,
    TRUE,
    Tally,
    bin_of,
    count,
    counted_values,
    reviews_with,
)
from sentiment.errors import ProfileError
from text_cleaning import cleaning_fingerprint

PROFILE = "reference_profile.json"  # the artifact's name
SCHEMA = 1
MAX_TERMS = 500  # the commonest single words; with more the domain classifier gets slow, not better
# Of a larger holdout a random part: limits then are finer than anybody asks, and cost grows with it
MAX_REVIEWS = 5_000
SEED = 42
RETRAIN = "train the model anew to get one"


@dataclass(frozen=True, eq=False)
class ReferenceProfile:
    """The reference of a model.

    `counts` has for each of `COUNTED` the values that occur, ascending, and how many reviews have
    each; the score's are thousandths, of answered reviews. `totals` are those of `TOTALS`.
    `term_reviews` is how many reviews have each of `terms`, then another known word, then an
    unknown one; `pools` has the same columns. `score_edges` are the first values of the bins of the
    PSI, the first bin's left out.
    """

    reviews: int
    cleaning_fingerprint: str
    totals: Floats
    counts: Mapping[str, tuple[Ints, Ints]]
    score_edges: Ints
    terms: tuple[str, ...]
    term_reviews: Floats
    pools: Matrix
    limits: Limits

    @classmethod
    def build(
        cls, pipeline: Any, texts: Sequence[str], labels: Ints, *, seed: int = SEED
    ) -> ReferenceProfile:
        """Make the profile from raw texts and their labels, 0 or 1.

        The same input gives the same profile. From few reviews the profile has not all limits.
        Raises `ProfileError` without a review.
        """
        if not len(texts):
            raise ProfileError("no reviews to make a reference profile of; expected the holdout's")
        chosen = np.random.default_rng(seed).permutation(len(texts))[:MAX_REVIEWS]
        features = row_features([texts[row] for row in chosen], pipeline)
        return cls.of_features(
            features, np.asarray(labels)[chosen], common_terms(pipeline), seed=seed
        )

    @classmethod
    def of_features(
        cls, features: WindowFeatures, true: Ints, terms: tuple[str, ...], *, seed: int = SEED
    ) -> ReferenceProfile:
        """The same from features with texts, true labels, and the terms to name."""
        generator = np.random.default_rng(seed)
        values = counted_values(features)
        edges = _psi_edges(values["score"])
        rows = Rows.of(features, true, edges, terms)
        pools = pool_reviews(rows.terms, generator)
        return cls(
            reviews=len(features),
            cleaning_fingerprint=cleaning_fingerprint(),
            totals=rows.totals.sum(axis=0),
            counts={name: np.unique(found, return_counts=True) for name, found in values.items()},
            score_edges=edges,
            terms=terms,
            term_reviews=reviews_with(rows.terms),
            pools=pools,
            limits=chance_limits(rows, pools, generator),
        )

    def confusion(self, cells: tuple[str, ...] = TRUE) -> Floats:
        """Counts of shape (2, 2) on the answered reviews: row true label, column the model's.

        With `EXPECTED` the counts that the probabilities let expect.
        """
        first = TOTALS.index(cells[0])
        return self.totals[first : first + len(cells)].reshape(2, 2)

    def tally(self, supports: Mapping[str, Ints]) -> Tally:
        """The reference as a tally on wider supports, to be compared with a window's."""
        counts = {}
        for name, support in supports.items():
            values, reviews = self.counts[name]
            counts[name] = np.zeros(len(support))
            counts[name][np.searchsorted(support, values)] = reviews
        score, reviews = self.counts["score"]
        bins = count(bin_of(score, self.score_edges), len(self.score_edges) + 1, reviews)
        return Tally(self.totals, counts, bins, self.term_reviews)

    def to_json(self) -> str:
        """The profile as one line of JSON."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "reviews": self.reviews,
                "cleaning_fingerprint": self.cleaning_fingerprint,
                "totals": dict(zip(TOTALS, self.totals.tolist(), strict=True)),
                "counts": {
                    name: {"values": values.tolist(), "reviews": reviews.tolist()}
                    for name, (values, reviews) in self.counts.items()
                },
                "score_edges": self.score_edges.tolist(),
                "terms": list(self.terms),
                "term_reviews": self.term_reviews.astype(int).tolist(),
                "pools": {
                    "ends": self.pools.indptr.tolist(),
                    "terms": self.pools.indices.tolist(),
                    "reviews": self.pools.data.astype(int).tolist(),
                },
                "limits": {"sizes": self.limits.sizes, "signals": self.limits.signals},
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> ReferenceProfile:
        """Read what `to_json` wrote. Raises `ProfileError`."""
        try:
            found = json.loads(text)
        except ValueError as error:
            raise ProfileError(f"reference profile: is not JSON ({error}); {RETRAIN}") from None
        schema = found.get("schema") if isinstance(found, dict) else None
        if schema != SCHEMA:
            raise ProfileError(
                f"reference profile: is of schema {schema}, expected {SCHEMA}; {RETRAIN}"
            )
        try:
            return cls._of_fields(found)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            what = " ".join(str(error).split())[:100]
            raise ProfileError(
                f"reference profile: is damaged ({type(error).__name__}: {what}); {RETRAIN}"
            ) from None

    @classmethod
    def _of_fields(cls, found: Mapping[str, Any]) -> ReferenceProfile:
        pools, limits = found["pools"], found["limits"]
        terms, width = tuple(found["terms"]), len(found["terms"]) + 2
        profile = cls(
            reviews=int(found["reviews"]),
            cleaning_fingerprint=str(found["cleaning_fingerprint"]),
            totals=np.array([float(found["totals"][name]) for name in TOTALS]),
            counts={
                name: (
                    np.array(found["counts"][name]["values"], dtype=np.int64),
                    np.array(found["counts"][name]["reviews"], dtype=np.int64),
                )
                for name in COUNTED
            },
            score_edges=np.array(found["score_edges"], dtype=np.int64),
            terms=terms,
            term_reviews=np.array(found["term_reviews"], dtype=np.float64),
            pools=sparse.csr_matrix(
                (np.array(pools["reviews"], dtype=np.float64), pools["terms"], pools["ends"]),
                shape=(len(pools["ends"]) - 1, width),
            ),
            limits=Limits(
                tuple(int(size) for size in limits["sizes"]),
                {
                    name: tuple(tuple(float(limit) for limit in row) for row in table)
                    for name, table in limits["signals"].items()
                },
            ),
        )
        profile._check_shapes(width)
        return profile

    def _check_shapes(self, width: int) -> None:
        """Raise `ValueError` where parts that belong together are of different lengths."""
        self.pools.check_format()
        lengths = {"term_reviews": (len(self.term_reviews), width)}
        for name, (values, reviews) in self.counts.items():
            lengths[name] = (len(reviews), len(values))
        for name, table in self.limits.signals.items():
            lengths[f"limits of {name}"] = (len(table), len(self.limits.sizes))
            for row in table:
                lengths[f"levels of {name}"] = (len(row), len(LEVELS))
        for what, (length, expected) in lengths.items():
            if length != expected:
                raise ValueError(f"{what}: {length} values, expected {expected}")


def common_terms(pipeline: Any) -> tuple[str, ...]:
    """The `MAX_TERMS` single words that most training reviews had, in alphabetical order.

    Of the training part and not of the reference: there, those that happen to be common were
    chosen for it, and any fresh window would seem to have fewer of them.
    """
    vectorizer = pipeline["tfidf"]
    names, rarity = vectorizer.get_feature_names_out(), vectorizer.idf_
    single = [column for column in np.argsort(rarity, kind="stable") if " " not in names[column]]
    return tuple(sorted(str(names[column]) for column in single[:MAX_TERMS]))


def _psi_edges(score: Ints) -> Ints:
    """The first score of each bin but the first; fewer where reviews have equal scores."""
    if not len(score):
        return np.array([], dtype=np.int64)
    edges = np.quantile(score, np.linspace(0, 1, PSI_BINS + 1)[1:-1], method="higher")
    return np.unique(edges[edges > score.min()]).astype(np.int64)
