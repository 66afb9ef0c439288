"""Inference: the pipeline's own bits, how a model should behave, and versions that are refused."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from conftest import PROJECT
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline
from support.serving import (
    BAD_TEXT,
    GOOD_TEXT,
    MODELS,
    UNKNOWN_TEXT,
    copy_store,
    fit_calibrated,
    put_into_production,
    served_probabilities,
    shared_store,
)

import text_cleaning
from sentiment.errors import ServingError, UnknownVersionError
from sentiment.model import predictor
from sentiment.model.calibration import calibrate, decision_values
from sentiment.model.predictor import LoadedVersion, load_version, one_line
from sentiment.registry.lifecycle import register_version, rollback, stage
from sentiment.tracking.artifact import log_pipeline
from sentiment.tracking.store import Store, begin_run, end_run, use_uri
from text_cleaning import TextCleaner, clean_text, clean_texts, cleaning_fingerprint

VERSIONS = ("1", "2", "3")
OWN_CLEANING = cleaning_fingerprint()
ODD_TEXTS = ["", " ", "!!!", UNKNOWN_TEXT, "GOOD", "good 😍\ufe0f", "<b>good</b> price", "İ <i"]
ODD_TEXTS += ["a\x00b\ud800", "good https://x.example/bad", "ﬁne 好 déjà", "good " * 2_000]
ODD_TEXTS += ["good\u00a0bad\r\ngood"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Versions 1, 2 and 3, of which 1 is in production and 2 the challenger."""
    return shared_store(tmp_path_factory)


@pytest.fixture(scope="module")
def loaded(made: Store) -> dict[str, LoadedVersion]:
    return {number: load_version(made, number) for number in VERSIONS}


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    return copy_store(made, tmp_path / "store")


@pytest.fixture(scope="module")
def opinions() -> LoadedVersion:
    """A logistic regression on reviews in which *not* turns the meaning round."""
    things = ["grip", "cork", "tube", "price", "box"]
    texts = [f"{word} {thing}" for thing in things for word in ("good", "great", "not bad")]
    worse = [f"{word} {thing}" for thing in things for word in ("not good", "bad", "not great")]
    labels = np.array([1] * len(texts) + [0] * len(worse))
    pipeline = fit_calibrated("LogisticRegression", texts + worse, labels)
    return LoadedVersion("0", "LogisticRegression", pipeline, {}, "", "", "", "", None)


def probability(version: LoadedVersion, text: str) -> float:
    return version.predict([text])[0].probability


# What an answer is


@pytest.mark.parametrize("number", VERSIONS)
def test_probabilities_are_the_pipelines_to_the_last_bit(
    loaded: dict[str, LoadedVersion], number: str
) -> None:
    version = loaded[number]
    texts = [*ODD_TEXTS, GOOD_TEXT, BAD_TEXT]
    expected = served_probabilities(version.pipeline, texts)
    together = version.predict(texts)
    assert [prediction.probability for prediction in together] == expected
    assert [version.predict([text])[0] for text in texts] == together
    without = version.predict(texts, explain=False)
    assert without == [replace(prediction, contributions=()) for prediction in together]
    known = [(text, p) for text, p in zip(texts, together, strict=True) if p.label is not None]
    labels = [p.label for _, p in known]
    assert set(labels) == {0, 1}
    assert labels == version.pipeline.predict([text for text, _ in known]).tolist()
    assert labels == [int(p.probability >= version.threshold) for _, p in known]


@pytest.mark.parametrize("number", VERSIONS)
def test_contributions_and_then_the_intercept_are_the_decision(
    loaded: dict[str, LoadedVersion], number: str
) -> None:
    """In alphabetical order, one after the other: to the last bit, not nearly."""
    version = loaded[number]
    texts = [*ODD_TEXTS, GOOD_TEXT, BAD_TEXT, " ".join(version.pipeline["tfidf"].vocabulary_)]
    rows = version.pipeline[:-1].transform(texts)
    classifier = version.pipeline["model"].estimator.estimator
    decisions = classifier.decision_function(rows).tolist()
    explained = 0
    for text, row, decision in zip(texts, rows, decisions, strict=True):
        prediction = version.predict([text])[0]
        total = 0.0
        for contribution in sorted(prediction.contributions, key=lambda c: c.term):
            total += contribution.weight
        assert total + version.intercept == prediction.decision == decision, ascii(text)[:60]
        assert len(prediction.contributions) == row.nnz
        weights = [abs(c.weight) for c in prediction.contributions]
        assert weights == sorted(weights, reverse=True)
        explained += row.nnz
    assert explained > 50


