"""Train on the workers of a Dask cluster: clean and count by part, score whole trials.

    cleaned = clean_by_part(cluster, loaded.frame["text"])
    data = prepare_reviews(loaded, cleaned)
    folds = ClusterFolds(cluster, data)
    tasks = [folds.begin(candidate) for candidate in candidates]

All comes out as in one process, to the last bit. A part is some thousands of texts. Its terms are
counted against a vocabulary of its own. The vocabularies are put together in the order in which one
process would have met their terms, and all that follows is scikit-learn's own. The counts are sent
to the cluster once. A worker makes fold matrices of them and keeps these, so that of a trial only
its parameters travel.
"""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import ClassifierMixin, clone
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from sentiment.cluster import Cluster, Task
from sentiment.metrics import Floats
from sentiment.model.algorithms import Candidate
from sentiment.training.folds import Attempt, FoldMatrices, Matrix, analysis_of
from sentiment.training.report import Matrices, PreparedReviews, folds_of, plain_vocabulary
from text_cleaning import TextCleaner, clean_texts

# A message of some MB, which a worker is at for a second or so: fewer are not worth their way, and
# more would leave workers without work at the end
TEXTS_OF_A_PART = 20_000

Counted = tuple[dict[str, int], Matrix]  # the columns of terms, and the counts


def clean_by_part(cluster: Cluster, texts: Iterable[str]) -> list[str]:
    """Return the texts after the guide's cleaning, as `clean_texts` does."""
    return [text for part in cluster.each(clean_texts, _parts(list(texts))) for text in part]


class ClusterFolds:
    """The folds of `folds_of`, with the workers of a cluster to count terms and to fit.

    Each worker fits `jobs` folds at once, by default one, since a worker is one core's.
    """

    def __init__(self, cluster: Cluster, data: PreparedReviews, jobs: int | None = None) -> None:
        self.cluster = cluster
        self._data = data
        self._here = folds_of(data, jobs or 1)
        self._counted: dict[str, Counted] = {}  # by analysis
        self._sent: dict[str, Task] = {}
        self._ahead: dict[bytes, Task] = {}

    def count(self, vectorizer: TfidfVectorizer, cleaner: TextCleaner | None = None) -> None:
        """Count the terms as `FoldMatrices.count` does, and send the counts to the cluster."""
        self._shared(vectorizer, cleaner)

    def begin(self, candidate: Candidate) -> Task:
        """Begin a trial; the result of the task is its `Attempt`."""
        try:
            return self._begin(FoldMatrices.attempt, *_parts_of(candidate))
        except ValueError as error:  # no terms are left: in one process a trial finds that
            return self.cluster.begin(_failed, f"ValueError: {error}")

    def look_ahead(self, candidate: Candidate) -> None:
        """Begin what `score` and `decisions` of a candidate will be asked for."""
        for ask in (FoldMatrices.score, FoldMatrices.decisions):
            parts = _parts_of(candidate)
            self._ahead[pickle.dumps((ask, parts))] = self._begin(ask, *parts)

    def score(
        self,
        vectorizer: TfidfVectorizer,
        model: ClassifierMixin,
        cleaner: TextCleaner | None = None,
    ) -> Floats:
        """Return what `FoldMatrices.score` does."""
        return self._ask(FoldMatrices.score, vectorizer, model, cleaner)

    def decisions(
        self,
        vectorizer: TfidfVectorizer,
        model: ClassifierMixin,
        cleaner: TextCleaner | None = None,
    ) -> Floats:
        """Return what `FoldMatrices.decisions` does."""
        return self._ask(FoldMatrices.decisions, vectorizer, model, cleaner)

    def vectorize(self, candidate: Candidate, data: PreparedReviews) -> Matrices:
        """Return what `report.vectorize` does."""
        vectorizer, cleaner = candidate.vectorizer, candidate.cleaner
        analysis, params, _ = analysis_of(vectorizer, cleaner)
        train = _fit_transform(vectorizer, self._count(analysis, params, cleaner))
        plain_vocabulary(vectorizer)
        known = cleaner.cleaning == "guide"
        texts = data.cleaned_test if known else data.split.test_texts
        shared = self.cluster.send((vectorizer, None if known else cleaner))
        found = list(self.cluster.each(_transform, _parts(texts), shared))
        return Matrices(train, sparse.vstack(found, format="csr"))

    def _ask(self, ask: Any, *estimators: Any) -> Floats:
        parts = tuple(one if one is None else clone(one) for one in estimators)  # unfitted
        task = self._ahead.pop(pickle.dumps((ask, parts)), None)
        found: Floats = self.cluster.result(task or self._begin(ask, *parts))
        return found

    def _begin(self, ask: Any, vectorizer: TfidfVectorizer, *others: Any) -> Task:
        shared = self._shared(vectorizer, others[-1])
        return self.cluster.begin(ask, vectorizer, *others, shared=shared)

    def _shared(self, vectorizer: TfidfVectorizer, cleaner: TextCleaner | None) -> Task:
        """Return what was sent to the cluster of this way to count."""
        analysis, params, _ = analysis_of(vectorizer, cleaner)
        if analysis not in self._sent:
            counter = CountVectorizer(**params)
            matrix = _fit_transform(counter, self._count(analysis, params, cleaner))
            matrix.sort_indices()
            self._sent[analysis] = self.cluster.send(self._here.alone_with(analysis, matrix))
        return self._sent[analysis]

    def _count(self, analysis: str, params: dict[str, Any], cleaner: TextCleaner | None) -> Counted:
        if analysis not in self._counted:
            known = cleaner is not None and cleaner.cleaning == "guide"
            texts = self._data.cleaned_train if known else self._data.split.train_texts
            shared = self.cluster.send((params, None if known else cleaner))
            counted = self.cluster.each(_count_part, _parts(texts), shared)
            self._counted[analysis] = _put_together(counted)
        return self._counted[analysis]


