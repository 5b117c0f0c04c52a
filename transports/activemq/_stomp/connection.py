"""One connection to a broker: frames out, frames in, receipts, heart-beats. It ends once, and does not come back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Final, cast

from typing_extensions import override

from eip._ids import new_id
from eip._logging import get_logger
from eip.errors import AccessDenied, ConnectionLost, TransportError
from eip.limits import KIB, MIB
from eip.transports.activemq._stomp.errors import RefusedByBroker, error_of, fresh
from eip.transports.activemq._stomp.frame_timeout import FrameTimeout
from eip.transports.activemq._stomp.frames import Frame, ProtocolError, dump
from eip.transports.activemq._stomp.heartbeats import Heartbeats
from eip.transports.activemq._stomp.parser import Parser
from eip.transports.activemq._stomp.servers import Credentials, Server
from eip.transports.activemq._stomp.writer import FrameWriter

__all__ = ["MAY_BE_REFUSED", "Connection"]

_log = get_logger("eip.activemq")
_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)
MAY_BE_REFUSED: Final = "attempted-"
"""Prefix of the receipts of requests whose refusal by the broker is ignored."""
_DISCONNECT_TIMEOUT_S: Final = 3.0
"""Seconds that the broker has to confirm a disconnect, or the last request of a connection that cannot read on."""
_MAX_HEAD_BYTES: Final = 16 * MIB
_MAX_RECEIPT_BYTES: Final = 64
_READ_BYTES: Final = 256 * KIB
"""Of one read at most, as asyncio reads for other protocols."""


class Connection(asyncio.BufferedProtocol):
    """A STOMP session; made by `eip.transports.activemq._stomp.connecting.connect`.

    `lost` is set when it is over, with the reason.

    Args:
        server: for logs and errors.
        max_body: maximum size of a body that is read, in bytes.
        heartbeat: seconds between heart-beats, ours and the broker's; 0: none.
        max_blocked: seconds of our silence that the broker is asked to accept.
    """

    def __init__(self, server: Server, *, max_body: int, heartbeat: float, max_blocked: float) -> None:
        loop = asyncio.get_running_loop()
        self.server = server
        self.lost: asyncio.Future[TransportError] = loop.create_future()
        self.progress = loop.time()
        """When a message or an answer came last, by the loop's clock; heart-beats do not count."""
        self.is_classic = False
        """Whether the broker is ActiveMQ Classic, which moves what is NACKed to its own dead-letter queue."""
        self.broker = ""
        """What the broker calls itself, its version included; empty where it does not."""
        # One buffer for all reads: asyncio would allocate as much for each, which the C library may map and unmap each
        # time (measured: a page fault per message of 1 KB).
        self._incoming = memoryview(bytearray(_READ_BYTES))
        self._parser = Parser(max_body=max_body, max_head=min(max_body, _MAX_HEAD_BYTES))
        self._heartbeats = Heartbeats(
            interval=heartbeat,
            max_blocked=max_blocked,
            beat=lambda: self.write(b"\n"),
            on_silence=lambda silent: self.abort(ConnectionLost(f"{server} was silent for {silent:.1f} s")),
        )
        self._frame_timeout = FrameTimeout(
            self._parser, self._give_up_frame, expects_beats=lambda: self._heartbeats.are_expected
        )
        self._logged_in: asyncio.Future[None] = loop.create_future()
        self._subscribers: dict[str, Callable[[Frame], None]] = {}
        self._receipts: dict[str, asyncio.Future[None]] = {}
        self._receipt_count = 0
        self._last_receipt: bytes | None = None
        """The receipt header that ends a connection whose reader has failed."""
        self._tail = b""
        """The end of what came since the reader has failed."""
        self._transport: asyncio.Transport
        self._socket: socket.socket | None = None
        self._writer = FrameWriter(self.lost, self._heartbeats)
        self.write = self._writer.write
        """Writes whole frames; those of one turn of the loop leave together."""
        self.drain = self._writer.drain
        """Waits while the broker does not read; raises `ConnectionLost`."""
        self.beat_blocking = self._writer.beat_blocking
        """Writes a heart-beat from another thread while the loop is blocked; returns whether we count as alive."""

    @property
    def open(self) -> bool:
        """Whether it can be written to."""
        return not self.lost.done()

    @property
    def waiting(self) -> int:
        """Requests that the broker has not answered yet."""
        return len(self._receipts)

    # What asyncio calls.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._socket = transport.get_extra_info("socket")
        self._writer.connected(self._transport)
        self.progress = self._heartbeats.received()

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        return self._incoming

    @override
    def buffer_updated(self, nbytes: int) -> None:
        if self.lost.done():
            return
        data = bytes(self._incoming[:nbytes])
        self._heartbeats.received()
        self._acknowledge_at_once()
        had_failed = self._parser.failed
        if had_failed:
            self._look_for_last_receipt(data)
            return
        frames = self._parser.feed(data)
        self._frame_timeout.fed(data, len(frames))
        try:
            for frame in frames:
                self._take(frame)
        except ProtocolError as error:
            self.abort(error)
        if self._parser.failed:
            self._reading_failed()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._end(ConnectionLost(f"{self.server} closed the connection" + (f": {exc}" if exc else "")))

    @override
    def pause_writing(self) -> None:
        self._writer.pause()

    @override
    def resume_writing(self) -> None:
        self._writer.resume()

    def _acknowledge_at_once(self) -> None:
        """Switch the kernel's delayed ACK off: with Nagle at the broker, its next small frame would wait 40 ms.

        The kernel forgets the option by itself, so it is set with each read.
        """
        if _QUICKACK is not None and self._socket is not None:
            try:
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            except OSError:
                self._socket = None

    # Frames in.

    def _take(self, frame: Frame) -> None:
        match frame.command:
            case "MESSAGE":
                self.progress = self._heartbeats.last_read
                self._dispatch(frame)
            case "RECEIPT":
                self.progress = self._heartbeats.last_read
                receipt = self._receipts.pop(frame.headers.get("receipt-id", ""), None)
                if receipt is not None and not receipt.done():
                    receipt.set_result(None)
            case "ERROR":
                self._refused(frame)
            case "CONNECTED":
                self._greeted(frame.headers)
            case other:
                raise ProtocolError(f"{self.server} sent a frame {other!r}, which only clients send")

    def _dispatch(self, frame: Frame) -> None:
        name = frame.headers.get("subscription")
        if name is None and len(self._subscribers) == 1:  # the header is lost in a malformed head
            (subscriber,) = self._subscribers.values()
            subscriber(frame)
        elif (known := self._subscribers.get(name or "")) is not None:
            known(frame)

    def _refused(self, frame: Frame) -> None:
        error = error_of(frame)
        name = frame.headers.get("receipt-id", "")
        if name.startswith(MAY_BE_REFUSED):
            return
        receipt = self._receipts.pop(name, None)
        if receipt is not None:
            if not receipt.done():
                receipt.set_exception(error)
        elif not self._logged_in.done():
            self._logged_in.set_exception(error)
        else:
            _log.warning("broker_error", server=str(self.server), error=str(error))
            refusal = RefusedByBroker(f"{self.server}: {error}")
            refusal.__cause__ = error
            self.abort(refusal)

    def _greeted(self, headers: Mapping[str, str]) -> None:
        if self._logged_in.done():
            raise ProtocolError(f"{self.server} greeted twice")
        if headers.get("version") != "1.2":
            raise ProtocolError(f"{self.server} speaks STOMP {headers.get('version', '1.0')}, not 1.2")
        self.broker = headers.get("server", "")
        self.is_classic = self.broker.startswith("ActiveMQ/")
        self._heartbeats.start(headers.get("heart-beat", "0,0"))
        self._logged_in.set_result(None)

    # A reader that has failed.

    def _give_up_frame(self, reason: str) -> None:
        """Hand the frame that does not end to its subscriber, which settles it, and end the connection."""
        frame = self._parser.give_up(reason)
        if frame is not None and frame.command == "MESSAGE":
            self._take(frame)
        self._reading_failed()

    def last_request(self, command: str, headers: Mapping[str, str]) -> None:
        """Write the frame that settles what the reader has failed on; the connection ends when it is confirmed."""
        receipt = new_id()
        self._last_receipt = f"receipt-id:{receipt}".encode()
        self.write(dump(command, {**headers, "receipt": receipt}))

    def _reading_failed(self) -> None:
        failure = cast("ProtocolError", self._parser.failure)
        if self._last_receipt is None:
            self.abort(failure)
        else:
            asyncio.get_running_loop().call_later(_DISCONNECT_TIMEOUT_S, self.abort, failure)

    def _look_for_last_receipt(self, data: bytes) -> None:
        # The stream cannot be parsed any more, but a receipt's random name is found in it.
        seen = self._tail + data
        self._tail = seen[-_MAX_RECEIPT_BYTES:]
        if self._last_receipt is not None and self._last_receipt in seen:
            self.abort(cast("ProtocolError", self._parser.failure))

    # Requests.

    async def request(
        self,
        command: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        timeout: float,  # noqa: ASYNC109 - its end is the connection's
    ) -> None:
        """Write a frame and return when the broker has confirmed it; see `confirmed`."""
        await self.confirmed(lambda receipt: dump(command, {**headers, "receipt": receipt}, body), timeout=timeout)

    async def confirmed(self, frames: Callable[[str], bytes], *, timeout: float) -> None:  # noqa: ASYNC109 - as above
        """Write frames and return when the broker has confirmed them.

        Args:
            frames: returns the bytes to write, given the name of the receipt to ask for.
            timeout: seconds for the answer. A broker that does not answer makes no progress, even if it sends
                heart-beats: the connection ends.

        Raises:
            TransportError: the broker's answer, or `ConnectionLost`.
        """
        if self.lost.done():
            raise fresh(self.lost.result())
        self._receipt_count += 1
        name = f"r{self._receipt_count}"
        receipt = self._receipts[name] = asyncio.get_running_loop().create_future()
        self.write(frames(name))
        try:
            async with asyncio.timeout(timeout):
                await receipt
        except TimeoutError:
            if receipt.done() and not receipt.cancelled():  # the loop was blocked, and has read the answer just now
                receipt.result()
                return
            self.abort(ConnectionLost(f"{self.server} did not answer within {timeout:g} s"))
            raise fresh(self.lost.result()) from None
        finally:
            self._receipts.pop(name, None)

    def subscribe(self, name: str, subscriber: Callable[[Frame], None]) -> None:
        """Hand the messages of a subscription to ``subscriber``, which must not raise."""
        self._subscribers[name] = subscriber

    async def probe(self, *, timeout: float) -> None:  # noqa: ASYNC109 - as above
        """Ask the broker for a sign of progress: an empty transaction, confirmed."""

        def empty_transaction(receipt: str) -> bytes:
            name = f"probe-{receipt}"
            return dump("BEGIN", {"transaction": name}) + dump("ABORT", {"transaction": name, "receipt": receipt})

        await self.confirmed(empty_transaction, timeout=timeout)

    # Beginning and end.

    async def log_in(self, credentials: Credentials | None, headers: Mapping[str, str]) -> None:
        """Open the session; raises `AccessDenied`, or `ConnectionLost`.

        Args:
            credentials: None: anonymous.
            headers: more headers of CONNECT.
        """
        connect = {
            "accept-version": "1.2",
            "host": self.server.host,
            "heart-beat": self._heartbeats.header,
            **headers,
        }
        if credentials is not None:
            connect |= {"login": credentials.user, "passcode": credentials.password}
        if any(each in value for value in connect.values() for each in "\n\r\0"):
            raise AccessDenied("credentials must not contain line ends or NUL characters")
        self.write(dump("CONNECT", connect))
        await asyncio.wait((self._logged_in, self.lost), return_when=asyncio.FIRST_COMPLETED)
        if not self._logged_in.done():
            raise fresh(self.lost.result())
        self._logged_in.result()

    @property
    def is_logged_in(self) -> bool:
        """Whether the broker has accepted the session."""
        return self._logged_in.done() and not self._logged_in.cancelled() and self._logged_in.exception() is None

    async def disconnect(self) -> None:
        """End the session: the broker has processed all that was written before when it answers."""
        if self.open:
            try:
                await self.request("DISCONNECT", {}, timeout=_DISCONNECT_TIMEOUT_S)
            except TransportError:
                pass
            finally:
                self.abort(ConnectionLost("closed"))

    def abort(self, reason: TransportError) -> None:
        """End it now."""
        self._end(reason)
        self._transport.abort()

    def _end(self, reason: TransportError) -> None:
        if self.lost.done():
            return
        self.lost.set_result(reason)
        self._writer.clear()
        self._heartbeats.stop()
        self._frame_timeout.stop()
        for receipt in self._receipts.values():
            if not receipt.done():
                receipt.set_exception(fresh(reason))
        self._receipts.clear()

    def __repr__(self) -> str:
        return f"<Connection {self.server} {'open' if self.open else 'closed'}>"
