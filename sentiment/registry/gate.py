"""Decide whether a version may replace the one in production, and on what evidence.

`compare_versions` lets both versions answer the same reviews, none of which they were trained on,
as they are served: each with its own threshold. `judge` and `judge_first` are the rules, on labels,
predictions and times alone; `judge_behaviour` is the rule on behaviour tests.

On the same data a candidate must be better, or versions of equal quality would take turns by luck.
On new data it may be equal: it knows more. But many such steps, each a little downwards, would lead
far. So there is a floor: the best version that was ever in production. `tools/simulate_gate.py`
shows what these rules let through.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sentiment.console import Terminal
from sentiment.data.labels import CLASS_NAMES, LabelRule
from sentiment.data.reviews import TEXT_HASHES, Split, TextHashes, text_hashes
from sentiment.errors import TrackingError, VersionError
from sentiment.metrics import Interval, Labels, bootstrap_interval, paired_difference, score
from sentiment.model.behaviour import MAX_CHANCE, Behaviour, behaviour_of, compare_behaviour
from sentiment.model.calibration import DECISION_RULE, DecisionRule
from sentiment.model.predictor import one_line
from sentiment.tracking.artifact import DIGESTS, read_pipeline
from sentiment.tracking.ledger import BEST_DIFFERENCE, BEST_VERSION
from sentiment.tracking.store import Store, quiet
from text_cleaning import clean_texts, cleaning_fingerprint

# The best version so far, if it is neither candidate nor production, and how the candidate's
# macro-F1 differs from its.
Floor = tuple[str, Interval]

# Share of the candidate's training reviews that production was not trained on. With fewer the
# holdout is almost the same as well, and each retraining would only be one more try on it.
NEW_DATA = 0.05
MARGIN = 0.01  # of macro-F1 that new data may cost; one model varies by .010 over splits
MAX_RECALL_FALL = 0.03  # the negative reviews are the few that somebody should read
MAX_TIME_RATIO = 2.0  # of the median times of one prediction; a busy machine alone can cause less
MIN_ROWS, MIN_CLASS_ROWS = 100, 10  # with fewer, an interval of macro-F1 says nothing
TINY = 1e-9  # meeting a limit exactly is allowed, however the last bit is rounded
SHOWN_CASES = 20  # of the behaviour tests that are newly failed
TIMED_TEXTS = 100  # single predictions timed, a millisecond each


@dataclass(frozen=True)
class Scores:
    """The scores of one version. `seconds` is the median time of one prediction."""

    version: str
    f1_macro: Interval
    recall_negative: Interval
    seconds: float


@dataclass(frozen=True)
class Verdict:
    """The gate's decision on `candidate`, compared with `production`.

    `scores` holds the candidate's, then production's. `rows` reviews were compared; `left_out` more
    were not, because one of the versions was trained on their cleaned texts. `baseline` is the
    macro-F1 of always answering the commoner class. `rule` says which rule was applied and why.
    `best` is the best version so far, which may be one of the two, and `best_difference` how the
    candidate's macro-F1 differs from its. A figure is None where there was nothing to compare with,
    or too little. `behaviour` is what the candidate, then production did with the behaviour tests.
    """

    promoted: bool
    reason: str
    candidate: str
    production: str | None
    rows: int = 0
    left_out: int = 0
    scores: tuple[Scores, ...] = ()
    difference: Interval | None = None
    recall_difference: Interval | None = None
    baseline: float | None = None
    note: str = ""
    rule: str = ""
    best: str | None = None
    best_difference: Interval | None = None
    behaviour: tuple[Behaviour, ...] = ()

    def sentence(self) -> str:
        """Return the verdict as one line."""
        rule = f" ({self.rule})" if self.rule else ""
        return f"{'promoted' if self.promoted else 'refused'}: {self.reason}{rule}"

    def metrics(self) -> dict[str, float]:
        """Return the figures by name, for the ledger."""
        found: dict[str, float] = {"rows": self.rows, "rows_left_out": self.left_out}
        for role, scores in zip(("candidate", "production"), self.scores, strict=False):
            found |= _ends(f"{role}_f1_macro", scores.f1_macro)
            found |= _ends(f"{role}_recall_negative", scores.recall_negative)
            found[f"{role}_seconds"] = scores.seconds
        for name, interval in (
            ("difference_f1_macro", self.difference),
            ("difference_recall_negative", self.recall_difference),
            (BEST_DIFFERENCE, self.best_difference),
        ):
            found |= {} if interval is None else _ends(name, interval)
        for role, behaviour in zip(("candidate", "production"), self.behaviour, strict=False):
            found |= {f"{role}_{name}": value for name, value in behaviour.metrics().items()}
        if len(self.behaviour) == 2:
            change = compare_behaviour(*self.behaviour)
            found["behaviour_newly_failed"] = len(change.newly_failed)
            found["behaviour_mended"] = len(change.mended)
        found |= {} if self.best is None else {BEST_VERSION: float(self.best)}
        return found | ({} if self.baseline is None else {"majority_f1_macro": self.baseline})

    def table(self) -> pd.DataFrame:
        """Return the figures as a table of a row a version, and the differences with their ends."""
        rows = [
            (
                f"version {scores.version}",
                _brief(scores.f1_macro),
                _brief(scores.recall_negative),
                f"{scores.seconds * 1000:.2f}",
            )
            for scores in self.scores
        ]
        if self.difference is not None and self.recall_difference is not None:
            ratio = f"× {self.scores[0].seconds / self.scores[1].seconds:.2f}"
            both = _brief(self.difference), _brief(self.recall_difference)
            rows.append(("difference", *both, ratio))
        if self.best_difference is not None and self.best != self.production:
            rows.append((f"to version {self.best}", _brief(self.best_difference), "", ""))
        columns = ["", "macro-F1, 95 %", "recall of negative, 95 %", "ms"]
        return pd.DataFrame(rows, columns=columns)

    def show(self, terminal: Terminal) -> None:
        """Print what was compared, the figures, and the verdict."""
        if self.scores:
            terminal.say(
                f"compared on {self.rows:,} reviews of the holdout; {self.left_out:,} more left "
                "out, because one of the versions was trained on their cleaned texts"
            )
            terminal.table("Gate (ms: median of one prediction)", self.table())
        for version, behaviour in zip(
            (self.candidate, self.production), self.behaviour, strict=False
        ):
            terminal.say(f"behaviour tests, version {version}: {behaviour.sentence()}")
        if len(self.behaviour) == 2:
            newly_failed = compare_behaviour(*self.behaviour).newly_failed
            for case in newly_failed[:SHOWN_CASES]:
                terminal.say(f"  newly failed: {case}")
            if len(newly_failed) > SHOWN_CASES:
                terminal.say(f"  and {len(newly_failed) - SHOWN_CASES} more")
        if self.note:
            terminal.say(self.note)
        terminal.say(self.sentence(), always=True)


def compare_versions(
    store: Store, candidate: str, production: str | None, split: Split, best: str | None = None
) -> Verdict:
    """Let the versions answer the holdout of `split`, the current data, and judge them.

    Versions that were trained with another rule of what is negative are not compared: that is
    refused. With `production` None the candidate is judged as the first version. `best` is the best
    version that was ever in production. Reviews are left out when one of two versions that are
    compared was trained on their cleaned texts. Raises `VersionError` when the candidate or
    production cannot be scored, and `TrackingError` when the store does not answer.
    """
    mine, other = _load(store, candidate), None
    if not mine.knows_its_texts:
        raise VersionError(
            candidate,
            f"trained with another cleaning ({mine.fingerprint}) than the code's, so "
            "its training texts cannot be recognised; retrain it",
        )
    best, notes = best or production or candidate, []
    if production is not None:
        other = _load(store, production)
        if mine.rule != other.rule:
            return Verdict(
                False,
                f"not comparable: version {candidate} was trained with '{mine.rule}', version "
                f"{production} in production with '{other.rule}'; --force changes the rule",
                candidate,
                production,
                best=best,
            )
        if not other.knows_its_texts:
            # some of its training texts may stay in; that favours production: the gate stays strict
            notes.append(
                f"version {production} was trained with another cleaning: some reviews may be "
                "known to it, which favours it"
            )
        if mine.decision != other.decision:
            notes.append(
                "compared as served, by thresholds that are set in two ways: version "
                f"{candidate} by {mine.decision}, version {production} by {other.decision}"
            )
    # text_hashes sorts and drops duplicates, so it is asked for one text at a time
    hashes = np.array([text_hashes([text])[0] for text in clean_texts(split.test_texts)])
    floor, best_behaviour = None, None
    if best not in {candidate, production}:
        try:
            third = _load_best(store, best, mine.rule)
            floor, best_behaviour = (best, _difference(mine, third, split, hashes)), _behave(third)
        except VersionError as error:
            notes.append(f"not compared with the best version so far: {error}")
            best = production or candidate
    compared = [mine] if other is None else [mine, other]
    texts, truth = _unknown(split, hashes, compared)
    left_out, note = len(split.test_texts) - len(texts), "; ".join(notes)
    if _too_few(truth):
        reason, rows = _too_few(truth), len(texts)
        return Verdict(False, reason, candidate, production, rows, left_out, note=note, best=best)
    predicted = [_predict(version, texts) for version in compared]
    seconds = median_seconds([version.pipeline for version in compared], texts[:TIMED_TEXTS])
    if other is None:
        verdict = judge_first(
            candidate, truth, predicted[0], seconds[0], left_out=left_out, floor=floor
        )
    else:
        same = mine.digest == other.digest
        verdict = judge(
            (candidate, other.version),
            truth,
            (predicted[0], predicted[1]),
            (seconds[0], seconds[1]),
            new=0.0 if same else new_share(mine.hashes, other.hashes),
            left_out=left_out,
            floor=floor,
        )
    best_difference = None if best == candidate else verdict.best_difference
    verdict = replace(verdict, note=note, best=best, best_difference=best_difference)
    behaviour = tuple(_behave(version) for version in compared)
    return judge_behaviour(verdict, behaviour, best_behaviour)


def judge_behaviour(
    verdict: Verdict, behaviour: tuple[Behaviour, ...], best: Behaviour | None = None
) -> Verdict:
    """Return the verdict, or a refusal of a candidate that fails more behaviour tests.

    `behaviour` is the candidate's, then production's if there is one, and `best` that of the best
    version so far if it is a third one. The tests that one of two versions fails and the other
    passes are counted. The candidate is refused where so many or more of them would be its
    failures with a probability of at most `MAX_CHANCE`, if they were either's alike: where no test
    is mended, from five new failures on. `best` does not count where the candidate is better than
    production on reviews: to refuse that one would keep a worse one. A first version is not judged.
    """
    others = list(zip((f"version {verdict.production}",), behaviour[1:], strict=False))
    better = verdict.difference is not None and verdict.difference.low > 0
    if best is not None and not better:
        others.append((f"version {verdict.best}, the best so far,", best))
    faults = []
    for name, other in others:
        change = compare_behaviour(behaviour[0], other)
        if change.worse:
            faults.append(
                f"fails {len(change.newly_failed)} behaviour tests that {name} passes, and passes "
                f"{len(change.mended)} that it fails (by chance: {change.chance:.2g}, more than "
                f"{MAX_CHANCE} is asked for)"
            )
    if faults and not verdict.promoted:
        faults.insert(0, verdict.reason)
    reason = "; ".join(faults) or verdict.reason
    promoted = verdict.promoted and not faults
    return replace(verdict, promoted=promoted, reason=reason, behaviour=behaviour)


def new_share(candidate: TextHashes, production: TextHashes) -> float:
    """Return the share, 0–1, of the candidate's training texts that production's do not have.

    Both are distinct hashes, as of `text_hashes`.
    """
    return 1 - float(np.isin(candidate, production).mean()) if len(candidate) else 0.0


def median_seconds(pipelines: Sequence[Any], texts: Sequence[str]) -> list[float]:
    """Return each pipeline's median time of predicting one text; they take turns at each text."""
    times: list[list[float]] = [[] for _ in pipelines]
    for number, text in enumerate(texts):
        turns = list(enumerate(pipelines))
        for index, pipeline in turns if number % 2 else turns[::-1]:
            begun = time.perf_counter()
            pipeline.predict([text])
            times[index].append(time.perf_counter() - begun)
    return [float(np.median(taken)) for taken in times]


