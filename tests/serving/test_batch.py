"""Batch scoring: every format in and out, rows that cannot be read, files that appear whole."""

from __future__ import annotations

import csv
import gzip
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pyarrow as pa
import pytest
from conftest import PROJECT
from pyarrow import parquet
from support import REGISTERED_MODEL
from support.serving import BAD_TEXT, GOOD_TEXT, UNKNOWN_TEXT, served_probabilities, shared_store

from sentiment.console import Terminal
from sentiment.data import records, tables
from sentiment.data.tables import open_table
from sentiment.data.targets import PART
from sentiment.errors import ReviewDataError, ServingError
from sentiment.serving import batch as batch_scoring
from sentiment.serving.batch import ADDED, Summary, score_file
from sentiment.tracking.store import Store, use_uri

pytestmark = pytest.mark.xdist_group("serving")
TEXTS = [GOOD_TEXT, BAD_TEXT, UNKNOWN_TEXT, 'Not good,\nbut "cheap"\tand neat 👍', "GOOD", "poor"]
NAMES = [name for name, _ in ADDED]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return shared_store(tmp_path_factory)


@pytest.fixture(scope="module")
def expected(store: Store) -> dict[str, float]:
    """Text → probability, by MLflow's own way of loading the version in production."""
    use_uri(store.uri)
    model = mlflow.pyfunc.load_model(f"models:/{REGISTERED_MODEL}@champion").get_raw_model()
    return dict(zip(TEXTS, served_probabilities(model, TEXTS), strict=True))


def score(store: Store, source: Path, target: Path, **options: Any) -> Summary:
    return score_file(store, source, target, terminal=Terminal(quiet=True), **options)


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def write_table(file: Path, frame: pd.DataFrame) -> Path:
    if file.suffix == ".parquet":
        frame.to_parquet(file)
    else:
        frame.to_csv(file, sep="\t" if ".tsv" in file.name else ",", index=False)
    return file


def read_table(file: Path) -> list[dict[str, Any]]:
    """The rows as they stand in the file: text only in CSV and TSV."""
    if file.suffix == ".parquet":
        return list(parquet.read_table(file).to_pylist())
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    lines = data.decode().splitlines(keepends=True)
    delimiter = "\t" if ".tsv" in file.name else ","
    return list(csv.DictReader(lines, delimiter=delimiter, strict=True))


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob(f".*{PART}"))


# --- formats and scores --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "out"),
    [("csv", "parquet"), ("tsv.gz", "csv"), ("parquet", "parquet"), ("parquet", "tsv.gz")],
)
def test_every_format_gives_the_same_bits_as_mlflow(
    store: Store, tmp_path: Path, expected: dict[str, float], kind: str, out: str
) -> None:
    frame = pd.DataFrame({"id": range(len(TEXTS)), "Review text": TEXTS, "stars": [5.5] * 6})
    source = write_table(tmp_path / f"reviews.{kind}", frame)
    summary = score(store, source, tmp_path / f"scored.{out}")
    rows = read_table(tmp_path / f"scored.{out}")
    assert [row["Review text"] for row in rows] == TEXTS
    assert [float(row["probability"]) for row in rows] == list(expected.values())
    assert list(rows[0]) == ["id", "Review text", "stars", *NAMES]
    typed = kind == "parquet" and out == "parquet"
    assert [row["id"] for row in rows] == [at if typed else str(at) for at in range(len(TEXTS))]
    assert {row["stars"] for row in rows} == {5.5 if typed else "5.5"}
    assert {row["version"] for row in rows} == {"1"} == {summary.version}
    assert summary.rows == 6 and summary.unreadable.count == 0
    assert leftovers(tmp_path) == []


