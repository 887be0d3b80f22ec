"""The API's OpenAPI 3.1 document, made of the models that requests are read with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from receiptd import __version__
from receiptd.web.api import shapes
from receiptd.web.api.examples import EXAMPLES, PROBLEM, new_message
from receiptd.web.api.known_names import Names
from receiptd.web.api.operation import Operation
from receiptd.web.api.parameters import Query
from receiptd.web.api.partial import PREFIX, partial_schema
from receiptd.web.api.registration import MOST_MESSAGES, NewMessage
from receiptd.web.api.routes import OPERATIONS

_REFERENCE = "#/components/schemas/{model}"

_ERRORS = {
    400: "The query or the body cannot be read.",
    401: "The token is missing or wrong.",
    403: "The token has not the scope.",
    404: "There is no such thing.",
    409: "The destination is configured.",
    410: "The events asked for are deleted.",
    413: "The body is too large.",
    415: "The body is not called application/json.",
    429: "The token may not make as many requests: wait as Retry-After says.",
    422: "A parameter is unknown or no good, or a message is.",
    503: "The server is busy or the database does not answer: try later.",
}
_ALWAYS = (400, 401, 403, 422, 429, 503)

_PATH_PARAMETERS = {
    "provider": {"type": "string", "minLength": 1},
    "message_id": {"type": "string", "minLength": 1},
    "id": {"type": "integer", "minimum": 1},
    "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,62}$"},
}


def document(names: Names) -> dict[str, Any]:
    """The document of a server whose configuration has these names."""
    models: list[type[BaseModel]] = [shapes.Problem, NewMessage]
    models += [each.answer for each in OPERATIONS if each.answer is not None]
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REFERENCE
    )
    schemas: dict[str, Any] = definitions["$defs"]
    schemas["NewMessage"]["properties"]["provider"]["enum"] = list(names.configured)
    for name in [each.answer.__name__ for each in OPERATIONS if _is_partial(each) and each.answer]:
        if PREFIX + name not in schemas:
            partial_schema(schemas, name, _REFERENCE)
    known = {"provider": names.installed, "endpoint": names.endpoints}
    example = names.configured[0] if names.configured else "csoft"
    paths: dict[str, dict[str, Any]] = {}
    for each in OPERATIONS:
        found = paths.setdefault(each.path, {})
        found[each.method.lower()] = _operation(each, schemas, known, new_message(example))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "receiptd",
            "version": __version__,
            "summary": "SMS delivery receipts: what came, and what it says of messages sent",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.values()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


TAGS = {
    "messages": ("messages", "What applications have sent, and what became of it."),
    "receipts": ("receipts", "What providers have reported."),
    "rejected": ("rejected posts", "What was not taken as a receipt."),
    "events": ("events", "All that happened, in order."),
    "forward": ("destinations", "Who is told of events, and how that goes."),
    "statistics": ("statistics", "Sums by the hour: delivery rate and time, what was rejected."),
    "openapi.json": ("document", "What there is."),
}
"""By what stands behind /api/v1/: the tag's name and what it is about."""


def _is_partial(operation: Operation) -> bool:
    """Whether a query may leave fields of the answer out."""
    return not {"fields", "raw"}.isdisjoint(operation.query.model_fields)


def _operation(
    operation: Operation,
    schemas: dict[str, Any],
    known: Mapping[str, Sequence[str]],
    message: dict[str, Any],
) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PATH_PARAMETERS[name]}
        for name in re.findall(r"\{(\w+)\}", operation.path)
    ]
    found: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [TAGS[operation.path.split("/")[3]][0]],
        "summary": operation.summary,
        "parameters": [*parameters, *_query_parameters(operation.query, schemas, known)],
        "security": [{"token": [operation.scope]}],
        "responses": {
            "200": {"description": "Done.", "content": _content(operation)},
            **{
                str(status): {
                    "description": _ERRORS[status],
                    "content": _PROBLEM,
                }
                for status in sorted({*_ALWAYS, *operation.statuses})
            },
        },
    }
    if operation.name == "register_messages":
        one = {"$ref": _REFERENCE.format(model="NewMessage")}
        several = {"type": "array", "items": one, "maxItems": MOST_MESSAGES}
        examples = {"one": {"value": message}, "several": {"value": [message]}}
        found["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {"schema": {"anyOf": [one, several]}, "examples": examples}
            },
        }
    if operation.name == "stream_receipts":
        found["parameters"].append(
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "The id of the last event that came: goes on behind it.",
                "schema": {"type": "integer", "minimum": 0},
            }
        )
    return found


_PROBLEM = {
    "application/problem+json": {
        "schema": {"$ref": _REFERENCE.format(model="Problem")},
        "example": PROBLEM,
    }
}


def _content(operation: Operation) -> dict[str, Any]:
    if operation.answer is not None:
        name = operation.answer.__name__
        schema: dict[str, Any] = {"$ref": _REFERENCE.format(model=name)}
        if _is_partial(operation):
            schema = {"anyOf": [schema, {"$ref": _REFERENCE.format(model=PREFIX + name)}]}
        return {"application/json": {"schema": schema, "example": EXAMPLES[name]}}
    if operation.name == "stream_receipts":
        return {"text/event-stream": {"schema": {"type": "string"}}}
    return {"application/json": {"schema": {"type": "object"}}}


def _query_parameters(
    model: type[Query], schemas: dict[str, Any], known: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    schema = model.model_json_schema(ref_template=_REFERENCE)
    schemas |= schema.get("$defs", {})
    found = []
    for name, said in schema.get("properties", {}).items():
        value = {key: each for key, each in said.items() if key not in ("title", "description")}
        # What is left out is not null: there is no null in a query.
        if value.get("default") in (None, []):
            value.pop("default", None)
        kinds = [each for each in value.get("anyOf", ()) if each != {"type": "null"}]
        if len(kinds) == 1:
            del value["anyOf"]
            value |= kinds[0]
        if name in known:
            value["items"] = {"type": "string", "enum": list(known[name])}
        parameter: dict[str, Any] = {"name": name, "in": "query"}
        if name in schema.get("required", ()):
            parameter["required"] = True
        found.append(parameter | {"description": said["description"], "schema": value})
    return found