def judge(
    versions: tuple[str, str],
    truth: Labels,
    predicted: tuple[Labels, Labels],
    seconds: tuple[float, float],
    *,
    new: float,
    left_out: int = 0,
    floor: Floor | None = None,
) -> Verdict:
    """Judge a candidate against the version in production; each pair is in this order.

    `truth` and `predicted` are 0/1 labels of the same rows, `seconds` the median times of one
    prediction. `new` is the share, 0–1, of the candidate's training reviews that production was not
    trained on. Below `NEW_DATA` the 95 % interval of the paired difference in macro-F1 must lie
    above 0; from there on its lower end above -`MARGIN`. The recall of negative may fall by
    `MAX_RECALL_FALL`, the time may grow by the factor `MAX_TIME_RATIO`.

    `floor` is the best version so far, if it is a third one, and the candidate's difference to it.
    Its lower end must lie above -`MARGIN` too, unless the candidate is better than production: to
    refuse that one would keep a worse one.
    """
    few = _too_few(truth)
    if few:
        return Verdict(False, few, *versions, len(truth), left_out)
    difference = paired_difference(truth, *predicted)
    recall = paired_difference(truth, *predicted, "recall_negative")
    against, measured = f"version {versions[1]}", f"difference {_shown(difference)}"
    is_new = new > NEW_DATA - TINY
    faults = []
    if difference.low <= 0:
        if not is_new:
            faults.append(f"no evidence of improvement, {measured}")
        elif difference.low <= -MARGIN:
            faults.append(f"may be worse than {against} by more than {MARGIN}, {measured}")
        faults += _below(floor)
    if -recall.value > MAX_RECALL_FALL + TINY:
        faults.append(
            f"recall of negative falls by {-recall.value:.3f}, more than {MAX_RECALL_FALL}"
        )
    if seconds[0] > MAX_TIME_RATIO * seconds[1] * (1 + TINY):
        faults.append(
            f"one prediction takes {seconds[0] / seconds[1]:.1f} times as long, at most "
            f"{MAX_TIME_RATIO:g} is allowed"
        )
    better = (
        f"better than {against}, {measured}"
        if difference.low > 0
        else f"not worse than {against} by more than {MARGIN}, {measured}"
    )
    data = "new data" if is_new else "the same data"
    return Verdict(
        promoted=not faults,
        reason="; ".join(faults) or better,
        candidate=versions[0],
        production=versions[1],
        rows=len(truth),
        left_out=left_out,
        scores=tuple(
            _score(*scored, truth) for scored in zip(versions, predicted, seconds, strict=True)
        ),
        difference=difference,
        recall_difference=recall,
        baseline=majority_f1(truth),
        rule=f"{data}: {new:.1%} of its training reviews are new",
        best=versions[1] if floor is None else floor[0],
        best_difference=difference if floor is None else floor[1],
    )


