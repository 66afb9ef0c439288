"""Put the parts of serving together into one Flask app.

    app = create_app()                                # the project's store, everything by default
    app = create_app({"store": "…", "ab": ("challenger", 0.2)})

Each worker process has an app of its own, with threads that watch the registry and write the log.
"""

from __future__ import annotations

import atexit
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask, Response, g, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from sentiment.errors import PredictionLogError
from sentiment.predictions.log import PredictionLog
from sentiment.serving.api import create_api, error_response, prefers_html
from sentiment.serving.config import Network, ServingConfig
from sentiment.serving.metrics import ServingMetrics
from sentiment.serving.page import create_page
from sentiment.serving.schemas import RequestChecks, RequestError
from sentiment.serving.service import NotReadyError, Service

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Nothing but our own files, no inline script or style, and no page of anybody else around ours
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# The page of a drift check is one file with its style inside, of which it names the digest itself
DRIFT_POLICY = POLICY.replace("style-src 'self'", "style-src 'unsafe-inline'")
HEADERS = {  # of every answer
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # `no-referrer` would make our own forms post with "Origin: null"
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NOT_KEPT = {"Cache-Control": "no-store"}  # of all but our own files
READING = ("GET", "HEAD", "OPTIONS", "TRACE")  # methods that change nothing
PREFLIGHT_SECONDS = "600"  # that a browser may remember what another origin may do
PREFIX = re.compile(r"(/[\w.~-]+)+", re.ASCII)  # of all paths, as a proxy may name it


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
    if config.hosts is not None:
        own = {_name(f"//{origin.partition('//')[2]}") for origin in config.allow_origins}
        _guard_hosts(app, own.union(name.lower() for name in config.hosts))
    _guard_origins(app, config.allow_origins)
    if config.proxies:
        app.wsgi_app = TrustedProxy(app.wsgi_app, config.proxies)  # type: ignore[method-assign]
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
        response.headers.update(HEADERS)
        if request.endpoint == "api.drift":
            response.headers["Content-Security-Policy"] = DRIFT_POLICY
        if request.endpoint != "static":
            response.headers.update(NOT_KEPT)
        route = "other" if request.url_rule is None else request.url_rule.rule
        seconds = time.perf_counter() - g.begun
        metrics.count_request(route, request.method, response.status_code, seconds)
        return response


def _guard_hosts(app: Flask, allowed: Collection[str]) -> None:
    """Refuse requests to other names than these.

    A page of another site can let its own name point to this machine (DNS rebinding). To a browser
    it is the same site then, which may read what it is answered; the name gives it away.
    """

    @app.before_request
    def check_host() -> None:
        # a browser always names a host; a load balancer's check may not
        if "Host" in request.headers and _name(f"//{request.host}") not in allowed:
            expected = f"{', '.join(sorted(allowed))}, or one named with --allow-origin"
            expected += "; behind a proxy: --trust-proxy"
            raise RequestError(421, "this server has another name", "header Host", expected)


def _name(address: str) -> str:
    """Return the host of an address without its port; empty where there is none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _guard_origins(app: Flask, allowed: Sequence[str]) -> None:
    """Refuse what pages of other sites post, and let those of the allowed origins use the API.

    Its paths count, not its endpoints: a method that a path does not have has no endpoint.
    """
    paths = _api_paths(app)

    @app.before_request
    def check_origin() -> None:
        # By the browsers' own word, and by the host where they give none, as older ones and those
        # on plain HTTP do. Programs send neither header, and nobody can make one send a token.
        shared = request.origin in allowed and request.path in paths
        if request.method in READING or shared:
            return
        site, origin = request.headers.get("Sec-Fetch-Site"), request.origin
        own = origin is None or _host(origin) == _host(f"{request.scheme}://{request.host}")
        if site not in ("same-origin", "none") if site is not None else not own:
            expected = "a page of this server, or of an origin named with --allow-origin"
            where = "header Origin" if site is None else "header Sec-Fetch-Site"
            raise RequestError(403, "it comes from the page of another site", where, expected)

    @app.after_request
    def share(response: Response) -> Response:
        if allowed and request.path in paths:
            response.vary.add("Origin")
            if request.origin in allowed:
                response.access_control_allow_origin = request.origin
                if request.method == "OPTIONS":
                    response.headers["Access-Control-Allow-Methods"] = str(response.allow)
                    response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
                    response.headers["Access-Control-Max-Age"] = PREFLIGHT_SECONDS
        return response


def _api_paths(app: Flask) -> list[str]:
    return [rule.rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("api.")]


def _host(origin: str) -> str:
    """Return host and port of an origin; the port of its scheme is left out."""
    scheme, _, host = origin.lower().partition("://")
    return host.removesuffix({"http": ":80", "https": ":443"}.get(scheme, ""))


class TrustedProxy:
    """Apply `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix` of the proxies that are trusted.

    From anybody else they are ignored, and so is a prefix that is no plain path.
    """

    def __init__(self, app: WSGIApplication, proxies: Sequence[Network]) -> None:
        self._app, self._proxies = app, proxies
        self._fixed = ProxyFix(app, x_for=1, x_proto=1, x_host=1, x_prefix=1)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        if not self._is_trusted(environ.get("REMOTE_ADDR", "")):
            return self._app(environ, start_response)
        prefix = environ.get("HTTP_X_FORWARDED_PREFIX", "").rstrip("/")
        environ.pop("HTTP_X_FORWARDED_PREFIX", None)
        if PREFIX.fullmatch(prefix):
            environ["HTTP_X_FORWARDED_PREFIX"] = prefix
        return self._fixed(environ, start_response)

    def _is_trusted(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:  # a socket file, or nothing
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._proxies)


def _handle_errors(app: Flask) -> None:
    """Give every error the one form: JSON for programs, a page for browsers."""
    api_paths = _api_paths(app)

    @app.errorhandler(RequestError)
    def refuse(error: RequestError) -> Response:
        response = error_response(error)
        if prefers_html(request):
            response.set_data(render_template("error.html", status=error.status, error=error))
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
