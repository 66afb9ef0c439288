"""OpenAPI document: valid, the whole of the API, and true: schemathesis finds no fault in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from support.serving import BAD_TEXT, GOOD_TEXT, UNKNOWN_TEXT, shared_store

from sentiment.serving.app import API_ROUTES, create_app
from sentiment.serving.openapi_document import openapi_document
from sentiment.serving.schemas import Limits

pytestmark = pytest.mark.xdist_group("serving")
LIMITS = Limits(max_body=50_000, max_texts=20, max_characters=300)
TOKEN = "a-token-of-the-test"
METHODS = {"get", "post"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """Two versions, one of them the challenger, and a token."""
    made = create_app(
        {
            "store": str(shared_store(tmp_path_factory).folder),
            "log_url": f"sqlite:///{tmp_path_factory.mktemp('log') / 'log.db'}",
            "limits": LIMITS,
            "ab": ("challenger", 0.5),
            "token": TOKEN,
        }
    )
    yield made
    made.extensions["serving"].close()


@pytest.fixture(scope="module")
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="module")
def document(client: FlaskClient) -> dict[str, Any]:
    return dict(client.get("/openapi.json").get_json())


def response_schema(document: dict[str, Any], path: str, method: str, status: int) -> Any:
    """The schema of a JSON response, with what it refers to."""
    found = document["paths"][path][method]["responses"][str(status)]
    schema = found["content"]["application/json"]["schema"]
    return {**schema, "components": document["components"]}


def check(document: dict[str, Any], path: str, response: Any) -> None:
    method = response.request.method.lower()
    schema = response_schema(document, path, method, response.status_code)
    jsonschema.Draft202012Validator(schema).validate(response.get_json())


def test_it_names_every_route_and_no_other(app: Flask, document: dict[str, Any]) -> None:
    routes = {
        rule.rule: {method.lower() for method in rule.methods or ()} & METHODS
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("api.")
    }
    described = {path: set(operations) for path, operations in document["paths"].items()}
    assert described == routes
    assert set(described) == set(API_ROUTES)


def test_every_reference_leads_somewhere_and_every_schema_is_one(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    named = set(re.findall(r"'#/components/schemas/(\w+)'", str(document)))
    assert named == set(schemas)
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_limits_and_the_token_are_the_servers() -> None:
    limits = Limits(max_texts=7, max_characters=11)
    guarded, open_ = (openapi_document(limits, token=token) for token in (True, False))
    properties = guarded["components"]["schemas"]["PredictRequest"]["properties"]
    assert properties["texts"]["maxItems"] == 7
    assert properties["text"]["maxLength"] == properties["texts"]["items"]["maxLength"] == 11
    for path, method in (("/feedback", "post"), ("/ab", "get")):
        assert guarded["paths"][path][method]["security"] == [{"bearer": []}, {"basic": []}]
        assert "401" in guarded["paths"][path][method]["responses"]
        assert open_["paths"][path][method]["security"] == []
        assert "401" not in open_["paths"][path][method]["responses"]


def test_answers_are_as_described(client: FlaskClient, document: dict[str, Any]) -> None:
    texts = [GOOD_TEXT, BAD_TEXT, UNKNOWN_TEXT]
    answer = client.post("/predict", json={"texts": texts, "user_id": "somebody"})
    check(document, "/predict", answer)
    check(document, "/predict", client.post("/predict", json={"text": "good", "explain": False}))
    asked = {"request_id": answer.get_json()["request_id"], "rating": 1}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    check(document, "/feedback", client.post("/feedback", json=asked, headers=headers))
    for path in ("/health", "/model"):
        check(document, path, client.get(path))
    check(document, "/ab", client.get("/ab", headers=headers))


def test_errors_are_as_described(client: FlaskClient, document: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    unknown = {"request_id": "0" * 32, "rating": 1}
    for response, path in (
        (client.post("/predict", json={}), "/predict"),
        (client.post("/predict", data=b"{}"), "/predict"),
        (client.post("/predict", json={"texts": ["good"] * 21}), "/predict"),
        (client.post("/feedback", json=unknown), "/feedback"),
        (client.post("/feedback", json=unknown, headers=headers), "/feedback"),
    ):
        assert response.status_code in (400, 401, 404, 415, 422)
        check(document, path, response)


@pytest.mark.slow
def test_schemathesis_finds_no_fault(app: Flask) -> None:
    """Requests made up from the document, valid and not, with all of schemathesis' checks but one.

    It cannot repeat a request without the token in process; `test_web_api.py` does that.
    """
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    schema.config.seed = 42
    schema.config.headers = {"Authorization": f"Bearer {TOKEN}"}
    schema.config.generation.max_examples = 30
    schema.config.checks.ignored_auth.enabled = False
    tried, faults = dict[str, int](), list[str]()
    for event in from_schema(schema).execute():
        if isinstance(event, ScenarioFinished):
            tried[event.recorder.label] = tried.get(event.recorder.label, 0) + len(
                event.recorder.cases
            )
            faults += [
                f"{event.recorder.label}: {check.failure_info.failure}"
                for checks in event.recorder.checks.values()
                for check in checks
                if check.failure_info is not None
            ]
        elif isinstance(event, NonFatalError | FatalError):
            faults.append(str(event))
    assert not faults
    operations = {"POST /predict", "POST /feedback", "GET /health", "GET /model", "GET /ab"}
    assert operations <= set(tried)
    assert min(tried["POST /predict"], tried["POST /feedback"]) > 50
