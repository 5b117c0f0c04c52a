"""The API's OpenAPI 3.1 document: every route, every answer (a test compares them)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from examples.rfq.model import Choice, Quote, RideRequest
from examples.rfq.operations_api import Redrive

__all__ = ["document"]

_JSON = "application/json"


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(*optional: str, **properties: Any) -> dict[str, Any]:
    """A JSON object; all is required but what is said to be optional. ``_`` in names stands for ``-``."""
    named = {name.strip("_").replace("_", "-"): schema for name, schema in properties.items()}
    return {"type": "object", "required": [name for name in named if name not in optional], "properties": named}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _models(*models: type[BaseModel]) -> dict[str, Any]:
    """The models' schemas by their names, those of models inside them too."""
    wanted: list[tuple[type[BaseModel], Literal["validation"]]] = [(model, "validation") for model in models]
    _, made = models_json_schema(wanted, by_alias=True, ref_template="#/components/schemas/{model}")
    return dict(made["$defs"])


_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_MAYBE_TEXT = {"type": ["string", "null"]}
_MAYBE_COUNT = {"type": ["integer", "null"], "minimum": 0}
_NUMBER = {"type": "number"}
_TIME = {"type": "string", "format": "date-time"}
_LINKS = {"type": "object", "required": ["self"], "additionalProperties": _TEXT}

_SCHEMAS = {
    **_models(RideRequest, Quote, Choice, Redrive),
    "Asked": _object("notice", links=_LINKS, status={"const": "running"}, eta=_TIME, notice=_TEXT),
    "Running": _object(
        "notice", links=_LINKS, status={"const": "running"}, eta=_TIME, responses_received=_COUNT, notice=_TEXT
    ),
    "Result": _object(
        links=_LINKS,
        status={"const": "complete"},
        from_=_TEXT,
        to=_TEXT,
        customer=_TEXT,
        responses_received=_COUNT,
        expected=_MAYBE_COUNT,
        quotes=_array(_ref("Quote")),
        declined=_array(_TEXT),
        unanswered=_array(_TEXT),
        late=_array(_TEXT),
        choice=_MAYBE_TEXT,
    ),
    "Chosen": _object(links=_LINKS, choice=_TEXT),
    "Herd": _object(zones=_COUNT, unicorns=_array(_object(unicorn=_TEXT, name=_TEXT, x=_NUMBER, y=_NUMBER))),
    "Operations": _object(
        in_flight=_COUNT,
        responses_per_second=_NUMBER,
        late=_COUNT,
        refused=_COUNT,
        unicorns=_COUNT,
        queues=_array(_object(queue=_TEXT, messages=_MAYBE_COUNT, dead_letters=_MAYBE_COUNT)),
        cost=_object(
            total=_NUMBER,
            region=_TEXT,
            date={"type": "string", "format": "date"},
            calls=_COUNT,
            messages=_COUNT,
            channels_used=_COUNT,
            channels=_array(_object(service=_TEXT, channel=_TEXT, messages=_COUNT, requests=_COUNT, dollars=_NUMBER)),
        ),
    ),
    "DeadLetters": _object(
        dead_letters=_array(
            _object(
                queue=_TEXT,
                id=_TEXT,
                type=_MAYBE_TEXT,
                correlation_id=_MAYBE_TEXT,
                reason=_TEXT,
                attempts=_TEXT,
                failed_on=_TEXT,
                body={},
            )
        )
    ),
    "Redriven": _object(moved=_COUNT, left=_COUNT, failed=_COUNT),
    "Place": _object(place=_TEXT, x=_NUMBER, y=_NUMBER, zone=_TEXT, zones=_array(_TEXT), unicorns=_COUNT),
    "Health": _object(status={"const": "ok"}, unicorns=_MAYBE_COUNT),
    "Ready": _object("waiting-for", status={"enum": ["ready", "waiting"]}, waiting_for=_array(_TEXT)),
    "Event": _object(event={"enum": ["asked", "quote", "declined", "progress", "complete"]}, data=_TEXT),
    "Identity": _object(
        name=_MAYBE_TEXT,
        role={"enum": ["customer", "operator", "unicorn", None]},
        certificate={
            "oneOf": [
                {"type": "null"},
                _object(subject=_TEXT, issuer=_TEXT, serial=_TEXT, valid_from=_TIME, valid_until=_TIME, pem=_TEXT),
            ]
        },
    ),
    "Problem": _object(type=_TEXT, title=_TEXT, status={"type": "integer"}, detail=_TEXT),
}


def _answer(description: str, schema: dict[str, Any] | None = None, kind: str = _JSON) -> dict[str, Any]:
    return {"description": description, **({"content": {kind: {"schema": schema}}} if schema else {})}


def _problem(description: str) -> dict[str, Any]:
    return _answer(description, _ref("Problem"), "application/problem+json")


def _found(what: str, name: str) -> dict[str, dict[str, Any]]:
    return {"200": _answer(what, _ref(name))}


