"""Retrain on a schedule: a Prefect flow that can improve production and never make it worse.

    python ml_orchestration_flipkart.py                  # serve the deployment, every 5 minutes
    python ml_orchestration_flipkart.py --once           # one run now
    python ml_orchestration_flipkart.py --cron "0 3 * * *" --config published
    python ml_orchestration_flipkart.py deploy --pool NAME  # for Prefect workers, on any machine

A run checks for drift first. If nothing drifted and no data changed, there is nothing to train.
Otherwise it loads, cleans, splits, vectorizes, trains, evaluates and logs a model on the file and
the labelled feedback, and the gate compares it with the production version. The model is of the
algorithm that is in production, at first a logistic regression. A run promotes only what the flow
trained itself, and nothing while an A/B test runs. A second deployment checks for drift each hour.
Where Prefect's settings name no server, one is started on loopback and taken down at the end.
"""

# No `from __future__ import annotations` here: Prefect loads the flow by its file's path, and could
# not resolve the names of the parameters' types then.

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

from sentiment.cli.options import DATA, KEEP, KEEP_RUNS, labelling_of, parse_flow, reading_of
from sentiment.flows import terminal
from sentiment.masking import mask_output

if __name__ == "__main__":
    mask_output()
    parse_flow()  # --help and wrong options answer before Prefect, which takes seconds to import
    terminal.prepare()

from prefect import Flow, flow, get_run_logger, task
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import TerminationSignal
from prefect.runtime import flow_run
from prefect.schedules import Cron
from pydantic import Field

from sentiment import errors, masking
from sentiment.data import reviews
from sentiment.data.labels import Labelling
from sentiment.data.reviews import LoadedReviews
from sentiment.data.sources import Reading
from sentiment.drift import MIN_WINDOW, NEWEST
from sentiment.flows import retraining, service
from sentiment.flows.drift import (
    DRIFT_FLOW_NAME,
    DRIFTED,
    NOT_ASKED,
    check_drift,
    flipkart_drift_flow,
)
from sentiment.flows.prefect_server import server_for
from sentiment.flows.report import ScheduledRun, check_alerts, leave_artifacts, line_of, post
from sentiment.flows.retention import forget_old_runs
from sentiment.flows.retraining import Chosen, Outcome, Passage
from sentiment.flows.service import FLOW, RETRIED, STEP
from sentiment.predictions.database import public_log_url
from sentiment.predictions.feedback import LabelledReviews, read_feedback, with_feedback
from sentiment.predictions.log import default_log_url
from sentiment.registry.lifecycle import (
    production_rule,
    production_version,
    retire_versions,
    rule_in_production,
)
from sentiment.tracking.store import PROJECT, Settings, Store, open_store, store_errors
from sentiment.training import report as training
from sentiment.training.report import FittedModel, Matrices, PreparedReviews
from text_cleaning import clean_texts

FLOW_NAME = "Flipkart Sentiment Analysis Flow (Logistic)"


@task(**RETRIED)
def open_tracking_store(store: str | None, project: str | None) -> Store:
    """Open the tracking store, and close runs that a crash left open."""
    opened = open_store(store, project)
    retraining.close_dead_runs(opened)
    return opened


@task(**RETRIED)
def load_data(
    store: Store,
    data: str,
    text_column: str | None,
    rating_column: str | None,
    reading: Reading,
    labelling: Labelling,
) -> LoadedReviews:
    """Read and check the file of reviews; what counts as negative is as in production."""
    labelling = labelling.following(production_rule(store))
    loaded = reviews.load_reviews(data, text_column, rating_column, reading, labelling)
    print(f"{loaded.source.name}: {loaded.dropped()}")
    return loaded


@task(**STEP)
def add_feedback(store: Store, loaded: LoadedReviews, log_url: str | None) -> LabelledReviews:
    """Add the reviews whose labels came by `/feedback`; go on without them if the log is away."""
    try:
        labelled = with_feedback(loaded, read_feedback(log_url or default_log_url(store.home)))
    except errors.PredictionLogError as error:
        print(f"without the feedback: {error}")
        return with_feedback(loaded)
    print(labelled.note or "no feedback yet")
    return labelled


