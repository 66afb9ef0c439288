r"""Cut the text of a CSV or TSV file into records, block by block.

The rules, which hold for every reader of the project:

- A line ends at \n, \r\n or \r and has the number that an editor shows. Blank lines are skipped,
  and the first record is the header. A NUL is a character like the rest, but not in the header;
  in a review it is read as a blank (`reviews.remove_marker`).
- Comma, semicolon, tab or pipe part the cells: the one that cuts the header into several cells and
  most of the first rows into as many; of equal ones that which the name tells.
- A cell that begins with a quote ends at the next quote that is not doubled, and may hold
  delimiters and line ends. Any other quote is a character like the rest.
- A record has at most `MOST_LINES` lines and `LONGEST` characters. If its quote is not closed by
  then, or text follows the closing quote, the record is its first line alone, cut at each
  delimiter, and cannot be read. Each of the lines that the quote covered is then read alone. So a
  stray quote spoils one row, and no line is looked at more than a few times.
- Two stray quotes may enclose whole rows, which then look like one cell of several lines. That
  record is taken for torn, as above, where most of its lines would be rows by themselves: they have
  as many cells as the header, and in the columns that hold numbers or few values (ratings, ids,
  labels) such values. In a file without such columns all its lines must be rows, three at least.
  Line breaks and commas in a review do not make it look like that. What is kept and holds line ends
  and delimiters in one cell is `suspicious`, so that a reader can count it and say where it is.
- A row that cannot be read is handed on with the reason, so that the reader can keep it or say so.
  A byte that is not of the encoding ends the reading, since most rows may be wrong.

There are two ways to the same result. Most blocks have no fault, and the positions of quotes,
delimiters and line ends give their cells three times as fast. All others are read line by line.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest

import numpy as np
import numpy.typing as npt
import pyarrow

from sentiment.data.sources import DELIMITERS, Source, plain_name
from sentiment.errors import ReviewDataError
from sentiment.metrics import Labels

BLOCK = 2**20  # bytes read at once: larger is not faster
LONGEST = 2**17  # characters of a record, which is also the limit of Python's csv for a cell
MOST_LINES = 1_000  # of a record
MOST_CELLS = 2**21  # handed on at once: some tens of megabytes

TORN = "a quote is not closed or not doubled"
TOO_LONG = f"longer than {LONGEST:,} characters, cut there"

FIRST_ROWS = 100  # tell the delimiter
SAMPLE = 1_000  # lines that tell what the columns hold
_CODE_LENGTH = 30  # characters of a number, a date or an id, at most
_LEAST_ROWS, _ROWS_OF_FEW, _FEW = 5, 40, 10  # rows that tell of numbers, of few values; how few
_ALIKE = 0.8  # of the sample: some of its lines are of reviews that have several

_LINE_END = re.compile(r"\r\n|\r|\n")
_NEWLINE, _RETURN, _QUOTE = b'\n\r"'


@dataclass(frozen=True)
class Block:
    """Some records: their cells by column, the lines they begin at, why row i cannot be read."""

    columns: list[list[str]]
    places: list[int]
    problems: dict[int, str]
    suspicious: list[int]  # rows with a cell of several lines with delimiters


@dataclass(frozen=True)
class _Rows:
    rows: list[list[str]]
    places: list[int]
    problems: dict[int, str]
    suspicious: list[int]


@dataclass(frozen=True)
class _Shape:
    """What a row looks like: its width, and in some columns numbers (None) or these values."""

    delimiter: str
    width: int
    codes: dict[int, frozenset[str] | None] = field(default_factory=dict)

    def swallows(self, row: list[str], lines: Sequence[str]) -> bool:
        """Return whether a record of these lines is rows that two stray quotes enclose."""
        tall = [at for at, cell in enumerate(row) if _LINE_END.search(cell)]
        if self.width == 1 or not tall:
            return False
        first, last = tall[0], tall[-1]
        begin = row[:first] + _LINE_END.split(row[first], maxsplit=1)[0].split(self.delimiter)
        end = _LINE_END.split(row[last])[-1].split(self.delimiter) + row[last + 1 :]
        inner = (line.rstrip("\r\n").split(self.delimiter) for line in lines[1:-1])
        alike = sum(map(self._fits, chain((begin, end), inner)))
        return bool(self.are_rows(np.array(alike), np.array(len(lines))))

    def are_rows(self, alike: Labels, lines: Labels) -> npt.NDArray[np.bool_]:
        """Return whether records of so many lines are rows, if so many of them look like one."""
        enough = alike >= 2 if self.codes else lines >= 3
        return np.asarray(enough & (2 * alike > lines if self.codes else alike == lines))

    def _fits(self, row: Sequence[str]) -> bool:
        return len(row) == self.width and all(
            (row[at] != "" and _is_code(row[at])) if values is None else row[at] in values
            for at, values in self.codes.items()
        )


class Records:
    """The records of a file; `names` is the header, `delimiter` what parts the cells.

    `name` tells the delimiter where the content does not. Raises `ReviewDataError`: no header that
    can be read, or bytes that are not of the encoding.
    """

    def __init__(self, source: Source, name: str, delimiter: str | None = None) -> None:
        self._source = source
        self._line, self._is_end = 1, False
        self._rest = b""  # the begin of a record that goes on in the next block
        block = self._next_block().removeprefix(codecs.BOM_UTF8)
        self.delimiter = delimiter or ""
        while True:
            block = self._without_blank_lines(block)
            lines, texts, last = self._lines_of(block)
            if not self.delimiter and (texts or self._is_end):
                self.delimiter = _found_delimiter(plain_name(name), texts, is_end=self._is_end)
            shape = _Shape(self.delimiter or ",", 1)
            part, used = _cut(texts, shape, is_end=self._is_end, most=1)
            self._rest = b"".join(lines[used:]) + last
            if part.rows or self._is_end or len(last) > 4 * LONGEST:
                break
            self._line += used
            block = self._next_block()
        if not part.rows and self._is_end:
            raise ReviewDataError(
                f"{source.prefix}is empty, expected a header and one row per review"
            )
        self.names = part.rows[0] if part.rows else []
        why = part.problems.get(0, "") if part.rows else TOO_LONG
        if any("\0" in name for name in self.names):
            why = "it holds NUL, as UTF-16 does"
        self._line += part.places[0] if part.places else used
        if why:
            raise ReviewDataError(
                f"{source.prefix}line {self._line:,}: the header cannot be read ({why}); "
                "expected the names of the columns"
            )
        self._line += used - part.places[0]
        self._shape = _shape_of(texts[used : used + SAMPLE], self.delimiter, len(self.names))

    def _without_blank_lines(self, block: bytes) -> bytes:
        """Skip the blank lines that a block begins with, at once: there may be millions."""
        rest = block.lstrip(b"\r\n") or (b"" if self._is_end else block[-1:])
        self._line += len(block[: len(block) - len(rest)].splitlines())
        return rest

    def blocks(self, only: Sequence[int] | None = None) -> Iterator[Block]:
        """Read all records, once; with `only` these columns in this order."""
        data = self._rest
        while True:
            block = None if self._is_end else self._read_quickly(data, only)
            if block is None:
                yield from self._blocks_of(self._read_carefully(data), only)
            else:
                yield block
            if self._is_end:
                return
            data = self._next_block()

    def _next_block(self) -> bytes:
        block = self._source.data.read(BLOCK)
        self._is_end = len(block) < BLOCK
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
            suspicious = [at - begin for at in part.suspicious if at in here]
            yield Block(columns, part.places[begin : here.stop], problems, suspicious)

    def _lines_of(self, data: bytes) -> tuple[list[bytes], list[str], bytes]:
        """Return whole lines, the same as text, and the rest, which may go on in the next block."""
        lines = data.splitlines(keepends=True)  # of bytes: at \n, \r\n and \r and nothing else
        last = lines.pop() if lines and not self._is_end else b""
        if len(last) > 4 * LONGEST:
            last = last[: 4 * LONGEST] + last[-1:]  # still too long, and its line end is kept
        try:
            # A line that was cut above may have part of a letter, and is too long whatever is in it
            texts = [
                line.decode("utf-8", "strict" if len(line) <= 4 * LONGEST else "ignore")
                for line in lines
            ]
        except UnicodeDecodeError as error:
            at = lines.index(error.object)
            raise self._source.stray(error.object, self._line + at) from None
        return lines, texts, last

    def _read_carefully(self, data: bytes) -> _Rows:
        """Read the records of a block line by line."""
        lines, texts, last = self._lines_of(data)
        part, used = _cut(texts, self._shape, is_end=self._is_end)
        _check_width(part, self._shape)
        places = [self._line + at for at in part.places]
        self._line += used
        self._rest = b"".join(lines[used:]) + last
        return _Rows(part.rows, places, part.problems, part.suspicious)

    def _read_quickly(self, data: bytes, only: Sequence[int] | None) -> Block | None:
        """Read the records of a block that has no fault, or return None."""
        width, delimiter = self._shape.width, ord(self.delimiter)
        marks = np.frombuffer(data, np.uint8)
        quotes, line_ends = np.flatnonzero(marks == _QUOTE), np.flatnonzero(marks == _NEWLINE)
        outside = line_ends[np.searchsorted(quotes, line_ends) % 2 == 0]
        if not len(outside):
            return None
        used = int(outside[-1]) + 1
        quotes, marks = quotes[: np.searchsorted(quotes, used)], marks[:used]
        returns = np.flatnonzero(marks == _RETURN)
        parted = np.flatnonzero((marks == delimiter) | (marks == _NEWLINE))
        ends = parted[np.searchsorted(quotes, parted) % 2 == 0]  # of cells
        # Every quote opens a cell, closes one, or is one of a doubled pair
        before = np.where(quotes[::2] == 0, _NEWLINE, marks[quotes[::2] - 1])
        after = marks[quotes[1::2] + 1]
        allowed = [delimiter, _NEWLINE, _QUOTE]
        if (
            len(ends) % width
            or not (marks[returns + 1] == _NEWLINE).all()
            or not np.isin(before, allowed).all()
            or not np.isin(after, [*allowed, _RETURN]).all()
        ):
            return None
        ends = ends.reshape(-1, width)
        starts = np.concatenate(([0], ends.ravel()[:-1] + 1)).reshape(-1, width)
        places = np.searchsorted(line_ends, starts[:, 0])
        lines = int(np.searchsorted(line_ends, used))
        heights = np.diff(places, append=lines)
        is_last = marks[ends] == _NEWLINE
        if (
            not (is_last[:, -1].all() and is_last.sum() == len(ends))
            or (ends[:, -1] - starts[:, 0]).max() >= LONGEST
            or heights.max() > MOST_LINES
            or not _is_utf8(data[:used])
        ):
            return None
        ends[:, -1] -= marks[ends[:, -1] - 1] == _RETURN
        if width == 1 and (starts == ends).any():  # a blank line
            return None
        suspicious: list[int] = []
        if len(parted) > ends.size:  # some are in quotes
            delimiters = parted[marks[parted] == delimiter]
            found = self._of_several_lines(
                data, (starts, ends), (places, heights), line_ends, delimiters
            )
            if found is None:
                return None
            suspicious = found
        at_columns = range(width) if only is None else only
        columns = [_cells(data, starts[:, at], ends[:, at], marks) for at in at_columns]
        places = (places + self._line).tolist()
        self._line += lines
        self._rest = data[used:]
        return Block(columns, places, {}, suspicious)

    def _of_several_lines(
        self,
        data: bytes,
        cells: tuple[Labels, Labels],
        lines: tuple[Labels, Labels],
        line_ends: Labels,
        delimiters: Labels,
    ) -> list[int] | None:
        """Return the suspicious rows, or None where one swallows others.

        `cells` are the first and last positions by row and column, `lines` the first lines and
        numbers of lines by row.
        """
        tall = np.flatnonzero(lines[1] > 1)
        starts, ends = cells[0][tall], cells[1][tall]
        first, height = lines[0][tall], lines[1][tall]
        begins, stops = (np.searchsorted(delimiters, at) for at in (starts, ends))
        is_tall = np.searchsorted(line_ends, ends) > np.searchsorted(line_ends, starts)
        suspicious: list[int] = tall[(is_tall & (stops > begins)).any(axis=1)].tolist()
        width = self._shape.width
        if width > 1 and len(tall):
            # How many lines of each have as many cells as the header, as `swallows` counts them
            rows = np.arange(len(tall))
            left, right = is_tall.argmax(axis=1), width - 1 - is_tall[:, ::-1].argmax(axis=1)
            at_line = np.searchsorted(delimiters, line_ends)
            begin = left + 1 + at_line[first] - begins[rows, left]
            end = width - right + stops[rows, right] - at_line[first + height - 2]
            inner = np.cumsum(np.diff(at_line, prepend=0) == width - 1)
            alike = inner[first + height - 2] - inner[first]
            alike += (begin == width).astype(np.int64) + (end == width)
            for row in np.flatnonzero(self._shape.are_rows(alike, height)):
                record = data[starts[row, 0] : ends[row, -1]].decode()
                parsed = next(csv.reader((record,), delimiter=self.delimiter))
                if self._shape.swallows(parsed, record.split("\n")):
                    return None
        return suspicious


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
    """Return whether the bytes are UTF-8; thirty times as fast as to decode them."""
    ends = pyarrow.py_buffer(np.array([0, len(data)], np.int32))
    try:
        pyarrow.StringArray.from_buffers(1, ends, pyarrow.py_buffer(data)).validate(full=True)
    except pyarrow.ArrowInvalid:
        return False
    return True


def _is_code(cell: str) -> bool:
    """Return whether the cell is a number, a date or the like, or empty."""
    return len(cell) <= _CODE_LENGTH and not any(map(str.isalpha, cell))


def _found_delimiter(name: str, lines: Sequence[str], *, is_end: bool) -> str:
    """Return what parts the cells, by the header and the first rows."""
    usual = "\t" if name.endswith((".tsv", ".tab")) else ","

    def fit(delimiter: str) -> tuple[bool, float, bool, int]:
        part, _ = _cut(lines, _Shape(delimiter, 1), is_end=is_end, most=FIRST_ROWS)
        width = len(part.rows[0]) if part.rows and 0 not in part.problems else 1
        as_wide = [
            len(row) == width and at not in part.problems for at, row in enumerate(part.rows)
        ][1:]
        share = sum(as_wide) / len(as_wide) if as_wide else 1.0
        return width > 1 and share >= 0.5, share if width > 1 else 0.0, delimiter == usual, width

    return max(DELIMITERS, key=fit)


def _shape_of(lines: Sequence[str], delimiter: str, width: int) -> _Shape:
    """Learn from lines that are rows by themselves which columns hold numbers or few values."""
    rows = []
    for line in lines:
        try:
            row = next(csv.reader((line,), delimiter=delimiter, strict=True))
        except (csv.Error, StopIteration):
            continue
        if len(row) == width:
            rows.append(row)
    codes: dict[int, frozenset[str] | None] = {}
    for at in range(width) if len(rows) >= _LEAST_ROWS and width <= SAMPLE else ():
        column = [row[at] for row in rows]
        values = frozenset(column)
        if sum(map(_is_code, column)) >= _ALIKE * len(rows) and any(column):
            codes[at] = None
        elif len(rows) >= _ROWS_OF_FEW and len(values) <= _FEW:
            codes[at] = values
    return _Shape(delimiter, width, codes)


def _cut(
    lines: Sequence[str], shape: _Shape, *, is_end: bool, most: int | None = None
) -> tuple[_Rows, int]:
    """Cut lines into records, and return with them how many lines were used.

    The others are the begin of a record that goes on, unless it `is_end` of the file, or come after
    the first `most` records.
    """
    part = _Rows([], [], {}, [])
    delimiter = shape.delimiter
    dialect = csv.reader((), delimiter=delimiter, strict=True).dialect
    at = 0
    alone_until = 0  # lines before this one do not go on: a quote that covered them was stray
    while at < len(lines) and (most is None or len(part.rows) < most):
        line, used = lines[at], 1
        if len(line) > LONGEST:
            row = line[:LONGEST].split(delimiter)
            part.problems[len(part.rows)] = TOO_LONG
        elif '"' not in line:
            row = line.rstrip("\r\n").split(delimiter)
            if row == [""]:
                at += 1
                continue
        else:
            more = _following(lines, at) if at >= alone_until else ()
            reader = csv.reader(chain((line,), more), dialect)
            try:
                row = next(reader)
                used = reader.line_num
                if used > 1 and shape.swallows(row, lines[at : at + used]):
                    alone_until, used = at + used, 0
            except csv.Error:
                if at >= alone_until and at + reader.line_num == len(lines) and not is_end:
                    break
                alone_until, used = max(alone_until, at + reader.line_num - 1), 0
            if not used:
                row, used = line.rstrip("\r\n").split(delimiter), 1
                part.problems[len(part.rows)] = TORN
            elif used > 1 and any(delimiter in cell and _LINE_END.search(cell) for cell in row):
                part.suspicious.append(len(part.rows))
        part.rows.append(row)
        part.places.append(at)
        at += used
    return part, at


def _following(lines: Sequence[str], begin: int) -> Iterator[str]:
    """Yield the lines after this one, as many as may belong to a record that begins with it."""
    size = len(lines[begin])
    for at in range(begin + 1, min(begin + MOST_LINES, len(lines))):
        size += len(lines[at])
        if size > LONGEST:
            return
        yield lines[at]


def _check_width(part: _Rows, shape: _Shape) -> None:
    """Mark rows of another width. What is too much is joined to the last cell."""
    width = shape.width
    if set(map(len, part.rows)) <= {width}:
        return
    for at, row in enumerate(part.rows):
        if len(row) != width:
            found = "1 field" if len(row) == 1 else f"{len(row):,} fields"
            part.problems.setdefault(at, f"{found}, expected {width:,}")
            row[width - 1 :] = [shape.delimiter.join(row[width - 1 :])] * (len(row) >= width)
