"""Batch files: CSV, TSV and Parquet read piece by piece, and written whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol, cast

from sentiment.data.review_rows import NO_TEXT, find_text_column, read_header, read_rows
from sentiment.data.whole_file import appearing_whole
from sentiment.errors import BatchError, RowsError

CHUNK_ROWS = 20_000  # held at once: some tens of megabytes; larger is not faster
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
HINT = "name it with --text-column"

_SURROGATES = re.compile("[\ud800-\udfff]")  # Parquet holds UTF-8, which has none


@dataclass(frozen=True)
class Chunk:
    """Some rows of a table, in their order.

    `columns` hold the cells as they are: lists of str (CSV, TSV) or Arrow arrays (Parquet).
    `texts[i]` is None where row i cannot be read, and `problems[i]` says why; `places[i]` is its
    line (CSV, TSV) or row number, from 1. `share` of the file is read by now, 0–1.
    """

    columns: list[Any]
    texts: list[str | None]
    problems: dict[int, str]
    places: Sequence[int]
    share: float


class Source(Protocol):
    """An opened table: the names of its columns, its Arrow schema if it has one, its rows."""

    names: list[str]
    schema: Any
    place: str  # what `Chunk.places` counts

    def chunks(self) -> Iterator[Chunk]:
        """All rows, `CHUNK_ROWS` at a time. Raises `BatchError` where the file is damaged."""


class Target(Protocol):
    """A table being written."""

    def write(self, columns: Sequence[Any]) -> None:
        """Append rows; `columns` are lists or Arrow arrays of the same length."""


def table_format(path: Path) -> str:
    """The one of `SUFFIXES` that says how the file is read or written, or `BatchError`."""
    found = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if found is None:
        raise BatchError(f"{path}: the name must end in one of {', '.join(SUFFIXES)}")
    return found


@contextmanager
def open_source(path: Path, text_column: str | None) -> Iterator[Source]:
    """Open a table and find its column of reviews, the named one or one of the usual names.

    Raises `BatchError`: no such file, empty, another format, no such column.
    """
    kind = table_format(path)
    with ExitStack() as files:
        with _errors_of(path):
            raw = files.enter_context(path.open("rb"))
            if not raw.peek(1):
                raise RowsError("is empty, expected a header and one row per review")
            source: Source
            if kind == ".parquet":
                source = _ParquetSource(path, raw, text_column)
            else:
                data = gzip.GzipFile(fileobj=raw) if kind.endswith(".gz") else raw
                text = io.TextIOWrapper(
                    cast(IO[bytes], data), "utf-8-sig", "surrogateescape", newline=""
                )
                source = _DelimitedSource(path, raw, text, text_column)
        yield source


class _DelimitedSource:
    place = "line"
    schema = None

    def __init__(self, path: Path, raw: IO[bytes], text: IO[str], wanted: str | None) -> None:
        self._path, self._raw, self._size = path, raw, path.stat().st_size
        self._rows = read_rows(text, _delimiter(path))
        self.names = read_header(self._rows)
        self._text_at = find_text_column(self.names, wanted, HINT)

    def chunks(self) -> Iterator[Chunk]:
        with _errors_of(self._path):
            while rows := list(islice(self._rows, CHUNK_ROWS)):
                columns = [list(cells) for cells in zip(*(row.fields for row in rows), strict=True)]
                problems = {at: row.problem for at, row in enumerate(rows) if row.problem}
                share = min(self._raw.tell() / self._size, 1.0)
                places = [row.line for row in rows]
                yield _chunk(columns, columns[self._text_at], problems, places, share)


class _ParquetSource:
    place = "row"

    def __init__(self, path: Path, raw: IO[bytes], wanted: str | None) -> None:
        from pyarrow import ArrowException, parquet, types

        self._path = path
        try:
            self._file = parquet.ParquetFile(raw)
        except (ArrowException, OSError) as error:
            raise RowsError(f"is not a readable Parquet file: {_first_line(error)}") from None
        self.schema = self._file.schema_arrow
        self.names = list(self.schema.names)
        self._text_at = find_text_column(self.names, wanted, HINT)
        field = self.schema.field(self._text_at)
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
            raise RowsError(f"column {field.name!r} holds {kind}, expected text; {HINT}")

    def chunks(self) -> Iterator[Chunk]:
        from pyarrow import ArrowException

        done, total = 0, self._file.metadata.num_rows
        with _errors_of(self._path):
            try:
                for batch in self._file.iter_batches(CHUNK_ROWS):
                    texts = batch.column(self._text_at).to_pylist()
                    places = range(done + 1, done + len(texts) + 1)
                    done += len(texts)
                    yield _chunk(batch.columns, texts, {}, places, done / total)
            except (ArrowException, OSError, UnicodeDecodeError) as error:
                raise RowsError(f"is damaged after row {done:,}: {_first_line(error)}") from None


def _chunk(
    columns: list[Any],
    texts: list[str | None],
    problems: dict[int, str],
    places: Sequence[int],
    share: float,
) -> Chunk:
    for at, text in enumerate(texts):
        if text is None or not text.strip():
            problems.setdefault(at, NO_TEXT)
    readable = [None if at in problems else text for at, text in enumerate(texts)]
    return Chunk(columns, readable, problems, places, share)


@contextmanager
def open_target(path: Path, source: Source, added: Sequence[tuple[str, str]]) -> Iterator[Target]:
    """Write a table of the source's columns and the `added` ones: (name, Arrow type) each.

    The file appears under its name when the block ends well, and takes the place of one that was
    there. Otherwise what was there stays; what a killed process left beside it is removed by the
    next one. Raises `BatchError`: a name is taken, no such folder, disk full.
    """
    kind = table_format(path)
    names = [*source.names, *(name for name, _ in added)]
    taken = next((name for name, _ in added if name in source.names), None)
    if taken is not None:
        raise BatchError(f"the input has a column {taken!r} already; rename it or leave it out")
    if kind == ".parquet" and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BatchError(f"two columns are named {twice!r}; rename one, or write a CSV")
    if path.is_dir():
        raise BatchError(f"{path}: is a folder, expected the name of a file")
    try:
        with appearing_whole(path.resolve()) as raw, ExitStack() as layers:
            if kind == ".parquet":
                yield layers.enter_context(_parquet_target(raw, source, added))
            else:
                yield layers.enter_context(_delimited_target(raw, path, names))
    except FileNotFoundError:
        raise BatchError(f"{path.parent}: no such folder; make it first") from None
    except OSError as error:
        raise BatchError(f"{path}: cannot be written: {error.strerror or error}") from None


class _DelimitedTarget:
    def __init__(self, text: IO[str], delimiter: str) -> None:
        # Lines end as RFC 4180 has it: with "\n" alone a cell with a "\r" would not be quoted
        self.writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")

    def write(self, columns: Sequence[Any]) -> None:
        cells = (c if isinstance(c, list) else c.to_pylist() for c in columns)
        self.writer.writerows(zip(*cells, strict=True))  # floats by `repr`: the same bits again


@contextmanager
def _delimited_target(raw: IO[bytes], path: Path, names: Sequence[str]) -> Iterator[Target]:
    with ExitStack() as layers:
        if path.name.lower().endswith(".gz"):
            # without name and time in it, the same rows give the same bytes
            raw = cast(
                IO[bytes], layers.enter_context(gzip.GzipFile("", "wb", fileobj=raw, mtime=0))
            )
        # bytes that were not UTF-8 are written as they were
        text = io.TextIOWrapper(raw, "utf-8", "surrogateescape", newline="")
        target = _DelimitedTarget(text, _delimiter(path))
        target.writer.writerow(names)
        yield target
        text.detach()


class _ParquetTarget:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, columns: Sequence[Any]) -> None:
        import pyarrow

        arrays = [
            pyarrow.array(map(_storable, column), field.type)
            if isinstance(column, list)
            else column
            for column, field in zip(columns, self._writer.schema, strict=True)
        ]
        self._writer.write_batch(pyarrow.record_batch(arrays, schema=self._writer.schema))


@contextmanager
def _parquet_target(
    raw: IO[bytes], source: Source, added: Sequence[tuple[str, str]]
) -> Iterator[Target]:
    import pyarrow
    from pyarrow import parquet

    schema = source.schema or pyarrow.schema([(name, pyarrow.string()) for name in source.names])
    for name, kind in added:
        schema = schema.append(pyarrow.field(name, pyarrow.type_for_alias(kind)))
    with parquet.ParquetWriter(raw, schema) as writer:
        yield _ParquetTarget(writer)


def _storable(cell: Any) -> Any:
    """The cell as UTF-8 can hold it."""
    if isinstance(cell, str) and not cell.isascii():
        return _SURROGATES.sub("\ufffd", cell)
    return cell


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Whatever reading the file raises, as a `BatchError` that names it."""
    try:
        yield
    except RowsError as error:
        raise BatchError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise BatchError(f"{path}: no such file; give one with --in") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BatchError(f"{path}: the gzip stream is damaged: {error}") from None
    except OSError as error:
        raise BatchError(f"{path}: cannot be read: {error.strerror or error}") from None


def _delimiter(path: Path) -> str:
    return "\t" if table_format(path).startswith(".tsv") else ","


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
