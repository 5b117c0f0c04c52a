"""The service's HTTP server in this process, around any application."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from examples.rfq.server import Server


class Serving:
    """A server that runs, and where."""

    def __init__(self, server: Server, task: asyncio.Task[None], port: int) -> None:
        self.server, self.task = server, task
        self.url = f"http://127.0.0.1:{port}"

    def socket(self, path: str, token: str | None = None, **options: Any) -> connect:
        """A web socket to it, as a browser opens it: a token goes as a protocol."""
        offered = ["rfq"] if token is None else ["rfq", f"bearer.{token}"]
        options = {"origin": self.url, "subprotocols": offered, "proxy": None, **options}
        host, port = self.url.removeprefix("http://").split(":")
        return connect(f"ws://{options.pop('name', host)}:{port}{path}", host=host, port=int(port), **options)


@asynccontextmanager
async def served(app: Any, *, connections: int = 100) -> AsyncIterator[Serving]:
    """Serve the application on a free port until the block ends."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = Server(app, listening, connections=connections)
    task = asyncio.create_task(server.run())
    while await server.missing():
        await asyncio.sleep(0.01)
    try:
        yield Serving(server, task, listening.getsockname()[1])
    finally:
        await server.stop()
        await task


async def frames(socket: ClientConnection) -> list[tuple[str, Any]]:
    """All events of a web socket, until it is closed."""
    return [(frame["event"], frame["data"]) async for frame in decoded(socket)]


async def decoded(socket: ClientConnection) -> AsyncIterator[dict[str, Any]]:
    async for frame in socket:
        yield json.loads(frame)
