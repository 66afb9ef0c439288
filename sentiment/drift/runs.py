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
from typing import TYPE_CHECKING

import numpy as np

from sentiment.drift import MIN_WINDOW, NEWEST
from sentiment.drift.compare import compare_reviews
from sentiment.drift.features import WindowFeatures
from sentiment.drift.latest import DRIFT, KIND, PAGE, REPORT, write_latest
from sentiment.drift.page import render_page
from sentiment.drift.reference import read_reference
from sentiment.drift.report import STATES, DriftCheck, PastCheck, distributions, past_check
from sentiment.drift.signals import SIGNALS
from sentiment.drift.window import FileWindow, LogWindow, Period, window_of_file, window_of_log
from sentiment.errors import ServingError, UnknownVersionError
from sentiment.model.predictor import load_version
from sentiment.predictions.log import default_log_url
from sentiment.tracking.artifact import read_text_hashes
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

if TYPE_CHECKING:
    from mlflow.entities import Run

CHAMPION = "champion"
REPLAY = "drift-replay"
VERDICT, VERSION, SOURCE = TAG + "verdict", TAG + "version", TAG + "source"
PERIOD = TAG + "period"  # tag of a scheduled check on new answers: times of the first and the last
# Writing a run takes a few seconds; after so many, its process must have been killed
ABANDONED = 600.0
SHOWN = 19  # earlier checks on the page
MOST = 0.5  # of the different texts of a window


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
    says whether to log the check as a run; without one it is still written beside the store, if
    that is on this machine. A store that may not be written gets neither.

    Raises `ServingError` without such a version, `DriftReferenceError`, `WindowError`, or what
    reading the log or the file raises. Nothing is written then.
    """
    try:
        loaded = load_version(store, version)
    except UnknownVersionError:
        if version != CHAMPION:
            raise
        raise ServingError(
            "no version is in production yet; run `python sentiment_mlflow_optuna.py --promote"
            f"{store.settings.option}` or `python -m sentiment promote`"
        ) from None
    reference = read_reference(store, loaded.version)
    scheduled = False
    if isinstance(wanted, FileWindow):
        window = window_of_file(wanted, loaded)
    else:
        if wanted.since is None and wanted.newest is None:
            wanted = replace(wanted, newest=NEWEST)
        scheduled = wanted.since_check and wanted.since is None
        last = last_period(store, loaded.version, wanted.name) if scheduled else None
        url = wanted.url or default_log_url(store.home)
        window = window_of_log(wanted, url, loaded, last, min_reviews)
    report = compare_reviews(
        reference,
        window.features,
        window.true,
        labelled=window.labelled,
        reviews=window.reviews,
        min_reviews=min_reviews,
    )
    notes = window.notes + _own_reviews(store, loaded.run_id, window.features)
    check = DriftCheck(
        report=report,
        version=loaded.version,
        algorithm=loaded.algorithm,
        source=window.source,
        reviews=window.reviews,
        times=window.times,
        notes=notes,
        distributions=distributions(reference, window.features),
        checked_at=datetime.now(UTC),
    )
    check = replace(check, before=past_checks(store, check.version, check.source))
    if not store.writable:
        return check
    if keep(check):
        return log_check(store, check, seen=scheduled and window.new)
    write_latest(store, render_page(check), check.to_json())
    return check


def log_check(store: Store, check: DriftCheck, *, seen: bool = False) -> DriftCheck:
    """Log a check as a run, write its page and JSON beside the store, and return it with its run.

    With `seen` the next scheduled check begins after the period of this one.
    If anything fails, the run is FAILED, the files beside the store stay as they were, and the
    error is raised.
    """
    close_abandoned(store)
    verdict = check.report.verdict
    tags = {VERDICT: verdict, VERSION: check.version, SOURCE: _source_tag(check.source)}
    if seen and check.times is not None:
        tags[PERIOD] = " ".join(at.isoformat() for at in check.times)
    with written_run(store, DRIFT, f"drift of {check.version}: {verdict}", tags) as run_id:
        check = replace(check, run_id=run_id)
        page, report = render_page(check), check.to_json()
        log_values(store, run_id, metrics=metrics(check))
        store.client.log_text(run_id, page, PAGE)
        store.client.log_text(run_id, report, REPORT)
    write_latest(store, page, report)
    return check


def verdict_changed(store: Store, check: DriftCheck) -> bool:
    """Return whether the verdict differs from the last one of the same version and source.

    The answer is the same before and after the check is logged. The first check is compared with
    `steady`. `not enough yet` is no verdict: the check after it is compared with the one before.
    """
    verdict = check.report.verdict
    if verdict not in STATES:
        return False
    newest = _checks(store, check.version, check.source)
    before = [run.data.tags[VERDICT] for run in newest if run.info.run_id != check.run_id]
    return bool(verdict != (before[0] if before else "steady"))


def last_period(store: Store, version: str, source: str) -> Period | None:
    """Return the period of the last scheduled check on new answers that had a verdict, if any.

    Checks of another version or source do not count, and neither do those that left no run.
    """
    for run in _checks(store, version, source, f"tags.`{PERIOD}` != ''"):
        began, ended = run.data.tags[PERIOD].split()
        return datetime.fromisoformat(began).timestamp(), datetime.fromisoformat(ended).timestamp()
    return None


def past_checks(store: Store, version: str, source: str) -> tuple[PastCheck, ...]:
    """Return the last `SHOWN` checks of a version and source that had a verdict, the newest last.

    One look into the store: what is shown of them are metrics of their runs.
    """
    found = []
    for run in reversed(_checks(store, version, source, newest=SHOWN)):
        given = run.data.metrics
        values = {
            name: (
                given[f"drift.{name}"],
                given[f"drift.{name}_limit"],
                given.get(f"drift.{name}_reference"),
            )
            for name in SIGNALS
            if f"drift.{name}_limit" in given
        }
        if values:
            at = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
            reviews = int(given.get("drift.reviews", 0))
            estimated = given.get("drift.estimated_f1")
            found.append(past_check(at, run.data.tags[VERDICT], reviews, values, estimated))
    return tuple(found)


def _checks(
    store: Store, version: str, source: str, also: str = "", *, newest: int = 2
) -> list[Run]:
    """Return the newest runs of checks of a version and source that had a verdict."""
    tags = {KIND: DRIFT, VERSION: version, SOURCE: _source_tag(source)}
    conditions = [f'tags.`{key}` = "{value}"' for key, value in tags.items()]
    conditions += [f"tags.`{VERDICT}` != 'not enough yet'", f"attributes.status = '{FINISHED}'"]
    found: list[Run] = store.client.search_runs(
        [experiment_id(store, store.settings.ledger)],
        " and ".join([*conditions, also] if also else conditions),
        order_by=["attributes.start_time DESC"],
        max_results=newest,
    )
    return found


def _own_reviews(store: Store, run_id: str, window: WindowFeatures) -> tuple[str, ...]:
    """Return a note where most of a window's different texts are ones the model was trained on.

    Of incoming reviews a tenth to a third are, "good" and the like, and of the training file the
    whole training part. The verdict stays that of the signals: what a model knows better moves them
    in the harmless direction. Without texts, or without the run's hashes, nothing is said.
    """
    if window.text is None or not len(window.text.hashes):
        return ()
    try:
        known = read_text_hashes(store, run_id)
    except Exception:  # MLflow's own, or what the disk raises; another project's version has none
        return ()
    share = float(np.isin(window.text.hashes, known).mean())
    if share <= MOST:
        return ()
    return (
        f"{share:.0%} of the different texts are reviews the model was trained on: the check says "
        "little about new ones; compare reviews that came later",
    )


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


def _source_tag(source: str) -> str:
    """Return the source without the quote that MLflow's filters cannot escape."""
    return source.replace('"', "'")
