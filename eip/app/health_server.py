"""A small HTTP server for probes: ``/livez``, ``/readyz`` and ``/metrics``, in a thread of its own.

A blocked event loop could not answer; so nothing here touches the application's loop.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

import orjson
from typing_extensions import override

from eip._checks import check_duration, check_integer
from eip._logging import get_logger
from eip.app.application import App
from eip.clock import Duration
from eip.errors import ConfigurationError
from eip.health import Health
from eip.runtime.service import Service

__all__ = ["Answer", "HealthServer"]

_log = get_logger("eip.app")

_READ_TIMEOUT_S: Final = 5.0
_MAX_REQUEST_BYTES: Final = 8192
_MAX_CONNECTIONS: Final = 64
_JSON: Final = "application/json"


class Answer(NamedTuple):
    """An HTTP answer."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class HealthServer(Service):
    """Serves the health and the metrics of an application; a service beside it, so that it answers until the end.

        app = make_app()
        async with HealthServer(app, port=8080):
            await run(app)

    ``/livez`` is 503 where the event loop is blocked for longer than ``max_blocked``, so that an orchestrator restarts
    the process. ``/readyz`` is 503 where the application is not open, or one of its parts is not well; its JSON names
    the part, since when and why, and ``?exclude=PART`` leaves parts out. ``/metrics`` is Prometheus's text (extra
    ``prometheus``).

    Args:
        app: whose health.
        port: to listen on; 0: a free one, see `port`.
        host: address to listen on; ``"0.0.0.0"`` for an orchestrator's probes from outside.
        max_blocked: how long the event loop may be blocked, in seconds, while the process counts as alive.

    Raises:
        ConfigurationError: a value out of range; raised by `run` where the port is taken.
    """

    def __init__(self, app: App, port: int = 8080, *, host: str = "127.0.0.1", max_blocked: Duration = 10.0) -> None:
        self.name = "health server"
        self.ready = asyncio.Event()
        self.port = check_integer("port", port, least=0)
        """Where it listens."""
        self._app, self._host = app, host
        self._max_blocked = check_duration("max_blocked", max_blocked, positive=True)
        self._stop = asyncio.Event()
        self._connections = 0

    @override
    async def run(self) -> None:
        listening: Future[int] = Future()
        end: Future[None] = Future()
        thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listening, end)), name="eip health server", daemon=True
        )
        thread.start()
        try:
            self.port = await asyncio.wrap_future(listening)
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

    async def _serve(self, listening: Future[int], end: Future[None]) -> None:
        try:
            server = await asyncio.start_server(self._connected, self._host, self.port, limit=_MAX_REQUEST_BYTES)
        except (OSError, OverflowError) as error:
            listening.set_exception(ConfigurationError(f"port {self.port} of {self._host} cannot be used: {error}"))
            return
        async with server:
            listening.set_result(server.sockets[0].getsockname()[1])
            await asyncio.wrap_future(end)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= _MAX_CONNECTIONS:
                with suppress(OSError, TimeoutError):
                    async with asyncio.timeout(_READ_TIMEOUT_S):
                        writer.write(await self._exchange(reader))
                        await writer.drain()
        finally:
            self._connections -= 1
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, _ = head.partition(b"\r\n")[0].decode("ascii").split(" ")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            return _encoded(Answer(HTTPStatus.BAD_REQUEST, b"this is no HTTP request\n"))
        if method not in ("GET", "HEAD"):
            return _encoded(Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET and HEAD\n"))
        return _encoded(self._answer(target), with_body=method == "GET")

    def _answer(self, target: str) -> Answer:
        try:
            split = urlsplit(target)
            match split.path:
                case "/livez":
                    return self._livez()
                case "/readyz":
                    return self._readyz(frozenset(parse_qs(split.query).get("exclude", ())))
                case "/metrics":
                    return self._metrics()
            return Answer(HTTPStatus.NOT_FOUND, b"there are /livez, /readyz and /metrics\n")
        except Exception as error:  # noqa: BLE001 - a probe that fails must not end the server
            _log.error("health_server_failed", target=target[:200], exc_info=error)
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"see the log\n")

    def _livez(self) -> Answer:
        blocked = self._app.blocked_for()
        if blocked > self._max_blocked:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{self._app.parts()['event loop'].reason}\n".encode())
        return Answer(HTTPStatus.OK, b"ok\n")

    def _readyz(self, exclude: frozenset[str]) -> Answer:
        state = self._app.health()
        parts = {name: each for name, each in self._app.parts().items() if name not in exclude}
        ok = self._app.is_open and all(each.ok for each in parts.values())
        reason = None if ok else state.reason
        found = {"ok": ok, "reason": reason, "parts": {name: _plain(each) for name, each in parts.items()}}
        return Answer(HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE, orjson.dumps(found) + b"\n", _JSON)

    def _metrics(self) -> Answer:
        try:
            from eip.telemetry.prometheus import CONTENT_TYPE, render  # noqa: PLC0415 - an extra
        except ConfigurationError as error:
            return Answer(HTTPStatus.NOT_IMPLEMENTED, f"{error}\n".encode())
        return Answer(HTTPStatus.OK, render(self._app.families), CONTENT_TYPE)


def _plain(health: Health) -> dict[str, Any]:
    return {name: value for name, value in asdict(health).items() if value is not None}


def _encoded(answer: Answer, *, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\nContent-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + (answer.body if with_body else b"")
