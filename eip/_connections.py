"""A connection of a client to a server of ours: requests arrive, answers are read, in times that no drip extends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, Final

import h11
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

__all__ = ["CLOSE", "Connection", "Read"]

CLOSE: Final = b"Connection: close\r\nContent-Length: 0\r\n\r\n"
"""The end of an answer after which the connection is closed."""
_HEADER_WITHIN: Final = 10.0
"""Seconds until the header of a request must be there."""
_REST_WITHIN: Final = 0.2
"""Seconds that the rest of a request's body has to arrive once its answer is complete; it is not looked at."""
_READ_WITHIN: Final = 30.0
"""Seconds that a client may leave an answer unread once the buffers are full."""
_REQUESTED: Final = frozenset((h11.DONE, h11.MUST_CLOSE, h11.CLOSED, h11.SWITCHED_PROTOCOL))
_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\n" + CLOSE


class Read(asyncio.Protocol):
    """Ends a connection whose client does not read what it is sent."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _unread: asyncio.TimerHandle | None = None

    def abort(self) -> None:
        """End it at once, and drop what is still to be sent."""
        transport: asyncio.Transport | None = self.transport
        if transport is not None:
            transport.abort()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self._unread or self.loop.call_later(_READ_WITHIN, self.abort)

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


class Connection(Read, H11Protocol):
    """A client's connection, for uvicorn's option ``http``.

    At uvicorn's ``limit_concurrency`` a new one takes the place of the one that has kept the server waiting longest for
    a whole request.
    """

    body_within: ClassVar[float] = 15.0
    """Seconds from a request's header until its body must be there; more than what answers 408."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.lost = asyncio.Event()
        self.since = self.loop.time()
        """When it was made, or its last answer was complete."""
        self._deadline: asyncio.TimerHandle | None = None
        self._upgraded = False
        self.on_made: Callable[[asyncio.Transport], None] = lambda _: None

    @property
    def waiting(self) -> bool:
        """Whether we wait for the client to send a whole request, and not the client for an answer."""
        return not (self._upgraded or (self._answering and self._requested))

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._make_room()
        self.on_made(transport)
        self._expect(_HEADER_WITHIN)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        self._unset_keepalive_if_required()
        self.resume_writing()
        super().connection_lost(exc)
        self.lost.set()

    @override
    def data_received(self, data: bytes) -> None:
        before = self.conn.their_state
        super().data_received(data)
        if self._upgraded or self.transport.is_closing() or self._requested:
            self._expect(None)
        elif self.conn.their_state is not before:
            self._expect(self.body_within)
        elif self._deadline is None:
            self._expect(_HEADER_WITHIN)

    @override
    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._upgraded = True
        super().handle_websocket_upgrade(event)

    @override
    def on_response_complete(self) -> None:
        requested, self.since = self._requested, self.loop.time()
        super().on_response_complete()
        if not requested:  # closed while the rest is on its way, it would be a reset that may overtake the answer
            self.loop.call_later(_REST_WITHIN, self._close_within, self.cycle)

    def _make_room(self) -> None:
        others = [
            each for each in self.connections if isinstance(each, Connection) and each.waiting and each is not self
        ]
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency and others:
            min(others, key=lambda each: each.since).abort()

    def _close_within(self, cycle: RequestResponseCycle | None) -> None:
        """Close where the rest of an answered request has not arrived."""
        if self.cycle is cycle and self.conn.their_state is h11.SEND_BODY:
            self.transport.close()

    @property
    def _answering(self) -> bool:
        """Whether a request's header was read and its answer is not complete."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    @property
    def _requested(self) -> bool:
        """Whether the request under way has arrived as a whole."""
        return self.conn.their_state in _REQUESTED

    def _expect(self, seconds: float | None) -> None:
        """Let the client take so long for what comes next; None: as long as it likes."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        if self._answering:
            self.abort()
        else:
            self.transport.write(_TOO_SLOW)
            self.transport.close()
