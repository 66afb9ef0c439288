"""Drift flow: a check of what comes in, each hour; the same check is the retraining's first step.

Nothing is trained here. A verdict other than the one before is posted to `ALERT_WEBHOOK_URL`, once,
whichever of the two flows finds it first.
"""

# No `from __future__ import annotations` here: a runner loads the flow by its file's path, and then
# Prefect could not resolve the names of the parameters' types.

from dataclasses import dataclass

from filelock import FileLock
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from sentiment.drift.report import STATES, DriftCheck
from sentiment.drift.runs import run_check, verdict_changed
from sentiment.drift.window import LogWindow
from sentiment.errors import DriftReferenceError, ServingError, WindowError
from sentiment.flows.alerts import Log, alert, post
from sentiment.flows.report import lines_section, run_link
from sentiment.flows.tasks import IN_MEMORY, TRANSIENT
from sentiment.tracking.store import REGISTERED_MODEL, Store, open_store

DRIFT_FLOW_NAME = "Flipkart Sentiment Drift Flow"
DRIFT_DEPLOYMENT_NAME = "flipkart-sentiment-drift-deployment"
DRIFT_CRON = "0 * * * *"
DRIFTED, TOO_FEW = "drifted", "not enough yet"
TOLD = "drift_told"  # tag of the registered model: the verdict that the webhook was told last
LOCK_SECONDS = 120  # for the other flow's check; of a million logged answers one takes less


@dataclass(frozen=True)
class Finding:
    """What a check came to: `verdict` is None where none could be made; `lines` say it."""

    verdict: str | None
    lines: tuple[str, ...]


@task(name="check_drift", **IN_MEMORY, **TRANSIENT)
def check_drift(store: str | None, log_url: str | None, *, needed: bool = False) -> Finding:
    """Compare what comes in with what the version in production was trained on.

    Where that cannot be done the finding says why in a line. What may be mended by waiting is
    raised if the check is `needed` for itself, and else is no reason to hold anything up; nor is
    there a run in MLflow then for a check that says what the one before said.
    """
    try:
        finding = check_log(open_store(store), log_url, get_run_logger(), keep=needed)
    except WindowError as error:
        finding = Finding(TOO_FEW, (f"{TOO_FEW}: {error}",))
    except (DriftReferenceError, ServingError) as error:
        finding = Finding(None, (f"not checked: {error}",))
    except Exception as error:  # whatever it is, it must not keep the model from being trained
        if needed:
            raise
        said = " ".join(f"{type(error).__name__}: {error}".split())
        finding = Finding(None, (f"not checked: {said}",))
    for line in finding.lines:
        print(line)
    return finding


def check_log(store: Store, log_url: str | None, log: Log, *, keep: bool = True) -> Finding:
    """Check the version in production, and tell the webhook. Raises as `run_check` does.

    Unless it is to `keep`, a check that changes no verdict is not written to MLflow: a flow that
    retrains every five minutes would add a run with figures each time.
    """

    def worth_a_run(checked: DriftCheck) -> bool:
        return keep or verdict_changed(store, checked)

    # one at a time, so that verdicts come in an order, and a change is told once
    with FileLock(store.studies / "drift.lock", timeout=LOCK_SECONDS):
        checked = run_check(store, LogWindow(log_url), keep=worth_a_run)
        announce(store, checked, log)
    report = checked.report
    of = f"version {checked.version}, {checked.reviews:,} reviews of the {checked.source}"
    return Finding(
        report.verdict,
        (
            f"{report.verdict} ({of}): {report.summary}",
            *report.reasons,
            *checked.notes,
            report.advice,
            *([f"MLflow run: {run_link(store, checked.run_id)}"] if checked.run_id else []),
        ),
    )


def announce(store: Store, checked: DriftCheck, log: Log) -> None:
    """Post the verdict unless it is the one that was posted last, whatever version that was of.

    At first all is taken to be steady. A window that is too small has no verdict. What nobody took
    is posted by the next check, if it still is so.
    """
    verdict, reasons = checked.report.verdict, checked.report.reasons
    told = store.client.get_registered_model(REGISTERED_MODEL).tags.get(TOLD, STATES[0])
    if verdict not in STATES or verdict == told:
        return
    message = f"version {checked.version}: {told} → {verdict}: {reasons[0]}"
    if post(str(flow_run.flow_name), str(flow_run.id), verdict, message, log):
        store.client.set_registered_model_tag(REGISTERED_MODEL, TOLD, verdict)


@flow(
    name=DRIFT_FLOW_NAME,
    description="Compares what comes in with what production was trained on; trains nothing.",
    log_prints=True,
    on_failure=[alert],
    on_crashed=[alert],
)
def flipkart_drift_flow(store: str | None = None, log_url: str | None = None) -> str:
    """Check once and return the finding in a line.

    Args:
        store: folder of mlflow.db and mlruns; the project's own when empty.
        log_url: the prediction log; the SQLite file beside the store when empty.

    """
    finding = check_drift(store, log_url, needed=True)
    said = finding.lines[0]
    create_markdown_artifact(lines_section(finding.lines), key="drift-report", description=said)
    return said
