"""Keep served predictions, later true labels and comparisons of versions in SQLite or PostgreSQL.

    log = open_log("sqlite:///predictions.db")
    log.write(rows)
    for frame in log.read(since=0.0): ...

The URL is `sqlite:///FILE` or `postgresql+psycopg://USER:PASSWORD@HOST/NAME`; a password is never
shown. Texts are people's: a SQLite file may be read and written by its owner alone. There is one
row for each review and arm, and one for each A/B test or shadow comparison. What was committed
survives the end of the process, however it ends. `writer.LogWriter` writes without making an answer
wait.
"""

from __future__ import annotations

import math
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from sentiment.errors import PredictionLogError, WindowError
from sentiment.predictions.database import open_engine, parsed_url, reason, shown
from sentiment.tracking.database import sqlite_url

if TYPE_CHECKING:
    import pandas as pd

PORTION = 5_000  # rows retired in one transaction, which takes some hundredths of a second
PAUSE = 0.05  # seconds between two portions, so that whoever waits to write gets a turn
PARTITION = 500  # rows turned into columns at a time: many at once would slow Python's GC
# PostgreSQL cannot hold a null byte, and neither database half a surrogate pair.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
LARGEST = 2**31 - 1  # of PostgreSQL's integer
ARMS = ("champion", "challenger")  # a shadow's answers are shown to nobody
# Where a review came from; that a shadow answered it is told by the arm
SOURCES = {"api": "to the API", "page": "to the page"}
LABELLED = "labelled"  # from anywhere, and somebody has said what it really was
# What drift looks at. A file that somebody uploads to the page says nothing of the reviews that
# customers write: one upload of the training file filled the window of the drift check. A review
# that somebody read and judged is another matter, wherever it was read.
COUNTED_SOURCES = ("api", LABELLED)
AB, SHADOW = "ab", "shadow"  # kinds of comparison
# A server that is down for some hours is repaired and goes on with its A/B test. One that nobody
# has missed for a day will not come back, and must not keep new versions out for ever.
ABANDONED_AFTER = 24 * 3600.0  # seconds since a comparison was last seen
SERVE = "start `python -m sentiment serve` and let it answer reviews, or give a file with --data"


@dataclass(slots=True)  # not frozen: that takes five times as long to make, for every review
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
    source: str = "api"  # one of SOURCES


@dataclass(frozen=True)
class LoggedComparison:
    """One A/B test or shadow comparison; times are in seconds since 1970.

    The first five fields are its key: at most one comparison with the same ones runs at a time.
    """

    experiment: str
    kind: str  # AB or SHADOW
    champion: str  # versions
    challenger: str
    share: float  # of the users that the challenger answers, 0–1
    began: float
    seen: float  # when a server last said that it runs
    ended: float | None = None  # None while it runs
    why: str = ""  # it ended, in words
    verdict: str = ""  # its sentence at the end

    @property
    def key(self) -> tuple[str, str, str, str, float]:
        """What tells it from others that run."""
        return self.experiment, self.kind, self.champion, self.challenger, self.share


def _string(value: str) -> str:
    """Return the string with U+FFFD, the replacement character, for what cannot be stored."""
    if value.isascii() and "\0" not in value:  # nearly always, and ten times as fast
        return value
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)


def _integer(value: int) -> int:
    number = int(value)  # SQLite would not take one of NumPy's
    if abs(number) > LARGEST:
        raise ValueError(f"expected a whole number of at most {LARGEST}, found {value}")
    return number


def _number(value: float) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, found {value}")
    return number


# By type of a field: its column, what converts a value for it, and its type in pandas
KINDS: dict[str, tuple[type, Callable[[Any], object], str]] = {
    "str": (sa.Text, _string, "str"),
    "int": (sa.Integer, _integer, "int64"),
    "float": (sa.Double, _number, "float64"),
}
FIELDS: dict[type, dict[str, tuple[type, Callable[[Any], object], str]]] = {
    row: {field.name: KINDS[str(field.type).removesuffix(" | None")] for field in fields(row)}
    for row in (LoggedPrediction, LoggedComparison)
}
DTYPES = {name: kind[2] for name, kind in FIELDS[LoggedPrediction].items()} | {
    "label": "Int64",
    "true_label": "Int64",
}


