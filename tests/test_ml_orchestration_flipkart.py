"""The scheduled flow against a real Prefect server and a real MLflow store."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from conftest import PROJECT, write_reviews
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    FlowFilter,
    FlowRunFilter,
    LogFilter,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Running, Scheduled
from pydantic import BaseModel
from support import LEDGER
from support.drift_reviews import made_up
from support.drift_store import champion, write_answers
from support.loop_reviews import in_other_words, write_labelled
from support.prediction_logs import POSTGRES_URL
from support.webhook import receiving

import ml_orchestration_flipkart as script
from sentiment.cli.options import parse_flow
from sentiment.data.labels import Labelling, LabelRule
from sentiment.data.sources import Reading
from sentiment.errors import ServiceError
from sentiment.flows import prefect_server
from sentiment.flows import service as flow_service
from sentiment.flows.drift import DRIFT_FLOW_NAME, flipkart_drift_flow
from sentiment.flows.prefect_server import Server, server_for
from sentiment.flows.retention import forget_old_runs
from sentiment.predictions.log import open_log
from sentiment.registry.lifecycle import production_version
from sentiment.tracking.store import KILLED, Settings, Store, find_runs, open_store

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("prefect")]

TRAINED = [
    *("open_tracking_store", "load_data", "preprocess_data", "split_train_test"),
    *(
        "choose_configuration",
        "vectorize_text",
        "train_model",
        "evaluate_model",
        "log_to_mlflow",
        "promotion_gate",
    ),
]
NOTHING_TRAINED = [
    *("check_drift", "open_tracking_store", "load_data", "add_feedback", "preprocess_data"),
    *("split_train_test", "choose_configuration", "look_for_change", "promotion_gate"),
]
RETRAINING, DRIFT_CHECK = Settings().deployments
FLOWS = {RETRAINING: script.FLOW_NAME, DRIFT_CHECK: DRIFT_FLOW_NAME}
T = TypeVar("T")
Filter = TypeVar("Filter", bound=BaseModel)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Prefect server of our own, which is gone afterwards."""
    with (
        temporary_settings(restore_defaults=[PREFECT_API_URL]),
        server_for(tmp_path_factory.mktemp("prefect")) as started,
    ):
        yield started
    assert not started.answers()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as opened:
        assert str(opened.api_url).startswith(server.api_url)
        yield opened


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, str]]]:
    with receiving() as (address, received):
        monkeypatch.setenv("ALERT_URL", address)
        yield received


def wait_for(look: Callable[[], T], seconds: float = 120) -> T:
    """Return the first true answer of `look`."""
    until = time.monotonic() + seconds
    while not (answer := look()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)
    return answer


def retraining_runs(store: Store) -> list[Any]:
    return find_runs(store, LEDGER, {"flipkart.kind": "retraining"})


def which(kind: type[Filter], field: str, *values: object) -> Filter:
    """Return a filter of Prefect's: the field has one of these values."""
    return kind.model_validate({field: {"any_": list(values)}})


class Ran:
    """The newest run of a flow: the names of its tasks, in order, and its artifacts by key."""

    def __init__(self, client: SyncPrefectClient, flow_name: str) -> None:
        (run,) = client.read_flow_runs(
            flow_filter=which(FlowFilter, "name", flow_name),
            sort=FlowRunSort.START_TIME_DESC,
            limit=1,
        )
        tasks = client.read_task_runs(flow_run_filter=which(FlowRunFilter, "id", run.id))
        tasks.sort(key=lambda one: str(one.start_time or one.created))
        self.tasks = [one.name.rsplit("-", 1)[0] for one in tasks]
        found = client.read_artifacts(
            artifact_filter=which(ArtifactFilter, "flow_run_id", str(run.id))
        )
        self.artifacts = {str(one.key): str(one.data) for one in found}


# --- one run ------------------------------------------------------------------------------------


