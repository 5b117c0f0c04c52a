"""A service of five parts behind each other: splitter, idempotent step, resequencer, aggregator, and what it ends in.

orders -> splitter -> lines -> idempotent step -> priced -> resequencer -> ordered -> aggregator -> sums -> results
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from eip import Consumer, Message, Transport
from eip.codec import dump_json, load_json
from eip.patterns.aggregator import Aggregator
from eip.patterns.idempotent_receiver import idempotent
from eip.patterns.resequencer import Resequencer
from eip.patterns.splitter import splitter
from eip.runtime.service import Runnable
from eip.stores import MemoryStore
from eip.stores.base import Store

__all__ = ["LINES", "QUEUES", "Chain"]

LINES = 6
QUEUES = ("orders", "lines", "priced", "ordered", "sums")
_REMEMBER = 1e6


def lines_of(message: Message) -> list[str]:
    lines: list[str] = message.body["lines"]
    return lines


@dataclass
class Chain:
    """What survives the service: its stores. `prefix` sets its queues apart."""

    prefix: str = ""
    claims: Store = field(default_factory=MemoryStore)
    sequences: Store = field(default_factory=MemoryStore)
    groups: Store = field(default_factory=MemoryStore)
    results: Store = field(default_factory=MemoryStore)
    priced: list[str] = field(default_factory=list)
    """What the idempotent step did, in the order of doing it."""

    def queue(self, transport: Transport, name: str):
        return transport.queue(f"{self.prefix}{name}")

    @staticmethod
    def order(number: int) -> Message:
        return Message({"lines": [f"{number}/{line}" for line in range(LINES)]}, id=f"order-{number}")

    async def price(self, message: Message) -> Message:
        await asyncio.sleep(0.01)
        self.priced.append(message.body)
        return message.derive({"line": message.body}, id=f"{message.id}-priced", sequence=message.sequence)

    async def write(self, message: Message) -> None:
        await self.results.put(str(message.correlation_id), dump_json(message.body))

    async def result(self, number: int) -> list[str] | None:
        """The lines of an order, as they came out at the end."""
        found = await self.results.get(f"order-{number}")
        return None if found is None else [each["line"] for each in load_json(found.value)]

    @asynccontextmanager
    async def running(self, transport: Transport) -> AsyncIterator[None]:
        """All of it over the transport, until the block ends."""
        orders, lines, priced, ordered, sums = (self.queue(transport, name) for name in QUEUES)
        once = idempotent(self.claims, lease=10, window=_REMEMBER)
        resequencer = Resequencer(self.sequences, output=ordered, retention=_REMEMBER)
        aggregator = Aggregator(self.groups, output=sums, sequence=True, retention=_REMEMBER)
        services: list[Runnable] = [
            Consumer(orders, splitter(lines_of), output=lines, grace=1),
            Consumer(lines, once(self.price), output=priced, grace=1),
            Consumer(priced, resequencer, grace=1),
            Consumer(ordered, aggregator, grace=1),
            Consumer(sums, self.write, grace=1),
            resequencer,
            aggregator,
        ]
        async with asyncio.TaskGroup() as tasks:
            for each in services:
                tasks.create_task(each.run())
            yield
            for each in services:
                await each.stop()
