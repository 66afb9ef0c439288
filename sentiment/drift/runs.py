"""Drift run: a check that was made as a run of the ledger experiment, and the last one at hand.

Metrics have the names of the signals (`drift.score_psi`, and `_limit`, `_reference`), so that drift
over time is a chart in MLflow; figures, page and JSON are artifacts. The run is begun when all of
it is there, so that a check that fails leaves none.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from sentiment.data.tables import appearing_whole
from sentiment.drift.outcome import CheckedWindow, scores
from sentiment.drift.page import drift_page
from sentiment.drift.report import STATES
from sentiment.flows.drift_figures import drawn
from sentiment.tracking.store import (
    FAILED,
    FINISHED,
    KILLED,
    LEDGER,
    RUNNING,
    TAG,
    Store,
    begin_run,
    end_run,
    experiment_id,
    log_values,
)

KIND, DRIFT, REPLAY = TAG + "kind", "drift", "drift-replay"
VERDICT, VERSION, SOURCE = TAG + "verdict", TAG + "version", TAG + "source"
PAGE, REPORT = "drift_report.html", "drift_report.json"  # artifacts
FIGURES = "figures"  # their folder
LATEST = "drift"  # the folder beside the store that has the last check as latest.html and .json
# Seconds after which a run is taken for one that a killed process left; writing one takes a few
ABANDONED = 600.0


def log_check(store: Store, checked: CheckedWindow) -> CheckedWindow:
    """Write the run of a check, and its page and JSON beside the store as well.

    Returns the check with its run. Raises `OSError`, or what the store raises; then
    the run is FAILED.
    """
    close_abandoned(store)
    verdict = checked.report.verdict
    tags = {VERDICT: verdict, VERSION: checked.version, SOURCE: _source_tag(checked)}
    figures = drawn(checked.report, checked.distributions, f"Version {checked.version}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / FIGURES).mkdir()
        for file, figure in figures.items():
            figure.savefig(folder / FIGURES / f"{file}.png")
        with written_run(store, DRIFT, f"drift of {checked.version}: {verdict}", tags) as run_id:
            checked = replace(checked, run_id=run_id)
            page, report = drift_page(checked), as_json(checked)
            (folder / PAGE).write_text(page, encoding="utf-8")
            (folder / REPORT).write_text(report, encoding="utf-8")
            log_values(store, run_id, metrics=metrics(checked))
            store.client.log_artifacts(run_id, name)
    _put_beside(store, page, report)
    return checked


def show_latest(store: Store, checked: CheckedWindow) -> None:
    """Write page and JSON beside the store, in place of those of the check before.

    Raises `OSError`.
    """
    _put_beside(store, drift_page(checked), as_json(checked))


def verdict_changed(store: Store, checked: CheckedWindow) -> bool:
    """Whether a check says something else than the one before of the same version and source.

    Before or after it is logged. `not enough yet` is no verdict: it changes nothing, and what
    follows it is compared with what was before. Without one before, `steady` is no change.
    """
    verdict = checked.report.verdict
    if verdict not in STATES:
        return False
    tags = {KIND: DRIFT, VERSION: checked.version, SOURCE: _source_tag(checked)}
    condition = " and ".join(f'tags.`{key}` = "{value}"' for key, value in tags.items())
    condition += f" and tags.`{VERDICT}` != 'not enough yet' and attributes.status = '{FINISHED}'"
    newest = store.client.search_runs(
        [experiment_id(store, LEDGER)],
        condition,
        order_by=["attributes.start_time DESC"],
        max_results=2,
    )
    before = [run.data.tags[VERDICT] for run in newest if run.info.run_id != checked.run_id]
    return bool(verdict != (before[0] if before else "steady"))


def metrics(checked: CheckedWindow) -> dict[str, float]:
    """What a check came to, by name. `drift.verdict` is 0 for steady, 1 for watch, 2 for drifted.

    Signals are in their own units, a share as 0–1; what is not known has no metric.
    """
    report = checked.report
    found = {
        "reviews": float(report.reviews),
        "window_reviews": float(checked.reviews),
        "labelled": float(report.performance.labelled),
    }
    if report.verdict in STATES:
        found["verdict"] = float(STATES.index(report.verdict))
    for name, interval in scores(report.performance).items():
        if interval is not None:
            found[name] = interval.value
            found[f"{name}_low"], found[f"{name}_high"] = interval.low, interval.high
    for signal in report.signals:
        found[signal.name] = signal.value
        found[f"{signal.name}_limit"] = signal.limit
        found[f"{signal.name}_watch_limit"] = signal.watch_limit
        if signal.reference is not None:
            found[f"{signal.name}_reference"] = signal.reference
    return {f"drift.{name}": value for name, value in found.items()}


def as_json(checked: CheckedWindow) -> str:
    """The check as a JSON document."""
    return json.dumps(checked.as_dict(), ensure_ascii=False, allow_nan=False, indent=2)


def write_whole(file: Path, text: str) -> None:
    """Write a file that appears under its name whole or not at all. Raises `OSError`."""
    with appearing_whole(file) as out:
        out.write(text.encode("utf-8"))


@contextmanager
def written_run(store: Store, kind: str, name: str, tags: Mapping[str, str]) -> Iterator[str]:
    """A run of the ledger that is FINISHED when the block ends well, else FAILED."""
    run_id = begin_run(store, LEDGER, {KIND: kind, **tags}, name=name)
    try:
        yield run_id
    except BaseException:
        with suppress(Exception):  # a store that is away; the next check closes it
            end_run(store, run_id, FAILED)
        raise
    end_run(store, run_id)


def close_abandoned(store: Store) -> None:
    """Mark runs as KILLED that a killed check or replay left RUNNING."""
    running = f"tags.`{KIND}` LIKE '{DRIFT}%' and attributes.status = '{RUNNING}'"
    for run in store.client.search_runs([experiment_id(store, LEDGER)], running):
        if time.time() - run.info.start_time / 1000 > ABANDONED:
            end_run(store, run.info.run_id, KILLED)


def _source_tag(checked: CheckedWindow) -> str:
    """The source as it can be searched for: MLflow's filters know no escape for their quotes."""
    return checked.source.replace('"', "'")


def _put_beside(store: Store, page: str, report: str) -> None:
    latest = store.folder / LATEST
    latest.mkdir(parents=True, exist_ok=True)
    write_whole(latest / "latest.html", page)
    write_whole(latest / "latest.json", report)
