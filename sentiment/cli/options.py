"""Parse every command line of the project: the two scripts and `python -m sentiment COMMAND`.

Only what is light is imported here, so that `--help` and a wrong option answer at once; whoever
parses imports the libraries afterwards. A wrong option is one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, get_args

from sentiment.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, UserError
from sentiment.model.algorithms import ALGORITHMS, SearchSpace
from sentiment.tracking.artifact import FORMATS
from sentiment.tracking.store import PROJECT

DATA = str(PROJECT / "data.csv")
# Of the experiment; an option that was not given is None, so that `--resume` can tell.
EXPERIMENT = {
    "data": DATA,
    "text_column": None,
    "rating_column": None,
    "trials": 20,  # more gain nothing: 120 trials moved the test score by -.001
    "models": ",".join(ALGORITHMS),
    "seed": 42,
    "search_space": "published",
    "file_format": "skops",
}
CRON = "*/5 * * * *"
DRIFT_CRON = "0 * * * *"
KEEP = 50  # versions kept in the registry, besides those with an alias or a past in production
WINDOW = 5_000  # answers of the log that a drift check reads
MIN_REVIEWS = 100  # fewer than that say nothing
LOOPBACK = ("127.0.0.1", "::1", "localhost")

NAME = re.compile(r"[A-Za-z0-9][\w.-]*")  # an alias or the number of a version
UNITS = {"m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}  # seconds
SPAN = re.compile(r"(\d+(?:\.\d+)?)([mhdw])")


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, without the usage, and exits with code 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Print the line and leave."""
        program = self.prog.removeprefix("python -m ").removesuffix(".py")
        self.exit(EXIT_BAD_INPUT, f"{program}: {message[:200]}; see --help\n")


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26)


