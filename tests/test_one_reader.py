"""One reader: training, scoring, the page, drift and replay see the same rows of any file."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.review_files import Row, damaged, delimited, every_format, made_to_hurt
from werkzeug.datastructures import FileStorage

import sentiment_mlflow_optuna as script
from sentiment.__main__ import main
from sentiment.console import Terminal
from sentiment.data.labels import GUIDES
from sentiment.data.reviews import load_reviews
from sentiment.drift import window as drift_window
from sentiment.drift.window import FileWindow, window_of_file
from sentiment.errors import ReviewDataError
from sentiment.flows.replay import read_months
from sentiment.serving import batch
from sentiment.serving.page import _rows_of_file
from sentiment.serving.schemas import RequestError

Read = list[str | None]  # the texts, or None where there is none to read
VERSION: Any = SimpleNamespace(version="1", pipeline=None, rule=GUIDES)


def by_scoring(file: Path) -> Read:
    """What `score` gives to the model, in the order of the rows it writes."""
    given: list[str] = []

    def predict(texts: Sequence[str], explain: bool) -> list[Any]:
        given.extend(texts)
        return [SimpleNamespace(label=1, probability=1, known_words=1, reason=None)] * len(texts)

    version = SimpleNamespace(version="1", predict=predict)
    out = file.with_name("out.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "load_version", lambda *_: version)
        batch.score_file(VERSION, file, out, terminal=Terminal(quiet=True))
    texts = iter(given)
    return [next(texts) if scored else None for scored in pd.read_parquet(out)["label"].notna()]


def by_page(file: Path) -> Read:
    checks: Any = SimpleNamespace(limits=SimpleNamespace(max_body=2**20))
    uploaded = FileStorage(io.BytesIO(file.read_bytes()), file.name)
    return [None if problem else text for text, problem in _rows_of_file(uploaded, "", checks, [])]


def by_training(file: Path) -> Counter[tuple[str, int]]:
    frame = load_reviews(file).frame
    counted: Counter[tuple[str, int]] = Counter()
    for text, rating, copies in zip(frame["text"], frame["rating"], frame["copies"], strict=True):
        counted[text, rating] = copies
    return counted


def by_drift(file: Path) -> tuple[Counter[str], int]:
    """The texts, and how many have a true label."""
    texts: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drift_window, "row_features", lambda given, _: texts.extend(given))
        window = window_of_file(FileWindow(file), VERSION)
    return Counter(texts), int((window.true >= 0).sum())


def by_replay(file: Path) -> Counter[tuple[str, int]]:
    frame, _, _ = read_months(FileWindow(file), "Month")
    return Counter(zip(frame["text"], frame["rating"], strict=True))


# Neither digits nor a closing quote before a line end: what a stray quote makes is tested elsewhere
LETTERS = st.characters(exclude_categories=["Cs", "Cc", "Cn", "Nd", "Zl", "Zp"])
TEXTS = st.one_of(
    st.none(),
    st.text(st.one_of(LETTERS, st.sampled_from("\n,;\"' |=\t@é👍")), max_size=25),
    st.sampled_from(
        ["NA", "null", "=1+1", "READ MORE", "'", '"', "[", "{", "  fine  ", "\ufefffine"]
    ),
)
ROWS = st.lists(st.tuples(TEXTS, st.sampled_from([None, 1, 5])), max_size=5)
ALWAYS: list[Row] = [(f"good box {word}", at, "Feb 2021") for at, word in enumerate("abcde", 1)]


@settings(
    max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(ROWS)
def test_any_table_in_any_format_is_the_same_rows_for_every_reader(
    tmp_path: Path, some: list[tuple[str | None, int | None]]
) -> None:
    rows: list[Row] = [*((text, rating, "Feb 2021") for text, rating in some), *ALWAYS]
    texts = [" ".join([text or ""]).strip() or None for text, _, _ in rows]
    texts = [None if text == "READ MORE" else text for text in texts]
    rated = Counter(
        (text, row[1]) for text, row in zip(texts, rows, strict=True) if text and row[1]
    )
    for name, data in every_format(rows).items():
        file = tmp_path / name
        file.write_bytes(data)
        assert by_training(file) == by_replay(file) == rated, name
        assert by_scoring(file) == texts, name
        seen, labelled = by_drift(file)
        assert seen == Counter(filter(None, texts)) and labelled == rated.total(), name
        if not name.endswith(".parquet"):
            assert by_page(file) == texts, name


CASES = {
    "blank lines first": b"\n\r\n\n" + delimited(ALWAYS, ","),
    "NUL": delimited([("good\0 box", 5, "Feb 2021"), ("\0", 5, "")], ",") + b"bad\0,1,Feb 2021\r\n",
    "an empty rating": delimited([("good box", None, "Feb 2021"), *ALWAYS], ","),
    "a quote that never closes": b"review,rating,Month\nfine,5,2021-01\n"
    b'"open,4,2021-01\nbad,1,2021-01\n',
    "two stray quotes": delimited(ALWAYS * 4, ",").replace(b"good box c", b'"good box c', 1)
    + b'shut",4,2021-01\r\ngood,5,2021-01\r\n',
    "a column twice, not one of reviews": b"a,review,a,rating,Month\n1,good,2,5,2021-01\n",
}


@pytest.mark.parametrize("name", list(CASES))
def test_what_readers_disagreed_on_is_one_answer(tmp_path: Path, name: str) -> None:
    file = tmp_path / "in.csv"
    file.write_bytes(CASES[name])
    loaded = load_reviews(file)
    if "twice" in name:  # which Parquet cannot hold
        assert by_page(file) == ["good"]
        return
    read = by_scoring(file)
    assert read == by_page(file)
    assert len(read) == loaded.rows_read and by_training(file) == by_replay(file)
    assert by_drift(file)[0] == Counter(filter(None, read))
    assert loaded.unreadable == ("quote" in name)
    if name == "two stray quotes":
        assert len(read) == 22 and loaded.first_unreadable.startswith("line 4: a quote")


def test_a_name_that_two_columns_have_is_refused_by_every_reader(tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_bytes(b"review,Review,rating,Month\ngood,fine,5,2021-01\n")
    readers: list[Callable[[Path], object]] = [by_training, by_replay, by_scoring, by_drift]
    for reader in readers:
        with pytest.raises(ReviewDataError, match="two columns have one name: 'review', 'Review'"):
            reader(file)
    with pytest.raises(RequestError, match="two columns have one name"):
        by_page(file)


# --- bad files -------------------------------------------------------------------------------


class _Unused:
    """A worker that nothing asks for anything."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"a bad file got as far as the worker: {name}")


