"""Leases are kept by another thread while a handler blocks the event loop."""

from __future__ import annotations

import asyncio
import ctypes
import time
from typing import cast
from uuid import uuid4

import pytest

from eip import Consumer, Message
from eip.channels import Delivery
from eip.errors import ConnectionLost, LeaseLost, TransportError
from eip.topology import QueueSpec, Topology
from eip.transports.aws.sqs._settling import SqsDelivery

pytestmark = pytest.mark.aws


async def made(aws, *, visibility):
    name = f"b{uuid4().hex[:12]}"
    await Topology(QueueSpec(name, visibility=visibility, max_receive_count=5)).apply(aws)
    return aws.queue(name)


@pytest.fixture
async def queue(aws):
    return await made(aws, visibility=2)


async def test_a_lease_is_extended_without_the_loop(queue, moto_server):
    """Fault 26: one batch call by a blocking client, from a thread, with the same signer."""
    await queue.send(*(Message(number) for number in range(3)))
    async with queue.receiver() as receiver:
        taken: list[Delivery] = []
        while len(taken) < 3:
            taken += await receiver.receive(10)
        assert receiver.extend_blocking(taken, 60.0) == []  # on the loop's own thread: it awaits nothing
        assert await asyncio.to_thread(receiver.extend_blocking, taken, 60.0) == []
        sqs, url = moto_server.client("sqs"), await queue.url()
        time.sleep(2.2)
        assert "Messages" not in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        cast("SqsDelivery", taken[1]).receipt = "none"
        (refused,) = receiver.extend_blocking(taken, 60.0)
        assert refused.delivery is taken[1]
        assert isinstance(refused.error, LeaseLost)


async def test_what_cannot_be_extended_is_returned(queue, moto_server):
    await queue.send(Message(1))
    async with queue.receiver() as receiver:
        (delivery,) = await receiver.receive(1)
        calls = queue._client
        lean, calls._fast["sqs"] = calls._fast["sqs"], None
        (refused,) = receiver.extend_blocking([delivery], 60.0)
        assert "no fast path" in str(refused.error)
        calls._fast["sqs"] = lean
        lean._host = "127.0.0.1:1"
        (refused,) = receiver.extend_blocking([delivery], 60.0)
        assert isinstance(refused.error, TransportError)
        assert refused.error.transient
        lean._host = moto_server.url.removeprefix("http://")
        await delivery.ack()


async def test_a_handler_that_blocks_for_longer_than_the_lease_handles_once(aws):
    """Fault 26: with a lease of 4 s and a handler that blocks for 5, one delivery, acknowledged."""
    queue, handled = await made(aws, visibility=4), []

    async def handle(message: Message) -> None:
        handled.append(message.body)
        time.sleep(5)

    await queue.send(Message("x"))
    consumer = Consumer(queue, handle)
    task = asyncio.create_task(consumer.run())
    async with asyncio.timeout(30):
        while not consumer.stats.handled:
            await asyncio.sleep(0.05)
        while sum((await queue.depth()).values()):
            await asyncio.sleep(0.1)
    await consumer.stop()
    await task
    assert handled == ["x"]
    assert (consumer.stats.handled, consumer.stats.lost) == (1, 0)


# Code in C that holds the GIL stops the watchdog's thread as well: docs/delivery.md has the limit.


def hold_the_gil(seconds: float) -> None:
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # unlike CDLL, PyDLL keeps the GIL


async def handled_holding_the_gil(queue, seconds: float) -> tuple[list[int], int]:
    """How often each of three messages was handled until the queue was empty, and how many leases were lost."""
    handled: list[int] = []

    async def handle(message: Message) -> None:
        handled.append(message.body)
        if handled.count(message.body) == 1:
            hold_the_gil(seconds)

    await queue.send(*map(Message, range(3)))
    async with Consumer(queue, handle, concurrency=1) as consumer, asyncio.timeout(40):
        while sum((await queue.depth()).values()):
            await asyncio.sleep(0.05)
    return [handled.count(number) for number in range(3)], consumer.stats.lost


async def test_a_handler_that_holds_the_gil_for_less_than_a_third_of_the_lease_keeps_it(aws):
    """Fault 26: a lease is extended when half of it has passed, which is looked at every sixth of it."""
    assert await handled_holding_the_gil(await made(aws, visibility=4), 0.8) == ([1, 1, 1], 0)


@pytest.mark.soak
async def test_a_handler_that_holds_the_gil_for_longer_than_the_lease_has_its_message_again(queue):
    """Fault 26: nothing is lost, and nothing acknowledged without a lease; what waits for its ack comes again, too."""
    runs, lost = await handled_holding_the_gil(queue, 3.0)
    assert all(2 <= each <= 5 for each in runs)
    assert lost >= 3


# Leases of what was received by a loop that stood still.


def polls_late(queue, block, extended, *, refused=False):
    """A receiver whose polls take 0.2 s and then lie in the socket while the loop is blocked for ``block`` seconds."""
    call = queue._queue.call

    async def late(operation, **parameters):
        if operation == "ReceiveMessage":
            answer = await call(operation, **parameters)
            await asyncio.sleep(0.2)
            time.sleep(block)
            return answer
        extended.append(operation)
        if refused and operation == "ChangeMessageVisibilityBatch":
            raise ConnectionLost("no answer")
        return await call(operation, **parameters)

    queue._queue.call = late
    return queue.receiver()


async def test_a_lease_that_a_blocked_loop_may_have_slept_through_is_renewed(queue):
    """Fault 26: it is never longer than the service's; here 1.2 s of 2 are over, and nobody could know it."""
    await queue.send(Message(1))
    extended: list[str] = []
    await queue.url()
    async with polls_late(queue, 1.0, extended) as receiver:
        before = asyncio.get_running_loop().time()
        (delivery,) = await receiver.receive(1)
        assert extended[-1] == "ChangeMessageVisibilityBatch"
        assert delivery.lease_until is not None
        assert before + 3.2 < delivery.lease_until < asyncio.get_running_loop().time() + 2.0
        await delivery.ack()


async def test_what_cannot_be_renewed_is_left_to_come_again(queue):
    await queue.send(Message(1))
    extended: list[str] = []
    async with polls_late(queue, 2.0, extended, refused=True) as receiver:
        assert not await receiver.receive(1, wait=0)
        assert extended[-1] == "ChangeMessageVisibilityBatch"
        queue._queue.call = type(queue._queue).call.__get__(queue._queue)
        (delivery,) = await receiver.receive(1)
        assert delivery.receive_count == 2


async def test_a_lease_counts_from_the_start_of_a_poll_that_returns_at_once(queue):
    await queue.send(Message(1))
    loop, call, called = asyncio.get_running_loop(), queue._queue.call, []

    async def noted(operation, **parameters):
        called.append(loop.time())
        return await call(operation, **parameters)

    async with queue.receiver() as receiver:
        receiver.lease = 60.0
        queue._queue.call = noted
        (delivery,) = await receiver.receive(1)
        assert delivery.lease_until is not None
        assert called[0] + 59.0 < delivery.lease_until <= loop.time() + 60.0 - min(1.0, loop.time() - called[-1])
        await delivery.ack()
