"""Confirmed sends: what gathers while one transaction is under way leaves with the next, up to a hundred messages.

The broker writes to its disk once per transaction, and answers its commit: several times as fast as an answer to each
message. One transaction at a time keeps the order of everything that is sent.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

from eip.errors import ConfigurationError, ConnectionLost, TransportError
from eip.message import Message
from eip.retry import Backoff
from eip.telemetry.meter import Meter
from eip.transports._capabilities import ACTIVEMQ
from eip.transports._send_completion import SendCompletion
from eip.transports.activemq._artemis import is_artemis, send_head
from eip.transports.activemq._stomp.connection import Connection
from eip.transports.activemq._stomp.errors import RefusedByBroker
from eip.transports.activemq._stomp.frames import dump
from eip.transports.activemq._stomp.reconnecting import ReconnectingConnection

__all__ = ["BatchAccumulator", "Entry"]

_MAX_PENDING: Final = 10_000
"""Messages that wait for their transaction before senders have to wait."""
_RETRY_BACKOFF: Final = Backoff(base=0.1, cap=5.0)
_MAX_REFUSALS: Final = 2
"""How often a message may end the connection before it counts as the reason, and fails."""


class Entry:
    """A message to be sent: the head of its frame without the empty line, and the body."""

    __slots__ = ("accepted_at", "body", "channel", "completion", "head", "message", "place", "size")

    def __init__(self, message: Message[Any], channel: str, head: bytes, body: bytes) -> None:
        self.message, self.channel, self.head, self.body = message, channel, head, body
        self.size = len(head) + len(body)
        self.place = 0
        self.completion: SendCompletion
        self.accepted_at: float
        """When it was accepted for sending, by the loop's clock."""

    def settle(self, error: Exception | None) -> None:
        """Report the outcome to its send."""
        self.completion.settle(self.place, self.message, error)

    def frame(self, header: bytes, *, artemis: bool) -> tuple[bytes, ...]:
        """Return the pieces of the whole frame, with one more header; a body is copied only where all are joined."""
        head = send_head(self.head, self.body) if artemis else self.head
        return head, header, b"\n\n", self.body, b"\0"


