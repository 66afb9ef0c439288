"""Review rows: records of a CSV or TSV, those that cannot be read among them, and the column."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.data import review_rows
from sentiment.data.review_rows import NOT_UTF8, TORN, Row, find_text_column, read_header, read_rows
from sentiment.errors import RowsError


def rows_of(data: str | bytes, delimiter: str = ",") -> list[tuple[int, list[str], str | None]]:
    raw = data if isinstance(data, bytes) else data.encode()
    file = io.TextIOWrapper(io.BytesIO(raw), "utf-8-sig", "surrogateescape", newline="")
    return [(row.line, row.fields, row.problem) for row in read_rows(file, delimiter)]


def test_records_have_the_line_they_begin_at() -> None:
    text = '\ufeffname,text\nA,"two\nlines, and ""quotes"""\n\n\r\nB,fine\r\n'
    assert rows_of(text) == [
        (1, ["name", "text"], None),
        (2, ["A", 'two\nlines, and "quotes"'], None),
        (6, ["B", "fine"], None),
    ]


def test_tabs_part_the_fields_of_a_tsv() -> None:
    assert rows_of("a\tb\ngood, cheap\t5\n", "\t")[1] == (2, ["good, cheap", "5"], None)


def test_a_wrong_number_of_fields_loses_nothing() -> None:
    assert rows_of("a,b,c\n1\n1,2,3,4,5\n1,2,3\n")[1:] == [
        (2, ["1", "", ""], "1 field, expected 3"),
        (3, ["1", "2", "3,4,5"], "5 fields, expected 3"),
        (4, ["1", "2", "3"], None),
    ]


def test_an_open_quote_takes_one_line_and_not_the_rest_of_the_file() -> None:
    lines = ["text,stars", '"never closed,5', "good,4", "bad,1", '"fine, really",3', "late,2"]
    assert rows_of("\n".join(lines) + "\n")[1:] == [
        (2, ['"never closed', "5"], TORN),
        (3, ["good", "4"], None),
        (4, ["bad", "1"], None),
        (5, ["fine, really", "3"], None),
        (6, ["late", "2"], None),
    ]


def test_an_open_quote_at_the_end_is_found_too() -> None:
    assert rows_of('text,stars\ngood,4\n"open,5\nbad,1\n')[2:] == [
        (3, ['"open', "5"], TORN),
        (4, ["bad", "1"], None),
    ]


def test_words_after_a_closed_quote_are_torn_and_kept_as_they_stand() -> None:
    assert rows_of('text,stars\n"Superb" they said,5\nbad,1\n')[1:] == [
        (2, ['"Superb" they said', "5"], TORN),
        (3, ["bad", "1"], None),
    ]


def test_a_stray_byte_spoils_its_row_and_can_be_written_again() -> None:
    rows = rows_of(b"text,stars\ncaf\xe9 good,4\nbad,1\n")
    assert rows[1] == (2, ["caf\udce9 good", "4"], NOT_UTF8)
    assert rows[1][1][0].encode("utf-8", "surrogateescape") == b"caf\xe9 good"
    assert rows[2] == (3, ["bad", "1"], None)


def test_a_line_without_an_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review_rows, "LONGEST_LINE", 10)
    assert rows_of("text\n" + "x" * 25 + "\ngood\n") == [
        (1, ["text"], None),
        (2, ["x" * 10], None),
        (3, ["x" * 10], None),
        (4, ["x" * 5], None),
        (5, ["good"], None),
    ]


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=8)
tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=6)
)


@given(tables, st.sampled_from([",", "\t"]))
def test_what_a_csv_writer_wrote_is_read_again(table: list[list[str]], delimiter: str) -> None:
    table[0] = ["name", *table[0][1:]]  # a mark before the first name would be a byte order mark
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(table)
    assert [row[1:] for row in rows_of(out.getvalue(), delimiter)] == [(row, None) for row in table]


@given(st.binary(max_size=200))
def test_any_bytes_give_rows_of_the_same_width(data: bytes) -> None:
    rows = rows_of(b"a,b\n" + data)
    assert all(len(fields) == 2 for _, fields, _ in rows)
    assert [line for line, _, _ in rows] == sorted({line for line, _, _ in rows})


def test_the_header_must_be_there_and_readable() -> None:
    with pytest.raises(RowsError, match="is empty, expected a header"):
        read_header(iter([]))
    with pytest.raises(RowsError, match=r"line 1: the header cannot be read \(not UTF-8\)"):
        read_header(iter([Row(1, ["a\udcff"], NOT_UTF8)]))


@pytest.mark.parametrize(
    ("names", "wanted", "at"),
    [
        (["Ratings", "Review text"], None, 1),
        (["id", "TEXT "], None, 1),
        (["body", "review"], None, 1),  # the better name, not the first column
        (["body", "stars"], None, 0),
        (["text", "What they said"], "what they said", 1),
    ],
)
def test_the_column_is_found_by_name(names: list[str], wanted: str | None, at: int) -> None:
    assert find_text_column(names, wanted, "name it") == at


@pytest.mark.parametrize(
    ("names", "wanted", "message"),
    [
        (["a", "b"], None, "no column of reviews such as 'text' or 'review', found 'a', 'b'; hint"),
        (
            ["a", "Review"],
            "reviw",
            "no column 'reviw', found 'a', 'Review'; did you mean 'Review'?",
        ),
        (["a", "b"], "stars", "no column 'stars', found 'a', 'b'; hint"),
        (["text", "Text"], None, "two columns are named 'text'; rename one"),
    ],
)
def test_no_such_column_is_said(names: list[str], wanted: str | None, message: str) -> None:
    with pytest.raises(RowsError) as caught:
        find_text_column(names, wanted, "hint")
    assert str(caught.value) == message
