"""A unicorn's app over HTTP: signs in, is asked and answers over one web socket."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from examples.rfq.model import UnicornAnswer, as_json
from examples.rfq.push import Event, Events
from examples.rfq.questions import AnsweredAlready, NotAsked, TooLate
from examples.rfq.vicinity import Position

__all__ = ["RemoteEntrance"]

_LEAVE_TIMEOUT_S: Final = 2.0
"""Seconds that it may take to sign out."""
_REFUSALS: Final[dict[int, type[Exception]]] = {404: NotAsked, 409: AnsweredAlready, 410: TooLate}
"""By the status of a problem document."""


class RemoteEntrance:
    """Where unicorns sign in over HTTP.

    Args:
        url: of unicorn management, e.g. ``"http://127.0.0.1:8080"``.
        tokens: of the unicorns, in the order in which they sign in; None: each makes its own, which is all that a
            service without a token file asks for.
        tls: how an https URL is checked; default: by the system's authorities.
    """

    def __init__(self, url: str, *, tokens: Sequence[str] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._url = f"{url.rstrip('/').replace('http', 'ws', 1)}/unicorn/socket"
        self._tls = tls
        self._given = None if tokens is None else iter(tokens)
        self._tokens: dict[str, str] = {}

    @asynccontextmanager
    async def signed_in(self, unicorn: str, name: str, position: Position) -> AsyncIterator[RemoteSession]:
        """A session for the length of a block; see `herd.Entrance`."""
        if unicorn not in self._tokens:
            self._tokens[unicorn] = secrets.token_urlsafe(32) if self._given is None else next(self._given)
        headers = {"Authorization": f"Bearer {self._tokens[unicorn]}"}
        with _as_os_errors():
            async with (
                connect(self._url, additional_headers=headers, ssl=self._tls, proxy=None) as socket,
                asyncio.TaskGroup() as tasks,
            ):
                session = RemoteSession(socket)
                reading = tasks.create_task(session.read())
                try:
                    await session.move(position, name)
                    yield session
                finally:
                    with suppress(OSError, WebSocketException, TimeoutError):
                        async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                            await session.leave()
                    reading.cancel()


class RemoteSession:
    """One unicorn's web socket; see `herd.App`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        """What was pushed: a few hundred questions at most, that many are open."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        """For what became of commands: those are done one after the other."""

    async def changes(self) -> Events:
        """Its place and its questions, and each change of them, until the connection ends."""
        while (event := await self._events.get()) is not None:
            yield event

    async def move(self, position: Position, name: str | None = None) -> None:
        """Go there; the first time: sign in."""
        await self._do("place", {"position": as_json(position), "name": name})

    async def answer(self, answer: UnicornAnswer) -> None:
        """Quote or decline; raises `TooLate`, `NotAsked` or `AnsweredAlready`."""
        await self._do("answer", as_json(answer))

    async def leave(self) -> None:
        """Sign out."""
        await self._do("leave", True)

    async def _do(self, command: str, argument: Any) -> None:
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        await self._socket.send(json.dumps({command: argument}))
        await done

    async def read(self) -> None:
        """Take what comes, until the connection ends."""
        try:
            async for frame in self._socket:
                event = json.loads(frame)
                if event["event"] == "done":
                    self._settle(None)
                elif event["event"] == "refused":
                    self._settle(event["data"])
                else:
                    self._events.put_nowait(Event(event["event"], event["data"], event.get("id", "")))
        finally:
            while self._waiting:
                self._settle({"status": 0, "detail": "the connection to unicorn management ended"})
            self._events.put_nowait(None)

    def _settle(self, problem: dict[str, Any] | None) -> None:
        waiting = self._waiting.popleft()
        if waiting.done():
            return
        if problem is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(_REFUSALS.get(problem["status"], ConnectionError)(problem["detail"]))


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """What goes wrong with the connection, as errors of the operating system's kind."""
    try:
        yield
    except* WebSocketException as errors:
        raise ConnectionError(repr(errors.exceptions[0])) from errors
