"""What wraps a sender keeps what the sender is."""

from __future__ import annotations

import asyncio
from typing import Any

from eip import Consumer, Message, Queue
from eip.channels import SenderDecorator
from eip.transports.memory import MemoryTransport


class Stamped(SenderDecorator):
    """Adds a header."""

    async def send(self, *messages: Message[Any], **options: Any) -> None:
        await super().send(*(each.replace(headers={"stamp": "1"}) for each in messages), **options)


async def test_around_a_queue_it_is_a_queue_with_its_address_limits_and_receivers():
    async with MemoryTransport() as memory:
        queue = memory.queue("orders")
        stamped = Stamped(queue)
        assert isinstance(stamped, Queue)
        assert isinstance(stamped, Stamped)
        assert (stamped.name, stamped.address, stamped.limits) == (queue.name, queue.address, queue.limits)
        got: asyncio.Queue[str] = asyncio.Queue()

        async def handle(message: Message[int]) -> None:
            got.put_nowait(message.headers["stamp"])

        await stamped.send(Message(1), delay=0.01)
        async with Consumer(stamped, handle):
            assert await got.get() == "1"


async def test_around_a_topic_it_is_no_queue():
    async with MemoryTransport() as memory:
        assert not isinstance(Stamped(memory.topic("events")), Queue)


async def test_two_of_them_compose():
    async with MemoryTransport() as memory:
        assert isinstance(Stamped(Stamped(memory.queue("orders"))), Queue)
