"""Names of destinations, and the addresses that travel in messages.

``activemq:queue/NAME``, ``activemq:topic/NAME``, and ``activemq:temp-queue/ID`` for a temporary queue of another
connection. To the broker a name may be a list, a wildcard, or hold options, so addresses from strangers must have plain
names.
"""

from __future__ import annotations

import re
from typing import Final

from eip._checks import check_type
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
    """Return the name of a queue or topic; raises `ConfigurationError` if it means more to the broker."""
    check_type("name", name, str, "a string")
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"the name of a queue or topic must be 1 to 250 letters, digits, - _ . or $, got {name[:80]!r}"
        )
    return name


def parse(address: str) -> tuple[str, str] | None:
    """Return kind and name of an address; None for one that is not of a broker.

    The kinds are ``queue``, ``topic``, ``temp-queue``, and ``own-temp-queue`` for one of this process.
    """
    check_type("address", address, str, "a string")
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
    """Return the broker's own name of an address; None for an address that is not of a broker."""
    match parse(address):
        case ("temp-queue", name):
            return f"/remote-temp-queue/{name}"
        case ("own-temp-queue", name):
            return f"/temp-queue/{name}"
        case (kind, name):
            return f"/{kind}/{name}"
    return None


def to_address(destination: str) -> str | None:
    """Return the address of a destination as the broker names it; None if the name is not a plain one."""
    for prefix, kind in _PREFIXES.items():
        if destination.startswith(prefix):
            address = f"{SCHEME}{kind}/{destination.removeprefix(prefix)}"
            return address if parse(address) else None
    if destination.startswith("/temp-queue/"):  # of the connection that receives it
        address = f"{SCHEME}temp-queue/{destination.removeprefix('/temp-queue/')}"
        return address if parse(address) else None
    return None
