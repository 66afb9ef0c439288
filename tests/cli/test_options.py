"""The command lines: help that answers at once and fits, wrong options in one line."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from conftest import PROJECT

from sentiment.__main__ import MODULES
from sentiment.cli.options import (
    is_loopback,
    parse_command,
    parse_experiment,
    parse_flow,
    reading_of,
)

Parse = Callable[[list[str]], Namespace]
SCRIPTS: dict[str, Parse] = {
    "sentiment_mlflow_optuna.py": parse_experiment,
    "ml_orchestration_flipkart.py": parse_flow,
}
README = "\n".join(
    file.read_text(encoding="utf-8") for file in (PROJECT / "README.md", *PROJECT.glob("docs/*.md"))
)


PARSERS: list[tuple[str, Parse, list[str]]] = [
    *((script, parse, []) for script, parse in SCRIPTS.items()),
    *((f"python -m sentiment {name}", parse_command, [name]) for name in MODULES),
]
NAMES = [program for program, _, _ in PARSERS]
NEEDED = {  # by the last word of the program
    "score": ["--in", "a.csv", "--out", "b.csv"],
    "show": ["1"],
    "verify": ["1"],
    "promote": ["1", "--to", "staging"],
    "card": ["0a1b"],
    "compare": ["LinearSVM", "NaiveBayes"],
}


def refused(parse: Parse, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that refuses the arguments."""
    with pytest.raises(SystemExit) as left:
        parse(arguments)
    assert left.value.code == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and len(said.err) <= 300
    return said.err


