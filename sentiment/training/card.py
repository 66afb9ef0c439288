"""The model card: a page in Markdown about one trained model.

Everything on it is read from the run in MLflow, so the card of a run is the same whenever and
wherever it is made.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sentiment.errors import TrackingError
from sentiment.tracking.store import TAG, Store

CARD = "model_card.md"
SCORES = {
    "macro-F1": "test_f1",
    "macro-F1, texts not in training": "test_f1_unseen",
    "accuracy": "test_accuracy",
    "recall of negative": "test_recall_negative",
    "Brier score of the probabilities": "test_brier",
}


def model_card(store: Store, run_id: str) -> str:
    """Return the card of a run of the experiment or the flow, in Markdown.

    Raises `TrackingError` for any other run.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        run = store.client.get_run(run_id)
        tables = Path(
            mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path="tables", tracking_uri=store.uri
            )
        )
        per_class = pd.read_csv(tables / "per_class.csv")
        audit = pd.read_csv(tables / "audit.csv")
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise TrackingError(
            f"run {run_id}: is not a run with a model's report ({reason}); take the id of a "
            "parent run from the MLflow UI"
        ) from None
    params, metrics, tags = run.data.params, run.data.metrics, run.data.tags
    settings = {key: value for key, value in sorted(params.items()) if key != "model"}
    scores = [
        f"| {label} | {metrics[key]:.4f} "
        f"| {metrics[key + '_low']:.4f}–{metrics[key + '_high']:.4f} |"
        for label, key in SCORES.items()
    ]
    classes = [
        f"| {row['class']} | {row['precision']:.4f} | {row['recall']:.4f} | {row['f1']:.4f} "
        f"| {row['reviews']:,} |"
        for _, row in per_class.iterrows()
    ]
    checks = [
        f"| {row['check']} | {row['count']:,} | {row['share']:.1%} of {row['of']} |"
        for _, row in audit.iterrows()
    ]
    cv = metrics.get("cv_f1_macro")
    lines = [
        f"# {store.settings.registered_model}: {params.get('model', 'model')}",
        "",
        f"Run `{run_id}`, commit `{tags.get(TAG + 'git_commit', 'unknown')}`.",
        "",
        "## What it does",
        "Takes the text of a product review and says whether its writer was content: 1 (positive,",
        "three to five stars) or 0 (negative, one or two). Cleaning, TF-IDF and classifier are one",
        "artifact. Probabilities come from a sigmoid on decision values of five held-out folds.",
        "",
        "## How it was trained",
        f"On `{tags.get(TAG + 'data_name')}` (digest `{tags.get(TAG + 'data_digest')}`): 70 % of",
        f"the {int(tags.get(TAG + 'reviews', 0)):,} reviews left after the checks below; the "
        "parameters",
        "were chosen by five-fold cross-validation within that part"
        + (f" (macro-F1 {cv:.4f})." if cv is not None else "."),
        "",
        "| parameter | value |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in settings.items()),
        "",
        "## How good it is",
        "On the other 30 %, with 95 % bootstrap intervals:",
        "",
        "| score | value | interval |",
        "|---|---|---|",
        *scores,
        "",
        f"On the training part macro-F1 is {metrics['train_f1']:.4f}.",
        "",
        "| class | precision | recall | F1 | reviews |",
        "|---|---|---|---|---|",
        *classes,
        "",
        "## The data behind it",
        "| check | count | share |",
        "|---|---|---|",
        *checks,
        "",
        "## What it is not for",
        "Stars are taken for sentiment, so a kind text with one star counts as negative. It knows",
        "the words of its training reviews only: for other products, languages or channels measure",
        "it on labelled reviews of theirs first. It judges texts, not people.",
        "",
        "## Use it",
        "```python",
        "import mlflow, pandas",
        'mlflow.set_tracking_uri("…")  # the store this run is in',
        f'model = mlflow.pyfunc.load_model("{tags.get(TAG + "model_uri", "models:/…")}")',
        'model.predict(pandas.DataFrame({"text": texts}))  # for a list of texts',
        "```",
        "",
    ]
    return "\n".join(lines)
