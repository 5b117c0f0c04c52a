"""The HTTP server: uvicorn behind limits, so that no client can hold it up, fill its log, or use up its descriptors.

At the limit of connections a new one takes the place of the one that has kept the server waiting longest for a whole
request; where every connection is being answered, it gets 503.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

import uvicorn

from eip._connections import CLOSE
from eip._logging import get_logger
from eip._repeated import RepeatedLines
from examples.rfq.connections import Connection, WebSocket
from examples.rfq.tls import Certificate, Trust

__all__ = ["Server", "connection_limit"]

_lines = RepeatedLines(get_logger("examples.rfq"))

_TLS_WITHIN: Final = 10.0
"""Seconds of a TLS handshake, and of its end."""
_MAX_FRAME: Final = 16 * 1024
"""Bytes of what a client sends over a web socket at a time."""
_UNACKNOWLEDGED_WITHIN: Final = 30.0
"""Seconds after which a client that acknowledges nothing of what it is sent counts as gone."""
_DRAIN: Final = 5
"""Seconds that running requests have when the server ends."""
_PAUSE: Final = 0.1
"""Seconds without accepting where there is no room for another connection."""
_YOUNG: Final = 1.0
"""Seconds that a connection may keep the server waiting even at the limit: its request may be on its way."""
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_MOST_DESCRIPTORS: Final = 65_536
_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n" + CLOSE


def connection_limit() -> int:
    """How many connections the process has descriptors for: three of four, after raising the soft limit to the hard."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # a sandbox may forbid it
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return 3 * (_MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, _MOST_DESCRIPTORS)) // 4


class Server:
    """Serves an application until `stop`; a service, see `eip.runtime.service.Service`.

    Args:
        app: an ASGI application.
        sock: bound; closed in the end.
        connections: how many may be open at a time.
        tls: serve HTTPS with this.
        trusted_proxy: the address whose ``X-Forwarded-…`` headers are believed; empty: none.
    """

    def __init__(
        self,
        app: Any,
        sock: socket.socket,
        *,
        connections: int,
        tls: Trust | None = None,
        trusted_proxy: str = "",
    ) -> None:
        config = uvicorn.Config(
            app if tls is None else tls.wrapped(app),
            http=Connection,
            ws=WebSocket,
            ws_max_size=_MAX_FRAME,
            ws_per_message_deflate=False,  # events are small, and each connection would keep two windows
            log_config=None,  # its own writes to standard output, which may be closed
            log_level="error",  # a stranger's garbage is worth no line
            access_log=False,
            timeout_graceful_shutdown=_DRAIN,
            forwarded_allow_ips=trusted_proxy,
            ssl_context_factory=None if tls is None else lambda *_: tls.context,
        )
        self._server = _Uvicorn(config, connections, tls)
        self._socket = sock

    async def missing(self) -> list[str]:
        """What it is not ready without, for people to read; empty: ready."""
        return [] if self._server.started else ["the HTTP server"]

    async def run(self) -> None:
        """Serve until `stop`."""
        await self._server.serve(sockets=[self._socket])

    async def stop(self) -> None:
        """Let requests that were begun finish, and `run` return."""
        self._server.should_exit = True


class _Uvicorn(uvicorn.Server):
    """Accepts by itself, and leaves signals to `eip.run`."""

    def __init__(self, config: uvicorn.Config, connections: int, tls: Trust | None) -> None:
        super().__init__(config)
        self._connections, self._tls = connections, tls

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        acceptors = [_Acceptor(each, self, self._connections, self._tls) for each in sockets or ()]
        self.servers = cast("list[asyncio.base_events.Server]", acceptors)
        self.started = True


class _Acceptor:
    """Accepts the connections of a socket, within a limit; has those methods of `asyncio.Server` that uvicorn calls."""

    def __init__(self, sock: socket.socket, server: uvicorn.Server, limit: int, tls: Trust | None) -> None:
        self._socket, self._server, self._limit, self._tls = sock, server, limit, tls
        self._open: dict[Connection, asyncio.Task[None]] = {}
        """The connections, the oldest first, and what opens and ends each."""
        sock.setblocking(False)
        sock.listen(1024)
        self._task = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        self._task.cancel()

    async def wait_closed(self) -> None:
        await asyncio.wait((self._task,))

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(self._socket)
            except OSError as error:
                _lines.warning("accept_failed", error=str(error))
                if error.errno in _EXHAUSTED:
                    self._make_room()
                    await asyncio.sleep(_PAUSE)
                continue
            if not await self._admit():
                self._refuse(accepted)
                continue
            _notice_loss(accepted)
            connection = Connection(self._server.config, self._server.server_state, self._server.lifespan.state)
            self._open[connection] = loop.create_task(self._serve(connection, accepted))

    async def _admit(self) -> bool:
        """Return once there is room for another connection; False where all are being answered."""
        while len(self._open) >= self._limit and not self._make_room():
            if not any(each.waiting for each in self._open):
                return False
            await asyncio.sleep(_PAUSE)
        return True

    def _make_room(self) -> bool:
        """End a connection that keeps us waiting; False where there is none such."""
        now = asyncio.get_running_loop().time()
        waiting = next((each for each in self._open if each.waiting and now - each.since > _YOUNG), None)
        if waiting is None:
            return False
        _lines.warning("connection_ended_for_another", limit=self._limit)
        self._open.pop(waiting).cancel()
        return True

    def _refuse(self, accepted: socket.socket) -> None:
        _lines.warning("connection_refused", limit=self._limit)
        with accepted, suppress(OSError):
            accepted.setblocking(False)
            if self._tls is None:
                accepted.send(_FULL)
                accepted.recv(65_536)  # closed with something unread it would be a reset, which may overtake the answer

    async def _serve(self, connection: Connection, accepted: socket.socket) -> None:
        context = None if self._tls is None else self._tls.context
        times = {} if context is None else {"ssl_handshake_timeout": _TLS_WITHIN, "ssl_shutdown_timeout": _TLS_WITHIN}
        loop = asyncio.get_running_loop()
        try:
            with accepted, self._known(connection, context):  # once there is a transport it has the socket
                await loop.connect_accepted_socket(lambda: connection, accepted, ssl=context, **times)
                await connection.lost.wait()
        except OSError:  # no handshake, or gone before it
            return
        finally:
            connection.abort()
            self._open.pop(connection, None)

    @contextmanager
    def _known(self, connection: Connection, context: ssl.SSLContext | None) -> Iterator[None]:
        """Let the application know the client's certificate, while the connection lasts."""
        tls = self._tls
        if tls is None or context is None:
            yield
            return

        addresses: list[tuple[str, int]] = []

        def remember(transport: asyncio.Transport) -> None:
            addresses.append(_address(transport))
            tls.certificates[addresses[0]] = (Certificate.of(transport.get_extra_info("ssl_object")), context)

        connection.on_made = remember
        try:
            yield
        finally:
            for address in addresses:
                tls.certificates.pop(address, None)


def _address(transport: asyncio.Transport) -> tuple[str, int]:
    """The client's, as ASGI has it."""
    host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
    return str(host), int(port)


def _notice_loss(accepted: socket.socket) -> None:
    """Have the connection end where the client is gone without a word; otherwise that takes a quarter of an hour."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * _UNACKNOWLEDGED_WITHIN))