def _columns(row: type) -> list[sa.Column[Any]]:
    """Return a column for each field of the dataclass; it may be null where the field may be."""
    optional = {field.name for field in fields(row) if "None" in str(field.type)}
    return [
        sa.Column(name, kind[0], nullable=name in optional) for name, kind in FIELDS[row].items()
    ]


METADATA = sa.MetaData()
PREDICTIONS = sa.Table(
    "sentiment_predictions",
    METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    *_columns(LoggedPrediction),
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
COMPARISONS = sa.Table(
    "sentiment_comparisons",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    *_columns(LoggedComparison),
)
COMPARISON_KEY = [COMPARISONS.c[name] for name in list(FIELDS[LoggedComparison])[:5]]
RUNNING = COMPARISONS.c.ended.is_(None)
sa.Index(  # several workers begin the same comparison, and only one row is made
    "sentiment_comparisons_running",
    *COMPARISON_KEY,
    unique=True,
    sqlite_where=RUNNING,
    postgresql_where=RUNNING,
)
OF_ITS_REVIEW = (FEEDBACK.c.request_id == PREDICTIONS.c.request_id) & (
    FEEDBACK.c.position == PREDICTIONS.c.position
)


def _of(sources: Sequence[str]) -> sa.ColumnElement[bool]:
    """Return the condition that an answer is of these sources."""
    named = PREDICTIONS.c.source.in_([name for name in sources if name != LABELLED])
    if LABELLED not in sources:
        return named
    given = FEEDBACK.alias()
    its = (given.c[name] == PREDICTIONS.c[name] for name in ("request_id", "position"))
    return named | sa.exists().where(*its).correlate(PREDICTIONS)


def default_log_url(folder: Path) -> str:
    """Return the URL of the log where none is named: a SQLite file in the store's folder.

    Raises `TrackingError` where no database can be there.
    """
    return sqlite_url(folder / "predictions.db")


def open_log(url: str) -> PredictionLog:
    """Open the log, and make the tables that are missing. Raises as `open_engine` does."""
    return PredictionLog(open_engine(url, METADATA))


@contextmanager
def existing_log(url: str) -> Iterator[PredictionLog]:
    """Open a log that exists, to read it. Raises `WindowError` and `PredictionLogError`."""
    parsed = parsed_url(url)
    if parsed.get_backend_name() == "sqlite":
        file = Path(parsed.database or "").resolve()
        if not _has_log(file):
            raise WindowError(f"{shown(parsed)}: no prediction log there; {SERVE}")
    with closing(open_log(url)) as log:
        yield log


def running_comparison(url: str, now: float) -> LoggedComparison | None:
    """Return the A/B test that runs, if any, and gives the challenger a share of the answers.

    One that no server has seen for `ABANDONED_AFTER` does not run any more. `now` is in seconds
    since 1970. A log that does not exist has none, and is not made. Raises `PredictionLogError`.
    """
    try:
        with existing_log(url) as log:
            known = log.comparisons()
    except WindowError:
        return None
    for one in known:
        current = one.ended is None and one.seen > now - ABANDONED_AFTER
        if current and one.kind == AB and one.share > 0:
            return one
    return None


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
        # The one statement that is executed for every review goes to the driver as it is: with
        # SQLAlchemy laying out the values, each row took twice the time.
        add_rows: Any = self._insert(PREDICTIONS)
        add_rows = add_rows.on_conflict_do_nothing()
        names = list(FIELDS[LoggedPrediction])
        compiled = add_rows.compile(dialect=engine.dialect, column_keys=names)
        self._add_rows = str(compiled)
        self._in_order: Callable[[dict[str, object]], Any] = (
            itemgetter(*compiled.positiontup) if compiled.positiontup else lambda values: values
        )

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
            connection.exec_driver_sql(self._add_rows, [self._in_order(each) for each in values])

    def add_feedback(
        self, request_id: str, position: int, label: int, rating: int | None, at: float
    ) -> bool:
        """Keep the true label of one review, in place of an earlier one. False: no such prediction.

        One that was given before the label that is kept, by `at`, changes nothing and is True.
        `label` is 0 or 1, `rating` 1–5 or None, `at` in seconds since 1970; else `ValueError`.
        """
        if label not in (0, 1):
            raise ValueError(f"label: expected 0 or 1, found {label}")
        if rating is not None and rating not in range(1, 6):
            raise ValueError(f"rating: expected 1 to 5, or none, found {rating}")
        key = {"request_id": _string(request_id), "position": _integer(position)}
        values = {**key, "label": int(label), "rating": rating, "at": _number(at)}
        known = sa.exists().where(*(PREDICTIONS.c[name] == key[name] for name in key))
        # one statement, so the prediction cannot be retired between the look and the writing
        row = (sa.literal(value, FEEDBACK.c[name].type) for name, value in values.items())
        insert = self._insert(FEEDBACK).from_select(list(values), sa.select(*row).where(known))
        newer, kept = insert.excluded, FEEDBACK.c
        insert = insert.on_conflict_do_update(
            index_elements=list(key),
            set_={
                name: sa.case((newer.at >= kept.at, newer[name]), else_=kept[name])
                for name in ("label", "rating", "at")
            },
        ).returning(FEEDBACK.c.position)
        with self._transaction() as connection:
            return connection.execute(insert).first() is not None

    def has_request(self, request_id: str) -> bool:
        """Return whether any review of the request is in the log; its rows come all at once."""
        known = sa.exists().where(PREDICTIONS.c.request_id == _string(request_id))
        with self._transaction() as connection:
            return bool(connection.execute(sa.select(known)).scalar_one())

    def read(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        version: str | None = None,
        experiment: str | None = None,
        arms: Sequence[str] | None = None,
        sources: Sequence[str] | None = None,
        chunk: int = 50_000,
    ) -> Iterator[pd.DataFrame]:
        """Read the rows that fit all conditions, oldest first, in frames of at most `chunk` rows.

        `since` is included, `until` is not; both are in seconds since 1970. `sources` are some of
        `SOURCES`, and `LABELLED` for all that have feedback. The columns are those of
        `LoggedPrediction` and `true_label`, the label from feedback. `label`, `true_label` (both
        Int64) and `text` may be missing. Without rows there is no frame.

        Only one frame is in memory, and no transaction stays open between two. Each row that is
        there at the start comes once, unless it is retired meanwhile.
        """
        # A page starts after the last row of the one before; OFFSET would read all of them again.
        order = PREDICTIONS.c.at, PREDICTIONS.c.id
        page = sa.select(*PREDICTIONS.c, FEEDBACK.c.label.label("true_label"))
        page = page.join_from(PREDICTIONS, FEEDBACK, OF_ITS_REVIEW, isouter=True)
        page = page.order_by(*order).limit(chunk)
        for name, value in {"version": version, "experiment": experiment}.items():
            if value is not None:
                page = page.where(PREDICTIONS.c[name] == _string(value))
        if arms is not None:
            page = page.where(PREDICTIONS.c.arm.in_(arms))
        if sources is not None:
            page = page.where(_of(sources))
        if until is not None:
            page = page.where(PREDICTIONS.c.at < until)
        next_page = page if since is None else page.where(PREDICTIONS.c.at >= since)
        while True:
            with self._transaction() as connection:
                frame, last = _frame(connection.execute(next_page))
            if last:
                yield frame
            if len(frame) < chunk:
                return
            next_page = page.where(sa.tuple_(*order) > last)

    def labelled(self) -> list[tuple[str | None, int, int | None]]:
        """Return text, true label and rating of each review that has feedback, oldest first.

        Both arms of an A/B test count and a shadow's rows do not, so each review comes once.
        """
        query = (
            sa.select(PREDICTIONS.c.text, FEEDBACK.c.label, FEEDBACK.c.rating)
            .join_from(FEEDBACK, PREDICTIONS, OF_ITS_REVIEW)
            .where(PREDICTIONS.c.arm.in_(ARMS))
            .order_by(PREDICTIONS.c.at, PREDICTIONS.c.id)
        )
        with self._transaction() as connection:
            return [(row.text, row.label, row.rating) for row in connection.execute(query)]

    def start_of_newest(
        self,
        version: str,
        since: float | None,
        newest: int | None,
        sources: Sequence[str] = COUNTED_SOURCES,
    ) -> tuple[float | None, int]:
        """Return from when to read, to get the `newest` of a version's answers since `since`.

        Only answers to `sources` count. Times are in seconds since 1970. The second number is how
        many rows of that very time to skip.
        """
        if newest is None:
            return since, 0
        table, order = PREDICTIONS.c, (PREDICTIONS.c.at.desc(), PREDICTIONS.c.id.desc())
        answers = (table.version == version) & table.arm.in_(ARMS) & _of(sources)
        nth = sa.select(table.at, table.id).where(answers).order_by(*order).offset(newest - 1)
        with self._transaction() as connection:
            first = connection.execute(nth.limit(1)).first()
            if first is None or (since is not None and first.at < since):
                return since, 0
            older = answers & (table.at == first.at) & (table.id < first.id)
            skip = connection.execute(sa.select(sa.func.count()).where(older)).scalar_one()
        return float(first.at), int(skip)

    def left_out(
        self, version: str, since: float | None, sources: Sequence[str] = COUNTED_SOURCES
    ) -> list[str]:
        """Return a sentence about the other answers since then; empty without any."""
        table = PREDICTIONS.c
        answers = sa.select(table.version, table.arm, table.source, _of(sources).label("counts"))
        if since is not None:
            answers = answers.where(table.at >= since)
        groups = answers.subquery().c
        counted = sa.select(*groups, sa.func.count().label("rows")).group_by(*groups)
        left: Counter[str] = Counter()
        with self._transaction() as connection:
            for row in connection.execute(counted):
                if row.arm not in ARMS:
                    left["of a shadow"] += row.rows
                elif not row.counts:
                    left[SOURCES[row.source]] += row.rows
                elif row.version != version:
                    left[f"of version {row.version}"] += row.rows
        said = ", ".join(f"{name} ({rows:,})" for name, rows in sorted(left.items()))
        return [f"left out: answers {said}"] if left else []

    def no_answers(
        self, version: str, since: float | None, sources: Sequence[str] = COUNTED_SOURCES
    ) -> WindowError:
        """Return the error that says what there is instead of answers of this version and time."""
        table = PREDICTIONS.c
        answers = (table.version == version) & table.arm.in_(ARMS) & _of(sources)
        own = sa.select(sa.func.max(table.at)).where(answers)
        to = "" if set(sources) == set(SOURCES) else f" {SOURCES[sources[0]]}"
        with self._transaction() as connection:
            last = connection.execute(own).scalar()
        if last is not None and since is not None:
            asked, newest = (
                datetime.fromtimestamp(at).astimezone().isoformat(" ", "minutes")
                for at in (since, last)
            )
            return WindowError(
                f"no answers of version {version}{to} since {asked}, the newest is of {newest}; "
                "give an earlier --since"
            )
        return WindowError(
            f"{shown(self._engine.url)}: no answers of version {version}{to} among the "
            f"{self.counts()['predictions']:,} predictions of the log"
            f"{' (`--source all` counts the others)' if to else ''}; {SERVE}"
        )

    def begin_comparison(self, comparison: LoggedComparison) -> None:
        """Keep that a comparison runs; when it runs already, that it was `seen` now."""
        insert = self._insert(COMPARISONS).on_conflict_do_update(
            index_elements=COMPARISON_KEY,
            index_where=RUNNING,
            set_={"seen": _number(comparison.seen)},
        )
        with self._transaction() as connection:
            connection.execute(insert, _values(comparison))

    def see_comparison(self, comparison: LoggedComparison, at: float) -> bool:
        """Keep that a comparison still ran at that time. False: it has ended, or never begun."""
        return self._update_running(comparison, seen=_number(at))

    def end_comparison(
        self, comparison: LoggedComparison, at: float, why: str, verdict: str
    ) -> bool:
        """Keep that a comparison ended. False: it had ended before, or never begun."""
        return self._update_running(
            comparison, ended=_number(at), why=_string(why), verdict=_string(verdict)
        )

    def _update_running(self, comparison: LoggedComparison, **values: Any) -> bool:
        its = (
            column == value for column, value in zip(COMPARISON_KEY, comparison.key, strict=True)
        )
        with self._transaction() as connection:
            update = sa.update(COMPARISONS).where(RUNNING, *its).values(values)
            return connection.execute(update).rowcount > 0

    def comparisons(self) -> list[LoggedComparison]:
        """Return all comparisons: those that run, then those that ended, the last one first."""
        columns = [COMPARISONS.c[name] for name in FIELDS[LoggedComparison]]
        order = COMPARISONS.c.ended.desc().nulls_first(), COMPARISONS.c.id.desc()
        with self._transaction() as connection:
            rows = connection.execute(sa.select(*columns).order_by(*order))
            return [LoggedComparison(*row) for row in rows]

    def counts(self) -> dict[str, int]:
        """Return the number of rows of `predictions` and of `feedback`."""
        number = sa.select(sa.func.count())
        with self._transaction() as connection:
            return {
                "predictions": connection.execute(number.select_from(PREDICTIONS)).scalar_one(),
                "feedback": connection.execute(number.select_from(FEEDBACK)).scalar_one(),
            }

    def retire(self, older_than: float) -> int:
        """Delete the predictions before `older_than`, and their feedback; return how many.

        `older_than` is in seconds since 1970. Rows go in portions, so a writer waits for one
        portion at most. A SQLite file does not shrink; its free space is used again.
        """
        table, order = PREDICTIONS.c, (PREDICTIONS.c.at, PREDICTIONS.c.id)
        old = sa.select(table.id).where(table.at < older_than).order_by(*order).limit(PORTION)
        delete = sa.delete(PREDICTIONS).where(table.id.in_(sa.select(old.subquery())))
        predictions = delete.returning(table.request_id, table.position)
        feedback = sa.delete(FEEDBACK).where(
            FEEDBACK.c.request_id == sa.bindparam("request"),
            FEEDBACK.c.position == sa.bindparam("at"),
        )
        retired = 0
        while True:
            with self._transaction() as connection:
                # the feedback of just these: another worker may be retiring rows as well
                rows = connection.execute(predictions)
                gone = [{"request": request, "at": at} for request, at in rows]
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
            raise PredictionLogError(
                f"{shown(self._engine.url)}: the prediction log does not answer "
                f"({reason(error)}); start or unlock that database"
            ) from None


def _values(row: LoggedPrediction | LoggedComparison) -> dict[str, object]:
    """Convert the row to what the database takes. Raises `ValueError` with the field's name."""
    values: dict[str, object] = {}
    name = ""
    try:
        for name, (_, convert, _) in FIELDS[type(row)].items():
            value = getattr(row, name)
            values[name] = None if value is None else convert(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"not to be stored: {name}: {error}") from None
    return values


def _frame(result: sa.CursorResult[Any]) -> tuple[pd.DataFrame, tuple[float, int] | None]:
    """Make a frame whose types do not depend on its values; with it time and id of the last row."""
    import numpy as np
    import pandas as pd

    names = list(result.keys())
    columns: list[list[Any]] = [[] for _ in names]
    for rows in result.partitions(PARTITION):
        for column, part in zip(columns, zip(*rows, strict=True), strict=True):
            column.extend(part)
    values = dict(zip(names, columns, strict=True))
    # pandas makes strings of an array of objects five times as fast as of a list
    frame = pd.DataFrame(
        {
            name: pd.Series(np.array(values[name], dtype=object), dtype=dtype)
            for name, dtype in DTYPES.items()
        }
    )
    return frame, (values["at"][-1], values["id"][-1]) if len(frame) else None


def _has_log(file: Path) -> bool:
    if not file.is_file():
        return False
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        try:
            query = "SELECT count(*) FROM sqlite_master WHERE name = ?"
            return bool(connection.execute(query, (PREDICTIONS.name,)).fetchone()[0])
        except sqlite3.Error:
            return True  # `open_log` reports what is wrong
