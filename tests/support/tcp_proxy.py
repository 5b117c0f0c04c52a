"""A TCP proxy that stalls and cuts connections: what a network does that accepts and never answers.

async with TcpProxy(server.port) as proxy:
    client = connect(f"redis://127.0.0.1:{proxy.port}")
    proxy.stall()       # connections stay open, and are accepted; no byte passes
    proxy.resume()      # what was held back passes, too
    proxy.cut()         # all connections are reset
"""

from __future__ import annotations

import asyncio
from typing import Self

__all__ = ["TcpProxy"]


class TcpProxy:
    """Forwards to a port on loopback; use it with ``async with``."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        """The port that new connections go to."""
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def stall(self) -> None:
        """Pass no byte from here on."""
        self._flowing.clear()

    def resume(self) -> None:
        """Pass bytes again."""
        self._flowing.set()

    def cut(self) -> None:
        """Reset all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._flowing.wait()
            onward, upstream = await asyncio.open_connection("127.0.0.1", self.upstream)
            self._writers.add(upstream)
            await asyncio.gather(self._pass(reader, upstream), self._pass(onward, writer))
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.transport.abort()
