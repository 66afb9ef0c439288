"""Assign users to arms, and compare the answers of the arms.

Users are randomised, not answers, and the answers to one user are alike. So all scores here use one
answer a user: the first one with a label and a known true label. A user belongs to the arm of the
first answer; later answers of the other arm, as after a change of the share, are left out. A review
without known words gets no label: such answers are counted apart, neither right nor wrong. True
labels come from users who send feedback, and these may differ from the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sentiment.ab import statistics as ab_statistics
from sentiment.ab.statistics import Guardrail
from sentiment.metrics import (
    Interval,
    Labels,
    bootstrap_interval,
    confusion,
    paired_difference,
    unpaired_difference,
    wilson_interval,
)

CHAMPION, CHALLENGER, SHADOW = "champion", "challenger", "shadow"
ARMS = (CHAMPION, CHALLENGER)
SCORED_COLUMNS = ("unit", "arm", "label", "true_label", "at")
PAIR = ["request_id", "position"]  # what the shadow's and the champion's answer have in common
MIN_CLASS_UNITS = 10  # of each class; with fewer, an interval of macro-F1 says nothing


@dataclass(frozen=True)
class ArmScores:
    """The counts and scores of one arm.

    Of its `answers`, `unanswered` have no label and `labelled` have a true one, a share of
    `labelled_share` (0–1). Of its `units`, `labelled_units` have an answer that is scored. The 95 %
    intervals are for one look: Wilson's for the accuracy, the bootstrap's for macro-F1. Macro-F1 is
    None below `MIN_CLASS_UNITS` users of a class.
    """

    arm: str
    answers: int
    unanswered: int
    labelled: int
    labelled_share: float | None
    units: int
    labelled_units: int
    accuracy: Interval | None
    f1_macro: Interval | None


@dataclass(frozen=True)
class Comparison:
    """The two arms side by side; differences are the challenger's score minus the champion's.

    `accuracy_difference` and the `guardrails`, one for each class, decide the verdict; their
    intervals are always valid at `level` (0–1). `f1_difference` has a 95 % interval for one look.
    `split_p` is the chance of such a split under `share`. What cannot be said yet is None, nothing
    is NaN. `sentence` is the verdict with its figures.
    """

    champion: ArmScores
    challenger: ArmScores
    share: float
    level: float
    split_p: float | None
    accuracy_difference: Interval | None
    guardrails: tuple[Guardrail, ...]
    f1_difference: Interval | None
    verdict: str
    sentence: str


@dataclass(frozen=True)
class ShadowAgreement:
    """How often the shadow gives the champion's label, with 95 % intervals for one look.

    `pairs` counts the reviews that both labelled, `unanswered` those that one or both did not.
    `agreed` is the share over `units`, the first pair of each user. `f1_difference` is the shadow's
    macro-F1 minus the champion's over `labelled_units`, each user's first pair with a true label.
    """

    pairs: int
    unanswered: int
    units: int
    agreed: Interval | None
    labelled_units: int
    f1_difference: Interval | None
    sentence: str


def assign_arm(unit: str, experiment: str, share: float) -> str:
    """Return `challenger` for a share (0–1) of all units, and `champion` for the rest.

    The answer is the same for ever and in every process: it depends on the unit's BLAKE2b hash,
    keyed with the experiment. A larger share moves units from the champion to the challenger, never
    back; another experiment splits them afresh. Raises `ValueError` for another share.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: expected a number from 0 to 1, found {share}")
    key = hashlib.blake2b(experiment.encode()).digest()  # a name of any length makes a key
    digest = hashlib.blake2b(unit.encode(), key=key, digest_size=8).digest()
    return CHALLENGER if int.from_bytes(digest, "big") < share * 2**64 else CHAMPION


