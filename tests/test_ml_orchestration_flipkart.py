"""The scheduled flow against a real Prefect server and a real MLflow store."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import PROJECT, write_reviews
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    DeploymentFilter,
    FlowFilter,
    FlowRunFilter,
    TaskRunFilter,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings
from support.drift_reviews import made_up
from support.drift_store import champion, write_answers
from support.loop_reviews import in_other_words, write_labelled
from support.webhook import receiving

import ml_orchestration_flipkart as script
from sentiment.errors import (
    PredictionLogError,
    ReviewDataError,
    ReviewReadError,
    TrackingError,
    VersionError,
)
from sentiment.flows import deployments as flow_deployments
from sentiment.flows import service as flow_service
from sentiment.flows import tasks as flow_tasks
from sentiment.flows.deployments import Scheduled
from sentiment.flows.drift import DRIFT_DEPLOYMENT_NAME, DRIFT_FLOW_NAME, flipkart_drift_flow
from sentiment.flows.prefect_server import Server, server_for, stop_group
from sentiment.predictions.log import open_log
from sentiment.registry.lifecycle import production_version
from sentiment.tracking.store import KILLED, LEDGER, RUNNING, Store, find_runs, open_store

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("prefect")]

TASKS = [
    "check_drift",
    "choose_configuration",
    "load_data",
    "add_feedback",
    "preprocess_data",
    "split_train_test",
    "vectorize_text",
    "train_model",
    "evaluate_model",
    "log_to_mlflow",
    "promotion_gate",
]
NOTHING_TRAINED = [
    *("check_drift", "choose_configuration", "load_data", "add_feedback", "look_for_change"),
    *("preprocess_data", "split_train_test", "promotion_gate"),
]
MAIN = Scheduled(script.FLOW_NAME, script.DEPLOYMENT_NAME, None, {})
DRIFT = Scheduled(DRIFT_FLOW_NAME, DRIFT_DEPLOYMENT_NAME, None, {})
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    named = os.environ.pop("PREFECT_API_URL", None)
    with server_for(tmp_path_factory.mktemp("prefect"), say=lambda _: None) as started:
        yield started
    if named is not None:
        os.environ["PREFECT_API_URL"] = named


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[SyncPrefectClient]:
    with (
        temporary_settings({PREFECT_API_URL: server.api_url}),
        get_client(sync_client=True) as opened,
    ):
        yield opened


def retraining_runs(store: Store) -> list[Any]:
    return find_runs(store, LEDGER, {"flipkart.kind": "retraining"})


def deployed(client: SyncPrefectClient, which: Scheduled = MAIN) -> DeploymentResponse:
    (found,) = flow_deployments.deployments(client, [which])
    assert found is not None
    return found


def newest_run(client: SyncPrefectClient, flow_name: str) -> str:
    """The id of the flow's newest run."""
    runs = client.read_flow_runs(
        flow_filter=FlowFilter.model_validate({"name": {"any_": [flow_name]}}),
        sort=FlowRunSort.START_TIME_DESC,
        limit=1,
    )
    return str(runs[0].id)


def tasks_of(client: SyncPrefectClient, flow_run_id: str) -> list[str]:
    """The names of a run's tasks, in the order they began."""
    runs = client.read_task_runs(
        flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [flow_run_id]}}),
        task_run_filter=TaskRunFilter(),
    )
    found = sorted(runs, key=lambda task_run: task_run.start_time or task_run.created)  # type: ignore[arg-type, return-value]
    return [task_run.name.rsplit("-", 1)[0] for task_run in found]


def artifacts_of(client: SyncPrefectClient, flow_run_id: str) -> dict[str, str]:
    """What a run left in the Prefect UI, by key."""
    artifacts = client.read_artifacts(
        artifact_filter=ArtifactFilter.model_validate({"flow_run_id": {"any_": [flow_run_id]}})
    )
    return {str(artifact.key): str(artifact.data) for artifact in artifacts}


