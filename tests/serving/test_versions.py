"""Version watcher: it follows a real registry, and keeps answering when that or a version fails."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
from support.serving import (
    BAD_TEXT,
    GOOD_TEXT,
    add_version,
    copy_store,
    put_into_production,
    shared_store,
)

from sentiment.errors import ServingError, TrackingError
from sentiment.registry.lifecycle import rollback
from sentiment.serving import versions as version_watcher
from sentiment.serving.versions import Arms, VersionWatcher
from sentiment.tracking.store import REGISTERED_MODEL, Store

pytestmark = pytest.mark.xdist_group("serving")
NOBODY = "http://127.0.0.1:9"  # nothing listens there


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """1 in production, 2 the challenger, 3, and 4 of another cleaning, which cannot be served."""
    folder = tmp_path_factory.mktemp("made")
    store = copy_store(shared_store(tmp_path_factory), folder)
    assert add_version(store, folder, "NaiveBayes", fingerprint="0123456789ab") == "4"
    return store


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    return copy_store(made, tmp_path / "store")


Watch = Callable[..., VersionWatcher]


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


def name(store: Store, alias: str, version: str) -> None:
    store.client.set_registered_model_alias(REGISTERED_MODEL, alias, version)


def unname(store: Store, alias: str) -> None:
    store.client.delete_registered_model_alias(REGISTERED_MODEL, alias)


def shown(watcher: VersionWatcher) -> tuple[str, str | None, str]:
    """Champion, challenger and experiment."""
    assert watcher.arms is not None
    challenger = watcher.arms.challenger
    return (
        watcher.arms.champion.version,
        challenger.version if challenger else None,
        watcher.arms.experiment,
    )


def arms_of(watcher: VersionWatcher) -> Arms:
    assert watcher.arms is not None
    return watcher.arms


def problem_of(watcher: VersionWatcher) -> str:
    assert watcher.problem is not None and "\n" not in watcher.problem
    return watcher.problem


def test_both_arms_are_loaded_and_answer(watch: Watch) -> None:
    watcher = watch()
    assert (watcher.arms, watcher.problem) == (None, None)  # before the first look
    watcher.check()
    assert shown(watcher) == ("1", "2", "1-vs-2") and watcher.problem is None
    arms = arms_of(watcher)
    for arm in (arms.champion, arms.challenger):
        assert arm is not None
        assert [p.label for p in arm.predict([GOOD_TEXT, BAD_TEXT])] == [1, 0]


def test_nothing_is_loaded_that_did_not_change(store: Store, watch: Watch) -> None:
    watcher = watch()
    watcher.check()
    before = arms_of(watcher)
    watcher.check()
    assert watcher.arms is before
    name(store, "challenger", "3")
    watcher.check()
    assert shown(watcher) == ("1", "3", "1-vs-3")
    assert arms_of(watcher).champion is before.champion
    assert before.experiment == "1-vs-2"  # who still holds the old ones holds them whole


@pytest.mark.parametrize(
    ("challenger", "arms"), [(None, ("1", None, "")), ("3", ("1", "3", "autumn"))]
)
def test_an_experiment_may_have_a_name_and_a_challenger_a_number(
    watch: Watch, challenger: str | None, arms: tuple[str, str | None, str]
) -> None:
    watcher = watch(challenger=challenger, experiment="autumn")
    watcher.check()
    assert shown(watcher) == arms and watcher.problem is None


def test_a_promotion_and_a_rollback_are_followed(store: Store, watch: Watch) -> None:
    watcher = watch(challenger="3")
    watcher.check()
    put_into_production(store, "2")
    watcher.check()
    assert shown(watcher) == ("2", "3", "2-vs-3") and watcher.problem is None
    assert arms_of(watcher).champion.since is not None
    rollback(store)
    watcher.check()
    assert shown(watcher) == ("1", "3", "1-vs-3") and watcher.problem is None


def test_a_challenger_that_is_in_production_is_none(store: Store, watch: Watch) -> None:
    watcher = watch()
    name(store, "challenger", "1")
    watcher.check()
    assert shown(watcher) == ("1", None, "")
    assert "version 1 is in production" in problem_of(watcher)
    name(store, "challenger", "3")
    watcher.check()
    assert shown(watcher) == ("1", "3", "1-vs-3") and watcher.problem is None


@pytest.mark.parametrize("at_first", [True, False])
def test_a_challenger_that_is_missing(store: Store, watch: Watch, at_first: bool) -> None:
    watcher = watch()
    if not at_first:
        watcher.check()
    unname(store, "challenger")
    watcher.check()
    assert shown(watcher) == ("1", None, "")
    assert "no version 'challenger'" in problem_of(watcher)


def test_a_challenger_that_will_not_load_does_not_end_the_running_comparison(
    store: Store, watch: Watch
) -> None:
    watcher, late = watch(), watch()
    watcher.check()
    name(store, "challenger", "4")
    for each, expected in ((watcher, ("1", "2", "1-vs-2")), (late, ("1", None, ""))):
        each.check()
        assert shown(each) == expected
        assert "version 4: trained with another cleaning" in problem_of(each)
    # what took part is promoted: it cannot be compared with itself
    put_into_production(store, "2")
    watcher.check()
    assert shown(watcher) == ("2", None, "")


def test_a_champion_that_will_not_load_leaves_the_old_one(
    store: Store, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = watch()
    watcher.check()
    before = arms_of(watcher).champion
    name(store, "champion", "4")
    with caplog.at_level(logging.INFO, logger=version_watcher.__name__):
        for _ in range(3):  # it is tried again, and said once
            watcher.check()
            assert arms_of(watcher).champion is before
            assert problem_of(watcher).startswith("version 4: trained with another cleaning")
        assert [record.getMessage() for record in caplog.records] == [watcher.problem]
        name(store, "challenger", "3")  # which is followed all the same
        watcher.check()
        assert shown(watcher) == ("1", "3", "1-vs-3") and len(caplog.records) == 1
        unname(store, "champion")
        watcher.check()
        assert "no version 'champion'" in problem_of(watcher) and len(caplog.records) == 2
    name(store, "champion", "2")
    watcher.check()
    assert shown(watcher) == ("2", "3", "2-vs-3") and watcher.problem is None


def test_a_challenger_that_is_to_be_champion_is_no_challenger_of_the_old_one(
    store: Store, watch: Watch
) -> None:
    name(store, "challenger", "4")
    watcher = watch()
    watcher.check()
    name(store, "champion", "4")
    watcher.check()
    assert shown(watcher) == ("1", None, "")
    assert problem_of(watcher).count("trained with another cleaning") == 1


def test_a_version_is_tried_again_until_it_loads(
    store: Store, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its artifacts were away for a while."""

    def fail(_: Store, name: str) -> None:
        raise ServingError(f"version {name}: will not load")

    watcher = watch()
    watcher.check()
    name(store, "champion", "3")
    with monkeypatch.context() as patch:
        patch.setattr(version_watcher, "load_version", fail)
        watcher.check()
    assert arms_of(watcher).champion.version == "1"
    assert problem_of(watcher) == "version 3: will not load"
    watcher.check()
    assert arms_of(watcher).champion.version == "3" and watcher.problem is None


