r"""Cut the text of a CSV or TSV file into records, block by block.

The rules, which hold for every reader of the project:

- A line ends at \n, \r\n or \r and has the number that an editor shows. Blank lines are skipped,
  and the first record is the header.
- A cell that begins with a quote ends at the next quote that is not doubled, and may hold
  delimiters and line ends. Any other quote is a character like the rest.
- A record has at most `MOST_LINES` lines and `LONGEST` characters. If its quote is not closed by
  then, or text follows the closing quote, the record is its first line alone, cut at each
  delimiter, and cannot be read. Each of the lines that the quote covered is then read alone. So a
  stray quote spoils one row, and no line is looked at more than a few times.
- A row that cannot be read is handed on with the reason, so that the reader can keep it or say so.

There are two ways to the same result. Most blocks have no fault, and the positions of quotes,
delimiters and line ends give their cells three times as fast. All others are read line by line.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, zip_longest
from typing import IO

import numpy as np

from sentiment.errors import ReviewDataError
from sentiment.metrics import Labels

BLOCK = 2**20  # bytes read at once: larger is not faster
LONGEST = 2**17  # characters of a record, which is also the limit of Python's csv for a cell
MOST_LINES = 1_000  # of a record
MOST_CELLS = 2**21  # handed on at once: some tens of megabytes

NOT_UTF8 = "is not UTF-8"  # follows the byte
TORN = "a quote is not closed or not doubled"
TOO_LONG = f"longer than {LONGEST:,} characters, cut there"

_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of a stray byte
_NEWLINE, _RETURN, _QUOTE = b'\n\r"'


@dataclass(frozen=True)
class Block:
    """Some records: their cells by column, the lines they begin at, why row i cannot be read."""

    columns: list[list[str]]
    places: list[int]
    problems: dict[int, str]


class Records:
    """The records of an open file; `names` is the header.

    `name` tells the delimiter. Raises `ReviewDataError`, whose message begins with `prefix`: no
    header that can be read, or more than `most_bytes`.
    """

    def __init__(
        self, data: IO[bytes], name: str, *, prefix: str = "", most_bytes: int | None = None
    ) -> None:
        self._data, self._prefix, self._most_bytes = data, prefix, most_bytes
        self._taken, self._line, self._is_end = 0, 1, False
        self._rest = b""  # the begin of a record that goes on in the next block
        self._width = 0
        block = self._next_block().removeprefix(codecs.BOM_UTF8)
        self._delimiter = _delimiter(name.lower().removesuffix(".gz"), block)
        self._first = self._read_carefully(block)
        while not self._first.rows and not self._is_end:
            self._first = self._read_carefully(self._next_block())
        if not self._first.rows:
            raise ReviewDataError(f"{prefix}is empty, expected a header and one row per review")
        if 0 in self._first.problems:
            raise ReviewDataError(
                f"{prefix}line {self._first.places[0]:,}: the header cannot be read "
                f"({self._first.problems[0]}); expected the names of the columns, as UTF-8 text"
            )
        self.names = self._first.rows[0]

    def blocks(self, only: Sequence[int] | None = None) -> Iterator[Block]:
        """Read all records, once; with `only` these columns in this order."""
        first, self._first = self._first, _Rows([], [], {})
        problems = {at - 1: problem for at, problem in first.problems.items()}
        yield from self._blocks_of(_Rows(first.rows[1:], first.places[1:], problems), only)
        del first
        while not self._is_end:
            data = self._next_block()
            block = None if self._is_end else self._read_quickly(data, only)
            if block is None:
                yield from self._blocks_of(self._read_carefully(data), only)
            else:
                yield block

    def _next_block(self) -> bytes:
        block = self._data.read(BLOCK)
        self._is_end = len(block) < BLOCK
        self._taken += len(block)
        if self._most_bytes is not None and self._taken > self._most_bytes:
            raise ReviewDataError(f"{self._prefix}holds more than {self._most_bytes:,} bytes")
        return self._rest + block

    def _blocks_of(self, part: _Rows, only: Sequence[int] | None) -> Iterator[Block]:
        """Turn rows into columns; where all are wanted, short rows are filled up."""
        most = MOST_CELLS // len(self.names) + 1 if only is None else len(part.rows) or 1
        for begin in range(0, len(part.rows), most):
            here = range(begin, min(begin + most, len(part.rows)))
            rows = part.rows[begin : here.stop]
            if only is None:
                filled = zip_longest(self.names, *rows, fillvalue="")
                columns = [list(column[1:]) for column in filled]
            else:
                columns = [[row[at] if at < len(row) else "" for row in rows] for at in only]
            problems = {at - begin: why for at, why in part.problems.items() if at in here}
            yield Block(columns, part.places[begin : here.stop], problems)

    def _read_carefully(self, data: bytes) -> _Rows:
        """Read the records of a block line by line."""
        lines = data.splitlines(keepends=True)  # of bytes: at \n, \r\n and \r and nothing else
        last = lines.pop() if lines and not self._is_end else b""  # it may go on in the next block
        whole = data[: len(data) - len(last)]
        if len(last) > 4 * LONGEST:
            last = last[: 4 * LONGEST] + last[-1:]  # still too long, and its line end is kept
        texts = [line.decode("utf-8", "surrogateescape") for line in lines]
        part, used = _cut(texts, self._delimiter, is_end=self._is_end)
        if part.rows:
            self._width = self._width or len(part.rows[0])
            _check_width(part, self._width, self._delimiter)
        if not _is_utf8(whole):
            for at, (begin, end) in enumerate(pairwise([*part.places, used])):
                found = map(_ESCAPED_BYTE.search, texts[begin:end])
                stray = next(filter(None, found), None)
                if stray and part.problems.get(at) != TOO_LONG:
                    part.problems[at] = f"byte 0x{ord(stray[0]) & 0xFF:02x} {NOT_UTF8}"
        places = [self._line + at for at in part.places]
        self._line += used
        self._rest = b"".join(lines[used:]) + last
        return _Rows(part.rows, places, part.problems)

    def _read_quickly(self, data: bytes, only: Sequence[int] | None) -> Block | None:
        """Read the records of a block that has no fault, or return None."""
        width, delimiter = self._width, ord(self._delimiter)
        marks = np.frombuffer(data, np.uint8)
        quotes, line_ends = np.flatnonzero(marks == _QUOTE), np.flatnonzero(marks == _NEWLINE)
        outside = line_ends[np.searchsorted(quotes, line_ends) % 2 == 0]
        if not len(outside) or data.count(b"\r") != data.count(b"\r\n"):
            return None
        used = int(outside[-1]) + 1
        quotes, marks = quotes[: np.searchsorted(quotes, used)], marks[:used]
        ends = np.flatnonzero((marks == delimiter) | (marks == _NEWLINE))  # of cells
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
        # Every quote opens a cell, closes one, or is one of a doubled pair
        before = np.where(quotes[::2] == 0, _NEWLINE, marks[quotes[::2] - 1])
        after = marks[quotes[1::2] + 1]
        allowed = [delimiter, _NEWLINE, _QUOTE]
        if (
            len(ends) % width
            or not np.isin(before, allowed).all()
            or not np.isin(after, [*allowed, _RETURN]).all()
        ):
            return None
        ends = ends.reshape(-1, width)
        starts = np.concatenate(([0], ends.ravel()[:-1] + 1)).reshape(-1, width)
        places = np.searchsorted(line_ends, starts[:, 0])
        lines = int(np.searchsorted(line_ends, used))
        is_last = marks[ends] == _NEWLINE
        if (
            not (is_last[:, -1].all() and is_last.sum() == len(ends))
            or (ends[:, -1] - starts[:, 0]).max() >= LONGEST
            or np.diff(places, append=lines).max() > MOST_LINES
            or not _is_utf8(data[:used])
        ):
            return None
        ends[:, -1] -= marks[ends[:, -1] - 1] == _RETURN
        if width == 1 and (starts == ends).any():  # a blank line
            return None
        at_columns = range(width) if only is None else only
        columns = [_cells(data, starts[:, at], ends[:, at], marks) for at in at_columns]
        places = (places + self._line).tolist()
        self._line += lines
        self._rest = data[used:]
        return Block(columns, places, {})


@dataclass(frozen=True)
class _Rows:
    rows: list[list[str]]
    places: list[int]
    problems: dict[int, str]


def _cells(data: bytes, starts: Labels, ends: Labels, marks: np.ndarray) -> list[str]:
    """Return the cells between these positions, without their quotes."""
    quoted = marks[starts] == _QUOTE
    spans = zip((starts + quoted).tolist(), (ends - quoted).tolist(), strict=True)
    if data.isascii():
        text = data.decode("ascii")
        cells = [text[start:end] for start, end in spans]
    else:
        cells = [data[start:end].decode() for start, end in spans]
    for at in np.flatnonzero(quoted).tolist():
        cells[at] = cells[at].replace('""', '"')
    return cells


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _delimiter(name: str, begin: bytes) -> str:
    """Return what parts the cells, by the name and, for `.txt`, by the header."""
    header = next(filter(bytes.strip, begin.splitlines()), b"")
    tabs = name.endswith((".tsv", ".tab")) or (name.endswith(".txt") and b"\t" in header)
    return "\t" if tabs else ","


def _cut(lines: Sequence[str], delimiter: str, *, is_end: bool) -> tuple[_Rows, int]:
    """Cut lines into records, and return with them how many lines were used.

    The others are the begin of a record that goes on, unless it `is_end` of the file.
    """
    rows: list[list[str]] = []
    places: list[int] = []
    problems: dict[int, str] = {}
    dialect = csv.reader((), delimiter=delimiter, strict=True).dialect
    at = 0
    open_until = 0  # a quote that is open at the end of a line before this one is never closed
    while at < len(lines):
        line, used = lines[at], 1
        if len(line) > LONGEST:
            row = line[:LONGEST].split(delimiter)
            problems[len(rows)] = TOO_LONG
        elif '"' not in line:
            row = line.rstrip("\r\n").split(delimiter)
            if row == [""]:
                at += 1
                continue
        else:
            more = _following(lines, at) if at >= open_until else ()
            reader = csv.reader(chain((line,), more), dialect)
            try:
                row = next(reader)
                used = reader.line_num
            except csv.Error:
                if at + reader.line_num == len(lines) and not is_end:
                    break
                open_until = max(open_until, at + reader.line_num - 1)
                row = line.rstrip("\r\n").split(delimiter)
                problems[len(rows)] = TORN
        rows.append(row)
        places.append(at)
        at += used
    return _Rows(rows, places, problems), at


def _following(lines: Sequence[str], begin: int) -> Iterator[str]:
    """Yield the lines after this one, as many as may belong to a record that begins with it."""
    size = len(lines[begin])
    for at in range(begin + 1, min(begin + MOST_LINES, len(lines))):
        size += len(lines[at])
        if size > LONGEST:
            return
        yield lines[at]


def _check_width(part: _Rows, width: int, delimiter: str) -> None:
    """Mark rows of another width. What is too much is joined to the last cell."""
    if set(map(len, part.rows)) <= {width}:
        return
    for at, row in enumerate(part.rows):
        if len(row) != width:
            found = "1 field" if len(row) == 1 else f"{len(row):,} fields"
            part.problems.setdefault(at, f"{found}, expected {width:,}")
            row[width - 1 :] = [delimiter.join(row[width - 1 :])] * (len(row) >= width)