# --- retries ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ReviewDataError("no column"), False),
        (TrackingError("the tracking store does not answer"), True),
        (OSError("the disk is away"), True),
        (ReviewReadError("cannot be read"), True),
        (PredictionLogError("the prediction log does not answer"), True),
        (VersionError("1", "will not load"), False),
        (ZeroDivisionError("a bug"), False),
    ],
)
def test_what_is_tried_again(server: Server, error: Exception, again: bool) -> None:
    """A task of the flow's own settings, run for real: bad data fails at once."""
    tries = []

    @task(**flow_tasks.IN_MEMORY, **{**flow_tasks.TRANSIENT, "retry_delay_seconds": 0})
    def failing() -> None:
        tries.append(1)
        raise error

    @flow
    def trying() -> None:
        failing()

    with temporary_settings({PREFECT_API_URL: server.api_url}), pytest.raises(type(error)):
        trying()
    assert len(tries) == (1 + flow_tasks.RETRIES if again else 1)


@pytest.fixture(scope="module")
def webhook() -> Iterator[tuple[str, list[dict[str, str]]]]:
    with receiving() as address_and_received:
        yield address_and_received


# --- one run ------------------------------------------------------------------------------------


def test_one_run_leaves_tasks_artifacts_a_run_and_a_version_in_production(
    server: Server,
    client: SyncPrefectClient,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = write_reviews(tmp_path / "reviews.csv", rows=800)
    parameters = {"data": str(data), "store": str(tmp_path / "store")}
    assert flow_service.run_once(server, script.flipkart_sentiment_flow, parameters) == 0
    printed = caplog.text
    assert re.search(r"Train F1 Score: [01]\.\d{4}\n", printed)
    assert re.search(r"Test F1 Score : [01]\.\d{4}\n", printed)
    assert "configuration: the published one" in printed

    store = open_store(tmp_path / "store")
    (run,) = retraining_runs(store)
    assert run.info.status == "FINISHED"
    assert run.data.params["stop_words"] == "english" and run.data.params["C"] == "0.5"
    assert {"train_f1", "test_f1", "test_f1_low", "test_f1_high"} <= set(run.data.metrics)
    assert run.data.tags["flipkart.flow_run_url"].startswith(server.ui_url)
    assert run.data.tags["flipkart.verdict"].startswith("promoted: the first in production")
    assert production_version(store) == "1"
    listed = {item.path for item in store.client.list_artifacts(run.info.run_id, "figures")}
    assert "figures/confusion_matrix.png" in listed

    flow_run_id = run.data.tags["flipkart.flow_run"]
    assert tasks_of(client, flow_run_id) == TASKS
    assert all(getattr(script, name).__doc__ for name in {*TASKS, *NOTHING_TRAINED})
    kept = artifacts_of(client, flow_run_id)
    assert set(kept) == {"retraining-report", "confusion-matrix"}
    assert "promoted: the first in production" in kept["retraining-report"]
    assert f"/runs/{run.info.run_id})" in kept["retraining-report"]
    assert "95 % interval" in kept["retraining-report"]
    assert "not checked: no version is in production" in kept["retraining-report"]

    # the same again trains nothing; without the check it does, and registers nothing
    flow_service.run_once(server, script.flipkart_sentiment_flow, parameters)
    assert len(retraining_runs(store)) == 1
    flow_run_id = newest_run(client, script.FLOW_NAME)
    assert tasks_of(client, flow_run_id) == NOTHING_TRAINED
    (left,) = artifacts_of(client, flow_run_id).values()
    assert "nothing was trained, unchanged since version 1" in left
    assert "not enough yet: " in left and "there is no prediction log" in left
    assert "unchanged since version 1: it is in production" in left
    flow_service.run_once(server, script.flipkart_sentiment_flow, {**parameters, "drift": "off"})
    flow_run_id = newest_run(client, script.FLOW_NAME)
    assert tasks_of(client, flow_run_id) == [
        name for name in TASKS if name not in ("check_drift", "add_feedback")
    ]
    assert len(retraining_runs(store)) == 2

    # other data is another version, and passes the gate
    write_reviews(data, rows=900, seed=5)
    flow_service.run_once(server, script.flipkart_sentiment_flow, {**parameters, "promote": False})
    assert "not carried out: " in caplog.text
    assert len(retraining_runs(store)) == 3
    versions = store.client.search_model_versions("name = 'FlipkartSentimentModel'")
    assert sorted(str(version.version) for version in versions) == ["1", "2"]
    assert production_version(store) == "1"


# --- drift --------------------------------------------------------------------------------------


def test_drift_is_told_once_and_retrained_on_with_what_customers_said(
    server: Server,
    client: SyncPrefectClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    webhook: tuple[str, list[dict[str, str]]],
) -> None:
    address, received = webhook
    monkeypatch.setenv("ALERT_WEBHOOK_URL", address)
    begun = len(received)
    texts, labels = made_up(800, seed=1)
    data = write_labelled(tmp_path / "reviews.csv", texts, labels)
    store = open_store(tmp_path / "store")
    parameters = {"data": str(data), "store": str(store.folder)}

    def retrain() -> str:
        assert flow_service.run_once(server, script.flipkart_sentiment_flow, parameters) == 0
        return artifacts_of(client, newest_run(client, script.FLOW_NAME))["retraining-report"]

    def check() -> str:
        run = {"store": str(store.folder)}
        assert flow_service.run_once(server, flipkart_drift_flow, run) == 0
        return artifacts_of(client, newest_run(client, DRIFT_FLOW_NAME))["drift-report"]

    assert check().startswith("not checked: no version is in production")
    retrain()
    assert production_version(store) == "1"
    log = open_log(f"sqlite:///{store.folder / 'predictions.db'}")
    texts, labels = made_up(400, seed=2)
    for at, name in enumerate(write_answers(log, champion(store), in_other_words(texts))):
        log.add_feedback(name, 0, int(labels[at]), None, at=1.0)

    # either flow may find it first, and one of them says so
    found = check()
    assert found.startswith("drifted (version 1, 400 reviews of the prediction log)")
    assert "unknown words" in found
    left = retrain()
    (told,) = received[begun:]
    assert (told["flow"], told["state"]) == (DRIFT_FLOW_NAME, "drifted")
    # the chain: what drifted, what was trained on it, what became of it
    assert production_version(store) == "2"
    drifted, trained, verdict = re.split(r"### .*\n", left)[1:]
    assert "drifted (version 1" in drifted and "unknown words" in drifted
    assert "registered version 2" in trained
    assert "400 labels in the prediction log: 0 without a stored text" in trained
    assert "promoted: better than version 1" in verdict
    tags = store.client.get_model_version("FlipkartSentimentModel", "2").tags
    assert int(tags["feedback"]) > 300 and tags["file_digest"] != tags["data_digest"]
    # the new version knows those words: they are what it was trained on
    known = champion(store).predict(in_other_words(made_up(200, seed=3)[0]), explain=False)
    assert sum(answer.known_words for answer in known) > 0.9 * sum(a.words for a in known)

    # nothing is known of the new version yet, so nothing is trained, whatever was said before
    assert "nothing was trained, unchanged since version 2" in retrain()
    texts, _ = made_up(200, seed=4)
    write_answers(
        log, champion(store), [*texts, *in_other_words(made_up(100, seed=5)[0])], name="s"
    )
    assert check().startswith("steady (version 2, 300 reviews")
    assert [body["state"] for body in received[begun:]] == ["drifted", "steady"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cron", "every day"], "--cron 'every day': not a cron expression"),
        (["--drift-cron", "hourly"], "--drift-cron 'hourly': not a cron expression"),
        (["--data", "none.csv"], "no such file"),
        (["--keep", "0"], "expected 1 or more"),
    ],
)
def test_bad_input_is_one_line_before_anything_starts(
    options: list[str], said: str, run_script: Run, tmp_path: Path
) -> None:
    done = run_script("ml_orchestration_flipkart.py", "--store", tmp_path / "store", *options)
    assert done.returncode == 2
    assert said in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""
    assert not (tmp_path / "store" / "mlflow.db").exists()


