"""The whole experiment on `data.csv`, run as a user runs it and read back from MLflow."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from support import LEDGER, REGISTERED_MODEL

from sentiment.data.reviews import Split, load_reviews, split_reviews, text_hashes
from sentiment.errors import TrackingError
from sentiment.model.algorithms import build_candidate
from sentiment.model.calibration import term_weights
from sentiment.tracking.artifact import load_pipeline, read_pipeline
from sentiment.tracking.store import NOTE, Store, open_store, scores_of
from sentiment.training.card import model_card
from sentiment.training.search import fold_scores
from text_cleaning import TextCleaner, clean_texts, cleaning_fingerprint

PROJECT = Path(__file__).resolve().parent.parent
TRIALS = 4
ALGORITHMS = ("LogisticRegression", "NaiveBayes", "LinearSVM")
FIGURES = "confusion_matrix precision_recall reliability top_words trials"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("end_to_end")]


class Pass:
    """One finished pass in a store of its own, and what it printed."""

    def __init__(self, folder: Path, *options: str) -> None:
        script = PROJECT / "sentiment_mlflow_optuna.py"
        command = [sys.executable, str(script), "--trials", str(TRIALS), "--store", str(folder)]
        done = subprocess.run(
            [*command, *options],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.output, self.errors, self.folder = done.stdout, done.stderr, folder
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.client = MlflowClient(self.uri)

    def runs(self, experiment: str) -> list[Run]:
        """All runs of an experiment, oldest first."""
        found = self.client.get_experiment_by_name(experiment)
        assert found is not None
        pages = self.client.search_runs([found.experiment_id], max_results=1000)
        return sorted(pages, key=lambda run: run.info.start_time)

    def parent(self, algorithm: str) -> Run:
        """The one parent run of an algorithm."""
        (run,) = [r for r in self.runs(algorithm) if "mlflow.parentRunId" not in r.data.tags]
        return run

    def trials(self, algorithm: str) -> list[Run]:
        """The nested runs by number."""
        nested = [r for r in self.runs(algorithm) if "mlflow.parentRunId" in r.data.tags]
        return sorted(nested, key=lambda run: int(str(run.info.run_name)))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Pass:
    return Pass(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def store(first: Pass) -> Store:
    return open_store(first.folder)


@pytest.fixture(scope="module")
def split() -> Split:
    return split_reviews(load_reviews(PROJECT / "data.csv").frame)


def pipeline_of(algorithm: str, run: Run) -> Pipeline:
    """The run's algorithm and parameters as a plain pipeline from raw text, not fitted."""
    candidate = build_candidate(algorithm, run.data.params)
    return make_pipeline(TextCleaner(), candidate.vectorizer, candidate.model)


def test_every_trial_is_a_finished_nested_run(first: Pass) -> None:
    for algorithm in ALGORITHMS:
        parent, trials = first.parent(algorithm), first.trials(algorithm)
        assert [run.info.run_name for run in trials] == [str(n) for n in range(TRIALS)]
        assert re.fullmatch(rf"[a-z]+-[a-z]+-\d+ {algorithm}", str(parent.info.run_name))
        for run in trials:
            assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
            folds = fold_scores(run)
            assert len(folds) == 5
            assert run.data.metrics["cv_f1_macro"] == pytest.approx(np.mean(folds), abs=1e-12)
            assert run.data.metrics["cv_f1_macro_sd"] == pytest.approx(np.std(folds), abs=1e-12)
            assert run.data.metrics["duration_seconds"] > 0
            assert run.data.params["model"] == algorithm
            assert run.data.params["cleaning_fingerprint"] == cleaning_fingerprint()
            assert {"max_features", "min_df", "max_df", "ngram_range"} <= set(run.data.params)
            assert ("alpha" if algorithm == "NaiveBayes" else "C") in run.data.params
    every = [run for name in (*ALGORITHMS, LEDGER) for run in first.runs(name)]
    assert {run.info.status for run in every} == {"FINISHED"}
    assert len(every) == 3 * (1 + TRIALS) + 1 + 1  # the pass, and the challenger it staged


def test_a_trials_score_is_scikit_learns(first: Pass, split: Split) -> None:
    run = first.trials("LinearSVM")[1]
    scores = cross_val_score(
        pipeline_of("LinearSVM", run),
        split.train_texts,
        split.y_train,
        scoring="f1_macro",
        cv=StratifiedKFold(5, shuffle=True, random_state=42),
    )
    assert list(fold_scores(run)) == scores.tolist()


