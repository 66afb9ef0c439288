"""Fit a candidate, score it once on the holdout, and write all about it on its MLflow run.

The experiment does so for each study's best trial, the flow for each retraining. A later version is
compared with what is written here: metrics with intervals, tables, figures, the data's digest,
hashes of the training texts, the model and its card. Every version also carries a fingerprint of
all that it follows from: the same fingerprint again would be the same model again.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline

from sentiment import metrics as evaluation
from sentiment.data import reviews
from sentiment.data.labels import CLASS_NAMES, GUIDES, LABEL_RULE, LabelRule
from sentiment.metrics import Floats, Interval, Labels
from sentiment.model import calibration
from sentiment.model.algorithms import Candidate, logged_parameters
from sentiment.model.behaviour import Behaviour, behaviour_of
from sentiment.model.calibration import DECISION_RULE, OWN, DecisionRule
from sentiment.model.explanation import Explainer
from sentiment.tracking.artifact import log_pipeline
from sentiment.tracking.store import (
    DATA_PATH,
    INTERVAL,
    NOTE,
    TAG,
    Store,
    log_inputs,
    log_values,
)
from sentiment.training import figures
from sentiment.training.card import CARD, card_in_brief, model_card
from sentiment.training.folds import FoldMatrices, Folds
from text_cleaning import (
    TextCleaner,
    clean_texts,
    cleaning_fingerprint,
    cleaning_packages,
    readable,
)

if TYPE_CHECKING:
    from optuna import Study

MODEL_URI = TAG + "model_uri"  # set when the model is complete, so that a resumed pass skips it
# Our own sentences: the input example of each model, shown in the MLflow UI.
EXAMPLES = ("Good quality and delivered on time", "Broke after two games, not worth the money")
VERSION_PARAMETERS = ("model", "cleaning", "cleaning_fingerprint", "split")  # tags, too
TOP_WORDS = 50  # terms of each class in the table
FINGERPRINT = "training_fingerprint"  # tag of a run and of a version
BEHAVIOUR = "behaviour"  # the same: the counts of its behaviour tests in words
# Tags that a version has of its run
VERSION_TAGS = ("data_digest", FINGERPRINT, LABEL_RULE, DECISION_RULE, BEHAVIOUR)
# Raise it when a change of the code gives another model from the same reviews and parameters: the
# flow then trains anew. A test compares what a model answers with what this version answered.
MODEL_VERSION = 1


@dataclass(frozen=True)
class PreparedReviews:
    """Checked reviews, split and cleaned once, for every model of a pass.

    `cleaned_train` and `cleaned_test` are what the guide's cleaning makes of them. By it they are
    split and their texts are known again, whatever a model reads.
    """

    loaded: reviews.LoadedReviews
    split: reviews.Split
    cleaned_train: list[str]
    cleaned_test: list[str]
    audit: pd.DataFrame
    digest: str
    split_method: reviews.SplitMethod = "hashed"
    _others: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict, repr=False)

    def cleaned(self, cleaner: TextCleaner) -> tuple[list[str], list[str]]:
        """Return the texts of both parts after a cleaner, which is asked once."""
        if cleaner.cleaning == "guide":
            return self.cleaned_train, self.cleaned_test
        parts = self.split.train_texts, self.split.test_texts
        if repr(cleaner) not in self._others:
            train, test = map(cleaner.transform, parts)
            self._others[repr(cleaner)] = train, test
        return self._others[repr(cleaner)]


@dataclass(frozen=True)
class FittedModel:
    """A candidate refitted on the whole training part, and what it did on the holdout.

    `cv_recall_negative` is of the served labels as well, among the training reviews, each by the
    fold that held it out.
    """

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
    cv_recall_negative: Interval
    threshold: float
    rule: DecisionRule
    behaviour: Behaviour


def prepare_reviews(
    loaded: reviews.LoadedReviews,
    cleaned: Sequence[str] | None = None,
    method: reviews.SplitMethod = "hashed",
) -> PreparedReviews:
    """Split checked reviews and audit them. Raises `ReviewDataError`.

    `cleaned` are their texts after cleaning, which is done here when they are not given.
    """
    if cleaned is None:
        cleaned = clean_texts(loaded.frame["text"])
    split = reviews.split_reviews(loaded.frame, cleaned, method=method)
    train, test = ([cleaned[row] for row in part] for part in (split.train_rows, split.test_rows))
    audit = reviews.audit_reviews(loaded, split, train, test)
    digest = reviews.data_digest(loaded.frame)
    return PreparedReviews(loaded, split, train, test, audit, digest, method)


@dataclass(frozen=True)
class Matrices:
    """TF-IDF of both parts, sparse, rows as in the split and a column a term."""

    train: Any
    test: Any


def vectorize(candidate: Candidate, data: PreparedReviews) -> Matrices:
    """Fit the candidate's vectorizer on the training part and turn both parts into TF-IDF."""
    cleaned_train, cleaned_test = data.cleaned(candidate.cleaner)
    train = candidate.vectorizer.fit_transform(cleaned_train)
    plain_vocabulary(candidate.vectorizer)
    return Matrices(train, candidate.vectorizer.transform(cleaned_test))


