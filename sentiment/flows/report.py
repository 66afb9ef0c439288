"""Retraining report: one scheduled run in Markdown, for the Prefect UI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sentiment.flows.retraining import Chosen, Outcome
from sentiment.predictions.feedback import LabelledReviews
from sentiment.tracking.store import Store
from sentiment.training.report import FittedModel

LOCAL_UI = "http://127.0.0.1:5000"  # where `make mlflow-ui` serves a local store


@dataclass(frozen=True)
class ScheduledRun:
    """What one run did; `drift` is what the check said, and `fitted` None where nothing was."""

    drift: Sequence[str]
    chosen: Chosen
    labelled: LabelledReviews
    fitted: FittedModel | None
    outcome: Outcome
    verdict: str


def report(store: Store, run: ScheduledRun) -> str:
    """The run in Markdown: what drifted → what was trained → the verdict; scores; where to look."""
    labelled, outcome = run.labelled, run.outcome
    trained = "nothing was trained" if run.fitted is None else "logistic regression"
    return "\n".join(
        [
            f"**{run.verdict}**",
            "",
            "### What drifted",
            "",
            lines_section(run.drift),
            "",
            "### What was trained",
            "",
            f"- Outcome: {trained}, {outcome.sentence()}",
            f"- Configuration: {run.chosen.origin}",
            f"- Data: `{labelled.loaded.source.name}`, digest `{labelled.digest}`, "
            f"{labelled.loaded.dropped()}",
            *([f"- Feedback: {labelled.note}"] if labelled.note else []),
            f"- MLflow run: {run_link(store, outcome.run_id)}",
            "",
            *([] if run.fitted is None else [_scores(run.fitted), ""]),
            "### Verdict",
            "",
            run.verdict,
        ]
    )


def lines_section(lines: Sequence[str]) -> str:
    """A first line that says it, and the others below it as a list."""
    return "\n".join([lines[0], "", *(f"- {line}" for line in lines[1:])]).rstrip()


def run_link(store: Store, run_id: str) -> str:
    """A run of the store as a link to the MLflow UI."""
    ui = store.uri if store.uri.startswith("http") else LOCAL_UI
    experiment = store.client.get_run(run_id).info.experiment_id
    return f"[{run_id}]({ui}/#/experiments/{experiment}/runs/{run_id})"


def _scores(fitted: FittedModel) -> str:
    scores = {
        "test macro-F1": fitted.test_f1,
        "… on texts not in training": fitted.test_f1_unseen,
        "test accuracy": fitted.test_accuracy,
        "recall of negative": fitted.test_recall_negative,
    }
    return "\n".join(
        [
            "| score | value | 95 % interval |",
            "|---|---|---|",
            f"| train macro-F1 | {fitted.train_f1:.4f} | |",
            *(
                f"| {name} | {score.value:.4f} | {score.low:.4f}–{score.high:.4f} |"
                for name, score in scores.items()
            ),
        ]
    )
