"""Alerts: what happens when a scheduled run fails or crashes."""

from __future__ import annotations

import json
import os
import urllib.request
from typing import TYPE_CHECKING, Any

from prefect.logging.loggers import flow_run_logger

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.flows import Flow

WEBHOOK_SECONDS = 5


def alert(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook of a run that failed or crashed: log it, and post it to `ALERT_WEBHOOK_URL` if set.

    The body is JSON: `flow`, `run`, `state`, `message`. Nothing that goes wrong here is raised.
    """
    message = (state.message or "").splitlines()[:1]
    body = {
        "flow": flow.name,
        "run": str(flow_run.id),
        "state": state.name,
        "message": message[0] if message else "",
    }
    log = flow_run_logger(flow_run, flow)
    log.error("run %s: %s: %s", body["run"], body["state"], body["message"])
    url = os.environ.get("ALERT_WEBHOOK_URL")
    if not url:
        return
    try:
        request = urllib.request.Request(
            url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=WEBHOOK_SECONDS).close()
    except (OSError, ValueError) as error:
        log.error("the alert could not be posted: %s", error)
