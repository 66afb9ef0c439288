"""Review rows: a CSV or TSV of any size, row by row and none lost, and its column of reviews.

The page reads uploads with it and batch scoring reads files. A row that cannot be read is handed
on with the reason, so that whoever reads can keep it and say so.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from sentiment.errors import RowsError

# Names of the column of reviews, best first, in lower case; the first is the scraped file's own.
TEXT_COLUMNS = (
    "review text",
    "text",
    "review",
    "reviews",
    "body",
    "review body",
    "comment",
    "comments",
    "content",
)
# A longer line is cut and its row cannot be read: a file without line ends must not fill the
# memory. Python's csv allows 131,072 characters a field.
LONGEST_LINE = 2**20
NO_TEXT = "no text"
NOT_UTF8 = "not UTF-8"
TORN = "a quote is not closed or not doubled, or a field is endless"

_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of a stray byte


@dataclass(frozen=True, slots=True)
class Row:
    """One record: `fields` as many as the header has; `problem` says why it cannot be read."""

    line: int  # at which it begins; the header is at line 1
    fields: list[str]
    problem: str | None


def read_header(lines: Iterator[Row]) -> list[str]:
    """The names of the columns, which is the first row. Raises `RowsError` when it has none."""
    first = next(lines, None)
    if first is None:
        raise RowsError("is empty, expected a header and one row per review")
    if first.problem is not None:
        raise RowsError(
            f"line {first.line}: the header cannot be read ({first.problem}); expected the names "
            "of the columns, as UTF-8 text"
        )
    return first.fields


def read_rows(file: IO[str], delimiter: str) -> Iterator[Row]:
    """Every record of the text, the header first; blank lines between records are no records.

    `file` is opened with `newline=""` and `errors="surrogateescape"`. The number of fields is the
    header's: what is missing is filled with "", and surplus fields stay together in the last one.
    A record with a torn quote is its first line, cut at each delimiter; reading goes on with the
    next line, so that one quote that is never closed does not swallow the rest of the file.
    """
    lines = _Lines(file)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    width = 0
    while True:
        lines.taken.clear()
        begins = lines.number + 1
        problem: str | None = None
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            fields, problem = lines.give_back().rstrip("\r\n").split(delimiter), TORN
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
        if not fields:
            continue
        width = width or len(fields)
        if len(fields) != width:
            found = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
            problem = problem or f"{found}, expected {width}"
            fields = _fit(fields, width, delimiter)
        if any(not line.isascii() and _ESCAPED_BYTE.search(line) for line in lines.taken):
            problem = NOT_UTF8
        yield Row(begins, fields, problem)


def find_text_column(names: Sequence[str], wanted: str | None, hint: str) -> int:
    """The position of the column of reviews: `wanted`, or else the best of `TEXT_COLUMNS`.

    Case and outer white space do not matter. `hint` says in the message how to name the column.
    Raises `RowsError` when there is none, or two of that name.
    """
    plain = [name.strip().lower() for name in names]
    candidates = TEXT_COLUMNS if wanted is None else (wanted.strip().lower(),)
    for name in candidates:
        if plain.count(name) > 1:
            raise RowsError(f"two columns are named '{name}'; rename one")
        if name in plain:
            return plain.index(name)
    found = ", ".join(repr(name) for name in names[:20])
    if wanted is None:
        raise RowsError(f"no column of reviews such as 'text' or 'review', found {found}; {hint}")
    near = difflib.get_close_matches(candidates[0], plain, n=1, cutoff=0.4)
    guess = f"did you mean {names[plain.index(near[0])]!r}?" if near else hint
    raise RowsError(f"no column {wanted!r}, found {found}; {guess}")


class _Lines:
    """The lines of a text, numbered from 1, of which those of the present record can go back."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._again: deque[str] = deque()
        self.taken: list[str] = []
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._file.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        self.taken.append(line)
        return line

    def give_back(self) -> str:
        """Return the record's first line; the others will be read again."""
        first, *others = self.taken
        self._again.extendleft(reversed(others))
        self.number -= len(others)
        self.taken = [first]
        return first


def _fit(fields: list[str], width: int, delimiter: str) -> list[str]:
    if len(fields) < width:
        return fields + [""] * (width - len(fields))
    return [*fields[: width - 1], delimiter.join(fields[width - 1 :])]
