"""`compare`: what A and B may be, output, and bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import run_command
from support.versions import versions_store

from sentiment.tracking.store import Store, log_values

pytestmark = pytest.mark.xdist_group("versions")  # the store is made once
FIXED = "C=0.5,min_df=3,max_df=0.8,max_features=2000"
OF_VERSION = {"alpha": 0.5, "min_df": 3, "max_df": 0.8, "max_features": 2000}
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(small_reviews: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `compare` on two splits in this process; returns exit code, output and errors."""

    def command(*arguments: str) -> tuple[int, str, str]:
        few = ("--splits", "2", "--trials", "1", "--jobs", "1", "--data", str(small_reviews))
        return run_command(capsys, "compare", *few, *arguments)

    return command


def test_two_algorithms(run: Command) -> None:
    code, out, err = run("LogisticRegression,min_df=2", "NaiveBayes")
    assert (code, err) == (0, "")
    assert "A: LogisticRegression,min_df=2 (C, max_df, max_features by 1 trials" in out
    assert "2 of 2 splits" in out and "average precision" in out
    code, out, _ = run("LogisticRegression,min_df=2", "NaiveBayes", "--quiet")
    assert code == 0 and out.count("\n") == 1


def test_json_holds_each_split(run: Command) -> None:
    code, out, _ = run(f"LogisticRegression,{FIXED}", "LinearSVM,ngram_range=(1, 1)", "--json")
    found = json.loads(out)
    assert code == 0 and found["splits"] == {"number": 2, "method": "hashed", "seed": 0}
    assert found["a"]["searched"] == [] and found["a"]["parameters"][0]["C"] == 0.5
    assert [one["ngram_range"] for one in found["b"]["parameters"]] == ["(1, 1)", "(1, 1)"]
    f1 = found["metrics"]["f1_macro"]
    ahead = sum(b - a for a, b in zip(f1["a"], f1["b"], strict=True)) / 2
    assert f1["difference"]["value"] == pytest.approx(ahead, abs=1e-12)
    assert found["sentence"]


def test_a_version_is_trained_anew_with_its_parameters(
    run: Command, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    store: Store = versions_store(tmp_path_factory, tmp_path)
    there = ("--store", str(tmp_path))
    code, out, err = run("1", "LogisticRegression", *there)
    assert code == 2 and err.count("\n") == 1 and "how it was trained" in err  # C alone is known
    run_id = store.client.get_model_version(store.settings.registered_model, "2").run_id
    log_values(store, str(run_id), params={**OF_VERSION, "ngram_range": "(1, 2)"})
    code, out, _ = run(
        "staging", "NaiveBayes,alpha=0.5,min_df=3,max_df=0.8,max_features=2000", *there
    )
    assert code == 0 and "staging (version 2), NaiveBayes trained anew" in out
    assert "same on every split" in out
    code, out, err = run("2", "5", *there)
    assert code == 2 and err.count("\n") == 1 and "no version '5'" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("LogisticRegresion", "LinearSVM"), "no algorithm"),
        (("LogisticRegression", "LinearSVM,C"), "parameters by comma"),
        (("LogisticRegression", "LinearSVM,C=1,C=2"), "parameters by comma"),
        (("LogisticRegression", "LinearSVM,C=-1"), "'C' parameter"),
        (("LogisticRegression",), "required"),
        (("LogisticRegression", "LinearSVM", "--splits", "1"), "2 or more"),
        (("LogisticRegression", "LinearSVM", "--seed", "-1"), "0 or more"),
        (("LogisticRegression", "LinearSVM", "--data", "nowhere.csv"), "no such file"),
    ],
)
def test_bad_input_is_one_line(
    arguments: tuple[str, ...], said: str, run: Command, tmp_path: Path
) -> None:
    code, _, err = run(*arguments, "--store", str(tmp_path / "empty"))
    assert code == 2 and err.count("\n") == 1 and said in err and "Traceback" not in err


def test_reviews_of_one_class_or_too_few_are_one_line(run: Command, tmp_path: Path) -> None:
    file = tmp_path / "one.csv"
    file.write_text("review,rating\n" + "".join(f"good {at},5\n" for at in range(50)))
    code, _, err = run("LogisticRegression", "LinearSVM", "--data", str(file))
    assert code == 2 and err.count("\n") == 1 and "0 negative reviews" in err
