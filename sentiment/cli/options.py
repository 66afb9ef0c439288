"""Parse every command line of the project: the two scripts and `python -m sentiment COMMAND`.

Only what is light is imported here, so that `--help` and a wrong option answer at once; whoever
parses imports the libraries afterwards. A wrong option is one line on stderr and exit code 2.
Every option can also come from the environment (`parser`).
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
import zoneinfo
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, get_args

from sentiment.cli.parser import Each, EnvironmentParser
from sentiment.data.labels import SCALES, Labelling
from sentiment.data.sources import Reading, checked_delimiter, checked_encoding
from sentiment.drift import MIN_WINDOW, NEWEST
from sentiment.errors import (
    EXIT_INTERRUPTED,
    TrackingError,
    UserError,
    note_interrupts,
)
from sentiment.model.algorithms import ALGORITHMS, GUIDES_ALGORITHMS, RECOMMENDED, SearchSpace
from sentiment.tracking.artifact import FORMATS
from sentiment.tracking.store import PROJECT, Settings

DATA = str(PROJECT / "data.csv")
# How a file is read; what is None is found out
READING = ("text_column", "rating_column", "delimiter", "encoding", "max_bytes")
# What its ratings or labels mean; the same
LABELLING = tuple(one.name for one in fields(Labelling))
OF_LABELS = ("label_column", "positive", "negative")
OF_RATINGS = ("rating_column", "scale", "negative_up_to", "drop_neutral")
# Of the experiment; an option that was not given is None, so that `--resume` can tell.
EXPERIMENT = {
    "data": DATA,
    **dict.fromkeys((*READING, *LABELLING)),
    "split": "hashed",
    "trials": 20,  # more gain nothing: 120 trials moved the test score by -.001
    "models": ",".join(GUIDES_ALGORITHMS),
    "seed": 42,
    "search_space": "published",
    "recall_negative": None,
    "file_format": "skops",
    "batch": 1,
}
COMPARED_TRIALS = 10  # of each split; 20 moved the mean of 8 splits by less than .001
CRON = "*/5 * * * *"
DRIFT_CRON = "0 * * * *"
# Of each flow and in each place. At the default schedules: a week of retrainings, 12 of checks.
KEEP_RUNS = 2_000
KEEP = 50  # versions kept in the registry, besides those with an alias or a past in production
PICKLED = "--promote: a pickle never goes into production; leave --promote or --format out"
LOOPBACK = ("127.0.0.1", "::1", "localhost")  # the usual names of it

NAME = re.compile(r"[A-Za-z0-9][\w.-]*")  # an alias or the number of a version
SCHEDULER = re.compile(r"(tcp|tls)://[^\s/@]+:\d+/?")
UNITS = {"m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}  # seconds
SPAN = re.compile(r"(\d+(?:\.\d+)?)([mhdw])")
BETWEEN = re.compile(r",(?![^()]*\))")  # a comma, but not one in brackets


class Parser(EnvironmentParser):
    """A parser with the options that several command lines share."""

    def store(self) -> None:
        """Add `--store`."""
        about = "folder of mlflow.db (default: MLFLOW_TRACKING_URI, or the scripts')"
        self.value("--store", "FOLDER", about, folder)

    def project(self) -> None:
        """Add `--project`."""
        self.value("--project", "NAME", "name of one of several products in a store", project)

    def text_column(self) -> None:
        """Add `--text-column`."""
        self.value("--text-column", "NAME", "column of texts (default: found by its name)")

    def columns(self) -> None:
        """Add `--text-column` and `--rating-column`."""
        self.text_column()
        self.value("--rating-column", "NAME", "column of ratings (default: found by its name)")

    def labelling(self) -> None:
        """Add the options of which `labelling_of` makes one."""
        self.value("--label-column", "NAME", "column of labels, instead of one of ratings")
        about = "positive labels (default: positive,pos,1,true)"
        self.value("--positive", "NAMES", about)
        about = "negative labels (default: negative,neg,0,-1,false)"
        self.value("--negative", "NAMES", about)
        about = "highest rating: 5, 10 or 100 (default: 5)"
        self.value("--scale", None, about, int, choices=SCALES)
        about = "highest negative stars, 1 to 4 (default: the version's, or 2)"
        self.value("--negative-up-to", "N", about, int, choices=(1, 2, 3, 4))
        about = "leave 3 stars out: 1–2 are negative, 4–5 positive"
        self.add_argument("--drop-neutral", action="store_true", default=None, help=about)

    def reading(self) -> None:
        """Add `--delimiter`, `--encoding` and `--max-bytes`, of which `reading_of` makes one."""
        self.value("--delimiter", "CHAR", "such as ; or tab (default: found out)", delimiter)
        about = "of the text, such as cp1252 (default: UTF-8, or by its BOM)"
        self.value("--encoding", "NAME", about, encoding)
        about = "bytes that a packed file may unpack to (default: 1073741824)"
        self.value("--max-bytes", "N", about, count)

    def log_url(self) -> None:
        """Add `--log-url`."""
        about = "prediction log, SQLite or PostgreSQL (default: beside the store)"
        self.value("--log-url", "URL", about)

    def min_reviews(self) -> None:
        """Add `--min-reviews`."""
        about = f"reviews that a verdict needs (default: {MIN_WINDOW})"
        self.value("--min-reviews", "N", about, count, MIN_WINDOW)


def reading_of(options: argparse.Namespace) -> Reading:
    """Return how the user said that the file is to be read."""
    return Reading(options.delimiter, options.encoding, options.max_bytes)


def labelling_of(options: argparse.Namespace) -> Labelling:
    """Return what the user said of ratings and labels. Raises `ReviewDataError`."""
    return Labelling(**{name: getattr(options, name) for name in LABELLING})


def run_command(program: str, run: Callable[[], int]) -> int:
    """Return the exit code of a command; what the user caused is one line on stderr."""
    note_interrupts()
    try:
        return run()
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


# --- types of values ------------------------------------------------------------------------


def absolute(text: str) -> str:
    """Return the path as an absolute one."""
    return str(Path(text).resolve())


def folder(text: str) -> str:
    """Return the path of a folder as an absolute one; an address is none."""
    if "://" in text:
        raise argparse.ArgumentTypeError("expected a folder; put an address in MLFLOW_TRACKING_URI")
    return absolute(text)


def delimiter(text: str) -> str:
    """Return the character that parts cells."""
    return _checked(checked_delimiter, text)


def encoding(text: str) -> str:
    """Return the name of an encoding of text."""
    return _checked(checked_encoding, text)


def project(text: str) -> str:
    """Return the name of a project; empty for none."""
    try:
        Settings(text)
    except TrackingError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def whole(text: str) -> int:
    """Return a whole number, negative or not."""
    _expect("a whole number", text, text.removeprefix("-").isdecimal())
    return int(text)


def count(text: str) -> int:
    """Return a whole number of 1 or more."""
    _expect("a whole number of 1 or more", text, text.isdecimal() and int(text) >= 1)
    return int(text)


def listed(text: str) -> tuple[str, ...]:
    """Return the values of a list with commas."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    _expect("a value or more, parted by commas", text, bool(found))
    return found


