"""Compare two ways to make a model by paired splits.

    a, b = contender("LogisticRegression"), contender("LinearSVM", {"C": 0.1})
    found = compare((a, b), loaded)
    found.sentence()

On one split the third digit of a score is luck. Here both are trained on the same 70 % of the
reviews and score the same 30 %, again and again, so that what is hard about a split cancels out.
What is not fixed of a contender is searched on the training part of each split: the test part
decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import optuna
import pandas as pd
from joblib import Parallel, delayed
from optuna.trial import FixedTrial, TrialState
from sklearn.base import clone
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold

from sentiment.data.reviews import LoadedReviews, SplitMethod, data_digest, split_reviews
from sentiment.errors import ComparisonError
from sentiment.metrics import (
    METRICS,
    Floats,
    Interval,
    Labels,
    confusion,
    corrected_interval,
    score,
)
from sentiment.model.algorithms import (
    ALGORITHMS,
    NGRAM_RANGES,
    RANDOM_STATE,
    Candidate,
    logged_parameters,
    suggest_candidate,
)
from sentiment.model.calibration import decision_values
from sentiment.model.predictor import one_line
from sentiment.registry.gate import MAX_RECALL_FALL
from sentiment.training.folds import FoldMatrices
from sentiment.training.studies import TrialSeededSampler
from text_cleaning import CLEANINGS, MARKERS, TextCleaner, clean_texts

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import BaseTrial

PUBLISHED = "published"  # a cleaning: the guide's, of texts that still have the scraper's marker
AUC, PRECISION, MATCHED = "roc_auc", "average_precision_negative", "f1_macro_at_recall_of_a"
TITLES = {
    "f1_macro": "macro-F1",
    "recall_negative": "recall of negative",
    AUC: "ROC AUC",
    PRECISION: "average precision of negative",
    MATCHED: "macro-F1 at A's recall of negative",
}
Outcome = Literal["better", "worse", "not told apart"]  # B, beside A
# by the side of 0 on which the interval lies; 0: on both
OUTCOMES: dict[int, Outcome] = {1: "better", -1: "worse", 0: "not told apart"}
Parameters = dict[str, str | int | float]


class PublishedCleaner(TextCleaner):
    """Clean as the published code does: the marker, which reading took off, is glued on again."""

    def transform(self, X: Any) -> list[str]:
        """Return the cleaned texts in the order of `X`, an iterable of str."""
        return clean_texts(text + MARKERS[0] for text in X)


@dataclass(frozen=True)
class Contender:
    """A way to make a model; `contender` makes one.

    `changes` are parameters that are fixed, by their logged names. The others are those of `base`,
    the configuration of a version; without one, the `searched` ones are searched.
    """

    name: str
    algorithm: str
    changes: Mapping[str, Any]
    base: Candidate | None = None
    searched: tuple[str, ...] = ()

    def candidate(self, trial: BaseTrial) -> Candidate:
        """Return the unfitted candidate of a trial, which is asked for the algorithm's space."""
        base = self.base or suggest_candidate(self.algorithm, trial)
        vectorizer, model = clone(base.vectorizer), clone(base.model)
        changes = self.changes
        if changes.get("cleaning") == PUBLISHED:
            cleaner: TextCleaner = PublishedCleaner()
        else:
            of_cleaner = {name: changes[name] for name in CLEANER if name in changes}
            cleaner = clone(base.cleaner).set_params(**of_cleaner)
        for name in changes.keys() - set(CLEANER):
            part = model if name in model.get_params(deep=False) else vectorizer
            part.set_params(**{name: changes[name]})
        return Candidate(vectorizer, model, cleaner)

    def described(self, trials: int) -> str:
        """Return the name and what is searched, in a line."""
        if self.searched:
            how = f"{', '.join(self.searched)} by {trials} trials on each split's training part"
        else:
            how = "every parameter is fixed"
        return f"{self.name} ({how})"


CLEANER = ("cleaning", "reach")  # the cleaner's parameters