def test_one_run_leaves_tasks_artifacts_a_run_and_a_version_in_production(
    server: Server, client: SyncPrefectClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_reviews(tmp_path / "reviews.csv", rows=500)
    parameters = {"data": str(data), "store": str(tmp_path / "store")}

    def retrain(**changed: Any) -> Ran:
        flow = script.flipkart_sentiment_flow
        assert flow_service.run_once(server, flow, {**parameters, **changed}) == 0
        return Ran(client, script.FLOW_NAME)

    ran = retrain()
    assert re.search(r"Train F1 Score: [01]\.\d{4}\n", caplog.text)
    assert re.search(r"Test F1 Score : [01]\.\d{4}\n", caplog.text)
    store = open_store(tmp_path / "store")
    (run,) = retraining_runs(store)
    assert run.info.status == "FINISHED" and production_version(store) == "1"
    assert run.data.params["stop_words"] == "english" and run.data.params["C"] == "0.5"
    assert run.data.tags["flipkart.flow_run_url"].startswith(server.ui_url)
    assert run.data.tags["flipkart.verdict"].startswith("promoted: the first in production")
    listed = {item.path for item in store.client.list_artifacts(run.info.run_id, "figures")}
    assert "figures/confusion_matrix.png" in listed
    assert [task for task in ran.tasks if task not in ("check_drift", "add_feedback")] == TRAINED
    assert set(ran.artifacts) == {"retraining-report", "confusion-matrix"}
    for said in (
        *("promoted: the first in production", f"`{run.info.run_id}`", "95 % interval"),
        *("not checked: no version is in production", "the published one"),
        "What customers complain about",
    ):
        assert said in ran.artifacts["retraining-report"]

    # the same again trains nothing
    ran = retrain()
    assert len(retraining_runs(store)) == 1 and ran.tasks == NOTHING_TRAINED
    (left,) = ran.artifacts.values()
    assert left.startswith("# Nothing to train\n")
    assert "not enough yet: " in left and "no prediction log there" in left
    assert "already covers this data: it is in production" in left

    # without the check it trains; other data is another version, here only judged
    write_reviews(data, rows=600, seed=5)
    assert retrain(drift="off", promote=False, drop_neutral=True).tasks == TRAINED
    assert "not carried out, since promotion is switched off: " in caplog.text
    assert len(retraining_runs(store)) == 2 and production_version(store) == "1"
    versions = store.client.search_model_versions("name = 'FlipkartSentimentModel'")
    assert sorted(str(version.version) for version in versions) == ["1", "2"]

    assert "refused: not comparable: version 2 was trained with '1–2 negative, 4–5" in caplog.text
    rules = {str(version.version): version.tags["label_rule"] for version in versions}
    assert rules == {"1": "1–2 negative, 3–5 positive", "2": "1–2 negative, 4–5 positive"}
    # what counts as negative is as in production, unless the run is told otherwise
    tag = "FlipkartSentimentModel", "1", "label_rule", "1–3 negative, 4–5 positive"
    store.client.set_model_version_tag(*tag)
    columns = str(data), None, None, Reading()
    assert script.load_data.fn(store, *columns, Labelling()).rule == LabelRule(3)
    assert script.load_data.fn(store, *columns, Labelling(negative_up_to=2)).rule == LabelRule(2)

    # the newest run is kept, the older ones go with all they left; both versions still need theirs
    store_tag = f"store:{store.folder}"
    forget_old_runs(store, [script.FLOW_NAME], store_tag, 1)
    ours = FlowRunFilter.model_validate({"tags": {"all_": [store_tag]}})
    (kept,) = client.read_flow_runs(flow_run_filter=ours)
    tasks = client.read_task_runs(flow_filter=which(FlowFilter, "name", script.FLOW_NAME))
    assert len(tasks) == len(TRAINED) and {task.flow_run_id for task in tasks} == {kept.id}
    assert {one.flow_run_id for one in client.read_artifacts()} == {kept.id}
    assert any("Test F1 Score : " in line.message for line in client.read_logs(LogFilter()))
    wait_for(lambda: {line.flow_run_id for line in client.read_logs(LogFilter())} == {kept.id})
    assert len(retraining_runs(store)) == 2


def test_drift_is_told_once_and_retrained_on_with_what_customers_said(
    server: Server, client: SyncPrefectClient, tmp_path: Path, webhook: list[dict[str, str]]
) -> None:
    texts, labels = made_up(800, seed=1)
    data = write_labelled(tmp_path / "reviews.csv", texts, labels)
    store = open_store(tmp_path / "store")
    parameters = {"data": str(data), "store": str(store.folder)}

    def retrain() -> str:
        assert flow_service.run_once(server, script.flipkart_sentiment_flow, parameters) == 0
        return Ran(client, script.FLOW_NAME).artifacts["retraining-report"]

    retrain()
    assert production_version(store) == "1"
    log = open_log(f"sqlite:///{store.folder / 'predictions.db'}")
    texts, labels = made_up(400, seed=2)
    for at, name in enumerate(write_answers(log, champion(store), in_other_words(texts))):
        log.add_feedback(name, 0, int(labels[at]), None, at=1.0)

    # either flow may find it first, and one of them says so
    run = {"store": str(store.folder)}
    assert flow_service.run_once(server, flipkart_drift_flow, run) == 0
    found = Ran(client, DRIFT_FLOW_NAME).artifacts["drift-report"]
    assert found.startswith("# drifted (version 1, 400 reviews of the prediction log from ")
    assert "unknown words" in found
    left = retrain()
    assert [(told["flow"], told["state"]) for told in webhook] == [
        *((script.FLOW_NAME, "promoted"), (DRIFT_FLOW_NAME, "drifted")),
        (script.FLOW_NAME, "promoted"),
    ]
    assert "version 2 is in production, before version 1" in webhook[2]["message"]
    assert left.startswith("# PRODUCTION CHANGED: version 2")
    # the chain: what drifted, what was trained on it, what became of it
    assert production_version(store) == "2"
    happened, drifted, trained, _ = re.split(r"### .*\n", left)
    assert "drifted (version 1" in drifted and "unknown words" in drifted
    assert "registered version 2" in trained
    assert "400 labels in the prediction log: 0 without a stored text" in trained
    assert "promoted: better than version 1" in happened
    tags = store.client.get_model_version("FlipkartSentimentModel", "2").tags
    assert int(tags["feedback"]) > 300 and tags["file_digest"] != tags["data_digest"]
    # nothing is known of the new version yet, so nothing is trained, whatever was said before
    left = retrain()
    assert left.startswith("# Nothing to train") and "version 2 already covers" in left


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--cron", "every day", "--cron 'every day': not a cron expression"),
        ("--drift-cron", "hourly", "--drift-cron 'hourly': not a cron expression"),
        ("--data", "none.csv", "no such file"),
    ],
)
def test_bad_input_is_one_line_before_anything_starts(
    option: str,
    value: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # else a thread of Prefect's says that it cannot send what an earlier test logged
    monkeypatch.setattr(logging, "raiseExceptions", False)
    assert script.main(["--store", str(tmp_path / "store"), option, value]) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert not (tmp_path / "store").exists()


# --- the service --------------------------------------------------------------------------------


class Service:
    """The script serving its deployments in a process of its own, as from a terminal."""

    def __init__(self, server: Server, folder: Path, *options: str) -> None:
        self.data, self.store_folder = folder / "reviews.csv", folder / "store"
        self.log = folder / f"service-{time.monotonic_ns()}.log"
        self.hour = (datetime.now(UTC).hour + 12) % 24  # nothing comes due by itself meanwhile
        command = [
            *(sys.executable, str(PROJECT / "ml_orchestration_flipkart.py")),
            *("--data", str(self.data), "--store", str(self.store_folder)),
            *("--cron", f"0 {self.hour} * * *", "--drift-cron", f"30 {self.hour} * * *", *options),
        ]
        # named by a profile, without the path of the API
        profile = f'active = "ours"\n[profiles.ours]\nPREFECT_API_URL = "{server.ui_url}/"\n'
        (folder / "profiles.toml").write_text(profile)
        env = {**os.environ, "PREFECT_HOME": str(folder), "TZ": "Asia/Kolkata"}
        for unset in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
            env.pop(unset, None)
        env["PREFECT_RUNNER_POLL_FREQUENCY"] = "1"
        env["PREFECT_CLIENT_MAX_RETRIES"] = "1"  # so that it takes seconds to give a server up
        self.began = datetime.now(UTC)
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command, env=env, stdout=out, stderr=out, start_new_session=True
            )
        self.wait_until_it_says("serving 'flipkart-sentiment-logistic-deployment'")

    def wait_until_it_says(self, text: str) -> None:
        """Wait for a text in its output; fail where it ends before."""
        wait_for(lambda: text in self.log.read_text() or self.process.poll() is not None)
        assert text in self.log.read_text(), self.log.read_text()[-3000:]

    def processes_of_runs(self) -> list[int]:
        """Return the ids of the processes that it started for flow runs."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [int(pid) for file in children for pid in file.read_text().split()]
        return [
            pid for pid in pids if b"prefect.engine" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]


@pytest.fixture
def serving(server: Server, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start services on one store, and kill those that a failing test leaves."""
    write_reviews(tmp_path / "reviews.csv", rows=400)
    started: list[Service] = []

    def start(*options: str) -> Service:
        started.append(Service(server, tmp_path, *options))
        return started[-1]

    yield start
    for service in started:
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait()


