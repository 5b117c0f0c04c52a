"""What the API, pushed events and callbacks say about an RFQ, as JSON values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from examples.rfq.model import as_json
from examples.rfq.store import Rfq

__all__ = ["head", "link", "links", "notice", "progress", "result_document", "ride", "where"]


def ride(rfq: Rfq) -> dict[str, Any]:
    """What the customer asked for."""
    return {"from": rfq.request.start, "to": rfq.request.to, "customer": rfq.request.customer}


def where(rfq: Rfq) -> dict[str, Any]:
    """Start and destination on the map, and the zones whose unicorns were asked."""
    return {
        "start": as_json(rfq.question.start),
        "destination": as_json(rfq.question.to),
        "zones": rfq.question.zones,
    }


def progress(rfq: Rfq) -> dict[str, Any]:
    """How far it is."""
    return {
        "responses-received": rfq.responses,
        "expected": rfq.expected,
        "eta": _time_text(rfq.eta),
        "choice": rfq.choice,
        **notice(rfq),
    }


def notice(rfq: Rfq) -> dict[str, str]:
    """What to say about an RFQ that nobody can answer."""
    return {"notice": "no unicorn is near the start: nobody was asked"} if not rfq.addressed else {}


def result_document(base: str, rfq: Rfq) -> dict[str, Any]:
    """What it brought, once it is complete."""
    return {
        "links": links(base, rfq.id),
        "status": "complete",
        **ride(rfq),
        "responses-received": rfq.responses,
        "expected": rfq.expected,
        "quotes": [as_json(quote) for quote in rfq.quotes],
        "declined": [answer.unicorn for answer in rfq.answers if answer.quote is None],
        "unanswered": rfq.silent,
        "late": [answer.unicorn for answer in rfq.late],
        "choice": rfq.choice,
    }


def link(base: str, rfq: str, rest: str = "") -> str:
    """The URL of an RFQ, or of what is under it.

    Args:
        base: the service's own URL, with the final slash.
        rfq: its id.
        rest: e.g. ``/result``.
    """
    return f"{base}rfqs/{rfq}{rest}"


def links(base: str, rfq: str) -> dict[str, str]:
    """The URLs of an RFQ."""
    rests = {"self": "", "result": "/result", "events": "/events", "socket": "/socket", "choice": "/choice"}
    return {name: link(base, rfq, rest) for name, rest in rests.items()}


def head(base: str, rfq: Rfq) -> dict[str, Any]:
    """Where to ask about it, and when it ends."""
    return {"links": links(base, rfq.id), "eta": _time_text(rfq.eta)}


def _time_text(at: float) -> str:
    """A time as ISO 8601 has it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
