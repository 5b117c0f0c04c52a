"""Tells the suite about a transport: its guarantees, and how to make fresh channels."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final
from uuid import uuid4

import pytest

from eip.channels import Bus, Delivery, Filter, Queue, Receiver, Source, Stream, Topic, Transport
from eip.matching import EventPattern, FilterPolicy
from eip.message import Message

__all__ = ["Cases", "Guarantees", "Harness", "bodies"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantees:
    """A transport's promises beyond at-least-once delivery; a case that needs more is skipped, and says so."""

    queue: bool = True
    """It has queues."""
    topic: bool = False
    """It has topics."""
    bus: bool = False
    """It has event buses."""
    archives: bool = False
    """Buses have archives, and replay them."""
    stream: bool = False
    """It has streams."""
    order: bool = False
    """A queue without message groups keeps the order of sending, for one consumer."""
    groups: bool = False
    """It has FIFO queues: the messages of a group come in order, one holder at a time."""
    sticky_groups: bool = False
    """A group stays with the consumer that had it first, until that one closes."""
    deduplication: bool = False
    """FIFO queues drop a second message with the same deduplication id."""
    fifo_topics: bool = False
    """It has FIFO topics."""
    leases: bool = False
    """A lease ends after a time, and can be extended."""
    receive_count: bool = False
    """A delivery tells how often its message was received."""
    nack_delay: bool = False
    """``nack(delay=...)`` keeps a message back for that long."""
    send_delay: bool = False
    """``send(delay=...)`` keeps a message back for that long."""
    dead_letters: bool = False
    """A message that was received too often goes to a dead-letter queue by itself."""
    filters: bool = False
    """A subscription can be narrowed by a filter."""
    foreign: bool = False
    """The harness can send bytes as a program without this library would (`Harness.send_raw`)."""
    largest: int = 200_000
    """Bytes of a body that is carried."""


_DOC: Final = {each.name: each.name.replace("_", " ") for each in fields(Guarantees)}


class Harness:
    """Gives the cases fresh channels of the transport under test; subclass it where the defaults do not do.

    Args:
        transport: open, and closed by whoever made it.
        lease: seconds of a lease on the queues made here; short in real time, as cases wait for its end.
        quiet: seconds after which a message that has not come will not.
        timeout: seconds that a message may take to come.
    """

    def __init__(self, transport: Transport, *, lease: float = 30.0, quiet: float = 5.0, timeout: float = 30.0) -> None:
        self.transport = transport
        self.lease, self.quiet, self.timeout = lease, quiet, timeout

    def fresh(self, kind: str, *, fifo: bool = False) -> str:
        """A name that no other channel has."""
        return f"eip-{kind}-{uuid4().hex[:12]}{'.fifo' if fifo else ''}"

    async def queue(
        self, *, fifo: bool = False, dead_letters: Queue | None = None, max_receive_count: int | None = None
    ) -> Queue:
        """A fresh queue whose leases last `lease` seconds, with a redrive policy where asked.

        The default ignores the policy and creates nothing: right for brokers that make a queue at its first use.
        """
        del dead_letters, max_receive_count
        return self.transport.queue(self.fresh("queue", fifo=fifo))

    async def topic(self, *, fifo: bool = False) -> Topic:
        """A fresh topic."""
        return self.transport.topic(self.fresh("topic", fifo=fifo))

    async def subscription(self, topic: Topic, name: str, *, filter: Filter | None = None) -> Source:  # noqa: A002
        """A subscription that is in force on return: what is published afterwards reaches it."""
        return topic.subscription(name, filter=filter)

    async def bus(self) -> Bus:
        """A fresh event bus."""
        return self.transport.bus(self.fresh("bus"))

    async def rule(self, bus: Bus, name: str, *, pattern: Filter | None = None) -> Source:
        """A rule that is in force on return."""
        return bus.subscription(name, pattern=pattern)

    async def stream(self) -> Stream:
        """A fresh stream with more than one shard."""
        return self.transport.stream(self.fresh("stream"))

    async def group(self, stream: Stream, name: str) -> Source:
        """A group that reads what is sent after this returns."""
        return stream.group(name)

    async def send_raw(self, queue: Queue, raw: bytes) -> None:
        """Send bytes as a foreign producer would, with no envelope beside them."""
        raise NotImplementedError

    def wanting(self, kind: str) -> Filter:
        """A subscription's filter for the messages whose attribute ``kind`` is that."""
        return FilterPolicy({"kind": [kind]})

    def wanting_type(self, name: str) -> Filter:
        """A rule's pattern for the messages of that type."""
        return EventPattern({"detail-type": [name]})

    async def take(self, receiver: Receiver, count: int = 1) -> list[Delivery]:
        """Exactly ``count`` deliveries, in the order received; fails where they do not come in time."""
        loop = asyncio.get_running_loop()
        until, taken = loop.time() + self.timeout, list[Delivery]()
        while len(taken) < count:
            rest = until - loop.time()
            assert rest > 0, f"{len(taken)} of {count} messages came within {self.timeout:g} s"
            taken += await receiver.receive(min(count - len(taken), receiver.max_batch), wait=min(rest, 20.0))
        assert len(taken) == count, f"{len(taken)} deliveries where {count} were asked for"
        return taken

    async def take_and_ack(self, receiver: Receiver, count: int = 1) -> list[Message[Any]]:
        """Exactly ``count`` messages, each acknowledged as it comes, so that message groups flow."""
        messages: list[Message[Any]] = []
        for _ in range(count):
            (delivery,) = await self.take(receiver)
            await delivery.ack()
            messages.append(delivery.message)
        return messages

    async def assert_quiet(self, receiver: Receiver, *, leased: bool = False) -> None:
        """Nothing comes, for `quiet` seconds; ``leased``: for a fourth of a lease, where that is shorter."""
        came = await receiver.receive(1, wait=min(self.quiet, self.lease / 4) if leased else self.quiet)
        assert not came, f"{came[0]!r} came, and nothing should have"


class Cases:
    """Base of the groups of cases."""

    pytestmark = pytest.mark.asyncio
    guarantees: ClassVar[Guarantees] = Guarantees()

    def needs(self, *names: str) -> None:
        """Skip the case, visibly, where the transport does not declare one of these guarantees."""
        for name in names:
            if not getattr(self.guarantees, name):
                pytest.skip(f"{type(self).__name__} does not declare: {_DOC[name]}")


def bodies(received: Sequence[Delivery] | Sequence[Message[Any]]) -> list[Any]:
    """The bodies, in order."""
    return [each.message.body if isinstance(each, Delivery) else each.body for each in received]
