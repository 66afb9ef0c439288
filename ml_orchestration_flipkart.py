"""The scheduled retraining: a Prefect flow that can improve production and never make it worse.

    python ml_orchestration_flipkart.py                  # serve the deployment, every 5 minutes
    python ml_orchestration_flipkart.py --once           # one run now
    python ml_orchestration_flipkart.py --cron "0 3 * * *" --config published

A run checks for drift first. Where nothing drifted and no data changed it trains nothing; else
tasks load, clean, split, vectorize, train, evaluate and log a logistic regression on the file and
the feedback, and the gate compares it with the production version. A second deployment checks each
hour without training. Where `PREFECT_API_URL` names no server that answers, one is started on
loopback and taken down at the end.
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
from typing import Annotated, Any, Literal

from prefect import Flow, flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.exceptions import TerminationSignal
from pydantic import Field

from sentiment import metrics as evaluation
from sentiment.data.reviews import (
    CLASS_NAMES,
    RATING_COLUMN,
    TEXT_COLUMN,
    load_reviews,
    split_reviews,
)
from sentiment.errors import ReviewDataError, ServerError, ServiceError, TrackingError
from sentiment.flows import service as flow_service
from sentiment.flows.alerts import alert
from sentiment.flows.deployments import Scheduled
from sentiment.flows.drift import (
    DRIFT_CRON,
    DRIFT_DEPLOYMENT_NAME,
    DRIFT_FLOW_NAME,
    DRIFTED,
    Finding,
    check_drift,
    flipkart_drift_flow,
)
from sentiment.flows.prefect_server import server_for
from sentiment.flows.report import ScheduledRun, report
from sentiment.flows.retraining import Config
from sentiment.flows.tasks import (
    add_feedback,
    choose_configuration,
    evaluate_model,
    load_data,
    log_to_mlflow,
    look_for_change,
    preprocess_data,
    promotion_gate,
    split_train_test,
    train_model,
    vectorize_text,
)
from sentiment.predictions.feedback import with_feedback
from sentiment.tracking.store import PROJECT, Store, open_store
from sentiment.training.report import PreparedReviews

FLOW_NAME = "Flipkart Sentiment Analysis Flow (Logistic)"
DEPLOYMENT_NAME = "flipkart-sentiment-logistic-deployment"
CRON = "*/5 * * * *"
KEEP = 50  # versions kept in the registry, besides those with an alias or a past in production
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130  # what a shell reports for Ctrl-C
NOT_ASKED = Finding(None, ("not checked: drift is off",))


@flow(
    name=FLOW_NAME,
    description="Retrains the logistic regression where that is due; the gate decides whether it "
    "goes to production.",
    log_prints=True,
    on_failure=[alert],
    on_crashed=[alert],
)
def flipkart_sentiment_flow(  # noqa: PLR0913, PLR0917  # what the UI lets one change for a run
    data: str = str(PROJECT / "data.csv"),
    config: Config = "champion",
    promote: bool = True,
    keep: Annotated[int, Field(ge=1)] = KEEP,
    store: str | None = None,
    text_column: str = TEXT_COLUMN,
    rating_column: str = RATING_COLUMN,
    drift: Literal["check", "off"] = "check",
    log_url: str | None = None,
) -> str:
    """Retrain once, where drift or other data ask for it, and return the verdict in a sentence.

    Args:
        data: file of reviews (CSV, TSV or Parquet).
        config: `champion` takes production's own parameters, `published` the guide's.
        promote: let the gate promote; otherwise its verdict is only reported.
        keep: versions to keep besides those with an alias or a past in production.
        store: folder of mlflow.db and mlruns; the project's own when empty.
        text_column: the file's column of review texts.
        rating_column: the file's column of ratings, 1 to 5.
        drift: `off` trains on the file in any case, without a check and without feedback.
        log_url: the prediction log; the SQLite file beside the store when empty.

    """
    began = time.perf_counter()
    found = check_drift(store, log_url) if drift == "check" else NOT_ASKED
    opened, chosen = choose_configuration(store, config)
    loaded = load_data(data, text_column, rating_column)
    labelled = add_feedback(opened, loaded, log_url) if drift == "check" else with_feedback(loaded)
    outcome, fitted = None, None
    if found.verdict is not None:  # a check that could not be made keeps nothing from being trained
        outcome = look_for_change(opened, chosen, labelled, exactly=found.verdict == DRIFTED)
    cleaned = preprocess_data(labelled.loaded)
    prepared = split_train_test(labelled.loaded, cleaned)
    if outcome is None:
        matrices = vectorize_text(chosen, prepared)
        train_model(chosen, prepared, matrices)
        fitted = evaluate_model(chosen, prepared, matrices)
        outcome = log_to_mlflow(opened, chosen, fitted, prepared, labelled)
    verdict = promotion_gate(opened, outcome, prepared, promote=promote, keep=keep)
    run = ScheduledRun(found.lines, chosen, labelled, fitted, outcome, verdict)
    leave_artifacts(opened, run, prepared)
    print(f"this run took {time.perf_counter() - began:.1f} s")
    return verdict


def leave_artifacts(store: Store, run: ScheduledRun, prepared: PreparedReviews) -> None:
    """Leave the report and, of a model, the confusion matrix of this run in the Prefect UI."""
    create_markdown_artifact(report(store, run), key="retraining-report", description=run.verdict)
    if run.fitted is None:
        return
    counts = evaluation.confusion(prepared.split.y_test, run.fitted.predicted).astype(int)
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
    parser.add_argument(
        "--drift-cron",
        default=DRIFT_CRON,
        help="schedule of the drift check alone (default: %(default)s)",
    )
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
    parser.add_argument(
        "--drift",
        choices=("check", "off"),
        default="check",
        help="check for drift first, and train where it or other data ask for it; off always "
        "trains, on the file alone (default: %(default)s)",
    )
    parser.add_argument(
        "--log-url",
        help="prediction log (default: SQLite beside the store); a password is better kept in "
        "PGPASSWORD, since the Prefect UI shows this",
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
        "drift": options.drift,
        "log_url": options.log_url,
    }


def schedules(options: argparse.Namespace) -> list[Scheduled]:
    """The two deployments; that of the drift check has no schedule where it is off."""
    parameters = flow_parameters(options)
    of_check = {name: parameters[name] for name in ("store", "log_url")}
    cron = options.drift_cron if options.drift == "check" else None
    return [
        Scheduled(FLOW_NAME, DEPLOYMENT_NAME, options.cron, parameters),
        Scheduled(DRIFT_FLOW_NAME, DRIFT_DEPLOYMENT_NAME, cron, of_check),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the deployments, or run once.

    Exit codes: 0 done, 1 the one run failed, 2 bad input, no store or no server, 130 interrupted.
    """
    options = parse_options(arguments)
    if options.serve_child:
        flows: dict[str, Flow[Any, Any]] = {
            FLOW_NAME: flipkart_sentiment_flow,
            DRIFT_FLOW_NAME: flipkart_drift_flow,
        }
        served = [Scheduled(**one) for one in json.loads(options.serve_child)]
        flow_service.serve_child(flows, served)
        return 0
    try:
        flow_service.check_cron("--cron", options.cron)
        flow_service.check_cron("--drift-cron", options.drift_cron)
        if options.keep < 1:
            raise ServiceError(f"--keep {options.keep}: expected 1 or more")
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
            return flow_service.serve(server, Path(__file__), schedules(options), say=_say)
    except (ReviewDataError, TrackingError, ServerError, ServiceError) as error:
        print(f"ml_orchestration_flipkart: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except (KeyboardInterrupt, TerminationSignal):
        print("interrupted: production is as it was", file=sys.stderr)
        return EXIT_INTERRUPTED


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
