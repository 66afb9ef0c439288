"""The drift command from a log or a file to verdict, run and exit code, and bad input."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import LEDGER
from support.drift_reviews import kettles, made_up, reference
from support.drift_store import (
    NOON,
    champion,
    copy_of,
    last_report,
    shared_drift_store,
    write_answers,
)

from sentiment.__main__ import main
from sentiment.cli.options import parse_command
from sentiment.drift import runs as drift_runs
from sentiment.drift import window as drift_window
from sentiment.drift.compare import compare_reviews
from sentiment.drift.features import row_features
from sentiment.drift.latest import DRIFT, KIND
from sentiment.drift.performance import measured_f1
from sentiment.drift.runs import run_check
from sentiment.drift.window import FileWindow, LogWindow
from sentiment.errors import WindowError
from sentiment.flows.replay import Replay
from sentiment.metrics import Ints
from sentiment.model.predictor import LoadedVersion
from sentiment.predictions.log import PredictionLog, open_log
from sentiment.tracking.store import Store, find_runs

pytestmark = pytest.mark.xdist_group("drift")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Store:
    return copy_of(shared_drift_store(tmp_path_factory), tmp_path / "store")


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> LoadedVersion:
    return champion(shared_drift_store(tmp_path_factory))


@pytest.fixture
def log(store: Store) -> Iterator[PredictionLog]:
    opened = open_log(f"sqlite:///{store.folder / 'predictions.db'}")
    yield opened
    opened.close()


@pytest.fixture
def run(store: Store, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command on the store; returns exit code, output and errors."""

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        words = [str(argument) for argument in arguments]
        name = words.pop(0) if words[:1] == ["replay"] else "drift"
        code = main([name, "--store", str(store.folder), *words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


def write(file: Path, texts: list[str], labels: Ints | None = None) -> Path:
    ratings = {} if labels is None else {"Ratings": np.where(labels == 1, 5, 1)}
    pd.DataFrame({"Review text": texts, **ratings}).to_csv(file, index=False)
    return file


def runs(store: Store) -> list[str]:
    return [run.info.run_id for run in find_runs(store, LEDGER, {KIND: DRIFT})]


def test_a_store_that_may_not_be_written_is_checked_and_nothing_logged(
    store: Store, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "incoming.csv", *made_up(150, 203))
    before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")}
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    code, out, errors = run("--data", file)
    assert (code, errors) == (0, "") and "steady" in out and "Page:" not in out
    assert runs(store) == []
    assert {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")} == before


# --- the log -------------------------------------------------------------------------------


def test_a_steady_log_ends_with_0_and_says_so(
    store: Store, log: PredictionLog, version: LoadedVersion, run: Run
) -> None:
    write_answers(log, version, made_up(300, 201)[0])
    write_answers(log, version, ["good box"] * 7, name="o", number="2")
    code, out, errors = run()
    assert (code, errors) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "steady: version 1 (LogisticRegression), prediction log"
    assert "300 reviews" in lines[1] and "600" in lines[1]
    assert "- left out: answers of version 2 (7)" in lines
    assert any(line.startswith("- all 11 signals are within") for line in lines)
    assert any(line.startswith("not computed: macro-F1 by true labels: 0 ") for line in lines)
    assert lines[-1] == f"Page: {store.folder / 'drift' / 'latest.html'}"
    assert last_report(store)["run_id"] == runs(store)[0]


def test_json_is_the_report_and_nothing_else(
    store: Store, log: PredictionLog, version: LoadedVersion, run: Run
) -> None:
    texts, labels = made_up(150, 203)
    requests = write_answers(log, version, texts)
    for request, label in zip(requests[:80], labels.tolist(), strict=False):
        log.add_feedback(request, 0, label, None, NOON)
    _, out, errors = run("--json")
    true = np.where(np.arange(150) < 80, labels, -1)
    expected = compare_reviews(reference(), row_features(texts, version.pipeline), true).as_dict()
    found = json.loads(out)
    assert found == {**found, **json.loads(json.dumps(expected))} == last_report(store)
    assert (found["version"], found["source"], errors) == ("1", "prediction log", "")
    assert found["window"]["began"] == "2023-11-14T22:13:20+00:00"  # NOON


def test_a_drifted_log_ends_with_3_and_measures_with_feedback(
    store: Store, log: PredictionLog, version: LoadedVersion, run: Run
) -> None:
    """By feedback every label is turned round; the estimate cannot know."""
    texts, labels = kettles(300, 202)
    requests = write_answers(log, version, texts)
    for request, label in zip(requests, labels.tolist(), strict=True):
        log.add_feedback(request, 0, 1 - label, None, NOON)
    code, out, _ = run("--json")
    assert code == 3
    found = json.loads(out)
    assert found["verdict"] == "drifted"
    states = {signal["name"]: signal["state"] for signal in found["signals"]}
    assert states["unknown_words"] == states["measured_f1"] == "drifted"
    assert {word["word"] for word in found["new_words"]} >= {"kettl", "spout"}
    assert found["performance"]["labelled"] == found["performance"]["answered"] == 300
    assert found["performance"]["measured"]["value"] < 0.3
    assert found["performance"]["estimated"]["value"] > 0.6
    assert found["advice"].startswith("the model does worse on these reviews: retrain")


def test_the_log_is_the_newest_answers_unless_told_otherwise(
    log: PredictionLog, version: LoadedVersion, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_answers(log, version, ["good box"] * 200, begin=time.time() - 7_200, step=36.0)
    monkeypatch.setattr(drift_runs, "NEWEST", 60)
    for options, expected in (
        ((), 60),
        (("--since", "1h"), 100),
        (("--since", "90m", "--window", "65"), 65),
    ):
        _, out, _ = run("--json", "--min-reviews", "999", *options)
        assert abs(json.loads(out)["reviews"] - expected) <= 1, options  # the clock goes on


def test_fewer_than_asked_for_is_not_steady(
    log: PredictionLog, version: LoadedVersion, run: Run
) -> None:
    write_answers(log, version, made_up(120, 206)[0])
    said = "version 1 (LogisticRegression), prediction log\n"
    assert run("--min-reviews", "121", "--quiet") == (0, f"not enough yet: {said}", "")
    assert run("--min-reviews", "120", "--quiet") == (0, f"steady: {said}", "")


def test_of_a_long_window_all_true_labels_count(
    store: Store, log: PredictionLog, version: LoadedVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 of 500 are drawn; the 150 with a label are all in the measured score."""
    texts, labels = made_up(500, 217)
    requests = write_answers(log, version, texts)
    for request, label in zip(requests[:150], labels.tolist(), strict=False):
        log.add_feedback(request, 0, label, None, NOON)
    monkeypatch.setattr(drift_window, "SAMPLE", 200)
    checked = run_check(store, LogWindow())
    report = checked.report
    assert (checked.reviews, report.reviews) == (500, 200)
    window = row_features(texts[:150], version.pipeline)
    answered, labels = window.answered, labels[:150]
    assert report.performance.labelled == answered.sum()
    expected = measured_f1(labels[answered], window.label[answered])
    assert report.performance.measured == expected
    # what a verdict needs is counted in the window, not in the sample
    assert run_check(store, LogWindow(), min_reviews=500).report.verdict != "not enough yet"
    assert run_check(store, LogWindow(), min_reviews=501).report.verdict == "not enough yet"


# --- a file --------------------------------------------------------------------------------


def test_a_file_of_another_product_has_drifted(store: Store, tmp_path: Path, run: Run) -> None:
    file = write(tmp_path / "kettles.csv", *kettles(300, 211))
    page = tmp_path / "page.html"
    code, out, _ = run("--data", file, "--html", page)
    assert code == 3
    assert out.splitlines()[0] == "drifted: version 1 (LogisticRegression), kettles.csv"
    assert "unknown words" in out and "macro-F1 by true labels" in out
    assert out.splitlines()[-1] == f"Page: {page}"
    assert page.read_bytes() == (store.folder / "drift" / "latest.html").read_bytes()


def test_a_file_like_the_reference_is_steady(tmp_path: Path, run: Run) -> None:
    texts, labels = made_up(300, 212)
    code, out, _ = run("--data", write(tmp_path / "alike.csv", texts, labels), "--quiet")
    assert (code, out) == (0, "steady: version 1 (LogisticRegression), alike.csv\n")


def test_the_models_own_training_reviews_are_named_and_no_drift(
    store: Store, tmp_path: Path, run: Run, log: PredictionLog, version: LoadedVersion
) -> None:
    """`fitted` was trained on these; of what came later it knows a part at most."""
    said, texts = "reviews the model was trained on", made_up(800, 1)[0]
    code, out, _ = run("--data", write(tmp_path / "own.csv", texts))
    assert code == 0 and said in out
    write_answers(log, version, texts)
    assert any(said in note for note in json.loads(run("--json")[1])["window"]["notes"])
    assert said not in run("--data", write(tmp_path / "later.csv", made_up(800, 213)[0]))[1]


def test_a_window_of_the_page_is_asked_for_by_source(
    log: PredictionLog, version: LoadedVersion, run: Run
) -> None:
    write_answers(log, version, made_up(200, 201)[0])
    write_answers(log, version, kettles(200, 202)[0], name="p", source="page")
    for options, code, reviews in (
        ((), 0, 200),
        (("--source", "api"), 0, 200),
        (("--source", "page"), 3, 200),
        (("--source", "all"), 3, 400),
    ):
        ended, out, _ = run("--json", *options)
        assert (ended, json.loads(out)["reviews"]) == (code, reviews), options


def test_a_replay_prints_its_table_and_where_the_figure_is(
    store: Store, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {"true_f1": np.nan, "true_low": np.nan, "true_high": np.nan, "estimated_f1": 0.8}
    row = {"window": "Feb 2020", "reviews": 120, "verdict": "steady", **scores}
    row |= {"estimated_low": 0.7, "estimated_high": 0.9, "measured": "", "beyond": ""}
    asked: list[object] = []

    def replayed(*wanted: object, **options: object) -> Replay:
        asked.extend([*wanted[1:], options])
        return Replay("in.csv", "trained on Jan 2020", None, pd.DataFrame([row]), ("a note",))

    monkeypatch.setattr("sentiment.flows.replay.replay", replayed)
    monkeypatch.setattr("sentiment.flows.replay.read_months", lambda *_: "what was read")
    columns = ("--rating-column", "stars", "--month-column", "when", "--min-reviews", "70")
    code, out, errors = run("replay", "--data", tmp_path / "in.csv", *columns)
    wanted = FileWindow(tmp_path / "in.csv", None, "stars")
    assert asked == [wanted, "when", "what was read", {"min_reviews": 70}]
    assert (code, errors) == (0, "")
    assert "in.csv: trained on Jan 2020" in out and "- a note" in out
    assert "Feb 2020" in out and ".800 (.700–.900)" in out and "nan" not in out
    figure = Path(out.splitlines()[-1].removeprefix("Figure: "))
    assert figure.read_bytes()[:4] == b"\x89PNG"


# --- bad input -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--store", "{missing}"), "mlflow.db: no such store"),
        ((), "predictions.db: no prediction log there; start "),
        (("--log-url", "postgresql://a:secret@127.0.0.1:1/x"), "127.0.0.1:1/x: the prediction"),
        (("--version", "9"), "no version '9' of FlipkartSentimentModel"),
        (("--version", "2"), "version 2: has no drift reference"),
        (("--data", "missing.csv"), "missing.csv: no such file; give one with --data"),
        (("--data", "{few}", "--text-column", "body"), "no column 'body', found 'Review text'"),
        (("replay", "--data", "{few}"), "no column of ratings"),
        (("--data", "{few}", "--html", "{missing}/page.html"), "no such folder; create it"),
        (("--data", "{few}", "--html", "{folder}"), "is a folder, expected the name of a file"),
    ],
)
def test_bad_input_is_one_line_and_leaves_everything_as_it_was(
    store: Store, tmp_path: Path, run: Run, options: tuple[str, ...], said: str
) -> None:
    few = write(tmp_path / "few.csv", ["good box"] * 3)
    names = {"few": few, "missing": tmp_path / "missing", "folder": tmp_path}
    before = sorted(tmp_path.rglob("*"))
    code, out, errors = run(*(option.format(**names) for option in options))
    assert (code, out) == (2, "")
    assert errors.startswith("sentiment ") and said in errors
    assert errors.count("\n") == 1 and "secret" not in errors
    assert runs(store) == []
    after = [path for path in sorted(tmp_path.rglob("*")) if "mlruns" not in path.parts]
    assert [path for path in after if path not in before and "mlflow.db" not in path.name] == []


def test_a_log_without_answers_of_the_version_is_one_line(
    store: Store, log: PredictionLog, version: LoadedVersion, run: Run
) -> None:
    write_answers(log, version, ["good box"])
    code, _, errors = run("--since", "1h")
    assert (code, errors.count("\n")) == (2, 1)
    assert (
        "no answers of version 1 to the API since " in errors
        and "the newest is of 2023-11-1" in errors
    )
    with pytest.raises(WindowError):  # which the flow takes for "not enough yet"
        run_check(store, LogWindow(since=time.time()))
    assert runs(store) == []


def test_without_a_version_in_production_there_is_nothing_to_compare(
    store: Store, run: Run
) -> None:
    store.client.delete_registered_model_alias("FlipkartSentimentModel", "champion")
    code, _, errors = run()
    assert (code, errors.count("\n")) == (2, 1)
    assert errors.startswith("sentiment drift: no version is in production yet; run ")


def test_a_store_that_breaks_off_is_one_line(
    log: PredictionLog, version: LoadedVersion, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    def fail(*_: object, **__: object) -> None:
        raise MlflowException("gone\naway")

    write_answers(log, version, ["good box"])
    monkeypatch.setattr(drift_runs, "log_check", fail)
    code, out, errors = run()
    assert (code, out) == (2, "")
    assert errors == "sentiment drift: the tracking store did not do it: gone away\n"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2026-03-01T12:00+05:30", datetime.fromisoformat("2026-03-01T06:30+00:00").timestamp()),
        ("2026-03-01", datetime(2026, 3, 1).timestamp()),  # local time
        ("90m", 90 * 60),
        ("12h", 12 * 3_600),
        ("1.5d", 36 * 3_600),
        ("2w", 14 * 86_400),
    ],
)
def test_since_is_a_time_or_a_span(written: str, expected: float) -> None:
    found = parse_command(["drift", "--since", written]).since
    if written.endswith(("m", "h", "d", "w")):
        found = time.time() - found
    assert found == pytest.approx(expected, abs=5)
