"""Web requests: the checks of what comes in; whatever is wrong ends in one `RequestError`.

Nothing is repaired and nothing unknown is passed over: a key that is spelt wrongly would
otherwise be answered as if it had not been there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from flask import Request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from sentiment.data.reviews import NEGATIVE_UP_TO

MAX_USER_ID = 200  # characters; longer than any id that a shop gives
LABELS = {"negative": 0, "positive": 1}
RATINGS = range(1, 6)
REQUEST_ID = re.compile(r"[0-9a-f]{32}")
SHOWN = 40  # characters of a client's own words that an error repeats


@dataclass(frozen=True)
class Limits:
    """What one request may ask: bytes of the body, texts, characters of a text."""

    max_body: int = 2**20
    max_texts: int = 10_000
    max_characters: int = 20_000  # several times the longest review that a shop takes


class RequestError(ValueError):
    """The request is refused: an HTTP status of 4xx or 503, and the three parts of the error."""

    def __init__(self, status: int, error: str, where: str, expected: str) -> None:
        super().__init__(f"{where}: {error}; expected {expected}")
        self.status, self.error, self.where, self.expected = status, error, where, expected

    def as_json(self) -> dict[str, str]:
        """The body of the response."""
        return {"error": self.error, "where": self.where, "expected": self.expected}


@dataclass(frozen=True)
class PredictRequest:
    """A checked `POST /predict`; `user_id` is None where none was given."""

    texts: list[str]
    user_id: str | None
    explain: bool


@dataclass(frozen=True)
class FeedbackRequest:
    """A checked `POST /feedback`: `label` is 0 or 1, `rating` is None where a label was given."""

    request_id: str
    position: int
    label: int
    rating: int | None


def read_json(request: Request, limits: Limits) -> dict[str, Any]:
    """The JSON object in the body. Raises `RequestError`: 400, 408, 413 or 415."""
    if request.mimetype != "application/json":
        raise RequestError(
            415, "the body has another type", "header Content-Type", "application/json"
        )
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RequestError(
            415, "the body is compressed", "header Content-Encoding", "a plain body, not compressed"
        )
    body = _read_body(request, limits)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(400, "not UTF-8", f"byte {error.start}", "JSON in UTF-8") from None
    if not text.strip():
        raise RequestError(400, "the body is empty", "body", "a JSON object")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise RequestError(400, f"not JSON: {error.msg}", where, "a JSON object") from None
    except RecursionError:
        raise RequestError(400, "nested too deeply", "body", "a flat JSON object") from None
    except _JSONError as error:
        raise RequestError(400, str(error), "body", error.expected) from None
    except ValueError:  # a whole number of thousands of digits
        raise RequestError(400, "a number is too long", "body", "a JSON object") from None
    if not isinstance(value, dict):
        raise RequestError(400, f"the body is {_kind(value)}", "body", "a JSON object")
    return value


def check_predict(body: Mapping[str, Any], limits: Limits) -> PredictRequest:
    """A `POST /predict` from its JSON. Raises `RequestError`: 400, or 422 where it is too much."""
    _check_keys(body, ("text", "texts", "user_id", "explain"))
    if ("text" in body) == ("texts" in body):
        both = "both text and texts are given" if "text" in body else "there is no text"
        raise RequestError(400, both, "body", 'either "text" or "texts"')
    if "text" in body:
        texts = [check_text(body["text"], "text", limits)]
    else:
        texts = check_texts(body["texts"], limits)
    explain = body.get("explain", True)
    if not isinstance(explain, bool):
        raise RequestError(400, f"is {_kind(explain)}", "explain", "true or false")
    user_id = _check_user_id(body["user_id"]) if "user_id" in body else None
    return PredictRequest(texts, user_id, explain)


def check_texts(texts: object, limits: Limits) -> list[str]:
    """The texts of a list, each checked. Raises `RequestError`: 400, or 422 for too many."""
    expected = f"a list of 1 to {limits.max_texts:,} reviews"
    if not isinstance(texts, list):
        raise RequestError(400, f"is {_kind(texts)}", "texts", expected)
    if not texts:
        raise RequestError(400, "is an empty list", "texts", expected)
    if len(texts) > limits.max_texts:
        raise RequestError(422, f"has {len(texts):,} reviews", "texts", expected)
    return [check_text(text, f"texts[{at}]", limits) for at, text in enumerate(texts)]


def check_text(text: object, where: str, limits: Limits) -> str:
    """One review, as it came. Raises `RequestError`: 400, or 422 where it is too long."""
    expected = f"a review of 1 to {limits.max_characters:,} characters, not all white space"
    if not isinstance(text, str):
        raise RequestError(400, f"is {_kind(text)}", where, expected)
    if len(text) > limits.max_characters:
        raise RequestError(422, f"has {len(text):,} characters", where, expected)
    if not text or text.isspace():
        raise RequestError(400, "is empty", where, expected)
    _check_characters(text, where)
    return text


def check_feedback(body: Mapping[str, Any]) -> FeedbackRequest:
    """A `POST /feedback` from its JSON. Raises `RequestError` (400).

    Ratings 1–2 count as negative, 3–5 as positive, as in the training data.
    """
    _check_keys(body, ("request_id", "position", "label", "rating"))
    request_id, position = body.get("request_id"), _whole(body.get("position", 0))
    if not isinstance(request_id, str) or not REQUEST_ID.fullmatch(request_id):
        raise RequestError(400, "is no request id", "request_id", "the request_id of an answer")
    if position is None or not 0 <= position < 2**31:
        raise RequestError(
            400, "is no position", "position", "the place of the review in the request, from 0"
        )
    if ("label" in body) == ("rating" in body):
        raise RequestError(
            400, "one of label and rating is needed", "body", 'either "label" or "rating"'
        )
    if "label" in body:
        label = body["label"]
        if not isinstance(label, str) or label not in LABELS:
            raise RequestError(400, "is no label", "label", '"positive" or "negative"')
        return FeedbackRequest(request_id, position, LABELS[label], None)
    rating = _whole(body["rating"])
    if rating is None or rating not in RATINGS:
        raise RequestError(400, "is no rating", "rating", "a whole number of stars from 1 to 5")
    return FeedbackRequest(request_id, position, int(rating > NEGATIVE_UP_TO), rating)


class _JSONError(ValueError):
    def __init__(self, message: str, expected: str) -> None:
        super().__init__(message)
        self.expected = expected


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _JSONError("a key is given twice", "each key once")
    return found


def _constant(name: str) -> NoReturn:
    raise _JSONError(f"{name} is not JSON", "numbers, strings, lists, objects, true, false, null")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _read_body(request: Request, limits: Limits) -> bytes:
    try:
        return request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise RequestError(
            413, "the body is too large", "body", f"at most {limits.max_body:,} bytes"
        ) from None
    except (OSError, ClientDisconnected) as error:
        cause = error.__context__ if isinstance(error, ClientDisconnected) else error
        if isinstance(cause, (BlockingIOError, TimeoutError)):
            raise RequestError(
                408, "the body did not arrive", "body", "as many bytes as Content-Length says"
            ) from None
        # gunicorn's word for a chunk that is none, too
        raise RequestError(
            400, "the body is not as its headers say", "body", "a whole body, or whole chunks"
        ) from None


def _check_keys(body: Mapping[str, Any], known: Iterable[str]) -> None:
    unknown = [key for key in body if key not in known]
    if unknown:
        shown = ascii(unknown[0][:SHOWN])
        raise RequestError(400, f"unknown key {shown}", "body", f"only {', '.join(known)}")


def _check_user_id(user_id: object) -> str:
    expected = f"a string of 1 to {MAX_USER_ID} characters"
    if not isinstance(user_id, str):
        raise RequestError(400, f"is {_kind(user_id)}", "user_id", expected)
    if not 0 < len(user_id) <= MAX_USER_ID:
        raise RequestError(400, f"has {len(user_id):,} characters", "user_id", expected)
    _check_characters(user_id, "user_id")
    return user_id


def _check_characters(text: str, where: str) -> None:
    """Refuse what no text has: half a surrogate pair, and NUL, which databases do not store."""
    if "\0" in text:
        raise RequestError(400, "has a NUL character", where, "text")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(
                400,
                f"has half a surrogate pair at character {error.start}",
                where,
                "whole Unicode characters",
            ) from None


def _whole(value: object) -> int | None:
    """The value as a whole number, which JSON may write as 5.0; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value // 1 else None


def _kind(value: object) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a string"}
    return kinds.get(type(value), "a list" if isinstance(value, list) else "an object")
