"""Serve the JSON routes and `/metrics`, and describe them in `/openapi.json`.

What people may want to read as well, `/model`, `/ab` and `/drift`, is a page for browsers. `/api`
is the description for people.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import orjson
from flask import Blueprint, Request, Response, render_template, request
from markupsafe import Markup
from pydantic import BaseModel

from sentiment.data.labels import CLASS_NAMES, GUIDES
from sentiment.errors import TrackingError
from sentiment.metrics import HOLDOUT_SCORES, short
from sentiment.serving import schemas
from sentiment.serving.ab_results import render_ab
from sentiment.serving.complaints import render_complaints
from sentiment.serving.description import operations
from sentiment.serving.metrics import CONTENT_TYPE
from sentiment.serving.schemas import Json, RequestChecks, RequestError
from sentiment.serving.service import Answer, Service, digest

# Both ways of giving the token: programs send it as a bearer's, a browser asks for a password
CHALLENGES = ('Bearer realm="sentiment"', 'Basic realm="sentiment", charset="UTF-8"')
NO_CHECK = "a check by `python -m sentiment drift`, or by the scheduled flow"
# What the page of a check gets on top when it is shown, for it does not know what answers now
DRIFT_AGE = Markup('<p class="quiet">This check of version {version} was made {age}.</p>')
DRIFT_OF_OTHER = Markup(
    '<p class="other" role="alert">Version {now} answers now. This check is of version {checked} '
    "and says nothing about version {now}; run <code>python -m sentiment drift</code>.</p>"
)
NO_EXPERIMENT = "a server started with --ab challenger=0.2 or --shadow challenger"
NO_TEXTS = (
    "answers of the version in production to the API, with their texts; for a file: python -m "
    "sentiment complaints --data FILE"
)
BODY_PROBLEMS = (400, 403, 408, 413, 415)
PROBLEMS = {
    400: "The request is not as it should be",
    401: "The token is missing or wrong",
    403: "It comes from the page of another site",
    404: "There is no such thing",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body is not plain JSON",
    422: "Too many reviews, or one is too long",
    503: "No model, prediction log or tracking store answers; try again later",
}
PAGE_OR_JSON = ("application/json", "text/html")
View = Callable[[], Response]


class DescribedBlueprint(Blueprint):
    """A blueprint whose routes are described in `paths`, as OpenAPI operations."""

    def __init__(self, token: str | None) -> None:
        super().__init__("api", __name__)
        self.token, self.paths = token, dict[str, Json]()

    def add(
        self,
        path: str,
        response: type | None = None,
        asked: type[schemas.RequestBody] | None = None,
        *,
        statuses: tuple[int, ...] = (200,),
        problems: tuple[int, ...] = (),
        media: tuple[str, ...] = ("application/json",),
        guarded: bool = False,
    ) -> Callable[[View], View]:
        """Register a view, whose docstring is the summary.

        `response` and `asked` are the models of the two bodies. Without the first it is an object
        of no fixed form; a route with the second takes a POST. `problems` are the statuses of an
        `Error`. `guarded` asks for the token, where the server has one.
        """
        guarded = guarded and self.token is not None
        method = "GET" if asked is None else "POST"

        def register(view: View) -> View:
            @wraps(view)
            def checked() -> Response:
                if guarded:
                    check_token(request, self.token)
                return view()

            schemas_of = {kind: {"schema": {"type": "string"}} for kind in media}
            if "application/json" in media:
                schema = {"type": "object"} if response is None else schemas.ref(response)
                schemas_of["application/json"] = {"schema": schema}
            summary = view.__doc__ or ""
            given: Json = {
                str(status): {"description": summary, "content": schemas_of} for status in statuses
            }
            error = {"application/json": {"schema": schemas.ref(schemas.Error)}}
            for status in sorted({*problems, *([401] if guarded else [])}):
                given[str(status)] = {"description": PROBLEMS[status], "content": error}
            operation: Json = {
                "operationId": path[1:].partition(".")[0],
                "summary": summary,
                "security": [{"bearer": []}, {"basic": []}] if guarded else [],
                "responses": given,
            }
            if asked is not None:
                body = {"schema": schemas.ref(asked), "example": asked.example}
                content = {"application/json": body}
                operation["requestBody"] = {"required": True, "content": content}
            self.paths[path] = {method.lower(): operation}
            return self.route(path, methods=[method])(checked)

        return register


def create_api(service: Service, checks: RequestChecks) -> Blueprint:  # noqa: PLR0915
    """Return the blueprint with all JSON routes and `/metrics`."""
    config, limits = service.config, checks.limits
    api = DescribedBlueprint(config.token)

    predicting = "/predict", schemas.PredictResponse, schemas.PredictRequest

    @api.add(*predicting, problems=(*BODY_PROBLEMS, 422, 503))
    def predict() -> Response:
        """Label one review or many."""
        asked = checks.predict(schemas.read_json(request, limits))
        unit = digest(asked.user_id) if asked.user_id else None
        answer = service.answer(asked.reviews, unit, asked.explain)
        return as_json(answer_as_json(answer, explain=asked.explain))

    telling = "/feedback", schemas.FeedbackResponse, schemas.FeedbackRequest
    problems = (*BODY_PROBLEMS, 404, 503)

    @api.add(*telling, statuses=(200, 202), problems=problems, guarded=True)
    def feedback() -> Response:
        """Say what a review really is: kept with 200, or with 202 once its answer is logged."""
        return as_json(*keep_feedback(service, checks.feedback(schemas.read_json(request, limits))))

    @api.add("/health", schemas.Health, statuses=(200, 503))
    def health() -> Response:
        """Say whether a model answers, and what is wrong if anything is."""
        arms, writer = service.watcher.arms, service.writer
        state: schemas.Health = {"status": "not ready" if arms is None else "ok"}
        if has_token(request, config.token):
            state["version"] = None if arms is None else arms.champion.version
            state["problem"] = service.watcher.told
            state["log"] = {
                "queued": writer.queued,
                "dropped": writer.dropped,
                "failed": writer.failed,
            }
        return as_json(state, 503 if arms is None else 200)

    @api.add("/model", schemas.Model, problems=(503,), media=PAGE_OR_JSON, guarded=True)
    def model() -> Response:
        """Describe the versions that answer; a page in browsers."""
        arms = service.arms()
        if not prefers_html(request):
            return as_json(schemas.Model.model_validate(arms))
        what = {"name": config.settings.registered_model, "option": config.settings.option}
        page = render_template(
            "model.html", arms=arms, scores=HOLDOUT_SCORES, short=short, here="model", **what
        )
        return Response(page, mimetype="text/html")

    @api.add("/ab", problems=(404, 503), media=PAGE_OR_JSON, guarded=True)
    def ab() -> Response:
        """Compare champion and challenger so far, and list past comparisons; a page in browsers."""
        arms = service.arms()
        running, past = service.comparisons.read(arms), service.comparisons.past(arms)
        if running is None and not past:
            raise RequestError(404, "no comparison was ever made here", "/ab", NO_EXPERIMENT)
        if prefers_html(request):
            page = render_ab(running, past, option=config.settings.option)
            return Response(page, mimetype="text/html")
        found = {"experiment": None} if running is None else running.as_dict()
        return as_json({**found, "past": [asdict(one) for one in past]})

    @api.add("/drift", problems=(404, 503), media=PAGE_OR_JSON, guarded=True)
    def drift() -> Response:
        """Return the report of the store's last drift check; browsers get a page."""
        arms = service.watcher.arms
        answers_now = None if arms is None else arms.champion.version
        return _last_check(service, answers_now, as_page=prefers_html(request))

    @api.add("/complaints", problems=(404, 503), media=PAGE_OR_JSON, guarded=True)
    def complaints() -> Response:
        """Say what the newest negative reviews complain about; a page with examples in browsers."""
        return _complaints(service)

    @api.add("/metrics", media=("text/plain",), guarded=True)
    def metrics() -> Response:
        """Return the metrics of all worker processes in Prometheus' text format."""
        return Response(service.metrics.as_text(), content_type=CONTENT_TYPE)

    @api.add("/openapi.json")
    def openapi() -> Response:
        """Return this document."""
        return as_json({**described, "servers": [{"url": f"{request.script_root}/"}]})

    @api.get("/api")
    def for_people() -> Response:
        """Return this document as a page."""
        what = {"info": described["info"], "operations": operations(described, request.url_root)}
        page = render_template("api.html", here="api", token=config.token is not None, **what)
        return Response(page, mimetype="text/html")

    described = openapi_document(api.paths, checks, config.settings.registered_model)
    return api


