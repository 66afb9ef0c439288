"""Passes that several workers share: the same results, whoever does what and whoever dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from conftest import write_reviews
from optuna.trial import TrialState
from support import LEDGER
from support.prediction_logs import KINDS, POSTGRES_URL, database_url

import sentiment_mlflow_optuna as script
from sentiment.errors import EXIT_INTERRUPTED
from sentiment.tracking.ledger import read_events
from sentiment.tracking.store import Store, find_runs, open_store
from sentiment.training import studies
from sentiment.training.claims import Claims, open_claims
from sentiment.training.studies import open_storage
from sentiment.training.worker import Worker

FORK = multiprocessing.get_context("fork")
MODELS, TRIALS, BATCH = ("NaiveBayes", "LogisticRegression"), 5, 3


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database_url(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def the_dead_are_noticed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "HEARTBEAT", 1)
    monkeypatch.setattr(studies, "GRACE", 3)


# --- the tasks themselves ---------------------------------------------------------------------


def do_tasks(folder: Path, url: str, file: Path) -> None:
    """Do 12 tasks with whoever else does so, and write down which."""
    with open_claims(open_storage(folder, url), "pass") as claims, file.open("w") as out:
        while not all(claims.done(f"task/{number}") for number in range(12)):
            claims.look()
            for number in range(12):
                if claims.take(f"task/{number}"):
                    out.write(f"{number}\n")
                    claims.finish(f"task/{number}")
    os._exit(0)  # what other tests have imported may not end well in a fork


def test_workers_that_begin_at_once_do_each_task_once(tmp_path: Path, url: str) -> None:
    """Each on a machine of its own: they also make the tables at once."""
    places = [tmp_path / f"worker_{number}" for number in range(3)]
    workers = []
    for place in places:
        place.mkdir()
        workers.append(FORK.Process(target=do_tasks, args=(place, url, place / "done")))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    done = [int(line) for place in places for line in (place / "done").read_text().split()]
    assert sorted(done) == list(range(12))


@pytest.mark.usefixtures("the_dead_are_noticed_soon")
def test_a_task_is_given_to_another_when_its_worker_is_silent_or_gives_it_up(
    tmp_path: Path, url: str
) -> None:
    one, two = (Claims(open_storage(tmp_path, url), "pass") for _ in range(2))
    assert one.wait("a") and one.wait("b") and one.wait("c")
    two.look()
    assert not two.take("a") and two.others() and not one.others()
    one.finish("a")
    one._held.clear()  # which silences it
    assert not two.wait("a") and two.wait("b")
    assert two.retried("b") and not two.retried("a")
    two.close()
    with open_claims(open_storage(tmp_path, url), "pass") as three:
        assert three.wait("b") and three.wait("c")
        assert three.id() == one.id() != Claims(three.storage, "other").id()


@pytest.mark.usefixtures("the_dead_are_noticed_soon")
def test_a_worker_that_was_taken_for_dead_and_wakes_up_changes_nothing(
    tmp_path: Path, url: str
) -> None:
    sleeper, other, third = (Claims(open_storage(tmp_path, url), "pass") for _ in range(3))
    assert sleeper.wait("a")
    held = dict(sleeper._held)
    sleeper._held.clear()
    assert other.wait("a")
    sleeper._held |= held
    other.close()
    sleeper.look()
    assert not sleeper.take("a"), "it is at it"
    assert third.wait("a")
    assert not sleeper.holds("a") and not sleeper.ticket("a").held()
    assert third.holds("a") and third.ticket("a").held()
    sleeper.finish("a")  # is told so in the log
    third.look()
    assert not third.done("a")
    third.finish("a")
    third.look()
    assert third.done("a")


# --- whole passes -----------------------------------------------------------------------------


def arguments(data: Path, store: Path, *more: str) -> list[str]:
    size = ["--trials", str(TRIALS), "--models", ",".join(MODELS), "--batch", str(BATCH)]
    return ["--data", str(data), "--store", str(store), *size, "--jobs", "1", "--quiet", *more]


@dataclass(frozen=True)
class Death:
    """Get a signal at the so many-th call of this function, before it or after it."""

    target: str
    call: int = 1
    after: bool = False
    signal: int = signal.SIGKILL


def work(options: list[str], death: Death | None = None) -> BaseProcess:
    """Begin to run the script in a process that has imported everything."""

    def child() -> None:
        if death is not None:
            main, calls = os.getpid(), 0
            path, _, name = death.target.rpartition(".")
            owner: Any = resolve_name(path)
            original = getattr(owner, name)

            def deadly(*positional: Any, **named: Any) -> Any:
                nonlocal calls
                calls += 1
                result = original(*positional, **named) if death.after else None
                if calls == death.call:
                    os.kill(main, death.signal)
                    time.sleep(60)  # where it is another process, that one ends by itself
                return result if death.after else original(*positional, **named)

            setattr(owner, name, deadly)
        os._exit(script.main(options))

    process = FORK.Process(target=child)
    process.start()
    return process


def exit_code(process: BaseProcess) -> int | None:
    process.join(240)
    return process.exitcode


def outcome(store: Store) -> dict[str, Any]:
    """All that a pass computed, without ids and times. Each run is there once, and ended."""
    found: dict[str, Any] = {}
    times = ("duration_seconds", "fit_time", "model_size_bytes")
    for algorithm in MODELS:
        for run in find_runs(store, algorithm, {}):
            trial = run.data.tags.get("flipkart.trial", "best")
            assert run.info.status == "FINISHED" and f"{algorithm}/{trial}" not in found
            assert trial in {run.info.run_name, "best"}
            metrics = {name: x for name, x in run.data.metrics.items() if name not in times}
            found[f"{algorithm}/{trial}"] = run.data.params, metrics
    (ledger_run,) = find_runs(store, LEDGER, {"flipkart.kind": "experiment"})
    assert ledger_run.info.status == "FINISHED"
    found["winner"] = ledger_run.data.tags["winner"]
    versions = store.client.search_model_versions("name = 'FlipkartSentimentModel'")
    found["versions"] = Counter(version.tags["model"] for version in versions)
    (staged,) = [event.target for event in read_events(store) if event.action == "stage"]
    (challenger,) = [one for one in versions if one.tags["model"] == found["winner"]]
    assert str(challenger.version) == staged
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, small_reviews: Path) -> dict[str, Any]:
    """What one worker finds that does not share."""
    folder = tmp_path_factory.mktemp("alone")
    assert script.main(arguments(small_reviews, folder)) == 0
    found = outcome(open_store(folder))
    assert len(found) == len(MODELS) * (TRIALS + 1) + 2
    assert set(found["versions"].values()) == {1}
    return found


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """The only kind that several machines can share."""
    if not POSTGRES_URL:
        pytest.skip("POSTGRES_URL names no PostgreSQL")
    with database_url("postgresql", tmp_path) as url:
        yield url


@pytest.mark.slow
@pytest.mark.xdist_group("postgres")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_that_begin_at_once_find_what_one_finds(
    workers: int, postgres: str, store_folder: Path, small_reviews: Path, alone: dict[str, Any]
) -> None:
    options = arguments(small_reviews, store_folder, "--join", "night", "--storage", postgres)
    begun = [work(options) for _ in range(workers)]
    assert [exit_code(one) for one in begun] == [0] * workers
    assert outcome(open_store(store_folder)) == alone


@pytest.mark.slow
@pytest.mark.xdist_group("postgres")
@pytest.mark.usefixtures("the_dead_are_noticed_soon")
def test_workers_killed_on_the_way_are_replaced_and_strangers_are_refused(
    postgres: str,
    store_folder: Path,
    small_reviews: Path,
    alone: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = arguments(small_reviews, store_folder, "--join", "night", "--storage", postgres)
    # the run of a trial is written, and still RUNNING
    written = Death("sentiment.training.search.log_values", 2, after=True)
    assert exit_code(work(options, written)) == -signal.SIGKILL

    place = ["--store", str(store_folder), "--quiet"]
    shared = ["--join", "night", "--storage", postgres]
    other, new = write_reviews(tmp_path / "other.csv", seed=9), tmp_path / "another"
    for refused, said in (
        ([*place, *shared, "--seed", "7"], "with seed 42, not 7"),
        ([*place, *shared, "--batch", "1"], "with batch 3, not 1"),
        ([*place, *shared, "--data", str(other)], "with data digest"),
        ([*place, "--join", "night"], "same --storage"),
        (["--store", str(new), "--quiet", *shared], "same MLflow server"),
        ([*place, "--resume"], "--join night"),
        ([*place, "--resume", "night"], "--join night"),
    ):
        assert script.main(refused) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1

    fitting = Death("sentiment.training.search.fit_and_evaluate")
    assert exit_code(work(options, fitting)) == -signal.SIGKILL
    # the pass knows its own settings, and where its reviews are
    last = [work([*place, *shared]) for _ in range(2)]
    assert [exit_code(one) for one in last] == [0, 0]
    assert outcome(open_store(store_folder)) == alone
    # late ones look at the result
    assert script.main([*place, *shared]) == 0 and "FINAL SUMMARY" in capsys.readouterr().out
    assert outcome(open_store(store_folder)) == alone


def written(store: Store) -> dict[str, Any]:
    """When each run of a trial or a model ended, and when its metrics were written."""
    runs = find_runs(store, MODELS[0], {})
    assert Counter(run.data.tags.get("flipkart.trial") for run in runs) == {"0": 1, None: 1}
    return {
        run.info.run_id: (run.info.end_time, {it.key: it.timestamp for it in run.data._metric_objs})
        for run in runs
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "asleep",
    [
        "sentiment.training.studies.PassStudy.end",  # what comes next is given to the process
        "sentiment.training.search._refit",
        "sentiment.training.search.drawings",
    ],
)
def test_a_worker_that_wakes_up_when_another_has_done_its_task_writes_nothing(
    asleep: str, store_folder: Path, small_reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = arguments(small_reviews, store_folder, "--join", "night")
    options += ["--trials", "1", "--models", MODELS[0]]
    store, worker = open_store(store_folder), Worker()
    opened: list[Claims] = []
    found: list[dict[str, Any]] = []
    path, _, name = asleep.rpartition(".")
    owner: Any = resolve_name(path)
    original, begin = getattr(owner, name), Claims.__init__

    def begun(self: Claims, *positional: Any) -> None:
        begin(self, *positional)
        opened.append(self)

    def sleepy(*positional: Any) -> Any:
        result = original(*positional)
        if len(opened) == 1:
            worker.finish()
            (ticket,) = opened[0]._held.values()
            opened[0].storage.set_trial_state_values(ticket, TrialState.FAIL)  # as after a silence
            assert script.main(options) == 0
            found.append(written(store))
        return result

    monkeypatch.setattr(Claims, "__init__", begun)
    monkeypatch.setattr(owner, name, sleepy)
    assert script.main(options, worker) == 0
    assert found == [written(store)]


@pytest.mark.slow
def test_ctrl_c_of_one_worker_leaves_the_pass_to_the_others_and_of_the_last_closes_it(
    store_folder: Path, small_reviews: Path, alone: dict[str, Any]
) -> None:
    """On one machine SQLite will do."""
    options = arguments(small_reviews, store_folder, "--join", "night")
    store, scored = open_store(store_folder), "sentiment.training.folds.FoldMatrices.score"
    first = work(options, Death(scored, 3, signal=signal.SIGINT))
    assert exit_code(first) == EXIT_INTERRUPTED
    runs = [run for name in (*MODELS, LEDGER) for run in find_runs(store, name, {})]
    assert Counter(run.info.status for run in runs)["KILLED"] >= len(MODELS) + 1
    assert "RUNNING" not in {run.info.status for run in runs}
    pair = [work(options, Death(scored, 2, signal=signal.SIGINT)), work(options)]
    assert exit_code(pair[1]) == 0
    assert exit_code(pair[0]) in {EXIT_INTERRUPTED, 0}  # 0: the other one was faster
    assert outcome(store) == alone
