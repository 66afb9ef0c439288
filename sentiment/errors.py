"""Define what can go wrong through no fault of the code: one base class, and its tree.

    UserError                    exit code 2; the message is one line for the user
    ├── ReviewDataError          a file of reviews cannot be used as it is, or not be written
    │   └── ReviewReadError      it is there and could not be read just now: trying again may help
    ├── TrackingError            the MLflow store cannot be opened, or did not do it
    │   └── VersionError         a version cannot be compared with another
    ├── CalibrationError         a model cannot be served as it was scored
    ├── ServingError             a version cannot be served
    │   └── UnknownVersionError  the registry has no version of this name
    ├── RegistryError            the change or the question makes no sense here
    ├── ConflictError            exit code 1: somebody else's change came first
    ├── PredictionLogError       the database of the prediction log cannot be used
    ├── DriftReferenceError      the drift reference of a version cannot be made or read
    ├── WindowError              there are no reviews to compare
    ├── StudyStorageError        the database of `--storage` cannot be used
    ├── ResumeError              an interrupted pass cannot be resumed as asked
    ├── SearchError              not one trial of a study could be scored
    ├── ServingConfigError       the server cannot be set up like this
    ├── ServerError              a server (ours or Prefect's) cannot start
    └── ServiceError             the flow cannot be served as asked, or Prefect's server refuses

Library code raises these; `cli` and the two scripts print the message on stderr and leave with the
exit code. Nothing is changed where one is raised: no half-written run, version or file.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_REFUSED = 1  # by the gate, or because somebody else's change came first
EXIT_BAD_INPUT = 2
EXIT_DRIFTED = 3
EXIT_INTERRUPTED = 130  # what a shell reports for Ctrl-C


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold a Ctrl-C back until the end of the block, for imports that take seconds.

    Python ignores what is raised in a `__del__`, so that a Ctrl-C while a library is imported may
    be lost, and the program goes on. (To block the signal would not do: another thread gets it.)
    Only in the main thread, and where Ctrl-C is not ignored.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


class UserError(Exception):
    """Say in one line what was wrong, where, what was expected and what to do."""

    exit_code = EXIT_BAD_INPUT


class ReviewDataError(UserError):
    """The file or the reviews in it cannot be used as they are."""


class ReviewReadError(ReviewDataError):
    """The file is there and could not be read just now; trying again may help."""


class TrackingError(UserError):
    """The tracking store cannot be used."""


class VersionError(TrackingError):
    """The version cannot be scored; `version` is its number."""

    def __init__(self, version: str, message: str) -> None:
        super().__init__(f"version {version}: {message}")
        self.version = version


class CalibrationError(UserError):
    """The model cannot be served with the labels it was scored by."""


class ServingError(UserError):
    """The version cannot be served."""


class UnknownVersionError(ServingError):
    """The registry answers, and has no version of this name."""


class RegistryError(UserError):
    """The change or the question makes no sense here; nothing changed."""


class ConflictError(UserError):
    """Somebody else's change came first; nothing changed."""

    exit_code = EXIT_REFUSED


class PredictionLogError(UserError):
    """The database of the log cannot be used."""


class DriftReferenceError(UserError):
    """The drift reference of a version cannot be made or read."""


class WindowError(UserError):
    """There are no reviews to compare."""


class StudyStorageError(UserError):
    """The database of `--storage` cannot be used."""


class ResumeError(UserError):
    """The pass cannot be carried on as asked."""


class SearchError(UserError):
    """A study came to nothing."""


class ServingConfigError(UserError):
    """The server cannot be set up like this."""


class ServerError(UserError):
    """A server cannot start."""


class ServiceError(UserError):
    """The flow cannot be served as asked, or Prefect's server refuses."""
