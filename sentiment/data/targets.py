"""Write tables: CSV and TSV, gzipped or not, and Parquet; a file appears whole or not at all.

    with open_target(Path("scored.csv"), table, [("label", "string")]) as write:
        write([*chunk.columns, labels])

The ending of the name says in which form.
"""

from __future__ import annotations

import csv
import fcntl
import glob
import gzip
import io
import os
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

from sentiment.data.tables import Table, cells, shown_names
from sentiment.errors import ReviewDataError

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")  # of tables that are written
PART = ".part"  # ends the name of a file that is not finished

# What a spreadsheet takes for a formula when a cell begins with it, blanks or not: signs as Excel,
# LibreOffice and Google's tables know them, the full-width and small ones of Chinese and Japanese
# input included.
# A tab or a carriage return in front is enough: some of them drop it and look again.
_FORMULA = re.compile(r"[\t\r]|[\s\x00-\x1f\u200b-\u200f\u2060\ufeff]*[=+\-@＝＋－＠﹦﹢﹣﹫]")
_NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]+)*([eE][+-]?[0-9]+)?%?", re.ASCII)

Write = Callable[[Sequence[Any]], None]  # append rows: lists or Arrow arrays of the same length


def without_formula(cell: str) -> str:
    """Return a cell that no spreadsheet runs: with an apostrophe where it began as a formula.

    Numbers are not formulas, such as -3.5 or +1. Reviews are written by strangers, and one that
    reads `=HYPERLINK(…)` would be run on the computer of whoever opens the table.
    """
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


@dataclass
class FormulaGuard:
    """Escape the cells of a table with `without_formula`, and count those that needed it."""

    escaped: int = 0

    def __call__(self, cells: Sequence[Any]) -> Sequence[Any]:
        """Return the cells; numbers and missing ones stay as they are."""
        safe = [without_formula(cell) if isinstance(cell, str) else cell for cell in cells]
        self.escaped += sum(new is not old for new, old in zip(safe, cells, strict=True))
        return safe


def table_format(path: Path) -> str:
    """Return the one of `SUFFIXES` that says how to write the file, or raise `ReviewDataError`."""
    found = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if found is None:
        raise ReviewDataError(f"{path}: the name must end in one of {', '.join(SUFFIXES)}")
    return found


@contextmanager
def open_target(
    path: Path,
    source: Table,
    added: Sequence[tuple[str, str]],
    guard: FormulaGuard | None = None,
) -> Iterator[Write]:
    """Write a table of the source's columns and the `added` ones: (name, Arrow type) each.

    `guard` escapes the cells of a CSV or TSV, header included; a Parquet file runs no formulas.
    The file appears as `appearing_whole` says. Raises `ReviewDataError`: a name is taken, no such
    folder, disk full.
    """
    kind = table_format(path)
    names = [*source.names, *(name for name, _ in added)]
    taken = set(source.names) & {name for name, _ in added}
    if taken:
        name = shown_names(sorted(taken))
        raise ReviewDataError(f"the input has a column {name} already; rename or delete it")
    if kind == ".parquet" and len(set(names)) < len(names):
        twice = [name for name, count in Counter(names).items() if count > 1]
        raise ReviewDataError(
            f"two columns are named {shown_names(twice[:1])}; rename one, or write a CSV"
        )
    if path.is_dir():
        raise ReviewDataError(f"{path}: is a folder, expected the name of a file")
    try:
        with appearing_whole(path.resolve()) as raw, ExitStack() as layers:
            if kind == ".parquet":
                yield layers.enter_context(_parquet_target(raw, source, added))
            else:
                yield layers.enter_context(_delimited_target(raw, kind, names, guard))
    except FileNotFoundError:
        raise ReviewDataError(f"{path.parent}: no such folder; create it first") from None
    except OSError as error:
        raise ReviewDataError(f"{path}: cannot be written: {error.strerror or error}") from None


@contextmanager
def _delimited_target(
    raw: IO[bytes], kind: str, names: Sequence[str], guard: FormulaGuard | None
) -> Iterator[Write]:
    def written(column: Any) -> Sequence[Any]:
        return cells(column) if guard is None else guard(cells(column))

    with ExitStack() as layers:
        if kind.endswith(".gz"):
            # without name and time in it, the same rows give the same bytes
            packed = gzip.GzipFile("", "wb", fileobj=raw, mtime=0)
            raw = cast(IO[bytes], layers.enter_context(packed))
        text = io.TextIOWrapper(raw, "utf-8", newline="")
        # Lines end as RFC 4180 has it: with "\n" alone a cell with a "\r" would not be quoted
        delimiter = "\t" if kind.startswith(".tsv") else ","
        # For people all texts are quoted: a spreadsheet may separate by ";", a tab or "|" as well,
        # and what follows one in a review would be a cell of its own.
        quoting: Literal[0, 2] = csv.QUOTE_MINIMAL if guard is None else csv.QUOTE_NONNUMERIC
        writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n", quoting=quoting)
        writer.writerow(written(names))
        # floats keep all their bits
        yield lambda columns: writer.writerows(zip(*map(written, columns), strict=True))
        text.detach()


@contextmanager
def _parquet_target(
    raw: IO[bytes], source: Table, added: Sequence[tuple[str, str]]
) -> Iterator[Write]:
    import pyarrow
    from pyarrow import parquet

    schema = source.schema or pyarrow.schema([(name, pyarrow.string()) for name in source.names])
    for name, kind in added:
        schema = schema.append(pyarrow.field(name, pyarrow.type_for_alias(kind)))

    def write(columns: Sequence[Any]) -> None:
        arrays = [
            pyarrow.array(column, field.type) if isinstance(column, list) else column
            for column, field in zip(columns, schema, strict=True)
        ]
        writer.write_batch(pyarrow.record_batch(arrays, schema=schema))

    with parquet.ParquetWriter(raw, schema) as writer:
        yield write


@contextmanager
def appearing_whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file beside `path`, which takes its name when the block ends well.

    When the block raises, Ctrl-C included, it is removed, and what was at `path` stays. What a
    killed process left behind is removed by the next one that writes there. Raises `OSError`.
    """
    with ExitStack() as files:
        folder = os.open(path.parent, os.O_RDONLY)
        files.callback(os.close, folder)
        # One process at a time looks for leftovers and makes its own. A file is locked while its
        # process lives, so that one that can be locked is a dead one's.
        fcntl.flock(folder, fcntl.LOCK_EX)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*{PART}"):
            with suppress(OSError), left.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}")
        raw = files.enter_context(part.open("xb"))
        fcntl.flock(raw, fcntl.LOCK_EX)
        fcntl.flock(folder, fcntl.LOCK_UN)
        try:
            yield raw
            raw.flush()
            os.fsync(raw.fileno())
            part.replace(path)
            os.fsync(folder)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
