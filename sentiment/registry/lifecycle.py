"""Register, stage, judge, promote, roll back and retire versions; aliases and stages follow.

The ledger decides which version is in production. MLflow's aliases (`champion`, `previous`,
`staging`, `challenger`) and stages (None → Staging → Production → Archived) are set accordingly.
"""

from __future__ import annotations

import json
import random
import shlex
import time
import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sentiment.data.labels import GUIDES, LabelRule
from sentiment.data.reviews import Split
from sentiment.errors import ConflictError, RegistryError, TrackingError
from sentiment.model.predictor import one_line
from sentiment.registry.gate import Verdict, compare_versions
from sentiment.tracking.artifact import DIGESTS, file_digests
from sentiment.tracking.ledger import (
    PROMOTE,
    ROLLBACK,
    STAGE,
    Decision,
    Event,
    RegistryState,
    append,
    close_abandoned,
    read_events,
    replay,
)
from sentiment.tracking.store import NOTE, PROJECT, Store, open_existing_store, store_errors

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

LONGEST_NOTE = 5_000  # characters of a version's description, in MLflow's database
ABOUT_MODEL = """\
Says of a product review, given as raw text, whether its writer was content: 1 (positive) or 0.

Load it by alias: `champion` is in production, `challenger` (and `staging`) waits for the gate,
`previous` is what a rollback puts back. Each version's description is from its model card.
"""
STAGING_TRIES = 20  # passes that end at once stage one after the other


def register_version(store: Store, run_id: str, model_uri: str, tags: Mapping[str, str]) -> str:
    """Make the run's model a version and return its number; the same run never makes two.

    The digests of its files are one of its tags: it is loaded with these files only.

    The logged model is tagged with the version, as `mlflow.register_model` does it, so that its
    page shows it as registered. The version's description is that of its run.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

    client, model = store.client, store.settings.registered_model
    model_id = model_uri.removeprefix("models:/")
    known = version_of(store, run_id)
    if known is not None:
        number = known
    else:
        try:
            client.create_registered_model(model, description=ABOUT_MODEL)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        signed = {**tags, DIGESTS: file_digests(store, model_uri)}
        version = client.create_model_version(
            model,
            source=model_uri,
            run_id=run_id,
            model_id=model_id,
            tags=signed,
            description=client.get_run(run_id).data.tags.get(NOTE, "")[:LONGEST_NOTE],
        )
        number = str(version.version)
    if model_id != model_uri:  # a logged model, which has a page
        page = json.dumps([{"name": model, "version": number}])
        client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: page})
    return number


def version_of(store: Store, run_id: str) -> str | None:
    """Return the number of the version that the run's model is, None where it is none."""
    known = store.client.search_model_versions(f"run_id = '{run_id}'")
    return str(known[0].version) if known else None


def registry_state(store: Store) -> RegistryState:
    """Return what the ledger says now."""
    return replay(read_events(store))


def production_version(store: Store) -> str | None:
    """Return the version in production; None before the first promotion, and where it was deleted.

    A deletion in MLflow's UI is no event of the ledger: it leaves the place vacant.
    """
    return _present(registry_state(store), registered_versions(store))


def rule_in_production(folder: str | Path | None, project: str | None = None) -> LabelRule:
    """Return by which rule production tells negative from positive; the guide's without one.

    A store that is not there is not made.
    """
    try:
        store = open_existing_store(folder, project)
    except TrackingError:
        return GUIDES
    with store_errors():
        return production_rule(store)


def production_rule(store: Store) -> LabelRule:
    """Return the rule of the version in production, or the guide's."""
    production = registered_versions(store).get(production_version(store) or "")
    return GUIDES if production is None else LabelRule.of_tags(production.tags)


def vacancy(store: Store) -> str:
    """Say which version was in production and has been deleted; empty where none was."""
    state, versions = registry_state(store), registered_versions(store)
    if state.production is None or state.production in versions:
        return ""
    target = _rollback_target(state, versions)
    way = "promote another" if target is None else f"`rollback` puts back version {target}"
    return f"none: version {state.production} was in production and has been deleted; {way}"


def stage(store: Store, version: str, why: str) -> Event:
    """Put a version into staging, with the aliases `staging` and `challenger`; no gate is asked.

    Raises `RegistryError` for an unknown version or the one in production, and `ConflictError`.
    """
    known_version(store, version)

    def decide(state: RegistryState) -> str | None:
        if state.production == version:
            raise RegistryError(f"version {version} is in production; it cannot go to staging")
        return state.staging

    event = append(store, STAGE, version, decide, why=why)
    reconcile(store)
    return event