def compare_arms(answers: pd.DataFrame, *, share: float) -> Comparison:
    """Compare the arms by the answers of one experiment, as often as one likes.

    `answers` has the columns `unit`, `arm` (`champion` or `challenger`; other rows are skipped),
    `label` and `true_label` (0, 1 or missing) and `at`, which orders them in time. It may be empty.
    `share` (0–1) is what `assign_arm` was given. Raises `ValueError` for a missing column, another
    label, or a share out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"expected a share between 0 and 1, found {share}")
    rows = _ordered(answers)
    scored, first = _scored(rows), rows.drop_duplicates("unit")
    parts = [scored[scored["arm"] == arm] for arm in ARMS]
    champion, challenger = (
        _arm_scores(arm, rows[rows["arm"] == arm], int((first["arm"] == arm).sum()), part)
        for arm, part in zip(ARMS, parts, strict=True)
    )
    matrices = [confusion(_labels(part, "true_label"), _labels(part, "label")) for part in parts]
    judgement = ab_statistics.judge((champion.units, challenger.units), matrices, share)
    f1_known = champion.f1_macro is not None and challenger.f1_macro is not None
    return Comparison(
        champion=champion,
        challenger=challenger,
        share=share,
        level=1 - ab_statistics.INTERVAL_ALPHA,
        split_p=judgement.split_p,
        accuracy_difference=judgement.difference,
        guardrails=judgement.guardrails,
        f1_difference=unpaired_difference(matrices[1], matrices[0]) if f1_known else None,
        verdict=judgement.verdict,
        sentence=judgement.sentence,
    )


def history(answers: pd.DataFrame, *, points: int = 50) -> pd.DataFrame:
    """Return the always-valid difference in accuracy as labelled users were added, for a plot.

    `answers` is as for `compare_arms`. There are at most `points` rows, evenly spaced in users, the
    last one for all of them: `at` (of the answer, not of its feedback), `labelled_units` of both
    arms, `difference`, `low`, `high`. They begin where there are enough labels.
    """
    scored = _scored(_ordered(answers))
    right = (scored["label"] == scored["true_label"]).to_numpy(bool)[:, None]
    of_arm = np.column_stack([(scored["arm"] == arm).to_numpy(bool) for arm in ARMS])
    correct = (of_arm & right).cumsum(axis=0).astype(np.float64)
    counted = of_arm.cumsum(axis=0).astype(np.float64)
    looks = np.flatnonzero(ab_statistics.enough(correct, counted))
    if len(looks) > points:
        looks = looks[np.linspace(0, len(looks) - 1, points).round().astype(int)]
    difference, low, high = ab_statistics.always_valid_difference(correct[looks], counted[looks])
    found = {"labelled_units": looks + 1, "difference": difference, "low": low, "high": high}
    return pd.DataFrame({"at": scored["at"].to_numpy()[looks], **found})


def disagreements(answers: pd.DataFrame, limit: int = 50) -> pd.DataFrame:
    """Return the reviews that shadow and champion label differently, the furthest apart first.

    `answers` has the columns of `compare_arms`, `request_id`, `position`, `probability` (of
    positive, 0–1) and, where it was stored, `text`. There are at most `limit` rows: `request_id`,
    `position`, `text`, `champion_label`, `shadow_label`, `champion_probability`,
    `shadow_probability`, `true_label`. A missing text or true label is None. Reviews that either
    left without a label are left out.
    """
    pairs = _pairs(answers).dropna(subset=["champion_label", "shadow_label"])
    pairs = pairs[pairs["champion_label"] != pairs["shadow_label"]]
    apart = (pairs["champion_probability"] - pairs["shadow_probability"]).abs()
    pairs = pairs.loc[apart.sort_values(ascending=False, kind="stable").index[:limit]]
    for column in ("text", "true_label"):
        pairs[column] = pairs[column].astype(object).where(pairs[column].notna(), None)
    names = [f"{arm}_{what}" for what in ("label", "probability") for arm in (CHAMPION, SHADOW)]
    return pairs[[*PAIR, "text", *names, "true_label"]].reset_index(drop=True)


def shadow_agreement(answers: pd.DataFrame) -> ShadowAgreement:
    """Return how often shadow and champion agree; `answers` is as for `disagreements`."""
    pairs = _pairs(answers)
    both = pairs.dropna(subset=["champion_label", "shadow_label"])
    first = both.drop_duplicates("unit")
    same = first["champion_label"] == first["shadow_label"]
    agreed = wilson_interval(int(same.sum()), len(first))
    known = both.dropna(subset=["true_label"]).drop_duplicates("unit")
    truth, shadow = _labels(known, "true_label"), _labels(known, "shadow_label")
    difference = None
    if _both_classes(truth):
        difference = paired_difference(truth, shadow, _labels(known, "champion_label"))
    sentence = "nothing to compare yet: no review that both the champion and the shadow labelled"
    if agreed is not None:
        sentence = (
            f"the same label for {agreed.value:.1%} of {len(first):,} users, 95% interval "
            f"{agreed.low:.1%}…{agreed.high:.1%}"
        )
    return ShadowAgreement(
        pairs=len(both),
        unanswered=len(pairs) - len(both),
        units=len(first),
        agreed=agreed,
        labelled_units=len(known),
        f1_difference=difference,
        sentence=sentence,
    )


def _arm_scores(arm: str, rows: pd.DataFrame, units: int, scored: pd.DataFrame) -> ArmScores:
    truth, predicted = _labels(scored, "true_label"), _labels(scored, "label")
    labelled = int(rows["true_label"].notna().sum())
    return ArmScores(
        arm=arm,
        answers=len(rows),
        unanswered=int(rows["label"].isna().sum()),
        labelled=labelled,
        labelled_share=labelled / len(rows) if len(rows) else None,
        units=units,
        labelled_units=len(scored),
        accuracy=wilson_interval(int((truth == predicted).sum()), len(truth)),
        f1_macro=bootstrap_interval(truth, predicted) if _both_classes(truth) else None,
    )


def _ordered(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the two arms, oldest first."""
    rows = _checked(answers, SCORED_COLUMNS)
    return rows[rows["arm"].isin(ARMS)].sort_values("at", kind="stable")


