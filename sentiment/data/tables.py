"""Read tables: CSV, TSV, JSON, Excel and Parquet, packed or not, piece by piece.

    with open_table(Path("reviews.csv"), option="--data") as table:
        for chunk in table.chunks([table.find(TEXTS, None)]):
            chunk.columns[0], chunk.problems

Training, batch scoring, the page and the drift check read with this module and no other, so they
see the same columns, rows, line numbers and messages. `sources` tells what a file is, and `records`
has the rules of CSV and TSV. A cell of JSON or Excel is read as the text that a CSV would have.
"""

from __future__ import annotations

import codecs
import difflib
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

from sentiment.data.records import BLOCK, MOST_CELLS, Records
from sentiment.data.sources import (
    DELIMITERS,
    MAX_BYTES,
    UTF8,
    ReadableBytes,
    Reading,
    Source,
    named_errors,
    open_source,
    plain_name,
)
from sentiment.errors import ReviewDataError, ReviewReadError

ROWS = 20_000  # of Parquet, JSON and Excel read at once

NO_TEXT = "no text"

TEXT, TEXT_OR_NUMBER, ANY = "text", "text or numbers", "anything"  # what a column may hold
NAMES_SHOWN, NAME_SHOWN = 5, 24  # in a message: how many names, and characters of each
MOST_WORDS = 4  # of the name of a column
LONGEST_MESSAGE = 230  # characters, whatever is in the file; the path comes on top
PLACES_SHOWN = 3  # rows named in a message
MOST_NAMES = 1_000  # of the objects of a JSON file, or a column for each row would fill memory
LONGEST_LINE = 2**24  # bytes of a line of JSON
LAST_ROW = 1_048_576  # of a sheet of Excel
BLANK_ROWS = 1_000  # above the header of a sheet

AS_WRITTEN = Reading()

_APART = re.compile(r"[\s_.-]+")  # between the words of a column's name


@dataclass(frozen=True)
class Column:
    """A column to look for; case and outer white space of a name do not matter.

    `usual` has groups of names in lower case, best first. Those of a group are equally good: where
    a table has two of them, the user is asked. Blank, `_`, `-`, `.` or nothing may part the words.
    """

    what: str  # "ratings"
    usual: tuple[tuple[str, ...], ...]
    holds: str  # `TEXT`, `TEXT_OR_NUMBER` or `ANY`
    option: str  # by which the user names it


@dataclass(frozen=True)
class Chunk:
    """Some rows of a table, in their order."""

    columns: list[Any]  # cells as they are: lists of str, or Arrow arrays (Parquet)
    problems: dict[int, str]  # why row i cannot be read
    places: Sequence[int]  # of row i: its line in a text, else its row number, from 1
    unit: str  # what `places` counts: "line" or "row"
    share: float  # of the file has been read by now, 0–1
    suspicious: Sequence[int] = ()  # rows with a cell of several lines with delimiters

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
            self.first.append(f"{chunk.place(at)}: {problems[at]}".removesuffix(": "))

    def add_all(self, other: Unreadable, name: str) -> None:
        """Take in what another counted, in the part of this name."""
        self.count += other.count
        room = self.shown - len(self.first)
        self.first += [f"{name} {place}" for place in other.first[:room]]

    def __str__(self) -> str:
        more = self.count - len(self.first)
        return "; ".join(self.first) + (f"; and {more:,} more" if more else "")


