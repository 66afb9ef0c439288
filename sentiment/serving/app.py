"""Put the parts of serving together into one Flask app.

    app = create_app()                                # the project's store, everything by default
    app = create_app({"store": "…", "ab": ("challenger", 0.2)})

Each worker process has an app of its own, with threads that watch the registry and write the log.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, g, request
from markupsafe import Markup
from werkzeug.exceptions import HTTPException

from sentiment.errors import PredictionLogError
from sentiment.predictions.log import PredictionLog
from sentiment.serving.api import create_api, error_response, prefers_html
from sentiment.serving.config import ServingConfig
from sentiment.serving.metrics import ServingMetrics
from sentiment.serving.page import create_page
from sentiment.serving.schemas import RequestChecks, RequestError
from sentiment.serving.service import NotReadyError, Service

# Nothing but our own files, no inline script or style, and no page of anybody else around ours
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# The page of a drift check is one file: it has its style and its pictures inside, and no script
DRIFT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
ERROR_PAGE = Markup(
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>{status}</title>'
    "<h1>{error}</h1><p>{where}: expected {expected}</p></html>"
)


def create_app(
    config: ServingConfig | Mapping[str, Any] | None = None, *, log: PredictionLog | None = None
) -> Flask:
    """Return the app, ready to answer, with its threads running.

    `log` is the prediction log when it is open already; it may have been opened before a fork.
    `app.extensions["serving"]` is the app's `Service`. Raises `ServingConfigError` and
    `PredictionLogError`. A version that cannot be loaded raises nothing: `/health` says why, and it
    is tried again.
    """
    if not isinstance(config, ServingConfig):
        config = ServingConfig(**(config or {}))
    service = Service(config, log or config.open_log())
    checks = RequestChecks(config.limits)
    app = Flask(__name__)
    app.url_map.merge_slashes = False  # a path with two slashes is another path, and unknown
    app.config["MAX_CONTENT_LENGTH"] = config.limits.max_body
    app.extensions["serving"] = service
    app.register_blueprint(create_api(service, checks))
    app.register_blueprint(create_page(service, checks))
    _handle_errors(app)
    _watch_requests(app, service.metrics)
    service.start()
    atexit.register(service.close)
    return app


def _watch_requests(app: Flask, metrics: ServingMetrics) -> None:
    """Count and time every request, and give every response its headers."""

    @app.before_request
    def begin() -> None:
        g.begun = time.perf_counter()

    @app.after_request
    def end(response: Response) -> Response:
        policy = DRIFT_POLICY if request.endpoint == "api.drift" else POLICY
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        if request.endpoint != "static":
            response.headers["Cache-Control"] = "no-store"
        route = "other" if request.url_rule is None else request.url_rule.rule
        seconds = time.perf_counter() - g.begun
        metrics.count_request(route, request.method, response.status_code, seconds)
        return response


def _handle_errors(app: Flask) -> None:
    """Give every error the one form: JSON for programs, a small page for people."""
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("api.")]
    api_paths = [rule.rule for rule in rules]

    @app.errorhandler(RequestError)
    def refuse(error: RequestError) -> Response:
        response = error_response(error)
        if request.path not in api_paths and prefers_html(request):
            page = ERROR_PAGE.format(status=error.status, **error.as_json())
            response.set_data(page)
            response.mimetype = "text/html"
        return response

    @app.errorhandler(NotReadyError)
    def not_ready(error: NotReadyError) -> Response:
        return refuse(
            RequestError(503, f"no model answers: {error}", "the server", "a version in production")
        )

    @app.errorhandler(PredictionLogError)
    def log_away(error: PredictionLogError) -> Response:
        app.logger.warning("%s", error)  # its address is for the operator alone
        return refuse(
            RequestError(503, "the prediction log does not answer", "the server", "a later try")
        )

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status, where = error.code or 500, request.path
        expected = "a request as HTTP has it"
        if status == 404:
            expected = f"/ or one of {', '.join(api_paths)}"
        elif status == 405:
            expected = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
            where = f"{request.method} {where}"
        elif status >= 500:
            expected = "an answer; the server's log says what went wrong"
        response = refuse(RequestError(status, (error.name or "error").lower(), where, expected))
        kept = ("Allow", "Location")
        headers = error.get_headers(request.environ)
        response.headers.extend([(name, value) for name, value in headers if name in kept])
        return response
