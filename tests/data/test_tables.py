"""Read and write tables: records, lines, columns, formats, and each way a file can be bad."""

from __future__ import annotations

import csv
import gzip
import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from sentiment.data import tables
from sentiment.data.tables import (
    ANY,
    LONGEST,
    MOST_LINES,
    PART,
    TEXT,
    TEXT_OR_NUMBER,
    TOO_LONG,
    TORN,
    Column,
    Unreadable,
    appearing_whole,
    open_table,
    read_table,
)
from sentiment.errors import ReviewDataError, ReviewReadError

Rows = list[tuple[int, list[str], str | None]]


def rows_of(data: str | bytes, name: str = "in.csv") -> Rows:
    """Line, cells and problem of each row, the header not among them."""
    raw = data if isinstance(data, bytes) else data.encode()
    found: Rows = []
    for chunk in read_table(io.BytesIO(raw), name).chunks():
        for at, row in enumerate(zip(*chunk.columns, strict=True)):
            found.append((chunk.places[at], list(row), chunk.problems.get(at)))
    return found


def error_of(data: str | bytes, name: str = "in.csv") -> str:
    with pytest.raises(ReviewDataError) as caught:
        rows_of(data, name)
    message = str(caught.value)
    assert "\n" not in message and len(message) <= 300
    return message


# --- records -------------------------------------------------------------------------------


def test_records_have_the_line_they_begin_at() -> None:
    text = '\ufeff\n\r\nname,text\nA,"two\nlines, and ""quotes"""\n\n\r\n'
    text += 'B,x\x0b\u2028\x85\rC,6" wide\r\n'
    assert rows_of(text) == [
        (4, ["A", 'two\nlines, and "quotes"'], None),
        (8, ["B", "x\x0b\u2028\x85"], None),
        (9, ["C", '6" wide'], None),
    ]


def test_a_wrong_number_of_cells_loses_nothing() -> None:
    assert rows_of("a,b,c\n1\n1,2,3,4,5\n1,2,3\n") == [
        (2, ["1", "", ""], "1 field, expected 3"),
        (3, ["1", "2", "3,4,5"], "5 fields, expected 3"),
        (4, ["1", "2", "3"], None),
    ]


@pytest.mark.parametrize(
    "line",
    ['"never closed,5', '"closed" too early,5', 'x","', '"doubled"",5', '"a"b",5'],
)
@pytest.mark.parametrize("after", [0, 3])
def test_a_stray_quote_spoils_its_row_and_no_other(line: str, after: int) -> None:
    others = [f'"fine, really {at}",{at}' for at in range(after)]
    rows = rows_of("\n".join(["text,stars", "good,4", line, *others]))
    assert rows[0] == (2, ["good", "4"], None)
    assert rows[1][0] == 3 and rows[1][2] == TORN and ",".join(rows[1][1]) == line
    assert rows[2:] == [(4 + at, [f"fine, really {at}", str(at)], None) for at in range(after)]


def test_a_record_is_bounded_in_lines_and_characters() -> None:
    tall, long = "x\n" * (MOST_LINES - 1), "x" * (LONGEST - 6)
    assert rows_of(f'a,b\n"{tall}",1\n') == [(2, [tall, "1"], None)]
    assert rows_of(f'a,b\n"{long}",1\n')[0][1:] == ([long, "1"], None)
    rows = rows_of(f'a,b\n"{tall}\n",1\n2,3\n')
    assert rows[0] == (2, ['"x', ""], TORN) and len(rows) == MOST_LINES + 1
    assert rows[-1] == (MOST_LINES + 3, ["2", "3"], None)
    rows = rows_of(f"a,b\n{'x' * LONGEST * 3},1\n2,3\n")
    assert rows == [(2, ["x" * LONGEST, ""], TOO_LONG), (3, ["2", "3"], None)]