def stage_challenger(store: Store, version: str, why: str) -> bool:
    """Stage a version unless it was staged or promoted before, as by the pass that is resumed.

    Waits for its turn when other passes stage theirs. Returns whether it was staged now.
    """
    tries = 0
    while version not in (state := registry_state(store)).staged | state.promoted:
        try:
            stage(store, version, why)
            return True
        except ConflictError:
            tries += 1
            if tries == STAGING_TRIES:
                raise
            time.sleep(random.uniform(0.1, 0.5))
    reconcile(store)
    return False


def judge_version(store: Store, version: str, split: Split) -> Verdict:
    """Ask the gate whether to promote the version now, on the holdout of `split`.

    Where the version in production was deleted, it is judged as the first. Nothing is written.
    Raises `RegistryError` for an unknown version or the one in production, and as
    `gate.compare_versions` does.
    """
    known_version(store, version)
    state = registry_state(store)
    production = _present(state, registered_versions(store))
    if production == version:
        raise RegistryError(f"version {version} is in production already")
    verdict = compare_versions(store, version, production, split, state.best)
    if production == state.production:
        return verdict
    return replace(verdict, rule=f"version {state.production} was there and has been deleted")


def promote(store: Store, verdict: Verdict, *, why: str = "", force: bool = False) -> Event:
    """Put the verdict's candidate into production, and its figures into the ledger.

    `why` defaults to the verdict. `force` overrules a refusal, and needs a reason. Raises
    `RegistryError` for a refusal that is not overruled, or without a reason, and `ConflictError`
    when production changed since the verdict.
    """
    if not verdict.promoted and not force:
        raise RegistryError(verdict.sentence())
    if force and not why.strip():
        raise RegistryError('a forced promotion needs a reason: --force --reason "…"')
    known_version(store, verdict.candidate)
    event = append(
        store,
        PROMOTE,
        verdict.candidate,
        _if_still(store, verdict.production),
        why=" ".join((why or verdict.sentence()).split()),
        forced=force and not verdict.promoted,
        metrics=verdict.metrics(),
    )
    reconcile(store)
    return event


def rollback(store: Store, why: str = "") -> Event:
    """Put the version back that was in production before; a second call goes further back.

    Raises `RegistryError` when there is none, `ConflictError` when production changed meanwhile.
    """
    before, versions = registry_state(store), registered_versions(store)
    target = _rollback_target(before, versions)
    if target is None:
        raise RegistryError("no version was in production before; there is nothing to go back to")
    why = " ".join(why.split()) or "rolled back"
    expected = _if_still(store, _present(before, versions))
    event = append(store, ROLLBACK, target, expected, why=why)
    reconcile(store)
    return event


def reconcile(store: Store) -> list[str]:
    """Set aliases and stages to what the ledger says; return what was changed, a line each.

    This is safe at any time and in several processes at once: a process that changed something
    looks again whether the ledger has grown meanwhile. An empty ledger changes nothing.
    """
    close_abandoned(store)
    done: list[str] = []
    while True:
        state = registry_state(store)
        changed = _follow(store, state) if state.events else []
        done += changed
        if not changed or registry_state(store).events == state.events:
            return done


def _follow(store: Store, state: RegistryState) -> list[str]:
    client, versions, done = store.client, registered_versions(store), []
    model = store.settings.registered_model
    wanted = {
        "champion": state.production,
        "previous": _rollback_target(state, versions),
        "staging": state.staging,
        "challenger": state.staging,
    }
    aliases = client.get_registered_model(model).aliases
    for alias, version in wanted.items():
        now = aliases.get(alias)
        if version in versions and str(now) != version:
            client.set_registered_model_alias(model, alias, version)
            done.append(f"{alias} is version {version}")
        elif version not in versions and now is not None:
            client.delete_registered_model_alias(model, alias)
            done.append(f"{alias} is no version")
    stages = {
        number: "Archived"
        for number, version in versions.items()
        if number in state.staged | state.promoted
        or version.current_stage in ("Production", "Staging")
    }
    for name, number in (("Staging", state.staging), ("Production", state.production)):
        if number in versions:
            stages[number] = name
    # Production first, so that there is always one. MLflow's own archiving of the one before fails
    # on PostgreSQL with psycopg 3 (it compares a number with a string), and is not needed.
    order = ("Production", "Staging", "Archived")
    for number, name in sorted(stages.items(), key=lambda stage: order.index(stage[1])):
        if client.get_model_version(model, number).current_stage != name:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # that stages are deprecated
                client.transition_model_version_stage(model, number, name)
            done.append(f"version {number} is {name}")
    return done


def registered_versions(store: Store) -> dict[str, ModelVersion]:
    """Return every version by its number, oldest first; empty when there is none."""
    found = store.client.search_model_versions(f"name = '{store.settings.registered_model}'")
    return {str(v.version): v for v in sorted(found, key=lambda v: int(v.version))}


