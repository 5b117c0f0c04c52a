"""Ride booking's part of the OpenAPI 3.1 document: every route, every answer (a test compares them)."""

from __future__ import annotations

from typing import Any

from examples.rfq.model import Choice, Quote, RideRequest
from examples.rfq.openapi_terms import (
    BODY,
    COUNT,
    LINKS,
    MAYBE_COUNT,
    MAYBE_TEXT,
    NUMBER,
    TEXT,
    TIME,
    Area,
    answer,
    array,
    found,
    models,
    object_of,
    operation,
    parameter,
    problem,
    public,
    ref,
    takes,
)

__all__ = ["BOOKING"]

_SCHEMAS = {
    **models(RideRequest, Quote, Choice),
    "Asked": object_of("notice", links=LINKS, status={"const": "running"}, eta=TIME, notice=TEXT),
    "Running": object_of(
        "notice", links=LINKS, status={"const": "running"}, eta=TIME, responses_received=COUNT, notice=TEXT
    ),
    "Result": object_of(
        links=LINKS,
        status={"const": "complete"},
        from_=TEXT,
        to=TEXT,
        customer=TEXT,
        responses_received=COUNT,
        expected=MAYBE_COUNT,
        quotes=array(ref("Quote")),
        declined=array(TEXT),
        unanswered=array(TEXT),
        late=array(TEXT),
        choice=MAYBE_TEXT,
    ),
    "Chosen": object_of(links=LINKS, choice=TEXT),
    "Herd": object_of(zones=COUNT, unicorns=array(object_of(unicorn=TEXT, name=TEXT, x=NUMBER, y=NUMBER))),
    "Place": object_of(place=TEXT, x=NUMBER, y=NUMBER, zone=TEXT, zones=array(TEXT), unicorns=COUNT),
    "Event": object_of(event={"enum": ["asked", "quote", "declined", "progress", "complete"]}, data=TEXT),
    "Identity": object_of(
        name=MAYBE_TEXT,
        role={"enum": ["customer", "operator", "unicorn", None]},
        certificate={
            "oneOf": [
                {"type": "null"},
                object_of(subject=TEXT, issuer=TEXT, serial=TEXT, valid_from=TIME, valid_until=TIME, pem=TEXT),
            ]
        },
    ),
}


_UNKNOWN = {"404": problem("No such RFQ, or another customer's")}
_RFQ = [parameter("rfq", "path")]
_PATHS: dict[str, dict[str, Any]] = {
    "/": {"get": public("The page", {"200": answer("A page for people", TEXT, "text/html")})},
    "/operations/": {"get": public("The console", {"200": answer("A page for people", TEXT, "text/html")})},
    "/city": {
        "get": operation(
            "Where a place is",
            {**found("On the map, from 0 to 1", "Place"), "422": problem("The place is not valid")},
            parameters=[
                parameter("place", "query", minLength=1, maxLength=200),
                *(
                    {"name": name, "in": "query", "schema": {"type": "number", "minimum": 0, "maximum": 1}}
                    for name in ("radius", "x", "y")
                ),
            ],
        )
    },
    "/unicorns": {"get": operation("Where all unicorns are", found("Their places on the map", "Herd"))},
    "/identity": {
        "get": operation(
            "Whom the service takes its caller for", found("Who calls, and by which certificate", "Identity")
        )
    },
    "/rfqs": {
        "post": operation(
            "Ask all unicorns near the start for quotes",
            {"202": answer("Quotes are being gathered", ref("Asked")), **BODY},
            requestBody=takes("RideRequest"),
        )
    },
    "/rfqs/{rfq}": {
        "get": operation(
            "How far the RFQ is",
            {**found("Quotes are being gathered", "Running"), "303": answer("Complete: see the result"), **_UNKNOWN},
            parameters=_RFQ,
        )
    },
    "/rfqs/{rfq}/result": {
        "get": operation("The quotes of a complete RFQ", {**found("The quotes", "Result"), **_UNKNOWN}, parameters=_RFQ)
    },
    "/rfqs/{rfq}/choice": {
        "put": operation(
            "Take an offer; to say so again changes nothing",
            {
                **found("It is taken", "Chosen"),
                **BODY,
                **_UNKNOWN,
                "409": problem("Another offer was chosen before"),
            },
            parameters=_RFQ,
            requestBody=takes("Choice"),
        )
    },
    "/rfqs/{rfq}/events": {
        "get": operation(
            "Progress as server-sent events: asked, quote, declined, progress, complete",
            {"200": answer("Events", ref("Event"), "text/event-stream"), **_UNKNOWN},
            parameters=_RFQ,
        )
    },
    "/rfqs/{rfq}/socket": {
        "get": operation(
            "The same events over a web socket, each a text frame with event and data",
            {"101": answer("The web socket is open"), "426": problem("No web socket was asked for"), **_UNKNOWN},
            parameters=_RFQ,
        )
    },
}

BOOKING = Area(_PATHS, _SCHEMAS)
