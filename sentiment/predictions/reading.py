"""Drift log: which rows of the prediction log are compared, and what the log has besides.

Only looked at: a log that is not there is not made.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from sentiment.errors import EmptyWindowError, WindowError
from sentiment.predictions.tables import PREDICTIONS, no_answer, open_database, shown

ARMS = ("champion", "challenger")  # a shadow answers nobody
SERVE = "let serve_sentiment.py answer reviews first, or compare a file with --data"


@contextmanager
def existing_log(url: str) -> Iterator[sa.Engine]:
    """The database of the log, which must be there. Raises `WindowError`, `PredictionLogError`."""
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        parsed = None  # said by `open_database`, without showing what cannot be read
    if parsed is not None and parsed.get_backend_name() == "sqlite" and parsed.database:
        file = Path(parsed.database).resolve()
        if not _has_log(file):
            raise WindowError(f"{shown(parsed)}: there is no prediction log; {SERVE}")
    engine = open_database(url)
    try:
        yield engine
    except SQLAlchemyError as error:
        raise no_answer(engine, error) from None
    finally:
        engine.dispose()


def _has_log(file: Path) -> bool:
    if not file.is_file():
        return False
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        try:
            query = "SELECT count(*) FROM sqlite_master WHERE name = ?"
            return bool(connection.execute(query, (PREDICTIONS.name,)).fetchone()[0])
        except sqlite3.Error:
            return True  # what is wrong with it, `open_database` says


def begin_of(
    engine: sa.Engine, version: str, since: float | None, newest: int | None
) -> tuple[float | None, int]:
    """From when to read, in seconds since 1970, and how many rows of that very time to leave out.

    So that of the version's answers since `since` only the `newest` are left.
    """
    if newest is None:
        return since, 0
    table, order = PREDICTIONS.c, (PREDICTIONS.c.at.desc(), PREDICTIONS.c.id.desc())
    answers = (table.version == version) & table.arm.in_(ARMS)
    oldest_wanted = sa.select(table.at, table.id).where(answers).order_by(*order).offset(newest - 1)
    with engine.connect() as connection:
        first = connection.execute(oldest_wanted.limit(1)).first()
        if first is None or (since is not None and first.at < since):
            return since, 0
        older = answers & (table.at == first.at) & (table.id < first.id)
        skip = connection.execute(sa.select(sa.func.count()).where(older)).scalar_one()
    return float(first.at), int(skip)


def others(engine: sa.Engine, version: str, since: float | None) -> list[str]:
    """What the log has of the same time that is not compared, in a sentence."""
    table = PREDICTIONS.c
    counted = sa.select(table.version, table.arm, sa.func.count().label("rows"))
    if since is not None:
        counted = counted.where(table.at >= since)
    with engine.connect() as connection:
        found = connection.execute(counted.group_by(table.version, table.arm)).all()
    left: Counter[str] = Counter()
    for row in found:
        if row.arm not in ARMS:
            left["of a shadow"] += row.rows
        elif row.version != version:
            left[f"of version {row.version}"] += row.rows
    if not left:
        return []
    return ["left out: answers " + ", ".join(f"{name} ({left[name]:,})" for name in sorted(left))]


def nothing(engine: sa.Engine, version: str, since: float | None) -> EmptyWindowError:
    """Say that the log has no answer of this version and time, and what it has instead."""
    table = PREDICTIONS.c
    own = sa.select(sa.func.max(table.at)).where(table.version == version, table.arm.in_(ARMS))
    with engine.connect() as connection:
        last = connection.execute(own).scalar()
        rows = connection.execute(sa.select(sa.func.count()).select_from(PREDICTIONS)).scalar_one()
    if last is not None and since is not None:
        asked, newest = (
            datetime.fromtimestamp(at).astimezone().isoformat(" ", "minutes")
            for at in (since, last)
        )
        return EmptyWindowError(
            f"no answers of version {version} since {asked}, the newest is of {newest}; name an "
            "earlier --since"
        )
    return EmptyWindowError(
        f"{shown(engine.url)}: no answers of version {version} among the {rows:,} predictions of "
        f"the log; {SERVE}"
    )
