"""Splitter, resequencer and aggregator behind each other, under fault plans and kills: every order ends up once."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from eip import Consumer, Message
from eip.errors import TransportError
from eip.patterns.aggregator import Aggregator
from eip.patterns.pipeline import pipeline
from eip.patterns.resequencer import Resequencer
from eip.patterns.splitter import splitter
from eip.patterns.translator import translator
from eip.service import Service
from eip.stores import MemoryStore
from eip.testing import FaultPlan, run
from eip.transports.memory import MemoryTransport

ORDERS, LINES = 8, 6


def number(message: Message) -> int:
    return int(message.body.split("-")[1])


class Run:
    """A service of three consumers that is killed now and then; what survives are queues and stores."""

    def __init__(self, seed: int) -> None:
        self.plan = FaultPlan(
            seed=seed,
            duplicates=0.1,
            reordering=0.3,
            delays=0.2,
            lost_acks=0.1,
            send_failures=0.1,
            receive_failures=0.05,
            lost_deliveries=0.05,
        )
        self.sequences, self.groups = MemoryStore(), MemoryStore()

    @asynccontextmanager
    async def service(self, transport):
        """The three consumers over the transport."""
        lines, ordered, sums = (transport.queue(name) for name in ("lines", "ordered", "sums"))
        resequencer = Resequencer(self.sequences, output=ordered, remember=1e6)
        aggregator = Aggregator(self.groups, output=sums, sequence=True, remember=1e6)
        split = pipeline(splitter(lambda message: message.body["lines"]), translator(number))
        services: list[Service] = [
            Consumer(transport.queue("orders"), split, output=lines, grace=1),
            Consumer(lines, resequencer, grace=1),
            Consumer(ordered, aggregator, grace=1),
            resequencer,
            aggregator,
        ]
        async with asyncio.TaskGroup() as tasks:
            for each in services:
                tasks.create_task(each.run())
            yield
            for each in services:
                await each.stop()

    async def scenario(self) -> dict[str, list]:
        async with MemoryTransport() as memory:
            for order in range(ORDERS):
                lines = [f"line-{each}" for each in range(LINES)]
                await memory.queue("orders").send(Message({"lines": lines}, id=f"order-{order}"))
            for _ in range(3):
                faulty = self.plan.wrap(memory)
                try:
                    async with self.service(faulty):
                        await asyncio.sleep(15)
                        faulty.kill()
                except* TransportError:
                    pass  # connecting failed: as good as killed
            async with self.service(memory):
                await asyncio.sleep(1000)
            assert [len(memory.queue(name)) for name in ("orders", "lines", "ordered")] == [0, 0, 0]
            return {str(each.correlation_id): each.body for each in memory.queue("sums").messages()}


@pytest.mark.parametrize("seed", range(40))
def test_every_order_is_whole_again_at_the_end(seed):
    results = run(Run(seed).scenario())
    assert results == {f"order-{each}": list(range(LINES)) for each in range(ORDERS)}
