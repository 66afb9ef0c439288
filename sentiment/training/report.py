"""Fit a candidate, score it once on the holdout, and write all about it on its MLflow run.

The experiment does so for each study's best trial, the flow for each retraining. A later version is
compared with what is written here: metrics with intervals, tables, figures, the data's digest,
hashes of the training texts, the model and its card.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline

from sentiment import metrics as evaluation
from sentiment.data import reviews
from sentiment.metrics import Floats, Interval, Labels
from sentiment.model import calibration
from sentiment.model.algorithms import Candidate, logged_parameters
from sentiment.tracking.artifact import log_pipeline
from sentiment.tracking.store import TAG, Store, log_values
from sentiment.training import figures
from sentiment.training.card import CARD, model_card
from sentiment.training.folds import FoldMatrices
from text_cleaning import TextCleaner, clean_texts, cleaning_fingerprint

if TYPE_CHECKING:
    from optuna import Study

MODEL_URI = TAG + "model_uri"  # set when the model is complete, so that a resumed pass skips it


@dataclass(frozen=True)
class PreparedReviews:
    """Checked reviews, split and cleaned once, for every model of a pass."""

    loaded: reviews.LoadedReviews
    split: reviews.Split
    cleaned_train: list[str]
    cleaned_test: list[str]
    audit: pd.DataFrame
    digest: str


@dataclass(frozen=True)
class FittedModel:
    """A candidate refitted on the whole training part, and what it did on the holdout."""

    algorithm: str
    candidate: Candidate
    pipeline: Pipeline
    predicted: Labels
    decision: Floats
    probability: Floats
    train_f1: float
    test_f1: Interval
    test_f1_unseen: Interval
    test_accuracy: Interval
    test_recall_negative: Interval
    test_brier: Interval


def prepare_reviews(loaded: reviews.LoadedReviews) -> PreparedReviews:
    """Clean and split checked reviews, and audit them. Raises `ReviewDataError`."""
    split = reviews.split_reviews(loaded.frame)  # first: a class that is too small fails at once
    return combine(loaded, clean_texts(loaded.frame["text"]), split)


def combine(
    loaded: reviews.LoadedReviews, cleaned: Sequence[str], split: reviews.Split
) -> PreparedReviews:
    """Checked reviews, their cleaned texts row by row, and the split of these rows."""
    cleaned_train = [cleaned[row] for row in split.train_rows]
    cleaned_test = [cleaned[row] for row in split.test_rows]
    return PreparedReviews(
        loaded=loaded,
        split=split,
        cleaned_train=cleaned_train,
        cleaned_test=cleaned_test,
        audit=reviews.audit_reviews(loaded, split, cleaned_train, cleaned_test),
        digest=reviews.data_digest(loaded.frame),
    )


@dataclass(frozen=True)
class Matrices:
    """TF-IDF of both parts, sparse, rows as in the split and a column a term."""

    train: Any
    test: Any


def vectorize(candidate: Candidate, data: PreparedReviews) -> Matrices:
    """Fit the candidate's vectorizer on the training part and turn both parts into TF-IDF."""
    train = candidate.vectorizer.fit_transform(data.cleaned_train)
    # scikit-learn leaves NumPy integers in the vocabulary, which skops keeps as a file each:
    # 281 kB instead of 36 for the same model
    vocabulary = candidate.vectorizer.vocabulary_
    candidate.vectorizer.vocabulary_ = {term: int(column) for term, column in vocabulary.items()}
    return Matrices(train, candidate.vectorizer.transform(data.cleaned_test))


def calibrate(
    candidate: Candidate, data: PreparedReviews, matrices: Matrices, folds: FoldMatrices
) -> FixedThresholdClassifier:
    """Calibrate the candidate's fitted model on decisions of the folds. Raises CalibrationError."""
    decisions = folds.decisions(candidate.vectorizer, candidate.model)
    return calibration.calibrate(candidate.model, decisions, matrices.train, data.split.y_train)


