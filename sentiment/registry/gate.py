"""Decide whether a version may replace the one in production, and on what evidence.

`compare_versions` lets both versions answer the same reviews, none of which they were trained on.
`judge` and `judge_first` are the rules, on labels, predictions and times alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sentiment.console import Terminal
from sentiment.data.reviews import CLASS_NAMES, TEXT_HASHES, Split, text_hashes
from sentiment.errors import VersionError
from sentiment.metrics import Interval, Labels, bootstrap_interval, paired_difference, score
from sentiment.model.predictor import one_line
from sentiment.tracking.artifact import load_pipeline
from sentiment.tracking.store import Store
from text_cleaning import clean_texts, cleaning_fingerprint

MARGIN = 0.01  # of macro-F1 that new data may cost; one model varies by .010 over splits
MAX_RECALL_FALL = 0.03  # the negative reviews are the few that somebody should read
MAX_TIME_RATIO = 2.0  # of the median times of one prediction; a busy machine alone can cause less
MIN_ROWS, MIN_CLASS_ROWS = 100, 10  # with fewer, an interval of macro-F1 says nothing
TINY = 1e-9  # meeting a limit exactly is allowed, however the last bit is rounded
TIMED_TEXTS = 100  # single predictions timed, a millisecond each


@dataclass(frozen=True)
class Scores:
    """The scores of one version. `seconds` is the median time of one prediction."""

    version: str
    f1_macro: Interval
    recall_negative: Interval
    seconds: float


@dataclass(frozen=True)
class Verdict:
    """The gate's decision on `candidate`, compared with `production`.

    `scores` holds the candidate's, then production's. `rows` reviews were compared; `left_out` more
    were not, because one of the versions was trained on their cleaned texts. `baseline` is the
    macro-F1 of always answering the commoner class. A figure is None where there was nothing to
    compare with, or too little.
    """

    promoted: bool
    reason: str
    candidate: str
    production: str | None
    rows: int = 0
    left_out: int = 0
    scores: tuple[Scores, ...] = ()
    difference: Interval | None = None
    recall_difference: Interval | None = None
    baseline: float | None = None
    note: str = ""

    def sentence(self) -> str:
        """Return the verdict as one line."""
        return f"{'promoted' if self.promoted else 'refused'}: {self.reason}"

    def metrics(self) -> dict[str, float]:
        """Return the figures by name, for the ledger."""
        found: dict[str, float] = {"rows": self.rows, "rows_left_out": self.left_out}
        for role, scores in zip(("candidate", "production"), self.scores, strict=False):
            found |= _ends(f"{role}_f1_macro", scores.f1_macro)
            found |= _ends(f"{role}_recall_negative", scores.recall_negative)
            found[f"{role}_seconds"] = scores.seconds
        for name, interval in (
            ("difference_f1_macro", self.difference),
            ("difference_recall_negative", self.recall_difference),
        ):
            found |= {} if interval is None else _ends(name, interval)
        return found | ({} if self.baseline is None else {"majority_f1_macro": self.baseline})

    def table(self) -> pd.DataFrame:
        """Return the figures as a table: `measure`, a column a version, and `difference`."""
        measures = ["macro-F1", "recall of negative", "median ms a prediction"]
        frame = pd.DataFrame({"measure": measures})
        for scores in self.scores:
            frame[f"version {scores.version}"] = [
                _shown(scores.f1_macro, 4),
                _shown(scores.recall_negative, 4),
                f"{scores.seconds * 1000:.2f}",
            ]
        if self.difference is not None and self.recall_difference is not None:
            frame["difference"] = [
                _shown(self.difference, 4),
                _shown(self.recall_difference, 4),
                f"× {self.scores[0].seconds / self.scores[1].seconds:.2f}",
            ]
        return frame

    def show(self, terminal: Terminal) -> None:
        """Print what was compared, the figures, and the verdict."""
        if self.scores:
            terminal.say(
                f"compared on {self.rows:,} reviews of the holdout; {self.left_out:,} more left "
                "out, because one of the versions was trained on their cleaned texts"
            )
            terminal.table("Gate", self.table())
        if self.note:
            terminal.say(self.note)
        terminal.say(self.sentence(), always=True)


def compare_versions(store: Store, candidate: str, production: str | None, split: Split) -> Verdict:
    """Let the versions answer the holdout of `split`, the current data, and judge them.

    With `production` None the candidate is the first version. Reviews are left out when one of the
    versions was trained on their cleaned texts. Raises `VersionError` when a version cannot be
    loaded or scored.
    """
    versions = [candidate] if production is None else [candidate, production]
    loaded = [_load(store, version) for version in versions]
    note = ""
    if loaded[0].fingerprint != cleaning_fingerprint():
        raise VersionError(
            candidate,
            f"trained with another cleaning ({loaded[0].fingerprint}, now "
            f"{cleaning_fingerprint()}), so its training texts cannot be recognised; retrain it",
        )
    if loaded[-1].fingerprint != cleaning_fingerprint():
        # some of its training texts may stay in; that favours production, so the gate stays strict
        note = (
            f"version {production} was trained with another cleaning: some reviews may be known to "
            "it, which favours it"
        )
    # text_hashes sorts and drops duplicates, so it is asked for one text at a time
    hashes = [text_hashes([text])[0] for text in clean_texts(split.test_texts)]
    new = ~np.isin(hashes, np.concatenate([version.hashes for version in loaded]))
    texts = [text for text, kept in zip(split.test_texts, new, strict=True) if kept]
    truth, left_out = split.y_test[new], int((~new).sum())
    if not texts:
        return Verdict(False, _too_few(truth), candidate, production, 0, left_out, note=note)
    predicted = [_predict(version, texts) for version in loaded]
    seconds = median_seconds([version.pipeline for version in loaded], texts[:TIMED_TEXTS])
    if production is None:
        return judge_first(candidate, truth, predicted[0], seconds[0], left_out=left_out)
    return judge(
        (candidate, production),
        truth,
        (predicted[0], predicted[1]),
        (seconds[0], seconds[1]),
        same_data=loaded[0].digest == loaded[1].digest,
        left_out=left_out,
        note=note,
    )


def median_seconds(pipelines: Sequence[Any], texts: Sequence[str]) -> list[float]:
    """Return each pipeline's median time of predicting one text; they take turns at each text."""
    times: list[list[float]] = [[] for _ in pipelines]
    for number, text in enumerate(texts):
        turns = list(enumerate(pipelines))
        for index, pipeline in turns if number % 2 else turns[::-1]:
            begun = time.perf_counter()
            pipeline.predict([text])
            times[index].append(time.perf_counter() - begun)
    return [float(np.median(taken)) for taken in times]


