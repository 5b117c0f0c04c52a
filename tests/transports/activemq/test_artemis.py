"""Artemis, as its documentation and source describe its STOMP: what differs from Classic, and that nothing is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eip import Consumer, Message
from eip.channels import Delivery
from eip.errors import Reject, TransportError
from eip.retry import Backoff
from eip.topology import SubscriptionSpec, TopicSpec, Topology
from eip.transports.activemq import ActiveMQTransport
from eip.transports.activemq._artemis import send_head
from tests.transports.activemq.artemis import Artemis


@pytest.fixture
async def broker():
    async with Artemis() as running:
        yield running


@pytest.fixture
async def mq(broker):
    async with ActiveMQTransport(broker.url) as transport:
        yield transport


async def taken(source, count, *, capacity=10):
    found: list[Delivery] = []
    async with source.receiver(capacity=capacity) as receiver:
        while len(found) < count:
            for each in await receiver.receive(count - len(found), wait=10):
                found.append(each)
                await each.ack()
    return [each.message for each in found]


async def test_messages_come_as_they_were_sent(broker, mq):
    """Nothing of the sending (routing type, receipt, transaction) becomes an attribute."""
    queue = mq.queue("orders")
    sent: list[Message[Any]] = [
        Message({"n": 1}, type="Order", group_id="customer-7", correlation_id="c", attributes={"vip": True, "n": 7}),
        Message("grüße 🙂", expires_at=4e9, return_address="activemq:queue/answers"),
        Message(b"\0\x01binary"),
    ]
    await queue.send(sent[0])
    await queue.send(*sent[1:])
    found = await taken(queue, 3)
    for before, after in zip(sent, found, strict=True):
        assert (after.id, after.body) == (before.id, before.body)
        assert dict(after.attributes) == dict(before.attributes)
        names = ("type", "group_id", "correlation_id", "return_address", "expires_at")
        assert [getattr(after, each) for each in names] == [getattr(before, each) for each in names]
    assert {headers["destination-type"] for headers, _ in broker.sent} == {"ANYCAST"}
    lengths = ["content-length" in headers for headers, _ in broker.sent]
    assert lengths == [False, False, True], "with a length a text would be a BytesMessage to JMS"


async def test_a_text_with_a_nul_keeps_its_length():
    head = b"SEND\ndestination:/queue/q\ncontent-length:3\namq-msg-type:text\n"
    assert send_head(head, b"a\0b") == head + b"destination-type:ANYCAST\n"


async def test_foreign_messages_have_their_group(broker, mq):
    """Classic does not pass it on to STOMP consumers, Artemis does."""
    broker.put({"destination": "/queue/q", "destination-type": "ANYCAST", "JMSXGroupID": "g", "colour": "red"}, b"1")
    (message,) = await taken(mq.queue("q"), 1)
    assert (message.body, message.group_id, dict(message.attributes)) == (1, "g", {"colour": "red"})


async def test_the_window_is_in_bytes_and_large_messages_come_alone(broker, mq):
    queue = mq.queue("q")
    await queue.send(*(Message("x" * 5_000) for _ in range(12)))
    assert len(await taken(queue, 12, capacity=1)) == 12
    assert broker.subscribed[0]["consumer-window-size"] == "1024"
    assert "activemq.prefetchSize" not in broker.subscribed[0]


async def test_retries_and_dead_letters_never_nack(broker, mq):
    """Artemis discards what is NACKed."""
    queue, dead, attempts, done = mq.queue("q"), mq.queue("q-dead"), [], asyncio.Event()

    async def handle(message):
        attempts.append(message.body)
        if message.body == "bad":
            raise Reject("never")
        if attempts.count("late") < 2:
            raise ConnectionError("not now")
        done.set()

    broker.put({"destination": "/queue/q", "destination-type": "ANYCAST", "eip": "{broken"}, b"unreadable")
    await queue.send(Message("bad"), Message("late"))
    consumer = Consumer(queue, handle, dead_letters=dead, retry=Backoff(base=0.05, cap=0.05))
    async with consumer, asyncio.timeout(20):
        await done.wait()
    assert sorted(attempts) == ["bad", "late", "late"]
    assert len(await taken(dead, 2)) == 2
    assert "NACK" not in broker.commands


async def test_what_comes_without_a_body_is_left_to_the_broker(broker, mq, monkeypatch):
    """Kind of fault 5: Artemis discards what is NACKed, and dead-letters what it has handed out ten times."""
    monkeypatch.setattr("eip.transports.activemq._stomp.reconnecting._RETRY_BACKOFF", Backoff(base=0.01, cap=0.01))
    queue, dead, bodies, done = mq.queue("q"), mq.queue("q-dead"), [], asyncio.Event()

    async def handle(message):
        bodies.append(message.body)
        done.set()

    broker.put({"destination": "/queue/q", "destination-type": "ANYCAST"}, b"")
    await queue.send(Message("next"))
    consumer = Consumer(queue, handle, dead_letters=dead, concurrency=1)
    async with consumer, asyncio.timeout(20):
        await done.wait()
        while not broker.dead:
            await asyncio.sleep(0.01)
    assert set(bodies) == {"next"}
    assert consumer.stats.dead_lettered == 0
    assert [each["deliveries"] for each in broker.dead] == [10]
    assert "NACK" not in broker.commands
    assert not broker.queues["/queue/q-dead"]


async def test_what_was_not_acknowledged_comes_again(broker, mq):
    queue = mq.queue("q")
    await queue.send(Message("once"))
    async with queue.receiver() as receiver:
        await receiver.receive(1, wait=10)
    (message,) = await taken(queue, 1)
    assert message.body == "once"


async def test_a_subscription_of_a_virtual_topic_is_a_queue_of_its_address(broker, mq):
    await Topology(TopicSpec("rides"), SubscriptionSpec("rides", "billing")).apply(mq)
    await mq.topic("rides").send(Message("go"))
    (message,) = await taken(mq.topic("rides").subscription("billing"), 1)
    assert message.body == "go"
    assert broker.sent[0][0]["destination-type"] == "MULTICAST"
    last = broker.subscribed[-1]
    assert last["destination"] == "/topic/VirtualTopic.rides::Consumer.billing.VirtualTopic.rides"
    assert last["subscription-type"] == "MULTICAST"


async def test_a_look_at_a_queue_is_refused_and_takes_nothing(broker, mq):
    """Artemis does not know the browser's header: it would hand the messages out for good."""
    queue = mq.queue("q")
    await queue.send(Message("stays"))
    with pytest.raises(TransportError, match="must be ActiveMQ Classic to be browsed"):
        await queue.peek()
    assert [each["deliveries"] for each in broker.queues["/queue/q"]] == [0]


async def test_temporary_queues_are_refused(mq):
    async with mq.temporary_queue() as replies:
        with pytest.raises(TransportError, match="Artemis has no temporary queues"):
            async with replies.receiver():
                pass