@task(**RETRIED)
def choose_configuration(
    store: Store, config: retraining.Config, prepared: PreparedReviews
) -> Chosen:
    """Choose algorithm and parameters: those of production, of a search on this data, or given."""
    chosen = retraining.choose(store, config, prepared)
    print(f"configuration: {chosen.origin}")
    return chosen


@task(**RETRIED)
def look_for_change(
    store: Store, chosen: Chosen, labelled: LabelledReviews, exactly: bool
) -> Outcome | None:
    """Return the version that training now would only repeat, or None: then train."""
    unchanged = retraining.unchanged_since(
        store, chosen.candidate, labelled, exactly=exactly, decision=chosen.decision
    )
    if unchanged is not None:
        print(f"nothing to train: {unchanged.sentence()}")
    return unchanged


@task(**STEP)
def preprocess_data(loaded: LoadedReviews) -> list[str]:
    """Clean every text by itself, so nothing leaks from the holdout."""
    return clean_texts(loaded.frame["text"])


@task(**STEP)
def split_train_test(loaded: LoadedReviews, cleaned: list[str]) -> PreparedReviews:
    """Split 70/30 within each class by a hash of the cleaned text, and audit."""
    return training.prepare_reviews(loaded, cleaned)


@task(**STEP)
def vectorize_text(chosen: Chosen, prepared: PreparedReviews) -> Matrices:
    """Fit TF-IDF on the training part and turn both parts into matrices."""
    return training.vectorize(chosen.candidate, prepared)


@task(**STEP)
def train_model(chosen: Chosen, prepared: PreparedReviews, matrices: Matrices) -> None:
    """Fit the model, in place, on the training part."""
    chosen.candidate.model.fit(matrices.train, prepared.split.y_train)


@task(**STEP)
def evaluate_model(chosen: Chosen, prepared: PreparedReviews, matrices: Matrices) -> FittedModel:
    """Calibrate the model and score it on both parts."""
    folds = training.folds_of(prepared)
    fitted = training.evaluate(
        chosen.algorithm, chosen.candidate, prepared, matrices, folds, chosen.decision
    )
    print(f"Train F1 Score: {fitted.train_f1:.4f}")
    print(f"Test F1 Score : {fitted.test_f1.value:.4f}")
    return fitted


@task(**RETRIED)
def log_to_mlflow(
    store: Store,
    chosen: Chosen,
    fitted: FittedModel,
    prepared: PreparedReviews,
    labelled: LabelledReviews,
) -> Outcome:
    """Log the run, and register a version if data, configuration or code changed."""
    run = (str(flow_run.id), str(flow_run.ui_url or ""))
    outcome = retraining.log_retraining(store, chosen, fitted, prepared, labelled, run)
    print(outcome.sentence())
    return outcome


@task(**RETRIED)
def promotion_gate(
    store: Store, outcome: Outcome, prepared: PreparedReviews, hold: str, keep: int
) -> Passage:
    """Compare a new version with production, promote it if it is better, retire old versions.

    With `hold`, a reason, nothing is promoted. A change of production is also posted.
    """
    passage = retraining.pass_gate(store, outcome, prepared, hold=hold)
    print(passage.sentence)
    if passage.promoted:
        print(passage.news())
        run = str(flow_run.flow_name), str(flow_run.id)
        said = f"{passage.news()}: {passage.sentence}"
        post(*run, "promoted", said, get_run_logger(), store.settings.project)
    for retired in retire_versions(store, keep):
        print(f"retired version {retired}")
    return passage