class Table:
    """An opened table: the names of its columns, its Arrow schema if it has one, its rows."""

    names: list[str]
    schema: Any = None

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix  # of every message: the path
        self.found: list[str] = []  # what was not as usual, such as "parted by semicolons"
        self.suspicious = Unreadable(PLACES_SHOWN)  # of the chunks so far

    def chunks(self, only: Sequence[int] | None = None) -> Iterator[Chunk]:
        """Read all rows, once; with `only` these columns in this order.

        Raises `ReviewDataError` where the file is damaged, `ReviewReadError` where it cannot be
        read just now.
        """
        for chunk in self._chunks(only):
            self.suspicious.add(chunk, dict.fromkeys(chunk.suspicious, ""))
            yield chunk

    def _chunks(self, only: Sequence[int] | None) -> Iterator[Chunk]:
        raise NotImplementedError

    def find(self, column: Column, wanted: str | None, hint: str = "") -> int:
        """Return the position of the column named `wanted`, or else of the best of its usual names.

        `hint` tells the user how to name it, by default with the column's option. Raises
        `ReviewDataError`: no such column, two that would do, or it does not hold what it should.
        """
        way = f"{column.option} " if not hint else ""
        hint = hint or f"name it with {column.option}"
        at = self.look(column, wanted, hint)
        if at is None:
            found = shown_names(self.names)
            if wanted is None:
                usual = " or ".join(repr(group[0]) for group in column.usual[:2])
                raise self.error(
                    f"no column of {column.what} such as {usual}, found {found}; {hint}"
                )
            plain = {name.strip().lower(): name for name in self.names[:1_000]}
            near = difflib.get_close_matches(wanted.strip().lower()[:NAME_SHOWN], plain, 1, 0.4)
            guess = f"did you mean {way}{shown_names([plain[near[0]]])}?" if near else hint
            raise self.error(f"no column {shown_names([wanted])}, found {found}; {guess}")
        self._check_type(at, column, hint)
        return at

    def look(self, column: Column, wanted: str | None, hint: str = "") -> int | None:
        """Return what `find` returns, or None where there is no such column."""
        if wanted is not None and self.names.count(wanted) == 1:
            return self.names.index(wanted)
        names = [name.strip().lower() for name in self.names]
        groups = column.usual
        if wanted is not None:
            groups = ((wanted.strip().lower(),),)
        else:
            names = [_APART.sub("", name) for name in names]
        for group in groups:
            alike = group if wanted is not None else [name.replace(" ", "") for name in group]
            found = [at for at, name in enumerate(names) if name in alike]
            if len(found) > 1:
                quoted = shown_names([self.names[at] for at in found])
                if len({names[at] for at in found}) == 1:
                    raise self.error(f"two columns have one name: {quoted}; rename one")
                hint = hint or f"name it with {column.option}"
                raise self.error(f"two columns may hold the {column.what}: {quoted}; {hint}")
            if found:
                return found[0]
        return None

    def described(self, *columns: tuple[str, int]) -> str:
        """Return which columns were taken, and how the file was read where that is not as usual."""
        taken = [f"{what} from {shown_names([self.names[at]])}" for what, at in columns]
        return ", ".join([*taken, *self.found])

    def warning(self) -> str:
        """Return in a sentence how many rows may hold more than themselves; empty if none do."""
        return suspicion(self.suspicious)

    def error(self, message: str) -> ReviewDataError:
        """Return the error with the file's name before the message."""
        cut = message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}…"
        return ReviewDataError(self.prefix + cut)

    def _check_type(self, at: int, column: Column, hint: str) -> None:
        """Raise `ReviewDataError` when column `at` holds something else."""


def suspicion(suspicious: Unreadable) -> str:
    """Return in a sentence how many rows may hold more than themselves; empty if none do."""
    if not suspicious.count:
        return ""
    return (
        f"{suspicious.count:,} with several lines and delimiters in a cell, as a stray quote makes "
        f"them ({suspicious})"
    )


def shown_names(names: Sequence[str]) -> str:
    """Return the first names as a message quotes them.

    A name of many words may be a review, of a file without a header, and is not shown.
    """
    few = (name if len(name.split()) <= MOST_WORDS else "…" for name in names[:NAMES_SHOWN])
    first = (repr(name[: NAME_SHOWN + 1]) for name in few)
    shown = ", ".join(
        name if len(name) <= NAME_SHOWN + 2 else f"{name[:NAME_SHOWN]}…'" for name in first
    )
    more = len(names) - NAMES_SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown


