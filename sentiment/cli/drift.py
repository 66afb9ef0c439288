"""Compare incoming reviews with the training data: `drift`, and `replay` for a file's months.

The verdict is `steady`, `watch`, `drifted` or `not enough yet`, with the reasons and what to do. A
check is a run of the ledger experiment.
"""

from __future__ import annotations

import warnings
from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sentiment.cli.options import labelling_of, reading_of
from sentiment.console import Terminal
from sentiment.drift.latest import page_beside, write_whole
from sentiment.drift.page import render_page
from sentiment.drift.performance import TITLES
from sentiment.drift.report import DriftCheck
from sentiment.drift.runs import run_check
from sentiment.drift.signals import SIGNALS
from sentiment.drift.window import FileWindow, LogWindow
from sentiment.errors import EXIT_DRIFTED, WindowError
from sentiment.metrics import Interval, short
from sentiment.predictions.log import COUNTED_SOURCES, SOURCES
from sentiment.registry.lifecycle import rule_in_production
from sentiment.tracking.store import open_existing_store, open_store, run_url, store_errors

if TYPE_CHECKING:
    from sentiment.flows.replay import Replay


def run(options: Namespace) -> int:
    """Check a window, or replay a file; return 3 if drifted, else 0. Raise `UserError`."""
    warnings.filterwarnings("ignore")  # libraries warn about their own future versions
    terminal = Terminal(quiet=options.quiet or getattr(options, "json", False))
    with terminal:
        terminal.step("opening the store")  # before MLflow is imported
        with store_errors():
            if options.command == "replay":
                return _replay(options, terminal)
            return _check(options, terminal)


def _check(options: Namespace, terminal: Terminal) -> int:
    if options.html is not None and not options.html.resolve().parent.is_dir():
        raise WindowError(f"{options.html}: no such folder; create it first")
    if options.html is not None and options.html.is_dir():
        raise WindowError(f"{options.html}: is a folder, expected the name of a file")
    store = open_existing_store(options.store, options.project)
    sources = {None: COUNTED_SOURCES, "all": tuple(SOURCES)}.get(options.source, (options.source,))
    wanted: LogWindow | FileWindow = LogWindow(
        options.log_url, options.since, options.window, sources
    )
    if options.data is not None:
        wanted = _file(options)
    terminal.step("comparing the reviews with the reference")
    check = run_check(store, wanted, version=options.version, min_reviews=options.min_reviews)
    terminal.done()
    if options.html is not None:
        write_whole(options.html, render_page(check))
    if options.json:
        print(check.to_json())
    else:
        show_check(check, terminal)
        page = options.html or page_beside(store) or (check.run_id and run_url(store, check.run_id))
        if page:
            terminal.say(f"Page: {page}")
    return EXIT_DRIFTED if check.report.verdict == "drifted" else 0


def _replay(options: Namespace, terminal: Terminal) -> int:
    from sentiment.flows.replay import (
        log_replay,
        read_months,
        replay,
    )  # what trains is slow to import

    wanted = _file(options)
    labelling = wanted.labelling.following(rule_in_production(options.store, options.project))
    wanted = replace(wanted, labelling=labelling)
    terminal.step(f"reading {options.data.name}")
    read = read_months(wanted, options.month_column)  # before a store is made for a bad file
    store = open_store(options.store, options.project)
    terminal.step("training on the first months, checking the others")
    done = replay(store, wanted, options.month_column, read, min_reviews=options.min_reviews)
    terminal.done()
    show_replay(done, terminal)
    terminal.say(f"Figure: {log_replay(store, done)}")
    return 0


def _file(options: Namespace) -> FileWindow:
    columns = options.text_column, options.rating_column
    return FileWindow(options.data, *columns, reading_of(options), labelling_of(options))


def show_check(check: DriftCheck, terminal: Terminal) -> None:
    """Print the check as lines and tables: the verdict first, what to do last."""
    report = check.report
    name = f"version {check.version} ({check.algorithm})"
    terminal.say(f"{report.verdict}: {name}, {check.source}", always=True)
    of = "" if check.reviews == report.reviews else f" of {check.reviews:,}"
    terminal.say(
        f"{report.reviews:,}{of} reviews, compared with {report.reference_reviews:,} of the "
        "reference"
    )
    if check.period:
        terminal.say(f"from {check.period}")
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
    if report.performance.note:
        terminal.say(f"- {report.performance.note}")
    for name, why in report.not_computed.items():
        terminal.say(f"not computed: {SIGNALS[name].title}: {why}")
    terminal.say(f"What to do: {report.advice}")


def show_replay(done: Replay, terminal: Terminal) -> None:
    """Print one row per window: the verdict without labels, and the true score."""
    terminal.say(f"{done.source}: {done.trained_on}")
    for note in done.notes:
        terminal.say(f"- {note}")
    scores = {
        title: [
            _interval(Interval(*ends))
            for ends in done.table[[f"{name}_f1", f"{name}_low", f"{name}_high"]].to_numpy()
        ]
        for name, title in (("true", "true macro-F1"), ("estimated", "estimated"))
    }
    beyond = [
        ", ".join(SIGNALS[name].title for name in str(each).split())
        for each in done.table["beyond"]
    ]
    names = {"measured": "by true labels", "beyond": "beyond their limits"}
    table = pd.concat(
        [
            done.table[["window", "reviews", "verdict"]],
            pd.DataFrame(scores),
            done.table[[*names]].assign(beyond=beyond).rename(columns=names),
        ],
        axis=1,
    )
    reference = "none" if done.reference is None else str(done.reference)
    terminal.table(f"Replay; macro-F1 of the reference {reference}", table)


def _interval(interval: Interval) -> str:
    if np.isnan(interval.value):
        return ""
    return f"{short(interval.value)} ({short(interval.low)}–{short(interval.high)})"
