"""Drift features: what drift monitoring looks at in each review, from its text or from the log.

    window = row_features(texts, pipeline)     # everything
    window = logged_features(frame, pipeline)  # rows of the prediction log, with or without text

Words are counted as they are when a review is served (`explanation.Terms`): after cleaning, as the
model's vectorizer sees them, and known when they are a term of the model or part of one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from sentiment.data.reviews import remove_marker
from sentiment.model.calibration import read_calibration
from sentiment.model.explanation import Explainer, Terms
from text_cleaning import remove_emoji

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]
Matrix: TypeAlias = "sparse.csr_matrix[Any]"

NO_LABEL = -1  # where the model did not answer, or nobody has said what is true


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """What only the text itself can tell, a row a review.

    `terms` has a column for each word of `vocabulary` (the model's single words, alphabetical) and
    a one where the review has it. `new_words` counts the reviews that have a word that is not
    known.
    """

    emoji: Bools
    non_ascii: Bools
    terms: Matrix
    vocabulary: tuple[str, ...]
    new_words: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, eq=False)
class WindowFeatures:
    """The features of n reviews, in one order; all arrays have shape (n,).

    `characters` and `words` are lengths, `known_words` how many of the words are known;
    `probability` is that of positive, 0–1; `label` is 0, 1, or `NO_LABEL` for a review without a
    known word, whose probability says nothing. `text` is None when the texts were not kept.
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
        """Which reviews have a known word, and so a label of the model."""
        return np.asarray(self.label != NO_LABEL)

    def take(self, rows: Ints) -> WindowFeatures:
        """The same of some rows. `new_words` stay those of all: they cannot be told apart again."""
        text = self.text
        if text is not None:
            text = replace(
                text,
                emoji=text.emoji[rows],
                non_ascii=text.non_ascii[rows],
                terms=text.terms[rows],
            )
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in COLUMNS}
        return replace(self, text=text, **columns)


COLUMNS = ("characters", "words", "known_words", "probability", "label")


def row_features(texts: Sequence[str], pipeline: Any) -> WindowFeatures:
    """The features of raw texts, by a fitted pipeline of the steps `clean`, `tfidf` and `model`.

    `model` is what `calibrate` makes. Raises `TypeError` for an item that is not a str.
    """
    cleaned = pipeline["clean"].transform(texts)
    matrix = pipeline["tfidf"].transform(cleaned)
    _, probability = read_calibration(pipeline["model"]).answers(matrix)
    label = np.asarray(pipeline["model"].predict(matrix), dtype=np.int64)
    label[np.diff(matrix.indptr) == 0] = NO_LABEL
    words, known, text = _word_features(texts, cleaned, pipeline)
    characters = np.array([len(text) for text in texts], dtype=np.int64)
    return WindowFeatures(characters, words, known, probability, label, text)


def logged_features(frame: pd.DataFrame, pipeline: Any) -> WindowFeatures:
    """The features of rows of the prediction log: `COLUMNS`, and `text`, which may be missing.

    Lengths, probabilities and labels are the logged ones. A window in which any row lacks its text
    has no `text` features: some signals can then not be computed.
    """
    text = None
    if len(frame) and "text" in frame and frame["text"].notna().all():
        # as they were before the model read them
        raw = [remove_marker(logged) for logged in frame["text"]]
        *_, text = _word_features(raw, pipeline["clean"].transform(raw), pipeline)
    return WindowFeatures(
        characters=frame["characters"].to_numpy(dtype=np.int64),
        words=frame["words"].to_numpy(dtype=np.int64),
        known_words=frame["known_words"].to_numpy(dtype=np.int64),
        probability=frame["probability"].to_numpy(dtype=np.float64),
        label=frame["label"].fillna(NO_LABEL).to_numpy(dtype=np.int64),
        text=text,
    )


def _word_features(
    texts: Sequence[str], cleaned: Sequence[str], pipeline: Any
) -> tuple[Ints, Ints, TextFeatures]:
    """Words and known words of each review, and what only the text can tell."""
    explainer = Explainer(pipeline["tfidf"])
    known_terms = pipeline["tfidf"].vocabulary_
    vocabulary = tuple(sorted(term for term in known_terms if " " not in term))
    column_of = {term: column for column, term in enumerate(vocabulary)}
    words, known = np.zeros(len(cleaned), np.int64), np.zeros(len(cleaned), np.int64)
    columns: list[int] = []
    ends = [0]
    new_words: Counter[str] = Counter()
    for row, text in enumerate(cleaned):
        terms = explainer.terms(text)
        words[row], known[row] = len(terms.words), terms.known_words
        columns.extend({column_of[word] for word in terms.words if word in column_of})
        ends.append(len(columns))
        if known[row] < words[row]:
            new_words.update(_unknown_words(terms))
    return (
        words,
        known,
        TextFeatures(
            emoji=np.array([remove_emoji(text) != text for text in texts], dtype=bool),
            non_ascii=np.array([not text.isascii() for text in texts], dtype=bool),
            terms=sparse.csr_matrix(
                (np.ones(len(columns), np.int8), np.array(columns, np.int32), np.array(ends)),
                shape=(len(cleaned), len(vocabulary)),
            ),
            vocabulary=vocabulary,
            new_words=new_words,
        ),
    )


def _unknown_words(terms: Terms) -> set[str]:
    """The words of a review that are neither a known term nor part of one."""
    known = {place for _, first, last in terms.found for place in range(first, last + 1)}
    return {word for place, word in enumerate(terms.words) if place not in known}