def judge(
    versions: tuple[str, str],
    truth: Labels,
    predicted: tuple[Labels, Labels],
    seconds: tuple[float, float],
    *,
    same_data: bool,
    left_out: int = 0,
    note: str = "",
) -> Verdict:
    """Judge a candidate against the version in production; each pair is in this order.

    `truth` and `predicted` are 0/1 labels of the same rows, `seconds` the median times of one
    prediction. When both were trained on the same data, the 95 % interval of the paired difference
    in macro-F1 must lie above 0; otherwise its lower end must lie above -`MARGIN`. The recall of
    negative may fall by `MAX_RECALL_FALL`, the time may grow by the factor `MAX_TIME_RATIO`.
    """
    few = _too_few(truth)
    if few:
        return Verdict(False, few, *versions, len(truth), left_out, note=note)
    difference = paired_difference(truth, *predicted)
    recall = paired_difference(truth, *predicted, "recall_negative")
    against, measured = f"version {versions[1]}", f"difference {_shown(difference)}"
    faults = []
    if same_data and difference.low <= 0:
        faults.append(f"no evidence of improvement, {measured}")
    elif not same_data and difference.low <= -MARGIN:
        faults.append(f"may be worse than {against} by more than {MARGIN}, {measured}")
    if -recall.value > MAX_RECALL_FALL + TINY:
        faults.append(
            f"recall of negative falls by {-recall.value:.3f}, more than {MAX_RECALL_FALL}"
        )
    if seconds[0] > MAX_TIME_RATIO * seconds[1] * (1 + TINY):
        faults.append(
            f"one prediction takes {seconds[0] / seconds[1]:.1f} times as long, at most "
            f"{MAX_TIME_RATIO:g} is allowed"
        )
    better = (
        f"better than {against}, {measured}"
        if difference.low > 0
        else f"new data, and not worse than {against} by more than {MARGIN}, {measured}"
    )
    return Verdict(
        promoted=not faults,
        reason="; ".join(faults) or better,
        candidate=versions[0],
        production=versions[1],
        rows=len(truth),
        left_out=left_out,
        scores=tuple(
            _score(*scored, truth) for scored in zip(versions, predicted, seconds, strict=True)
        ),
        difference=difference,
        recall_difference=recall,
        baseline=majority_f1(truth),
        note=note,
    )


