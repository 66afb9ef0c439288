"""`list`, `show`, `promote`, `rollback`, `which`, `history`: options, output and exit codes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import skops.io
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from support.commands import run_command
from support.versions import aliases, force, snapshot, twin, versions_store, write_noisy

import sentiment_mlflow_optuna as experiment
from sentiment.__main__ import main
from sentiment.data.reviews import TEXT_HASHES
from sentiment.errors import ServingError, TrackingError
from sentiment.model.predictor import load_version
from sentiment.registry import gate
from sentiment.registry.gate import Verdict
from sentiment.tracking.artifact import DIGESTS, load_pipeline
from sentiment.tracking.ledger import REGISTRY_KIND, read_events
from sentiment.tracking.store import (
    DATA_PATH,
    Store,
    begin_run,
    find_runs,
    open_store,
    use_uri,
)

pytestmark = pytest.mark.xdist_group("versions")  # the store is made once
FORCE = ("--force", "--reason", "the test says so")
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Store:
    # a busy machine must not decide
    monkeypatch.setattr(gate, "median_seconds", lambda pipelines, _: [0.001] * len(pipelines))
    return versions_store(tmp_path_factory, tmp_path)


@pytest.fixture
def run(store: Store, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run one command on the store; returns exit code, output and errors."""

    def command(*arguments: str) -> tuple[int, str, str]:
        reviews = str(store.folder / "reviews.csv")
        data = ("--data", reviews) if "production" in arguments else ()
        return run_command(
            capsys, arguments[0], "--store", str(store.folder), *data, *arguments[1:]
        )

    return command


def test_a_life_through_the_command_line(run: Command, store: Store) -> None:
    """Promote through the gate and by force, roll back; then ask what was when."""
    times = []

    def done(*arguments: str) -> str:
        time.sleep(0.002)  # the ledger keeps milliseconds
        code, printed, errors = run(*arguments)
        assert (code, errors) == (0, "")
        time.sleep(0.002)
        times.append(datetime.now().isoformat())  # no zone: local time
        return printed

    printed = done("promote", "3", "--to", "production")
    assert "promoted: the first in production, macro-F1 0." in printed
    assert "reviews of the holdout" in printed and "\nproduction: → 3\n" in printed
    printed = done("promote", "1", "--to", "production", *FORCE)  # it is worse
    assert "\nproduction: 3 → 1, forced\n" in printed
    assert done("rollback", "--reason", "it fails") == "production: 1 → 3\n"
    assert aliases(store) == {"champion": "3", "challenger": "2", "staging": "2"}
    assert run("rollback")[0] == 2

    answers = [run("which", "--at", at)[1].split(":")[0] for at in times]
    assert answers == ["3", "1", "3"]
    now = run("which")[1]
    assert re.match(r"3: in production now, since \S+ \(rollback by .*: it fails\)", now)
    code, printed, _ = run("which", "--at", "2020-01-01T12:00")
    assert code == 0 and printed.startswith("none: no version was in production at 2020-01-01T12")

    rows = [line.split("│")[1:-1] for line in run("history")[1].splitlines() if "→" in line]
    assert [(row[1].strip(), row[2].strip()) for row in rows] == [
        ("stage", "→ 2"),
        ("promote", "→ 3"),
        ("promote (forced)", "3 → 1"),
        ("rollback", "1 → 3"),
    ]
    # times of the history can be given back to `which --at` as they stand
    assert run("which", "--at", rows[2][0].strip())[1].startswith("1: in production at")


def test_list_and_show(run: Command, store: Store) -> None:
    force(store, "2")
    code, printed, _ = run("list")
    assert code == 0
    versions = store.client.search_model_versions(f"name = '{store.settings.registered_model}'")
    for version in versions:
        (line,) = [x for x in printed.splitlines() if x.split()[:1] == [str(version.version)]]
        shown = (version.tags["model"], " 0.6500 ", " 0.7000 ")
        assert all(str(text) in line for text in shown) and len(line) <= 80
        assert ("champion" in line) is (str(version.version) == "2")
    code, printed, _ = run("show", "2")
    assert code == 0 and "champion" in printed and "promote → 2" in printed
    for name, value in (("C", "1"), ("test_f1", "0.7"), ("cleaning_fingerprint", "")):
        assert re.search(f"^  {name} +{value}", printed, re.MULTILINE)


def test_staging_by_hand(run: Command, store: Store) -> None:
    code, printed, _ = run("promote", "3", "--to", "staging", "--reason", "try it")
    assert (code, printed) == (0, "staging: 2 → 3\n")
    assert aliases(store) == {"challenger": "3", "staging": "3"}
    assert read_events(store)[-1].why == "try it"