class BatchAccumulator:
    """Sends over one connection, in the order given.

    When the connection breaks before the answer came, the transaction is sent again on the next one. If the broker had
    committed it, its messages are there twice.

    Args:
        connection: over which to send.
        meter: records the frames; None: nothing is recorded.
    """

    def __init__(self, connection: ReconnectingConnection, meter: Meter | None) -> None:
        self._connection, self.meter = connection, meter
        self._pending: deque[Entry] = deque()
        self._room = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._transactions = 0
        self._answered_at = 0.0
        """When the broker confirmed something last, by the loop's clock."""

    async def send(self, entries: Sequence[Entry]) -> None:
        """Return when each was accepted; raises `PartialSendError`, or the error of all.

        If cancelled, what has not begun to leave is not sent.
        """
        completion = SendCompletion(len(entries))
        for place, entry in enumerate(entries):
            entry.completion, entry.place = completion, place
        await self.accept(entries)
        await completion.wait()

    async def accept(self, entries: Sequence[Entry]) -> None:
        """Begin to send entries that have a completion; wait while too many are pending."""
        now = asyncio.get_running_loop().time()
        for entry in entries:
            while len(self._pending) >= _MAX_PENDING:
                self._room.clear()
                try:
                    await self._room.wait()
                except asyncio.CancelledError:
                    entry.completion.done.cancel()  # of those before it, too
                    raise
            entry.accepted_at = now
            self._pending.append(entry)
            if self._pump is None:
                self._pump = asyncio.create_task(self._send_all(), name=f"{self._connection.name} batches")

    async def flush(self) -> None:
        """Return when everything was sent, or has failed."""
        while self._pump is not None:
            await asyncio.wait((self._pump,))

    async def aclose(self) -> None:
        """Fail what is not sent."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait((self._pump,))

    async def _send_all(self) -> None:
        batch: list[Entry] = []
        try:
            while batch := self._batch():
                await self._deliver(batch)
        except BaseException as error:
            reason = ConnectionLost(f"the transport was closed while sending ({type(error).__name__})")
            for entry in (*batch, *self._pending):
                entry.settle(reason)
            self._pending.clear()
            raise
        finally:
            self._pump = None
            self._room.set()

    def _batch(self) -> list[Entry]:
        """Return the entries of the next transaction, without those whose send was cancelled."""
        batch: list[Entry] = []
        room = ACTIVEMQ.batch_bytes or 0
        while self._pending and len(batch) < (ACTIVEMQ.batch_entries or 1):
            entry = self._pending[0]
            if batch and entry.size > room:
                break
            self._pending.popleft()
            if not entry.completion.done.cancelled():
                batch.append(entry)
                room -= entry.size
        self._room.set()
        return batch

    async def _deliver(self, batch: Sequence[Entry]) -> None:
        """Send until the batch is confirmed or refused, or the timeout is over."""
        loop = asyncio.get_running_loop()
        # What waited behind others while no broker answered has waited as long as they have.
        started = max(batch[0].accepted_at, self._answered_at)
        attempt = refusals = 0
        while True:
            attempt += 1
            try:
                connection = await self._connection.connection(since=started)
            except (TransportError, ConfigurationError) as error:  # no connection in time, or it was closed
                self._settle(batch, error)
                return
            try:
                await self._transfer(connection, batch)
            except TransportError as error:
                refusals += isinstance(error, RefusedByBroker)
                if (not error.transient or refusals) and len(batch) > 1:
                    for entry in batch:  # one of them is the reason: the others must not fail with it
                        await self._deliver([entry])
                    return
                is_over = loop.time() >= started + self._connection.connector.timeout
                if not error.transient or refusals >= _MAX_REFUSALS or is_over:
                    self._settle(batch, error)
                    return
                if connection.open:  # an answer, which the next attempt may repeat
                    await asyncio.sleep(_RETRY_BACKOFF.delay(attempt))
            else:
                self._answered_at = loop.time()
                self._settle(batch, None)
                return

    def _settle(self, batch: Sequence[Entry], error: Exception | None) -> None:
        for entry in batch:
            entry.settle(error)

    async def _transfer(self, connection: Connection, batch: Sequence[Entry]) -> None:
        """Write one message, or a transaction of several, and return when the broker has confirmed it."""
        await connection.drain()
        timeout, artemis = self._connection.connector.answer_timeout, is_artemis(connection.broker)
        if len(batch) == 1:
            await connection.confirmed(
                lambda receipt: b"".join(batch[0].frame(f"receipt:{receipt}".encode(), artemis=artemis)),
                timeout=timeout,
            )
        else:
            self._transactions += 1
            name = f"t{self._transactions}"
            await connection.confirmed(
                lambda receipt: b"".join(_transaction(batch, name=name, receipt=receipt, artemis=artemis)),
                timeout=timeout,
            )
        if self.meter is not None:
            self._report(batch, self.meter)

    def _report(self, batch: Sequence[Entry], meter: Meter) -> None:
        messages = Counter(entry.channel for entry in batch)
        for channel, count in messages.items():
            size = sum(entry.size for entry in batch if entry.channel == channel)
            meter.record("activemq", channel, "SEND", messages=count, size=size, units=0, calls=count)
        if len(batch) > 1:
            meter.record("activemq", batch[0].channel, "BEGIN", units=0)
            meter.record("activemq", batch[0].channel, "COMMIT", units=0)


def _transaction(batch: Sequence[Entry], *, name: str, receipt: str, artemis: bool) -> Iterator[bytes]:
    yield dump("BEGIN", {"transaction": name})
    header = f"transaction:{name}".encode()
    for entry in batch:
        yield from entry.frame(header, artemis=artemis)
    yield dump("COMMIT", {"transaction": name, "receipt": receipt})
