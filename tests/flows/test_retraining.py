"""Retraining: the configuration chosen, what counts as a change, which versions are retired."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from conftest import write_reviews
from support import LEDGER

import sentiment_mlflow_optuna
from sentiment.data.reviews import load_reviews
from sentiment.flows import retraining
from sentiment.flows.retraining import Chosen, Outcome, Passage
from sentiment.model.algorithms import build_candidate
from sentiment.model.calibration import DecisionRule
from sentiment.model.predictor import load_version
from sentiment.predictions.feedback import Feedback, LabelledReviews, with_feedback
from sentiment.predictions.log import AB, LoggedComparison, default_log_url, open_log
from sentiment.registry.gate import Verdict
from sentiment.registry.lifecycle import (
    judge_version,
    production_version,
    promote,
    retire_versions,
    rollback,
)
from sentiment.tracking.store import Store, begin_run, find_runs, open_store
from sentiment.training.report import PreparedReviews, fit_and_evaluate, folds_of, prepare_reviews

ALGORITHM = "LogisticRegression"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedReviews:
    file = write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv", rows=800)
    return prepare_reviews(load_reviews(file))


def retrain(
    store: Store,
    chosen: Chosen,
    data: PreparedReviews,
    flow_run: str,
    labelled: LabelledReviews | None = None,
) -> Outcome:
    labelled = labelled or with_feedback(data.loaded)
    folds = folds_of(data)
    fitted = fit_and_evaluate(chosen.algorithm, chosen.candidate, data, folds, chosen.decision)
    address = (flow_run, "http://ui")
    return retraining.log_retraining(store, chosen, fitted, data, labelled, address)


def published() -> Chosen:
    return Chosen(ALGORITHM, retraining.published_candidate(), "published", "x")


def another() -> Chosen:
    params = {"C": 1.0, "max_features": 3000, "min_df": 3, "max_df": 0.9}
    return Chosen(ALGORITHM, build_candidate(ALGORITHM, params), "champion", "x")


def run_of(store: Store, flow_run: str) -> str:
    (run,) = find_runs(store, LEDGER, {"flipkart.flow_run": flow_run})
    return str(run.info.run_id)


def feedback(labels: int) -> Feedback:
    """So many reviews of one new word and a number, every other one negative."""
    texts = pd.Series([f"wobbly {number}" for number in range(labels)], dtype=str)
    ratings = pd.Series([1 + 4 * (number % 2) for number in range(labels)], dtype="int64")
    return Feedback(pd.DataFrame({"text": texts, "rating": ratings}))


def test_published_is_the_guides_configuration() -> None:
    candidate = retraining.published_candidate()
    vectorizer, model = candidate.vectorizer, candidate.model
    assert (vectorizer.ngram_range, vectorizer.max_features) == ((1, 2), 5000)
    assert (vectorizer.min_df, vectorizer.max_df) == (3, 0.9)
    assert vectorizer.stop_words == "english" and not vectorizer.sublinear_tf
    assert (model.C, model.max_iter, model.class_weight) == (0.5, 1000, "balanced")


@pytest.mark.slow
def test_the_configuration_follows_production_then_the_search_then_the_guide(
    prepared: PreparedReviews, tmp_path: Path, store_folder: Path
) -> None:
    store = open_store(store_folder)
    grown = prepare_reviews(load_reviews(write_reviews(tmp_path / "grown.csv", rows=900)))
    turned = prepared.loaded.frame["text"].str[::-1]
    frame = prepared.loaded.frame.assign(text=turned)
    of_others = prepare_reviews(replace(prepared.loaded, frame=frame))
    # nothing was run yet
    assert retraining.choose(store, "champion", prepared).config == "published"

    options = ["--data", str(prepared.loaded.source), "--store", str(store_folder), "--trials", "2"]
    models = ["--models", f"{ALGORITHM},NaiveBayes", "--recall-negative", "0.8", "--quiet"]
    assert sentiment_mlflow_optuna.main([*options, *models]) == 0
    parents = find_runs(store, ALGORITHM, {"flipkart.kind": "search"})
    searched = parents[0].data.params
    chosen = retraining.choose(store, "champion", prepared)
    assert "best search" in chosen.origin
    assert str(chosen.parameters()["C"]) == searched["C"]
    assert chosen.candidate.vectorizer.sublinear_tf is True
    assert chosen.decision == DecisionRule(0.8)
    assert retraining.choose(store, "published", prepared).parameters()["C"] == 0.5
    # a search counts on the reviews it was made on, also when some came after, and on no others
    assert str(retraining.choose(store, "champion", grown).parameters()["C"]) == searched["C"]
    other = retraining.choose(store, "champion", of_others)
    assert (other.config, other.parameters()["C"]) == ("published", 0.5)
    # what the experiment registered is not trained and registered a second time
    labelled = with_feedback(prepared.loaded)
    unchanged = retraining.unchanged_since(
        store, chosen.candidate, labelled, decision=chosen.decision
    )
    assert unchanged is not None and unchanged.run_id == parents[0].info.run_id
    again = retrain(store, chosen, prepared, "run-0")
    assert (again.version, again.new) == (unchanged.version, False)

    # production decides on the algorithm too
    versions = store.client.search_model_versions("name = 'FlipkartSentimentModel'")
    number = {version.tags["model"]: str(version.version) for version in versions}
    promote(store, judge_version(store, number["NaiveBayes"], prepared.split))
    chosen = retraining.choose(store, "champion", of_others)
    parents = find_runs(store, "NaiveBayes", {"flipkart.kind": "search"})
    assert chosen.origin.startswith(f"that of production version {number['NaiveBayes']} (NaiveB")
    # the rule of the version that is replaced is kept, whatever is trained
    assert chosen.decision == DecisionRule(0.8)
    assert retraining.choose(store, "published", of_others).decision == DecisionRule(0.8)
    assert chosen.algorithm == "NaiveBayes"
    assert str(chosen.parameters()["alpha"]) == parents[0].data.params["alpha"]
    retrained = retrain(store, chosen, of_others, "run-1")
    tags = store.client.get_model_version("FlipkartSentimentModel", retrained.version).tags
    assert (tags["model"], tags["split"]) == ("NaiveBayes", "hashed")
    assert tags["decision_rule"] == "recall of negative 0.8"
    served = load_version(store, retrained.version)
    metrics = store.client.get_run(retrained.run_id).data.metrics
    assert served.threshold == metrics["threshold"] and served.decision == DecisionRule(0.8)
    assert metrics["cv_recall_negative"] >= 0.8


@pytest.mark.slow
def test_only_a_change_makes_a_version_and_repeating_a_run_makes_no_second(
    prepared: PreparedReviews,
    tmp_path: Path,
    store_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = open_store(store_folder)
    first = retrain(store, published(), prepared, "run-1")
    assert first == Outcome(run_of(store, "run-1"), "1", new=True)
    # a retry of the same flow run finds its MLflow run and its version again
    assert retrain(store, published(), prepared, "run-1") == first
    unchanged = retrain(store, published(), prepared, "run-2")
    assert (unchanged.version, unchanged.new) == ("1", False)
    assert unchanged.sentence() == "version 1 already covers this data"

    assert retrain(store, another(), prepared, "run-3").version == "2"  # configuration
    more = prepare_reviews(load_reviews(write_reviews(tmp_path / "more.csv", rows=850)))
    assert retrain(store, another(), more, "run-4").version == "3"  # data
    # back to data of before: the very model of version 1 is there already
    assert retrain(store, published(), prepared, "run-5").version == "1"

    # the gate's verdict is written whether or not it is carried out
    outcome = Outcome(run_of(store, "run-4"), "3", True)
    held = retraining.pass_gate(store, outcome, more, hold="the shop is closed")
    assert held.sentence.startswith("not carried out, since the shop is closed: promoted: ")
    assert (held.promoted, held.news(), production_version(store)) == (None, "", None)
    monkeypatch.setattr(retraining, "ensure_reference", lambda *_: "no drift reference")
    passage = retraining.pass_gate(store, outcome, more)
    assert passage.sentence.startswith("promoted: ")
    assert passage.sentence.endswith("; no drift reference")
    monkeypatch.undo()
    assert (passage.promoted, passage.replaced, production_version(store)) == ("3", None, "3")
    assert "version 3 is in production" in passage.news()
    again = retraining.pass_gate(store, outcome, more)
    assert again.sentence.endswith("it is in production") and again.news() == ""

    # a version is judged once: its verdict is kept, and said again by the runs that change nothing
    second = Outcome(run_of(store, "run-3"), "2", False)
    refusal = Verdict(False, "no evidence", "2", "3")
    monkeypatch.setattr("sentiment.registry.lifecycle.judge_version", lambda *_: refusal)
    assert retraining.pass_gate(store, second, more) == Passage("refused: no evidence")
    monkeypatch.undo()
    passage = retraining.pass_gate(store, second, more)
    assert passage.sentence == "version 2 already covers this data: refused: no evidence"
    # what somebody else registered is not the flow's to promote
    store.client.delete_model_version_tag("FlipkartSentimentModel", "2", "gate")
    store.client.delete_model_version_tag("FlipkartSentimentModel", "2", "trained_by")
    passage = retraining.pass_gate(store, second, more)
    assert "promote 2 --to production" in passage.sentence
    assert production_version(store) == "3"

    # the oldest go; what is or was in production, or holds an alias, stays and is not counted
    assert retire_versions(store, keep=1) == ["1"]
    assert retire_versions(store, keep=1) == []
    left = store.client.search_model_versions("name = 'FlipkartSentimentModel'")
    assert sorted(str(version.version) for version in left) == ["2", "3"]


@pytest.mark.slow
def test_a_few_new_labels_wait_for_more_unless_all_of_them_are_asked_for(
    prepared: PreparedReviews, tmp_path: Path, store_folder: Path
) -> None:
    """Of 800 reviews, 5 % with the labels themselves: 42 of 842 wait, 43 of 843 do not."""
    store, loaded = open_store(store_folder), prepared.loaded
    assert len(loaded.frame) == 800
    candidate = retraining.published_candidate()

    def since(labels: int, *, exactly: bool = False) -> tuple[str, int] | None:
        labelled = with_feedback(loaded, feedback(labels))
        found = retraining.unchanged_since(store, candidate, labelled, exactly=exactly)
        return None if found is None else (found.version, found.waiting)

    assert since(0) is None  # nothing was trained yet
    assert retrain(store, published(), prepared, "run-1").version == "1"
    assert since(0) == since(0, exactly=True) == ("1", 0)
    assert since(42) == ("1", 42) and since(42, exactly=True) is None
    assert since(43) is None
    few = Outcome("", "1", new=False, waiting=7).sentence()
    assert few == "version 1 already covers this data (7 new labels are too few)"

    labelled = with_feedback(loaded, feedback(43))
    merged = prepare_reviews(labelled.loaded)
    assert retrain(store, published(), merged, "run-2", labelled).version == "2"
    tags = store.client.get_model_version("FlipkartSentimentModel", "2").tags
    assert (tags["feedback"], tags["file_digest"]) == ("43", prepared.digest)
    assert tags["data_digest"] == merged.digest != prepared.digest
    assert since(43, exactly=True) == ("2", 0)
    assert since(50) == ("2", 7)
    assert since(20) == ("2", 0)  # the log keeps rows for some days only
    assert since(0, exactly=True) == ("1", 0)
    # other files and other configurations are no matter of how many labels
    file = write_reviews(tmp_path / "more.csv", rows=801)
    other = with_feedback(load_reviews(file), feedback(43))
    assert retraining.unchanged_since(store, candidate, other, exactly=False) is None
    candidate = another().candidate
    assert since(43) is None

    # a version that was rolled back is left where somebody put it
    for number in ("1", "2"):
        verdict = Verdict(False, "not compared", number, production_version(store))
        promote(store, verdict, why="the test says so", force=True)
    rollback(store)
    unchanged = Outcome("", "2", new=False)
    passage = retraining.pass_gate(store, unchanged, merged)
    assert passage.sentence == "version 2 already covers this data: it was in production before"
    assert production_version(store) == "1"


def test_runs_that_a_crash_left_running_are_closed(store_folder: Path) -> None:
    store = open_store(store_folder)
    kinds = ("retraining", "experiment")
    runs = [begin_run(store, LEDGER, {"flipkart.kind": kind}) for kind in kinds]
    retraining.close_dead_runs(store)
    assert [store.client.get_run(run).info.status for run in runs] == ["KILLED", "RUNNING"]


def test_nothing_is_promoted_while_an_ab_test_runs(store_folder: Path) -> None:
    store, now = open_store(store_folder), time.time()

    def held(*, promote: bool = True, during: bool = False, log_url: str | None = None) -> str:
        return retraining.reason_to_hold(store, log_url, promote=promote, promote_during_ab=during)

    assert held() == ""  # there is no log, and none is made
    assert not (store_folder / "predictions.db").exists()
    assert "switched off" in held(promote=False)
    with closing(open_log(default_log_url(store_folder))) as log:
        test = LoggedComparison("1-vs-3", AB, "1", "3", share=0.2, began=now, seen=now)
        log.begin_comparison(test)
        assert "version 3 against 1" in held() and "--promote-during-ab" in held()
        assert held(during=True) == ""
        log.end_comparison(test, now, "the test says so", "no difference shown yet")
        assert held() == ""
    (store_folder / "broken.db").write_bytes(b"no database" * 100)
    assert "nobody can tell" in held(log_url=f"sqlite:///{store_folder / 'broken.db'}")