def test_a_stray_byte_spoils_its_row_and_can_be_written_again() -> None:
    rows = rows_of(b"text,stars\ncaf\xe9 good,4\nbad,1\n")
    assert rows == [
        (2, ["caf\udce9 good", "4"], "byte 0xe9 is not UTF-8"),
        (3, ["bad", "1"], None),
    ]
    assert rows[0][1][0].encode("utf-8", "surrogateescape") == b"caf\xe9 good"


def naive(text: str, delimiter: str) -> Rows:
    """The rules once more, character by character and without a thought of speed."""
    lines = io.StringIO(text, newline="").readlines()
    found: Rows = []
    at = alone_until = 0
    while at < len(lines):
        cells, end = _record("".join(lines[at:]), delimiter)
        used = end and len(io.StringIO("".join(lines[at:])[:end], newline="").readlines())
        if lines[at].strip("\r\n") == "":
            at += 1
            continue
        if not used:
            # everything up to the line where it went wrong is read line by line
            _, stop = _record("".join(lines[at:]), delimiter, where_wrong=True)
            wrong_at = (
                at + len(io.StringIO("".join(lines[at:])[: stop + 1], newline="").readlines()) - 1
            )
            alone_until = max(alone_until, min(wrong_at, len(lines) - 1))
        torn = not used or (used > 1 and at < alone_until)
        if torn:
            found.append((at + 1, lines[at].rstrip("\r\n").split(delimiter), TORN))
            at += 1
        else:
            found.append((at + 1, cells, None))
            at += used
    return found


def _record(text: str, delimiter: str, *, where_wrong: bool = False) -> tuple[list[str], int]:
    """The cells and the end of the first record, 0 when it is torn."""
    cells, at = [], 0
    while True:
        if text[at : at + 1] == '"':
            cell, at = "", at + 1
            while at < len(text) and (text[at] != '"' or text[at + 1 : at + 2] == '"'):
                cell += text[at]
                at += 2 if text[at] == '"' else 1
            at += 1
            if at > len(text) or text[at : at + 1] not in ("", delimiter, "\n", "\r"):
                return [], at if where_wrong else 0
        else:
            begin = at
            while at < len(text) and text[at] not in f"{delimiter}\r\n":
                at += 1
            cell = text[begin:at]
        cells.append(cell)
        if text[at : at + 1] != delimiter:
            return cells, at + (2 if text[at : at + 2] == "\r\n" else 1)
        at += 1


@given(
    st.text(st.sampled_from('a"",\n\r\té'), max_size=60),
    st.sampled_from([("in.csv", ","), ("in.tsv", "\t")]),
    st.sampled_from([1, 7, 2**20]),
)
def test_any_text_is_read_as_the_rules_say(text: str, kind: tuple[str, str], block: int) -> None:
    width = 3
    header = kind[1].join("abc")
    expected = []
    for line, row, torn in naive(f"{header}\n{text}", kind[1])[1:]:
        fields = "1 field" if len(row) == 1 else f"{len(row)} fields"
        problem = torn or (None if len(row) == width else f"{fields}, expected {width}")
        filled = row + [""] * (width - len(row))
        expected.append((line, [*filled[:2], kind[1].join(filled[2:])], problem))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BLOCK", block)  # records go on from block to block
        assert rows_of(f"{header}\n{text}", kind[0]) == expected


cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
grids = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=6)
)


@given(grids, st.sampled_from(["in.csv", "in.tsv"]))
def test_what_a_csv_writer_wrote_is_read_again(grid: list[list[str]], name: str) -> None:
    out = io.StringIO(newline="")
    delimiter = "," if name == "in.csv" else "\t"
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([["name"] * len(grid[0]), *grid])
    assert [row[1:] for row in rows_of(out.getvalue(), name)] == [(row, None) for row in grid]


