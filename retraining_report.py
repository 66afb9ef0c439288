"""Retraining report: one scheduled run in Markdown, for the Prefect UI."""

from __future__ import annotations

from model_report import FittedModel, PreparedReviews
from retraining import Chosen, Outcome
from tracking import LEDGER, Store, experiment_id

LOCAL_UI = "http://127.0.0.1:5000"  # where `make mlflow-ui` serves a local store


def report(
    store: Store,
    chosen: Chosen,
    fitted: FittedModel,
    prepared: PreparedReviews,
    outcome: Outcome,
    said: str,
) -> str:
    """The run in Markdown: scores with intervals, verdict, what changed, where to look."""
    ui = store.uri if store.uri.startswith("http") else LOCAL_UI
    link = f"{ui}/#/experiments/{experiment_id(store, LEDGER)}/runs/{outcome.run_id}"
    scores = {
        "test macro-F1": fitted.test_f1,
        "… on texts not in training": fitted.test_f1_unseen,
        "test accuracy": fitted.test_accuracy,
        "recall of negative": fitted.test_recall_negative,
    }
    rows = [f"| {name} | {s.value:.4f} | {s.low:.4f}–{s.high:.4f} |" for name, s in scores.items()]
    return "\n".join(
        [
            f"**{said}**",
            "",
            "| score | value | 95 % interval |",
            "|---|---|---|",
            f"| train macro-F1 | {fitted.train_f1:.4f} | |",
            *rows,
            "",
            f"- Outcome: {outcome.sentence()}",
            f"- Configuration: {chosen.origin}",
            f"- Data: `{prepared.loaded.source.name}`, digest `{prepared.digest}`, "
            f"{prepared.loaded.dropped()}",
            f"- MLflow run: [{outcome.run_id}]({link})",
        ]
    )