_UNKNOWN = {"404": _problem("No such RFQ, or another customer's")}
_GUARDED = {
    "401": _problem("A valid token is needed (where the service asks for tokens)"),
    "403": _problem("The token or certificate is not for this, or a client certificate is needed"),
    "429": _problem("Too many requests; see Retry-After"),
    "503": _problem("What the service needs does not answer; see Retry-After"),
}
_MISDIRECTED = {"421": _problem("The Host header names another service")}
_BODY = {
    "400": _problem("The body is not JSON"),
    "408": _problem("The body took too long"),
    "413": _problem("The body is too large"),
    "415": _problem("The body is of another media type"),
    "422": _problem("The body is not valid"),
}


def _operation(summary: str, answers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An operation that needs a token where there are tokens."""
    return {"summary": summary, "responses": {**answers, **_GUARDED, **_MISDIRECTED}, **more}


def _public(summary: str, answers: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "responses": {**answers, **_MISDIRECTED}, "security": []}


def _takes(schema: str) -> dict[str, Any]:
    return {"required": True, "content": {_JSON: {"schema": _ref(schema)}}}


def _parameter(name: str, where: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "required": True, "schema": {"type": "string", **schema}}


_RFQ = [_parameter("rfq", "path")]
_PATHS: dict[str, dict[str, Any]] = {
    "/": {"get": _public("The page", {"200": _answer("A page for people", _TEXT, "text/html")})},
    "/operations": {"get": _public("The operations view", {"200": _answer("A page for people", _TEXT, "text/html")})},
    "/openapi.json": {"get": _public("This document", {"200": _answer("OpenAPI 3.1", {"type": "object"})})},
    "/healthz": {"get": _public("Whether it runs", _found("It does", "Health"))},
    "/readyz": {
        "get": _public(
            "Whether RFQs can be answered",
            {**_found("They can", "Ready"), "503": _answer("What is waited for", _ref("Ready"))},
        )
    },
    "/city": {
        "get": _operation(
            "Where a place is",
            {**_found("On the map, from 0 to 1", "Place"), "422": _problem("The place is not valid")},
            parameters=[
                _parameter("place", "query", minLength=1, maxLength=200),
                {"name": "radius", "in": "query", "schema": {"type": "number", "minimum": 0, "maximum": 1}},
            ],
        )
    },
    "/unicorns": {"get": _operation("Where all unicorns are", _found("Their places on the map", "Herd"))},
    "/operations/state": {"get": _operation("What goes on", _found("Counts and rates", "Operations"))},
    "/operations/dead-letters": {
        "get": _operation("What could not be handled, and why", _found("Up to 100 of each queue", "DeadLetters"))
    },
    "/operations/dead-letters/redrive": {
        "post": _operation(
            "Have dead letters handled anew",
            {**_found("What was done", "Redriven"), **_BODY, "404": _problem("No such queue")},
            requestBody=_takes("Redrive"),
        )
    },
    "/identity": {
        "get": _operation(
            "Whom the service takes its caller for", _found("Who calls, and by which certificate", "Identity")
        )
    },
    "/rfqs": {
        "post": _operation(
            "Ask all unicorns near the start for quotes",
            {"202": _answer("Quotes are being gathered", _ref("Asked")), **_BODY},
            requestBody=_takes("RideRequest"),
        )
    },
    "/rfqs/{rfq}": {
        "get": _operation(
            "How far the RFQ is",
            {**_found("Quotes are being gathered", "Running"), "303": _answer("Complete: see the result"), **_UNKNOWN},
            parameters=_RFQ,
        )
    },
    "/rfqs/{rfq}/result": {
        "get": _operation(
            "The quotes of a complete RFQ", {**_found("The quotes", "Result"), **_UNKNOWN}, parameters=_RFQ
        )
    },
    "/rfqs/{rfq}/choice": {
        "put": _operation(
            "Take an offer; to say so again changes nothing",
            {
                **_found("It is taken", "Chosen"),
                **_BODY,
                **_UNKNOWN,
                "409": _problem("Another offer was chosen before"),
            },
            parameters=_RFQ,
            requestBody=_takes("Choice"),
        )
    },
    "/rfqs/{rfq}/events": {
        "get": _operation(
            "Progress as server-sent events: asked, quote, declined, progress, complete",
            {"200": _answer("Events", _ref("Event"), "text/event-stream"), **_UNKNOWN},
            parameters=_RFQ,
        )
    },
    "/rfqs/{rfq}/socket": {
        "get": _operation(
            "The same events over a web socket, each a text frame with event and data",
            {"101": _answer("The web socket is open"), "426": _problem("No web socket was asked for"), **_UNKNOWN},
            parameters=_RFQ,
        )
    },
}


def document(*, secured: bool) -> dict[str, Any]:
    """The document.

    Args:
        secured: whether the service asks for tokens.
    """
    return {
        "openapi": "3.1.0",
        "info": {"title": "Wild Rydes requests for quotes", "version": "1.1.0"},
        "paths": _PATHS,
        "security": [{"token": []}] if secured else [],
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