@pytest.mark.parametrize("number", VERSIONS)
def test_without_a_known_word_there_is_no_guess(
    loaded: dict[str, LoadedVersion], number: str
) -> None:
    version = loaded[number]
    for text, words in ((UNKNOWN_TEXT, 2), ("", 0), ("😍 !!", 0)):  # "12345" is no word
        prediction = version.predict([text])[0]
        assert (prediction.label, prediction.reason) == (None, "no known words")
        assert prediction.probability == version.prior
        assert prediction.decision == version.intercept
        assert prediction.known_words == 0 and prediction.contributions == ()
        assert prediction.words == words


def test_none_to_predict_and_what_is_no_text(loaded: dict[str, LoadedVersion]) -> None:
    version = loaded["1"]
    assert version.predict([]) == []
    wrong: list[Any] = ["good", None]
    with pytest.raises(TypeError, match="the review at position 1"):
        version.predict(wrong)
    with pytest.raises(TypeError, match="got one str"):
        version.predict("good")


def test_threads_share_a_version(loaded: dict[str, LoadedVersion]) -> None:
    version = replace(loaded["1"])  # one that has answered nothing yet
    texts = [f"good price {number} 😍 <b>broken</b>" for number in range(200)]
    expected = loaded["1"].predict(texts)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda text: version.predict([text])[0], texts))
    assert answers == expected


# How the model should behave: what changes nothing, and what moves it which way


def test_what_changes_nothing(opinions: LoadedVersion) -> None:
    variants = [
        "NOT GOOD GRIP",
        "not good grip 😡👎🏽",
        "  not good\u00a0grip!!!\n",
        "not good gripREAD MORE",
        "not good grip READ MORE ",
        "not good gripRead MoreREAD MORE",
        "Not, good: <i>grip</i>",
        "this was not such a good grip",  # stop words
        "not good grips",  # the same stem
        "not good&nbsp;&quot;grip&quot; &amp;amp; READ MORE",
        "not good<br>grip",
    ]
    expected = probability(opinions, "not good grip")
    assert {variant: probability(opinions, variant) for variant in variants} == dict.fromkeys(
        variants, expected
    )
    # the logged pipeline, which `mlflow.pyfunc` and Spark run, answers alike
    alone = opinions.pipeline.predict_proba(variants)[:, 1].tolist()
    assert alone == [expected] * len(variants)


def test_what_moves_it(opinions: LoadedVersion) -> None:
    for thing in ("", " box", " shuttle"):  # the last is a word it never saw
        assert probability(opinions, f"not good{thing}") < probability(opinions, f"good{thing}")
        assert probability(opinions, f"not bad{thing}") > probability(opinions, f"bad{thing}")
    assert probability(opinions, "good great box") > probability(opinions, "good box")
    assert [p.label for p in opinions.predict(["good", "not good", "bad", "not bad"])] == [
        *(1, 0, 0, 1)
    ]


def test_the_marker_is_cut_off_and_places_stay(opinions: LoadedVersion) -> None:
    text = "\n  Good grip, not goodREAD MORE "
    prediction = opinions.predict([text])[0]
    places = {c.term: [text[start:end] for start, end in c.at] for c in prediction.contributions}
    assert places["good"] == ["Good", "good"] and places["not good"] == ["not good"]
    assert (prediction.words, prediction.characters) == (4, len("Good grip, not good"))
    escaped = text.replace("not", "<br>&quot;n&#111;t&quot;&nbsp;").replace("Good", "&amp;Good")
    assert opinions.predict([escaped])[0].probability == prediction.probability
    found = opinions.predict([escaped])[0].contributions
    places = {c.term: [escaped[start:end] for start, end in c.at] for c in found}
    assert places["good"] == ["Good", "good"]
    assert places["not good"] == ["n&#111;t&quot;&nbsp; good"]
    lower = opinions.predict(["good read more"])[0]  # somebody's own words
    assert (lower.words, lower.known_words) == (2, 1)  # "more" is a stop word


# Loading


