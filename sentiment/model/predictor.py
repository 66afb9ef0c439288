"""Predict raw texts with a registered version, and explain each prediction.

    version = load_version(store, "champion")
    version.predict(["Not good, broke after one game"])  # label, probability, contributions

The API, the page and batch scoring all go through `LoadedVersion.predict`, so they answer alike.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.utils.sparsefuncs_fast import inplace_csr_row_normalize_l2

from sentiment.data.labels import GUIDES, LabelRule
from sentiment.errors import CalibrationError, ServingError, TrackingError, UnknownVersionError
from sentiment.masking import line
from sentiment.model.calibration import (
    DECISION_RULE,
    OWN,
    Calibration,
    DecisionRule,
    read_calibration,
)
from sentiment.model.explanation import Contribution, Explainer, Terms
from sentiment.tracking.artifact import load_pipeline
from sentiment.tracking.ledger import STAGE, read_events
from sentiment.tracking.store import Store, scores_of
from text_cleaning import TextCleaner, cleaning_fingerprint, cleaning_packages

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

NO_KNOWN_WORDS = "no known words"
_log = logging.getLogger(__name__)
TRIED_TERMS = 200  # of the vocabulary: what a version answers before anybody asks it


@dataclass(slots=True)  # not frozen: that takes five times as long to make
class Prediction:
    """The answer for one review.

    `label` is 1 (positive) where `probability` (of positive, 0–1) is at least the version's
    threshold, and 0 (negative) where it is below. A review without a known word gets no label but
    a `reason`, and the prior as probability. `characters` are those of the text after
    `undo_scraping`, `words` those the vectorizer sees; `contributions`, the weightiest first, add
    up to `decision` less the intercept.
    """

    label: int | None
    probability: float
    decision: float
    characters: int
    words: int
    known_words: int
    contributions: tuple[Contribution, ...]
    reason: str | None


@dataclass(frozen=True)
class LoadedVersion:
    """A version that answers.

    `scores` are the run's metrics on the holdout, `train_f1` and `cv_f1_macro`; `since` is when it
    was put into production (UTC), None where the ledger says that another version is.
    """

    version: str
    algorithm: str
    pipeline: Any
    scores: dict[str, float]
    data_digest: str
    cleaning_fingerprint: str
    training_fingerprint: str
    run_id: str
    since: datetime | None
    rule: LabelRule = GUIDES
    decision: DecisionRule = OWN

    @property
    def label_rule(self) -> str:
        """Return what counts as negative and positive, as the version's tag has it."""
        return str(self.rule)

    @property
    def decision_rule(self) -> str:
        """Return how the threshold was set, as the version's tag has it."""
        return str(self.decision)

    @cached_property
    def calibration(self) -> Calibration:
        """The pipeline's classifier, sigmoid, threshold and prior."""
        return read_calibration(self.pipeline.steps[-1][1])

    @property
    def cleaner(self) -> TextCleaner:
        """The pipeline's first step."""
        cleaner: TextCleaner = self.pipeline.named_steps["clean"]
        return cleaner

    @property
    def threshold(self) -> float:
        """The probability of positive from which a review is labelled positive, 0–1."""
        return self.calibration.threshold

    @property
    def prior(self) -> float:
        """The share of positive reviews in the training part, 0–1."""
        return self.calibration.prior

    @property
    def intercept(self) -> float:
        """The decision value of a review before its words."""
        return self.calibration.intercept

    def predict(self, texts: Sequence[str], *, explain: bool = True) -> list[Prediction]:
        """Predict raw texts, in their order; without `explain` no contributions are worked out.

        What scrapers leave is undone first, as it is before training. Probabilities of
        reviews with a known word are those of `pipeline.predict_proba`, to the last bit. Threads
        may share a version. Raises TypeError as `text_cleaning.clean_texts` does.
        """
        if len(texts) == 0:
            return []
        read = self._explainer.read(texts)
        rows = _tfidf(self.pipeline.named_steps["tfidf"], [each.terms for each in read])
        ends = rows.indptr.tolist()
        decisions, probabilities = (given.tolist() for given in self.calibration.answers(rows))
        predictions, threshold = [], self.threshold
        for number, each in enumerate(read):
            row, known = slice(ends[number], ends[number + 1]), ends[number] < ends[number + 1]
            contributions: tuple[Contribution, ...] = ()
            if explain and known:
                columns, values = rows.indices[row], rows.data[row]
                contributions = self._explainer.contributions(each, columns, values)
            prediction = Prediction(
                label=int(probabilities[number] >= threshold) if known else None,
                probability=probabilities[number],
                decision=decisions[number],
                characters=len(each.body),
                words=len(each.terms.words),
                known_words=each.terms.known_words,
                contributions=contributions,
                reason=None if known else NO_KNOWN_WORDS,
            )
            predictions.append(prediction)
        return predictions

    @cached_property
    def _explainer(self) -> Explainer:
        vectorizer = self.pipeline.named_steps["tfidf"]
        return Explainer(vectorizer, self.calibration.weights, self.cleaner)