def _scored(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each user's first answer with both labels, from the arm of the first answer."""
    own = rows["arm"] == rows.groupby("unit")["arm"].transform("first")
    return rows[own].dropna(subset=["label", "true_label"]).drop_duplicates("unit")


def _pairs(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the reviews that both the champion and the shadow answered, oldest first."""
    rows = _checked(answers, (*SCORED_COLUMNS, *PAIR, "probability"), optional=("text",))
    own = ["label", "probability"]
    champion = rows[rows["arm"] == CHAMPION].rename(columns={x: f"{CHAMPION}_{x}" for x in own})
    shadow = rows.loc[rows["arm"] == SHADOW, [*PAIR, *own]]
    shadow = shadow.rename(columns={x: f"{SHADOW}_{x}" for x in own})
    return champion.merge(shadow, on=PAIR).sort_values("at", kind="stable")


def _checked(
    answers: pd.DataFrame, columns: Sequence[str], optional: Sequence[str] = ()
) -> pd.DataFrame:
    """Return these columns of the answers, with labels as Int64; optional ones may be missing."""
    missing = [name for name in columns if name not in answers.columns]
    if missing and len(answers):
        raise ValueError(f"answers: no column {missing[0]!r}; expected {', '.join(columns)}")
    rows = answers.reindex(columns=[*columns, *optional])
    for name in ("label", "true_label"):
        if not rows[name].dropna().isin([0, 1]).all():
            raise ValueError(f"answers, column {name!r}: expected 0, 1 or missing")
        rows[name] = rows[name].astype("Int64")
    return rows


def _labels(rows: pd.DataFrame, column: str) -> Labels:
    """Return a column without missing labels as an array of 0 and 1."""
    return rows[column].to_numpy(np.int64)


def _both_classes(truth: Labels) -> bool:
    return int(np.bincount(truth, minlength=2).min()) >= MIN_CLASS_UNITS
