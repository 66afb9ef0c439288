"""Tell people what a scheduled run did: a report in the Prefect UI, an alert to Slack and the like.

`ALERT_URL` is told of runs that fail, of changes of production and of the drift verdict. It has one
or more addresses, parted by blanks, of the services that apprise knows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.logging.loggers import flow_run_logger

from sentiment.complaints.page import markdown
from sentiment.complaints.reviews import reviews_of_frame
from sentiment.complaints.themes import find_complaints
from sentiment.data.labels import CLASS_NAMES
from sentiment.data.reviews import LoadedReviews
from sentiment.environment import variable
from sentiment.errors import ServiceError, VariableError
from sentiment.flows.retraining import Chosen, Outcome, Passage
from sentiment.masking import ALERTS, mask
from sentiment.metrics import confusion
from sentiment.predictions.feedback import LabelledReviews
from sentiment.tracking.store import Store, run_url
from sentiment.training.report import FittedModel, PreparedReviews

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.flows import Flow

MOST_REVIEWS = 50_000  # whose complaints are looked for, after the gate: some 100 MB and seconds
ALERT_SECONDS = 15  # for all addresses; apprise waits 4 s for an answer
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
    said, key = headline(run), store.settings.artifact
    written = report(store, run, get_run_logger())
    create_markdown_artifact(written, key=key("retraining-report"), description=said)
    if run.fitted is not None:
        counts = confusion(run.prepared.split.y_test, run.fitted.predicted).astype(int).tolist()
        columns = [f"predicted {name}" for name in CLASS_NAMES]
        rows: list[dict[str, Any]] = [
            {"true": name, **dict(zip(columns, row, strict=True))}
            for name, row in zip(CLASS_NAMES, counts, strict=True)
        ]
        create_table_artifact(rows, key=key("confusion-matrix"), description="holdout, reviews")


def report(store: Store, run: ScheduledRun, log: Log) -> str:
    """Return the run in Markdown: what happened, drift, what was trained with which scores."""
    labelled, outcome = run.labelled, run.outcome
    lines = [
        f"# {headline(run)}\n",
        f"{run.passage.sentence}",
        "\n### What drifted\n",
        lines_section(run.drift),
        f"\n### {'What was trained' if run.fitted else 'What there was to train on'}\n",
        f"- Outcome: {outcome.sentence()}",
        f"- Configuration: {run.chosen.origin}",
        f"- Data: `{labelled.loaded.source.name}`: {labelled.file_read}",
    ]
    if labelled.note:
        lines.append(f"- Feedback: {labelled.note}; {len(labelled.loaded.frame):,} reviews in all")
    lines.append(f"- Digest of the reviews: `{labelled.digest}`")
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
        complaints = complaints_section(labelled.loaded, log)
        lines += ["\n### What customers complain about\n", complaints]
    return "\n".join(lines)


def complaints_section(loaded: LoadedReviews, log: Log) -> str:
    """Return themes and counts of the newest `MOST_REVIEWS` as Markdown, and nobody's review.

    Prefect's store is another place than the reviews'. What fails is logged and not raised: the run
    has promoted by then.
    """
    try:
        found = markdown(find_complaints(reviews_of_frame(loaded, MOST_REVIEWS)))
    except Exception as error:
        kind = type(error).__name__  # its message and traceback may quote a customer
        log.warning("the report has no complaints, as finding them failed: %s", kind)
        return f"Not available: finding them failed ({kind})."
    reviews = len(loaded.frame)
    if reviews <= MOST_REVIEWS:
        return found
    cut = f"Only the newest {MOST_REVIEWS:,} of {reviews:,} reviews, the last rows, were looked at."
    return f"{cut}\n\n{found}"


def headline(run: ScheduledRun) -> str:
    """Return what happened in a line: what was trained, and what became of it."""
    if run.passage.promoted is not None:
        return run.passage.news()
    if run.fitted is None:
        return "Nothing to train"
    trained = f"Trained {run.fitted.algorithm}: {run.outcome.sentence()}"
    return f"{trained}, not promoted" if run.outcome.new else trained


def line_of(run: ScheduledRun) -> str:
    """Return the run in the one line that a service's terminal shows of it."""
    scores = ""
    if run.fitted is not None:
        f1 = run.fitted.test_f1
        scores = f"; test macro-F1 {f1.value:.4f} [{f1.low:.4f}, {f1.high:.4f}]"
    drift = run.drift[0].partition(":")[0]
    return f"{headline(run)}{scores}: {run.passage.sentence}; drift: {drift}"