def keep_feedback(
    service: Service, given: schemas.FeedbackRequest
) -> tuple[schemas.FeedbackResponse, int]:
    """Keep what a review really was; return what is kept, and the status: 202 is later.

    Raises `RequestError` (400, 404) and `PredictionLogError`.
    """
    arms = service.watcher.arms
    rule = GUIDES if arms is None else arms.champion.rule
    label, rating = given.true_label(rule), given.rating or None
    outcome = service.add_feedback(given.request_id, given.position, label, rating)
    if outcome == "unknown":
        where, expected = "request_id and position", "those of a review in an answer"
        raise RequestError(404, "no such review was answered here", where, expected)
    kept = schemas.FeedbackResponse(
        request_id=given.request_id, position=given.position, label=CLASS_NAMES[label]
    )
    return kept, 202 if outcome == "later" else 200


def _complaints(service: Service) -> Response:
    """Return what the newest answers of the version in production complain about."""
    arms = service.arms()
    found = service.complaints.read(arms.champion.version)
    if not found.reviews:
        raise RequestError(404, "no review is in the log", "/complaints", NO_TEXTS)
    if not prefers_html(request):
        return as_json(found.as_dict())
    return Response(render_complaints(found), mimetype="text/html")


def _last_check(service: Service, answers_now: str | None, *, as_page: bool) -> Response:
    """Return the last drift check, with its age and the version that answers now."""
    try:
        last = service.last_check()
        if last is None:
            raise RequestError(404, "no drift check was made here", "/drift", NO_CHECK)
        page, report = last[0], orjson.loads(last[1])
        made, checked = datetime.fromisoformat(report["checked_at"]), report["version"]
        age = (datetime.now(UTC) - made).total_seconds()
    except TrackingError:
        away = "the tracking store does not answer"
        raise RequestError(503, away, "/drift", "a later try") from None
    except (ValueError, LookupError, TypeError):  # nothing that `sentiment drift` wrote
        broken = "the last drift check cannot be read"
        raise RequestError(503, broken, "/drift", NO_CHECK) from None
    if not as_page:
        return as_json({**report, "age_seconds": round(age), "answers_now": answers_now})
    menu = Markup(render_template("menu.html", here="drift"))
    notice = DRIFT_AGE.format(version=checked, age=_age(age))
    if answers_now not in (None, checked):
        notice = DRIFT_OF_OTHER.format(checked=checked, now=answers_now) + notice
    # its file may be kept and sent, and has no menu; here it is one of the pages
    # an older file has no style for it
    menu = menu if ".skip" in page else Markup()
    page = page.replace("<main>", f'{menu}<main id="content">{notice}', 1)
    return Response(page, mimetype="text/html")


