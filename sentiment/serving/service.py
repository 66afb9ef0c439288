"""Answer review texts: an answer has an arm, a version and predictions, and goes into the log.

Knows nothing of the web: the API, the page and the tests use it alike. A request reads the loaded
versions once, so that everything in its answer comes from one version, whatever is promoted
meanwhile.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from sentiment.ab.comparison import CHALLENGER, CHAMPION, SHADOW, assign_arm
from sentiment.drift.latest import newest_run, read_beside, read_run
from sentiment.errors import PredictionLogError, TrackingError
from sentiment.model.predictor import LoadedVersion, Prediction, one_line
from sentiment.predictions.log import LoggedPrediction, PredictionLog
from sentiment.predictions.writer import Feedback, FeedbackWriter, LogWriter, Outcome
from sentiment.serving.ab_results import Comparisons
from sentiment.serving.complaints import LoggedComplaints
from sentiment.serving.config import ServingConfig
from sentiment.serving.metrics import ServingMetrics
from sentiment.serving.versions import NOT_LOADED, Arms, VersionWatcher

# Seconds after which a request has its row, or lost it: feedback has nothing to wait for
WRITTEN_AFTER = 10.0
UPKEEP_SECONDS = 1.0  # between two updates of the metrics from the log's writer
RETIRE_SECONDS = 3600.0
PATIENCE = 2.0  # seconds `close` waits for old rows to be deleted; the thread is a daemon
# Requests of the largest size that may wait for the log before rows are dropped
LARGEST_WAITING = 3
DAY_SECONDS = 86_400.0

_log = logging.getLogger(__name__)


class NotReadyError(RuntimeError):
    """No model answers; the message is for the client, and one of a few fixed sentences."""


@dataclass(frozen=True)
class Answer:
    """What a request gets: one prediction a text, in order, all by `version`.

    `milliseconds` is the time of the predictions alone.
    """

    request_id: str
    arm: str
    version: LoadedVersion
    predictions: list[Prediction]
    milliseconds: float


class Service:
    """Answers texts by the versions in the registry and logs every answer.

    `watcher` holds the versions, `writer` writes the log, `metrics` counts. A log that is away
    costs rows, never an answer. One per worker process; `start` begins its threads, `close` ends
    them.
    """

    def __init__(self, config: ServingConfig, log: PredictionLog) -> None:
        self.config, self.log = config, log
        self.share, self.shadow = config.share, config.shadow is not None
        self.metrics = ServingMetrics()
        self.writer = LogWriter(log, capacity=LARGEST_WAITING * max(config.limits.max_texts, 1_000))
        self.feedback = FeedbackWriter(log, self.writer)
        self.watcher = VersionWatcher(
            config.open_store,
            challenger=config.challenger,
            refresh_seconds=config.refresh_seconds,
            experiment=config.experiment,
        )
        self.comparisons = Comparisons(log, config)
        self.complaints = LoggedComplaints(log)
        self._key, self._count = secrets.token_bytes(32), itertools.count()  # for request ids
        self._closing = threading.Event()
        self._upkeep = threading.Thread(target=self._keep_up, name="upkeep", daemon=True)
        # `last_check` on a tracking server; None until that has answered
        self._checks: tuple[tuple[str, str] | None] | None = None

    def start(self) -> None:
        """Load the versions and start the threads; a version that will not load is no error."""
        self.writer.start()
        self.feedback.start()
        self.watcher.start()
        self._upkeep.start()
        if not self.config.is_local:
            threading.Thread(target=self._follow_checks, name="drift-checks", daemon=True).start()

    def close(self) -> None:
        """Stop watching, write the rest of the log, and close it; a second call does nothing."""
        self._closing.set()
        self._upkeep.join(PATIENCE)
        self.watcher.stop()
        self.writer.close()
        self.feedback.close()
        with suppress(PredictionLogError):
            self.comparisons.leave()
        self.metrics.follow(self.watcher, self.writer)
        self.log.close()

    def answer(
        self,
        texts: Sequence[str],
        unit: str | None = None,
        explain: bool = False,
        source: str = "api",
    ) -> Answer:
        """Predict the texts, raw as they came, with one version.

        `unit` is what sticks to an arm, a `digest` of the user's id; without it the request is a
        unit of its own. `source` is where the request came from, one of the log's `SOURCES`. Raises
        `NotReadyError`.
        """
        arms = self.arms()
        request_id = self.new_id()
        unit = unit or request_id
        arm, version, challenger = CHAMPION, arms.champion, arms.challenger
        if challenger is not None and self.share > 0.0:
            arm = assign_arm(unit, arms.experiment, self.share)
            version = challenger if arm == CHALLENGER else version
        answer = _predict(request_id, arm, version, texts, explain)
        at = time.time()
        self.writer.put(self._rows(answer, texts, arms.experiment, unit, at, source))
        if self.shadow and challenger is not None:

            def shadow_rows() -> list[LoggedPrediction]:
                scored = _predict(request_id, SHADOW, challenger, texts, explain=False)
                return self._rows(scored, texts, arms.experiment, unit, at, source)

            self.writer.submit(shadow_rows, len(texts))
        self.metrics.count_answer(answer)
        return answer

    def arms(self) -> Arms:
        """Return the versions that answer now; call it once a request. Raises `NotReadyError`."""
        arms = self.watcher.arms
        if arms is None:
            raise NotReadyError(self.watcher.told or NOT_LOADED)
        return arms

    def add_feedback(
        self, request_id: str, position: int, label: int, rating: int | None
    ) -> Outcome:
        """Keep what a review really was; return what becomes of it, as `FeedbackWriter.keep` does.

        `label` is 0 or 1, `rating` 1–5 or None. Raises `PredictionLogError` when the log is away.
        """
        now = time.time()
        age = now - int(request_id[:12], 16) / 1000
        recent = abs(age) <= WRITTEN_AFTER
        return self.feedback.keep(Feedback(request_id, position, label, rating, now, recent))

    def last_check(self) -> tuple[str, str] | None:
        """Return page and report of the store's last drift check; None if there is none.

        Waits for no tracking server: what one has is known `refresh_seconds` later, and kept while
        it is away. Raises `TrackingError` when it never answered.
        """
        if self.config.is_local:
            return read_beside(self.config.home)
        if self._checks is None:
            raise TrackingError("the tracking store does not answer")
        return self._checks[0]

    def new_id(self) -> str:
        """Return 32 hexadecimal digits: the time in milliseconds and 80 bits of a hash.

        With the time in front, rows that are written together lie together in the log's index. The
        hash counts under a key that this process alone knows, so that nobody guesses an id. (To ask
        the system for random bits at every request would hand the interpreter to other threads.)
        """
        count = next(self._count).to_bytes(8, "big")
        bits = hashlib.blake2b(count, key=self._key, digest_size=10).hexdigest()
        return f"{time.time_ns() // 1_000_000:012x}{bits}"

    def _rows(
        self,
        answer: Answer,
        texts: Sequence[str],
        experiment: str,
        unit: str,
        at: float,
        source: str,
    ) -> list[LoggedPrediction]:
        """Return a row for each text; its `milliseconds` are its share of the request's."""
        return [
            LoggedPrediction(
                request_id=answer.request_id,
                position=position,
                at=at,
                arm=answer.arm,
                version=answer.version.version,
                experiment=experiment,
                unit=unit,
                text_digest=digest(text),
                text=text if self.config.store_text else None,
                characters=prediction.characters,
                words=prediction.words,
                known_words=prediction.known_words,
                probability=prediction.probability,
                label=prediction.label,
                milliseconds=answer.milliseconds / len(texts),
                source=source,
            )
            for position, (text, prediction) in enumerate(
                zip(texts, answer.predictions, strict=True)
            )
        ]

    def _keep_up(self) -> None:
        """Update the metrics, keep the comparisons, delete old rows, in a thread of its own."""
        retire_at = time.monotonic()
        while True:
            self.metrics.follow(self.watcher, self.writer)
            with suppress(PredictionLogError):  # away just now; the next call tries again
                self.comparisons.keep_record(self.watcher)
            days = self.config.retention_days
            if days is not None and time.monotonic() >= retire_at:
                retire_at = time.monotonic() + RETIRE_SECONDS
                with suppress(PredictionLogError):  # away just now: in an hour, then
                    self.log.retire(time.time() - days * DAY_SECONDS)
            if self._closing.wait(UPKEEP_SECONDS):
                return

    def _follow_checks(self) -> None:
        """Hold the last drift check of a tracking server, in a thread of its own.

        Such a server may let it wait for a minute, and the upkeep is not to wait as well.
        """
        store, held, problem = None, None, ""
        while True:
            try:
                store = store or self.config.open_store()
                run_id = newest_run(store)
                if self._checks is None or run_id != held:
                    self._checks = (None if run_id is None else read_run(store, run_id),)
                    held = run_id
                problem = ""
            except Exception as error:  # whatever the libraries of the places of artifacts raise
                store, before, problem = None, problem, one_line(error)
                if not before:
                    _log.warning("the last drift check cannot be read: %s", problem)
            if self._closing.wait(self.config.refresh_seconds):
                return


def _predict(
    request_id: str, arm: str, version: LoadedVersion, texts: Sequence[str], explain: bool
) -> Answer:
    begun = time.perf_counter()
    predictions = version.predict(texts, explain=explain)
    return Answer(request_id, arm, version, predictions, (time.perf_counter() - begun) * 1000)


def digest(text: str) -> str:
    """Return 32 hexadecimal digits of BLAKE2b: what may be kept of a user's id."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
