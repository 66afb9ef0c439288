"""Version watcher: it follows a real registry, and keeps answering when that or a version fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
from support.serving import (
    add_of_another_cleaning,
    copy_store,
    put_alias,
    put_into_production,
    shared_store,
    wait_until,
)

from sentiment.errors import ServingError, TrackingError
from sentiment.registry.lifecycle import rollback
from sentiment.serving import versions as version_watcher
from sentiment.serving.versions import Arms, VersionWatcher
from sentiment.tracking.store import Store

pytestmark = pytest.mark.xdist_group("serving")
NOBODY = "http://127.0.0.1:9"  # nothing listens there
BOTH = ("1", "2", "1-vs-2")
Watch = Callable[..., VersionWatcher]


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Store:
    """1 in production, 2 the challenger, 3, and 4 of another cleaning, which cannot be served."""
    store = copy_store(shared_store(tmp_path_factory), tmp_path / "store")
    assert add_of_another_cleaning(store) == "4"
    return store


@pytest.fixture
def watch(store: Store) -> Iterator[Watch]:
    """Make watchers of the store, stopped at the end of the test."""
    watchers: list[VersionWatcher] = []

    def make(**options: Any) -> VersionWatcher:
        settings = {"challenger": "challenger", "refresh_seconds": 0.02, **options}
        open_store = settings.pop("open_store", lambda: store)
        watchers.append(VersionWatcher(open_store, **settings))
        return watchers[-1]

    yield make
    for watcher in watchers:
        watcher.stop()


def arms_of(watcher: VersionWatcher) -> Arms:
    assert watcher.arms is not None
    return watcher.arms


def shown(watcher: VersionWatcher) -> tuple[str, str | None, str]:
    """Champion, challenger and experiment."""
    arms = arms_of(watcher)
    challenger = arms.challenger.version if arms.challenger else None
    return arms.champion.version, challenger, arms.experiment


def checked(watcher: VersionWatcher) -> tuple[str, str | None, str]:
    """The same after one more look at the registry."""
    watcher.check()
    return shown(watcher)


def problem_of(watcher: VersionWatcher) -> str:
    assert watcher.problem is not None and "\n" not in watcher.problem
    return watcher.problem


def test_nothing_is_loaded_that_did_not_change(store: Store, watch: Watch) -> None:
    watcher = watch()
    assert (watcher.arms, watcher.problem) == (None, None)  # before the first look
    assert checked(watcher) == BOTH and watcher.problem is None
    before = arms_of(watcher)
    watcher.check()
    assert watcher.arms is before
    put_alias(store, "challenger", "3")
    assert checked(watcher) == ("1", "3", "1-vs-3")
    assert arms_of(watcher).champion is before.champion
    assert before.experiment == "1-vs-2"  # who still holds the old ones holds them whole


@pytest.mark.parametrize(
    ("challenger", "arms"), [(None, ("1", None, "")), ("3", ("1", "3", "autumn"))]
)
def test_an_experiment_may_have_a_name_and_a_challenger_a_number(
    watch: Watch, challenger: str | None, arms: tuple[str, str | None, str]
) -> None:
    watcher = watch(challenger=challenger, experiment="autumn")
    assert checked(watcher) == arms and watcher.problem is None


def test_a_promotion_and_a_rollback_are_followed(store: Store, watch: Watch) -> None:
    watcher = watch(challenger="3")
    watcher.check()
    put_into_production(store, "2")
    assert checked(watcher) == ("2", "3", "2-vs-3") and watcher.problem is None
    assert arms_of(watcher).champion.since is not None
    rollback(store)
    assert checked(watcher) == ("1", "3", "1-vs-3") and watcher.problem is None


def test_a_challenger_that_is_in_production_or_missing_is_none(store: Store, watch: Watch) -> None:
    watcher = watch()
    put_alias(store, "challenger", "1")
    assert checked(watcher) == ("1", None, "")
    assert "version 1 is in production" in problem_of(watcher)
    put_alias(store, "challenger", "3")
    assert checked(watcher) == ("1", "3", "1-vs-3") and watcher.problem is None
    put_alias(store, "challenger", None)
    for each in (watcher, watch()):
        assert checked(each) == ("1", None, "")
        assert "no version 'challenger'" in problem_of(each)


def test_a_challenger_that_will_not_load_does_not_end_the_running_comparison(
    store: Store, watch: Watch
) -> None:
    watcher, late = watch(), watch()
    watcher.check()
    put_alias(store, "challenger", "4")
    for each, expected in ((watcher, BOTH), (late, ("1", None, ""))):
        assert checked(each) == expected and arms_of(each).named == "4"
        assert "version 4: trained with another cleaning" in problem_of(each)
    put_alias(store, "champion", "4")  # as long as it will not load, version 1 answers
    assert checked(watcher) == BOTH
    assert problem_of(watcher).count("trained with another cleaning") == 1
    put_alias(store, "champion", "1")
    # what took part is promoted: it cannot be compared with itself
    put_alias(store, "champion", "2")
    assert checked(watcher) == ("2", None, "")
    # nor is it said twice of a version that has both names
    put_alias(store, "champion", "4")
    assert checked(late) == ("1", None, "")
    assert problem_of(late).count("trained with another cleaning") == 1
    # and the one that answers is no challenger of itself, whatever should have replaced it
    put_alias(store, "challenger", "1")
    assert checked(late) == ("1", None, "")
    assert "version 1 is in production" in problem_of(late)


def test_a_champion_that_will_not_load_leaves_the_old_one(
    store: Store, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = watch()
    watcher.check()
    before = arms_of(watcher).champion
    put_alias(store, "champion", "4")
    with caplog.at_level(logging.INFO, logger=version_watcher.__name__):
        for _ in range(3):  # it is tried again, and said once
            watcher.check()
            assert arms_of(watcher).champion is before
            assert problem_of(watcher).startswith("version 4: trained with another cleaning")
        assert [record.getMessage() for record in caplog.records] == [watcher.problem]
        put_alias(store, "challenger", "3")  # which is followed all the same
        assert checked(watcher) == ("1", "3", "1-vs-3") and len(caplog.records) == 1
        put_alias(store, "champion", None)
        watcher.check()
        assert "no version 'champion'" in problem_of(watcher) and len(caplog.records) == 2
    put_alias(store, "champion", "2")
    assert checked(watcher) == ("2", "3", "2-vs-3") and watcher.problem is None


def test_a_version_is_tried_again_until_it_loads(
    store: Store, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its artifacts were away for a while."""

    def fail(_: Store, name: str) -> None:
        raise ServingError(f"version {name}: will not load")

    watcher = watch()
    watcher.check()
    put_alias(store, "champion", "3")
    with monkeypatch.context() as patch:
        patch.setattr(version_watcher, "load_version", fail)
        assert checked(watcher)[0] == "1"
    assert problem_of(watcher) == "version 3: will not load"
    assert checked(watcher)[0] == "3" and watcher.problem is None


