"""Tell what a file is, unpack it and decode it: by content, within bounds, in one line if not."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from support.review_files import PACKINGS, delimited, every_format, sheet, workbook, zipped

from sentiment.data import sources, tables
from sentiment.data.reviews import load_reviews
from sentiment.data.sources import Reading
from sentiment.data.tables import open_table, read_table
from sentiment.errors import ReviewDataError, ReviewReadError

ROWS = [
    ("Fine; cheap, neat | good", 5, "Feb 2021"),
    ("Très\nbien 👍", 4, "2021-03"),
    ("bad", 1, ""),
]


def read(data: bytes, name: str, **how: Any) -> list[tuple[Any, ...]]:
    """The rows of a table: place and cells."""
    found: list[tuple[Any, ...]] = []
    for chunk in read_table(io.BytesIO(data), name, **how).chunks():
        columns = map(tables.cells, chunk.columns)
        for at, row in enumerate(zip(*columns, strict=True)):
            found.append((chunk.place(at), *row))
    return found


def refused(data: bytes, name: str = "in.csv", **how: Any) -> str:
    with pytest.raises(ReviewDataError) as caught:
        read(data, name, **how)
    said = str(caught.value)
    assert "\n" not in said and len(said) <= 300
    return said


def load(folder: Path, data: bytes, name: str, **how: Any) -> Any:
    (folder / name).write_bytes(data)
    return load_reviews(folder / name, reading=Reading(**how))


@pytest.mark.parametrize("name", ["none", "in.csv", "in.xlsx", "in.parquet", "in.json.gz"])
def test_the_content_tells_the_format_and_not_the_name(name: str) -> None:
    expected = [(text, str(rating), month) for text, rating, month in ROWS]
    for kind, data in every_format(ROWS).items():
        if kind == "index.parquet":  # which pandas puts last
            found = [(row[3], str(row[1]), row[2]) for row in read(data, name)]
            assert found == expected
        elif name != "in.json.gz" or kind.startswith(("lines", "array", "renamed")):
            assert [row[1:] for row in read(data, name)] == expected, kind


def test_what_was_found_is_said(tmp_path: Path) -> None:
    files = every_format(ROWS)
    said = {name: load(tmp_path, data, name).read_as for name, data in files.items()}
    assert {name for name, text in said.items() if "texts from 'review', ratings" in text} == set(
        files
    )
    assert "parted by semicolons" in said["semicolon.csv"] and "tabs" in said["tab.txt"]
    assert "pipes" in said["pipe.tsv"] and "in utf-16" in said["utf-16.csv"]
    assert said["comma.csv"] == said["utf-8-sig.csv"] == said["lines.jsonl"]
    assert "parted" not in load(tmp_path, delimited(ROWS, "\t"), "in.tsv").dropped()
    assert "(texts from 'review', ratings" in load(tmp_path, files["array.json"], "a").dropped()


# --- delimiter and encoding ------------------------------------------------------------------


def test_a_delimiter_that_is_given_is_taken() -> None:
    data = b"a,b;c,d\n1,2;3,4\n"
    assert read(data, "in.csv") == [("line 2", "1", "2;3", "4")]
    assert read(data, "in.csv", reading=Reading(";")) == [("line 2", "1,2", "3,4")]
    assert read(b"a^b\n1^2\n", "in.csv", reading=Reading("^")) == [("line 2", "1", "2")]
    for tab in ("tab", "TAB", "\\t", "\t"):
        assert read(b"a;b\tc\n1;2\t3\n", "in.csv", reading=Reading(tab))[0][1] == "1;2"
    for wrong in ("", ",,", '"', "\n", "a", "é"):
        with pytest.raises(ReviewDataError, match="is not a delimiter; expected one character"):
            Reading(wrong)
    # a text that looks like JSON
    assert read(b'{"a";b}\n1;2\n', "in", reading=Reading(";")) == [("line 2", "1", "2")]


def test_an_encoding_is_told_by_its_bom_or_given(tmp_path: Path) -> None:
    for encoding in ("cp1252", "latin-1", "utf-16-le", "cp1251", "shift_jis", "UTF-8", "gb18030"):
        text = {"cp1251": "Хорошо", "shift_jis": "良い", "gb18030": "很好"}.get(encoding, "café")
        data = delimited([(text * 3_000, 5, ""), (text, 1, "")] * 20, ";", encoding)
        loaded = load(tmp_path, data, "in.csv", encoding=encoding)
        assert loaded.frame["text"].tolist() == [text * 3_000, text], encoding
        assert ("in " in loaded.read_as) == (encoding != "UTF-8")
    rows = [("café", 5, "")]
    assert "line 2: byte 0xe9 is not UTF-8" in refused(delimited(rows, ",", "cp1252"))
    assert "--encoding" in refused(delimited(rows, ",", "cp1252"))
    assert "line 2: byte 0x81 is not cp1252" in refused(
        b"review,rating\n\x81,5\n", reading=Reading(encoding="cp1252")
    )
    assert "utf-16" in refused("review,rating\nfine,5".encode("utf-16")[:-1])
    objects = '{"review": "fine"}\n{"review": "café"}'.encode("latin-1")
    assert "line 2: byte 0xe9 is not UTF-8" in refused(objects)
    assert read(objects, "in", reading=Reading(encoding="latin-1"))[1] == ("line 2", "café")
    for wrong in ("utf-9", "base64", "", "a\0b", "rot13"):
        with pytest.raises(ReviewDataError, match="is not an encoding that Python knows"):
            Reading(encoding=wrong)


# --- packed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", list(PACKINGS))
def test_what_unpacks_is_bounded_and_damage_is_said(ending: str) -> None:
    plain = b"review,rating\n" + b"fine,5\n" * 30_000
    data = PACKINGS[ending](plain)
    if ending:
        said = refused(data, reading=Reading(max_bytes=100_000))
        assert "holds more than 100,000 bytes unpacked; allow more with --max-bytes" in said
        assert "damaged" in refused(data[: len(data) - 9])
    assert len(read(data, "x", reading=Reading(max_bytes=len(plain)))) == 30_000
    # of a stranger's file it is the file itself, too
    assert "holds more than 100,000 bytes" in refused(data, most_bytes=100_000)
    assert len(read(data, "x", most_bytes=len(plain))) == 30_000


def test_an_archive_has_one_file() -> None:
    plain = b"review,rating\nfine,5\n"
    mac = {"folder/": b"", "folder/in.tsv": plain, "__MACOSX/folder/._in.tsv": b"\0"}
    assert read(zipped(mac), "in.zip") == [("line 2", "fine", "5")]
    assert "of 2 files, expected one" in refused(zipped({"a.csv": plain, "b.csv": plain}))
    assert "another packed file" in refused(gzip.compress(gzip.compress(plain)))
    assert "another packed file" in refused(zipped({"in.xlsx": workbook(ROWS)}))


def test_a_pipe_cannot_be_read_twice() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with pytest.raises(ReviewReadError, match="save it as a file"):
        read_table(Pipe(b"review\n"), "in")


# --- JSON ------------------------------------------------------------------------------------


def test_lines_of_json_that_cannot_be_read_are_named_and_cells_are_as_in_a_csv() -> None:
    lines = [
        '{"review": "good", "rating": 5.0, "ok": true}',
        "",
        '{"review": "torn',
        '"password"',
        '{"rating": 4, "later": null, "review": "bad"}\r',
        "[1]",
        '{"review": "\\u0000x", "rating": "3"}',
    ]
    table = read_table(io.BytesIO("\ufeff".encode() + "\n".join(lines).encode()), "in.csv")
    assert table.names == ["review", "rating", "ok", "later"]
    (chunk,) = table.chunks()
    assert chunk.columns[0] == ["good", "", "", "bad", "", "\0x"]
    assert chunk.columns[1:3] == [["5", "", "", "4", "", "3"], ["True", *[""] * 5]]
    assert [chunk.place(at) for at in (0, 3, 5)] == ["line 1", "line 5", "line 7"]
    assert sorted(chunk.problems) == [1, 2, 4] and "password" not in str(chunk.problems)


def test_an_array_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b'[\n {"text": "a", "stars": 1},\n 7,\n {"stars": 2, "text": null}\n]'
    table = read_table(io.BytesIO(data), "in")
    (chunk,) = table.chunks([0])
    assert (chunk.columns, chunk.problems) == ([["a", "", ""]], {1: "is no object"})
    assert chunk.place(2) == "row 3"
    assert "damaged" in refused(data[:-1]) and "quarter of --max-bytes" in refused(
        data, reading=Reading(max_bytes=100)
    )
    column = tables.Column("reviews", (("text",),), tables.TEXT, "--text-column")
    for nested in (b'[{"text": "a"}, {"text": ["b"]}]', b'{"text": {"a": 1}}'):
        with pytest.raises(ReviewDataError, match=r"'text' holds an? (list|object), expected text"):
            read_table(io.BytesIO(nested), "in").find(column, None)
    monkeypatch.setattr(tables, "LONGEST_LINE", 50)
    assert "line 2 is longer than 50 bytes" in refused(b'{"a": 1}\n{"a": "%s"}' % (b"x" * 99))


# --- Excel -----------------------------------------------------------------------------------


def test_a_workbook_is_read_from_its_first_visible_sheet_that_has_rows(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    hidden = book.active
    assert hidden is not None
    hidden.append(["review", "rating"])
    hidden.sheet_state = "hidden"
    book.create_sheet("Empty")
    shown = book.create_sheet("Reviews")
    for row in ([], ["review", None, "rating"], ["good", 7, 5], [], ["bad", None, 1.0, "more"]):
        shown.append(row)
    shown.append([10, None, "=1+1"])
    out = io.BytesIO()
    book.save(out)
    table = read_table(io.BytesIO(out.getvalue()), "in.csv")
    assert (table.names, table.found) == (["review", "", "rating"], ["sheet 'Reviews' of 2"])
    (chunk,) = table.chunks()
    assert chunk.columns == [["good", "bad", "10"], ["7", "", ""], ["5", "1", ""]]
    assert [chunk.place(at) for at in range(3)] == ["row 3", "row 5", "row 6"]  # as Excel shows
    assert chunk.problems == {1: "a cell beyond the 3 of the header"}


def test_a_workbook_is_bounded(tmp_path: Path) -> None:
    rows = b"".join(b'<row><c t="inlineStr"><is><t>review</t></is></c></row>' for _ in range(9_000))
    data = sheet(rows)
    assert len(data) < 9_000 < len(rows)
    assert len(read(data, "in")) == 8_999
    assert "holds more than 250,000 bytes" in refused(data, reading=Reading(max_bytes=10**6))
    assert "holds more than 250,000 bytes" in refused(data, most_bytes=10**6)
    header = b"".join(b'<c r="%s1"><v>1</v></c>' % name for name in (b"A", b"ALM"))  # 1 and 1,001
    assert "more than 1,000 columns" in refused(sheet(b'<row r="1">%s</row>' % header))
    # what a size says that is smaller than what is there
    lied = bytearray(data)
    entry = zipfile.ZipFile(io.BytesIO(data)).getinfo("xl/worksheets/sheet1.xml")
    size = entry.file_size.to_bytes(4, "little")
    while size in lied:
        at = lied.index(size)
        lied[at : at + 4] = (500).to_bytes(4, "little")
    assert "not a readable Excel workbook" in refused(bytes(lied))


def test_parquet_is_bounded_by_what_it_unpacks_to(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": ["the same"] * 100_000}), tmp_path / "in.parquet")
    assert (tmp_path / "in.parquet").stat().st_size < 10_000
    with (
        open_table(tmp_path / "in.parquet", "--data", Reading(max_bytes=500_000)) as table,
        pytest.raises(ReviewDataError, match="holds more than 500,000 bytes unpacked"),
    ):
        list(table.chunks())
    assert sources.MAX_BYTES == 2**30  # as the README and --help say
