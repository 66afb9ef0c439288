"""Read and write tables: CSV, TSV and Parquet, gzipped or not, piece by piece.

    with open_table(Path("reviews.csv"), option="--data") as table:
        for chunk in table.chunks([table.find(TEXTS, None)]):
            chunk.columns[0], chunk.problems

Training, batch scoring, the page and the drift check read with this module and no other, so they
see the same columns, rows, line numbers and messages. `records` has the rules of CSV and TSV.
"""

from __future__ import annotations

import csv
import difflib
import fcntl
import glob
import gzip
import io
import os
import re
import secrets
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from sentiment.data.records import Records
from sentiment.errors import ReviewDataError, ReviewReadError

PARQUET_ROWS = 20_000  # read at once
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")  # of tables that are written
PART = ".part"  # ends the name of a file that is not finished

NO_TEXT = "no text"

TEXT, TEXT_OR_NUMBER, ANY = "text", "text or numbers", "anything"  # what a column may hold
NAMES_SHOWN, NAME_SHOWN = 5, 30  # in a message: how many names, and characters of each
LONGEST_MESSAGE = 290  # characters, whatever is in the file; the path comes on top

_SURROGATES = re.compile("[\ud800-\udfff]")  # Parquet holds UTF-8, which has none


@dataclass(frozen=True)
class Column:
    """A column to look for; case and outer white space of a name do not matter."""

    what: str  # "ratings"
    usual: tuple[str, ...]  # names in lower case, best first
    holds: str  # `TEXT`, `TEXT_OR_NUMBER` or `ANY`
    option: str  # by which the user names it


@dataclass(frozen=True)
class Chunk:
    """Some rows of a table, in their order."""

    columns: list[Any]  # cells as they are: lists of str (CSV, TSV) or Arrow arrays (Parquet)
    problems: dict[int, str]  # why row i cannot be read
    places: Sequence[int]  # of row i: its line (CSV, TSV) or row number (Parquet), from 1
    unit: str  # what `places` counts: "line" or "row"
    share: float  # of the file has been read by now, 0–1

    def place(self, at: int) -> str:
        """Return where row `at` stands: `line 17`."""
        return f"{self.unit} {self.places[at]:,}"


@dataclass
class Unreadable:
    """Count rows that cannot be read, and keep the places of the first ones."""

    shown: int
    count: int = 0
    first: list[str] = field(default_factory=list)  # "line 17: no text"

    def add(self, chunk: Chunk, problems: dict[int, str]) -> None:
        """Take in the problems of some rows of the chunk."""
        self.count += len(problems)
        for at in sorted(problems)[: self.shown - len(self.first)]:
            self.first.append(f"{chunk.place(at)}: {problems[at]}")

    def __str__(self) -> str:
        more = self.count - len(self.first)
        return "; ".join(self.first) + (f"; and {more:,} more" if more else "")


class Table:
    """An opened table: the names of its columns, its Arrow schema if it has one, its rows."""

    names: list[str]
    schema: Any = None

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix  # of every message: the path

    def chunks(self, only: Sequence[int] | None = None) -> Iterator[Chunk]:
        """Read all rows, once; with `only` these columns in this order.

        Raises `ReviewDataError` where the file is damaged, `ReviewReadError` where it cannot be
        read just now.
        """
        raise NotImplementedError

    def find(self, column: Column, wanted: str | None, hint: str = "") -> int:
        """Return the position of the column named `wanted`, or else of the best of its usual names.

        `hint` tells the user how to name it, by default with the column's option. Raises
        `ReviewDataError`: no such column, two of that name, or it does not hold what it should.
        """
        way = f"{column.option} " if not hint else ""
        hint = hint or f"name it with {column.option}"
        at = self.look(column, wanted)
        if at is None:
            found = _shown(self.names)
            if wanted is None:
                usual = " or ".join(map(repr, column.usual[:2]))
                raise self.error(
                    f"no column of {column.what} such as {usual}, found {found}; {hint}"
                )
            plain = {name.strip().lower(): name for name in self.names[:1_000]}
            near = difflib.get_close_matches(wanted.strip().lower()[:NAME_SHOWN], plain, 1, 0.4)
            guess = f"did you mean {way}{_shown([plain[near[0]]])}?" if near else hint
            raise self.error(f"no column {_shown([wanted])}, found {found}; {guess}")
        self._check_type(at, column, hint)
        return at

    def look(self, column: Column, wanted: str | None) -> int | None:
        """Return what `find` returns, or None where there is no such column."""
        if wanted is not None and self.names.count(wanted) == 1:
            return self.names.index(wanted)
        plain = [name.strip().lower() for name in self.names]
        for name in column.usual if wanted is None else (wanted.strip().lower(),):
            if plain.count(name) > 1:
                raise self.error(f"two columns are named {_shown([name])}; rename one")
            if name in plain:
                return plain.index(name)
        return None

    def error(self, message: str) -> ReviewDataError:
        """Return the error with the file's name before the message."""
        cut = message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}…"
        return ReviewDataError(self.prefix + cut)

    def _check_type(self, at: int, column: Column, hint: str) -> None:
        """Raise `ReviewDataError` when column `at` holds something else."""


