"""Hold the versions that answer, and follow the registry while they do.

One watcher per worker process. A version that is promoted or rolled back to is loaded beside those
that answer, and then replaces one of them in one step. Whatever goes wrong, the versions that
answer go on answering, and `problem` says in one line what it is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from sentiment.ab.comparison import CHAMPION
from sentiment.errors import ServingError, TrackingError, UnknownVersionError
from sentiment.model.predictor import LoadedVersion, find_version, load_version, one_line
from sentiment.tracking.store import Store

# What clients are told. Causes are the operator's to know: a library's message may hold an address,
# a path or a password.
NOT_LOADED = "no version is loaded yet"
AWAY = "the registry of models does not answer"
NO_CHAMPION = "no version is in production"
NO_CHALLENGER = "the challenger is not in the registry"
SAME = "the challenger is in production"
REFUSED = "a version that the registry names will not load"

PATIENCE = 2.0  # seconds `stop` waits for a check that is under way; the thread is a daemon

_log = logging.getLogger(__name__)

# What is wrong, for the operator → for clients. A version that is named twice and will not load is
# one problem.
Problems = dict[str, str]


@dataclass(frozen=True)
class Arms:
    """The versions that answer. `experiment` salts the split; it is "" without a challenger.

    `named` is the version that the registry names as challenger, also while it will not load.
    """

    champion: LoadedVersion
    challenger: LoadedVersion | None
    experiment: str
    named: str | None = None


class VersionWatcher:
    """Checks the registry every `refresh_seconds`, in a thread of its own.

    `open_store` is called at the first check, and again after the registry was away. `challenger`
    is the alias or number of the version to compare with, if any. `experiment` names the
    comparison, by default after the two versions, as in "1-vs-3", so that a new pair is split anew.

    `arms` is None until a champion was loaded, and is replaced whole: a request that reads it once
    has both versions of one moment. `problem` says why the versions that the registry names are
    not those that answer; None when they are. It is for the operator alone; `told` says the same to
    clients, in one of the sentences of this module.
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
        self.told: str | None = None
        self._open_store, self._challenger = open_store, challenger
        self._refresh_seconds, self._experiment = refresh_seconds, experiment
        self._store: Store | None = None
        self._looking = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Check the registry once and load what changed. Raises nothing: see `problem`."""
        with self._looking:
            try:
                problems = self._follow()
            except (ServingError, TrackingError) as error:
                self._store, problems = None, {str(error): AWAY}
            except Exception as error:  # the thread must outlive whatever a library raises
                self._store, problems = None, {one_line(error): AWAY}
            problem = "; ".join(problems) or None
            if problem is not None and problem != self.problem:
                _log.warning("%s", problem)
            self.problem = problem
            self.told = "; ".join(dict.fromkeys(problems.values())) or None

    def start(self) -> None:
        """Check the registry now, and in a thread every `refresh_seconds` from now on."""
        self.check()
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="version-watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the versions that are loaded go on answering."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(PATIENCE)

    def _run(self) -> None:
        while not self._stopping.wait(self._refresh_seconds):
            self.check()

    def _follow(self) -> Problems:
        """Set `arms` to what the registry names; return what is wrong with that, if anything.

        Raises `ServingError` and others when the registry is away; `arms` is as it was then.
        """
        if self._store is None:
            self._store = self._open_store()
        store, held, problems = self._store, self.arms, Problems()
        champion = held.champion if held else None
        challenger = held.challenger if held else None
        newest = _number(store, CHAMPION, problems, NO_CHAMPION)
        if newest is not None:
            champion = _loaded(store, newest, champion, problems)
        if champion is None:
            return problems
        rival = None
        if self._challenger:
            rival = _number(store, self._challenger, problems, NO_CHALLENGER)
        if rival == champion.version:
            problems[f"version {rival} is in production, so it is no challenger"] = SAME
            rival = None
        challenger = None if rival is None else _loaded(store, rival, challenger, problems)
        if challenger is not None and challenger.version == champion.version:
            challenger = None  # it was promoted, and what should follow it will not load
        name = ""
        if challenger is not None:
            name = self._experiment or f"{champion.version}-vs-{challenger.version}"
        arms = Arms(champion, challenger, name, rival)
        if arms != held:
            self.arms = arms
        return problems


def _number(store: Store, name: str, problems: Problems, told: str) -> str | None:
    """Return the number of the version that has this name now; None, and a problem, without one."""
    try:
        return str(find_version(store, name).version)
    except UnknownVersionError as error:
        problems[str(error)] = told
        return None


def _loaded(
    store: Store, number: str, held: LoadedVersion | None, problems: Problems
) -> LoadedVersion | None:
    """Return the version; the one that is held, and a problem, where it will not load."""
    if held is not None and held.version == number:
        return held
    try:
        return load_version(store, number)
    except ServingError as error:
        problems[str(error)] = REFUSED
        return held