def judge_first(
    version: str,
    truth: Labels,
    predicted: Labels,
    seconds: float,
    *,
    left_out: int = 0,
    floor: Floor | None = None,
) -> Verdict:
    """Judge a version where none is in production: it must beat answering the commoner class.

    `floor` is as for `judge`.
    """
    few = _too_few(truth)
    if few:
        return Verdict(False, few, version, None, len(truth), left_out)
    scores, baseline = _score(version, predicted, seconds, truth), majority_f1(truth)
    good = scores.f1_macro.low > baseline
    measured = (
        f"macro-F1 {_shown(scores.f1_macro)}, against {baseline:.3f} for always answering "
        f"'{CLASS_NAMES[int(truth.mean() > 0.5)]}'"
    )
    faults = [] if good else [f"no evidence that it beats guessing, {measured}"]
    faults += _below(floor)
    return Verdict(
        promoted=not faults,
        reason="; ".join(faults) or f"the first in production, {measured}",
        candidate=version,
        production=None,
        rows=len(truth),
        left_out=left_out,
        scores=(scores,),
        baseline=baseline,
        best=None if floor is None else floor[0],
        best_difference=None if floor is None else floor[1],
    )


def _below(floor: Floor | None) -> list[str]:
    """Say that the candidate may be below the floor, if it may."""
    if floor is None or floor[1].low > -MARGIN:
        return []
    return [
        f"may be worse than version {floor[0]}, the best so far, by more than {MARGIN}, difference "
        f"{_shown(floor[1])}"
    ]


