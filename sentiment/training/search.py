"""Search the algorithms of a pass: study, trial runs, best model and version of each.

It can be killed between any two steps: each step looks first whether it was done.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from sentiment.console import Terminal
from sentiment.errors import SearchError
from sentiment.metrics import Floats, Interval, corrected_error
from sentiment.model.algorithms import (
    PREFERRED,
    build_candidate,
    logged_parameters,
    suggest_candidate,
)
from sentiment.model.calibration import DecisionRule
from sentiment.registry.lifecycle import register_version, version_of
from sentiment.tracking.store import (
    FAILED,
    FINISHED,
    KILLED,
    TAG,
    Store,
    begin_run,
    end_run,
    find_runs,
    git_commit,
    log_values,
)
from sentiment.training.claims import POLL, Ticket
from sentiment.training.figures import Drawing, draw
from sentiment.training.folds import FoldMatrices
from sentiment.training.passes import (
    PARENT_KIND,
    TRIAL,
    TRIAL_KIND,
    ExperimentPass,
    PassSettings,
    reopen,
)
from sentiment.training.report import (
    MODEL_URI,
    FittedModel,
    PreparedReviews,
    decision_in_words,
    drawings,
    fit_and_evaluate,
    log_model_and_card,
    log_scores,
    log_tables,
    version_tags,
)
from sentiment.training.studies import PassStudy
from sentiment.training.worker import Worker
from text_cleaning import cleaning_fingerprint

REASON = TAG + "reason"
FOLD_METRIC = "cv_f1_fold_"  # and the number of the fold


@dataclass(frozen=True)
class PassContext:
    """What every step of a pass works with; `storage` holds its Optuna studies."""

    store: Store
    this_pass: ExperimentPass
    data: PreparedReviews
    folds: FoldMatrices
    terminal: Terminal
    storage: RDBStorage
    worker: Worker


@dataclass(frozen=True)
class SearchResult:
    """The scores of an algorithm's best model. `version` is None when it was not registered.

    `folds` are the macro-F1s of the folds that `cv_f1_macro` is the mean of; every algorithm of a
    pass has the same folds. `decision` says how the threshold was set, empty where it is the
    classifier's own.
    """

    algorithm: str
    cv_f1_macro: float
    folds: tuple[float, ...]
    train_f1: float
    test_f1: Interval
    version: str | None
    decision: str = ""


@dataclass(frozen=True)
class Choice:
    """The result to take of a pass, and in words why."""

    result: SearchResult
    why: str


def choose_winner(results: Sequence[SearchResult]) -> Choice:
    """Choose the model of a pass by cross-validation; the holdout is not for choosing.

    It is the one with the best mean, unless `PREFERRED` is within one standard error of it: the
    rule of Breiman, Friedman, Olshen & Stone 1984, "Classification and regression trees", section
    3.4.3. The standard error is that of the differences on the same folds, corrected for training
    parts that overlap (`metrics.corrected_error`).
    """
    best = max(results, key=lambda result: result.cv_f1_macro)
    preferred = next((one for one in results if one.algorithm == PREFERRED), None)
    if preferred is None or best is preferred:
        return Choice(best, f"the best mean of the folds, {best.cv_f1_macro:.4f}")
    ahead = np.subtract(best.folds, preferred.folds)
    error = corrected_error(ahead, 1 / (len(ahead) - 1))
    lead, near = f"{ahead.mean():.4f} ahead of {PREFERRED}", ahead.mean() <= error
    size = f"{'less' if near else 'more'} than a standard error ({error:.4f})"
    why = f"{best.algorithm} is {lead}, {size}"
    return Choice(preferred if near else best, why)


def search_and_register(context: PassContext, *, register: bool = True) -> list[SearchResult]:
    """Search each algorithm of the pass, log its best model on a parent run, and register it.

    The worker writes each model while the next algorithm is searched. What an earlier attempt at
    the same pass finished is not done again. A shared pass is searched together with the other
    workers, until all is done. Raises `SearchError` when not one trial of an algorithm could be
    scored.
    """
    algorithms, worker = context.this_pass.algorithms, context.worker
    parents: list[str] = []
    versions: list[str | None] = []
    try:
        if context.this_pass.claims is not None:
            parents = _search_together(context)
        else:
            for algorithm in algorithms:
                parents.append(_search(context, algorithm, versions.append, register=register))
    except Exception:
        worker.finish()  # what was found before is kept
        raise
    worker.finish()
    if context.this_pass.claims is not None:  # others have registered some
        versions = [version_of(context.store, parent) for parent in parents]
    results = []
    for algorithm, parent, version in zip(algorithms, parents, versions, strict=True):
        run = context.store.client.get_run(parent).data
        metrics = run.metrics
        interval = Interval(*(metrics[name] for name in ("test_f1", "test_f1_low", "test_f1_high")))
        folds = [metrics[name] for name in sorted(metrics) if name.startswith(FOLD_METRIC)]
        scores = metrics["cv_f1_macro"], tuple(folds), metrics["train_f1"], interval
        own = context.this_pass.settings.recall_negative is None
        decision = "" if own else decision_in_words(run.tags, metrics)
        results.append(SearchResult(algorithm, *scores, version, decision))
    return results


def _search(
    context: PassContext,
    algorithm: str,
    then: Callable[[str | None], object],
    *,
    register: bool,
) -> str:
    """Search one algorithm and return its parent run; `then` gets the version it is registered as.

    The worker writes its best model, and calls `then` by and by.
    """
    store, this_pass = context.store, context.this_pass
    earlier = find_runs(store, algorithm, this_pass.tags(PARENT_KIND))
    finished = bool(earlier) and earlier[0].info.status == FINISHED
    if not earlier:
        parent = _begin_parent(context, algorithm)
    else:
        parent = earlier[0].info.run_id
        if not finished:
            reopen(store, parent)
    model = None
    if not finished:
        study = run_study(context, algorithm, parent)
        fitted, folds = _refit(context, algorithm, study)
        _log_best(context, parent, study, fitted, folds)
        model = fitted, drawings(fitted, context.data, study)
    job = this_pass.settings, parent, model, register
    context.worker.begin(finish_model, *job, then=then)
    return parent


def _begin_parent(context: PassContext, algorithm: str) -> str:
    tags = {**context.this_pass.tags(PARENT_KIND), TAG + "git_commit": git_commit()}
    return begin_run(context.store, algorithm, tags)


def _search_together(context: PassContext) -> list[str]:
    """Do tasks of a shared pass until every model is registered; return the parent runs.

    A worker stays with an algorithm as long as one of its trials may be run, then goes on to the
    next. It waits only where no algorithm has one.
    """
    this_pass, worker = context.this_pass, context.worker
    settings, claims = this_pass.settings, this_pass.claims
    assert claims is not None
    parents = _begin_parents(context)
    studies = {algorithm: _open_study(context, algorithm) for algorithm in parents}
    left, done, seen = list(parents), list[str](), -1
    with context.terminal.search("All algorithms", settings.trials * len(left)) as progress:
        while left:
            worker.collect()
            claims.look()
            left = [algorithm for algorithm in left if not claims.done(f"{algorithm}/model")]
            if claims.ended != seen:  # what is done has been stored
                seen = claims.ended
                for study in studies.values():
                    study.refresh()
            scores = [study.best for study in studies.values() if study.best is not None]
            ended = sum(study.ended for study in studies.values())
            progress.advance(max(scores, default=None), ended - progress.done)
            tasks = (_do_task(context, name, parents[name], studies[name]) for name in left)
            task = next(filter(None, tasks), None)
            if task is not None:
                done.append(task)
            elif left:
                time.sleep(POLL)
    here = sum(not task.endswith("/model") for task in done)
    context.terminal.say(f"{here} of the trials were run by this worker")
    return list(parents.values())


def _do_task(context: PassContext, algorithm: str, parent: str, study: PassStudy) -> str | None:
    """Run a trial that is due, or refit the best one after the last; return which, None for none.

    What the worker writes of it is not waited for.
    """
    this_pass, claims = context.this_pass, context.this_pass.claims
    assert claims is not None
    due = study.due()
    for number in due:
        if claims.take(task := f"{algorithm}/{number}"):
            run_id = None
            if claims.retried(task):  # a worker that is gone may have begun its run
                tags = {**this_pass.tags(TRIAL_KIND), TRIAL: str(number)}
                begun = find_runs(context.store, algorithm, tags)
                run_id = begun[0].info.run_id if begun else None
            _run_trial(context, algorithm, parent, study, number, run_id)
            return task
    if due or not claims.take(task := f"{algorithm}/model"):
        return None
    finished = _scored(context, algorithm, parent, study)
    fitted, folds = _refit(context, algorithm, finished)
    if not this_pass.holds(task):
        this_pass.finish(task)  # which says so in the log
        return task
    _log_best(context, parent, finished, fitted, folds)
    model = fitted, drawings(fitted, context.data, finished)
    job = while_held, this_pass.ticket(task), finish_model, this_pass.settings, parent, model, True
    context.worker.begin(*job, then=partial(this_pass.finish, task))
    return task


def while_held(
    store: Store, ticket: Ticket | None, function: Callable[..., object], *arguments: object
) -> bool:
    """Call what writes a task, unless that was given to another worker; tell whether it was called.

    The worker's process asks for itself, just before it writes: both processes may have been
    suspended for so long that they were taken for dead.
    """
    held = ticket is None or ticket.held()
    if held:
        function(store, *arguments)
    return held


def _begin_parents(context: PassContext) -> dict[str, str]:
    """Return the parent run of each algorithm of a shared pass; one worker makes them."""
    store, this_pass, parents = context.store, context.this_pass, dict[str, str]()
    mine = this_pass.take("parents")
    for algorithm in this_pass.algorithms:
        earlier = find_runs(store, algorithm, this_pass.tags(PARENT_KIND))
        if earlier and earlier[0].info.status == KILLED:  # all workers were stopped
            reopen(store, earlier[0].info.run_id)
        parents[algorithm] = (
            earlier[0].info.run_id if earlier else _begin_parent(context, algorithm)
        )
    if mine:
        this_pass.finish("parents")
    return parents


def finish_model(
    store: Store,
    settings: PassSettings,
    parent: str,
    model: tuple[FittedModel, dict[str, Drawing]] | None,
    register: bool,
) -> str | None:
    """Write figures, model and card on the parent run, register the model and end the run.

    Without a `model` all was written by an earlier attempt. Return the version's number, None when
    it is not to be registered.
    """
    if model is not None:
        fitted, drawn = model
        with tempfile.TemporaryDirectory() as folder:
            draw(fitted.algorithm, drawn, Path(folder))
            store.client.log_artifacts(parent, folder, "figures")
        log_model_and_card(store, parent, fitted, settings.file_format)
    version = None
    if register:
        uri = store.client.get_run(parent).data.tags[MODEL_URI]
        version = register_version(store, parent, uri, version_tags(store, parent))
    end_run(store, parent)
    return version


def run_study(context: PassContext, algorithm: str, parent: str) -> Study:
    """Run the study to its number of trials, each a nested run of `parent`; return it.

    The worker writes a trial while the next ones are scored. It is stored with the study last,
    when its run is complete. A trial that was not when the process died is repeated, and its run
    is found again by the trial's number.
    """
    this_pass, study = context.this_pass, _open_study(context, algorithm)
    known = {
        int(run.data.tags[TRIAL]): run.info.run_id
        for run in find_runs(context.store, algorithm, this_pass.tags(TRIAL_KIND))
    }
    with context.terminal.search(algorithm, this_pass.settings.trials) as progress:
        progress.advance(study.best, study.ended)
        while due := study.due():
            _run_trial(context, algorithm, parent, study, due[0], known.get(due[0]))
            context.worker.collect()
            progress.advance(study.best)
    return _scored(context, algorithm, parent, study)


def _open_study(context: PassContext, algorithm: str) -> PassStudy:
    settings, name = context.this_pass.settings, f"{context.this_pass.id}/{algorithm}"
    return PassStudy(context.storage, name, settings.seed, settings.trials, settings.batch)


def _run_trial(
    context: PassContext,
    algorithm: str,
    parent: str,
    study: PassStudy,
    number: int,
    run_id: str | None,
) -> None:
    """Score a trial; the worker writes its run by and by, then it is stored, and the task done.

    Nothing of it is written where this worker was taken for dead: another one does it.
    """
    this_pass, task = context.this_pass, f"{algorithm}/{number}"
    trial, folds = _score_trial(context, algorithm, *study.ask(number))
    if not this_pass.holds(task):
        this_pass.finish(task)  # which says so in the log
        return
    study.end(number, trial)

    def written(held: bool) -> None:
        if held:
            study.store(trial)
        this_pass.finish(task)

    logged = this_pass.settings, this_pass.tags(TRIAL_KIND), algorithm, parent, trial, folds, run_id
    ticket = this_pass.ticket(task)
    context.worker.begin(while_held, ticket, log_trial, *logged, then=written)


def _scored(context: PassContext, algorithm: str, parent: str, study: PassStudy) -> Study:
    """Return the finished study. Raises `SearchError` when no trial was scored."""
    trials = study.study.trials
    warned = [message for trial in trials for message in trial.user_attrs.get("warnings", [])]
    if warned:
        context.terminal.say(
            f"{algorithm}: {len(warned)} warnings in trials, the first: {warned[0]}"
        )
    if study.best is None:
        end_run(context.store, parent, FAILED)
        raise SearchError(
            f"all {len(trials)} trials of {algorithm} failed, the first with: "
            f"{trials[0].user_attrs['reason']}; give more reviews, or leave this algorithm out "
            "with --models"
        )
    return study.study


def _score_trial(
    context: PassContext, algorithm: str, study: Study, trial: Trial
) -> tuple[FrozenTrial, dict[str, float]]:
    """Run a trial of the study; return it and the metrics of its folds, none when it failed."""
    space = context.this_pass.settings.search_space
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            candidate = suggest_candidate(algorithm, trial, space)
            scores = context.folds.score(candidate.vectorizer, candidate.model, candidate.cleaner)
        except Exception as error:  # whatever a trial dies of, the study goes on
            trial.set_user_attr("reason", f"{type(error).__name__}: {error}")
            scores = None
    if caught:
        messages = {f"{item.category.__name__}: {item.message}" for item in caught}
        trial.set_user_attr("warnings", sorted(messages))
    if scores is None:
        return study.tell(trial, state=TrialState.FAIL), {}
    metrics = _fold_metrics(scores)
    metrics["cv_f1_macro_sd"] = float(scores.std())
    return study.tell(trial, float(scores.mean())), metrics


def _fold_metrics(scores: Floats) -> dict[str, float]:
    return {f"{FOLD_METRIC}{fold}": float(score) for fold, score in enumerate(scores)}


def log_trial(  # noqa: PLR0913, PLR0917  # all of it is sent to another process
    store: Store,
    settings: PassSettings,
    tags: dict[str, str],
    algorithm: str,
    parent: str,
    trial: FrozenTrial,
    folds: dict[str, float],
    run_id: str | None,
) -> None:
    """Write a trial that ended as a nested run, FAILED with its reason when it was not scored.

    `tags` find the pass's trials. `run_id` is the run that an interrupted attempt at this very
    trial left behind.
    """
    params: dict[str, object] = {"model": algorithm, **trial.params}
    metrics, notes = {**folds, "duration_seconds": _seconds(trial)}, {}
    if trial.value is not None:
        metrics = {"cv_f1_macro": trial.value, **metrics}  # first: MLflow's comparison opens on it
        candidate = build_candidate(algorithm, trial.params, settings.search_space)
        params = {**logged_parameters(algorithm, candidate)}
        params["cleaning_fingerprint"] = cleaning_fingerprint(candidate.cleaner.cleaning)
    if "reason" in trial.user_attrs:
        notes[REASON] = trial.user_attrs["reason"]
    if "warnings" in trial.user_attrs:
        notes[TAG + "warnings"] = "; ".join(trial.user_attrs["warnings"])
    if run_id is None:
        run_id = begin_run(
            store,
            algorithm,
            {**tags, TRIAL: str(trial.number)},
            name=str(trial.number),
            parent=parent,
            started=trial.datetime_start.timestamp() if trial.datetime_start else None,
        )
    log_values(store, run_id, params=params, metrics=metrics, tags=notes)
    end_run(store, run_id, FAILED if trial.value is None else FINISHED)


def _refit(context: PassContext, algorithm: str, study: Study) -> tuple[FittedModel, Floats]:
    """Refit the best trial and score it; return it, and the scores of its folds."""
    settings = context.this_pass.settings
    candidate = build_candidate(algorithm, study.best_trial.params, settings.search_space)
    decision = DecisionRule(settings.recall_negative)
    fitted = fit_and_evaluate(algorithm, candidate, context.data, context.folds, decision)
    return fitted, context.folds.score(candidate.vectorizer, candidate.model, candidate.cleaner)


def _log_best(
    context: PassContext, parent: str, study: Study, fitted: FittedModel, folds: Floats
) -> None:
    """Write scores and tables of the refitted best trial on the parent run."""
    store, data = context.store, context.data
    _log_history(store, parent, study)
    log_values(
        store,
        parent,
        metrics={
            "fit_time": sum(_seconds(trial) for trial in study.trials),
            **_fold_metrics(folds),
        },
        tags={TAG + "best_trial": str(study.best_trial.number)},
    )
    log_scores(store, parent, fitted, data)
    log_tables(store, parent, fitted, data)


def _log_history(store: Store, parent: str, study: Study) -> None:
    """Write the best score so far as a metric by trial: the last is the best trial's score.

    MLflow draws the history of the search from it. Written again, it changes nothing.
    """
    from mlflow.entities import Metric

    history: list[Metric] = []
    for trial in study.trials:
        if trial.value is not None and trial.datetime_complete is not None:
            best = max(trial.value, history[-1].value if history else trial.value)
            ended = int(trial.datetime_complete.timestamp() * 1000)
            history.append(Metric("cv_f1_macro", best, ended, trial.number))
    store.client.log_batch(parent, metrics=history)


def _seconds(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() if trial.duration else 0.0
