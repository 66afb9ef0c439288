"""Window check: a version compared with what came in, from the registry to the run in MLflow.

The script and the flow both call `run_check`; `compare` is the part that touches no store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from sentiment.drift.compare import MIN_WINDOW, check
from sentiment.drift.outcome import CheckedWindow, distributions
from sentiment.drift.reference import ReferenceProfile
from sentiment.drift.report import DriftReport
from sentiment.drift.runs import log_check, show_latest
from sentiment.drift.training_profile import read_profile
from sentiment.drift.window import FileWindow, LogWindow, Window, window_of_file, window_of_log
from sentiment.errors import ServingError, UnknownVersionError
from sentiment.model.predictor import LoadedVersion, load_version
from sentiment.predictions.log import default_log_url
from sentiment.tracking.store import Store

CHAMPION = "champion"
# Of the log, unless told otherwise: drift is a matter of now, and of longer windows the limits are
# no narrower (`drift_limits.SIZES`).
NEWEST = 5_000
MEASURED = "measured_f1"  # the signal that is of all true labels, not of those drawn


def run_check(
    store: Store,
    wanted: LogWindow | FileWindow,
    *,
    version: str = CHAMPION,
    min_reviews: int = MIN_WINDOW,
    keep: Callable[[CheckedWindow], bool] = lambda _: True,
) -> CheckedWindow:
    """Compare a version (alias or number) with reviews, and write the run.

    A check that `keep` says no to has no run; it is the last one at hand all the same. Of the log
    the `NEWEST` are compared where neither a time nor a number is wanted. Raises an error of one
    line (`drift_monitor.INPUT_ERRORS`) and writes nothing then; it is
    `drift_log.EmptyWindowError` where the version has answered nothing yet.
    """
    loaded = _loaded(store, version)
    profile = read_profile(store, loaded.version)
    if isinstance(wanted, FileWindow):
        window = window_of_file(wanted, loaded)
    else:
        if wanted.since is None and wanted.newest is None:
            wanted = replace(wanted, newest=NEWEST)
        window = window_of_log(wanted, wanted.url or default_log_url(store.folder), loaded)
    checked = CheckedWindow(
        report=compare(profile, window, min_reviews),
        version=loaded.version,
        algorithm=loaded.algorithm,
        source=window.source,
        reviews=window.reviews,
        began=_moment(window.began),
        ended=_moment(window.ended),
        notes=window.notes,
        distributions=tuple(distributions(profile, window.features)),
        checked_at=datetime.now(UTC),
    )
    if keep(checked):
        return log_check(store, checked)
    show_latest(store, checked)
    return checked


def compare(profile: ReferenceProfile, window: Window, min_reviews: int) -> DriftReport:
    """The report on a window. Where it was drawn from a longer one, all true labels are used."""
    report = check(profile, window.features, window.true, min_reviews=min_reviews)
    if window.labelled is None:
        return report
    of_labelled = check(profile, *window.labelled, min_reviews=1)
    measured = [signal for signal in of_labelled.signals if signal.name == MEASURED]
    missing = {**report.not_computed, **of_labelled.not_computed}
    return replace(
        report,
        performance=replace(
            report.performance,
            labelled=of_labelled.performance.labelled,
            measured=of_labelled.performance.measured,
            estimated_on_labelled=of_labelled.performance.estimated_on_labelled,
        ),
        signals=(*(signal for signal in report.signals if signal.name != MEASURED), *measured),
        not_computed={
            name: why
            for name, why in missing.items()
            if name in report.not_computed or name == MEASURED
            if not (name == MEASURED and measured)
        },
    )


def _loaded(store: Store, version: str) -> LoadedVersion:
    try:
        return load_version(store, version)
    except UnknownVersionError:
        if version != CHAMPION:
            raise
        raise ServingError(
            "no version is in production; run sentiment_mlflow_optuna.py --promote, or "
            "`python model_registry.py promote`"
        ) from None


def _moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)
