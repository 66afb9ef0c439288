"""Model registry: its commands on a store that the experiment made, crashes, races and errors."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_reviews
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

import sentiment_mlflow_optuna as experiment
from sentiment.cli import registry as model_registry
from sentiment.data.reviews import load_reviews, split_reviews
from sentiment.errors import ConflictError, RegistryError, VersionError
from sentiment.registry import lifecycle as version_lifecycle
from sentiment.registry.gate import Verdict
from sentiment.registry.lifecycle import (
    judge_version,
    production_version,
    promote,
    register_version,
    stage_challenger,
)
from sentiment.registry.version_scoring import compare_versions
from sentiment.tracking.ledger import REGISTRY_KIND, read_events
from sentiment.tracking.store import (
    LEDGER,
    REGISTERED_MODEL,
    Store,
    begin_run,
    find_runs,
    open_store,
    use_uri,
)
from text_cleaning import clean_texts

PROJECT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.xdist_group("model_registry")  # the store is made once
FORCE = ("--force", "--reason", "the test says so")
Script = Callable[..., subprocess.CompletedProcess[str]]


def write_noisy(file: Path, rows: int) -> Path:
    """The made-up reviews with every seventh rating turned round, so that no model is perfect."""
    lines = write_reviews(file, rows=rows).read_text(encoding="utf-8").splitlines()
    for number in range(7, len(lines), 7):
        text, rating = lines[number].rsplit(",", 1)
        lines[number] = f"{text},{6 - int(rating)}"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def noisy_reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noisy(tmp_path_factory.mktemp("noisy") / "reviews.csv", 400)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, noisy_reviews: Path) -> Path:
    """A store with versions 1, 2 and 3 of a quick pass, one of them the challenger."""
    folder = tmp_path_factory.mktemp("made")
    options = ["--data", str(noisy_reviews), "--store", str(folder), "--trials", "2", "--quiet"]
    assert experiment.main(options) == 0
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of that store; the artifacts are read where they are."""
    copy = tmp_path / "store"
    copy.mkdir()
    for file in made.glob("mlflow.db*"):
        shutil.copy(file, copy)
    return copy


@pytest.fixture
def store(folder: Path) -> Store:
    return open_store(folder)


