"""Who may call what, and how often: by a token or a certificate, under a known name, not from other sites' pages.

A customer sees the RFQs of their own name; an operator sees the console and no RFQ; a unicorn is asked and
answers under its own name. Web sockets are guarded as requests are; since scripts in browsers cannot send headers with
them, the token may come as a protocol: ``bearer.TOKEN`` beside ``rfq``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import aclosing
from functools import partial
from typing import Final, Protocol

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from examples.rfq.hosts import Hosts
from examples.rfq.problems import Problem, too_many
from examples.rfq.push import Events
from examples.rfq.rate_limit import RateLimit
from examples.rfq.tokens import Caller, Role, TokenOwners

__all__ = ["Certified", "Guard", "caller", "is_admitted", "token", "wait_before_call", "while_admitted"]

_SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_RESERVED: Final[dict[str, Role]] = {"/operations/": "operator", "/unicorn/": "unicorn"}
"""What is under these may be called in that role only; everything else by customers."""
_ANY_ROLE: Final = frozenset(("/identity",))
_IN_PROTOCOL: Final = "bearer."
_STATIC: Final = ("/static/", "/operations/static/")
_PROBES: Final = frozenset(("/healthz", "/readyz"))
"""Load balancers ask for them under any name; no link is in their answers."""


class Certified(Protocol):
    """Knows callers by the certificates that they show; see `examples.rfq.partners.Partners`."""

    def caller(self, request: HTTPConnection) -> Caller | None:
        """Who calls, by their certificate."""
        ...

    def refusal(self, request: HTTPConnection) -> Problem | None:
        """Why a client that is no known caller is not let in; None: it may be."""
        ...


def caller(request: HTTPConnection) -> Caller | None:
    """Who calls; None where no tokens are asked for."""
    found: Caller | None = request.scope.get("caller")
    return found


def token(request: HTTPConnection) -> str:
    """The bearer token of a request or a web socket; empty: it has none."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return given.strip()
    offered: Iterable[str] = request.scope.get("subprotocols", ())
    return next((each.removeprefix(_IN_PROTOCOL) for each in offered if each.startswith(_IN_PROTOCOL)), "")


def wait_before_call(request: HTTPConnection) -> float:
    """Note one more call on an open web socket; the seconds after which it may be made, 0: now."""
    take: Callable[[], float] | None = request.scope.get("rate")
    return 0.0 if take is None else take()


def is_admitted(request: HTTPConnection) -> bool:
    """Whether the caller would still be let in: a token may be over, or was taken away, since the request came."""
    still: Callable[[], bool] | None = request.scope.get("is_admitted")
    return still is None or still()


async def while_admitted(request: HTTPConnection, events: Events) -> Events:
    """The events until the caller would not be let in any more; silences are looks, too."""
    async with aclosing(events):
        async for event in events:
            if not is_admitted(request):
                return
            yield event


class Guard:
    """ASGI middleware: lets a request in, or answers it with a problem document.

    Args:
        app: what it guards.
        public: paths that anybody may call at any rate, in addition to those of static files.
        tokens: who may call what; None: there are none.
        partners: who may call by a certificate; None: nobody. Without both, anybody may call anything.
        limit: how often a caller (if nobody known: an address) may call; None: as often as they like.
        hosts: the names that the service answers to.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        public: frozenset[str],
        tokens: TokenOwners | None = None,
        partners: Certified | None = None,
        limit: RateLimit | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        self._app, self._public, self._limit = app, public, limit
        self._tokens, self._partners = tokens, partners
        self._hosts = hosts or Hosts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] in ("http", "websocket"):
            try:
                self._admit(HTTPConnection(scope))
            except Problem as problem:
                await problem.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, request: HTTPConnection) -> None:
        path: str = request.scope["path"]
        host = request.headers.get("host")
        if host is not None and path not in _PROBES and not self._hosts.knows(request.scope, host):
            raise Problem(421, "Unknown host", "the service is not known by that name; see its option --allowed-host")
        _refuse_other_sites(request)
        if path in self._public or path.startswith(_STATIC):
            return
        known = self._known(request)
        address = request.client.host if request.client else ""
        if self._limit is not None:
            request.scope["rate"] = partial(self._limit.take, f"caller {known}" if known else f"host {address}")
        if wait := wait_before_call(request):
            seconds = math.ceil(wait)
            raise too_many(f"try again in {seconds} s", seconds=seconds)
        request.scope["is_admitted"] = partial(self._is_admitted, request, known)
        if known is None:
            self._refuse(request)
            return
        role = next((role for under, role in _RESERVED.items() if path.startswith(under)), "customer")
        if known.role != role and path not in _ANY_ROLE:
            raise Problem(403, "Not allowed", f"this is for {role}s")
        request.scope["caller"] = known

    def _is_admitted(self, request: HTTPConnection, known: Caller | None) -> bool:
        is_trusted: Callable[[], bool] = request.scope.get("is_trusted", lambda: True)
        return is_trusted() and self._known(request) == known

    def _known(self, request: HTTPConnection) -> Caller | None:
        """Who calls: by a token where one is given, otherwise by a certificate."""
        given = token(request)
        if self._tokens is not None and given:
            return self._tokens.owner(given)
        return None if self._partners is None else self._partners.caller(request)

    def _refuse(self, request: HTTPConnection) -> None:
        """Raise why somebody unknown may not call, unless everybody may."""
        refusal = None if self._partners is None else self._partners.refusal(request)
        if refusal is not None and not (self._tokens is not None and token(request)):
            raise refusal
        if self._tokens is not None:
            challenge = {"WWW-Authenticate": 'Bearer realm="rfq"'}
            raise Problem(401, "Token required", "send a valid token: Authorization: Bearer …", headers=challenge)


def _refuse_other_sites(request: HTTPConnection) -> None:
    """A browser names the page that a write or a web socket comes from; only our own may."""
    origin = request.headers.get("origin")
    if request.scope.get("method") in _SAFE or origin is None:
        return
    if origin.partition("://")[2] != request.headers.get("host"):
        raise Problem(403, "Cross-site request", "pages of other sites may not call this")