@flow(name=FLOW_NAME, **FLOW)
def flipkart_sentiment_flow(  # noqa: PLR0913, PLR0917  # what the UI lets one change for a run
    data: str = DATA,
    config: retraining.Config = "champion",
    promote: bool = True,
    promote_during_ab: bool = False,
    keep: Annotated[int, Field(ge=1)] = KEEP,
    keep_runs: Annotated[int, Field(ge=1)] = KEEP_RUNS,
    store: str | None = None,
    text_column: str | None = None,
    rating_column: str | None = None,
    drift: Literal["check", "off"] = "check",
    log_url: str | None = None,
    drift_window: Annotated[int, Field(ge=1)] = NEWEST,
    drift_days: Annotated[float, Field(gt=0)] | None = None,
    min_reviews: Annotated[int, Field(ge=1)] = MIN_WINDOW,
    delimiter: str | None = None,
    encoding: str | None = None,
    max_bytes: int | None = None,
    label_column: str | None = None,
    positive: str | None = None,
    negative: str | None = None,
    scale: Literal[5, 10, 100] | None = None,
    negative_up_to: Annotated[int, Field(ge=1, le=4)] | None = None,
    drop_neutral: bool | None = None,
    project: str | None = None,
) -> str:
    """Retrain the model if that is due; the gate decides on its promotion.

    Args:
        data: file of reviews (CSV, TSV, JSON, Excel or Parquet).
        config: `champion` takes algorithm and parameters of production, `published` the guide's.
        promote: let the gate promote; otherwise its verdict is only reported.
        promote_during_ab: promote also while an A/B test runs, which ends it.
        keep: versions to keep besides those with an alias or a past in production.
        keep_runs: runs of each flow to keep in Prefect and MLflow; of the runs of a work pool, the
            others are deleted by the next.
        store: folder of mlflow.db and mlruns; where the scripts are when empty.
        text_column: the file's column of review texts; found by its name when empty.
        rating_column: the file's column of ratings, 1 to 5; found by its name when empty.
        drift: `off` trains in any case, on the file alone, without a check.
        log_url: the prediction log, without its password, which is taken from SENTIMENT_LOG_URL of
            the service; the SQLite file beside the store when empty.
        drift_window: newest answers that a drift check compares at most.
        drift_days: compare those of so many days; those since the last check when empty.
        min_reviews: fewer are not enough for a verdict on drift.
        delimiter: the character between the file's cells, or `tab`; found out when empty.
        encoding: the file's encoding; UTF-8 when empty, or as its first bytes say.
        max_bytes: what a packed file may unpack to; 1 GiB when empty.
        label_column: the file's column of labels, instead of one of ratings.
        positive: names of positive labels, by comma; positive, pos, 1, true when empty.
        negative: names of negative labels, by comma; negative, neg, 0, -1, false when empty.
        scale: the highest rating; 5 when empty.
        negative_up_to: stars that count as negative; as in production, or 2, when empty.
        drop_neutral: leave 3 stars out; as in production, or no, when empty.
        project: the product whose model is retrained; the one without a name when empty.

    """
    check = drift == "check"
    window = (drift_window, drift_days, min_reviews)
    found = check_drift(store, log_url, *window, project) if check else NOT_ASKED
    opened = open_tracking_store(store, project)
    reading = Reading(delimiter, encoding, max_bytes)
    labelling = Labelling(label_column, positive, negative, scale, negative_up_to, drop_neutral)
    loaded = load_data(opened, data, text_column, rating_column, reading, labelling)
    labelled = add_feedback(opened, loaded, log_url) if check else with_feedback(loaded)
    cleaned = preprocess_data(labelled.loaded)
    prepared = split_train_test(labelled.loaded, cleaned)
    chosen = choose_configuration(opened, config, prepared)
    outcome, fitted = None, None
    if found.verdict is not None:  # if the check could not be made, train
        outcome = look_for_change(opened, chosen, labelled, exactly=found.verdict == DRIFTED)
    if outcome is None:
        matrices = vectorize_text(chosen, prepared)
        train_model(chosen, prepared, matrices)
        fitted = evaluate_model(chosen, prepared, matrices)
        outcome = log_to_mlflow(opened, chosen, fitted, prepared, labelled)
    hold = retraining.reason_to_hold(
        opened, log_url, promote=promote, promote_during_ab=promote_during_ab
    )
    passage = promotion_gate(opened, outcome, prepared, hold, keep)
    run = ScheduledRun(found.lines, chosen, labelled, prepared, fitted, outcome, passage)
    leave_artifacts(opened, run)
    print(line_of(run))
    if service.in_a_pool():  # a service does so by itself
        store_tag, _ = service.place_of(store, project)
        forget_old_runs(opened, (FLOW_NAME, DRIFT_FLOW_NAME), store_tag, keep_runs)
    return passage.sentence


