"""Packs under fault plans: whatever fails, no message is lost, and those of a group are handled in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from eip import Backoff, Consumer, Message
from eip.errors import PartialSendError, TransportError
from eip.patterns.packer import Packer
from eip.testing import FaultPlan
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import running

COUNT = 180


def plan(seed: int) -> FaultPlan:
    return FaultPlan(
        seed=seed,
        duplicates=0.1,
        lost_acks=0.2,
        lost_extensions=0.2,
        send_failures=0.2,
        receive_failures=0.1,
        lost_deliveries=0.1,
    )


async def send_stubbornly(packer: Packer, messages: Sequence[Message]) -> None:
    """Send them in order; what was not accepted again, and with it what comes after it."""
    while messages:
        try:
            await packer.send(*messages)
        except PartialSendError as error:
            messages = messages[messages.index(error.failed[0].message) :]
        except TransportError:
            await asyncio.sleep(1)
        else:
            return


async def chaos(seed: int, *, fifo: bool) -> None:
    random.seed(seed)
    dice = random.Random(seed)
    async with MemoryTransport() as memory:
        queue = plan(seed).wrap(memory).queue("q.fifo" if fifo else "q")
        seen: dict[str | None, list[int]] = {}
        handled: set[int] = set()

        async def handle(message: Message) -> None:
            await asyncio.sleep(dice.random())
            if dice.random() < 0.2:
                raise ConnectionError("not now")
            if message.body not in handled:
                seen.setdefault(message.group_id, []).append(message.body)
            handled.add(message.body)

        messages = [Message(number, group_id=f"g{number % 3}" if fifo else None) for number in range(COUNT)]
        chunks = [messages[start::3] for start in range(3)] if fifo else [[message] for message in messages]
        consumer = Consumer(queue, handle, concurrency=20, retry=Backoff(base=1, cap=5), max_processing=600)
        async with running(consumer), Packer(queue, max_messages=10, linger=0.5) as packer, asyncio.timeout(100_000):
            await asyncio.gather(*(send_stubbornly(packer, chunk) for chunk in chunks))
            while len(handled) < COUNT or len(memory.queue(queue.name)):
                await asyncio.sleep(1)
        assert consumer.stats.packs > 5
        assert handled == set(range(COUNT))
        if fifo:
            assert seen == {f"g{start}": list(range(start, COUNT, 3)) for start in range(3)}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "fifo"])
async def test_nothing_is_lost_and_groups_keep_their_order(seed, fifo):
    await chaos(seed, fifo=fifo)


@pytest.mark.soak
@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "fifo"])
async def test_nothing_is_lost_under_a_hundred_plans(fifo):
    for seed in range(100, 200):
        await chaos(seed, fifo=fifo)
