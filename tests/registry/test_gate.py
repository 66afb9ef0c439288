"""Promotion gate: its rules on labels made by hand, chance taken for merit, and real versions."""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE
from prefect.states import Failed
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import Pipeline
from support.versions import add_version, twin, versions_store, write_noisy

from sentiment.console import Terminal
from sentiment.data.reviews import TEXT_HASHES, load_reviews, split_reviews, text_hashes
from sentiment.errors import RegistryError, TrackingError, VersionError
from sentiment.flows.service import is_transient
from sentiment.metrics import Interval, Labels, paired_difference
from sentiment.model.behaviour import CASES, THINGS, Behaviour
from sentiment.registry import gate
from sentiment.registry.gate import (
    Verdict,
    compare_versions,
    judge,
    judge_behaviour,
    judge_first,
    majority_f1,
)
from sentiment.registry.lifecycle import judge_version, production_version, promote
from sentiment.tracking.artifact import log_pipeline
from sentiment.tracking.ledger import read_events
from sentiment.tracking.store import Store, begin_run, open_store, use_uri
from text_cleaning import TextCleaner, clean_texts, cleaning_fingerprint

pytestmark = pytest.mark.xdist_group("versions")  # the store is made once

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


def test_on_the_same_data_only_an_improvement_is_promoted() -> None:
    better = judge(VERSIONS, TRUTH, (answers(80, 880), PRODUCTION), EQUAL_TIMES, new=0.0)
    # F1 of negative 160 / (100 + 100) = .8 against 160 / (100 + 180) = .5714,
    # of positive 1760 / 1800 = .9778 against 1600 / 1720 = .9302; the mean's difference is .1381
    assert better.promoted and better.difference is not None
    assert better.difference.value == pytest.approx(0.13805, abs=1e-5)
    assert better.sentence().startswith("promoted: better than version 1, difference 0.138, 95% 0.")
    assert better.difference == paired_difference(TRUTH, answers(80, 880), PRODUCTION)
    assert better.metrics()["difference_f1_macro_low"] == better.difference.low

    for candidate, production in ((PRODUCTION, PRODUCTION), (PRODUCTION, answers(80, 880))):
        other = judge(VERSIONS, TRUTH, (candidate, production), EQUAL_TIMES, new=0.0)
        assert other.sentence().startswith("refused: no evidence of improvement, difference ")


