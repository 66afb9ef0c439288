"""Fixtures of the prediction log: a database of the test's own, and the log in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.prediction_logs import KINDS, database_url

from sentiment.predictions.log import PredictionLog, open_log


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database_url(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def log(url: str) -> Iterator[PredictionLog]:
    with closing(open_log(url)) as log:
        yield log


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'predictions.db'}"
