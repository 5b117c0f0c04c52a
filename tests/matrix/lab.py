"""Channels of one transport for a scenario, and services that run while it looks on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from eip import Consumer, Message, Queue, Sender, Source, Topic, Transport
from eip.runtime.handlers import AnyHandler
from eip.runtime.service import Runnable
from eip.stores import MemoryStore
from eip.topology import BusSpec, QueueSpec, RuleSpec, StreamSpec, SubscriptionSpec, TopicSpec, Topology

__all__ = ["Lab"]

PATIENCE = 60.0


class Lab:
    """What scenarios need; `inlet` says what kind of channel their input comes in on."""

    def __init__(self, transport: Transport, *, inlet: str = "queue", patience: float = PATIENCE) -> None:
        self.transport, self.inlet_kind, self.patience = transport, inlet, patience
        self._mark = uuid4().hex[:8]

    def name(self, name: str) -> str:
        stem, dot, fifo = name.partition(".")
        return f"{stem}-{self._mark}{dot}{fifo}"

    async def queue(self, name: str, *, dead_letters: bool = False) -> Queue:
        full = self.name(name)
        await Topology(QueueSpec(full, visibility=5, dead_letters=dead_letters)).apply(self.transport)
        return self.transport.queue(full)

    async def topic(self, name: str, *subscriptions: str) -> tuple[Topic, list[Source]]:
        full = self.name(name)
        declared = [SubscriptionSpec(full, each, dead_letters=False) for each in subscriptions]
        await Topology(TopicSpec(full), *declared).apply(self.transport)
        topic = self.transport.topic(full)
        return topic, [topic.subscription(each) for each in subscriptions]

    async def inlet(self, name: str) -> tuple[Sender, Source]:
        """Where a scenario's messages are sent, and where its consumer gets them from."""
        full = self.name(name)
        match self.inlet_kind:
            case "bus":
                await Topology(BusSpec(full), RuleSpec(full, "all")).apply(self.transport)
                bus = self.transport.bus(full)
                return bus, bus.subscription("all")
            case "stream":
                await Topology(StreamSpec(full, shards=1)).apply(self.transport)
                stream: Any = self.transport.stream(full)
                return stream, stream.group("g", start="trim_horizon", leases=MemoryStore())
            case "topic":
                topic, (source,) = await self.topic(name, "only")
                return topic, source
        queue = await self.queue(name)
        return queue, queue

    @staticmethod
    def message(body: dict[str, Any], **envelope: Any) -> Message[dict[str, Any]]:
        """A message that every kind of channel carries."""
        return Message(body, **{"type": "Thing", "source": "lab", **envelope})

    @asynccontextmanager
    async def running(self, *services: Runnable) -> AsyncIterator[None]:
        """The services run until the block ends, which fails where it takes too long."""
        async with asyncio.timeout(self.patience), asyncio.TaskGroup() as tasks:
            for each in services:
                tasks.create_task(each.run())
            try:
                yield
            finally:
                for each in services:
                    await each.stop()

    def consumer(self, source: Source, handler: AnyHandler, **options: Any) -> Consumer:
        return Consumer(source, handler, **{"grace": 1, **options})

    async def collected(self, source: Source, count: int) -> list[Message[Any]]:
        """So many messages of a channel, in the order they came."""
        found: list[Message[Any]] = []
        async with asyncio.timeout(self.patience), source.receiver(capacity=1) as receiver:
            while len(found) < count:
                for delivery in await receiver.receive(1, wait=1):
                    await delivery.ack()
                    found.append(delivery.message)
        return found

    async def through(
        self, handler: AnyHandler, messages: Sequence[Message[Any]], count: int, **options: Any
    ) -> list[Message[Any]]:
        """What a handler makes of messages: those that its output gets."""
        sender, source = await self.inlet("inputs")
        output = await self.queue("outputs")
        async with self.running(self.consumer(source, handler, output=output, **options)):
            await sender.send(*messages)
            return await self.collected(output, count)
