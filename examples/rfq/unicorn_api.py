"""Unicorn management over HTTP: a unicorn signs in, moves, is asked by pushed events, and answers.

A unicorn is known by its token: with a token file by its name there; without one it makes a token for itself, whose
digest is its id. So a unicorn can answer only as itself, on any process of the service, and nobody hands out ids.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from eip.errors import EipError
from examples.lifecycle import Waiting
from examples.rfq.access import Certified, Guard, caller, is_admitted, token, wait_before_call, while_admitted
from examples.rfq.bodies import parsed, read
from examples.rfq.hosts import Hosts
from examples.rfq.model import UnicornAnswer, UnicornPlace
from examples.rfq.openapi_terms import document
from examples.rfq.pages import BrowserRules, pages
from examples.rfq.problems import HANDLERS, Problem, too_many, unavailable, upgrade_required
from examples.rfq.push import Event, Events, last_event_id, push_over_socket, server_sent_events
from examples.rfq.questions import AnsweredAlready, NotAsked, TooLate
from examples.rfq.rate_limit import RateLimit
from examples.rfq.sessions import Full, Session
from examples.rfq.tokens import TokenOwners
from examples.rfq.unicorn_openapi import HOME, UNICORNS
from examples.rfq.unicorns import Unicorns

__all__ = ["unicorn_app", "unicorn_routes"]

_PUBLIC: Final = frozenset(("/", "/unicorn", "/healthz", "/readyz", "/openapi.json"))
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
"""Names of tokens that are ids of unicorns as they are: ids are parts of channels' names."""
_MIN_TOKEN: Final = 32
"""Characters of a token of one's own making: long enough not to be guessed."""


def unicorn_routes(unicorns: Unicorns) -> list[BaseRoute]:
    """The routes of unicorn management."""
    api = _UnicornApi(unicorns)
    return [
        Route("/unicorn/self", api.place, methods=["PUT"]),
        Route("/unicorn/self", api.self, methods=["GET"]),
        Route("/unicorn/self", api.leave, methods=["DELETE"]),
        Route("/unicorn/answers", api.answer, methods=["POST"]),
        Route("/unicorn/events", api.events),
        WebSocketRoute("/unicorn/socket", api.socket),
        Route("/unicorn/socket", api.no_socket),
    ]


def unicorn_app(
    unicorns: Unicorns,
    parts: Sequence[Waiting],
    *,
    tokens: TokenOwners | None = None,
    partners: Certified | None = None,
    limit: RateLimit | None = None,
    hosts: Hosts | None = None,
) -> Starlette:
    """The application of a process that has unicorn management alone.

    Args:
        unicorns: those that are signed in here.
        parts: what must be ready before unicorns can be asked.
        tokens: who may sign in as a unicorn; None: anybody may.
        partners: who may call by a certificate; None: nobody.
        limit: how often one may call; None: as often as they like.
        hosts: the names that it answers to; None: its address and the machine's name.
    """

    async def home(_: Request) -> Response:
        return RedirectResponse("/unicorn")

    async def openapi(_: Request) -> Response:
        return JSONResponse(document(UNICORNS, HOME, secured=tokens is not None))

    async def health(_: Request) -> Response:
        """That it lives, whatever else is broken."""
        return JSONResponse({"status": "ok", "unicorns": len(unicorns)})

    async def ready(_: Request) -> Response:
        """Whether unicorns can be asked."""
        missing = [each for part in parts for each in await part.missing()]
        if missing:
            return JSONResponse({"status": "waiting", "waiting-for": missing}, 503, headers={"Retry-After": "1"})
        return JSONResponse({"status": "ready"})

    return Starlette(
        routes=[
            Route("/", home),
            *pages("unicorn"),
            Route("/openapi.json", openapi),
            Route("/healthz", health),
            Route("/readyz", ready),
            *unicorn_routes(unicorns),
        ],
        exception_handlers=HANDLERS,
        middleware=[
            Middleware(BrowserRules),
            Middleware(Guard, public=_PUBLIC, tokens=tokens, partners=partners, limit=limit, hosts=hosts),
        ],
    )


class _Command(BaseModel):
    """A frame of a unicorn's web socket: one of these, each with the body of the same request."""

    model_config = ConfigDict(extra="forbid")

    place: UnicornPlace | None = None
    answer: UnicornAnswer | None = None
    leave: Literal[True] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.model_fields_set) != 1 or not any((self.place, self.answer, self.leave)):
            raise ValueError("give one of place, answer and leave")
        return self