def from_zero(text: str) -> int:
    """Return a whole number of 0 or more."""
    _expect("a whole number of 0 or more", text, text.isdecimal())
    return int(text)


def several(text: str) -> int:
    """Return a whole number of 2 or more."""
    _expect("a whole number of 2 or more", text, text.isdecimal() and int(text) >= 2)
    return int(text)


def port(text: str) -> int:
    """Return a port, 0 to 65535."""
    _expect("a port from 0 to 65535", text, text.isdecimal() and int(text) <= 65_535)
    return int(text)


def positive(text: str) -> float:
    """Return a finite number above 0."""
    number = _number(text)
    _expect("a number above 0", text, 0.0 < number < math.inf)
    return number


def share(text: str) -> float:
    """Return a number above 0 and below 1."""
    number = _number(text)
    _expect("a number above 0 and below 1, such as 0.85", text, 0.0 < number < 1.0)
    return number


def name(text: str) -> str:
    """Return an alias or the number of a version."""
    _expect("an alias or a version number", text, NAME.fullmatch(text))
    return text


def plain_name(text: str) -> str:
    """Return the name of a shared pass, which also names its studies and runs, or of a pool."""
    expected = "a name of letters, digits, . - and _, 100 at most"
    _expect(expected, text, NAME.fullmatch(text) and len(text) <= 100)
    return text