def test_a_loaded_version_says_what_it_is(store: Store) -> None:
    found = store.client.get_model_version(store.settings.registered_model, "1")
    for name in ("fit_time", "train_f1", "cv_f1_macro"):
        store.client.log_metric(str(found.run_id), name, 0.5)
    version = load_version(store, "champion")
    sigmoid = version.pipeline["model"].estimator.calibrated_classifiers_[0].calibrators[0]
    assert (version.version, version.algorithm) == ("1", "LogisticRegression")
    assert version.run_id == found.run_id
    assert version.threshold == pytest.approx(1 / (1 + math.exp(sigmoid.b_)), rel=1e-12)
    assert version.prior == 0.75  # of the made-up reviews every fourth is negative
    assert version.intercept == version.calibration.classifier.intercept_[0]
    assert version.data_digest == found.tags["data_digest"]
    assert version.cleaning_fingerprint == cleaning_fingerprint()
    assert f"{version.scores['test_f1']:.6f}" == found.tags["test_f1"]
    assert {"test_f1_low", "test_brier", "train_f1", "cv_f1_macro"} < set(version.scores)
    assert "fit_time" not in version.scores
    naive_bayes = load_version(store, "challenger")
    assert (naive_bayes.version, naive_bayes.algorithm) == ("2", "NaiveBayes")
    assert naive_bayes.intercept == pytest.approx(math.log(0.75 / 0.25))  # of the prior


def test_other_packages_of_the_cleaning_are_a_warning(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """They may do the same; what they do is in the fingerprint."""
    load_version(store, "champion")
    assert not caplog.records
    model, tag = store.settings.registered_model, "cleaning_packages"
    store.client.set_model_version_tag(model, "1", tag, "emoji 1.0, nltk 1.0")
    assert load_version(store, "champion").version == "1"
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "nltk 1.0" in record.getMessage()


def test_since_when_it_is_in_production(store: Store) -> None:
    begun = datetime.now(UTC)
    first = load_version(store, "champion").since
    assert first is not None and first < begun
    assert load_version(store, "2").since is None
    put_into_production(store, "2")
    stage(store, "3", "the test says so")  # changes nothing in production
    second = load_version(store, "champion")
    assert second.version == "2" and second.since is not None
    assert abs((second.since - begun).total_seconds()) < 60
    assert load_version(store, "1").since is None
    rollback(store)
    back = load_version(store, "champion")
    assert back.version == "1" and back.since is not None and back.since > second.since


def calibrated_in_sample(
    algorithm: str, vectorizer: TfidfVectorizer, texts: list[str], labels: list[int]
) -> Pipeline:
    """A pipeline of a few texts, too few for folds."""
    rows = vectorizer.fit_transform(clean_texts(texts))
    model = clone(MODELS[algorithm]).fit(rows, labels)
    final = calibrate(model, decision_values(model, rows), rows, np.array(labels))
    return Pipeline([("clean", TextCleaner()), ("tfidf", vectorizer), ("model", final)])


def register(store: Store, pipeline: Pipeline, file_format: str = "skops", **tags: str) -> str:
    run_id = begin_run(store, "of the tests", {})  # an experiment of the copy's own
    uri, _ = log_pipeline(store, run_id, pipeline, [GOOD_TEXT], file_format)
    end_run(store, run_id)
    return register_version(
        store, run_id, uri, {"cleaning_fingerprint": cleaning_fingerprint(), **tags}
    )


def message(store: Store, name: str) -> str:
    """What loading it is refused with: one line."""
    with pytest.raises(ServingError) as caught:
        load_version(store, name)
    text = str(caught.value)
    assert "\n" not in text and "Traceback" not in text and len(text) < 400
    return text


def test_names_that_no_version_has(made: Store) -> None:
    for name in ("production", "99", "no such name!"):
        assert f"no version '{name}' of FlipkartSentimentModel" in message(made, name)
        with pytest.raises(UnknownVersionError):
            load_version(made, name)


def test_what_cannot_be_served_is_refused(store: Store, opinions: LoadedVersion) -> None:
    *steps, (name, model) = opinions.pipeline.steps
    plain = Pipeline([*steps, (name, model.estimator.estimator.estimator)])
    texts = ["good grip", "bad grip", "good good cork", "bad cork"]
    other = calibrated_in_sample("NaiveBayes", TfidfVectorizer(norm="l1"), texts, [1, 0, 1, 0])
    old = register(store, opinions.pipeline, cleaning_fingerprint="0123456789ab")
    torn = register(store, opinions.pipeline)
    use_uri(store.uri)
    folder = mlflow.artifacts.download_artifacts(f"models:/FlipkartSentimentModel/{torn}")
    file = Path(folder) / "model.skops"
    file.write_bytes(file.read_bytes()[:1_000])
    for number, said in (
        (old, f"trained with another cleaning (0123456789ab, the code's is {OWN_CLEANING}"),
        (torn, "will not load"),
        (register(store, opinions.pipeline, "cloudpickle"), "will not load: "),
        (register(store, plain), "its probabilities are not calibrated; retrain it"),
        (register(store, other), "its vectorizer weighs terms in a way"),
    ):
        assert message(store, number).startswith(f"version {number}: {said}")


def test_the_published_configuration_is_served(store: Store) -> None:
    """Stop words of its own and no sublinear scaling."""
    texts = ["good grip", "bad grip", "good good cork", "bad cork", "not fine"] * 2
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), stop_words="english")
    labels = [1, 0, 1, 0, 0] * 2
    pipeline = calibrated_in_sample("LogisticRegression", vectorizer, texts, labels)
    version = load_version(store, register(store, pipeline))
    odd = ["not good good grip", "not", "good cork bad cork bad"]
    predictions = version.predict(odd)
    assert [p.probability for p in predictions] == served_probabilities(pipeline, odd)
    assert predictions[1].label is None  # all it said was a stop word
    assert predictions[0].words == len(clean_text(odd[0]).split()) - 1


