"""Paired splits: against scikit-learn's plain pipeline and SciPy's t, and by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from conftest import write_reviews
from scipy import stats
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, recall_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from sentiment.data.reviews import LoadedReviews, load_reviews, split_reviews
from sentiment.errors import ComparisonError
from sentiment.model.algorithms import build_candidate, suggest_candidate
from sentiment.training.paired import (
    AUC,
    MATCHED,
    PRECISION,
    Comparison,
    SplitResult,
    compare,
    contender,
    labels_at_recall,
)
from sentiment.training.studies import TrialSeededSampler
from text_cleaning import TextCleaner, clean_texts

FIXED = {"C": "0.5", "min_df": "2", "max_df": "0.9", "max_features": "300"}


@pytest.fixture(scope="module")
def loaded(small_reviews: Path) -> LoadedReviews:
    return load_reviews(small_reviews)


def test_scores_and_interval_are_those_of_plain_pipelines(loaded: LoadedReviews) -> None:
    weigh = TfidfVectorizer(
        min_df=2, max_df=0.9, max_features=300, ngram_range=(1, 2), sublinear_tf=True
    )
    logistic = LogisticRegression(C=0.5, class_weight="balanced", solver="liblinear")
    svm = LinearSVC(C=0.01, class_weight="balanced", random_state=42, max_iter=5000)
    plain = make_pipeline(weigh, logistic), make_pipeline(clone(weigh), svm)
    a, b = (
        contender("LogisticRegression", FIXED),
        contender("LinearSVM", {**FIXED, "C": "0.01"}),
    )
    assert a.searched == b.searched == ()
    found = compare((a, b), loaded, splits=3, seed=7)
    texts = clean_texts(loaded.frame["text"])
    f1: list[list[float]] = [[], []]
    for number, result in enumerate(found.results):
        split = split_reviews(loaded.frame, seed=7 + number)
        truth = split.y_test
        for side, pipeline in enumerate(plain):
            pipeline.fit([texts[row] for row in split.train_rows], split.y_train)
            predicted = pipeline.predict([texts[row] for row in split.test_rows])
            values = pipeline.decision_function([texts[row] for row in split.test_rows])
            f1[side].append(f1_score(truth, predicted, average="macro"))
            above = stats.mannwhitneyu(values[truth == 1], values[truth == 0]).statistic
            scores = result.scores[side]
            assert scores["f1_macro"] == pytest.approx(f1[side][-1], abs=1e-12)
            recall = recall_score(truth, predicted, pos_label=0)
            assert scores["recall_negative"] == pytest.approx(recall, abs=1e-12)
            pairs = (truth == 1).sum() * (truth == 0).sum()
            assert scores[AUC] == pytest.approx(above / pairs, abs=1e-12)
            precision = average_precision_score(1 - truth, -values)
            assert scores[PRECISION] == pytest.approx(precision, abs=1e-12)
    ahead = np.subtract(f1[1], f1[0])
    assert found.difference("f1_macro").value == pytest.approx(ahead.mean(), abs=1e-12)
    # Nadeau & Bengio 2003, equation 9, and Student's t with 2 degrees of freedom
    ratio = len(split.y_test) / len(split.y_train)
    half = stats.t.ppf(0.975, 2) * np.sqrt((1 / 3 + ratio) * ahead.var(ddof=1))
    assert found.difference("f1_macro").high == pytest.approx(ahead.mean() + half, abs=1e-12)
    assert found.won("f1_macro") == (int((ahead < 0).sum()), int((ahead > 0).sum()))


def test_equal_contenders_are_equal_at_the_same_recall_too(loaded: LoadedReviews) -> None:
    """Where labels are noisy, a boundary of one's own is not the tightest of its recall."""
    labels = loaded.frame["label"].to_numpy()
    turned = np.random.default_rng(0).random(len(labels)) < 0.25
    noisy = replace(loaded, frame=loaded.frame.assign(label=np.where(turned, 1 - labels, labels)))
    same = contender("LogisticRegression", FIXED)
    found = compare((same, same), noisy, splits=2, seed=7)
    for metric in found.results[0].scores[0]:
        assert found.values(metric)[0].tolist() == found.values(metric)[1].tolist()
    assert found.values(MATCHED)[0].tolist() != found.values("f1_macro")[0].tolist()


