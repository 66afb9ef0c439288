"""The scheduled retraining: a Prefect flow that can improve production and never make it worse.

    python ml_orchestration_flipkart.py                  # serve the deployment, every 5 minutes
    python ml_orchestration_flipkart.py --once           # one run now
    python ml_orchestration_flipkart.py --cron "0 3 * * *" --config published

Seven tasks load, clean, split, vectorize, train, evaluate and log a logistic regression; then the
gate compares it with the production version. Where `PREFECT_API_URL` names no server that
answers, one is started on loopback and taken down at the end.
"""

# No `from __future__ import annotations` here: a runner loads the flow by its file's path, and then
# Prefect could not resolve the names of the parameters' types.

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from prefect import State, Task, flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.exceptions import TerminationSignal
from prefect.runtime import flow_run
from prefect.tasks import exponential_backoff
from pydantic import Field

import evaluation
import flow_service
import retraining
from alerts import alert
from flow_service import FLOW_NAME
from model_report import FittedModel, Matrices, PreparedReviews, combine, evaluate, vectorize
from prefect_server import ServerError, server_for
from registry_ledger import ConflictError
from retraining import ALGORITHM, Chosen, Config, Outcome
from retraining_report import report
from reviews import (
    CLASS_NAMES,
    RATING_COLUMN,
    TEXT_COLUMN,
    LoadedReviews,
    ReviewDataError,
    ReviewReadError,
    Split,
    load_reviews,
    split_reviews,
)
from text_cleaning import clean_texts
from tracking import PROJECT, Store, TrackingError, open_store
from version_scoring import VersionError

CRON = "*/5 * * * *"
KEEP = 50  # versions kept in the registry, besides those with an alias or a past in production
RETRIES = 3  # 2, 4 and 8 seconds apart: a server that restarts is back by then
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130  # what a shell reports for Ctrl-C

# No result is stored, or hashed for a cache: frames and matrices are passed on in memory only.
IN_MEMORY: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}


