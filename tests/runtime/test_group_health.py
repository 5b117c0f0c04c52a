"""A consumer's health names a message group that does not get past its head, and is well again after it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eip import Backoff, Consumer, Message, Park, clock
from eip.transports.memory import MemoryTransport

from .scripted import running, until

SLOW = Backoff(base=5.0, cap=5.0)


async def unwell(consumer: Consumer, *, within: float) -> Any:
    began = clock.now()
    async with asyncio.timeout(300):
        while consumer.health().ok:
            await asyncio.sleep(1)
    assert clock.now() - began <= within
    return consumer.health()


@pytest.mark.parametrize("on_group_failure", ["block", "dead_letter_and_continue"])
async def test_a_poison_group_turns_its_consumer_red_within_30_s_and_green_once_it_passes(on_group_failure):
    mended = False

    async def handle(message: Message) -> None:
        if message.body == "poison" and not mended:
            raise ValueError("cannot")

    async with MemoryTransport() as memory:
        orders = memory.queue("orders.fifo")
        await orders.send(Message("poison", group_id="g"), Message("fine", group_id="h"))
        consumer = Consumer(orders, handle, retry=SLOW, on_group_failure=on_group_failure, local_retries=20)
        began = clock.now()
        async with running(consumer):
            health = await unwell(consumer, within=30)
            assert health.reason == "message group 'g' does not get past a message: ValueError: cannot"
            assert began <= health.failing_since <= began + 5
            assert health.backlog_age >= 10
            mended = True
            await until(lambda: consumer.health().ok, within=30)
        assert consumer.stats.handled == 2


async def test_a_parked_group_is_red_until_it_is_unparked():
    async def handle(message: Message) -> None:
        raise Park("look at it")

    async with MemoryTransport() as memory:
        dead, orders = memory.queue("dead.fifo"), memory.queue("orders.fifo")
        await orders.send(Message(1, group_id="g"))
        consumer = Consumer(orders, handle, dead_letters=dead)
        async with running(consumer):
            health = await unwell(consumer, within=5)
            assert health.reason == "message groups are parked: g"
            consumer.unpark("g")
            assert consumer.health().ok


async def test_failures_without_a_group_and_short_ones_are_no_poison():
    attempts: list[str] = []

    async def handle(message: Message) -> None:
        attempts.append(message.id)
        if attempts.count(message.id) < (5 if message.group_id is None else 2):
            raise ValueError("for now")

    async with MemoryTransport() as memory:
        for queue, message in (
            (memory.queue("orders"), Message(1)),
            (memory.queue("orders.fifo"), Message(2, group_id="g")),
        ):
            await queue.send(message)
            consumer = Consumer(queue, handle, retry=SLOW)
            async with running(consumer):
                while consumer.stats.handled == 0:
                    assert consumer.health().ok
                    await asyncio.sleep(0.5)


async def test_a_group_that_another_consumer_got_is_forgotten():
    async def handle(message: Message) -> None:
        raise ValueError("cannot")

    async with MemoryTransport() as memory:
        orders = memory.queue("orders.fifo")
        await orders.send(Message(1, group_id="g"))
        consumer = Consumer(orders, handle, retry=SLOW, local_retries=0)
        async with running(consumer):
            await unwell(consumer, within=30)
            session = consumer._session
            assert session is not None
            while session._backlog._started or session.leases.held:
                await asyncio.sleep(0.1)
            orders.store.close()  # the group never comes back
            await asyncio.sleep(70)
            assert consumer.health().ok