def test_what_is_not_fixed_is_searched_on_the_training_part_alone(loaded: LoadedReviews) -> None:
    a = contender("LogisticRegression", {"min_df": 2})
    assert a.searched == ("C", "max_df", "max_features")
    found = compare((a, a), loaded, splits=2, trials=3)
    for seed, result in enumerate(found.results):
        split = split_reviews(loaded.frame, seed=seed)
        study = optuna.create_study(direction="maximize", sampler=TrialSeededSampler(seed))
        for _ in range(3):
            trial = study.ask()
            candidate = suggest_candidate("LogisticRegression", trial)
            pipeline = make_pipeline(candidate.vectorizer.set_params(min_df=2), candidate.model)
            scores = cross_val_score(
                pipeline,
                clean_texts(split.train_texts),
                split.y_train,
                scoring="f1_macro",
                cv=StratifiedKFold(5, shuffle=True, random_state=42),
            )
            study.tell(trial, scores.mean())
        best = {**study.best_params, "min_df": 2}
        assert best.items() <= result.parameters[0].items()
    assert found.difference("f1_macro").low == found.difference("f1_macro").high == 0


def test_the_negation_cleaning_and_its_reach_are_what_the_model_reads(
    loaded: LoadedReviews,
) -> None:
    given = {"C": 1, "alpha": 1, "min_df": 1, "reach": 2}
    one = contender("NBLogisticRegression", given)
    other = contender("LogisticRegression", {**FIXED, "cleaning": "negation", "reach": 0})
    found = compare((one, other), loaded, splits=2)
    split = split_reviews(loaded.frame, seed=1)
    for side, algorithm, params in (
        (0, "NBLogisticRegression", given),
        (1, "LogisticRegression", FIXED),
    ):
        candidate = build_candidate(algorithm, params)
        cleaner = TextCleaner("negation", reach=(2, 0)[side])
        pipeline = Pipeline(
            [("clean", cleaner), ("tfidf", candidate.vectorizer), ("model", candidate.model)]
        )
        predicted = pipeline.fit(split.train_texts, split.y_train).predict(split.test_texts)
        expected = f1_score(split.y_test, predicted, average="macro")
        assert found.results[1].scores[side]["f1_macro"] == pytest.approx(expected, abs=1e-12)
        assert found.results[1].parameters[side]["reach"] == (2, 0)[side]


def test_published_cleaning_leaves_the_marker_in(loaded: LoadedReviews) -> None:
    trial = optuna.trial.FixedTrial({"C": 1, "max_features": 2000, "min_df": 3, "max_df": 0.8})
    cleaner = contender("LogisticRegression", {"cleaning": "published"}).candidate(trial).cleaner
    assert (
        cleaner.transform(["Good grip"]) == clean_texts(["Good gripREAD MORE"]) == ["good gripread"]
    )
    # glued to the last word; a file that never had it is not given it
    frame = loaded.frame.assign(text=loaded.frame["text"].str.replace(r" \d+$", "", regex=True))
    marked = replace(loaded, frame=frame)
    assert marked.marker_removed
    both = (
        contender("LogisticRegression", {**FIXED, "cleaning": "published"}),
        contender("LogisticRegression", FIXED),
    )
    found = compare(both, marked, splits=2)
    assert found.difference(AUC).value != 0
    assert [one["cleaning"] for one in found.results[0].parameters] == ["published", "guide"]
    without = compare(both, replace(marked, marker_removed=0), splits=2)
    assert without.difference(AUC).value == 0


def test_the_boundary_at_a_recall_by_hand() -> None:
    truth = np.array([0, 0, 0, 1, 1, 1])
    decisions = np.array([-2.0, 0.5, 3.0, -1.0, 1.0, 2.0])
    assert labels_at_recall(decisions, truth, 1).tolist() == [0, 1, 1, 1, 1, 1]
    assert labels_at_recall(decisions, truth, 2).tolist() == [0, 0, 1, 0, 1, 1]
    assert labels_at_recall(decisions, truth, 3).tolist() == [0, 0, 0, 0, 0, 0]
    assert labels_at_recall(decisions, truth, 0).tolist() == [1] * 6