def majority_f1(truth: Labels) -> float:
    """Return the macro-F1, 0–1, of always answering the commoner of the 0/1 labels `truth`."""
    commoner = int(np.mean(truth) > 0.5)
    return score(truth, np.full(len(truth), commoner, dtype=np.int64))


def _score(version: str, predicted: Labels, seconds: float, truth: Labels) -> Scores:
    return Scores(
        version,
        bootstrap_interval(truth, predicted),
        bootstrap_interval(truth, predicted, "recall_negative"),
        seconds,
    )


def _too_few(truth: Labels) -> str:
    """Say why these reviews are too few for a verdict; empty when they are not."""
    counts = np.bincount(truth, minlength=2)
    if len(truth) >= MIN_ROWS and counts.min() >= MIN_CLASS_ROWS:
        return ""
    return (
        f"too few reviews to compare on: {len(truth):,}, {counts[0]:,} of them negative; at least "
        f"{MIN_ROWS} and {MIN_CLASS_ROWS} a class are needed"
    )


def _ends(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _shown(interval: Interval, digits: int = 3) -> str:
    """`−0.001, 95% −0.006…0.004`."""
    value, low, high = (
        f"{round(number, digits) + 0.0:.{digits}f}".replace("-", "−")
        for number in (interval.value, interval.low, interval.high)
    )
    return f"{value}, 95% {low}…{high}"


def _brief(interval: Interval) -> str:
    """`−0.001 (−0.006…0.004)`, for a table of 80 columns."""
    return f"{_shown(interval).replace(', 95% ', ' (')})"


@dataclass(frozen=True)
class _LoadedVersion:
    version: str
    pipeline: Any
    hashes: TextHashes  # of its training texts, as of `text_hashes`
    digest: str
    fingerprint: str
    rule: LabelRule
    cleaning: str
    decision: DecisionRule

    @property
    def knows_its_texts(self) -> bool:
        """Whether today's code cleans as the version's did, so that `hashes` can be compared."""
        return self.fingerprint == cleaning_fingerprint(self.cleaning)


def _load(store: Store, version: str) -> _LoadedVersion:
    """Load a version with what it was trained on; raise as `compare_versions` does."""
    import mlflow

    model, said = store.settings.registered_model, "will not load"
    with tempfile.TemporaryDirectory() as copied, quiet("mlflow.store.artifact"):

        def fetch(source: str) -> Path:
            return Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=source, dst_path=copied, tracking_uri=store.uri
                )
            )

        try:
            found = store.client.get_model_version(model, version)
            files = fetch(f"models:/{model}/{version}")
            pipeline = read_pipeline(files, found.tags.get(DIGESTS, ""))
            said = f"its run has no readable {TEXT_HASHES}, so its training texts are unknown"
            hashes = np.load(fetch(f"runs:/{found.run_id}/{TEXT_HASHES}"), allow_pickle=False)
        except Exception as error:  # a damaged file fails in as many ways as there are libraries
            if is_outage(error):
                raise TrackingError(
                    f"version {version} cannot be loaded just now: {one_line(error)}; try again"
                ) from None
            raise VersionError(version, f"{said}: {one_line(error)}") from None
    digest, fingerprint = (found.tags.get(x, "") for x in ("data_digest", "cleaning_fingerprint"))
    cleaning = found.tags.get("cleaning", "guide")
    rule = LabelRule.of_tags(found.tags)
    decision = DecisionRule.of_tag(found.tags.get(DECISION_RULE))
    return _LoadedVersion(version, pipeline, hashes, digest, fingerprint, rule, cleaning, decision)


