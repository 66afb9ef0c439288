"""Retrain: choose a configuration, see whether anything changed, log, and pass the gate.

No Prefect here: the tasks in `ml_orchestration_flipkart.py` call these functions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from sentiment.data.reviews import TextHashes, text_hashes
from sentiment.drift.reference import ensure_reference
from sentiment.errors import PredictionLogError
from sentiment.masking import mask
from sentiment.model.algorithms import (
    ALGORITHMS,
    PREFERRED,
    RANDOM_STATE,
    Candidate,
    build_candidate,
    logged_parameters,
)
from sentiment.model.calibration import DECISION_RULE, OWN, DecisionRule
from sentiment.predictions.feedback import LabelledReviews
from sentiment.predictions.log import default_log_url, running_comparison
from sentiment.registry import lifecycle as registry
from sentiment.tracking import store as tracking
from sentiment.tracking.artifact import read_text_hashes
from sentiment.tracking.store import TAG, Store, find_runs, log_values
from sentiment.training import report
from sentiment.training.passes import KIND, PARENT_KIND
from sentiment.training.report import FINGERPRINT, FittedModel, PreparedReviews

if TYPE_CHECKING:
    from mlflow.entities import Run

Config = Literal["champion", "published"]
RETRAINING_KIND = "retraining"
CONFIG_PARAMETER = "config"  # on runs of the flow: which of the two it trained
TRAINED_BY = "trained_by"  # tag of the versions that the flow registered
GATED = "gate"  # tag of a version: the verdict that was carried out
# Tags of a version: digest of the file without feedback, and how many reviews feedback added
FILE_DIGEST, FEEDBACK = "file_digest", "feedback"
# New labels count as a change of the data from this share on. If each label did, there would be a
# new version every five minutes, and none would answer enough reviews to be watched for drift.
GROWTH = 0.05
# A search was made on an earlier state of these reviews if they hold this share of its training
# texts. Not all: a shop corrects and withdraws some.
STILL_THERE = 0.95
RUN_TAG = TAG + "flow_run"


@dataclass(frozen=True)
class Outcome:
    """The run and the version that a retraining made, or, if not `new`, those it would repeat.

    `waiting` is how many labels came since, too few to train on.
    """

    run_id: str
    version: str
    new: bool
    waiting: int = 0

    def sentence(self) -> str:
        """Return the outcome as a clause, without a full stop."""
        if self.new:
            return f"registered version {self.version}"
        few = f" ({self.waiting:,} new labels are too few)" if self.waiting else ""
        return f"version {self.version} already covers this data{few}"


@dataclass(frozen=True)
class Chosen:
    """A configuration to train; `origin` says in words where it comes from.

    `decision` is how its threshold is set.
    """

    algorithm: str
    candidate: Candidate
    config: Config
    origin: str
    decision: DecisionRule = OWN

    def parameters(self) -> dict[str, object]:
        """Return the parameters to log, which identify the configuration."""
        vectorizer = self.candidate.vectorizer
        own = {"stop_words": vectorizer.stop_words, "sublinear_tf": vectorizer.sublinear_tf}
        return (
            logged_parameters(self.algorithm, self.candidate)
            | {CONFIG_PARAMETER: self.config}
            | own
        )


def published_candidate() -> Candidate:
    """Return the configuration of the published flow.

    Its `stop_words="english"` deletes *not*, which the cleaning keeps on purpose. On the reviews
    it was published with, that costs about .04 of macro-F1.
    """
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), max_features=5000, min_df=3, max_df=0.9, stop_words="english"
    )
    model = LogisticRegression(
        C=0.5, max_iter=1000, class_weight="balanced", random_state=RANDOM_STATE
    )
    return Candidate(vectorizer, model)


@dataclass(frozen=True)
class Passage:
    """What the gate came to, in a sentence, and which version went into production, if one did."""

    sentence: str
    promoted: str | None = None
    replaced: str | None = None

    def news(self) -> str:
        """Return the change of production as a line nobody overlooks; "" without one."""
        if self.promoted is None:
            return ""
        before = f"version {self.replaced}" if self.replaced else "none"
        return f"PRODUCTION CHANGED: version {self.promoted} is in production, before {before}"


def choose(store: Store, config: Config, prepared: PreparedReviews) -> Chosen:
    """Return the configuration to train on these reviews.

    `champion` takes algorithm and parameters of the production version. Without one it takes those
    of the search for `PREFERRED` with the best cross-validated score, of the searches on these
    reviews or an earlier state of them; else the published ones. The rule of decision is always
    that of the version or the search that it follows.
    """
    production = registry.production_version(store)
    version = registry.registered_versions(store).get(production or "")
    decision = DecisionRule.of_tag(version.tags.get(DECISION_RULE)) if version else OWN
    if config == "published":
        return _published("the published one", decision)
    if version is not None and version.run_id:  # it may have been deleted by hand
        run = store.client.get_run(version.run_id)
        if run.data.params.get("model") in ALGORITHMS:
            return _from_run(run, f"that of production version {production}")
    texts = text_hashes([*prepared.cleaned_train, *prepared.cleaned_test])
    searched = [
        run
        for run in find_runs(store, PREFERRED, {KIND: PARENT_KIND})
        if run.info.status == tracking.FINISHED
        and "cv_f1_macro" in run.data.metrics
        and _searched_these(store, run, prepared.digest, texts)
    ]
    if searched:
        best = max(searched, key=lambda run: run.data.metrics["cv_f1_macro"])
        return _from_run(best, f"that of the best search on this data, {best.info.run_name}")
    return _published("the published one, since nothing was searched on this data yet", decision)


def _published(origin: str, decision: DecisionRule) -> Chosen:
    origin += "" if decision == OWN else f", {decision}"
    return Chosen(PREFERRED, published_candidate(), "published", origin, decision)


def _from_run(run: Run, origin: str) -> Chosen:
    decision = DecisionRule.of_tag(run.data.tags.get(TAG + DECISION_RULE))
    if run.data.params.get(CONFIG_PARAMETER) == "published":
        return _published(origin, decision)
    algorithm = run.data.params["model"]
    origin += f" ({algorithm})" if decision == OWN else f" ({algorithm}, {decision})"
    return Chosen(algorithm, recorded_candidate(run), "champion", origin, decision)


def recorded_candidate(run: Run) -> Candidate:
    """Return the configuration that a run was trained with, unfitted.

    Raises `ValueError` when its parameters do not say it, and KeyError without an algorithm.
    """
    if run.data.params.get(CONFIG_PARAMETER) == "published":
        return published_candidate()
    # the wider space takes every parameter of the narrower one, which are all logged
    return build_candidate(run.data.params["model"], run.data.params, "guide")


def _searched_these(store: Store, run: Run, digest: str, texts: TextHashes) -> bool:
    """Return whether a search was made on these reviews or an earlier state of them."""
    if run.data.tags.get(TAG + "data_digest") == digest:
        return True
    trained_on = read_text_hashes(store, run.info.run_id)
    return bool(np.isin(trained_on, texts).mean() >= STILL_THERE)


def unchanged_since(
    store: Store,
    candidate: Candidate,
    labelled: LabelledReviews,
    *,
    exactly: bool = True,
    decision: DecisionRule = OWN,
) -> Outcome | None:
    """Return the newest version that training now would only repeat, or None.

    Every version counts, whoever registered it and whatever became of it. With `exactly` all data
    must be the same; without it, new labels up to a share of `GROWTH` are no change.
    """
    rule = labelled.loaded.rule
    for number, version in reversed(registry.registered_versions(store).items()):
        tags = version.tags
        digest = tags.get("data_digest", "")
        same = report.training_fingerprint(digest, candidate, rule=rule, decision=decision)
        if tags.get(FINGERPRINT) != same:
            continue  # another configuration or other code
        if digest == labelled.digest:
            return Outcome(version.run_id or "", number, new=False)
        waiting = labelled.added - int(tags.get(FEEDBACK, 0))
        few = waiting < GROWTH * len(labelled.loaded.frame)  # below 0: the log retired some
        if few and not exactly and tags.get(FILE_DIGEST, digest) == labelled.file_digest:
            return Outcome(version.run_id or "", number, new=False, waiting=max(waiting, 0))
    return None


def close_dead_runs(store: Store) -> None:
    """Mark runs as KILLED that a crash left RUNNING; no other retraining can be under way."""
    for run in find_runs(store, store.settings.ledger, {KIND: RETRAINING_KIND}):
        if run.info.status == tracking.RUNNING:
            tracking.end_run(store, run.info.run_id, tracking.KILLED)


def log_retraining(
    store: Store,
    chosen: Chosen,
    fitted: FittedModel,
    prepared: PreparedReviews,
    labelled: LabelledReviews,
    flow_run: tuple[str, str],
) -> Outcome:
    """Write the run and, if anything changed, its model and a version. Safe to repeat.

    `prepared` are the `labelled` reviews. `flow_run` is the id and the address of the Prefect run;
    a second attempt finds the MLflow run of the first by this id.
    """
    flow_run_id, flow_run_url = flow_run
    fingerprint = report.training_fingerprint(
        labelled.digest, chosen.candidate, rule=labelled.loaded.rule, decision=chosen.decision
    )
    # with the fingerprint: a run that is retried after the data changed is another run
    tags = {KIND: RETRAINING_KIND, RUN_TAG: flow_run_id, TAG + FINGERPRINT: fingerprint}
    earlier = find_runs(store, store.settings.ledger, tags)
    if earlier:
        run_id = earlier[0].info.run_id
    else:
        context = {
            TAG + "flow_run_url": mask(flow_run_url),
            TAG + "git_commit": tracking.git_commit(),
        }
        ledger = store.settings.ledger
        run_id = tracking.begin_run(store, ledger, {**tags, **context}, label=fitted.algorithm)
    report.log_scores(store, run_id, fitted, prepared)
    log_values(store, run_id, params=chosen.parameters())
    report.log_report(store, run_id, fitted, prepared)
    unchanged = unchanged_since(store, chosen.candidate, labelled, decision=chosen.decision)
    registered = bool(store.client.search_model_versions(f"run_id = '{run_id}'"))
    if unchanged is not None and not registered:  # else this is a second attempt
        log_values(store, run_id, tags={TAG + "unchanged_since": unchanged.version})
        tracking.end_run(store, run_id)
        return replace(unchanged, run_id=run_id)
    uri = report.log_model_and_card(store, run_id, fitted, "skops")
    tags = report.version_tags(store, run_id) | {
        "config": chosen.config,
        TRAINED_BY: RETRAINING_KIND,
        FILE_DIGEST: labelled.file_digest,
        FEEDBACK: str(labelled.added),
    }
    version = registry.register_version(store, run_id, uri, tags)
    # now, since nobody has file and feedback together again, should it be promoted by hand
    ensure_reference(store, version, prepared.loaded.frame, prepared.split)
    tracking.end_run(store, run_id)
    return Outcome(run_id, version, new=True)


def pass_gate(
    store: Store, outcome: Outcome, prepared: PreparedReviews, *, hold: str = ""
) -> Passage:
    """Judge a version that the flow trained, and promote it if it passes.

    With `hold`, a reason, the verdict is only reported. A verdict that was carried out is a tag of
    the version, so a version is judged once; one whose run broke off before, or was held, is judged
    by the next run. A version of somebody else is not touched. Raises `ConflictError` if another
    promotion came first.
    """
    registry.reconcile(store)  # a crash may have left the aliases behind the ledger
    state = registry.registry_state(store)
    tags = registry.registered_versions(store)[outcome.version].tags
    settled = tags.get(GATED)
    if outcome.version == registry.production_version(store):
        settled = "it is in production"
    elif outcome.version in state.promoted:
        # it was rolled back or replaced by hand: that is not undone here
        settled = "it was in production before"
    elif tags.get(TRAINED_BY) != RETRAINING_KIND:
        settled = f"left to you: python -m sentiment promote {outcome.version} --to production"
        settled += store.settings.option
    if settled is not None:
        return Passage(f"{outcome.sentence()}: {settled}")
    verdict = registry.judge_version(store, outcome.version, prepared.split)
    said = verdict.sentence()
    log_values(
        store,
        outcome.run_id,
        metrics={f"gate.{name}": value for name, value in verdict.metrics().items()},
        tags={TAG + "verdict": said},
    )
    if hold:
        return Passage(f"not carried out, since {hold}: {said}")
    passage = Passage(said)
    if verdict.promoted:
        # it has its reference unless its run broke off
        missing = ensure_reference(store, outcome.version, prepared.loaded.frame, prepared.split)
        registry.promote(store, verdict)
        said_all = f"{said}; {missing}" if missing else said
        passage = Passage(said_all, outcome.version, verdict.production)
    store.client.set_model_version_tag(
        store.settings.registered_model, outcome.version, GATED, said
    )
    return passage


def reason_to_hold(
    store: Store, log_url: str | None, *, promote: bool, promote_during_ab: bool
) -> str:
    """Return why a scheduled run must not promote now; "" when it may.

    A promotion would end an A/B test that runs, with whatever was learnt so far.
    """
    if not promote:
        return "promotion is switched off"
    if promote_during_ab:
        return ""
    try:
        test = running_comparison(log_url or default_log_url(store.home), time.time())
    except PredictionLogError as error:
        return f"nobody can tell whether an A/B test runs ({error})"
    if test is None:
        return ""
    return (
        f"an A/B test of version {test.challenger} against {test.champion} runs; end it, or give "
        "--promote-during-ab"
    )
