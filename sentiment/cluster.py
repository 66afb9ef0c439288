"""Use the workers of a Dask cluster: send them work, and say in a line what is wrong with them.

    with connect("tcp://scheduler:8786", terminal, ("numpy", …)) as cluster:
        shared = cluster.send(what_all_tasks_need)
        tasks = [cluster.begin(function, argument, shared=shared) for argument in arguments]
        for task in cluster.ended(tasks):
            print(cluster.result(task))  # of function(what_all_tasks_need, argument)

Dask is an optional package, which is imported where an address is given. A worker that dies costs
time: what it was at, and what it was sent, is given to another.
"""

from __future__ import annotations

import logging
import pickle
import secrets
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from hashlib import blake2b
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sentiment.errors import ClusterError, LostWorkError
from sentiment.masking import line

if TYPE_CHECKING:
    from sentiment.console import Terminal

SECONDS_TO_CONNECT = 10
# Things that tasks share, of which a worker has the last ones ready: the search of one algorithm
# needs no more than two at a time, and a pass with all algorithms four
READY = 4
PROJECT = "this project's code"  # of which a worker must have the same state, as of the packages
AHEAD = 2  # tasks of `each` for every thread of a worker, so that none waits for its next one

Task: TypeAlias = Any  # a Future of distributed, which is untyped


def check_installed() -> None:
    """Raise `ClusterError` where the packages of requirements-dask.txt are not installed."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise ClusterError(
            "--dask needs the package distributed; install it with "
            "`pip install -r requirements-dask.txt`"
        ) from None


@contextmanager
def connect(address: str, terminal: Terminal, packages: Sequence[str]) -> Iterator[Cluster]:
    """Connect to the scheduler at `address`; give its workers.

    Each worker must have the releases of the `packages` that are installed here, and this state of
    the project. Raises `ClusterError`.
    """
    check_installed()
    from distributed import Client
    from distributed.security import Security

    if address.startswith("tls:") and not getattr(Security(), "tls_ca_file", None):  # type: ignore[no-untyped-call]
        raise ClusterError(
            f"--dask {address}: no certificates are set; expected those of Dask's settings, "
            "distributed.comm.tls, or DASK_DISTRIBUTED__COMM__TLS__CA_FILE and the like"
        )

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("distributed"):  # our own lines say what matters
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = Client(  # type: ignore[no-untyped-call]
            address, timeout=SECONDS_TO_CONNECT, set_as_default=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ClusterError(f"--dask {address}: no scheduler answers ({line(error)})") from None
    with client:
        cluster = Cluster(client, address, {name: _version(name) for name in (*packages, PROJECT)})
        if not cluster.threads():
            terminal.say(f"{address} has no workers yet; waiting for the first")
        yield cluster
        cluster.clear()


class Cluster:
    """The workers of a scheduler; `connect` gives one."""

    def __init__(self, client: Any, address: str, packages: dict[str, str]) -> None:
        self._client, self._address, self._packages = client, address, packages
        self._run, self._begun = secrets.token_hex(4), 0

    def threads(self) -> int:
        """Return how many tasks can run at a time just now."""
        return sum(self._client.nthreads().values())

    def send(self, value: Any) -> Task:
        """Send something that many tasks need to the cluster, once; return it for `shared`."""
        # As the result of a task, not as data, it is made anew should its worker die. Bytes: what a
        # worker cannot import would end the worker.
        sent = pickle.dumps(value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Dask warns of what is large
            return self._client.submit(bytes, sent, key=self._key("sent"), pure=False)

    def begin(
        self, function: Callable[..., Any], *given: Any, shared: Task = None, urgent: bool = False
    ) -> Task:
        """Let a worker call a module's function, with what is `shared` first; return the task."""
        work = pickle.dumps((function, given))
        more = () if shared is None else (shared,)
        key, priority = self._key(function.__name__), int(urgent)
        call, packages = _sent_as_code(), self._packages
        return self._client.submit(
            call, packages, work, *more, key=key, pure=False, priority=priority
        )

    def ended(self, tasks: list[Task]) -> Iterator[Task]:
        """Yield each task when it has ended; those that are appended meanwhile as well."""
        from distributed import as_completed

        waiting, seen = as_completed(loop=self._client.loop), 0  # type: ignore[no-untyped-call]
        while True:
            waiting.update(tasks[seen:])  # type: ignore[no-untyped-call]
            seen = len(tasks)
            try:
                task = next(waiting)
            except StopIteration:
                return
            yield task

    def result(self, task: Task) -> Any:
        """Return what a task came to, or raise what its function raised; wait for it.

        The cluster lets go of it. Raises `LostWorkError` where each worker that tried it died, and
        `ClusterError` where no task will run there.
        """
        next(self.ended([task]))
        if task.status == "finished":
            result = pickle.loads(task.result())
            task.release()
            return result
        if task.status != "error":
            raise ClusterError(
                f"--dask {self._address}: the scheduler is gone; what was finished is kept"
            )
        error = task.exception()
        if isinstance(error, ImportError):
            raise ClusterError(
                f"--dask {self._address}: a worker cannot import {error.name}; start each with the "
                "packages of requirements.txt, and with PYTHONPATH naming the project's folder, of "
                "the same commit"
            )
        if type(error).__name__ == "KilledWorker":
            raise LostWorkError(
                f"--dask {self._address}: each worker that tried it died, as for want of memory; "
                "see the workers' logs"
            )
        raise error

    def each(
        self, function: Callable[..., Any], items: Iterable[Any], shared: Task = None
    ) -> Iterator[Any]:
        """Yield what `function` makes of each item, in their order.

        Only some are under way at a time, and before all that was begun, so that neither scheduler
        nor workers have to hold them all.
        """
        under_way: deque[Task] = deque()
        most = AHEAD * self.threads()
        for item in items:
            under_way.append(self.begin(function, item, shared=shared, urgent=True))
            if len(under_way) > most:
                yield self.result(under_way.popleft())
                most = AHEAD * self.threads()  # workers come and go
        while under_way:
            yield self.result(under_way.popleft())

    def clear(self) -> None:
        """Let the workers forget what they were sent."""

        def forget() -> None:
            import sys

            module = sys.modules.get("sentiment.cluster")
            if module is not None:
                module._unpacked.cache_clear()

        with suppress(Exception):  # then the next run does so
            self._client.run(forget, on_error="ignore")

    def _key(self, name: str) -> str:
        self._begun += 1
        return f"{name}-{self._run}-{self._begun}"


