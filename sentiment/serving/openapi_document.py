"""OpenAPI document: what `/openapi.json` says of the API, held to the code by the tests.

The limits in it are those the server was started with.
"""

from __future__ import annotations

from sentiment.serving.openapi_schemas import Json, api_schemas, ref
from sentiment.serving.schemas import Limits

OPENAPI = "3.1.0"
API_VERSION = "1.0.0"
PROBLEMS = {
    400: "The request is not as it should be",
    401: "The token is missing or wrong",
    404: "There is no such thing",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body is not plain JSON",
    422: "Too many reviews, or one is too long",
    503: "Nothing answers just now; try again later",
}
BODY_PROBLEMS = (400, 408, 413, 415)


def openapi_document(limits: Limits, *, token: bool) -> Json:
    """The document, OpenAPI 3.1. `token` is whether `/feedback` and `/ab` ask for one."""
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "Sentiment of product reviews",
            "version": API_VERSION,
            "description": "Labels reviews as positive or negative with the version of "
            "FlipkartSentimentModel that is in production.",
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/predict": {"post": _predict()},
            "/feedback": {"post": _feedback(token)},
            "/health": {"get": _health()},
            "/model": {"get": _model()},
            "/ab": {"get": _ab(token)},
            "/drift": {"get": _drift(token)},
            "/metrics": {"get": _metrics()},
            "/openapi.json": {"get": _document()},
        },
        "components": {
            "schemas": api_schemas(limits),
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


def _predict() -> Json:
    return {
        "operationId": "predict",
        "summary": "Label one review or many",
        "requestBody": _json_body("PredictRequest"),
        "responses": _responses("PredictResponse", "One prediction a review, in order")
        | _problems(*BODY_PROBLEMS, 422, 503),
    }


def _feedback(token: bool) -> Json:
    return {
        "operationId": "feedback",
        "summary": "Say what a review that was answered really is; a later word replaces it",
        "security": _security(token),
        "requestBody": _json_body("FeedbackRequest"),
        "responses": _responses("FeedbackResponse", "Kept")
        | _problems(*BODY_PROBLEMS, *([401] if token else []), 404, 503),
    }


def _health() -> Json:
    return {
        "operationId": "health",
        "summary": "Whether a model answers, and what is wrong if anything is",
        "responses": {
            "200": _content("Health", "A model answers"),
            "503": _content("Health", "No model answers"),
        },
    }


def _model() -> Json:
    return {
        "operationId": "model",
        "summary": "The versions that answer",
        "responses": _responses("Model", "What is served now") | _problems(503),
    }


def _ab(token: bool) -> Json:
    page = {"text/html": {"schema": {"type": "string"}}}
    found = _content("Comparison", "The running comparison; a page for browsers")
    return {
        "operationId": "ab",
        "summary": "The champion against the challenger, so far",
        "security": _security(token),
        "responses": {"200": {**found, "content": found["content"] | page}}
        | _problems(*([401] if token else []), 404, 503),
    }


def _drift(token: bool) -> Json:
    kinds = {"application/json": {"type": "object"}, "text/html": {"type": "string"}}
    content = {kind: {"schema": schema} for kind, schema in kinds.items()}
    return {
        "operationId": "drift",
        "summary": "The last drift check of this store",
        "security": _security(token),
        "responses": {"200": {"description": "The report; a page for browsers", "content": content}}
        | _problems(*([401] if token else []), 404),
    }


def _metrics() -> Json:
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "operationId": "metrics",
        "summary": "Metrics in Prometheus' text format",
        "responses": {"200": {"description": "All worker processes together", "content": text}},
    }


def _document() -> Json:
    document = {"application/json": {"schema": {"type": "object"}}}
    return {
        "operationId": "openapi",
        "summary": "This document",
        "responses": {"200": {"description": "OpenAPI 3.1", "content": document}},
    }


def _json_body(name: str) -> Json:
    return {"required": True, "content": {"application/json": {"schema": ref(name)}}}


def _content(name: str, description: str) -> Json:
    return {
        "description": description,
        "content": {"application/json": {"schema": ref(name)}},
    }


def _responses(name: str, description: str) -> Json:
    return {"200": _content(name, description)}


def _problems(*statuses: int) -> Json:
    return {str(status): _content("Error", PROBLEMS[status]) for status in sorted(statuses)}


def _security(token: bool) -> list[Json]:
    return [{"bearer": []}, {"basic": []}] if token else []
