"""Measure the drift alarm: false alarms, detection of shifts, and the error of CBPE.

    python tools/bench_drift.py --data data.csv [--halves 500] [--repeats 40]

A model is trained on two fifths of the reviews. The rest is split into random halves, many times:
one half makes the reference, the other gives windows, unchanged (false alarms) and shifted
(detection). For some halves everything is also trained anew on reviews with all their duplicates.
For each shift, strength and window size it prints how often the verdict is `drifted` without
labels, by which group of signals, and how often true labels alone show it; then the mean difference
between estimated and true macro-F1 (bias), the mean absolute one (error), and how often CBPE's
interval holds the true score: as reported, corrected where the share of positive answers moved, and
without the correction (trusting). `noted` is how often the report says that the estimate is
corrected or not to be trusted. About four minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import stats
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

PROJECT = Path(__file__).resolve().parent.parent
if str(PROJECT) not in sys.path:  # run as a script, Python puts only tools/ on the path
    sys.path.insert(0, str(PROJECT))

from drift_shifts import misspelling, other_product, rows_of_share, turned_topic  # noqa: E402

from sentiment import metrics as evaluation  # noqa: E402
from sentiment.data.reviews import load_reviews, split_reviews, to_labels  # noqa: E402
from sentiment.drift.compare import compare_reviews  # noqa: E402
from sentiment.drift.features import WindowFeatures, row_features  # noqa: E402
from sentiment.drift.performance import estimated_f1  # noqa: E402
from sentiment.drift.reference import Reference, common_terms, reference_reviews  # noqa: E402
from sentiment.drift.report import DriftReport  # noqa: E402
from sentiment.drift.signals import MEASURED  # noqa: E402
from sentiment.errors import ReviewDataError  # noqa: E402
from sentiment.metrics import Ints  # noqa: E402
from sentiment.model.calibration import calibrate  # noqa: E402
from sentiment.training.folds import FoldMatrices  # noqa: E402
from text_cleaning import TextCleaner, clean_texts  # noqa: E402

MODEL_SHARE = 0.4  # of the reviews; of 5,000 each half of the rest is as large as a usual holdout
WINDOWS = (200, 500)
SHIFTS: dict[str, tuple[float, ...]] = {
    "positive share, points down": (0.05, 0.10, 0.20, -0.10),
    "another product, share of reviews": (0.05, 0.20, 0.50),
    "misspelling, share of words": (0.10, 0.30),
    "labels turned, share with the topic": (0.10, 0.20),
}
CHANGES = dict(zip(list(SHIFTS)[1:], (other_product, misspelling, turned_topic), strict=True))
NOTHING, AS_IT_COMES = "nothing", "nothing, all rows"


@dataclass(frozen=True, eq=False)
class Reviews:
    """Reviews that the model has not seen, with their features."""

    pipeline: Any
    texts: list[str]
    labels: Ints
    features: WindowFeatures
    terms: tuple[str, ...]


def fit_pipeline(texts: Sequence[str], labels: Ints) -> Pipeline:
    """Return a calibrated logistic regression on raw texts, with a usual vectorizer."""
    cleaned = clean_texts(texts)
    vectorizer = TfidfVectorizer(min_df=4, max_df=0.9, ngram_range=(1, 2), sublinear_tf=True)
    model = LogisticRegression(C=0.6, class_weight="balanced", solver="liblinear")
    matrix = vectorizer.fit_transform(cleaned)
    model.fit(matrix, labels)
    decisions = FoldMatrices(cleaned, labels).decisions(vectorizer, model)
    calibrated = calibrate(model, decisions, matrix, labels)
    return Pipeline([("clean", TextCleaner()), ("tfidf", vectorizer), ("model", calibrated)])


def one_half(reviews: Reviews, seed: int, *, shifted: bool) -> list[dict[str, Any]]:
    """Return one row per check: windows of a random half against the reference of the other."""
    generator = np.random.default_rng([7, seed])
    order = generator.permutation(len(reviews.texts))
    half, other = np.array_split(order, 2)
    reference = Reference.of_features(
        reviews.features.take(half), reviews.labels[half], reviews.terms, seed=seed
    )
    rows = []
    for size in WINDOWS:
        window = reviews.features.take(other[:size])
        rows.append(_outcome(NOTHING, 0.0, reference, window, reviews.labels[other[:size]]))
        if shifted:
            rows += _shifted(reviews, reference, other, size, generator)
    return rows


def one_half_as_it_comes(rows: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
    """Train on a random half of all rows, duplicates included, and check windows of the other.

    As for a model in use, duplicates are dropped for training, and `reference_reviews` chooses the
    reviews of the reference.
    """
    order = np.random.default_rng([8, seed]).permutation(len(rows))
    half, other = np.array_split(order, 2)
    grouped = rows.iloc[half].groupby(["text", "rating"], sort=False)
    frame = grouped.size().reset_index(name="copies")
    split = split_reviews(frame)
    pipeline = fit_pipeline(split.train_texts, split.y_train)
    texts, labels, copies = (frame[name].tolist() for name in ("text", "rating", "copies"))
    chosen = reference_reviews(texts, to_labels(labels), np.array(copies), split, seed=seed)
    reference = Reference.build(pipeline, *chosen, seed=seed)
    found = []
    for size in WINDOWS:
        window = rows.iloc[other[:size]]
        features = row_features(window["text"].tolist(), pipeline)
        found.append(_outcome(AS_IT_COMES, 0.0, reference, features, to_labels(window["rating"])))
    return found


def _shifted(
    reviews: Reviews, reference: Reference, other: Ints, size: int, generator: np.random.Generator
) -> list[dict[str, Any]]:
    rows = []
    for shift, strengths in SHIFTS.items():
        for strength in strengths:
            if shift in CHANGES:
                texts = [reviews.texts[row] for row in other[:size]]
                labels = reviews.labels[other[:size]]
                texts, labels = CHANGES[shift](texts, labels, strength, generator)
                window = row_features(texts, reviews.pipeline)
            else:
                share = float(reviews.labels.mean()) - strength
                chosen = other[rows_of_share(reviews.labels[other], size, share, generator)]
                window, labels = reviews.features.take(chosen), reviews.labels[chosen]
            rows.append(_outcome(shift, strength, reference, window, labels))
    return rows


def _outcome(
    shift: str, strength: float, reference: Reference, window: WindowFeatures, true: Ints
) -> dict[str, Any]:
    report = compare_reviews(reference, window, true)
    answered = window.answered
    score = evaluation.score(true[answered], window.label[answered])
    estimated = report.performance.estimated
    trusting = estimated_f1(window.probability[answered], window.label[answered])
    assert estimated is not None and trusting is not None
    return {
        "shift": shift,
        "strength": strength,
        "size": len(window),
        **_alarms(report),
        "error": estimated.value - score,
        "held": estimated.low <= score <= estimated.high,
        "trusting": trusting.low <= score <= trusting.high,
        "noted": bool(report.performance.note),
    }


def _alarms(report: DriftReport) -> dict[str, bool]:
    """Return whether each group of signals, and whether any signal, is beyond its limit."""
    drifted = {signal.name for signal in report.signals if signal.state == "drifted"}
    watched = {signal.name for signal in report.signals if signal.state != "steady"}
    groups = {
        group: any(signal.name in drifted for signal in report.signals if signal.group == group)
        for group in ("input", "score")
    }
    return {
        "drifted": bool(drifted - {MEASURED}),
        **groups,
        "labels": MEASURED in drifted,
        "any": bool(drifted),
        "watch": bool(watched),
        **{f"signal {signal.name}": signal.name in drifted for signal in report.signals},
    }


def measure(options: argparse.Namespace) -> pd.DataFrame:
    """Return all checks, one row each."""
    frame = load_reviews(options.data, options.text_column, options.rating_column).frame
    labels = to_labels(frame["rating"])
    order = np.random.default_rng(42).permutation(len(frame))
    train, rest = np.split(order, [int(MODEL_SHARE * len(frame))])
    if len(rest) // 2 < max(WINDOWS):
        raise ReviewDataError(
            f"{options.data}: {len(frame):,} reviews, expected at least "
            f"{int(2 * max(WINDOWS) / (1 - MODEL_SHARE)) + 1:,}; give a larger file with --data"
        )
    texts = frame["text"].tolist()
    pipeline = fit_pipeline([texts[row] for row in train], labels[train])
    unseen = [texts[row] for row in rest]
    reviews = Reviews(
        pipeline, unseen, labels[rest], row_features(unseen, pipeline), common_terms(pipeline)
    )
    rows = frame.loc[frame.index.repeat(frame["copies"]), ["text", "rating"]]
    work = [
        delayed(one_half)(reviews, seed, shifted=seed < options.repeats)
        for seed in range(options.halves)
    ]
    work += [delayed(one_half_as_it_comes)(rows, seed) for seed in range(options.repeats)]
    done = Parallel(n_jobs=options.jobs)(work)
    return pd.DataFrame([row for rows in done for row in rows])


def say_false_alarms(checks: pd.DataFrame) -> None:
    """Print how often unchanged reviews were called drifted or watch, with 95 % intervals."""
    titles = {
        NOTHING: "windows of the other half, unchanged",
        AS_IT_COMES: "trained anew on a half with its duplicates, windows with theirs",
    }
    for case, title in titles.items():
        print(f"\nfalse alarms: {title}")
        print(f"{'reviews':>8}{'checks':>8}  {'drifted':<22}{'with labels':<22}watch or drifted")
        for size, group in checks[checks["shift"] == case].groupby("size"):
            cells = [_rate(group[name]) for name in ("drifted", "any", "watch")]
            print(f"{size:8}{len(group):8}  {cells[0]:<22}{cells[1]:<22}{cells[2]}")
            by_signal = group.filter(like="signal ").mean().sort_values(ascending=False)
            named = [f"{str(name).split()[-1]} {rate:.1%}" for name, rate in by_signal.items()]
            print(f"{'':10}{', '.join(named)}")


def say_detection(checks: pd.DataFrame) -> None:
    """Print for each shift how often it is detected and by what, and the error of the estimate."""
    print("\ndetection and CBPE; `labels` is the score by true labels alone")
    header = f"{'shift':<36}{'strength':>9}{'reviews':>8}{'drifted':>9}{'input':>7}{'score':>7}"
    print(f"{header}{'labels':>8}{'bias':>8}{'error':>7}{'held':>6}{'trusting':>9}{'noted':>7}")
    for (shift, strength, size), group in checks.groupby(["shift", "strength", "size"], sort=False):
        rates = [group[name].mean() for name in ("drifted", "input", "score", "labels")]
        print(
            f"{shift:<36}{strength:9.0%}{size:8}{rates[0]:9.0%}{rates[1]:7.0%}{rates[2]:7.0%}"
            f"{rates[3]:8.0%}{group['error'].mean():+8.3f}{group['error'].abs().mean():7.3f}"
            f"{group['held'].mean():6.0%}{group['trusting'].mean():9.0%}"
            f"{group['noted'].mean():7.0%}"
        )


def _rate(outcomes: pd.Series) -> str:
    """Return a share with its exact 95 % interval (Clopper & Pearson 1934)."""
    test = stats.binomtest(int(outcomes.sum()), len(outcomes))
    interval = test.proportion_ci()
    return f"{outcomes.mean():.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code: 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(description="Measure the drift alarm.")
    parser.add_argument("--data", default=str(PROJECT / "data.csv"), help="file of reviews")
    parser.add_argument("--text-column", help="its column of texts")
    parser.add_argument("--rating-column", help="its column of ratings")
    parser.add_argument("--halves", type=int, default=500, help="random halves (%(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=40, help="of these, how many also shifted (%(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=-1, help="processes (default: all cores)")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    try:
        if not 1 <= options.repeats <= options.halves:
            raise ReviewDataError("--halves and --repeats: expected 1 <= repeats <= halves")
        checks = measure(options)
    except ReviewDataError as error:
        print(f"bench_drift: {error}", file=sys.stderr)
        return 2
    say_false_alarms(checks)
    say_detection(checks)
    print(f"\n{len(checks):,} checks, {time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