def contender(
    algorithm: str,
    changes: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    base: Candidate | None = None,
) -> Contender:
    """Return the contender of an algorithm with some parameters fixed, as text or as they are.

    `cleaning` may also be `published`. Raises `ComparisonError` for an unknown algorithm, and for a
    parameter that it has not or whose value cannot be.
    """
    if algorithm not in ALGORITHMS:
        there = ", ".join(ALGORITHMS)
        raise ComparisonError(f"{name or algorithm}: no such algorithm; there are {there}")
    given = {key: _value(key, value) for key, value in (changes or {}).items()}
    named = name or ",".join([algorithm, *(f"{key}={value}" for key, value in given.items())])
    trial = _study(0).ask()
    plain = Contender(named, algorithm, {}, base).candidate(trial)
    known = {*logged_parameters(algorithm, plain), *CLEANER} - {"model"}
    for key in given:
        if key not in known:
            raise ComparisonError(
                f"{named}: {algorithm} has no parameter '{key}'; it has {', '.join(sorted(known))}"
            )
    if given.get("cleaning", CLEANINGS[0]) not in {*CLEANINGS, PUBLISHED}:
        raise ComparisonError(
            f"{named}: no cleaning '{given['cleaning']}'; there are "
            f"{', '.join((*CLEANINGS, PUBLISHED))}"
        )
    made = Contender(named, algorithm, given, base)
    candidate = made.candidate(trial)
    without_reach = candidate.cleaner.cleaning == CLEANINGS[0]
    reach = given.get("reach", 0)
    if "reach" in given and (without_reach or type(reach) is not int or reach < 0):
        raise ComparisonError(
            f"{named}: reach is a whole number of words, of the cleaning that marks negations "
            "(cleaning=negation)"
        )
    try:  # now, and not after the reviews were read; scikit-learn has no public way
        for part in (candidate.vectorizer, candidate.model):
            part._validate_params()
    except ValueError as error:
        raise ComparisonError(f"{named}: {one_line(error)}") from None
    searched = set(trial.params) - set(given) - ({"reach"} if without_reach else set())
    return replace(made, searched=tuple(sorted(searched)))


@dataclass(frozen=True)
class SplitResult:
    """What A and B came to on one split: scores by name, and the parameters of each."""

    scores: tuple[dict[str, float], dict[str, float]]
    parameters: tuple[Parameters, Parameters]


@dataclass(frozen=True)
class Comparison:
    """Scores of A and B on the same splits; a difference is B's minus A's."""

    contenders: tuple[Contender, Contender]
    results: list[SplitResult]
    test_per_train: float
    reviews: int
    digest: str
    split: SplitMethod
    trials: int
    seed: int

    def values(self, metric: str) -> Floats:
        """Return the scores of A and of B on each split, shape (2, splits)."""
        return np.array([[one.scores[side][metric] for one in self.results] for side in (0, 1)])

    def difference(self, metric: str) -> Interval:
        """Return the mean of B − A with its 95 % interval (`metrics.corrected_interval`)."""
        a, b = self.values(metric)
        return corrected_interval(b - a, self.test_per_train)

    def won(self, metric: str) -> tuple[int, int]:
        """Return on how many splits A, and on how many B, has the higher score."""
        a, b = self.values(metric)
        return int((a > b).sum()), int((b > a).sum())

    @property
    def outcome(self) -> Outcome:
        """Whether the interval of the difference in macro-F1 is above 0, below, or holds it."""
        return OUTCOMES[_side(self.difference("f1_macro"))]

    def sentence(self) -> str:
        """Say what follows."""
        found, matched = self.difference("f1_macro"), self.difference(MATCHED)
        if found.value == found.low == found.high == 0:
            return "A and B score the same on every split."
        ahead = f"{self.won('f1_macro')[1]} of {len(self.results)}"
        said = [
            f"B is {self.outcome} {'than' if _side(found) else 'from'} A: macro-F1 "
            f"{_signed(found)}, ahead on {ahead} splits."
        ]
        at_recall = f"at the same recall of negative ({_signed(matched)})"
        if _side(found) == 0:
            said.append(
                f"The true difference may be anything from {found.low:+.4f} to {found.high:+.4f}."
            )
            if _side(matched):
                said.append(f"But B is {OUTCOMES[_side(matched)]} {at_recall}.")
        elif _side(matched) == _side(found):
            said.append(
                f"So it is {at_recall}: what differs is how well they rank, and not only where the "
                "boundary lies."
            )
        else:
            side = _side(matched)
            they = f"B is {OUTCOMES[side]}" if side else "They are not told apart"
            said.append(
                f"{they} {at_recall}: the difference may be no more than where the boundary lies."
            )
        recall = self.difference("recall_negative")
        if _side(recall) < 0:
            gate = ", more than the gate lets pass" if recall.value < -MAX_RECALL_FALL else ""
            said.append(f"B misses more of the negative reviews: recall {_signed(recall)}{gate}.")
        return " ".join(said)

    def table(self) -> pd.DataFrame:
        """Return a row a metric, as text: means of A and B, the difference, the splits won."""
        rows = []
        for metric in self.results[0].scores[0]:
            a, b = self.values(metric).mean(axis=1)
            won = self.won(metric)
            rows.append(
                {
                    "metric": TITLES.get(metric, metric),
                    "A": f"{a:.4f}",
                    "B": f"{b:.4f}",
                    "B − A, 95% interval": _signed(self.difference(metric)),
                    "won by A, B": f"{won[0]}, {won[1]}",
                }
            )
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, the scores and parameters of each split too, of JSON's types."""
        metrics = {}
        for metric in self.results[0].scores[0]:
            a, b = self.values(metric).tolist()
            won = self.won(metric)
            difference = vars(self.difference(metric))
            metrics[metric] = {"a": a, "b": b, "difference": difference, "won": list(won)}
        sides = [
            {
                "name": one.name,
                "algorithm": one.algorithm,
                "searched": list(one.searched),
                "parameters": [result.parameters[side] for result in self.results],
            }
            for side, one in enumerate(self.contenders)
        ]
        return {
            "outcome": self.outcome,
            "sentence": self.sentence(),
            **dict(zip("ab", sides, strict=True)),
            "data": {"digest": self.digest, "reviews": self.reviews},
            "splits": {"number": len(self.results), "method": self.split, "seed": self.seed},
            "trials": self.trials,
            "metrics": metrics,
        }