def test_the_summary_says_what_mlflow_holds(first: Pass) -> None:
    assert first.errors == ""
    assert "--- FINAL SUMMARY ---" in first.output
    for number, algorithm in enumerate(ALGORITHMS, start=1):
        assert f"Created version '{number}' of model '{REGISTERED_MODEL}'." in first.output
        metrics = scores_of(first.parent(algorithm))
        line = (
            f"{algorithm} | CV F1={metrics['cv_f1_macro']:.4f} "
            f"| Train F1={metrics['train_f1']:.4f} | Test F1={metrics['test_f1']:.4f}"
        )
        assert line in first.output.splitlines()
        assert f"[{metrics['test_f1_low']:.4f}, {metrics['test_f1_high']:.4f}]" in first.output
    best = max(ALGORITHMS, key=lambda name: first.parent(name).data.metrics["cv_f1_macro"])
    assert f"Winner by cross-validation: {best}\n" in first.output
    version = ALGORITHMS.index(best) + 1
    assert f"Version {version} is the challenger; no version is in production yet." in first.output
    assert f"python -m sentiment promote {version} --to production --store" in first.output


def test_a_parent_holds_scores_tables_figures_dataset_and_packages(
    first: Pass, store: Store, split: Split
) -> None:
    cleaned_train, cleaned_test = clean_texts(split.train_texts), clean_texts(split.test_texts)
    for algorithm in ALGORITHMS:
        run = first.parent(algorithm)
        metrics = scores_of(run)
        assert not [name for name in run.data.metrics if name.endswith(("_low", "_high"))]
        named = {"cv_f1_macro", "train_f1", "test_f1", "fit_time", "model_size_bytes"}
        assert named <= set(metrics)
        assert metrics["test_f1_low"] < metrics["test_f1"] < metrics["test_f1_high"]
        best = max(trial.data.metrics["cv_f1_macro"] for trial in first.trials(algorithm))
        assert metrics["cv_f1_macro"] == best
        history = first.client.get_metric_history(run.info.run_id, "cv_f1_macro")
        scores = [trial.data.metrics["cv_f1_macro"] for trial in first.trials(algorithm)]
        assert [point.step for point in history] == list(range(TRIALS))
        assert [point.value for point in history] == np.maximum.accumulate(scores).tolist()

        home = first.folder / "mlruns" / algorithm / run.info.run_id / "artifacts"
        drawn = sorted((home / "figures").glob("*.png"))
        assert " ".join(file.stem for file in drawn) == FIGURES
        assert all(file.stat().st_size > 5_000 for file in drawn)
        assert (home / "packages.txt").read_text().count("scikit-learn==") == 1
        hashes = np.load(home / "training_text_hashes.npy")
        assert np.array_equal(hashes, text_hashes(cleaned_train))
        words = pd.read_csv(home / "tables" / "top_words.csv")["word"]
        assert len(words) == 100 and not {"qualiti", "durabl", "amaz"} & set(words)
        described = str(run.data.tags[NOTE])
        assert f"{metrics['test_f1']:.4f}" in described
        audit = pd.read_csv(home / "tables" / "audit.csv").set_index("check")
        assert audit.loc["rows without text", "count"] == 8

        assert run.inputs is not None
        dataset = run.inputs.dataset_inputs[0].dataset
        assert (dataset.name, dataset.digest) == ("data.csv", run.data.tags["flipkart.data_digest"])

        pipeline = load_pipeline(store, run.data.tags["flipkart.model_uri"])
        predicted = pipeline.predict(split.test_texts)
        score = f1_score(split.y_test, predicted, average="macro")
        assert metrics["test_f1"] == pytest.approx(score, abs=1e-12)
        new = ~np.isin(cleaned_test, cleaned_train)
        score = f1_score(split.y_test[new], predicted[new], average="macro")
        assert metrics["test_f1_unseen"] == pytest.approx(score, abs=1e-12)


def test_the_run_of_the_pass_compares_its_models(first: Pass) -> None:
    (run,) = [one for one in first.runs(LEDGER) if one.data.tags["flipkart.kind"] == "experiment"]
    assert run.info.run_id in first.output  # the link
    home = first.folder / "mlruns" / LEDGER / run.info.run_id / "artifacts"
    table = pd.read_csv(home / "tables/comparison.csv").set_index("model")
    assert list(table.index) == list(ALGORITHMS) and table["chosen"].sum() == 1
    assert (home / "figures/comparison.png").stat().st_size > 5_000
    for algorithm in ALGORITHMS:
        parent = first.parent(algorithm)
        scores = scores_of(parent)
        row = table.loc[algorithm]
        names = {"F1": "test_f1", "low": "test_f1_low", "high": "test_f1_high"}
        for end, name in names.items():
            assert row[f"test {end}"] == pytest.approx(scores[name], abs=1e-4)
        assert row["size kB"] * 1000 == pytest.approx(scores["model_size_bytes"], abs=1)
        assert row["CV low"] < row["CV F1"] < row["CV high"]
        assert parent.info.run_id in run.data.tags[NOTE]


