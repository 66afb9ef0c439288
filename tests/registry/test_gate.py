"""Promotion gate: its rules on labels made by hand, and how often it takes chance for merit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from sentiment.metrics import Labels
from sentiment.registry import version_scoring
from sentiment.registry.gate import Verdict, judge, judge_first, majority_f1

VERSIONS = ("2", "1")  # candidate, production
EQUAL_TIMES = (0.001, 0.001)


def labels(*runs: tuple[int, int]) -> Labels:
    """`labels((0, 3), (1, 2))` is 0 0 0 1 1."""
    return np.concatenate([np.full(count, label, dtype=np.int64) for label, count in runs])


def answers(
    hits_negative: int, hits_positive: int, negative: int = 100, positive: int = 900
) -> Labels:
    """Predictions for `negative` rows of label 0, then `positive` of label 1, with these hits."""
    return labels(
        (0, hits_negative),
        (1, negative - hits_negative),
        (1, hits_positive),
        (0, positive - hits_positive),
    )


TRUTH = labels((0, 100), (1, 900))
PRODUCTION = answers(80, 800)


def test_the_difference_is_that_of_rows_drawn_with_replacement() -> None:
    """Against scikit-learn's scores of 1,000 resamples of the rows themselves."""
    rng = np.random.default_rng(7)
    truth = (rng.random(400) < 0.8).astype(np.int64)
    one = np.where(rng.random(400) < 0.10, 1 - truth, truth)
    other = np.where(rng.random(400) < 0.16, 1 - truth, truth)
    draws = []
    for _ in range(1_000):
        rows = rng.integers(0, 400, 400)
        scores = [f1_score(truth[rows], x[rows], average="macro") for x in (one, other)]
        draws.append(scores[0] - scores[1])
    verdict = judge(VERSIONS, truth, (one, other), EQUAL_TIMES, same_data=True)
    found = verdict.difference
    assert found is not None
    exact = f1_score(truth, one, average="macro") - f1_score(truth, other, average="macro")
    assert found.value == pytest.approx(exact, abs=1e-12)
    # the ends of two such bootstraps differ by chance by about .003
    assert found.low == pytest.approx(np.percentile(draws, 2.5), abs=0.008)
    assert found.high == pytest.approx(np.percentile(draws, 97.5), abs=0.008)
    assert verdict.metrics()["difference_f1_macro_low"] == found.low


def test_on_the_same_data_only_an_improvement_is_promoted() -> None:
    better = judge(VERSIONS, TRUTH, (answers(80, 880), PRODUCTION), EQUAL_TIMES, same_data=True)
    # F1 of negative 160 / (100 + 100) = .8 against 160 / (100 + 180) = .5714,
    # of positive 1760 / 1800 = .9778 against 1600 / 1720 = .9302; the mean's difference is .1381
    assert better.promoted and better.difference is not None
    assert better.difference.value == pytest.approx(0.13805, abs=1e-5)
    assert better.sentence().startswith("promoted: better than version 1, difference 0.138, 95% 0.")

    equal = judge(VERSIONS, TRUTH, (PRODUCTION, PRODUCTION), EQUAL_TIMES, same_data=True)
    assert equal.sentence() == (
        "refused: no evidence of improvement, difference 0.000, 95% 0.000…0.000"
    )
    worse = judge(VERSIONS, TRUTH, (PRODUCTION, answers(80, 880)), EQUAL_TIMES, same_data=True)
    assert worse.sentence().startswith(
        "refused: no evidence of improvement, difference −0.138, 95% −0."
    )


def test_on_new_data_no_worse_than_the_margin_is_promoted() -> None:
    equal = judge(VERSIONS, TRUTH, (PRODUCTION, PRODUCTION), EQUAL_TIMES, same_data=False)
    assert equal.promoted
    assert equal.sentence().startswith("promoted: new data, and not worse than version 1 by more")
    # the same score, but other rows right: the interval is wide and reaches below −.01
    elsewhere = np.concatenate([PRODUCTION[:100][::-1], PRODUCTION[100:][::-1]])
    unsure = judge(VERSIONS, TRUTH, (elsewhere, PRODUCTION), EQUAL_TIMES, same_data=False)
    assert unsure.difference is not None and unsure.difference.value == 0
    assert unsure.difference.low < -0.01
    assert not unsure.promoted and "may be worse than version 1 by more than 0.01" in unsure.reason


@pytest.mark.parametrize(("hits", "promoted"), [(77, True), (76, False)])
def test_the_recall_of_negative_may_fall_by_no_more_than_3_points(
    hits: int, promoted: bool
) -> None:
    for same_data in (True, False):
        verdict = judge(
            VERSIONS, TRUTH, (answers(hits, 890), PRODUCTION), EQUAL_TIMES, same_data=same_data
        )
        assert verdict.difference is not None and verdict.difference.low > 0
        assert verdict.promoted is promoted
        if not promoted:
            assert verdict.sentence() == (
                "refused: recall of negative falls by 0.040, more than 0.03"
            )


