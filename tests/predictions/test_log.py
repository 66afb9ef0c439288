"""Prediction log: rows and feedback, and what may happen to a database."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from filelock import FileLock
from support.prediction_logs import (
    KINDS,
    ROW,
    child,
    connected,
    cut_connections,
    execute,
    held,
    read,
    requests,
    rows,
)

from sentiment.errors import PredictionLogError
from sentiment.predictions import database
from sentiment.predictions import log as prediction_log
from sentiment.predictions.log import (
    LABELLED,
    LoggedComparison,
    PredictionLog,
    open_log,
    running_comparison,
)

# --- rows -----------------------------------------------------------------------------------


def test_a_row_is_read_back_as_it_was_written(log: PredictionLog) -> None:
    one: Any = np.int64(1)
    other = replace(ROW, position=one, label=None, text=None, at=np.float64(ROW.at), experiment="")
    log.write([ROW, other])
    frames = list(log.read(chunk=1))
    for frame, row in zip(frames, (ROW, other), strict=True):
        expected = {**asdict(row), "true_label": None}
        assert list(frame.columns) == list(expected)
        found = {str(name): value for name, value in frame.iloc[0].items()}
        assert {name: None if pd.isna(found[name]) else found[name] for name in found} == expected
    # types do not depend on the rows
    types = {str(name): str(dtype) for name, dtype in frames[0].dtypes.items()}
    assert types == {str(name): str(dtype) for name, dtype in frames[1].dtypes.items()}
    assert {types[name] for name in ("position", "characters", "words")} == {"int64"}
    assert {types[name] for name in ("at", "probability", "milliseconds")} == {"float64"}
    assert types["label"] == types["true_label"] == "Int64" and types["text"] == "str"


def test_a_row_that_is_there_already_is_passed_over(log: PredictionLog) -> None:
    log.write([ROW])
    shadow = replace(ROW, arm="shadow", probability=0.9)
    log.write([replace(ROW, probability=0.7), shadow, shadow])
    frame = read(log)
    assert sorted(zip(frame.arm, frame.probability, strict=True)) == [
        ("champion", ROW.probability),
        ("shadow", 0.9),
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"probability": float("nan")}, "probability: expected a finite number, found nan"),
        ({"words": 2**31}, "words: expected a whole number of at most 2147483647"),
        ({"characters": "many"}, "characters: invalid literal"),
        ({"version": None}, "(?i)not.null constraint.*version|version.*not.null constraint"),
    ],
)
def test_rows_are_written_all_or_none(log: PredictionLog, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        log.write([ROW, replace(ROW, position=1, **wrong)])
    assert "not good" not in str(caught.value) and "\n" not in str(caught.value)
    assert log.counts() == {"predictions": 0, "feedback": 0}
    log.write([])


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("बहुत अच्छा 🏸👍🏽", "बहुत अच्छा 🏸👍🏽"),
        ("nul\0byte", "nul�byte"),
        ("\ud83d half \udfff é", "� half � é"),
        (
            "'); DROP TABLE sentiment_predictions; --\\",
            "'); DROP TABLE sentiment_predictions; --\\",
        ),
        ("long " * 50_000, "long " * 50_000),
    ],
    ids=["unicode", "null", "surrogates", "quotes", "long"],
)
def test_any_text_is_stored(log: PredictionLog, text: str, stored: str) -> None:
    log.write([replace(ROW, text=text, request_id=f"id{text[:50]}", experiment=text[:50])])
    frame = read(log, experiment=text[:50])
    assert frame.text.tolist() == [stored] and frame.request_id.tolist() == [f"id{stored[:50]}"]
    assert log.add_feedback(f"id{text[:50]}", 0, 1, None, 1.0)


# --- reading --------------------------------------------------------------------------------


def test_only_the_rows_that_fit_are_read(log: PredictionLog) -> None:
    a, b, c, d, e = (replace(ROW, request_id=name, at=float(at)) for at, name in enumerate("abcde"))
    log.write([a, replace(b, version="4", arm="challenger"), replace(c, arm="shadow")])
    log.write([replace(d, experiment=""), replace(e, version="4")])
    assert requests(log) == "abcde"
    assert requests(log, since=1) == "bcde" and requests(log, until=3) == "abc"
    assert requests(log, since=1, until=3) == "bc" and requests(log, since=9) == ""
    assert requests(log, version="4") == "be" and requests(log, version="5") == ""
    assert requests(log, experiment="3-vs-4") == "abce" and requests(log, experiment="") == "d"
    assert requests(log, arms=["champion", "challenger"]) == "abde"
    assert requests(log, arms=[]) == ""
    log.write([replace(ROW, request_id="p", at=9.0, source="page")])
    assert requests(log, sources=["api"]) == "abcde" and requests(log, sources=["page"]) == "p"
    assert requests(log, sources=["api", "page"], since=3) == "dep"
    assert requests(log, sources=["api", LABELLED]) == "abcde"
    assert requests(log, sources=[LABELLED]) == ""
    assert log.add_feedback("p", 0, 1, None, 9.0)
    assert requests(log, sources=["api", LABELLED]) == "abcdep"
    assert requests(log, sources=[LABELLED]) == "p"
    assert requests(log, version="3", arms=["champion"], since=0.5, experiment="") == "d"
    assert list(log.read(version="5")) == []


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_rows_come_oldest_first_whatever_the_size_of_a_frame(
    log: PredictionLog, chunk: int
) -> None:
    for request, at in zip("gcdefab", (9, 5, 5, 5, 5, 1, 1), strict=True):  # equal times in a row
        log.write([replace(ROW, request_id=request, at=float(at))])
    assert requests(log, chunk=chunk) == "abcdefg"
    assert requests(log, chunk=chunk, since=5, until=9) == "cdef"
    sizes = [len(frame) for frame in log.read(chunk=chunk)]
    assert sum(sizes) == 7 and all(size == chunk for size in sizes[:-1])


def test_between_two_frames_the_database_is_free(log: PredictionLog, url: str) -> None:
    log.write(rows(4))
    frames = log.read(chunk=2)
    seen = "".join(next(frames).request_id)
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(sa.make_url(url).database or "")) as connection:
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert busy == 0, "a reader holds the WAL"
    else:
        execute(url, "LOCK TABLE sentiment_predictions IN ACCESS EXCLUSIVE MODE NOWAIT")
    log.write([replace(ROW, request_id="late", at=0.5), replace(ROW, request_id="new", at=9.0)])
    assert log.retire(1.0) == 2  # those just written at 0.5, and the first one read
    assert seen + "".join("".join(frame.request_id) for frame in frames) == "0123new"


@pytest.mark.parametrize("wanted", [{}, {"since": 1.0}, {"version": "3"}])
def test_a_page_is_found_by_an_index(tmp_path: Path, wanted: dict[str, Any]) -> None:
    """Each but the first starts where the one before ended, and nothing is sorted."""
    with closing(open_log(f"sqlite:///{tmp_path / 'predictions.db'}")) as log:
        log.write(rows(9))
        said: list[tuple[str, Any]] = []

        def listen(_c: object, _cursor: object, statement: str, values: Any, *_: object) -> None:
            said.append((statement, values))

        sa.event.listen(sa.Engine, "before_cursor_execute", listen)
        try:
            list(log.read(chunk=4, **wanted))
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", listen)
    pages = [page for page in said if "FROM sentiment_predictions" in page[0]]
    assert len(pages) == 3
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as connection:
        for number, (statement, values) in enumerate(pages):
            steps = connection.execute("EXPLAIN QUERY PLAN " + statement, values).fetchall()
            plan = "; ".join(step[-1] for step in steps)
            # by "at" alone, or after a version within it
            how = "SEARCH|SCAN" if not wanted and number == 0 else "SEARCH"
            index = "sentiment_predictions_(version_)?at"
            assert re.search(f"({how}) sentiment_predictions USING INDEX {index}", plan), plan
            assert "SEARCH sentiment_feedback USING INDEX" in plan and "B-TREE" not in plan


# --- feedback and retention -----------------------------------------------------------------


def test_feedback_is_joined_to_every_arm_and_replaced_by_a_later_one(
    log: PredictionLog, url: str
) -> None:
    log.write([ROW, replace(ROW, arm="shadow"), replace(ROW, position=1), *rows(1)])
    assert log.add_feedback("request", 0, 1, 4, 5.0)
    assert log.add_feedback("request", 1, 0, None, 5.0)
    frame = read(log, since=1)
    assert frame.true_label.tolist() == [1, 1, 0] and read(log, until=1).true_label.isna().all()
    assert log.add_feedback("request", 0, 0, None, 6.0)
    assert read(log, since=1).true_label.tolist() == [0, 0, 0]
    assert log.counts() == {"predictions": 4, "feedback": 2}
    assert log.add_feedback("request", 1, 1, 4, 7.25)
    with connected(url) as connection:
        stored = connection.exec_driver_sql("SELECT * FROM sentiment_feedback ORDER BY position")
        assert [tuple(row) for row in stored] == [
            ("request", 0, 0, None, 6.0),
            ("request", 1, 1, 4, 7.25),
        ]


def test_feedback_on_nothing_is_not_kept(log: PredictionLog) -> None:
    log.write([ROW])
    for request, position in [("unknown", 0), ("request", 1), ("request\0", 0), ("\ud800", 0)]:
        assert not log.add_feedback(request, position, 1, None, 5.0)
    assert log.counts() == {"predictions": 1, "feedback": 0}


@pytest.mark.parametrize(
    ("label", "rating", "said"),
    [(2, None, "label: .* found 2"), (1, 0, "rating: .* found 0"), (1, 6, "6"), (1, 2.5, "2.5")],
)
def test_feedback_of_no_meaning_is_refused(
    log: PredictionLog, label: Any, rating: Any, said: str
) -> None:
    log.write([ROW])
    with pytest.raises(ValueError, match=said):
        log.add_feedback("request", 0, label, rating, 5.0)
    assert log.counts()["feedback"] == 0


@pytest.mark.parametrize("portion", [3, 7])
def test_old_rows_are_retired_with_their_feedback(
    log: PredictionLog, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    monkeypatch.setattr(prediction_log, "PORTION", portion)
    monkeypatch.setattr(prediction_log, "PAUSE", 0)
    log.write(rows(9))
    for request in "0246":
        assert log.add_feedback(request, 0, 1, None, 0.0)
    assert log.add_feedback("8", 0, 1, None, 0.0)  # as old as the others, but not its prediction
    assert log.retire(7.0) == 7  # what was at 7 stays
    assert requests(log) == "78" and read(log).true_label.isna().tolist() == [True, False]
    assert log.counts() == {"predictions": 2, "feedback": 1}
    assert log.retire(7.0) == 0


def test_writers_get_a_turn_while_rows_are_retired(
    log: PredictionLog, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def write_meanwhile(seconds: float) -> None:
        pauses.append(seconds)
        with held(url):  # would wait for a transaction that is open
            pass

    monkeypatch.setattr(prediction_log, "PORTION", 3)
    monkeypatch.setattr(time, "sleep", write_meanwhile)
    log.write(rows(7))
    assert log.retire(100.0) == 7
    assert len(pauses) == 2 and min(pauses) > 0


# --- comparisons ----------------------------------------------------------------------------

TEST = LoggedComparison("1-vs-2", "ab", "1", "2", 0.2, began=100.0, seen=100.0)


def test_a_comparison_begins_once_is_seen_and_ends_once(log: PredictionLog) -> None:
    assert log.comparisons() == [] and not log.see_comparison(TEST, 101.0)
    log.begin_comparison(TEST)
    log.begin_comparison(replace(TEST, began=107.0, seen=107.0))  # another worker
    assert log.comparisons() == [replace(TEST, seen=107.0)]
    assert log.see_comparison(TEST, 160.0)
    for other in ({"share": 0.5}, {"kind": "shadow"}, {"experiment": "x"}, {"challenger": "3"}):
        assert not log.see_comparison(replace(TEST, **other), 170.0)
    assert log.end_comparison(TEST, 200.0, "version 2 was promoted", "challenger better: +0.1")
    assert not log.end_comparison(TEST, 300.0, "again", "champion better")
    assert not log.see_comparison(TEST, 310.0)
    ended = replace(TEST, seen=160.0, ended=200.0)
    ended = replace(ended, why="version 2 was promoted", verdict="challenger better: +0.1")
    assert log.comparisons() == [ended]
    again = replace(TEST, began=400.0, seen=400.0)
    log.begin_comparison(again)  # the same pair once more is another test
    shadow = replace(TEST, kind="shadow", champion="2", challenger="3", share=0.0)
    log.begin_comparison(shadow)
    assert log.end_comparison(shadow, 500.0, "over", "")
    assert [one.ended for one in log.comparisons()] == [None, 500.0, 200.0]
    assert log.comparisons()[0] == again


def test_workers_that_begin_at_once_make_one_row(log: PredictionLog) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(log.begin_comparison, [TEST] * 40))
    assert log.comparisons() == [TEST]


def test_an_ab_test_runs_while_a_server_saw_it_within_a_day(log: PredictionLog, url: str) -> None:
    assert running_comparison(url, 0.0) is None
    log.begin_comparison(replace(TEST, kind="shadow"))
    log.begin_comparison(replace(TEST, share=0.0))
    assert running_comparison(url, 101.0) is None
    log.begin_comparison(TEST)
    hour = 3600.0
    for seconds, runs in ((1.0, True), (hour, True), (23 * hour, True), (25 * hour, False)):
        assert running_comparison(url, 100.0 + seconds) == (TEST if runs else None)
    assert log.see_comparison(TEST, 100.0 + 2 * hour)
    assert running_comparison(url, 100.0 + 25 * hour) == replace(TEST, seen=100.0 + 2 * hour)
    assert log.end_comparison(TEST, 100.0 + 3 * hour, "over", "")
    assert running_comparison(url, 100.0 + 3 * hour) is None


def test_looking_for_a_comparison_makes_no_log(file_url: str, tmp_path: Path) -> None:
    assert running_comparison(file_url, 0.0) is None
    assert list(tmp_path.iterdir()) == []


# --- opening --------------------------------------------------------------------------------


def test_several_processes_create_the_log_at_once(url: str) -> None:
    code = (
        "print('ready', flush=True); sys.stdin.readline()\n"
        "log = open_log(sys.argv[1])\n"
        "log.write([replace(ROW, request_id=sys.argv[2])])\n"
    )
    children = [child(code, url, str(number)) for number in range(3)]
    try:
        for process in children:
            assert process.stdout and process.stdout.readline() == "ready\n"
        for process in children:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.wait(60) for process in children] == [0, 0, 0]
    finally:
        for process in children:
            process.kill()
            process.communicate()
    with closing(open_log(url)) as log:
        assert sorted(requests(log)) == ["0", "1", "2"]


def test_a_file_is_made_by_one_process_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that switch it to WAL at once, one is told that it is locked, now and then."""
    monkeypatch.setattr(database, "PATIENCE", 0)
    file = tmp_path / "predictions.db"
    with FileLock(f"{file}.lock"), pytest.raises(PredictionLogError, match="cannot be opened"):
        open_log(f"sqlite:///{file}")
    assert not file.exists()
    open_log(f"sqlite:///{file}").close()
    assert file.exists()


