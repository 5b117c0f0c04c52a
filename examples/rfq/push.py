"""Pushed events, as server-sent events or over a web socket: the same events in the same order.

Both wait for a client that reads slowly, and hold nothing for it meanwhile: the iterator of events yields what is news
when it is asked. The server ends a connection that is not read at all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any, Final, NamedTuple, TypeAlias

from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

__all__ = ["SILENCE_S", "Event", "Events", "last_event_id", "push_over_socket", "server_sent_events"]

SILENCE_S: Final = 15.0
"""Seconds without an event after which a comment or a `quiet` frame is sent: proxies close silent connections."""
_PROTOCOL: Final = "rfq"
"""Of a web socket, for clients that must name one."""
_TRY_AGAIN: Final = 1012
"""Close code of a web socket that ends before its events do: the client may come back."""


class Event(NamedTuple):
    """Something that happened."""

    kind: str
    data: dict[str, Any]
    id: str = ""
    """By which a client goes on after it; empty: it starts from the beginning."""


_QUIET: Final = Event("quiet", {})
"""Sent over a web socket after a silence: scripts in browsers see no pings, and could not tell a lost connection."""
Events: TypeAlias = AsyncGenerator[Event | None, None]
"""None: nothing for `SILENCE_S` seconds."""
Command: TypeAlias = Callable[[str], Awaitable[Event]]
"""Does what a client asks for in a frame, and returns the event that answers it."""


def server_sent_events(events: Events) -> Response:
    """The events as a response that ends with them."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_blocks(events), media_type="text/event-stream", headers=headers)


async def push_over_socket(socket: WebSocket, events: Events, command: Command | None = None) -> None:
    """Accept the web socket and send the events until they, or the client, end.

    Args:
        socket: not accepted yet.
        events: each becomes a text frame ``{"event": ..., "id": ..., "data": ...}``.
        command: does what frames ask for, one after the other; None: frames are ignored.
    """
    await socket.accept(subprotocol=_PROTOCOL if _PROTOCOL in socket.scope["subprotocols"] else None)
    with suppress(WebSocketDisconnect):
        ended = await _first(_send(socket, events), _receive(socket, command))
        await socket.close(1000 if ended else _TRY_AGAIN)


def last_event_id(connection: Any) -> str:
    """The id that a client had last, by the header or, since scripts cannot set it for web sockets, by the query."""
    return str(connection.headers.get("last-event-id") or connection.query_params.get("last-event-id", ""))


async def _blocks(events: Events) -> AsyncIterator[str]:
    async with aclosing(events):
        async for event in events:
            if event is None:
                yield ": \n\n"
            else:
                head = f"id: {event.id}\n" if event.id else ""
                yield f"{head}event: {event.kind}\ndata: {json.dumps(event.data)}\n\n"


async def _send(socket: WebSocket, events: Events) -> None:
    async with aclosing(events):
        async for event in events:
            await socket.send_text(_frame(event or _QUIET))


async def _receive(socket: WebSocket, command: Command | None) -> None:
    while True:
        frame = await socket.receive_text()
        if command is not None:
            await socket.send_text(_frame(await command(frame)))


def _frame(event: Event) -> str:
    identity = {"id": event.id} if event.id else {}
    return json.dumps({"event": event.kind, **identity, "data": event.data})


async def _first(first: Coroutine[Any, Any, None], second: Coroutine[Any, Any, None]) -> bool:
    """Run both until one ends, cancel the other; whether it was the first that ended. Raises what it raised."""
    tasks = [asyncio.create_task(first), asyncio.create_task(second)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = tasks[0].done()
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return ended
