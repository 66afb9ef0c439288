"""Keep every served prediction, and the true labels that arrive later.

    log = open_log("sqlite:///predictions.db")
    log.write(rows)
    for frame in log.read(since=0.0): ...

There is one row for each review and arm. What was committed survives the end of the process,
however it ends. `writer.LogWriter` writes without making an answer wait.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from sentiment.predictions.tables import FEEDBACK, PREDICTIONS, no_answer, open_database

if TYPE_CHECKING:
    import pandas as pd

PORTION = 5_000  # rows retired in one transaction, which takes some hundredths of a second
PAUSE = 0.05  # seconds between two portions, so that whoever waits to write gets a turn
PARTITION = 500  # rows turned into columns at a time
# PostgreSQL cannot hold a null byte, and neither database half a surrogate pair.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
LARGEST = 2**31 - 1  # of PostgreSQL's integer


@dataclass(frozen=True)
class LoggedPrediction:
    """One review answered by one arm; a row of the log."""

    request_id: str
    position: int  # of the review in its request, from 0
    at: float  # seconds since 1970
    arm: str  # champion, challenger or shadow
    version: str
    experiment: str  # empty without one
    unit: str  # digest of the user's id, or the request id
    text_digest: str
    text: str | None  # None: not to be stored
    characters: int
    words: int
    known_words: int
    probability: float  # of positive, 0–1
    label: int | None  # 1 positive, 0 negative, None: no known words
    milliseconds: float


def default_log_url(folder: Path) -> str:
    """Return the URL of the log where none is named: a SQLite file in the store's folder."""
    return f"sqlite:///{folder / 'predictions.db'}"


def open_log(url: str) -> PredictionLog:
    """Open the log, and make its tables when they are missing. Raises `PredictionLogError`.

    See `tables.open_database`: a process may fork before it uses the log.
    """
    return PredictionLog(open_database(url))


class PredictionLog:
    """An opened log, for any number of threads.

    Every method raises `PredictionLogError` when the database does not answer or refuses. The next
    call tries again with a new connection. In strings, what a database cannot hold (a null byte,
    half a surrogate pair) becomes U+FFFD, the replacement character.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        dialects = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
        self._insert: Callable[[sa.Table], Any] = dialects[engine.dialect.name]

    def write(self, rows: Sequence[LoggedPrediction]) -> None:
        """Add rows, all or none of them; a row that is there already is skipped.

        A row is known by request id, position and arm. So a batch can be written again when nobody
        knows how its first attempt ended. Raises `ValueError` for a value that no attempt could
        store, such as a probability that is not a number.
        """
        if not rows:
            return
        values = [_values(row) for row in rows]
        with self._transaction() as connection:
            connection.execute(self._insert(PREDICTIONS).on_conflict_do_nothing(), values)

    def add_feedback(
        self, request_id: str, position: int, label: int, rating: int | None, at: float
    ) -> bool:
        """Keep the true label of one review, in place of an earlier one. False: no such prediction.

        `label` is 0 or 1, `rating` 1–5 or None, `at` in seconds since 1970. Raises `ValueError` for
        anything else.
        """
        if label not in (0, 1):
            raise ValueError(f"label: expected 0 or 1, found {label}")
        if rating is not None and rating not in range(1, 6):
            raise ValueError(f"rating: expected 1 to 5, or none, found {rating}")
        key = {"request_id": _string(request_id), "position": _integer(position)}
        values = {**key, "label": int(label), "rating": rating, "at": _number(at)}
        known = sa.exists().where(*(PREDICTIONS.c[name] == key[name] for name in key))
        # one statement, so the prediction cannot be retired between the look and the writing
        source = sa.select(
            *(sa.literal(value, FEEDBACK.c[name].type) for name, value in values.items())
        ).where(known)
        insert = self._insert(FEEDBACK).from_select(list(values), source)
        insert = insert.on_conflict_do_update(
            index_elements=list(key),
            set_={name: insert.excluded[name] for name in ("label", "rating", "at")},
        ).returning(FEEDBACK.c.position)
        with self._transaction() as connection:
            return connection.execute(insert).first() is not None

    def read(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        version: str | None = None,
        experiment: str | None = None,
        arms: Sequence[str] | None = None,
        chunk: int = 50_000,
    ) -> Iterator[pd.DataFrame]:
        """Read the rows that fit all conditions, oldest first, in frames of at most `chunk` rows.

        `since` is included, `until` is not; both are in seconds since 1970. The columns are those
        of `LoggedPrediction` and `true_label`, the label from feedback. `label`, `true_label` (both
        Int64) and `text` may be missing. Without rows there is no frame.

        Only one frame is in memory, and no transaction stays open between two. Each row that is
        there at the start comes once, unless it is retired meanwhile.
        """
        # A page starts after the last row of the one before; OFFSET would read all of them again.
        order = PREDICTIONS.c.at, PREDICTIONS.c.id
        joined = PREDICTIONS.outerjoin(
            FEEDBACK,
            (FEEDBACK.c.request_id == PREDICTIONS.c.request_id)
            & (FEEDBACK.c.position == PREDICTIONS.c.position),
        )
        columns = *PREDICTIONS.c, FEEDBACK.c.label.label("true_label")
        page = sa.select(*columns).select_from(joined).order_by(*order).limit(chunk)
        for name, value in {"version": version, "experiment": experiment}.items():
            if value is not None:
                page = page.where(PREDICTIONS.c[name] == _string(value))
        if arms is not None:
            page = page.where(PREDICTIONS.c.arm.in_(arms))
        if until is not None:
            page = page.where(PREDICTIONS.c.at < until)
        next_page = page if since is None else page.where(PREDICTIONS.c.at >= since)
        while True:
            with self._transaction() as connection:
                values = _by_column(connection.execute(next_page))
            at, number = values["at"], values.pop("id")
            if at:
                yield _frame(values)
            if len(at) < chunk:
                return
            next_page = page.where(sa.tuple_(*order) > (at[-1], number[-1]))

    def counts(self) -> dict[str, int]:
        """Return the number of rows of `predictions` and of `feedback`."""
        tables = {"predictions": PREDICTIONS, "feedback": FEEDBACK}
        with self._transaction() as connection:
            return {
                name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
                for name, table in tables.items()
            }

    def retire(self, older_than: float) -> int:
        """Delete the predictions before `older_than`, and their feedback; return how many.

        `older_than` is in seconds since 1970. Rows go in portions, so a writer waits for one
        portion at most. A SQLite file does not shrink; its free space is used again.
        """
        oldest = (
            sa.select(PREDICTIONS.c.id)
            .where(PREDICTIONS.c.at < older_than)
            .order_by(PREDICTIONS.c.at, PREDICTIONS.c.id)
            .limit(PORTION)
            .subquery()
        )
        keys = (PREDICTIONS.c.request_id, PREDICTIONS.c.position)
        predictions = (
            sa.delete(PREDICTIONS).where(PREDICTIONS.c.id.in_(sa.select(oldest))).returning(*keys)
        )
        feedback = sa.delete(FEEDBACK).where(
            FEEDBACK.c.request_id == sa.bindparam("request"),
            FEEDBACK.c.position == sa.bindparam("at"),
        )
        retired = 0
        while True:
            with self._transaction() as connection:
                # the feedback of just these: another worker may be retiring rows as well
                gone = [
                    {"request": request, "at": at}
                    for request, at in connection.execute(predictions)
                ]
                if gone:
                    connection.execute(feedback, gone)
            retired += len(gone)
            if len(gone) < PORTION:
                return retired
            time.sleep(PAUSE)

    def close(self) -> None:
        """Close the connections. A call after this opens new ones."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except (DataError, IntegrityError) as error:
            # the first line only: in the second PostgreSQL shows the row, and with it the review
            raise ValueError(f"not to be stored: {str(error.orig).splitlines()[0]}") from None
        except SQLAlchemyError as error:
            raise no_answer(self._engine, error) from None