@cache
def bad_files() -> list[tuple[str, bytes, bool]]:
    """Name and content of 300 files and more, and whether none of them can be used."""
    hurting = [(name, data, True) for name, data in made_to_hurt().items()]
    return [*hurting, *((*file, False) for file in damaged(ALWAYS * 9, 264, seed=11))]


@pytest.mark.parametrize("part", range(4))
def test_bad_files_are_one_line_and_leave_no_store(
    tmp_path: Path,
    part: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Through the experiment; a file that can be read after all is stopped after it."""

    def usable(*_: object, **__: object) -> NoReturn:
        raise ReviewDataError("can be used")

    monkeypatch.setattr(script, "prepare_reviews", usable)
    monkeypatch.chdir(tmp_path)
    worker: Any = _Unused()
    for name, data, is_useless in bad_files()[part::4]:
        Path(name).write_bytes(data)
        code = script.main(["--data", name, "--store", "store"], worker)
        said = capsys.readouterr()
        assert (code, said.out, said.err.count("\n")) == (2, f"reading {name} …\n", 1), name
        line = said.err.replace(f"{tmp_path}/", "")
        assert len(line) <= 300 and line[:-1].isprintable() and "Mary" not in line, name
        assert not Path("store").exists(), name
        if is_useless:
            assert "can be used" not in line, name


def test_reviews_of_one_class_or_without_months_leave_no_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, store = tmp_path / "in.csv", tmp_path / "store"
    file.write_bytes(delimited([(f"good {at}", 5, "") for at in range(40)], ";"))
    worker: Any = _Unused()
    assert script.main(["--data", str(file), "--store", str(store)], worker) == 2
    assert "0 negative reviews left" in capsys.readouterr().err
    assert main(["replay", "--data", str(file), "--month-column", "no", "--store", str(store)]) == 2
    assert "no column 'no'" in capsys.readouterr().err and not store.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["far.xlsx", "deep.json", "quotes.csv"])
def test_a_bad_file_ends_a_real_process_in_one_line(
    tmp_path: Path, name: str, run_script: Callable[..., Any]
) -> None:
    (tmp_path / name).write_bytes(made_to_hurt()[name])
    done = run_script("sentiment_mlflow_optuna.py", "--data", name, "--store", "store")
    steps = f"loading libraries …\nreading {name} …\n"
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, steps, 1)
    assert not (tmp_path / "store").exists()
