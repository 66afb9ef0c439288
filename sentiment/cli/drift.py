"""Compare incoming reviews with the training data: `drift`, and `replay` for a file's months.

Compared is the version's reference with its answers in the prediction log, or with a file of
reviews. The verdict is `steady`, `watch`, `drifted` or `not enough yet`, with the reasons and what
to do; it is a run of the ledger experiment.
"""

from __future__ import annotations

import warnings
from argparse import Namespace

from sentiment.cli.drift_tables import show_check, show_replay
from sentiment.console import Terminal
from sentiment.drift.page import drift_page
from sentiment.drift.runs import LATEST, as_json, write_whole
from sentiment.drift.window import FileWindow, LogWindow
from sentiment.drift.window_check import run_check
from sentiment.errors import EXIT_DRIFTED, WindowError
from sentiment.tracking.store import open_existing_store, open_store, store_errors


def run(options: Namespace) -> int:
    """Check a window, or replay a file: 3 drifted, 0 another verdict. Raise `UserError`."""
    warnings.filterwarnings("ignore")  # libraries warn of their own futures
    terminal = Terminal(quiet=options.quiet or getattr(options, "json", False))
    with store_errors():
        if options.command == "replay":
            return _replay(options, terminal)
        return _check(options, terminal)


def _check(options: Namespace, terminal: Terminal) -> int:
    if options.html is not None and not options.html.resolve().parent.is_dir():
        raise WindowError(f"{options.html}: there is no such folder; make it first")
    if options.html is not None and options.html.is_dir():
        raise WindowError(f"{options.html}: is a folder, expected the name of a file")
    store = open_existing_store(options.store)
    wanted: LogWindow | FileWindow = LogWindow(options.log_url, options.since, options.window)
    if options.data is not None:
        wanted = FileWindow(options.data, options.text_column, options.rating_column)
    checked = run_check(store, wanted, version=options.version, min_reviews=options.min_reviews)
    if options.html is not None:
        write_whole(options.html, drift_page(checked))
    if options.json:
        print(as_json(checked))
    else:
        show_check(checked, terminal)
        terminal.say(f"Page: {options.html or store.folder / LATEST / 'latest.html'}")
    return EXIT_DRIFTED if checked.report.verdict == "drifted" else 0


def _replay(options: Namespace, terminal: Terminal) -> int:
    from sentiment.flows.replay import log_replay, replay  # what trains is slow to import

    store = open_store(options.store)
    wanted = FileWindow(options.data, options.text_column, options.rating_column)
    found = replay(store, wanted, options.month_column, min_reviews=options.min_reviews)
    show_replay(found, terminal)
    terminal.say(f"Figure: {log_replay(store, found)}")
    return 0
