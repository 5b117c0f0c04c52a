"""From send to handler over calls that take 8 ms, in virtual time: what the options for latency gain, and cost."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Sequence

import pytest

from eip import Consumer, Delivery, Message
from eip.limits import Capabilities
from eip.transports.aws._batch_dispatcher import Batching, Outcome
from eip.transports.aws._batching import BatchAccumulator
from eip.transports.aws._entry_queue import Entry
from tests.runtime.scripted import Scripted

ONE_WAY = 0.004


class Wire(Scripted):
    """A queue behind a network."""

    calls = 0

    async def receive(self, limit: int, *, wait: float = 20.0) -> Sequence[Delivery]:
        self.calls += 1
        await asyncio.sleep(ONE_WAY)
        got = await super().receive(limit, wait=wait)
        await asyncio.sleep(ONE_WAY - 0.001)  # the queue itself takes a millisecond
        return got


async def load(rate: float, *, partial: int, polls: int, count: int = 2000) -> tuple[float, float, float]:
    """p50 and p99 in milliseconds, and calls per message; messages come at random times."""
    loop, wire, sends, took = asyncio.get_running_loop(), Wire(lease=None), 0, []
    sent_at: dict[str, float] = {}

    async def call(batch: Sequence[Entry]) -> Sequence[Outcome]:
        nonlocal sends
        sends += 1
        await asyncio.sleep(ONE_WAY)
        wire.put(*(entry.message for entry in batch))
        await asyncio.sleep(ONE_WAY)
        return [None] * len(batch)

    async def handle(message: Message[int]) -> None:
        took.append((loop.time() - sent_at[message.id]) * 1000)

    limits = Capabilities(batch_entries=10, batch_bytes=1 << 20)
    accumulator = BatchAccumulator(call, limits, batching=Batching(max_partial_calls=partial))
    dice = random.Random(3)
    async with Consumer(wire, handle, concurrency=200, polls=polls), asyncio.TaskGroup() as tasks:
        for number in range(count):
            await asyncio.sleep(dice.expovariate(rate))
            message = Message(number, id=str(number))
            sent_at[message.id] = loop.time()
            tasks.create_task(accumulator.send([Entry(message, {}, 10, None)]))
        while len(took) < count:
            await asyncio.sleep(0.1)
    cuts = statistics.quantiles(took, n=100)
    return cuts[49], cuts[98], (sends + wire.calls) / count


@pytest.mark.parametrize(
    ("partial", "polls", "p50", "p99", "calls"),
    [(1, 1, 15.5, 23.0, 0.6), (1, 3, 11.5, 16.0, 0.6), (3, 3, 9.0, 13.5, 1.5)],
    ids=["frugal", "three polls", "three of both"],
)
async def test_at_500_messages_a_second(partial, polls, p50, p99, calls):
    half, most, made = await load(500, partial=partial, polls=polls)
    assert half <= p50
    assert most <= p99
    assert made <= calls


async def test_at_2000_messages_a_second_full_calls_leave_little_to_gain():
    half, most, made = await load(2000, partial=1, polls=1)
    assert half <= 10
    assert most <= 16
    assert made <= 0.25
