"""Drift monitor: whether what comes in still is what the version in production was trained on.

    python drift_monitor.py                                   # the newest 5,000 answers of the log
    python drift_monitor.py --since 7d --html drift.html
    python drift_monitor.py --data my_reviews.csv --json
    python drift_monitor.py --data my_reviews.csv --replay Month

Compared is the version's reference profile with its answers in the prediction log, or with a file
of reviews. The verdict is `steady`, `watch`, `drifted` or `not enough yet`, with the reasons and
what to do; it is a run of `FLIPKART_SENTIMENT_ANALYSIS`. Exit codes: 3 drifted, 0 any other
verdict, 2 bad input or nothing to compare.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from sentiment.cli.drift_tables import show_check, show_replay
from sentiment.console import Terminal
from sentiment.drift.compare import MIN_WINDOW
from sentiment.drift.page import drift_page
from sentiment.drift.runs import LATEST, as_json, write_whole
from sentiment.drift.window import FileWindow, LogWindow
from sentiment.drift.window_check import CHAMPION, NEWEST, run_check
from sentiment.errors import (
    PredictionLogError,
    ProfileError,
    ReviewDataError,
    ServingError,
    TrackingError,
    WindowError,
)
from sentiment.tracking.store import PROJECT, Store, open_store

EXIT_BAD_INPUT, EXIT_DRIFTED = 2, 3
EXIT_INTERRUPTED = 130
UNITS = {"m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}  # seconds
SPAN = re.compile(r"(\d+(?:\.\d+)?)([mhdw])")
INPUT_ERRORS = (
    PredictionLogError,
    ProfileError,
    ReviewDataError,
    ServingError,
    TrackingError,
    WindowError,
)


class OneLineParser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(EXIT_BAD_INPUT, f"drift_monitor: {message}; see --help\n")


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `since` is in seconds since 1970."""
    parser = OneLineParser(
        description="Compare what comes in with what the version in production was trained on.",
        epilog="Exit codes: 3 drifted; 0 steady, watch or not enough yet; 2 bad input or nothing "
        "to compare.",
    )
    add = parser.add_argument
    add("--data", help="file of reviews instead of the log: CSV, TSV or Parquet", type=Path)
    add("--text-column", help="its column of review texts")
    add("--rating-column", help="its column of ratings, 1 to 5, if it has one: the true labels")
    add("--log-url", help="prediction log (default: SQLite beside the store)")
    add("--since", help="from when: a date and time, or a span such as 7d or 12h", type=_since)
    add("--window", help=f"the newest so many (default: {NEWEST}, with --since all)", type=_count)
    add(
        "--min-reviews",
        help="fewer are not enough for a verdict (default: %(default)s)",
        type=_count,
        default=MIN_WINDOW,
    )
    add("--version", help="alias or version (default: %(default)s)", default=CHAMPION)
    add("--store", help="folder of mlflow.db and mlruns (default: the project's own)")
    add("--json", help="print the report as JSON and nothing else", action="store_true")
    add("--html", help="write the page to this file too", type=Path, metavar="FILE")
    add(
        "--replay",
        help="train on the first months of this column of --data, and walk through the rest",
        metavar="COLUMN",
    )
    add("--quiet", help="print the verdict only", action="store_true")
    options = parser.parse_args(arguments)
    of_log = ("since", "window", "log_url")
    if options.data is not None and any(getattr(options, name) is not None for name in of_log):
        parser.error("--since, --window and --log-url are for the log; leave them or --data out")
    if options.data is None and (options.text_column or options.rating_column or options.replay):
        parser.error("--text-column, --rating-column and --replay need a file: --data FILE")
    if options.replay and (options.json or options.html or options.version != CHAMPION):
        parser.error("--replay trains a model of its own; leave --json, --html and --version out")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a window, or replay a file. Exit codes: 3 drifted, 0 another verdict, 2 bad input."""
    options = parse_options(arguments)
    warnings.filterwarnings("ignore")  # libraries warn of their own futures
    terminal = Terminal(quiet=options.quiet or options.json)
    try:
        return _run(options, terminal)
    except INPUT_ERRORS as error:
        code, message = EXIT_BAD_INPUT, str(error)
    except OSError as error:
        code, message = EXIT_BAD_INPUT, f"{error.filename or 'a file'}: {error.strerror or error}"
    except KeyboardInterrupt:
        code, message = EXIT_INTERRUPTED, "interrupted"
    print(f"drift_monitor: {message}", file=sys.stderr)
    return code


def _run(options: argparse.Namespace, terminal: Terminal) -> int:
    from mlflow.exceptions import MlflowException

    try:
        return _replay(options, terminal) if options.replay else _check(options, terminal)
    except MlflowException as error:  # the server went away, or does not allow it
        reason = " ".join(str(error).split())[:200]
        raise TrackingError(f"the tracking store did not do it: {reason}") from None


def _check(options: argparse.Namespace, terminal: Terminal) -> int:
    if options.html is not None and not options.html.resolve().parent.is_dir():
        raise WindowError(f"{options.html}: there is no such folder; make it first")
    if options.html is not None and options.html.is_dir():
        raise WindowError(f"{options.html}: is a folder, expected the name of a file")
    store = _existing_store(options.store)
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


def _replay(options: argparse.Namespace, terminal: Terminal) -> int:
    from sentiment.flows.replay import log_replay, replay  # what trains is slow to import

    store = open_store(options.store)
    wanted = FileWindow(options.data, options.text_column, options.rating_column)
    found = replay(store, wanted, options.replay, min_reviews=options.min_reviews)
    show_replay(found, terminal)
    terminal.say(f"Figure: {log_replay(store, found)}")
    return 0


def _existing_store(folder: str | None) -> Store:
    """Open the store, which must be there: MLflow would make an empty one."""
    database = (PROJECT if folder is None else Path(folder)) / "mlflow.db"
    if not os.environ.get("MLFLOW_TRACKING_URI") and not database.exists():
        raise TrackingError(
            f"{database}: no such store; run sentiment_mlflow_optuna.py --promote, or name "
            "another with --store"
        )
    return open_store(folder)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return int(text)


def _since(text: str) -> float:
    """A time in seconds since 1970, from a date or from a span before now."""
    span = SPAN.fullmatch(text)
    if span:
        return time.time() - float(span[1]) * UNITS[span[2]]
    try:
        return datetime.fromisoformat(text).timestamp()  # local time unless it has a zone
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"'{text}' is no time; expected a span such as 7d or 12h, or a date and time such as "
            "2026-03-01T12:00"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