def _age(seconds: float) -> str:
    """Return how long ago something was, in the largest unit that it fills."""
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        count = int(seconds // length)
        if count >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "less than a minute ago"


def openapi_document(paths: Json, checks: RequestChecks, model: str) -> Json:
    """Return the OpenAPI 3.1 document of these operations, with the server's own limits."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sentiment of product reviews",
            "version": "1.0.0",
            "description": "Labels reviews as positive or negative with the version of "
            f"{model} that is in production.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas.api_schemas(checks),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The token as the password, with any name: for browsers.",
                },
            },
        },
    }


def answer_as_json(answer: Answer, *, explain: bool) -> schemas.PredictResponse:
    """Return an answer as the API gives it; `words` are left out without `explain`."""
    version, predictions = answer.version, list[schemas.Prediction]()
    for made in answer.predictions:
        predictions.append(
            {
                "label": None if made.label is None else CLASS_NAMES[made.label],
                "probability": made.probability,
                "decision": made.decision,
                "known_words": made.known_words,
                "words_total": made.words,
                "reason": made.reason,
            }
        )
        if explain:
            predictions[-1]["words"] = [
                {"term": word.term, "weight": word.weight, "at": word.at}
                for word in made.contributions
            ]
    return {
        "request_id": answer.request_id,
        "arm": answer.arm,
        "version": version.version,
        "algorithm": version.algorithm,
        "threshold": version.threshold,
        "intercept": version.intercept,
        "prior": version.prior,
        "predictions": predictions,
    }


def has_token(request: Request, token: str | None) -> bool:
    """Return whether the request carries the token; None asks for none."""
    if token is None:
        return True
    auth = request.authorization
    given = {"bearer": auth.token, "basic": auth.password}.get(auth.type) if auth else None
    return hmac.compare_digest((given or "").encode("utf-8", "replace"), token.encode())


def check_token(request: Request, token: str | None) -> None:
    """Raise `RequestError` (401) unless the request carries the token; None asks for none."""
    if not has_token(request, token):
        expected = "Bearer and the server's token, or Basic with it as the password"
        raise RequestError(401, "the token is missing or wrong", "header Authorization", expected)


def prefers_html(request: Request) -> bool:
    """Return whether the client would rather have a page than JSON, as browsers do."""
    return request.accept_mimetypes.best_match(PAGE_OR_JSON) == "text/html"


def error_response(error: RequestError) -> Response:
    """Return the one form of all errors."""
    response = as_json(error.as_json(), error.status)
    if error.status == 401:
        response.headers.extend([("WWW-Authenticate", way) for way in CHALLENGES])
    return response


def as_json(value: Any, status: int = 200) -> Response:
    """Return a response of JSON."""
    if isinstance(value, BaseModel):
        return Response(value.model_dump_json(), status, mimetype="application/json")
    # a tenth of the time of Python's own; numbers read back are the same to the last bit
    data = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(data, status, mimetype="application/json")