def find_version(store: Store, name: str) -> ModelVersion:
    """Return the version of this alias or number, as the registry has it now.

    Raises `UnknownVersionError` when there is none, `ServingError` when the registry is away.
    """
    model = store.settings.registered_model
    try:
        if name.isdecimal():
            return store.client.get_model_version(model, name)
        return store.client.get_model_version_by_alias(model, name)
    except Exception as error:  # MLflow's own, or what the database or the network raises
        code = getattr(error, "error_code", "")
        if code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no such name
            raise UnknownVersionError(
                f"no version '{name}' of {model}; see what there is with `python -m sentiment list"
                f"{store.settings.option}`"
            ) from None
        raise ServingError(f"the registry does not answer: {one_line(error)}") from None


def load_version(store: Store, name: str) -> LoadedVersion:
    """Load the version of this alias or number, check it, and let it answer once.

    The first request then finds everything imported. Raises `ServingError` when there is no such
    version, when it will not load (a pickle is never loaded), when it was trained with another
    cleaning than the code's, or when its probabilities are not calibrated.
    """
    found = find_version(store, name)
    version, fingerprint = str(found.version), found.tags.get("cleaning_fingerprint", "none")
    expected = cleaning_fingerprint(found.tags.get("cleaning", "guide"))
    if fingerprint != expected:
        raise ServingError(
            f"version {version}: trained with another cleaning ({fingerprint}, the code's is "
            f"{expected or 'not known'}); retrain it, or serve it with the code it was trained with"
        )
    packages = found.tags.get("cleaning_packages", cleaning_packages())
    if packages != cleaning_packages():  # they do the same, as far as the fingerprint can see
        here = cleaning_packages()
        _log.warning("version %s was trained with %s, here is %s", version, packages, here)
    try:
        pipeline = load_pipeline(store, f"models:/{found.name}/{version}")
        calibration = read_calibration(pipeline.steps[-1][1])
        metrics = scores_of(store.client.get_run(found.run_id)) if found.run_id else {}
        scores = {
            name: float(value)
            for name, value in sorted(metrics.items())
            if name.startswith("test_") or name in ("train_f1", "cv_f1_macro")
        }
        loaded = LoadedVersion(
            version=version,
            algorithm=found.tags.get("model", type(calibration.classifier).__name__),
            pipeline=pipeline,
            scores=scores,
            data_digest=found.tags.get("data_digest", ""),
            cleaning_fingerprint=fingerprint,
            training_fingerprint=found.tags.get("training_fingerprint", ""),
            run_id=found.run_id or "",
            since=_in_production_since(store, version),
            rule=LabelRule.of_tags(found.tags),
            decision=DecisionRule.of_tag(found.tags.get(DECISION_RULE)),
        )
        _try_out(loaded)
    except ServingError:
        raise
    except CalibrationError as error:
        raise ServingError(f"version {version}: {error}; retrain it") from None
    except TrackingError as error:
        raise ServingError(f"version {version}: will not load: {error}") from None
    except Exception as error:  # a damaged file fails in as many ways as there are libraries
        raise ServingError(f"version {version}: will not load: {one_line(error)}") from None
    return loaded


def one_line(error: Exception) -> str:
    """Return an error as one line without secrets, the same line for the same error."""
    text = re.sub(r" at 0x[0-9a-f]+", "", str(error))
    return line(f"{type(error).__name__}: {text}", 300)


def _tfidf(vectorizer: Any, texts: Sequence[Terms]) -> Any:
    """Return what `vectorizer.transform` does, to the last bit, in about a tenth of the time.

    Most of scikit-learn's own time goes into checking that the counts it has just made are a
    matrix. `_try_out` refuses a version whose vectorizer counts or weighs in another way.
    """
    columns: list[int] = []
    counts: list[int] = []
    ends = [0]
    for terms in texts:
        found = sorted([column for column, _, _ in terms.found])
        counted = Counter(found) if len(set(found)) < len(found) else dict.fromkeys(found, 1)
        columns += counted
        counts += counted.values()
        ends.append(len(columns))
    indices, values = np.array(columns, dtype=np.int32), np.array(counts, dtype=np.float64)
    if vectorizer.sublinear_tf:
        values = np.log(values) + 1.0
    values *= vectorizer.idf_[indices]
    shape = (len(texts), len(vectorizer.vocabulary_))
    rows = csr_matrix((values, indices, np.array(ends, dtype=np.int32)), shape=shape)
    inplace_csr_row_normalize_l2(rows)
    return rows


def _try_out(loaded: LoadedVersion) -> None:
    """Raise `ServingError` when the version does not answer with its pipeline's probabilities."""
    terms = list(loaded.pipeline.named_steps["tfidf"].vocabulary_)[:TRIED_TERMS]
    texts = [" ".join(terms), *terms[: TRIED_TERMS // 10]]
    expected = loaded.pipeline.predict_proba(texts)[:, 1].tolist()
    # the cleaning may turn a term into a word that is not known, which is answered with the prior
    if any(
        answer.known_words and answer.probability != probability
        for answer, probability in zip(loaded.predict(texts), expected, strict=True)
    ):
        raise ServingError(
            f"version {loaded.version}: its vectorizer weighs terms in a way that is not served "
            "(expected idf and the norm l2); retrain it with those"
        )


def _in_production_since(store: Store, version: str) -> datetime | None:
    """Return when the version was put into production, None when it is not there."""
    since = None
    for event in reversed(read_events(store)):
        if event.action != STAGE:  # a promotion or a rollback: its target is in production
            if event.target != version:
                break
            since = event.when
    return since
