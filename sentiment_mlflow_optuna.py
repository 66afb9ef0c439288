"""Run the experiment: search, refit, evaluate and register the sentiment models.

    python sentiment_mlflow_optuna.py                       # the reviews in data.csv
    python sentiment_mlflow_optuna.py --data my_reviews.csv
    python sentiment_mlflow_optuna.py --resume              # carry on after an interruption
    python sentiment_mlflow_optuna.py --join nightly        # a worker of the pass of this name

A pass reads and checks the reviews and cleans them once. For each algorithm it runs one Optuna
study of cross-validated trials, refits the best one on the whole training part, scores it once on
the holdout and registers it as a version of `FlipkartSentimentModel`. With the defaults MLflow
has 3 parent runs and 60 nested trial runs afterwards. The version with the best cross-validation
score becomes the challenger, or logistic regression if it is about as good; `--promote` also puts
it through the gate for production.
"""

from __future__ import annotations

import argparse
import gc
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from sentiment.cli.options import EXPERIMENT, LABELLING, PICKLED, READING, parse_experiment
from sentiment.masking import mask, mask_output
from sentiment.training.worker import Worker

if __name__ == "__main__":
    mask_output()
    parse_experiment(look=True)  # wrong options answer before the libraries are imported
    # Libraries make a million objects that stay. To look through them for rubbish again and again
    # is a fifth of the time that importing them takes.
    gc.set_threshold(50_000)
    EARLY = Worker()  # imports on the other core what it needs, while this process does the same

from optuna.storages import RDBStorage

from sentiment.console import Terminal
from sentiment.data.labels import Labelling
from sentiment.data.reviews import load_reviews
from sentiment.data.sources import Reading
from sentiment.drift.reference import ensure_reference
from sentiment.errors import EXIT_INTERRUPTED, ResumeError, UserError
from sentiment.model.algorithms import ALGORITHMS
from sentiment.registry.lifecycle import (
    judge_version,
    production_version,
    promote,
    promotion_command,
    stage_challenger,
)
from sentiment.tracking.store import (
    KILLED,
    Store,
    end_run,
    log_values,
    open_store,
)
from sentiment.training.claims import Claims, open_claims
from sentiment.training.passes import (
    ExperimentPass,
    PassSettings,
    begin_pass,
    close_interrupted,
    join_pass,
    leave_pass,
    reopen,
    resume_pass,
)
from sentiment.training.report import PreparedReviews, folds_of, prepare_reviews
from sentiment.training.search import (
    Choice,
    PassContext,
    SearchResult,
    choose_winner,
    search_and_register,
)
from sentiment.training.studies import open_storage
from text_cleaning import cleaning_fingerprint


def main(arguments: Sequence[str] | None = None, worker: Worker | None = None) -> int:
    """Run a pass. Exit codes: 0 done, 2 bad input or no store, 130 interrupted."""
    options = parse_experiment(arguments)
    # Libraries warn of their own futures; what concerns the user is said by our own lines.
    warnings.filterwarnings("ignore")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return run_experiment(options, Terminal(quiet=options.quiet), worker or Worker())
    except UserError as error:
        print(f"sentiment_mlflow_optuna: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: nothing was begun", file=sys.stderr)
        return EXIT_INTERRUPTED


def run_experiment(options: argparse.Namespace, terminal: Terminal, worker: Worker) -> int:
    """Run a pass alone, or with `--join` together with the other workers that share it."""
    if options.join is None:
        return run_pass(options, terminal, worker)
    storage = open_studies(open_store(options.store, options.project), options)
    with open_claims(storage, options.join) as claims:
        return run_pass(options, terminal, worker, claims)


