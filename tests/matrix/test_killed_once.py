"""A handler that was killed once: its message is handled to the end, however few receives its channel allows."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from eip import Consumer, Message, Queue
from eip.patterns import idempotent
from eip.patterns._idempotency_lease import Claim
from eip.stores import MemoryStore
from eip.topology import QueueSpec, Topology
from eip.transports.activemq import ActiveMQTransport
from eip.transports.aws import AwsTransport
from eip.transports.memory import MemoryTransport

LEASE_S = 1.5
"""Of the claim: it outlives the time until the message comes again."""


async def handled_after_a_kill(queue: Queue, dead: Queue) -> None:
    store, handled, done = MemoryStore(), [], asyncio.Event()

    async def handle(message: Message) -> None:
        handled.append(message.body)
        done.set()

    await queue.send(Message("a", id="m", group_id="g"))
    async with queue.receiver() as receiver:  # the first attempt: it claims the message and is killed
        (delivery,) = await receiver.receive(1)
        assert await Claim(store, delivery.message.id, LEASE_S).take() is None
        if delivery.lease_until is not None:  # as if it had run out
            await delivery.nack()
    async with asyncio.timeout(30), Consumer(queue, idempotent(store)(handle)) as consumer:
        await done.wait()
    assert handled == ["a"]
    assert consumer.stats.dead_lettered == 0
    async with dead.receiver() as receiver:
        assert not await receiver.receive(1, wait=0.5)


async def test_in_memory():
    """Fault 37: it was dead-lettered without ever being handled to the end."""
    async with MemoryTransport() as transport:
        dead = transport.queue("dead")
        await handled_after_a_kill(transport.queue("work", max_receive_count=2, dead_letters=dead), dead)


@pytest.mark.aws
@pytest.mark.parametrize("fifo", [False, True])
async def test_on_sqs(moto_server, fifo):
    """Fault 37, on a standard queue and a FIFO queue."""
    options = {"session": moto_server.session, "endpoint_url": moto_server.url, "long_poll": 1.0}
    async with AwsTransport(region=moto_server.region, **options) as aws:
        spec = QueueSpec(f"k{uuid4().hex[:10]}{'.fifo' if fifo else ''}", max_receive_count=2)
        await Topology(spec).apply(aws)
        await handled_after_a_kill(aws.queue(spec.name), aws.queue(spec.dead_letter_name or ""))


@pytest.mark.activemq
async def test_on_activemq(activemq_broker):
    """Fault 37: the broker redelivers when the connection of the killed process ends."""
    name = f"k{uuid4().hex[:10]}"
    async with ActiveMQTransport(activemq_broker.url) as activemq:
        dead = activemq.queue(f"{name}-dead")
        await handled_after_a_kill(activemq.queue(name, dead_letters=dead, max_receive_count=2), dead)
