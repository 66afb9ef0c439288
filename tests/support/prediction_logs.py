"""Prediction logs for the tests, in SQLite and, where `POSTGRES_URL` is set, in PostgreSQL."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from conftest import PROJECT

from sentiment.predictions.log import ARMS, FEEDBACK, LoggedPrediction, PredictionLog, open_log

POSTGRES_URL = os.environ.get("POSTGRES_URL", "")
KINDS = [
    "sqlite",
    pytest.param(
        "postgresql",
        marks=[
            pytest.mark.xdist_group("postgres"),
            pytest.mark.skipif(not POSTGRES_URL, reason="POSTGRES_URL names no PostgreSQL"),
        ],
    ),
]
ROW = LoggedPrediction(
    request_id="request",
    position=0,
    at=1_700_000_000.125,
    arm="champion",
    version="3",
    experiment="3-vs-4",
    unit="unit",
    text_digest="digest",
    text="not good",
    characters=8,
    words=2,
    known_words=1,
    probability=0.1 + 0.2,
    label=0,
    milliseconds=0.25,
)


@contextmanager
def database_url(kind: str, folder: Path) -> Iterator[str]:
    """A database of its own: a new file, or a new schema that is gone afterwards."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'predictions.db'}"
        return
    schema = f"log_{uuid.uuid4().hex}"
    server = sa.make_url(POSTGRES_URL).set(drivername="postgresql+psycopg")
    options = {"options": f"-csearch_path={schema}", "application_name": schema}
    execute(server.render_as_string(hide_password=False), f"CREATE SCHEMA {schema}")
    url = server.update_query_dict(options).render_as_string(hide_password=False)
    try:
        yield url
    finally:
        cut_connections(url)
        execute(url, f"DROP SCHEMA {schema} CASCADE")


@contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    """A connection that has nothing to do with the log's own."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection


def execute(url: str, *statements: str) -> None:
    with connected(url) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.commit()


def cut_connections(url: str) -> None:
    """End every connection to this PostgreSQL schema but the one that does it."""
    execute(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
        "AND application_name = current_setting('application_name')",
    )


@contextmanager
def held(url: str) -> Iterator[None]:
    """Within the block nobody else can write; reading goes on."""
    with connected(url) as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
        else:
            connection.exec_driver_sql("LOCK TABLE sentiment_predictions IN EXCLUSIVE MODE")
        yield
        connection.rollback()


def rows(count: int, **values: Any) -> list[LoggedPrediction]:
    """Rows of requests 0, 1, 2 and so on, a second apart from 0 on."""
    return [replace(ROW, **{"request_id": str(n), "at": float(n), **values}) for n in range(count)]


def read(log: PredictionLog, **arguments: Any) -> pd.DataFrame:
    return pd.concat([pd.DataFrame({"request_id": []}), *log.read(**arguments)])


def requests(log: PredictionLog, **arguments: Any) -> str:
    """The request ids in the order they are read, one after the other."""
    return "".join(read(log, **arguments).request_id)


def write_arms(
    url: str,
    champion: Sequence[Sequence[int]],
    challenger: Sequence[Sequence[int]],
    *,
    experiment: str = "1-vs-2",
    versions: tuple[str, str] = ("1", "2"),
    at: float = 0.0,
) -> None:
    """One labelled answer a user, so many as the confusion matrices say: rows true, columns given.

    The users come in random order, the same in every test, a second apart from `at` on.
    """
    answers = [
        (arm, version, true, given)
        for arm, version, matrix in zip(ARMS, versions, (champion, challenger), strict=True)
        for true, row in enumerate(matrix)
        for given, count in enumerate(row)
        for _ in range(count)
    ]
    random.Random(0).shuffle(answers)
    rows, labels = [], []
    for number, (arm, version, true, given) in enumerate(answers):
        name, when = f"{experiment} {number}", at + number
        mine = replace(ROW, request_id=name, at=when, unit=name, experiment=experiment)
        rows.append(replace(mine, arm=arm, version=version, label=given))
        key = {"request_id": name, "position": mine.position}
        labels.append({**key, "label": true, "rating": None, "at": when})
    with closing(open_log(url)) as log, connected(url) as connection:
        log.write(rows)
        connection.execute(sa.insert(FEEDBACK), labels)
        connection.commit()


def child(code: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """A process that runs `code` on `ROW`, with `arguments` in `sys.argv[1:]`."""
    start = (
        f"import os, sys, time; sys.path.insert(0, {str(PROJECT)!r})\n"
        "from dataclasses import replace\n"
        "from sentiment.predictions.log import LoggedPrediction, open_log\n"
        f"ROW = {ROW!r}\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start + code, *arguments],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **options,
    )