def run_pass(
    options: argparse.Namespace, terminal: Terminal, worker: Worker, claims: Claims | None = None
) -> int:
    """Open the data, the store and the pass, and see the pass to its end."""
    asked = {name: getattr(options, name) for name in EXPERIMENT}
    asked = {name: value for name, value in asked.items() if value is not None}
    if "data" in asked:
        asked["data"] = str(Path(asked["data"]).resolve())
    this_pass = take_up(options, asked, terminal, claims)
    chosen = {**(EXPERIMENT if this_pass is None else vars(this_pass.settings)), **asked}
    if options.promote and chosen["file_format"] == "cloudpickle":
        raise ResumeError(PICKLED)

    reading = Reading(chosen["delimiter"], chosen["encoding"], chosen["max_bytes"])
    labelling = Labelling(**{name: chosen[name] for name in LABELLING})
    columns = chosen["text_column"], chosen["rating_column"]
    loaded = load_reviews(chosen["data"], *columns, reading, labelling)
    data = prepare_reviews(loaded, method=chosen["split"])
    # a new store takes seconds, and is only made for reviews that can be used
    worker.open_store(options.store, options.project)
    terminal.say(f"{loaded.source.name}: {loaded.dropped()}")
    terminal.table("Data audit", data.audit)
    store = open_store(options.store, options.project)
    worker.finish()
    storage = claims.storage if claims else open_studies(store, options)
    entered = None
    try:
        with interrupts_wait():
            entered = enter(store, this_pass, chosen, data, terminal, claims)
        folds = folds_of(data, options.jobs)
        context = PassContext(store, entered, data, folds, terminal, storage, worker)
        results = search_and_register(context, register=not options.no_register)
        choice = choose_winner(results)
        version = choice.result.version
        if entered.take("summary"):
            if version is not None:
                challenge(context, choice, version)
            log_summary(store, entered, results, choice)
            entered.finish("summary")
    except BaseException as error:
        if entered is None:  # refused, or interrupted while nothing was begun
            raise
        if isinstance(error, KeyboardInterrupt):
            return stop(store, entered, worker)
        worker.end()
        leave_pass(store, entered, ALGORITHMS)
        raise
    print_summary(store, results, choice, terminal)
    if version is not None:
        offer(context, version, promote_now=options.promote)
    return 0


def open_studies(store: Store, options: argparse.Namespace) -> RDBStorage:
    """Open the database of `--storage`, or the file of studies in the store."""
    return open_storage(store.locks if options.storage else store.studies, options.storage)


def take_up(
    options: argparse.Namespace, asked: dict[str, Any], terminal: Terminal, claims: Claims | None
) -> ExperimentPass | None:
    """Take up the interrupted pass that `--resume` names, or the shared one of `--join`.

    None when this is a new pass.
    """
    if options.resume is None and claims is None:
        return None
    store = open_store(options.store, options.project)
    if claims is not None:
        return join_pass(store, claims, asked)
    close_interrupted(store, ALGORITHMS)
    this_pass = resume_pass(store, options.resume or None, asked)
    if this_pass is None:
        terminal.say("nothing to resume, so this is a new pass")
    return this_pass


def enter(
    store: Store,
    resumed: ExperimentPass | None,
    chosen: dict[str, Any],
    data: PreparedReviews,
    terminal: Terminal,
    claims: Claims | None,
) -> ExperimentPass:
    """Begin a pass, or take part in one that was begun if data and cleaning are what they were."""
    fixed = {"data_digest": data.digest, "cleaning": cleaning_fingerprint("negation")}  # of both
    if resumed is not None:
        resumed.require(**fixed)
        # of a shared pass only where all workers were stopped
        if claims is None or store.client.get_run(resumed.run_id).info.status == KILLED:
            reopen(store, resumed.run_id)
        terminal.say(f"{'carrying on' if claims is None else 'joined'} pass {resumed.id}")
        return resumed
    interrupted = close_interrupted(store, ALGORITHMS)
    if interrupted:
        terminal.say(
            f"{len(interrupted)} earlier pass(es) did not finish; --resume carries the newest on"
        )
    return begin_pass(store, PassSettings(**{**chosen, **fixed}), claims)