def test_texts_are_for_the_owner_of_the_file_alone(tmp_path: Path) -> None:
    """Whatever the umask; the journals too; a file of before is tightened."""
    file = tmp_path / "predictions.db"

    def open_to_others() -> list[str]:
        with closing(open_log(f"sqlite:///{file}")) as log:
            log.write(rows(1))
            parts = [part for part in sorted(tmp_path.iterdir()) if not part.name.endswith(".lock")]
            assert len(parts) == 3, parts
            return [part.name for part in parts if part.stat().st_mode & 0o077]

    before = os.umask(0)
    try:
        assert open_to_others() == []
        file.chmod(0o644)
        assert open_to_others() == []
    finally:
        os.umask(before)


def test_a_file_behind_a_link_is_for_its_owner_alone_and_keeps_no_deleted_text(
    tmp_path: Path,
) -> None:
    file, link = tmp_path / "there.db", tmp_path / "link.db"
    file.touch(0o644)
    link.symlink_to(file)
    with closing(open_log(f"sqlite:///{link}")) as log:
        log.write([replace(ROW, text="geheim77 " * 500)])
        assert {part.stat().st_mode & 0o077 for part in tmp_path.glob("there.db*")} == {0}
        assert log.retire(ROW.at + 1) == 1
    assert b"geheim77" not in file.read_bytes()


