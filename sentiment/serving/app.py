"""Web app: the parts of serving put together into one Flask app.

    app = create_app()                                # the project's store, everything by default
    app = create_app({"store": "…", "ab": ("challenger", 0.2)})

Each worker process has an app of its own, with threads that watch the registry and write the log.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from flask import Flask, Response, g, request
from markupsafe import Markup
from werkzeug.exceptions import HTTPException

from sentiment.errors import PredictionLogError
from sentiment.predictions.log import PredictionLog
from sentiment.predictions.writer import LogWriter
from sentiment.serving.ab_results import ComparisonReader
from sentiment.serving.api import Api, create_api, error_response, prefers_html
from sentiment.serving.config import ServingConfig
from sentiment.serving.metrics import ServingMetrics
from sentiment.serving.page import create_page, render_ab
from sentiment.serving.schemas import RequestError
from sentiment.serving.service import AnsweringService, NotReadyError
from sentiment.serving.versions import VersionWatcher

UPKEEP_SECONDS = 1.0  # between two looks of the metrics at the log's writer
RETIRE_SECONDS = 3600.0
PATIENCE = 2.0  # seconds the end waits for old rows to be deleted; the thread is a daemon
LARGEST_WAITING = (
    3  # requests of the largest size that may wait for the log before rows are dropped
)
DAY_SECONDS = 86_400.0
API_ROUTES = (
    *("/predict", "/feedback", "/health", "/model"),
    *("/ab", "/drift", "/metrics", "/openapi.json"),
)
# Nothing but our own files, no inline script or style, and no page of anybody else around ours
SECURITY_HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)
ERROR_PAGE = Markup(
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>{status}</title>'
    "<h1>{error}</h1><p>{where}: expected {expected}</p></html>"
)


class Serving:
    """What an app runs on, as `app.extensions["serving"]`; `close` ends its threads."""

    def __init__(self, config: ServingConfig, log: PredictionLog) -> None:
        self.config, self.log = config, log
        self.metrics = ServingMetrics()
        rows = LARGEST_WAITING * max(config.limits.max_texts, 1_000)
        self.writer = LogWriter(log, capacity=rows)
        self.watcher = VersionWatcher(
            config.open_store,
            challenger=config.challenger,
            refresh_seconds=config.refresh_seconds,
            experiment=config.experiment,
        )
        self.service = AnsweringService(
            self.watcher,
            log,
            self.writer,
            share=0.0 if config.ab is None else config.ab[1],
            shadow=config.shadow is not None,
            store_text=config.store_text,
            count=self.metrics.count_answer,
        )
        self._closing = threading.Event()
        self._upkeep = threading.Thread(target=self._keep_up, name="upkeep", daemon=True)

    def start(self) -> None:
        """Load the versions and start the threads; a version that will not load is no error."""
        self.writer.start()
        self.watcher.check()
        self.watcher.start()
        self._upkeep.start()

    def close(self) -> None:
        """Stop watching, write what is left of the log, and close it. Twice does no harm."""
        self._closing.set()
        self._upkeep.join(PATIENCE)
        self.watcher.stop()
        self.writer.close()
        self.metrics.follow(self.watcher, self.writer)
        self.log.close()

    def _keep_up(self) -> None:
        retire_at = time.monotonic()
        while True:
            self.metrics.follow(self.watcher, self.writer)
            days = self.config.retention_days
            if days is not None and time.monotonic() >= retire_at:
                retire_at = time.monotonic() + RETIRE_SECONDS
                with suppress(PredictionLogError):  # away just now: in an hour, then
                    self.log.retire(time.time() - days * DAY_SECONDS)
            if self._closing.wait(UPKEEP_SECONDS):
                return


def create_app(
    config: ServingConfig | Mapping[str, Any] | None = None, *, log: PredictionLog | None = None
) -> Flask:
    """The app, ready to answer, with its threads running.

    Parameters
    ----------
    config : ServingConfig or mapping
        A mapping has the names of `ServingConfig`; what is left out is as there.
    log : PredictionLog
        The log when it is open already; it may have been opened before a fork.

    Raises
    ------
    ServingConfigError, PredictionLogError
        The configuration makes no sense, or the log cannot be opened. A version that cannot be
        loaded raises nothing: `/health` says why, and it is tried again.

    """
    if not isinstance(config, ServingConfig):
        config = ServingConfig.from_mapping(config or {})
    serving = Serving(config, log or config.open_log())
    app = Flask(__name__)
    app.url_map.merge_slashes = False  # a path of ours is a path, and no other is sent to it
    app.config["MAX_CONTENT_LENGTH"] = config.limits.max_body
    app.extensions["serving"] = serving
    comparison = ComparisonReader(
        serving.log, share=serving.service.share, shadow=serving.service.shadow
    )
    api = Api(
        serving.service,
        serving.metrics,
        comparison,
        config.limits,
        config.token,
        render=render_ab,
        drift=config.home / "drift",
    )
    app.register_blueprint(create_api(api))
    app.register_blueprint(create_page(serving.service, config.limits))
    _handle_errors(app)
    _watch_requests(app, serving.metrics)
    serving.start()
    atexit.register(serving.close)
    return app


def _watch_requests(app: Flask, metrics: ServingMetrics) -> None:
    """Count and time every request, and give every response its headers."""

    @app.before_request
    def begin() -> None:
        g.begun = time.perf_counter()

    @app.after_request
    def end(response: Response) -> Response:
        rule = request.url_rule
        for name, value in SECURITY_HEADERS:
            response.headers.setdefault(name, value)
        if request.endpoint != "static":
            response.headers["Cache-Control"] = "no-store"
        metrics.count_request(
            "other" if rule is None else rule.rule,
            request.method,
            response.status_code,
            time.perf_counter() - g.begun,
        )
        return response


def _handle_errors(app: Flask) -> None:
    """Every error becomes the one form: JSON for programs, a small page for people."""

    @app.errorhandler(RequestError)
    def refuse(error: RequestError) -> Response:
        response = error_response(error)
        if request.path not in API_ROUTES and prefers_html(request):
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
        response = refuse(_as_request_error(error))
        response.headers.extend(
            [
                (name, value)
                for name, value in error.get_headers(request.environ)
                if name in ("Allow", "Location")
            ]
        )
        return response


def _as_request_error(error: HTTPException) -> RequestError:
    status = error.code or 500
    rule = request.path
    if status == 404:
        expected = f"/ or one of {', '.join(API_ROUTES)}"
    elif status == 405:
        allowed = getattr(error, "valid_methods", None) or ()
        expected, rule = ", ".join(sorted(allowed)), f"{request.method} {request.path}"
    elif status >= 500:
        expected = "an answer; the server's log says what went wrong"
    else:
        expected = "a request as HTTP has it"
    return RequestError(status, (error.name or "error").lower(), rule, expected)