@pytest.mark.parametrize(("seconds", "promoted"), [(0.0020, True), (0.0021, False)])
def test_the_time_of_a_prediction_may_no_more_than_double(seconds: float, promoted: bool) -> None:
    verdict = judge(
        VERSIONS, TRUTH, (answers(80, 880), PRODUCTION), (seconds, 0.001), same_data=True
    )
    assert verdict.promoted is promoted
    if not promoted:
        assert "takes 2.1 times as long, at most 2" in verdict.sentence()


def test_every_fault_is_named() -> None:
    verdict = judge(VERSIONS, TRUTH, (answers(50, 800), PRODUCTION), (0.005, 0.001), same_data=True)
    assert verdict.reason.count(";") == 2
    assert [row[0] for row in verdict.table().itertuples(index=False)] == [
        "macro-F1",
        "recall of negative",
        "median ms a prediction",
    ]
    assert list(verdict.table().columns) == ["measure", "version 2", "version 1", "difference"]
    assert verdict.table().iloc[2, 1:].tolist() == ["5.00", "1.00", "× 5.00"]


@pytest.mark.parametrize(
    ("negative", "positive", "enough"),
    [(20, 79, False), (9, 200, False), (200, 9, False), (10, 90, True), (90, 10, True)],
)
def test_too_few_reviews_are_refused(negative: int, positive: int, enough: bool) -> None:
    truth = labels((0, negative), (1, positive))
    against_none = judge_first("1", truth, truth, 0.001, left_out=5)
    against_one = judge(VERSIONS, truth, (truth, 1 - truth), EQUAL_TIMES, same_data=True)
    for verdict in (against_none, against_one):
        assert verdict.promoted is enough
        assert ("too few reviews to compare on" in verdict.reason) is not enough
        assert verdict.rows == negative + positive
    if not enough:
        assert f"{negative + positive}, {negative} of them negative" in against_one.sentence()
        assert against_one.scores == () and against_one.difference is None


def test_the_majority_baseline_by_hand() -> None:
    # F1 of the commoner class 2·80 / (2·80 + 20) = 8/9, of the other 0
    assert majority_f1(labels((0, 20), (1, 80))) == pytest.approx(4 / 9)
    assert majority_f1(labels((0, 80), (1, 20))) == pytest.approx(4 / 9)


def test_the_first_version_must_beat_the_majority() -> None:
    good = judge_first("1", TRUTH, PRODUCTION, 0.001)
    assert good.promoted and good.production is None
    assert "against 0.474 of always answering 'positive'" in good.sentence()  # 1800/1900/2
    idle = judge_first("1", TRUTH, answers(0, 900), 0.001)
    assert not idle.promoted and "no evidence of use" in idle.sentence()


def pairs(rates: tuple[float, float], shared: float, count: int, seed: int) -> list[Verdict]:
    """Verdicts on simulated pairs of models with these error rates; `shared` rows fail both."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        truth = (rng.random(1_000) < 0.82).astype(np.int64)
        both = rng.random(1_000) < shared
        wrong = [both | (rng.random(1_000) < rate) for rate in rates]
        one, other = (np.where(miss, 1 - truth, truth) for miss in wrong)
        found.append(judge(VERSIONS, truth, (one, other), EQUAL_TIMES, same_data=True))
    return found


def test_of_500_pairs_of_equal_models_at_most_5_per_cent_are_promoted() -> None:
    apart, alike = pairs((0.12, 0.12), 0.0, 250, seed=1), pairs((0.04, 0.04), 0.1, 250, seed=2)
    assert sum(verdict.promoted for verdict in apart + alike) <= 25
    # and yet one that is better is recognised, or refusing always would pass
    assert sum(verdict.promoted for verdict in pairs((0.08, 0.14), 0.0, 50, seed=3)) >= 45


class Model:
    """Predicts, and moves a clock of the test's own by what each prediction takes."""

    def __init__(self, name: str, takes: list[float], clock: list[float], log: list[str]) -> None:
        self.name, self.takes, self.clock, self.log = name, iter(takes), clock, log

    def predict(self, texts: list[str]) -> list[int]:
        """Always positive."""
        assert len(texts) == 1
        self.log.append(self.name + texts[0])
        self.clock[0] += next(self.takes)
        return [1]


def test_times_are_medians_of_single_predictions_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, log = [0.0], list[str]()
    monkeypatch.setattr("sentiment.registry.version_scoring.time.perf_counter", lambda: clock[0])
    one = Model("a", [1.0, 9.0, 2.0], clock, log)
    other = Model("b", [5.0, 5.5, 90.0], clock, log)
    assert version_scoring.median_seconds([one, other], ["x", "y", "z"]) == [2.0, 5.5]
    assert [entry[1] for entry in log] == ["x", "x", "y", "y", "z", "z"]
    assert log[0][0] != log[2][0]  # each is first at every second text
