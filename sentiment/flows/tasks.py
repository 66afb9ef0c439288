"""Flow tasks: the steps of a scheduled run, one Prefect task each.

What they do is done by other modules; here it is said when a step is tried again, and what a run
prints. The flow in `ml_orchestration_flipkart.py` calls them in this order.
"""

from __future__ import annotations

from typing import Any

from prefect import State, Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.runtime import flow_run
from prefect.tasks import exponential_backoff

from sentiment.data.reviews import LoadedReviews, Split, load_reviews, split_reviews
from sentiment.errors import (
    ConflictError,
    PredictionLogError,
    ReviewReadError,
    TrackingError,
    VersionError,
)
from sentiment.flows import retraining
from sentiment.flows.retraining import ALGORITHM, Chosen, Config, Outcome
from sentiment.predictions.feedback import LabelledReviews, read_feedback, with_feedback
from sentiment.predictions.log import default_log_url
from sentiment.tracking.store import Store, open_store
from sentiment.training import report as model_report
from sentiment.training.report import FittedModel, Matrices, PreparedReviews
from text_cleaning import clean_texts

RETRIES = 3  # 2, 4 and 8 seconds apart: a server that restarts is back by then

# No result is stored, or hashed for a cache: frames and matrices are passed on in memory only.
IN_MEMORY: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}


def is_transient(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again may help: a server or a disk that is away, never data that is wrong."""
    from mlflow.exceptions import MlflowException

    away = (
        *(OSError, MlflowException, TrackingError, ReviewReadError),
        *(PredictionLogError, ConflictError),
    )
    try:
        state.result(raise_on_failure=True)
    except VersionError:  # a TrackingError, and final
        return False
    except Exception as error:
        return isinstance(error, away)
    return False


TRANSIENT: dict[str, Any] = {
    "retries": RETRIES,
    "retry_delay_seconds": exponential_backoff(2),
    "retry_condition_fn": is_transient,
}


@task(name="choose_configuration", **IN_MEMORY, **TRANSIENT)
def choose_configuration(store: str | None, config: Config) -> tuple[Store, Chosen]:
    """Open the tracking store, close runs that a crash left open, and choose what to train."""
    opened = open_store(store)
    retraining.close_dead_runs(opened)
    chosen = retraining.choose(opened, config)
    print(f"configuration: {chosen.origin}")
    return opened, chosen


@task(name="load_data", **IN_MEMORY, **TRANSIENT)
def load_data(data: str, text_column: str, rating_column: str) -> LoadedReviews:
    """Read and check the file of reviews; a file that cannot be used fails the run, unretried."""
    loaded = load_reviews(data, text_column, rating_column)
    print(f"{loaded.source.name}: {loaded.dropped()}")
    return loaded


@task(name="add_feedback", **IN_MEMORY)
def add_feedback(store: Store, loaded: LoadedReviews, log_url: str | None) -> LabelledReviews:
    """Put the reviews below the file's whose labels came by `/feedback`: they are data as well.

    A log that is away stops nothing: then the file alone is what is known.
    """
    try:
        labelled = with_feedback(loaded, read_feedback(log_url or default_log_url(store.folder)))
    except PredictionLogError as error:
        print(f"without the feedback: {error}")
        return with_feedback(loaded)
    print(labelled.note or "no feedback yet")
    return labelled


@task(name="look_for_change", **IN_MEMORY, **TRANSIENT)
def look_for_change(
    store: Store, chosen: Chosen, labelled: LabelledReviews, *, exactly: bool
) -> Outcome | None:
    """The version that training now would only repeat; None where there is something to train."""
    unchanged = retraining.unchanged_since(store, chosen.candidate, labelled, exactly=exactly)
    if unchanged is not None:
        print(f"nothing is trained: {unchanged.sentence()}")
    return unchanged


@task(name="preprocess_data", **IN_MEMORY)
def preprocess_data(loaded: LoadedReviews) -> list[str]:
    """Clean every text, row by row; cleaning is stateless, so nothing leaks from the holdout."""
    return clean_texts(loaded.frame["text"])


@task(name="split_train_test", **IN_MEMORY)
def split_train_test(loaded: LoadedReviews, cleaned: list[str]) -> PreparedReviews:
    """The project's one stratified split, 70/30 at seed 42, with the audit of the data."""
    split: Split = split_reviews(loaded.frame)
    return model_report.combine(loaded, cleaned, split)


@task(name="vectorize_text", **IN_MEMORY)
def vectorize_text(chosen: Chosen, prepared: PreparedReviews) -> Matrices:
    """Fit TF-IDF on the training part and turn both parts into matrices."""
    return model_report.vectorize(chosen.candidate, prepared)


@task(name="train_model", **IN_MEMORY)
def train_model(chosen: Chosen, prepared: PreparedReviews, matrices: Matrices) -> None:
    """Fit the logistic regression, in place, on the training part."""
    chosen.candidate.model.fit(matrices.train, prepared.split.y_train)


@task(name="evaluate_model", **IN_MEMORY)
def evaluate_model(chosen: Chosen, prepared: PreparedReviews, matrices: Matrices) -> FittedModel:
    """Score the model on both parts; the holdout's score comes with its 95 % interval."""
    folds = model_report.folds_of(prepared)
    fitted = model_report.evaluate(ALGORITHM, chosen.candidate, prepared, matrices, folds)
    print(f"Train F1 Score: {fitted.train_f1:.4f}")
    print(f"Test F1 Score : {fitted.test_f1.value:.4f}")
    return fitted


@task(name="log_to_mlflow", **IN_MEMORY, **TRANSIENT)
def log_to_mlflow(
    store: Store,
    chosen: Chosen,
    fitted: FittedModel,
    prepared: PreparedReviews,
    labelled: LabelledReviews,
) -> Outcome:
    """Log the run, and register a version when data, configuration or code changed."""
    run = (str(flow_run.id), str(flow_run.ui_url or ""))
    outcome = retraining.log_retraining(store, chosen, fitted, prepared, labelled, run)
    print(outcome.sentence())
    return outcome


@task(name="promotion_gate", **IN_MEMORY, **TRANSIENT)
def promotion_gate(
    store: Store, outcome: Outcome, prepared: PreparedReviews, *, promote: bool, keep: int
) -> str:
    """Compare a new version with production, promote it if it is better, retire old versions."""
    verdict = retraining.pass_gate(store, outcome, prepared, carry_out=promote)
    print(verdict)
    for retired in retraining.retire_versions(store, keep):
        print(f"retired version {retired}")
    return verdict