def _failed(reason: str) -> Attempt:
    return Attempt(None, reason, [], 0.0)


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(texts), TEXTS_OF_A_PART):
        yield texts[first : first + TEXTS_OF_A_PART]


def _parts_of(candidate: Candidate) -> tuple[Any, ...]:
    return tuple(clone(one) for one in (candidate.vectorizer, candidate.model, candidate.cleaner))


def _count_part(
    how: tuple[dict[str, Any], TextCleaner | None], texts: Sequence[str]
) -> tuple[list[str], Matrix]:
    """Return the terms of some texts in the order in which they come, and their counts."""
    params, cleaner = how
    vocabulary: defaultdict[str, int] = defaultdict()
    vocabulary.default_factory = vocabulary.__len__
    counter = CountVectorizer(**params)
    # As a fixed one it may also stay empty: a part need not have terms, only the whole
    counter.vocabulary_ = vocabulary
    cleaned = texts if cleaner is None else cleaner.transform(texts)
    _, matrix = counter._count_vocab(cleaned, fixed_vocab=True)
    return list(vocabulary), matrix


def _put_together(parts: Iterable[tuple[list[str], Matrix]]) -> Counted:
    """Return what scikit-learn counts of the texts of all parts, before it sorts the terms."""
    vocabulary: dict[str, int] = {}
    counts = []
    for terms, matrix in parts:
        columns = [vocabulary.setdefault(term, len(vocabulary)) for term in terms]
        indices = np.array(columns, dtype=matrix.indices.dtype)[matrix.indices]
        counts.append((matrix.data, indices, matrix.indptr))
    if not vocabulary:  # what scikit-learn says
        raise ValueError("empty vocabulary; perhaps the documents only contain stop words")
    whole = sparse.vstack(
        [sparse.csr_matrix(part, shape=(len(part[2]) - 1, len(vocabulary))) for part in counts]
    )
    whole.sort_indices()
    return vocabulary, whole


def _fit_transform(vectorizer: CountVectorizer, counted: Counted) -> Matrix:
    """Fit the vectorizer on texts whose terms are counted; return their matrix.

    Only the counting is left out. What follows is scikit-learn's own and gives what it gave.
    """
    vocabulary, matrix = counted
    vectorizer._count_vocab = lambda *_: (dict(vocabulary), matrix.copy())  # both are written to
    try:
        fitted: Matrix = vectorizer.fit_transform(())
        return fitted
    finally:
        del vectorizer._count_vocab


def _transform(how: tuple[TfidfVectorizer, TextCleaner | None], texts: Sequence[str]) -> Matrix:
    vectorizer, cleaner = how
    made: Matrix = vectorizer.transform(texts if cleaner is None else cleaner.transform(texts))
    return made
