"""Forget the oldest runs, so that a flow of every five minutes does not fill the disk in a year."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import TERMINAL_STATES
from prefect.client.schemas.sorting import FlowRunSort

from sentiment.drift.latest import DRIFT
from sentiment.errors import TrackingError
from sentiment.flows.retraining import RETRAINING_KIND
from sentiment.masking import line
from sentiment.registry.lifecycle import free_places, registered_versions
from sentiment.tracking.store import RUNNING, Store, find_runs, store_errors
from sentiment.training.passes import KIND

BATCH = 50  # flow runs: their artifacts fit into one answer of the server, which has up to 200
MOST = 200  # runs of a flow or a kind at once, a few seconds; an hour brings 12


def forget_old_runs(store: Store, flows: Sequence[str], store_tag: str, keep: int) -> None:
    """Delete all but the newest `keep` ended runs of each flow in Prefect and of the ledger.

    Flow runs carry the tag `store_tag`; their task runs, logs and artifacts go with them. Where
    Prefect or MLflow does not do it, a line says so: it is tried again later.
    """
    try:
        with get_client(sync_client=True) as client:
            for flow in flows:
                _forget_flow_runs(client, flow, store_tag, keep)
        with store_errors():
            _forget_ledger_runs(store, keep)
    except (HTTPError, TrackingError, OSError) as error:
        print(f"old runs are not deleted for now: {line(error)}", file=sys.stderr, flush=True)


def _forget_flow_runs(client: SyncPrefectClient, flow: str, store_tag: str, keep: int) -> None:
    for _ in range(MOST // BATCH):
        old = client.read_flow_runs(
            flow_filter=FlowFilter.model_validate({"name": {"any_": [flow]}}),
            flow_run_filter=FlowRunFilter.model_validate(
                {"tags": {"all_": [store_tag]}, "state": {"type": {"any_": list(TERMINAL_STATES)}}}
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            offset=keep,
            limit=BATCH,
        )
        if not old:
            return
        of_these = {"flow_run_id": {"any_": [str(run.id) for run in old]}}
        # which the server would leave behind
        for left in client.read_artifacts(artifact_filter=ArtifactFilter.model_validate(of_these)):
            client.delete_artifact(left.id)
        for run in old:
            client.delete_flow_run(run.id)


def _forget_ledger_runs(store: Store, keep: int) -> None:
    """Delete old retrainings that no version is of, and old drift checks.

    Changes of versions and passes are kept for ever. MLflow marks a run as deleted until `mlflow
    gc`; its artifacts and models, which take the space, are deleted here. The run comes last, so
    that what was interrupted is done by the next call.
    """
    held = {version.run_id for version in registered_versions(store).values()}
    for kind in (RETRAINING_KIND, DRIFT):
        ended = [
            run
            for run in find_runs(store, store.settings.ledger, {KIND: kind})
            if run.info.status != RUNNING and run.info.run_id not in held
        ]
        for run in ended[: max(0, len(ended) - keep)][:MOST]:
            models = store.client.search_logged_models(
                [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
            )
            places = [run.info.artifact_uri, *(model.artifact_location for model in models)]
            free_places(store, places, run.info.experiment_id)
            for model in models:
                store.client.delete_logged_model(model.model_id)
            store.client.delete_run(run.info.run_id)
