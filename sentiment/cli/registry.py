"""Show, verify and promote versions: `list`, `show`, `promote`, `rollback`, `which`, `history`.

A promotion to production passes the gate or is forced with a reason. A crash between the ledger's
entry and aliases or stages may leave these behind: `promote` and `rollback` mend them first, the
others only say so.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sentiment.cli.options import DATA, labelling_of, reading_of
from sentiment.console import Terminal
from sentiment.data.labels import LabelRule
from sentiment.data.reviews import LoadedReviews, data_digest, load_reviews, split_reviews
from sentiment.drift.reference import ensure_reference
from sentiment.errors import (
    EXIT_REFUSED,
    OutOfReachError,
    RegistryError,
    TrackingError,
    VersionError,
)
from sentiment.metrics import Interval
from sentiment.model.predictor import find_version
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
    vacancy,
)
from sentiment.tracking.artifact import DIGESTS, verify
from sentiment.tracking.ledger import STAGE, Event, read_events, replay
from sentiment.tracking.store import (
    DATA_PATH,
    Store,
    open_existing_store,
    scores_of,
    store_errors,
)

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


# Tags of a version that `show` has in a group of their own, in this order
DESCRIBED = (
    *("model", "data_digest", "label_rule", "split", "decision_rule", "behaviour", "cleaning"),
    *("cleaning_fingerprint", "cleaning_packages", "training_fingerprint"),
)


def run(options: Namespace) -> int:
    """Run one command and return its exit code: 0 done, 1 refused by the gate."""
    with Terminal() as terminal:
        terminal.step("opening the store")  # before MLflow is imported
        with store_errors():
            return _run(options, terminal)


def _run(options: Namespace, terminal: Terminal) -> int:
    changes = options.command in ("promote", "rollback")
    store = open_existing_store(options.store, options.project, to_write=changes)
    if not registered_versions(store):
        raise RegistryError(
            f"{store.settings.registered_model} has no versions here; run "
            "sentiment_mlflow_optuna.py, or name another store or product with --store or "
            "--project"
        )
    mended = [f"mended: {line}" for line in reconcile(store)] if changes else []
    for line in mended if changes else _left_behind(store):
        print(f"sentiment {options.command}: {line}", file=sys.stderr)
    if options.command == "promote":
        return _promote(options, store, terminal)
    {
        "list": _list,
        "show": _show,
        "history": _history,
        "rollback": _rollback,
        "which": _which,
        "verify": _verify,
    }[options.command](options, store, terminal)
    return 0


def _left_behind(store: Store) -> list[str]:
    """Return a line when the alias of production is not where the ledger says."""
    model = store.client.get_registered_model(store.settings.registered_model)
    production, champion = production_version(store), model.aliases.get("champion")
    if production not in registered_versions(store) or str(champion) == production:
        return []
    return [
        f"the ledger says that version {production} is in production, the alias champion is "
        f"{champion or 'missing'}; promote and rollback mend it"
    ]


def _list(_: Namespace, store: Store, terminal: Terminal) -> None:
    aliases = _aliases(store)
    rows = [
        {
            "version": number,
            "model": version.tags.get("model", ""),
            "CV F1": _rounded(version.tags.get("cv_f1_macro")),
            "test F1": _rounded(version.tags.get("test_f1")),
            "status": _status(version, aliases.get(number, [])),
            "created": f"{_when(version):%Y-%m-%d %H:%M}",
        }
        for number, version in registered_versions(store).items()
    ]
    terminal.done()
    terminal.say(store.settings.registered_model)
    terminal.columns(rows, right=("version",))
    if vacant := vacancy(store):
        terminal.say(f"in production: {vacant}")


def _status(version: ModelVersion, aliases: Sequence[str]) -> str:
    """Return the aliases but `staging`, which is where `challenger` is; without one the stage."""
    named = [one for one in aliases if one != "staging" or "challenger" not in aliases]
    stage = str(version.current_stage)
    return ", ".join(named) or ("" if stage == "None" else stage)


def _show(options: Namespace, store: Store, terminal: Terminal) -> None:
    """Show everything about one version, in groups."""
    number, version = options.version, known_version(store, options.version)
    run = store.client.get_run(str(version.run_id))
    scores, tags, params = scores_of(run), dict(version.tags), dict(run.data.params)
    intervals = {name.removesuffix("_low") for name in scores if name.endswith("_low")}
    ends = {name + end for name in intervals for end in ("_low", "_high")}
    digests = {DIGESTS, *scores}  # a page of them, see `verify`; and what the scores say
    described = {name: tags.pop(name) for name in DESCRIBED if name in tags}
    algorithm = described.get("model", "")
    groups = {
        f"Version {number} of {store.settings.registered_model}": [
            ("model", algorithm),
            ("stage", str(version.current_stage)),
            ("aliases", ", ".join(_aliases(store).get(number, [])) or "none"),
            ("created", _created(version)),
            ("run", str(version.run_id)),
            ("run name", str(run.info.run_name)),
            ("source", str(version.source)),
        ],
        "Scores [95 % interval]": [
            (name, _score(scores, name)) for name in sorted(scores) if name not in ends
        ],
        "What it learnt from, and how it decides": [
            (name, value) for name, value in described.items() if name != "model"
        ],
        "Parameters": [
            (name, value)
            for name, value in sorted(params.items())
            if name not in {"model", *DESCRIBED}
        ],
        "Tags": [(name, value) for name, value in sorted(tags.items()) if name not in digests],
        "History": [
            (_local(event.when), f"{event.action} {_change(event)}")
            for event in read_events(store)
            if number in (event.target, event.origin)
        ],
    }
    terminal.done()
    terminal.groups(groups)


def _score(scores: Mapping[str, float], name: str) -> str:
    """Return a score with its interval, if it has one."""
    value = scores[name]
    if f"{name}_low" in scores:
        return str(Interval(value, scores[f"{name}_low"], scores[f"{name}_high"]))
    return f"{value:.4f}" if abs(value) < 1 else f"{value:,.6g}"


def _verify(options: Namespace, store: Store, terminal: Terminal) -> None:
    version = str(find_version(store, options.version).version)
    terminal.say(f"version {version}: {verified(store, version)} files, all as registered")


def verified(store: Store, version: str) -> int:
    """Return how many files a version has. Raise `RegistryError` unless all are as registered.

    Raises `OutOfReachError` where they cannot be fetched.
    """
    try:
        return verify(store, f"models:/{store.settings.registered_model}/{version}")
    except OutOfReachError as error:
        raise OutOfReachError(f"version {version}: {error}") from None
    except TrackingError as error:
        raise RegistryError(f"version {version}: {error}") from None


def verify_answer(options: Namespace, store: Store, version: str) -> None:
    """Raise `RegistryError` if a version is not what was registered, after the command's answer.

    That its files are out of reach is only said: the answer is true all the same.
    """
    try:
        verified(store, version)
    except OutOfReachError as error:
        print(f"sentiment {options.command}: not verified: {error}", file=sys.stderr)


def _history(_: Namespace, store: Store, terminal: Terminal) -> None:
    rows = [
        {
            "when": _local(event.when),
            "action": event.action + (" (forced)" if event.forced else ""),
            "version": _change(event),
            "who": event.who,
            "why": event.why,
        }
        for event in read_events(store)
    ]
    if rows:
        terminal.table("History", pd.DataFrame(rows))
    else:
        terminal.say("nothing was staged or promoted yet")


def _which(options: Namespace, store: Store, terminal: Terminal) -> None:
    events = read_events(store)
    state = replay(events, options.at)
    when = "now" if options.at is None else f"at {_local(options.at)}"
    vacant = vacancy(store) if options.at is None else ""
    if vacant:
        terminal.say(vacant)
        return
    if state.production is None:
        terminal.say(f"none: no version was in production {when}")
        return
    since = [e for e in events if e.number <= state.events and e.action != STAGE][-1]
    terminal.say(
        f"{state.production}: in production {when}, since {_local(since.when)} "
        f"({since.action} by {since.who}: {since.why})"
    )
    if options.at is None:
        verify_answer(options, store, state.production)


def _rollback(options: Namespace, store: Store, terminal: Terminal) -> None:
    _said(rollback(store, options.reason), terminal)


def _promote(options: Namespace, store: Store, terminal: Terminal) -> int:
    version = options.version
    registered = known_version(store, version)
    if options.to == "staging":
        _said(stage(store, version, options.reason or "staged by hand"), terminal)
        return 0
    if production_version(store) == version:
        terminal.say(f"version {version} is in production already")
        return 0
    terminal.step("reading the reviews")
    loaded = _reviews(options, store, registered, terminal)
    method: Any = registered.tags.get("split", "hashed")
    split = split_reviews(loaded.frame, method=method)
    terminal.step("comparing it with production")
    try:
        verdict = judge_version(store, version, split)
    except VersionError as error:
        if not options.force or error.version == version:
            raise
        # production's version is broken: the very case that force is for
        verdict = Verdict(False, f"not compared: {error}", version, production_version(store))
    terminal.say(f"{loaded.source.name}: {loaded.dropped()}")
    verdict.show(terminal)
    if not (verdict.promoted or options.force):
        return EXIT_REFUSED
    _said(promote(store, verdict, why=options.reason, force=options.force), terminal)
    if missing := ensure_reference(store, version, loaded.frame, split):
        terminal.say(missing)
    return 0


def _reviews(
    options: Namespace, store: Store, version: ModelVersion, terminal: Terminal
) -> LoadedReviews:
    """Read the reviews that are named, else those the version was trained on, else `data.csv`.

    Says which file it is, unless it was named, and whether it is not what the version was trained
    on. Raises `ReviewDataError`, and `RegistryError` where they are labelled by another rule.
    """
    path, tags = options.data, {}
    if version.run_id:
        tags = store.client.get_run(version.run_id).data.tags
    if path is None:
        path = tags.get(DATA_PATH, "")
        there = bool(path) and Path(path).exists()
        gone = f"; {path}, which version {version.version} was trained on, is not there"
        path, why = (path, "") if there else (DATA, gone if path else "")
        terminal.say(f"reviews: {path}{why}")
    columns, rule = (options.text_column, options.rating_column), LabelRule.of_tags(version.tags)
    labelling = labelling_of(options).following(rule)
    loaded = load_reviews(path, *columns, reading_of(options), labelling)
    if loaded.rule != rule:
        raise RegistryError(
            f"version {version.version} was trained with '{rule}', these reviews are labelled by "
            f"'{loaded.rule}'; leave --negative-up-to and --drop-neutral out, or name "
            "--label-column"
        )
    known = {version.tags.get("data_digest"), version.tags.get("file_digest")}
    if data_digest(loaded.frame) not in known:
        terminal.say(f"{loaded.source.name} is not what version {version.version} was trained on")
    return loaded


def _said(event: Event, terminal: Terminal) -> None:
    place = "staging" if event.action == "stage" else "production"
    forced = ", forced" if event.forced else ""
    terminal.say(f"{place}: {_change(event)}{forced}")


def _change(event: Event) -> str:
    """Return `1 → 2`, or `→ 1` where nothing was there before."""
    return f"{event.origin or ''} → {event.target}".strip()


def _local(when: datetime) -> str:
    """Return a time with its zone, as `which --at` takes it; the ledger keeps milliseconds."""
    return when.astimezone().isoformat(timespec="milliseconds")


def _created(version: ModelVersion) -> str:
    return _local(_when(version))


def _when(version: ModelVersion) -> datetime:
    return datetime.fromtimestamp(int(version.creation_timestamp) / 1000, UTC).astimezone()


def _rounded(score: str | None) -> str:
    return "" if score is None else f"{float(score):.4f}"


def _aliases(store: Store) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    model = store.client.get_registered_model(store.settings.registered_model)
    for alias, version in model.aliases.items():
        found.setdefault(str(version), []).append(alias)
    return {version: sorted(names) for version, names in found.items()}