def _values(row: LoggedPrediction) -> dict[str, object]:
    """Convert the row to what the database takes. Raises `ValueError` with the field's name."""
    values: dict[str, object] = {}
    for name, (convert, _) in COLUMNS.items():
        value = getattr(row, name)
        try:
            values[name] = None if value is None else convert(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"not to be stored: {name}: {error}") from None
    return values


def _string(value: str) -> str:
    if value.isascii() and "\0" not in value:  # nearly always, and ten times as fast
        return value
    return UNSTORABLE.sub(REPLACEMENT, value)


def _integer(value: int) -> int:
    """Convert to int: SQLite would not take one of NumPy's."""
    number = int(value)
    if abs(number) > LARGEST:
        raise ValueError(f"expected a whole number of at most {LARGEST}, found {value}")
    return number


def _number(value: float) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, found {value}")
    return number


def _by_column(result: sa.CursorResult[Any]) -> dict[str, list[Any]]:
    """Return the values of each column, by few rows at a time: many would slow Python's GC."""
    names = list(result.keys())
    columns: list[list[Any]] = [[] for _ in names]
    for rows in result.partitions(PARTITION):
        for column, values in zip(columns, zip(*rows, strict=True), strict=True):
            column.extend(values)
    return dict(zip(names, columns, strict=True))


def _frame(values: Mapping[str, list[Any]]) -> pd.DataFrame:
    """Make a frame whose types do not depend on its values."""
    import numpy as np
    import pandas as pd

    # pandas makes strings of an array of objects five times as fast as of a list
    return pd.DataFrame(
        {
            name: pd.Series(np.array(values[name], dtype=object), dtype=dtype)
            for name, dtype in DTYPES.items()
        }
    )


# By type of column: what converts a value for it, and its type in pandas.
KINDS: dict[type, tuple[Callable[[Any], object], str]] = {
    sa.Text: (_string, "str"),
    sa.Integer: (_integer, "int64"),
    sa.Double: (_number, "float64"),
}
COLUMNS = {c.name: KINDS[type(c.type)] for c in PREDICTIONS.columns if not c.primary_key}
DTYPES = {name: kind[1] for name, kind in COLUMNS.items()} | dict.fromkeys(
    ("label", "true_label"), "Int64"
)
