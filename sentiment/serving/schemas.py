"""Define what the API takes and gives; requests are checked and described by the same models.

    checks = RequestChecks(limits)
    asked = checks.predict(read_json(request, limits))      # or a RequestError
    api_schemas(checks)                                     # what /openapi.json says of both

Nothing is repaired and no unknown key is ignored: a key that is misspelt would otherwise be
answered as if it had not been there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NoReturn,
    NotRequired,
    Self,
    TypeAlias,
    TypeVar,
)

from flask import Request
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError, core_schema
from typing_extensions import TypedDict  # pydantic reads no other before Python 3.12
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from sentiment.ab.comparison import ARMS
from sentiment.data.labels import CLASS_NAMES, LabelRule
from sentiment.model.predictor import NO_KNOWN_WORDS
from sentiment.serving.config import Limits

if TYPE_CHECKING:  # mypy takes no tuple of names
    ClassName: TypeAlias = str
    ArmName: TypeAlias = str
    Reason: TypeAlias = str
else:
    ClassName, ArmName, Reason = Literal[CLASS_NAMES], Literal[ARMS], Literal[NO_KNOWN_WORDS]

Json = dict[str, Any]
T = TypeVar("T")

MAX_USER_ID = 200  # characters; longer than any id that a shop gives
SHOWN = 40  # characters of a client's own words that an error repeats
TOO_LONG = "is too long"
FAULTS = {  # by pydantic's name of the error
    **{"missing": "is missing", "too_short": "is empty", "string_too_short": "is empty"},
    **{"too_long": TOO_LONG, "string_too_long": TOO_LONG},
}
REF = "#/components/schemas/{model}"


class RequestError(Exception):
    """The request is refused: an HTTP status of 4xx or 503, and the three parts of the error."""

    def __init__(self, status: int, error: str, where: str, expected: str) -> None:
        super().__init__(f"{where}: {error}; expected {expected}")
        self.status, self.error, self.where, self.expected = status, error, where, expected

    def as_json(self) -> dict[str, str]:
        """Return the body of the response, an `Error`."""
        return {"error": self.error, "where": self.where, "expected": self.expected}


# --- requests --------------------------------------------------------------------------------


def _whole(value: object) -> object:
    """Return 5 for 5.0: JSON has one kind of number, and some languages write it so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# At least one character that is not white space, and no NUL, which databases do not store
Text = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
RequestId = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
UserId = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_USER_ID, pattern=r"^[^\u0000]*$")
]
WholeNumber = Annotated[int, BeforeValidator(_whole)]


