"""Open the MLflow store, and write and find its runs.

The store has MLflow's default layout, so a bare `mlflow ui` in the project folder shows it:
`mlflow.db` and `mlruns/`. A folder that is given wins over `MLFLOW_TRACKING_URI`, which wins over
the project folder. MLflow is imported when a store is opened, not before: telemetry must be off by
then, and `--help` and bad input need not wait for it.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from sentiment.errors import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

PROJECT = Path(__file__).resolve().parents[2]
TAG = "flipkart."  # in front of every tag of ours, apart from MLflow's
DATA_PATH = TAG + "data_path"  # tag of a run: the file it was trained on, as it was named then
PAGE = 1_000  # runs a search answers at once; MLflow allows up to 50,000
FINISHED, FAILED, KILLED, RUNNING = "FINISHED", "FAILED", "KILLED", "RUNNING"

# What we start says nothing to anybody outside, unless the user has set these.
PRIVATE = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


@dataclass(frozen=True)
class Settings:
    """What a project calls its things.

    The versions of `registered_model` are trained, promoted and served. The experiment `ledger` has
    one run for each pass, retraining, drift check and change of versions. `experiment_prefix` goes
    in front of the name of every experiment, so that projects can share a tracking server.
    """

    registered_model: str = "FlipkartSentimentModel"
    ledger: str = "FLIPKART_SENTIMENT_ANALYSIS"
    experiment_prefix: str = ""


REGISTERED_MODEL, LEDGER = Settings.registered_model, Settings.ledger  # where no store is at hand


@dataclass(frozen=True)
class Store:
    """An opened MLflow store. `folder` holds our own files: studies and the locks of passes."""

    uri: str
    folder: Path
    artifacts: Path | None  # None: a server decides where artifacts go
    client: MlflowClient
    settings: Settings = Settings()
    experiment_ids: dict[str, str] = field(default_factory=dict)  # known already, by name

    @property
    def studies(self) -> Path:
        """Make the folder of studies and pass locks when it is missing, and return it."""
        folder = self.folder / "studies"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def ui_command(self) -> str:
        """Return the command that shows this store in a browser."""
        if self.artifacts is None:
            return f"open {without_password(self.uri)} in a browser"
        if self.folder == PROJECT:
            return "make mlflow-ui"
        return f"mlflow ui --workers 1 --backend-store-uri {self.uri}"


def keep_private() -> None:
    """Set what MLflow's import reads: no telemetry, few tries, few lines. The user's own wins."""
    for name, value in PRIVATE.items():
        os.environ.setdefault(name, value)
    # A server that is away should be said in seconds, not after MLflow's seven tries.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run


def open_store(folder: str | Path | None = None, settings: Settings | None = None) -> Store:
    """Open the store in `folder`, and create it when it is new, whoever else does so at once.

    Without a folder it is the one that `MLFLOW_TRACKING_URI` names, else the project's own. Raises
    `TrackingError` when the store cannot be reached, made or read.
    """
    keep_private()
    home = Path(folder).resolve() if folder is not None else PROJECT
    own = f"sqlite:///{home / 'mlflow.db'}"
    uri = own if folder is not None else os.environ.get("MLFLOW_TRACKING_URI") or own
    local = uri == own
    try:
        (home / "mlruns").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrackingError(
            f"{home}: cannot keep the store there ({error.strerror}); name another with --store"
        ) from None

    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    # Alembic's and MLflow's progress is of no concern to the user; their warnings are.
    for name in (
        "alembic",
        "mlflow.store.db.utils",
        "mlflow.store.model_registry.abstract_store",
        "mlflow.tracking.fluent",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        if local:
            _create_database(home)
        use_uri(uri)
        client = mlflow.MlflowClient(uri)  # would itself create a missing database, unguarded
        client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError) as error:
        reason = re.sub(r"\s+", " ", str(error))[:200]
        raise TrackingError(
            f"{without_password(uri)}: the tracking store does not answer ({reason}); start "
            "it, or correct MLFLOW_TRACKING_URI or --store"
        ) from None
    return Store(uri, home, home / "mlruns" if local else None, client, settings or Settings())


def open_existing_store(folder: str | Path | None = None) -> Store:
    """Open the store as `open_store` does, but never make one. Raise `TrackingError`."""
    named = folder is None and os.environ.get("MLFLOW_TRACKING_URI")
    database = (PROJECT if folder is None else Path(folder).resolve()) / "mlflow.db"
    if not named and not database.exists():
        raise TrackingError(
            f"{database}: no such store; run sentiment_mlflow_optuna.py --promote, or name "
            "another with --store"
        )
    return open_store(folder)


@contextmanager
def store_errors() -> Iterator[None]:
    """Raise what MLflow says within the block as a `TrackingError`: the server went away, say."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        reason = " ".join(str(error).split())[:200]
        raise TrackingError(f"the tracking store did not do it: {reason}") from None