def test_the_environment_completes_the_public_form_of_an_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = "postgresql://ada:g%2Fh77@127.0.0.1:1/db?sslmode=disable&sslpassword=geheim77"
    public = database.public_log_url(whole)
    assert public == "postgresql+psycopg://ada@127.0.0.1:1/db?sslmode=disable"
    monkeypatch.setenv("SENTIMENT_LOG_URL", whole)
    parsed = database.parsed_url(public)
    assert parsed.password == "g/h77" and parsed.query["sslpassword"] == "geheim77"
    other = public.replace("/db", "/other")
    assert database.parsed_url(other).password is None
    with pytest.raises(PredictionLogError, match="%40"):
        database.public_log_url("postgresql://ada:p@x/geheim@127.0.0.1/db")


def test_a_table_of_another_schema_is_refused_and_left_alone(url: str) -> None:
    execute(url, "CREATE TABLE sentiment_predictions (id INTEGER, request_id TEXT, score REAL)")
    with pytest.raises(PredictionLogError) as caught:
        open_log(url)
    said = str(caught.value)
    assert "the table sentiment_predictions has another schema (missing: arm, at, char" in said
    assert "unexpected: score); rename or drop it" in said and "\n" not in said
    with connected(url) as connection:
        assert not sa.inspect(connection).has_table("sentiment_feedback")
    execute(url, "DROP TABLE sentiment_predictions")
    open_log(url).close()
    execute(url, "ALTER TABLE sentiment_feedback ADD COLUMN extra TEXT")
    with pytest.raises(PredictionLogError, match=r"feedback .*missing: none; unexpected: extra"):
        open_log(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "the log's URL cannot be read; expected sqlite:///FILE or postgresql"),
        ("postgresql://user:hidden@host:port/name", "the log's URL cannot be read"),
        ("mysql://user:hidden@host/name", "mysql: the log cannot be kept"),
        ("postgresql+asyncpg://user:hidden@host/name", "asyncpg: the log cannot be kept"),
        ("postgresql://user:pass@hidden@host/name", "two @; write the one in a password as %40"),
        ("sqlite://", "names no SQLite file"),
        ("sqlite://user:hidden@host/predictions.db", "names no SQLite file"),
        ("sqlite:////nowhere/at/all/predictions.db", "there is no folder /nowhere/at/all"),
    ],
)
def test_a_url_that_cannot_be_used(url: str, said: str) -> None:
    with pytest.raises(PredictionLogError, match=re.escape(said)) as caught:
        open_log(url)
    assert "hidden" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_server_that_is_away_is_named_without_the_password() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody can connect
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        url = f"postgresql://user:hid%40den@{address}/name?password=hidden&application_name=hidden"
        with pytest.raises(PredictionLogError) as caught:
            open_log(url)
    said = str(caught.value)
    assert said.startswith(f"postgresql+psycopg://…@{address}/name: the prediction log can")
    assert "refused" in said and "hid" not in said.replace("***", "") and "\n" not in said
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "text.db").write_text("no database at all, but long enough to look at\n" * 20)
    for name, said in [("folder.db", "unable to open"), ("text.db", "file is not a database")]:
        with pytest.raises(PredictionLogError, match=said) as caught:
            open_log(f"sqlite:///{tmp_path / name}")
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)
    assert (tmp_path / "text.db").read_text().startswith("no database")


