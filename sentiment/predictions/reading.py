"""Find the rows of the prediction log that drift and training use, and say what else it has.

The log is only read. One that does not exist is not created.
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

from sentiment.errors import WindowError
from sentiment.predictions.tables import PREDICTIONS, no_answer, open_database, shown

ARMS = ("champion", "challenger")  # a shadow's answers are shown to nobody
SERVE = "start `python -m sentiment serve` and let it answer reviews, or give a file with --data"


@contextmanager
def existing_log(url: str) -> Iterator[sa.Engine]:
    """Open the database of a log that exists. Raises `WindowError` and `PredictionLogError`."""
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        parsed = None  # `open_database` reports it, without showing what may be a password
    if parsed is not None and parsed.get_backend_name() == "sqlite" and parsed.database:
        file = Path(parsed.database).resolve()
        if not _has_log(file):
            raise WindowError(f"{shown(parsed)}: no prediction log there; {SERVE}")
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
            return True  # `open_database` reports what is wrong


def oldest_wanted(
    engine: sa.Engine, version: str, since: float | None, newest: int | None
) -> tuple[float | None, int]:
    """Return from when to read, to get the `newest` of a version's answers since `since`.

    Times are in seconds since 1970. The second number is how many rows of that very time to skip.
    """
    if newest is None:
        return since, 0
    table, order = PREDICTIONS.c, (PREDICTIONS.c.at.desc(), PREDICTIONS.c.id.desc())
    answers = (table.version == version) & table.arm.in_(ARMS)
    nth_newest = sa.select(table.at, table.id).where(answers).order_by(*order).offset(newest - 1)
    with engine.connect() as connection:
        first = connection.execute(nth_newest.limit(1)).first()
        if first is None or (since is not None and first.at < since):
            return since, 0
        older = answers & (table.at == first.at) & (table.id < first.id)
        skip = connection.execute(sa.select(sa.func.count()).where(older)).scalar_one()
    return float(first.at), int(skip)


def left_out(engine: sa.Engine, version: str, since: float | None) -> list[str]:
    """Return a sentence about the answers of the same time that are not used; empty without any."""
    table = PREDICTIONS.c
    counted = sa.select(table.version, table.arm, sa.func.count().label("rows"))
    if since is not None:
        counted = counted.where(table.at >= since)
    with engine.connect() as connection:
        rows = connection.execute(counted.group_by(table.version, table.arm)).all()
    left: Counter[str] = Counter()
    for row in rows:
        if row.arm not in ARMS:
            left["of a shadow"] += row.rows
        elif row.version != version:
            left[f"of version {row.version}"] += row.rows
    if not left:
        return []
    return ["left out: answers " + ", ".join(f"{name} ({left[name]:,})" for name in sorted(left))]


def no_answers(engine: sa.Engine, version: str, since: float | None) -> WindowError:
    """Return the error that says what the log has instead of answers of this version and time."""
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
        return WindowError(
            f"no answers of version {version} since {asked}, the newest is of {newest}; give an "
            "earlier --since"
        )
    return WindowError(
        f"{shown(engine.url)}: no answers of version {version} among the {rows:,} predictions of "
        f"the log; {SERVE}"
    )