def test_a_registry_that_is_away(made: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nobody = "http://somebody:secret@127.0.0.1:9"
    away = replace(made, uri=nobody, client=mlflow.MlflowClient(nobody))
    told = message(away, "champion")
    assert told.startswith("the registry does not answer: ") and "secret" not in told
    with pytest.raises(ServingError) as caught:
        load_version(away, "champion")
    assert not isinstance(caught.value, UnknownVersionError)
    error = OSError("<Connection object at 0x7f01>\n  to http://me:secret@host\tfailed")
    assert one_line(error) == "OSError: <Connection object> to http://…@host failed"


NEW_STEP = """

def spell_out(text: str) -> str:
    return text.replace("n't", " not")


CLEANING_STEPS: tuple"""


@pytest.mark.slow
def test_a_new_cleaning_step_is_served_as_it_was_trained(tmp_path: Path) -> None:
    """One function, and its place in `CLEANING_STEPS`."""
    source = Path(text_cleaning.__file__).read_text()
    source = source.replace("\n\nCLEANING_STEPS: tuple", NEW_STEP)
    source = source.replace("    lowercase,\n", "    lowercase,\n    spell_out,\n")
    (tmp_path / "text_cleaning.py").write_text(source)
    program = """
from support.serving import fit_calibrated, served_probabilities
from sentiment.model.predictor import LoadedVersion
from text_cleaning import clean_text, cleaning_fingerprint
import numpy as np

things = ["grip", "cork", "tube", "price", "box"]
texts = [f"is {word} {thing}" for thing in things for word in ("good", "great", "not bad")]
texts += [f"isn't {word} {thing}" for thing in things for word in ("good", "great", "so neat")]
pipeline = fit_calibrated("NaiveBayes", texts, np.repeat([1, 0], 15))
version = LoadedVersion("0", "NaiveBayes", pipeline, {}, "", "", "", "", None)
given = version.predict(texts)
assert [p.probability for p in given] == served_probabilities(pipeline, texts)
assert [p.label for p in given] == pipeline.predict(texts).tolist()
print(clean_text("ISN'T good"), "not good" in pipeline["tfidf"].vocabulary_, cleaning_fingerprint())
"""
    path = os.pathsep.join([str(tmp_path), str(PROJECT), str(PROJECT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cleaned, known, fingerprint = done.stdout.rsplit(maxsplit=2)
    assert (cleaned, known) == ("not good", "True")
    assert fingerprint != cleaning_fingerprint()  # so a version of before is not served with it


def test_a_version_is_served_though_the_cleaning_changes_its_terms_once_more() -> None:
    """`indeed` is stemmed to the term `inde`, and that, tried as a text, to a word not known."""
    texts = ["indeed good", "indeed great", "indeed fine", "indeed bad", "indeed poor"] * 5
    pipeline = fit_calibrated("LogisticRegression", texts, np.array([1, 1, 1, 0, 0] * 5))
    assert "inde" in pipeline["tfidf"].vocabulary_ and clean_text("inde") == "ind"
    version = LoadedVersion("0", "LogisticRegression", pipeline, {}, "", "", "", "", None)
    assert version.predict(["inde"])[0].label is None
    predictor._try_out(version)
