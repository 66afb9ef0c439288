"""Run a drift check, from the registry to a run in MLflow.

    check = run_check(store, LogWindow())

The command and the flow both call `run_check`. A check is a run of the ledger experiment: its
metrics have the names of the signals (`drift.score_psi`, and `_limit`, `_reference`), so that drift
over time is a chart in MLflow; page and JSON are artifacts. The last check also lies beside the
store, where the server finds it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sentiment.data.targets import appearing_whole
from sentiment.drift import MIN_WINDOW, NEWEST
from sentiment.drift.compare import compare_reviews
from sentiment.drift.page import render_page
from sentiment.drift.reference import read_reference
from sentiment.drift.report import STATES, DriftCheck, distributions
from sentiment.drift.window import FileWindow, LogWindow, window_of_file, window_of_log
from sentiment.errors import ServingError, UnknownVersionError
from sentiment.model.predictor import load_version
from sentiment.predictions.log import default_log_url
from sentiment.tracking.store import (
    FAILED,
    FINISHED,
    KILLED,
    RUNNING,
    TAG,
    Store,
    begin_run,
    end_run,
    experiment_id,
    log_values,
)

CHAMPION = "champion"
KIND, DRIFT, REPLAY = TAG + "kind", "drift", "drift-replay"
VERDICT, VERSION, SOURCE = TAG + "verdict", TAG + "version", TAG + "source"
PAGE, REPORT = "drift_report.html", "drift_report.json"  # artifacts
LATEST = "drift"  # the folder beside the store with the last check as latest.html and latest.json
# Writing a run takes a few seconds; after so many, its process must have been killed
ABANDONED = 600.0


def run_check(
    store: Store,
    wanted: LogWindow | FileWindow,
    *,
    version: str = CHAMPION,
    min_reviews: int = MIN_WINDOW,
    keep: Callable[[DriftCheck], bool] = lambda _: True,
) -> DriftCheck:
    """Compare a version with reviews and log the check.

    `version` is an alias or a number. Of the log, the `NEWEST` answers are compared unless a time
    or a number is wanted. With fewer than `min_reviews` the verdict is "not enough yet". `keep`
    says whether to log the check as a run; without one it is still written beside the store.

    Raises `ServingError` without such a version, `DriftReferenceError`, `WindowError`, or what
    reading the log or the file raises. Nothing is written then.
    """
    try:
        loaded = load_version(store, version)
    except UnknownVersionError:
        if version != CHAMPION:
            raise
        raise ServingError(
            "no version is in production yet; run `python sentiment_mlflow_optuna.py --promote` or "
            "`python -m sentiment promote`"
        ) from None
    reference = read_reference(store, loaded.version)
    if isinstance(wanted, FileWindow):
        window = window_of_file(wanted, loaded)
    else:
        if wanted.since is None and wanted.newest is None:
            wanted = replace(wanted, newest=NEWEST)
        window = window_of_log(wanted, wanted.url or default_log_url(store.folder), loaded)
    report = compare_reviews(
        reference, window.features, window.true, labelled=window.labelled, min_reviews=min_reviews
    )
    check = DriftCheck(
        report=report,
        version=loaded.version,
        algorithm=loaded.algorithm,
        source=window.source,
        reviews=window.reviews,
        times=window.times,
        notes=window.notes,
        distributions=distributions(reference, window.features),
        checked_at=datetime.now(UTC),
    )
    if keep(check):
        return log_check(store, check)
    _write_latest(store, render_page(check), check.to_json())
    return check


def log_check(store: Store, check: DriftCheck) -> DriftCheck:
    """Log a check as a run, write its page and JSON beside the store, and return it with its run.

    If anything fails, the run is FAILED, the files beside the store stay as they were, and the
    error is raised.
    """
    close_abandoned(store)
    verdict = check.report.verdict
    tags = {VERDICT: verdict, VERSION: check.version, SOURCE: _source_tag(check)}
    with written_run(store, DRIFT, f"drift of {check.version}: {verdict}", tags) as run_id:
        check = replace(check, run_id=run_id)
        page, report = render_page(check), check.to_json()
        log_values(store, run_id, metrics=metrics(check))
        store.client.log_text(run_id, page, PAGE)
        store.client.log_text(run_id, report, REPORT)
    _write_latest(store, page, report)
    return check


def verdict_changed(store: Store, check: DriftCheck) -> bool:
    """Return whether the verdict differs from the last one of the same version and source.

    The answer is the same before and after the check is logged. The first check is compared with
    `steady`. `not enough yet` is no verdict: the check after it is compared with the one before.
    """
    verdict = check.report.verdict
    if verdict not in STATES:
        return False
    tags = {KIND: DRIFT, VERSION: check.version, SOURCE: _source_tag(check)}
    condition = " and ".join(f'tags.`{key}` = "{value}"' for key, value in tags.items())
    condition += f" and tags.`{VERDICT}` != 'not enough yet' and attributes.status = '{FINISHED}'"
    newest = store.client.search_runs(
        [experiment_id(store, store.settings.ledger)],
        condition,
        order_by=["attributes.start_time DESC"],
        max_results=2,
    )
    before = [run.data.tags[VERDICT] for run in newest if run.info.run_id != check.run_id]
    return bool(verdict != (before[0] if before else "steady"))


def metrics(check: DriftCheck) -> dict[str, float]:
    """Return the metrics of a check. `drift.verdict` is 0 for steady, 1 for watch, 2 for drifted.

    Signals are in their own units, shares as 0–1. What is unknown has no metric.
    """
    report = check.report
    values = {
        "reviews": float(report.reviews),
        "window_reviews": float(check.reviews),
        "labelled": float(report.performance.labelled),
    }
    if report.verdict in STATES:
        values["verdict"] = float(STATES.index(report.verdict))
    for name, interval in report.performance.scores().items():
        values[name] = interval.value
        values[f"{name}_low"], values[f"{name}_high"] = interval.low, interval.high
    for signal in report.signals:
        values[signal.name] = signal.value
        values[f"{signal.name}_limit"] = signal.limit
        values[f"{signal.name}_watch_limit"] = signal.watch_limit
        if signal.reference is not None:
            values[f"{signal.name}_reference"] = signal.reference
    return {f"drift.{name}": value for name, value in values.items()}


@contextmanager
def written_run(store: Store, kind: str, name: str, tags: Mapping[str, str]) -> Iterator[str]:
    """Begin a run of the ledger; it is FINISHED when the block ends well, else FAILED."""
    run_id = begin_run(store, store.settings.ledger, {KIND: kind, **tags}, name=name)
    try:
        yield run_id
    except BaseException:
        with suppress(Exception):  # the store may be away; the next check closes the run
            end_run(store, run_id, FAILED)
        raise
    end_run(store, run_id)


def close_abandoned(store: Store) -> None:
    """Mark runs as KILLED that a killed check or replay left RUNNING."""
    running = f"tags.`{KIND}` LIKE '{DRIFT}%' and attributes.status = '{RUNNING}'"
    for run in store.client.search_runs([experiment_id(store, store.settings.ledger)], running):
        if time.time() - run.info.start_time / 1000 > ABANDONED:
            end_run(store, run.info.run_id, KILLED)


def write_whole(file: Path, text: str) -> None:
    """Write a file that appears under its name whole or not at all. Raises `OSError`."""
    with appearing_whole(file) as out:
        out.write(text.encode("utf-8"))


def _source_tag(check: DriftCheck) -> str:
    """Return the source without the quote that MLflow's filters cannot escape."""
    return check.source.replace('"', "'")


def _write_latest(store: Store, page: str, report: str) -> None:
    folder = store.folder / LATEST
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "latest.html", page)
    write_whole(folder / "latest.json", report)
