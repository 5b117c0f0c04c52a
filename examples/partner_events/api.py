"""The HTTP interface: have the simulated partner send events, and watch what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from eip import Message
from eip.codec import load_json
from examples.partner_events.intake import PARTNER_EVENTS
from examples.partner_events.partner import KINDS
from examples.partner_events.wiring import System
from examples.rfq.bodies import read
from examples.rfq.problems import Problem

__all__ = ["routes"]

_STATIC: Final = Path(__file__).with_name("static")
_POLICY: Final = {"Content-Security-Policy": "default-src 'self'; img-src 'self' data:", "Cache-Control": "no-cache"}
_SHOWN: Final = 30
_MAX_AT_ONCE: Final = 1000


class _Wanted(BaseModel):
    """The body of `POST /events`."""

    kind: str
    count: int = Field(1, ge=1, le=_MAX_AT_ONCE)


def routes(system: System) -> list[BaseRoute]:
    """The routes of the application and its page."""
    api = _Api(system)
    return [
        Route("/", api.page),
        Route("/kinds", api.kinds),
        Route("/events", api.send, methods=["POST"]),
        Route("/events", api.events),
        Route("/orders/{number}", api.order),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]


class _Api:
    def __init__(self, system: System) -> None:
        self._system = system
        self._dead = system.transport.queue(f"{PARTNER_EVENTS}-dead")

    async def page(self, _: Request) -> Response:
        return FileResponse(_STATIC / "index.html", headers=_POLICY)

    async def kinds(self, _: Request) -> Response:
        return JSONResponse([{"kind": kind, "title": title} for kind, title in KINDS.items()])

    async def send(self, request: Request) -> Response:
        wanted = await read(request, _Wanted)
        if wanted.kind not in KINDS:
            raise Problem(404, "No such kind of event", f"there are {', '.join(KINDS)}")
        for _ in range(wanted.count):
            await self._system.partner.send(wanted.kind)
        return JSONResponse({"sent": wanted.count}, 202)

    async def events(self, _: Request) -> Response:
        journal = self._system.journal
        latest = [{"event": event, **entry._asdict()} for event, entry in journal.latest(_SHOWN)]
        dead = [_document(each) for each in await self._dead.peek(_SHOWN)]
        return JSONResponse({"counts": journal.counts(), "latest": latest, "dead": dead})

    async def order(self, request: Request) -> Response:
        found = await self._system.tables.orders.get(request.path_params["number"])
        if found is None:
            raise Problem(404, "No such order")
        return JSONResponse(load_json(found.value))


def _document(message: Message[Any]) -> dict[str, str | None]:
    reason = message.headers.get("dead-letter-reason", "").removeprefix("Reject: ")
    return {"event": message.id, "type": message.type, "reason": reason}