def _shown(names: Sequence[str]) -> str:
    """Return the first names as a message quotes them."""
    first = (repr(name[: NAME_SHOWN + 1]) for name in names[:NAMES_SHOWN])
    shown = ", ".join(
        name if len(name) <= NAME_SHOWN + 2 else f"{name[:NAME_SHOWN]}…'" for name in first
    )
    more = len(names) - NAMES_SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown


# --- reading -------------------------------------------------------------------------------


@contextmanager
def open_table(path: Path, option: str) -> Iterator[Table]:
    """Open a table of any format; `option` is where the user named it.

    Raises `ReviewDataError` (no such file, empty, another format) and `ReviewReadError`.
    """
    with ExitStack() as files:
        with _named_errors(f"{path}: ", option):
            raw = files.enter_context(path.open("rb"))
            table = read_table(raw, path.name, prefix=f"{path}: ")
        yield table


def read_table(
    raw: IO[bytes], name: str, *, prefix: str = "", most_bytes: int | None = None
) -> Table:
    """Read a table from an open binary file that can seek.

    The content tells Parquet and gzip, `name` the delimiter. `most_bytes` guards a server: a text
    may unpack to so many bytes, and Parquet, which may unpack to anything, is refused.
    """
    magic = raw.read(4)
    raw.seek(0)
    if magic != b"PAR1":
        return _Delimited(raw, name, prefix, packed=magic[:2] == b"\x1f\x8b", most_bytes=most_bytes)
    if most_bytes is not None:
        raise ReviewDataError(f"{prefix}is a Parquet file, expected text: CSV or TSV")
    return _Parquet(raw, prefix)


class _Delimited(Table):
    def __init__(
        self, raw: IO[bytes], name: str, prefix: str, *, packed: bool, most_bytes: int | None
    ) -> None:
        super().__init__(prefix)
        self._raw, self._size = raw, raw.seek(0, os.SEEK_END)
        raw.seek(0)
        data = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw
        with _named_errors(prefix):
            self._records = Records(data, name, prefix=prefix, most_bytes=most_bytes)
        self.names = self._records.names

    def chunks(self, only: Sequence[int] | None = None) -> Iterator[Chunk]:
        blocks = self._records.blocks(only)
        while True:
            with _named_errors(self.prefix):
                block = next(blocks, None)
            if block is None:
                return
            share = min(self._raw.tell() / self._size, 1.0)
            yield Chunk(block.columns, block.problems, block.places, "line", share)


class _Parquet(Table):
    def __init__(self, raw: IO[bytes], prefix: str) -> None:
        from pyarrow import ArrowException, parquet

        super().__init__(prefix)
        try:
            self._file = parquet.ParquetFile(raw)
        except (ArrowException, OSError) as error:
            raise self._damage("is not a readable Parquet file", error) from None
        self.schema = self._file.schema_arrow
        self.names = list(self.schema.names)

    def chunks(self, only: Sequence[int] | None = None) -> Iterator[Chunk]:
        from pyarrow import ArrowException

        total = self._file.metadata.num_rows
        done = 0
        # Columns are chosen by name, and a dot in it means a part of a column
        clear = len(set(self.names)) == len(self.names) and not any("." in n for n in self.names)
        names = [self.names[at] for at in only] if only is not None and clear else None
        batches = self._file.iter_batches(PARQUET_ROWS, columns=names)
        while True:
            try:
                batch = next(batches, None)
                if batch is None:
                    return
                batch.validate(full=True)  # or text that is not UTF-8 would be found much later
            except (ArrowException, OSError) as error:
                raise self._damage(f"is damaged after row {done:,}", error) from None
            wanted = range(batch.num_columns) if only is None else names or only
            columns = [batch.column(which) for which in wanted]
            places = range(done + 1, done + batch.num_rows + 1)
            done += batch.num_rows
            yield Chunk(columns, {}, places, "row", done / max(total, 1))

    def _check_type(self, at: int, column: Column, hint: str) -> None:
        from pyarrow import types

        kind = self.schema.field(at).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
        if not (is_text or column.holds == ANY or (column.holds == TEXT_OR_NUMBER and is_number)):
            raise self.error(
                f"column {_shown([self.names[at]])} holds {str(kind)[:NAME_SHOWN]}, expected "
                f"{column.holds}; {hint}"
            )

    def _damage(self, what: str, error: Exception) -> ReviewDataError:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of the file
            return ReviewReadError(f"{self.prefix}cannot be read: {error.strerror}")
        return self.error(f"{what}: {str(error).splitlines()[0][:120]}")