def plain_vocabulary(vectorizer: TfidfVectorizer) -> None:
    """Make the columns of a fitted vocabulary Python's integers.

    scikit-learn leaves NumPy's, which skops keeps as a file each: 281 kB instead of 36 for a model.
    """
    vocabulary = vectorizer.vocabulary_.items()
    vectorizer.vocabulary_ = {term: int(column) for term, column in vocabulary}


def folds_of(data: PreparedReviews, jobs: int | None = None) -> FoldMatrices:
    """Return the five folds of the training part, of which `jobs` are fitted at once."""
    known = {repr(TextCleaner()): data.cleaned_train}
    return FoldMatrices(data.split.train_texts, data.split.y_train, n_jobs=jobs, cleaned=known)


def evaluate(
    algorithm: str,
    candidate: Candidate,
    data: PreparedReviews,
    matrices: Matrices,
    folds: Folds,
    rule: DecisionRule = OWN,
) -> FittedModel:
    """Calibrate a fitted candidate and score it on both parts: the holdout is touched this once.

    The sigmoid is fitted on the decisions of the folds, and a threshold by `rule` set on them.
    Cleaning is stateless, so the texts cleaned before serve here, and the cleaning step is put in
    front of the fitted ones: the pipeline takes raw text and predicts the same to the last bit.
    Raises `CalibrationError`.
    """
    y_train = data.split.y_train
    decisions = folds.decisions(candidate.vectorizer, candidate.model, candidate.cleaner)
    model = calibration.calibrate(candidate.model, decisions, matrices.train, y_train, rule)
    truth, predicted = data.split.y_test, model.predict(matrices.test)
    served = calibration.read_calibration(model)
    decision, probability = served.answers(matrices.test)
    out_of_fold = served.probability(decisions[y_train == 0]) < served.threshold
    recall = evaluation.wilson_interval(int(out_of_fold.sum()), len(out_of_fold))
    assert recall is not None  # both classes are there, or there would be no folds
    new = reviews.unseen(data.cleaned_test, data.cleaned_train)
    if not new.any():  # a tiny file: there is nothing else to tell apart
        new[:] = True
    pipeline = Pipeline(
        [("clean", candidate.cleaner), ("tfidf", candidate.vectorizer), ("model", model)]
    )
    return FittedModel(
        algorithm=algorithm,
        candidate=candidate,
        pipeline=pipeline,
        predicted=predicted,
        decision=decision,
        probability=probability,
        train_f1=evaluation.score(y_train, model.predict(matrices.train)),
        test_f1=evaluation.bootstrap_interval(truth, predicted),
        test_f1_unseen=evaluation.bootstrap_interval(truth[new], predicted[new]),
        test_accuracy=evaluation.bootstrap_interval(truth, predicted, "accuracy"),
        test_recall_negative=evaluation.bootstrap_interval(truth, predicted, "recall_negative"),
        test_brier=evaluation.brier_interval(truth, probability),
        cv_recall_negative=recall,
        threshold=served.threshold,
        rule=rule,
        behaviour=behaviour_of(pipeline, data.loaded.rule),
    )


def fit_and_evaluate(
    algorithm: str,
    candidate: Candidate,
    data: PreparedReviews,
    folds: Folds,
    rule: DecisionRule = OWN,
    vectorize: Callable[[Candidate, PreparedReviews], Matrices] = vectorize,
) -> FittedModel:
    """Vectorize, fit on the training part, calibrate, and score."""
    matrices = vectorize(candidate, data)
    candidate.model.fit(matrices.train, data.split.y_train)
    return evaluate(algorithm, candidate, data, matrices, folds, rule)