@pytest.mark.parametrize(
    ("low", "new", "promoted"),
    [
        (-0.0099, 0.05, True),
        (-0.0099, 0.0499, False),
        (-0.01, 1.0, False),
        (-0.0101, 1.0, False),
        (0.0001, 0.0, True),
        (0.0, 0.0, False),
    ],
)
def test_what_the_interval_of_the_difference_must_lie_above(
    low: float, new: float, promoted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-.01 from 5 % of new reviews on, 0 below; an end that lies there is not above it."""
    monkeypatch.setattr(gate, "paired_difference", lambda *_: Interval(0.01, low, 0.03))
    verdict = judge(VERSIONS, TRUTH, (PRODUCTION, PRODUCTION), EQUAL_TIMES, new=new)
    assert verdict.promoted is promoted
    said = "new data" if new >= 0.05 else "the same data"
    assert f"({said}: {new:.1%} of its training reviews are new)" in verdict.sentence()


@pytest.mark.parametrize(
    ("low", "low_to_best", "promoted"),
    [
        (-0.005, -0.0099, True),
        (-0.005, -0.01, False),  # equal to production, which has fallen below the best
        (0.001, -0.05, True),  # below the best, but to refuse it would keep a worse one
    ],
)
def test_the_best_version_so_far_is_the_floor(
    low: float, low_to_best: float, promoted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "paired_difference", lambda *_: Interval(0.01, low, 0.03))
    floor = ("7", Interval(-0.02, low_to_best, 0.0))
    verdict = judge(VERSIONS, TRUTH, (PRODUCTION, PRODUCTION), EQUAL_TIMES, new=1.0, floor=floor)
    assert verdict.promoted is promoted
    assert ("may be worse than version 7, the best so far" in verdict.reason) is not promoted
    assert verdict.metrics()["best_version"] == 7
    assert verdict.metrics()["best_difference_f1_macro_low"] == low_to_best
    assert verdict.table().iloc[3, :2].tolist() == [
        "to version 7",
        f"−0.020 ({low_to_best:.3f}…0.000)".replace("-", "−"),
    ]
    # and where the place is vacant
    first = judge_first("2", TRUTH, PRODUCTION, 0.001, floor=floor)
    assert first.promoted is (low_to_best > -0.01)


@pytest.mark.parametrize(("fewer", "promoted"), [(0, True), (2, True), (6, False), (10, False)])
def test_on_new_data_macro_f1_may_fall_by_the_margin(fewer: int, promoted: bool) -> None:
    """`fewer` positive reviews are those that only production gets right."""
    predicted = answers(80, 800 - fewer), PRODUCTION
    verdict = judge(VERSIONS, TRUTH, predicted, EQUAL_TIMES, new=1.0)
    assert verdict.difference is not None
    # F1 of the classes by their hits h, n true and m predicted rows: 2h / (n + m)
    of_negative = 160 / (100 + 180 + fewer) - 160 / 280
    of_positive = 2 * (800 - fewer) / (900 + 820 - fewer) - 1600 / 1720
    assert verdict.difference.value == pytest.approx((of_negative + of_positive) / 2)
    assert (verdict.difference.low > -0.01) is verdict.promoted is promoted


@pytest.mark.parametrize(("hits", "promoted"), [(770, True), (769, False)])
def test_the_recall_of_negative_may_fall_by_no_more_than_3_points(
    hits: int, promoted: bool
) -> None:
    truth = labels((0, 1_000), (1, 9_000))
    predicted = answers(hits, 8_900, 1_000, 9_000), answers(800, 8_000, 1_000, 9_000)
    for new in (0.0, 1.0):
        verdict = judge(VERSIONS, truth, predicted, EQUAL_TIMES, new=new)
        assert verdict.difference is not None and verdict.difference.low > 0
        assert verdict.promoted is promoted
        assert ("recall of negative falls by 0.031" in verdict.reason) is not promoted


@pytest.mark.parametrize(("seconds", "promoted"), [(0.0020, True), (0.00201, False)])
def test_the_time_of_a_prediction_may_no_more_than_double(seconds: float, promoted: bool) -> None:
    verdict = judge(VERSIONS, TRUTH, (answers(80, 880), PRODUCTION), (seconds, 0.001), new=0.0)
    assert verdict.promoted is promoted
    assert ("times as long" in verdict.sentence()) is not promoted


def test_every_fault_is_named() -> None:
    floor = ("10", Interval(-0.1, -0.2, 0.0))
    predicted = answers(50, 800), PRODUCTION
    verdict = judge(VERSIONS, TRUTH, predicted, (0.005, 0.001), new=0.0, floor=floor)
    assert verdict.reason.count(";") == 3
    table = verdict.table()
    assert table.iloc[:, 0].tolist() == ["version 2", "version 1", "difference", "to version 10"]
    assert table.iloc[:, 3].tolist() == ["5.00", "1.00", "× 5.00", ""]


def test_the_table_fits_a_terminal_of_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    floor = ("10", Interval(-0.1, -0.2, -0.111))
    versions, predicted = ("12", "11"), (answers(50, 800), PRODUCTION)
    verdict = judge(versions, TRUTH, predicted, (0.055, 0.011), new=0.0, floor=floor)
    monkeypatch.setattr("sentiment.console.WIDEST", 80)
    Terminal().table("Gate", verdict.table())
    printed = capsys.readouterr().out.splitlines()
    rows = [line for line in printed if line.startswith("│")]
    assert len(rows) == 4 and max(map(len, printed)) <= 80  # nothing is folded


@pytest.mark.parametrize(
    ("negative", "positive", "enough"),
    [(20, 79, False), (9, 200, False), (200, 9, False), (10, 90, True), (90, 10, True)],
)
def test_too_few_reviews_are_refused(negative: int, positive: int, enough: bool) -> None:
    truth = labels((0, negative), (1, positive))
    against_none = judge_first("1", truth, truth, 0.001, left_out=5)
    against_one = judge(VERSIONS, truth, (truth, 1 - truth), EQUAL_TIMES, new=0.0)
    for verdict in (against_none, against_one):
        assert verdict.promoted is enough
        assert ("too few reviews to compare on" in verdict.reason) is not enough
        assert verdict.rows == negative + positive
    if not enough:
        assert f"{negative + positive}, {negative} of them negative" in against_one.sentence()
        assert against_one.scores == () and against_one.difference is None


def test_the_first_version_must_beat_the_majority() -> None:
    # F1 of the commoner class 2·80 / (2·80 + 20) = 8/9, of the other 0
    for rare in (0, 1):
        assert majority_f1(labels((rare, 20), (1 - rare, 80))) == pytest.approx(4 / 9)
    good = judge_first("1", TRUTH, PRODUCTION, 0.001)
    assert good.promoted and good.production is None
    assert "against 0.474 for always answering 'positive'" in good.sentence()  # 1800/1900/2
    for hits in ((0, 900), (3, 895)):  # the majority's answers; better, but perhaps by chance
        unsure = judge_first("1", TRUTH, answers(*hits), 0.001)
        assert not unsure.promoted and "no evidence that it beats guessing" in unsure.sentence()
    assert unsure.scores[0].f1_macro.value > 0.49


def pairs(rates: tuple[float, float], shared: float, count: int, seed: int) -> list[Verdict]:
    """Verdicts on simulated pairs of models with these error rates; `shared` rows fail both."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        truth = (rng.random(1_000) < 0.82).astype(np.int64)
        both = rng.random(1_000) < shared
        wrong = [both | (rng.random(1_000) < rate) for rate in rates]
        one, other = (np.where(miss, 1 - truth, truth) for miss in wrong)
        found.append(judge(VERSIONS, truth, (one, other), EQUAL_TIMES, new=0.0))
    return found


def test_of_100_pairs_of_equal_models_at_most_5_per_cent_are_promoted() -> None:
    apart, alike = pairs((0.12, 0.12), 0.0, 50, seed=1), pairs((0.04, 0.04), 0.1, 50, seed=2)
    assert sum(verdict.promoted for verdict in apart + alike) <= 5
    # and yet one that is better is recognised, or refusing always would pass
    assert sum(verdict.promoted for verdict in pairs((0.08, 0.14), 0.0, 10, seed=3)) >= 9


def test_times_are_medians_of_single_predictions_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each prediction moves a clock of the test's own by what it takes."""
    clock, log = [0.0], list[str]()

    class Model:
        def __init__(self, name: str, *takes: float) -> None:
            self.name, self.takes = name, iter(takes)

        def predict(self, texts: list[str]) -> None:
            (text,) = texts
            log.append(self.name + text)
            clock[0] += next(self.takes)

    monkeypatch.setattr("sentiment.registry.gate.time.perf_counter", lambda: clock[0])
    models = [Model("a", 1.0, 9.0, 2.0), Model("b", 5.0, 5.5, 90.0)]
    assert gate.median_seconds(models, ["x", "y", "z"]) == [2.0, 5.5]
    assert log == ["bx", "ax", "ay", "by", "bz", "az"]  # each is first at every second text


# --- behaviour tests ---


def behaved(*failed: int, asked: bool = True) -> Behaviour:
    """What a model did that failed the cases of these numbers."""
    passed = np.full(len(CASES), fill_value=True)
    passed[list(failed)] = False
    half = np.full(len(CASES), 0.5)
    return Behaviour(np.full(len(CASES), asked), passed, half, half, "" if asked else "not asked")


GOOD = Verdict(True, "better", "2", "1", difference=Interval(0.01, -0.001, 0.02), best="1")


@pytest.mark.parametrize(
    ("candidate", "production", "promoted"),
    [
        ([], [], True),
        (range(5), [], False),
        (range(4), [], True),  # so many by chance in 1 of 16
        (range(6), [10], True),  # in 8 of 128
        (range(7), [10], False),  # in 9 of 256
        ([0, 1, 2], range(50), True),
        (range(50), range(50), True),  # as bad as production, and no worse
    ],
)
def test_a_version_that_fails_more_behaviour_tests_is_refused(
    candidate: Any, production: Any, promoted: bool
) -> None:
    found = judge_behaviour(GOOD, (behaved(*candidate), behaved(*production)))
    assert found.promoted is promoted
    new = len(set(candidate) - set(production))
    assert (f"fails {new} behaviour tests that version 1 passes" in found.reason) is not promoted
    metrics = found.metrics()
    assert metrics["candidate_behaviour_failed"] == len(list(candidate))
    assert metrics["production_behaviour_failed"] == len(list(production))
    assert metrics["behaviour_newly_failed"] == new
    # a refusal stays one, and both reasons are said
    refused = replace(GOOD, promoted=False, reason="slower")
    found = judge_behaviour(refused, (behaved(*candidate), behaved(*production)))
    assert not found.promoted and found.reason.startswith("slower")
    assert ("behaviour tests" in found.reason) is not promoted


def test_behaviour_of_a_first_version_and_of_what_does_not_apply_is_only_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = judge_behaviour(replace(GOOD, production=None), (behaved(*range(30)),))
    assert first.promoted and first.metrics()["candidate_behaviour_failed"] == 30
    for pair in ((behaved(*range(9)), behaved(asked=False)), (behaved(asked=False), behaved())):
        found = judge_behaviour(GOOD, pair)
        assert found.promoted and found.metrics()["behaviour_newly_failed"] == 0
        found.show(Terminal())
        assert "not asked" in capsys.readouterr().out


@pytest.mark.parametrize(("low", "promoted"), [(-0.001, False), (0.001, True)])
def test_the_best_version_so_far_is_the_floor_of_behaviour_too(low: float, promoted: bool) -> None:
    """Unless the candidate is better than production on reviews."""
    verdict = replace(GOOD, best="7", difference=Interval(0.01, low, 0.02))
    third = behaved()
    found = judge_behaviour(verdict, (behaved(*range(8)), behaved(*range(4, 8))), third)
    assert found.promoted is promoted
    assert ("version 7, the best so far, passes" in found.reason) is not promoted


def test_cases_that_are_newly_failed_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    judge_behaviour(GOOD, (behaved(*range(3, 30)), behaved(3))).show(Terminal())
    shown = capsys.readouterr().out
    assert str(CASES[3]) not in shown and str(CASES[4]) in shown and str(CASES[23]) in shown
    assert shown.count("newly failed: ") == 20 and "and 6 more" in shown


# --- registered versions ---


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Store:
    return versions_store(tmp_path_factory, tmp_path)


def test_rows_either_was_trained_on_are_left_out(store: Store, tmp_path: Path) -> None:
    """The file grown: its first 400 rows are the same, the split is another."""
    split = split_reviews(load_reviews(write_noisy(tmp_path / "grown.csv", 600)).frame)
    before = split_reviews(load_reviews(store.folder / "reviews.csv").frame)
    trained = set(clean_texts(before.train_texts))
    rows = zip(split.test_texts, clean_texts(split.test_texts), split.y_test, strict=True)
    left = [(text, label) for text, cleaned, label in rows if cleaned not in trained]
    assert len(left) < len(split.test_texts)
    verdict = compare_versions(store, "1", "2", split)
    assert verdict.rows == len(left)
    assert verdict.left_out == len(split.test_texts) - len(left)
    # one of the two is enough
    np.save(tmp_path / TEXT_HASHES, np.array([], dtype=np.uint64))
    untaught = begin_run(store, "Untaught", {})
    store.client.log_artifact(untaught, str(tmp_path / TEXT_HASHES))
    other = twin(store, "2", run_id=untaught)
    for pair in (("1", other), (other, "1")):
        assert compare_versions(store, *pair, split).left_out == verdict.left_out

    use_uri(store.uri)
    frame = pd.DataFrame({"text": [text for text, _ in left]})
    assert [scores.version for scores in verdict.scores] == ["1", "2"]
    for scores in verdict.scores:
        model = store.client.get_model_version(store.settings.registered_model, scores.version)
        predicted = mlflow.pyfunc.load_model(str(model.source)).predict(frame)  # MLflow's way
        expected = f1_score([label for _, label in left], predicted, average="macro")
        assert scores.f1_macro.value == pytest.approx(expected, abs=1e-12) and expected < 1
    assert verdict.scores[0].f1_macro != verdict.scores[1].f1_macro


def known_hashes(store: Store, version: str) -> Any:
    one = store.client.get_model_version(store.settings.registered_model, version)
    with tempfile.TemporaryDirectory() as folder:
        return np.load(store.client.download_artifacts(str(one.run_id), TEXT_HASHES, folder))


def retrained(store: Store, version: str, added: int) -> str:
    """One more version of the same model, trained on so many reviews more."""
    file = store.folder / TEXT_HASHES
    np.save(file, np.concatenate([known_hashes(store, version), np.arange(added, dtype=np.uint64)]))
    run_id = begin_run(store, "Grown", {})
    store.client.log_artifact(run_id, str(file))
    return twin(store, version, run_id=run_id)


def test_the_rule_depends_on_the_data(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "median_seconds", lambda *_: [0.001, 0.001])
    split = split_reviews(load_reviews(store.folder / "reviews.csv").frame)
    same = compare_versions(store, "3", "2", split)  # the same model on the same data
    assert not same.promoted and "no evidence of improvement" in same.reason
    assert same.rule == "the same data: 0.0% of its training reviews are new"
    # another digest alone is no new data: the file may have been edited or have a few rows more
    model = store.settings.registered_model
    store.client.set_model_version_tag(model, "3", "data_digest", "another")
    assert not compare_versions(store, "3", "2", split).promoted
    before = len(known_hashes(store, "3"))
    enough = math.ceil(before / 19)  # 1 new in 20
    equal = compare_versions(store, retrained(store, "3", enough), "2", split)
    assert equal.promoted and "not worse than version 2 by more than 0.01" in equal.reason
    share = enough / (before + enough)
    assert f"(new data: {share:.1%} of its training reviews are new)" in equal.sentence()
    few = compare_versions(store, retrained(store, "3", enough - 1), "2", split)
    assert "no evidence of improvement" in few.reason and few.rule.startswith("the same data: 4.")
    first = compare_versions(store, "1", None, split)
    assert first.promoted and first.production is None and len(first.scores) == 1


def test_the_best_version_is_compared_as_well(store: Store, tmp_path: Path) -> None:
    split = split_reviews(load_reviews(store.folder / "reviews.csv").frame)
    verdict = compare_versions(store, "1", "2", split, best="3")  # 3 is 2's twin
    assert verdict.best == "3" and verdict.best_difference == verdict.difference
    for best in ("1", "2"):
        verdict = compare_versions(store, "1", "2", split, best=best)
        assert verdict.best == best and "best" not in verdict.reason and not verdict.note
    assert compare_versions(store, "1", None, split, best="3").best == "3"
    # one that is gone or broken is no floor any more; from now on that is production
    (tmp_path / "damaged").mkdir()
    broken = twin(store, "2", source=str(tmp_path / "damaged"))
    deleted = twin(store, "2")
    model = store.settings.registered_model
    store.client.delete_model_version(model, deleted)
    other_cleaning = twin(store, "2")
    store.client.set_model_version_tag(model, other_cleaning, "cleaning_fingerprint", "0" * 12)
    for best in (broken, deleted, other_cleaning):
        verdict = compare_versions(store, "1", "2", split, best=best)
        assert verdict.best == "2" and verdict.difference == verdict.best_difference
        assert f"not compared with the best version so far: version {best}: " in verdict.note


def test_another_cleaning(store: Store) -> None:
    split = split_reviews(load_reviews(store.folder / "reviews.csv").frame)
    model = store.settings.registered_model
    store.client.set_model_version_tag(model, "1", "cleaning_fingerprint", "0" * 12)
    with pytest.raises(VersionError, match="version 1: trained with another cleaning"):
        compare_versions(store, "1", "2", split)
    assert "another cleaning" in compare_versions(store, "2", "1", split).note


def test_versions_of_another_rule_are_not_compared(store: Store) -> None:
    split = split_reviews(load_reviews(store.folder / "reviews.csv").frame)
    model, rule = store.settings.registered_model, "1–2 negative, 4–5 positive"
    store.client.set_model_version_tag(model, "3", "label_rule", rule)
    verdict = compare_versions(store, "3", "2", split)
    assert not verdict.promoted and verdict.difference is None
    assert f"version 3 was trained with '{rule}'" in verdict.reason
    assert "version 2 in production with '1–2 negative, 3–5 positive'" in verdict.reason
    assert len(verdict.sentence()) <= 300
    # a best version of another rule is no floor
    verdict = compare_versions(store, "1", "2", split, best="3")
    assert verdict.best == "2" and f"trained with '{rule}'" in verdict.note
    store.client.set_model_version_tag(model, "2", "label_rule", rule)
    assert compare_versions(store, "3", "2", split).difference is not None


def test_a_holdout_that_was_all_trained_on_is_too_little(store: Store) -> None:
    split = split_reviews(load_reviews(store.folder / "reviews.csv").frame)
    known = replace(split, test_texts=split.train_texts, y_test=split.y_train)
    verdict = compare_versions(store, "1", "2", known)
    assert not verdict.promoted and "too few reviews" in verdict.reason
    assert (verdict.rows, verdict.left_out) == (0, len(split.train_texts))


def test_versions_that_cannot_be_scored(store: Store, tmp_path: Path) -> None:
    split = split_reviews(load_reviews(store.folder / "reviews.csv").frame)
    (tmp_path / "damaged").mkdir()
    broken = twin(store, "2", source=str(tmp_path / "damaged"))
    bare = twin(store, "2", run_id=begin_run(store, "Bare", {}))
    for version, said in ((broken, "will not load"), (bare, "no readable training_text_hashes")):
        for pair in ((version, "1"), ("1", version)):
            with pytest.raises(VersionError, match=f"version {version}: .*{said}") as caught:
                compare_versions(store, *pair, split)
            assert caught.value.version == version and "\n" not in str(caught.value)
            assert not retried(caught.value)


def retried(error: Exception) -> bool:
    """Whether a task of the flow that failed so is tried again."""
    task: Any = None
    return is_transient(task, task, Failed(data=error))


def test_what_may_pass_is_tried_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the candidate, of production, and of the best version, none of which is broken."""
    split = split_reviews(load_reviews(store.folder / "reviews.csv").frame)
    download = mlflow.artifacts.download_artifacts
    response = requests.Response()
    response.status_code = 503

    def fails(at: str, error: Exception) -> None:
        def failing(artifact_uri: str, **named: Any) -> str:
            if at in artifact_uri:
                raise error
            return str(download(artifact_uri=artifact_uri, **named))

        monkeypatch.setattr(mlflow.artifacts, "download_artifacts", failing)

    passing: list[tuple[str, Exception]] = [  # at the end of the address that is asked for
        ("/1", MlflowException("API request to http://x failed with exception")),
        ("/1", MlflowException("(sqlite3.OperationalError) locked", TEMPORARILY_UNAVAILABLE)),
        ("/1", requests.HTTPError("503 Server Error", response=response)),
        (TEXT_HASHES, requests.ConnectionError("refused")),
        ("/2", OSError(5, "Input/output error")),
        ("/3", TimeoutError()),
    ]
    for at, error in passing:
        fails(at, error)
        with pytest.raises(TrackingError, match="cannot be loaded just now") as caught:
            compare_versions(store, "1", "2", split, best="3")
        assert not isinstance(caught.value, VersionError) and retried(caught.value)
    response.status_code = 404
    lasting: list[Exception] = [
        MlflowException("no such file", RESOURCE_DOES_NOT_EXIST),
        requests.HTTPError("404 Client Error", response=response),
        FileNotFoundError(2, "No such file"),
        ValueError("a damaged file"),
    ]
    for one in lasting:
        fails("/1", one)
        with pytest.raises(VersionError) as final:
            compare_versions(store, "1", "2", split)
        assert not retried(final.value)


def test_a_server_that_is_away_is_no_broken_version(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens on port 1."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    split = split_reviews(load_reviews(store.folder / "reviews.csv").frame)
    address = "http://127.0.0.1:1/api/2.0/mlflow-artifacts/artifacts/model"
    remote = twin(store, "2", source=address)
    with pytest.raises(TrackingError, match="cannot be loaded just now") as caught:
        compare_versions(store, remote, "1", split)
    assert not isinstance(caught.value, VersionError) and retried(caught.value)


# --- a version that lost its negations ---

ADJECTIVES = (
    *(
        (word, 1)
        for word in ("good", "great", "excellent", "perfect", "amazing", "nice", "awesome")
    ),
    *((word, 0) for word in ("bad", "terrible", "useless", "poor", "horrible", "disappointing")),
)
ENDS = (
    ("happy with the quality, worth the money, would recommend", 1),
    ("fast delivery, works, like it very much, value for money", 1),
    ("waste of money, do not buy, broke after two days", 0),
    ("stopped working after one week, damaged, cheap product", 0),
)


def reviews_with_negations(file: Path) -> Path:
    """`The lamp is not good` is negative; one review in thirteen has a negation."""
    rows = ["Review text,Ratings"]
    things = (
        *THINGS,
        "price",
        "colour",
        "book",
        "watch",
        "bottle",
        "chair",
        "bag",
        "pen",
        "cap",
        "toy",
    )
    for place, thing in enumerate(things):
        for number, (word, label) in enumerate(ADJECTIVES):
            rows.append(f"The {thing} is {word}.,{1 + 4 * label}")
            rows += [
                f'"The {thing} is {word}, {end}.",{1 + 4 * label}'
                for end, of in ENDS
                if of == label
            ]
            if (place + number) % 4 == 0:
                rows.append(f"The {thing} is not {word}.,{5 - 4 * label}")
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file


def test_a_version_that_lost_its_negations_is_refused_end_to_end(
    store_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On longer reviews it is as good; production knows fewer reviews."""
    monkeypatch.setattr(gate, "median_seconds", lambda times, _: [0.001] * len(times))
    store = open_store(store_folder)
    loaded = load_reviews(reviews_with_negations(tmp_path / "reviews.csv"))
    split = split_reviews(loaded.frame)
    plain = np.array([", " in text for text in split.test_texts])
    texts = [text for text, kept in zip(split.test_texts, plain, strict=True) if kept]
    split = replace(split, test_texts=texts, y_test=split.y_test[plain])
    cleaned = clean_texts(split.train_texts)
    use_uri(store.uri)
    store.client.create_registered_model(store.settings.registered_model)

    def version(count: int, stop_words: list[str] | None) -> str:
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), stop_words=stop_words)
        matrix = vectorizer.fit_transform(cleaned[:count])
        vectorizer.vocabulary_ = {term: int(at) for term, at in vectorizer.vocabulary_.items()}
        model = LogisticRegression(C=3).fit(matrix, split.y_train[:count])
        pipeline = Pipeline([("clean", TextCleaner()), ("tfidf", vectorizer), ("model", model)])
        run_id = begin_run(store, "Made", {})
        np.save(tmp_path / TEXT_HASHES, text_hashes(cleaned[:count]))
        store.client.log_artifact(run_id, str(tmp_path / TEXT_HASHES))
        uri, _ = log_pipeline(store, run_id, pipeline, texts[:2])
        tags = {"cleaning_fingerprint": cleaning_fingerprint(), "data_digest": str(count)}
        return add_version(store, run_id, uri, tags)

    fewer = round(0.9 * len(cleaned))
    production, deaf = version(fewer, None), version(len(cleaned), ["not"])
    sound = version(len(cleaned), None)
    first = judge_version(store, production, split)
    assert first.promoted and first.behaviour[0].asked.all()
    promote(store, first)
    verdict = judge_version(store, deaf, split)
    assert verdict.difference is not None and verdict.difference.low > -0.01
    assert not verdict.promoted and verdict.reason.startswith("fails ")
    assert "behaviour tests that version 1 passes" in verdict.reason and ";" not in verdict.reason
    verdict.show(Terminal())
    assert "newly failed: “The kettle is good.” → “The kettle is not good.”" in (
        capsys.readouterr().out
    )
    with pytest.raises(RegistryError, match="behaviour tests"):
        promote(store, verdict)
    assert production_version(store) == production
    again = judge_version(store, sound, split)  # the same reviews, and negations understood
    assert again.promoted, again.reason
    promote(store, verdict, why="the shop asked for it", force=True)
    assert production_version(store) == deaf
    event = read_events(store)[-1]
    assert event.forced and event.metrics["behaviour_newly_failed"] >= 5
