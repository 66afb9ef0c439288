"""Retraining: the configuration chosen, what counts as a change, which versions are retired."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from conftest import write_reviews

import sentiment_mlflow_optuna
from sentiment.data.reviews import load_reviews
from sentiment.flows import retraining
from sentiment.flows.retraining import ALGORITHM, Chosen, Outcome
from sentiment.model.algorithms import build_candidate
from sentiment.predictions.feedback import Feedback, LabelledReviews, with_feedback
from sentiment.registry.gate import Verdict
from sentiment.registry.lifecycle import judge_version, production_version, promote, rollback
from sentiment.tracking.store import LEDGER, RUNNING, Store, begin_run, find_runs, open_store
from sentiment.training.report import PreparedReviews, fit_and_evaluate, folds_of, prepare_reviews


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
    fitted = fit_and_evaluate(ALGORITHM, chosen.candidate, data, folds_of(data))
    address = (flow_run, "http://ui")
    return retraining.log_retraining(store, chosen, fitted, data, labelled, address)


def published() -> Chosen:
    return Chosen(retraining.published_candidate(), "published", "x")


def feedback(labels: int) -> Feedback:
    """So many reviews of one new word and a number, every other one negative."""
    texts = pd.Series([f"wobbly {number}" for number in range(labels)], dtype=str)
    ratings = pd.Series([1 + 4 * (number % 2) for number in range(labels)], dtype="int64")
    return Feedback(pd.DataFrame({"text": texts, "rating": ratings}))


def test_published_is_the_guides_configuration() -> None:
    candidate = retraining.published_candidate()
    vectorizer, model = candidate.vectorizer.get_params(), candidate.model.get_params()
    assert {k: vectorizer[k] for k in ("ngram_range", "max_features", "min_df", "max_df")} == {
        "ngram_range": (1, 2),
        "max_features": 5000,
        "min_df": 3,
        "max_df": 0.9,
    }
    assert vectorizer["stop_words"] == "english" and vectorizer["sublinear_tf"] is False
    assert (model["C"], model["max_iter"], model["class_weight"]) == (0.5, 1000, "balanced")


@pytest.mark.slow
def test_the_configuration_follows_production_then_the_search_then_the_guide(
    prepared: PreparedReviews, tmp_path: Path
) -> None:
    store = open_store(tmp_path)
    assert retraining.choose(store, "champion").config == "published"  # nothing was run yet

    options = ["--data", str(prepared.loaded.source), "--store", str(tmp_path), "--trials", "2"]
    models = ["--models", f"{ALGORITHM},NaiveBayes", "--quiet"]
    assert sentiment_mlflow_optuna.main([*options, *models]) == 0
    parents = find_runs(store, ALGORITHM, {"flipkart.kind": "search"})
    searched = parents[0].data.params
    chosen = retraining.choose(store, "champion")
    assert "best search" in chosen.origin
    assert str(chosen.parameters()["C"]) == searched["C"]
    assert chosen.candidate.vectorizer.sublinear_tf is True
    assert retraining.choose(store, "published").parameters()["C"] == 0.5
    # what the experiment registered is not trained and registered a second time
    labelled = with_feedback(prepared.loaded)
    unchanged = retraining.unchanged_since(store, chosen.candidate, labelled)
    assert unchanged is not None and unchanged.run_id == parents[0].info.run_id
    again = retrain(store, chosen, prepared, "run-0")
    assert (again.version, again.new) == (unchanged.version, False)

    # production that is no logistic regression has no parameters to take
    versions = store.client.search_model_versions("name = 'FlipkartSentimentModel'")
    number = {version.tags["model"]: str(version.version) for version in versions}
    promote(store, judge_version(store, number["NaiveBayes"], prepared.split))
    assert "best search" in retraining.choose(store, "champion").origin
    verdict = judge_version(store, number[ALGORITHM], prepared.split)
    promote(store, verdict, force=True, why="to have a logistic regression there")
    chosen = retraining.choose(store, "champion")
    assert chosen.origin == f"that of production version {number[ALGORITHM]}"
    assert str(chosen.parameters()["max_features"]) == searched["max_features"]


@pytest.mark.slow
def test_only_a_change_makes_a_version_and_repeating_a_run_makes_no_second(
    prepared: PreparedReviews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "store")
    assert retrain(store, published(), prepared, "run-1") == Outcome(
        find_runs(store, LEDGER, {"flipkart.flow_run": "run-1"})[0].info.run_id, "1", new=True
    )
    # a retry of the same flow run finds its MLflow run and its version again
    assert retrain(store, published(), prepared, "run-1").new
    assert len(find_runs(store, LEDGER, {"flipkart.flow_run": "run-1"})) == 1
    unchanged = retrain(store, published(), prepared, "run-2")
    assert (unchanged.version, unchanged.new) == ("1", False)
    assert unchanged.sentence() == "version 1 already covers this data"

    params = {"C": 1.0, "max_features": 3000, "min_df": 3, "max_df": 0.9}
    other = Chosen(build_candidate(ALGORITHM, params), "champion", "x")
    assert retrain(store, other, prepared, "run-3").version == "2"  # configuration
    file = write_reviews(tmp_path / "more.csv", rows=850)
    more = prepare_reviews(load_reviews(file))
    other = Chosen(build_candidate(ALGORITHM, params), "champion", "x")
    assert retrain(store, other, more, "run-4").version == "3"  # data
    # back to data of before: the very model of version 1 is there already
    assert retrain(store, published(), prepared, "run-5").version == "1"

    # the gate's verdict is written whether or not it is carried out
    outcome = Outcome(
        find_runs(store, LEDGER, {"flipkart.flow_run": "run-4"})[0].info.run_id, "3", True
    )
    said = retraining.pass_gate(store, outcome, more, carry_out=False)
    assert said.startswith("not carried out: promoted: the first in production")
    assert production_version(store) is None
    assert retraining.pass_gate(store, outcome, more, carry_out=True).startswith("promoted")
    assert production_version(store) == "3"
    again = retraining.pass_gate(store, outcome, more, carry_out=True)
    assert again.endswith("it is in production")

    # a version is judged once: its verdict is kept, and said again by the runs that change nothing
    first = Outcome(
        find_runs(store, LEDGER, {"flipkart.flow_run": "run-3"})[0].info.run_id, "2", False
    )
    refusal = Verdict(False, "no evidence", "2", "3")
    monkeypatch.setattr(retraining, "judge_version", lambda *_: refusal)
    assert retraining.pass_gate(store, first, more, carry_out=True) == "refused: no evidence"
    monkeypatch.undo()
    said = retraining.pass_gate(store, first, more, carry_out=True)
    assert said == "version 2 already covers this data: refused: no evidence"

    # the oldest go; what is or was in production, or holds an alias, stays and is not counted
    assert retraining.retire_versions(store, keep=1) == ["1"]
    assert retraining.retire_versions(store, keep=1) == []
    left = store.client.search_model_versions("name = 'FlipkartSentimentModel'")
    assert sorted(str(version.version) for version in left) == ["2", "3"]


@pytest.mark.slow
def test_a_few_new_labels_wait_for_more_unless_all_of_them_are_asked_for(
    prepared: PreparedReviews, tmp_path: Path
) -> None:
    """Of 800 reviews, 5 % with the labels themselves: 42 of 842 wait, 43 of 843 do not."""
    store, loaded = open_store(tmp_path / "store"), prepared.loaded
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
    labelled = with_feedback(loaded, feedback(43))
    few = with_feedback(loaded, feedback(7))
    found = retraining.unchanged_since(store, candidate, few, exactly=False)
    assert found is not None
    assert found.sentence() == "version 1 already covers this data (7 new labels are too few)"

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
    candidate = build_candidate(
        ALGORITHM, {"C": 1.0, "max_features": 3000, "min_df": 3, "max_df": 0.9}
    )
    assert since(43) is None

    # a version that was rolled back is left where somebody put it
    for number in ("1", "2"):
        verdict = Verdict(False, "not compared", number, production_version(store))
        promote(store, verdict, why="the test says so", force=True)
    rollback(store)
    unchanged = Outcome("", "2", new=False)
    said = retraining.pass_gate(store, unchanged, merged, carry_out=True)
    assert said == "version 2 already covers this data: it was in production before"
    assert production_version(store) == "1"


def test_runs_that_a_crash_left_running_are_closed(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    begin_run(store, LEDGER, {"flipkart.kind": "retraining"})
    other = begin_run(store, LEDGER, {"flipkart.kind": "experiment"})
    retraining.close_dead_runs(store)
    assert [r.info.status for r in find_runs(store, LEDGER, {"flipkart.kind": "retraining"})] == [
        "KILLED"
    ]
    assert store.client.get_run(other).info.status == RUNNING
