"""Tell people what a scheduled run did: a report in the Prefect UI, an alert to a webhook.

`ALERT_WEBHOOK_URL` is told of runs that fail and of changes of the drift verdict.
"""

from __future__ import annotations

import json
import logging
import os
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.logging.loggers import flow_run_logger

from sentiment.data.labels import CLASS_NAMES
from sentiment.flows.retraining import Chosen, Outcome, Passage
from sentiment.metrics import confusion
from sentiment.predictions.feedback import LabelledReviews
from sentiment.tracking.store import Store, run_url
from sentiment.training.report import FittedModel, PreparedReviews

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.flows import Flow

WEBHOOK_SECONDS = 5
Log: TypeAlias = "logging.Logger | logging.LoggerAdapter[Any]"


@dataclass(frozen=True)
class ScheduledRun:
    """What one run did: `drift` is what the check said; `fitted` is None if nothing was trained."""

    drift: Sequence[str]
    chosen: Chosen
    labelled: LabelledReviews
    prepared: PreparedReviews
    fitted: FittedModel | None
    outcome: Outcome
    passage: Passage


def leave_artifacts(store: Store, run: ScheduledRun) -> None:
    """Leave the report and, of a new model, the confusion matrix in the Prefect UI."""
    said, key = run.passage.news() or run.passage.sentence, store.settings.artifact
    create_markdown_artifact(report(store, run), key=key("retraining-report"), description=said)
    if run.fitted is not None:
        counts = confusion(run.prepared.split.y_test, run.fitted.predicted).astype(int).tolist()
        columns = [f"predicted {name}" for name in CLASS_NAMES]
        rows: list[dict[str, Any]] = [
            {"true": name, **dict(zip(columns, row, strict=True))}
            for name, row in zip(CLASS_NAMES, counts, strict=True)
        ]
        create_table_artifact(rows, key=key("confusion-matrix"), description="holdout, reviews")


def report(store: Store, run: ScheduledRun) -> str:
    """Return the run in Markdown: drift, what was trained with which scores, the verdict."""
    labelled, outcome = run.labelled, run.outcome
    lines = [
        *([f"# {news}\n"] if (news := run.passage.news()) else []),
        f"**{run.passage.sentence}**",
        "\n### What drifted\n",
        lines_section(run.drift),
        "\n### What was trained\n",
        f"- Outcome: {'' if run.fitted else 'nothing to train: '}{outcome.sentence()}",
        f"- Configuration: {run.chosen.origin}",
        f"- Data: `{labelled.loaded.source.name}`, digest `{labelled.digest}`, "
        f"{labelled.loaded.dropped()}",
    ]
    if labelled.note:
        lines.append(f"- Feedback: {labelled.note}")
    lines.append(f"- MLflow run: {run_link(store, outcome.run_id)}")
    if run.fitted:
        scores = {
            "test macro-F1": run.fitted.test_f1,
            "… on texts not in training": run.fitted.test_f1_unseen,
            "test accuracy": run.fitted.test_accuracy,
            "recall of negative": run.fitted.test_recall_negative,
        }
        lines += ["\n| score | value | 95 % interval |", "|---|---|---|"]
        lines.append(f"| train macro-F1 | {run.fitted.train_f1:.4f} | |")
        lines += [
            f"| {name} | {score.value:.4f} | {score.low:.4f}–{score.high:.4f} |"
            for name, score in scores.items()
        ]
    return "\n".join([*lines, "\n### Verdict\n", run.passage.sentence])


def lines_section(lines: Sequence[str]) -> str:
    """Return lines as Markdown: the first as a paragraph, the others as a list below it."""
    return "\n".join([lines[0], "", *(f"- {line}" for line in lines[1:])]).rstrip()


def run_link(store: Store, run_id: str) -> str:
    """Return a Markdown link to a run in the MLflow UI."""
    return f"[{run_id}]({run_url(store, run_id)})"


def alert(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook of a run that failed or crashed: log it and post it. Nothing is raised."""
    message = ((state.message or "").splitlines() or [""])[0]
    log = flow_run_logger(flow_run, flow)
    log.error("run %s: %s: %s", flow_run.id, state.name, message)
    project = flow_run.parameters.get("project")
    post(flow.name, str(flow_run.id), str(state.name), message, log, project)


def post(
    flow: str, run: str, state: str, message: str, log: Log, project: str | None = None
) -> bool:
    """Post a JSON object of these four to `ALERT_WEBHOOK_URL`; return whether it was taken.

    It also has the `project` where one is named. Without the variable nobody is told. An error is
    logged, not raised.
    """
    url = os.environ.get("ALERT_WEBHOOK_URL")
    if not url:
        return False
    body = {"flow": flow, "run": run, "state": state, "message": message}
    body |= {"project": project} if project else {}
    try:
        request = urllib.request.Request(
            url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=WEBHOOK_SECONDS).close()
    except (OSError, ValueError) as error:
        log.error("the alert could not be posted: %s", error)
        return False
    return True
