"""One algorithm's share of a pass: its study, its trial runs, its best model, its version.

Written so that it can be killed between any two steps: each looks first whether it was done.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import Trial, TrialState

from sentiment.console import Terminal
from sentiment.errors import SearchError
from sentiment.metrics import Floats, Interval
from sentiment.model.algorithms import build_candidate, logged_parameters, suggest_candidate
from sentiment.registry.lifecycle import register_version
from sentiment.tracking.store import (
    FAILED,
    FINISHED,
    TAG,
    Store,
    begin_run,
    end_run,
    find_runs,
    git_commit,
    log_values,
)
from sentiment.training.fingerprint import FINGERPRINT, training_fingerprint
from sentiment.training.folds import FoldMatrices
from sentiment.training.passes import PARENT_KIND, TRIAL, TRIAL_KIND, ExperimentPass, reopen
from sentiment.training.report import (
    MODEL_URI,
    PreparedReviews,
    fit_and_evaluate,
    log_model_and_card,
    log_report,
    log_scores,
)
from sentiment.training.studies import (
    chosen_trial,
    finished_trials,
    open_study,
    parameter_importances,
    trial_table,
)

# Our own sentences: the input example of each model, shown in the MLflow UI.
EXAMPLES = ("Good quality and delivered on time", "Broke after two games, not worth the money")
REASON = TAG + "reason"


@dataclass(frozen=True)
class PassContext:
    """What every step of a pass works with; `storage` holds its Optuna studies."""

    store: Store
    this_pass: ExperimentPass
    data: PreparedReviews
    folds: FoldMatrices
    terminal: Terminal
    storage: BaseStorage


@dataclass(frozen=True)
class SearchResult:
    """What a search led to. `version` is None when nothing was registered."""

    algorithm: str
    run_id: str
    cv_f1_macro: float
    train_f1: float
    test_f1: Interval
    version: str | None


def search_and_register(
    context: PassContext, algorithm: str, *, register: bool = True
) -> SearchResult:
    """Search one algorithm, log its best model on a parent run, and register it.

    What an earlier attempt at the same pass finished is not done again. Raises `SearchError` when
    not one trial could be scored.
    """
    store, this_pass = context.store, context.this_pass
    earlier = find_runs(store, algorithm, this_pass.tags(PARENT_KIND))
    if earlier:
        parent = earlier[0].info.run_id
        if earlier[0].info.status != FINISHED:
            reopen(store, parent)
    else:
        tags = {**this_pass.tags(PARENT_KIND), TAG + "git_commit": git_commit()}
        parent = begin_run(store, algorithm, tags)
    if not (earlier and earlier[0].info.status == FINISHED):
        study = run_study(context, algorithm, parent)
        _log_best(context, algorithm, parent, study)
    version = _register(store, parent, this_pass) if register else None
    end_run(store, parent)
    metrics = store.client.get_run(parent).data.metrics
    return SearchResult(
        algorithm=algorithm,
        run_id=parent,
        cv_f1_macro=metrics["cv_f1_macro"],
        train_f1=metrics["train_f1"],
        test_f1=Interval(metrics["test_f1"], metrics["test_f1_low"], metrics["test_f1_high"]),
        version=version,
    )


def run_study(context: PassContext, algorithm: str, parent: str) -> Study:
    """Run the study to its number of trials, each written to MLflow before Optuna is told."""
    store, this_pass = context.store, context.this_pass
    settings = this_pass.settings
    study = open_study(context.storage, f"{this_pass.id}/{algorithm}", settings.seed)
    known = {
        run.data.tags[TRIAL]: run.info.run_id
        for run in find_runs(store, algorithm, this_pass.tags(TRIAL_KIND))
    }
    warned: list[str] = []
    with context.terminal.search(algorithm, settings.trials) as progress:
        progress.advance(_best(study), len(finished_trials(study)))
        while progress.done < settings.trials:
            trial = study.ask()
            logged = known.get(str(trial.number))
            warned += _run_trial(context, algorithm, parent, study, trial, logged)
            progress.advance(_best(study))
    if warned:
        context.terminal.say(
            f"{algorithm}: {len(warned)} warnings in trials, the first: {warned[0]}"
        )
    if _best(study) is None:
        end_run(store, parent, FAILED)
        reason = finished_trials(study)[0].user_attrs["reason"]
        raise SearchError(
            f"all {settings.trials} trials of {algorithm} failed, the first with: {reason}; "
            "give more reviews, or leave this algorithm out with --models"
        )
    return study


def _run_trial(
    context: PassContext,
    algorithm: str,
    parent: str,
    study: Study,
    trial: Trial,
    run_id: str | None,
) -> list[str]:
    """Score one trial and log it as a nested run; a failed one is FAILED, with its reason.

    `run_id` is the run that an interrupted attempt at this very trial left behind.
    """
    store, this_pass = context.store, context.this_pass
    started, clock = time.time(), time.perf_counter()
    scores: Floats | None = None
    reason = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            candidate = suggest_candidate(algorithm, trial, this_pass.settings.search_space)
            params = logged_parameters(algorithm, candidate)
            scores = context.folds.score(candidate.vectorizer, candidate.model)
        except Exception as error:  # whatever a trial dies of, the study goes on
            params = {"model": algorithm, **trial.params}
            reason = f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - clock
    messages = sorted({f"{item.category.__name__}: {item.message}" for item in caught})

    tags = {**this_pass.tags(TRIAL_KIND), TRIAL: str(trial.number)}
    if run_id is None:
        name = str(trial.number)
        run_id = begin_run(store, algorithm, tags, name=name, parent=parent, started=started)
    extra = {REASON: reason} if reason else {}
    if messages:
        extra[TAG + "warnings"] = "; ".join(messages)
    log_values(
        store,
        run_id,
        params={**params, "cleaning_fingerprint": this_pass.settings.cleaning},
        metrics={**({} if scores is None else _score_metrics(scores)), "duration_seconds": seconds},
        tags=extra,
    )
    end_run(store, run_id, FINISHED if scores is not None else FAILED)

    trial.set_user_attr("seconds", seconds)
    if scores is None:
        trial.set_user_attr("reason", reason)
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, float(scores.mean()))
    return messages


def _log_best(context: PassContext, algorithm: str, parent: str, study: Study) -> None:
    """Refit the best trial, evaluate it, and write everything about it on the parent run."""
    store, data = context.store, context.data
    settings, best = context.this_pass.settings, chosen_trial(study)
    candidate = build_candidate(algorithm, best.params, settings.search_space)
    fitted = fit_and_evaluate(algorithm, candidate, data, context.folds)
    trials = finished_trials(study)
    log_values(
        store,
        parent,
        metrics={
            "cv_f1_macro": best.value or 0.0,
            "cv_f1_macro_best": study.best_value,
            "fit_time": sum(trial.user_attrs["seconds"] for trial in trials),
        },
        tags={
            TAG + "chosen_trial": str(best.number),
            TAG + FINGERPRINT: training_fingerprint(settings.data_digest, candidate),
        },
    )
    log_scores(store, parent, fitted, data)
    log_report(store, parent, fitted, data, trial_table(trials), parameter_importances(study))
    log_model_and_card(store, parent, fitted, EXAMPLES, settings.file_format)


def _register(store: Store, parent: str, this_pass: ExperimentPass) -> str:
    run = store.client.get_run(parent)
    tags = {
        "model": run.data.params["model"],
        "cv_f1_macro": f"{run.data.metrics['cv_f1_macro']:.6f}",
        "test_f1": f"{run.data.metrics['test_f1']:.6f}",
        "data_digest": this_pass.settings.data_digest,
        "cleaning_fingerprint": this_pass.settings.cleaning,
    }
    if TAG + FINGERPRINT in run.data.tags:  # not in a pass that an older version of this began
        tags[FINGERPRINT] = run.data.tags[TAG + FINGERPRINT]
    return register_version(store, parent, run.data.tags[MODEL_URI], tags)


def _score_metrics(scores: Floats) -> dict[str, float]:
    folds = {f"cv_f1_fold_{fold}": float(value) for fold, value in enumerate(scores)}
    return {"cv_f1_macro": float(scores.mean()), "cv_f1_macro_sd": float(scores.std()), **folds}


def _best(study: Study) -> float | None:
    scored = [trial.value for trial in finished_trials(study) if trial.value is not None]
    return max(scored, default=None)
