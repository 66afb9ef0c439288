"""Open the MLflow store, and write and find its runs.

The store has MLflow's default layout, so a bare `mlflow ui` in the project folder shows it:
`mlflow.db` and `mlruns/`. A folder that is given wins over `MLFLOW_TRACKING_URI`, which wins over
the project folder. MLflow is imported when a store is opened, not before: telemetry must be off by
then, and `--help` and bad input need not wait for it. The SQLite file itself is `database.py`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import re
import shlex
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

from sentiment.errors import TrackingError
from sentiment.masking import line, mask, mask_logs, remember
from sentiment.tracking.database import (
    create_database,
    make_folder,
    may_write,
    mend_places,
    only_read,
    open_to_read,
    place_of,
    sqlite_url,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

PROJECT = Path(__file__).resolve().parents[2]
PROJECT_VARIABLE = "SENTIMENT_PROJECT"  # names a product, as `--project` does
PROJECT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")  # fits MLflow, Prefect and file names
TAG = "flipkart."  # in front of every tag of ours, apart from MLflow's
DATA_PATH = TAG + "data_path"  # tag of a run: the file it was trained on, as it was named then
PAGE = 1_000  # runs a search answers at once; MLflow allows up to 50,000
FINISHED, FAILED, KILLED, RUNNING = "FINISHED", "FAILED", "KILLED", "RUNNING"
# What MLflow shows as the description of an experiment, a run; Markdown
NOTE = "mlflow.note.content"
INTERVAL = TAG + "interval."  # and a metric's name: a tag with the ends of its 95 % interval
VIEW = "?workflowType=machine_learning"  # without it MLflow 3 opens on a page for language models
NOTES = {  # of experiments
    "ledger": (
        "The ledger: a run for each pass of the experiment, with the comparison of its models, for "
        "each retraining, each drift check, and each change of what is staged or in production."
    ),
    "algorithm": (
        "Models of the algorithm {name}, from `sentiment_mlflow_optuna.py`: one run a pass, with "
        "its trials nested below it. The run has the scores, figures and the card of the best "
        "trial's model; select trials and press *Compare* for what their parameters did."
    ),
}
UI_VARIABLE = "SENTIMENT_MLFLOW_UI"  # the address that people open, where it is another
LOCAL_UI = "http://127.0.0.1:5000"  # where `make mlflow-ui` serves a local store
TRIES = 5  # of what collides when several processes do it at once

# What we start says nothing to anybody outside, unless the user has set these.
PRIVATE = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
# A server or database that is away is said in seconds: MLflow's own are seven tries of 120 s, and
# PostgreSQL's is to wait for ever. Ours; and what the first request of a store gets.
TRIES_OF_A_REQUEST, SECONDS_OF_A_REQUEST = (
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "MLFLOW_HTTP_REQUEST_TIMEOUT",
)
PATIENT = {TRIES_OF_A_REQUEST: "2", SECONDS_OF_A_REQUEST: "30"}
IMPATIENT = {TRIES_OF_A_REQUEST: "0", SECONDS_OF_A_REQUEST: "5"}
PG_SECONDS = "PGCONNECT_TIMEOUT"
DATABASES = ("postgresql", "mysql", "mssql")  # which MLflow takes, besides SQLite


@dataclass(frozen=True)
class Settings:
    """What a project calls its things, so that several share an MLflow and a Prefect server.

    Names begin with that of the project, as `shoes-SentimentModel`; without one they are the
    published ones. Raises `TrackingError` for a name that not every place takes.
    """

    project: str | None = None

    def __post_init__(self) -> None:
        if self.project and not PROJECT_NAME.fullmatch(self.project):
            raise TrackingError(
                f"{self.project[:40]!r} is no name of a project: expected up to 40 letters, "
                f"digits, - and _, a letter or digit first (--project, {PROJECT_VARIABLE})"
            )

    @property
    def registered_model(self) -> str:
        """The model whose versions are trained, promoted and served."""
        return self._name("SentimentModel", "FlipkartSentimentModel")

    @property
    def ledger(self) -> str:
        """The experiment with a run for each pass, retraining, drift check, change of versions."""
        return "SENTIMENT_ANALYSIS" if self.project else "FLIPKART_SENTIMENT_ANALYSIS"

    def experiment(self, name: str) -> str:
        """Return what MLflow calls an experiment, the ledger or an algorithm's."""
        return self._name(name, name)

    @property
    def deployments(self) -> tuple[str, str]:
        """What Prefect calls the deployments of the retraining and of the drift check."""
        return (
            self._name("retraining", "flipkart-sentiment-logistic-deployment"),
            self._name("drift-check", "flipkart-sentiment-drift-deployment"),
        )

    def artifact(self, key: str) -> str:
        """Return the key of a Prefect artifact, which takes small letters, digits and dashes."""
        return self._name(key, key).lower().replace("_", "-")

    def home(self, folder: Path) -> Path:
        """Return where, in the store's folder, the project's log, studies and locks are."""
        return folder / "projects" / self.project if self.project else folder

    @property
    def option(self) -> str:
        """What a command that is shown needs at its end: ` --project shoes`, or nothing."""
        return f" --project {self.project}" if self.project else ""

    def _name(self, ours: str, published: str) -> str:
        return f"{self.project}-{ours}" if self.project else published


