"""Serving start: what is looked at, and imported, before the server listens."""

from __future__ import annotations

import importlib
import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor

from sentiment.errors import ServingError, UnknownVersionError
from sentiment.model.predictor import load_version
from sentiment.serving.config import ServingConfig

# What takes seconds to import is imported once, before the workers are forked: they share it, and
# one that replaces another is there at once.
AHEAD = (
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "skops.io",
    "nltk.stem.porter",
    "sentiment.serving.app",
)


def look_ahead(config: ServingConfig) -> str:
    """Import what the workers need, and look whether there is something to serve.

    Raises and returns what `check_start` does. That runs in a process of its own: a database that
    is open must not be taken along into the workers.
    """
    for name in AHEAD:
        importlib.import_module(name)
    with ProcessPoolExecutor(
        1,
        multiprocessing.get_context("fork"),
        # Ctrl-C is said once, by the parent
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as child:
        return child.submit(check_start, config).result()


def check_start(config: ServingConfig) -> str:
    """Raise `ServingError` or `TrackingError` unless the version in production will load.

    Returns what is wrong with the challenger, in a line, or nothing: a server that is started
    again after the challenger was promoted goes on without one.
    """
    store = config.open_store()
    try:
        load_version(store, "champion")
    except UnknownVersionError:
        raise ServingError(
            "no version is in production; run sentiment_mlflow_optuna.py --promote, or "
            "`python model_registry.py promote`"
        ) from None
    try:
        if config.challenger is not None:
            load_version(store, config.challenger)
    except ServingError as error:
        return f"{error}; the version in production answers everything until there is one"
    return ""
