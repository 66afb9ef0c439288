"""Open the MLflow store, and write and find its runs.

The store has MLflow's default layout, so a bare `mlflow ui` in the project folder shows it:
`mlflow.db` and `mlruns/`. A folder that is given wins over `MLFLOW_TRACKING_URI`, which wins over
the project folder. MLflow is imported when a store is opened, not before: telemetry must be off by
then, and `--help` and bad input need not wait for it.

MLflow keeps absolute places of artifacts in the database. When a store was moved or copied, they
are mended as soon as it is opened; where it may not be written, they are mended as they are read.
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
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from filelock import FileLock

from sentiment.errors import TrackingError
from sentiment.masking import line, mask, mask_logs, remember

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
PATIENCE = 60.0  # seconds to wait for a writer before the places of a moved store are mended
PLACES = {  # the columns of MLflow's tables that hold absolute places of artifacts
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["source", "storage_location"],
}

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
        _make_folder(folder)
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
        _make_folder(folder)
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


def sqlite_url(file: Path) -> str:
    """Return the SQLAlchemy URL of a SQLite file. Raises `TrackingError` where there is none."""
    if "?" in str(file):
        raise TrackingError(
            f"{file}: no database can be there, since a URL ends at the '?'; rename that folder, "
            "or name another"
        )
    return f"sqlite:///{file}"


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
    writable = named is not None or not database.exists() or _may_write(database)
    if to_write and not writable:
        raise TrackingError(f"{home}: the store may not be written; name another with --store")
    if named is None and writable and not database.exists():
        _make_folder(home / "mlruns")

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
            with closing(_reading(database)):  # MLflow would try for a minute what fails here
                _log.warning("%s: the store may not be written; it is only read", home)
            _only_read(database)
        elif named is None and not database.exists():
            _create_database(home)
        use_uri(uri)
        with _first_contact():
            _check_database(uri)
            # would itself create a missing database, unguarded
            client = mlflow.MlflowClient(uri, registry_uri=uri)
            client.search_experiments(max_results=1)
        if named is None and writable:
            _mend_places(home)
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


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrackingError(
            f"{folder.parent}: cannot keep the store there ({error.strerror}); name another with "
            "--store"
        ) from None


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
        location = None if store.artifacts is None else _place(store.artifacts / full)
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
            sqlite_url(making), _place(home / "mlruns")
        ).engine.dispose()
        with closing(sqlite3.connect(making)) as connection:
            # readers and a writer do not block one another; the setting stays with the file
            connection.execute("PRAGMA journal_mode=WAL")
        making.replace(database)


def _mend_places(home: Path) -> None:
    """Make a store that was moved or copied to `home` name its own artifacts, all in one step."""
    with closing(sqlite3.connect(home / "mlflow.db", PATIENCE, isolation_level=None)) as connection:
        if _moved_from(connection, home) is None:
            return
        _make_folder(home / "mlruns")
        with FileLock(home / "mlruns" / ".store.lock"):
            connection.execute("BEGIN IMMEDIATE")
            old = _moved_from(connection, home)
            if old is None:  # another process was first
                return
            _define_place(connection, old, home)
            mended = sum(
                connection.execute(
                    f"UPDATE {table} SET {place} = place({place}) WHERE {place} != place({place})"
                ).rowcount
                for table, places in PLACES.items()
                for place in places
            )
            connection.execute("COMMIT")
    _log.warning("%s: the store was moved from %s; %d places mended", home, old, mended)


def _moved_from(connection: sqlite3.Connection, home: Path) -> Path | None:
    """Return the folder for which the database was made; None where that is `home`.

    The store's own experiments are in `mlruns/`, by name, the default one by number. Places that
    the user has chosen for his are none of ours. Raises `TrackingError` where the artifacts were
    left behind.
    """
    experiments = connection.execute(
        "SELECT experiment_id, name, artifact_location FROM experiments ORDER BY experiment_id"
    )
    made: list[str] = []
    old: Path | None = None
    for number, name, location in experiments:
        path = str(_local_path(location or ""))
        for ending in (f"mlruns/{number}", f"mlruns/{name}"):
            if path.endswith(f"/{ending}"):
                old = old or Path(path.removesuffix(ending))
                made.append(ending)
        if old == home:
            return None
    if old is None:
        return None
    there, here = ([name for name in made if (at / name).is_dir()] for at in (old, home))
    if there and not here:
        raise TrackingError(
            f"{home / 'mlflow.db'}: its artifacts are still in {old / 'mlruns'}; copy that folder "
            "as well"
        )
    return old


def _define_place(connection: sqlite3.Connection, old: Path, home: Path) -> None:
    """Define `place(x)` in SQL: where an artifact is now that was recorded below the old folder."""

    def place(recorded: str | None) -> str | None:
        path = None if recorded is None else _local_path(recorded)
        if path is None or not path.is_relative_to(old / "mlruns"):
            return recorded
        return _place(home / path.relative_to(old))

    connection.create_function("place", 1, place, deterministic=True)


def _local_path(place: str) -> Path | None:
    """Return the file or folder of a place as MLflow finds it; None for another kind of place."""
    parts = urlsplit(place)
    if parts.scheme not in ("", "file"):
        return None
    return Path(url2pathname(parts.path if parts.scheme else place))


def _place(path: Path) -> str:
    """Return a path as MLflow takes it: %41 in it would become A."""
    return str(path).replace("%", "%25")


def _may_write(database: Path) -> bool:
    # beside the database SQLite keeps its journal
    return os.access(database, os.W_OK) and os.access(database.parent, os.W_OK)


@cache
def _only_read(database: Path) -> None:
    """Let MLflow's connections to this database be such that never write."""
    from sqlalchemy import Engine, event

    def connect(dialect: Any, _: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
        if list(arguments) != [str(database)] or _may_write(database):
            return None  # connect as ever
        return _reading(database, **options)

    event.listen(Engine, "do_connect", connect)


def _reading(database: Path, **options: Any) -> sqlite3.Connection:
    """Connect to a database that may not be written; the places of a moved store are mended in it.

    That is done by views which hide the tables. Raises `sqlite3.Error` and `TrackingError`.
    """
    log, index = (database.with_name(database.name + ending) for ending in ("-wal", "-shm"))
    # Without a write-ahead log nobody writes elsewhere, and SQLite could not make one to read.
    written = log.exists() and (index.exists() or log.stat().st_size > 0)
    mode = "mode=ro" if written else "immutable=1"
    address = f"file:{quote(str(database))}?{mode}"
    connection: sqlite3.Connection = sqlite3.connect(address, uri=True, **options)
    try:
        old = _moved_from(connection, database.parent)
        if old is not None:
            _define_place(connection, old, database.parent)
            for table, places in PLACES.items():
                columns = connection.execute(f"SELECT name FROM pragma_table_info('{table}')")
                shown = [f"place({x}) AS {x}" if x in places else f'"{x}"' for (x,) in columns]
                connection.execute(
                    f"CREATE TEMP VIEW {table} AS SELECT {', '.join(shown)} FROM main.{table}"
                )
    except BaseException:
        connection.close()
        raise
    return connection
