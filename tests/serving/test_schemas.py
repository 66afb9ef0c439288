"""What a request may hold, what is refused, where and with which status; and the document of it.

Schemathesis makes requests up from `/openapi.json` and finds no fault in it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import schemathesis
from flask import Flask, Request
from flask.testing import FlaskClient
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from support.serving import BAD_TEXT, GOOD_TEXT, UNKNOWN_TEXT, running_app
from werkzeug.test import EnvironBuilder

from sentiment.data.labels import GUIDES, LabelRule
from sentiment.serving.config import Limits
from sentiment.serving.schemas import RequestChecks, RequestError, read_json
from sentiment.tracking.store import Store

LIMITS = Limits(max_body=1_000, max_texts=3, max_characters=20)
CHECKS = RequestChecks(LIMITS)
TOKEN = "a-token-of-the-test"
pytestmark = pytest.mark.xdist_group("serving")
REQUEST_ID = "0123456789abcdef" * 2


def request(body: bytes, content_type: str | None = "application/json", **headers: str) -> Request:
    builder = EnvironBuilder(
        method="POST",
        input_stream=BytesIO(body),
        content_type=content_type,
        headers=list(headers.items()),
    )
    builder.content_length = len(body)
    made = Request(builder.get_environ())
    made.max_content_length = LIMITS.max_body
    return made


def refused(body: bytes, content_type: str | None = "application/json", **headers: str) -> Any:
    with pytest.raises(RequestError) as caught:
        read_json(request(body, content_type, **headers), LIMITS)
    assert all(caught.value.as_json().values()), "every part of an error says something"
    return caught.value


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"text": "good"}', {"text": "good"}),
        (b' {"a": [1, 2.5, null, true]} \n', {"a": [1, 2.5, None, True]}),
        ("\ufeff{}".encode(), {}),
        ('{"text": "très 😀"}'.encode(), {"text": "très 😀"}),
        (b'{"text": "\\ud83d\\ude00"}', {"text": "😀"}),
    ],
)
def test_a_json_object_is_read(body: bytes, value: dict[str, Any]) -> None:
    assert read_json(request(body, "Application/JSON; charset=utf-8"), LIMITS) == value


@pytest.mark.parametrize(
    ("body", "where", "error"),
    [
        (b"", "body", "empty"),
        (b" \n", "body", "empty"),
        (b"{", "line 1, column 2", "not JSON"),
        (b'{"text": "a"} x', "line 1, column 15", "not JSON"),
        (b'{"text":\n "a" "b"}', "line 2, column 6", "not JSON"),
        (b"\xff\xfe\x00", "byte 0", "not UTF-8"),
        (b'{"text": "\xc3("}', "byte 10", "not UTF-8"),
        *[(body, "body", "no object") for body in (b"[]", b'"text"', b"null", b"12", b"false")],
        (b'{"a": NaN}', "body", "NaN"),
        (b'{"a": -Infinity}', "body", "-Infinity"),
        (b'{"text": "a", "text": "b"}', "body", "twice"),
        (b'{"a": {"b": 1, "b": 1}}', "body", "twice"),
        (b'{"a": "tab\there"}', "line 1, column 11", "not JSON"),
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes, where: str, error: str) -> None:
    caught = refused(body)
    assert (caught.status, caught.where) == (400, where)
    assert error in caught.error


def test_deep_nesting_and_endless_numbers_are_refused() -> None:
    deep = Limits(max_body=10**7)
    for body in (
        b"[" * 500_000,
        b'{"a":' * 300_000,
        b"9" * 5_000,
        b'{"a": -' + b"1" * 9_999 + b"}",
    ):
        made = request(body)
        made.max_content_length = deep.max_body
        with pytest.raises(RequestError) as caught:
            read_json(made, deep)
        assert caught.value.status == 400


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/jsonx"])
def test_another_type_is_refused(content_type: str | None) -> None:
    caught = refused(b"{}", content_type)
    assert (caught.status, caught.where) == (415, "header Content-Type")
    caught = refused(b"\x1f\x8b", **{"Content-Encoding": "gzip"})
    assert (caught.status, caught.where) == (415, "header Content-Encoding")


def test_a_body_may_have_as_many_bytes_as_the_limit_says_and_no_more() -> None:
    padding = LIMITS.max_body - len(b'{"a": ""}')
    assert read_json(request(b'{"a": "' + b"x" * padding + b'"}'), LIMITS)
    caught = refused(b'{"a": "' + b"x" * (padding + 1) + b'"}')
    assert (caught.status, caught.where) == (413, "body")
    assert "1,000" in caught.expected


@pytest.mark.parametrize("raised", [ConnectionResetError, OSError])
def test_a_body_that_does_not_arrive_is_refused(raised: type[OSError]) -> None:
    class Broken(BytesIO):
        def read(self, *_: Any) -> bytes:
            raise raised("as the socket says it")

        def readinto(self, _: Any) -> int:
            raise raised("as the socket says it")

    made = request(b"{}")
    made.environ["wsgi.input"] = Broken()
    with pytest.raises(RequestError) as caught:
        read_json(made, LIMITS)
    assert caught.value.status == 400


# --- POST /predict ---------------------------------------------------------------------------


def test_one_text_and_many_are_taken_as_they_came() -> None:
    one = CHECKS.predict({"text": "  good\tbox "})
    assert (one.reviews, one.user_id, one.explain) == (["  good\tbox "], "", False)
    many = CHECKS.predict({"texts": ["a", "b"], "user_id": "é" * 200, "explain": True})
    assert (many.reviews, many.user_id, many.explain) == (["a", "b"], "é" * 200, True)


BLANKS = (" \t\n\u00a0\u3000", None, 5, ["a"], "a\0b", "a\ud800")
LISTS: tuple[Any, ...] = ([], "abc", {"0": "a"})
USERS = ("", "u" * 201, None, 7, "\ud83d", "a\0")


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({}, 400, "body"),
        ({"text": "a", "texts": ["a"]}, 400, "body"),
        *[({"text": "a", key: "a"}, 400, "body") for key in ("Text", "x" * 10_000, "\ud800")],
        *[({"text": text}, 400, "text") for text in ("", *BLANKS)],
        *[({"text": text * 21}, 422, "text") for text in ("x", " ")],
        *[({"texts": texts}, 400, "texts") for texts in LISTS],
        ({"texts": ["a"] * 4}, 422, "texts"),
        ({"texts": ["a", "b", ""]}, 400, "texts[2]"),
        *[({"texts": ["a", text]}, 400, "texts[1]") for text in BLANKS],
        ({"texts": ["a", "x" * 21]}, 422, "texts[1]"),
        *[({"text": "a", "user_id": user}, 400, "user_id") for user in USERS],
        *[({"text": "a", "explain": value}, 400, "explain") for value in (None, 1, "true")],
    ],
)
def test_a_prediction_is_refused(body: dict[str, Any], status: int, where: str) -> None:
    with pytest.raises(RequestError) as caught:
        CHECKS.predict(body)
    assert (caught.value.status, caught.value.where) == (status, where)
    said = json.dumps(caught.value.as_json())
    assert len(said) < 400, "an error does not repeat what a client sent at length"


def test_limits_are_met_exactly() -> None:
    texts = ["x" * 20] * LIMITS.max_texts
    assert CHECKS.predict({"texts": texts}).reviews == texts
    assert CHECKS.text("x" * 20, "text") == "x" * 20


# --- POST /feedback --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "label", "rating"),
    [
        ({"label": "positive"}, 1, None),
        ({"label": "negative"}, 0, None),
        *[({"rating": rating}, int(rating >= 3), rating) for rating in (1, 2, 3, 4, 5)],
    ],
)
def test_feedback_is_a_label_or_a_rating(
    given: dict[str, Any], label: int, rating: int | None
) -> None:
    found = CHECKS.feedback({"request_id": REQUEST_ID, **given})
    assert (found.position, found.true_label(GUIDES), found.rating or None) == (0, label, rating)
    # JSON knows one kind of number; some languages write 7.0 for 7
    found = CHECKS.feedback({"request_id": REQUEST_ID, "position": 7.0, **given})
    assert repr(found.position) == "7"


def test_stars_count_by_the_rule_of_the_version() -> None:
    three = CHECKS.feedback({"request_id": REQUEST_ID, "rating": 3})
    assert three.true_label(LabelRule(negative_up_to=3)) == 0
    with pytest.raises(RequestError) as caught:
        three.true_label(LabelRule(drop_neutral=True))
    assert caught.value.status == 400 and "1–2 negative, 4–5 positive" in caught.value.expected
    label = CHECKS.feedback({"request_id": REQUEST_ID, "label": "negative"})
    assert label.true_label(LabelRule(drop_neutral=True)) == 0


IDS = (None, "", REQUEST_ID.upper(), REQUEST_ID + "\n")
RATINGS = (0, 6, 3.5, math.inf, -math.inf, True, "5")


@pytest.mark.parametrize(
    ("body", "where"),
    [
        *[({"request_id": value, "rating": 5}, "request_id") for value in IDS],
        ({}, "body"),
        ({"label": "positive", "rating": 5}, "body"),
        ({"label": "positive", "why": "so"}, "body"),
        *[({"label": value}, "label") for value in ("Positive", 1, ["positive"], None)],
        *[({"rating": value}, "rating") for value in RATINGS],
        *[
            ({"rating": 5, "position": value}, "position")
            for value in (-1, 2**31, "0", False, 0.5, 1e300)
        ],
    ],
)
def test_feedback_is_refused(body: dict[str, Any], where: str) -> None:
    with pytest.raises(RequestError) as caught:
        CHECKS.feedback({"request_id": REQUEST_ID, **body})
    assert (caught.value.status, caught.value.where) == (400, where)


def test_feedback_names_its_answer() -> None:
    with pytest.raises(RequestError) as caught:
        CHECKS.feedback({"rating": 5})
    assert (caught.value.status, caught.value.where) == (400, "request_id")


# --- the OpenAPI document --------------------------------------------------------------------


@pytest.fixture(scope="module")
def app(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """Two versions, one of them the challenger, small limits and a token."""
    limits = Limits(max_body=50_000, max_texts=20, max_characters=300)
    settings = {"limits": limits, "ab": ("challenger", 0.5), "token": TOKEN}
    with running_app(store, tmp_path_factory.mktemp("log"), **settings) as app:
        yield app


@pytest.fixture(scope="module")
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="module")
def document(client: FlaskClient) -> dict[str, Any]:
    return dict(client.get("/openapi.json").get_json())


def check(document: dict[str, Any], path: str, response: Any) -> None:
    """Hold a JSON response against its schema, with what that refers to."""
    operation = document["paths"][path][response.request.method.lower()]
    content = operation["responses"][str(response.status_code)]["content"]
    schema = {**content["application/json"]["schema"], "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(response.get_json())


def test_every_reference_leads_somewhere_and_every_schema_is_one(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    named = set(re.findall(r"'#/components/schemas/(\w+)'", str(document)))
    assert named == set(schemas)
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_limits_and_the_token_are_the_servers(
    document: dict[str, Any], start: Callable[..., FlaskClient]
) -> None:
    unguarded = start().get("/openapi.json").get_json()
    for described, texts, characters in ((document, 20, 300), (unguarded, 10_000, 20_000)):
        properties = described["components"]["schemas"]["PredictRequest"]["properties"]
        assert properties["texts"]["maxItems"] == texts
        assert properties["text"]["maxLength"] == characters
        assert properties["texts"]["items"]["maxLength"] == characters
    for path, method in (
        *(("/feedback", "post"), ("/ab", "get"), ("/drift", "get")),
        *(("/model", "get"), ("/metrics", "get")),
    ):
        guarded, open_ = (each["paths"][path][method] for each in (document, unguarded))
        assert guarded["security"] == [{"bearer": []}, {"basic": []}]
        assert "401" in guarded["responses"]
        assert open_["security"] == [] and "401" not in open_["responses"]


def test_answers_are_as_described(client: FlaskClient, document: dict[str, Any]) -> None:
    texts = [GOOD_TEXT, BAD_TEXT, UNKNOWN_TEXT]
    answer = client.post("/predict", json={"texts": texts, "user_id": "somebody"})
    check(document, "/predict", answer)
    check(document, "/predict", client.post("/predict", json={"text": "good", "explain": True}))
    asked = {"request_id": answer.get_json()["request_id"], "rating": 1}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    check(document, "/feedback", client.post("/feedback", json=asked, headers=headers))
    for path in ("/health", "/model"):
        check(document, path, client.get(path, headers=headers))
    check(document, "/health", client.get("/health"))
    check(document, "/ab", client.get("/ab", headers=headers))


@pytest.mark.slow
def test_schemathesis_finds_no_fault(app: Flask) -> None:
    """Requests made up from the document, valid and not, with all of schemathesis' checks but one.

    It cannot repeat a request without the token in process; `test_api.py` does that.
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