# --- the service --------------------------------------------------------------------------------


class Service:
    """The script serving its deployment in a process of its own."""

    running: ClassVar[list[Service]] = []  # a test that fails must not leave one to the next

    def __init__(self, server: Server, folder: Path, *options: str, **env: str) -> None:
        self.folder, self.store_folder = folder, folder / "store"
        self.data = folder / "reviews.csv"
        if not self.data.exists():
            write_reviews(self.data, rows=800)
        self.log = folder / "service.log"
        self.begin = len(self.log.read_text()) if self.log.exists() else 0
        command = [sys.executable, str(PROJECT / "ml_orchestration_flipkart.py")]
        paths = ["--data", str(self.data), "--store", str(self.store_folder)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, *paths, *options],
                env={
                    **os.environ,
                    "PREFECT_API_URL": server.api_url,
                    "PREFECT_RUNNER_POLL_FREQUENCY": "1",
                    **env,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.said_before = self.begin
        Service.running.append(self)
        self.wait_for("serving 'flipkart-sentiment-logistic-deployment'")

    def printed(self) -> str:
        """What this service said, without what one before it did in the same folder."""
        return self.log.read_text()[self.begin :]

    def wait_for(self, text: str, seconds: float = 120) -> None:
        """Wait until the service has printed a text since the last such wait."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            at = self.log.read_text().find(text, self.said_before)
            if at >= 0:
                self.said_before = at + len(text)
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        raise AssertionError(f"{text!r} was not printed:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


@pytest.fixture(autouse=True)
def no_service_left_behind() -> Iterator[None]:
    yield
    while Service.running:
        left = Service.running.pop()
        if left.process.poll() is None:
            left.process.kill()
            left.process.wait()


def trigger(client: SyncPrefectClient, which: Scheduled = MAIN) -> FlowRun:
    return client.create_flow_run_from_deployment(deployed(client, which).id)


def wait_for_state(
    client: SyncPrefectClient, run: FlowRun, *states: str, seconds: float = 90
) -> str:
    until = time.monotonic() + seconds
    name = "?"
    while time.monotonic() < until:
        state = client.read_flow_run(run.id).state
        name = state.type.value if state is not None else "?"
        if name in states:
            return name
        time.sleep(0.2)
    raise AssertionError(f"run {run.name} is {name}, expected one of {states}")


def scheduled_run_completed(
    client: SyncPrefectClient, ours: DeploymentResponse, seconds: float = 100
) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.5)
        found = client.read_flow_runs(
            deployment_filter=DeploymentFilter.model_validate({"id": {"any_": [ours.id]}}),
            flow_run_filter=FlowRunFilter.model_validate(
                {"state": {"type": {"any_": ["COMPLETED"]}}}
            ),
        )
        if any(run.auto_scheduled for run in found):
            return True
    return False


def runner_children(service: Service) -> list[int]:
    """Processes below the service that execute a flow run."""
    parents: dict[int, int] = {}
    commands: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
                commands[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])

    def below(pid: int) -> bool:
        while pid in parents:
            pid = parents[pid]
            if pid == service.process.pid:
                return True
        return False

    return [p for p in parents if below(p) and "serve-child" not in commands[p]]


def test_the_service_from_schedule_to_sigterm(
    server: Server,
    client: SyncPrefectClient,
    tmp_path: Path,
    webhook: tuple[str, list[dict[str, str]]],
) -> None:
    """One service through its whole life, since starting one takes most of a test's time."""
    address, received = webhook
    received.clear()
    crons = ("--cron", "* * * * *", "--drift-cron", "0 3 1 1 *")
    service = Service(server, tmp_path, *crons, ALERT_WEBHOOK_URL=address)
    service.wait_for("serving 'flipkart-sentiment-drift-deployment' on cron 0 3 1 1 *")
    ours, second = deployed(client), deployed(client, DRIFT)
    crons_found = [[one.schedule.cron for one in each.schedules] for each in (ours, second)]  # type: ignore[union-attr]
    assert crons_found == [["* * * * *"], ["0 3 1 1 *"]]
    assert ours.parameters["data"] == str(service.data)
    assert second.parameters == {"store": str(service.store_folder), "log_url": None}

    # a run that the schedule made executes by itself
    assert scheduled_run_completed(client, ours), service.log.read_text()[-3000:]
    client.update_deployment_schedule(ours.id, ours.schedules[0].id, active=False)
    time.sleep(1)
    assert production_version(open_store(service.store_folder)) == "1"

    # three at once: one runs, the others are cancelled, nothing waits; a check runs beside it
    three = [trigger(client) for _ in range(3)]
    check = trigger(client, DRIFT)
    states = [wait_for_state(client, run, "COMPLETED", "CANCELLED") for run in three]
    assert sorted(states) == ["CANCELLED", "CANCELLED", "COMPLETED"]
    assert wait_for_state(client, check, "COMPLETED", "CANCELLED", "FAILED") == "COMPLETED"

    # bad data is a failed run with the clear line, and an alert; the next good file is a good run
    good = service.data.read_text()
    service.data.write_text(good.replace("Ratings", "Stars", 1))
    bad = trigger(client)
    assert wait_for_state(client, bad, "FAILED", "COMPLETED") == "FAILED"
    state = client.read_flow_run(bad.id).state
    assert state is not None and "no column 'Ratings'" in str(state.message)
    until = time.monotonic() + 10
    while not received and time.monotonic() < until:
        time.sleep(0.1)
    assert received[0]["state"] == "Failed" and received[0]["run"] == str(bad.id)
    assert "no column 'Ratings'" in received[0]["message"]
    service.data.write_text(good)
    assert wait_for_state(client, trigger(client), "FAILED", "COMPLETED") == "COMPLETED"

    # kill -9 of a run: it is a crashed run, and the next one is a good one
    doomed = trigger(client)
    wait_for_state(client, doomed, "RUNNING")
    for pid in runner_children(service):
        os.kill(pid, signal.SIGKILL)
    assert wait_for_state(client, doomed, "CRASHED", "COMPLETED") == "CRASHED"
    assert wait_for_state(client, trigger(client), "FAILED", "COMPLETED") == "COMPLETED"
    store = open_store(service.store_folder)
    assert RUNNING not in {run.info.status for run in retraining_runs(store)}

    # SIGTERM while one is running: it ends first, then the service, with exit code 0
    last = trigger(client)
    wait_for_state(client, last, "RUNNING")
    assert service.stop() == 0
    assert wait_for_state(client, last, "COMPLETED", "CRASHED", "CANCELLED") == "COMPLETED"
    assert "Traceback" not in service.log.read_text().split("stopping: ")[1]
    assert production_version(store) == "1"


def test_a_killed_service_is_tidied_up_after_and_downtime_is_not_caught_up_with(
    server: Server, client: SyncPrefectClient, tmp_path: Path
) -> None:
    service = Service(server, tmp_path, "--cron", "0 3 1 1 *")
    run = trigger(client)
    wait_for_state(client, run, "RUNNING")
    children = runner_children(service)
    runners = [int(p.name) for p in Path("/proc").iterdir() if _is_runner(p)]
    for pid in {service.process.pid, *runners, *children}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    service.process.wait()
    missed = [trigger(client) for _ in range(3)]  # came due while nothing was served
    time.sleep(1)

    again = Service(server, tmp_path, "--cron", "0 3 1 1 *", "--drift", "off")
    assert "flipkart-sentiment-drift-deployment" not in again.printed()
    assert deployed(client, DRIFT).paused and not deployed(client).paused
    assert "left behind by a service that was killed: closed as crashed" in again.log.read_text()
    assert wait_for_state(client, run, "CRASHED", "COMPLETED") == "CRASHED"
    assert {wait_for_state(client, one, "CANCELLED", "COMPLETED") for one in missed} == {
        "CANCELLED"
    }
    statuses = [found.info.status for found in retraining_runs(open_store(again.store_folder))]
    assert RUNNING not in statuses and set(statuses) <= {"FINISHED", KILLED}

    second = subprocess.run(
        [
            *(sys.executable, str(PROJECT / "ml_orchestration_flipkart.py")),
            *("--store", str(again.store_folder), "--data", str(again.data)),
        ],
        env={**os.environ, "PREFECT_API_URL": server.api_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 2 and "another process serves the store" in second.stderr
    assert again.stop() == 0


def _is_runner(process: Path) -> bool:
    try:
        return process.name.isdecimal() and "--serve-child" in (process / "cmdline").read_text()
    except OSError:
        return False


def test_a_server_that_went_away_and_came_back_and_a_runner_left_alone(
    server: Server, client: SyncPrefectClient, tmp_path: Path
) -> None:
    service = Service(server, tmp_path, "--cron", "0 3 1 1 *")
    assert server.process is not None
    stop_group(server.process)
    time.sleep(3)
    server.restart_if_ours_died()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            client.api_healthcheck()
            run = trigger(client)
            break
        except Exception:
            time.sleep(0.5)
    assert wait_for_state(client, run, "COMPLETED", "FAILED", seconds=120) == "COMPLETED"
    service.process.kill()
    until = time.monotonic() + 30  # the runner notices by itself, and ends
    while any(_is_runner(p) for p in Path("/proc").iterdir()) and time.monotonic() < until:
        time.sleep(0.2)
    assert not any(_is_runner(p) for p in Path("/proc").iterdir())
