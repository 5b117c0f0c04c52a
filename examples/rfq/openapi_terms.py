"""The terms that OpenAPI documents are written in here: schemas, answers and operations."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

__all__ = [
    "BODY",
    "COUNT",
    "LINKS",
    "MAYBE_COUNT",
    "MAYBE_TEXT",
    "NUMBER",
    "TEXT",
    "TIME",
    "Area",
    "answer",
    "array",
    "document",
    "found",
    "models",
    "object_of",
    "operation",
    "parameter",
    "problem",
    "public",
    "ref",
    "takes",
]

_JSON = "application/json"


class Area(NamedTuple):
    """What a part of the service adds to the document."""

    paths: dict[str, dict[str, Any]]
    schemas: dict[str, Any]


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def object_of(*optional: str, **properties: Any) -> dict[str, Any]:
    """A JSON object; all members are required, except those in ``optional``. ``_`` in names stands for ``-``."""
    named = {name.strip("_").replace("_", "-"): schema for name, schema in properties.items()}
    return {"type": "object", "required": [name for name in named if name not in optional], "properties": named}


def array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def models(*models: type[BaseModel]) -> dict[str, Any]:
    """The models' schemas by their names, those of models inside them too."""
    wanted: list[tuple[type[BaseModel], Literal["validation"]]] = [(model, "validation") for model in models]
    _, made = models_json_schema(wanted, by_alias=True, ref_template="#/components/schemas/{model}")
    return dict(made["$defs"])


TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
MAYBE_TEXT = {"type": ["string", "null"]}
MAYBE_COUNT = {"type": ["integer", "null"], "minimum": 0}
NUMBER = {"type": "number"}
TIME = {"type": "string", "format": "date-time"}
LINKS = {"type": "object", "required": ["self"], "additionalProperties": TEXT}


def answer(description: str, schema: dict[str, Any] | None = None, kind: str = _JSON) -> dict[str, Any]:
    return {"description": description, **({"content": {kind: {"schema": schema}}} if schema else {})}


def problem(description: str) -> dict[str, Any]:
    return answer(description, ref("Problem"), "application/problem+json")


def found(what: str, name: str) -> dict[str, dict[str, Any]]:
    return {"200": answer(what, ref(name))}


_GUARDED = {
    "401": problem("A valid token is needed (where the service asks for tokens)"),
    "403": problem("The token or certificate is not for this, or a client certificate is needed"),
    "429": problem("Too many requests; see Retry-After"),
    "503": problem("What the service needs does not answer; see Retry-After"),
}
_MISDIRECTED = {"421": problem("The Host header names another service")}
BODY = {
    "400": problem("The body is not JSON"),
    "408": problem("The body took too long"),
    "413": problem("The body is too large"),
    "415": problem("The body is of another media type"),
    "422": problem("The body is not valid"),
}


def operation(summary: str, answers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An operation that needs a token where there are tokens."""
    return {"summary": summary, "responses": {**answers, **_GUARDED, **_MISDIRECTED}, **more}


def public(summary: str, answers: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "responses": {**answers, **_MISDIRECTED}, "security": []}


def takes(schema: str) -> dict[str, Any]:
    return {"required": True, "content": {_JSON: {"schema": ref(schema)}}}


def parameter(name: str, where: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "required": True, "schema": {"type": "string", **schema}}


_SHARED = Area(
    {
        "/openapi.json": {"get": public("This document", {"200": answer("OpenAPI 3.1", {"type": "object"})})},
        "/healthz": {"get": public("Whether it runs", found("It does", "Health"))},
        "/readyz": {
            "get": public(
                "Whether RFQs can be answered",
                {**found("They can", "Ready"), "503": answer("What is waited for", ref("Ready"))},
            )
        },
    },
    {
        "Health": object_of(status={"const": "ok"}, unicorns=MAYBE_COUNT),
        "Ready": object_of("waiting-for", status={"enum": ["ready", "waiting"]}, waiting_for=array(TEXT)),
        "Problem": object_of(type=TEXT, title=TEXT, status={"type": "integer"}, detail=TEXT),
    },
)
"""What each process of the service has."""


def document(*areas: Area, secured: bool) -> dict[str, Any]:
    """The document.

    Args:
        areas: what the process serves.
        secured: whether the service asks for tokens.
    """
    every = (_SHARED, *areas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Wild Rydes requests for quotes", "version": "1.2.0"},
        "paths": {path: item for area in every for path, item in area.paths.items()},
        "security": [{"token": []}] if secured else [],
        "components": {
            "schemas": {name: schema for area in every for name, schema in area.schemas.items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