@pytest.fixture
def run(
    folder: Path, noisy_reviews: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run one command on the copy; returns exit code, output and errors."""

    def command(*arguments: str) -> tuple[int, str, str]:
        data = ("--data", str(noisy_reviews)) if "production" in arguments else ()
        words = [arguments[0], "--store", str(folder), *data, *arguments[1:]]
        capsys.readouterr()
        try:
            code = model_registry.main(words)
        except SystemExit as error:  # argparse's own way out
            assert isinstance(error.code, int)
            code = error.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


def force(store: Store, version: str) -> None:
    """Promote without the gate's opinion."""
    verdict = Verdict(False, "not compared", version, production_version(store))
    promote(store, verdict, why="the test says so", force=True)


def aliases(store: Store) -> dict[str, str]:
    found = store.client.get_registered_model(REGISTERED_MODEL).aliases
    return {alias: str(version) for alias, version in found.items()}


def stages(store: Store) -> dict[str, str]:
    found = store.client.search_model_versions(f"name = '{REGISTERED_MODEL}'")
    return {str(version.version): str(version.current_stage) for version in found}


def snapshot(store: Store) -> Any:
    """All that a command that failed must not have changed."""
    return aliases(store), stages(store), read_events(store)


def challenger(store: Store) -> str:
    return aliases(store)["challenger"]


# --- the experiment's part ------------------------------------------------------------------


def test_the_best_version_by_cross_validation_is_the_challenger(store: Store) -> None:
    versions = store.client.search_model_versions(f"name = '{REGISTERED_MODEL}'")
    best = max(versions, key=lambda version: float(version.tags["cv_f1_macro"]))
    assert aliases(store) == dict.fromkeys(("challenger", "staging"), str(best.version))
    assert {number for number, stage in stages(store).items() if stage == "Staging"} == {
        str(best.version)
    }
    (event,) = read_events(store)
    assert (event.action, event.target) == ("stage", str(best.version))
    assert re.match(r"best of pass \d{8}-\d{6}-[0-9a-f]{4}, CV macro-F1 0\.\d{4}$", event.why)


def test_a_version_is_challenger_once(store: Store) -> None:
    first = challenger(store)
    other = next(number for number in stages(store) if number != first)
    assert stage_challenger(store, other, "better") is True
    before = snapshot(store)
    assert stage_challenger(store, first, "a resumed pass says it again") is False
    assert snapshot(store) == before and challenger(store) == other


def test_the_experiment_prints_a_command_that_promotes_and_promotes_by_itself(
    folder: Path, noisy_reviews: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--trials", "1", "--models", "NaiveBayes", "--quiet", "--data", str(noisy_reviews)]
    assert experiment.main([*quick, "--store", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "Version 4 is the challenger; no version is in production yet. Promote it with:" in printed
    command = printed.splitlines()[-1].split()
    assert command[:2] == ["python", "model_registry.py"]
    assert model_registry.main(command[2:]) == 0
    store = open_store(folder)
    assert production_version(store) == "4" and aliases(store) == {"champion": "4"}

    # the same data, settings and seed: the same model, so no evidence of improvement
    capsys.readouterr()
    assert experiment.main([*quick, "--store", str(folder), "--promote"]) == 0
    printed = capsys.readouterr().out
    assert "refused: no evidence of improvement, difference 0.000, 95% 0.000…0.000" in printed
    assert "Version 5 is the challenger; in production is 4." in printed
    assert production_version(store) == "4" and challenger(store) == "5"


def test_promote_of_the_experiment_promotes_the_first_version(
    noisy_reviews: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--trials", "1", "--models", "NaiveBayes", "--quiet", "--data", str(noisy_reviews)]
    assert experiment.main([*quick, "--store", str(tmp_path), "--promote"]) == 0
    printed = capsys.readouterr().out
    assert "promoted: the first in production" in printed
    assert printed.endswith("Version 1 is in production.\n")
    assert production_version(open_store(tmp_path)) == "1"
    with pytest.raises(SystemExit, match="2"):
        experiment.main([*quick, "--store", str(tmp_path), "--promote", "--no-register"])


# --- the commands ---------------------------------------------------------------------------


def test_a_life_through_the_command_line(
    run: Callable[..., tuple[int, str, str]], store: Store
) -> None:
    """Promote ×3 (one through the gate, two forced), rollback ×2, one forced; then asked."""
    staged, times = challenger(store), []
    code, printed, _ = run("promote", "1", "--to", "production")
    assert code == 0 and "promoted: the first in production, macro-F1 0." in printed
    assert "reviews of the holdout" in printed and printed.endswith("production: → 1\n")
    for version in ("2", "3"):
        times.append(_now())
        code, printed, _ = run("promote", version, "--to", "production", *FORCE)
        assert code == 0 and f"production: {int(version) - 1} → {version}" in printed
    assert aliases(store) == {"champion": "3", "previous": "2"}
    assert stages(store) == {"1": "Archived", "2": "Archived", "3": "Production"}
    for origin, target in (("3", "2"), ("2", "1")):
        times.append(_now())
        code, printed, errors = run("rollback")
        assert (code, printed, errors) == (0, f"production: {origin} → {target}\n", "")
        assert aliases(store)["champion"] == target
        assert [v for v, s in stages(store).items() if s == "Production"] == [target]
    assert aliases(store) == {"champion": "1"}
    code, _, errors = run("rollback")
    assert code == 2 and errors == (
        "model_registry: no version was in production before; there is nothing to go back to\n"
    )
    times.append(_now())
    code, printed, _ = run("promote", "3", "--to", "production", *FORCE)
    assert code == 0
    times.append(_now())

    answers = [run("which", "--at", at)[1].split(":")[0] for at in times]
    assert answers == ["1", "2", "3", "2", "1", "3"]
    code, printed, _ = run("which")
    assert code == 0 and re.match(r"3: in production now, since \S+ \(promote by ", printed)
    code, printed, _ = run("which", "--at", "2020-01-01T12:00")
    assert code == 0 and printed.startswith("none: no version was in production at 2020-01-01T12")

    code, printed, _ = run("history")
    rows = [line for line in printed.splitlines() if "→" in line]
    said = [re.search(r"│ (\w+(?: \(forced\))?) +│ (\d? ?→ \d)", row) for row in rows]
    assert [(m.group(1), m.group(2)) for m in said if m] == [
        ("stage", f"→ {staged}"),
        ("promote", "→ 1"),
        *[(row, change) for row, change in zip(_forced(read_events(store)), CHANGES, strict=True)],
    ]
    # times of the history can be given back to `which --at` as they stand
    at = rows[2].split("│")[1].strip()
    assert run("which", "--at", at)[1].startswith("2: in production at")


CHANGES = ["1 → 2", "2 → 3", "3 → 2", "2 → 1", "1 → 3"]


def _forced(events: list[Any]) -> list[str]:
    return [e.action + " (forced)" * e.forced for e in events[2:]]


def _now() -> str:
    from datetime import datetime

    time.sleep(0.002)  # the ledger keeps milliseconds
    now = datetime.now().isoformat()  # no zone: local time
    time.sleep(0.002)
    return now


def test_list_and_show(run: Callable[..., tuple[int, str, str]], store: Store) -> None:
    force(store, "2")
    code, printed, _ = run("list")
    assert code == 0
    versions = store.client.search_model_versions(f"name = '{REGISTERED_MODEL}'")
    for version in versions:
        (line,) = [x for x in printed.splitlines() if x.startswith(f"│ {version.version} ")]
        for tag in ("cv_f1_macro", "test_f1"):
            assert f" {float(version.tags[tag]):.4f} " in line
        for text in (version.tags["model"], version.tags["data_digest"]):
            assert text in line
        assert str(version.current_stage) in line
        assert ("champion" in line) is (version.version in ("2", 2))
    code, printed, _ = run("show", "2")
    assert code == 0
    params = store.client.get_run(str(versions[0].run_id)).data.params
    assert "champion" in printed and "promote → 2" in printed and len(params) > 4
    assert "cleaning_fingerprint" in printed and "test_f1_low" in printed


def test_staging_by_hand(run: Callable[..., tuple[int, str, str]], store: Store) -> None:
    other = next(number for number in stages(store) if number != challenger(store))
    code, printed, _ = run("promote", other, "--to", "staging", "--reason", "try it")
    assert code == 0 and printed.endswith(f"→ {other}\n")
    assert aliases(store) == {"challenger": other, "staging": other}
    assert sorted(stages(store).values()) == ["Archived", "None", "Staging"]
    assert read_events(store)[-1].why == "try it"
    force(store, other)
    assert aliases(store) == {"champion": other}


def test_a_refusal_is_exit_code_1_and_changes_nothing(
    run: Callable[..., tuple[int, str, str]], store: Store
) -> None:
    force(store, "1")
    twin = clone(store, "1")
    before = snapshot(store)
    code, printed, errors = run("promote", twin, "--to", "production")
    assert (code, errors) == (1, "")
    assert printed.endswith(
        "refused: no evidence of improvement, difference 0.000, 95% 0.000…0.000\n"
    )
    assert snapshot(store) == before
    code, printed, _ = run("promote", "1", "--to", "production")
    assert (code, printed) == (0, "version 1 is in production already\n")
    assert snapshot(store) == before

    store.client.set_model_version_tag(REGISTERED_MODEL, twin, "data_digest", "another")
    code, printed, _ = run("promote", twin, "--to", "production")
    assert code == 0 and "promoted: new data, and not worse than version 1" in printed
    event = read_events(store)[-1]
    assert event.metrics["difference_f1_macro"] == 0 and not event.forced
    assert event.why.startswith("promoted: new data") and event.metrics["rows"] > 100


# --- what versions are compared on ----------------------------------------------------------


def clone(store: Store, version: str, **changes: str) -> str:
    """One more version with the model and run of another, or what `changes` names."""
    one = store.client.get_model_version(REGISTERED_MODEL, version)
    with pytest.MonkeyPatch.context() as patch:
        # register_version makes one version a run; a twin is what these tests need
        patch.setattr(store.client, "search_model_versions", lambda *_: [])
        if "source" not in changes:
            run_id = changes.get("run_id", str(one.run_id))
            return register_version(store, run_id, str(one.source), dict(one.tags))
    made = store.client.create_model_version(
        REGISTERED_MODEL, changes["source"], run_id=one.run_id, tags=dict(one.tags)
    )
    return str(made.version)


@pytest.mark.parametrize("rows", [400, 600])
def test_rows_either_was_trained_on_are_left_out(
    rows: int, store: Store, noisy_reviews: Path, tmp_path: Path
) -> None:
    """The file as it was, and grown: the first 400 rows are the same, the split is another."""
    grown = write_noisy(tmp_path / "grown.csv", rows)
    split = split_reviews(load_reviews(grown).frame)
    trained = set(clean_texts(split_reviews(load_reviews(noisy_reviews).frame).train_texts))
    left = [
        (text, label)
        for text, cleaned, label in zip(
            split.test_texts, clean_texts(split.test_texts), split.y_test, strict=True
        )
        if cleaned not in trained
    ]
    assert (len(left) < len(split.test_texts)) is (rows == 600)
    verdict = compare_versions(store, "1", "2", split)
    assert verdict.rows == len(left)
    assert verdict.left_out == len(split.test_texts) - len(left)

    import mlflow
    import pandas as pd
    from sklearn.metrics import f1_score

    use_uri(store.uri)
    frame = pd.DataFrame({"text": [text for text, _ in left]})
    assert [scores.version for scores in verdict.scores] == ["1", "2"]
    for scores in verdict.scores:
        uri = store.client.get_model_version(REGISTERED_MODEL, scores.version).source
        predicted = mlflow.pyfunc.load_model(str(uri)).predict(frame)  # MLflow's way, not ours
        expected = f1_score([label for _, label in left], predicted, average="macro")
        assert scores.f1_macro.value == pytest.approx(expected, abs=1e-12) and expected < 1


def test_another_cleaning(store: Store, noisy_reviews: Path) -> None:
    split = split_reviews(load_reviews(noisy_reviews).frame)
    store.client.set_model_version_tag(REGISTERED_MODEL, "1", "cleaning_fingerprint", "0" * 12)
    with pytest.raises(VersionError, match="version 1: trained with another cleaning"):
        compare_versions(store, "1", "2", split)
    assert "another cleaning" in compare_versions(store, "2", "1", split).note


# --- errors: one line, exit code 2, nothing changed -----------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "9"], "no version '9' of FlipkartSentimentModel; the newest: 1, 2, 3"),
        (["promote", "9", "--to", "production"], "no version '9'"),
        (["promote", "champion", "--to", "staging"], "no version 'champion'"),
        (["promote", "2", "--to", "prod"], "invalid choice: 'prod'"),
        (["promote", "2"], "required: --to"),
        (["promote", "1", "--to", "staging"], "version 1 is in production; it cannot go"),
        (["promote", "2", "--to", "production", "--force"], "--force needs --reason"),
        (["promote", "2", "--to", "production", "--force", "--reason", " "], "--force needs"),
        (["promote", "2", "--to", "staging", *FORCE], "staging has no gate"),
        (["promote", "2", "--to", "production", "--text-column", "txt"], "no column 'txt'"),
        (["promote", "2", "--to", "production", "--data", "none.csv"], "no such file"),
        (["rollback"], "no version was in production before"),
        (["which", "--at", "yesterday"], "'yesterday' is no date"),
        (["which", "--at", "0001-01-01"], "is no date"),
        (["retire"], "invalid choice: 'retire'"),
    ],
)
def test_bad_input(
    arguments: list[str], said: str, run: Callable[..., tuple[int, str, str]], store: Store
) -> None:
    force(store, "1")
    before = snapshot(store)
    runs = len(find_runs(store, LEDGER, REGISTRY_KIND))
    code, printed, errors = run(*arguments)
    assert (code, printed, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("model_registry: ") and said in errors
    assert snapshot(store) == before
    # staging what is in production is found out under a claim, which is withdrawn
    left = [r.info.status for r in find_runs(store, LEDGER, REGISTRY_KIND)][runs:]
    assert set(left) <= {"KILLED"}


def test_versions_that_cannot_be_scored(
    run: Callable[..., tuple[int, str, str]], store: Store, folder: Path
) -> None:
    force(store, "1")
    source = str(store.client.get_model_version(REGISTERED_MODEL, "2").source)
    model = store.client.get_logged_model(source.removeprefix("models:/"))
    damaged = folder / "damaged"
    shutil.copytree(str(model.artifact_location).removeprefix("file://"), damaged)
    (damaged / "model.skops").write_bytes(b"PK no archive")
    broken = clone(store, "2", source=str(damaged))
    bare = clone(store, "2", run_id=begin_run(store, "Bare", {}))
    before = snapshot(store)
    for version, said in ((broken, "will not load"), (bare, "no readable training_text_hashes")):
        for more in ((), FORCE):
            code, printed, errors = run("promote", version, "--to", "production", *more)
            assert (code, printed, errors.count("\n")) == (2, "", 1)
            assert f"version {version}: " in errors and said in errors
            assert snapshot(store) == before
    # a broken version in production: the gate cannot compare, and force is the way out
    force(store, broken)
    assert run("promote", "2", "--to", "production")[0] == 2
    code, printed, _ = run("promote", "2", "--to", "production", *FORCE)
    assert code == 0 and f"refused: not compared: version {broken}: will not load" in printed
    assert aliases(store)["champion"] == "2" and read_events(store)[-1].forced


def test_an_empty_registry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["list"], ["which"], ["rollback"], ["promote", "1", "--to", "production"]):
        assert model_registry.main([*arguments, "--store", str(tmp_path)]) == 2
        errors = capsys.readouterr().err
        assert "FlipkartSentimentModel has no versions here" in errors and errors.count("\n") == 1
    assert not find_runs(open_store(tmp_path), LEDGER, REGISTRY_KIND)


def test_no_events_yet(run: Callable[..., tuple[int, str, str]], store: Store) -> None:
    """Without a ledger, aliases that somebody set by hand are left alone."""
    for event in read_events(store):
        store.client.delete_run(event.run_id)
    store.client.set_registered_model_alias(REGISTERED_MODEL, "champion", "2")
    before = snapshot(store)
    assert run("history") == (0, "nothing was staged or promoted yet\n", "")
    assert run("which") == (0, "none: no version was in production now\n", "")
    assert snapshot(store) == before


@pytest.mark.slow
def test_through_processes_of_their_own(run_script: Script, folder: Path) -> None:
    done = run_script("sentiment.cli.registry", "which", "--store", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "none: no version was in production now\n"
    done = run_script("sentiment.cli.registry", "list", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "does not answer" in done.stderr


def test_a_server_that_goes_away_or_forbids(
    run: Callable[..., tuple[int, str, str]], store: Store, monkeypatch: pytest.MonkeyPatch
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


# --- crashes and races ----------------------------------------------------------------------


def killed_at(folder: Path, owner: Any, name: str, *, after: bool) -> None:
    """Roll back in a forked process that kills itself before or after it calls a function."""

    def child() -> None:
        original = getattr(owner, name)

        def deadly(*positional: Any, **named: Any) -> None:
            if after:
                original(*positional, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(owner, name, deadly)
        os._exit(model_registry.main(["rollback", "--store", str(folder)]))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("owner", "name", "after", "happened"),
    [
        (version_lifecycle, "append", False, False),
        (MlflowClient, "create_run", True, False),  # a claim, and nobody behind it
        (MlflowClient, "log_batch", True, False),
        (MlflowClient, "set_terminated", False, False),
        (MlflowClient, "set_terminated", True, True),
        (version_lifecycle, "append", True, True),
        (MlflowClient, "set_registered_model_alias", True, True),
        (MlflowClient, "delete_registered_model_alias", False, True),
        (MlflowClient, "transition_model_version_stage", False, True),  # aliases, no stages
        (MlflowClient, "transition_model_version_stage", True, True),
    ],
)
def test_a_crash_is_mended_by_the_next_command(
    owner: Any,
    name: str,
    after: bool,
    happened: bool,
    run: Callable[..., tuple[int, str, str]],
    store: Store,
    folder: Path,
) -> None:
    force(store, "1")
    force(store, "2")
    killed_at(folder, owner, name, after=after)
    expected = "1" if happened else "2"
    code, printed, errors = run("which")
    assert code == 0 and printed.startswith(f"{expected}: in production now")
    assert errors == "" or all(
        line.startswith("model_registry: mended: ") for line in errors.splitlines()
    )
    assert aliases(store)["champion"] == expected
    assert ("previous" in aliases(store)) is not happened
    assert [v for v, stage in stages(store).items() if stage == "Production"] == [expected]
    assert run("which")[2] == ""
    found = {r.info.status for r in find_runs(store, LEDGER, REGISTRY_KIND)}
    assert found <= {"FINISHED", "KILLED"}
    code, printed, _ = run("promote", "3", "--to", "production", *FORCE)
    assert code == 0 and printed.endswith(f"production: {expected} → 3, forced\n")


def test_what_was_changed_by_hand_follows_the_ledger_again(
    run: Callable[..., tuple[int, str, str]], store: Store
) -> None:
    force(store, "1")
    right = snapshot(store)
    store.client.set_registered_model_alias(REGISTERED_MODEL, "champion", "2")
    store.client.set_registered_model_alias(REGISTERED_MODEL, "previous", "3")
    store.client.set_registered_model_alias(REGISTERED_MODEL, "mine", "3")
    code, _, errors = run("list")
    assert code == 0
    assert errors.splitlines() == [
        "model_registry: mended: champion is version 1",
        "model_registry: mended: previous is no version",
    ]
    store.client.delete_registered_model_alias(REGISTERED_MODEL, "mine")
    assert snapshot(store) == right


RACER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {project!r})
from sentiment.cli import registry as model_registry
from sentiment.registry import lifecycle as version_lifecycle
original = version_lifecycle.append
def at_the_door(*positional, **named):
    Path({ready!r}).touch()
    while not Path({go!r}).exists():
        time.sleep(0.001)
    return original(*positional, **named)
version_lifecycle.append = at_the_door
verdict = model_registry.Verdict(False, "not compared", {version!r}, "1")
model_registry.judge_version = lambda *_: verdict  # loads nothing: seconds saved
sys.exit(model_registry.main({arguments!r}))
"""


@pytest.mark.slow
def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(
    store: Store, folder: Path, noisy_reviews: Path, tmp_path: Path
) -> None:
    """Two processes that both passed the gate against version 1 write at the same time."""
    force(store, "1")
    go = tmp_path / "go"
    racers = []
    for version in ("2", "3"):
        where = ["--store", str(folder), "--data", str(noisy_reviews)]
        code = RACER.format(
            project=str(PROJECT),
            ready=str(tmp_path / f"ready{version}"),
            go=str(go),
            version=version,
            arguments=["promote", version, "--to", "production", *FORCE, *where],
        )
        racers.append(
            subprocess.Popen(
                [sys.executable, "-c", code],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("ready*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    go.touch()
    told = [process.communicate(timeout=60) for process in racers]
    codes = [process.returncode for process in racers]
    assert sorted(codes) == [0, 1], told
    won = ("2", "3")[codes.index(0)]
    message = told[codes.index(1)][1]
    assert message.count("\n") == 1
    assert "came first" in message
    assert production_version(store) == won
    assert aliases(store)["champion"] == won and aliases(store)["previous"] == "1"
    assert [v for v, stage in stages(store).items() if stage == "Production"] == [won]


def test_a_verdict_against_a_version_that_is_gone_from_production_is_void(
    store: Store, noisy_reviews: Path
) -> None:
    force(store, "1")
    split = split_reviews(load_reviews(noisy_reviews).frame)
    verdict = judge_version(store, "2", split)
    assert verdict.production == "1" and np.isfinite(verdict.metrics()["candidate_seconds"])
    force(store, "3")
    before = snapshot(store)
    with pytest.raises(ConflictError, match="version 3 is in production now, no longer 1"):
        promote(store, verdict, why="late", force=True)
    with pytest.raises(RegistryError, match="is in production already"):
        judge_version(store, "3", split)
    with pytest.raises(RegistryError, match="needs a reason"):
        promote(store, verdict, force=True)
    if not verdict.promoted:
        with pytest.raises(RegistryError, match="refused: "):
            promote(store, verdict)
    assert snapshot(store) == before


def test_a_rollback_passes_over_a_version_that_was_deleted(
    run: Callable[..., tuple[int, str, str]], store: Store
) -> None:
    for version in ("1", "2", "3"):
        force(store, version)
    store.client.delete_model_version(REGISTERED_MODEL, "2")
    assert run("list")[0] == 0
    assert aliases(store) == {"champion": "3", "previous": "1"}
    assert run("rollback") == (0, "production: 3 → 1\n", "")
    assert run("rollback")[0] == 2