def log_scores(store: Store, run_id: str, fitted: FittedModel, data: PreparedReviews) -> None:
    """Write parameters, metrics, tags and the dataset of a fitted model on its run."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    scores = {name: one for name, one in vars(fitted).items() if isinstance(one, Interval)}
    metrics = {name: score.value for name, score in scores.items()}
    params: dict[str, object] = {**logged_parameters(fitted.algorithm, fitted.candidate)}
    fingerprint = cleaning_fingerprint(fitted.candidate.cleaner.cleaning)
    params |= {"cleaning_fingerprint": fingerprint, "split": data.split_method}
    name, rows = data.loaded.source.name, len(data.loaded.frame)
    fingerprint = training_fingerprint(
        data.digest, fitted.candidate, data.split_method, data.loaded.rule, fitted.rule
    )
    tags = {TAG + "data_digest": data.digest, TAG + "data_name": name, TAG + "reviews": str(rows)}
    tags |= {TAG + LABEL_RULE: str(data.loaded.rule), TAG + DECISION_RULE: str(fitted.rule)}
    tags |= {TAG + BEHAVIOUR: fitted.behaviour.sentence()}
    tags |= {TAG + FINGERPRINT: fingerprint, DATA_PATH: str(data.loaded.source.resolve())}
    tags |= {INTERVAL + name: f"[{one.low:.6f}, {one.high:.6f}]" for name, one in scores.items()}
    metrics |= {"train_f1": fitted.train_f1, "threshold": fitted.threshold}
    log_values(store, run_id, params=params, metrics=metrics, tags=tags)
    types = {"text": "string", "rating": "long"}
    columns = [{"type": kind, "name": of, "required": True} for of, kind in types.items()]
    dataset = Dataset(
        name=name,
        digest=data.digest,
        source_type="local",
        source=json.dumps({"uri": name}),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps({"num_rows": rows}),
    )
    context = [InputTag("mlflow.data.context", "training")]
    log_inputs(store, run_id, [DatasetInput(dataset, context)])


def log_report(store: Store, run_id: str, fitted: FittedModel, data: PreparedReviews) -> None:
    """Write what `log_tables` writes, and the figures, on the run."""
    tables = log_tables(store, run_id, fitted, data)
    with tempfile.TemporaryDirectory() as folder:
        figures.draw(fitted.algorithm, drawings(fitted, data, tables), Path(folder))
        store.client.log_artifacts(run_id, folder, "figures")


def log_tables(
    store: Store, run_id: str, fitted: FittedModel, data: PreparedReviews
) -> dict[str, pd.DataFrame]:
    """Write tables, hashes of the training texts and packages on the run; return the tables."""
    truth = data.split.y_test
    tables = {
        "audit": data.audit,
        "per_class": evaluation.per_class_table(truth, fitted.predicted, CLASS_NAMES),
        "reliability": evaluation.reliability_table(truth, fitted.probability),
        BEHAVIOUR: fitted.behaviour.table(),
    }
    weights = calibration.term_weights(fitted.candidate.model)
    if weights is not None:
        tables["top_words"] = _top_words(fitted, data, weights)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        (out / "tables").mkdir()
        for name, table in tables.items():
            table.to_csv(out / f"tables/{name}.csv", index=False)
        np.save(out / reviews.TEXT_HASHES, reviews.text_hashes(data.cleaned_train))
        (out / "packages.txt").write_text("\n".join(installed_packages()) + "\n")
        store.client.log_artifacts(run_id, folder)
    return tables


def _top_words(fitted: FittedModel, data: PreparedReviews, weights: Floats) -> pd.DataFrame:
    """Return the weightiest terms of each class: `class`, `word`, `term` and `weight`.

    `word` is how the term is usually written in the training reviews.
    """
    order, candidate = np.argsort(weights), fitted.candidate
    shown = np.concatenate([order[::-1][:TOP_WORDS], order[:TOP_WORDS]])
    cleaned, _ = data.cleaned(candidate.cleaner)
    explainer = Explainer(candidate.vectorizer, cleaner=candidate.cleaner)
    written = explainer.spellings(shown.tolist(), data.split.train_texts, cleaned)
    names = candidate.vectorizer.get_feature_names_out()
    terms = [readable(term) for term in names[shown]]
    words = [written.get(column, term) for column, term in zip(shown.tolist(), terms, strict=True)]
    classes = np.where(weights[shown] > 0, *CLASS_NAMES[::-1])
    return pd.DataFrame({"class": classes, "word": words, "term": terms, "weight": weights[shown]})


def drawings(
    fitted: FittedModel,
    data: PreparedReviews,
    tables: Mapping[str, pd.DataFrame],
    study: Study | None = None,
) -> dict[str, figures.Drawing]:
    """Return what to draw of a fitted model and its `tables`, by file name.

    With the `study` that found it, also its trials and which parameters the score depends on. The
    parallel coordinates of a search are MLflow's own chart.
    """
    truth, predicted = data.split.y_test, fitted.predicted
    curve = truth, fitted.decision, predicted
    reliability = tables["reliability"], fitted.test_brier
    result: dict[str, figures.Drawing] = {
        "confusion_matrix": (figures.confusion_matrix_figure, (truth, predicted, CLASS_NAMES)),
        "precision_recall": (figures.precision_recall_figure, curve),
        "reliability": (figures.reliability_figure, reliability),
    }
    if "top_words" in tables:
        result["top_words"] = (figures.top_words_figure, (tables["top_words"],))
    if study is not None:
        result["trials"] = (figures.trials_figure, (study,))
    return result


def log_model_and_card(store: Store, run_id: str, fitted: FittedModel, file_format: str) -> str:
    """Write the model, its card and the run's description; return the model's URI.

    A model that was written before is not written again.
    """
    uri = store.client.get_run(run_id).data.tags.get(MODEL_URI)
    if uri is None:
        uri, size = log_pipeline(store, run_id, fitted.pipeline, EXAMPLES, file_format)
        log_values(store, run_id, metrics={"model_size_bytes": size}, tags={MODEL_URI: uri})
    card = model_card(store, run_id)
    store.client.log_text(run_id, card, CARD)
    log_values(store, run_id, tags={NOTE: card_in_brief(card)})
    return str(uri)


@cache
def installed_packages() -> list[str]:
    """Return `name==version` of every distribution in this environment, sorted."""
    return sorted({f"{item.name}=={item.version}" for item in distributions()}, key=str.lower)


def version_tags(store: Store, run_id: str) -> dict[str, str]:
    """Return the tags of a version from what `log_scores` wrote on its run."""
    run = store.client.get_run(run_id).data
    scores = {name: run.metrics[name] for name in ("cv_f1_macro", "test_f1") if name in run.metrics}
    return {
        **{name: run.params[name] for name in VERSION_PARAMETERS},
        **{name: f"{value:.6f}" for name, value in scores.items()},
        **{name: run.tags[TAG + name] for name in VERSION_TAGS},
        "cleaning_packages": cleaning_packages(),
    }


def decision_in_words(tags: Mapping[str, str], metrics: Mapping[str, float]) -> str:
    """Return how a run's model decides and what recall of negative that gives, as a clause."""

    def recall(name: str) -> str:
        value, low, high = (metrics[name + end] for end in ("", "_low", "_high"))
        return f"{value:.4f} ({low:.4f}–{high:.4f})"

    return (
        f"{tags[TAG + DECISION_RULE]}: positive from a probability of {metrics['threshold']:.4f}; "
        f"recall of negative {recall('cv_recall_negative')} out of fold, "
        f"{recall('test_recall_negative')} on the holdout"
    )


def training_fingerprint(
    data_digest: str,
    candidate: Candidate,
    split: reviews.SplitMethod = "hashed",
    rule: LabelRule = GUIDES,
    decision: DecisionRule = OWN,
) -> str:
    """Return 16 hexadecimal digits of all a model follows from: the same again is the same model.

    These are the reviews (`data_digest` of the checked frame), their split, what counts as negative
    in them, every parameter of the candidate, fitted or not, what the cleaning does, how the
    threshold is set, and `MODEL_VERSION`.
    """
    parameters = [
        sorted((name, str(value)) for name, value in part.get_params(deep=False).items())
        for part in (candidate.vectorizer, candidate.model)
    ]
    cleaning = cleaning_fingerprint(candidate.cleaner.cleaning)
    followed = [data_digest, split, parameters, cleaning, MODEL_VERSION, str(rule)]
    followed += [] if decision == OWN else [str(decision)]
    followed += [] if candidate.cleaner.cleaning == "guide" else [repr(candidate.cleaner)]
    return hashlib.sha256(json.dumps(followed).encode()).hexdigest()[:16]