def test_a_refusal_is_exit_code_1_and_changes_nothing(run: Command, store: Store) -> None:
    force(store, "2")
    before = snapshot(store)
    code, printed, errors = run("promote", "3", "--to", "production")  # the same model
    assert (code, errors) == (1, "") and "refused: no evidence of improvement" in printed
    already = "version 2 is in production already\n"
    assert run("promote", "2", "--to", "production") == (0, already, "")
    assert snapshot(store) == before

    np.save(store.folder / TEXT_HASHES, np.arange(9, dtype=np.uint64))
    other = begin_run(store, "Other", {})  # the same model, trained on other reviews
    store.client.log_artifact(other, str(store.folder / TEXT_HASHES))
    newer = twin(store, "3", run_id=other)
    store.client.set_model_version_tag(
        store.settings.registered_model, newer, "data_digest", "another"
    )
    code, printed, _ = run("promote", newer, "--to", "production")
    assert code == 0 and "promoted: not worse than version 2" in printed
    assert "reviews.csv is not what version 4 was trained on" in printed
    event = read_events(store)[-1]
    assert event.metrics["difference_f1_macro"] == 0 and not event.forced
    assert "(new data: 100.0%" in event.why and event.metrics["rows"] > 100


def test_a_version_in_production_that_was_deleted(run: Command, store: Store) -> None:
    force(store, "3", "1")
    store.client.delete_model_version(store.settings.registered_model, "1")
    for command in ("list", "which"):
        code, printed, _ = run(command)
        assert code == 0 and "none: version 1 was in production and has been deleted" in printed
        assert "`rollback` puts back version 3" in printed
    code, printed, _ = run("promote", "2", "--to", "production")
    assert code == 0 and "promoted: the first in production" in printed
    assert "version 1 was there and has been deleted" in printed and "production: → 2" in printed
    store.client.delete_model_version(store.settings.registered_model, "2")
    assert run("rollback")[:2] == (0, "production: → 3\n")
    assert run("which")[1].startswith("3: in production now")


