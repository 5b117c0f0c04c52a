"""A TCP proxy before a broker, to break connections at the moment that matters."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self


class Proxy:
    """Forwards to a port; `cut` ends every connection, `swallow` drops what the broker answers save heart-beats."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.accepted = 0
        self.cut_before: bytes | None = None
        """Cut when the broker sends this, once, instead of passing it on."""
        self.cut_after_sending: bytes | None = None
        """Cut when the client has sent this, once, after it was passed on."""
        self.swallow: bytes | None = None
        """A connection on which the broker sends this passes on nothing but ends of lines from then on."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        for task in (self._pump(reader, back, upwards=True), self._pump(there, writer, upwards=False)):
            running = asyncio.ensure_future(task)
            self._tasks.add(running)
            running.add_done_callback(self._tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upwards: bool) -> None:
        swallowing = False
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if not upwards and self.cut_before is not None and self.cut_before in data:
                    self.cut_before = None
                    self.cut()
                    return
                if not upwards and (swallowing or (self.swallow is not None and self.swallow in data)):
                    swallowing, data = True, b"\n"
                writer.write(data)
                await writer.drain()
                if upwards and self.cut_after_sending is not None and self.cut_after_sending in data:
                    self.cut_after_sending = None
                    await asyncio.sleep(0.2)  # the broker has it and works on it
                    self.cut()
                    return
        writer.transport.abort()
