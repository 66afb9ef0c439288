"""Serving config: settings that make no sense, the token, and a store that must be there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.serving import copy_store, put_alias, shared_store

from sentiment.errors import ServingConfigError, ServingError, TrackingError
from sentiment.model.predictor import find_version
from sentiment.serving.config import TOKEN_VARIABLE, ServingConfig

pytestmark = pytest.mark.xdist_group("serving")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"ab": ("challenger", 0.2), "shadow": "3"}, "one challenger at a time"),
        ({"ab": ("challenger", 1.01)}, "between 0 and 1"),
        ({"ab": ("challenger", float("nan"))}, "between 0 and 1"),
        ({"experiment": "spring"}, "--ab-name"),
        ({"allow_origins": ["https://shop.example:443"]}, "expected https://shop.example"),
        ({"allow_origins": ["http://shop.example", "http://[::1]:80"]}, "expected http://[::1]"),
        ({"token": ""}, TOKEN_VARIABLE),
        ({"token": "pässword"}, TOKEN_VARIABLE),
        ({"token": "two\nlines"}, TOKEN_VARIABLE),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_in_a_line(
    values: dict[str, Any], says: str
) -> None:
    with pytest.raises(ServingConfigError) as caught:
        ServingConfig(**values)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_the_token_comes_from_the_environment_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert ServingConfig().token is None
    monkeypatch.setenv(TOKEN_VARIABLE, "the-secret")
    config = ServingConfig()
    assert config.token == "the-secret"
    assert "the-secret" not in repr(config)


def test_the_project_comes_from_the_environment_unless_it_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SENTIMENT_PROJECT", "shoes")
    assert ServingConfig(store=str(tmp_path)).home == tmp_path / "projects" / "shoes"
    assert ServingConfig(store=str(tmp_path), project=None).home == tmp_path
    with pytest.raises(TrackingError, match="no name of a project"):
        ServingConfig(project="../shoes")


def test_a_store_that_is_moved_away_or_replaced_by_a_backup_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """MLflow's open connection would go on reading the file wherever it is."""
    made = shared_store(tmp_path_factory)
    copy, backup = (copy_store(made, tmp_path / name) for name in ("store", "backup"))
    put_alias(backup, "champion", "3")
    store = ServingConfig(store=str(copy.folder), token=None).open_store()
    assert str(find_version(store, "champion").version) == "1"
    for file in copy.folder.glob("mlflow.db*"):
        file.unlink()
    with pytest.raises(ServingError, match="no such store"):
        find_version(store, "champion")
    assert not (copy.folder / "mlflow.db").exists()
    copy_store(backup, copy.folder)
    assert str(find_version(store, "champion").version) == "3"


def test_a_server_named_by_the_environment_wins_over_the_projects_own_store(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9"):
        ServingConfig(token=None).open_store()
    with pytest.raises(TrackingError, match="no such store"):
        ServingConfig(store=str(tmp_path), token=None).open_store()
