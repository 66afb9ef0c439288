"""A/B test: who gets which arm, and what frames of answers, made by hand, are said to show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from sentiment.ab.comparison import (
    assign_arm,
    compare_arms,
    disagreements,
    history,
    shadow_agreement,
)
from sentiment.metrics import wilson_interval

COLUMNS = ["unit", "arm", "label", "true_label", "at"]
IDS = [f"user-{number}" for number in range(20_000)]


def challenged(experiment: str, share: float) -> np.ndarray:
    return np.array([assign_arm(unit, experiment, share) == "challenger" for unit in IDS])


def frame(rows: Sequence[tuple[str, str, int | None, int | None, float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS).astype({"label": "Int64", "true_label": "Int64"})


def arm_rows(arm: str, wrong: int, users: int) -> pd.DataFrame:
    """One labelled answer a user, every third of class 0; the first `wrong` of them are wrong."""
    true = [int(number % 3 > 0) for number in range(users)]
    given = [1 - label if number < wrong else label for number, label in enumerate(true)]
    return frame(
        [(f"{arm}{number}", arm, given[number], true[number], number) for number in range(users)]
    )


def both_arms(champion: tuple[int, int], challenger: tuple[int, int]) -> pd.DataFrame:
    """Wrong answers and users of each arm, in turn."""
    return pd.concat([arm_rows("champion", *champion), arm_rows("challenger", *challenger)])


# --- who gets which arm ---


def test_every_experiment_splits_the_units_as_configured_and_afresh() -> None:
    assert not challenged("1-vs-3", 0.0).any() and challenged("1-vs-3", 1.0).all()
    small, half = challenged("1-vs-3", 0.2), challenged("1-vs-3", 0.5)
    assert small.mean() == pytest.approx(0.2, abs=0.01)
    assert half.mean() == pytest.approx(0.5, abs=0.01)
    assert not (small & ~half).any()  # a larger share keeps all that the challenger had
    other = challenged("1-vs-4", 0.2)
    for part in (half, ~half):
        assert other[part].mean() == pytest.approx(0.2, abs=0.015)


def test_assignments_are_the_same_for_ever() -> None:
    """The numbers are from OpenSSL's BLAKE2BMAC, keyed with b2sum of the experiment."""
    for unit, experiment, number in (
        ("user-1", "1-vs-3", 0xF223003CE4A71D10),
        ("é", "1-vs-3", 0xA58B538881927A53),
        ("user-1", "", 0x7430E5EC124C8EA5),
        ("user-1", "x" * 1_000, 0x87F75AE2DD238771),
    ):
        assert assign_arm(unit, experiment, number / 2**64 + 1e-9) == "challenger"
        assert assign_arm(unit, experiment, number / 2**64 - 1e-9) == "champion"


