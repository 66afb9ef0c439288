"""Alerts: what is posted to `ALERT_WEBHOOK_URL` when a scheduled run fails or drift is found."""

from __future__ import annotations

import json
import logging
import os
import urllib.request
from typing import TYPE_CHECKING, Any, TypeAlias

from prefect.logging.loggers import flow_run_logger

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.flows import Flow

WEBHOOK_SECONDS = 5
Log: TypeAlias = "logging.Logger | logging.LoggerAdapter[Any]"


def alert(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook of a run that failed or crashed: log it, and post it. Nothing is raised."""
    message = (state.message or "").splitlines()[:1]
    log = flow_run_logger(flow_run, flow)
    said = (str(state.name), message[0] if message else "")
    log.error("run %s: %s: %s", flow_run.id, *said)
    post(flow.name, str(flow_run.id), *said, log)


def post(flow: str, run: str, state: str, message: str, log: Log) -> bool:
    """Post JSON with these keys to `ALERT_WEBHOOK_URL`; returns whether somebody took it.

    Where the variable is not set nobody is told. What goes wrong is logged, not raised.
    """
    url = os.environ.get("ALERT_WEBHOOK_URL")
    if not url:
        return False
    body = {"flow": flow, "run": run, "state": state, "message": message}
    try:
        request = urllib.request.Request(
            url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=WEBHOOK_SECONDS).close()
    except (OSError, ValueError) as error:
        log.error("the alert could not be posted: %s", error)
        return False
    return True
