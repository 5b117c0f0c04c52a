"""Addresses of brokers, and credentials."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from eip.errors import ConfigurationError

__all__ = ["Credentials", "CredentialsSource", "Server", "parse_servers"]

_PORTS: Final = {"stomp": 61613, "stomp+ssl": 61614}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user and a password; the repr hides the password."""

    user: str
    password: str = field(repr=False)


CredentialsSource = Callable[[], Awaitable[Credentials | None]]
"""Returns the credentials for one connection; called for each, so that a rotated password is used. None: anonymous."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A broker's address."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"stomp{'+ssl' if self.tls else ''}://{self.host}:{self.port}"


def parse_servers(url: str) -> tuple[Sequence[Server], Credentials | None]:
    """Return the brokers of a URL, and the first credentials in it.

    Args:
        url: ``stomp+ssl://user:password@active:61614,stomp+ssl://standby:61614``.

    Raises:
        ConfigurationError: a wrong URL. The text shows nothing of it, as its password may be in any part.
    """
    servers: list[Server] = []
    found: Credentials | None = None
    for number, each in enumerate(url.split(","), 1):
        try:
            parts = urlsplit(each.strip())
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ConfigurationError(f"address {number} of the URL is not a broker's, such as stomp+ssl://host:61614")
        servers.append(Server(host=parts.hostname, port=port or _PORTS[parts.scheme], tls=parts.scheme.endswith("ssl")))
        if parts.username is not None and found is None:
            found = Credentials(user=unquote(parts.username), password=unquote(parts.password or ""))
    return servers, found
