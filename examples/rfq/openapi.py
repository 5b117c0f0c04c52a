"""The API's OpenAPI 3.1 document."""

from __future__ import annotations

from typing import Any

from examples.rfq.model import Quote, RideRequest

__all__ = ["document"]


def _response(description: str, schema: dict[str, Any] | None = None, kind: str = "application/json") -> dict[str, Any]:
    return {"description": description, **({"content": {kind: {"schema": schema}}} if schema else {})}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _problem(description: str) -> dict[str, Any]:
    return _response(description, _ref("Problem"), "application/problem+json")


def document() -> dict[str, Any]:
    """The document."""
    rfq = {"name": "rfq", "in": "path", "required": True, "schema": {"type": "string"}}
    links = {"type": "object", "required": ["self"], "additionalProperties": {"type": "string"}}
    running = {
        "type": "object",
        "required": ["links", "status", "eta"],
        "properties": {
            "links": links,
            "status": {"const": "running"},
            "eta": {"type": "string", "format": "date-time"},
            "responses-received": {"type": "integer", "minimum": 0},
        },
    }
    result = {
        "type": "object",
        "required": ["links", "from", "to", "customer", "quotes"],
        "properties": {
            "links": links,
            "status": {"const": "complete"},
            "from": {"type": "string"},
            "to": {"type": "string"},
            "customer": {"type": "string"},
            "responses-received": {"type": "integer"},
            "expected": {"type": ["integer", "null"]},
            "quotes": {"type": "array", "items": _ref("Quote")},
        },
    }
    problem = {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
        },
    }
    unknown = _problem("No such RFQ")
    return {
        "openapi": "3.1.0",
        "info": {"title": "Wild Rydes requests for quotes", "version": "1.0.0"},
        "paths": {
            "/rfqs": {
                "post": {
                    "summary": "Ask all unicorns near the start for quotes",
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": _ref("RideRequest")}},
                    },
                    "responses": {
                        "202": _response("Quotes are being gathered", running),
                        "400": _problem("The body is not JSON"),
                        "413": _problem("The body is too large"),
                        "415": _problem("The body is of another media type"),
                        "422": _problem("The request is not valid"),
                    },
                }
            },
            "/rfqs/{rfq}": {
                "get": {
                    "summary": "How far the RFQ is",
                    "parameters": [rfq],
                    "responses": {
                        "200": _response("Quotes are being gathered", running),
                        "303": _response("Complete: see the result"),
                        "404": unknown,
                    },
                }
            },
            "/rfqs/{rfq}/result": {
                "get": {
                    "summary": "The quotes of a complete RFQ",
                    "parameters": [rfq],
                    "responses": {"200": _response("The quotes", result), "404": unknown},
                }
            },
            "/rfqs/{rfq}/events": {
                "get": {
                    "summary": "Progress as server-sent events: quote, progress, complete",
                    "parameters": [rfq],
                    "responses": {"200": _response("Events", {"type": "string"}, "text/event-stream"), "404": unknown},
                }
            },
        },
        "components": {
            "schemas": {
                "RideRequest": RideRequest.model_json_schema(by_alias=True),
                "Quote": Quote.model_json_schema(),
                "Problem": problem,
            }
        },
    }