T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    """An opened MLflow store. `folder` has its database, `home` the project's own files.

    `writable` is false where a folder that may not be written was opened to be read.
    """

    uri: str
    folder: Path
    artifacts: Path | None  # None: a server decides where artifacts go
    client: MlflowClient
    settings: Settings = Settings()
    experiment_ids: dict[str, str] = field(default_factory=dict)  # known already, by name
    writable: bool = True

    @property
    def home(self) -> Path:
        """The folder of the project's own files, which may be missing."""
        return self.settings.home(self.folder)

    @property
    def studies(self) -> Path:
        """Make the folder of studies and their locks when it is missing, and return it."""
        folder = self.home / "studies"
        if self.artifacts is None and not os.access(PROJECT, os.W_OK):  # as in a container
            return self.locks
        make_folder(folder)
        return folder

    @property
    def locks(self) -> Path:
        """Make the folder of other locks when it is missing, and return it.

        They hold on one machine. For a store on a server the folder is a temporary one of the user.
        """
        if self.artifacts is not None:
            return self.studies
        whose = f"{os.getuid() if os.name == 'posix' else ''} {self.uri} {self.settings.project}"
        name = f"sentiment_{hashlib.sha256(whose.encode()).hexdigest()[:16]}"
        folder = Path(tempfile.gettempdir()) / name
        make_folder(folder)
        return folder

    @property
    def ui(self) -> str:
        """The address of the MLflow UI: `SENTIMENT_MLFLOW_UI`, or the server's own."""
        server = mask(self.uri) if self.uri.startswith("http") else LOCAL_UI
        return (os.environ.get(UI_VARIABLE) or server).rstrip("/")

    def ui_command(self) -> str | None:
        """Return the command that serves this store's UI; None where one is served already."""
        if self.uri.startswith("http") or os.environ.get(UI_VARIABLE):
            return None
        if self.folder == PROJECT and self.artifacts is not None:
            return "make mlflow-ui"
        database = ["--backend-store-uri", mask(self.uri)]
        return shlex.join(["mlflow", "ui", "--workers", "1", *database])


def keep_private() -> None:
    """Set what MLflow's import reads: no telemetry, few tries, few lines. The user's own wins.

    From now on logs are masked, and the address of the tracking server is without its password.
    """
    mask_logs()
    for name, value in {**PRIVATE, **PATIENT, PG_SECONDS: "5"}.items():
        os.environ.setdefault(name, value)
    _hide_credentials()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run


