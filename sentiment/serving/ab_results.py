"""Running comparison: what the prediction log says of champion and challenger, as `/ab` shows it.

The log is read at most once in a while and in portions, whoever asks and however often.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sentiment.ab import comparison as ab_test
from sentiment.ab.comparison import CHALLENGER, CHAMPION, SHADOW, Comparison, ShadowAgreement
from sentiment.predictions.log import PredictionLog
from sentiment.serving.versions import Arms

if TYPE_CHECKING:
    import pandas as pd

# An answer is read again after this many seconds, or ten times what reading took if that is more
FRESH_SECONDS = 5.0
FRESH_FACTOR = 10.0
# Rows looked at, the oldest first: some 100 MB. A comparison that long has long been decided.
MAX_ROWS = 500_000
AB_COLUMNS = ["unit", "arm", "label", "true_label", "at"]
SHADOW_COLUMNS = [*AB_COLUMNS, "request_id", "position", "probability", "text"]


@dataclass(frozen=True)
class RunningComparison:
    """One experiment so far.

    With arms that share the answers `comparison` and `history` are set, with a shadow `agreement`
    and `disagreements`. `complete` is false where there were more than `MAX_ROWS` rows.
    """

    experiment: str
    champion: str
    challenger: str
    rows: int
    complete: bool
    comparison: Comparison | None = None
    history: pd.DataFrame | None = None
    agreement: ShadowAgreement | None = None
    disagreements: pd.DataFrame | None = None

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON takes it."""
        frames = {"history": self.history, "disagreements": self.disagreements}
        results = {"comparison": self.comparison, "agreement": self.agreement}
        return {
            "experiment": self.experiment,
            "champion": self.champion,
            "challenger": self.challenger,
            "rows": self.rows,
            "complete": self.complete,
            **{name: None if part is None else part.as_dict() for name, part in results.items()},
            **{
                name: None if frame is None else frame.to_dict("records")
                for name, frame in frames.items()
            },
        }


class ComparisonReader:
    """Reads the comparison that runs; for any number of threads, of which one reads at a time."""

    def __init__(self, log: PredictionLog, *, share: float, shadow: bool) -> None:
        self._log, self._share, self._shadow = log, share, shadow
        self._lock = threading.Lock()
        self._last: RunningComparison | None = None
        self._fresh_until = 0.0

    def read(self, arms: Arms) -> RunningComparison | None:
        """The comparison of these versions; None when there is no challenger.

        Raises `PredictionLogError` when the log is away.
        """
        if arms.challenger is None:
            return None
        with self._lock:
            last = self._last
            wanted = arms.experiment, arms.champion.version, arms.challenger.version
            if (
                last is None
                or (last.experiment, last.champion, last.challenger) != wanted
                or time.monotonic() > self._fresh_until
            ):
                begun = time.monotonic()
                last = self._last = self._read(*wanted)
                now = time.monotonic()
                self._fresh_until = now + max(FRESH_SECONDS, FRESH_FACTOR * (now - begun))
            return last

    def _read(self, experiment: str, champion: str, challenger: str) -> RunningComparison:
        rows, complete = self._rows(experiment)
        so_far = experiment, champion, challenger, len(rows), complete
        if self._shadow:
            return RunningComparison(
                *so_far,
                agreement=ab_test.shadow_agreement(rows),
                disagreements=ab_test.disagreements(rows),
            )
        return RunningComparison(
            *so_far,
            comparison=ab_test.compare_arms(rows, share=self._share),
            history=ab_test.history(rows),
        )

    def _rows(self, experiment: str) -> tuple[pd.DataFrame, bool]:
        """The experiment's rows, the needed columns only, and whether these are all."""
        import pandas as pd

        columns = SHADOW_COLUMNS if self._shadow else AB_COLUMNS
        arms = (CHAMPION, SHADOW) if self._shadow else (CHAMPION, CHALLENGER)
        frames: list[pd.DataFrame] = []
        rows, complete = 0, True
        for frame in self._log.read(experiment=experiment, arms=arms):
            frames.append(frame[columns].astype({"label": "Int8", "true_label": "Int8"}))
            rows += len(frame)
            if rows >= MAX_ROWS:
                complete = False
                break
        if not frames:
            return pd.DataFrame(columns=columns), True
        return pd.concat(frames, ignore_index=True), complete
