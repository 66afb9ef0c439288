"""Show what a script does: lines, tables and progress bars; plain text when piped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

WIDEST = 10_000  # characters of a table row that is piped


class SearchProgress:
    """The progress of many steps: `advance` after each, with the best score so far, if any."""

    def __init__(self, name: str, total: int, bar: Progress | None) -> None:
        self.name, self.total, self.done = name, total, 0
        self.best: float | None = None
        self.said = ""  # of it, in the line at the end
        self._bar = bar
        if bar is not None:
            self._task = bar.add_task(name, total=total, best="")

    def advance(self, best: float | None, trials: int = 1) -> None:
        """Count `trials` more as done, and show `best`."""
        self.done, self.best = self.done + trials, best
        if self._bar is not None:
            shown = "" if best is None else f"best {best:.4f}"
            self._bar.update(self._task, advance=trials, best=shown)


class Terminal:
    """Standard output. When `quiet`, only what is said with `always` is shown."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(highlight=False, soft_wrap=True)
        if not self._console.is_terminal:
            self._console.width = WIDEST

    def say(self, text: str = "", *, always: bool = False) -> None:
        """Print one or more lines."""
        if always or not self._quiet:
            self._console.print(text, markup=False)

    def table(self, title: str, frame: pd.DataFrame) -> None:
        """Print a frame: whole numbers with thousands separators, fractions in per cent.

        On a terminal the table is folded to fit; elsewhere every row stays on its line.
        """
        if self._quiet:
            return
        table = Table(title=title, title_justify="left")
        for name in frame.columns:
            numeric = pd.api.types.is_numeric_dtype(frame[name])
            table.add_column(str(name), justify="right" if numeric else "left")
        for row in frame.itertuples(index=False):
            table.add_row(*(_cell(value) for value in row))
        self._console.print(table)

    @contextmanager
    def search(self, name: str, total: int) -> Iterator[SearchProgress]:
        """Show a study's progress: as a bar on a terminal, elsewhere as one line at its end."""
        with self.steps(name, total, "trials") as progress:
            yield progress
            best = "no score" if progress.best is None else f"best CV macro-F1 {progress.best:.4f}"
            progress.said = f", {best}"

    @contextmanager
    def steps(self, name: str, total: int, unit: str) -> Iterator[SearchProgress]:
        """Show the progress of `total` steps, as `search` does."""
        started = time.perf_counter()
        if self._quiet or not self._console.is_terminal:
            progress = SearchProgress(name, total, None)
            yield progress
        else:
            columns = (
                TextColumn("{task.description:<18}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[best]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=self._console) as bar:
                progress = SearchProgress(name, total, bar)
                yield progress
            return
        seconds = time.perf_counter() - started
        self.say(f"{name}: {progress.done} of {total} {unit}{progress.said}, {seconds:.1f} s")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else str(value)
