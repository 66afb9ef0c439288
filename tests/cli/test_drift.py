"""The drift command from a log or a file to verdict, run and exit code, and bad input."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
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
from sentiment.drift.performance import measured_f1
from sentiment.drift.runs import DRIFT, KIND, run_check
from sentiment.drift.window import FileWindow, LogWindow
from sentiment.errors import WindowError
from sentiment.metrics import Ints
from sentiment.model.predictor import LoadedVersion
from sentiment.predictions.log import PredictionLog, open_log
from sentiment.tracking.store import LEDGER, Store, find_runs

pytestmark = pytest.mark.xdist_group("drift")
Run = Callable[..., tuple[int, str, str]]
Script = Callable[..., subprocess.CompletedProcess[str]]


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
        try:
            words = [str(argument) for argument in arguments]
            named = words[:1] if words[:1] == ["replay"] else ["drift"]
            rest = words[1:] if words[:1] == ["replay"] else words
            code = main([*named, "--store", str(store.folder), *rest])
        except SystemExit as error:  # argparse's own way out
            assert isinstance(error.code, int)
            code = error.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


def write(file: Path, texts: list[str], labels: Ints | None = None) -> Path:
    frame = pd.DataFrame({"Review text": texts})
    if labels is not None:
        frame["Ratings"] = [5 if label else 1 for label in labels]
    frame.to_csv(file, index=False)
    return file


def runs(store: Store) -> list[str]:
    return [run.info.run_id for run in find_runs(store, LEDGER, {KIND: DRIFT})]


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


def test_json_is_the_report_and_nothing_else(
    store: Store, log: PredictionLog, version: LoadedVersion, run: Run
) -> None:
    texts, labels = made_up(250, 203)
    requests = write_answers(log, version, texts)
    for request, label in zip(requests[:80], labels.tolist(), strict=False):
        log.add_feedback(request, 0, label, None, NOON)
    _, out, errors = run("--json")
    found = json.loads(out)
    true = labels.copy()
    true[80:] = -1
    expected = compare_reviews(reference(), row_features(texts, version.pipeline), true).as_dict()
    assert {name: found[name] for name in expected} == json.loads(json.dumps(expected))
    assert (found["version"], found["source"], errors) == ("1", "prediction log", "")
    assert found["window"]["began"] == "2023-11-14T22:13:20+00:00"  # NOON
    assert found == last_report(store)


def test_the_log_is_the_newest_answers_unless_told_otherwise(
    log: PredictionLog, version: LoadedVersion, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_answers(log, version, made_up(400, 204)[0], begin=time.time() - 7_200, step=18.0)
    monkeypatch.setattr(drift_runs, "NEWEST", 120)
    for options, expected in (
        ((), 120),
        (("--window", "150"), 150),
        (("--since", "1h"), 200),
        (("--since", "90m", "--window", "130"), 130),
        (("--since", "2w"), 400),
    ):
        _, out, _ = run("--json", *options)
        assert abs(json.loads(out)["reviews"] - expected) <= 1, options  # the clock goes on


def test_fewer_than_asked_for_is_not_steady(
    log: PredictionLog, version: LoadedVersion, run: Run
) -> None:
    write_answers(log, version, made_up(120, 206)[0])
    code, out, _ = run("--min-reviews", "121", "--quiet")
    assert (code, out) == (0, "not enough yet: version 1 (LogisticRegression), prediction log\n")
    assert run("--min-reviews", "120", "--quiet")[1].startswith("steady: ")


def test_of_a_long_window_all_true_labels_count(
    store: Store, log: PredictionLog, version: LoadedVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 of 1,000 are drawn; the 300 with a label are all in the measured score."""
    texts, labels = made_up(1_000, 217)
    requests = write_answers(log, version, texts)
    for request, label in zip(requests[:300], labels.tolist(), strict=False):
        log.add_feedback(request, 0, label, None, NOON)
    monkeypatch.setattr(drift_window, "SAMPLE", 300)
    checked = run_check(store, LogWindow())
    report = checked.report
    assert (checked.reviews, report.reviews) == (1_000, 300)
    predicted = version.pipeline.predict(texts[:300])
    answered = [p.label is not None for p in version.predict(texts[:300], explain=False)]
    assert report.performance.labelled == sum(answered)
    assert report.performance.measured == measured_f1(labels[:300][answered], predicted[answered])


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


