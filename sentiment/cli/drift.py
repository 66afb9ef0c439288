"""Compare incoming reviews with the training data of a model version.

    python -m sentiment drift                      # the newest 5,000 answers of the log
    python -m sentiment drift --since 7d --html drift.html
    python -m sentiment drift --data my_reviews.csv --json
    python -m sentiment drift --data my_reviews.csv --replay Month

The verdict is `steady`, `watch`, `drifted` or `not enough yet`, with the reasons and what to do. A
check is a run of the experiment `FLIPKART_SENTIMENT_ANALYSIS`.
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
from typing import TYPE_CHECKING, NoReturn

from sentiment.drift import MIN_WINDOW, NEWEST
from sentiment.errors import (
    EXIT_BAD_INPUT,
    EXIT_DRIFTED,
    EXIT_INTERRUPTED,
    TrackingError,
    UserError,
    WindowError,
)

if TYPE_CHECKING:
    from sentiment.console import Terminal
    from sentiment.drift.report import DriftCheck
    from sentiment.flows.replay import Replay
    from sentiment.metrics import Interval
    from sentiment.tracking.store import Store

CHAMPION = "champion"
UNITS = {"m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}  # seconds
SPAN = re.compile(r"(\d+(?:\.\d+)?)([mhdw])")


class OneLineParser(argparse.ArgumentParser):
    """A parser that reports a wrong option in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(EXIT_BAD_INPUT, f"drift: {message}; see --help\n")


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options; `since` is in seconds since 1970."""
    parser = OneLineParser(
        prog="python -m sentiment drift",
        description="Compare incoming reviews with the training data of the production version.",
        epilog="Exit codes: 0 steady, watch or not enough yet; 2 bad input or nothing to compare; "
        "3 drifted.",
    )
    add = parser.add_argument
    add("--data", help="compare this file instead of the log: CSV, TSV or Parquet", type=Path)
    add("--text-column", help="column of the file with the review texts")
    add("--rating-column", help="column of the file with ratings from 1 to 5, as true labels")
    add("--log-url", help="prediction log (default: the SQLite file beside the store)")
    add("--since", help="a date and time, or a span such as 7d or 12h", type=_since)
    add("--window", help=f"the newest N answers (default: {NEWEST}, all with --since)", type=_count)
    add(
        "--min-reviews",
        help="fewest reviews for a verdict (default: %(default)s)",
        type=_count,
        default=MIN_WINDOW,
    )
    add("--version", help="alias or number (default: %(default)s)", default=CHAMPION)
    add("--store", help="folder of mlflow.db and mlruns (default: the project folder)")
    add("--json", help="print the report as JSON and nothing else", action="store_true")
    add("--html", help="write the page to this file too", type=Path, metavar="FILE")
    add(
        "--replay",
        help="train on the first months of this column of --data and check the later ones",
        metavar="COLUMN",
    )
    add("--quiet", help="print the verdict only", action="store_true")
    options = parser.parse_args(arguments)
    of_log = ("since", "window", "log_url")
    if options.data is not None and any(getattr(options, name) is not None for name in of_log):
        parser.error("--since, --window and --log-url are for the log; drop them or --data")
    if options.data is None and (options.text_column or options.rating_column or options.replay):
        parser.error("--text-column, --rating-column and --replay need a file: --data FILE")
    if options.replay and (options.json or options.html or options.version != CHAMPION):
        parser.error("--replay trains its own model; drop --json, --html and --version")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a window or replay a file, and return the exit code."""
    options = parse_options(arguments)
    from mlflow.exceptions import MlflowException

    from sentiment.console import Terminal

    warnings.filterwarnings("ignore")  # libraries warn about their own future versions
    terminal = Terminal(quiet=options.quiet or options.json)
    code = EXIT_BAD_INPUT
    try:
        return _replay(options, terminal) if options.replay else _check(options, terminal)
    except UserError as error:
        code, message = error.exit_code, str(error)
    except MlflowException as error:  # the server went away, or refuses
        message = f"the tracking store failed: {' '.join(str(error).split())[:200]}"
    except OSError as error:
        message = f"{error.filename or 'a file'}: {error.strerror or error}"
    except KeyboardInterrupt:
        code, message = EXIT_INTERRUPTED, "interrupted"
    print(f"drift: {message}", file=sys.stderr)
    return code