def compare(  # noqa: PLR0913  # options of a command, each with its default
    contenders: tuple[Contender, Contender],
    loaded: LoadedReviews,
    *,
    splits: int = 20,
    trials: int = 10,
    split: SplitMethod = "hashed",
    seed: int = 0,
    jobs: int = 1,
    each: Callable[[], object] = lambda: None,
) -> Comparison:
    """Train and score both contenders on 2 or more splits, 70/30, and return their scores.

    The splits have the seeds `seed`, `seed` + 1, and so on, which also seed their searches. Up to
    `jobs` processes share the work, and change nothing in the result; `each` is called when a split
    is done. Raises `ReviewDataError` for reviews that cannot be split, and `ComparisonError` when a
    contender cannot be trained on them.
    """
    if not loaded.marker_removed:  # where there was none, none was left in
        contenders = _without_marker(contenders[0]), _without_marker(contenders[1])
    cleaned = clean_texts(loaded.frame["text"])
    seeds = range(seed, seed + splits)
    cuts = [split_reviews(loaded.frame, cleaned, method=split, seed=one) for one in seeds]
    whole = tuple(loaded.frame["text"]), tuple(loaded.frame["label"].tolist())
    tasks = (
        delayed(_score_split)(contenders, whole, (cut.train_rows, cut.test_rows), trials, one)
        for cut, one in zip(cuts, seeds, strict=True)
    )
    results = []
    for result in Parallel(n_jobs=min(jobs, splits), return_as="generator")(tasks):
        results.append(result)
        each()
    return Comparison(
        contenders,
        results,
        test_per_train=len(cuts[0].test_texts) / len(cuts[0].train_texts),
        reviews=len(loaded.frame),
        digest=data_digest(loaded.frame),
        split=split,
        trials=trials,
        seed=seed,
    )


def labels_at_recall(decisions: Floats, truth: Labels, found: int) -> Labels:
    """Label with the boundary at which `found` of the negative reviews are found.

    Ties at the boundary are negative too. Two classifiers with different boundaries differ in
    recall and in precision at once; at the same recall of negative they differ only in how many
    positive reviews are called negative for it. That is one point of the curve of each, which a
    contender with the better ranking wins (Davis & Goadrich 2006, "The relationship between
    precision-recall and ROC curves"). A boundary that is chosen on out-of-fold decisions would
    miss the recall by chance, and the difference would again be of both. The labels of the test
    part choose the boundary by the recall alone: no score is maximised.
    """
    if found == 0:
        return np.ones(len(truth), dtype=np.int64)
    boundary = np.sort(decisions[truth == 0])[found - 1]
    return np.asarray(decisions > boundary, dtype=np.int64)


