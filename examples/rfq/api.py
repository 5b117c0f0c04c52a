"""The REST API: 202 with links, 200 while running, 303 to the result, 200 with quotes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import Scope
from starlette.websockets import WebSocket

from eip import clock
from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.console import Console, User
from eip.errors import EipError
from examples.rfq.access import Certified, Guard, caller, is_admitted, while_admitted
from examples.rfq.bodies import read
from examples.rfq.booking import RideBooking
from examples.rfq.city_api import city_routes
from examples.rfq.documents import head, link, links, notice, progress, result_document, ride, where
from examples.rfq.hosts import Hosts
from examples.rfq.identity_api import IDENTITY
from examples.rfq.model import Choice, RideRequest, as_json
from examples.rfq.openapi import BOOKING
from examples.rfq.openapi_terms import document
from examples.rfq.pages import BrowserRules, pages
from examples.rfq.problems import HANDLERS, Problem, upgrade_required
from examples.rfq.push import SILENCE_S, Event, Events, push_over_socket, server_sent_events
from examples.rfq.rate_limit import RateLimit
from examples.rfq.store import Rfq
from examples.rfq.tokens import Caller, TokenOwners
from examples.rfq.unicorn_api import unicorn_routes
from examples.rfq.unicorn_openapi import UNICORNS
from examples.rfq.unicorns import Unicorns
from examples.rfq.webhooks import UrlRefused

__all__ = ["app"]

_lines = RepeatedLines(get_logger("examples.rfq"))

_ID: Final = re.compile(r"[\w-]{1,64}", re.ASCII)
_PUBLIC: Final = frozenset(("/", "/operations", "/operations/", "/unicorn", "/healthz", "/readyz", "/openapi.json"))


def app(
    booking: RideBooking,
    *,
    tokens: TokenOwners | None = None,
    partners: Certified | None = None,
    limit: RateLimit | None = None,
    hosts: Hosts | None = None,
    unicorns: Unicorns | None = None,
) -> Starlette:
    """The application, on a booking service that runs beside it.

    Args:
        booking: what it is the front of.
        tokens: whose they are sees their own RFQs; None: there are none.
        partners: whose certificates they are sees their own RFQs. Without both, everybody sees all.
        limit: how often one may call; None: as often as they like.
        hosts: the names that the service answers to; None: its address and the machine's name.
        unicorns: those that may sign in to this process; None: unicorn management is another process.
    """
    areas = [BOOKING] if unicorns is None else [BOOKING, UNICORNS]
    api = _Api(booking, document(*areas, secured=tokens is not None))
    console = Console(booking.subject(), known=partial(_operator, guarded=bool(tokens or partners)))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await console.aclose()

    return Starlette(
        lifespan=lifespan,
        routes=[
            *(pages("ride", "operations") if unicorns is None else pages("ride", "unicorn", "operations")),
            Route("/openapi.json", api.openapi),
            Route("/healthz", api.health),
            Route("/readyz", api.ready),
            *city_routes(booking),
            Route("/rfqs", api.create, methods=["POST"]),
            Route("/rfqs/{rfq}", api.status),
            Route("/rfqs/{rfq}/result", api.result),
            Route("/rfqs/{rfq}/choice", api.choose, methods=["PUT"]),
            Route("/rfqs/{rfq}/events", api.events),
            WebSocketRoute("/rfqs/{rfq}/socket", api.socket),
            Route("/rfqs/{rfq}/socket", api.no_socket),
            IDENTITY,
            Mount("/operations", console),
            *(() if unicorns is None else unicorn_routes(unicorns)),
        ],
        exception_handlers=HANDLERS,
        middleware=[
            Middleware(BrowserRules),
            Middleware(Guard, public=_PUBLIC, tokens=tokens, partners=partners, limit=limit, hosts=hosts),
        ],
    )


def _operator(scope: Scope, *, guarded: bool) -> User | None:
    """Who asks the console: operators, or where nobody is known by name, whoever reaches the service."""
    if not guarded:
        return User("anybody", "operator")
    found: Caller | None = scope.get("caller")
    if found is None or found.role != "operator" or not is_admitted(HTTPConnection(scope)):
        return None
    return User(found.name, "operator")


class _Api:
    def __init__(self, booking: RideBooking, described: dict[str, Any]) -> None:
        self._booking = booking
        self._document = described

    async def openapi(self, _: Request) -> Response:
        return JSONResponse(self._document)

    async def health(self, _: Request) -> Response:
        """That it lives, whatever else is broken."""
        try:
            present = len(await self._booking.unicorns())
        except EipError:
            return JSONResponse({"status": "ok", "unicorns": None})
        return JSONResponse({"status": "ok", "unicorns": present})

    async def ready(self, _: Request) -> Response:
        """Whether an RFQ can be answered."""
        missing = await self._booking.missing()
        if not missing and not self._booking.answerable:
            missing = ["unicorns: none is present"]
        if missing:
            return JSONResponse({"status": "waiting", "waiting-for": missing}, 503, headers={"Retry-After": "1"})
        return JSONResponse({"status": "ready"})

    async def create(self, request: Request) -> Response:
        asked = await read(request, RideRequest)
        who = caller(request)
        if who is not None and not who.sees(asked.customer):
            raise Problem(403, "Not allowed", "the token is not of this customer")
        try:
            rfq = await self._booking.request(asked, base=_base(request))
        except UrlRefused as error:
            errors = [{"field": "callback", "message": str(error)}]
            raise Problem(422, "Invalid body", f"callback: {error}", errors=errors) from None
        wait = max(1, round((rfq.eta - clock.now()) / 2))
        headers = {"Location": link(_base(request), rfq.id), "Retry-After": str(wait)}
        return JSONResponse({**head(_base(request), rfq), "status": "running", **notice(rfq)}, 202, headers=headers)

    async def status(self, request: Request) -> Response:
        rfq = await self._found(request)
        if rfq.completed_at is not None:
            return RedirectResponse(link(_base(request), rfq.id, "/result"), 303)
        body = {**head(_base(request), rfq), "status": "running", "responses-received": rfq.responses, **notice(rfq)}
        return JSONResponse(body, headers={"Retry-After": "1", "Cache-Control": "no-store"})

    async def result(self, request: Request) -> Response:
        rfq = await self._found(request)
        if rfq.completed_at is None:
            raise Problem(
                404, "Not complete yet", "quotes are still being gathered", links=links(_base(request), rfq.id)
            )
        return JSONResponse(result_document(_base(request), rfq))

    async def choose(self, request: Request) -> Response:
        """Take an offer, once; to say so again changes nothing."""
        rfq = await self._found(request)
        wanted = (await read(request, Choice)).unicorn
        try:
            chosen = (await self._booking.choose(rfq.id, wanted)).choice
        except LookupError:
            raise Problem(422, "No such offer", "that unicorn has made no offer, or not in time") from None
        if chosen != wanted:
            raise Problem(409, "Chosen already", "another offer was chosen before", choice=chosen)
        return JSONResponse({"links": links(_base(request), rfq.id), "choice": chosen})

    async def events(self, request: Request) -> Response:
        """Server-sent events: who was asked, each answer once, how far it is, and the completion."""
        rfq = await self._found(request)
        return server_sent_events(while_admitted(request, self._events(request, rfq.id)))

    async def socket(self, socket: WebSocket) -> None:
        """The same over a web socket."""
        rfq = await self._found(socket)
        await push_over_socket(socket, while_admitted(socket, self._events(socket, rfq.id)))

    async def no_socket(self, request: Request) -> Response:
        """A request that asks for no web socket."""
        await self._found(request)
        raise upgrade_required()

    async def _events(self, request: HTTPConnection, identity: str) -> Events:
        last, sent = None, set[str]()
        try:
            async for rfq in self._booking.changes(identity, silence=SILENCE_S):
                if rfq == last:
                    yield None
                    continue
                for event in _news(last, rfq, sent):
                    yield event
                if rfq.completed_at is not None:
                    yield Event("complete", result_document(_base(request), rfq))
                last = rfq
        except (EipError, LookupError) as error:  # the customer's page comes back
            _lines.warning("events_ended", error=repr(error))

    async def _found(self, request: HTTPConnection) -> Rfq:
        """The RFQ, where it is there for this caller; another customer's counts as not there."""
        identity, who = request.path_params["rfq"], caller(request)
        rfq = await self._booking.get(identity) if _ID.fullmatch(identity) else None
        if rfq is None or (who is not None and not who.sees(rfq.request.customer)):
            raise Problem(404, "No such RFQ", "its id is unknown here")
        return rfq


def _news(last: Rfq | None, rfq: Rfq, sent: set[str]) -> Iterator[Event]:
    """Who was asked, the answers that were not sent yet, and the progress."""
    if last is None:
        yield Event("asked", {**ride(rfq), **where(rfq), "unicorns": rfq.addressed})
    for answer in rfq.answers:
        if answer.unicorn not in sent:
            sent.add(answer.unicorn)
            said = {"unicorn": answer.unicorn} if answer.quote is None else as_json(answer.quote)
            yield Event("declined" if answer.quote is None else "quote", said)
    yield Event("progress", progress(rfq))


def _base(request: HTTPConnection) -> str:
    """What links begin with: the service as it was called, over HTTP also from a web socket."""
    base = request.base_url
    return str(base.replace(scheme=base.scheme.replace("ws", "http")))
