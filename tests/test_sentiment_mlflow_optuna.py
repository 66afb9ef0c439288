"""The experiment script: bad input, interruptions, and passes that run side by side."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from conftest import write_reviews
from mlflow.entities import Run
from support import LEDGER

import sentiment_mlflow_optuna as script
from sentiment.__main__ import main as run_command
from sentiment.data.reviews import load_reviews
from sentiment.drift.reference import read_reference
from sentiment.errors import ResumeError
from sentiment.flows.retraining import choose
from sentiment.serving.app import create_app
from sentiment.serving.config import ServingConfig
from sentiment.tracking.ledger import read_events
from sentiment.tracking.store import Store, find_runs, open_store
from sentiment.training import passes
from sentiment.training.passes import interrupted_passes, resume_pass
from sentiment.training.report import prepare_reviews

PROJECT = Path(__file__).resolve().parent.parent
TRIALS = 2
MODELS = ("NaiveBayes", "LinearSVM")
RUNS = len(MODELS) * (1 + TRIALS) + 1  # with the ledger's
RunScript = Callable[..., subprocess.CompletedProcess[str]]


# --- bad input: one line, exit code 2, nothing written --------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data", "{small}", "--text-column", "Review txt"], "did you mean --text-column"),
        (["--data", "{one_class}"], "0 negative reviews left"),
        (["--data", "{small}", "--resume", "20200101-000000-abcd"], "no interrupted pass"),
        (["--data", "{small}", "--storage", "nosuch://x"], "nosuch"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    options: list[str],
    said: str,
    small_reviews: Path,
    store_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one_class = tmp_path / "one_class.csv"
    one_class.write_text("Review text,Ratings\n" + "".join(f"good {i},5\n" for i in range(40)))
    filled = [text.format(small=small_reviews, one_class=one_class) for text in options]
    assert script.main([*filled, "--store", str(store_folder), "--quiet"]) == 2
    errors = capsys.readouterr().err
    assert said in errors and errors.count("\n") == 1
    assert every_run(open_store(store_folder)) == []


def test_bad_input_in_a_process_of_its_own(run_script: RunScript, tmp_path: Path) -> None:
    store = tmp_path / "store"
    done = run_script("sentiment_mlflow_optuna.py", "--data", "none.csv", "--store", store)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "none.csv" in done.stderr
    assert done.stdout == "" and not store.exists()


@pytest.mark.slow
def test_a_tracking_server_that_is_away(run_script: RunScript, small_reviews: Path) -> None:
    done = run_script(
        "sentiment_mlflow_optuna.py",
        *("--data", small_reviews, "--quiet"),
        MLFLOW_TRACKING_URI="http://127.0.0.1:9",
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "does not answer" in done.stderr


def test_trials_that_all_fail_are_said_and_the_store_is_left_clean(
    tmp_path: Path, store_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No word occurs three times, so `min_df` leaves no terms and every trial fails."""
    file = tmp_path / "unique.csv"
    letters = "bcdfghjklmnpqrstvwz"
    words = [a + "o" + b + "a" + a for a in letters for b in letters]
    rows = [f"{word},{1 if i % 4 == 0 else 5}\n" for i, word in enumerate(words[:120])]
    file.write_text("Review text,Ratings\n" + "".join(rows))
    options = ["--data", str(file), "--store", str(store_folder), "--models", "NaiveBayes"]
    assert script.main([*options, "--trials", "2", "--quiet"]) == 2
    error = capsys.readouterr().err
    assert "all 2 trials of NaiveBayes failed" in error and "no terms remain" in error
    store = open_store(store_folder)
    *trials, parent = sorted(find_runs(store, "NaiveBayes", {}), key=kind_of, reverse=True)
    assert [kind_of(run) for run in (*trials, parent)] == ["trial", "trial", "search"]
    assert {run.info.status for run in (*trials, parent)} == {"FAILED"}
    assert all("no terms remain" in run.data.tags["flipkart.reason"] for run in trials)
    assert not store.client.search_registered_models()


# --- interruptions --------------------------------------------------------------------------