class _UnicornApi:
    def __init__(self, unicorns: Unicorns) -> None:
        self._unicorns = unicorns

    async def place(self, request: Request) -> Response:
        """Sign in, or move."""
        unicorn = _who(request)
        return _shown(request, await self._sign_in(unicorn, await read(request, UnicornPlace)))

    async def self(self, request: Request) -> Response:
        return _shown(request, self._session(_who(request)))

    async def leave(self, request: Request) -> Response:
        """Sign out; again: nothing."""
        await self._leave(_who(request))
        return Response(status_code=204)

    async def answer(self, request: Request) -> Response:
        """Quote or decline."""
        unicorn = _who(request)
        answer = await read(request, UnicornAnswer)
        await self._answer(unicorn, answer)
        return JSONResponse({"rfq": answer.rfq, "accepted": True})

    async def events(self, request: Request) -> Response:
        """Its place and its questions as server-sent events."""
        session = self._session(_who(request))
        try:
            return server_sent_events(while_admitted(request, session.changes(last_event_id(request))))
        except Full as full:
            raise too_many(str(full)) from None

    async def socket(self, socket: WebSocket) -> None:
        """The same over a web socket, which also takes what a unicorn does; the first may be to sign in."""
        unicorn = _who(socket)
        events = while_admitted(socket, self._events(unicorn, last_event_id(socket)))
        await push_over_socket(socket, events, lambda frame: self._do(socket, unicorn, frame))

    async def no_socket(self, request: Request) -> Response:
        """A request that asks for no web socket."""
        _who(request)
        raise upgrade_required()

    async def _events(self, unicorn: str, after: str) -> Events:
        session = await self._unicorns.arrival(unicorn)
        try:
            async for event in session.changes(after):
                yield event
        except Full as full:
            yield Event("refused", too_many(str(full)).document)

    async def _do(self, socket: WebSocket, unicorn: str, frame: str) -> Event:
        """What a frame asks for."""
        try:
            _check_frame(socket)
            match parsed(frame, _Command):
                case _Command(place=UnicornPlace() as place):
                    return Event("done", (await self._sign_in(unicorn, place)).place())
                case _Command(answer=UnicornAnswer() as answer):
                    await self._answer(unicorn, answer)
                    return Event("done", {"rfq": answer.rfq})
                case _:
                    await self._leave(unicorn)
                    return Event("done", {})
        except Problem as problem:
            return Event("refused", problem.document)
        except EipError as error:
            return Event("refused", unavailable(error).document)

    def _session(self, unicorn: str) -> Session:
        session = self._unicorns.find(unicorn)
        if session is None:
            raise Problem(404, "Not signed in", "sign in first: PUT /unicorn/self")
        return session

    async def _leave(self, unicorn: str) -> None:
        session = self._unicorns.find(unicorn)
        if session is not None:
            await session.leave()

    async def _sign_in(self, unicorn: str, place: UnicornPlace) -> Session:
        try:
            return await self._unicorns.sign_in(unicorn, place.where, place.name)
        except Full as full:
            raise Problem(503, "Full", str(full), headers={"Retry-After": "30"}) from None

    async def _answer(self, unicorn: str, answer: UnicornAnswer) -> None:
        try:
            await self._session(unicorn).answer(answer)
        except NotAsked:
            raise Problem(404, "No such RFQ", "you were not asked, or that was long ago") from None
        except TooLate:
            raise Problem(410, "Too late", "the time of this RFQ was over when your answer came") from None
        except AnsweredAlready:
            raise Problem(409, "Answered already", "another answer was given before") from None


def _check_frame(socket: WebSocket) -> None:
    """Raise why the client may not ask for anything now."""
    if not is_admitted(socket):
        raise Problem(401, "Token required", "the web socket's token or certificate is not valid any more")
    if wait := wait_before_call(socket):
        raise too_many(f"try again in {wait:.1f} s")


def _who(connection: HTTPConnection) -> str:
    """The id of the unicorn that calls."""
    known = caller(connection)
    if known is not None:
        return known.name if _NAME.fullmatch(known.name) else f"n-{_digest(known.name)}"
    given = token(connection)
    if len(given) < _MIN_TOKEN:
        challenge = {"WWW-Authenticate": 'Bearer realm="rfq"'}
        detail = f"make a token of {_MIN_TOKEN} random characters or more, and send it with each call"
        raise Problem(401, "Token required", detail, headers=challenge)
    return f"u-{_digest(given)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _shown(request: Request, session: Session) -> Response:
    links = {name: f"{request.base_url}unicorn/{name}" for name in ("self", "events", "socket", "answers")}
    return JSONResponse({"links": links, **session.place()}, headers={"Cache-Control": "no-store"})