def folds_of(data: PreparedReviews) -> FoldMatrices:
    """The five folds of the training part."""
    return FoldMatrices(data.cleaned_train, data.split.y_train)


def evaluate(
    algorithm: str,
    candidate: Candidate,
    data: PreparedReviews,
    matrices: Matrices,
    folds: FoldMatrices,
) -> FittedModel:
    """Calibrate a fitted candidate and score it on both parts: the holdout is touched this once.

    Cleaning is stateless, so the texts cleaned before serve here, and the cleaning step is put in
    front of the fitted ones: the pipeline takes raw text and predicts the same to the last bit.
    """
    model = calibrate(candidate, data, matrices, folds)
    truth, predicted = data.split.y_test, model.predict(matrices.test)
    decision, probability = calibration.read_calibration(model).answers(matrices.test)
    new = reviews.unseen(data.cleaned_test, data.cleaned_train)
    if not new.any():  # a tiny file: there is nothing else to tell apart
        new[:] = True
    return FittedModel(
        algorithm=algorithm,
        candidate=candidate,
        pipeline=Pipeline(
            [("clean", TextCleaner()), ("tfidf", candidate.vectorizer), ("model", model)]
        ),
        predicted=predicted,
        decision=decision,
        probability=probability,
        train_f1=evaluation.score(data.split.y_train, model.predict(matrices.train)),
        test_f1=evaluation.bootstrap_interval(truth, predicted),
        test_f1_unseen=evaluation.bootstrap_interval(truth[new], predicted[new]),
        test_accuracy=evaluation.bootstrap_interval(truth, predicted, "accuracy"),
        test_recall_negative=evaluation.bootstrap_interval(truth, predicted, "recall_negative"),
        test_brier=evaluation.brier_interval(truth, probability),
    )


def fit_and_evaluate(
    algorithm: str, candidate: Candidate, data: PreparedReviews, folds: FoldMatrices
) -> FittedModel:
    """Vectorize, fit on the training part, calibrate, and score."""
    matrices = vectorize(candidate, data)
    candidate.model.fit(matrices.train, data.split.y_train)
    return evaluate(algorithm, candidate, data, matrices, folds)


def log_scores(store: Store, run_id: str, fitted: FittedModel, data: PreparedReviews) -> None:
    """Write parameters, metrics, tags and the dataset of a fitted model on its run."""
    intervals = {
        "test_f1": fitted.test_f1,
        "test_f1_unseen": fitted.test_f1_unseen,
        "test_accuracy": fitted.test_accuracy,
        "test_recall_negative": fitted.test_recall_negative,
        "test_brier": fitted.test_brier,
    }
    metrics = {"train_f1": fitted.train_f1}
    for name, interval in intervals.items():
        metrics[name] = interval.value
        metrics[f"{name}_low"], metrics[f"{name}_high"] = interval.low, interval.high
    log_values(
        store,
        run_id,
        params={
            **logged_parameters(fitted.algorithm, fitted.candidate),
            "cleaning_fingerprint": cleaning_fingerprint(),
        },
        metrics=metrics,
        tags={
            TAG + "data_digest": data.digest,
            TAG + "data_name": data.loaded.source.name,
            TAG + "reviews": str(len(data.loaded.frame)),
        },
    )
    _log_dataset(store, run_id, data)


def log_report(store: Store, run_id: str, fitted: FittedModel, data: PreparedReviews) -> None:
    """Write tables, figures, hashes of the training texts and the list of packages on the run."""
    log_tables(store, run_id, fitted, data)
    with tempfile.TemporaryDirectory() as folder:
        figures.draw(fitted.algorithm, drawings(fitted, data), Path(folder))
        store.client.log_artifacts(run_id, folder, "figures")


