"""Who is let in: tokens where there are some, otherwise this machine alone; and no pages of other sites."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Final, Protocol, TypeAlias
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eip._http import RequestRefused, problem
from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.console.tokens import User

__all__ = ["Admission", "Guard", "KnownUser", "UserFinder", "is_admitted", "is_loopback", "user_of"]

_lines = RepeatedLines(get_logger("eip.console"))
_SAFE: Final = frozenset(("GET", "HEAD"))
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "via")
"""Headers that a proxy adds: then the one who asks is not on this machine."""
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_MAX_TOKEN: Final = 1000


class UserFinder(Protocol):
    """Knows whose tokens are whose."""

    def user(self, token: str) -> User | None:
        """Whose token it is, or None."""
        ...


KnownUser: TypeAlias = Callable[[Scope], User | None]
"""Who a request is from, by its ASGI scope; None: nobody who may use the console."""


class Guard:
    """ASGI middleware around all: without tokens it lets in this machine only; adds headers for browsers.

    Args:
        app: what it guards.
        is_local: whether only this machine is let in.
    """

    def __init__(self, app: ASGIApp, *, is_local: bool) -> None:
        self._app, self._is_local = app, is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if self._is_local:
            try:
                _check_local(scope, Headers(scope=scope))
            except RequestRefused as refusal:
                await _refuse(refusal, scope, receive, with_headers)
                return
        await self._app(scope, receive, with_headers)


class Admission:
    """ASGI middleware around the API: lets in those who may use the console, and no pages of other sites.

    Args:
        app: what it guards.
        tokens: who may ask.
        known: who asks, where the application around it knows.
        local: who asks, without tokens.
    """

    def __init__(self, app: ASGIApp, *, tokens: UserFinder | None, known: KnownUser | None, local: User) -> None:
        self._app, self._tokens, self._known, self._local = app, tokens, known, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":  # a web socket, for which there is no route
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            _check_site(scope, headers)
            user = scope["eip_console_user"] = self._user(scope, headers)
            scope["eip_console_is_admitted"] = partial(self._is_admitted, scope, headers, user)
        except RequestRefused as refusal:
            await _refuse(refusal, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_admitted(self, scope: Scope, headers: Headers, user: User) -> bool:
        try:
            return self._user(scope, headers) == user
        except RequestRefused:
            return False

    def _user(self, scope: Scope, headers: Headers) -> User:
        if self._known is not None:
            known = self._known(scope)
            if known is None:
                raise RequestRefused(403, "the console is not for you")
            return known
        if self._tokens is None:
            return self._local
        scheme, _, given = headers.get("authorization", "").partition(" ")
        token = given.strip() if scheme.lower() == "bearer" and len(given) <= _MAX_TOKEN else ""
        found = self._tokens.user(token)
        if found is None:
            raise RequestRefused(401, "a valid token is needed", {"WWW-Authenticate": 'Bearer realm="eip console"'})
        return found


def user_of(scope: Scope) -> User:
    """Who asks."""
    found: User = scope["eip_console_user"]
    return found


def is_admitted(scope: Scope) -> bool:
    """Whether who asked would still be let in, as the same: for answers that take their time."""
    still: Callable[[], bool] = scope["eip_console_is_admitted"]
    return still()


async def _refuse(refusal: RequestRefused, scope: Scope, receive: Receive, send: Send) -> None:
    client = scope.get("client")
    _lines.warning("console_refused", client=client[0] if client else None, reason=refusal.reason)
    await problem(refusal)(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Whether an address, or ``localhost``, is of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check_local(scope: Scope, headers: Headers) -> None:
    """Without tokens only this machine is let in, by a name of its own: another name may be a page's trick."""
    client = scope.get("client")
    if client is None or not is_loopback(client[0]) or any(name in headers for name in _FORWARDED):
        raise RequestRefused(403, "without tokens the console is for this machine only; give it tokens")
    try:
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        host = ""
    if not is_loopback(host):
        raise RequestRefused(421, "without tokens the console answers to localhost only")


def _check_site(scope: Scope, headers: Headers) -> None:
    """A browser tells which page asks; only ours may."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise RequestRefused(403, "requests from pages of other sites are refused")
    if scope["method"] in _SAFE:
        return
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        raise RequestRefused(403, "requests from pages of other sites are refused")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestRefused(415, "a change is sent as application/json")