def deployed(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    return client.read_deployment_by_name(f"{FLOWS[name]}/{name}")


def trigger(client: SyncPrefectClient, name: str = RETRAINING) -> FlowRun:
    return client.create_flow_run_from_deployment(deployed(client, name).id)


def state_of(client: SyncPrefectClient, run: FlowRun) -> str:
    state = client.read_flow_run(run.id).state
    return "" if state is None else state.type.value


def outcome(client: SyncPrefectClient, run: FlowRun) -> str:
    """Return the last state of a run, which is waited for."""
    last = {"COMPLETED", "CANCELLED", "CRASHED", "FAILED"}
    return wait_for(lambda: "".join(last & {state_of(client, run)}))


def running(client: SyncPrefectClient, service: Service) -> FlowRun:
    """Return a run that was triggered now and is under way."""
    run = trigger(client)
    wait_for(lambda: state_of(client, run) == "RUNNING" and service.processes_of_runs())
    return run


def due_at(client: SyncPrefectClient, deployment: DeploymentResponse) -> set[tuple[int, int]]:
    """Return hour and minute, in UTC, of all that is planned."""
    planned = FlowRunFilter.model_validate(
        {"deployment_id": {"any_": [deployment.id]}, "state": {"type": {"any_": ["SCHEDULED"]}}}
    )
    times = wait_for(
        lambda: [
            run.expected_start_time.astimezone(UTC)
            for run in client.read_flow_runs(flow_run_filter=planned)
            if run.auto_scheduled and run.expected_start_time is not None
        ]
    )
    return {(at.hour, at.minute) for at in times}


# A run without a service, as `--once` makes it, whose task does not end
STUCK = """
import sys, time
from prefect import flow, tags, task
from sentiment.flows.service import place_of

@task
def sleep():
    time.sleep(600)

@flow
def stuck():
    sleep()

with tags(*place_of(sys.argv[1])):
    stuck()
"""


@contextmanager
def stuck_in_a_task(server: Server, client: SyncPrefectClient, store: Path) -> Iterator[FlowRun]:
    """Yield a run that is in the middle of a task; its process is killed afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, str(store)],
        env={**os.environ, "PREFECT_API_URL": server.api_url},
    )
    try:
        of_flow = which(FlowFilter, "name", "stuck")
        wait_for(
            lambda: any(
                task.state is not None and task.state.is_running()
                for task in client.read_task_runs(flow_filter=of_flow)
            )
        )
        (run,) = client.read_flow_runs(flow_filter=of_flow)
        yield run
    finally:
        process.kill()
        process.wait()


def task_states(client: SyncPrefectClient, *runs: FlowRun) -> set[str]:
    tasks = client.read_task_runs(
        flow_run_filter=which(FlowRunFilter, "id", *(run.id for run in runs))
    )
    return {"" if task.state is None else task.state.type.value for task in tasks}


def of_three_one_runs(
    client: SyncPrefectClient, first: Service, webhook: list[dict[str, str]]
) -> None:
    """Bring forward what the schedule made: of three at once one runs, the others are cancelled.

    Nothing waits; a check runs beside it. Bad data is a failed run with an alert.
    """
    ours = deployed(client, RETRAINING)
    good = first.data.read_text()
    first.data.write_text(good.replace("Ratings", "Points", 1))
    of_schedule = which(FlowRunFilter, "deployment_id", ours.id)
    planned = wait_for(lambda: client.read_flow_runs(flow_run_filter=of_schedule))
    assert planned[0].auto_scheduled
    assert due_at(client, ours) == {((first.hour - 6) % 24, 30)}  # Kolkata is 5:30 ahead of UTC
    three = [planned[0], trigger(client), trigger(client)]
    client.set_flow_run_state(planned[0].id, Scheduled(), force=True)
    beside = trigger(client, DRIFT_CHECK)
    ended = {outcome(client, run): str(run.id) for run in three}
    assert set(ended) == {"CANCELLED", "FAILED"}
    assert outcome(client, beside) == "COMPLETED"
    wait_for(lambda: webhook)
    assert (webhook[0]["state"], webhook[0]["run"]) == ("Failed", ended["FAILED"])
    assert "no column of ratings" in webhook[0]["message"]
    first.data.write_text(good)


def goes_away_and_comes_back(server: Server, service: Service) -> None:
    """Stop the server and start it again; who names it meanwhile waits for it."""
    server.stop()
    service.wait_until_it_says("the runner gave up")
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.setattr(prefect_server, "NAMED_SECONDS", 120)
        said: list[str] = []
        patch.setattr(prefect_server, "say", said.append)
        named = pool.submit(Server.named, f"{server.ui_url}/")
        wait_for(lambda: said)
        server.restart_if_ours_died()
        assert named.result().api_url == server.api_url
        assert len(said) == 1
    service.wait_until_it_says("the runner works again")


def test_a_service_from_its_schedule_to_its_successors_ctrl_c(
    server: Server,
    client: SyncPrefectClient,
    serving: Callable[..., Service],
    webhook: list[dict[str, str]],
) -> None:
    first = serving()
    first.wait_until_it_says("serving 'flipkart-sentiment-drift-deployment' on cron 30 ")
    assert f"on cron 0 {first.hour} * * * (Asia/Kolkata)" in first.log.read_text()
    ours, check = deployed(client, RETRAINING), deployed(client, DRIFT_CHECK)
    assert ours.parameters["data"] == str(first.data)
    defaults = {"log_url": None, "drift_window": 5000, "drift_days": None, "min_reviews": 100}
    defaults |= {"project": None}
    assert check.parameters == {"store": str(first.store_folder), **defaults}
    assert not ours.paused and not check.paused
    wait_for(lambda: flow_service._is_served(deployed(client, RETRAINING)))  # has asked for runs
    with pytest.raises(ServiceError, match="a service serves 'flipkart-sentiment-logistic"):
        store = open_store(first.store_folder)
        flow_service.deploy(server, script.deployments(parse_flow([])), "reviews", store)

    of_three_one_runs(client, first, webhook)

    # the service is killed: its run ends by itself, and runs come due while nothing is served
    with stuck_in_a_task(server, client, first.store_folder) as alone:
        run = running(client, first)
        left = first.processes_of_runs()
        first.process.kill()
        missed = [trigger(client) for _ in range(3)]
        wait_for(lambda: not any(alive(pid) for pid in left))
    dead = trigger(client)  # one whose process was killed, too
    client.set_flow_run_state(dead.id, Running(), force=True)
    assert task_states(client, alone) == {"RUNNING"}

    # its successor closes them; downtime is not caught up with: one run makes up for it
    service = serving("--drift", "off", "--timezone", "UTC")
    assert "flipkart-sentiment-drift-deployment" not in service.log.read_text()
    assert deployed(client, DRIFT_CHECK).paused and not deployed(client, RETRAINING).paused
    assert outcome(client, run) == outcome(client, dead) == outcome(client, alone) == "CRASHED"
    assert task_states(client, alone) == {"CRASHED"}
    assert task_states(client, run, dead) <= {"COMPLETED", "CRASHED"}
    assert {outcome(client, one) for one in missed} == {"CANCELLED"}
    made_up_for = FlowRunFilter.model_validate(
        {
            "deployment_id": {"any_": [ours.id]},
            "state": {"type": {"any_": ["RUNNING", "COMPLETED"]}},
            "start_time": {"after_": service.began},
        }
    )
    (one,) = wait_for(lambda: client.read_flow_runs(flow_run_filter=made_up_for))
    assert outcome(client, one) == "COMPLETED"
    assert due_at(client, ours) == {(service.hour, 0)}  # in the new time zone, none in the old
    # a line for each run, and none of Prefect's
    said = service.log.read_text()
    assert said.startswith("loading Prefect and MLflow …\n")
    line = rf"^\d\d:\d\d:\d\d {re.escape(script.FLOW_NAME)}: .*; drift: not checked$"
    assert re.search(line, said, re.MULTILINE) and "load_data" not in said
    assert "Finished in state" not in said and "INFO" not in said
    store = open_store(service.store_folder)
    assert production_version(store) == "1"

    # a second service on the store is refused
    assert script.main(["--data", str(service.data), "--store", str(store.folder)]) == 2

    goes_away_and_comes_back(server, service)

    # Ctrl-C, which reaches every process of the terminal: the run ends well, and then the service
    last = running(client, service)
    os.killpg(service.process.pid, signal.SIGINT)
    assert service.process.wait(120) == 0
    assert state_of(client, last) == "COMPLETED"
    assert deployed(client, RETRAINING).paused
    assert "Traceback" not in service.log.read_text().split("stopping: ")[1]
    assert {found.info.status for found in retraining_runs(store)} <= {"FINISHED", KILLED}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


# --- the workers of a pool ----------------------------------------------------------------------


@pytest.fixture
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back the folder and the signals that `main` changes."""
    monkeypatch.chdir(PROJECT)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("as_it_was")
def test_a_pool_of_another_type_is_used_as_it_is_unless_it_has_no_workers(
    server: Server,
    client: SyncPrefectClient,
    store_folder: Path,
    small_reviews: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, kind in (("images", "docker"), ("pushed", "cloud-run:push")):
        client.create_work_pool(WorkPoolCreate(name=name, type=kind))
    options = ["--project", "pools", "--data", str(small_reviews), "--store", str(store_folder)]
    assert script.main(["deploy", "--pool", "pushed", *options]) == 2
    said = capsys.readouterr().err
    assert "cloud-run:push, which has no workers" in said and said.count("\n") == 1
    assert script.main(["deploy", "--pool", "images", *options]) == 0
    said = capsys.readouterr().out
    assert "prefect worker start --pool images" in said and "on this machine" in said
    made = client.read_deployment_by_name(f"{script.FLOW_NAME}/pools-retraining")
    assert (made.work_pool_name, made.parameters["project"]) == ("images", "pools")
    assert client.read_work_pool("images").type == "docker"


def test_a_pool_needs_a_server_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with temporary_settings(restore_defaults=[PREFECT_API_URL]):
        assert script.main(["deploy", "--pool", "reviews", "--store", str(tmp_path / "new")]) == 2
    said = capsys.readouterr().err
    assert "PREFECT_API_URL=" in said and said.count("\n") == 1
    assert not (tmp_path / "new").exists()


@contextmanager
def databases(*names: str) -> Iterator[list[sa.URL]]:
    """Make databases of these names on the PostgreSQL of the tests; they are gone afterwards."""
    given = sa.make_url(POSTGRES_URL).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(given, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    own = [f"{name}_{uuid.uuid4().hex}" for name in names]
    with engine.connect() as connection:
        for name in own:
            connection.exec_driver_sql(f"CREATE DATABASE {name} ENCODING UTF8 TEMPLATE template0")
        yield [given.set(database=name) for name in own]
        for name in own:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def running_process(log: Path, *words: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module of Python in a process, which is ended at the end of the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            env={**os.environ, **env},
            cwd=log.parent,
            stdout=out,
            stderr=out,
        )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def on_postgresql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Server, SyncPrefectClient]]:
    """Prefect's server and MLflow's, each on PostgreSQL; `open_store()` opens the latter's."""
    if not POSTGRES_URL:
        pytest.skip("POSTGRES_URL names no PostgreSQL")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with ExitStack() as stack:
        ours, theirs = stack.enter_context(databases("mlflow", "prefect"))
        url = theirs.set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)
        monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", url)
        mlflow = running_process(
            tmp_path / "mlflow.log",
            *("mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", port),
            *("--backend-store-uri", ours.render_as_string(hide_password=False)),
            *("--artifacts-destination", str(tmp_path / "artifacts")),
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        )
        stack.enter_context(mlflow)
        stack.enter_context(temporary_settings(restore_defaults=[PREFECT_API_URL]))
        server = stack.enter_context(server_for(tmp_path / "prefect"))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/health"))
        yield server, stack.enter_context(get_client(sync_client=True))


