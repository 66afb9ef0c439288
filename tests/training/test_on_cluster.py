"""Training on real Dask workers: all is what one process finds, also where a worker is killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB

import sentiment_mlflow_optuna as script
from sentiment import cluster as cluster_module
from sentiment.cli.options import parse_experiment
from sentiment.cluster import Cluster, connect
from sentiment.console import Terminal
from sentiment.data.reviews import load_reviews
from sentiment.errors import ClusterError
from sentiment.model.algorithms import Candidate
from sentiment.tracking.artifact import REQUIREMENTS
from sentiment.tracking.store import Store, find_runs, open_store
from sentiment.training import on_cluster
from sentiment.training.folds import analysis_of
from sentiment.training.on_cluster import ClusterFolds, clean_by_part
from sentiment.training.report import folds_of, prepare_reviews, vectorize
from sentiment.training.worker import Worker
from text_cleaning import TextCleaner, clean_texts

pytestmark = pytest.mark.xdist_group("on_cluster")  # one cluster for all of them
QUIET = Terminal(quiet=True)
VECTORIZERS: dict[str, tuple[dict[str, Any], TextCleaner]] = {
    "guide's": ({"ngram_range": (1, 2), "min_df": 3, "max_features": 40}, TextCleaner()),
    "marked": ({"ngram_range": (1, 2), "sublinear_tf": True}, TextCleaner("negation")),
    "binary": ({"binary": True, "max_df": 0.2}, TextCleaner()),
}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_cluster, "TEXTS_OF_A_PART", 60)


# --- the counts, without a cluster ------------------------------------------------------------

TEXTS = ["not good", "", "good racket not good", "", "bad racket", "a z", "", "bad bad bad cork"]


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_counts_of_parts_put_together_are_those_of_the_whole(size: int) -> None:
    """Columns, their order in memory, and everything that is fitted on them, to the last bit."""
    parts = [TEXTS[at : at + size] for at in range(0, len(TEXTS), size)]
    for params in ({}, {"ngram_range": (1, 2), "max_features": 4}, {"min_df": 2, "binary": True}):
        whole, put = (TfidfVectorizer(sublinear_tf=True, **params) for _ in range(2))
        counting = analysis_of(put, None)[1]
        counted = on_cluster._put_together(
            on_cluster._count_part((counting, None), part) for part in parts
        )
        expected, found = whole.fit_transform(TEXTS), on_cluster._fit_transform(put, counted)
        assert put.vocabulary_ == whole.vocabulary_
        assert put.idf_.tobytes() == whole.idf_.tobytes()
        for name in ("data", "indices", "indptr"):
            assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()
        assert abs(put.transform(TEXTS) - whole.transform(TEXTS)).nnz == 0
        again = TfidfVectorizer(sublinear_tf=True, **params)  # counts serve every vectorizer
        assert abs(on_cluster._fit_transform(again, counted) - found).nnz == 0
    # document frequencies are the sums of the parts
    terms = CountVectorizer().fit(TEXTS).vocabulary_
    sums = {term: sum(term in text.split() for text in TEXTS) for term in terms}
    vocabulary, matrix = counted
    frequency = np.bincount(matrix.indices, minlength=matrix.shape[1])
    assert {term: frequency[column] for term, column in vocabulary.items()} == sums


def test_texts_without_a_term_are_refused_as_scikit_learn_does() -> None:
    part = on_cluster._count_part(({}, None), ["", "a"])
    with pytest.raises(ValueError, match="empty vocabulary"):
        on_cluster._put_together([part])


# --- on real workers --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def writers() -> Iterator[list[Worker]]:
    """The processes that write for two passes, forked before there are Dask's threads."""
    made = [Worker() for _ in range(2)]
    yield made
    for one in made:
        one.end()


