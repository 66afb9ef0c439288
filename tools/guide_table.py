"""The guide's Table 1: its recorded parameters and scores, and the models they belong to."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
if str(PROJECT) not in sys.path:  # run from a script here, Python puts only tools/ on the path
    sys.path.insert(0, str(PROJECT))

from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.naive_bayes import MultinomialNB  # noqa: E402
from sklearn.svm import LinearSVC  # noqa: E402

from sentiment.model.algorithms import RANDOM_STATE, Candidate  # noqa: E402

GUIDE_DIGEST = "60349f2b438cbfea"  # `reviews.data_digest` of the guide's reviews


@dataclass(frozen=True)
class TableRow:
    """A row of the guide's Table 1: scores are macro-F1, 0–1, `size` is in bytes."""

    cv: float
    train: float
    test: float
    size: int


@dataclass(frozen=True)
class Recorded:
    """The parameters that the guide records of a model, and what it reports of it."""

    max_features: int
    min_df: int
    max_df: float
    strength: float  # C, or naive Bayes' alpha
    row: TableRow


# Source: the guide's Table 1, and the parameters that it records of the three models
GUIDE = {
    "LogisticRegression": Recorded(
        3500, 4, 0.8939611817674713, 0.5679623950117167,
        TableRow(0.784749911, 0.819096141, 0.793250205, 43_780),
    ),
    "NaiveBayes": Recorded(
        5000, 3, 0.8922913099465489, 0.09535328423429495,
        TableRow(0.780273836, 0.849292859, 0.776283133, 89_953),
    ),
    "LinearSVM": Recorded(
        10000, 3, 0.8578314284012837, 0.04661440313772793,
        TableRow(0.784451240, 0.825544477, 0.800386671, 60_176),
    ),
}  # fmt: skip


def guide_candidate(algorithm: str) -> Candidate:
    """The model of the guide's table, unfitted.

    Unlike the published code it has scikit-learn's list of English stop words, which holds *not*,
    *no* and *nor*, no sublinear scaling, and logistic regression with the default solver, L-BFGS.
    """
    recorded = GUIDE[algorithm]
    models: dict[str, Any] = {
        "LogisticRegression": LogisticRegression(C=recorded.strength, class_weight="balanced"),
        "NaiveBayes": MultinomialNB(alpha=recorded.strength),
        # draws on the seed only where there are fewer reviews than terms
        "LinearSVM": LinearSVC(
            C=recorded.strength, class_weight="balanced", random_state=RANDOM_STATE
        ),
    }
    vectorizer = TfidfVectorizer(
        max_features=recorded.max_features,
        min_df=recorded.min_df,
        max_df=recorded.max_df,
        ngram_range=(1, 2),
        stop_words="english",
    )
    return Candidate(vectorizer, models[algorithm])