def cells(column: Any) -> list[Any]:
    """Return a column of a chunk as strings (CSV, TSV) or as Python values (Parquet)."""
    return column if isinstance(column, list) else column.to_pylist()


@contextmanager
def _named_errors(prefix: str, option: str = "") -> Iterator[None]:
    """Turn whatever opening or reading a file raises into our errors."""
    try:
        yield
    except FileNotFoundError:
        raise ReviewDataError(f"{prefix}no such file; give one with {option}") from None
    except IsADirectoryError:
        raise ReviewDataError(f"{prefix}is a folder, expected a file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ReviewDataError(f"{prefix}the gzip stream is damaged: {error}") from None
    except OSError as error:
        raise ReviewReadError(f"{prefix}cannot be read: {error.strerror or error}") from None


# --- writing -------------------------------------------------------------------------------


Write = Callable[[Sequence[Any]], None]  # append rows: lists or Arrow arrays of the same length


def table_format(path: Path) -> str:
    """Return the one of `SUFFIXES` that says how to write the file, or raise `ReviewDataError`."""
    found = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if found is None:
        raise ReviewDataError(f"{path}: the name must end in one of {', '.join(SUFFIXES)}")
    return found


@contextmanager
def open_target(path: Path, source: Table, added: Sequence[tuple[str, str]]) -> Iterator[Write]:
    """Write a table of the source's columns and the `added` ones: (name, Arrow type) each.

    The file appears as `appearing_whole` says. Raises `ReviewDataError`: a name is taken, no such
    folder, disk full.
    """
    kind = table_format(path)
    names = [*source.names, *(name for name, _ in added)]
    taken = set(source.names) & {name for name, _ in added}
    if taken:
        name = _shown(sorted(taken))
        raise ReviewDataError(f"the input has a column {name} already; rename it or leave it out")
    if kind == ".parquet" and len(set(names)) < len(names):
        twice = [name for name, count in Counter(names).items() if count > 1]
        raise ReviewDataError(
            f"two columns are named {_shown(twice[:1])}; rename one, or write a CSV"
        )
    if path.is_dir():
        raise ReviewDataError(f"{path}: is a folder, expected the name of a file")
    try:
        with appearing_whole(path.resolve()) as raw, ExitStack() as layers:
            if kind == ".parquet":
                yield layers.enter_context(_parquet_target(raw, source, added))
            else:
                yield layers.enter_context(_delimited_target(raw, kind, names))
    except FileNotFoundError:
        raise ReviewDataError(f"{path.parent}: no such folder; make it first") from None
    except OSError as error:
        raise ReviewDataError(f"{path}: cannot be written: {error.strerror or error}") from None


@contextmanager
def _delimited_target(raw: IO[bytes], kind: str, names: Sequence[str]) -> Iterator[Write]:
    with ExitStack() as layers:
        if kind.endswith(".gz"):
            # without name and time in it, the same rows give the same bytes
            packed = gzip.GzipFile("", "wb", fileobj=raw, mtime=0)
            raw = cast(IO[bytes], layers.enter_context(packed))
        # bytes that were not UTF-8 are written as they were
        text = io.TextIOWrapper(raw, "utf-8", "surrogateescape", newline="")
        # Lines end as RFC 4180 has it: with "\n" alone a cell with a "\r" would not be quoted
        delimiter = "\t" if kind.startswith(".tsv") else ","
        writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
        writer.writerow(names)
        # floats keep all their bits
        yield lambda columns: writer.writerows(zip(*map(cells, columns), strict=True))
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
            pyarrow.array(map(_storable, column), field.type)
            if isinstance(column, list)
            else column
            for column, field in zip(columns, schema, strict=True)
        ]
        writer.write_batch(pyarrow.record_batch(arrays, schema=schema))

    with parquet.ParquetWriter(raw, schema) as writer:
        yield write


def _storable(cell: Any) -> Any:
    """Return the cell as UTF-8 can hold it."""
    if isinstance(cell, str) and not cell.isascii():
        return _SURROGATES.sub("\ufffd", cell)
    return cell


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