def log_tables(store: Store, run_id: str, fitted: FittedModel, data: PreparedReviews) -> None:
    """Write tables, hashes of the training texts and the list of packages on the run."""
    truth = data.split.y_test
    tables = {
        "audit": data.audit,
        "per_class": evaluation.per_class_table(truth, fitted.predicted, reviews.CLASS_NAMES),
        "reliability": evaluation.reliability_table(truth, fitted.probability),
    }
    weights = calibration.term_weights(fitted.candidate.model)
    if weights is not None:
        terms = fitted.candidate.vectorizer.get_feature_names_out()
        tables["top_words"] = _top_words(terms, weights)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        (out / "tables").mkdir()
        for name, table in tables.items():
            table.to_csv(out / f"tables/{name}.csv", index=False)
        np.save(out / reviews.TEXT_HASHES, reviews.text_hashes(data.cleaned_train))
        (out / "packages.txt").write_text("\n".join(installed_packages()) + "\n")
        store.client.log_artifacts(run_id, folder)


def drawings(
    fitted: FittedModel, data: PreparedReviews, study: Study | None = None
) -> dict[str, figures.Drawing]:
    """Return what to draw of a fitted model, by file name.

    With the `study` that found it, also which parameters its score depends on. The history and the
    parallel coordinates of a search are MLflow's own charts.
    """
    truth = data.split.y_test
    reliability = evaluation.reliability_table(truth, fitted.probability)
    result: dict[str, figures.Drawing] = {
        "confusion_matrix": (
            figures.confusion_matrix_figure,
            (truth, fitted.predicted, reviews.CLASS_NAMES),
        ),
        "precision_recall": (figures.precision_recall_figure, (truth, fitted.decision)),
        "reliability": (figures.reliability_figure, (reliability, fitted.test_brier)),
    }
    weights = calibration.term_weights(fitted.candidate.model)
    if weights is not None:
        terms = fitted.candidate.vectorizer.get_feature_names_out()
        result["top_words"] = (figures.top_words_figure, (terms, weights))
    if study is not None:
        result["parameter_importance"] = (figures.parameter_importance_figure, (study,))
    return result


def log_model_and_card(
    store: Store, run_id: str, fitted: FittedModel, examples: Sequence[str], file_format: str
) -> str:
    """Write the model and its card; returns the model's URI. Done before, it is not done again."""
    known = store.client.get_run(run_id).data.tags.get(MODEL_URI)
    if known is not None:
        return str(known)
    uri, size = log_pipeline(store, run_id, fitted.pipeline, examples, file_format)
    log_values(store, run_id, metrics={"model_size_bytes": size}, tags={MODEL_URI: uri})
    store.client.log_text(run_id, model_card(store, run_id), CARD)
    return uri


@cache
def installed_packages() -> tuple[str, ...]:
    """`name==version` of every distribution in this environment, sorted."""
    found = {f"{item.name}=={item.version}" for item in distributions()}
    return tuple(sorted(found, key=str.lower))


def _top_words(terms: Sequence[str], weights: Floats, count: int = 50) -> pd.DataFrame:
    order = np.argsort(weights)
    shown = np.concatenate([order[::-1][:count], order[:count]])
    names = np.where(weights[shown] > 0, *reviews.CLASS_NAMES[::-1])
    return pd.DataFrame(
        {"class": names, "term": np.asarray(terms)[shown], "weight": weights[shown]}
    )


def _log_dataset(store: Store, run_id: str, data: PreparedReviews) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=data.loaded.source.name,
        digest=data.digest,
        source_type="local",
        source=f'{{"uri": "{data.loaded.source.name}"}}',
        schema='{"mlflow_colspec": [{"type": "string", "name": "text", "required": true}, '
        '{"type": "long", "name": "rating", "required": true}]}',
        profile=f'{{"num_rows": {len(data.loaded.frame)}}}',
    )
    context = [InputTag("mlflow.data.context", "training")]
    store.client.log_inputs(run_id, [DatasetInput(dataset, context)])
