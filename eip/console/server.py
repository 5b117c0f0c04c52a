"""The console on a port of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from typing_extensions import override

from eip._checks import check_integer
from eip._connections import Connection
from eip._logging import get_logger
from eip.clock import Duration
from eip.console._answers import BODY_TIMEOUT_S
from eip.console._guard import is_loopback
from eip.console.console import Console
from eip.errors import ConfigurationError
from eip.runtime.service import Service

__all__ = ["ConsoleServer"]

_log = get_logger("eip.console")
_DRAIN_S: Final = 3
"""For requests under way when it ends."""
_MAX_CONNECTIONS: Final = 200


class ConsoleServer(Service):
    """Serves a console; a service, to run beside an application or in it: ``app.add(ConsoleServer(Console(app)))``.

    Args:
        console: what is served; closed in the end.
        port: to listen on; 0: a free one, see `port`.
        host: address to listen on; one that other machines reach needs a console with tokens.

    Raises:
        ConfigurationError: without tokens, an address that others reach; raised by `run` where the port is taken.
    """

    def __init__(self, console: Console, port: int = 8081, *, host: str = "127.0.0.1") -> None:
        if not console.is_guarded and not is_loopback(host):
            raise ConfigurationError(
                f"host must be a loopback address without tokens, got {host!r}; make some: eip console-token FILE NAME"
            )
        self.name = "console"
        self.ready = asyncio.Event()
        self.port = check_integer("port", port, least=0)
        """Where it listens."""
        self.grace = float(_DRAIN_S)
        self._console, self._host = console, host
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()
        self._running = False

    @override
    async def run(self) -> None:
        self._running = True
        try:
            with self._listening() as sock:
                self.port = int(sock.getsockname()[1])
                await self._serve(sock)
        finally:
            self._running = False
            self.ready.clear()
            self._stop.clear()
            self._ended.set()

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}/"

    @contextmanager
    def _listening(self) -> Iterator[socket.socket]:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            sock = socket.create_server((self._host, self.port), family=family)
        except OSError as error:
            raise ConfigurationError(f"port {self.port} of {self._host} cannot be listened on: {error}") from error
        with sock:
            yield sock

    async def _serve(self, sock: socket.socket) -> None:
        self._console.reopen()
        config = uvicorn.Config(
            self._console,
            http=_Connection,
            lifespan="off",
            ws="none",
            log_config=None,  # its own writes to standard output, which may be closed
            log_level="error",
            access_log=False,  # a line would hold ids of messages
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=_DRAIN_S,
            proxy_headers=False,
            server_header=False,
        )
        server = _Uvicorn(config, self.ready)
        serving = asyncio.create_task(server.serve(sockets=[sock]), name="console server")
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            server.should_exit = True
            await self._console.aclose()
            await asyncio.shield(serving)
        _log.info("console_ended")

    @override
    async def stop(self, *, grace: Duration | None = None) -> None:
        del grace  # requests are short; streams end at once
        self._stop.set()
        if self._running:
            await self._ended.wait()


class _Connection(Connection):
    body_within = BODY_TIMEOUT_S + 5.0


class _Uvicorn(uvicorn.Server):
    """Reports when it listens, and leaves signals to `eip.run`."""

    def __init__(self, config: uvicorn.Config, ready: asyncio.Event) -> None:
        super().__init__(config)
        self._ready = ready

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready.set()