def name_and_share(text: str) -> tuple[str, float]:
    """Return the name and the share, 0 to 1, of `challenger=0.2`."""
    arm, _, share = text.partition("=")
    number = _number(share)
    expected = "a name and a share from 0 to 1, as in challenger=0.2"
    _expect(expected, text, NAME.fullmatch(arm) and 0.0 <= number <= 1.0)
    return arm, number


def scheduler(text: str) -> str:
    """Return the address of a Dask scheduler."""
    _expect("an address such as tcp://scheduler:8786", text, SCHEDULER.fullmatch(text))
    return text


def is_loopback(host: str) -> bool:
    """Tell whether a server that listens there is reached from its own machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() in LOOPBACK


def contender(text: str) -> tuple[str, str, dict[str, str]]:
    """Return the text, its name, and its parameters: `LinearSVM,C=0.1,ngram_range=(1, 2)`."""
    first, *others = (part.strip() for part in BETWEEN.split(text))
    pairs = [part.partition("=") for part in others]
    given = {key.strip(): value.strip() for key, _, value in pairs}
    whole = all(map(all, pairs)) and len(given) == len(pairs) and NAME.fullmatch(first)
    expected = (
        f"one of {', '.join(ALGORITHMS)}, an alias or a version number, and parameters by comma, "
        "as in LinearSVM,C=0.1"
    )
    _expect(expected, text, whole)
    return text, first, given


def algorithms(text: str) -> str:
    """Return the names of some `ALGORITHMS`, joined by commas; all are recommended."""
    if text.strip() == RECOMMENDED:
        return ",".join(ALGORITHMS)
    names = [part.strip() for part in text.split(",")]
    unknown = [part for part in names if part not in ALGORITHMS]
    if unknown or len(set(names)) < len(names):
        problem = f"unknown: {', '.join(unknown)}" if unknown else "one is named twice"
        raise argparse.ArgumentTypeError(f"{problem}; expected some of {', '.join(ALGORITHMS)}")
    return ",".join(names)


def moment(text: str) -> datetime:
    """Return a date and time with a zone, the local one unless the text has one."""
    return _date(text, "a date such as 2026-03-01T12:00 or 2026-03-01T12:00+05:30")


def zone(text: str) -> str:
    """Return the name of an IANA time zone."""
    _expect("a time zone such as Europe/Berlin", text, text in zoneinfo.available_timezones())
    return text


def since(text: str) -> float:
    """Return a time in seconds since 1970, from a date or from a span before now such as 7d."""
    span = SPAN.fullmatch(text)
    if span:
        return time.time() - float(span[1]) * UNITS[span[2]]
    return _date(text, "a span such as 7d or 12h, or a date such as 2026-03-01T12:00").timestamp()


def _expect(what: str, text: str, found: object) -> None:
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' is not {what}")


def _checked(check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _end_of(path: str) -> str:
    return path if len(path) <= 100 else f"…{path[-100:]}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _date(text: str, expected: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(f"'{text}' is not {expected}") from None


# --- the command lines -----------------------------------------------------------------------


def parse_experiment(
    arguments: Sequence[str] | None = None, *, look: bool = False
) -> argparse.Namespace:
    """Parse the options of `sentiment_mlflow_optuna.py`; those of `EXPERIMENT` not given are None.

    `models` is a string with the algorithms joined by commas. With `look` a file that is not there
    is refused too.
    """
    parser = Parser(
        prog="sentiment_mlflow_optuna.py",
        description="Tune, evaluate and register the sentiment models; log every trial to MLflow.",
    )
    value, switch = parser.value, parser.switch
    about = "reviews: CSV, TSV, JSON, Excel, Parquet, or a folder of parts (default: data.csv)"
    value("--data", "FILE", about)
    parser.columns()
    parser.labelling()
    parser.reading()
    about = "hashed keeps equal texts together, published is random (default: hashed)"
    value("--split", None, about, choices=("hashed", "published"))
    value("--trials", "N", "trials of each algorithm (default: 20)", count)
    value(
        "--models",
        "NAMES",
        f"by comma, of {', '.join(ALGORITHMS)}, or {RECOMMENDED}: all (default: all but the last)",
        algorithms,
    )
    value("--seed", "N", "seed of the search, not of the split (default: 42)", whole)
    about = "guide also tunes ngram_range and solver (default: published)"
    value("--search-space", None, about, choices=get_args(SearchSpace))
    about = "set thresholds to reach this recall of negative (default: each model's own)"
    value("--recall-negative", "SHARE", about, share)
    about = "model file (default: skops)"
    value("--format", None, about, dest="file_format", choices=tuple(FORMATS))
    parser.store()
    parser.project()
    value("--storage", "URL", "database of the studies (default: a file in the store)")
    about = "continue the newest interrupted pass, or this one, with its own settings"
    value("--resume", "PASS", about, nargs="?", const="")
    about = "share a pass of this name with other workers: the first begins it, the last registers"
    value("--join", "PASS", about, plain_name)
    about = "trials drawn at once, for up to N workers (default: 1)"
    value("--batch", "N", about, count)
    about = "folds fitted at once (default: one per processor; one per --dask worker)"
    value("--jobs", "N", about, count)
    about = "scheduler whose workers clean, count and run the trials: tcp://scheduler:8786"
    value("--dask", "ADDRESS", about, scheduler)
    switch("--no-register", "log the models, but register no version")
    switch("--promote", "let the gate promote the best version")
    switch("--quiet", "print the final summary only")
    options = parser.parse_args(arguments)
    if options.resume is not None:
        _forget(options, EXPERIMENT)  # a pass has its own settings
    _check_labelling(options, parser)
    if options.promote and options.no_register:
        parser.error("--promote needs a version; leave --no-register out")
    if options.promote and options.file_format == "cloudpickle":
        parser.error(PICKLED)
    if options.join is not None:
        _forget(options, ("dask",))
        for given in ("resume", "no_register", "dask"):
            if getattr(options, given) not in {None, False}:
                parser.error(f"--join and --{given.replace('_', '-')}: give one of them")
    if look and options.data is not None and not Path(options.data).exists():
        parser.error(f"--data {_end_of(options.data)}: no such file or folder; check the path")
    return options


def parse_flow(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options of `ml_orchestration_flipkart.py`; paths are made absolute."""
    parser = Parser(
        prog="ml_orchestration_flipkart.py",
        description="Retrain the model on a schedule, through the promotion gate.",
        epilog="Exit codes: 0 done, 1 the one run failed, 2 bad input, 130 interrupted.",
    )
    value = parser.value
    about = "make the deployments for the workers of a pool, then exit"
    parser.add_argument("command", nargs="?", choices=("deploy",), metavar="deploy", help=about)
    about = "work pool, only with deploy; made, of type process, if it is missing"
    value("--pool", "NAME", about, plain_name)
    parser.switch("--once", "run once now, then exit")
    value("--cron", "CRON", "schedule of the retraining (default: */5 * * * *)", default=CRON)
    about = "schedule of the drift check (default: 0 * * * *)"
    value("--drift-cron", "CRON", about, default=DRIFT_CRON)
    value("--timezone", "ZONE", "of both schedules, as Europe/Berlin (default: local)", zone)
    value("--data", "FILE", "reviews (default: data.csv)", absolute, DATA)
    parser.columns()
    parser.labelling()
    parser.reading()
    about = "parameters of the production version, or the published ones (default: champion)"
    value("--config", None, about, default="champion", choices=("champion", "published"))
    about = (
        "check: train only after drift or new data; off: always train, on the file alone "
        "(default: check)"
    )
    value("--drift", None, about, default="check", choices=("check", "off"))
    about = f"newest answers that a check compares at most (default: {NEWEST})"
    value("--drift-window", "N", about, count, NEWEST)
    about = "compare the answers of so many days (default: since the last check)"
    value("--drift-days", "DAYS", about, positive)
    parser.min_reviews()
    parser.log_url()
    about = "only report the gate's verdict"
    parser.add_argument("--no-promote", dest="promote", action="store_false", help=about)
    parser.switch("--promote-during-ab", "promote also while an A/B test runs, which ends it")
    value("--keep", "N", "versions to keep beside those in use (default: 50)", count, KEEP)
    about = "runs of each flow to keep, in Prefect and in MLflow (default: 2000)"
    value("--keep-runs", "N", about, count, KEEP_RUNS)
    parser.store()
    parser.project()
    options = parser.parse_args(arguments)
    _check_labelling(options, parser)
    _forget(options, ("pool",) if options.command is None else ("once",))
    if (options.command is None) != (options.pool is None):
        parser.error("deploy needs --pool NAME, and --pool needs deploy")
    if options.command is not None and options.once:
        parser.error("deploy runs nothing; leave --once out")
    return options


