"""Splitter, idempotent step, resequencer and aggregator behind each other, under fault plans and kills."""

from __future__ import annotations

import asyncio

import pytest

from eip.errors import TransportError
from eip.testing import FaultPlan, run
from eip.transports.memory import MemoryTransport
from tests.patterns.chain import LINES, QUEUES, Chain

ORDERS = 8


async def scenario(plan: FaultPlan) -> Chain:
    """The service is killed three times while everything fails now and then; what survives are queues and stores."""
    chain = Chain()
    async with MemoryTransport() as memory:
        for number in range(ORDERS):
            await memory.queue("orders").send(chain.order(number))
        for _ in range(3):
            faulty = plan.wrap(memory)
            try:
                async with chain.running(faulty):
                    await asyncio.sleep(15)
                    faulty.kill()
            except* TransportError:
                pass  # connecting failed: as good as killed
        async with chain.running(memory):
            await asyncio.sleep(1000)
        assert {name: len(memory.queue(name)) for name in QUEUES} == dict.fromkeys(QUEUES, 0)
    return chain


@pytest.mark.parametrize("seed", [*range(80), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(80, 200))])
def test_every_order_is_whole_at_the_end(seed):
    plan = FaultPlan(
        seed=seed,
        duplicates=0.1,
        reordering=0.3,
        delays=0.2,
        lost_acks=0.1,
        send_failures=0.1,
        receive_failures=0.05,
        lost_deliveries=0.05,
    )
    chain = run(scenario(plan))
    for number in range(ORDERS):
        assert asyncio.run(chain.result(number)) == [f"{number}/{line}" for line in range(LINES)]
    assert set(chain.priced) == {f"{number}/{line}" for number in range(ORDERS) for line in range(LINES)}


def test_without_kills_the_idempotent_step_acts_once_for_each_line():
    async def undisturbed() -> Chain:
        chain, plan = Chain(), FaultPlan(seed=1, duplicates=0.5, reordering=0.5, lost_acks=0.2)
        async with MemoryTransport() as memory, chain.running(plan.wrap(memory)):
            for number in range(ORDERS):
                await memory.queue("orders").send(chain.order(number))
            await asyncio.sleep(1000)
        return chain

    assert len(run(undisturbed()).priced) == ORDERS * LINES