# --- what may happen to a database ----------------------------------------------------------


def test_a_locked_file_is_said_and_works_again_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0)
    url = f"sqlite:///{tmp_path / 'predictions.db'}"
    with closing(open_log(url)) as log:
        log.write(rows(1))
        with held(url):
            calls = (
                lambda: log.write([ROW]),
                lambda: log.add_feedback("0", 0, 1, None, 0.0),
                lambda: log.retire(9.0),
                lambda: open_log(url),
            )
            for call in calls:
                with pytest.raises(PredictionLogError, match="database is locked"):
                    call()
            assert requests(log) == "0"  # reading goes on
        log.write([ROW])
        assert log.counts() == {"predictions": 2, "feedback": 0}


@pytest.mark.parametrize("url", KINDS[1:], indirect=True)
def test_a_connection_that_was_cut_is_replaced(log: PredictionLog, url: str) -> None:
    for call in range(3):
        log.write([replace(ROW, position=call)])
        cut_connections(url)
    assert log.counts()["predictions"] == 3


def test_a_missing_table_is_one_line(log: PredictionLog, url: str) -> None:
    log.write([replace(ROW, at=1.0)])
    execute(url, "DROP TABLE sentiment_feedback")
    for call in (log.counts, lambda: list(log.read()), lambda: log.retire(9.0)):
        with pytest.raises(PredictionLogError, match=r"does not answer .*sentiment_fe") as said:
            call()
        assert "\n" not in str(said.value)