def _hide_credentials() -> None:
    """Move user and password of the tracking server to where MLflow shows them to nobody.

    It repeats its address in errors, which Prefect keeps. The variables that are set win, as they
    do in MLflow.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    try:
        parts = urlsplit(address)
        user, password = parts.username, parts.password
    except ValueError:  # `_open` says what is wrong
        return
    if parts.scheme not in ("http", "https") or not user or not password:
        return
    remember(address)
    os.environ.setdefault("MLFLOW_TRACKING_USERNAME", unquote(user))
    os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", unquote(password))
    place = parts.netloc.rpartition("@")[2]
    os.environ["MLFLOW_TRACKING_URI"] = parts._replace(netloc=place).geturl()


def open_store(folder: str | Path | None = None, project: str | None = None) -> Store:
    """Open the store in `folder`, and create it when it is new, whoever else does so at once.

    Without a folder it is the one that `MLFLOW_TRACKING_URI` names, else that of this repository.
    Names are those of the `project` (`Settings`). Raises `TrackingError` when the store cannot be
    reached, made, read or written.
    """
    return _open(folder, Settings(project), to_write=True)


def open_existing_store(
    folder: str | Path | None = None, project: str | None = None, *, to_write: bool = False
) -> Store:
    """Open the store as `open_store` does, but never make one. Raises `TrackingError`.

    Unless it is opened `to_write`, the folder may be one that cannot be written, which is said.
    """
    settings = Settings(project)
    database = (PROJECT if folder is None else Path(folder).resolve()) / "mlflow.db"
    if (folder is not None or not named_elsewhere(database)) and not database.exists():
        raise TrackingError(
            f"{database}: no such store; run sentiment_mlflow_optuna.py --promote, or name "
            "another with --store"
        )
    return _open(folder, settings, to_write=to_write)


def named_elsewhere(database: Path) -> str | None:
    """Return the store that the environment names; None where that is this database or none."""
    named = os.environ.get("MLFLOW_TRACKING_URI")
    return None if named == f"sqlite:///{database}" else named or None


def _open(folder: str | Path | None, settings: Settings, *, to_write: bool) -> Store:
    keep_private()
    home = Path(folder).resolve() if folder is not None else PROJECT
    database = home / "mlflow.db"
    named = None if folder is not None else named_elsewhere(database)
    uri = named or sqlite_url(database)
    writable = named is not None or not database.exists() or may_write(database)
    if to_write and not writable:
        raise TrackingError(f"{home}: the store may not be written; name another with --store")
    if named is None and writable and not database.exists():
        make_folder(home / "mlruns")

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
        if not writable:
            with closing(open_to_read(database)):  # MLflow would try for a minute what fails here
                _log.warning("%s: the store may not be written; it is only read", home)
            only_read(database)
        elif named is None and not database.exists():
            create_database(home)
        use_uri(uri)
        with _first_contact():
            _check_database(uri)
            # would itself create a missing database, unguarded
            client = mlflow.MlflowClient(uri, registry_uri=uri)
            client.search_experiments(max_results=1)
        if named is None and writable:
            mend_places(home)
    except ImportError as error:
        raise TrackingError(
            f"{uri}: its driver is not installed ({line(error)}); install it, or write "
            "postgresql+psycopg:// for PostgreSQL"
        ) from None
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ValueError) as error:
        reason = line(getattr(error, "orig", None) or error)
        raise TrackingError(
            f"{uri}: the tracking store does not answer ({reason}); start it, or correct "
            "MLFLOW_TRACKING_URI or --store"
        ) from None
    artifacts = None if named else home / "mlruns"
    return Store(uri, home, artifacts, client, settings, writable=writable)


@contextmanager
def _first_contact() -> Iterator[None]:
    """Let MLflow wait for its server for seconds within the block, unless the user says how long.

    Later requests are more patient, since a server that is there may be slow.
    """
    ours = [name for name, value in PATIENT.items() if os.environ.get(name) == value]
    os.environ.update({name: IMPATIENT[name] for name in ours})
    try:
        yield
    finally:
        os.environ.update({name: PATIENT[name] for name in ours})


def _check_database(uri: str) -> None:
    """Connect once to a database on a server, which MLflow would try for minutes.

    Raises `SQLAlchemyError`, and `ImportError` without its driver.
    """
    import sqlalchemy as sa

    if re.split(r"[:+]", uri, maxsplit=1)[0] in DATABASES:
        sa.create_engine(uri, poolclass=sa.NullPool).connect().close()


@contextmanager
def store_errors() -> Iterator[None]:
    """Raise what MLflow says within the block as a `TrackingError`: the server went away, say."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise TrackingError(f"the tracking store did not do it: {line(error)}") from None


