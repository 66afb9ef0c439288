"""Show what a script does: lines, steps, tables and progress bars; plain text when piped.

Only what is light is imported here, so that a first line can be shown before the slow imports.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.status import Status
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

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
            shown = "" if best is None else f"best CV F1 {best:.4f}"
            self._bar.update(self._task, advance=trials, best=shown)


class Terminal:
    """Standard output. When `quiet`, only what is said with `always` is shown.

    A step that is under way has a spinner on a terminal, until the next begins or the block of the
    terminal ends. Elsewhere it is a line, but only with `lines`: what a command prints may be read
    by a program.
    """

    def __init__(self, *, quiet: bool = False, lines: bool = False) -> None:
        self._quiet, self._lines = quiet, lines
        self._console = Console(highlight=False, soft_wrap=True)
        self._spinner: Status | None = None
        if not self._console.is_terminal:
            self._console.width = WIDEST

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.done()

    def step(self, what: str) -> None:
        """Show that `what` is under way from now on."""
        if self._quiet:
            return
        if not self._console.is_terminal:
            if self._lines:
                self.say(f"{what} …")
        elif self._spinner is None:
            self._spinner = self._console.status(escape(f"{what} …"))
            self._spinner.start()
        else:
            self._spinner.update(escape(f"{what} …"))

    def done(self) -> None:
        """Show no step any more; what follows shows itself."""
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None

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
            table.add_column(
                str(name), justify="right" if frame[name].dtype.kind in "iuf" else "left"
            )
        for row in frame.itertuples(index=False):
            table.add_row(*(_cell(value) for value in row))
        self._console.print(table)

    def columns(self, rows: Sequence[Mapping[str, object]], *, right: Sequence[str] = ()) -> None:
        """Print rows without lines between them, which leaves most room; shown when quiet, too.

        Those named in `right` are set to the right.
        """
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for name in rows[0]:
            table.add_column(name, justify="right" if name in right else "left")
        for row in rows:
            table.add_row(*(escape(str(value)) for value in row.values()))
        self._console.print(table)

    def groups(self, groups: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        """Print names and values below the headings of their groups; empty groups are left out."""
        names = [name for rows in groups.values() for name, _ in rows]
        width = max(map(len, names), default=0)
        for heading, rows in groups.items():
            if rows:
                self._console.print(f"\n{heading}", style="bold", markup=False)
                table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
                table.add_column(min_width=width + 2, no_wrap=True)
                table.add_column(overflow="fold")
                for name, value in rows:
                    table.add_row(f"  {escape(name)}", escape(value))
                self._console.print(table)

    @contextmanager
    def search(self, name: str, total: int) -> Iterator[SearchProgress]:
        """Show a study's progress: as a bar on a terminal, elsewhere as one line at its end.

        The score beside it is the best mean of the folds so far.
        """
        with self.steps(name, total, "trials") as progress:
            yield progress
            best = "no score" if progress.best is None else f"best CV macro-F1 {progress.best:.4f}"
            progress.said = f", {best}"

    @contextmanager
    def steps(self, name: str, total: int, unit: str) -> Iterator[SearchProgress]:
        """Show the progress of `total` steps, as `search` does."""
        started = time.perf_counter()
        self.done()
        if self._quiet or not self._console.is_terminal:
            progress = SearchProgress(name, total, None)
            yield progress
        else:
            columns = (
                TextColumn("{task.description:<19}"),
                BarColumn(bar_width=12),
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