# --- reading -------------------------------------------------------------------------------


@contextmanager
def open_table(path: Path, option: str, reading: Reading = AS_WRITTEN) -> Iterator[Table]:
    """Open a table of any format; `option` is where the user named it.

    Raises `ReviewDataError` (no such file, empty, another format) and `ReviewReadError`.
    """
    with ExitStack() as files:
        with named_errors(f"{path}: ", option):
            raw = files.enter_context(path.open("rb"))
        yield read_table(raw, path.name, prefix=f"{path}: ", reading=reading)


def read_table(
    raw: IO[bytes],
    name: str,
    *,
    prefix: str = "",
    reading: Reading = AS_WRITTEN,
    most_bytes: int | None = None,
) -> Table:
    """Read a table from an open binary file that can seek.

    `most_bytes` guards a server: a file may hold so many bytes once it is unpacked, and Parquet,
    which may unpack to anything, is refused.
    """
    with named_errors(prefix):
        source = open_source(raw, name, prefix, reading, most_bytes)
        if source.kind == "parquet":
            if most_bytes is not None:
                expected = "CSV, TSV, JSON or Excel"
                raise ReviewDataError(f"{prefix}is a Parquet file, expected {expected}")
            return _Parquet(raw, prefix, reading.max_bytes or MAX_BYTES)
        if source.kind == "excel":
            return _Excel(raw, prefix)
        if source.kind == "text":
            return _Delimited(source, name, reading.delimiter, _Progress(raw))
        return _Json(source, _Progress(raw))


class _Progress:
    """How much of a file has been read; packed or not, it is what was taken from the disk."""

    def __init__(self, raw: IO[bytes]) -> None:
        at = raw.tell()
        self._raw, self._size = raw, max(raw.seek(0, os.SEEK_END), 1)
        raw.seek(at)

    def share(self) -> float:
        return min(self._raw.tell() / self._size, 1.0)


class _Delimited(Table):
    def __init__(
        self, source: Source, name: str, delimiter: str | None, progress: _Progress
    ) -> None:
        super().__init__(source.prefix)
        self._progress = progress
        self._records = Records(source, name, delimiter)
        self.names = self._records.names
        parted = self._records.delimiter
        usual = "\t" if plain_name(name).endswith((".tsv", ".tab")) else ","
        if parted != usual and len(self.names) > 1:
            self.found.append(f"parted by {DELIMITERS.get(parted, repr(parted))}s")
        if source.encoding != UTF8:
            self.found.append(f"in {source.encoding}")

    def _chunks(self, only: Sequence[int] | None) -> Iterator[Chunk]:
        blocks = self._records.blocks(only)
        while True:
            with named_errors(self.prefix):
                block = next(blocks, None)
                share = self._progress.share()
            if block is None:
                return
            yield Chunk(
                block.columns, block.problems, block.places, "line", share, block.suspicious
            )


def _as_text(cell: Any) -> str:
    """Return a cell of JSON or Excel as a CSV would have it."""
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    if isinstance(cell, (dict, list)):
        import orjson

        return orjson.dumps(cell).decode()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))
    return str(cell)