def scored(a: dict[str, list[float]], b: dict[str, list[float]]) -> Comparison:
    """A comparison with these scores, 30 to 70 %; other metrics are equal."""
    usual = dict.fromkeys(("f1_macro", "recall_negative", AUC, PRECISION, MATCHED), [0.8] * 3)
    results = []
    for at in range(3):
        sides: list[dict[str, float]] = [
            {name: values[at] for name, values in {**usual, **side}.items()} for side in (a, b)
        ]
        results.append(SplitResult((sides[0], sides[1]), ({}, {})))
    one = contender("LogisticRegression")
    return Comparison((one, one), results, 3 / 7, 100, "", "hashed", 10, 0)


def test_what_follows() -> None:
    up, much = [0.81, 0.812, 0.811], [0.84, 0.85, 0.845]
    # differences .01, .012, .011: mean .011, s = .001, half 4.3027 · sqrt(16/21) · .001 = .003756
    better = scored({}, {"f1_macro": up, MATCHED: up})
    assert better.outcome == "better"
    assert better.difference("f1_macro").low == pytest.approx(0.011 - 0.003756, abs=2e-6)
    assert "B is better" in better.sentence() and "3 of 3 splits" in better.sentence()
    assert "how well they rank" in better.sentence()
    boundary = scored({}, {"f1_macro": up})
    assert "no more than where the boundary lies" in boundary.sentence()
    opposite = scored({MATCHED: up}, {"f1_macro": up}).sentence()
    assert "B is better than A" in opposite and "B is worse at the same recall" in opposite
    worse = scored({"f1_macro": up, MATCHED: up}, {})
    assert worse.outcome == "worse" and worse.won("f1_macro") == (3, 0)
    assert "how well they rank" in worse.sentence()
    unsure = scored({}, {"f1_macro": [0.81, 0.80, 0.79]})
    assert unsure.outcome == "not told apart" and "-0.0376" in unsure.sentence()
    ranks = scored({}, {"f1_macro": [0.81, 0.80, 0.79], MATCHED: up})
    assert ranks.outcome == "not told apart" and "But B is better at" in ranks.sentence()
    misses = scored({"recall_negative": much}, {"f1_macro": up})
    assert "misses more" in misses.sentence() and "gate" in misses.sentence()
    assert "same on every split" in scored({}, {}).sentence()


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(loaded: LoadedReviews) -> None:
    both = contender("LogisticRegression"), contender("NBLogisticRegression", {"reach": 1})
    done: list[int] = []
    alone = compare(both, loaded, splits=3, trials=2, each=lambda: done.append(1))
    assert len(done) == 3
    assert compare(both, loaded, splits=3, trials=2, jobs=2).to_dict() == alone.to_dict()
    other = compare(both, loaded, splits=3, trials=2, seed=3)
    assert other.to_dict()["metrics"] != alone.to_dict()["metrics"]


@pytest.mark.parametrize(
    ("algorithm", "changes", "said"),
    [
        ("Forest", {}, "LogisticRegression"),
        ("LinearSVM", {"depth": "3"}, "no parameter 'depth'"),
        ("LinearSVM", {"C": "-1"}, "'C' parameter"),
        ("LinearSVM", {"C": "much"}, "'C' parameter"),
        ("LogisticRegression", {"ngram_range": "2"}, "'ngram_range' parameter"),
        ("LogisticRegression", {"cleaning": "spotless"}, "negation"),
        ("LogisticRegression", {"reach": "2"}, "cleaning=negation"),
        ("NBLogisticRegression", {"reach": "-1"}, "whole number"),
        ("NBLogisticRegression", {"alpha": "0"}, "alpha"),
    ],
)
def test_what_cannot_be_is_refused(
    algorithm: str, changes: dict[str, Any], said: str, loaded: LoadedReviews
) -> None:
    with pytest.raises(ComparisonError, match=said):
        one = contender(algorithm, changes)
        compare((one, one), loaded, splits=2, trials=1)


def test_reviews_without_common_words_cannot_be_trained_on(tmp_path: Path) -> None:
    file = write_reviews(tmp_path / "few.csv", rows=60)
    one = contender("LogisticRegression", {**FIXED, "min_df": "50"})
    with pytest.raises(ComparisonError, match="cannot be trained"):
        compare((one, one), load_reviews(file), splits=2)
    with pytest.raises(ComparisonError, match="cannot be trained"):
        searched = contender("LogisticRegression", {"min_df": "50"})
        compare((searched, searched), load_reviews(file), splits=2, trials=2)