def run_command(program: str, run: Callable[[], int]) -> int:
    """Return the exit code of a command; what the user caused is one line on stderr."""
    try:
        return run()
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def parse_experiment(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options of `sentiment_mlflow_optuna.py`; those of `EXPERIMENT` not given are None.

    `models` is a string with the algorithms joined by commas.
    """
    parser = Parser(
        prog="sentiment_mlflow_optuna.py",
        description="Tune, evaluate and register the sentiment models; log every trial to MLflow.",
    )
    add = parser.add_argument
    add("--data", metavar="FILE", help="reviews: CSV, TSV, Parquet (default: data.csv)")
    _add_columns(parser)
    add("--trials", type=count, metavar="N", help="trials of each algorithm (default: 20)")
    names = ", ".join(ALGORITHMS)
    add("--models", type=algorithms, metavar="NAMES", help=f"by comma, of {names} (default: all)")
    add(
        "--seed", type=whole, metavar="N", help="seed of the search, not of the split (default: 42)"
    )
    add(
        "--search-space",
        choices=get_args(SearchSpace),
        help="guide also tunes ngram_range and solver (default: published)",
    )
    add("--format", dest="file_format", choices=tuple(FORMATS), help="model file (default: skops)")
    _add_store(parser)
    add("--storage", metavar="URL", help="database of the studies (default: a file in the store)")
    add(
        "--resume",
        nargs="?",
        const="",
        metavar="PASS",
        help="carry on the newest interrupted pass, or the one named, with its own settings",
    )
    add("--no-register", action="store_true", help="log the models, but register no version")
    add("--promote", action="store_true", help="put the best version through the gate")
    add("--quiet", action="store_true", help="print the final summary only")
    options = parser.parse_args(arguments)
    if options.promote and options.no_register:
        parser.error("--promote needs a version; leave --no-register out")
    return options


def parse_flow(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options of `ml_orchestration_flipkart.py`; paths are made absolute."""
    parser = Parser(
        prog="ml_orchestration_flipkart.py",
        description="Retrain the model on a schedule, through the promotion gate.",
        epilog="Exit codes: 0 done, 1 the one run failed, 2 bad input, 130 interrupted.",
    )
    add = parser.add_argument
    add("--once", action="store_true", help="run once now, then exit")
    add("--cron", default=CRON, help="schedule of the retraining (default: */5 * * * *)")
    add(
        "--drift-cron",
        default=DRIFT_CRON,
        metavar="CRON",
        help="schedule of the drift check (default: 0 * * * *)",
    )
    add("--data", type=absolute, default=DATA, metavar="FILE", help="reviews (default: data.csv)")
    _add_columns(parser)
    add(
        "--config",
        choices=("champion", "published"),
        default="champion",
        help="parameters of the production version, or the published ones (default: champion)",
    )
    add(
        "--drift",
        choices=("check", "off"),
        default="check",
        help="check for drift first, and train where it or new data ask for it; off always trains, "
        "on the file alone (default: check)",
    )
    add(
        "--log-url",
        metavar="URL",
        help="prediction log (default: SQLite beside the store); better keep a password in "
        "PGPASSWORD, since the Prefect UI shows this",
    )
    add("--no-promote", dest="promote", action="store_false", help="only report the gate's verdict")
    add("--keep", type=count, default=KEEP, metavar="N", help="versions to keep (default: 50)")
    _add_store(parser)
    return parser.parse_args(arguments)


def parse_command(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse `python -m sentiment COMMAND …`; `command` is its name, `parser` complains of more."""
    parser = Parser(
        prog="python -m sentiment",
        description="Serve, score with, promote and watch the versions of the sentiment model.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, about: str, **options: Any) -> Parser:
        added: Parser = commands.add_parser(name, help=about, description=f"{about}.", **options)
        _add_store(added)
        return added

    _serve_options(command("serve", "Serve the production version as an API and a page"))
    _score_options(command("score", "Score a file of reviews with a version"))
    command("list", "List every version with its scores, stage and aliases")
    command("show", "Show everything about one version").add_argument("version", metavar="VERSION")
    _promote_options(command("promote", "Put a version into staging, or through the gate"))
    add = command("rollback", "Put the previous production version back").add_argument
    add("--reason", default="", metavar="TEXT", help="why, for the ledger")
    add = command("which", "Say which version is or was in production").add_argument
    add("--at", type=moment, metavar="DATE", help="date and time, local unless it has a zone")
    command("history", "List every change: when, who, from, to, why")
    _drift_options(
        command(
            "drift",
            "Compare incoming reviews with the training data of the production version",
            epilog="Exit codes: 0 steady, watch or not enough yet; 3 drifted; 2 bad input.",
        )
    )
    _replay_options(command("replay", "Train on a file's first months, check the rest for drift"))
    add = command("card", "Print the model card of a run").add_argument
    add("run_id", metavar="RUN_ID", help="id of a parent run, as the MLflow UI shows it")
    options = parser.parse_args(arguments)
    _check(options, commands.choices[options.command])
    return options


def _serve_options(parser: Parser) -> None:
    parser.epilog = "SENTIMENT_API_TOKEN, where set, guards /feedback, /ab and /drift."
    add = parser.add_argument
    add("--quiet", action="store_true", help="print errors only")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add(
        "--port",
        type=port,
        default=8000,
        metavar="N",
        help="its port; 0 takes a free one (default: 8000)",
    )
    add("--workers", type=count, default=1, metavar="N", help="processes (default: 1)")
    add("--threads", type=count, default=4, metavar="N", help="threads of each (default: 4)")
    add("--debug", action="store_true", help="Flask's own server, on this machine only")
    add(
        "--refresh",
        type=positive,
        default=10.0,
        metavar="SECONDS",
        help="time between two looks at the registry (default: 10)",
    )
    add(
        "--ab",
        type=name_and_share,
        metavar="NAME=SHARE",
        help="let an alias or version answer a share of the users: challenger=0.2",
    )
    add("--shadow", type=name, metavar="NAME", help="let it score everything, for the log only")
    add("--ab-name", type=name, metavar="NAME", help="name of the comparison (default: 1-vs-3)")
    _add_log(parser)
    add("--no-store-text", action="store_true", help="log digests of the reviews, not the texts")
    add("--retention", type=positive, metavar="DAYS", help="delete older rows of the log")
    limits = (
        ("--max-body", 2**20, "bytes of a request"),
        ("--max-texts", 10_000, "reviews of a request"),
        ("--max-characters", 20_000, "characters of a review"),
    )
    for flag, default, what in limits:
        add(flag, type=count, default=default, metavar="N", help=f"{what} (default: {default})")


def _score_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--in", dest="source", type=Path, required=True, metavar="FILE", help="CSV, TSV or Parquet")
    add("--out", dest="target", type=Path, required=True, metavar="FILE", help="the same, by name")
    _add_text_column(parser)
    add("--version", default="champion", metavar="NAME", help="alias or number (default: champion)")
    add("--quiet", action="store_true", help="print errors only")


def _promote_options(parser: Parser) -> None:
    add = parser.add_argument
    add("version", metavar="VERSION")
    add("--to", choices=("staging", "production"), required=True, help="where to")
    add("--data", default=DATA, metavar="FILE", help="reviews to compare on (default: data.csv)")
    _add_columns(parser)
    add("--force", action="store_true", help="promote whatever the gate says; needs --reason")
    add("--reason", default="", metavar="TEXT", help="why, for the ledger")


def _drift_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--data", type=Path, metavar="FILE", help="reviews, instead of those of the log")
    _add_columns(parser)
    _add_log(parser)
    add("--since", type=since, metavar="TIME", help="a date and time, or a span such as 7d or 12h")
    add("--window", type=count, metavar="N", help=f"newest reviews ({WINDOW}; with --since: all)")
    _add_min_reviews(parser)
    add("--version", default="champion", metavar="NAME", help="alias or number (default: champion)")
    add("--json", action="store_true", help="print the report as JSON and nothing else")
    add("--html", type=Path, metavar="FILE", help="write the page to this file too")
    add("--quiet", action="store_true", help="print the verdict only")


def _replay_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--data", type=Path, default=Path(DATA), metavar="FILE", help="reviews (default: data.csv)")
    _add_columns(parser)
    add(
        "--month-column",
        default="Month",
        metavar="NAME",
        help="its column of months (default: Month)",
    )
    _add_min_reviews(parser)
    add("--quiet", action="store_true", help="print the verdicts only")


def _check(options: argparse.Namespace, parser: Parser) -> None:
    """Complain of options that do not go together."""
    if options.command == "promote" and options.force:
        if not options.reason.strip():
            parser.error('--force needs --reason "…", which is kept')
        if options.to == "staging":
            parser.error("staging has no gate; leave --force out")
    if options.command == "drift":
        of_log = (options.since, options.window, options.log_url)
        if options.data is not None and any(value is not None for value in of_log):
            parser.error("--since, --window and --log-url are for the log; leave them or --data")
        if options.data is None and (options.text_column or options.rating_column):
            parser.error("--text-column and --rating-column need a file: --data FILE")
    if options.command == "serve" and options.debug and options.host not in LOOPBACK:
        parser.error(f"--debug runs code for whoever asks: not on {options.host}")


def _add_store(parser: Parser) -> None:
    help_text = "folder of mlflow.db and mlruns/ (default: the project's own)"
    parser.add_argument("--store", type=absolute, metavar="FOLDER", help=help_text)


def _add_log(parser: Parser) -> None:
    help_text = "prediction log, SQLite or PostgreSQL (default: beside the store)"
    parser.add_argument("--log-url", metavar="URL", help=help_text)


def _add_text_column(parser: Parser) -> None:
    help_text = "column of texts (default: found by its name)"
    parser.add_argument("--text-column", metavar="NAME", help=help_text)


def _add_columns(parser: Parser) -> None:
    _add_text_column(parser)
    add = parser.add_argument
    add("--rating-column", metavar="NAME", help="column of ratings (default: found by its name)")


def _add_min_reviews(parser: Parser) -> None:
    parser.add_argument(
        "--min-reviews",
        type=count,
        default=MIN_REVIEWS,
        metavar="N",
        help=f"fewer are not enough for a verdict (default: {MIN_REVIEWS})",
    )


def absolute(text: str) -> str:
    """Return the path as an absolute one."""
    return str(Path(text).resolve())


def whole(text: str) -> int:
    """Return a whole number, negative or not."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None


def count(text: str) -> int:
    """Return a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return int(text)


def port(text: str) -> int:
    """Return a port, 0 to 65535."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port from 0 to 65535")
    return int(text)


def positive(text: str) -> float:
    """Return a finite number above 0."""
    number = _number(text)
    if not 0.0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return number


def name(text: str) -> str:
    """Return an alias or the number of a version."""
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"'{text}' is neither an alias nor a version number")
    return text


