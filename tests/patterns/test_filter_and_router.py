"""Message filter and content-based router."""

from __future__ import annotations

import pytest

from eip import Consumer, Message
from eip.channels import Filter
from eip.errors import ConnectionLost, Reject
from eip.matching import EventPattern, FilterPolicy
from eip.patterns.content_based_router import ContentBasedRouter
from eip.patterns.message_filter import message_filter
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox, running, until

FILTERS: list[Filter] = [
    FilterPolicy({"kind": ["a"]}),
    FilterPolicy({"n": [1]}, scope="MessageBody"),
    EventPattern({"detail": {"n": [1]}}),
    lambda message: message.body["n"] == 1,
]
YES, NO = Message({"n": 1}, attributes={"kind": "a"}), Message({"n": 2}, attributes={"kind": "b"})


@pytest.mark.parametrize("wanted", FILTERS)
async def test_only_what_passes_is_handled(wanted):
    seen, rejected = [], Outbox()

    @message_filter(wanted, rejected=rejected)
    async def handle(message: Message) -> None:
        seen.append(message)

    await handle(YES)
    await handle(NO)
    assert seen == [YES]
    assert rejected.sent == [NO]


@pytest.mark.parametrize("wanted", FILTERS)
async def test_each_message_goes_to_the_first_route_it_meets(wanted):
    first, second, other = Outbox(), Outbox(), Outbox()
    router = ContentBasedRouter([(wanted, first)], otherwise=other).when(lambda message: message is YES, second)
    await router(YES)
    await router(NO)
    assert (first.sent, second.sent, other.sent) == ([YES], [], [NO])


async def test_a_message_without_a_route_is_rejected():
    with pytest.raises(Reject):
        await ContentBasedRouter()(YES)


async def test_a_message_is_acknowledged_only_once_it_was_routed():
    async with MemoryTransport() as transport:
        queue, out = transport.queue("in"), Outbox()
        out.refuse.append(ConnectionLost("gone"))
        await queue.send(YES)
        async with running(Consumer(queue, ContentBasedRouter(otherwise=out))) as consumer:
            await until(lambda: len(queue) == 0)
        assert len(out.sent) == 1
        assert consumer.stats.retried == 1


async def test_memory_subscriptions_take_every_kind_of_filter():
    async with MemoryTransport() as transport:
        topic = transport.topic("t")
        queues = [topic.subscription(str(number), filter=wanted) for number, wanted in enumerate(FILTERS)]
        await topic.send(YES, NO)
        assert [[each.body["n"] for each in queue.messages()] for queue in queues] == [[1]] * 4
