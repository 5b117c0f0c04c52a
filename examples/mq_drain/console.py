"""What a broker's web console does: puts plain texts into a queue, without a word of this library's."""

from __future__ import annotations

import asyncio
from urllib.parse import unquote, urlsplit

__all__ = ["put_texts"]

_TRANSACTION = 1000
"""Messages that are committed at once."""


async def put_texts(broker: str, queue: str, count: int) -> None:
    """Put texts into a queue of an ActiveMQ broker.

    Args:
        broker: ``stomp://user:password@host:port``; Classic 5 or Artemis.
        queue: its name.
        count: of texts, all different.

    Raises:
        ConnectionError: the broker cannot be reached, or refuses.
    """
    url = urlsplit(broker)
    reader, writer = await asyncio.open_connection(url.hostname, url.port or 61613)
    try:
        login = f"login:{unquote(url.username or '')}\npasscode:{unquote(url.password or '')}\n" if url.username else ""
        writer.write(f"CONNECT\naccept-version:1.2\nhost:{url.hostname}\n{login}\n\0".encode())
        await _answer(reader, "CONNECTED")
        for first in range(0, count, _TRANSACTION):
            writer.write(f"BEGIN\ntransaction:t{first}\n\n\0".encode())
            for number in range(first, min(first + _TRANSACTION, count)):
                head = f"SEND\ndestination:/queue/{queue}\npersistent:true\ntransaction:t{first}"
                writer.write(f"{head}\ndestination-type:ANYCAST\n\nEnter some text here, {number}\0".encode())
            writer.write(f"COMMIT\ntransaction:t{first}\nreceipt:r{first}\n\n\0".encode())
            await writer.drain()
            await _answer(reader, "RECEIPT")
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader, expected: str) -> None:
    frame = (await reader.readuntil(b"\0")).decode().strip()
    if not frame.startswith(expected):
        raise ConnectionError(f"the broker must answer {expected}, got {frame[:200]!r}")