def name_and_share(text: str) -> tuple[str, float]:
    """Return the name and the share, 0 to 1, of `challenger=0.2`."""
    arm, _, share = text.partition("=")
    number = _number(share)
    if not NAME.fullmatch(arm) or not 0.0 <= number <= 1.0:
        raise argparse.ArgumentTypeError(
            f"'{text}': expected a name and a share from 0 to 1, as in challenger=0.2"
        )
    return arm, number


def algorithms(text: str) -> str:
    """Return the names of some `ALGORITHMS`, joined by commas."""
    names = [part.strip() for part in text.split(",")]
    unknown = [part for part in names if part not in ALGORITHMS]
    if unknown or len(set(names)) < len(names):
        problem = f"unknown: {', '.join(unknown)}" if unknown else "one is named twice"
        raise argparse.ArgumentTypeError(f"{problem}; expected some of {', '.join(ALGORITHMS)}")
    return ",".join(names)


def moment(text: str) -> datetime:
    """Return a date and time with a zone, the local one unless the text has one."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a date; expected one like 2026-03-01T12:00 or 2026-03-01T12:00+05:30"
        ) from None


def since(text: str) -> float:
    """Return a time in seconds since 1970, from a date or from a span before now such as 7d."""
    span = SPAN.fullmatch(text)
    if span:
        return time.time() - float(span[1]) * UNITS[span[2]]
    try:
        return datetime.fromisoformat(text).timestamp()  # local time unless it has a zone
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a time; expected a span such as 7d or 12h, or a date and time such "
            "as 2026-03-01T12:00"
        ) from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
