"""Calls of a customer's URL: only to hosts that are allowed, never to private addresses, signed, and without redirects.

A URL that a customer gives is a way to make this service call something for them. So its host must be on a list, its
scheme is HTTPS, and the connection goes to an address that was looked at before: a name that resolves to an address of
a private network, or to another one at the second look, leads nowhere. A redirect is a failure. Signatures are those of
https://www.standardwebhooks.com: over id, timestamp and body, so that a call cannot be replayed later.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import h11

from eip.errors import EipError

__all__ = ["Answer", "Target", "UrlRefused", "UrlRules", "WebhookFailed", "post", "secret_of", "signed"]

_MAX_URL: Final = 2000
_WITHIN: Final = 10.0
"""Seconds of a call, from looking the name up to the head of the answer."""
_MAX_ADDRESSES: Final = 3
"""Of a host that are tried."""
_NAT64: Final = IPv6Network("64:ff9b::/96")
"""Stands for IPv4 addresses (RFC 6052)."""
_UNSAFE: Final = frozenset(' "<>\\^`{|}')
"""What no URL holds unescaped (RFC 3986)."""
_LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))


class UrlRefused(ValueError):
    """The URL may not be called; the text tells the customer why."""


class WebhookFailed(EipError):
    """The call got no answer."""


class Target(NamedTuple):
    """A URL, taken apart."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The ``Host`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _port(self.scheme) else f"{host}:{self.port}"


class UrlRules:
    """Which URLs may be called.

    Args:
        hosts: their names, in full, with the port where it is not 443: ``partner.example``, ``partner.example:8443``.
        loopback: whether loopback addresses may be called too, over plain HTTP as well: for development.
        tls: trusts the hosts' certificates; None: the system's authorities.
    """

    def __init__(self, hosts: Iterable[str] = (), *, loopback: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self._hosts = frozenset(each.lower().removesuffix(":443") for each in hosts)
        self._loopback = loopback
        self.tls = tls or ssl.create_default_context()

    def check(self, url: str) -> Target:
        """The URL taken apart; raises `UrlRefused` for one that may not be called."""
        target = _parsed(url)
        if self._loopback and target.host in _LOOPBACK:
            return target
        if target.scheme != "https":
            raise UrlRefused("it must begin with https://")
        if target.authority not in self._hosts:
            raise UrlRefused("its host is not one of those that this service may call")
        return target

    def allows(self, address: str) -> bool:
        """Whether an address, to which an allowed name resolves, may be connected to."""
        given = ip_address(address.partition("%")[0])
        inside = [given, *_embedded(given)]
        if given.is_loopback:
            return self._loopback
        return all(each.is_global and not each.is_multicast and not each.is_reserved for each in inside)


def _parsed(url: str) -> Target:
    reason = f"it must be an https URL of up to {_MAX_URL} ASCII letters, without user, password and fragment"
    plain = len(url) <= _MAX_URL and url.isascii() and url.isprintable() and not set(url) & _UNSAFE
    try:
        parts = urlsplit(url if plain else "")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UrlRefused(reason) from None
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        raise UrlRefused(reason)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    return Target(parts.scheme, host.lower().removesuffix("."), _port(parts.scheme) if port is None else port, path)


def _port(scheme: str) -> int:
    return {"https": 443, "http": 80}.get(scheme.lower(), 0)


def _embedded(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for."""
    if isinstance(address, IPv4Address):
        return []
    nat64 = IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
    found = [address.ipv4_mapped, address.sixtofour, nat64, *(address.teredo or ())]
    return [each for each in found if each is not None]


# Signatures.


def secret_of(master: bytes, customer: str) -> bytes:
    """A customer's own key, from which nobody can tell another's."""
    return hmac.new(master, customer.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()


def signed(secret: bytes, *, identity: str, at: int, body: bytes) -> dict[str, str]:
    """The headers of a call.

    Args:
        secret: the customer's.
        identity: the same for each attempt, so that the receiver can tell a repeated call.
        at: seconds since the epoch; receivers refuse a call that is minutes old.
        body: what is sent.
    """
    digest = hmac.new(secret, f"{identity}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


# Calling.


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer; nothing else of it is read."""

    status: int
    retry_after: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the receiver has the call."""
        return 200 <= self.status < 300


async def post(target: Target, body: bytes, headers: Mapping[str, str], rules: UrlRules) -> Answer:
    """Send the body; raises `WebhookFailed` where there is no answer within ten seconds."""
    try:
        async with asyncio.timeout(_WITHIN):
            reader, writer = await _connected(target, rules)
            try:
                return await _exchange(reader, writer, target, body, headers)
            finally:
                writer.transport.abort()
    except (OSError, h11.RemoteProtocolError, EOFError) as error:
        reason = f"no answer within {_WITHIN:g} s" if isinstance(error, TimeoutError) else str(error)
        raise WebhookFailed(f"{target.authority}: {reason or repr(error)}") from None


async def _connected(target: Target, rules: UrlRules) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    tls: dict[str, Any] = {"ssl": rules.tls, "server_hostname": target.host} if target.scheme == "https" else {}
    failure: OSError = OSError("it has no address")
    for address in await _addresses(target, rules):
        try:
            return await asyncio.open_connection(address, target.port, **tls)
        except OSError as error:
            failure = error
    raise failure


async def _addresses(target: Target, rules: UrlRules) -> list[str]:
    """Where the host is; raises where one of its addresses may not be called: then none is."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    if not all(map(rules.allows, addresses)):
        raise OSError("it has an address that is not public")
    return addresses[:_MAX_ADDRESSES]


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    target: Target,
    body: bytes,
    headers: Mapping[str, str],
) -> Answer:
    connection = h11.Connection(h11.CLIENT)
    fields = {"Host": target.authority, "Content-Length": str(len(body)), "Connection": "close", **headers}
    request = h11.Request(method="POST", target=target.path, headers=list(fields.items()))
    for event in (request, h11.Data(data=body), h11.EndOfMessage()):
        writer.write(connection.send(event) or b"")
    await writer.drain()
    while not isinstance(answer := connection.next_event(), h11.Response):
        if isinstance(answer, h11.InformationalResponse):
            continue
        if answer is not h11.NEED_DATA:
            raise EOFError("it ended without an answer")
        connection.receive_data(await reader.read(65_536))
    found = {name.lower(): value for name, value in answer.headers}
    return Answer(answer.status_code, found.get(b"retry-after", b"").decode("ascii", "replace"))
