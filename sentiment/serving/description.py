"""Turn the OpenAPI document into what people read: each operation with its fields and an example.

Nothing here is written by hand: what `/api` says is what `/openapi.json` says.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]
JSON_TYPE = "application/json"
WORDS = {"string": "text", "integer": "whole number", "boolean": "true or false"}
DEEPEST = 3  # objects within objects; ours have two


@dataclass(frozen=True)
class Field:
    """A key of a JSON object; `name` has those of the objects around it: `predictions[].label`."""

    name: str
    kind: str  # in words: `text of 1 to 20,000 characters`
    required: bool
    about: str


@dataclass(frozen=True)
class Answer:
    """What comes back with one of these statuses; `media` are its types."""

    statuses: str
    about: str
    media: tuple[str, ...]
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Operation:
    """One thing that the API does; `one_of` are keys of the body of which exactly one is given."""

    method: str
    path: str
    summary: str
    guarded: bool
    body: tuple[Field, ...]
    one_of: tuple[str, ...]
    answers: tuple[Answer, ...]
    problems: tuple[tuple[str, str], ...]  # status and what it means
    curl: str


def operations(document: Json, root: str) -> list[Operation]:
    """Return the operations of an OpenAPI document, those with a body first.

    `root` is the address that the examples ask, such as `http://127.0.0.1:8000/`.
    """
    found = [
        _operation(document, method.upper(), path, operation, root)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return sorted(found, key=lambda each: not each.body)


def _operation(document: Json, method: str, path: str, operation: Json, root: str) -> Operation:
    body = operation.get("requestBody", {}).get("content", {}).get(JSON_TYPE, {})
    schema = _resolved(document, body.get("schema", {}))
    guarded = bool(operation["security"])
    answers: dict[str, list[str]] = {}
    problems = []
    for status, given in operation["responses"].items():
        content = given["content"]
        if content.get(JSON_TYPE, {}).get("schema", {}).get("$ref", "").endswith("/Error"):
            problems.append((status, given["description"]))
        else:
            answers.setdefault(json.dumps(content, sort_keys=True), []).append(status)
    return Operation(
        method=method,
        path=path,
        summary=operation["summary"],
        guarded=guarded,
        body=tuple(_fields(document, schema)),
        one_of=tuple(name for way in schema.get("oneOf", ()) for name in way["required"]),
        answers=tuple(
            _answer(document, statuses, operation["responses"][statuses[0]])
            for statuses in answers.values()
        ),
        problems=tuple(problems),
        curl=_curl(f"{root.rstrip('/')}{path}", guarded, body.get("example")),
    )


def _answer(document: Json, statuses: list[str], given: Json) -> Answer:
    schema = given["content"].get(JSON_TYPE, {}).get("schema", {})
    fields = tuple(_fields(document, _resolved(document, schema)))
    return Answer(" or ".join(statuses), given["description"], tuple(given["content"]), fields)


def _fields(document: Json, schema: Json, before: str = "", depth: int = 0) -> Iterator[Field]:
    """Yield the keys of an object, and below each those of the objects that it holds."""
    for name, value in schema.get("properties", {}).items():
        about = _resolved(document, _not_null(value))
        inner = _resolved(document, _not_null(about.get("items", about)))
        whole = f"{before}{name}" + ("[]" if "items" in about else "")
        required = name in schema.get("required", ())
        said = value.get("description", "")
        yield Field(whole, _kind(document, value), required, said)
        if depth < DEEPEST:
            yield from _fields(document, inner, f"{whole}.", depth + 1)


def _kind(document: Json, value: Json) -> str:
    """Return in words what a value has to be."""
    about = _resolved(document, _not_null(value))
    null = " or null" if about is not value and "anyOf" in value else ""
    if "const" in about or "enum" in about:
        values = about.get("enum", [about.get("const")])
        return " or ".join(json.dumps(each) for each in values) + null
    if about.get("type") == "array":
        items = _resolved(document, _not_null(about.get("items", {})))
        many = _range(about, "minItems", "maxItems")
        return f"list{f' of {many}' if many else ''}: {_kind(document, items)}{null}"
    kind = str(about.get("type", "any value"))
    name = WORDS.get(kind, kind)
    if length := _range(about, "minLength", "maxLength"):
        name += f" of {length} characters"
    if bounds := _range(about, "minimum", "maximum"):
        name += f", {bounds}"
    pattern = about.get("pattern", "")
    if pattern and "\\" not in pattern:  # else it is about white space, and tells nothing
        name += f" like {pattern}"
    if "default" in about:
        name += f"; {json.dumps(about['default'])} if left out"
    return name + null


def _range(about: Json, low: str, high: str) -> str:
    least, most = about.get(low), about.get(high)
    if least is not None and most is not None:
        return f"{least:,} to {most:,}"
    if least is not None:
        return f"{least:,} or more"
    return "" if most is None else f"at most {most:,}"


def _not_null(value: Json) -> Json:
    """Return the schema of a value that may be null, for where it is not."""
    options = [each for each in value.get("anyOf", ()) if each.get("type") != "null"]
    return options[0] if len(options) == 1 else value


def _resolved(document: Json, schema: Json) -> Json:
    """Return what a reference names."""
    if "$ref" not in schema:
        return schema
    named: Json = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return named


def _curl(address: str, guarded: bool, example: object) -> str:
    lines = [f"curl {shlex.quote(address)}"]
    if guarded:
        lines.append('-H "Authorization: Bearer $SENTIMENT_API_TOKEN"')
    if example is not None:
        lines.append(f"-H 'Content-Type: {JSON_TYPE}'")
        lines.append(f"-d {shlex.quote(json.dumps(example))}")
    return " \\\n  ".join(lines)