def test_versions_carry_tags_and_point_at_their_runs(first: Pass) -> None:
    for number, algorithm in enumerate(ALGORITHMS, start=1):
        version = first.client.get_model_version(REGISTERED_MODEL, str(number))
        run = first.parent(algorithm)
        assert version.run_id == run.info.run_id
        assert version.tags["model"] == algorithm
        assert "macro-F1" in str(version.description)
        assert float(version.tags["cv_f1_macro"]) == pytest.approx(
            run.data.metrics["cv_f1_macro"], abs=1e-6
        )
        assert version.tags["data_digest"] == run.data.tags["flipkart.data_digest"]
        assert version.tags["cleaning_fingerprint"] == cleaning_fingerprint()


def test_the_artifact_is_whole_and_answers_alone_in_another_folder(
    first: Pass, tmp_path: Path
) -> None:
    """A fresh interpreter, a copy of the artifact, no repository on the path: the same answers."""
    for algorithm in ALGORITHMS:
        run = first.parent(algorithm)
        model_id = run.data.tags["flipkart.model_uri"].removeprefix("models:/")
        source = first.folder / "mlruns" / algorithm / "models" / model_id / "artifacts"
        copy = Path(shutil.copytree(source, tmp_path / algorithm))
        expected = "MLmodel model.skops conda.yaml python_env.yaml requirements.txt"
        assert {*expected.split(), "input_example.json"} <= {file.name for file in copy.iterdir()}
        assert (copy / "model.skops").stat().st_size == run.data.metrics["model_size_bytes"]
    texts = ["Not good at all, broke at once", "Superb quality&lt;br&gt;fine READ MORE", "ok", ""]
    code = (
        "import sys, mlflow, pandas as pd\n"
        "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "print(*model.predict(pd.DataFrame({'text': sys.argv[2:]})))\n"
        "print(sys.modules['text_cleaning'].__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(copy), *texts],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers, cleaning_file = done.stdout.splitlines()[-2:]
    assert answers == " ".join(str(label) for label in read_pipeline(copy).predict(texts))
    assert Path(cleaning_file).is_relative_to(copy)  # its own code, not ours


def test_the_model_is_the_pipeline_bit_for_bit(first: Pass, store: Store, split: Split) -> None:
    for algorithm in ALGORITHMS:
        run = first.parent(algorithm)
        fresh = pipeline_of(algorithm, run).fit(split.train_texts, split.y_train)
        loaded = load_pipeline(store, run.data.tags["flipkart.model_uri"])
        assert loaded["tfidf"].vocabulary_ == fresh[1].vocabulary_
        assert loaded["tfidf"].idf_.tolist() == fresh[1].idf_.tolist()
        weights = loaded["model"].estimator.estimator.estimator.coef_
        assert weights.tolist() == [np.asarray(term_weights(fresh[-1])).tolist()]
        assert loaded.predict(split.test_texts).tolist() == fresh.predict(split.test_texts).tolist()


def test_the_model_card_rebuilds_from_the_run_id(first: Pass, store: Store) -> None:
    for algorithm in ALGORITHMS:
        run = first.parent(algorithm)
        home = first.folder / "mlruns" / algorithm / run.info.run_id / "artifacts"
        card = (home / "model_card.md").read_text()
        assert model_card(store, run.info.run_id) == card
        assert f"{run.data.metrics['test_f1']:.4f}" in card and algorithm in card
    with pytest.raises(TrackingError, match="is not a run with a model's report"):
        model_card(store, "0" * 32)


def test_the_readmes_way_to_load_a_version_works(first: Pass) -> None:
    blocks = (PROJECT / "README.md").read_text(encoding="utf-8").split("```python\n")
    code = blocks[1].split("```")[0].replace("sqlite:///mlflow.db", first.uri)
    names: dict[str, object] = {}
    exec(code, names)
    model, texts = names["model"], names["texts"]
    assert model.predict(texts).tolist() == [0, 1]  # type: ignore[attr-defined]


def test_other_choices(tmp_path: Path) -> None:
    """--format, --models, --search-space, --seed, --no-register, --quiet, --storage at once."""
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    done = Pass(
        tmp_path,
        *("--format", "cloudpickle", "--models", "LogisticRegression", "--search-space", "guide"),
        *("--seed", "7", "--no-register", "--quiet", "--storage", url),
    )
    assert done.output.startswith("\n--- FINAL SUMMARY ---")
    run = done.parent("LogisticRegression")
    tried = [trial.data.params for trial in done.trials("LogisticRegression")]
    ranges, solvers = ({params[key] for params in tried} for key in ("ngram_range", "solver"))
    assert ranges <= {"(1, 1)", "(1, 2)"} and solvers <= {"liblinear", "lbfgs"}
    assert len(ranges) + len(solvers) > 2
    assert not done.client.search_registered_models()
    uri = run.data.tags["flipkart.model_uri"]
    store = open_store(tmp_path)
    with pytest.raises(TrackingError, match="is a pickle"):
        load_pipeline(store, uri)
    assert load_pipeline(store, uri, trust_pickle=True).predict(["good"]).tolist() == [1]
    assert (tmp_path / "elsewhere.db").exists() and not (tmp_path / "studies/studies.db").exists()
