"""One connection to a broker: frames out, frames in, receipts, heart-beats. It ends once, and does not come back."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Final, cast

from eip._logging import get_logger
from eip.errors import AccessDenied, ChannelNotFound, ConnectionLost, Throttled, TransportError
from eip.transports.activemq._frames import Frame, Parser, ProtocolError, dump
from eip.transports.activemq._servers import Credentials, Server

__all__ = ["Connection", "RefusedByBroker", "again", "connect", "error_of"]

_log = get_logger("eip.activemq")
_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)
_GRACE: Final = 3.0
"""Times the promised interval that the broker may be silent: ActiveMQ looks once per interval whether it was."""
_CLOSING: Final = 5.0
"""Seconds that the broker has to confirm a disconnect."""


class RefusedByBroker(ConnectionLost):
    """The broker answered with an error that belongs to no request, which ends the connection (STOMP 1.2, ERROR)."""


def error_of(frame: Frame) -> TransportError:
    """What an ERROR frame says; its body is a stack trace of the broker, which stays with it."""
    trace = frame.body[:300].decode(errors="replace").partition("\n")[0]
    said = frame.headers.get("message") or trace
    kind = trace.partition(":")[0].rpartition(".")[2]
    if kind.endswith("Exception") and kind.isalnum() and kind not in said:
        said = f"{kind}: {said}"
    text = f"{said} {trace}".lower()
    if any(sign in text for sign in ("securityexception", "not authorized", "password", "authenticat")):
        return AccessDenied(said)
    if "invaliddestination" in text or "does not exist" in text:
        return ChannelNotFound(said)
    if "resourceallocation" in text or "usage manager" in text:
        return Throttled(said)
    return TransportError(said)


class Connection(asyncio.Protocol):
    """A STOMP session; made by `connect`.

    What is written within one turn of the loop leaves in one call. `lost` is set when it is over, with the reason.

    Args:
        server: for logs.
        most_body: bytes of a body that is read at most.
        heartbeat: seconds between signs of life that we offer, and ask for; 0: none.
    """

    def __init__(self, server: Server, *, most_body: int, heartbeat: float) -> None:
        self.server = server
        self.lost: asyncio.Future[TransportError] = asyncio.get_running_loop().create_future()
        self.progress = 0.0
        """When a message or an answer came last, by the loop's clock; heart-beats are none."""
        self._time = asyncio.get_running_loop().time
        self._parser = Parser(most_body=most_body)
        self._heartbeat = heartbeat
        self._transport: asyncio.Transport
        self._socket: socket.socket | None = None
        self._connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outgoing: list[bytes] = []
        self._writable = asyncio.Event()
        self._writable.set()
        self._receipts: dict[str, asyncio.Future[None]] = {}
        self._numbers = 0
        self._subscribers: dict[str, Callable[[Frame], None]] = {}
        self._last_read = self._last_write = 0.0
        self._beats: list[asyncio.TimerHandle] = []

    @property
    def open(self) -> bool:
        """Whether it can be written to."""
        return not self.lost.done()

    @property
    def waiting(self) -> int:
        """Requests that the broker has not answered yet."""
        return len(self._receipts)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._socket = transport.get_extra_info("socket")
        self._last_read = self._last_write = self.progress = self._time()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.lost.done():
            return
        self._last_read = self._time()
        self._acknowledge_at_once()
        try:
            for frame in self._parser.feed(data):
                self._take(frame)
        except ProtocolError as error:
            self.abort(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._end(ConnectionLost(f"{self.server} closed the connection" + (f": {exc}" if exc else "")))

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._writable.set()

    def _acknowledge_at_once(self) -> None:
        """Else the broker's next small frame waits 40 ms for our kernel's delayed ACK, as Nagle holds it back there.

        The kernel forgets the option by itself, so it is set with each read.
        """
        if _QUICKACK is not None and self._socket is not None:
            try:
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            except OSError:
                self._socket = None

    # Frames in.

    def _take(self, frame: Frame) -> None:
        command, headers, _ = frame
        if command == "MESSAGE":
            self.progress = self._last_read
            subscriber = self._subscribers.get(headers.get("subscription", ""))
            if subscriber is not None:
                subscriber(frame)
        elif command == "RECEIPT":
            self.progress = self._last_read
            receipt = self._receipts.pop(headers.get("receipt-id", ""), None)
            if receipt is not None and not receipt.done():
                receipt.set_result(None)
        elif command == "ERROR":
            self._refused(frame)
        elif command == "CONNECTED":
            self._greeted(headers)
        else:
            raise ProtocolError(f"{self.server} sent a frame {command!r}, which no broker sends")

    def _refused(self, frame: Frame) -> None:
        error = error_of(frame)
        receipt = self._receipts.pop(frame.headers.get("receipt-id", ""), None)
        if receipt is not None:
            if not receipt.done():
                receipt.set_exception(error)
        elif not self._connected.done():
            self._connected.set_exception(error)
        else:
            _log.warning("broker_error", server=str(self.server), error=str(error))
            refusal = RefusedByBroker(f"{self.server}: {error}")
            refusal.__cause__ = error
            self.abort(refusal)

    def _greeted(self, headers: Mapping[str, str]) -> None:
        if headers.get("version") != "1.2":
            raise ProtocolError(f"{self.server} speaks STOMP {headers.get('version', '1.0')}, not 1.2")
        offered, wanted = _intervals(headers.get("heart-beat", "0,0"))
        if self._heartbeat and wanted:
            self._beat(max(self._heartbeat, wanted) / 2)
        if self._heartbeat and offered:
            self._watch(max(self._heartbeat, offered))
        if not self._connected.done():
            self._connected.set_result(None)

    # Heart-beats.

    def _beat(self, interval: float) -> None:
        """Write an end of line where nothing else was written for the interval, half of what was promised."""
        if self.lost.done():
            return
        if self._time() - self._last_write >= interval * 0.9:
            self.write(b"\n")
        self._beats[:1] = [asyncio.get_running_loop().call_later(interval, self._beat, interval)]

    def _watch(self, interval: float) -> None:
        """End the connection where nothing came for too long."""
        if self.lost.done():
            return
        silent = self._time() - self._last_read
        if silent > interval * _GRACE:
            self.abort(ConnectionLost(f"{self.server} was silent for {silent:.1f} s"))
            return
        self._beats[1:] = [asyncio.get_running_loop().call_later(interval, self._watch, interval)]

    # Frames out.

    def write(self, data: bytes) -> None:
        """Write a whole frame, or several; they leave together with what else is written now."""
        if self.lost.done():
            return
        self._outgoing.append(data)
        if len(self._outgoing) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if self._outgoing and not self.lost.done():
            self._last_write = self._time()
            data = self._outgoing[0] if len(self._outgoing) == 1 else b"".join(self._outgoing)
            self._transport.write(data)
        self._outgoing.clear()

    async def drain(self) -> None:
        """Wait while the broker does not read; raises `ConnectionLost`."""
        if not self._writable.is_set():
            waiting = asyncio.ensure_future(self._writable.wait())
            try:
                await asyncio.wait((waiting, self.lost), return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
        if self.lost.done():
            raise again(self.lost.result())

    async def request(
        self,
        command: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        timeout: float,  # noqa: ASYNC109 - its end is the connection's
    ) -> None:
        """Write a frame and return when the broker has confirmed it.

        Raises what the broker answered, or `ConnectionLost`: an answer that does not come in ``timeout`` seconds means
        that the broker does not get on, whatever its heart-beats say, and ends the connection.
        """
        await self.confirmed(lambda receipt: dump(command, {**headers, "receipt": receipt}, body), timeout=timeout)

    async def confirmed(self, frames: Callable[[str], bytes], *, timeout: float) -> None:  # noqa: ASYNC109 - as above
        """Write what ``frames`` makes of a receipt's name, and return when that receipt has come."""
        if self.lost.done():
            raise again(self.lost.result())
        self._numbers += 1
        name = f"r{self._numbers}"
        receipt = self._receipts[name] = asyncio.get_running_loop().create_future()
        self.write(frames(name))
        try:
            async with asyncio.timeout(timeout):
                await receipt
        except TimeoutError:
            self.abort(ConnectionLost(f"{self.server} did not answer within {timeout:g} s"))
            raise again(self.lost.result()) from None
        finally:
            self._receipts.pop(name, None)

    def subscribe(self, name: str, subscriber: Callable[[Frame], None]) -> None:
        """Have the messages of a subscription handed to ``subscriber``, which must not raise."""
        self._subscribers[name] = subscriber

    async def probe(self, *, timeout: float) -> None:  # noqa: ASYNC109 - as above
        """Ask the broker for a sign of progress: an empty transaction, with an answer."""

        def empty_transaction(receipt: str) -> bytes:
            name = f"probe-{receipt}"
            return dump("BEGIN", {"transaction": name}) + dump("ABORT", {"transaction": name, "receipt": receipt})

        await self.confirmed(empty_transaction, timeout=timeout)

    # The end.

    async def greeting(self, credentials: Credentials | None, headers: Mapping[str, str]) -> None:
        """Log in; raises `AccessDenied`, or `ConnectionLost`."""
        beat = round(self._heartbeat * 1000)
        connect = {"accept-version": "1.2", "host": self.server.host, "heart-beat": f"{beat},{beat}", **headers}
        if credentials is not None:
            connect |= {"login": credentials.user, "passcode": credentials.password}
        if any(each in value for value in connect.values() for each in "\n\r\0"):
            raise AccessDenied("credentials hold no ends of lines")
        self.write(dump("CONNECT", connect))
        await asyncio.wait((self._connected, self.lost), return_when=asyncio.FIRST_COMPLETED)
        if not self._connected.done():
            raise again(self.lost.result())
        self._connected.result()

    async def disconnect(self) -> None:
        """Say good-bye: what was written before is done when the broker answers."""
        if self.open:
            try:
                await self.request("DISCONNECT", {}, timeout=_CLOSING)
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
        self._outgoing.clear()
        for beat in self._beats:
            beat.cancel()
        for receipt in self._receipts.values():
            if not receipt.done():
                receipt.set_exception(again(reason))
        self._receipts.clear()

    def __repr__(self) -> str:
        return f"<Connection {self.server} {'open' if self.open else 'closed'}>"


async def connect(
    server: Server,
    *,
    credentials: Credentials | None,
    tls: ssl.SSLContext | None,
    headers: Mapping[str, str],
    most_body: int,
    heartbeat: float,
    timeout: float,  # noqa: ASYNC109 - of several steps, and told in the error
) -> Connection:
    """A connection that is logged in.

    Raises `AccessDenied`; `ConnectionLost` where nobody answers in time; `TransportError` where the certificate is not
    one that is trusted.
    """
    loop = asyncio.get_running_loop()
    connection: Connection | None = None
    try:
        async with asyncio.timeout(timeout):
            _, connection = await loop.create_connection(
                lambda: Connection(server, most_body=most_body, heartbeat=heartbeat),
                server.host,
                server.port,
                ssl=tls if server.tls else None,
            )
            await connection.greeting(credentials, headers)
    except ssl.SSLCertVerificationError as error:
        raise TransportError(f"{server}: its certificate is not trusted: {error.verify_message}") from error
    except (OSError, TimeoutError) as error:
        if connection is not None:
            connection.abort(ConnectionLost("no answer"))
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        raise ConnectionLost(f"{server}: {why}") from error
    except BaseException:
        if connection is not None:
            connection.abort(ConnectionLost("not logged in"))
        raise
    return connection


def _intervals(header: str) -> tuple[float, float]:
    """Seconds between the heart-beats that the broker offers, and wants."""
    try:
        offered, wanted = (int(each) / 1000 for each in header.split(","))
    except ValueError:
        raise ProtocolError(f"heart-beat is not two numbers: {header[:40]!r}") from None
    if offered < 0 or wanted < 0:
        raise ProtocolError(f"heart-beat is negative: {header[:40]!r}")
    return offered, wanted


def again(error: TransportError) -> TransportError:
    """The same error anew: one that is raised twice gathers both tracebacks."""
    made = type(error)(*error.args)
    made.__cause__ = error.__cause__
    return made