@pytest.fixture(scope="module")
def dask(writers: list[Worker]) -> Iterator[Any]:
    """Two workers, each a process with a nanny that starts it again when it dies."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as made:
        yield made


@pytest.fixture
def workers(dask: Any) -> Iterator[Cluster]:
    with connect(dask.scheduler_address, QUIET, REQUIREMENTS) as cluster:
        yield cluster


@pytest.mark.slow
def test_workers_clean_count_score_and_vectorize_as_one_process_does(
    workers: Cluster, small_reviews: Path
) -> None:
    loaded = load_reviews(small_reviews)
    cleaned = clean_by_part(workers, loaded.frame["text"])
    assert cleaned == clean_texts(loaded.frame["text"])
    data = prepare_reviews(loaded, cleaned)
    here, there = folds_of(data), ClusterFolds(workers, data)
    for name, (params, cleaner) in VECTORIZERS.items():
        ours, theirs = (
            Candidate(TfidfVectorizer(**params), LogisticRegression(C=0.5), cleaner)
            for _ in range(2)
        )
        parts = ours.vectorizer, ours.model, ours.cleaner
        task = there.begin(theirs)
        there.look_ahead(theirs)
        attempt = workers.result(task)
        assert attempt.scores.tolist() == here.score(*parts).tolist(), name
        assert there.score(*parts).tolist() == attempt.scores.tolist()
        made, expected = there.vectorize(theirs, data), vectorize(ours, data)
        assert theirs.vectorizer.vocabulary_ == ours.vectorizer.vocabulary_
        assert {type(column) for column in theirs.vectorizer.vocabulary_.values()} == {int}
        assert theirs.vectorizer.idf_.tobytes() == ours.vectorizer.idf_.tobytes()
        for one, other in ((made.train, expected.train), (made.test, expected.test)):
            assert one.shape == other.shape and one.data.tobytes() == other.data.tobytes()
            assert one.indices.tobytes() == other.indices.tobytes()
        # of fitted estimators too
        theirs.model.fit(made.train, data.split.y_train)
        found = there.decisions(theirs.vectorizer, theirs.model, cleaner)
        assert found.tolist() == here.decisions(*parts).tolist()
        assert not there._ahead, "what was looked ahead for was taken"
    impossible = Candidate(TfidfVectorizer(min_df=10_000, max_df=20_000), MultinomialNB())
    failed = workers.result(there.begin(impossible))
    assert failed.scores is None and "no terms remain" in failed.reason
    wordless = Candidate(TfidfVectorizer(token_pattern="@@@"), MultinomialNB())
    failed = workers.result(there.begin(wordless))
    assert failed.scores is None and "empty vocabulary" in failed.reason
    with pytest.raises(ValueError, match="no terms remain"):
        there.score(impossible.vectorizer, impossible.model)


def outcome(store: Store, models: list[str]) -> dict[str, Any]:
    """All that a pass computed, without ids and times; each run is there once, and ended."""
    found: dict[str, Any] = {}
    times = ("duration_seconds", "fit_time", "model_size_bytes")
    for algorithm in models:
        for run in find_runs(store, algorithm, {}):
            trial = run.data.tags.get("flipkart.trial", "best")
            assert run.info.status == "FINISHED" and f"{algorithm}/{trial}" not in found
            metrics = {name: x for name, x in run.data.metrics.items() if name not in times}
            found[f"{algorithm}/{trial}"] = run.data.params, metrics
    versions = store.client.search_model_versions("name = 'FlipkartSentimentModel'")
    aliases = store.client.get_registered_model("FlipkartSentimentModel").aliases
    found["versions"] = {version.version: version.tags["model"] for version in versions}
    found["challenger"] = aliases["challenger"]
    return found


@pytest.mark.slow
def test_a_pass_is_the_same_with_a_worker_killed_on_the_way(
    dask: Any, writers: list[Worker], store_folder: Path, small_reviews: Path, tmp_path: Path
) -> None:
    """With -9, while it is at a trial: the process is that of a worker of a cluster."""
    folder, lines = tmp_path / "reviews", small_reviews.read_text().splitlines(keepends=True)
    folder.mkdir()
    for number, at in enumerate(range(1, len(lines), 150)):
        (folder / f"part-{number}.csv").write_text("".join([lines[0], *lines[at : at + 150]]))
    models = ["NaiveBayes", "LogisticRegression"]
    options = ["--data", str(folder), "--models", ",".join(models), "--trials", "5", "--batch", "2"]
    alone = [*options, "--store", str(tmp_path / "alone"), "--quiet"]
    assert script.main(alone, writers[0]) == 0

    def kill() -> None:
        while not over.is_set() and not killed:
            for process in dask.workers.values():
                worker = dask.scheduler.workers.get(process.worker_address)
                at = [] if worker is None else list(worker.processing)
                if any(task.key.startswith("attempt-") for task in at):
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
                    break
            time.sleep(0.002)

    killed, over = list[int](), threading.Event()
    killer = threading.Thread(target=kill)
    killer.start()
    on_dask = [*options, "--store", str(store_folder), "--quiet"]
    code = script.main([*on_dask, "--dask", dask.scheduler_address], writers[1])
    over.set()
    killer.join()
    assert code == 0 and killed
    expected = outcome(open_store(tmp_path / "alone"), models)
    assert len(expected) == 2 * (5 + 1) + 2
    assert outcome(open_store(store_folder), models) == expected


@pytest.mark.slow
def test_what_is_wrong_with_a_cluster_is_a_line(
    workers: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def message(function: Any, *given: Any) -> str:
        with pytest.raises(ClusterError) as caught:
            workers.result(workers.begin(function, *given))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert list(workers.each(abs, range(-9, 0))) == list(range(9, 0, -1))
    # whatever ends the process of a worker, again and again
    assert "each worker that tried it died" in message(os._exit, 1)
    monkeypatch.setitem(workers._packages, "numpy", "0.1")
    assert "a worker has numpy" in message(abs, 1)
    monkeypatch.setitem(workers._packages, "numpy", np.__version__)
    here = workers._packages[cluster_module.PROJECT]
    monkeypatch.setitem(workers._packages, cluster_module.PROJECT, "another state")
    assert "a worker has this project's code" in message(abs, 1)
    monkeypatch.setitem(workers._packages, cluster_module.PROJECT, here)
    with pytest.raises(ValueError, match="invalid literal"):  # as its function raised it
        workers.result(workers.begin(int, "no number"))


def test_an_address_without_a_scheduler_is_a_line_and_begins_nothing(
    tmp_path: Path,
    small_reviews: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cluster_module, "SECONDS_TO_CONNECT", 1)
    store = tmp_path / "store"
    options = ["--data", str(small_reviews), "--store", str(store), "--dask", "tcp://127.0.0.1:9"]

    class NoWorker(Worker):
        """It would be forked while there are Dask's threads, and is not needed."""

        def __init__(self) -> None:
            pass

    def refused() -> str:
        assert script.main(options, NoWorker()) == 2
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1 and not store.exists()
        return said.err

    pytest.importorskip("distributed")
    assert "no scheduler answers" in refused()
    options[-1] = "tls://127.0.0.1:9"
    assert "no certificates are set" in refused()
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install -r requirements-dask.txt" in refused()


def test_dask_and_join_are_two_ways_to_share_a_pass(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_experiment(["--join", "night", "--dask", "tcp://host:1"])
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.count("\n") == 1 and "--dask" in said
    monkeypatch.setenv("SENTIMENT_DASK", "tcp://host:1")  # which may be there for `score`
    assert parse_experiment([]).dask == "tcp://host:1"
    assert parse_experiment(["--join", "night"]).dask is None
