"""The model card: a page in Markdown about one trained model.

Everything on it is read from the run in MLflow, so the card of a run is the same whenever and
wherever it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from sentiment.data.labels import GUIDES, LABEL_RULE
from sentiment.errors import TrackingError
from sentiment.masking import line
from sentiment.metrics import HOLDOUT_SCORES
from sentiment.model.behaviour import Case
from sentiment.model.calibration import DECISION_RULE, OWN
from sentiment.tracking.store import TAG, Store, scores_of

CARD = "model_card.md"
IN_BRIEF = ("What it does", "How good it is", "What it is not for")


def model_card(store: Store, run_id: str) -> str:
    """Return the card of a run of the experiment or the flow, in Markdown.

    Raises `TrackingError` for any other run.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        run = store.client.get_run(run_id)
        tables = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path="tables", tracking_uri=store.uri
        )
        per_class, audit, behaviour = (
            pd.read_csv(f"{tables}/{name}.csv", keep_default_na=False)
            for name in ("per_class", "audit", "behaviour")
        )
    except (MlflowException, OSError) as error:
        reason = line(str(error).partition("\n")[0])
        raise TrackingError(
            f"run {run_id}: is not a run with a model's report ({reason}); take the id of a "
            "parent run from the MLflow UI"
        ) from None
    params, metrics, tags = run.data.params, scores_of(run), run.data.tags
    found = f" (macro-F1 {metrics['cv_f1_macro']:.4f})" if "cv_f1_macro" in metrics else ""
    parameters = _rows([key, params[key]] for key in sorted(params) if key != "model")
    scores = _rows(
        [label, f"{metrics[key]:.4f}", f"{metrics[key + '_low']:.4f}–{metrics[key + '_high']:.4f}"]
        for label, key in HOLDOUT_SCORES.items()
    )
    classes = _rows(
        [name, *(f"{score:.4f}" for score in scores), f"{reviews:,}"]
        for name, *scores, reviews in per_class.itertuples(index=False)
    )
    checks = _rows(
        [row["check"], f"{row['count']:,}", f"{row['share']:.1%} of {row['of']}"]
        for _, row in audit.iterrows()
    )
    return f"""\
# {store.settings.registered_model}: {params.get("model", "model")}

Run `{run_id}`, commit `{tags.get(TAG + "git_commit", "unknown")}`.

## What it does
Takes the text of a product review and says whether its writer was content: 1 (positive) or
0 (negative), as its training reviews had it: {tags.get(TAG + LABEL_RULE, GUIDES)}.
Cleaning, TF-IDF and classifier are one artifact. Probabilities come from a sigmoid on decision
values of five held-out folds.

## How it was trained
On `{tags.get(TAG + "data_name")}` (digest `{tags.get(TAG + "data_digest")}`): 70 % of
the {int(tags.get(TAG + "reviews", 0)):,} reviews left after the checks below; the parameters
were chosen by five-fold cross-validation within that part{found}.

| parameter | value |
|---|---|
{parameters}

## How good it is
On the holdout, the other 30 %, with 95 % intervals (out of fold: on the training part, each review
by a model that had not seen it):

| score | value | interval |
|---|---|---|
{scores}

On the training part macro-F1 is {metrics["train_f1"]:.4f}.
{_decision(tags, metrics)}

| class | precision | recall | F1 | reviews |
|---|---|---|---|---|
{classes}

## How it behaves
{_behaviour(tags, behaviour)}

## The data behind it
| check | count | share |
|---|---|---|
{checks}

## What it is not for
Stars are taken for sentiment, so a kind text with one star counts as negative. It knows
the words of its training reviews only: for other products, languages or channels measure
it on labelled reviews of theirs first. It judges texts, not people.

## Use it
```python
import mlflow, pandas
mlflow.set_tracking_uri("…")  # the store this run is in
model = mlflow.pyfunc.load_model("{tags.get(TAG + "model_uri", "models:/…")}")
model.predict(pandas.DataFrame({{"text": texts}}))  # for a list of texts
```
"""


def card_in_brief(card: str) -> str:
    """Return the parts of a card that a description has room for."""
    _, *parts = card.split("\n## ")
    kept = [part for part in parts if part.startswith(IN_BRIEF)]
    return "\n".join(
        [*(f"## {part.strip()}\n" for part in kept), f"More: `{CARD}`, among the artifacts."]
    )


def _rows(rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _decision(tags: Mapping[str, str], metrics: Mapping[str, float]) -> str:
    """Say from which probability a review is positive, and how that was set."""
    rule = tags.get(TAG + DECISION_RULE, str(OWN))
    set_to = f"{rule} threshold" if rule == str(OWN) else f"set out of fold to a {rule}"
    return f"Positive from a probability of {metrics['threshold']:.4f}, {set_to}."


def _behaviour(tags: Mapping[str, str], table: pd.DataFrame) -> str:
    """Return the counts of the behaviour tests, and each case that failed."""
    intro = (
        "Tests with sentences of our own (minimum: plain ones get their label; direction: an\n"
        "addition moves the probability the right way; invariance: what says nothing about the\n"
        f"product hardly moves it): {tags.get(TAG + 'behaviour', 'not run')}.\n"
    )
    asked = table[table["outcome"] != "does not apply"]
    if asked.empty:
        return intro.rstrip()
    cases = asked.assign(failed=asked["outcome"] == "failed")
    of_what = cases.groupby(["kind", "capability"], sort=False)["failed"].agg(["size", "sum"])
    counts = _rows(map(str, row) for row in of_what.reset_index().itertuples(index=False))
    lines = [intro, "| kind | of what | cases | failed |", "|---|---|---|---|", counts]
    failed = cases[cases["failed"]]
    if len(failed):
        lines.append("\nFailed, with the probability of positive:\n")
    for row in failed.to_dict("records"):
        case = Case(
            *(str(row[name]) for name in ("kind", "capability", "text", "expected", "changed"))
        )
        found = f"{float(row['probability']):.2f}"
        found += f" → {float(row['probability_changed']):.2f}" if case.changed else ""
        lines.append(f"- {case} ({found})")
    return "\n".join(lines)
