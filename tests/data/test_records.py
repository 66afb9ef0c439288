"""Cut text into records: the rules, by hand and against a reader that knows no speed."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.data import records
from sentiment.data.records import LONGEST, MOST_LINES, TOO_LONG, TORN, Records
from sentiment.data.sources import Source
from sentiment.errors import ReviewDataError

Rows = list[tuple[int, list[str], str | None]]


def rows_of(data: str | bytes, name: str = "in.csv", only: list[int] | None = None) -> Rows:
    """Line, cells and problem of each row, the header not among them."""
    raw = data if isinstance(data, bytes) else data.encode()
    found: Rows = []
    for block in Records(Source("text", io.BytesIO(raw)), name).blocks(only):
        for at, row in enumerate(zip(*block.columns, strict=True)):
            found.append((block.places[at], list(row), block.problems.get(at)))
    return found


@contextmanager
def blocks_of(size: int, *, quick: bool = True) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BLOCK", size)
        if not quick:
            patch.setattr(Records, "_read_quickly", lambda *_: None)
        yield patch


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
    "line", ['"never closed,5', '"closed" too early,5', 'x","', '"doubled"",5', '"a"b",5']
)
def test_a_stray_quote_spoils_its_row_and_no_other(line: str) -> None:
    rows = rows_of(f'text,stars\ngood,4\n{line}\n"fine, really",5\nx,1')
    assert rows[0] == (2, ["good", "4"], None)
    assert rows[1][0] == 3 and rows[1][2] == TORN and ",".join(rows[1][1]) == line
    assert rows[2:] == [(4, ["fine, really", "5"], None), (5, ["x", "1"], None)]
    assert rows_of(f"text,stars\n{line}")[0][2] == TORN  # the last line


GOOD = [f"Nice grip {at},{at % 5 + 1}" for at in range(60)]


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("opens", "closes"), [(10, 50), (10, 12), (10, 11), (0, 59)])
def test_two_stray_quotes_swallow_no_row(opens: int, closes: int, width: int, first: int) -> None:
    """Text first or rating first, with or without a third column; a line alone may look torn."""
    lines = []
    for at in range(60):
        quoted = {opens: '"Nice grip', closes: 'Nice grip"'}.get(at, "Nice grip")
        cells = [quoted, str(at % 5 + 1)][:: -1 if first else 1]
        lines.append(",".join([*cells, *["yes"] * (width - 2)]))
    text = "\n".join([",".join("abc"[:width]), *lines, ""])
    rows = rows_of(text)
    assert [line for line, _, _ in rows] == list(range(2, 62))
    assert [(line, why) for line, _, why in rows if why] == [(opens + 2, TORN)]


@pytest.mark.parametrize("at", [20_000, 110_000])
def test_rows_that_are_swallowed_are_found_far_into_a_long_file(at: int) -> None:
    """In a block that is read the quick way, and in the last one."""
    lines = GOOD * 2_000
    lines[at], lines[at + 3] = '"Nice grip,4', 'Nice grip",5'
    rows = rows_of("text,stars\n" + "\n".join(lines))
    assert len(rows) == len(lines) and [line for line, _, why in rows if why] == [at + 2]


LEGITIMATE = [
    "Great, light and strong\nbut dear, and late",
    "Pros: light, strong\nCons: dear, late\nAll in all, fine",
    "one\n\ntwo, 3\n\nthree, really, 5",
    'She said ""wow"", twice\nand, 4',
    "1, 2\n3, 4 and so on, 5",
]


@pytest.mark.parametrize("cell", LEGITIMATE)
@pytest.mark.parametrize("row", ['"{}",5', '5,"{}"', 'Ann,"{}",5', '5,"{}",Ann', '"{}"'])
def test_line_breaks_and_commas_in_a_review_are_kept_and_said(cell: str, row: str) -> None:
    width = row.count(",") + 1
    names = ",".join("abc"[:width])
    plain = row.format("fine").replace('"fine"', "fine")
    text = "\n".join([names, *[plain] * 30, row.format(cell), *[plain] * 30])
    for quick in (True, False):
        with blocks_of(2**20 if not quick else len(text) - 30, quick=quick):
            rows = rows_of(text)
        assert len(rows) == 61 and not any(why for _, _, why in rows)
        assert cell.replace('""', '"') in rows[30][1]
    found = list(Records(Source("text", io.BytesIO(text.encode())), "in.csv").blocks())
    assert [block.places[at] for block in found for at in block.suspicious] == [32]


def test_without_numbers_or_labels_all_lines_must_be_rows() -> None:
    rows = rows_of('name,text\nAnn,"open\nBen,fine\nCid,shut"\nDan,x')
    assert [row[::2] for row in rows] == [(2, TORN), (3, None), (4, None), (5, None)]
    assert rows_of('name,text\nAnn,"Good\ncheap, light"\nDan,x')[0][1][1] == "Good\ncheap, light"


def test_a_record_is_bounded_in_lines_and_characters() -> None:
    tall, long = "x\n" * (MOST_LINES - 1), "x" * (LONGEST - 6)
    assert rows_of(f'a,b\n"{tall}",1\n') == [(2, [tall, "1"], None)]
    assert rows_of(f'a,b\n"{long}",1\n')[0][1:] == ([long, "1"], None)
    rows = rows_of(f'a,b\n"{tall}\n",1\n2,3\n')
    assert rows[0] == (2, ['"x', ""], TORN) and len(rows) == MOST_LINES + 1
    assert rows[-1] == (MOST_LINES + 3, ["2", "3"], None)
    rows = rows_of(f"a,b\n{'x' * LONGEST * 3},1\n2,3\n")
    assert rows == [(2, ["x" * LONGEST, ""], TOO_LONG), (3, ["2", "3"], None)]


def test_lines_that_a_quote_covered_in_vain_are_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_LINES", 3)
    rows = rows_of('a\n"open\na","\nz\nz"\n')  # the second could go on to the fourth
    assert [row[::2] for row in rows] == [(2, TORN), (3, TORN), (4, None), (5, None)]


def test_a_long_line_is_cut_and_its_letters_are_not_stray_bytes() -> None:
    with blocks_of(2**16):
        rows = rows_of(f"text\na{'€' * LONGEST * 3}\ngood\n")
    assert rows == [(2, ["a" + "€" * (LONGEST - 1)], TOO_LONG), (3, ["good"], None)]


def test_a_stray_byte_is_named_with_its_line_and_ends_the_reading() -> None:
    for before in ("", "a\r\n\n", '"two\nlines",5\r'):
        data = f"text,stars\n{before}".encode() + b"caf\xe9 good,4\nbad,1\n"
        line = len(before.splitlines()) + 2
        for size in (5, 2**20):
            with blocks_of(size), pytest.raises(ReviewDataError) as caught:
                rows_of(data)
            assert f"line {line}: byte 0xe9 is not UTF-8; name its enc" in str(caught.value)


def alone(lines: list[str], delimiter: str, width: int) -> records._Shape:
    return records._Shape(delimiter, width)


def naive(text: str, delimiter: str, width: int = 3) -> Rows:
    """The rules once more, character by character and without a thought of speed."""
    lines = io.StringIO(text, newline="").readlines()
    found: Rows = []
    at = alone_until = 0
    while at < len(lines):
        rest = "".join(lines[at:])
        record, stop = first_record(rest, delimiter)
        covered = len(io.StringIO(rest[:stop], newline="").readlines())
        # a record of three lines and more, each of which would be a row, is torn
        cut = [line.rstrip("\r\n").split(delimiter) for line in lines[at : at + covered]]
        tall = [at for at, cell in enumerate(record or []) if "\n" in cell or "\r" in cell]
        if record is not None and covered >= 3 and tall:
            cut[0] = record[: tall[0]] + lines_of(record[tall[0]])[0].split(delimiter)
            cut[-1] = lines_of(record[tall[-1]])[-1].split(delimiter) + record[tall[-1] + 1 :]
            if all(len(row) == width for row in cut):
                record, alone_until = None, max(alone_until, at + covered)
        if record is None:
            alone_until = max(alone_until, at + covered - 1)
        if not lines[at].strip("\r\n"):
            at += 1
        elif record is None or (covered > 1 and at < alone_until):
            found.append((at + 1, lines[at].rstrip("\r\n").split(delimiter), TORN))
            at += 1
        else:
            found.append((at + 1, record, None))
            at += covered
    return found


def lines_of(cell: str) -> list[str]:
    return cell.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def first_record(text: str, delimiter: str) -> tuple[list[str] | None, int]:
    """The cells of the first record, or None, and where it ends or goes wrong."""
    record: list[str] = []
    at = 0
    while True:
        cell = ""
        if text[at : at + 1] == '"':
            at += 1
            while at < len(text) and (text[at] != '"' or text[at + 1 : at + 2] == '"'):
                cell += text[at]
                at += 2 if text[at] == '"' else 1
            at += 1
            if at > len(text) or text[at : at + 1] not in ("", delimiter, "\n", "\r"):
                return None, at + 1
        while text[at : at + 1] not in ("", delimiter, "\n", "\r"):
            cell += text[at]
            at += 1
        record.append(cell)
        if text[at : at + 1] != delimiter:
            return record, at + (2 if text[at : at + 2] == "\r\n" else 1)
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
    with blocks_of(block) as patch:  # records go on from block to block
        patch.setattr(records, "_shape_of", alone)  # which lines are learnt from depends on them
        assert rows_of(f"{header}\n{text}", kind[0]) == expected


cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
grids = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=6)
)


def both_ways(data: bytes, block: int, only: list[int] | None = None) -> list[Rows | str]:
    read: list[Rows | str] = []
    for quick in (True, False):
        with blocks_of(block, quick=quick) as patch:
            patch.setattr(records, "LONGEST", 40)
            patch.setattr(records, "MOST_LINES", 3)
            try:
                read.append(rows_of(data, only=only))
            except ReviewDataError as error:  # of the header
                read.append(str(error))
    return read


@given(
    grids,
    st.sampled_from(["\n", "\r\n"]),
    st.integers(0, 99),
    st.sampled_from(["", "", '"', '"a"b', "\n", ",", "\r", "é", "\n\n"]),
    st.sampled_from([8, 30]),
    st.booleans(),
)
def test_the_quick_way_reads_what_the_careful_way_reads(
    grid: list[list[str]], line_end: str, at: int, stray: str, block: int, one: bool
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=line_end)
    writer.writerows([["name"] * len(grid[0]), *grid * 3])
    text = out.getvalue()
    data = (text[:at] + stray + text[at:]).encode()
    one = one and at > text.index(line_end)  # else the header may have fewer columns
    read = both_ways(data, block, [len(grid[0]) - 1] if one else None)
    assert read[0] == read[1]


@pytest.mark.parametrize("row", [f'"{"x" * 45}",1', '"x\ny\nz\nw",1', '"a"b,1', '"a",b"c"'])
def test_the_quick_way_leaves_faults_to_the_careful_way(row: str) -> None:
    data = "a,b\n" + "1,2\n" * 40 + f"{row}\n" + "1,2\n" * 80
    read = both_ways(data.encode(), 100)
    assert read[0] == read[1] and len(read[0]) > 100


def test_files_without_a_fault_are_read_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the last block, which may want its line end."""
    careful: list[bytes] = []
    real = Records._read_carefully

    def read_carefully(self: Records, data: bytes) -> Any:
        careful.append(data)
        return real(self, data)

    monkeypatch.setattr(Records, "_read_carefully", read_carefully)
    rows = [[f"é {at}", 'a "cell",\nof two', "", '"'] for at in range(500)]
    out = io.StringIO(newline="")
    csv.writer(out).writerows([list("abcd"), *rows])
    with blocks_of(1_000):
        assert [row for _, row, _ in rows_of(out.getvalue())] == rows
    assert len(careful) == 1


