"""Unicorn management's part of the OpenAPI document."""

from __future__ import annotations

from typing import Any

from examples.rfq.model import UnicornAnswer, UnicornPlace
from examples.rfq.openapi_terms import (
    BODY,
    COUNT,
    LINKS,
    NUMBER,
    TEXT,
    Area,
    answer,
    found,
    models,
    object_of,
    operation,
    problem,
    public,
    ref,
    takes,
)

__all__ = ["HOME", "UNICORNS"]

_NOT_SIGNED_IN = {"404": problem("The unicorn is not signed in")}
_PATHS: dict[str, dict[str, Any]] = {
    "/unicorn": {"get": public("A unicorn's app", {"200": answer("A page for unicorns", TEXT, "text/html")})},
    "/unicorn/self": {
        "put": operation(
            "Sign in, or move",
            {**found("Where the unicorn is", "SignedIn"), **BODY},
            requestBody=takes("UnicornPlace"),
        ),
        "get": operation("Who it is, and where", {**found("Where the unicorn is", "SignedIn"), **_NOT_SIGNED_IN}),
        "delete": operation("Sign out", {"204": answer("The unicorn is not signed in")}),
    },
    "/unicorn/answers": {
        "post": operation(
            "Quote, or decline; to give the same answer again changes nothing",
            {
                **found("The answer was sent", "Accepted"),
                **BODY,
                "404": problem("The unicorn was not asked, or is not signed in"),
                "409": problem("Another answer was given before"),
                "410": problem("The time of the RFQ was over"),
            },
            requestBody=takes("UnicornAnswer"),
        )
    },
    "/unicorn/events": {
        "get": operation(
            "Its place and its questions, and each change, as server-sent events: place, rfq, signed-out",
            {"200": answer("Events", ref("UnicornEvent"), "text/event-stream"), **_NOT_SIGNED_IN},
        )
    },
    "/unicorn/socket": {
        "get": operation(
            "The same events over a web socket, which also takes commands: place, answer, leave",
            {"101": answer("The web socket is open"), "426": problem("No web socket was asked for")},
        )
    },
}
_SCHEMAS = {
    **models(UnicornPlace, UnicornAnswer),
    "SignedIn": object_of(
        links=LINKS, unicorn=TEXT, name=TEXT, x=NUMBER, y=NUMBER, zone=TEXT, zones=COUNT, listening={"type": "boolean"}
    ),
    "Accepted": object_of(rfq=TEXT, accepted={"const": True}),
    "UnicornEvent": object_of(id=TEXT, event={"enum": ["place", "rfq", "signed-out"]}, data=TEXT),
}

UNICORNS = Area(_PATHS, _SCHEMAS)
HOME = Area({"/": {"get": public("To the unicorn's app", {"307": answer("It is at /unicorn")})}}, {})
"""Of a process that has unicorn management alone."""