def lines_section(lines: Sequence[str]) -> str:
    """Return lines as Markdown: the first as a paragraph, the others as a list below it."""
    return "\n".join([lines[0], "", *(f"- {line}" for line in lines[1:])]).rstrip()


def run_link(store: Store, run_id: str) -> str:
    """Return a Markdown link to a run, or where no UI is known the command that serves one."""
    command = store.ui_command()
    if command is None:
        return f"[{run_id}]({run_url(store, run_id)})"
    return f"`{run_id}`, which `{command}` shows"


def alert(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook of a run that failed or crashed: log it and post it. Nothing is raised."""
    message = ((state.message or "").splitlines() or [""])[0]
    log = flow_run_logger(flow_run, flow)
    log.error("run %s: %s: %s", flow_run.id, state.name, message)
    project = flow_run.parameters.get("project")
    post(flow.name, str(flow_run.id), str(state.name), message, log, project)


def check_alerts() -> None:
    """Raise `ServiceError` unless `ALERT_URL`, where it is set, has addresses that can be used."""
    for number, address in enumerate(_addresses(), 1):
        if _service(address, {}) is None:
            raise ServiceError(
                f"{ALERTS}, address {number}: expected one that apprise takes, such as slack://…, "
                "msteams://…, mailto://… or https://… for a webhook; correct or unset it"
            )


def post(
    flow: str, run: str, state: str, message: str, log: Log, project: str | None = None
) -> bool:
    """Send these to each address in `ALERT_URL`; return whether at least one took them.

    A plain webhook gets them as a JSON object, with `project` where one is named. Without the
    variable nobody is told. What fails is logged, not raised, and takes `ALERT_SECONDS` at most.
    """
    try:
        addresses = _addresses()
    except VariableError as error:
        log.error("%s", error)
        return False
    if not addresses:
        return False
    body = {"flow": flow, "run": run, "state": state, "message": mask(message)}
    body |= {"project": project} if project else {}
    taken: list[str] = []

    def send(address: str) -> None:
        if _sent(address, body):
            taken.append(address)

    # A server that sends its answer byte by byte would keep a run for ever
    sending = [threading.Thread(target=send, args=(one,), daemon=True) for one in addresses]
    until = time.monotonic() + ALERT_SECONDS
    for thread in sending:
        thread.start()
    for thread in sending:
        thread.join(max(0.0, until - time.monotonic()))
    missed = len(addresses) - len(taken)
    if missed:
        log.error("%d of %d addresses in %s did not take the alert", missed, len(addresses), ALERTS)
    return bool(taken)


def _addresses() -> list[str]:
    return (variable(ALERTS) or "").split()


def _sent(address: str, body: Mapping[str, str]) -> bool:
    """Return whether the service took it. Nothing is raised, and no address comes into a log."""
    try:
        service = _service(address, body)
        if service is None:
            return False
        title = ": ".join(body[name] for name in ("project", "flow", "state") if name in body)
        return bool(service.notify(body["message"], title=title, body_format="text"))
    except Exception:  # apprise has a hundred services, and each its own
        return False


def _service(address: str, body: Mapping[str, str]) -> Any:
    """Return apprise's service for an address, None for one it does not know.

    It knows those of Slack and others as these give them out. Another of http or https is a
    webhook.
    """
    import apprise  # takes half a second

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it names hosts
    known = apprise.Apprise.instantiate(address)
    if known is not None or not address.startswith(("http://", "https://")):
        return known
    try:
        parts = urlsplit(address)
        where = {"host": parts.hostname, "port": parts.port, "fullpath": parts.path or "/"}
    except ValueError:
        return None
    if not parts.hostname:
        return None
    secure = parts.scheme == "https"
    extra = {name: value for name, value in body.items() if name != "message"}
    user, password = (unquote(given or "") or None for given in (parts.username, parts.password))
    return apprise.Apprise.instantiate(
        {
            "schema": "jsons" if secure else "json",
            "secure": secure,
            **where,
            "user": user,
            "password": password,
            "params": dict(parse_qsl(parts.query, keep_blank_values=True)),
            # apprise's own fields are left out
            "payload": {"version": "", "title": "", "attachments": "", "type": "", **extra},
            "redirect": "no",  # a POST would become a GET
        }
    )
