"""Serve the version in production: REST API, web page and batch scoring.

    python serve_sentiment.py                                  # http://127.0.0.1:8000
    python serve_sentiment.py --workers 2 --ab challenger=0.2
    python serve_sentiment.py score --in reviews.csv --out scored.parquet

Nothing is trained here: the version comes from the registry, and one that is promoted meanwhile is
picked up without a restart. Where `SENTIMENT_API_TOKEN` is set, `/feedback` and `/ab` ask for it.
`gunicorn "serve_sentiment:create_app()"` serves the same app.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from flask import Flask

    from sentiment.serving.config import ServingConfig
    from sentiment.serving.server import Address

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
HOST, PORT = "127.0.0.1", 8000
LOOPBACK = ("127.0.0.1", "::1", "localhost")
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")  # an alias or the number of a version


def create_app(config: ServingConfig | Mapping[str, Any] | None = None) -> Flask:
    """The app for any WSGI server; see `web_app.create_app`."""
    from sentiment.serving import app as web_app

    return web_app.create_app(config)


class OneLineParser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(EXIT_BAD_INPUT, f"serve_sentiment: {message}; see --help\n")


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `command` is `score`, or None to serve."""
    parser = OneLineParser(
        usage="%(prog)s [options]\n       %(prog)s score --in FILE --out FILE [options]",
        description="Serve the version in production, or score a file with it.",
        epilog="The environment's SENTIMENT_API_TOKEN, where set, guards /feedback and /ab.",
    )
    add = parser.add_argument
    add("--store", help="folder of mlflow.db and mlruns (default: the project's own)")
    add("--quiet", help="print errors only", action="store_true")
    add("--host", help="address to listen on (default: %(default)s)", default=HOST)
    add("--port", help="its port; 0 takes a free one (default: 8000)", type=_port, default=PORT)
    add("--workers", help="processes (default: 1)", type=_count, default=1)
    add("--threads", help="threads of each (default: 4)", type=_count, default=4)
    add("--debug", help="Flask's own server, on this machine only", action="store_true")
    add(
        "--refresh",
        help="seconds between two looks at the registry (default: 10)",
        type=_positive,
        default=10.0,
    )
    add(
        "--ab",
        help="let an alias or version answer a share of the users: challenger=0.2",
        type=_name_and_share,
        metavar="NAME=SHARE",
    )
    add("--shadow", help="let it score everything, for the log only", type=_name, metavar="NAME")
    add("--ab-name", help="name of the comparison (default: the versions, as 1-vs-3)", type=_name)
    add("--log-url", help="log: SQLite beside the store by default, or PostgreSQL, with PGPASSWORD")
    add("--no-store-text", help="log digests of the reviews, not the texts", action="store_true")
    add("--retention", help="delete logged rows older than this", type=_positive, metavar="DAYS")
    add("--max-body", help="bytes of a request (default: 1048576)", type=_count, default=2**20)
    add("--max-texts", help="reviews of a request (default: 10000)", type=_count, default=10_000)
    add(
        "--max-characters",
        help="characters of a review (default: 20000)",
        type=_count,
        default=20_000,
    )
    commands = parser.add_subparsers(dest="command", metavar="score")
    about = "score a file of reviews with a version"
    score = commands.add_parser("score", help=about, description=about)
    add = score.add_argument
    add("--in", help="CSV, TSV or Parquet", dest="source", type=Path, required=True)
    add("--out", help="CSV, TSV or Parquet, by its name", dest="target", type=Path, required=True)
    add("--text-column", help="its column of review texts")
    add("--version", help="alias or version (default: %(default)s)", default="champion")
    # not to overwrite what stood before the command
    add("--store", help="as above", default=argparse.SUPPRESS)
    add("--quiet", help="as above", action="store_true", default=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve, or score a file. Exit codes: 0 done, 2 bad input or nothing to serve, 130 Ctrl-C."""
    options = parse_options(arguments)
    try:
        return run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def run(options: argparse.Namespace) -> int:
    """Do what the options say; what concerns the user becomes one line and exit code 2."""
    from sentiment.errors import (
        PredictionLogError,
        ReviewDataError,
        ServerError,
        ServingConfigError,
        ServingError,
        TrackingError,
    )
    from sentiment.serving.server import free_address

    try:
        if options.command == "score":
            return score(options)
        config = serving_config(options)
        if options.debug and options.host not in LOOPBACK:
            raise ServerError(f"--debug runs code for whoever asks: not on {options.host}")
        return serve(options, config, free_address(options.host, options.port))
    except (
        PredictionLogError,
        ReviewDataError,
        ServerError,
        ServingConfigError,
        ServingError,
        TrackingError,
    ) as error:
        print(f"serve_sentiment: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT


def serving_config(options: argparse.Namespace) -> ServingConfig:
    """The options as the app takes them. Raises `ServingConfigError`."""
    from sentiment.serving.config import ServingConfig
    from sentiment.serving.schemas import Limits

    return ServingConfig(
        store=None if options.store is None else str(Path(options.store).resolve()),
        refresh_seconds=options.refresh,
        ab=options.ab,
        shadow=options.shadow,
        experiment=options.ab_name,
        log_url=options.log_url,
        store_text=not options.no_store_text,
        retention_days=options.retention,
        limits=Limits(options.max_body, options.max_texts, options.max_characters),
    )


def serve(options: argparse.Namespace, config: ServingConfig, address: Address) -> int:
    """Serve until a signal. Raises what `look_ahead` raises, before anything listens."""
    from sentiment.console import Terminal
    from sentiment.serving import app as web_app
    from sentiment.serving.server import run_server
    from sentiment.serving.start import look_ahead

    terminal = Terminal(quiet=options.quiet)
    warning = look_ahead(config)
    log = config.open_log()
    if warning:
        terminal.say(warning)
    if config.token is None and options.host not in LOOPBACK:
        terminal.say(
            f"whoever reaches {options.host} may send feedback and read /ab: set "
            "SENTIMENT_API_TOKEN to ask for a token"
        )

    def ready(app: Flask) -> None:
        terminal.say(f"http://{address}: {_serving(app)}")

    if options.debug:
        app = web_app.create_app(config, log=log)
        ready(app)
        app.run(address.host, address.port, debug=True, use_reloader=False, threaded=True)
        return 0
    return run_server(
        lambda: web_app.create_app(config, log=log),
        address,
        workers=options.workers,
        threads=options.threads,
        ready=ready,
    )


def score(options: argparse.Namespace) -> int:
    """Score a file with a version; `batch_scoring.py` does the work, and raises what it raises."""
    from sentiment.console import Terminal
    from sentiment.serving.batch import score_file
    from sentiment.serving.config import ServingConfig

    score_file(
        ServingConfig(store=options.store, token=None).open_store(),
        options.source,
        options.target,
        version=options.version,
        text_column=options.text_column,
        terminal=Terminal(quiet=options.quiet),
    )
    return 0


def _serving(app: Flask) -> str:
    """What the first worker answers with, in words."""
    arms = app.extensions["serving"].watcher.arms
    if arms is None:  # it was there a moment ago; /health says what happened
        return "no version yet"
    versions = [f"version {arms.champion.version} ({arms.champion.algorithm}) is in production"]
    if arms.challenger is not None:
        versions.append(
            f"compared with version {arms.challenger.version} ({arms.challenger.algorithm})"
        )
    return ", ".join(versions)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"'{text}' is no port from 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return number


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"'{text}' is no alias and no version number")
    return text


def _name_and_share(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    try:
        number = float(share)
    except ValueError:
        number = math.nan
    if not NAME.fullmatch(name) or not 0.0 <= number <= 1.0:
        raise argparse.ArgumentTypeError(
            f"'{text}': expected a name and a share from 0 to 1, as in challenger=0.2"
        )
    return name, number


if __name__ == "__main__":
    sys.exit(main())
