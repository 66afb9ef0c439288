"""Serving config: how to serve, checked, and the store and the log that it names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sentiment.errors import ServingConfigError, TrackingError
from sentiment.predictions.log import PredictionLog, default_log_url, open_log
from sentiment.serving.schemas import Limits
from sentiment.tracking.store import PROJECT, Store, open_store

TOKEN_VARIABLE = "SENTIMENT_API_TOKEN"


@dataclass(frozen=True)
class ServingConfig:
    """How to serve; raises `ServingConfigError` where that makes no sense.

    `ab` is an alias or version number and its share, 0–1; `shadow` an alias or version number;
    `experiment` the name that the comparison is logged under, by default made of the two versions.
    `log_url` is by default a SQLite file beside the store. `token` comes from the environment.
    """

    store: str | None = None
    refresh_seconds: float = 10.0
    ab: tuple[str, float] | None = None
    shadow: str | None = None
    experiment: str | None = None
    log_url: str | None = None
    store_text: bool = True
    retention_days: float | None = None
    limits: Limits = field(default_factory=Limits)
    token: str | None = field(default_factory=lambda: os.environ.get(TOKEN_VARIABLE), repr=False)

    def __post_init__(self) -> None:
        if self.ab is not None and self.shadow is not None:
            raise ServingConfigError("--ab and --shadow: one challenger at a time; leave one out")
        if self.experiment is not None and self.challenger is None:
            raise ServingConfigError("--ab-name: there is no --ab and no --shadow to name")
        if self.ab is not None and not 0.0 <= self.ab[1] <= 1.0:
            raise ServingConfigError(f"--ab: a share lies between 0 and 1, not at {self.ab[1]}")
        token = self.token
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise ServingConfigError(
                f"{TOKEN_VARIABLE}: expected printable ASCII characters; unset it to ask for none"
            )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ServingConfig:
        """The settings of these names. Raises `ServingConfigError`."""
        known = [part.name for part in fields(cls)]
        unknown = [name for name in values if name not in known]
        if unknown:
            raise ServingConfigError(f"no setting '{unknown[0]}'; there are {', '.join(known)}")
        return cls(**values)

    @property
    def challenger(self) -> str | None:
        """The alias or version number that is compared with the champion."""
        return self.ab[0] if self.ab is not None else self.shadow

    @property
    def home(self) -> Path:
        """The folder of the store, and of the log by default."""
        return PROJECT if self.store is None else Path(self.store).resolve()

    def open_log(self) -> PredictionLog:
        """Open the prediction log. Raises `PredictionLogError`."""
        return open_log(self.log_url or default_log_url(self.home))

    def open_store(self) -> Store:
        """Open the MLflow store, which must be there. Raises `TrackingError`.

        Its client looks every time whether a local database is still there: a connection that is
        open would go on reading a file that was moved away, or one that another has replaced.
        """
        if self.store is None and os.environ.get("MLFLOW_TRACKING_URI"):
            return open_store()
        database = self.home / "mlflow.db"
        _check_there(database)
        os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
        store = open_store(self.store)
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
