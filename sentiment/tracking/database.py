"""Make the store's SQLite file, mend its places after a move, and read it where none may write.

MLflow keeps absolute places of artifacts in the database. When a store was moved or copied, they
are mended as soon as it is opened; where it may not be written, they are mended as they are read.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from filelock import FileLock

from sentiment.errors import TrackingError

PATIENCE = 60.0  # seconds to wait for a writer before the places of a moved store are mended
PLACES = {  # the columns of MLflow's tables that hold absolute places of artifacts
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["source", "storage_location"],
}

_log = logging.getLogger(__name__)


def sqlite_url(file: Path) -> str:
    """Return the SQLAlchemy URL of a SQLite file. Raises `TrackingError` where there is none."""
    if "?" in str(file):
        raise TrackingError(
            f"{file}: no database can be there, since a URL ends at the '?'; rename that folder, "
            "or name another"
        )
    return f"sqlite:///{file}"


def make_folder(folder: Path) -> None:
    """Make a folder of the store. Raises `TrackingError` where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrackingError(
            f"{folder.parent}: cannot keep the store there ({error.strerror}); name another with "
            "--store"
        ) from None


def create_database(home: Path) -> None:
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
            sqlite_url(making), place_of(home / "mlruns")
        ).engine.dispose()
        with closing(sqlite3.connect(making)) as connection:
            # readers and a writer do not block one another; the setting stays with the file
            connection.execute("PRAGMA journal_mode=WAL")
        making.replace(database)


def mend_places(home: Path) -> None:
    """Make a store that was moved or copied to `home` name its own artifacts, all in one step."""
    with closing(sqlite3.connect(home / "mlflow.db", PATIENCE, isolation_level=None)) as connection:
        if _moved_from(connection, home) is None:
            return
        make_folder(home / "mlruns")
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
        return place_of(home / path.relative_to(old))

    connection.create_function("place", 1, place, deterministic=True)


def _local_path(place: str) -> Path | None:
    """Return the file or folder of a place as MLflow finds it; None for another kind of place."""
    parts = urlsplit(place)
    if parts.scheme not in ("", "file"):
        return None
    return Path(url2pathname(parts.path if parts.scheme else place))


def place_of(path: Path) -> str:
    """Return a path as MLflow takes it: %41 in it would become A."""
    return str(path).replace("%", "%25")


def may_write(database: Path) -> bool:
    """Return whether this process may write the database."""
    # beside the database SQLite keeps its journal
    return os.access(database, os.W_OK) and os.access(database.parent, os.W_OK)


@cache
def only_read(database: Path) -> None:
    """Let MLflow's connections to this database be such that never write."""
    from sqlalchemy import Engine, event

    def connect(dialect: Any, _: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
        if list(arguments) != [str(database)] or may_write(database):
            return None  # connect as ever
        return open_to_read(database, **options)

    event.listen(Engine, "do_connect", connect)


def open_to_read(database: Path, **options: Any) -> sqlite3.Connection:
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
