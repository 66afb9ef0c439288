"""Read and write tables: columns, formats, files that are bad, files that appear whole."""

from __future__ import annotations

import gzip
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from sentiment.data import tables
from sentiment.data.tables import (
    ANY,
    TEXT,
    TEXT_OR_NUMBER,
    Column,
    open_table,
    read_table,
)
from sentiment.errors import ReviewDataError, ReviewReadError

# --- columns -------------------------------------------------------------------------------

REVIEWS = Column("reviews", (("review text", "text"), ("review", "body")), TEXT, "--text")


@pytest.mark.parametrize(
    ("names", "wanted", "at"),
    [
        (["id", "TEXT "], None, 1),
        (["body", "text"], None, 1),  # the better name, not the first column
        (["id", "Review_Text"], None, 1),
        (["reviewText", "review"], None, 0),
        (["body", "review"], "review", 1),
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
            "no column of reviews such as 'review text' or 'review', found 'a', 'b'; name",
        ),
        (["a", "Review"], "reviw", "no column 'reviw', found 'a', 'Review'; did you mean --text"),
        (["text", "Text"], None, "two columns have one name: 'text', 'Text'; rename one"),
        (["a", "b", "A"], " a", "two columns have one name: 'a', 'A'; rename one"),
        (["Review", "Body"], None, "two columns may hold the reviews: 'Review', 'Body'; name it w"),
        (["long" * 99, *"abcdefgh"], "no" * 99, "…', 'a', 'b', 'c', 'd' and 4 more; name it with"),
        (["\x01" * 99] * 9, "no" * 99, "…' and 4 more; name it with --text"),
    ],
)
def test_a_column_that_is_not_there_is_said_briefly(
    names: list[str], wanted: str | None, said: str
) -> None:
    table = read_table(io.BytesIO(",".join(names).encode()), "in.csv")
    with pytest.raises(ReviewDataError) as caught:
        table.find(REVIEWS, wanted)
    assert said in str(caught.value) and len(str(caught.value)) <= 300


# --- formats and files ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (
            gzip.compress(b"text\n" + bytes(range(256)) * 99, mtime=0)[:300],
            "packed file is damaged",
        ),
        (b"\x1f\x8b and nothing of use", "packed file is damaged"),
        (b"PAR1 and nothing of use", "is not a readable Parquet file"),
    ],
)
def test_a_file_that_is_no_table_is_said_in_one_line(
    tmp_path: Path, data: bytes, said: str
) -> None:
    file = tmp_path / "in.csv"
    file.write_bytes(data)
    with pytest.raises(ReviewDataError) as caught, open_table(file, "--data"):
        pass
    message = str(caught.value)
    assert said in message and message.count(str(file)) == 1 and "\n" not in message


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
    for path, error, said in (
        (tmp_path, ReviewDataError, "is a folder"),
        (tmp_path / "no.csv", ReviewDataError, "no such file; give one with --in"),
        (tmp_path / ("x" * 300), ReviewReadError, "cannot be read"),
    ):
        with pytest.raises(error, match=said), open_table(path, "--in"):
            pass
    packed = gzip.compress(b"text\n" + b"good\n" * 10**5)
    with pytest.raises(ReviewDataError, match="more than 200,000 bytes"):
        list(read_table(io.BytesIO(packed), "in.csv", most_bytes=200_000).chunks([0]))
