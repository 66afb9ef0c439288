"""Open the database of the prediction log: its URL without secrets, its file, its tables.

Texts are people's: a SQLite file may be read and written by its owner alone. A password is never
shown.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from sentiment.errors import PredictionLogError
from sentiment.masking import LOG_URL, line, remember

PATIENCE = 5  # whole seconds to wait for another writer of the file, or for a server to answer
CREATION_LOCK = 7_365_011  # a number of our own among PostgreSQL's advisory locks
OWNER_ONLY = 0o600  # permissions of the file
# An option of the URL that is a secret, such as `password` or `sslpassword`
SECRET_OPTION = re.compile("pass|key|token|secret", re.IGNORECASE)
DRIVERS = {  # scheme of the URL → what is used for it
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
EXPECTED = "expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
_log = logging.getLogger(__name__)


def public_log_url(url: str) -> str:
    """Return the URL without its secrets, as it may be kept elsewhere, such as in Prefect.

    A process whose `SENTIMENT_LOG_URL` is the whole URL opens the log by either. Raises
    `PredictionLogError` for a URL that cannot be used.
    """
    return _public(parsed_url(url)).render_as_string()


def open_engine(url: str, tables: sa.MetaData) -> sa.Engine:
    """Open the database, and make the tables that are missing; several processes may do so at once.

    A SQLite file is put into WAL mode, in which readers and a writer do not block one another. No
    connection is kept, so a process may fork before it uses the engine. Raises `PredictionLogError`
    for a URL that cannot be used, a database that does not answer or cannot be written, and a table
    of one of our names with other columns, which is left as it is.
    """
    parsed = parsed_url(url)
    if parsed.get_backend_name() == "sqlite":
        # the pool lends a connection to one thread after another
        options: dict[str, Any] = {"timeout": PATIENCE, "check_same_thread": False}
        folder = Path(parsed.database or "").parent
        if not folder.is_dir():
            raise PredictionLogError(
                f"{shown(parsed)}: there is no folder {folder}; create it first"
            )
    else:
        options = {"connect_timeout": PATIENCE}
        # it warns of each statement that fails in a batch, which is raised as well
        logging.getLogger("psycopg").setLevel(logging.ERROR)
    try:
        engine = sa.create_engine(parsed, connect_args=options, pool_pre_ping=True)
    except ImportError as error:
        raise PredictionLogError(
            f"{shown(parsed)}: the driver is not installed ({line(error)}); pip install -r "
            "requirements.txt"
        ) from None
    if engine.dialect.name == "sqlite":
        # The file is synced when the WAL is folded into it, not at each commit. What was committed
        # outlives the process all the same; a power cut may take the last seconds.
        # Deleted texts are overwritten, not only forgotten.
        pragmas = "PRAGMA synchronous=NORMAL; PRAGMA secure_delete=ON"
        sa.event.listen(engine, "connect", lambda connection, _: connection.executescript(pragmas))
    try:
        with _alone(engine) as connection:
            _make_tables(connection, tables)
    except (SQLAlchemyError, OSError) as error:
        raise PredictionLogError(
            f"{shown(parsed)}: the prediction log cannot be opened ({reason(error)}); start, "
            "unlock or unprotect that database, or name another"
        ) from None
    finally:
        engine.dispose()
    return engine


def _kept(engine: sa.Engine) -> sa.Engine:
    """Make the file if it is missing, and forbid it to all but its owner, with its journals.

    SQLite gives a journal that it makes the permissions of the database. Where the file belongs to
    somebody else, that is said.
    """
    file = Path(engine.url.database or "").resolve()  # SQLite puts journals beside a link's target
    try:
        with suppress(FileExistsError):
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWNER_ONLY))
        for ending in ("", "-wal", "-shm", "-journal"):
            part = file.with_name(file.name + ending)
            with suppress(FileNotFoundError):
                if part.stat().st_mode & 0o077:
                    part.chmod(OWNER_ONLY)
    except OSError as error:  # that it cannot be opened is said when it is
        if file.exists():
            _log.warning(
                "%s holds customers' texts, and others may read it: chmod 600 fails (%s)",
                file,
                error.strerror,
            )
    return engine


def parsed_url(url: str) -> sa.URL:
    """Return the URL with the driver that is used for it. What cannot be read is not shown.

    For the public form of `SENTIMENT_LOG_URL` it is that, with its secrets.
    """
    remember(url)
    parsed, named = _read(url), os.environ.get(LOG_URL)
    if named and named != url:
        with suppress(PredictionLogError):
            whole = _read(named)
            if _public(whole) == parsed:
                return whole
    return parsed


def _public(url: sa.URL) -> sa.URL:
    options = {name: url.query[name] for name in url.query if not SECRET_OPTION.search(name)}
    return url.set(query=options)._replace(password=None)


def _read(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        raise PredictionLogError(f"the log's URL cannot be read; {EXPECTED}") from None
    driver = DRIVERS.get(parsed.drivername)
    if driver is None:
        raise PredictionLogError(
            f"{parsed.drivername}: the log cannot be kept in such a database; {EXPECTED}"
        )
    # the end of a password would be taken for the host or the database, and shown
    if parsed.host and "@" in f"{parsed.host}{parsed.database}":
        raise PredictionLogError("the log's URL has two @; write the one in a password as %40")
    elsewhere = parsed.host or parsed.username or parsed.database in (None, "", ":memory:")
    if driver == DRIVERS["sqlite"] and elsewhere:
        raise PredictionLogError(f"the log's URL names no SQLite file; {EXPECTED}")
    return parsed.set(drivername=driver)


@contextmanager
def _alone(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Begin a transaction in which no other process opens the log."""
    if engine.dialect.name == "sqlite":
        lock = FileLock(f"{engine.url.database}.lock", timeout=PATIENCE)
        with lock, _kept(engine).begin() as connection:
            # stays with the file; two processes that switch at once would fail without waiting
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            # the driver begins no transaction for CREATE TABLE; without one a kill could leave half
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
    else:
        with engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(CREATION_LOCK)))
            yield connection


def _make_tables(connection: sa.Connection, tables: sa.MetaData) -> None:
    found = sa.inspect(connection)
    for table in tables.sorted_tables:
        if not found.has_table(table.name):
            continue
        there = {str(column["name"]) for column in found.get_columns(table.name)}
        ours = set(table.columns.keys())
        if there != ours:
            missing, unexpected = sorted(ours - there), sorted(there - ours)
            raise PredictionLogError(
                f"{shown(connection.engine.url)}: the table {table.name} has another schema "
                f"(missing: {', '.join(missing) or 'none'}; unexpected: "
                f"{', '.join(unexpected) or 'none'}); rename or drop it, or name another database"
            )
    tables.create_all(connection)


def shown(url: sa.URL) -> str:
    """Return the URL as it may be shown: without the password and options that may hold one."""
    return url.set(query={}).render_as_string(hide_password=True)


def reason(error: Exception) -> str:
    """Return what the database itself said, in one line."""
    return line(error.orig if isinstance(error, DBAPIError) else error)