def arguments(data: Path, store: Path, *more: str) -> list[str]:
    settings = ["--trials", str(TRIALS), "--models", ",".join(MODELS), "--quiet"]
    return ["--data", str(data), "--store", str(store), *settings, *more]


def killed_at(target: str, call: int, *, after: bool, options: list[str]) -> int:
    """Run the script in a forked process that is killed at the n-th call of a function.

    `target` is `module.name` or `module.Class.name`; the call may be in the process that writes the
    models. Returns the exit code, -9 when it was killed.
    """

    def child() -> None:
        path, _, name = target.rpartition(".")
        owner: Any = resolve_name(path)
        original, calls, main = getattr(owner, name), 0, os.getpid()

        def kill() -> None:
            os.kill(main, signal.SIGKILL)
            time.sleep(60)  # the other process ends by itself, as its owner is gone

        def deadly(*positional: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call and not after:
                kill()
            result = original(*positional, **named)
            if calls == call and after:
                kill()
            return result

        setattr(owner, name, deadly)
        os._exit(script.main(options))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(120)
    assert process.exitcode is not None, "the pass hangs"
    return process.exitcode


def kind_of(run: Run) -> str:
    return str(run.data.tags["flipkart.kind"])


def outcome(store: Store) -> dict[str, Any]:
    """Everything a pass computed, without ids and times."""
    found: dict[str, Any] = {}
    for algorithm in MODELS:
        for run in find_runs(store, algorithm, {}):
            name = run.info.run_name if kind_of(run) == "trial" else "parent"
            left_out = ("duration_seconds", "fit_time", "model_size_bytes")
            metrics = {k: v for k, v in run.data.metrics.items() if k not in left_out}
            found[f"{algorithm}/{name}"] = (run.data.params, metrics)
    return found


def every_run(store: Store) -> list[Run]:
    """All runs but the registry's own: what was staged is in `staged`."""
    names = [experiment.experiment_id for experiment in store.client.search_experiments()]
    runs = store.client.search_runs(names, max_results=1000)
    return [run for run in runs if kind_of(run) != "registry"]


def staged(store: Store) -> list[str]:
    """The versions that were made challenger, in order; nothing may be left under way."""
    runs = find_runs(store, LEDGER, {"flipkart.kind": "registry"})
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    return [event.target for event in read_events(store) if event.action == "stage"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, small_reviews: Path) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert script.main(arguments(small_reviews, folder)) == 0
    return outcome(open_store(folder))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "call", "after"),
    [
        ("sentiment.training.passes.begin_run", 1, True),  # the ledger run, without parameters
        ("sentiment.training.search.begin_run", 3, True),  # a trial run exists, and is empty
        ("sentiment.training.search.log_values", 2, True),  # … is written, and still RUNNING
        ("sentiment.training.search.end_run", 2, True),  # … and ended, but Optuna was not told
        ("sentiment.training.search.fit_and_evaluate", 1, False),
        ("sentiment.training.report.log_pipeline", 1, True),  # the model is not noted on the run
        ("sentiment.training.report.model_card", 1, False),  # noted, without its card
        ("sentiment.training.search.draw", 1, False),  # figures are being drawn
        ("mlflow.MlflowClient.create_model_version", 1, True),  # the run is still RUNNING
        ("sentiment.training.search.run_study", 2, False),
        ("sentiment.drift.reference.Reference.build", 1, False),
        ("sentiment.registry.lifecycle.append", 1, True),  # in the ledger, without alias and stage
        ("sentiment.tracking.ledger.begin_run", 1, True),  # a claim that nobody stands behind
        ("sentiment_mlflow_optuna.log_summary", 1, False),
    ],
)
def test_a_pass_killed_anywhere_is_finished_by_resume(
    target: str,
    call: int,
    after: bool,
    store_folder: Path,
    small_reviews: Path,
    uninterrupted: dict[str, Any],
) -> None:
    options = arguments(small_reviews, store_folder)
    assert killed_at(target, call, after=after, options=options) == -signal.SIGKILL

    # the pass knows its own settings
    assert script.main(["--store", str(store_folder), "--resume", "--quiet"]) == 0
    store = open_store(store_folder)
    runs = every_run(store)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == RUNS
    assert outcome(store) == uninterrupted
    versions = store.client.search_model_versions("name = 'FlipkartSentimentModel'")
    assert sorted(str(version.version) for version in versions) == ["1", "2"]
    best = str(max(versions, key=lambda version: float(version.tags["cv_f1_macro"])).version)
    assert staged(store) == [best]
    aliases = store.client.get_registered_model("FlipkartSentimentModel").aliases
    assert {str(version) for version in aliases.values()} == {best}
    assert set(aliases) == {"challenger", "staging"}
    assert len({version.run_id for version in versions}) == 2
    experiments = [e.experiment_id for e in store.client.search_experiments()]
    models = store.client.search_logged_models(experiments)
    assert [str(model.status).split(".")[-1] for model in models] == ["READY", "READY"]
    pages = [json.loads(model.tags["mlflow.modelVersions"]) for model in models]
    assert {page["version"] for (page,) in pages} == {"1", "2"}
    assert read_reference(store, best).reviews > 0
    for version in versions:
        assert version.run_id is not None
        drawn = {file.path for file in store.client.list_artifacts(version.run_id, "figures")}
        assert drawn >= {f"figures/{name}.png" for name in ("confusion_matrix", "top_words")}


