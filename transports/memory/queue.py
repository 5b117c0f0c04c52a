"""The embedded queue: SQS's semantics, standard and FIFO, in this process."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Any, Final

from eip import clock
from eip.channels import Queue, Receiver, Sender, with_dead_letter_headers, without_dead_letter_headers
from eip.errors import ConfigurationError, InvalidMessage, MessageTooLarge
from eip.limits import MIB, Capabilities
from eip.message import Message
from eip.telemetry.meter import Meter
from eip.transports.memory._store import Entry, Store, StoreReceiver

__all__ = ["DEDUPLICATION_WINDOW", "MemoryQueue", "digest"]

DEDUPLICATION_WINDOW: Final = 300.0
"""Seconds in which a FIFO queue drops a second message with the same deduplication id (SQS developer guide)."""

_LIMITS: Final = Capabilities(message_bytes=1 * MIB)


class MemoryQueue(Queue):
    """A queue in this process; see `eip.transports.memory.MemoryTransport.queue` for its options.

    Delivery is at-least-once, as everywhere: a lease that ends before the ack means another delivery. Messages do not
    outlive the process. Bodies are encoded when sent, so that consumers share nothing with producers.
    """

    limits = _LIMITS

    def __init__(
        self,
        name: str,
        *,
        address: str,
        fifo: bool,
        visibility: float = 30.0,
        capacity: int = 100_000,
        dead_letters: MemoryQueue | None = None,
        max_receive_count: int | None = None,
        content_based_deduplication: bool = False,
        meter: Meter | None = None,
    ) -> None:
        if capacity < 1:
            raise ConfigurationError("a capacity is more than 0")
        self.name, self.address = name, address
        self.fifo: bool = fifo
        self.capacity = capacity
        self.store = Store(fifo=fifo, visibility=visibility)
        self.configure(
            visibility=visibility,
            dead_letters=dead_letters,
            max_receive_count=max_receive_count,
            content_based_deduplication=content_based_deduplication,
        )
        self.store.on_exhausted = self._dead_letter
        self.store.on_removed = self._make_room
        self._meter = meter
        self._seen: dict[str, float] = {}
        self._room: asyncio.Event | None = None

    def configure(
        self,
        *,
        visibility: float,
        dead_letters: MemoryQueue | None,
        max_receive_count: int | None,
        content_based_deduplication: bool,
    ) -> None:
        """Change the lease's seconds, the redrive policy and the deduplication, from now on."""
        if visibility <= 0:
            raise ConfigurationError("a visibility timeout is more than 0")
        if (dead_letters is None) != (max_receive_count is None):
            raise ConfigurationError("dead_letters and max_receive_count go together, as in a redrive policy")
        if dead_letters is not None and dead_letters.fifo != self.fifo:
            raise ConfigurationError("the dead-letter queue of a FIFO queue is FIFO, of a standard queue standard")
        self.visibility = self.store.visibility = visibility
        self.dead_letters = dead_letters
        self.max_receive_count = self.store.max_receive_count = max_receive_count
        self.content_based_deduplication = content_based_deduplication

    def __len__(self) -> int:
        """Messages in the queue: ready, delayed and on lease."""
        return self.store.size

    def __bool__(self) -> bool:
        """An empty queue is a queue: ``queue or other`` means whether there is one."""
        return True

    def messages(self) -> list[Message[Any]]:
        """All messages in the queue, ready, delayed or on lease, in the order of their arrival."""
        return self.store.messages()

    async def send(self, *messages: Message[Any], delay: float = 0.0) -> None:
        """Send the messages; waits while the queue holds ``capacity``. See `Queue.send`."""
        sealed = [self._sealed(message, delay) for message in messages]
        for message in sealed:
            while self.store.size >= self.capacity:
                await self._wait_for_room()
            if not self.fifo or self._is_new(message):
                self.store.put(message, delay=delay)
        if self._meter is not None:
            size = sum(len(each.raw or b"") for each in sealed)
            self._meter.record("memory", self.name, "send", messages=len(sealed), size=size, units=0)

    async def move_messages(self, to: Sender, *, limit: int | None = None) -> int:
        """Send up to ``limit`` ready messages to another channel and forget them here; returns how many.

        The redrive of a dead-letter queue (SQS's StartMessageMoveTask): each is sent before it is forgotten, in order.
        """
        moved, most = 0, len(self) if limit is None else min(limit, len(self))  # what comes back meanwhile stays
        async with self.receiver(capacity=1) as receiver:
            while moved < most and (taken := receiver.receive_nowait(1)):
                await to.send(without_dead_letter_headers(taken[0].message))
                await taken[0].ack()
                moved += 1
        return moved

    def receiver(self, *, capacity: int = 10) -> Receiver:
        """A receiver; any number may share the queue."""
        return StoreReceiver(
            self.name,
            self.store,
            capacity=capacity,
            dead_letters=self.dead_letters,
            max_receive_count=self.max_receive_count,
            meter=self._meter,
        )

    def _sealed(self, message: Message[Any], delay: float) -> Message[Any]:
        """The message with its body encoded and within the limits."""
        if self.fifo:
            if message.group_id is None:
                raise InvalidMessage(f"{self.name} is FIFO: a message needs a group_id")
            if delay > 0:
                raise InvalidMessage(f"{self.name} is FIFO: it has no delay per message")
        sealed = message.sealed()
        limit = self.limits.message_bytes
        if limit is not None and len(sealed.encode()) > limit:
            raise MessageTooLarge(len(sealed.encode()), limit, channel=self.name)
        return sealed

    def _is_new(self, message: Message[Any]) -> bool:
        """Whether its deduplication id (default: its id, or its body's digest) was not seen within the window."""
        now, seen = clock.now(), self._seen
        while seen and next(iter(seen.values())) <= now:
            del seen[next(iter(seen))]
        key = message.deduplication_id or (digest(message) if self.content_based_deduplication else message.id)
        if key in seen:
            return False
        seen[key] = now + DEDUPLICATION_WINDOW
        return True

    def _dead_letter(self, entry: Entry) -> None:
        """Move an entry that was received too often; its id, body and attributes stay."""
        if self.dead_letters is not None:
            count = entry.receive_count
            spent = with_dead_letter_headers(entry.message, f"received {count} times", source=self.name, count=count)
            self.dead_letters.store.put(spent)

    def _make_room(self, _: Entry) -> None:
        if self._room is not None:
            self._room.set()

    async def _wait_for_room(self) -> None:
        self._room = self._room or asyncio.Event()
        self._room.clear()
        await self._room.wait()

    def __repr__(self) -> str:
        return f"<MemoryQueue {self.name} ready={self.store.ready} leased={self.store.leased}>"


def digest(message: Message[Any]) -> str:
    """What content-based deduplication tells bodies apart by."""
    return sha256(message.encode()).hexdigest()