@lru_cache(maxsize=1)  # a process counts the terms once for all of its splits
def _counted(texts: tuple[str, ...], labels: tuple[int, ...]) -> FoldMatrices:
    return FoldMatrices(texts, np.array(labels), n_jobs=1)


def _score_split(
    contenders: tuple[Contender, Contender],
    reviews: tuple[tuple[str, ...], tuple[int, ...]],
    rows: tuple[Labels, Labels],
    trials: int,
    seed: int,
) -> SplitResult:
    """Train both on the rows of the training part, by themselves, and score them on the others."""
    texts, labels = reviews
    train, test = rows
    whole, y = _counted(texts, labels), np.array(labels)
    folds = StratifiedKFold(5, shuffle=True, random_state=RANDOM_STATE).split(train, y[train])
    search = whole.over([(train[inner], train[held_out]) for inner, held_out in folds])
    both = whole.over([rows])
    truth = y[test]
    scores: list[dict[str, float]] = []
    parameters: list[Parameters] = []
    for one in contenders:
        candidate = _search(one, search, trials, seed)
        try:
            parts = candidate.vectorizer, candidate.model, candidate.cleaner
            ((predicted, decisions),) = both.run(*parts, _answers)
        except ValueError as error:  # such as that no terms remain
            raise _untrainable(one, error) from None
        if not scores:
            found = int(((predicted == 0) & (truth == 0)).sum())
        matched = labels_at_recall(decisions, truth, found)  # of A too: its cut is as tight
        matrix = confusion(truth, predicted)
        scores.append(
            {
                **{name: float(measure(matrix)) for name, measure in METRICS.items()},
                AUC: float(roc_auc_score(truth, decisions)),
                PRECISION: float(average_precision_score(truth == 0, -decisions)),
                MATCHED: score(truth, matched),
            }
        )
        logged: Parameters = logged_parameters(one.algorithm, candidate)
        if isinstance(candidate.cleaner, PublishedCleaner):
            logged["cleaning"] = PUBLISHED
        parameters.append(logged)
    return SplitResult((scores[0], scores[1]), (parameters[0], parameters[1]))


def _answers(model: Any, matrix: Any) -> tuple[Labels, Floats]:
    return model.predict(matrix), decision_values(model, matrix)


def _study(seed: int) -> Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(direction="maximize", sampler=TrialSeededSampler(seed))


def _search(one: Contender, folds: FoldMatrices, trials: int, seed: int) -> Candidate:
    """Return the candidate with the best mean of the folds; nothing is scored if all is fixed."""
    study = _study(seed)
    failures = []
    for _ in range(trials):
        trial = study.ask()
        candidate = one.candidate(trial)
        if not one.searched:
            return candidate
        try:
            found = folds.score(candidate.vectorizer, candidate.model, candidate.cleaner)
            study.tell(trial, float(found.mean()))
        except ValueError as error:
            failures.append(error)
            study.tell(trial, state=TrialState.FAIL)
    if len(failures) == trials:
        raise _untrainable(one, failures[0])
    return one.candidate(FixedTrial(study.best_trial.params))


def _untrainable(one: Contender, error: ValueError) -> ComparisonError:
    return ComparisonError(
        f"{one.name}: cannot be trained on a split of these reviews ({one_line(error)}); give more "
        "reviews, or other parameters"
    )


def _without_marker(one: Contender) -> Contender:
    if one.changes.get("cleaning") != PUBLISHED:
        return one
    return replace(one, changes={**one.changes, "cleaning": CLEANINGS[0]})


def _value(name: str, given: Any) -> Any:
    """Return a parameter's value as its estimator takes it, from text."""
    if not isinstance(given, str):
        return given
    if name == "ngram_range":
        return NGRAM_RANGES.get(given.replace(" ", "").replace(",", ", "), given)
    for number in (int, float):
        try:
            return number(given)
        except ValueError:
            pass
    return None if given == "None" else given


def _side(interval: Interval) -> int:
    """Return 1 for an interval above 0, -1 for one below, 0 for one that holds it."""
    return int(interval.low > 0) - int(interval.high < 0)


def _signed(interval: Interval) -> str:
    """`+0.0197 [+0.0116, +0.0278]`."""
    return f"{interval.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
