"""One connection to a broker: frames out, frames in, receipts, heart-beats. It ends once, and does not come back."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, cast

from eip._ids import new_id
from eip._logging import get_logger
from eip.errors import AccessDenied, ChannelNotFound, ConnectionLost, Throttled, TransportError
from eip.limits import MIB
from eip.transports.activemq._frames import Frame, NotStomp, Parser, ProtocolError, dump
from eip.transports.activemq._servers import Credentials, Server

__all__ = ["ATTEMPTED", "Connection", "RefusedByBroker", "again", "connect", "error_of"]

_log = get_logger("eip.activemq")
_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)
_GRACE: Final = 3.0
"""Times the promised interval that the broker may be silent: ActiveMQ looks once per interval whether it was."""
ATTEMPTED: Final = "attempted-"
"""Receipts that begin so belong to requests that the broker may refuse."""
_CLOSING: Final = 3.0
"""Seconds that the broker has to confirm a disconnect."""
_STALLED_S: Final = 10.0
"""Seconds without more of a frame that has begun, after which its end is not waited for any longer."""
_MAX_FRAME_S: Final = 300.0
"""Seconds that one frame may take to arrive."""
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_WRONG_PORT: Final = {b"\x15\x03": "the port speaks TLS: use stomp+ssl://", b"HTTP": "the port speaks HTTP"}


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
        server: for logs and errors.
        max_body: maximum size of a body that is read, in bytes.
        heartbeat: seconds between signs of life, ours and the broker's; 0: none.
        max_blocked: seconds of silence after which the broker may take us for dead: the interval that we promise.
    """

    def __init__(self, server: Server, *, max_body: int, heartbeat: float, max_blocked: float) -> None:
        self.server = server
        self.lost: asyncio.Future[TransportError] = asyncio.get_running_loop().create_future()
        self.progress = 0.0
        """When a message or an answer came last, by the loop's clock; heart-beats are none."""
        self._time = asyncio.get_running_loop().time
        self._parser = Parser(max_body=max_body, max_head=min(max_body, 16 * MIB))
        self._heartbeat, self._max_blocked = heartbeat, max_blocked
        self._unfinished: asyncio.TimerHandle | None = None
        """Watches a frame whose end has not come yet."""
        self._last_data = 0.0
        """When something that is not a heart-beat came last."""
        self._frames = 0
        self._farewell: bytes | None = None
        """What confirms the last frame that is written after the reader has failed."""
        self._tail = b""
        self._write_lock = threading.Lock()
        """Held while bytes are given to the transport; see `beat_blocking`."""
        self.is_classic = False
        """Whether the broker is ActiveMQ Classic, which moves what is NACKed to its own dead-letter queue."""
        self._transport: asyncio.Transport
        self._socket: socket.socket | None = None
        self._connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outgoing: list[bytes] = []
        self._writable = asyncio.Event()
        self._writable.set()
        self._receipts: dict[str, asyncio.Future[None]] = {}
        self._numbers = 0
        self._subscribers: dict[str, Callable[[Frame], None]] = {}
        self._last_read = self._last_write = self._last_watch = 0.0
        self._plain = False
        self._last_write_at = time.monotonic()
        """The same by a clock that other threads may read."""
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
        self._plain = transport.get_extra_info("ssl_object") is None
        self._last_read = self._last_write = self.progress = self._time()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.lost.done():
            return
        self._last_read = self._time()
        self._acknowledge_at_once()
        failure = self._parser.failure
        if failure is not None:
            self._look_for_farewell(data)
            return
        if data != b"\n":
            self._last_data = self._last_read
        try:
            for frame in self._parser.feed(data):
                self._take(frame)
        except ProtocolError as error:
            self.abort(error)
        failure = self._parser.failure
        if failure is not None:
            self._reading_failed(failure)
        elif self._unfinished is None and not self._parser.idle:
            self._watch_unfinished(self._last_read)

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
        command, headers = frame.command, frame.headers
        self._frames += 1
        if command == "MESSAGE":
            self.progress = self._last_read
            subscriber = self._subscribers.get(headers.get("subscription", ""))
            if subscriber is None and "subscription" not in headers and len(self._subscribers) == 1:
                (subscriber,) = self._subscribers.values()  # the header is lost in a malformed head
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

    def _watch_unfinished(self, since: float) -> None:
        """Bound the time that a frame takes: a header that lies about its length would hold up all that follow."""
        loop = asyncio.get_running_loop()
        self._unfinished = loop.call_later(_STALLED_S, self._check_unfinished, since, self._frames)

    def _check_unfinished(self, since: float, frames: int) -> None:
        self._unfinished = None
        now = self._time()
        if self.lost.done() or self._parser.failure is not None or self._parser.idle:
            return
        if self._frames != frames:  # it is another one
            self._watch_unfinished(now)
        elif now - self._last_data < _STALLED_S and now - since < _MAX_FRAME_S:
            self._watch_unfinished(since)
        else:
            self._end_unfinished(f"the end of a frame did not come within {now - since:.0f} s")

    def _end_unfinished(self, reason: str) -> None:
        frame = self._parser.give_up(reason)
        if frame is not None and frame.command == "MESSAGE":
            self._take(frame)
        self._reading_failed(cast("ProtocolError", self._parser.failure))

    def last_request(self, command: str, headers: Mapping[str, str]) -> None:
        """Write the frame that settles what the reader has failed on; the connection ends when it is confirmed."""
        receipt = new_id()
        self._farewell = f"receipt-id:{receipt}".encode()
        self.write(dump(command, {**headers, "receipt": receipt}))

    def _reading_failed(self, failure: ProtocolError) -> None:
        """End the connection; what was written for the frame that could not be read goes out first."""
        if self._farewell is None:
            self.abort(failure)
        else:
            asyncio.get_running_loop().call_later(_CLOSING, self.abort, failure)

    def _look_for_farewell(self, data: bytes) -> None:
        seen = self._tail + data
        self._tail = seen[-64:]
        if self._farewell is not None and self._farewell in seen:
            self.abort(cast("ProtocolError", self._parser.failure))

    def _refused(self, frame: Frame) -> None:
        error = error_of(frame)
        if frame.headers.get("receipt-id", "").startswith(ATTEMPTED):
            return
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
        self.is_classic = headers.get("server", "").startswith("ActiveMQ/")
        offered, wanted = _intervals(headers.get("heart-beat", "0,0"))
        if self._heartbeat and wanted:
            self._beat(self._heartbeat / 2)
        if self._heartbeat and offered:
            self._watch(max(self._heartbeat, offered))
        if not self._connected.done():
            self._connected.set_result(None)

    # Heart-beats.

    def _beat(self, interval: float) -> None:
        """Write an end of line where nothing else was written for the interval."""
        if self.lost.done():
            return
        if self._time() - self._last_write >= interval * 0.9:
            self.write(b"\n")
        self._beats[:1] = [asyncio.get_running_loop().call_later(interval, self._beat, interval)]

    def beat_blocking(self) -> bool:
        """Write an end of line from another thread while the event loop is blocked; return whether we count as alive.

        Nothing may be in the transport's buffer, or the end of line would land in the middle of a frame. Over TLS it is
        not possible, as the loop's thread may be using the same TLS object: there we live on what was promised.
        """
        if self.lost.done():
            return False
        if not self._heartbeat:
            return True
        if not self._plain or self._socket is None:
            return time.monotonic() - self._last_write_at < self._max_blocked
        with self._write_lock:
            if self._transport.get_write_buffer_size():
                return True  # the kernel has more to send than the broker reads: it is not waiting for a sign of ours
            try:
                return os.write(self._socket.fileno(), b"\n") == 1
            except OSError:
                return False

    def _watch(self, interval: float) -> None:
        """End the connection where nothing came for too long."""
        if self.lost.done():
            return
        now = self._time()
        silent = now - self._last_read
        # A loop that was blocked has not read: what came meanwhile has a turn before the broker is judged.
        was_blocked, self._last_watch = now - self._last_watch > interval * 1.5, now
        if silent > interval * _GRACE and not was_blocked:
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
            self._last_write_at = time.monotonic()
            data = self._outgoing[0] if len(self._outgoing) == 1 else b"".join(self._outgoing)
            with self._write_lock:
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
            if receipt.done() and not receipt.cancelled():  # the loop was blocked, and has read the answer just now
                receipt.result()
                return
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
        promised = round(max(self._heartbeat, self._max_blocked) * 1000) if beat else 0
        connect = {"accept-version": "1.2", "host": self.server.host, "heart-beat": f"{promised},{beat}", **headers}
        if credentials is not None:
            connect |= {"login": credentials.user, "passcode": credentials.password}
        if any(each in value for value in connect.values() for each in "\n\r\0"):
            raise AccessDenied("credentials hold no ends of lines")
        self.write(dump("CONNECT", connect))
        await asyncio.wait((self._connected, self.lost), return_when=asyncio.FIRST_COMPLETED)
        if not self._connected.done():
            raise again(self.lost.result())
        self._connected.result()

    @property
    def is_greeted(self) -> bool:
        """Whether the broker has let us in."""
        return self._connected.done() and not self._connected.cancelled() and self._connected.exception() is None

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
        for timer in (*self._beats, self._unfinished):
            if timer is not None:
                timer.cancel()
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
    max_body: int,
    heartbeat: float,
    max_blocked: float,
    timeout: float,  # noqa: ASYNC109 - of several steps, and named in the error
) -> Connection:
    """Return a connection that is logged in.

    Raises `AccessDenied`; `ConnectionLost` where nobody answers in time; `TransportError` where another attempt would
    only repeat the failure: a certificate that is not trusted, a port that does not speak STOMP.
    """
    loop = asyncio.get_running_loop()
    connection: Connection | None = None
    try:
        async with asyncio.timeout(timeout):
            _, connection = await loop.create_connection(
                lambda: Connection(server, max_body=max_body, heartbeat=heartbeat, max_blocked=max_blocked),
                server.host,
                server.port,
                ssl=tls if server.tls else None,
            )
            await connection.greeting(credentials, headers)
    except Exception as error:
        step = "logging in" if connection is not None else "connecting"
        if server.tls and connection is None:
            step += " (does the port speak TLS?)"
        raise _connect_error(server, error, step=step, timeout=timeout) from error
    finally:
        if connection is not None and not connection.is_greeted:
            connection.abort(ConnectionLost("not logged in"))
    return connection


def _connect_error(server: Server, error: Exception, *, step: str, timeout: float) -> TransportError:
    """Return the error of a failed `connect`: where, what was being done, and what to check."""
    made: TransportError
    match error:
        case AccessDenied():
            made = AccessDenied(f"{server}: {error}")
        case NotStomp():
            hint = next((text for start, text in _WRONG_PORT.items() if error.start.startswith(start)), str(error))
            made = TransportError(f"{server}: not a STOMP broker: {hint}")
        case TransportError():
            kind = type(error) if isinstance(error, ConnectionLost) else TransportError
            made = kind(f"{server}, while {step}: {str(error).removeprefix(f'{server} ')}")
        case ssl.SSLCertVerificationError():
            made = TransportError(f"{server}: its certificate is not trusted: {error.verify_message}")
        case ssl.SSLError() if error.reason in _NOT_TLS:
            made = TransportError(f"{server}: the port does not speak TLS ({error.reason}): use stomp://")
        case TimeoutError():
            made = ConnectionLost(f"{server}: no answer within {timeout:g} s, while {step}")
        case _:
            made = ConnectionLost(f"{server}, while {step}: {error}")
    return made


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
