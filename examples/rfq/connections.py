"""A client's connection as of `eip._connections`, and the web socket that may take it over."""

from __future__ import annotations

from typing import Any, Final, cast

import h11
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from eip import _connections
from eip._connections import CLOSE, Read

__all__ = ["Connection", "WebSocket"]

_MALFORMED: Final = b"HTTP/1.1 400 Bad Request\r\n" + CLOSE


class WebSocket(Read, WebSocketsSansIOProtocol):
    """A client's web socket, which takes over the connection that asked for it."""

    connection: Connection

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated:  # uvicorn waits for ever where websockets refuses the request
            self.transport.write(_MALFORMED)
            self.transport.close()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # otherwise uvicorn logs each refusal as a failure of the application

    def connection_lost(self, exc: Exception | None) -> None:
        self.resume_writing()
        super().connection_lost(exc)
        self.connection.lost.set()


class Connection(_connections.Connection):
    """A client's connection, which may become a web socket."""

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        super().handle_websocket_upgrade(event)
        cast("WebSocket", self.transport.get_protocol()).connection = self
