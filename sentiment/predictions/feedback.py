"""Read logged reviews whose true label somebody sent, as reviews to train on.

    feedback = read_feedback("sqlite:///predictions.db")
    labelled = with_feedback(load_reviews("data.csv"), feedback)

A rating counts by the rule of the file it is put below. A label without one counts as 5 stars or
as 1, which are positive and negative by any rule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from sentiment.data.labels import STARS
from sentiment.data.reviews import LoadedReviews, data_digest, to_labels
from sentiment.errors import WindowError
from sentiment.predictions.log import existing_log
from text_cleaning import MARKERS, undo_scraping


@dataclass(frozen=True)
class Feedback:
    """The labels of a log.

    `frame` has a row a label, oldest review first: `text` (str, as it was sent) and `rating` (int,
    1–5). `without_text` more labels belong to reviews whose texts were not to be stored.
    """

    frame: pd.DataFrame
    without_text: int = 0

    @property
    def labels(self) -> int:
        """The number of labels in the log."""
        return len(self.frame) + self.without_text


@dataclass(frozen=True)
class LabelledReviews:
    """Everything labelled so far."""

    loaded: LoadedReviews  # the file with the feedback below it
    digest: str  # of all
    file_digest: str
    file_read: str  # what was left out of the file and why, as `LoadedReviews.dropped` says it
    added: int = 0  # rows that come from the feedback
    note: str = ""  # what became of the labels


def read_feedback(url: str) -> Feedback:
    """Read every label in the log; a log that does not exist has none, and is not made.

    Raises `PredictionLogError`.
    """
    try:
        with existing_log(url) as log:
            rows = log.labelled()
    except WindowError:
        rows = []
    kept = [(text, rating or STARS[label]) for text, label, rating in rows if text is not None]
    frame = pd.DataFrame(kept, columns=["text", "rating"]).astype({"text": str, "rating": "int64"})
    return Feedback(frame, len(rows) - len(kept))


def with_feedback(loaded: LoadedReviews, feedback: Feedback | None = None) -> LabelledReviews:
    """Put the feedback's reviews below the file's, treated as `load_reviews` treats rows.

    What scrapers leave is undone, texts that are blank then and ratings that are neither negative
    nor positive are dropped, and exact duplicates (text and rating) become one row with more
    `copies`. Without feedback it is the file.
    """
    file_digest = data_digest(loaded.frame)
    if feedback is None or not feedback.labels:
        return LabelledReviews(loaded, file_digest, file_digest, loaded.dropped())
    raw = feedback.frame["text"]
    texts, stars = raw.map(undo_scraping), feedback.frame["rating"]
    neither = stars.map(loaded.rule.label_of).isna()
    labels = to_labels(stars, loaded.rule)
    sent = feedback.frame.assign(text=texts, label=labels, copies=1)[(texts != "") & ~neither]
    both = pd.concat([loaded.frame, sent], ignore_index=True)
    frame = both.groupby(["text", "rating", "label"], sort=False)["copies"].sum().reset_index()
    left_out = int((neither & (texts != "")).sum())
    added = len(frame) - len(loaded.frame)
    unusable = feedback.labels - len(sent) - left_out
    merged = replace(
        loaded,
        frame=frame,
        rows_read=loaded.rows_read + feedback.labels,
        without_text=loaded.without_text + unusable,
        marker_removed=loaded.marker_removed + int(raw.str.rstrip().str.endswith(MARKERS).sum()),
        left_out=loaded.left_out + left_out,
        others=loaded.others or ("3 stars" if left_out else ""),
        exact_duplicates=loaded.exact_duplicates + len(sent) - added,
    )
    neutral = f"{left_out:,} of 3 stars, " if left_out else ""
    note = (
        f"{feedback.labels:,} labels in the prediction log: {neutral}{unusable:,} without a "
        f"stored text and {len(sent) - added:,} exact duplicates left out, {added:,} added"
    )
    return LabelledReviews(merged, data_digest(frame), file_digest, loaded.dropped(), added, note)