def deployments(options: argparse.Namespace) -> list[RunnerDeployment]:
    """Return the retraining and the drift check, which is paused with `--drift off`."""
    place = service.place_of(options.store, options.project)
    check_is_off = options.drift == "off"
    zone = options.timezone or service.local_zone()
    retraining_name, check_name = Settings(options.project).deployments
    return [
        RunnerDeployment.from_flow(
            one,
            name,
            schedule=Cron(cron, timezone=zone),
            paused=paused,
            parameters=parameters_of(one, options),
            tags=place[:1] if options.pool else place,  # a worker may be on any machine
            # Each its own: a common limit would cancel every check, a retraining being due then
            concurrency_limit=service.ONE_AT_A_TIME,
        )
        for one, name, cron, paused in (
            (flipkart_sentiment_flow, retraining_name, options.cron, False),
            (flipkart_drift_flow, check_name, options.drift_cron, check_is_off),
        )
    ]


def parameters_of(one: Flow[Any, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Return those options that are parameters of the flow; they have the same names."""
    return {name: getattr(options, name) for name in one.parameters.properties}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the deployments, make them for a pool, or run once; return the exit code."""
    options = parse_flow(arguments)
    known: tuple[Store, str | None] | None = None
    try:
        if options.pool:
            service.check_server_is_named()
        service.check_cron("--cron", options.cron)
        service.check_cron("--drift-cron", options.drift_cron)
        check_alerts()
        # refuse at once, in one line, a schedule whose runs could only fail
        columns = options.text_column, options.rating_column
        labelling = labelling_of(options).following(
            rule_in_production(options.store, options.project)
        )
        loaded = reviews.load_reviews(options.data, *columns, reading_of(options), labelling)
        reviews.split_reviews(loaded.frame)
        store = open_store(options.store, options.project)
        with store_errors():
            known = store, production_version(store)
        if options.log_url:  # Prefect shows parameters: its secrets stay in the environment
            public = public_log_url(options.log_url)
            os.environ[masking.LOG_URL], options.log_url = options.log_url, public
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
        with (
            service.only_one(store.locks / "flow.lock", f"the store in {store.home}"),
            server_for(store.home / ".prefect") as server,
        ):
            flows = FLOW_NAME, DRIFT_FLOW_NAME
            store_tag, _ = service.place_of(options.store, options.project)
            forget = partial(forget_old_runs, store, flows, store_tag, options.keep_runs)
            if options.once:
                parameters = parameters_of(flipkart_sentiment_flow, options)
                code = service.run_once(server, flipkart_sentiment_flow, parameters)
                forget()
                return code
            os.chdir(PROJECT)  # from where the runs find this script and the package
            if options.pool:
                return service.deploy(server, deployments(options), options.pool, store)
            return service.serve(server, deployments(options), forget)
    except errors.UserError as error:
        print(f"ml_orchestration_flipkart: {error}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, TerminationSignal):
        print(f"interrupted{production_now(*known) if known else ''}", file=sys.stderr)
        return errors.EXIT_INTERRUPTED


def production_now(store: Store, before: str | None) -> str:
    """Return a clause on what is in production: an interrupted run may have promoted a version."""
    try:
        with store_errors():
            now = production_version(store)
    except errors.TrackingError:
        return ""
    if now != before:
        return f": version {now} was put into production"
    return f": {f'version {now}' if now else 'no version'} is in production, as before"


if __name__ == "__main__":
    sys.exit(main())
