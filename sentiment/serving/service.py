"""Answering: review texts → an answer with its arm, version and predictions, written to the log.

Knows nothing of the web: the API, the page and the tests call it alike. A request reads the
loaded versions once, so that everything in its answer comes from one version, whatever is
promoted meanwhile.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sentiment.ab.comparison import CHALLENGER, CHAMPION, SHADOW, assign_arm
from sentiment.model.predictor import LoadedVersion, Prediction
from sentiment.predictions.log import LoggedPrediction, PredictionLog
from sentiment.predictions.writer import LogWriter
from sentiment.serving.versions import Arms, VersionWatcher

# A row is written within 0.2 s, perhaps by another worker: feedback that comes sooner waits for it
FEEDBACK_PATIENCE = 1.0
FEEDBACK_POLL = 0.05
# A request older than this has its row, or lost it: there is nothing to wait for
WRITTEN_AFTER = 10.0


class NotReadyError(RuntimeError):
    """No model answers yet; the message is one line for the client."""


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


class AnsweringService:
    """Answers texts by the versions of a watcher and hands every answer to the log's writer.

    Parameters
    ----------
    watcher : VersionWatcher
        Holds the versions that answer.
    log, writer : PredictionLog and LogWriter
        Where answers and feedback go; a log that is away costs rows, never an answer.
    share : float
        Share of the units that the challenger answers, 0–1.
    shadow : bool
        Whether the challenger scores everything too, in the writer's thread and for the log only.
    store_text : bool
        Whether the log gets the texts; their digests it gets in any case.
    count : callable
        Is told of every answer, for the metrics.

    """

    def __init__(
        self,
        watcher: VersionWatcher,
        log: PredictionLog,
        writer: LogWriter,
        *,
        share: float = 0.0,
        shadow: bool = False,
        store_text: bool = True,
        count: Callable[[Answer], None] = lambda _: None,
    ) -> None:
        self.watcher, self.log, self.writer = watcher, log, writer
        self.share, self.shadow = share, shadow
        self._store_text, self._count = store_text, count
        self._ids = RequestIds()

    def answer(
        self,
        texts: Sequence[str],
        unit: str | None = None,
        explain: bool = True,
        *,
        again: bool = False,
    ) -> Answer:
        """Predict the texts, raw as they came, with one version.

        `unit` is what sticks to an arm, a digest of the user's id (`unit_of`); without it the
        request is a unit of its own. What is answered `again`, in another form, is neither logged
        nor counted a second time. Raises `NotReadyError`.
        """
        arms = self.arms()
        request_id = self._ids.make()
        unit = unit or request_id
        arm, version = self._assign(arms, unit)
        begun = time.perf_counter()
        predictions = version.predict(texts, explain=explain)
        milliseconds = (time.perf_counter() - begun) * 1000
        answer = Answer(request_id, arm, version, predictions, milliseconds)
        if again:
            return answer
        at = time.time()
        self.writer.put(self._rows(answer, texts, arms.experiment, unit, at))
        challenger = arms.challenger
        if self.shadow and challenger is not None:

            def shadow_rows() -> list[LoggedPrediction]:
                begun = time.perf_counter()
                predicted = challenger.predict(texts, explain=False)
                spent = (time.perf_counter() - begun) * 1000
                scored = Answer(request_id, SHADOW, challenger, predicted, spent)
                return self._rows(scored, texts, arms.experiment, unit, at)

            self.writer.submit(shadow_rows, len(texts))
        self._count(answer)
        return answer

    def arms(self) -> Arms:
        """The versions that answer now, to be read once a request. Raises `NotReadyError`."""
        arms = self.watcher.arms
        if arms is None:
            raise NotReadyError(self.watcher.problem or "no version is loaded yet")
        return arms

    def add_feedback(self, request_id: str, position: int, label: int, rating: int | None) -> bool:
        """Keep what a review really was; False when there is no such answer.

        `label` is 0 or 1, `rating` 1–5 or None. Of an answer given a moment ago the row may not be
        written yet, so it is waited for. Raises `PredictionLogError` when the log is away.
        """
        now = time.time()
        self.writer.flush(FEEDBACK_PATIENCE)
        deadline = time.monotonic() + FEEDBACK_PATIENCE
        while not self.log.add_feedback(request_id, position, label, rating, now):
            if time.monotonic() > deadline or abs(now - _asked_at(request_id)) > WRITTEN_AFTER:
                return False
            time.sleep(FEEDBACK_POLL)
        return True

    def _assign(self, arms: Arms, unit: str) -> tuple[str, LoadedVersion]:
        if arms.challenger is None or self.share <= 0.0:
            return CHAMPION, arms.champion
        if assign_arm(unit, arms.experiment, self.share) == CHALLENGER:
            return CHALLENGER, arms.challenger
        return CHAMPION, arms.champion

    def _rows(
        self, answer: Answer, texts: Sequence[str], experiment: str, unit: str, at: float
    ) -> list[LoggedPrediction]:
        """A row of the log for each text; its `milliseconds` are its share of the request's."""
        return [
            LoggedPrediction(
                request_id=answer.request_id,
                position=position,
                at=at,
                arm=answer.arm,
                version=answer.version.version,
                experiment=experiment,
                unit=unit,
                text_digest=_digest(text),
                text=text if self._store_text else None,
                characters=len(text),
                words=prediction.words,
                known_words=prediction.known_words,
                probability=prediction.probability,
                label=prediction.label,
                milliseconds=answer.milliseconds / len(texts),
            )
            for position, (text, prediction) in enumerate(
                zip(texts, answer.predictions, strict=True)
            )
        ]


class RequestIds:
    """Makes request ids: 32 hexadecimal digits, the time in milliseconds and 80 bits of a hash.

    With the time in front, rows that are written together lie together in the log's index. The
    hash counts under a key that this process alone knows, so that nobody guesses an id. (A question
    to the system for random bits, at every request, would hand the interpreter to other threads.)
    """

    def __init__(self) -> None:
        self._key, self._count = secrets.token_bytes(32), itertools.count()

    def make(self) -> str:
        """The next id."""
        count = next(self._count).to_bytes(8, "big")
        bits = hashlib.blake2b(count, key=self._key, digest_size=10).hexdigest()
        return f"{time.time_ns() // 1_000_000:012x}{bits}"


def unit_of(user_id: str) -> str:
    """The user's id as it may be kept: 32 hexadecimal digits of BLAKE2b."""
    return _digest(user_id)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _asked_at(request_id: str) -> float:
    return int(request_id[:12], 16) / 1000
