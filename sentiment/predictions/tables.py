"""Open the database of the prediction log by its URL, and define the two tables in it.

It is SQLite or PostgreSQL: `sqlite:///FILE` or `postgresql+psycopg://USER:PASSWORD@HOST/NAME`. A
password is never shown.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from sentiment.errors import PredictionLogError

DRIVERS = {  # scheme of the URL → what is used for it
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
EXPECTED = "expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
PATIENCE = 5  # whole seconds to wait for another writer of the file, or for a server to answer
CREATION_LOCK = 7_365_011  # a number of our own among PostgreSQL's advisory locks
REASON = 200  # characters of a database's own message that go into ours

METADATA = sa.MetaData()
PREDICTIONS = sa.Table(
    "sentiment_predictions",
    METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("arm", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("experiment", sa.Text, nullable=False),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("text_digest", sa.Text, nullable=False),
    sa.Column("text", sa.Text),
    sa.Column("characters", sa.Integer, nullable=False),
    sa.Column("words", sa.Integer, nullable=False),
    sa.Column("known_words", sa.Integer, nullable=False),
    sa.Column("probability", sa.Double, nullable=False),
    sa.Column("label", sa.Integer),
    sa.Column("milliseconds", sa.Double, nullable=False),
    sa.UniqueConstraint("request_id", "position", "arm"),
    sa.Index("sentiment_predictions_at", "at"),
    sa.Index("sentiment_predictions_version_at", "version", "at"),
)
FEEDBACK = sa.Table(
    "sentiment_feedback",
    METADATA,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("label", sa.Integer, nullable=False),
    sa.Column("rating", sa.Integer),
    sa.Column("at", sa.Double, nullable=False),
)


def open_database(url: str) -> sa.Engine:
    """Open the database, and make the tables that are missing; several processes may do so at once.

    A SQLite file is put into WAL mode, in which readers and a writer do not block one another. No
    connection is kept, so a process may fork before it uses the database. Raises
    `PredictionLogError` for a URL that cannot be used, a database that does not answer or cannot be
    written, and a table of one of our names with other columns, which is left as it is.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        # the pool lends a connection to one thread after another
        options: dict[str, Any] = {"timeout": PATIENCE, "check_same_thread": False}
        folder = Path(parsed.database or "").parent
        if not folder.is_dir():
            raise PredictionLogError(f"{shown(parsed)}: there is no folder {folder}; make it first")
    else:
        options = {"connect_timeout": PATIENCE}
        # it warns of each statement that fails in a batch, which is raised as well
        logging.getLogger("psycopg").setLevel(logging.ERROR)
    engine = sa.create_engine(parsed, connect_args=options, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _sync_at_checkpoints)
    try:
        with _alone(engine) as connection:
            _make_tables(connection)
    except (SQLAlchemyError, OSError) as error:
        raise PredictionLogError(
            f"{shown(parsed)}: the prediction log cannot be opened ({_reason(error)}); start, "
            "unlock or unprotect that database, or name another"
        ) from None
    finally:
        engine.dispose()
    return engine


def shown(url: sa.URL) -> str:
    """Return the URL as it may be shown: without the password and options that may hold one."""
    return url.set(query={}).render_as_string(hide_password=True)


def no_answer(engine: sa.Engine, error: SQLAlchemyError) -> PredictionLogError:
    """Return the error to raise when the database of an opened log does not answer."""
    return PredictionLogError(
        f"{shown(engine.url)}: the prediction log does not answer ({_reason(error)}); start or "
        "unlock that database"
    )


def _reason(error: Exception) -> str:
    """Return what the database itself said, in one line."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(said).split())[:REASON]


def _parsed(url: str) -> sa.URL:
    """Return the URL with the driver that is used for it. What cannot be read is not shown."""
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        raise PredictionLogError(f"the log's URL cannot be read; {EXPECTED}") from None
    driver = DRIVERS.get(parsed.drivername)
    if driver is None:
        raise PredictionLogError(
            f"{parsed.drivername}: the log cannot be kept in such a database; {EXPECTED}"
        )
    if "@" in (parsed.host or ""):  # the end of a password would be taken for the host, and shown
        raise PredictionLogError("the log's URL has two @; write the one in a password as %40")
    elsewhere = parsed.host or parsed.username or parsed.database in (None, "", ":memory:")
    if driver == DRIVERS["sqlite"] and elsewhere:
        raise PredictionLogError(f"the log's URL names no SQLite file; {EXPECTED}")
    return parsed.set(drivername=driver)


def _sync_at_checkpoints(connection: Any, _record: Any) -> None:
    """Sync the file when the WAL is folded into it, not at each commit.

    What was committed outlives the process all the same; a power cut may take the last seconds.
    """
    connection.execute("PRAGMA synchronous=NORMAL")


@contextmanager
def _alone(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Begin a transaction in which no other process opens the log."""
    if engine.dialect.name == "sqlite":
        lock = FileLock(f"{engine.url.database}.lock", timeout=PATIENCE)
        with lock, engine.begin() as connection:
            # stays with the file; two processes that switch at once would fail without waiting
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            # the driver begins no transaction for CREATE TABLE; without one a kill could leave half
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
    else:
        with engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(CREATION_LOCK)))
            yield connection


def _make_tables(connection: sa.Connection) -> None:
    found = sa.inspect(connection)
    for table in METADATA.sorted_tables:
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
    METADATA.create_all(connection)
