"""Log writer: nothing waits for the database, and every row is accounted for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from support.prediction_logs import (
    ROW,
    child,
    execute,
    held,
    read,
    requests,
    rows,
)

from sentiment.errors import PredictionLogError
from sentiment.predictions import database
from sentiment.predictions import writer as log_writer
from sentiment.predictions.log import LoggedPrediction, PredictionLog, open_log
from sentiment.predictions.writer import LogWriter

ENOUGH = 30.0  # seconds that are never needed; a test that waits so long fails


@pytest.fixture
def file_log(file_url: str) -> Iterator[PredictionLog]:
    with closing(open_log(file_url)) as log:
        yield log


@contextmanager
def started(log: PredictionLog, **options: Any) -> Iterator[LogWriter]:
    writer = LogWriter(log, **options)
    writer.start()
    try:
        yield writer
    finally:
        writer.close(0)


@contextmanager
def away(url: str) -> Iterator[None]:
    """Within the block every write fails at once."""
    execute(url, "ALTER TABLE sentiment_predictions RENAME TO elsewhere")
    yield
    execute(url, "ALTER TABLE elsewhere RENAME TO sentiment_predictions")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ENOUGH
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def accounts(writer: LogWriter) -> tuple[int, int, int]:
    return writer.written, writer.dropped, writer.failed


# --- all is well ----------------------------------------------------------------------------


def test_rows_reach_the_log_in_their_order(log: PredictionLog) -> None:
    with started(log) as writer:
        for row in rows(40):
            assert writer.put([replace(row, at=1.0), replace(row, at=1.0, position=1)])
        assert writer.put([])
        assert writer.flush(ENOUGH)
        assert accounts(writer) == (80, 0, 0)
        frame = read(log)
        writer.put([replace(ROW, arm="shadow")])
        wait_for(lambda: log.counts()["predictions"] == 81)  # without anybody asking
    assert frame.request_id.tolist() == [str(n) for n in range(40) for _ in range(2)]
    assert frame.position.tolist() == [0, 1] * 40


def test_rows_wait_for_others_to_share_a_transaction(
    file_log: PredictionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    write = file_log.write

    def counted(rows: Sequence[LoggedPrediction]) -> None:
        sizes.append(len(rows))
        write(rows)

    monkeypatch.setattr(file_log, "write", counted)
    monkeypatch.setattr(log_writer, "INTERVAL", 10 * ENOUGH)  # so that only the size counts
    with started(file_log) as writer:
        writer.put(rows(1))
        time.sleep(0.2)  # long enough to write it, were it not to wait
        assert writer.written == 0
        writer.put(rows(499, position=1))  # a group waits for nobody
        wait_for(lambda: writer.written == 500)
        for row in rows(1_200, position=2):
            writer.put([row])
        writer.put(rows(3, position=3))
        assert writer.flush(ENOUGH) and writer.flush(ENOUGH)  # nor do flush and close
        writer.put([ROW])
        writer.close(ENOUGH)
        assert accounts(writer) == (1_704, 0, 0)
    assert sizes == [500, 500, 500, 203, 1]


def test_nothing_runs_before_the_start(file_log: PredictionLog) -> None:
    before = threading.active_count()
    writer = LogWriter(file_log)
    assert writer.put(rows(2)) and not writer.flush(0.01)
    assert threading.active_count() == before and accounts(writer) == (0, 0, 0)
    writer.start()
    writer.start()
    assert threading.active_count() == before + 1
    assert writer.flush(ENOUGH) and writer.written == 2
    writer.close()
    assert threading.active_count() == before
    never = LogWriter(file_log)
    never.put(rows(4))
    never.close()
    assert accounts(never) == (0, 4, 0)


def test_a_writer_starts_after_a_fork(file_url: str) -> None:
    code = (
        "from sentiment.predictions.writer import LogWriter\n"
        "writer = LogWriter(open_log(sys.argv[1]))\n"
        "parent = os.fork()\n"
        "writer.start()\n"
        "writer.put([replace(ROW, request_id=str(os.getpid()), position=n) for n in range(9)])\n"
        "writer.close(30)\n"
        "assert writer.written == 9\n"
        "if parent: sys.exit(os.WEXITSTATUS(os.wait()[1]))\n"
    )
    process = child(code, file_url)
    process.communicate(timeout=60)
    assert process.returncode == 0
    with closing(open_log(file_url)) as log:
        assert read(log).groupby("request_id").position.count().tolist() == [9, 9]


# --- work for the thread --------------------------------------------------------------------


def test_a_submission_is_done_in_the_thread_and_in_its_turn(log: PredictionLog) -> None:
    threads: list[threading.Thread] = []

    def make() -> list[LoggedPrediction]:
        threads.append(threading.current_thread())
        return rows(3, arm="shadow", at=1.0)

    with started(log) as writer:
        for request, item in (("a", None), ("", make), ("b", None)):
            if item:
                assert writer.submit(item, 3)
            else:
                assert writer.put([replace(ROW, request_id=request, at=1.0)])
        assert writer.submit(lambda: [], 2)
        assert writer.flush(ENOUGH) and accounts(writer) == (5, 0, 0)
        assert threads[0] is not threading.current_thread()
    assert requests(log) == "a012b"


def test_a_submission_that_raises_is_counted_and_told_once(
    file_log: PredictionLog, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> list[LoggedPrediction]:
        raise LookupError("no such word")

    broken: Any = lambda: None  # noqa: E731  # no rows at all
    with started(file_log, capacity=4) as writer:
        for _ in range(5):  # each gives its place back
            assert writer.submit(fail, 2) and writer.submit(broken, 2) and writer.put([])
            assert writer.flush(ENOUGH)
        assert accounts(writer) == (0, 0, 10)
        assert writer.put(rows(4)) and writer.flush(ENOUGH)
    (record,) = caplog.records
    assert record.message.endswith("LookupError: no such word")
    assert file_log.counts()["predictions"] == 4


def test_a_row_that_cannot_be_stored_takes_no_other_with_it(
    log: PredictionLog, caplog: pytest.LogCaptureFixture
) -> None:
    good = rows(4)
    wrong = replace(ROW, probability=float("nan"))
    worse: Any = "not a row"
    with started(log) as writer:
        writer.put([good[0], wrong, good[1]])
        writer.put([worse, good[2]])
        writer.put([good[3]])
        assert writer.flush(ENOUGH) and accounts(writer) == (4, 2, 2)
        assert writer.put([wrong]) and writer.flush(ENOUGH) and accounts(writer) == (4, 3, 3)
    assert requests(log) == "0123"
    assert len(caplog.records) == 1 and "probability: expected a fin" in caplog.records[0].message


# --- the queue is full ----------------------------------------------------------------------


def test_what_does_not_fit_is_dropped_and_counted(file_log: PredictionLog) -> None:
    writer = LogWriter(file_log, capacity=10)
    assert writer.put(rows(6))
    assert not writer.put(rows(5, position=1)) and writer.dropped == 5
    assert writer.put(rows(1, position=2)) and writer.submit(lambda: rows(3, position=3), 3)
    assert not writer.submit(lambda: rows(1), 1) and writer.dropped == 6
    assert not writer.put([ROW]) and writer.dropped == 7
    writer.start()
    assert writer.flush(ENOUGH) and writer.written == 10
    assert writer.put(rows(10, position=4)) and writer.flush(ENOUGH)  # all places are free again
    assert accounts(writer) == (20, 7, 0) and file_log.counts()["predictions"] == 20
    writer.close()


def test_put_does_not_wait_for_a_database_that_is_held(log: PredictionLog, url: str) -> None:
    with started(log, capacity=1_000) as writer:
        with held(url):
            began = time.perf_counter()
            taken = sum(writer.put([row]) for row in rows(3_000))
            # not one of them waited as long as a write would
            assert time.perf_counter() - began < database.PATIENCE
            assert (taken, writer.dropped) == (1_000, 2_000)  # those being written count, too
            assert not writer.flush(0.3) and log.counts()["predictions"] == 0
        assert writer.flush(ENOUGH) and accounts(writer)[:2] == (1_000, 2_000)
    assert len(read(log)) == 1_000


# --- the database is away -------------------------------------------------------------------


def test_an_outage_loses_nothing_that_fits_and_is_told_once(
    log: PredictionLog, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with started(log, capacity=10) as writer:
        for outage in (1, 2):
            caplog.clear()
            failed = writer.failed
            with away(url):
                for row in rows(12, position=outage):
                    writer.put([row])
                wait_for(lambda before=failed: writer.failed >= before + 3)  # type: ignore[misc]
                (record,) = caplog.records
                assert record.levelno == logging.WARNING
                assert "does not answer" in record.message and "\n" not in record.message
                assert (writer.written, writer.dropped) == (10 * (outage - 1), 2 * outage)
            assert writer.flush(ENOUGH) and writer.written == 10 * outage
            assert len(caplog.records) == 2
            times = f"after {writer.failed - failed} failed attempt(s)"
            assert caplog.records[1].message == f"the prediction log is back {times}"
    assert sorted(read(log).position) == [1] * 10 + [2] * 10


def test_the_pauses_grow_up_to_a_limit(
    file_log: PredictionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    class Hasty(LogWriter):
        def _wait(self, pause: float) -> None:
            pauses.append(pause)

    def refuse(_: Sequence[LoggedPrediction]) -> None:
        if len(pauses) < 9:
            raise PredictionLogError("away")

    monkeypatch.setattr(file_log, "write", refuse)
    writer = Hasty(file_log)
    writer.start()
    writer.put([ROW])
    assert writer.flush(ENOUGH) and accounts(writer) == (1, 0, 9)
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    writer.put([ROW])
    writer.close()


# --- the end --------------------------------------------------------------------------------


def test_close_writes_what_is_there_and_takes_no_more(log: PredictionLog) -> None:
    with started(log) as writer:
        for row in rows(1_500):
            writer.put([row])
        writer.submit(lambda: [replace(ROW, arm="shadow")], 1)
        writer.close(ENOUGH)
        assert accounts(writer) == (1_501, 0, 0) and log.counts()["predictions"] == 1_501
        assert not writer.put(rows(2)) and not writer.submit(lambda: rows(1), 1)
        assert writer.flush(0) and accounts(writer) == (1_501, 3, 0)
        writer.close()
        assert accounts(writer) == (1_501, 3, 0)


def test_close_in_an_outage_counts_what_is_lost(log: PredictionLog, url: str) -> None:
    with started(log) as writer, away(url):
        writer.put(rows(700))
        writer.submit(lambda: rows(5), 5)
        wait_for(lambda: writer.failed > 0)
        writer.close(0.2)
        assert accounts(writer)[:2] == (0, 705)
        assert writer._thread is not None
        writer._thread.join(30)  # its last attempt is over
    assert log.counts()["predictions"] == 0


def test_close_waits_for_the_end_of_an_outage_as_long_as_it_may(
    log: PredictionLog, url: str
) -> None:
    with started(log) as writer:
        closer = threading.Thread(target=writer.close, args=(ENOUGH,))
        with away(url):
            writer.put(rows(7))
            wait_for(lambda: writer.failed > 0)
            closer.start()
            failed = writer.failed
            wait_for(lambda: writer.failed > failed)
            assert closer.is_alive()
        closer.join(ENOUGH)
        assert not closer.is_alive() and accounts(writer)[:2] == (7, 0)


def test_close_does_not_wait_for_a_write_that_hangs(
    file_log: PredictionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go = threading.Event(), threading.Event()

    def hang(_: Sequence[LoggedPrediction]) -> None:
        reached.set()
        assert go.wait(ENOUGH)

    monkeypatch.setattr(file_log, "write", hang)
    threads = set(threading.enumerate())
    with started(file_log) as writer:
        (thread,) = set(threading.enumerate()) - threads
        writer.put(rows(3))
        assert reached.wait(ENOUGH)
        writer.put(rows(2))
        writer.close(0.1)
        assert accounts(writer) == (0, 5, 0) and thread.is_alive() and thread.daemon
        go.set()
        thread.join(ENOUGH)
        assert accounts(writer) == (0, 5, 0) and not thread.is_alive()  # counted once
