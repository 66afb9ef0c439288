"""What the serving tests share: a store with three calibrated versions, and a server on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from conftest import PROJECT, write_reviews
from filelock import FileLock
from flask import Flask
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from sentiment.data.reviews import data_digest, load_reviews, split_reviews
from sentiment.metrics import bootstrap_interval
from sentiment.model.calibration import calibrate
from sentiment.registry.gate import Verdict
from sentiment.registry.lifecycle import production_version, promote, register_version, stage
from sentiment.serving.app import create_app
from sentiment.tracking.artifact import log_pipeline
from sentiment.tracking.store import Store, begin_run, end_run, log_values, open_store, use_uri
from sentiment.training.folds import FoldMatrices
from support import REGISTERED_MODEL
from support.versions import twin
from text_cleaning import TextCleaner, clean_texts, cleaning_fingerprint

# Version 1, 2 and 3, by the names the experiment gives them
MODELS: dict[str, Any] = {
    "LogisticRegression": LogisticRegression(class_weight="balanced", solver="liblinear"),
    "NaiveBayes": MultinomialNB(alpha=0.1),
    "LinearSVM": LinearSVC(C=0.1, class_weight="balanced", random_state=42),
}
# Texts of words that the made-up reviews have, and one that has none of them
GOOD_TEXT, BAD_TEXT = "A sturdy shuttle, great price!", "Broken cork and a late delivery"
UNKNOWN_TEXT = "zzz qqq 12345"


def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One `serving_store` for all tests and workers of the session, not to be changed.

    A test that changes its store takes a `copy_store`.
    """
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = root / "serving_store", root / "serving_store.done"
    with FileLock(root / "serving_store.lock"):
        if not done.exists():
            serving_store(folder)
            done.touch()
    return open_store(folder)


def serving_store(folder: Path) -> Store:
    """A new store in `folder`: versions 1, 2 and 3; 1 is in production, 2 is the challenger."""
    folder.mkdir(parents=True, exist_ok=True)
    store = open_store(folder)
    use_uri(store.uri)  # another store may have been used since
    frame = load_reviews(write_reviews(folder / "reviews.csv")).frame
    split = split_reviews(frame)
    tags = {"data_digest": data_digest(frame), "cleaning_fingerprint": cleaning_fingerprint()}
    for algorithm in MODELS:
        pipeline = fit_calibrated(algorithm, split.train_texts, split.y_train)
        predicted = pipeline.predict(split.test_texts)
        probability = pipeline.predict_proba(split.test_texts)[:, 1]
        f1 = bootstrap_interval(split.y_test, predicted)
        metrics = {
            **{"test_f1": f1.value, "test_f1_low": f1.low, "test_f1_high": f1.high},
            "test_accuracy": float((predicted == split.y_test).mean()),
            "test_brier": float(((probability - split.y_test) ** 2).mean()),
        }
        run_id = begin_run(store, algorithm, {})
        log_values(store, run_id, params={"model": algorithm}, metrics=metrics)
        uri, _ = log_pipeline(store, run_id, pipeline, [GOOD_TEXT, BAD_TEXT])
        end_run(store, run_id)
        tags |= {"model": algorithm, "test_f1": f"{f1.value:.6f}"}
        register_version(store, run_id, uri, tags)
    put_into_production(store, "1")
    stage(store, "2", "the test says so")
    return store


def copy_store(made: Store, folder: Path) -> Store:
    """A copy that may be changed."""
    # others use the database, whose files beside it come and go
    rest = shutil.ignore_patterns("mlflow.db*")
    shutil.copytree(made.folder, folder, dirs_exist_ok=True, ignore=rest)
    database = "mlflow.db"
    with (
        closing(sqlite3.connect(made.folder / database)) as source,
        closing(sqlite3.connect(folder / database)) as target,
    ):
        source.backup(target)
    return open_store(folder)


def add_of_another_cleaning(store: Store) -> str:
    """One more version, which cannot be served; returns its number."""
    number = twin(store, "1")
    store.client.set_model_version_tag(REGISTERED_MODEL, number, "cleaning_fingerprint", "0" * 12)
    return number


def put_alias(store: Store, alias: str, version: str | None) -> None:
    """Give the version this name, past gate and ledger; None takes it from whatever has it."""
    if version is None:
        store.client.delete_registered_model_alias(REGISTERED_MODEL, alias)
    else:
        store.client.set_registered_model_alias(REGISTERED_MODEL, alias, version)


def wait_until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for a condition, or fail."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def fit_calibrated(algorithm: str, texts: list[str], labels: Any) -> Pipeline:
    """The algorithm's pipeline as the experiment makes it, without the search."""
    cleaned = clean_texts(texts)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True)
    matrix = vectorizer.fit_transform(cleaned)
    # plain integers, as the experiment stores them
    vectorizer.vocabulary_ = {term: int(at) for term, at in vectorizer.vocabulary_.items()}
    model = clone(MODELS[algorithm]).fit(matrix, labels)
    decisions = FoldMatrices(cleaned, labels).decisions(vectorizer, model)
    calibrated = calibrate(model, decisions, matrix, labels)
    return Pipeline([("clean", TextCleaner()), ("tfidf", vectorizer), ("model", calibrated)])


def served_probabilities(pipeline: Pipeline, texts: Sequence[str]) -> list[float]:
    """What scikit-learn's own steps give, and the prior for a text without a known word."""
    probability = pipeline.predict_proba(texts)[:, 1]
    unknown = pipeline[:-1].transform(texts).getnnz(axis=1) == 0
    probability[unknown] = pipeline["model"].prior_
    return [float(value) for value in probability]


def put_into_production(store: Store, version: str) -> None:
    """Promote without the gate's opinion."""
    verdict = Verdict(False, "not compared", version, production_version(store))
    promote(store, verdict, why="the test says so", force=True)


@contextmanager
def running_app(store: Store, folder: Path, /, **config: Any) -> Iterator[Flask]:
    """An app on the store, with its log in the folder and no token; closed afterwards."""
    base = {"store": str(store.folder), "log_url": f"sqlite:///{folder / 'log.db'}", "token": None}
    app = create_app({**base, **config})
    try:
        yield app
    finally:
        app.extensions["serving"].close()


@dataclass
class Running:
    """A server in a process of its own, and its address."""

    process: subprocess.Popen[str]
    host: str
    port: int
    line: str  # what it printed when it was ready

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and body of one request on a connection of its own; JSON is read."""
        connection = HTTPConnection(self.host, self.port, timeout=60)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            text = response.read()
            is_json = response.headers.get_content_type() == "application/json"
            return response.status, json.loads(text) if is_json else text.decode()
        finally:
            connection.close()

    def workers(self) -> list[int]:
        """The processes that answer, by their ids."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def stop(self, seconds: float = 60.0) -> tuple[int, str, str]:
        """Ask it to end, as a service manager does; returns exit code, output and errors."""
        self.process.send_signal(signal.SIGTERM)
        out, errors = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, errors


@contextmanager
def running_server(
    *options: str | Path, command: Sequence[str] = (), **env: str
) -> Iterator[Running]:
    """Start `serve` on a free port, wait until it is ready, and end it afterwards."""
    words = command or [sys.executable, "-m", "sentiment", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*words, *map(str, options)],
        cwd=PROJECT,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        # pytest's timeout ends the wait for a server that says nothing
        line = next((line for line in process.stdout if "http://" in line), "")
        found = re.search(r"http://\[?([\w.:]+?)\]?:(\d+)\b", line)
        assert found, f"the server did not start: {line or process.stderr.read()}"
        yield Running(process, found[1], int(found[2]), line)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=45)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