def use_uri(uri: str) -> None:
    """Point MLflow's own functions at a store, for the calls that take no client.

    Versions are where the runs and the ledger are, whatever `MLFLOW_REGISTRY_URI` says.

    MLflow also writes the address into the environment. There the next `open_store` would take it
    for the user's wish, so it is taken out again.
    """
    import mlflow

    named = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri("")  # as the tracking URI
    if named is None:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    else:
        os.environ["MLFLOW_TRACKING_URI"] = named


def experiment_id(store: Store, name: str) -> str:
    """Return the id of the experiment, to write runs into it; two processes may ask at once.

    It is created when missing, and restored when it was deleted, which is said.
    """
    full = store.settings.experiment(name)
    if full not in store.experiment_ids:
        store.experiment_ids[full] = _tried_again(lambda: _find_or_create(store, full))
    return store.experiment_ids[full]


def _find_or_create(store: Store, full: str) -> str:
    found = store.client.get_experiment_by_name(full)
    if found is None:
        location = None if store.artifacts is None else place_of(store.artifacts / full)
        kind = "ledger" if full == store.settings.experiment(store.settings.ledger) else "algorithm"
        tags = {NOTE: NOTES[kind].format(name=full)}
        return store.client.create_experiment(full, artifact_location=location, tags=tags)
    if found.lifecycle_stage == "deleted":
        store.client.restore_experiment(found.experiment_id)
        _log.warning("experiment %s was deleted; it is restored, to write a run into it", full)
    return found.experiment_id


def _tried_again(write: Callable[[], T]) -> T:
    """Return what `write` returns; try again when MLflow fails, `TRIES` times in all.

    MLflow looks what is there and then inserts what is missing. When another process does the same
    in between, the database refuses, and the second look finds what the other has written.
    """
    from mlflow.exceptions import MlflowException

    for left in reversed(range(TRIES)):
        try:
            return write()
        except MlflowException:
            if not left:
                raise
            time.sleep(random.uniform(0.0, 0.2))
    raise AssertionError("the last try returns or raises")


def begin_run(
    store: Store,
    experiment: str,
    tags: Mapping[str, str],
    *,
    name: str | None = None,
    label: str | None = None,
    parent: str | None = None,
    started: float | None = None,
) -> str:
    """Create a run with the status RUNNING, and return its id.

    Without a `name` MLflow gives a memorable one, and a `label` stands behind it. `started` is in
    seconds since 1970, now by default.
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
    if label is not None:
        store.client.update_run(run.info.run_id, name=f"{run.info.run_name} {label}")
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


def log_inputs(store: Store, run_id: str, inputs: Sequence[DatasetInput]) -> None:
    """Write which datasets a run has used; several processes may write the same one at once."""
    _tried_again(lambda: store.client.log_inputs(run_id, list(inputs)))


def end_run(store: Store, run_id: str, status: str = FINISHED) -> None:
    """Give the run its last status: FINISHED, FAILED or KILLED."""
    store.client.set_terminated(run_id, status)


def find_runs(store: Store, experiment: str, tags: Mapping[str, str]) -> list[Run]:
    """Return all runs of an experiment that carry these tags, oldest first.

    An experiment that was deleted has none, and stays deleted.
    """
    found = store.client.get_experiment_by_name(store.settings.experiment(experiment))
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


def scores_of(run: Run) -> dict[str, float]:
    """Return a run's metrics, and the ends of their intervals as `test_f1_low`, `test_f1_high`, ….

    The ends are tags, which get no charts. On runs of earlier versions they are metrics.
    """
    found = dict(run.data.metrics)
    for tag, ends in run.data.tags.items():
        if tag.startswith(INTERVAL):
            name = tag.removeprefix(INTERVAL)
            found[f"{name}_low"], found[f"{name}_high"] = json.loads(ends)
    return found


def run_url(store: Store, run_id: str, artifact: str = "") -> str:
    """Return the address of a run in the MLflow UI, or of one of its artifacts."""
    experiment = store.client.get_run(run_id).info.experiment_id
    page = f"{run_id}/artifacts/{artifact}" if artifact else run_id
    return f"{store.ui}/#/experiments/{experiment}/runs/{page}{VIEW}"


def git_commit() -> str:
    """Return the project's commit, with `+changes` when files differ.

    Without git it is what `SENTIMENT_COMMIT` says, as in an image, or `unknown`.
    """
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+changes" if _git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("SENTIMENT_COMMIT") or "unknown"


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
