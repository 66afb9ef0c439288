"""What the tests of serving share: a store, apps on it, and the one form of all errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from support.serving import running_app, shared_store

from sentiment.predictions import writer
from sentiment.tracking.store import Store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """1 in production, 2 the challenger, 3; not to be changed: see `copy_store`."""
    return shared_store(tmp_path_factory)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let feedback wait for the log as long as it takes: a busy machine is no fault."""
    monkeypatch.setattr(writer, "PROMPT", 60.0)
    monkeypatch.setattr(writer, "ROWS_SOON", 30.0)


@pytest.fixture
def start(store: Store, tmp_path: Path) -> Iterator[Callable[..., FlaskClient]]:
    """Start an app with these settings, its log in `tmp_path / "log.db"`; returns its client."""
    with ExitStack() as apps:
        yield lambda **config: apps.enter_context(
            running_app(config.pop("on", store), tmp_path, **config)
        ).test_client()
