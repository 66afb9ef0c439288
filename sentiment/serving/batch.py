"""Batch scoring: a file of reviews of any size → the same file with the model's answers.

    score_file(open_store(), Path("reviews.csv"), Path("scored.parquet"), terminal=Terminal())

Rows go through in portions, so that memory does not grow with the file. All columns stay as they
are; `ADDED` come after them. A row that cannot be read is kept, with the reason, and said.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from sentiment.data.reviews import CLASS_NAMES
from sentiment.data.tables import Chunk, open_source, open_target, table_format
from sentiment.errors import BatchError
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
PLACES_SAID = 10  # rows that could not be read, by line


@dataclass
class Summary:
    """What became of a file: counts of rows, and the first ones that could not be read."""

    version: str
    rows: int = 0
    labels: Counter[str] = field(default_factory=Counter)  # "" for those without a label
    unreadable: int = 0
    first_unreadable: list[str] = field(default_factory=list)  # "line 17: no text"
    seconds: float = 0.0

    def sentence(self) -> str:
        """The counts in a sentence."""
        positive, negative = self.labels["positive"], self.labels["negative"]
        unknown = self.rows - positive - negative - self.unreadable
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        return (
            f"{rows} scored by version {self.version} in {self.seconds:,.1f} s: "
            f"{positive:,} positive, {negative:,} negative, {unknown:,} without known words, "
            f"{self.unreadable:,} could not be read"
        )


def score_file(
    store: Store,
    source: Path,
    target: Path,
    *,
    version: str = "champion",
    text_column: str | None = None,
    terminal: Terminal,
) -> Summary:
    """Score every row of `source` with a version of the store and write `target`.

    Both are CSV, TSV (gzipped or not) or Parquet by their names, UTF-8. `target` appears whole or
    not at all, and replaces what has its name. `version` is an alias or a number; without
    `text_column` the usual names are tried (`review_rows.TEXT_COLUMNS`). What could not be read
    and the counts are said on the terminal. Raises `BatchError` for the files, and
    `inference.ServingError` for the version.
    """
    table_format(target)
    if target.exists() and source.exists() and target.samefile(source):
        raise BatchError(f"{target}: is the input; name another file with --out")
    begun = time.perf_counter()
    with (
        open_source(source, text_column) as rows,
        open_target(target, rows, ADDED) as out,
    ):
        loaded = load_version(store, version)
        summary = Summary(loaded.version)
        with _progress(source.name) as advance:
            for chunk in rows.chunks():
                added = _answers(loaded, chunk)
                out.write([*chunk.columns, *added])
                _count(summary, chunk, added[0], rows.place)
                advance(chunk.share)
    summary.seconds = time.perf_counter() - begun
    _say(summary, target, terminal)
    return summary


def _answers(version: LoadedVersion, chunk: Chunk) -> list[list[Any]]:
    """The columns `ADDED` for the rows of a chunk; None where a row could not be read."""
    readable = [text for text in chunk.texts if text is not None]
    found = iter(version.predict(readable, explain=False))
    columns: list[list[Any]] = [[] for _ in ADDED]
    for at, text in enumerate(chunk.texts):
        row: tuple[Any, ...] = None, None, None, chunk.problems.get(at)
        if text is not None:
            answer = next(found)
            label = None if answer.label is None else CLASS_NAMES[answer.label]
            row = label, answer.probability, answer.known_words, answer.reason
        for column, value in zip(columns, (*row, version.version), strict=True):
            column.append(value)
    return columns


def _count(summary: Summary, chunk: Chunk, labels: list[str | None], place: str) -> None:
    summary.rows += len(chunk.texts)
    summary.labels.update(label or "" for label in labels)
    summary.unreadable += len(chunk.problems)
    for at in sorted(chunk.problems)[: PLACES_SAID - len(summary.first_unreadable)]:
        summary.first_unreadable.append(f"{place} {chunk.places[at]:,}: {chunk.problems[at]}")


def _say(summary: Summary, target: Path, terminal: Terminal) -> None:
    if summary.unreadable:
        more = summary.unreadable - len(summary.first_unreadable)
        terminal.say(
            f"{summary.unreadable:,} rows could not be read and are kept without a score: "
            + "; ".join(summary.first_unreadable)
            + (f"; and {more:,} more" if more else "")
        )
    terminal.say(f"{target}: {summary.sentence()}")


@contextmanager
def _progress(name: str) -> Iterator[Callable[[float], None]]:
    """A bar while the file is read, on a terminal; it is called with the share that is done."""
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