def test_nothing_in_production_yet(store: Store, watch: Watch) -> None:
    unname(store, "champion")
    watcher = watch()
    watcher.check()
    assert watcher.arms is None and "no version 'champion'" in problem_of(watcher)
    name(store, "champion", "4")
    watcher.check()
    assert watcher.arms is None and "version 4" in problem_of(watcher)
    name(store, "champion", "1")
    watcher.check()
    assert shown(watcher) == ("1", "2", "1-vs-2") and watcher.problem is None


class Line:
    """The store's client, over a line that can be cut: then it calls where nobody listens."""

    def __init__(self, store: Store) -> None:
        self._there, self._nobody = store.client, mlflow.MlflowClient(NOBODY)
        self.cut = False

    def __getattr__(self, method: str) -> Any:
        return getattr(self._nobody if self.cut else self._there, method)


@pytest.fixture
def fail_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow tries again for seconds by default."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.usefixtures("fail_at_once")
def test_the_registry_goes_away_and_comes_back(
    store: Store, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
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
    name(store, "champion", "3")
    watcher.check()
    assert shown(watcher) == ("3", "2", "3-vs-2") and watcher.problem is None
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
    wait_for(lambda: watcher.arms is not None)
    wait_for(lambda: watcher.problem is None)
    assert len(tries) == 4


def test_the_thread_follows_and_no_reader_sees_two_moments(store: Store, watch: Watch) -> None:
    watcher = watch()
    watcher.start()
    wait_for(lambda: watcher.arms is not None)
    mixed: list[Arms] = []
    answers: set[tuple[str, int | None]] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            arms = arms_of(watcher)
            first, second = arms.champion.version, arms.challenger and arms.challenger.version
            if arms.experiment != (f"{first}-vs-{second}" if second else ""):
                mixed.append(arms)
            answers.add((first, arms.champion.predict([GOOD_TEXT])[0].label))

    def follow(champion: str, challenger: str) -> None:
        name(store, "champion", champion)
        wait_for(lambda: arms_of(watcher).champion.version == champion)
        name(store, "challenger", challenger)
        wait_for(lambda: shown(watcher) == (champion, challenger, f"{champion}-vs-{challenger}"))
        wait_for(lambda: (champion, 1) in answers)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for champion, challenger in (("3", "2"), ("2", "1"), ("1", "3")):
        follow(champion, challenger)
    done.set()
    for reader in readers:
        reader.join()
    assert not mixed and answers == {("1", 1), ("2", 1), ("3", 1)}


def test_a_start_reads_the_registry_once(store: Store, watch: Watch) -> None:
    opened: list[int] = []

    def open_store() -> Store:
        opened.append(1)
        raise TrackingError("away")

    watcher = watch(open_store=open_store, refresh_seconds=3_600.0)
    watcher.start()
    watcher.stop()
    assert len(opened) == 1


def test_stop_does_not_wait_for_the_next_look(watch: Watch) -> None:
    watcher = watch(refresh_seconds=3_600.0)
    before = set(threading.enumerate())
    watcher.start()
    new = set(threading.enumerate()) - before  # libraries start threads of their own
    (thread,) = [each for each in new if each.name == "version-watcher"]
    assert thread.daemon and watcher.arms is not None
    watcher.stop()
    assert not thread.is_alive()
    assert shown(watcher)[0] == "1"  # and goes on answering
    watch().stop()  # one that was never started


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that within a minute"
        time.sleep(0.01)
