"""A small HTTP server in a thread of its own, for probes: it answers GET, whatever the application's loop does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from typing_extensions import override

from eip._checks import check_integer
from eip._logging import get_logger
from eip.clock import Duration
from eip.errors import ConfigurationError
from eip.runtime.service import Service

__all__ = ["Answer", "ProbeServer"]

_log = get_logger("eip.app")

_READ_TIMEOUT_S: Final = 5.0
_ANSWER_TIMEOUT_S: Final = 10.0
_MAX_REQUEST_BYTES: Final = 8192
_MAX_CONNECTIONS: Final = 64


class Answer(NamedTuple):
    """An HTTP answer."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class ProbeServer(Service):
    """Answers GET and HEAD, one request a connection, in bounded number and time.

    Args:
        answer: called in a thread with the request's target, path and query; what it raises is logged, and 500.
        port: to listen on; 0: a free one, see `port`.
        host: address to listen on.

    Raises:
        ConfigurationError: a value out of range; raised by `run` where the port is taken.
    """

    def __init__(self, answer: Callable[[str], Answer], port: int, host: str) -> None:
        self.name = "health server"
        self.ready = asyncio.Event()
        self.port = check_integer("port", port, least=0)
        """Where it listens."""
        self._host, self._answer = host, answer
        self._stop = asyncio.Event()
        self._connections = 0

    @override
    async def run(self) -> None:
        listening: Future[int] = Future()
        end: Future[None] = Future()
        thread = threading.Thread(target=self._work, args=(listening, end), name="eip health server", daemon=True)
        thread.start()
        try:
            # Shielded, as the thread still reports its port where this task is cancelled.
            self.port = await asyncio.shield(asyncio.wrap_future(listening))
            _log.info("health_server_started", host=self._host, port=self.port)
            self.ready.set()
            await self._stop.wait()
        finally:
            self.ready.clear()
            self._stop.clear()
            end.set_result(None)
            await asyncio.to_thread(thread.join, _READ_TIMEOUT_S)

    @override
    async def stop(self, *, grace: Duration | None = None) -> None:
        self._stop.set()

    # In the thread.

    def _work(self, listening: Future[int], end: Future[None]) -> None:
        try:
            asyncio.run(self._serve(listening, end))
        except Exception as error:  # whatever the name of a host, a port or a socket can raise
            if listening.done():
                raise
            listening.set_exception(ConfigurationError(f"port {self.port} of {self._host} cannot be used: {error}"))

    async def _serve(self, listening: Future[int], end: Future[None]) -> None:
        server = await asyncio.start_server(self._connected, self._host, self.port, limit=_MAX_REQUEST_BYTES)
        async with server:
            listening.set_result(server.sockets[0].getsockname()[1])
            await asyncio.wrap_future(end)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= _MAX_CONNECTIONS:
                with suppress(OSError, TimeoutError):
                    async with asyncio.timeout(_READ_TIMEOUT_S + _ANSWER_TIMEOUT_S):
                        writer.write(await self._exchange(reader))
                        await writer.drain()
        finally:
            self._connections -= 1
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            method, target, _ = head.partition(b"\r\n")[0].decode("ascii").split(" ")
            urlsplit(target)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            return _encoded(Answer(HTTPStatus.BAD_REQUEST, b"this is no HTTP request\n"))
        if method not in ("GET", "HEAD"):
            return _encoded(Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET and HEAD\n"))
        return _encoded(await asyncio.to_thread(self._answered, target), with_body=method == "GET")

    def _answered(self, target: str) -> Answer:
        try:
            return self._answer(target)
        except Exception as error:  # noqa: BLE001 - a probe that fails must not end the server
            _log.error("health_server_failed", target=target[:200], exc_info=error)
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"see the log\n")


def _encoded(answer: Answer, *, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\nContent-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + (answer.body if with_body else b"")