def use_uri(uri: str) -> None:
    """Point MLflow's own functions at a store, for the calls that take no client.

    MLflow also writes the address into the environment. There the next `open_store` would take it
    for the user's wish, so it is taken out again.
    """
    import mlflow

    named = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    if named is None:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    else:
        os.environ["MLFLOW_TRACKING_URI"] = named


def experiment_id(store: Store, name: str) -> str:
    """Return the id of the experiment, created when missing; two processes may ask at once."""
    if name not in store.experiment_ids:
        store.experiment_ids[name] = _find_or_create(store, name)
    return store.experiment_ids[name]


def _find_or_create(store: Store, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = _active_experiment(store, name)
    if found is None:
        full = store.settings.experiment_prefix + name
        location = None if store.artifacts is None else str(store.artifacts / full)
        try:
            return store.client.create_experiment(full, artifact_location=location)
        except MlflowException:
            found = _active_experiment(store, name)  # another process was first
            if found is None:
                raise
    return found.experiment_id


def _active_experiment(store: Store, name: str) -> Experiment | None:
    found = store.client.get_experiment_by_name(store.settings.experiment_prefix + name)
    if found is not None and found.lifecycle_stage == "deleted":
        store.client.restore_experiment(found.experiment_id)
    return found


def begin_run(
    store: Store,
    experiment: str,
    tags: Mapping[str, str],
    *,
    name: str | None = None,
    parent: str | None = None,
    started: float | None = None,
) -> str:
    """Create a run with the status RUNNING, and return its id.

    Without a `name` MLflow gives a memorable one. `started` is in seconds since 1970, now by
    default.
    """
    from mlflow.utils import mlflow_tags

    context = {
        mlflow_tags.MLFLOW_USER: user_name(),
        mlflow_tags.MLFLOW_SOURCE_NAME: Path(sys.argv[0]).name,
        mlflow_tags.MLFLOW_SOURCE_TYPE: "LOCAL",
    }
    if parent is not None:
        context[mlflow_tags.MLFLOW_PARENT_RUN_ID] = parent
    run = store.client.create_run(
        experiment_id(store, experiment),
        start_time=None if started is None else int(started * 1000),
        tags={**context, **tags},
        run_name=name,
    )
    return str(run.info.run_id)


def log_values(
    store: Store,
    run_id: str,
    *,
    params: Mapping[str, object] | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write parameters, metrics and tags in one call. Writing the same again changes nothing."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    store.client.log_batch(
        run_id,
        metrics=[Metric(key, float(value), now, 0) for key, value in (metrics or {}).items()],
        params=[Param(key, str(value)) for key, value in (params or {}).items()],
        tags=[RunTag(key, value) for key, value in (tags or {}).items()],
    )


def end_run(store: Store, run_id: str, status: str = FINISHED) -> None:
    """Give the run its last status: FINISHED, FAILED or KILLED."""
    store.client.set_terminated(run_id, status)


def find_runs(store: Store, experiment: str, tags: Mapping[str, str]) -> list[Run]:
    """Return all runs of an experiment that carry these tags, oldest first."""
    found = _active_experiment(store, experiment)
    if found is None:
        return []
    condition = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = store.client.search_runs(
            [found.experiment_id], condition, max_results=PAGE, page_token=token
        )
        runs.extend(page)
        token = page.token
        if not token:
            return sorted(runs, key=lambda run: run.info.start_time)


def git_commit() -> str:
    """Return the project's commit, with `+changes` when files differ; `unknown` without git."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+changes" if _git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def user_name() -> str:
    """Return who runs this, for the tag `mlflow.user`; `unknown` where the user has no name."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def without_password(uri: str) -> str:
    """Return the URI as it may be shown: without what stands between `//` and `@`."""
    return re.sub(r"//[^/@]*@", "//…@", uri)


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Let these loggers report only errors within the block."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _create_database(home: Path) -> None:
    """Make `mlflow.db` when it is missing, whole or not at all, by one process at a time.

    Two schema migrations at once crash, and one that is killed leaves a database that no later
    start can mend. So it is made under another name, and renamed when it is complete.
    """
    database = home / "mlflow.db"
    with FileLock(home / "mlruns" / ".store.lock"):
        if database.exists():
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        making = home / "mlflow.db.making"
        for left in home.glob("mlflow.db.making*"):
            left.unlink()
        SqlAlchemyStore(  # type: ignore[no-untyped-call]
            f"sqlite:///{making}", str(home / "mlruns")
        ).engine.dispose()
        with closing(sqlite3.connect(making)) as connection:
            # readers and a writer do not block one another; the setting stays with the file
            connection.execute("PRAGMA journal_mode=WAL")
        making.replace(database)