def challenge(context: PassContext, choice: Choice, version: str) -> None:
    """Make the chosen version the challenger, in staging, and make its drift reference.

    A resumed pass does either once.
    """
    store, data = context.store, context.data
    reference = partial(ensure_reference, trust_pickle=True)  # the worker has written it itself
    context.worker.begin(reference, version, data.loaded.frame, data.split)
    context.worker.finish()
    stage_challenger(store, version, f"chosen of pass {context.this_pass.id}: {choice.why}")


def log_summary(
    store: Store, this_pass: ExperimentPass, results: list[SearchResult], choice: Choice
) -> None:
    """Write the scores of all models on the pass's ledger run and end it."""
    metrics = {}
    for result in results:
        metrics[f"{result.algorithm}.cv_f1_macro"] = result.cv_f1_macro
        metrics[f"{result.algorithm}.test_f1"] = result.test_f1.value
    log_values(store, this_pass.run_id, metrics=metrics, tags={"winner": choice.result.algorithm})
    end_run(store, this_pass.run_id)


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block: it begins what must be closed then."""
    came: list[int] = []
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(number, lambda one, _: came.append(one)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def stop(store: Store, this_pass: ExperimentPass, worker: Worker) -> int:
    """End an interrupted pass: its open runs are KILLED, what was finished is kept."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave runs open
    worker.end()
    leave_pass(store, this_pass, ALGORITHMS)
    how = "--resume" if this_pass.claims is None else f"--join {this_pass.id}"
    print(
        f"interrupted: pass {this_pass.id} keeps its finished trials; {how} carries it on",
        file=sys.stderr,
    )
    return EXIT_INTERRUPTED


def print_summary(
    store: Store, results: list[SearchResult], choice: Choice, terminal: Terminal
) -> None:
    """Say which versions there are, their scores with intervals, and where to look."""
    lines = [
        f"Created version '{result.version}' of model '{store.settings.registered_model}'."
        for result in results
        if result.version is not None
    ]
    lines += ["", "--- FINAL SUMMARY ---", ""]
    lines += [
        f"{result.algorithm} | CV F1={result.cv_f1_macro:.4f} | Train F1={result.train_f1:.4f} "
        f"| Test F1={result.test_f1.value:.4f}"
        for result in results
    ]
    width = max(len(result.algorithm) for result in results)
    lines += ["", "95% interval of the test score:"]
    lines += [
        f"  {result.algorithm:<{width}} {result.test_f1.low:.4f}–{result.test_f1.high:.4f}"
        for result in results
    ]
    if any(result.decision for result in results):
        lines += ["Threshold:", *(f"  {one.algorithm:<{width}} {one.decision}" for one in results)]
    lines += [
        f"Winner by cross-validation: {choice.result.algorithm}",
        f"  {choice.why}",
        f"Store: {mask(store.uri)}",
        f"Look at it: {store.ui_command()}",
    ]
    terminal.say("\n".join(lines), always=True)


def offer(context: PassContext, version: str, *, promote_now: bool) -> None:
    """Say how to promote the challenger, or do it: the gate decides, not the pass."""
    store, settings, terminal = context.store, context.this_pass.settings, context.terminal
    production = production_version(store)
    if promote_now and production != version:
        verdict = judge_version(store, version, context.data.split)
        verdict.show(terminal)
        if verdict.promoted:
            promote(store, verdict)
        production = production_version(store)
    if production == version:
        terminal.say(f"Version {version} is in production.", always=True)
        return
    how = {name: getattr(settings, name) for name in (*READING, *LABELLING)}
    command = promotion_command(store, version, how)
    now = f"version {production} is" if production else "no version is"
    terminal.say(
        f"Version {version} is the challenger; {now} in production{'' if production else ' yet'}. "
        f"Promote it with:\n  {command}",
        always=True,
    )


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    code = main(worker=EARLY)
    gc.freeze()  # nor need they be looked through once more at the end
    sys.exit(code)
