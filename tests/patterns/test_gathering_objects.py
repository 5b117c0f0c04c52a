"""How many objects requests and replies are for the garbage collector, which looks at each again and again."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from eip import Message
from eip.patterns.scatter_gather import ScatterGather
from eip.transports.memory import MemoryTransport

REQUESTS, REPLIES = 100, 10


@pytest.fixture(autouse=True)
def only_new() -> Iterator[None]:
    """Leave out what is there already, so that counting is quick."""
    gc.freeze()
    yield
    gc.unfreeze()


def tracked() -> int:
    """The containers that the collector looks at, once it has left out the tuples and dicts of plain values."""
    for _ in range(3):
        gc.collect()
    return len(gc.get_objects())


async def test_an_open_request_is_four_objects_however_many_replies_it_has():
    transport = MemoryTransport()
    asked, replies = transport.queue("requests"), transport.queue("replies")
    async with transport, ScatterGather(asked, replies) as gather:
        before = tracked()
        requests = [gather.request(1, expected=REPLIES + 1, deadline=300) for _ in range(REQUESTS)]
        for each in requests:
            await each.start()
        for number in range(REPLIES):
            for each in requests:
                await gather._gatherer.take(each.request.reply(number).sealed())
        # The request, its message, what it brings, and the list of replies in that.
        assert round((tracked() - before) / REQUESTS, 1) <= 4.1
        assert [each.body for each in requests[0].result.replies] == [*range(REPLIES)]


async def test_messages_that_wait_in_a_queue_are_nothing_for_the_collector():
    async with MemoryTransport() as transport:
        for name in ("orders", "orders.fifo"):
            queue = transport.queue(name)
            group = "g" if queue.fifo else None
            await queue.send(Message(0, group_id=group))
            before = tracked()
            await queue.send(*(Message({"number": each}, group_id=group, type="T") for each in range(1000)))
            assert tracked() - before < 10


async def test_a_reply_is_the_same_object_each_time_it_is_looked_at():
    transport = MemoryTransport()
    asked, replies = transport.queue("requests"), transport.queue("replies")
    async with transport, ScatterGather(asked, replies) as gather:
        request = gather.request(1, expected=2, deadline=300)
        await request.start()
        await replies.send(request.request.reply({"a": []}))
        while not request.result.replies:
            await asyncio.sleep(0)
        [first] = request.result.replies
        first.body["a"].append(1)
        await replies.send(request.request.reply({"b": 2}))
        result = await request
        assert result.replies[0] is first
        assert [each.body for each in result.replies] == [{"a": [1]}, {"b": 2}]
        assert (result.answered, result.errors) == (2, [])


async def test_several_wait_for_one_request():
    transport = MemoryTransport()
    asked, replies = transport.queue("requests"), transport.queue("replies")
    async with transport, ScatterGather(asked, replies) as gather:
        request = gather.request(1, expected=2, deadline=300)
        await request.start()

        async def wait() -> int:
            return (await request).answered

        waiting = [asyncio.create_task(wait()) for _ in range(4)]
        await asyncio.sleep(0)
        waiting.pop(0).cancel()
        await replies.send(request.request.reply("a"))
        await asyncio.sleep(1)
        waiting += [asyncio.create_task(wait()) for _ in range(2)]
        await replies.send(request.request.reply("b"))
        assert await asyncio.gather(*waiting) == [2] * 5