def times_running(client: SyncPrefectClient, run: FlowRun) -> int:
    return sum(state.is_running() for state in client.read_flow_run_states(run.id))


@pytest.mark.usefixtures("as_it_was")
def test_two_workers_of_a_pool_never_retrain_at_once(
    on_postgresql: tuple[Server, SyncPrefectClient],
    tmp_path: Path,
    small_reviews: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, client = on_postgresql
    hour = (datetime.now(UTC).hour + 12) % 24  # nothing comes due by itself meanwhile
    options = ["--data", str(small_reviews), "--timezone", "UTC"]
    options += ["--cron", f"0 {hour} * * *", "--drift-cron", f"30 {hour} * * *"]
    assert script.main(["deploy", "--pool", "reviews", *options]) == 0
    (start,) = re.findall(r"^  (PREFECT_API_URL=.*)", capsys.readouterr().out, re.MULTILINE)
    *named, prefect, worker, begin, _, pool = start.split()
    assert (prefect, pool) == ("prefect", "reviews")
    env = dict(word.split("=", 1) for word in named)
    assert set(env) == {"PREFECT_API_URL", "PYTHONPATH", "MLFLOW_TRACKING_URI"}
    assert client.read_work_pool("reviews").type == "process"
    made = deployed(client, RETRAINING)
    assert made.tags == [f"store:{PROJECT}"], "a worker is on any machine"

    # one whose worker was killed; and two are asked for at once, and a check
    dead = trigger(client)
    client.set_flow_run_state(dead.id, Running(), force=True)
    pair, check = [trigger(client), trigger(client)], trigger(client, DRIFT_CHECK)
    env |= {"PREFECT_HOME": str(tmp_path), "PREFECT_WORKER_QUERY_SECONDS": "1"}
    with ExitStack() as stack:
        for name in ("one", "two"):
            words = prefect, worker, begin, "--pool", pool, "--name", name
            stack.enter_context(running_process(tmp_path / f"{name}.log", *words, **env))
        begun = {"RUNNING", "COMPLETED"}
        wait_for(lambda: begun & {state_of(client, run) for run in pair})
        # who would run it besides, or close the run as left behind, is refused
        for beside in ([], ["--once"]):
            assert script.main([*beside, *options]) == 2
            said = capsys.readouterr().err
            assert "workers of the pool 'reviews'" in said and said.count("\n") == 1
        assert sorted(outcome(client, run) for run in pair) == ["CANCELLED", "COMPLETED"]
        assert sum(times_running(client, run) for run in pair) == 1
        assert outcome(client, dead) == "CRASHED"
        assert outcome(client, check) in {"COMPLETED", "FAILED"}  # it may come before a version
        assert production_version(open_store()) == "1"

        # deployed again it is the same, changed; old runs are deleted by the next
        again = ["deploy", "--pool", "reviews", *options, "--keep-runs", "1", "--drift", "off"]
        assert script.main(again) == 0
        changed = deployed(client, RETRAINING)
        assert (changed.id, changed.parameters["drift"]) == (made.id, "off")
        assert deployed(client, DRIFT_CHECK).paused
        last = trigger(client)
        assert outcome(client, last) == "COMPLETED"
        ended = FlowRunFilter.model_validate(
            {
                "deployment_id": {"any_": [made.id]},
                "state": {"type": {"any_": ["COMPLETED", "CANCELLED", "CRASHED"]}},
            }
        )
        left = {run.id for run in client.read_flow_runs(flow_run_filter=ended)}
        assert last.id in left and len(left) == 2
    assert len(retraining_runs(open_store())) == 2
    assert {run.info.status for run in retraining_runs(open_store())} == {"FINISHED"}
