"""Version watcher: holds the versions that answer, and follows the registry while they do.

One per worker process. What is promoted or rolled back is loaded beside what answers, and takes
its place at once and whole. Whatever goes wrong, the versions that answer go on answering, and
`problem` says in one line what it is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from sentiment.errors import ServingError, TrackingError, UnknownVersionError
from sentiment.model.predictor import LoadedVersion, find_version, load_version, one_line
from sentiment.tracking.store import Store

CHAMPION = "champion"  # the alias of the version in production
PATIENCE = 2.0  # seconds `stop` waits for a look that is under way; the thread is a daemon

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arms:
    """The versions that answer. `experiment` is what salts the split, "" without a challenger."""

    champion: LoadedVersion
    challenger: LoadedVersion | None
    experiment: str


class VersionWatcher:
    """Looks at the registry every so often, in a thread of its own.

    Parameters
    ----------
    open_store : callable
        Opens the store; called at the first look, and again after the registry was away.
    challenger : str or None
        Alias or number of the version to compare with, if any.
    refresh_seconds : float
        Between two looks.
    experiment : str or None
        Its name; by default the two versions, as in "1-vs-3", so that a new pair is split anew.

    Attributes
    ----------
    arms : Arms or None
        Replaced whole, so that a request that reads it once has both versions of one moment; None
        until a champion was loaded.
    problem : str or None
        Why what the registry names is not what answers; None when all is well.

    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        *,
        challenger: str | None,
        refresh_seconds: float,
        experiment: str | None = None,
    ) -> None:
        self.arms: Arms | None = None
        self.problem: str | None = None
        self._open_store, self._challenger = open_store, challenger
        self._refresh_seconds, self._experiment = refresh_seconds, experiment
        self._store: Store | None = None
        self._looking = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Look once at the registry and load what changed. Raises nothing: see `problem`."""
        with self._looking:
            try:
                problem = self._follow()
            except (ServingError, TrackingError) as error:
                self._store, problem = None, str(error)
            except Exception as error:  # the thread must outlive whatever a library raises
                self._store, problem = None, one_line(error)
            if problem is not None and problem != self.problem:
                _log.warning("%s", problem)
            self.problem = problem

    def start(self) -> None:
        """Begin to look at the registry, at once and then every `refresh_seconds`."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="version-watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the versions that are loaded go on answering."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(PATIENCE)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.check()
            self._stopping.wait(self._refresh_seconds)

    def _follow(self) -> str | None:
        """Set `arms` to what the registry names; returns what is wrong with that, if anything.

        Raises `ServingError` and others when the registry is away; `arms` is as it was then.
        """
        if self._store is None:
            self._store = self._open_store()
        store, held, problems = self._store, self.arms, list[str]()
        newest = _number(store, CHAMPION, problems)
        rival = _number(store, self._challenger, problems) if self._challenger else None
        champion = _loaded(store, newest, held.champion if held else None, problems)
        champion = champion or (held.champion if held else None)
        if champion is None:
            return "; ".join(problems)
        if rival is not None and rival in (newest, champion.version):
            problems.append(f"version {rival} is in production, so it is no challenger")
            rival = None
        challenger = _loaded(store, rival, held.challenger if held else None, problems)
        if held is None or (champion, challenger) != (held.champion, held.challenger):
            self.arms = Arms(champion, challenger, self._name(champion, challenger))
        return "; ".join(problems) or None

    def _name(self, champion: LoadedVersion, challenger: LoadedVersion | None) -> str:
        if challenger is None:
            return ""
        return self._experiment or f"{champion.version}-vs-{challenger.version}"


def _number(store: Store, name: str, problems: list[str]) -> str | None:
    """The number of the version that has this name now; None, and a problem, without one."""
    try:
        return str(find_version(store, name).version)
    except UnknownVersionError as error:
        problems.append(str(error))
        return None


def _loaded(
    store: Store, number: str | None, held: LoadedVersion | None, problems: list[str]
) -> LoadedVersion | None:
    """The version, held already or loaded now; None where there is none or it will not load."""
    if number is None:
        return None
    if held is not None and held.version == number:
        return held
    try:
        return load_version(store, number)
    except ServingError as error:
        problems.append(str(error))
        return None
