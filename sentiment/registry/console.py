"""Show versions, the ledger and verdicts on the console, and the command that promotes a version.

Times are shown with their zone, so they can be copied into `which --at`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd

from sentiment.console import Terminal
from sentiment.data.reviews import RATING_COLUMN, TEXT_COLUMN
from sentiment.registry.gate import Verdict
from sentiment.tracking.ledger import Event
from sentiment.tracking.store import PROJECT, Store

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def versions_table(
    versions: Mapping[str, ModelVersion], aliases: Mapping[str, list[str]]
) -> pd.DataFrame:
    """Return a row a version, oldest first; `aliases` maps a version to its aliases."""
    rows = [
        {
            "version": number,
            "model": version.tags.get("model", ""),
            "CV F1": _rounded(version.tags.get("cv_f1_macro")),
            "test F1": _rounded(version.tags.get("test_f1")),
            "stage": version.current_stage,
            "aliases": ", ".join(aliases.get(number, [])),
            "data": version.tags.get("data_digest", ""),
            "created": _created(version),
        }
        for number, version in versions.items()
    ]
    return pd.DataFrame(rows)


def version_table(
    store: Store, version: ModelVersion, aliases: list[str], events: list[Event]
) -> pd.DataFrame:
    """Return everything about one version in two columns, `what` and `value`."""
    number = str(version.version)
    rows = [
        ("version", f"{number} of {store.settings.registered_model}"),
        ("stage", str(version.current_stage)),
        ("aliases", ", ".join(aliases) or "none"),
        ("created", _created(version)),
        ("run", str(version.run_id)),
        ("source", str(version.source)),
    ]
    run = store.client.get_run(str(version.run_id))
    rows += sorted((k, v) for k, v in version.tags.items() if k not in run.data.metrics)
    rows += [(name, value) for name, value in sorted(run.data.params.items()) if name != "model"]
    rows += [(name, f"{value:g}") for name, value in sorted(run.data.metrics.items())]
    for event in events:
        if number in (event.target, event.origin):
            rows.append(("event", f"{local_time(event.when)} {event.action} {change(event)}"))
    shown = dict.fromkeys(rows)  # a tag and a parameter of the same name and value once
    return pd.DataFrame(list(shown), columns=["what", "value"])


def history_table(events: list[Event]) -> pd.DataFrame:
    """Return a row an event, oldest first."""
    rows = [
        {
            "when": local_time(event.when),
            "action": event.action + (" (forced)" if event.forced else ""),
            "version": change(event),
            "who": event.who,
            "why": event.why,
        }
        for event in events
    ]
    return pd.DataFrame(rows)


def show_verdict(verdict: Verdict, terminal: Terminal) -> None:
    """Print what was compared, the figures, and the verdict."""
    if verdict.scores:
        terminal.say(verdict.rows_sentence())
        terminal.table("Gate", verdict.table())
    if verdict.note:
        terminal.say(verdict.note)
    terminal.say(verdict.sentence(), always=True)


def promotion_command(
    store: Store, version: str, data: str, text_column: str | None, rating_column: str | None
) -> str:
    """Return the command that puts the version through the gate for production."""
    words = ["python", "-m", "sentiment", "promote", version, "--to", "production"]
    for flag, value, default in (
        ("--data", data, str(PROJECT / "data.csv")),
        ("--text-column", text_column, TEXT_COLUMN),
        ("--rating-column", rating_column, RATING_COLUMN),
        ("--store", str(store.folder), str(PROJECT)),
    ):
        words += [] if value in {default, None} else [flag, str(value)]
    return shlex.join(words)


def change(event: Event) -> str:
    """Return `1 → 2`, or `→ 1` where nothing was there before."""
    return f"{event.origin or ''} → {event.target}".strip()


def local_time(when: datetime) -> str:
    """Return a time like `2026-03-01T13:00:00.000+01:00`: the ledger keeps milliseconds."""
    return when.astimezone().isoformat(timespec="milliseconds")


def _created(version: ModelVersion) -> str:
    return local_time(datetime.fromtimestamp(int(version.creation_timestamp) / 1000, UTC))


def _rounded(score: str | None) -> str:
    return "" if score is None else f"{float(score):.4f}"
