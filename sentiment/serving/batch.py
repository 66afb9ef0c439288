"""Score a file of reviews of any size: write the same file with the model's answers.

    score_file(open_store(), Path("reviews.csv"), Path("scored.parquet"), terminal=Terminal())

Rows go through in portions, so that memory does not grow with the file. All columns stay as they
are; `ADDED` come after them. A row that cannot be read is kept, with the reason, and said.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from sentiment.data.labels import CLASS_NAMES
from sentiment.data.reviews import TEXTS, texts_of
from sentiment.data.sources import Reading
from sentiment.data.tables import AS_WRITTEN, Table, Unreadable, open_table, suspicion
from sentiment.data.tables import PLACES_SHOWN as SUSPICIOUS_SHOWN
from sentiment.data.targets import FormulaGuard, open_target, table_format
from sentiment.errors import ReviewDataError
from sentiment.model.predictor import LoadedVersion, load_version

if TYPE_CHECKING:
    from sentiment.console import Terminal
    from sentiment.tracking.store import Store

# Name and Arrow type of what is added. `label` is positive or negative, or empty with a `reason`;
# `probability` is of positive, 0–1, and the prior where no word is known.
ADDED = (
    ("label", "string"),
    ("probability", "double"),
    ("known_words", "int64"),
    ("reason", "string"),
    ("version", "string"),
)
PLACES_SHOWN = 10  # rows that could not be read, by line


@dataclass
class Summary:
    """Count what became of the rows of a table, or of several."""

    version: str
    rows: int = 0
    labels: Counter[str] = field(default_factory=Counter)  # "" for those without a label
    unreadable: Unreadable = field(default_factory=lambda: Unreadable(PLACES_SHOWN))
    suspicious: Unreadable = field(default_factory=lambda: Unreadable(SUSPICIOUS_SHOWN))
    escaped: int = 0  # cells that began as a formula does
    read_as: str = ""  # which column was taken, and what was not as usual
    seconds: float = 0.0

    def add(self, other: Summary, name: str) -> None:
        """Take in the counts of a part of this name; the time is for the caller to take."""
        self.rows += other.rows
        self.labels.update(other.labels)
        self.unreadable.add_all(other.unreadable, name)
        self.suspicious.add_all(other.suspicious, name)
        self.escaped += other.escaped
        self.read_as = self.read_as or other.read_as

    def sentence(self) -> str:
        """Return the counts in a sentence."""
        positive, negative = self.labels["positive"], self.labels["negative"]
        unknown = self.rows - positive - negative - self.unreadable.count
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        return (
            f"{rows} scored by version {self.version} in {self.seconds:,.1f} s: "
            f"{positive:,} positive, {negative:,} negative, {unknown:,} without known words, "
            f"{self.unreadable.count:,} could not be read"
        )

    def show(self, source: str, target: str, terminal: Terminal) -> None:
        """Say the counts, the first rows that could not be read, and what else was found."""
        if self.unreadable.count:
            terminal.say(
                f"{self.unreadable.count:,} rows could not be read and are kept without a score: "
                f"{self.unreadable}"
            )
        if self.escaped:
            terminal.say(
                f"{self.escaped:,} cells begin as a formula does and got an apostrophe in front; "
                "--no-escape-formulas writes them as they are"
            )
        if self.suspicious.count:
            terminal.say(suspicion(self.suspicious))
        if self.read_as:
            terminal.say(f"{source}: {self.read_as}")
        terminal.say(f"{target}: {self.sentence()}")


def score_file(  # noqa: PLR0913  # each is an option of the command
    store: Store,
    source: Path,
    target: Path,
    *,
    version: str = "champion",
    text_column: str | None = None,
    reading: Reading = AS_WRITTEN,
    escape_formulas: bool = True,
    terminal: Terminal,
) -> Summary:
    """Score every row of `source` with a version of the store and write `target`.

    The content of `source` tells its format, the name of `target` CSV, TSV (gzipped or not) or
    Parquet.
    `target` appears whole or not at all, and replaces what has its name. `version` is an alias or a
    number; without `text_column` the usual names are tried (`reviews.TEXTS`). Cells of a CSV or TSV
    that a spreadsheet would run get an apostrophe, with `escape_formulas`. The terminal shows the
    counts, the first rows that could not be read, and how many cells were escaped. Raises
    `ReviewDataError` for the files, and `ServingError` for the version.
    """
    table_format(target)
    if target.exists() and source.exists() and target.samefile(source):
        raise ReviewDataError(f"{target}: is the input; name another file with --out")
    with open_table(source, "--in", reading) as table, _progress(source.name) as advance:
        summary = score_table(
            lambda: load_version(store, version),
            table,
            target,
            text_column=text_column,
            escape_formulas=escape_formulas,
            advance=advance,
        )
    summary.show(source.name, str(target), terminal)
    return summary


def score_table(  # as of `score_file`
    load: Callable[[], LoadedVersion],
    table: Table,
    target: Path,
    *,
    text_column: str | None,
    escape_formulas: bool,
    advance: Callable[[float], None],
) -> Summary:
    """Score an open table as `score_file` does; the version is loaded once the files are open.

    `advance` is called with the share that is done, 0–1.
    """
    begun, guard = time.perf_counter(), FormulaGuard() if escape_formulas else None
    text_at = table.find(TEXTS, text_column)
    with open_target(target, table, ADDED, guard) as write:
        loaded = load()
        summary = Summary(loaded.version)
        for chunk in table.chunks():
            texts = texts_of(chunk, text_at)
            added = _answers(loaded, texts, chunk.problems)
            write([*chunk.columns, *added])
            summary.rows += len(texts)
            summary.labels.update(label or "" for label in added[0])
            summary.unreadable.add(chunk, chunk.problems)
            advance(chunk.share)
    summary.suspicious = table.suspicious
    summary.escaped = guard.escaped if guard is not None else 0
    summary.read_as = table.described(("texts", text_at))
    summary.seconds = time.perf_counter() - begun
    return summary


def _answers(
    version: LoadedVersion, texts: Sequence[str | None], problems: Mapping[int, str]
) -> list[list[Any]]:
    """Return the columns `ADDED`; their cells are None where a row could not be read."""
    answers = iter(version.predict([text for text in texts if text is not None], explain=False))
    columns: list[list[Any]] = [[] for _ in ADDED]
    for at, text in enumerate(texts):
        row: tuple[Any, ...] = None, None, None, problems.get(at)
        if text is not None:
            answer = next(answers)
            label = None if answer.label is None else CLASS_NAMES[answer.label]
            row = label, answer.probability, answer.known_words, answer.reason
        for column, value in zip(columns, (*row, version.version), strict=True):
            column.append(value)
    return columns


@contextmanager
def _progress(name: str) -> Iterator[Callable[[float], None]]:
    """Show a bar while the file is read, on a terminal; call it with the share that is done."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(name, total=1.0)
        yield lambda share: bar.update(task, completed=share)
