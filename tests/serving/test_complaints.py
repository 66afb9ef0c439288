"""The complaints of the server: who asks while they are looked for gets the last ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from sentiment.serving import complaints
from sentiment.serving.complaints import LoggedComplaints


def test_who_asks_while_they_are_looked_for_gets_the_last_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began, go_on = threading.Event(), threading.Event()
    made: list[Any] = [SimpleNamespace(reviews=9, negative=0) for _ in range(2)]
    first, second = made

    def looks() -> Iterator[Any]:
        yield first
        began.set()
        assert go_on.wait(60)
        yield second

    found = looks()
    monkeypatch.setattr(complaints, "reviews_of_log", lambda *_: None)
    monkeypatch.setattr(complaints, "find_complaints", lambda _: next(found))
    monkeypatch.setattr(complaints, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(complaints, "FRESH_FACTOR", 0.0)
    log: Any = None
    logged = LoggedComplaints(log)
    assert logged.read("1") is first
    with ThreadPoolExecutor(2) as pool:
        try:
            slow = pool.submit(logged.read, "1")
            assert began.wait(60)
            assert pool.submit(logged.read, "1").result(60) is first
        finally:
            go_on.set()
        assert slow.result(60) is second