def _check(options: argparse.Namespace, terminal: Terminal) -> int:
    from sentiment.drift.page import render_page
    from sentiment.drift.runs import LATEST, run_check, write_whole
    from sentiment.drift.window import FileWindow, LogWindow

    if options.html is not None and not options.html.resolve().parent.is_dir():
        raise WindowError(f"{options.html}: no such folder; create it first")
    if options.html is not None and options.html.is_dir():
        raise WindowError(f"{options.html}: is a folder, expected the name of a file")
    store = _existing_store(options.store)
    wanted: LogWindow | FileWindow = LogWindow(options.log_url, options.since, options.window)
    if options.data is not None:
        wanted = FileWindow(options.data, options.text_column, options.rating_column)
    check = run_check(store, wanted, version=options.version, min_reviews=options.min_reviews)
    if options.html is not None:
        write_whole(options.html, render_page(check))
    if options.json:
        print(check.to_json())
    else:
        show_check(check, terminal)
        terminal.say(f"Page: {options.html or store.folder / LATEST / 'latest.html'}")
    return EXIT_DRIFTED if check.report.verdict == "drifted" else 0


def _replay(options: argparse.Namespace, terminal: Terminal) -> int:
    from sentiment.drift.window import FileWindow
    from sentiment.flows.replay import log_replay, replay
    from sentiment.tracking.store import open_store

    store = open_store(options.store)
    wanted = FileWindow(options.data, options.text_column, options.rating_column)
    done = replay(store, wanted, options.replay, min_reviews=options.min_reviews)
    show_replay(done, terminal)
    terminal.say(f"Figure: {log_replay(store, done)}")
    return 0


def _existing_store(folder: str | None) -> Store:
    """Open a store that exists; MLflow would create an empty one."""
    from sentiment.tracking.store import PROJECT, open_store

    database = (PROJECT if folder is None else Path(folder)) / "mlflow.db"
    if not os.environ.get("MLFLOW_TRACKING_URI") and not database.exists():
        raise TrackingError(
            f"{database}: no such store; run `python sentiment_mlflow_optuna.py --promote`, or "
            "give another with --store"
        )
    return open_store(folder)


def show_check(check: DriftCheck, terminal: Terminal) -> None:
    """Print the check as lines and tables: the verdict first, what to do last."""
    import pandas as pd

    from sentiment.drift.performance import TITLES
    from sentiment.drift.signals import SIGNALS

    report = check.report
    name = f"version {check.version} ({check.algorithm})"
    terminal.say(f"{report.verdict}: {name}, {check.source}", always=True)
    of = "" if check.reviews == report.reviews else f" of {check.reviews:,}"
    terminal.say(
        f"{report.reviews:,}{of} reviews, compared with {report.reference_reviews:,} of the "
        "reference"
    )
    for line in (*check.notes, *report.reasons):
        terminal.say(f"- {line}")
    if report.signals:
        rows = [
            (
                signal.title,
                signal.format(signal.value),
                "" if signal.reference is None else signal.format(signal.reference),
                signal.format(signal.limit),
                signal.state,
            )
            for signal in report.signals
        ]
        columns = ["signal", "now", "reference", "limit", "state"]
        terminal.table("Signals", pd.DataFrame(rows, columns=columns))
    scores = report.performance.scores()
    if scores:
        intervals = [(TITLES[name], _interval(scores[name])) for name in scores]
        terminal.table("Performance", pd.DataFrame(intervals, columns=["macro-F1", "value (95%)"]))
    for name, why in report.not_computed.items():
        terminal.say(f"not computed: {SIGNALS[name].title}: {why}")
    terminal.say(f"What to do: {report.advice}")


def show_replay(done: Replay, terminal: Terminal) -> None:
    """Print one row per window: the verdict without labels, and the true score."""
    import pandas as pd

    terminal.say(f"{done.source}: {done.trained_on}")
    for note in done.notes:
        terminal.say(f"- {note}")
    table = pd.DataFrame(
        {
            "window": [window.period for window in done.windows],
            "reviews": [window.reviews for window in done.windows],
            "verdict": [window.verdict for window in done.windows],
            "true macro-F1": [_interval(window.true) for window in done.windows],
            "estimated": [_interval(window.estimated) for window in done.windows],
            "by true labels": [window.measured for window in done.windows],
            "beyond their limits": [window.beyond for window in done.windows],
        }
    )
    reference = "none" if done.reference is None else str(done.reference)
    terminal.table(f"Replay; macro-F1 of the reference {reference}", table)


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{interval.value:.3f} ({interval.low:.3f}–{interval.high:.3f})"


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return int(text)


def _since(text: str) -> float:
    """Return a time in seconds since 1970, from a date or from a span before now."""
    span = SPAN.fullmatch(text)
    if span:
        return time.time() - float(span[1]) * UNITS[span[2]]
    try:
        return datetime.fromisoformat(text).timestamp()  # local time unless it has a zone
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a time; expected a span such as 7d or 12h, or a date and time such "
            "as 2026-03-01T12:00"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