@given(st.binary(max_size=200), st.sampled_from([1, 9, 2**20]))
def test_any_bytes_give_rows_as_wide_as_the_header(data: bytes, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BLOCK", block)
        rows = rows_of(b"a,b\n" + data)
    assert all(len(row) == 2 for _, row, _ in rows)
    assert [line for line, _, _ in rows] == sorted({line for line, _, _ in rows})


@pytest.mark.parametrize(
    "line", ['a","\n', '"a\n', '"a""\n', '"\n', "a\n", "\n", '"",' * 9 + "\n", "x" * 80]
)
def test_time_grows_with_the_file_whatever_it_holds(line: str) -> None:
    def seconds(size: int) -> float:
        data = b"a," * 20_000 + b"text\n" + (line * (size // len(line))).encode()
        table = read_table(io.BytesIO(data), "in.csv")
        began = time.process_time()
        for _ in table.chunks([20_000]):
            pass
        return time.process_time() - began

    assert seconds(500_000) < 5


def test_tabs_part_the_cells_by_name_and_in_txt_by_the_header() -> None:
    row = "good, cheap\t5\n"
    for name in ("in.tsv", "IN.TAB", "in.tsv.gz", "in.txt"):
        assert rows_of(f"\na\tb\n{row}", name)[0][1] == ["good, cheap", "5"]
    assert rows_of("a,b\ngood\t,5\n", "in.txt")[0][1] == ["good\t", "5"]


# --- columns -------------------------------------------------------------------------------

REVIEWS = Column("reviews", ("text", "review", "body"), TEXT, "--text")


@pytest.mark.parametrize(
    ("names", "wanted", "at"),
    [
        (["id", "TEXT "], None, 1),
        (["body", "review"], None, 1),  # the better name, not the first column
        (["text", "What they said"], "what they said", 1),
        (["Text", "text"], "text", 1),  # to the letter
    ],
)
def test_a_column_is_found_by_name(names: list[str], wanted: str | None, at: int) -> None:
    table = read_table(io.BytesIO(",".join(names).encode()), "in.csv")
    assert table.find(REVIEWS, wanted) == at


@pytest.mark.parametrize(
    ("names", "wanted", "said"),
    [
        (
            ["a", "b"],
            None,
            "no column of reviews such as 'text' or 'review', found 'a', 'b'; name it with --text",
        ),
        (["a", "Review"], "reviw", "no column 'reviw', found 'a', 'Review'; did you mean 'Rev"),
        (["a", "b"], "stars", "no column 'stars', found 'a', 'b'; name it with --text"),
        (["text", "Text"], None, "two columns are named 'text'; rename one"),
        (["long" * 99, *"abcdefgh"], "no" * 99, "…', 'a', 'b', 'c', 'd' and 4 more"),
    ],
)
def test_a_column_that_is_not_there_is_said_briefly(
    names: list[str], wanted: str | None, said: str
) -> None:
    table = read_table(io.BytesIO(",".join(names).encode()), "in.csv")
    with pytest.raises(ReviewDataError) as caught:
        table.find(REVIEWS, wanted)
    assert said in str(caught.value) and len(str(caught.value)) < 400


# --- formats and files ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"\r\n\n", "is empty"),
        (b"\n\x89PNG,\xff\n", "line 2: the header cannot be read (byte 0x89 is not UTF-8)"),
        ("text\ngood\n".encode("utf-16"), "line 1: the header cannot be read (byte 0xff"),
        (b"a," * 10**6, f"line 1: the header cannot be read ({TOO_LONG})"),
        (gzip.compress(b"text\n" + bytes(range(256)) * 99)[:300], "gzip stream is damaged"),
        (b"\x1f\x8b and nothing of use", "gzip stream is damaged"),
        (b"PAR1 and nothing of use", "is not a readable Parquet file"),
    ],
)
def test_a_file_that_is_no_table_is_said_in_one_line(data: bytes, said: str) -> None:
    assert said in error_of(data)


def write_parquet(file: Path, columns: dict[str, Any]) -> Path:
    parquet.write_table(pa.table(columns), file)
    return file


def test_parquet_is_read_by_position_and_its_types_are_checked(tmp_path: Path) -> None:
    columns = {
        "text": pa.array(["a", None, "b"]).dictionary_encode(),
        "a.b": [1.0, 2.0, None],
        "list": [["x"], [], None],
        "when": pa.array([1, 2, 3], pa.timestamp("s")),
    }
    with open_table(write_parquet(tmp_path / "any name", columns), "--data") as table:
        assert table.find(REVIEWS, None) == 0
        assert table.find(replace(REVIEWS, holds=TEXT_OR_NUMBER), "A.B") == 1
        for name, holds in (("list", TEXT_OR_NUMBER), ("when", TEXT_OR_NUMBER), ("a.b", TEXT)):
            with pytest.raises(ReviewDataError, match=f"column '{name}' holds .* expected {holds}"):
                table.find(replace(REVIEWS, holds=holds), name)
        assert table.find(replace(REVIEWS, holds=ANY), "list") == 2
        (chunk,) = table.chunks([1, 0])
    assert [tables.cells(column) for column in chunk.columns] == [
        [1.0, 2.0, None],
        ["a", None, "b"],
    ]
    assert [chunk.place(at) for at in range(3)] == ["row 1", "row 2", "row 3"]
    with pytest.raises(ReviewDataError, match="is a Parquet file"):
        read_table(io.BytesIO((tmp_path / "any name").read_bytes()), "x", most_bytes=10**6)


def test_a_damaged_page_or_text_of_parquet_is_placed(tmp_path: Path) -> None:
    file = tmp_path / "in.parquet"
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff"))
    parquet.write_table(pa.table({"text": bad}), file)
    damage = pytest.raises(ReviewDataError, match="is damaged after row 0: ")
    with open_table(file, "--data") as table, damage:
        list(table.chunks([0]))


def test_what_is_not_a_file_and_what_unpacks_to_too_much(tmp_path: Path) -> None:
    with pytest.raises(ReviewDataError, match="is a folder"), open_table(tmp_path, "--data"):
        pass
    missing = tmp_path / "no.csv"
    with (
        pytest.raises(ReviewDataError, match="no such file; give one with --in"),
        open_table(missing, "--in"),
    ):
        pass
    with (
        pytest.raises(ReviewReadError, match="cannot be read"),
        open_table(tmp_path / ("x" * 300), "--in"),
    ):
        pass
    packed = gzip.compress(b"text\n" + b"good\n" * 10**6)
    with pytest.raises(ReviewDataError, match="more than 2,000,000 bytes"):
        list(read_table(io.BytesIO(packed), "in.csv", most_bytes=2_000_000).chunks([0]))


def test_the_first_problems_are_named_and_the_others_counted() -> None:
    (chunk,) = read_table(io.BytesIO(b"a,b\n" + b"1\n" * 5), "in.csv").chunks()
    seen = Unreadable(2)
    seen.add(chunk, {})
    assert str(seen) == "" and seen.count == 0
    seen.add(chunk, {3: "torn", 1: "none"})
    seen.add(chunk, {2: "torn"})
    assert str(seen) == "line 3: none; line 5: torn; and 1 more" and seen.count == 3


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob(f".*{PART}"))


def test_a_run_clears_up_after_the_dead_and_not_after_the_living(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    dead, other = tmp_path / f".out.csv.0123{PART}", tmp_path / f".another.csv.0123{PART}"
    dead.write_text("half a file")
    other.write_text("of another target")
    with appearing_whole(target) as first:
        assert not dead.exists() and other.exists()
        with appearing_whole(target) as second:
            second.write(b"second")
        assert target.read_bytes() == b"second"
        first.write(b"first")
    assert target.read_bytes() == b"first" and leftovers(tmp_path) == [other]