def test_what_is_added_says_what_the_version_said(store: Store, tmp_path: Path) -> None:
    """Labels by the version's own pipeline; known words counted by hand in the made-up reviews."""
    said = "\n".join(
        ["text,said", *(f"good,{text}" for text in (BAD_TEXT, UNKNOWN_TEXT)), "good,great price"]
    )
    source = write(tmp_path / "in.csv", said)
    score(store, source, tmp_path / "out.parquet", version="3", text_column="said")
    rows = read_table(tmp_path / "out.parquet")
    assert [row["label"] for row in rows] == ["negative", None, "positive"]
    assert [row["known_words"] for row in rows] == [4, 0, 2]  # broken cork late delivery
    assert [row["reason"] for row in rows] == [None, "no known words", None]
    assert {row["version"] for row in rows} == {"3"}
    use_uri(store.uri)
    pipeline = mlflow.pyfunc.load_model(f"models:/{REGISTERED_MODEL}/3").get_raw_model()
    assert pipeline.predict([BAD_TEXT, "great price"]).tolist() == [0, 1]
    assert rows[1]["probability"] == pipeline.named_steps["model"].prior_


def test_portions_keep_rows_and_order(
    store: Store, tmp_path: Path, expected: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ROWS", 4)
    monkeypatch.setattr(records, "BLOCK", 64)
    frame = pd.DataFrame({"text": [*TEXTS, None, *reversed(TEXTS)]})  # 13 rows: 4, 4, 4 and 1
    wanted = [expected.get(text) for text in frame["text"]]
    for kind in ("csv", "parquet"):
        # the empty cell of a column alone is written as "", or it would be a blank line
        source = write_table(tmp_path / f"in.{kind}", frame)
        summary = score(store, source, tmp_path / f"{kind}.parquet")
        assert [row["probability"] for row in read_table(tmp_path / f"{kind}.parquet")] == wanted
        assert (summary.rows, summary.unreadable.count) == (13, 1)


def test_types_and_missing_cells_of_parquet_stay(store: Store, tmp_path: Path) -> None:
    table = pa.table(
        {
            "review": pa.array([GOOD_TEXT, None, "  "]).dictionary_encode(),
            "when": pa.array([1, None, 3], pa.timestamp("us", "UTC")),
            "tags": pa.array([["a"], [], None], pa.list_(pa.string())),
        }
    )
    parquet.write_table(table, tmp_path / "in.parquet")
    score(store, tmp_path / "in.parquet", tmp_path / "out.parquet")
    out = parquet.read_table(tmp_path / "out.parquet")
    assert out.select(table.column_names).equals(table)
    assert out["reason"].to_pylist() == [None, "no text", "no text"]
    assert out["probability"].to_pylist()[1:] == [None, None]
    assert [str(out.schema.field(name).type) for name in NAMES] == [kind for _, kind in ADDED]


def test_the_same_file_twice_gives_the_same_bytes(store: Store, tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", "text\ngood\nbad\n")
    for kind in ("csv.gz", "parquet"):
        files = [tmp_path / f"{number}.{kind}" for number in (1, 2)]
        for file in files:
            score(store, source, file)
        assert files[0].read_bytes() == files[1].read_bytes()


def test_texts_are_quoted_for_spreadsheets_that_separate_otherwise(
    store: Store, tmp_path: Path
) -> None:
    text = "good;=HYPERLINK(1)|=1"
    source, out = write(tmp_path / "in.csv", f"text,n\n{text},\n"), tmp_path / "out.csv"
    score_file(store, source, out, terminal=Terminal(quiet=True))
    assert f'\n"{text}","","' in out.read_text()
    with open_table(out, option="--in") as table:
        (chunk,) = table.chunks([0, 1])
    assert [list(column) for column in chunk.columns] == [[text], [""]]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_cell_with_a_carriage_return_stays_one_cell(
    store: Store, tmp_path: Path, ending: str
) -> None:
    frame = pd.DataFrame({"text": ["good\rbox", "bad\nbox"], "id": ["a\r", "b\r\nc"]})
    source = write_table(tmp_path / "in.parquet", frame)
    score_file(store, source, tmp_path / f"out.{ending}", terminal=Terminal(quiet=True))
    delimiter = "\t" if ending == "tsv" else ","
    with (tmp_path / f"out.{ending}").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter=delimiter, strict=True))
    assert [(row["text"], row["id"]) for row in rows] == list(frame.itertuples(index=False))


