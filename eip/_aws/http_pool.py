"""POST requests over kept connections to one server: the little of HTTP that a service's hot calls need.

A request has a connection for itself from its first byte to the last of the answer. The connection is used again only
where the answer says so, was read to its end, and nothing came after it; whatever ends a request early, cancellation
and time-outs included, closes it. Nothing is sent a second time here: whether that is safe, the caller knows.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from contextlib import suppress
from typing import Final, cast

from aiohappyeyeballs import start_connection
from typing_extensions import override

from eip._aws.http_response import MalformedResponse, Response, ResponseParser

__all__ = ["HttpPool"]

_CONNECT_S: Final = 5.0
_IDLE_S: Final = 12.0
"""Seconds after which an unused connection is closed: before the services, which do so after 20 or more."""
_HAPPY_EYEBALLS_S: Final = 0.25
"""Before another address of the host is tried beside the first (RFC 8305)."""
_PIECE: Final = 256 * 1024
"""Bytes that are written at once, so that encrypting a large body does not hold the loop up."""


class HttpPool:
    """Connections to one server.

    Args:
        host: its name or address.
        port: its TCP port.
        tls: for HTTPS; None: HTTP.
        max_connections: at once; further requests wait for one, first come, first served.
    """

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None, max_connections: int) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._free = max_connections
        """Connections that may be opened yet."""
        self._open: set[_Connection] = set()
        self._idle: deque[_Connection] = deque()
        """The one used last is used next, so that those that are not needed grow old."""
        self._waiters: deque[asyncio.Future[_Connection | None]] = deque()
        """Each gets a connection, or None: the right to open one."""
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    async def post(self, head: bytes, body: bytes) -> Response:
        """Send a request, and return the response, whatever its status.

        Args:
            head: request line and headers, with the empty line at their end.
            body: of the length that the headers state.

        Raises:
            OSError: no connection, or no whole answer.
            MalformedResponse: the answer cannot be read.
        """
        connection = self._take_idle() or await self._acquire()
        try:
            return await connection.exchange(head, body)
        finally:
            self._release(connection)

    async def aclose(self) -> None:
        """Close all connections; requests in flight, and those that wait, fail. Idempotent."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(_closed())
        self._waiters.clear()
        self._idle.clear()
        for connection in list(self._open):
            connection.abort(_closed())
        await asyncio.sleep(0)  # the loop closes the sockets

    def _take_idle(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            self._discard(connection)
        return None

    async def _acquire(self) -> _Connection:
        if self._closed:
            raise _closed()
        if self._free:
            self._free -= 1
            return await self._connect()
        waiter: asyncio.Future[_Connection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            given = await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                with suppress(ValueError):  # `_give` has skipped it
                    self._waiters.remove(waiter)
            elif waiter.exception() is None:  # it was given one in the same moment
                self._give(waiter.result())
            raise
        if given is not None:
            if given.usable:
                return given
            self._open.discard(given)  # closed while it changed hands; its place is ours
        return await self._connect()

    async def _connect(self) -> _Connection:
        """Open a connection; its place is taken already, and given up where that fails."""
        try:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(_CONNECT_S):
                addresses = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                # The event loop's own way of trying several addresses loses sockets where it is cancelled.
                connected = await start_connection(addresses, happy_eyeballs_delay=_HAPPY_EYEBALLS_S, interleave=1)
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # notices a peer that is gone
                name = self._host if self._tls else None
                _, connection = await loop.create_connection(
                    lambda: _Connection(loop), sock=connected, ssl=self._tls, server_hostname=name
                )
        except BaseException:
            self._give(None)
            raise
        self._open.add(connection)
        if self._closed:
            connection.abort(_closed())
        return connection

    def _release(self, connection: _Connection) -> None:
        if self._closed or not connection.usable:
            self._discard(connection)
        else:
            self._give(connection)

    def _discard(self, connection: _Connection) -> None:
        self._open.discard(connection)
        connection.abort(None)
        self._give(None)

    def _give(self, connection: _Connection | None) -> None:
        """Hand a connection, or the place of one, to who waits longest."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if connection is None:
            self._free += 1
            return
        self._idle.append(connection)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(_IDLE_S, self._sweep)

    def _sweep(self) -> None:
        """Close connections that were not used for a while; those used earliest are first."""
        loop = asyncio.get_running_loop()
        self._sweeping, now = None, loop.time()
        while self._idle and (self._idle[0].used_at + _IDLE_S <= now or not self._idle[0].usable):
            self._discard(self._idle.popleft())
        if self._idle:
            self._sweeping = loop.call_at(self._idle[0].used_at + _IDLE_S, self._sweep)


class _Connection(asyncio.Protocol):
    """One connection; `exchange` is called again only after it returned, and while `usable`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport
        self._parser = ResponseParser()
        self._answer: asyncio.Future[Response] | None = None
        self._writable: asyncio.Future[None] | None = None
        """While more was written than the socket took; done as well once there is an answer."""
        self._paused = self._ended = False
        self.usable = True
        """Whether another request may be sent: open, and everything read that belongs to earlier ones."""
        self.used_at = loop.time()

    async def exchange(self, head: bytes, body: bytes) -> Response:
        """Send a request and return the response."""
        self.usable = False
        self._parser.reset()
        self._answer = answer = self._loop.create_future()
        try:
            if self._transport.is_closing():
                raise ConnectionResetError("the connection was closed")
            whole = await self._write(head, body)
            response: Response = await answer
            # A service may answer before it has read the whole body, and then close.
            whole = whole and not self._transport.get_write_buffer_size()
            # Over TLS the transport closes a moment after the peer's end was seen, so it alone does not tell.
            self.usable = whole and self._parser.keep_alive and not self._ended and not self._transport.is_closing()
            self.used_at = self._loop.time()
            return response
        finally:
            self._answer = None
            if answer.done() and not answer.cancelled():
                answer.exception()  # it may have failed while the body was written

    async def _write(self, head: bytes, body: bytes) -> bool:
        """Write the request; False where the answer came before its end."""
        if len(body) <= _PIECE:
            self._transport.write(head + body)
            return True
        self._transport.write(head)
        view, answer = memoryview(body), self._answer
        assert answer is not None
        for start in range(0, len(body), _PIECE):
            if self._paused:
                self._writable = self._loop.create_future()
                await self._writable
            if answer.done():
                return False
            self._transport.write(view[start : start + _PIECE])
        return True

    def abort(self, error: Exception | None) -> None:
        """Close at once; who waits for an answer gets the error."""
        self.usable = False
        self._finish(error=error)
        self._transport.abort()

    def _finish(self, response: Response | None = None, error: Exception | None = None) -> None:
        if self._answer is not None and not self._answer.done():
            if response is not None:
                self._answer.set_result(response)
            elif error is not None:
                self._answer.set_exception(error)
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # What the event loop calls.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.usable = False  # nobody asked
            self._transport.abort()
            return
        try:
            response = self._parser.feed(data)
        except MalformedResponse as error:
            self.abort(error)
            return
        if response is not None:
            self._finish(response)

    @override
    def eof_received(self) -> None:
        self._end(None)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)

    def _end(self, cause: Exception | None) -> None:
        self.usable, self._ended = False, True
        if self._answer is None or self._answer.done():
            self._finish()
            return
        try:
            self._finish(self._parser.feed_eof() if cause is None else None, cause)
        except ConnectionError as error:
            self._finish(error=error)

    @override
    def pause_writing(self) -> None:
        self._paused = True

    @override
    def resume_writing(self) -> None:
        self._paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)


def _closed() -> ConnectionError:
    return ConnectionAbortedError("the connections were closed")