def is_outage(error: Exception) -> bool:
    """Return whether this says that a server, a disk or the network is away: it may come back.

    All else is for good: a file that is not there, is damaged, or asks for trust.
    """
    from mlflow.exceptions import MlflowException
    from requests import HTTPError

    if isinstance(error, MlflowException):
        return _may_pass(int(error.get_http_status_code()))  # type: ignore[no-untyped-call]
    if isinstance(error, HTTPError) and error.response is not None:
        return _may_pass(error.response.status_code)
    missing = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
    return isinstance(error, OSError) and not isinstance(error, missing)


def _may_pass(status: int) -> bool:
    return status >= 500 or status in {408, 429}  # timeout, too many requests


def _load_best(store: Store, version: str, rule: LabelRule) -> _LoadedVersion:
    """Load the best version so far.

    It must know its training texts as today's cleaning does, and be trained with the same rule.
    """
    loaded = _load(store, version)
    if not loaded.knows_its_texts:
        raise VersionError(version, "trained with another cleaning, which would favour it")
    if loaded.rule != rule:
        raise VersionError(version, f"trained with '{loaded.rule}', not '{rule}'")
    return loaded


def _unknown(
    split: Split, hashes: TextHashes, versions: Sequence[_LoadedVersion]
) -> tuple[list[str], Labels]:
    """Return texts and labels of the holdout that none of the versions was trained on."""
    new = ~np.isin(hashes, np.concatenate([version.hashes for version in versions]))
    return [text for text, kept in zip(split.test_texts, new, strict=True) if kept], split.y_test[
        new
    ]


def _difference(
    candidate: _LoadedVersion, best: _LoadedVersion, split: Split, hashes: TextHashes
) -> Interval:
    """Return how the candidate's macro-F1 differs from the best version's."""
    texts, truth = _unknown(split, hashes, (candidate, best))
    if _too_few(truth):
        raise VersionError(best.version, _too_few(truth))
    return paired_difference(truth, _predict(candidate, texts), _predict(best, texts))


def _predict(version: _LoadedVersion, texts: list[str]) -> Labels:
    try:
        return np.asarray(version.pipeline.predict(texts), dtype=np.int64)
    except Exception as error:
        raise VersionError(version.version, f"fails: {one_line(error)}") from None


def _behave(version: _LoadedVersion) -> Behaviour:
    try:
        return behaviour_of(version.pipeline, version.rule)
    except Exception as error:
        raise VersionError(version.version, f"fails: {one_line(error)}") from None