def test_without_data_the_gate_uses_the_reviews_of_the_version(
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    force(store, "2")
    own, default = store.folder / "reviews.csv", write_noisy(tmp_path / "default.csv", 500)
    monkeypatch.setattr("sentiment.cli.registry.DATA", str(default))
    run_id = str(store.client.get_model_version(store.settings.registered_model, "3").run_id)

    def said(*data: str) -> tuple[bool, bool, bool]:
        """Which file is named, and whether it is called another one."""
        assert main(["promote", "3", "--to", "production", "--store", str(tmp_path), *data]) == 1
        lines = capsys.readouterr().out.splitlines()
        named = [any(line.startswith(f"reviews: {file}") for line in lines) for file in files]
        return named[0], named[1], any("is not what version 3 was trained on" in x for x in lines)

    files = own, default
    assert said() == (False, True, True)  # its run does not know
    store.client.set_tag(run_id, DATA_PATH, str(own))
    assert said() == (True, False, False)
    assert said("--data", str(own)) == (False, False, False)
    assert said("--data", str(default)) == (False, False, True)
    own.rename(tmp_path / "moved.csv")
    assert said() == (False, True, True)


def test_that_another_change_came_first_is_exit_code_1(
    run: Command, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    force(store, "1")
    verdict = Verdict(True, "better", "2", "3")  # of a time when version 3 was in production
    monkeypatch.setattr("sentiment.cli.registry.judge_version", lambda *_: verdict)
    before = snapshot(store)
    code, _, errors = run("promote", "2", "--to", "production")
    assert (code, errors.count("\n")) == (1, 1) and "another change came first" in errors
    assert snapshot(store) == before


# --- errors: one line, exit code 2, nothing changed ---

BAD_INPUT: list[tuple[list[str], str]] = [
    (
        ["show", "9"],
        "no version '9' of FlipkartSentimentModel; expected a number, the newest: 1, 2, 3",
    ),
    (["promote", "9", "--to", "production"], "no version '9'"),
    (["promote", "champion", "--to", "staging"], "no version 'champion'"),
    (["promote", "2", "--to", "prod"], "invalid choice: 'prod'"),
    (["promote", "2"], "required: --to"),
    (["promote", "1", "--to", "staging"], "version 1 is in production"),
    (["promote", "2", "--to", "production", "--force"], "--force needs --reason"),
    (["promote", "2", "--to", "production", "--force", "--reason", " "], "--force needs"),
    (["promote", "2", "--to", "staging", *FORCE], "staging has no gate"),
    (["promote", "2", "--to", "production", "--text-column", "txt"], "no column 'txt'"),
    (["promote", "2", "--to", "production", "--data", "none.csv"], "no such file"),
    (["rollback"], "no version was in production before"),
    (["which", "--at", "yesterday"], "'yesterday' is"),
    (["which", "--at", "0001-01-01"], "'0001-01-01' is"),
    (["retire"], "invalid choice: 'retire'"),
]


def test_bad_input(run: Command, store: Store) -> None:
    force(store, "1")
    before = snapshot(store)
    runs = len(find_runs(store, store.settings.ledger, REGISTRY_KIND))
    for arguments, said in BAD_INPUT:
        code, printed, errors = run(*arguments)
        assert (code, printed, errors.count("\n")) == (2, "", 1) and said in errors, arguments
    assert snapshot(store) == before
    # staging what is in production is found out under a claim, which is withdrawn
    left = find_runs(store, store.settings.ledger, REGISTRY_KIND)[runs:]
    assert {run.info.status for run in left} <= {"KILLED"}


def test_force_is_the_way_out_of_a_broken_production_and_not_into_it(
    run: Command, store: Store
) -> None:
    force(store, "1")
    (store.folder / "damaged").mkdir()
    broken = twin(store, "2", source=str(store.folder / "damaged"))
    bare = twin(store, "2", run_id=begin_run(store, "Bare", {}))
    before = snapshot(store)
    for version in (broken, bare):
        for more in ((), FORCE):
            code, printed, errors = run("promote", version, "--to", "production", *more)
            assert (code, printed, errors.count("\n")) == (2, "", 1)
            assert f"version {version}: " in errors
    assert snapshot(store) == before
    force(store, broken)
    assert run("promote", "2", "--to", "production")[0] == 2
    code, printed, _ = run("promote", "2", "--to", "production", *FORCE)
    assert code == 0 and f"refused: not compared: version {broken}: will not load" in printed
    assert aliases(store)["champion"] == "2" and read_events(store)[-1].forced


def test_files_that_are_not_those_registered_are_named(
    run: Command, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of the same types, which a skops file may hold as well, turn every answer round."""
    force(store, "1")
    use_uri(store.uri)
    client, model = store.client, store.settings.registered_model
    assert run("verify", "champion") == (0, "version 1: 8 files, all as registered\n", "")
    pipeline = load_pipeline(store, f"models:/{model}/1")
    pipeline["model"].coef_ *= -1
    version = client.get_model_version(model, "1")
    logged = client.get_logged_model(str(version.source).removeprefix("models:/"))
    folder = Path(str(logged.artifact_location))
    original = (folder / "model.skops").read_bytes()
    skops.io.dump(pipeline, folder / "model.skops")
    said = "version 1: model.skops is not the one that was registered"
    for command in (["verify", "1"], ["which"], ["card", str(version.run_id)]):
        code, printed, errors = run(*command)
        assert (code, errors.count("\n")) == (2, 1), errors
        assert said in errors or command[0] == "card"  # this run has no card
        assert printed.startswith("1: in production") or command[0] != "which"
    with pytest.raises(ServingError, match=r"version 1: will not load: model\.skops is not"):
        load_version(store, "champion")
    code, _, errors = run("promote", "3", "--to", "production")  # compared with version 1
    assert code == 2 and "version 1: will not load" in errors and "model.skops" in errors
    (folder / "model.skops").write_bytes(original)
    with monkeypatch.context() as patch:  # a library's own error, such as botocore's
        patch.setattr("mlflow.artifacts.download_artifacts", Mock(side_effect=RuntimeError("s3")))
        code, printed, errors = run("which")
        assert code == 0 and printed.startswith("1: in production")
        assert errors.startswith("sentiment which: not verified: ") and errors.count("\n") == 1
        code, printed, errors = run("verify", "1")
        assert (code, printed, errors.count("\n")) == (2, "", 1)
    assert load_pipeline(store, f"models:/{model}/1").predict(["good"]).tolist() in ([0], [1])

    (folder / "code" / "numpy.py").write_text("print('mine')")
    assert "code/numpy.py is not" in run("verify", "1")[2]
    (folder / "code" / "numpy.py").unlink()
    (folder / "MLmodel").write_text("flavors: {}")
    assert "MLmodel is not" in run("verify", "1")[2]
    bare = twin(store, "3")
    client.delete_model_version_tag(model, bare, DIGESTS)
    code, _, errors = run("verify", bare)
    assert code == 2 and f"version {bare}: it has no tag {DIGESTS}" in errors
    with pytest.raises(TrackingError, match=DIGESTS):
        load_pipeline(store, f"models:/{model}/{bare}")


def test_an_empty_registry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(tmp_path)
    for arguments in (["list"], ["which"], ["rollback"], ["promote", "1", "--to", "production"]):
        assert main([*arguments, "--store", str(tmp_path)]) == 2
        errors = capsys.readouterr().err
        assert "FlipkartSentimentModel has no versions here" in errors and errors.count("\n") == 1
    assert not find_runs(store, store.settings.ledger, REGISTRY_KIND)


def test_no_events_yet(run: Command, store: Store) -> None:
    for event in read_events(store):
        store.client.delete_run(event.run_id)
    assert run("history") == (0, "nothing was staged or promoted yet\n", "")
    assert run("which") == (0, "none: no version was in production now\n", "")


def test_reading_commands_say_what_a_crash_left_behind_and_others_mend_it(
    run: Command, store: Store
) -> None:
    """A crash between the ledger's entry and the alias."""
    force(store, "1")
    store.client.set_registered_model_alias(store.settings.registered_model, "champion", "3")
    before, files = snapshot(store), sorted(store.folder.rglob("*"))
    for reading in (["list"], ["show", "1"], ["which"], ["history"]):
        code, printed, errors = run(*reading)
        assert code == 0 and printed and errors.count("\n") == 1, reading
        assert "version 1 is in production, the alias champion is 3" in errors
    assert snapshot(store) == before and sorted(store.folder.rglob("*")) == files
    code, _, errors = run("promote", "3", "--to", "staging")
    assert code == 0 and "mended: champion is version 1\n" in errors
    assert run("list")[2] == "" and aliases(store)["champion"] == "1"


def test_the_store_that_is_given_wins_over_the_variables(
    run: Command,
    store: Store,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "other").mkdir()
    other = versions_store(tmp_path_factory, tmp_path / "other")
    force(other, "1")
    store = open_store(store.folder)
    new, before = twin(store, "2"), snapshot(other)  # which the other does not have
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other.uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", other.uri)
    assert run("promote", new, "--to", "production", *FORCE)[:2] != (2, "")
    assert run("which")[1].startswith(f"{new}: in production")
    assert run("promote", "1", "--to", "production", *FORCE)[0] == 0
    assert run("rollback")[1] == f"production: 1 → {new}\n"
    assert run("promote", "3", "--to", "staging")[0] == 0
    assert (
        re.search(f"^ +{new} ", run("list")[1], re.MULTILINE) and "champion" in run("show", new)[1]
    )
    assert run("history")[1].count("→") == 5
    assert snapshot(other) == before
    monkeypatch.delenv("MLFLOW_REGISTRY_URI")
    assert aliases(store) == {"champion": new, "challenger": "3", "staging": "3"}
    assert aliases(open_store()) == aliases(other)  # without a folder the variable is followed


def test_a_server_that_goes_away_or_forbids(
    run: Command, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise MlflowException("away\nfor lunch")

    before = snapshot(store)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", away)
        code, _, errors = run("promote", "1", "--to", "production")
        assert (code, errors.count("\n")) == (2, 1) and "away for lunch" in errors
    assert snapshot(store) == before
    assert run("which")[2] == ""  # nothing was left to mend


@pytest.mark.slow
def test_in_a_process_of_its_own(run_script: Callable[..., Any], store: Store) -> None:
    done = run_script("sentiment", "which", "--store", store.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "none: no version was in production now\n"


# --- the experiment's part ---


def test_the_experiment_hands_its_best_version_to_the_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_noisy(tmp_path / "reviews.csv")
    quick = ["--trials", "1", "--quiet", "--data", str(data), "--store", str(tmp_path), "--promote"]
    with pytest.raises(SystemExit, match="2"):
        experiment.main([*quick, "--no-register"])
    assert experiment.main([*quick, "--models", "NaiveBayes,LogisticRegression"]) == 0
    store = open_store(tmp_path)
    versions = store.client.search_model_versions(f"name = '{store.settings.registered_model}'")
    scores = {version.tags["model"]: version.tags["cv_f1_macro"] for version in versions}
    assert scores["NaiveBayes"] > scores["LogisticRegression"]  # by less than a standard error
    (best,) = (one for one in versions if one.tags["model"] == "LogisticRegression")
    number = str(best.version)
    assert len(versions) == 2 and aliases(store) == {"champion": number}
    assert read_events(store)[0].why.startswith("chosen of pass ")
    printed = capsys.readouterr().out
    assert "promoted: the first in production" in printed
    assert printed.endswith(f"Version {number} is in production.\n")

    # the same data, settings and seed: the same model, so no evidence of improvement
    assert experiment.main([*quick, "--models", best.tags["model"]]) == 0
    printed = capsys.readouterr().out
    assert "refused: no evidence of improvement" in printed
    assert f"Version 3 is the challenger; version {number} is in production." in printed
    assert aliases(store) == {"champion": number, "challenger": "3", "staging": "3"}
    command = printed.splitlines()[-1].split()
    assert command[:3] == ["python", "-m", "sentiment"]
    assert main([*command[3:], *FORCE]) == 0  # the command that was printed
    assert capsys.readouterr().out.startswith(f"reviews: {data}\n")  # though it does not name them
    assert aliases(store) == {"champion": "3", "previous": number}
