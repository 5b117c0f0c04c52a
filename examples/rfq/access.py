"""Who calls, and how often they may: bearer tokens, a rate limit, and no calls from other sites' pages.

A token file holds digests only. ``python -m examples.rfq.access FILE NAME`` makes a token, prints it once and adds its
digest to the file. A customer sees the RFQs of their own name; an operator sees the console and no RFQ; a
unicorn is asked and answers under its own name. Web sockets are guarded as requests are; since scripts in browsers
cannot send headers with them, the token may come as a protocol: ``bearer.TOKEN`` beside ``rfq``.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import math
import secrets
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, Protocol, TypeAlias, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from eip.errors import ConfigurationError
from examples.rfq.model import Text
from examples.rfq.problems import Problem, too_many

__all__ = [
    "BearerTokens",
    "Caller",
    "Certified",
    "Guard",
    "Hosts",
    "RateLimit",
    "Role",
    "TokenOwners",
    "Tokens",
    "caller",
    "token",
    "wait_before_call",
]

_REMEMBERED: Final = 10_000
"""Callers whose rate is known; the one who called longest ago is forgotten first."""
_SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
Role: TypeAlias = Literal["customer", "operator", "unicorn"]
_RESERVED: Final[dict[str, Role]] = {"/operations/": "operator", "/unicorn/": "unicorn"}
"""What is under these may be called in that role only; everything else by customers."""
_ANY_ROLE: Final = frozenset(("/identity",))
_IN_PROTOCOL: Final = "bearer."
_STATIC: Final = ("/static/", "/operations/static/")
_PROBES: Final = frozenset(("/healthz", "/readyz"))
"""Load balancers ask for them under any name; no link is in their answers."""
_PORTS: Final = {"http": 80, "https": 443}

Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who a token belongs to."""

    name: str
    role: Role = "customer"

    def sees(self, customer: str) -> bool:
        """Whether the customer's RFQs are theirs to see."""
        return self.role == "customer" and self.name == customer


class Tokens(BaseModel):
    """A token file: by name, the SHA-256 of each token. Tokens are random, so a plain digest cannot be turned back."""

    model_config = ConfigDict(extra="forbid")

    customers: dict[Text, Digest] = Field(default_factory=dict)
    operators: dict[Text, Digest] = Field(default_factory=dict)
    unicorns: dict[Text, Digest] = Field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Tokens:
        """Read a token file; raises `ConfigurationError` where it is none."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.errors(include_input=False)[0]["msg"]
            raise ConfigurationError(f"{path} is no token file: {reason}") from None

    def save(self, path: Path) -> None:
        """Write the file, for its owner only, in one step."""
        fresh = path.with_name(f"{path.name}.new")
        fresh.touch(mode=0o600)
        fresh.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        fresh.replace(path)

    def grant(self, name: str, role: Role = "customer") -> str:
        """A new token for the name in that role, in place of its former one."""
        made = secrets.token_urlsafe(32)
        self._known(role)[name] = _digest(made)
        return made

    def _known(self, role: Role) -> dict[str, str]:
        return {"customer": self.customers, "operator": self.operators, "unicorn": self.unicorns}[role]

    def owner(self, given: str) -> Caller | None:
        """Whose token it is, or None; takes the same time whoever it is."""
        digest_given, found = _digest(given), None
        for role in get_args(Role):
            for name, digest in self._known(role).items():
                if hmac.compare_digest(digest, digest_given):
                    found = Caller(name=name, role=role)
        return found


class TokenOwners(Protocol):
    """Knows whose tokens are whose."""

    def owner(self, given: str) -> Caller | None:
        """Whose token it is, or None."""
        ...


class BearerTokens:
    """Tokens of several kinds.

    Args:
        kinds: of which the first that knows a token has it.
    """

    def __init__(self, *kinds: Callable[[], TokenOwners]) -> None:
        self._kinds = kinds

    def owner(self, given: str) -> Caller | None:
        """Whose token it is, or None."""
        return next((found for kind in self._kinds if (found := kind().owner(given)) is not None), None)


class Certified(Protocol):
    """Knows callers by the certificates that they show; see `examples.rfq.partners.Partners`."""

    def caller(self, request: HTTPConnection) -> Caller | None:
        """Who calls, by their certificate."""
        ...

    def refusal(self, request: HTTPConnection) -> Problem | None:
        """Why a client that is no known caller is not let in; None: it may be."""
        ...


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class RateLimit:
    """A token bucket for each caller.

    Args:
        rate: calls a second, in the long run; after a rest, twice as many (at least one) may come at once.
    """

    def __init__(self, rate: float) -> None:
        self._rate, self._burst = rate, max(1.0, 2 * rate)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By caller, how much was left and when."""

    def take(self, key: str) -> float:
        """Note a call; the seconds after which it may be tried again, 0 where it may be made now."""
        now = asyncio.get_running_loop().time()
        left, then = self._buckets.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        wait = max(0.0, (1 - left) / self._rate)
        self._buckets[key] = (left if wait else left - 1, now)
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        return wait


class Hosts:
    """The names that the service answers to: links in answers are made of the ``Host`` header, which anybody can forge.

    Always known are the address that the client connected to and this machine's name, with the port; on a loopback
    address, ``localhost`` as well.

    Args:
        allowed: more of them, as the header has them: with the port where it is not the scheme's own.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(each.lower() for each in allowed)
        self._machine = {socket.gethostname().lower()}

    def knows(self, scope: Scope, host: str) -> bool:
        """Whether a request's ``Host`` is one of ours."""
        return host.lower() in self._allowed or host.lower() in self._local(scope)

    def _local(self, scope: Scope) -> set[str]:
        address, port = scope.get("server") or ("", None)
        names = {f"[{address}]" if ":" in address else address.lower(), *self._machine}
        if _is_loopback(address):
            names.add("localhost")
        with_port = {f"{name}:{port}" for name in names}
        return with_port | names if port in (None, _PORTS.get(scope["scheme"])) else with_port


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


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
        if known is None:
            self._refuse(request)
            return
        role = next((role for under, role in _RESERVED.items() if path.startswith(under)), "customer")
        if known.role != role and path not in _ANY_ROLE:
            raise Problem(403, "Not allowed", f"this is for {role}s")
        request.scope["caller"] = known

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
    if urlsplit(origin).netloc != request.headers.get("host"):
        raise Problem(403, "Cross-site request", "pages of other sites may not call this")


def main() -> int:
    """Make a token; the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.rfq.access", description="Make a token.")
    parser.add_argument("file", type=Path, help="the token file; made where there is none")
    parser.add_argument("name", help="the customer's name, as in their requests")
    role = parser.add_mutually_exclusive_group()
    role.add_argument("--operator", action="store_const", const="operator", dest="role", help="for operations instead")
    role.add_argument("--unicorn", action="store_const", const="unicorn", dest="role", help="for a unicorn instead")
    options = parser.parse_args()
    try:
        tokens = Tokens.load(options.file) if options.file.exists() else Tokens()
        made = tokens.grant(options.name.strip(), options.role or "customer")
        tokens.model_validate(tokens.model_dump()).save(options.file)
    except (ConfigurationError, ValidationError, OSError) as error:
        print(f"no token made: {error}", file=sys.stderr)
        return 1
    print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
