"""Promotion gate: whether a version may replace the one in production, and on what evidence.

Rules on labels, predictions and times alone; `version_scoring.py` gets them from two versions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sentiment.data.reviews import CLASS_NAMES
from sentiment.metrics import Interval, Labels, bootstrap_interval, paired_difference, score

MARGIN = 0.01  # of macro-F1: what new data may cost; the spread of one model over splits is .010
MAX_RECALL_FALL = 0.03  # the negative reviews are the few that somebody should read
MAX_TIME_RATIO = 2.0  # of the median time of one prediction; below that, a busy machine does it
MIN_ROWS, MIN_CLASS_ROWS = 100, 10  # below, an interval of macro-F1 says nothing
TINY = 1e-9  # a limit met exactly is not passed, whatever the last bit says


@dataclass(frozen=True)
class Scores:
    """A version on the common holdout. `seconds` is the median time of one prediction."""

    version: str
    f1_macro: Interval
    recall_negative: Interval
    seconds: float


@dataclass(frozen=True)
class Verdict:
    """What the gate says of `candidate` against `production`, the version it was compared with.

    `baseline` is the macro-F1 of always answering the commoner class. Figures are None where there
    was nothing to compare with, or too little.
    """

    promoted: bool
    reason: str
    candidate: str
    production: str | None
    rows: int = 0
    left_out: int = 0
    scores: tuple[Scores, ...] = ()  # the candidate's, then production's
    difference: Interval | None = None
    recall_difference: Interval | None = None
    baseline: float | None = None
    note: str = ""

    def sentence(self) -> str:
        """The verdict as one line."""
        return f"{'promoted' if self.promoted else 'refused'}: {self.reason}"

    def rows_sentence(self) -> str:
        """What it was measured on, as one line."""
        return (
            f"compared on {self.rows:,} reviews of the holdout; {self.left_out:,} left out, whose "
            "cleaned text one of the versions was trained on"
        )

    def metrics(self) -> dict[str, float]:
        """The figures by name, for the ledger."""
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
        """The figures side by side: `measure`, a column a version, and `difference`."""
        cells: dict[str, Callable[[Scores], str]] = {
            "macro-F1": lambda scores: _shown(scores.f1_macro, 4),
            "recall of negative": lambda scores: _shown(scores.recall_negative, 4),
            "median ms a prediction": lambda scores: f"{scores.seconds * 1000:.2f}",
        }
        rows = [[measure, *map(cell, self.scores)] for measure, cell in cells.items()]
        frame = pd.DataFrame(
            rows, columns=["measure", *(f"version {scores.version}" for scores in self.scores)]
        )
        if self.difference is not None and self.recall_difference is not None:
            times = [scores.seconds for scores in self.scores]
            frame["difference"] = [
                _shown(self.difference, 4),
                _shown(self.recall_difference, 4),
                f"× {times[0] / times[1]:.2f}",
            ]
        return frame


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
    """The rules, for a candidate and the version in production (in this order in each pair).

    `truth` and `predicted` are 0/1 labels of the same rows; `seconds` the median times of one
    prediction. On the data production was trained on (`same_data`) the 95 % interval of the
    paired difference in macro-F1 must lie above 0; on other data its lower end above -`MARGIN`.
    """
    few = too_few(truth)
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
    """The rule for the first version ever: better than always answering the commoner class."""
    few = too_few(truth)
    if few:
        return Verdict(False, few, version, None, len(truth), left_out)
    scores, baseline = _score(version, predicted, seconds, truth), majority_f1(truth)
    good = scores.f1_macro.low > baseline
    reason = (
        f"{'the first in production' if good else 'no evidence of use'}, macro-F1 "
        f"{_shown(scores.f1_macro)}, against {baseline:.3f} of always answering "
        f"'{CLASS_NAMES[int(truth.mean() > 0.5)]}'"
    )
    return Verdict(good, reason, version, None, len(truth), left_out, (scores,), baseline=baseline)


def majority_f1(truth: Labels) -> float:
    """The macro-F1, 0–1, of always answering the commoner of the 0/1 labels `truth`."""
    commoner = int(np.mean(truth) > 0.5)
    return score(truth, np.full(len(truth), commoner, dtype=np.int64))


def _score(version: str, predicted: Labels, seconds: float, truth: Labels) -> Scores:
    return Scores(
        version,
        bootstrap_interval(truth, predicted),
        bootstrap_interval(truth, predicted, "recall_negative"),
        seconds,
    )


def too_few(truth: Labels) -> str:
    """Why these reviews do not suffice for a verdict; nothing when they do."""
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