class RequestBody(BaseModel):
    """A JSON object in which exactly one of two keys is given; the other stays empty."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra=lambda schema, model: schema.update(
            oneOf=[{"required": [name]} for name in model.alternatives]
        ),
    )
    alternatives: ClassVar[tuple[str, str]]
    example: ClassVar[Json]

    @model_validator(mode="after")
    def _check_alternatives(self) -> Self:
        given = self.model_fields_set.intersection(self.alternatives)
        if len(given) != 1:
            names = " and ".join(self.alternatives)
            message = f"both {names} are given" if given else f"one of {names} is needed"
            raise PydanticCustomError("alternatives", "{message}", {"message": message})
        return self


class PredictRequest(RequestBody):
    """The body of `POST /predict`."""

    alternatives = ("text", "texts")
    example: ClassVar[Json] = {"text": "Not good, broke after one game", "explain": True}
    # `default_factory` keeps an empty default, which no request may hold, out of the document
    text: Text = Field(default_factory=str, description="A review as it was written")
    texts: Annotated[list[Text], Field(min_length=1), FailFast()] = Field(default_factory=list)
    user_id: UserId = Field(
        default_factory=str,
        description="Keeps a user with one arm of a comparison; only a digest of it is kept.",
    )
    explain: bool = Field(False, description="Whether each prediction names the deciding words")

    @property
    def reviews(self) -> list[str]:
        """Return the one review or the many, as they came."""
        return self.texts or [self.text]


class FeedbackRequest(RequestBody):
    """The body of `POST /feedback`."""

    alternatives = ("label", "rating")
    example: ClassVar[Json] = {
        "request_id": "019f0c5e7a3b4c5d6e7f8091a2b3c4d5",
        "label": "negative",
    }
    request_id: RequestId
    position: WholeNumber = Field(
        default=0, ge=0, lt=2**31, description="Place of the review in its request, from 0"
    )
    label: ClassName = Field(default_factory=str)
    rating: WholeNumber = Field(
        default_factory=int,
        ge=1,
        le=5,
        description="Stars; label_rule of /model says which are negative",
    )

    def true_label(self, rule: LabelRule) -> int:
        """Return 0 for negative, 1 for positive; ratings count by the version's rule.

        Raises `RequestError` (400) for stars that are neither.
        """
        if self.label:
            return CLASS_NAMES.index(self.label)
        label = rule.label_of(self.rating)
        if label is None:
            fault = f"{self.rating} stars are neither negative nor positive here"
            raise RequestError(400, fault, "rating", f"a label, or stars: {rule}")
        return label


class RequestChecks:
    """The checks of requests under the limits of one server; each raises `RequestError`."""

    def __init__(self, limits: Limits) -> None:
        longest, most = limits.max_characters, limits.max_texts
        text: Any = Annotated[Text, Field(strict=True, max_length=longest)]
        texts: Any = Annotated[list[text], Field(min_length=1, max_length=most), FailFast()]
        self.limits = limits
        self.predict_model = create_model(
            PredictRequest.__name__,
            __base__=PredictRequest,
            text=(text, PredictRequest.model_fields["text"]),
            texts=(texts, PredictRequest.model_fields["texts"]),
        )
        self._text: TypeAdapter[str] = TypeAdapter(text)
        self._expected = {
            "text": f"a review of 1 to {longest:,} characters, not all white space",
            "texts": f"a list of 1 to {most:,} reviews",
            "user_id": f"a string of 1 to {MAX_USER_ID} characters, without NUL",
            "explain": "true or false",
            "request_id": "the request_id of an answer",
            "position": "the place of the review in the request, from 0",
            "label": " or ".join(f'"{name}"' for name in CLASS_NAMES),
            "rating": "a whole number of stars from 1 to 5",
        }

    def predict(self, body: Json) -> PredictRequest:
        """Return a checked `POST /predict`; the status is 400, or 422 where it is too much."""
        return self._checked(self.predict_model.model_validate, body)

    def feedback(self, body: Json) -> FeedbackRequest:
        """Return a checked `POST /feedback`; the status is 400."""
        return self._checked(FeedbackRequest.model_validate, body)

    def text(self, text: str, where: str) -> str:
        """Return one review as it came; `where` is what the error calls it."""
        return self._checked(self._text.validate_python, text, "text", where)

    def _checked(
        self, check: Callable[[Any], T], given: object, key: str = "", where: str = ""
    ) -> T:
        """Return what the check returns. Raises `RequestError` with the first thing it finds."""
        try:
            return check(given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
        kind, at = first["type"], first["loc"]  # such as ("texts", 3), or ("rating",)
        if kind == "extra_forbidden" or not (at or key):
            fault = f"unknown key {str(at[0])[:SHOWN]!a}" if at else first["msg"]
            raise RequestError(400, fault, "body", "keys as /openapi.json names them")
        key = key or str(at[0])
        fault = FAULTS.get(kind, "is not valid")
        if kind == "string_pattern_mismatch" and first["input"].isspace():
            fault = FAULTS["string_too_short"]
        status = 422 if fault == TOO_LONG and key in PredictRequest.alternatives else 400
        where = where or key + "".join(f"[{place}]" for place in at[1:])
        raise RequestError(status, fault, where, self._expected["text" if at[1:] else key])


# --- JSON ------------------------------------------------------------------------------------


def read_json(request: Request, limits: Limits) -> Json:
    """Return the JSON object in the body. Raises `RequestError`: 400, 413 or 415.

    Stricter than `json.loads`, and than pydantic's own reader: a key given twice, NaN and a number
    of thousands of digits are refused.
    """
    if request.mimetype != "application/json":
        header = "header Content-Type"
        raise RequestError(415, "the body has another type", header, "application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        header = "header Content-Encoding"
        raise RequestError(415, "the body is compressed", header, "a plain body")
    try:
        text = _read_body(request, limits).decode("utf-8-sig")
        value = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise RequestError(400, "not UTF-8", f"byte {error.start}", "JSON in UTF-8") from None
    except json.JSONDecodeError as error:
        if not text.strip():
            raise RequestError(400, "the body is empty", "body", "a JSON object") from None
        where = f"line {error.lineno}, column {error.colno}"
        raise RequestError(400, f"not JSON: {error.msg}", where, "a JSON object") from None
    except RecursionError:
        raise RequestError(400, "nested too deeply", "body", "a flat JSON object") from None
    except ValueError:  # Python refuses a whole number of thousands of digits
        raise RequestError(400, "a number is too long", "body", "a JSON object") from None
    if not isinstance(value, dict):
        raise RequestError(400, "the body is no object", "body", "a JSON object")
    return value


def _read_body(request: Request, limits: Limits) -> bytes:
    try:
        return request.get_data(cache=False)
    except RequestEntityTooLarge:
        expected = f"at most {limits.max_body:,} bytes"
        raise RequestError(413, "the body is too large", "body", expected) from None
    except (OSError, ClientDisconnected):
        fault, expected = "the body is not as its headers say", "a whole body, or whole chunks"
        raise RequestError(400, fault, "body", expected) from None


def _object(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RequestError(400, "a key is given twice", "body", "each key once")
    return found


def _constant(name: str) -> NoReturn:
    raise RequestError(400, f"{name} is not JSON", "body", "numbers as JSON has them")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


# --- responses -------------------------------------------------------------------------------
# What /predict answers are plain dictionaries: as models, 5,000 explained reviews would take 0.3 s
# instead of 0.13 s to write.

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
PLACES = (
    "Where it stands in the review: first character and the one after the last, in Unicode "
    "characters from 0"
)


class Word(TypedDict):
    """What a term adds to the decision."""

    term: Annotated[str, Field(description="One word or two, as the model sees them: stems")]
    weight: Annotated[float, Field(description="Added to the decision; negative if below 0")]
    at: Annotated[Sequence[tuple[Count, Count]], Field(description=PLACES)]


class Prediction(TypedDict):
    """What one review gets."""

    label: ClassName | None
    probability: Annotated[Share, Field(description="Of positive; the prior if label is null")]
    decision: Annotated[float, Field(description="intercept plus the weights; positive above 0")]
    known_words: Annotated[Count, Field(description="Words of the review that the model knows")]
    words_total: Annotated[Count, Field(description="Words of the review after cleaning")]
    words: NotRequired[list[Word]]
    reason: Annotated[Reason | None, Field(description="Why label is null")]


class PredictResponse(TypedDict):
    """What `/predict` answers, by one version."""

    request_id: RequestId
    arm: ArmName
    version: Annotated[str, Field(description="Number of the model's version")]
    algorithm: str
    threshold: Annotated[Share, Field(description="label is positive from this probability up")]
    intercept: Annotated[float, Field(description="Decision value of a review before its words")]
    prior: Annotated[Share, Field(description="Share of positive reviews in the training part")]
    predictions: Annotated[list[Prediction], Field(min_length=1)]


class _Response(BaseModel):
    model_config = ConfigDict(from_attributes=True, extra="forbid")


class FeedbackResponse(_Response):
    """What is kept now."""

    request_id: RequestId
    position: Count
    label: ClassName


class LogState(TypedDict):
    """Rows that wait for the prediction log, and those that it lost."""

    queued: Count
    dropped: Count
    failed: Count


class Health(TypedDict):
    """Whether a model answers, and what is wrong; where a token is set, the rest is with it."""

    status: Annotated[str, Field(pattern="^(ok|not ready)$")]
    version: NotRequired[
        Annotated[str | None, Field(description="The version in production that answers")]
    ]
    problem: NotRequired[
        Annotated[
            str | None, Field(description="Why the newest version is not served, if it is not")
        ]
    ]
    log: NotRequired[LogState]


class Version(_Response):
    """A `LoadedVersion`."""

    version: str
    algorithm: str
    since: datetime | None = Field(description="Since when it is in production, in UTC")
    scores: dict[str, float]
    data_digest: str = Field(description="Of the reviews it was trained on")
    cleaning_fingerprint: str = Field(description="Of the cleaning")
    training_fingerprint: str = Field(description="Of data, settings and code; may be empty")
    label_rule: str = Field(description="Which stars or labels it learnt as negative")
    decision_rule: str = Field(description="How the threshold was set")
    run_id: str = Field(description="Its run in MLflow")
    threshold: Share
    intercept: float
    prior: Share


class Model(_Response):
    """The `Arms` that answer."""

    champion: Version
    challenger: Version | None
    experiment: Annotated[str | None, BeforeValidator(lambda name: name or None)] = Field(
        description="The comparison that runs"
    )


class Error(_Response):
    """The one form of all errors."""

    error: str = Field(description="What is wrong")
    where: str
    expected: str = Field(description="What was expected")


# --- the OpenAPI document --------------------------------------------------------------------


def api_schemas(checks: RequestChecks) -> Json:
    """Return the JSON schemas of all models by name, for the document's components."""
    responses = (PredictResponse, FeedbackResponse, Health, Model, Error)
    requests = (checks.predict_model, FeedbackRequest)
    modes: list[tuple[Any, str]] = [(model, "validation") for model in requests]
    modes += [(model, "serialization") for model in responses]
    inputs: Any = [(model.__name__, mode, TypeAdapter(model)) for model, mode in modes]
    _, schemas = TypeAdapter.json_schemas(inputs, ref_template=REF, schema_generator=_Schemas)
    return dict(schemas["$defs"])


def ref(model: type) -> Json:
    """Return a reference to the schema of this model."""
    return {"$ref": REF.format(model=model.__name__)}


class _Schemas(GenerateJsonSchema):
    """Pydantic's JSON schemas, without a title for every field, and closed dictionaries."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False: the names say it."""
        return False

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> Json:
        """Return the schema of a dictionary that has these keys and no others."""
        return super().typed_dict_schema(schema) | {"additionalProperties": False}
