"""Model registry: the versions of `FlipkartSentimentModel`."""

from __future__ import annotations

from collections.abc import Mapping

from tracking import REGISTERED_MODEL, Store


def register_version(store: Store, run_id: str, model_uri: str, tags: Mapping[str, str]) -> str:
    """Make the run's model a version and return its number; the same run never makes two."""
    from mlflow.exceptions import MlflowException

    client = store.client
    known = client.search_model_versions(f"run_id = '{run_id}'")
    if known:
        return str(known[0].version)
    try:
        client.create_registered_model(
            REGISTERED_MODEL, description="Sentiment of product reviews: raw text → 0 or 1."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        REGISTERED_MODEL,
        source=model_uri,
        run_id=run_id,
        model_id=model_uri.removeprefix("models:/"),
        tags=dict(tags),
    )
    return str(version.version)
