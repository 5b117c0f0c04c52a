"""The names under which the service may be called."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from starlette.types import Scope

__all__ = ["Hosts"]

_PORTS: Final = {"http": 80, "https": 443}


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
