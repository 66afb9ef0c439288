"""Read off each review what drift monitoring looks at, and count it over many reviews.

    window = row_features(texts, pipeline)     # of raw texts
    window = logged_features(frame, pipeline)  # of rows of the prediction log
    tally = ReviewRows.of(window, true, supports, score_edges, terms).tally()

Reviews are read and counted as when they are served (`explanation.Explainer.read`): characters
without the scraper's marker, words after cleaning, as the model's vectorizer sees them. A word is
known when it is a term of the model or part of one.

Everything in a `Tally` adds up over reviews. So a resample of the reference is a vector of weights,
and thousands of resamples are tallied by a few matrix products (`limits`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from sentiment.data.reviews import text_hashes
from sentiment.metrics import Bools, Floats, Ints
from sentiment.model.calibration import read_calibration
from sentiment.model.explanation import Explainer, ReadText
from text_cleaning import clean_texts, remove_emoji

Matrix: TypeAlias = "sparse.csr_matrix[Any]"

NO_LABEL = -1  # the model did not answer, or the true label is not known
COLUMNS = ("characters", "words", "known_words", "probability", "label")

# Cells of confusion matrices: first the true label, then the model's
EXPECTED = ("expected_00", "expected_01", "expected_10", "expected_11")
TRUE = ("true_00", "true_01", "true_10", "true_11")
FLAGS = ("no_known_words", "emoji", "non_ascii")
TOTALS = ("reviews", "words", "unknown_words", *FLAGS, "answered", "positive", *EXPECTED, *TRUE)
# A share is one total divided by another
SHARES = {
    "unknown_words": ("unknown_words", "words"),
    "no_known_words": ("no_known_words", "reviews"),
    "emoji": ("emoji", "reviews"),
    "non_ascii": ("non_ascii", "reviews"),
    "positive_share": ("positive", "answered"),
}
COUNTED, BINS = ("characters", "words", "score"), "bins"
SCORE_STEPS = 1_000  # probabilities are counted in steps of a thousandth
OTHER_WORD, UNKNOWN_WORD = "(another known word)", "(an unknown word)"


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """The features that need the text, one row per review.

    `terms` has a column for each word of `vocabulary` (the model's single words, alphabetical) and
    a one where the review has it. `new_words` counts the reviews with each unknown word, `hashes`
    are those of the different cleaned texts.
    """

    emoji: Bools
    non_ascii: Bools
    terms: Matrix
    vocabulary: tuple[str, ...]
    new_words: Counter[str] = field(default_factory=Counter)
    hashes: npt.NDArray[np.uint64] = field(default_factory=lambda: text_hashes([]))


@dataclass(frozen=True, eq=False)
class WindowFeatures:
    """The features of n reviews in one order; all arrays have shape (n,).

    `characters` and `words` are lengths, `known_words` is how many of the words are known,
    `probability` is that of positive, 0–1. `label` is 0, 1, or `NO_LABEL` for a review without a
    known word, whose probability means nothing. `text` is None when the texts were not kept.
    """

    characters: Ints
    words: Ints
    known_words: Ints
    probability: Floats
    label: Ints
    text: TextFeatures | None

    def __len__(self) -> int:
        return len(self.characters)

    @property
    def answered(self) -> Bools:
        """Return which reviews have a known word, and so a label of the model."""
        return np.asarray(self.label != NO_LABEL)

    def take(self, rows: Ints) -> WindowFeatures:
        """Return the features of some rows; `new_words` and `hashes` stay those of all rows."""
        text = self.text
        if text is not None:
            text = replace(
                text, emoji=text.emoji[rows], non_ascii=text.non_ascii[rows], terms=text.terms[rows]
            )
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in COLUMNS}
        return replace(self, text=text, **columns)


def row_features(texts: Sequence[str], pipeline: Any) -> WindowFeatures:
    """Return the features of raw texts.

    `pipeline` is fitted and has the steps `clean`, `tfidf` and `model`, which is what `calibrate`
    makes. Raises `TypeError` for an item that is not a str.
    """
    read = _explainer(pipeline).read(texts)
    matrix = pipeline["tfidf"].transform([each.cleaned for each in read])
    _, probability = read_calibration(pipeline["model"]).answers(matrix)
    label = np.asarray(pipeline["model"].predict(matrix), dtype=np.int64)
    label[np.diff(matrix.indptr) == 0] = NO_LABEL
    counts = [(len(each.body), len(each.terms.words), each.terms.known_words) for each in read]
    characters, words, known = np.array(counts, dtype=np.int64).reshape(-1, 3).T
    return WindowFeatures(
        characters, words, known, probability, label, _text_features(read, pipeline)
    )


def logged_features(frame: pd.DataFrame, pipeline: Any) -> WindowFeatures:
    """Return the features of rows of the prediction log.

    `frame` has `COLUMNS` and perhaps `text`. Lengths, probabilities and labels are taken as they
    were logged. If any row lacks its text, the window has no `text` features.
    """
    text = None
    if len(frame) and "text" in frame and frame["text"].notna().all():
        read = _explainer(pipeline).read(frame["text"].tolist())
        text = _text_features(read, pipeline)
    return WindowFeatures(
        characters=frame["characters"].to_numpy(dtype=np.int64),
        words=frame["words"].to_numpy(dtype=np.int64),
        known_words=frame["known_words"].to_numpy(dtype=np.int64),
        probability=frame["probability"].to_numpy(dtype=np.float64),
        label=frame["label"].fillna(NO_LABEL).to_numpy(dtype=np.int64),
        text=text,
    )


def _explainer(pipeline: Any) -> Explainer:
    return Explainer(pipeline["tfidf"], cleaner=pipeline["clean"])


def _text_features(read: Sequence[ReadText], pipeline: Any) -> TextFeatures:
    known_terms = pipeline["tfidf"].vocabulary_
    vocabulary = tuple(sorted(term for term in known_terms if " " not in term))
    column_of = {term: column for column, term in enumerate(vocabulary)}
    columns: list[int] = []
    ends = [0]
    new_words: Counter[str] = Counter()
    bodies = [each.body for each in read]
    for each in read:
        words = each.terms.words
        columns.extend({column_of[word] for word in words if word in column_of})
        ends.append(len(columns))
        if each.terms.known_words < len(words):
            covered = {at for _, first, last in each.terms.found for at in range(first, last + 1)}
            new_words.update({word for at, word in enumerate(words) if at not in covered})
    return TextFeatures(
        emoji=np.array([remove_emoji(body) != body for body in bodies], dtype=bool),
        non_ascii=np.array([not body.isascii() for body in bodies], dtype=bool),
        terms=sparse.csr_matrix(
            (np.ones(len(columns), np.int8), np.array(columns, np.int32), np.array(ends)),
            shape=(len(read), len(vocabulary)),
        ),
        vocabulary=vocabulary,
        new_words=new_words,
        hashes=text_hashes(clean_texts(bodies)),  # as those of the training texts
    )


@dataclass(frozen=True, eq=False)
class Tally:
    """Totals and counts of a sample of reviews, or of many samples along leading axes.

    `totals` has shape (..., len(TOTALS)). `counts` has for each of `COUNTED` how many reviews have
    each value of its support, shape (..., values), and for `BINS` how many answers are in each bin
    of the PSI; those of the score are of answered reviews. `terms` is how many reviews have each
    term; None without texts.
    """

    totals: Floats
    counts: Mapping[str, Floats]
    terms: Floats | None

    def total(self, name: str) -> Floats:
        """Return one of `TOTALS`, shape (...)."""
        return np.asarray(self.totals[..., TOTALS.index(name)])

    def share(self, name: str) -> Floats:
        """Return one of `SHARES`, 0–1; 0 where the divisor is 0."""
        part, whole = (self.total(total) for total in SHARES[name])
        return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)

    def confusion(self, cells: tuple[str, ...]) -> Floats:
        """Return `EXPECTED` or `TRUE` as matrices of shape (..., 2, 2), row true label."""
        first = TOTALS.index(cells[0])
        counts = self.totals[..., first : first + len(cells)]
        return counts.reshape(*counts.shape[:-1], 2, 2)


@dataclass(frozen=True, eq=False)
class ReviewRows:
    """Reviews as rows of numbers, n rows each: a weighted sum of the rows is a `Tally`."""

    totals: Floats
    counts: Mapping[str, Matrix]
    terms: Matrix | None

    @classmethod
    def of(
        cls,
        window: WindowFeatures,
        true: Ints,
        supports: Mapping[str, Ints],
        score_edges: Ints,
        terms: tuple[str, ...],
    ) -> ReviewRows:
        """Return the rows of a window with its true labels, or `NO_LABEL`, of shape (n,).

        `supports` has for each of `COUNTED` its possible values, ascending; `score_edges` are the
        first values of the bins of the PSI but the first bin's; `terms` are the terms to count.
        """
        values = counted_values(window)
        places = {name: np.searchsorted(supports[name], values[name]) for name in COUNTED}
        places[BINS] = bin_of(values["score"], score_edges)
        widths = {**{name: len(supports[name]) for name in COUNTED}, BINS: len(score_edges) + 1}
        every, answered = np.arange(len(window)), np.flatnonzero(window.answered)
        counts = {}
        for name, columns in places.items():
            rows = answered if name in ("score", BINS) else every
            counts[name] = sparse.csr_matrix(
                (np.ones(len(rows)), (rows, columns)), shape=(len(window), widths[name])
            )
        return cls(totals_by_row(window, true), counts, term_columns(window, terms))

    def weighted(self, weights: Floats) -> Tally:
        """Return the tally of each row of `weights`, which has shape (..., n)."""
        across = np.ascontiguousarray(weights.T)
        return Tally(
            weights @ self.totals,
            {name: (rows.T @ across).T for name, rows in self.counts.items()},
            None if self.terms is None else (self.terms.T @ across).T,
        )

    def tally(self) -> Tally:
        """Return the tally of these reviews, each counted once."""
        return self.weighted(np.ones(len(self.totals)))


def totals_by_row(window: WindowFeatures, true: Ints) -> Floats:
    """Return what each review adds to `TOTALS`, shape (n, len(TOTALS))."""
    text, labelled = window.text, window.answered & (true >= 0)
    flags = np.zeros((2, len(window))) if text is None else (text.emoji, text.non_ascii)
    chances = (1 - window.probability, window.probability)  # of the true labels 0 and 1
    cells = [(positive, label) for positive in (0, 1) for label in (0, 1)]
    columns = [
        np.ones(len(window)),
        window.words,
        window.words - window.known_words,
        window.known_words == 0,
        *flags,
        window.answered,
        window.label == 1,
        *(chances[positive] * (window.label == label) for positive, label in cells),
        *(labelled & (true == positive) & (window.label == label) for positive, label in cells),
    ]
    return np.array(columns, dtype=np.float64).T


def counted_values(window: WindowFeatures) -> dict[str, Ints]:
    """Return the whole numbers that `COUNTED` counts; the score's are of answered reviews."""
    score = np.rint(window.probability * SCORE_STEPS).astype(np.int64)
    return {"characters": window.characters, "words": window.words, "score": score[window.answered]}


def bin_of(score: Ints, edges: Ints) -> Ints:
    """Return the bin of the PSI that each score lies in, from 0."""
    return np.searchsorted(edges, score, side="right")


def term_columns(window: WindowFeatures, terms: tuple[str, ...]) -> Matrix | None:
    """Return which reviews have which terms, as ones and zeros of shape (n, len(terms) + 2).

    The last two columns stand for any other known word and for any unknown word. None without
    texts.
    """
    if window.text is None:
        return None
    at = {term: column for column, term in enumerate(window.text.vocabulary)}
    picked = window.text.terms[:, [at[term] for term in terms]].astype(np.float64)
    other = np.diff(window.text.terms.indptr) > np.diff(picked.indptr)
    last = sparse.csr_matrix(np.column_stack([other, window.words > window.known_words]))
    return sparse.csr_matrix(sparse.hstack([picked, last.astype(np.float64)]))