@given(st.binary(max_size=200), st.sampled_from([1, 9, 2**20]))
def test_any_bytes_give_rows_as_wide_as_the_header(data: bytes, block: int) -> None:
    with blocks_of(block):
        try:
            rows = rows_of(b"a,b\n" + data)
        except ReviewDataError as error:
            assert "is not UTF-8" in str(error)
            return
    assert all(len(row) == 2 for _, row, _ in rows)
    assert [line for line, _, _ in rows] == sorted({line for line, _, _ in rows})


@pytest.mark.parametrize(
    "line", ['a","\n', '"a\n', '"a""\n', '"\n', "a\n", "\n", '"",' * 9 + "\n", "x" * 80]
)
def test_time_grows_with_the_file_whatever_it_holds(line: str) -> None:
    data = b"a," * 20_000 + b"text\n" + (line * (150_000 // len(line))).encode()
    read = Records(Source("text", io.BytesIO(data)), "in.csv")
    began = time.process_time()
    for _ in read.blocks([20_000]):
        pass
    assert time.process_time() - began < 3


@pytest.mark.parametrize("delimiter", list(",;\t|"))
def test_the_delimiter_is_found_by_the_header_and_the_first_rows(delimiter: str) -> None:
    rows = ["good, cheap; light | neat", "a, b, c", "x;y", "tab\there"]
    for name in ("in.csv", "in.tsv", "in.txt", "in.CSV.gz"):
        out = io.StringIO()
        writer = csv.writer(out, delimiter=delimiter)
        writer.writerows([["", "text"], *([str(at), row] for at, row in enumerate(rows * 9))])
        assert [row[1] for _, row, _ in rows_of("\n" + out.getvalue(), name)] == rows * 9
        # the other delimiters stand in the header too
        for other in ",;\t|".replace(delimiter, ""):
            header = f"text{other} whole{delimiter}stars"
            data = "\n".join([header, *(f"good{delimiter}{at}" for at in range(9))])
            assert rows_of(data, name)[3][1] == ["good", "3"]


def test_without_a_choice_the_name_tells_the_delimiter() -> None:
    assert rows_of("text\ngood; cheap, neat\n")[0][2] == "2 fields, expected 1"
    assert rows_of("text\ngood; cheap, neat\n", "in.tsv")[0][1:] == (["good; cheap, neat"], None)
    assert rows_of("a,b\tc\n1,2\t3\n", "in.tab")[0][1] == ["1,2", "3"]
    assert rows_of("a,b\tc\n1,2\t3\n", "in.txt")[0][1] == ["1", "2\t3"]
    assert rows_of("a,b,c\n1,2;x,3,4\n")[0][2] == "4 fields, expected 3"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"\r\n\n", "is empty"),
        (b"\n\x89PNG,\xff\n", "line 2: byte 0x89 is not UTF-8"),
        ("text\ngood\n".encode("utf-16-le"), "line 1: the header cannot be read (it holds NUL"),
        (b"a," * 10**6, f"line 1: the header cannot be read ({TOO_LONG})"),
    ],
)
def test_a_header_that_cannot_be_read(data: bytes, said: str) -> None:
    with pytest.raises(ReviewDataError) as caught:
        rows_of(data)
    assert said in str(caught.value) and len(str(caught.value)) < 300
