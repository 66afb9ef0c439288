"""Define what can go wrong through no fault of the code: one base class, and its tree.

    UserError                    exit code 2; the message is one line for the user
    ├── VariableError            a variable of the environment cannot be used
    ├── ReviewDataError          a file of reviews cannot be used as it is, or not be written
    │   └── ReviewReadError      it is there and could not be read just now: trying again may help
    ├── TrackingError            the MLflow store cannot be opened, or did not do it
    │   ├── OutOfReachError      a model's files cannot be fetched
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
    ├── ClusterError             a Dask cluster cannot be used
    │   └── LostWorkError        each worker that tried one task died
    ├── ComparisonError          two ways to make a model cannot be compared as asked
    ├── ServingConfigError       the server cannot be set up like this
    ├── ServerError              a server (ours or Prefect's) cannot start
    └── ServiceError             the flow cannot be served as asked, or Prefect's server refuses

Library code raises these; `cli` and the two scripts print the message on stderr and leave with the
exit code. Nothing is changed where one is raised: no half-written run, version or file.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import NoReturn

from sentiment.masking import mask

EXIT_REFUSED = 1  # by the gate, or because somebody else's change came first
EXIT_BAD_INPUT = 2
EXIT_DRIFTED = 3
EXIT_INTERRUPTED = 130  # what a shell reports for Ctrl-C


_interrupts: list[int] = []


def note_interrupts() -> None:
    """Raise KeyboardInterrupt at a Ctrl-C, as Python does, and also remember that it came.

    Python ignores what is raised in a `__del__` and around a fork, so that a program which is still
    starting would go on: before it waits for others it calls `raise_if_interrupted`. What Python
    would print of it is left out. Nothing is changed where Ctrl-C is ignored or handled already,
    nor in another than the main thread.
    """
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _interrupts.clear()
        signal.signal(signal.SIGINT, _note)
        sys.unraisablehook = _unraisable


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt where a Ctrl-C came since `note_interrupts`."""
    if _interrupts:
        raise KeyboardInterrupt


def _unraisable(ignored: sys.UnraisableHookArgs) -> None:
    if not isinstance(ignored.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(ignored)


def _note(number: int, _: object) -> NoReturn:
    _interrupts.append(number)
    raise KeyboardInterrupt


class UserError(Exception):
    """Say in one line what was wrong, where, what was expected and what to do; secrets masked."""

    exit_code = EXIT_BAD_INPUT

    def __init__(self, message: str = "") -> None:
        super().__init__(mask(message))


class VariableError(UserError):
    """A variable of the environment cannot be used."""


class ReviewDataError(UserError):
    """The file or the reviews in it cannot be used as they are."""


class ReviewReadError(ReviewDataError):
    """The file is there and could not be read just now; trying again may help."""


class TrackingError(UserError):
    """The tracking store cannot be used."""


class OutOfReachError(TrackingError):
    """The files of a model cannot be fetched, which says nothing of them."""


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


class ClusterError(UserError):
    """The Dask cluster cannot be used."""


class LostWorkError(ClusterError):
    """Each worker that tried one task died of it, or by chance."""


class ComparisonError(UserError):
    """Two ways to make a model cannot be compared as asked."""


class ServingConfigError(UserError):
    """The server cannot be set up like this."""


class ServerError(UserError):
    """A server cannot start."""


class ServiceError(UserError):
    """The flow cannot be served as asked, or Prefect's server refuses."""
