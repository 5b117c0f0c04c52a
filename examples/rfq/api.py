"""The REST API (SCENARIOS.md, S1): 202 with links, 200 while running, 303 to the result, 200 with quotes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from eip import clock
from examples.rfq.access import Guard, RateLimit, Tokens, caller
from examples.rfq.booking import RideBooking
from examples.rfq.model import RideRequest, as_json, located
from examples.rfq.openapi import document
from examples.rfq.problems import HANDLERS, Problem
from examples.rfq.store import Rfq

__all__ = ["app"]

_LARGEST: Final = 16 * 1024
"""Bytes of a request's body."""
_SLOWEST: Final = 10.0
"""Seconds that a request's body may take."""
_SILENCE: Final = 15.0
"""Seconds after which a stream of events says that it is still there."""
_ID: Final = re.compile(r"[\w-]{1,64}", re.ASCII)
_PAGE: Final = Path(__file__).with_name("page.html")
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


_PUBLIC: Final = frozenset(("/", "/healthz", "/openapi.json"))


def app(booking: RideBooking, *, tokens: Tokens | None = None, limit: RateLimit | None = None) -> Starlette:
    """The application, on a booking service that runs beside it.

    Args:
        booking: what it is the front of.
        tokens: whose they are sees their own RFQs; None: everybody sees all.
        limit: how often one may call; None: as often as they like.
    """
    api = _Api(booking, secured=tokens is not None)
    return Starlette(
        routes=[
            Route("/", api.page),
            Route("/openapi.json", api.openapi),
            Route("/healthz", api.health),
            Route("/city", api.city),
            Route("/rfqs", api.create, methods=["POST"]),
            Route("/rfqs/{rfq}", api.status),
            Route("/rfqs/{rfq}/result", api.result),
            Route("/rfqs/{rfq}/events", api.events),
        ],
        exception_handlers=HANDLERS,
        middleware=[Middleware(Guard, public=_PUBLIC, tokens=tokens, limit=limit)],
    )


class _Api:
    def __init__(self, booking: RideBooking, *, secured: bool) -> None:
        self._booking = booking
        self._document = document(secured=secured)

    async def page(self, _: Request) -> Response:
        return HTMLResponse(_PAGE.read_text(encoding="utf-8"), headers=_HEADERS)

    async def openapi(self, _: Request) -> Response:
        return JSONResponse(self._document)

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "unicorns": len(await self._booking.unicorns())})

    async def city(self, request: Request) -> Response:
        """Where a place is, for the page's map."""
        place = request.query_params.get("place", "").strip()
        if not 0 < len(place) <= 200:
            raise Problem(422, "Invalid place", "place is 1 to 200 characters")
        position = located(place)
        near = await self._booking.near(position)
        return JSONResponse({"place": place, "x": position.x, "y": position.y, "unicorns": len(near)})

    async def create(self, request: Request) -> Response:
        ride = _ride(await _body(request))
        who = caller(request)
        if who is not None and not who.sees(ride.customer):
            raise Problem(403, "Not allowed", "the token is not of this customer")
        rfq = await self._booking.request(ride)
        wait = max(1, round((rfq.eta - clock.now()) / 2))
        headers = {"Location": _url(request, rfq.id), "Retry-After": str(wait)}
        return JSONResponse({**_head(request, rfq), "status": "running"}, 202, headers=headers)

    async def status(self, request: Request) -> Response:
        rfq = await self._found(request)
        if rfq.completed_at is not None:
            return RedirectResponse(_url(request, rfq.id, "/result"), 303)
        body = {**_head(request, rfq), "status": "running", "responses-received": rfq.responses}
        return JSONResponse(body, headers={"Retry-After": "1", "Cache-Control": "no-store"})

    async def result(self, request: Request) -> Response:
        rfq = await self._found(request)
        if rfq.completed_at is None:
            raise Problem(404, "Not complete yet", "quotes are still being gathered", links=_links(request, rfq.id))
        return JSONResponse(self._result(request, rfq))

    async def events(self, request: Request) -> Response:
        """Server-sent events: each quote once, and the completion."""
        rfq = await self._found(request)
        return StreamingResponse(
            _kept_alive(self._events(request, rfq.id)),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _events(self, request: Request, identity: str) -> AsyncGenerator[str, None]:
        sent: set[str] = set()
        async for rfq in self._booking.changes(identity):
            for quote in rfq.quotes:
                if quote.unicorn not in sent:
                    sent.add(quote.unicorn)
                    yield _event("quote", as_json(quote))
            progress = {"responses-received": rfq.responses, "expected": rfq.expected, "eta": _time(rfq.eta)}
            yield _event("progress", progress)
            if rfq.completed_at is not None:
                yield _event("complete", self._result(request, rfq))

    def _result(self, request: Request, rfq: Rfq) -> dict[str, Any]:
        asked = rfq.request
        return {
            "links": _links(request, rfq.id),
            "status": "complete",
            "from": asked.start,
            "to": asked.to,
            "customer": asked.customer,
            "responses-received": rfq.responses,
            "expected": rfq.expected,
            "quotes": [as_json(quote) for quote in rfq.quotes],
        }

    async def _found(self, request: Request) -> Rfq:
        """The RFQ, where it is there for this caller; what is another's is not told from what is not there."""
        identity, who = request.path_params["rfq"], caller(request)
        rfq = await self._booking.get(identity) if _ID.fullmatch(identity) else None
        if rfq is None or (who is not None and not who.sees(rfq.request.customer)):
            raise Problem(404, "No such RFQ", "its id is unknown here")
        return rfq


def _event(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


async def _kept_alive(events: AsyncGenerator[str, None]) -> AsyncIterator[str]:
    """The events, and comments where there is none for long: proxies close what is silent."""
    async with aclosing(events):
        while True:
            following = asyncio.ensure_future(anext(events, None))
            try:
                while not (await asyncio.wait((following,), timeout=_SILENCE))[0]:
                    yield ": \n\n"
            finally:
                following.cancel()
            if (event := following.result()) is None:
                return
            yield event


def _url(request: Request, rfq: str, rest: str = "") -> str:
    return f"{request.base_url}rfqs/{rfq}{rest}"


def _links(request: Request, rfq: str) -> dict[str, str]:
    return {
        "self": _url(request, rfq),
        "result": _url(request, rfq, "/result"),
        "events": _url(request, rfq, "/events"),
    }


def _head(request: Request, rfq: Rfq) -> dict[str, Any]:
    return {"links": _links(request, rfq.id), "eta": _time(rfq.eta)}


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _body(request: Request) -> bytes:
    """The body, as far as it is not too large."""
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(415, "Unsupported media type", "send application/json")
    body = bytearray()
    try:
        async with asyncio.timeout(_SLOWEST):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _LARGEST:
                    raise Problem(413, "Body too large", f"at most {_LARGEST:,} bytes")
    except TimeoutError:
        raise Problem(408, "Body too slow", f"it may take {_SLOWEST:g} s") from None
    return bytes(body)


def _ride(body: bytes) -> RideRequest:
    try:
        return RideRequest.model_validate_json(body)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False, include_context=False)
        if wrong[0]["type"] == "json_invalid":
            raise Problem(400, "Body is not JSON", wrong[0]["msg"]) from None
        errors = [{"field": ".".join(map(str, each["loc"])) or "body", "message": each["msg"]} for each in wrong]
        details = "; ".join(f"{each['field']}: {each['message']}" for each in errors)
        raise Problem(422, "Invalid request for quotes", details, errors=errors) from None
