"""Frames out: gathered for one turn of the event loop, and written in one call."""

from __future__ import annotations

import asyncio
import os
import socket
import threading

from eip.errors import TransportError
from eip.transports.activemq._stomp.errors import fresh
from eip.transports.activemq._stomp.heartbeats import Heartbeats

__all__ = ["FrameWriter"]


class FrameWriter:
    """Writes to one connection until it is lost.

    Args:
        lost: of the connection: done when it is over.
        heartbeats: reset by each write.
    """

    def __init__(self, lost: asyncio.Future[TransportError], heartbeats: Heartbeats) -> None:
        self._lost, self._heartbeats = lost, heartbeats
        self._transport: asyncio.Transport
        self._socket: socket.socket | None = None
        self._is_plain = False
        self._outgoing: list[bytes] = []
        self._lock = threading.Lock()
        """Held while bytes are given to the transport; see `beat_blocking`."""
        self._writable = asyncio.Event()
        self._writable.set()

    def connected(self, transport: asyncio.Transport) -> None:
        """Write to this transport."""
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        self._is_plain = transport.get_extra_info("ssl_object") is None

    def pause(self) -> None:
        """Let `drain` wait: the transport's buffer is full."""
        self._writable.clear()

    def resume(self) -> None:
        """Let `drain` go on."""
        self._writable.set()

    def clear(self) -> None:
        """Drop what has not left."""
        self._outgoing.clear()

    def write(self, data: bytes) -> None:
        """Write a whole frame, or several; they leave together with all that is written in this turn of the loop."""
        if self._lost.done():
            return
        self._outgoing.append(data)
        if len(self._outgoing) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if self._outgoing and not self._lost.done():
            self._heartbeats.sent()
            data = self._outgoing[0] if len(self._outgoing) == 1 else b"".join(self._outgoing)
            with self._lock:
                self._transport.write(data)
        self._outgoing.clear()

    async def drain(self) -> None:
        """Wait while the broker does not read; raises `ConnectionLost`."""
        if not self._writable.is_set():
            waiting = asyncio.ensure_future(self._writable.wait())
            try:
                await asyncio.wait((waiting, self._lost), return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
        if self._lost.done():
            raise fresh(self._lost.result())

    def beat_blocking(self) -> bool:
        """Write a heart-beat from another thread while the event loop is blocked; return whether we count as alive.

        Nothing may be in the transport's buffer, or the end of line would land in the middle of a frame. Over TLS it is
        not possible, as the loop's thread may be using the same TLS object: there we live on what was promised.
        """
        if self._lost.done():
            return False
        if not self._heartbeats.interval:
            return True
        if not self._is_plain or self._socket is None:
            return self._heartbeats.is_promise_kept
        with self._lock:
            if self._transport.get_write_buffer_size():
                return True  # the broker has not read yet what was sent before: it cannot miss a heart-beat
            try:
                return os.write(self._socket.fileno(), b"\n") == 1
            except OSError:
                return False