def test_nothing_in_production_yet(store: Store, watch: Watch) -> None:
    watcher = watch()
    for version, problem in ((None, "no version 'champion'"), ("4", "version 4")):
        put_alias(store, "champion", version)
        watcher.check()
        assert watcher.arms is None and problem in problem_of(watcher)
    put_alias(store, "champion", "1")
    assert checked(watcher) == BOTH and watcher.problem is None


class Line:
    """The store's client, over a line that can be cut: then it calls where nobody listens."""

    def __init__(self, store: Store) -> None:
        self._there, self._nobody = store.client, mlflow.MlflowClient(NOBODY)
        self.cut = False

    def __getattr__(self, method: str) -> Any:
        return getattr(self._nobody if self.cut else self._there, method)


def test_the_registry_goes_away_and_comes_back(
    store: Store,
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # it tries for seconds by default
    line: Any = Line(store)
    opened: list[Store] = []

    def open_store() -> Store:
        opened.append(replace(store, client=line))
        return opened[-1]

    watcher = watch(open_store=open_store)
    assert not opened  # not before the first look
    watcher.check()
    watcher.check()
    before = arms_of(watcher)
    assert len(opened) == 1
    line.cut = True
    with caplog.at_level(logging.INFO, logger=version_watcher.__name__):
        for _ in range(3):
            watcher.check()
            assert watcher.arms is before  # the challenger as well
            assert problem_of(watcher).startswith("the registry does not answer")
    assert len(caplog.records) == 1
    line.cut = False
    put_alias(store, "champion", "3")
    assert checked(watcher) == ("3", "2", "3-vs-2") and watcher.problem is None
    assert len(opened) > 1  # opened anew


@pytest.mark.parametrize("error", [TrackingError("the store is away"), ValueError("a\nsurprise")])
def test_the_registry_is_away_at_the_start(store: Store, watch: Watch, error: Exception) -> None:
    tries: list[int] = []

    def open_store() -> Store:
        tries.append(1)
        if len(tries) < 4:
            raise error
        return store

    watcher = watch(open_store=open_store)
    watcher.check()
    assert watcher.arms is None
    assert problem_of(watcher) in {"the store is away", "ValueError: a surprise"}
    watcher.start()
    wait_until(lambda: watcher.arms is not None and watcher.problem is None)
    assert len(tries) == 4 and shown(watcher) == BOTH
    put_alias(store, "champion", "3")  # the thread goes on looking
    wait_until(lambda: shown(watcher) == ("3", "2", "3-vs-2"))


def test_a_start_looks_once_and_a_stop_does_not_wait_for_the_next_look(
    store: Store, watch: Watch
) -> None:
    opened: list[int] = []

    def open_store() -> Store:
        opened.append(1)
        raise TrackingError("away")

    watcher = watch(open_store=open_store, refresh_seconds=3_600.0)
    before = set(threading.enumerate())
    watcher.start()
    new = set(threading.enumerate()) - before  # libraries start threads of their own
    (thread,) = [each for each in new if each.name == "version-watcher"]
    watcher.stop()
    assert thread.daemon and not thread.is_alive() and len(opened) == 1
    watch().stop()  # one that was never started