def test_committed_rows_survive_a_kill(tmp_path: Path) -> None:
    """They stand in the `-wal` file then, which the next one to open the log folds in."""
    code = (
        "log = open_log(sys.argv[1])\n"
        "for n in range(100): log.write([replace(ROW, request_id=str(n), at=float(n))])\n"
        "log.add_feedback('99', 0, 1, None, 0.0); print('written', flush=True); time.sleep(60)\n"
    )
    url = f"sqlite:///{tmp_path / 'predictions.db'}"
    process = child(code, url)
    try:
        assert process.stdout and process.stdout.readline() == "written\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert (tmp_path / "predictions.db-wal").stat().st_size > 0
    with closing(open_log(url)) as log:
        assert log.counts() == {"predictions": 100, "feedback": 1}


def test_threads_share_a_log(log: PredictionLog) -> None:
    def work(number: int) -> None:
        for position in range(10):
            log.write([replace(ROW, request_id=str(number), position=position)])
            assert log.add_feedback(str(number), position, 1, None, 0.0)
        assert list(log.read(chunk=10))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert log.counts() == {"predictions": 40, "feedback": 40}


@pytest.mark.parametrize("url", KINDS[1:], indirect=True)  # for SQLite see the writer's test
def test_a_log_may_be_opened_before_a_fork(url: str) -> None:
    code = (
        "log = open_log(sys.argv[1])\n"
        "parent = os.fork() and os.fork()\n"
        "for position in range(30): log.write([replace(ROW, request_id=str(os.getpid()),\n"
        "                                              position=position)])\n"
        "log.close()\n"
        "if parent: print([os.WEXITSTATUS(os.wait()[1]) for _ in range(2)])\n"
    )
    process = child(code, url)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "[0, 0]\n")
    with closing(open_log(url)) as log:
        assert read(log).groupby("request_id").position.count().tolist() == [30, 30, 30]
