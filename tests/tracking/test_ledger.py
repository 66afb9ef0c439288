"""Registry ledger: replay by hand, claims of the living and the dead, many changes at once."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from sentiment.errors import ConflictError
from sentiment.tracking import ledger as registry_ledger
from sentiment.tracking.ledger import (
    PROMOTE,
    REGISTRY_KIND,
    ROLLBACK,
    STAGE,
    Event,
    RegistryState,
    append,
    processes,
    read_events,
    replay,
)
from sentiment.tracking.store import Settings, Store, begin_run, find_runs, open_store

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


def events(*changes: tuple[str, str]) -> list[Event]:
    """Events 1, 2 and so on, at one o'clock, two o'clock and so on."""
    return [
        Event(number, MIDNIGHT + timedelta(hours=number), action, None, target)
        for number, (action, target) in enumerate(changes, start=1)
    ]


LIFE = events(
    (STAGE, "1"),
    (PROMOTE, "1"),  # 2 o'clock
    (PROMOTE, "2"),
    (PROMOTE, "3"),
    (ROLLBACK, "2"),  # 5 o'clock
    (ROLLBACK, "1"),
    (PROMOTE, "4"),  # forced
    (STAGE, "5"),
)


def test_the_state_at_every_hour() -> None:
    stacks = [(), ("1",), ("1", "2"), ("1", "2", "3"), ("1", "2"), ("1",), ("1", "4"), ("1", "4")]
    for hour, stack in enumerate(stacks, start=1):
        for minutes in (0, 59):
            state = replay(LIFE, MIDNIGHT + timedelta(hours=hour, minutes=minutes))
            assert state.stack == stack and state.production == (stack[-1] if stack else None)
    india = timezone(timedelta(hours=5, minutes=30))
    assert replay(LIFE, datetime(2026, 3, 1, 9, 0, tzinfo=india)).production == "2"  # 03:30 UTC


def test_the_state_now_and_what_was_ever() -> None:
    state = replay(reversed(LIFE))  # in whatever order they come
    assert (state.stack, state.staging) == (("1", "4"), "5")
    assert state.promoted == {"1", "2", "3", "4"} and state.staged == {"1", "5"}
    assert state.events == 8
    assert replay([]) == RegistryState()
    assert replay(LIFE[:1]).staging == "1" and replay(LIFE[:2]).staging is None


def test_a_version_can_come_back_and_a_deleted_one_is_passed_over() -> None:
    again = events((PROMOTE, "1"), (PROMOTE, "2"), (PROMOTE, "1"), (ROLLBACK, "2"))
    assert replay(again).stack == ("1", "2")
    over = events((PROMOTE, "1"), (PROMOTE, "2"), (PROMOTE, "3"), (ROLLBACK, "1"))
    assert replay(over).stack == ("1",)


def promotion(number: int, target: str, compared: str, low: float | None) -> Event:
    """A promotion compared with the version that was the best; `low` is the end of its interval."""
    metrics = {} if low is None else {"best_difference_f1_macro_low": low}
    metrics["best_version"] = float(compared)
    when = MIDNIGHT + timedelta(hours=number)
    return Event(number, when, PROMOTE, None, target, metrics=metrics)


def test_the_best_version_so_far_follows_from_the_ledger() -> None:
    first, forced = events((PROMOTE, "1"), (PROMOTE, "2"))  # forced, and not compared
    assert replay([first]).best == replay([first, forced]).best == "1"
    equal, at_limit = promotion(3, "3", "1", -0.009), promotion(3, "3", "1", 0.0)
    assert replay([first, forced, equal]).best == replay([first, forced, at_limit]).best == "1"
    better = promotion(4, "4", "1", 0.001)
    assert replay([first, forced, equal, better]).best == "4"
    # it was taken out again, so it is no measure
    back = Event(5, better.when + timedelta(hours=1), ROLLBACK, "4", "3")
    assert replay([first, forced, equal, better, back]).best == "1"
    far = Event(6, back.when + timedelta(hours=1), ROLLBACK, "5", "1")
    after = [first, promotion(2, "2", "1", 0.001), promotion(3, "5", "2", -0.009)]
    assert replay(after).best == "2" and replay([*after, far]).best == "1"
    # the best was gone, so the gate compared with production
    gone = promotion(5, "5", "3", -0.001)
    assert replay([first, forced, equal, better, gone]).best == "3"
    assert replay([first, promotion(2, "1", "1", None)]).best == "1"
    assert replay([]).best is None


def test_a_clock_that_was_set_back_does_not_change_the_order() -> None:
    first, second = events((PROMOTE, "1"), (PROMOTE, "2"))
    late = Event(2, first.when - timedelta(hours=5), second.action, None, "2")
    assert replay([late, first]).production == "2"
    assert replay([late, first], first.when).production == "2"
    assert replay([late, first], first.when - timedelta(hours=1)).production is None


# --- in a store -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def store(shared_store: Store) -> Store:
    """The module's store with a project of the test's own."""
    return replace(shared_store, settings=Settings(f"of-{time.monotonic_ns()}"))


def change(store: Store, target: str, expected: str | None = None) -> Event:
    def decide(state: RegistryState) -> str | None:
        if state.production != expected:
            raise ConflictError("changed since")
        return state.production

    return append(store, PROMOTE, target, decide, why="because", metrics={"rows": 7.0})


def claim(store: Store, *, age: float, where: str = "elsewhere", pid: int = 1) -> str:
    """A claim that somebody else left; `age` in seconds, below 0 it is later than ours."""
    tags = {"action": "promote", "to": "9", "who": "someone", "host": "elsewhere"}
    tags |= {"processes": where, "pid": str(pid)}
    return begin_run(
        store,
        store.settings.ledger,
        {**REGISTRY_KIND, **{f"flipkart.{key}": value for key, value in tags.items()}},
        started=time.time() - age,
    )


def statuses(store: Store) -> list[str]:
    runs = find_runs(store, store.settings.ledger, REGISTRY_KIND)
    return [str(run.info.status) for run in runs]


def test_an_event_is_read_back_as_written(store: Store) -> None:
    begin_run(store, store.settings.ledger, {"flipkart.kind": "experiment"})  # no event
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    first, second = change(store, "1"), change(store, "2", "1")
    assert read_events(store) == [first, second]
    assert (second.number, second.action, second.origin, second.target) == (2, PROMOTE, "1", "2")
    assert (second.why, second.forced, second.metrics) == ("because", False, {"rows": 7.0})
    assert before <= first.when <= second.when <= datetime.now(UTC)
    tags = store.client.get_run(second.run_id).data.tags
    assert tags["flipkart.time"].endswith("+00:00")
    assert tags["flipkart.host"] == platform.node() and int(tags["flipkart.pid"]) > 0


def test_what_a_decision_raises_leaves_nothing(store: Store) -> None:
    with pytest.raises(ConflictError):
        change(store, "1", "7")
    assert statuses(store) == ["KILLED"] and read_events(store) == []


def test_of_two_claims_the_later_withdraws(store: Store) -> None:
    theirs = claim(store, age=5)
    with pytest.raises(ConflictError, match="promote of version 9 by someone on elsewhere came"):
        change(store, "1")
    assert statuses(store) == ["RUNNING", "KILLED"]
    store.client.set_terminated(theirs, "KILLED")
    assert change(store, "1").number == 1


def test_of_two_claims_the_earlier_waits_for_the_others_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = claim(store, age=-5)
    with monkeypatch.context() as patch:
        patch.setattr(registry_ledger, "PATIENCE", 0.2)
        with pytest.raises(ConflictError, match="under way"):
            change(store, "1")
    assert read_events(store) == []
    timer = threading.Timer(0.3, store.client.set_terminated, (theirs, "FAILED"))
    timer.start()
    assert change(store, "1").number == 1
    assert not timer.is_alive(), "it went on while the other claim stood"
    timer.join()


def test_claims_of_the_dead_are_closed(store: Store) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead = claim(store, age=1, where=processes(), pid=gone.pid)
    old = claim(store, age=601)
    assert change(store, "1").number == 1
    for run_id in (dead, old):
        assert store.client.get_run(run_id).info.status == "KILLED"


def test_a_claim_of_another_container_is_left_alone_though_it_has_our_host_name(
    store: Store,
) -> None:
    apart = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c"]
    code = (
        "from sentiment.tracking import ledger; import os; print(os.getpid(), ledger.processes())"
    )
    try:
        said = subprocess.run([*apart, code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no process namespace can be made here")
    pid, _, where = said.stdout.strip().partition(" ")
    claim(store, age=1, where=where, pid=int(pid))  # 1: here too a process has that number
    claim(store, age=1, where=where, pid=2**22)  # nobody's number here
    registry_ledger.close_abandoned(store)
    assert statuses(store) == ["RUNNING", "RUNNING"]


def test_the_living_on_this_machine_and_the_young_elsewhere_are_left_alone(store: Store) -> None:
    claim(store, age=1, where=processes(), pid=os.getpid())
    claim(store, age=590)
    registry_ledger.close_abandoned(store)
    assert statuses(store) == ["RUNNING", "RUNNING"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process began")
def test_a_claim_whose_number_was_given_to_another_process_is_closed(store: Store) -> None:
    """As in a container that is restarted: the same names and numbers, other processes."""
    with subprocess.Popen(["sleep", "60"]) as other:
        left = claim(store, age=5, where=processes(), pid=other.pid)  # before it began
        stands = claim(store, age=0, where=processes(), pid=other.pid)
        registry_ledger.close_abandoned(store)
        other.kill()
    assert store.client.get_run(left).info.status == "KILLED"
    assert store.client.get_run(stands).info.status == "RUNNING"


def test_a_claim_that_was_closed_meanwhile_is_not_committed(store: Store) -> None:
    def sleep_too_long(state: RegistryState) -> None:
        (mine,) = find_runs(store, store.settings.ledger, REGISTRY_KIND)
        store.client.set_terminated(mine.info.run_id, "KILLED")

    with pytest.raises(ConflictError, match="took too long"):
        append(store, PROMOTE, "1", sleep_too_long, why="")
    assert statuses(store) == ["KILLED"]


def test_of_four_changes_at_once_one_is_made(store: Store) -> None:
    before = None
    for turn in range(3):
        gate = threading.Barrier(4)

        def race(target: str, expected: str | None = before, gate: threading.Barrier = gate) -> str:
            gate.wait()
            try:
                return change(store, target, expected).target
            except ConflictError:
                return ""

        with ThreadPoolExecutor(4) as pool:
            made = [x for x in pool.map(race, [f"{turn}{who}" for who in range(4)]) if x]
        assert len(made) == 1
        before = made[0]
        assert replay(read_events(store)).production == before
    assert [event.number for event in read_events(store)] == [1, 2, 3]
    assert statuses(store).count("KILLED") == 9 and "RUNNING" not in statuses(store)
