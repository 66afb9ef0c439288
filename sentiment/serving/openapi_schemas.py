"""OpenAPI schemas: the JSON that goes into the API and comes out of it, limits included."""

from __future__ import annotations

from typing import Any

from sentiment.data.reviews import NEGATIVE_UP_TO
from sentiment.serving.schemas import LABELS, MAX_USER_ID, RATINGS, REQUEST_ID, Limits

Json = dict[str, Any]

# At least one character that is not white space, and no NUL
TEXT_PATTERN = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"
NO_NUL_PATTERN = r"^[^\u0000]*$"


def ref(name: str) -> Json:
    """A reference to the schema of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def api_schemas(limits: Limits) -> Json:
    """All schemas by name; the limits are those the server was started with."""
    text = {
        "type": "string",
        "minLength": 1,
        "maxLength": limits.max_characters,
        "pattern": TEXT_PATTERN,
        "description": "A review as it was written: it is cleaned here.",
    }
    one_of_texts = [{"required": ["text"]}, {"required": ["texts"]}]
    one_of_feedback = [{"required": ["label"]}, {"required": ["rating"]}]
    return {
        "PredictRequest": {
            "type": "object",
            "properties": {
                "text": text,
                "texts": _list(text, minItems=1, maxItems=limits.max_texts),
                "user_id": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_USER_ID,
                    "pattern": NO_NUL_PATTERN,
                    "description": "Keeps a user with one arm of a comparison; only a digest of "
                    "it is kept.",
                },
                "explain": {
                    "type": "boolean",
                    "default": True,
                    "description": "Whether each prediction names the words that decided it.",
                },
            },
            "oneOf": one_of_texts,
            "additionalProperties": False,
        },
        "PredictResponse": _object(
            request_id=_REQUEST_ID,
            arm={"enum": ["champion", "challenger"]},
            version=_text("Number of the model's version"),
            algorithm=_text("Its algorithm"),
            threshold=_share("label is positive exactly where probability is at least this"),
            intercept=_number("Decision value of a review before its words"),
            prior=_share("Share of positive reviews in the training part"),
            predictions=_list(ref("Prediction"), minItems=1),
        ),
        "Prediction": {
            **_object(
                optional=("words",),
                label={"enum": ["positive", "negative", None]},
                probability=_share("Of positive; the prior where label is null"),
                decision=_number("intercept plus the weights of words; positive above 0"),
                known_words=_count("Words of the review that the model knows"),
                words_total=_count("Words of the review after cleaning"),
                words=_list(ref("Word")),
                reason={
                    "enum": ["no known words", None],
                    "description": "Why label is null",
                },
            ),
        },
        "Word": _object(
            term=_text("One word or two, as the model sees them: stems"),
            weight=_number("What it adds to the decision value; below 0 towards negative"),
            at=_list(
                {"type": "array", "items": _count(""), "minItems": 2, "maxItems": 2},
                description="Where it stands in the review: first character and the one after "
                "the last, in Unicode characters from 0.",
            ),
        ),
        "FeedbackRequest": {
            "type": "object",
            "properties": {
                "request_id": _REQUEST_ID,
                "position": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": 2**31 - 1,
                    "default": 0,
                    "description": "Place of the review in its request",
                },
                "label": {"enum": list(LABELS)},
                "rating": {
                    "type": "integer",
                    "minimum": RATINGS[0],
                    "maximum": RATINGS[-1],
                    "description": f"Stars; up to {NEGATIVE_UP_TO} count as negative",
                },
            },
            "required": ["request_id"],
            "oneOf": one_of_feedback,
            "additionalProperties": False,
        },
        "FeedbackResponse": _object(
            request_id=_REQUEST_ID, position=_count("As given"), label={"enum": list(LABELS)}
        ),
        "Health": _object(
            status={"enum": ["ok", "not ready"]},
            version=_nullable("string", "The version in production that answers"),
            problem=_nullable("string", "Why the newest version is not served, if it is not"),
            log=_object(queued=_count(""), dropped=_count(""), failed=_count("")),
        ),
        "Model": _object(
            champion=ref("Version"),
            challenger={"oneOf": [ref("Version"), {"type": "null"}]},
            experiment=_nullable("string", "The comparison that runs"),
        ),
        "Version": _object(
            version=_text(""),
            algorithm=_text(""),
            since=_nullable("string", "Since when in production, ISO 8601 in UTC"),
            scores={"type": "object", "additionalProperties": {"type": "number"}},
            data_digest=_text("Of the reviews it was trained on"),
            cleaning_fingerprint=_text("Of the cleaning"),
            training_fingerprint=_text("Of data, configuration and code; may be empty"),
            run_id=_text("Its run in MLflow"),
            threshold=_share(""),
            intercept=_number(""),
            prior=_share(""),
        ),
        "Comparison": {"type": "object"},
        "Error": _object(
            error=_text("What is wrong"), where=_text("Where"), expected=_text("What was expected")
        ),
    }


def _object(*, optional: tuple[str, ...] = (), **properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _described(schema: Json, description: str) -> Json:
    return {**schema, "description": description} if description else schema


def _text(description: str) -> Json:
    return _described({"type": "string"}, description)


def _number(description: str) -> Json:
    return _described({"type": "number"}, description)


def _share(description: str) -> Json:
    return _described({"type": "number", "minimum": 0, "maximum": 1}, description)


def _count(description: str) -> Json:
    return _described({"type": "integer", "minimum": 0}, description)


def _nullable(kind: str, description: str) -> Json:
    return _described({"type": [kind, "null"]}, description)


def _list(items: Json, **more: Any) -> Json:
    return {"type": "array", "items": items, **more}


_REQUEST_ID = {"type": "string", "pattern": f"^{REQUEST_ID.pattern}$"}
