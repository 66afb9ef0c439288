"""Show, promote and roll back versions: `list`, `show`, `promote`, `rollback`, `which`, `history`.

A promotion to production passes the gate or is forced with a reason. Every command first mends
what a crash between the ledger's entry and aliases or stages left behind.
"""

from __future__ import annotations

import sys
from argparse import Namespace

from sentiment.console import Terminal
from sentiment.data.reviews import load_reviews, split_reviews
from sentiment.drift.reference import ensure_reference
from sentiment.errors import EXIT_REFUSED, RegistryError, VersionError
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
    judge_version,
    known_version,
    production_version,
    promote,
    reconcile,
    registered_versions,
    rollback,
    stage,
)
from sentiment.tracking.ledger import STAGE, Event, read_events, replay
from sentiment.tracking.store import (
    Store,
    open_existing_store,
    store_errors,
)


def run(options: Namespace) -> int:
    """Run one command and return its exit code: 0 done, 1 refused by the gate."""
    store, terminal = open_existing_store(options.store), Terminal()
    with store_errors():
        if not registered_versions(store):
            raise RegistryError(
                f"{store.settings.registered_model} has no versions here; run "
                "sentiment_mlflow_optuna.py, or name another store with --store"
            )
        for line in reconcile(store):
            print(f"sentiment {options.command}: mended: {line}", file=sys.stderr)
        if options.command == "promote":
            return _promote(options, store, terminal)
        {
            "list": _list,
            "show": _show,
            "history": _history,
            "rollback": _rollback,
            "which": _which,
        }[options.command](options, store, terminal)
    return 0


def _list(_: Namespace, store: Store, terminal: Terminal) -> None:
    table = versions_table(registered_versions(store), _aliases(store))
    terminal.table(store.settings.registered_model, table)


def _show(options: Namespace, store: Store, terminal: Terminal) -> None:
    version = known_version(store, options.version)
    aliases = _aliases(store).get(options.version, [])
    table = version_table(store, version, aliases, read_events(store))
    terminal.table(f"Version {options.version}", table)


def _history(_: Namespace, store: Store, terminal: Terminal) -> None:
    events = read_events(store)
    if events:
        terminal.table("History", history_table(events))
    else:
        terminal.say("nothing was staged or promoted yet")


def _which(options: Namespace, store: Store, terminal: Terminal) -> None:
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


def _rollback(options: Namespace, store: Store, terminal: Terminal) -> None:
    _said(rollback(store, options.reason), terminal)


def _promote(options: Namespace, store: Store, terminal: Terminal) -> int:
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
    _said(promote(store, verdict, why=options.reason, force=options.force), terminal)
    if missing := ensure_reference(store, version, loaded.frame, split):
        terminal.say(missing)
    return 0


def _said(event: Event, terminal: Terminal) -> None:
    place = "staging" if event.action == "stage" else "production"
    forced = ", forced" if event.forced else ""
    terminal.say(f"{place}: {change(event)}{forced}")


def _aliases(store: Store) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for alias, version in store.client.get_registered_model(
        store.settings.registered_model
    ).aliases.items():
        found.setdefault(str(version), []).append(alias)
    return {version: sorted(names) for version, names in found.items()}
