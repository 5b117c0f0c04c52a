"""The HTTP server, as a service beside the others."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from eip._connections import Connection
from examples.rfq.problems import HANDLERS

__all__ = ["HttpServer"]

_SHARED: Final = Path(__file__).with_name("shared")
"""Scripts of more than one page."""
_MAX_CONNECTIONS: Final = 1000
_DRAIN_S: Final = 5
"""Seconds that running requests have when the server ends."""


class HttpServer:
    """Serves routes on a socket until `stop`; a service, see `eip.runtime.service.Runnable`."""

    def __init__(self, routes: Sequence[BaseRoute], sock: socket.socket) -> None:
        shared = Mount("/shared", StaticFiles(directory=_SHARED))
        app = Starlette(routes=[*routes, shared], exception_handlers=HANDLERS)
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                http=_Connection,
                ws="none",
                log_config=None,  # its own writes to standard output, which may be closed
                log_level="error",
                access_log=False,
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_graceful_shutdown=_DRAIN_S,
                forwarded_allow_ips="",
            )
        )
        self._socket = sock

    async def run(self) -> None:
        await self._server.serve(sockets=[self._socket])

    async def stop(self) -> None:
        self._server.should_exit = True


class _Connection(Connection):
    body_within = 300.0  # of a photo or a scan


class _Uvicorn(uvicorn.Server):
    """Leaves signals to `eip.run`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
