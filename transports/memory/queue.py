"""The embedded queue: SQS's semantics, standard and FIFO, in this process."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from itertools import accumulate
from typing import Any, Final

from typing_extensions import override

from eip._checks import check_delay, check_duration, check_integer, check_message, check_one_of, check_type
from eip.channels import Queue, Receiver, Sender, with_dead_letter_headers, without_dead_letter_headers
from eip.clock import Duration, seconds
from eip.errors import ConfigurationError, InvalidMessage, MessageTooLarge
from eip.limits import MIB, Capabilities
from eip.message import AtRest, Message
from eip.telemetry.meter import Meter
from eip.topology.resources import DeduplicationScope
from eip.transports.memory._lifetime import Lifetime
from eip.transports.memory._ready import StoreDelivery
from eip.transports.memory._store import Store
from eip.transports.memory.receiver import StoreReceiver

__all__ = ["DEDUPLICATION_WINDOW", "MemoryQueue", "digest"]

DEDUPLICATION_WINDOW: Final = 300.0
"""Seconds in which a FIFO queue drops a message whose deduplication id it has seen (SQS developer guide)."""

_LIMITS: Final = Capabilities(message_bytes=1 * MIB)


class MemoryQueue(Queue):
    """A queue in this process; see `eip.transports.memory.MemoryTransport.queue` for its options.

    Delivery is at-least-once, as everywhere: a lease that ends before the ack means another delivery. Messages do not
    outlive the process. Bodies are encoded when sent, so that consumers share nothing with producers.
    """

    system = "memory"
    peek_is_receive = False
    limits = _LIMITS

    def __init__(
        self,
        name: str,
        *,
        address: str,
        lifetime: Lifetime,
        fifo: bool,
        visibility: Duration = 30.0,
        capacity: int = 100_000,
        dead_letters: MemoryQueue | None = None,
        max_receive_count: int | None = None,
        content_based_deduplication: bool = False,
        deduplication_scope: DeduplicationScope = "channel",
        max_message_bytes: int | None = None,
        meter: Meter | None = None,
    ) -> None:
        check_integer("capacity", capacity, least=1)
        check_type("fifo", fifo, bool, "a bool")
        self.name, self.address = name, address
        self.fifo: bool = fifo
        self.capacity = capacity
        self._lifetime = lifetime
        self.store = Store(fifo=fifo, visibility=seconds(visibility))
        self.configure(
            visibility=visibility,
            dead_letters=dead_letters,
            max_receive_count=max_receive_count,
            content_based_deduplication=content_based_deduplication,
            deduplication_scope=deduplication_scope,
            max_message_bytes=max_message_bytes,
        )
        self.store.on_exhausted = self._dead_letter
        self._meter = meter
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._room = asyncio.Event()

    def configure(
        self,
        *,
        visibility: Duration,
        dead_letters: MemoryQueue | None,
        max_receive_count: int | None,
        content_based_deduplication: bool,
        deduplication_scope: DeduplicationScope,
        max_message_bytes: int | None,
    ) -> None:
        """Change the queue, from now on.

        Args:
            visibility: duration of a lease, in seconds.
            dead_letters: of the redrive policy; None: none.
            max_receive_count: goes with ``dead_letters``.
            content_based_deduplication: of a FIFO queue, by the body where a message has no deduplication id.
            deduplication_scope: of a FIFO queue; ``"group"``: the same id in two groups is two messages.
            max_message_bytes: of a body; None: 1 MiB.

        Raises:
            ConfigurationError: an option out of range, or a redrive policy that cannot be.
        """
        check_type("dead_letters", dead_letters, MemoryQueue, "a MemoryQueue", optional=True)
        check_type("content_based_deduplication", content_based_deduplication, bool, "a bool")
        if (dead_letters is None) != (max_receive_count is None):
            raise ConfigurationError(
                "dead_letters and max_receive_count go together, "
                f"got dead_letters={dead_letters!r} and max_receive_count={max_receive_count!r}"
            )
        if max_receive_count is not None:
            check_integer("max_receive_count", max_receive_count, least=1)
        if dead_letters is not None and dead_letters.fifo != self.fifo:
            kind = "FIFO" if self.fifo else "standard"
            raise ConfigurationError(f"dead_letters of a {kind} queue must be {kind}, got {dead_letters!r}")
        self.visibility = self.store.visibility = check_duration("visibility", visibility, positive=True)
        self.dead_letters = dead_letters
        self.max_receive_count = self.store.max_receive_count = max_receive_count
        self.content_based_deduplication = content_based_deduplication
        self.deduplication_scope = check_one_of("deduplication_scope", deduplication_scope, ("channel", "group"))
        self.max_message_bytes = max_message_bytes
        self.limits = _LIMITS if max_message_bytes is None else Capabilities(message_bytes=max_message_bytes)

    def __len__(self) -> int:
        """How many messages are in the queue: ready, delayed and on lease."""
        return self.store.size

    def __bool__(self) -> bool:
        """Always true: ``queue or other`` asks whether there is a queue, not whether it has messages."""
        return True

    @override
    async def peek(self, limit: int = 10, *, max_bytes: int | None = None) -> list[Message[Any]]:
        return _within(self.messages()[:limit], max_bytes)

    @override
    async def depth(self) -> dict[str, int]:
        """How many messages are ready, delayed and on lease."""
        return {"ready": self.store.ready, "delayed": self.store.delayed, "leased": self.store.leased}

    def messages(self) -> list[Message[Any]]:
        """Return all messages in the queue, ready, delayed or on lease, in the order of their arrival."""
        return self.store.messages()

    @override
    async def send(self, *messages: Message[Any], delay: Duration = 0.0) -> None:
        """Send the messages; waits while the queue holds ``capacity``. See `Queue.send`."""
        self._lifetime.check_open()
        wait = check_delay(self.name, delay)
        resting = [self._at_rest(message, wait) for message in messages]
        for message, rest in zip(messages, resting, strict=True):
            while self.store.size >= self.capacity:
                await self._wait_for_room()
            self._put(message, rest, wait)
        self._record(resting)

    def send_nowait(self, message: Message[Any]) -> bool:
        """Send the message as `send` does if there is room for it now; return whether there was."""
        self._lifetime.check_open()
        if self.store.size >= self.capacity:
            return False
        rest = self._at_rest(message, 0.0)
        self._put(message, rest, 0.0)
        self._record([rest])
        return True

    def _put(self, message: Message[Any], rest: AtRest, delay: float) -> None:
        if not self.fifo or self._is_new(message, rest[0]):
            self.store.put(rest, delay=delay)

    def _record(self, resting: list[AtRest]) -> None:
        if self._meter is not None:
            size = sum(len(rest[0]) for rest in resting)
            self._meter.record("memory", self.name, "send", messages=len(resting), size=size, units=0)

    async def move_messages(
        self,
        to: Sender | None,
        *,
        limit: int | None = None,
        rate: float | None = None,
        on_moved: Callable[[int], None] | None = None,
    ) -> int:
        """Send up to ``limit`` ready messages to another channel and forget them here; return how many.

        The redrive of a dead-letter queue (SQS's StartMessageMoveTask): each is sent before it is forgotten, in order.
        Raises `ConfigurationError` for what it does not do: no destination, a ``rate``, ``on_moved``.
        """
        if to is None or rate is not None or on_moved is not None:
            raise ConfigurationError("an embedded queue moves messages at once, and to a channel that is given")
        moved, maximum = 0, len(self) if limit is None else min(limit, len(self))  # one that comes back meanwhile stays
        async with self.receiver(capacity=1) as receiver:
            while moved < maximum and (taken := receiver.receive_nowait(1)):
                await to.send(without_dead_letter_headers(taken[0].message))
                await taken[0].ack()
                moved += 1
        return moved

    @override
    def receiver(self, *, capacity: int = 10) -> Receiver:
        """Return a receiver; any number may share the queue."""
        return StoreReceiver(
            self.name,
            self.store,
            lifetime=self._lifetime,
            capacity=capacity,
            dead_letters=self.dead_letters,
            max_receive_count=self.max_receive_count,
            meter=self._meter,
        )

    def _at_rest(self, message: Message[Any], delay: float) -> AtRest:
        """Return the message as the queue keeps it; raises if the queue cannot take it."""
        check_message(message)
        if self.fifo:
            if message.group_id is None:
                raise InvalidMessage(f"{self.name} is FIFO: a message needs a group_id")
            if delay > 0:
                raise InvalidMessage(f"{self.name} is FIFO and has no delay per message, got delay={delay}")
        rest = message.at_rest()
        size, limit = len(rest[0]), self.limits.message_bytes
        if limit is not None and size > limit:
            raise MessageTooLarge(size, limit, channel=self.name)
        return rest

    def _is_new(self, message: Message[Any], body: bytes) -> bool:
        """Return whether its deduplication id (default: its id, or its body's digest) is new within the window."""
        now, seen = asyncio.get_running_loop().time(), self._seen  # the time of day may be set back
        while seen and next(iter(seen.values())) <= now:
            seen.popitem(last=False)
        key = message.deduplication_id or (digest(body) if self.content_based_deduplication else message.id)
        if self.deduplication_scope == "group":
            key = f"{message.group_id}\0{key}"
        if key in seen:
            return False
        seen[key] = now + DEDUPLICATION_WINDOW
        return True

    def _dead_letter(self, delivery: StoreDelivery) -> None:
        """Move a message that was received too often before; its id, body and attributes stay."""
        if self.dead_letters is not None:
            message, count = delivery.message, delivery.receive_count - 1
            spent = with_dead_letter_headers(message, f"received {count} times", source=self.name, count=count)
            self.dead_letters.store.put(spent.at_rest())

    def _make_room(self) -> None:
        self.store.on_removed = None
        self._room.set()

    async def _wait_for_room(self) -> None:
        self.store.on_removed = self._make_room
        self._room.clear()
        await self._room.wait()
        self._lifetime.check_open()

    def __repr__(self) -> str:
        return f"<MemoryQueue {self.name} ready={self.store.ready} leased={self.store.leased}>"


def _within(messages: list[Message[Any]], max_bytes: int | None) -> list[Message[Any]]:
    """The first messages up to the one that exceeds ``max_bytes``."""
    if max_bytes is None:
        return messages
    sizes = accumulate(len(each.raw or b"") for each in messages)
    return messages[: next((count for count, size in enumerate(sizes, 1) if size >= max_bytes), len(messages))]


def digest(body: bytes) -> str:
    """Return the deduplication id of content-based deduplication."""
    return sha256(body).hexdigest()
