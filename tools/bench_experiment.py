"""Benchmark: the whole experiment script against the published script's way, side by side.

    python tools/bench_experiment.py --data reviews.csv [--repeats 3]

The published way, written here anew: for each algorithm a search whose trials are scored with
`cross_val_score(n_jobs=-1)` on a pipeline, one MLflow run, and a `log_model` that infers its
requirements; 3 runs, no figures. Ours logs 63 runs, the figures and the tables, and resumes. Both
start from nothing, in processes and stores of their own, in turn. Processor seconds (user and
system, children included) are less noisy than the clock where others use the machine as well.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Time both ways in turn and print seconds and ratio. Exit codes: 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(description="Time the whole experiment against the plain way.")
    parser.add_argument("--data", default=str(PROJECT / "data.csv"), help="file of reviews")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument("--published", metavar="STORE", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not Path(options.data).is_file() or options.repeats < 1:
        print(
            f"bench_experiment: {options.data}: no such file, or fewer than one repeat; name the "
            "reviews with --data",
            file=sys.stderr,
        )
        return 2
    if options.published:
        published_way(options.data, options.published)
        return 0

    ours_command = [sys.executable, str(PROJECT / "sentiment_mlflow_optuna.py"), "--quiet"]
    plain_command = [sys.executable, __file__]
    taken: dict[str, list[tuple[float, float]]] = {"plain": [], "ours": []}
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as store:
            command = [*plain_command, "--data", options.data, "--published", store]
            taken["plain"].append(_timed(command))
        with tempfile.TemporaryDirectory() as store:
            command = [*ours_command, "--data", options.data, "--store", store]
            taken["ours"].append(_timed(command))
    print(f"whole experiment on {Path(options.data).name}, {os.cpu_count()} cores")
    for column, clock in enumerate(("seconds", "processor seconds")):
        print(clock)
        for name, label in (("plain", "published way, 3 runs"), ("ours", "ours, 63 runs")):
            values = [pair[column] for pair in taken[name]]
            print(
                f"  {label:<24} median {statistics.median(values):6.1f}   "
                f"min {min(values):6.1f}   max {max(values):6.1f}"
            )
        pairs = zip(taken["plain"], taken["ours"], strict=True)
        ratios = [plain[column] / ours[column] for plain, ours in pairs]
        print(f"  ratio, pair by pair      median {statistics.median(ratios):6.1f} times")
    return 0


def published_way(data: str, store: str) -> None:
    """Search with scikit-learn's own cross-validation, and log each best model as MLflow does."""
    sys.path.insert(0, str(PROJECT))
    import mlflow
    import optuna
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import Pipeline

    from sentiment.data.reviews import load_reviews, split_reviews
    from sentiment.model.algorithms import GUIDES_ALGORITHMS, build_candidate, suggest_candidate
    from text_cleaning import clean_text

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    split = split_reviews(load_reviews(data).frame)
    texts = [clean_text(text) for text in split.train_texts]
    folds = StratifiedKFold(5, shuffle=True, random_state=42)
    for algorithm in GUIDES_ALGORITHMS:

        def objective(trial: optuna.Trial, algorithm: str = algorithm) -> float:
            candidate = suggest_candidate(algorithm, trial)
            pipeline = Pipeline([("tfidf", candidate.vectorizer), ("model", candidate.model)])
            scores = cross_val_score(
                pipeline, texts, split.y_train, scoring="f1_macro", cv=folds, n_jobs=-1
            )
            return float(scores.mean())

        location = f"{store}/mlruns/{algorithm}"
        mlflow.set_experiment(
            experiment_id=mlflow.create_experiment(algorithm, artifact_location=location)
        )
        sampler = optuna.samplers.TPESampler(seed=42)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.optimize(objective, n_trials=20)
        best = build_candidate(algorithm, study.best_params)
        pipeline = Pipeline([("tfidf", best.vectorizer), ("model", best.model)])
        pipeline.fit(texts, split.y_train)
        with mlflow.start_run():
            mlflow.log_params(study.best_params)
            mlflow.log_metric("cv_f1_macro", study.best_value)
            mlflow.sklearn.log_model(
                pipeline, name="model", registered_model_name="FlipkartSentimentModel"
            )


def _timed(command: list[str]) -> tuple[float, float]:
    """Run a command; return its seconds by the clock and its processor seconds."""
    env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(f"bench_experiment: {' '.join(command)} failed:\n{done.stderr}")
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return seconds, processor


if __name__ == "__main__":
    sys.exit(main())