@pytest.mark.slow
def test_an_unfinished_pass_is_closed_and_mentioned_and_its_settings_are_kept(
    store_folder: Path, small_reviews: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = arguments(small_reviews, store_folder)
    assert killed_at("sentiment.training.search.end_run", 2, after=False, options=options) == -9
    store = open_store(store_folder)
    assert "RUNNING" in {run.info.status for run in every_run(store)}

    resume = ["--store", str(store_folder), "--resume"]
    assert script.main([*resume, "--seed", "7"]) == 2
    assert "was begun with seed 42, not 7" in capsys.readouterr().err
    other = write_reviews(tmp_path / "other.csv", seed=9)
    assert script.main([*resume, "--data", str(other)]) == 2
    assert "was begun with data" in capsys.readouterr().err

    assert script.main([option for option in options if option != "--quiet"]) == 0
    assert "1 earlier pass(es) did not finish; --resume" in capsys.readouterr().out
    assert "RUNNING" not in {run.info.status for run in every_run(store)}
    assert script.main([*resume, "--quiet"]) == 0
    assert {run.info.status for run in every_run(store)} == {"FINISHED"}


def begin(*options: str) -> subprocess.Popen[str]:
    """Run the script in a process of its own, in a group of its own."""
    command = [sys.executable, str(PROJECT / "sentiment_mlflow_optuna.py"), *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished_and_leaves_nothing_running(
    store_folder: Path, small_reviews: Path
) -> None:
    """Ctrl-C reaches every process of the terminal's group, as here; the pass is refused to others.

    No process of it is left.
    """
    options = ["--data", str(small_reviews), "--store", str(store_folder)]
    process, store = begin(*options, "--trials", "500"), open_store(store_folder)
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        trials = find_runs(store, "LogisticRegression", {"flipkart.kind": "trial"})
        if [run.info.status for run in trials].count("FINISHED") >= 3:
            break
        time.sleep(0.2)
    (run,) = find_runs(store, LEDGER, {"flipkart.kind": "experiment"})
    with pytest.raises(ResumeError, match="being worked on by another process"):
        resume_pass(store, run.data.tags["flipkart.pass"], {})
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("interrupted: pass ") and errors.count("\n") == 1
    statuses = [run.info.status for run in every_run(store)]
    assert "RUNNING" not in statuses
    assert statuses.count("KILLED") >= 2 and statuses.count("FINISHED") >= 3
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("a process of the pass outlives it")


@pytest.mark.slow
def test_two_passes_at_once_in_a_store_that_does_not_exist_yet(
    small_reviews: Path, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    both = [begin(*arguments(small_reviews, tmp_path / "store")) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=180)
        assert (process.returncode, errors) == (0, "")
    store = open_store(tmp_path / "store")
    runs = every_run(store)
    assert len(runs) == 2 * RUNS and {run.info.status for run in runs} == {"FINISHED"}
    assert outcome(store) == uninterrupted
    versions = store.client.search_model_versions("name = 'FlipkartSentimentModel'")
    assert sorted(int(version.version) for version in versions) == [1, 2, 3, 4]
    assert len(set(staged(store))) == len(staged(store)) == 2  # each pass its own, in turn
    aliases = store.client.get_registered_model("FlipkartSentimentModel").aliases
    assert str(aliases["challenger"]) == staged(store)[-1]


# --- two products in one store ----------------------------------------------------------------


def answered_by(store: Store, texts: int) -> str:
    """Let an app answer so many texts, and return the algorithm that did."""
    config = ServingConfig(store=str(store.folder), project=store.settings.project, token=None)
    service = create_app(config).extensions["serving"]
    try:
        return str(service.answer(["good box"] * texts).version.algorithm)
    finally:
        service.close()


def logged(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "predictions.db")) as database:
        (count,) = database.execute("SELECT count(*) FROM sentiment_predictions").fetchone()
    return int(count)


@pytest.mark.slow
def test_two_projects_share_a_store_and_have_only_their_own(
    store_folder: Path, small_reviews: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--store", str(store_folder)]
    plain, shoes, new = (open_store(store_folder, name) for name in (None, "shoes", "new"))
    trained = {"LogisticRegression": plain, "NaiveBayes": shoes}
    for algorithm, store in trained.items():
        options = [*place, "--project", store.settings.project or ""]
        fixed = ["--data", str(small_reviews), "--models", algorithm, "--trials", "1"]
        assert script.main([*options, *fixed, "--promote", "--quiet"]) == 0
        model = store.settings.registered_model
        assert f"Created version '1' of model '{model}'" in capsys.readouterr().out
        for command in ("list", "which"):
            assert run_command([command, *options]) == 0
        said = capsys.readouterr().out
        assert model in said and "1: in production now" in said
        assert [name for name in trained if name in said] == [algorithm]
        assert run_command(["list", *place, "--project", "new"]) == 2
        assert "new-SentimentModel has no versions" in capsys.readouterr().err
    assert {experiment.name for experiment in plain.client.search_experiments()} == {
        *("Default", "LogisticRegression", "FLIPKART_SENTIMENT_ANALYSIS"),
        *("shoes-NaiveBayes", "shoes-SENTIMENT_ANALYSIS"),
    }

    # the flow trains what its own project has in production, or has searched
    prepared = prepare_reviews(load_reviews(small_reviews))
    chosen = [choose(store, "champion", prepared) for store in (plain, shoes, new)]
    assert [choice.algorithm for choice in chosen[:2]] == list(trained)
    assert chosen[2].config == "published"

    assert [answered_by(plain, 1), answered_by(shoes, 2)] == list(trained)
    assert (logged(store_folder), logged(store_folder / "projects" / "shoes")) == (1, 2)

    (last_pass,) = find_runs(plain, LEDGER, {"flipkart.kind": "experiment"})
    plain.client.update_run(last_pass.info.run_id, status="KILLED")
    assert len(interrupted_passes(plain)) == 1 and interrupted_passes(shoes) == []


@pytest.mark.parametrize(
    ("owner", "function"), [(passes, "begin_run"), (script, "folds_of")], ids=["begins", "begun"]
)
def test_ctrl_c_while_a_pass_begins_leaves_no_run_open(
    owner: Any,
    function: str,
    store_folder: Path,
    small_reviews: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    original = getattr(owner, function)

    def interrupted(*positional: Any, **named: Any) -> Any:
        result = original(*positional, **named)
        signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(owner, function, interrupted)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    options = ["--data", str(small_reviews), "--store", str(store_folder), "--quiet"]
    assert script.main(options) == 130
    for number, handler in before.items():
        signal.signal(number, handler)
    assert "--resume carries it on" in capsys.readouterr().err
    (run,) = find_runs(open_store(store_folder), LEDGER, {})
    assert run.info.status == "KILLED"
