"""Model registry: which version of `FlipkartSentimentModel` is in production, and since when.

    python model_registry.py list
    python model_registry.py show 3
    python model_registry.py promote 3 --to production --data my_reviews.csv
    python model_registry.py rollback
    python model_registry.py which --at 2026-03-01T12:00
    python model_registry.py history

A promotion to production passes the gate (`promotion_gate.py`) or is forced with a reason. Every
command first mends what a crash between the ledger's entry and aliases or stages left behind.
Exit codes: 0 done or answered, 1 refused (by the gate, or because somebody else's change came
first), 2 bad input or no store; after 1 and 2 the registry is as it was.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn

from sentiment.console import Terminal
from sentiment.data.reviews import RATING_COLUMN, TEXT_COLUMN, load_reviews, split_reviews
from sentiment.drift.training_profile import ensure_profile
from sentiment.errors import ConflictError, RegistryError, ReviewDataError, TrackingError
from sentiment.registry.console import (
    change,
    history_table,
    local_time,
    show_verdict,
    version_table,
    versions_table,
)
from sentiment.registry.gate import Verdict
from sentiment.registry.lifecycle import (
    all_versions,
    judge_version,
    known_version,
    production_version,
    promote,
    reconcile,
    rollback,
    stage,
)
from sentiment.tracking.ledger import STAGE, Event, read_events, replay
from sentiment.tracking.store import PROJECT, REGISTERED_MODEL, Store, open_store

EXIT_REFUSED = 1  # by the gate, or because somebody else's change came first
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class OneLineParser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(EXIT_BAD_INPUT, f"model_registry: {message}; see --help\n")


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `command` has the subcommand's name."""
    shared = OneLineParser(add_help=False)
    shared.add_argument("--store", help="folder of mlflow.db and mlruns (default: the project's)")
    parser = OneLineParser(description="Show, promote and roll back versions of the model.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[shared])

    command("list", "every version with its scores, stage and aliases")
    command("show", "everything about one version").add_argument("version", metavar="VERSION")
    command("history", "every change: when, who, from, to, why")
    add = command("rollback", "put the version back that was in production before").add_argument
    add("--reason", help="why, for the ledger", default="")
    add = command("which", "the version in production, now or at a time").add_argument
    add("--at", help="a date and time; local time unless it has a zone", type=_time, metavar="DATE")
    add = command("promote", "put a version into staging, or through the gate").add_argument
    add("version", metavar="VERSION")
    add("--to", help="where to", choices=("staging", "production"), required=True)
    add(
        "--data",
        help="reviews to compare on (default: data.csv)",
        default=str(PROJECT / "data.csv"),
    )
    add("--text-column", help="its column of review texts", default=TEXT_COLUMN)
    add("--rating-column", help="its column of ratings, 1 to 5", default=RATING_COLUMN)
    add("--force", help="promote whatever the gate says; needs --reason", action="store_true")
    add("--reason", help="why, for the ledger", default="")
    options = parser.parse_args(arguments)
    if getattr(options, "force", False):
        if not options.reason.strip():
            parser.error('--force needs --reason "…", which is kept')
        if options.to == "staging":
            parser.error("staging has no gate; leave --force out")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Exit codes: 0 done, 1 refused, 2 bad input or no store."""
    options = parse_options(arguments)
    try:
        store = open_store(options.store)
        return _run(options, store)
    except ConflictError as error:
        code, message = EXIT_REFUSED, str(error)
    except (RegistryError, TrackingError, ReviewDataError) as error:
        code, message = EXIT_BAD_INPUT, str(error)
    except KeyboardInterrupt:
        code, message = EXIT_INTERRUPTED, "interrupted"
    print(f"model_registry: {message}", file=sys.stderr)
    return code


def _run(options: argparse.Namespace, store: Store) -> int:
    from mlflow.exceptions import MlflowException

    terminal = Terminal()
    try:
        all_versions(store)  # an empty registry is said before anything else
        for line in reconcile(store):
            print(f"model_registry: mended: {line}", file=sys.stderr)
        if options.command == "promote":
            return _promote(options, store, terminal)
        {
            "list": _list,
            "show": _show,
            "history": _history,
            "rollback": _rollback,
            "which": _which,
        }[options.command](options, store, terminal)
    except MlflowException as error:  # the server went away, or does not allow it
        reason = " ".join(str(error).split())[:200]
        raise TrackingError(f"the tracking store did not do it: {reason}") from None
    return 0


def _list(_: argparse.Namespace, store: Store, terminal: Terminal) -> None:
    terminal.table(REGISTERED_MODEL, versions_table(all_versions(store), _aliases(store)))


def _show(options: argparse.Namespace, store: Store, terminal: Terminal) -> None:
    version = known_version(store, options.version)
    aliases = _aliases(store).get(options.version, [])
    table = version_table(store, version, aliases, read_events(store))
    terminal.table(f"Version {options.version}", table)


def _history(_: argparse.Namespace, store: Store, terminal: Terminal) -> None:
    events = read_events(store)
    if events:
        terminal.table("History", history_table(events))
    else:
        terminal.say("nothing was staged or promoted yet")


def _which(options: argparse.Namespace, store: Store, terminal: Terminal) -> None:
    events = read_events(store)
    at = options.at
    state = replay(events, at)
    when = "now" if at is None else f"at {local_time(at)}"
    if state.production is None:
        terminal.say(f"none: no version was in production {when}")
        return
    changes = [e for e in events if e.number <= state.events and e.action != STAGE]
    since = changes[-1]
    terminal.say(
        f"{state.production}: in production {when}, since {local_time(since.when)} "
        f"({since.action} by {since.who}: {since.why})"
    )


def _rollback(options: argparse.Namespace, store: Store, terminal: Terminal) -> None:
    _said(rollback(store, options.reason), terminal)


def _promote(options: argparse.Namespace, store: Store, terminal: Terminal) -> int:
    version = options.version
    known_version(store, version)
    if options.to == "staging":
        _said(stage(store, version, options.reason or "staged by hand"), terminal)
        return 0
    if production_version(store) == version:
        terminal.say(f"version {version} is in production already")
        return 0
    loaded = load_reviews(options.data, options.text_column, options.rating_column)
    split = split_reviews(loaded.frame)
    from sentiment.errors import VersionError

    try:
        verdict = judge_version(store, version, split)
    except VersionError as error:
        if not options.force or error.version == version:
            raise
        # production's version is broken: the very case that force is for
        verdict = Verdict(False, f"not compared: {error}", version, production_version(store))
    show_verdict(verdict, terminal)
    if not (verdict.promoted or options.force):
        return EXIT_REFUSED
    if not ensure_profile(store, version, loaded.frame, split):
        terminal.say(
            f"version {version} was trained on other reviews than these and has no drift reference"
        )
    _said(promote(store, verdict, why=options.reason, force=options.force), terminal)
    return 0


def promotion_command(
    store: Store, version: str, data: str, text_column: str, rating_column: str
) -> str:
    """The command that puts the version through the gate for production."""
    words = ["python", "model_registry.py", "promote", version, "--to", "production"]
    for flag, value, default in (
        ("--data", data, str(PROJECT / "data.csv")),
        ("--text-column", text_column, TEXT_COLUMN),
        ("--rating-column", rating_column, RATING_COLUMN),
        ("--store", str(store.folder), str(PROJECT)),
    ):
        words += [] if value == default else [flag, value]
    return shlex.join(words)


def _said(event: Event, terminal: Terminal) -> None:
    place = "staging" if event.action == "stage" else "production"
    forced = ", forced" if event.forced else ""
    terminal.say(f"{place}: {change(event)}{forced}")


def _aliases(store: Store) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for alias, version in store.client.get_registered_model(REGISTERED_MODEL).aliases.items():
        found.setdefault(str(version), []).append(alias)
    return {version: sorted(names) for version, names in found.items()}


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"'{text}' is no date; expected one like 2026-03-01T12:00 or 2026-03-01T12:00+05:30"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
