"""Keep the last drift check where the server finds it.

Beside a store of this machine it lies as two files, also where a check was not worth a run. With a
tracking server they would lie on one machine and be asked for on another: there the newest run of a
check has them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from sentiment.data.targets import appearing_whole
from sentiment.drift import LATEST
from sentiment.tracking.store import FINISHED, TAG, Store

KIND, DRIFT = TAG + "kind", "drift"  # tag and value of a run of a check
PAGE, REPORT = "drift_report.html", "drift_report.json"  # its artifacts


def page_beside(store: Store) -> Path | None:
    """Return where the page of the last check lies; None where its run alone has it."""
    folder = store.home / LATEST
    return None if store.artifacts is None or not store.writable else folder / "latest.html"


def write_latest(store: Store, page: str, report: str) -> None:
    """Write page and report, as HTML and JSON, beside the store if they belong there."""
    file = page_beside(store)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, page)
        write_whole(file.with_suffix(".json"), report)


def read_latest(store: Store) -> tuple[str, str] | None:
    """Return page and report of the last check; None if there is none."""
    if store.artifacts is not None:
        return read_beside(store.home)
    run_id = newest_run(store)
    return None if run_id is None else read_run(store, run_id)


def read_beside(home: Path) -> tuple[str, str] | None:
    """Return page and report that lie beside a store of this machine; None if there are none."""
    file = home / LATEST / "latest.html"
    try:
        return file.read_text("utf-8"), file.with_suffix(".json").read_text("utf-8")
    except OSError:
        return None


def newest_run(store: Store) -> str | None:
    """Return the id of the newest run of a check; None if there is none."""
    ledger = store.client.get_experiment_by_name(store.settings.experiment(store.settings.ledger))
    if ledger is None:
        return None
    checks = store.client.search_runs(
        [ledger.experiment_id],
        f"tags.`{KIND}` = '{DRIFT}' and attributes.status = '{FINISHED}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return str(checks[0].info.run_id) if checks else None


def read_run(store: Store, run_id: str) -> tuple[str, str]:
    """Return page and report of this run. Raises whatever the place of its artifacts does."""
    with tempfile.TemporaryDirectory() as folder:
        page, report = (
            Path(store.client.download_artifacts(run_id, name, folder)).read_text("utf-8")
            for name in (PAGE, REPORT)
        )
    return page, report


def write_whole(file: Path, text: str) -> None:
    """Write a file that appears under its name whole or not at all. Raises `OSError`."""
    with appearing_whole(file) as out:
        out.write(text.encode("utf-8"))