def test_a_file_with_a_header_alone_has_no_rows(store: Store, tmp_path: Path) -> None:
    assert score(store, write(tmp_path / "in.csv", "id,text\n"), tmp_path / "out.csv").rows == 0
    names = (tmp_path / "out.csv").read_text().replace('"', "")
    assert names == f"id,text,{','.join(NAMES)}\n"


# --- rows that cannot be read --------------------------------------------------------------


def test_rows_that_cannot_be_read_are_kept_and_said(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(
        b'id,text,stars\n1,great price,5\n2,,5\n3,good\n4,good, but late,5\n5,"good,5\n7,broken,1\n'
    )
    summary = score_file(store, source, tmp_path / "out.csv", terminal=Terminal())
    rows = read_table(tmp_path / "out.csv")
    assert [row["reason"] for row in rows] == [
        "",
        "no text",
        "2 fields, expected 3",
        "4 fields, expected 3",
        "a quote is not closed or not doubled",
        "",
    ]
    assert [row["label"] for row in rows] == ["positive", "", "", "", "", "negative"]
    assert {rows[at][name] for at in range(1, 5) for name in ("probability", "known_words")} == {""}
    # nothing of them is lost
    assert [(row["id"], row["text"], row["stars"]) for row in rows[2:5]] == [
        ("3", "good", ""),
        ("4", "good", " but late,5"),
        ("5", '"good', "5"),
    ]
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3
    assert said[0].startswith(
        "4 rows could not be read and are kept without a score: line 3: no text; line 4: 2 fields, "
    )
    assert said[0].endswith("line 6: a quote is not closed or not doubled")
    assert said[1] == "in.csv: texts from 'text'"
    assert re.search(r"6 rows scored by version 1 in \S+ s: 1 positive, 1 negative, 0 w", said[2])
    assert said[2].endswith("4 could not be read")
    assert (summary.rows, summary.unreadable.count) == (6, 4)


# --- files that cannot be used -------------------------------------------------------------


def message(store: Store, source: Path, target: Path, **options: Any) -> str:
    """The one line of the error; the folder is as it was before."""
    before = sorted(target.parent.glob("*")) if target.parent.is_dir() else []
    with pytest.raises(ReviewDataError) as caught:
        score(store, source, target, **options)
    assert (sorted(target.parent.glob("*")) if target.parent.is_dir() else []) == before
    text = str(caught.value)
    assert "\n" not in text
    return text.replace(f"{source.parent}{os.sep}", "")


def test_files_that_cannot_be_used_are_said_in_one_line(store: Store, tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", "text,text2,text2\ngood,1,2\n")
    out = tmp_path / "out.csv"
    assert message(store, tmp_path / "no.csv", out) == "no.csv: no such file; give one with --in"
    assert message(store, source, source) == "in.csv: is the input; name another file with --out"
    link = tmp_path / "link.csv"
    link.symlink_to(source)
    assert "is the input" in message(store, source, link)
    assert "must end in one of" in message(store, source, tmp_path / "out.xlsx")
    assert "no such folder; create it" in message(store, source, tmp_path / "no" / "out.csv")
    assert "two columns are named 'text2'" in message(store, source, tmp_path / "out.parquet")
    assert "did you mean --text-column 'text'?" in message(store, source, out, text_column="txt")
    (tmp_path / "folder.csv").mkdir()
    assert "is a folder" in message(store, source, tmp_path / "folder.csv")
    assert "is a folder" in message(store, tmp_path / "folder.csv", out)
    torn = tmp_path / "torn.csv.gz"
    torn.write_bytes(gzip.compress(b"text\n" + os.urandom(9000))[:5000])
    assert "torn.csv.gz: the packed file is damaged" in message(store, torn, out)
    stray = tmp_path / "stray.csv"
    stray.write_bytes(b"text\ngood\n" * 9 + b"caf\xe9\n")
    assert "line 19: byte 0xe9 is not UTF-8; name its enc" in message(store, stray, out)
    numbers = tmp_path / "numbers.parquet"
    parquet.write_table(pa.table({"text": [1, 2]}), numbers)
    assert "column 'text' holds int64, expected text; name it" in message(store, numbers, out)
    taken = write(tmp_path / "taken.csv", "text,label\ngood,1\n")
    assert "has a column 'label' already; rename" in message(store, taken, out)
    with pytest.raises(ServingError, match="no version '9'"):
        score(store, source, out, version="9")
    assert not out.exists() and leftovers(tmp_path) == []


# --- whole or not at all -------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_fails_half_way_leaves_the_older_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    monkeypatch.setattr(records, "BLOCK", 9)
    source = write(tmp_path / "in.csv", "text\ngood\nbad\npoor\n")
    real, calls = batch_scoring._answers, []

    def fail_at_the_second(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise error
        return real(*arguments)

    monkeypatch.setattr(batch_scoring, "_answers", fail_at_the_second)
    for kind in ("csv", "csv.gz", "parquet"):
        calls.clear()
        target = write(tmp_path / f"out.{kind}", "the older one")
        with pytest.raises((KeyboardInterrupt, ReviewDataError)) as caught:
            score(store, source, target)
        if error is not KeyboardInterrupt:
            assert str(caught.value) == f"{target}: cannot be written: No space left on device"
        assert len(calls) == 2 and target.read_text() == "the older one"
        assert leftovers(tmp_path) == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(store: Store, tmp_path: Path) -> None:
    """Seven times the rows, 48 MB more of file: at most 25 MB more of memory."""
    status = Path("/proc/self/status")  # ru_maxrss would count this process, as it was forked from
    if not status.exists():
        pytest.skip("needs /proc to measure a process")
    code = (
        "import sys; from pathlib import Path; from sentiment.data import records\n"
        "from sentiment.serving.batch import score_file; from sentiment.console import Terminal\n"
        "from sentiment.tracking.store import open_store\n"
        "records.BLOCK, quiet, store = 2**18, Terminal(quiet=True), open_store(Path(sys.argv[1]))\n"
        "for source in map(Path, sys.argv[2:]):\n"
        "    score_file(store, source, source.with_suffix('.parquet'), terminal=quiet)\n"
        f"    print(Path({str(status)!r}).read_text().split('VmHWM:')[1].split()[0])\n"  # KiB
    )
    sources = [
        write(tmp_path / f"{rows}.csv", "text,other\n" + f"good,{'x' * 2_000}\n" * rows)
        for rows in (4_000, 28_000)
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, store.folder, *sources],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    peaks = [int(line) // 1024 for line in done.stdout.split()]
    assert peaks[1] - peaks[0] < 25, peaks
    assert parquet.read_metadata(tmp_path / "28000.parquet").num_rows == 28_000


def test_formulas_are_escaped_in_csv_unless_asked_otherwise(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "in.csv", 'text,=note\n"\n=good()",-1.5\ngood,@x\n')
    for out, escape in (("csv", True), ("csv", False), ("tsv", True), ("parquet", True)):
        target = tmp_path / f"out.{out}"
        score_file(store, source, target, escape_formulas=escape, terminal=Terminal())
        said = "3 cells begin as a formula does" in capsys.readouterr().out
        assert said == (escape and out != "parquet")
        mark = "'" if said else ""
        rows = read_table(target)
        assert [row["text"] for row in rows] == [f"{mark}\n=good()", "good"]
        assert [row[f"{mark}=note"] for row in rows] == ["-1.5", f"{mark}@x"]