def parse_command(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse `python -m sentiment COMMAND …`; `command` is its name."""
    parser = Parser(
        prog="python -m sentiment",
        description="Serve, score with, promote and watch the versions of the sentiment model.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, about: str, **options: Any) -> Parser:
        added: Parser = commands.add_parser(name, help=about, description=f"{about}.", **options)
        added.store()
        added.project()
        return added

    _serve_options(command("serve", "Serve the production version as an API and a page"))
    _score_options(command("score", "Score a file of reviews with a version"))
    command("list", "List every version with its scores, stage and aliases")
    add = command("show", "Show everything about one version").add_argument
    add("version", metavar="VERSION", help="its number")
    _promote_options(
        command("promote", "Put a version into staging or, through the gate, into production")
    )
    rollback = command("rollback", "Put the previous production version back")
    rollback.value("--reason", "TEXT", "why, for the ledger", default="")
    which = command("which", "Say which version is or was in production")
    which.value("--at", "DATE", "local date and time, or with a zone (default: now)", moment)
    about = "Check that the files of a version are those that were registered"
    add = command("verify", about).add_argument
    add("version", metavar="VERSION", help="alias or number", type=name)
    command("history", "List every change: when, who, from, to, why")
    _drift_options(
        command(
            "drift",
            "Compare incoming reviews with the training data of the production version",
            epilog="Exit codes: 0 steady, watch or not enough yet; 3 drifted; 2 bad input.",
        )
    )
    _replay_options(command("replay", "Train on a file's first months, check the rest for drift"))
    about = "Say what customers complain about: themes of the negative reviews, with trends"
    _complaints_options(command("complaints", about))
    about = "Compare two algorithms, configurations or versions by paired splits"
    _compare_options(command("compare", about))
    add = command("card", "Print the model card of a run").add_argument
    add("run_id", metavar="RUN_ID", help="id of a parent run, as the MLflow UI shows it")
    options = parser.parse_args(arguments)
    _check(options, commands.choices[options.command])
    return options


def _serve_options(parser: Parser) -> None:
    parser.epilog = (
        "SENTIMENT_API_TOKEN, where set, guards /feedback, /model, /ab, /drift, /complaints, "
        "/metrics and the details of /health."
    )
    value, switch = parser.value, parser.switch
    switch("--quiet", "print errors only")
    value("--host", "HOST", "address to listen on (default: 127.0.0.1)", default="127.0.0.1")
    value("--port", "N", "its port; 0 takes a free one (default: 8000)", port, 8000)
    value("--workers", "N", "processes (default: 1)", count, 1)
    value("--threads", "N", "threads of each (default: 4)", count, 4)
    switch("--debug", "Flask's own server, on this machine only")
    about = "time between two looks at the registry (default: 10)"
    value("--refresh", "SECONDS", about, positive, 10.0)
    about = "let an alias or version answer a share of the users: challenger=0.2"
    value("--ab", "NAME=SHARE", about, name_and_share)
    value("--shadow", "NAME", "alias or version that scores everything, for the log only", name)
    value("--ab-name", "NAME", "name of the comparison (default: both versions, as 1-vs-3)", name)
    parser.log_url()
    switch("--no-store-text", "log digests of the reviews, not the texts")
    value("--retention", "DAYS", "days to keep rows of the log (default: for ever)", positive)
    value("--max-body", "N", "bytes of a request (default: 1048576)", count, 2**20)
    value("--max-texts", "N", "reviews of a request (default: 10000)", count, 10_000)
    value("--max-characters", "N", "characters of a review (default: 20000)", count, 20_000)
    about = "let the pages of this origin use the API: https://shop.example; again for more"
    value("--allow-origin", "ORIGIN", about, listed, (), action=Each)
    about = "heed the X-Forwarded headers of this address or network; again for more"
    value("--trust-proxy", "ADDRESS", about, listed, (), action=Each)


def _score_options(parser: Parser) -> None:
    value = parser.value
    about = "CSV, TSV, JSON, Excel or Parquet; or a folder of parts: CSV, TSV or Parquet"
    value("--in", "PLACE", about, dest="source", required=True)
    about = "CSV, TSV or Parquet, by name; or the folder for the parts"
    value("--out", "PLACE", about, dest="target", required=True)
    about = "scheduler whose workers share the parts of a folder: tcp://scheduler:8786"
    value("--dask", "ADDRESS", about, scheduler)
    parser.epilog = (
        "A folder may be an address, such as s3://bucket/reviews; parts that are in --out already "
        "are not scored again."
    )
    parser.text_column()
    parser.reading()
    value("--version", "NAME", "alias or number (default: champion)", default="champion")
    about = "do not put an apostrophe before cells that a spreadsheet would run"
    parser.switch("--no-escape-formulas", about)
    parser.switch("--quiet", "print errors only")


def _promote_options(parser: Parser) -> None:
    parser.epilog = "Exit codes: 0 done, 1 refused by the gate, 2 bad input."
    parser.add_argument("version", metavar="VERSION", help="its number")
    parser.value("--to", None, "where to", choices=("staging", "production"), required=True)
    parser.value("--data", "FILE", "reviews to compare on (default: those it was trained on)")
    parser.columns()
    parser.labelling()
    parser.reading()
    parser.switch("--force", "promote whatever the gate says; needs --reason")
    parser.value("--reason", "TEXT", "why, for the ledger", default="")


def _drift_options(parser: Parser) -> None:
    value, switch = parser.value, parser.switch
    data = value("--data", "FILE", "reviews, instead of those of the log", Path)
    # by no means the file that is trained on
    data.variable = "SENTIMENT_DRIFT_DATA"  # type: ignore[attr-defined]
    parser.columns()
    parser.labelling()
    parser.reading()
    parser.log_url()
    value("--since", "TIME", "from a date and time, or for a span such as 7d or 12h", since)
    value("--window", "N", f"newest reviews (default: {NEWEST}; with --since: all)", count)
    about = "reviews sent to the API, the page, or both (default: api, and all that are labelled)"
    value("--source", None, about, choices=("api", "page", "all"))
    parser.min_reviews()
    value("--version", "NAME", "alias or number (default: champion)", default="champion")
    switch("--json", "print the report as JSON and nothing else")
    value("--html", "FILE", "write the page to this file too", Path)
    switch("--quiet", "print the verdict only")


def _replay_options(parser: Parser) -> None:
    parser.value("--data", "FILE", "reviews (default: data.csv)", Path, Path(DATA))
    parser.columns()
    parser.labelling()
    parser.reading()
    about = "column of months (default: Month)"
    parser.value("--month-column", "NAME", about, default="Month")
    parser.min_reviews()
    parser.switch("--quiet", "print the verdicts only")


def _complaints_options(parser: Parser) -> None:
    parser.value("--data", "FILE", "reviews (default: data.csv)", Path, Path(DATA))
    parser.columns()
    about = "column of months or dates (default: found by its name)"
    parser.value("--month-column", "NAME", about)
    parser.labelling()
    parser.reading()
    parser.value("--html", "FILE", "write the page, with examples, to this file too", Path)
    parser.switch("--json", "print everything but the examples as JSON and nothing else")
    parser.switch("--quiet", "print one line only")


def _forget(options: argparse.Namespace, names: Iterable[str]) -> None:
    """Leave out those of the options that nobody gave: the environment said them, for others."""
    for dest in options.from_environment & set(names):
        setattr(options, dest, None)


def _compare_options(parser: Parser) -> None:
    value, switch = parser.value, parser.switch
    parser.epilog = (
        f"A and B: one of {', '.join(ALGORITHMS)}, or a version, as 3 or champion, which is "
        "trained anew. Parameters by comma are fixed, as in LinearSVM,C=0.1,min_df=2; those of an "
        "algorithm that are not given are searched on each split's training part."
    )
    parser.add_argument("a", metavar="A", type=contender, help="the baseline")
    parser.add_argument("b", metavar="B", type=contender, help="the candidate")
    value("--data", "FILE", "reviews (default: data.csv)", default=DATA)
    parser.columns()
    parser.labelling()
    parser.reading()
    value("--splits", "N", "paired splits, 70/30 (default: 20)", several, 20)
    about = "published splits at random, hashed keeps equal texts together (default: hashed)"
    value("--split", None, about, default="hashed", choices=("hashed", "published"))
    value("--trials", "N", "trials of each search (default: 10)", count, COMPARED_TRIALS)
    value("--seed", "N", "seed of the first split and its searches (default: 0)", from_zero, 0)
    value("--jobs", "N", "processes (default: as many as processors)", count)
    switch("--json", "print everything as JSON and nothing else")
    switch("--quiet", "print the conclusion only")


def _check_labelling(options: argparse.Namespace, parser: Parser) -> None:
    """Complain of options of labels and ratings that do not go together."""
    for column, others in (("label_column", OF_RATINGS), ("rating_column", OF_LABELS)):
        if getattr(options, column) is not None and column not in options.from_environment:
            _forget(options, others)
    if options.label_column is not None and options.rating_column is not None:
        parser.error("--rating-column and --label-column: give one of them")
    try:
        labelling_of(options)
    except UserError as error:
        parser.error(str(error))


def _check(options: argparse.Namespace, parser: Parser) -> None:
    """Complain of options that do not go together."""
    if options.command in {"promote", "drift", "replay", "compare", "complaints"}:
        _check_labelling(options, parser)
    if options.command == "promote" and options.force:
        if not options.reason.strip():
            parser.error('--force needs --reason "…", which is kept')
        if options.to == "staging":
            parser.error("staging has no gate; leave --force out")
    if options.command == "drift":
        of_log = ("since", "window", "source", "log_url")
        of_file = (*READING, *LABELLING)
        _forget(options, of_file if options.data is None else of_log)
        if options.data is not None and any(getattr(options, of) is not None for of in of_log):
            said = "--since, --window, --source and --log-url are for the log"
            parser.error(f"{said}; drop them or --data")
        for given in of_file if options.data is None else ():
            if getattr(options, given) is not None:
                parser.error(f"--{given.replace('_', '-')} needs a file: --data FILE")
    if options.command == "score" and Path(options.source).is_file():
        _forget(options, ("dask",))
        if options.dask is not None:
            parser.error("--dask shares the parts of a folder, and --in names a file")
    if options.command == "serve" and options.debug and not is_loopback(options.host):
        parser.error(f"--debug runs code for whoever asks: not on {options.host}")