@pytest.mark.parametrize("share", [-0.1, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share: expected a number from 0 to 1, found"):
        assign_arm("user-1", "1-vs-3", share)


# --- what is counted ---

STORY = frame(
    [
        # at, in no order: user a is the champion's; the first answer with both labels is wrong
        ("a", "champion", 1, 1, 9.0),
        ("a", "champion", 1, 0, 3.0),
        ("a", "champion", 1, None, 1.0),
        ("a", "champion", None, 1, 2.0),
        # b moved to the challenger later: that answer is nobody's score
        ("b", "champion", 0, 0, 4.0),
        ("b", "challenger", 1, 0, 5.0),
        # c moved before a true label came
        ("c", "champion", 0, None, 4.5),
        ("c", "challenger", 0, 0, 5.5),
        # d's only true label is of a review that was refused
        ("d", "challenger", None, 1, 6.0),
        ("d", "challenger", 1, None, 7.0),
        ("e", "challenger", 1, 1, 8.0),
        ("e", "challenger", 0, 1, 8.0),  # the same moment, the next review
        ("e", "shadow", 0, 1, 8.0),
    ]
)


def test_arms_are_counted_by_hand() -> None:
    before = STORY.copy()
    compared = compare_arms(STORY, share=0.5)
    pd.testing.assert_frame_equal(STORY, before)  # left as it was
    champion, challenger = compared.champion, compared.challenger
    assert (champion.arm, challenger.arm) == ("champion", "challenger")
    assert (champion.answers, champion.unanswered, champion.units) == (6, 1, 3)
    assert (challenger.answers, challenger.unanswered, challenger.units) == (6, 1, 2)
    assert (champion.labelled, challenger.labelled_share) == (4, 5 / 6)
    # scored: a (wrong) and b (right) for the champion, e (right) for the challenger
    assert (champion.labelled_units, challenger.labelled_units) == (2, 1)
    assert champion.accuracy is not None and champion.accuracy.value == 0.5
    assert challenger.accuracy is not None and challenger.accuracy.value == 1.0
    assert champion.f1_macro is None and compared.f1_difference is None
    assert compared.verdict == "not enough labels yet"


def test_scores_by_hand() -> None:
    # champion: wrong are 10 of the 100 of class 0 and 20 of the 200 of class 1, so that F1 is
    # 180 / (100 + 110) and 360 / (200 + 190); challenger: 3 and 6, so 194 / (100 + 103) and
    # 388 / (200 + 197)
    compared = compare_arms(both_arms((30, 300), (9, 300)), share=0.5)
    before = (180 / 210 + 360 / 390) / 2
    after = (194 / 203 + 388 / 397) / 2
    champion, challenger = compared.champion.f1_macro, compared.challenger.f1_macro
    assert champion is not None and champion.value == pytest.approx(before)
    assert challenger is not None and challenger.value == pytest.approx(after)
    assert champion.low < before < champion.high
    assert compared.f1_difference is not None
    assert compared.f1_difference.value == pytest.approx(after - before)
    assert compared.accuracy_difference is not None
    assert compared.accuracy_difference.value == pytest.approx(0.07)
    assert compared.challenger.accuracy == wilson_interval(291, 300)
    assert compared.split_p == 1.0


def test_a_clear_winner_is_named_whatever_the_share() -> None:
    better = compare_arms(both_arms((320, 1600), (20, 400)), share=0.2)
    assert better.sentence.startswith("challenger better: accuracy +.150, always-valid 97.5% ")
    assert better.level == 0.975 and not any(rail.falls for rail in better.guardrails)
    worse = compare_arms(both_arms((80, 1600), (80, 400)), share=0.2)
    assert worse.sentence.startswith("challenger worse: recall of ")
    assert "accuracy −.150, always-valid 97.5% " in worse.sentence
    split = compare_arms(both_arms((320, 1600), (20, 400)), share=0.5)
    assert split.verdict == "the split is not as configured"


def test_guardrails_are_of_the_users_whose_true_label_is_of_the_class() -> None:
    # every third user is of class 0; 30 and 9 wrong answers are the first, a third of each class 0
    negative, positive = compare_arms(both_arms((30, 300), (9, 300)), share=0.5).guardrails
    assert (negative.class_name, positive.class_name) == ("negative", "positive")
    assert (negative.users, positive.users) == ((100, 100), (200, 200))
    assert negative.recalls == (0.90, 0.97) and positive.recalls == (180 / 200, 194 / 200)
    assert negative.difference is not None and negative.difference.value == pytest.approx(0.07)


def test_refusals_change_counts_but_no_score() -> None:
    answered = both_arms((30, 300), (9, 300))
    refusals = frame([(f"challenger{n}", "challenger", None, 1, -1.0) for n in range(50)])
    plain = compare_arms(answered, share=0.5)
    compared = compare_arms(pd.concat([answered, refusals]), share=0.5)
    assert (compared.challenger.unanswered, compared.challenger.answers) == (50, 350)
    assert compared.challenger.accuracy == plain.challenger.accuracy
    assert compared.sentence == plain.sentence


def test_labels_may_be_of_any_numeric_type() -> None:
    answers = both_arms((30, 300), (9, 300))
    expected = compare_arms(answers, share=0.5)
    for kind in ("float64", object):
        assert compare_arms(answers.astype({"label": kind, "true_label": kind}), share=0.5) == (
            expected
        )


LABELLED = both_arms((30, 300), (9, 300))
LITTLE = {
    "no columns": pd.DataFrame(),
    "no rows": frame([]),
    "shadow only": arm_rows("shadow", 3, 40),
    "champion only": arm_rows("champion", 30, 300),
    "challenger only": arm_rows("challenger", 30, 300),
    "one answer": arm_rows("champion", 0, 1),
    "all right": both_arms((0, 400), (0, 400)),
    "all wrong": both_arms((400, 400), (400, 400)),
    "no true labels": LABELLED.assign(true_label=None),
    "all refused": LABELLED.assign(label=None),
    "one class": LABELLED.assign(true_label=1),
    "one class, all right": LABELLED.assign(true_label=0, label=0),
}


@pytest.mark.parametrize("answers", LITTLE.values(), ids=LITTLE)
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_little_to_go_by_is_a_sentence(answers: pd.DataFrame, share: float) -> None:
    compared = compare_arms(answers, share=share)
    assert json.dumps(asdict(compared), allow_nan=False)
    assert compared.sentence.startswith(f"{compared.verdict}: ")
    assert not compared.verdict.endswith("better")
    assert history(answers)[["difference", "low", "high"]].notna().all(axis=None)


def test_macro_f1_needs_both_classes() -> None:
    compared = compare_arms(both_arms((30, 300), (9, 300)).assign(true_label=1), share=0.5)
    assert compared.champion.accuracy is not None and compared.champion.f1_macro is None
    # 28 users are 10 of class 0 and 18 of class 1; of 27 only 9 are of class 0
    compared = compare_arms(both_arms((3, 28), (3, 27)), share=0.5)
    assert compared.champion.f1_macro is not None and compared.challenger.f1_macro is None
    assert compared.f1_difference is None


def test_what_cannot_be_compared_is_refused() -> None:
    for column, value in (("label", 2), ("true_label", "good")):
        answers = STORY.astype({column: object})
        answers.iloc[3, COLUMNS.index(column)] = value
        with pytest.raises(ValueError, match=f"column '{column}': expected 0, 1 or missing"):
            compare_arms(answers, share=0.5)
    for column in COLUMNS:
        with pytest.raises(ValueError, match=f"no column '{column}'; expected unit, arm, label"):
            compare_arms(STORY.drop(columns=column), share=0.5)
    for share in (1.5, -0.1):
        with pytest.raises(ValueError, match=f"between 0 and 1, found {share}"):
            compare_arms(STORY, share=share)


# --- over time ---


def test_each_point_of_history_is_the_comparison_of_that_moment() -> None:
    answers = both_arms((120, 600), (60, 600))
    answers["at"] = pd.to_datetime(answers["at"], unit="s", utc=True)
    found = history(answers, points=7)
    assert len(found) == 7 and found["labelled_units"].is_monotonic_increasing
    assert found["labelled_units"].iloc[-1] == 1200
    for point in found.to_dict("records"):
        # arms take turns, the champion's answer first
        then = answers.sort_values("at", kind="stable").head(point["labelled_units"])
        expected = compare_arms(then, share=0.5).accuracy_difference
        assert expected is not None and point["at"] == then["at"].max()
        assert [point[name] for name in ("difference", "low", "high")] == pytest.approx(
            [expected.value, expected.low, expected.high], abs=1e-12
        )


def test_history_begins_when_there_are_enough_labels() -> None:
    # all 60 of the champion's are wrong: only the right answers of the challenger are few
    assert history(both_arms((60, 60), (40, 49))).empty
    first = history(both_arms((30, 100), (30, 100)), points=1_000).iloc[0]
    assert first["labelled_units"] == 100  # 50 users an arm, 60 wrong


# --- the shadow ---


def review(
    number: int,
    labels: tuple[int | None, int | None],
    probabilities: tuple[float, float],
    true_label: int | None = None,
    text: str | None = None,
) -> list[dict[str, object]]:
    """The champion's and the shadow's row of one review, of a user of its own."""
    place = {"request_id": f"r{number // 2}", "position": number % 2, "at": float(number)}
    both = {"unit": f"u{number}", "true_label": true_label, "text": text, **place}
    answers = zip(("champion", "shadow"), labels, probabilities, strict=True)
    return [{**both, "arm": a, "label": label, "probability": p} for a, label, p in answers]


SHADOWED = pd.DataFrame(
    [
        *review(0, (1, 1), (0.9, 0.8), 1, "fine"),
        *review(1, (1, 0), (0.55, 0.45), None, "so so"),
        *review(2, (0, 1), (0.05, 0.95), 0, None),
        *review(3, (None, 1), (0.7, 0.9), 1, "ok"),
        *review(4, (1, 0), (0.8, 0.3), 1, "well"),
        *review(5, (0, 0), (0.1, 0.4), 0, "bad"),
        review(6, (1, 1), (0.9, 0.1))[0],  # the shadow has not scored it
        {**review(7, (0, 0), (0.9, 0.1))[0], "arm": "challenger"},
        review(7, (0, 1), (0.9, 0.1))[1],  # beside the challenger's answer: no pair
    ]
)


def test_disagreements_come_with_the_furthest_apart_first() -> None:
    found = disagreements(SHADOWED)
    assert list(found.columns) == [
        *("request_id", "position", "text", "champion_label", "shadow_label"),
        *("champion_probability", "shadow_probability", "true_label"),
    ]
    assert list(found.itertuples(index=False, name=None)) == [
        ("r1", 0, None, 0, 1, 0.05, 0.95, 0),
        ("r2", 0, "well", 1, 0, 0.8, 0.3, 1),
        ("r0", 1, "so so", 1, 0, 0.55, 0.45, None),
    ]
    assert json.dumps(found.to_dict("records"), allow_nan=False)
    assert disagreements(SHADOWED, limit=1)["request_id"].tolist() == ["r1"]
    # texts may not have been stored
    assert disagreements(SHADOWED.drop(columns="text"))["text"].tolist() == [None, None, None]


def test_agreement_by_hand() -> None:
    agreement = shadow_agreement(SHADOWED)
    # reviews 0 and 5 of 0, 1, 2, 4 and 5: 2 of 5
    assert (agreement.pairs, agreement.unanswered, agreement.units) == (5, 1, 5)
    assert agreement.agreed is not None and agreement.agreed.value == 0.4
    # (2 + 1.9207) / 8.8415 ± 1.95996 / 8.8415 · √(5 · .4 · .6 + .9604)
    assert agreement.agreed.low == pytest.approx(0.44345 - 0.32582, abs=2e-5)
    assert agreement.agreed.high == pytest.approx(0.44345 + 0.32582, abs=2e-5)
    assert agreement.labelled_units == 4 and agreement.f1_difference is None  # 2 of each class
    assert "40.0% of 5 users" in agreement.sentence


def test_one_user_counts_once_in_the_agreement() -> None:
    """However many reviews the user sends; the true label may come with a later one."""
    rows = [
        {**row, "unit": "u0"}
        for number, labels in enumerate([(1, 1), (1, 0), (0, 1), (0, 0)])
        for row in review(number, labels, (0.5, 0.5), None if number == 0 else 1)
    ]
    agreement = shadow_agreement(pd.DataFrame(rows))
    assert (agreement.pairs, agreement.units, agreement.labelled_units) == (4, 1, 1)
    assert agreement.agreed is not None and agreement.agreed.value == 1.0


def test_the_shadow_is_scored_in_pairs() -> None:
    # 40 reviews, every other of class 0. The champion is wrong on the first 8 (4 of each class),
    # the shadow on none: its F1 is 1, the champion's of either class 2 · 16 / (20 + 20) = .8
    rows = []
    for number in range(40):
        true = number % 2
        given = 1 - true if number < 8 else true
        rows += review(number, (given, true), (0.5, 0.5), true)
    agreement = shadow_agreement(pd.DataFrame(rows))
    assert agreement.labelled_units == 40 and agreement.f1_difference is not None
    assert agreement.f1_difference.value == pytest.approx(0.2)
    assert 0 < agreement.f1_difference.low < 0.2 < agreement.f1_difference.high
    json.dumps(asdict(agreement), allow_nan=False)


@pytest.mark.parametrize(
    "answers", [pd.DataFrame(), SHADOWED.iloc[:0], SHADOWED[SHADOWED["arm"] == "champion"]]
)
def test_no_shadow_is_a_sentence(answers: pd.DataFrame) -> None:
    agreement = shadow_agreement(answers)
    assert agreement.sentence.startswith("nothing to compare yet: ")
    assert agreement.agreed is None and json.dumps(asdict(agreement), allow_nan=False)
    assert disagreements(answers).empty