def known_version(store: Store, version: str) -> ModelVersion:
    """Return the version of this number. Raises `RegistryError` when there is none."""
    versions = registered_versions(store)
    if version not in versions:
        newest = ", ".join(list(versions)[-5:]) or "none"
        raise RegistryError(
            f"no version '{version}' of {store.settings.registered_model}; "
            f"expected a number, the newest: {newest}"
        )
    return versions[version]


def retire_versions(store: Store, keep: int) -> list[str]:
    """Delete the oldest versions beyond `keep`, with their files, and return their numbers.

    A version that has an alias, or was ever in production, is neither deleted nor counted.
    Parameters, metrics and tags of the run stay. If files cannot be deleted, that stands behind the
    number.
    """
    model, versions = store.settings.registered_model, registered_versions(store)
    aliased = set(store.client.get_registered_model(model).aliases.values())
    held = registry_state(store).promoted | {str(version) for version in aliased}
    free = [number for number in versions if number not in held]
    retired = []
    for number in free[: max(0, len(free) - keep)]:
        store.client.delete_model_version(model, number)
        left = _free_artifacts(store, versions[number])
        retired.append(f"{number} (its files stay: {left})" if left else number)
    return retired


def _free_artifacts(store: Store, version: ModelVersion) -> str:
    """Delete the files of a deleted version, and say why they stay if they do.

    What another version shares with it stays, and all that is not in the store's own folder of
    artifacts or, on a server, in that of the run's experiment.
    """
    client, run_id, source = store.client, version.run_id or "", str(version.source)
    try:
        run = client.get_run(run_id)
        places = []
        if not client.search_model_versions(f"run_id = '{run_id}'"):
            places.append(run.info.artifact_uri)
        logged = source.startswith("models:/m-")
        if logged and not client.search_model_versions(f"source_path = '{source}'"):
            model = client.get_logged_model(source.removeprefix("models:/"))
            places.append(model.artifact_location)
            client.delete_logged_model(model.model_id)
        outside = free_places(store, places, run.info.experiment_id)
    except Exception as error:  # of as many kinds as there are kinds of artifact stores
        return one_line(error)
    return f"outside the store, {', '.join(outside)}" if outside else ""


def free_places(store: Store, places: Sequence[str], experiment_id: str) -> list[str]:
    """Delete the artifacts at these addresses; return those that are outside the store, and stay.

    They are of one experiment. Raises whatever kind of error the artifacts' place has.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    root = store.client.get_experiment(experiment_id).artifact_location
    outside = [place for place in places if not _is_ours(store, place, root)]
    for place in places:
        if place not in outside:
            files = get_artifact_repository(place, tracking_uri=store.uri)
            files.delete_artifacts()  # type: ignore[no-untyped-call]
    return outside


def _is_ours(store: Store, place: str, root: str) -> bool:
    """Return whether the address of artifacts lies in the store; `root` is its experiment's."""
    if store.artifacts is None:
        return place.startswith(root.rstrip("/") + "/") and ".." not in place
    folder = Path(place.removeprefix("file://")).resolve()
    return store.artifacts.resolve() in folder.parents


def promotion_command(store: Store, version: str, how: Mapping[str, str | int | None]) -> str:
    """Return the command that puts the version through the gate, on the reviews it was trained on.

    The file is known to the version's run. `how` are the options by which it was read; what is None
    was not given.
    """
    words = ["python", "-m", "sentiment", "promote", version, "--to", "production"]
    for flag, value, default in (
        *((f"--{name.replace('_', '-')}", value, None) for name, value in how.items()),
        ("--store", str(store.folder), str(PROJECT)),
        ("--project", store.settings.project or None, None),
    ):
        if value is True:
            words.append(flag)
        elif value not in {default, None}:  # with "=", a name such as -1 is no option
            words += [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]
    return shlex.join(words)


def _rollback_target(state: RegistryState, versions: Mapping[str, ModelVersion]) -> str | None:
    """Return the last version before the present one that was not deleted since."""
    earlier = (v for v in reversed(state.stack[:-1]) if v in versions and v != state.production)
    return next(earlier, None)


def _present(state: RegistryState, versions: Container[str]) -> str | None:
    """Return the version in production if it is still registered."""
    return state.production if state.production in versions else None


def _if_still(store: Store, expected: str | None) -> Decision:
    """Return the decision to replace the version in production if it is still this one."""

    def decide(state: RegistryState) -> str | None:
        now = _present(state, registered_versions(store))
        if now != expected:
            raise ConflictError(
                f"another change came first: version {now or 'none'} is in production now, no "
                f"longer {expected or 'none'}; look at it, then try again"
            )
        return expected

    return decide