def test_a_replay_prints_its_table_and_where_the_figure_is(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentiment.flows.replay.FIRST", 300)
    parts = []
    for at, month in enumerate(["Jan 2020", "Feb 2020", "Mar 2020"]):
        texts, labels = made_up(300, 220 + at)
        ratings = [5 if label else 1 for label in labels]
        parts.append(pd.DataFrame({"text": texts, "stars": ratings, "when": month}))
    pd.concat(parts).to_csv(tmp_path / "in.csv", index=False)
    code, out, errors = run(
        "replay",
        "--data",
        tmp_path / "in.csv",
        "--rating-column",
        "stars",
        "--month-column",
        "when",
    )
    assert (code, errors) == (0, "")
    assert "in.csv: trained on Jan 2020, 300 reviews; configuration: the published one" in out
    assert "Feb 2020" in out and "Mar 2020" in out and "verdict" in out
    figure = Path(out.splitlines()[-1].removeprefix("Figure: "))
    assert figure.read_bytes()[:4] == b"\x89PNG"
    table = pd.read_csv(figure.parent.parent / "replay.csv")
    assert table["window"].tolist() == ["Feb 2020", "Mar 2020"]


# --- bad input -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "predictions.db: no prediction log there; start "),
        (("--log-url", "nonsense"), "the log's URL cannot be read"),
        (("--log-url", "postgresql://a:secret@127.0.0.1:1/x"), "127.0.0.1:1/x: the prediction"),
        (("--version", "9"), "no version '9' of FlipkartSentimentModel"),
        (("--version", "2"), "version 2: has no drift reference"),
        (("--data", "missing.csv"), "missing.csv: no such file; give one with --data"),
        (("--data", "{few}", "--text-column", "body"), "no column 'body', found 'Review text'"),
        (("--data", "{few}", "--rating-column", "stars"), "no column 'stars', found 'Review t"),
        (("--data", "{blank}"), "blank.csv: has no reviews; expected one per row"),
        (("replay", "--data", "{few}"), "no column of ratings"),
        (("--data", "{few}", "--html", "{missing}/page.html"), "no such folder; create it"),
        (("--data", "{few}", "--html", "{folder}"), "is a folder, expected the name of a file"),
    ],
)
def test_bad_input_is_one_line_and_leaves_everything_as_it_was(
    store: Store, tmp_path: Path, run: Run, options: tuple[str, ...], said: str
) -> None:
    few = write(tmp_path / "few.csv", ["good box"] * 3)
    blank = tmp_path / "blank.csv"
    blank.write_text("text\n \n")
    names = {"few": few, "blank": blank, "missing": tmp_path / "missing", "folder": tmp_path}
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
    assert run()[2].count("no answers of version 1 among the 0 predictions") == 1
    write_answers(log, version, ["good box"])
    code, _, errors = run("--since", "1h")
    assert (code, errors.count("\n")) == (2, 1)
    assert "no answers of version 1 since " in errors and "the newest is of 2023-11-1" in errors
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


@pytest.mark.slow
def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, run_script: Script) -> None:
    """As a person runs it: one line, exit code 2, no traceback."""
    done = run_script("sentiment", "drift", "--store", tmp_path / "nothing")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sentiment drift: ") and done.stderr.count("\n") == 1
    assert "mlflow.db: no such store" in done.stderr
    assert list(tmp_path.iterdir()) == []


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


def test_the_check_can_be_called_without_the_command(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the flow does; of a named version, and nothing is printed."""
    texts, labels = made_up(150, 231)
    wanted = FileWindow(write(tmp_path / "in.csv", texts, labels))
    checked = run_check(store, wanted, version="1", min_reviews=150)
    assert (checked.version, checked.source, checked.reviews) == ("1", "in.csv", 150)
    assert runs(store) == [checked.run_id]
    assert capsys.readouterr() == ("", "")