def judge_first(
    version: str, truth: Labels, predicted: Labels, seconds: float, *, left_out: int = 0
) -> Verdict:
    """Judge the first version ever: it must beat always answering the commoner class."""
    few = _too_few(truth)
    if few:
        return Verdict(False, few, version, None, len(truth), left_out)
    scores, baseline = _score(version, predicted, seconds, truth), majority_f1(truth)
    good = scores.f1_macro.low > baseline
    reason = (
        f"{'the first in production' if good else 'no evidence that it beats guessing'}, macro-F1 "
        f"{_shown(scores.f1_macro)}, against {baseline:.3f} for always answering "
        f"'{CLASS_NAMES[int(truth.mean() > 0.5)]}'"
    )
    return Verdict(good, reason, version, None, len(truth), left_out, (scores,), baseline=baseline)


def majority_f1(truth: Labels) -> float:
    """Return the macro-F1, 0–1, of always answering the commoner of the 0/1 labels `truth`."""
    commoner = int(np.mean(truth) > 0.5)
    return score(truth, np.full(len(truth), commoner, dtype=np.int64))


def _score(version: str, predicted: Labels, seconds: float, truth: Labels) -> Scores:
    return Scores(
        version,
        bootstrap_interval(truth, predicted),
        bootstrap_interval(truth, predicted, "recall_negative"),
        seconds,
    )


def _too_few(truth: Labels) -> str:
    """Say why these reviews are too few for a verdict; empty when they are not."""
    counts = np.bincount(truth, minlength=2)
    if len(truth) >= MIN_ROWS and counts.min() >= MIN_CLASS_ROWS:
        return ""
    return (
        f"too few reviews to compare on: {len(truth):,}, {counts[0]:,} of them negative; at least "
        f"{MIN_ROWS} and {MIN_CLASS_ROWS} a class are needed"
    )


def _ends(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _shown(interval: Interval, digits: int = 3) -> str:
    """`−0.001, 95% −0.006…0.004`."""
    value, low, high = (
        f"{round(number, digits) + 0.0:.{digits}f}".replace("-", "−")
        for number in (interval.value, interval.low, interval.high)
    )
    return f"{value}, 95% {low}…{high}"


@dataclass(frozen=True)
class _LoadedVersion:
    version: str
    pipeline: Any
    hashes: Any  # of its training texts, as of `text_hashes`
    digest: str
    fingerprint: str


def _load(store: Store, version: str) -> _LoadedVersion:
    import mlflow

    model = store.settings.registered_model
    try:
        found = store.client.get_model_version(model, version)
        pipeline = load_pipeline(store, f"models:/{model}/{version}")
    except Exception as error:  # a damaged file fails in as many ways as there are libraries
        raise VersionError(version, f"will not load: {one_line(error)}") from None
    try:
        file = mlflow.artifacts.download_artifacts(
            run_id=found.run_id, artifact_path=TEXT_HASHES, tracking_uri=store.uri
        )
        hashes = np.load(Path(file), allow_pickle=False)
    except Exception as error:
        raise VersionError(
            version,
            f"its run has no readable {TEXT_HASHES} ({one_line(error)}), so its training texts "
            "are unknown; register a model of the experiment or the flow",
        ) from None
    digest, fingerprint = (found.tags.get(x, "") for x in ("data_digest", "cleaning_fingerprint"))
    return _LoadedVersion(version, pipeline, hashes, digest, fingerprint)


def _predict(version: _LoadedVersion, texts: list[str]) -> Labels:
    try:
        return np.asarray(version.pipeline.predict(texts), dtype=np.int64)
    except Exception as error:
        raise VersionError(version.version, f"fails: {one_line(error)}") from None