def _sent_as_code() -> Callable[..., bytes]:
    def call(packages: dict[str, str], work: bytes, *shared: bytes) -> bytes:
        from sentiment.cluster import call_there

        return call_there(packages, work, *shared)

    return call


def call_there(packages: dict[str, str], work: bytes, *shared: bytes) -> bytes:
    """Do on a worker what `begin` has sent; return the result for `Cluster.result`.

    It is pickled here: Dask would send each item of a long list by itself, which takes longer than
    to clean a text. Raises `ClusterError` where the worker has other releases of the packages.
    """
    for package, expected in packages.items():
        here = _version(package)
        if here != expected:
            raise ClusterError(
                f"a worker has {package} {here}, expected {expected} as on this machine"
            )
    function, given = pickle.loads(work)
    return pickle.dumps(function(*map(_unpacked, shared), *given))


@cache
def _version(name: str) -> str:
    """Return the release of a package, or of `PROJECT` a digest of its files."""
    if name != PROJECT:
        return package_version(name)
    package = Path(__file__).parent
    digest = blake2b(digest_size=4)
    for file in [package.parent / "text_cleaning.py", *sorted(package.rglob("*.py"))]:
        digest.update(b"%s\0%s\0" % (file.name.encode(), file.read_bytes()))
    return digest.hexdigest()


@lru_cache(maxsize=READY)
def _unpacked(sent: bytes) -> Any:
    return pickle.loads(sent)