@pytest.mark.parametrize(("program", "parse", "words"), PARSERS, ids=NAMES)
def test_help_fits_80_columns_and_the_readme_has_every_option(
    program: str,
    parse: Parse,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as left:
        parse([*words, "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert program in README
    missing = [flag for flag in set(re.findall(r"--[a-z-]+", shown)) if flag not in README]
    assert not [flag for flag in missing if flag != "--help"]


@pytest.mark.parametrize(("program", "parse", "words"), PARSERS, ids=NAMES)
def test_help_names_the_variable_of_every_option(
    program: str, parse: Parse, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse([*words, "--help"])
    shown = capsys.readouterr().out.partition("options:")[2]
    for option in re.split(r"^  (?=-)", shown, flags=re.MULTILINE)[1:]:
        flag = re.match(r"--([a-z-]+)", option)
        if flag:  # not `-h, --help`
            name = flag[1].replace("-", "_").upper()
            name = "DRIFT_DATA" if (program[-5:], name) == ("drift", "DATA") else name
            assert f"[SENTIMENT_{name}]" in option


def test_an_option_wins_over_its_variable_which_wins_over_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def serve(*words: str) -> tuple[object, ...]:
        options = parse_command(["serve", *words])
        names = ("port", "store", "quiet", "ab", "log_url")
        return tuple(getattr(options, name) for name in names)

    assert serve() == (8000, None, False, None, None)
    secret = tmp_path / "log_url"
    secret.write_text("postgresql+psycopg://me:s3cret@host/log\n")
    said = {"PORT": "9000", "STORE": "elsewhere", "QUIET": "Yes", "AB": "challenger=0.2"}
    for name, value in {**said, "LOG_URL_FILE": str(secret)}.items():
        monkeypatch.setenv(f"SENTIMENT_{name}", value)
    url = "postgresql+psycopg://me:s3cret@host/log"
    assert serve() == (9000, str(Path("elsewhere").resolve()), True, ("challenger", 0.2), url)
    assert serve("--port", "7", "--log-url", "sqlite:///a.db")[::4] == (7, "sqlite:///a.db")
    monkeypatch.setenv("SENTIMENT_QUIET", "off")
    monkeypatch.setenv("SENTIMENT_AB", "")  # says nothing
    assert serve()[2:4] == (False, None)

    monkeypatch.setenv("SENTIMENT_LOG_URL", "sqlite:///b.db")
    assert "SENTIMENT_LOG_URL and SENTIMENT_LOG_URL_FILE" in refused(serve_words, [], capsys)
    monkeypatch.delenv("SENTIMENT_LOG_URL")
    monkeypatch.setenv("SENTIMENT_LOG_URL_FILE", str(tmp_path / "none"))
    shown = refused(serve_words, [], capsys)
    assert "SENTIMENT_LOG_URL_FILE" in shown and "No such file" in shown
    serve("--log-url", "sqlite:///b.db")  # nobody asks the file


def serve_words(words: list[str]) -> Namespace:
    return parse_command(["serve", *words])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "70000", "65535"),
        ("QUIET", "perhaps", "true nor false"),
        ("AB", "challenger", "from 0 to 1"),
        ("WORKERS", "0", "1 or more"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(
    name: str,
    value: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(f"SENTIMENT_{name}", value)
    shown = refused(serve_words, [], capsys)
    assert f"SENTIMENT_{name}" in shown and said in shown
    with pytest.raises(SystemExit) as left:
        parse_command(["serve", "--help"])
    assert left.value.code == 0  # help is there for whoever has made a mistake


def test_what_may_be_left_out_may_also_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is for other commands does not stand in the way of one."""
    for name, value in {
        **{"IN": "a.csv", "OUT": "b.csv", "TO": "staging", "DATA": "mine.csv", "TRIALS": "3"},
        **{"LOG_URL": "sqlite:///a.db", "RATING_COLUMN": "stars", "SCALE": "7"},
        **{"NO_PROMOTE": "true", "RESUME": "true"},
    }.items():
        monkeypatch.setenv(f"SENTIMENT_{name}", value)
    assert str(parse_command(["score"]).source) == "a.csv"
    assert "SENTIMENT_SCALE: invalid choice" in refused(parse_command, ["promote", "1"], capsys)
    monkeypatch.setenv("SENTIMENT_SCALE", "10")
    promote = parse_command(["promote", "1", "--to", "production", "--label-column", "label"])
    assert (promote.to, promote.rating_column) == ("production", None)
    of_log, of_file = parse_command(["drift"]), parse_command(["drift", "--data", "b.csv"])
    assert (of_log.data, of_log.log_url, of_log.scale) == (None, "sqlite:///a.db", None)
    assert (str(of_file.data), of_file.log_url, of_file.scale) == ("b.csv", None, 10)
    assert parse_flow([]).promote is False
    resumed = parse_experiment([])  # with the settings that the pass was begun with
    assert (resumed.resume, resumed.trials, resumed.data) == ("", None, None)
    monkeypatch.delenv("SENTIMENT_RESUME")
    begun = parse_experiment([])
    assert (begun.resume, begun.trials, begun.data) == (None, 3, "mine.csv")


@pytest.mark.parametrize(("program", "parse", "words"), PARSERS, ids=NAMES)
def test_an_unknown_option_is_one_line(
    program: str, parse: Parse, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(
        parse, [*words, *NEEDED.get(program.rsplit(maxsplit=1)[-1], []), "--nope" * 200], capsys
    )
    assert "--nope" in said and said.endswith("see --help\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--trials", "many"], "1 or more"),
        (["--models", "Oracle"], "LogisticRegression, NaiveBayes, LinearSVM"),
        (["--models", "NaiveBayes,NaiveBayes"], "twice"),
        (["--seed", "x"], "whole number"),
        (["--recall-negative", "85"], "above 0 and below 1"),
        (["--recall-negative", "1"], "above 0 and below 1"),
        (["--recall-negative", "nan"], "above 0 and below 1"),
        (["--format", "onnx"], "skops"),
        (["--promote", "--no-register"], "--promote needs a version"),
        (["--promote", "--format", "cloudpickle"], "never goes into production"),
        (["--store", "http://ada:geheim77@host"], "put an address in MLFLOW_TRACKING_URI"),
        (["serve", "--port", "70000"], "65535"),
        (["serve", "--workers", "0"], "1 or more"),
        (["serve", "--refresh", "inf"], "above 0"),
        (["serve", "--ab", "challenger=2"], "from 0 to 1"),
        (["serve", "--ab", "challenger=nan"], "from 0 to 1"),
        (["serve", "--ab", "=0.5"], "from 0 to 1"),
        (["serve", "--shadow", "a b"], "not an alias or a version number"),
        (["serve", "--debug", "--host", "0.0.0.0"], "not on 0.0.0.0"),
        (["score", "--in", "a.csv"], "--out"),
        (["promote", "1", "--to", "production", "--force"], "--reason"),
        (["promote", "1", "--to", "staging", "--force", "--reason", "x"], "staging has no gate"),
        (["which", "--at", "yesterday"], "2026-03-01T12:00"),
        (["drift", "--since", "soon"], "7d"),
        (["drift", "--data", "a.csv", "--since", "7d"], "for the log"),
        (["drift", "--rating-column", "stars"], "--data"),
        (["drift", "--drop-neutral"], "--drop-neutral needs a file"),
        (["--scale", "7"], "choose from"),
        (["--positive", "good"], "give --label-column too"),
        (["--label-column", "a", "--rating-column", "b"], "one of them"),
        (["replay", "--label-column", "a", "--scale", "10"], "of ratings"),
        (["promote", "1", "--to", "staging", "--drop-neutral", "--negative-up-to", "3"], "3 stars"),
        (["drift", "--min-reviews", "0"], "1 or more"),
        (["dance"], "invalid choice"),
        ([], "COMMAND"),
    ],
)
def test_wrong_options_say_what_was_expected(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    of_experiment = bool(arguments) and arguments[0].startswith("--")
    parse = parse_experiment if of_experiment else parse_command
    assert said in refused(parse, arguments, capsys)


def test_deploy_and_its_pool_go_together(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in (["deploy"], ["--pool", "reviews"], ["--once", "--pool", "reviews"]):
        assert "deploy needs --pool" in refused(parse_flow, arguments, capsys)
    assert "--once" in refused(parse_flow, ["deploy", "--pool", "reviews", "--once"], capsys)
    assert "not a name" in refused(parse_flow, ["deploy", "--pool", "a/b"], capsys)
    assert "invalid choice" in refused(parse_flow, ["serve"], capsys)
    # a variable is for those whom it concerns
    monkeypatch.setenv("SENTIMENT_POOL", "reviews")
    monkeypatch.setenv("SENTIMENT_ONCE", "true")
    served, deployed = parse_flow([]), parse_flow(["deploy"])
    assert served.pool is None and served.once
    assert deployed.pool == "reviews" and not deployed.once


@pytest.mark.parametrize(("program", "parse", "words"), PARSERS, ids=NAMES)
def test_the_project_is_the_option_or_else_the_environment(
    program: str,
    parse: Parse,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [*words, *NEEDED.get(program.rsplit(maxsplit=1)[-1], [])]

    def project(*more: str) -> object:
        return vars(parse([*words, *more]))["project"]

    assert project() is None
    monkeypatch.setenv("SENTIMENT_PROJECT", "shoes")
    assert (project(), project("--project", "balls"), project("--project", "")) == (
        "shoes",
        "balls",
        "",
    )
    assert "'a/b' is no name" in refused(parse, [*words, "--project", "a/b"], capsys)
    monkeypatch.setenv("SENTIMENT_PROJECT", "x" * 400)
    assert "SENTIMENT_PROJECT" in refused(parse, words, capsys)
    with pytest.raises(SystemExit) as left:
        parse([*words, "--help"])
    assert left.value.code == 0 and "SENTIMENT_PROJECT" in capsys.readouterr().out


def test_a_time_is_local_unless_it_has_a_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        noon = ["2026-03-01T12:00", "2026-03-01 12:00:00"]
        morning = datetime.fromisoformat("2026-03-01T06:30+00:00")
        assert [parse_command(["which", "--at", text]).at for text in noon] == [morning] * 2
        assert parse_command(["drift", "--since", noon[0]]).since == morning.timestamp()
    time.tzset()
    at = parse_command(["which", "--at", "2026-03-01T12:00"]).at
    assert at == datetime(2026, 3, 1, 12).astimezone()
    at = parse_command(["which", "--at", "2026-03-01T12:00+05:30"]).at
    assert at == datetime.fromisoformat("2026-03-01T06:30+00:00")
    since = parse_command(["drift", "--since", "2026-03-01T12:00+05:30"]).since
    assert since == at.timestamp()


@pytest.mark.parametrize("zone", ["CEST", "Europe", "../etc/passwd", "europe/berlin", ""])
def test_what_is_no_time_zone_is_refused(zone: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "such as Europe/Berlin" in refused(parse_flow, ["--timezone", zone], capsys)
    assert parse_flow(["--timezone", "Europe/Berlin"]).timezone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ([str(PROJECT / "sentiment_mlflow_optuna.py")], "--help"),
        ([str(PROJECT / "ml_orchestration_flipkart.py")], "--no-such-option"),
        (["-m", "sentiment", "serve"], "--help"),
    ],
)
def test_help_and_wrong_options_import_no_library(command: list[str], option: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command, option],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    heavy = {"mlflow", "pandas", "numpy", "sklearn", "optuna", "prefect", "flask", "rich"}
    assert done.returncode == (0 if option == "--help" else 2)
    assert "sentiment.cli.options" in imported and not heavy & imported


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--delimiter", "; "], "is not a delimiter; expected one character"),
        (["--encoding", "utf-9"], "is not an encoding that Python knows"),
        (["--max-bytes", "1G"], "is not a whole number"),
    ],
)
def test_how_a_file_is_read_is_checked_at_once(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(parse_experiment, options, capsys)
    score = ["score", "--in", "a.csv", "--out", "b.csv"]
    assert said in refused(parse_command, [*score, *options], capsys)
    found = reading_of(parse_command([*score, "--delimiter", "tab", "--encoding", "CP1252"]))
    assert (found.delimiter, found.encoding, found.max_bytes) == ("\t", "cp1252", None)


def test_a_file_that_is_not_there_is_said_before_anything_is_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        parse_experiment(["--data", str(tmp_path / "no.csv")], look=True)
    assert left.value.code == 2 and "no.csv: no such file" in capsys.readouterr().err
    parse_experiment(["--data", str(tmp_path)], look=True)
    assert parse_experiment(["--data", "no.csv"]).data == "no.csv"


@pytest.mark.parametrize(
    ("host", "own"),
    [
        *(("127.0.0.1", True), ("127.0.0.2", True), ("::1", True), ("0:0:0:0:0:0:0:1", True)),
        *(("LOCALHOST", True), ("0.0.0.0", False), ("192.168.0.7", False), ("example.org", False)),
    ],
)
def test_what_is_loopback_is_told_by_the_address(host: str, own: bool) -> None:
    assert is_loopback(host) is own
