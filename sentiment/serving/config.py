"""Define how to serve: the checked settings, the store and log they name, and a look ahead."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import re
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

from sentiment.environment import variable
from sentiment.errors import ServingConfigError, ServingError, TrackingError, UnknownVersionError
from sentiment.masking import API_TOKEN
from sentiment.predictions.log import PredictionLog, default_log_url, open_log
from sentiment.tracking.store import (
    PROJECT,
    PROJECT_VARIABLE,
    Settings,
    Store,
    named_elsewhere,
    open_existing_store,
)

TOKEN_VARIABLE = API_TOKEN
DEFAULT_PORT = re.compile(r"(http://.+):80|(https://.+):443")
ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")
Network = IPv4Network | IPv6Network
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


@dataclass(frozen=True)
class Limits:
    """What one request may ask: bytes of the body, texts, characters of a text."""

    max_body: int = 2**20
    max_texts: int = 10_000
    max_characters: int = 20_000  # several times the longest review that a shop takes


@dataclass(frozen=True)
class ServingConfig:
    """How to serve; raises `ServingConfigError` where that makes no sense, and as `Settings` does.

    `ab` is an alias or version number and its share, 0–1; `shadow` an alias or version number;
    `experiment` the name of the comparison in the log, by default made of the two versions.
    `log_url` is by default a SQLite file beside the store. Pages of `allow_origins`, such as
    https://shop.example, may use the API. `X-Forwarded-` headers count from `trust_proxies`,
    addresses or networks. Requests to other names than `hosts` and those of `allow_origins` are
    refused; None takes any. `project` and `token` come from the environment.
    """

    store: str | None = None
    project: str | None = field(default_factory=lambda: os.environ.get(PROJECT_VARIABLE))
    refresh_seconds: float = 10.0
    ab: tuple[str, float] | None = None
    shadow: str | None = None
    experiment: str | None = None
    log_url: str | None = None
    store_text: bool = True
    retention_days: float | None = None
    limits: Limits = field(default_factory=Limits)
    allow_origins: Sequence[str] = ()
    trust_proxies: Sequence[str] = ()
    hosts: Sequence[str] | None = None
    token: str | None = field(default_factory=lambda: variable(TOKEN_VARIABLE), repr=False)

    def __post_init__(self) -> None:
        _ = self.settings  # refuses what is no name of a project
        if self.ab is not None and self.shadow is not None:
            raise ServingConfigError("--ab and --shadow: one challenger at a time; leave one out")
        if self.experiment is not None and self.challenger is None:
            raise ServingConfigError("--ab-name: there is no --ab and no --shadow to name")
        if not 0.0 <= self.share <= 1.0:
            raise ServingConfigError(f"--ab: a share lies between 0 and 1, not at {self.share}")
        for origin in self.allow_origins:
            if not ORIGIN.fullmatch(origin):
                raise ServingConfigError(
                    f"--allow-origin {origin}: expected scheme, host and perhaps a port, in small "
                    "letters, such as https://shop.example"
                )
            if plain := DEFAULT_PORT.fullmatch(origin):
                raise ServingConfigError(
                    f"--allow-origin {origin}: browsers leave out the scheme's own port; expected "
                    f"{plain[1] or plain[2]}"
                )
        _ = self.proxies  # refuses what is no address
        token = self.token
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise ServingConfigError(
                f"{TOKEN_VARIABLE}: expected printable ASCII characters; unset it to ask for none"
            )

    @property
    def challenger(self) -> str | None:
        """The alias or version number that is compared with the champion."""
        return self.ab[0] if self.ab is not None else self.shadow

    @property
    def share(self) -> float:
        """The share of the users that the challenger answers, 0–1."""
        return 0.0 if self.ab is None else self.ab[1]

    @property
    def proxies(self) -> list[Network]:
        """The networks of the proxies that are trusted."""
        try:
            return [ip_network(address, strict=False) for address in self.trust_proxies]
        except ValueError as error:
            raise ServingConfigError(
                f"--trust-proxy: {error}; name an address or a network, such as 127.0.0.1"
            ) from None

    @property
    def settings(self) -> Settings:
        """What the project calls its things."""
        return Settings(self.project)

    @property
    def folder(self) -> Path:
        """The folder of the store."""
        return PROJECT if self.store is None else Path(self.store).resolve()

    @property
    def home(self) -> Path:
        """The folder of the log by default, and of the last drift check."""
        return self.settings.home(self.folder)

    @property
    def is_local(self) -> bool:
        """Whether the store is in `folder`, not where `MLFLOW_TRACKING_URI` says."""
        return self.store is not None or named_elsewhere(self.folder / "mlflow.db") is None

    def open_log(self) -> PredictionLog:
        """Open the prediction log. Raises `PredictionLogError`."""
        if self.log_url:
            return open_log(self.log_url)
        with suppress(OSError):  # `open_log` says what is wrong
            self.home.mkdir(parents=True, exist_ok=True)
        return open_log(default_log_url(self.home))

    def open_store(self) -> Store:
        """Open the MLflow store, which must be there. Raises `TrackingError`.

        Its client checks at every call that a local database is still there: an open connection
        would go on reading a file that was moved away, or replaced by another.
        """
        if self.store is None and os.environ.get("MLFLOW_TRACKING_URI"):
            return open_existing_store(None, self.project)
        database = self.folder / "mlflow.db"
        _check_there(database)
        os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
        store = open_existing_store(self.store, self.project)
        client: Any = _LocalClient(store.client, database)
        return replace(store, client=client)


class _LocalClient:
    """MLflow's client of a database file; raises `TrackingError` while the file is not there."""

    def __init__(self, client: Any, database: Path) -> None:
        self._client, self._database = client, database

    def __getattr__(self, name: str) -> Any:
        _check_there(self._database)
        return getattr(self._client, name)


def _check_there(database: Path) -> None:
    # MLflow would make an empty one in its place
    if not database.exists():
        raise TrackingError(
            f"{database}: no such store; run sentiment_mlflow_optuna.py --promote, or name "
            "another with --store"
        )


def look_ahead(config: ServingConfig) -> str:
    """Import what the workers need, and check that there is something to serve.

    Raises and returns what `check_start` does. That runs in a process of its own: a database that
    is open must not be taken along into the workers.
    """
    for name in AHEAD:
        importlib.import_module(name)
    fork, ignored = multiprocessing.get_context("fork"), (signal.SIGINT, signal.SIG_IGN)
    # the parent alone reports a Ctrl-C
    with ProcessPoolExecutor(1, fork, initializer=signal.signal, initargs=ignored) as child:
        return child.submit(check_start, config).result()


def check_start(config: ServingConfig) -> str:
    """Raise `ServingError` or `TrackingError` unless the version in production will load.

    Returns what is wrong with the challenger in one line, or "": a server that is started again
    after its challenger was promoted goes on without one.
    """
    from sentiment.model.predictor import load_version

    store = config.open_store()
    try:
        load_version(store, "champion")
    except UnknownVersionError:
        raise ServingError(
            "no version is in production; run sentiment_mlflow_optuna.py --promote"
            f"{config.settings.option}, or `python -m sentiment promote`"
        ) from None
    try:
        if config.challenger is not None:
            load_version(store, config.challenger)
    except ServingError as error:
        return f"{error}; the version in production answers everything until there is one"
    return ""
