"""Drift outcome: places on the way to a limit, shares by class, words; all worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.drift_checks import DRIFTED, MEASURED, PERFORMANCE, POSITIVE, TOO_FEW, UNKNOWN, checked
from support.drift_reviews import fitted, profile

from sentiment.drift.features import WindowFeatures, row_features
from sentiment.drift.outcome import SCORES, distributions, scores, shown, way
from sentiment.drift.report import Signal

AUC = Signal("domain_auc", "input", 0.62, None, 0.55, 0.60, True, 400)
KS = Signal("words_ks", "input", 0.03, None, 0.05, 0.06, True, 400)


@pytest.mark.parametrize(
    ("signal", "value", "expected"),
    [
        (UNKNOWN, 0.11, 0.25),  # .01 of the .04 from the reference's .10 to the limit's .14
        (UNKNOWN, 0.14, 1.0),
        (UNKNOWN, 0.90, 2.0),  # no farther than that
        (POSITIVE, 0.74, 0.75),  # down by .06 of .08
        (MEASURED, 0.88, -0.5),  # .06 better, the limit is .06 worse: −1, no farther than −.5
        (AUC, 0.62, 1.2),  # nothing is at .5, not at 0
        (KS, 0.03, 0.5),
    ],
)
def test_the_way_to_the_limit(signal: Signal, value: float, expected: float) -> None:
    assert way(signal, value) == pytest.approx(expected)


def test_the_way_to_a_limit_that_is_where_one_starts() -> None:
    never = Signal("emoji", "input", 0.0, 0.0, 0.0, 0.0, True, 400)
    assert (way(never, 0.0), way(never, 0.1)) == (0.0, 2.0)


def test_distributions_are_shares_by_class() -> None:
    window = WindowFeatures(
        characters=np.array([1, 1, 1, 1, 1]),
        words=np.array([0, 1, 5, 13, 80]),
        known_words=np.array([0, 1, 5, 13, 80]),
        probability=np.array([0.7, 0.0, 0.049, 0.951, 1.0]),
        label=np.array([-1, 0, 0, 1, 1]),
        text=None,
    )
    score, words = distributions(profile(), window)
    assert words.classes == ("0", "1", "2", "3", "4–5", "6–8", "9–13", "14–24", "25+")
    assert words.window == pytest.approx((0.2, 0.2, 0, 0, 0.2, 0, 0.2, 0, 0.2))
    assert (len(score.classes), score.classes[0], score.classes[-1]) == (20, "0–5%", "95–100%")
    assert score.window == pytest.approx((0.5, *(0,) * 18, 0.5))  # of the four with an answer
    # of the reference, from its own counts
    values, reviews = profile().counts["words"]
    of_two = reviews[values == 2].sum() / reviews.sum()
    assert words.reference[2] == pytest.approx(of_two)
    assert sum(words.reference) == pytest.approx(1) and sum(score.reference) == pytest.approx(1)


def test_a_window_without_answers_has_no_scores_to_share_out() -> None:
    score, words = distributions(profile(), row_features(["qqq", "zzz qqq"], fitted()))
    assert set(score.window) == {0.0}
    assert words.window[1:3] == (0.5, 0.5)


def test_scores_are_by_name() -> None:
    found = scores(PERFORMANCE)
    assert list(found) == list(SCORES)
    assert found["measured_f1"] == PERFORMANCE.measured
    assert found["estimated_f1_on_labelled"] == PERFORMANCE.estimated_on_labelled
    assert set(scores(TOO_FEW.performance).values()) == {None}


def test_values_are_shown_in_their_units() -> None:
    assert shown("unknown_words", 0.1234) == "12.3%"
    assert shown("terms", 20.77) == "20.8"
    assert shown("score_psi", 0.0284) == "0.028"


def test_a_check_as_a_dictionary_says_of_what_it_is() -> None:
    found = json.loads(json.dumps(checked(DRIFTED, run_id="abc").as_dict(), allow_nan=False))
    assert (found["version"], found["source"], found["run_id"]) == ("3", "prediction log", "abc")
    assert found["checked_at"] == "2026-03-01T12:30:00+00:00"
    assert found["window"] == {
        "reviews": 400,
        "began": "2026-02-28T09:00:00+00:00",
        "ended": "2026-03-01T12:30:00+00:00",
        "notes": ["left out: answers of a shadow (4)"],
    }
    assert (found["verdict"], found["reviews"]) == ("drifted", 400)
    assert [signal["state"] for signal in found["signals"]] == ["steady", "watch", "drifted"]
    assert found["performance"]["measured"] == {"value": 0.70, "low": 0.61, "high": 0.78}
    without = checked(TOO_FEW, began=None, ended=None).as_dict()
    assert (without["verdict"], without["window"]["began"]) == ("not enough yet", None)
