"""Read the logged reviews whose true label somebody sent, to train on them.

    feedback = read_feedback("sqlite:///predictions.db")
    labelled = with_feedback(load_reviews("data.csv"), feedback)

A label that came without a rating counts as 5 stars or 1 star: training only asks on which side of
the threshold a rating lies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd
import sqlalchemy as sa

from sentiment.data.reviews import MARKERS, LoadedReviews, data_digest, remove_marker
from sentiment.errors import WindowError
from sentiment.predictions.reading import ARMS, existing_log
from sentiment.predictions.tables import FEEDBACK, PREDICTIONS
from sentiment.tracking.store import Store

STARS = {0: 1, 1: 5}  # label → rating, where none was given


@dataclass(frozen=True)
class Feedback:
    """The labels of a log.

    `frame` has `text` (str, as it was sent) and `rating` (int, 1–5), one row per label, oldest
    review first. `without_text` more labels are of reviews whose text was not stored.
    """

    frame: pd.DataFrame
    without_text: int = 0

    @property
    def labels(self) -> int:
        """Return how many labels the log has."""
        return len(self.frame) + self.without_text


@dataclass(frozen=True)
class LabelledReviews:
    """Everything labelled so far.

    `loaded` is the file with the feedback below it. `digest` is that of both, `file_digest` that of
    the file alone. `added` rows come from the feedback; `note` says what became of its labels.
    """

    loaded: LoadedReviews
    digest: str
    file_digest: str
    added: int = 0
    note: str = ""


def read_feedback(url: str) -> Feedback:
    """Return every label in the log; a log that does not exist is not created and has none.

    In an A/B test both arms count, and a shadow does not, so each review comes once. Raises
    `PredictionLogError`.
    """
    same = (PREDICTIONS.c.request_id == FEEDBACK.c.request_id) & (
        PREDICTIONS.c.position == FEEDBACK.c.position
    )
    query = (
        sa.select(PREDICTIONS.c.text, FEEDBACK.c.label, FEEDBACK.c.rating)
        .join_from(FEEDBACK, PREDICTIONS, same)
        .where(PREDICTIONS.c.arm.in_(ARMS))
        .order_by(PREDICTIONS.c.at, PREDICTIONS.c.id)
    )
    try:
        with existing_log(url) as engine, engine.connect() as connection:
            rows = connection.execute(query).all()
    except WindowError:
        rows = []
    kept = [row for row in rows if row.text is not None]
    frame = pd.DataFrame(
        {
            "text": pd.Series([row.text for row in kept], dtype=str),
            "rating": pd.Series([row.rating or STARS[row.label] for row in kept], dtype="int64"),
        }
    )
    return Feedback(frame, len(rows) - len(kept))


def with_feedback(loaded: LoadedReviews, feedback: Feedback | None = None) -> LabelledReviews:
    """Return the file's reviews with those of the feedback below them.

    Feedback is treated as `load_reviews` treats rows: the scraper's marker is removed, texts that
    are then blank are dropped, and exact duplicates (text and rating) become one row with more
    copies. Without feedback the result is the file.
    """
    file_digest = data_digest(loaded.frame)
    if feedback is None or not feedback.labels:
        return LabelledReviews(loaded, file_digest, file_digest)
    raw = feedback.frame["text"]
    texts = raw.map(remove_marker)
    sent = feedback.frame.assign(text=texts, copies=1)[texts != ""]
    both = pd.concat([loaded.frame, sent], ignore_index=True)
    frame = both.groupby(["text", "rating"], sort=False)["copies"].sum().reset_index()
    added, unusable = len(frame) - len(loaded.frame), feedback.labels - len(sent)
    merged = replace(
        loaded,
        frame=frame,
        rows_read=loaded.rows_read + feedback.labels,
        without_text=loaded.without_text + unusable,
        marker_removed=loaded.marker_removed + int(raw.str.rstrip().str.endswith(MARKERS).sum()),
        exact_duplicates=loaded.exact_duplicates + len(sent) - added,
    )
    note = (
        f"{feedback.labels:,} labels in the prediction log: {unusable:,} without a stored text and "
        f"{len(sent) - added:,} exact duplicates left out, {added:,} added"
    )
    return LabelledReviews(merged, data_digest(frame), file_digest, added, note)


def log_of(store: Store, url: str | None) -> str:
    """Return the URL of the prediction log: by default the SQLite file beside the store."""
    return url or f"sqlite:///{store.folder / 'predictions.db'}"
