"""Check for drift before a retraining, or for itself, and alert people of a change.

The same check is the first step of the retraining and an hourly flow of its own. A verdict other
than the one before is posted to `ALERT_URL` once, whichever of the two finds it first.
"""

# No `from __future__ import annotations` here: Prefect loads the flow by its file's path, and could
# not resolve the names of the parameters' types then.

import time
from dataclasses import dataclass
from typing import Annotated

from filelock import FileLock
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from pydantic import Field

from sentiment.drift import MIN_WINDOW, NEWEST
from sentiment.drift.report import STATES, DriftCheck
from sentiment.drift.runs import run_check, verdict_changed
from sentiment.drift.window import LogWindow
from sentiment.errors import DriftReferenceError, ServingError, WindowError
from sentiment.flows.report import Log, lines_section, post, run_link
from sentiment.flows.service import FLOW, RETRIED
from sentiment.model.predictor import one_line
from sentiment.tracking.store import Settings, Store, open_store

DRIFT_FLOW_NAME = "Flipkart Sentiment Drift Flow"
DRIFTED, TOO_FEW = "drifted", "not enough yet"
TOLD = "drift_told"  # tag of the registered model: the verdict that was posted last
DAY_SECONDS = 86_400.0
LOCK_SECONDS = 120  # for the other flow's check; a check of a million answers takes less


@dataclass(frozen=True)
class Finding:
    """The result of one check, in lines; `verdict` is None if no check could be made."""

    verdict: str | None
    lines: tuple[str, ...]


NOT_ASKED = Finding(None, ("not checked: drift is off",))


@task(**RETRIED)
def check_drift(
    store: str | None,
    log_url: str | None,
    drift_window: int = NEWEST,
    drift_days: float | None = None,
    min_reviews: int = MIN_WINDOW,
    project: str | None = None,
    needed: bool = False,
) -> Finding:
    """Compare incoming reviews with the training data of the production version.

    Of the answers to the API at most the newest `drift_window` are compared: those of the last
    `drift_days`, or else those since the last check, and at least `min_reviews`.

    With `needed` the check is the purpose of the run: errors are raised, and each check is a run in
    MLflow. Otherwise an error is a finding, so that it does not stop a retraining, and only a
    change of verdict is a run: a flow that retrains every five minutes would add too many.
    """
    since = None if drift_days is None else time.time() - drift_days * DAY_SECONDS
    wanted = LogWindow(log_url, since, drift_window, since_check=True)
    try:
        opened = open_store(store, project)
        found = check_log(opened, wanted, min_reviews, get_run_logger(), keep=needed)
    except WindowError as error:
        found = Finding(TOO_FEW, (f"{TOO_FEW}: {error}",))
    except (DriftReferenceError, ServingError) as error:
        found = Finding(None, (f"not checked: {error}",))
    except Exception as error:
        if needed:
            raise
        found = Finding(None, (f"not checked: {one_line(error)}",))
    print("\n".join(found.lines))
    return found


def check_log(
    store: Store, wanted: LogWindow, min_reviews: int, log: Log, *, keep: bool = True
) -> Finding:
    """Check the version in production and post a change. Raises as `run_check` does.

    Without `keep` a check that changes no verdict is not written to MLflow.
    """
    # one at a time, so that verdicts come in an order, and a change is posted once
    with FileLock(store.locks / "drift.lock", timeout=LOCK_SECONDS):
        checked = run_check(
            store,
            wanted,
            min_reviews=min_reviews,
            keep=lambda it: keep or verdict_changed(store, it),
        )
        announce(store, checked, log)
    report = checked.report
    of = f"version {checked.version}, {checked.reviews:,} reviews of the {checked.source}"
    of += f" from {checked.period}"
    lines = [f"{report.verdict} ({of}): {report.summary}", *report.reasons, *checked.notes]
    lines.append(report.advice)
    if checked.run_id:
        lines.append(f"MLflow run: {run_link(store, checked.run_id)}")
    return Finding(report.verdict, tuple(lines))


def announce(store: Store, checked: DriftCheck, log: Log) -> None:
    """Post the verdict unless it was posted last, whatever version that was of.

    The first verdict is compared with steady. A window that is too small has no verdict. What
    nobody took is posted by the next check that comes to the same.
    """
    verdict, reasons = checked.report.verdict, checked.report.reasons
    model = store.settings.registered_model
    told = store.client.get_registered_model(model).tags.get(TOLD, STATES[0])
    if verdict not in STATES or verdict == told:
        return
    message = f"version {checked.version}: {told} → {verdict}: {reasons[0]}"
    run = str(flow_run.flow_name), str(flow_run.id)
    if post(*run, verdict, message, log, store.settings.project):
        store.client.set_registered_model_tag(model, TOLD, verdict)


@flow(name=DRIFT_FLOW_NAME, **FLOW)
def flipkart_drift_flow(
    store: str | None = None,
    log_url: str | None = None,
    drift_window: Annotated[int, Field(ge=1)] = NEWEST,
    drift_days: Annotated[float, Field(gt=0)] | None = None,
    min_reviews: Annotated[int, Field(ge=1)] = MIN_WINDOW,
    project: str | None = None,
) -> str:
    """Compare incoming reviews with the training data of the production version; train nothing.

    Args:
        store: folder of mlflow.db and mlruns; where the scripts are when empty.
        log_url: the prediction log, without its password, which is taken from SENTIMENT_LOG_URL of
            the service; the SQLite file beside the store when empty.
        drift_window: newest answers that are compared at most.
        drift_days: compare those of so many days; those since the last check when empty.
        min_reviews: fewer are not enough for a verdict.
        project: the product whose model is checked; the one without a name when empty.

    """
    window = drift_window, drift_days, min_reviews
    lines = check_drift(store, log_url, *window, project, needed=True).lines
    key = Settings(project).artifact("drift-report")
    create_markdown_artifact(f"# {lines_section(lines)}", key=key, description=lines[0])
    print(lines[0])
    return lines[0]
