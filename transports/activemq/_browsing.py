"""A look at a queue's messages that takes none of them: STOMP's queue browser, an extension of ActiveMQ's.

Source: ActiveMQ Classic, "STOMP", extensions: the header ``browser`` of SUBSCRIBE; the last frame has ``browser: end``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from eip._ids import new_id
from eip.codec import Codec
from eip.errors import TransportError
from eip.transports.activemq._client import Client
from eip.transports.activemq._decoding import Received, from_frame
from eip.transports.activemq._stomp.connection import Connection
from eip.transports.activemq._stomp.frames import Frame
from eip.transports.activemq._stomp.reconnecting import ReconnectingConnection

__all__ = ["browse"]

_END: Final = "end"


async def browse(
    client: Client, destination: str, *, limit: int, codec: Codec, max_bytes: int | None = None
) -> Sequence[Received]:
    """The first messages of a queue, which stay there untouched.

    Args:
        client: the transport's.
        destination: as STOMP names it.
        limit: messages at most.
        codec: decodes the messages of other programs.
        max_bytes: bytes of bodies after which no more are read; None: any.

    Raises:
        TransportError: the broker does not answer, refuses, or has no queue browser over STOMP.
    """
    found: list[Received] = []
    complete = asyncio.Event()
    size = 0

    def take(frame: Frame) -> None:
        nonlocal size
        if frame.headers.get("browser") == _END:
            complete.set()
        elif len(found) < limit and (max_bytes is None or size < max_bytes):
            found.append(from_frame(frame, codec))
            size += len(frame.body)
        else:
            complete.set()

    name, timeout = f"browse-{new_id()}", client.connector.answer_timeout

    async def subscribe(connection: Connection) -> None:
        if not connection.is_classic:  # others ignore the header, and hand the messages out
            raise TransportError(f"{connection.server} must be ActiveMQ Classic to be browsed")
        connection.subscribe(name, take)
        headers = {"id": name, "destination": destination, "ack": "auto", "browser": "true"}
        await connection.request("SUBSCRIBE", headers, timeout=timeout)

    connection = ReconnectingConnection(client.connector, name=f"browse {destination}", restore=subscribe)
    try:
        await connection.connection(timeout=client.connector.open_timeout)
        async with asyncio.timeout(timeout):
            await complete.wait()
    finally:
        await connection.aclose()
    return found[:limit]
