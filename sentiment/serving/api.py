"""Web API: the JSON routes, as `/openapi.json` describes them."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Blueprint, Request, Response, request
from werkzeug.datastructures import Authorization

from sentiment.ab.comparison import CHALLENGER
from sentiment.data.reviews import CLASS_NAMES
from sentiment.model.predictor import LoadedVersion, Prediction
from sentiment.serving.ab_results import ComparisonReader, RunningComparison
from sentiment.serving.metrics import CONTENT_TYPE, ServingMetrics
from sentiment.serving.openapi_document import openapi_document
from sentiment.serving.schemas import Limits, RequestError, check_feedback, check_predict, read_json
from sentiment.serving.service import Answer, AnsweringService, unit_of

# Both ways of giving the token: programs send it as a bearer's, a browser asks for a password
CHALLENGES = ('Bearer realm="sentiment"', 'Basic realm="sentiment", charset="UTF-8"')
NO_CHECK = "a check by `python drift_monitor.py`, or by the scheduled flow"
# the page of a drift check carries its style and its pictures in itself
DRIFT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
NO_EXPERIMENT = "a server started with --ab challenger=0.2 or --shadow challenger"


@dataclass(frozen=True)
class Api:
    """What the routes need: who answers, what is counted, what is allowed."""

    service: AnsweringService
    metrics: ServingMetrics
    comparison: ComparisonReader
    limits: Limits
    token: str | None
    render: Callable[[RunningComparison], str]  # the comparison as a page
    drift: Path  # folder of the last drift check, as latest.html and latest.json


def create_api(api: Api) -> Blueprint:
    """The blueprint with all JSON routes and `/metrics`."""
    blueprint = Blueprint("api", __name__)
    document = _json(openapi_document(api.limits, token=api.token is not None)).get_data()

    @blueprint.post("/predict")
    def predict() -> Response:
        asked = check_predict(read_json(request, api.limits), api.limits)
        unit = None if asked.user_id is None else unit_of(asked.user_id)
        answer = api.service.answer(asked.texts, unit, asked.explain)
        return _json(answer_as_json(answer, explain=asked.explain))

    @blueprint.post("/feedback")
    def feedback() -> Response:
        check_token(request, api.token)
        given = check_feedback(read_json(request, api.limits))
        known = api.service.add_feedback(
            given.request_id, given.position, given.label, given.rating
        )
        if not known:
            raise RequestError(
                404,
                "no such review was answered here",
                "request_id and position",
                "the request_id of an answer and the place of a review in it",
            )
        return _json(
            {
                "request_id": given.request_id,
                "position": given.position,
                "label": CLASS_NAMES[given.label],
            }
        )

    @blueprint.get("/health")
    def health() -> Response:
        watcher, writer = api.service.watcher, api.service.writer
        arms = watcher.arms
        state = {
            "status": "not ready" if arms is None else "ok",
            "version": None if arms is None else arms.champion.version,
            "problem": watcher.problem,
            "log": {
                "queued": writer.queued,
                "dropped": writer.dropped,
                "failed": writer.failed,
            },
        }
        return _json(state, 503 if arms is None else 200)

    @blueprint.get("/model")
    def model() -> Response:
        arms = api.service.arms()
        challenger = arms.challenger
        return _json(
            {
                "champion": version_as_json(arms.champion),
                CHALLENGER: None if challenger is None else version_as_json(challenger),
                "experiment": arms.experiment or None,
            }
        )

    @blueprint.get("/ab")
    def ab() -> Response:
        check_token(request, api.token)
        running = api.comparison.read(api.service.arms())
        if running is None:
            raise RequestError(404, "no comparison runs", "/ab", NO_EXPERIMENT)
        if prefers_html(request):
            return Response(api.render(running), mimetype="text/html")
        return _json(running.as_dict())

    @blueprint.get("/drift")
    def drift() -> Response:
        check_token(request, api.token)
        page = prefers_html(request)
        try:
            report = (api.drift / ("latest.html" if page else "latest.json")).read_bytes()
        except OSError:
            raise RequestError(404, "no drift check was made here", "/drift", NO_CHECK) from None
        if not page:
            return Response(report, mimetype="application/json")
        return Response(
            report, mimetype="text/html", headers={"Content-Security-Policy": DRIFT_POLICY}
        )

    @blueprint.get("/metrics")
    def metrics() -> Response:
        return Response(api.metrics.as_text(), content_type=CONTENT_TYPE)

    @blueprint.get("/openapi.json")
    def openapi() -> Response:
        return Response(document, mimetype="application/json")

    return blueprint


def answer_as_json(answer: Answer, *, explain: bool) -> dict[str, Any]:
    """An answer as the API gives it; `words` are left out without `explain`."""
    version = answer.version
    return {
        "request_id": answer.request_id,
        "arm": answer.arm,
        "version": version.version,
        "algorithm": version.algorithm,
        "threshold": version.threshold,
        "intercept": version.intercept,
        "prior": version.prior,
        "predictions": [_prediction(prediction, explain) for prediction in answer.predictions],
    }


def version_as_json(version: LoadedVersion) -> dict[str, Any]:
    """What `/model` says of a version."""
    return {
        "version": version.version,
        "algorithm": version.algorithm,
        "since": None if version.since is None else version.since.isoformat(),
        "scores": version.scores,
        "data_digest": version.data_digest,
        "cleaning_fingerprint": version.cleaning_fingerprint,
        "training_fingerprint": version.training_fingerprint,
        "run_id": version.run_id,
        "threshold": version.threshold,
        "intercept": version.intercept,
        "prior": version.prior,
    }


def check_token(request: Request, token: str | None) -> None:
    """Raise `RequestError` (401) unless the request carries the token; None asks for none."""
    if token is None:
        return
    given = _given_token(request.authorization)
    if not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
        raise RequestError(
            401,
            "the token is missing or wrong",
            "header Authorization",
            "Bearer and the server's token, or Basic with it as the password",
        )


def prefers_html(request: Request) -> bool:
    """Whether the client would rather have a page than JSON, as browsers do."""
    kinds = ["application/json", "text/html"]
    return request.accept_mimetypes.best_match(kinds) == "text/html"


def error_response(error: RequestError) -> Response:
    """The one form of all errors."""
    response = _json(error.as_json(), error.status)
    if error.status == 401:
        response.headers.extend([("WWW-Authenticate", way) for way in CHALLENGES])
    return response


def _prediction(prediction: Prediction, explain: bool) -> dict[str, Any]:
    label = prediction.label
    found: dict[str, Any] = {
        "label": None if label is None else CLASS_NAMES[label],
        "probability": prediction.probability,
        "decision": prediction.decision,
        "known_words": prediction.known_words,
        "words_total": prediction.words,
        "reason": prediction.reason,
    }
    if explain:
        found["words"] = [
            {"term": word.term, "weight": word.weight, "at": word.at}
            for word in prediction.contributions
        ]
    return found


def _given_token(authorization: Authorization | None) -> str:
    if authorization is None or authorization.type not in ("bearer", "basic"):
        return ""
    given = authorization.password if authorization.type == "basic" else authorization.token
    return given or ""


def _json(value: Mapping[str, Any], status: int = 200) -> Response:
    return Response(_ENCODER.encode(value), status, mimetype="application/json")


# Numbers as Python writes them: read back, they are the same to the last bit
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
