"""Names of destinations, and the addresses that travel in messages.

``activemq:queue/NAME``, ``activemq:topic/NAME``, and ``activemq:temp-queue/ID`` for a temporary queue of another
connection. To the broker a name may be more than a name (a list, a wildcard, options), so what strangers send is held
to plain ones.
"""

from __future__ import annotations

import re
from typing import Final

from eip.errors import ConfigurationError

__all__ = ["SCHEME", "checked_name", "parse", "to_address", "to_destination"]

SCHEME: Final = "activemq:"
_NAME: Final = re.compile(r"[A-Za-z0-9_$-][A-Za-z0-9_.$-]{0,249}")
_TEMPORARY: Final = re.compile(r"ID:[A-Za-z0-9_.:-]{1,250}")
_OWN: Final = re.compile(r"eip-[0-9a-f]{32}")
_PREFIXES: Final = {
    "/queue/": "queue",
    "/topic/": "topic",
    "/remote-temp-queue/": "temp-queue",
}


def checked_name(name: str) -> str:
    """The name of a queue or topic; raises `ConfigurationError` for what the broker takes for more than that."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name[:80]!r} is no name of a queue or topic: letters, digits and - _ . $, up to 250"
        )
    return name


def parse(address: str) -> tuple[str, str] | None:
    """Kind and name of an address: ``queue``, ``topic``, ``temp-queue``, ``own-temp-queue``; None for any other."""
    kind, slash, name = address.removeprefix(SCHEME).partition("/")
    if not address.startswith(SCHEME) or not slash:
        return None
    if kind in ("queue", "topic"):
        return (kind, name) if _NAME.fullmatch(name) else None
    if kind == "temp-queue" and _TEMPORARY.fullmatch(name):
        return kind, name
    if kind == "temp-queue" and _OWN.fullmatch(name):
        return "own-temp-queue", name
    return None


def to_destination(address: str) -> str | None:
    """The broker's own name of an address; None for one of elsewhere."""
    match parse(address):
        case ("temp-queue", name):
            return f"/remote-temp-queue/{name}"
        case ("own-temp-queue", name):
            return f"/temp-queue/{name}"
        case (kind, name):
            return f"/{kind}/{name}"
    return None


def to_address(destination: str) -> str | None:
    """The address of what a broker calls a destination; None for what is no plain one."""
    for prefix, kind in _PREFIXES.items():
        if destination.startswith(prefix):
            address = f"{SCHEME}{kind}/{destination.removeprefix(prefix)}"
            return address if parse(address) else None
    if destination.startswith("/temp-queue/"):  # of the very connection that receives it
        address = f"{SCHEME}temp-queue/{destination.removeprefix('/temp-queue/')}"
        return address if parse(address) else None
    return None