class _Json(Table):
    """A file of JSON: an array of objects, or an object a line, whose keys are the columns.

    Lines are read twice, first for their keys, so that memory does not grow with the file.
    """

    def __init__(self, source: Source, progress: _Progress) -> None:
        super().__init__(source.prefix)
        self._source, self._progress = source, progress
        self._array = self._read_array() if source.kind == "array" else None
        names: dict[str, None] = {}
        nested: dict[str, str] = {}
        fault = ""
        for _, item, why in self._items():
            fault = fault or why
            if not names.keys() >= item.keys():
                names.update(dict.fromkeys(item))
                if len(names) > MOST_NAMES:
                    raise self.error(f"its objects have more than {MOST_NAMES:,} different keys")
            for name, cell in item.items():
                if isinstance(cell, (dict, list)):
                    nested.setdefault(name, "a list" if isinstance(cell, list) else "an object")
        if not names:
            raise self.error(
                f"holds no JSON object with a key{f' ({fault})' if fault else ''}; expected an "
                "array of objects, or an object a line"
            )
        self.names, self._nested = list(names), nested
        if source.encoding != UTF8:
            self.found.append(f"in {source.encoding}")

    def _read_array(self) -> list[Any]:
        whole = self._source.data.read().removeprefix(codecs.BOM_UTF8)
        found, why = self._parsed(whole, 1)
        if why:
            raise self.error(f"the array of JSON is damaged: {why}")
        return found if isinstance(found, list) else [found]

    def _parsed(self, data: bytes, line: int) -> tuple[Any, str]:
        """Return the value, and what is wrong; that message quotes nothing of the file."""
        import orjson

        try:
            return orjson.loads(data), ""
        except orjson.JSONDecodeError as error:
            with suppress(UnicodeDecodeError):
                data.decode()
                fault = str(error)[:80]
                return None, fault if self._source.kind == "array" else fault.split(": line")[0]
        raise self._source.stray(data, line)

    def _items(self) -> Iterator[tuple[int, dict[str, Any], str]]:
        """Yield place, object, and why there is none, which then has no key."""
        if self._array is not None:
            found: Iterator[tuple[int, Any, str]] = (
                (at, item, "") for at, item in enumerate(self._array, 1)
            )
        else:
            found = self._of_lines()
        for at, item, why in found:
            is_object = isinstance(item, dict)
            yield at, item if is_object else {}, "" if is_object else why or "is no object"

    def _of_lines(self) -> Iterator[tuple[int, Any, str]]:
        self._source.data.seek(0)
        for at, line in enumerate(_lines(self._source.data), 1):
            if len(line) > LONGEST_LINE:
                raise self.error(f"line {at:,} is longer than {LONGEST_LINE:,} bytes")
            stripped = (line.removeprefix(codecs.BOM_UTF8) if at == 1 else line).strip()
            if stripped:
                yield at, *self._parsed(stripped, at)

    def _chunks(self, only: Sequence[int] | None) -> Iterator[Chunk]:
        names = self.names if only is None else [self.names[at] for at in only]
        unit = "line" if self._array is None else "row"
        items = self._items()
        while True:
            with named_errors(self.prefix):
                part = list(islice(items, min(ROWS, MOST_CELLS // len(names) + 1)))
                share = self._progress.share()
            if not part:
                return
            problems = {at: why for at, (_, _, why) in enumerate(part) if why}
            columns = [[_as_text(item.get(name)) for _, item, _ in part] for name in names]
            if self._array is not None:
                share = part[-1][0] / len(self._array)
            yield Chunk(columns, problems, [place for place, _, _ in part], unit, share)

    def _check_type(self, at: int, column: Column, hint: str) -> None:
        kind = self._nested.get(self.names[at])
        if kind is not None and column.holds != ANY:
            name = shown_names([self.names[at]])
            raise self.error(f"column {name} holds {kind}, expected {column.holds}; {hint}")


def _lines(data: ReadableBytes) -> Iterator[bytes]:
    """Yield lines, the last of them perhaps cut where it is longer than `LONGEST_LINE`."""
    rest = b""
    while len(rest) <= LONGEST_LINE and (block := data.read(BLOCK)):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    yield rest


class _Excel(Table):
    """The first sheet of a workbook that is shown and has a row; a row's number is the sheet's."""

    def __init__(self, raw: IO[bytes], prefix: str) -> None:
        super().__init__(prefix)
        self._progress = _Progress(raw)
        with self._damage(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats and validations that do not matter here
            import openpyxl

            book = openpyxl.load_workbook(raw, read_only=True, data_only=True, keep_links=False)
            sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
            number, header = 0, tuple[Any, ...]()
            for sheet in sheets:
                self._rows = self._rows_of(sheet, MOST_NAMES + 1, last=BLANK_ROWS)
                number, header = next(self._rows, (0, header))
                if number:
                    break
        if not header:
            raise self.error("is empty, expected a sheet with a header and one row per review")
        cells = [_as_text(cell) for cell in header]
        width = max((at for at, cell in enumerate(cells, 1) if cell.strip()), default=1)
        if width > MOST_NAMES:
            raise self.error(f"has more than {MOST_NAMES:,} columns")
        self.names = cells[:width]
        # One column more than the header has, to see what else there is
        self._rows = self._rows_of(sheet, width + 1, first=number + 1)
        if len(sheets) > 1:
            self.found.append(f"sheet {shown_names([sheet.title])} of {len(sheets)}")

    @staticmethod
    def _rows_of(
        sheet: Any, width: int, *, first: int = 1, last: int = LAST_ROW
    ) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield number and cells of the rows that are not blank."""
        sheet.reset_dimensions()  # which need not be true
        rows = sheet.iter_rows(first, last, 1, width, values_only=True)
        return (
            (number, row) for number, row in enumerate(rows, first) if row.count(None) < len(row)
        )

    def _chunks(self, only: Sequence[int] | None) -> Iterator[Chunk]:
        width = len(self.names)
        at_columns = range(width) if only is None else only
        while True:
            with self._damage(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                part = list(islice(self._rows, min(ROWS, MOST_CELLS // width + 1)))
                share = self._progress.share()
            if not part:
                return
            problems = {
                at: f"a cell beyond the {width:,} of the header"
                for at, (_, row) in enumerate(part)
                if row[width] is not None
            }
            columns = [[_as_text(row[at]) for _, row in part] for at in at_columns]
            yield Chunk(columns, problems, [number for number, _ in part], "row", share)

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """Turn what the library raises into our error: of a wrong file it is anything at all."""
        try:
            yield
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise ReviewReadError(f"{self.prefix}cannot be read: {error.strerror}") from None
            kind = type(error).__name__
            raise self.error(f"is not a readable Excel workbook ({kind}); save it again") from None


class _Parquet(Table):
    def __init__(self, raw: IO[bytes], prefix: str, most_bytes: int) -> None:
        from pyarrow import ArrowException, parquet

        super().__init__(prefix)
        self._most_bytes = most_bytes
        try:
            self._file = parquet.ParquetFile(raw)
        except (ArrowException, OSError) as error:
            raise self._damage("is not a readable Parquet file", error) from None
        self.schema = self._file.schema_arrow
        self.names = list(self.schema.names)

    def _chunks(self, only: Sequence[int] | None) -> Iterator[Chunk]:
        from pyarrow import ArrowException

        total = self._file.metadata.num_rows
        done = taken = 0
        # Columns are chosen by name, and a dot in it means a part of a column
        clear = len(set(self.names)) == len(self.names) and not any("." in n for n in self.names)
        names = [self.names[at] for at in only] if only is not None and clear else None
        batches = self._file.iter_batches(ROWS, columns=names)
        while True:
            try:
                batch = next(batches, None)
                if batch is None:
                    return
                batch.validate(full=True)  # or text that is not UTF-8 would be found much later
            except (ArrowException, OSError) as error:
                raise self._damage(f"is damaged after row {done:,}", error) from None
            taken += batch.nbytes
            if taken > self._most_bytes:
                most = f"{self._most_bytes:,} bytes unpacked; allow more with --max-bytes"
                raise self.error(f"holds more than {most}")
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
                f"column {shown_names([self.names[at]])} holds {str(kind)[:NAME_SHOWN]}, expected "
                f"{column.holds}; {hint}"
            )

    def _damage(self, what: str, error: Exception) -> ReviewDataError:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of the file
            return ReviewReadError(f"{self.prefix}cannot be read: {error.strerror}")
        return self.error(f"{what}: {type(error).__name__}")


def cells(column: Any) -> list[Any]:
    """Return a column of a chunk as strings, or as Python values (Parquet)."""
    return column if isinstance(column, list) else column.to_pylist()