def is_transient(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again may help: a server or a disk that is away, never data that is wrong."""
    from mlflow.exceptions import MlflowException

    away = (OSError, ReviewReadError, MlflowException, TrackingError, ConflictError)
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


@task(name="preprocess_data", **IN_MEMORY)
def preprocess_data(loaded: LoadedReviews) -> list[str]:
    """Clean every text, row by row; cleaning is stateless, so nothing leaks from the holdout."""
    return clean_texts(loaded.frame["text"])


@task(name="split_train_test", **IN_MEMORY)
def split_train_test(loaded: LoadedReviews, cleaned: list[str]) -> PreparedReviews:
    """The project's one stratified split, 70/30 at seed 42, with the audit of the data."""
    split: Split = split_reviews(loaded.frame)
    return combine(loaded, cleaned, split)


@task(name="vectorize_text", **IN_MEMORY)
def vectorize_text(chosen: Chosen, prepared: PreparedReviews) -> Matrices:
    """Fit TF-IDF on the training part and turn both parts into matrices."""
    return vectorize(chosen.candidate, prepared)


@task(name="train_model", **IN_MEMORY)
def train_model(chosen: Chosen, prepared: PreparedReviews, matrices: Matrices) -> None:
    """Fit the logistic regression, in place, on the training part."""
    chosen.candidate.model.fit(matrices.train, prepared.split.y_train)


@task(name="evaluate_model", **IN_MEMORY)
def evaluate_model(chosen: Chosen, prepared: PreparedReviews, matrices: Matrices) -> FittedModel:
    """Score the model on both parts; the holdout's score comes with its 95 % interval."""
    fitted = evaluate(ALGORITHM, chosen.candidate, prepared, matrices)
    print(f"Train F1 Score: {fitted.train_f1:.4f}")
    print(f"Test F1 Score : {fitted.test_f1.value:.4f}")
    return fitted


@task(name="log_to_mlflow", **IN_MEMORY, **TRANSIENT)
def log_to_mlflow(
    store: Store, chosen: Chosen, fitted: FittedModel, prepared: PreparedReviews
) -> Outcome:
    """Log the run, and register a version when data, configuration or code changed."""
    outcome = retraining.log_retraining(
        store, chosen, fitted, prepared, (str(flow_run.id), str(flow_run.ui_url or ""))
    )
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


@flow(
    name=FLOW_NAME,
    description="Retrains the logistic regression; the gate decides whether it goes to production.",
    log_prints=True,
    on_failure=[alert],
    on_crashed=[alert],
)
def flipkart_sentiment_flow(
    data: str = str(PROJECT / "data.csv"),
    config: Config = "champion",
    promote: bool = True,
    keep: Annotated[int, Field(ge=1)] = KEEP,
    store: str | None = None,
    text_column: str = TEXT_COLUMN,
    rating_column: str = RATING_COLUMN,
) -> str:
    """Retrain once and return the verdict in a sentence.

    Args:
        data: file of reviews (CSV, TSV or Parquet).
        config: `champion` takes production's own parameters, `published` the guide's.
        promote: let the gate promote; otherwise its verdict is only reported.
        keep: versions to keep besides those with an alias or a past in production.
        store: folder of mlflow.db and mlruns; the project's own when empty.
        text_column: the file's column of review texts.
        rating_column: the file's column of ratings, 1 to 5.

    """
    began = time.perf_counter()
    opened, chosen = choose_configuration(store, config)
    loaded = load_data(data, text_column, rating_column)
    cleaned = preprocess_data(loaded)
    prepared = split_train_test(loaded, cleaned)
    matrices = vectorize_text(chosen, prepared)
    train_model(chosen, prepared, matrices)
    fitted = evaluate_model(chosen, prepared, matrices)
    outcome = log_to_mlflow(opened, chosen, fitted, prepared)
    verdict = promotion_gate(opened, outcome, prepared, promote=promote, keep=keep)
    leave_artifacts(opened, chosen, fitted, prepared, outcome, verdict)
    print(f"this run took {time.perf_counter() - began:.1f} s")
    return verdict


def leave_artifacts(
    store: Store,
    chosen: Chosen,
    fitted: FittedModel,
    prepared: PreparedReviews,
    outcome: Outcome,
    verdict: str,
) -> None:
    """Leave the report and the confusion matrix of this run in the Prefect UI."""
    markdown = report(store, chosen, fitted, prepared, outcome, verdict)
    create_markdown_artifact(markdown, key="retraining-report", description=verdict)
    counts = evaluation.confusion(prepared.split.y_test, fitted.predicted).astype(int)
    rows = [
        {
            "true": name,
            **{f"predicted {other}": int(n) for other, n in zip(CLASS_NAMES, row, strict=True)},
        }
        for name, row in zip(CLASS_NAMES, counts, strict=True)
    ]
    create_table_artifact(rows, key="confusion-matrix", description="holdout, reviews")


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Retrain the logistic regression on a schedule, through the promotion gate."
    )
    parser.add_argument("--cron", default=CRON, help="schedule (default: %(default)s)")
    parser.add_argument("--once", action="store_true", help="one run now, then exit")
    data = str(PROJECT / "data.csv")
    parser.add_argument("--data", default=data, help="file of reviews (default: %(default)s)")
    parser.add_argument(
        "--text-column", default=TEXT_COLUMN, help="its column of texts (default: %(default)s)"
    )
    parser.add_argument(
        "--rating-column",
        default=RATING_COLUMN,
        help="its column of ratings (default: %(default)s)",
    )
    parser.add_argument(
        "--config",
        choices=("champion", "published"),
        default="champion",
        help="parameters of production, or of the published flow (default: %(default)s)",
    )
    parser.add_argument("--no-promote", action="store_true", help="only report the verdict")
    kept = "versions to keep in the registry (default: %(default)s)"
    parser.add_argument("--keep", type=int, default=KEEP, help=kept)
    parser.add_argument("--serve-child", help=argparse.SUPPRESS)  # the runner's own process
    parser.add_argument(
        "--store", help="folder of mlflow.db and mlruns (default: the project's own)"
    )
    return parser.parse_args(arguments)


def flow_parameters(options: argparse.Namespace) -> dict[str, Any]:
    """The options as parameters of the flow, with absolute paths: a runner works elsewhere."""
    return {
        "data": str(Path(options.data).resolve()),
        "config": options.config,
        "promote": not options.no_promote,
        "keep": options.keep,
        "store": None if options.store is None else str(Path(options.store).resolve()),
        "text_column": options.text_column,
        "rating_column": options.rating_column,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the deployment, or run once.

    Exit codes: 0 done, 1 the one run failed, 2 bad input, no store or no server, 130 interrupted.
    """
    options = parse_options(arguments)
    if options.serve_child:
        flow_service.serve_child(flipkart_sentiment_flow, *json.loads(options.serve_child))
        return 0
    try:
        flow_service.check_cron(options.cron)
        if options.keep < 1:
            raise flow_service.ServiceError(f"--keep {options.keep}: expected 1 or more")
        # a schedule that could only fail is refused at once, in one line
        split_reviews(load_reviews(options.data, options.text_column, options.rating_column).frame)
        store = open_store(options.store)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the service has its own
        with (
            flow_service.only_one(store),
            server_for(store.folder / ".prefect", say=_say) as server,
        ):
            if options.once:
                return flow_service.run_once(
                    server, flipkart_sentiment_flow, flow_parameters(options)
                )
            return flow_service.serve(
                server, Path(__file__), options.cron, flow_parameters(options), say=_say
            )
    except (ReviewDataError, TrackingError, ServerError, flow_service.ServiceError) as error:
        print(f"ml_orchestration_flipkart: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except (KeyboardInterrupt, TerminationSignal):
        print("interrupted: production is as it was", file=sys.stderr)
        return EXIT_INTERRUPTED


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
