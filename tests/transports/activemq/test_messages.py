"""What messages are on a real broker: headers of JMS, retries, dead letters, delays, other clients, other programs."""

from __future__ import annotations

import asyncio
import json
import queue as queues
from typing import Any
from uuid import uuid4

import pytest
import stomp

from eip import Consumer, Message, clock
from eip.errors import ChannelNotFound, InvalidMessage, Reject
from eip.matching import FilterPolicy
from eip.patterns.redrive import redrive
from eip.retry import Backoff
from eip.telemetry.meter import UsageMeter
from eip.transports.activemq import ActiveMQTransport
from eip.transports.activemq.receiver import ActiveMQReceiver

pytestmark = pytest.mark.activemq


def fresh() -> str:
    return f"messages-{uuid4().hex[:12]}"


class Foreign:
    """A program with stomp.py, which knows nothing of this library."""

    def __init__(self, broker):
        self.received: queues.Queue[Any] = queues.Queue()
        self.connection = stomp.Connection12([(broker.host, broker.port)])
        self.connection.set_listener("", self)
        self.connection.connect(broker.user, broker.password, wait=True)

    def __getattr__(self, name):
        if name.startswith("on_"):
            return lambda *_: None
        raise AttributeError(name)

    def on_message(self, frame):
        self.received.put(frame)

    async def take(self):
        return await asyncio.to_thread(self.received.get, timeout=30)


@pytest.fixture
def foreign(activemq_broker):
    program = Foreign(activemq_broker)
    yield program
    program.connection.disconnect()


async def one(receiver):
    (delivery,) = await receiver.receive(1, wait=30)
    return delivery


async def test_what_stomp_py_sends_is_consumed(activemq, foreign):
    """Headers of JMS fill the envelope, other headers are attributes, and the id is the broker's."""
    queue = activemq.queue(fresh())
    foreign.connection.send(
        queue.destination,
        json.dumps({"order": 7}),
        headers={"correlation-id": "c:1", "reply-to": "/queue/answers", "type": "Order", "kind": "new", "n": "3"},
        persistent="true",
    )
    async with queue.receiver() as receiver:
        delivery = await one(receiver)
        message = delivery.message
        assert (message.body, message.type, message.correlation_id) == ({"order": 7}, "Order", "c:1")
        assert message.return_address == "activemq:queue/answers"
        assert dict(message.attributes) == {"kind": "new", "n": "3"}
        assert message.id == delivery.headers["message-id"]
        assert message.created_at == pytest.approx(clock.now(), abs=60)
        await delivery.ack()


async def test_stomp_py_reads_what_is_sent(activemq, foreign):
    """The body is the user's own, and what JMS has headers for is there."""
    queue = activemq.queue(fresh())
    foreign.connection.subscribe(queue.destination, id="1", ack="auto")
    expires = float(round(clock.now()) + 3600)
    await queue.send(
        Message(
            {"price": "Ünïcørn: 7"},
            type="Quote",
            correlation_id="r-1",
            return_address="activemq:queue/more",
            expires_at=expires,
            attributes={"kind": "a:b\nc\\d", "n": 3, "tags": ["x", 1]},
        ),
        priority=7,
    )
    frame = await foreign.take()
    assert json.loads(frame.body) == {"price": "Ünïcørn: 7"}
    wanted = {
        "type": "Quote",
        "correlation-id": "r-1",
        "reply-to": "/queue/more",
        "expires": str(int(expires * 1000)),
        "persistent": "true",
        "priority": "7",
        "kind": "a:b\nc\\d",
        "n": "3",
        "tags": '["x",1]',
        "amq-msg-type": "text",
    }
    assert {name: frame.headers.get(name) for name in wanted} == wanted


async def test_a_retried_message_of_a_foreign_program_keeps_all_it_had(activemq, foreign):
    """The copy has its headers, its body and its first id, and counts; the original is gone."""
    queue = activemq.queue(fresh())
    foreign.connection.send(queue.destination, '{"n": 1}', headers={"kind": "x", "type": "T", "priority": "6"})
    async with queue.receiver() as receiver:
        first = await one(receiver)
        await first.nack(delay=0.2)
        second = await one(receiver)
        assert (second.receive_count, second.message.id) == (2, first.message.id)
        assert (second.message.raw, second.message.type) == (b'{"n": 1}', "T")
        assert dict(second.message.attributes) == {"kind": "x"}
        assert second.headers["message-id"] != first.headers["message-id"]
        assert (second.headers["priority"], second.headers.get("persistent")) == ("6", None)
        await second.nack(delay=0.2)
        third = await one(receiver)
        assert (third.receive_count, third.message.id) == (3, first.message.id)
        await third.ack()
    async with queue.receiver() as receiver:
        assert not await receiver.receive(1, wait=0.4)


async def test_attributes_and_envelopes_of_any_size_and_name_arrive(activemq):
    """A header line has 10 KiB at the broker, and some names and characters no place in one."""
    queue = activemq.queue(fresh())
    sent = Message(
        "body",
        correlation_id="carriage\rreturn\0",
        group_id="g\r",
        headers={"history": "h" * 30_000},
        attributes={
            "type": "taken",
            "id": "7",
            "eip": "x",
            "with space": "1",
            "long": "ü" * 20_000,
            "raw": b"\0\xff",
            "odd": "\r\0\t ",
            "yes": True,
            "float": 2.0,
            "tags": ["a", 1],
        },
    )
    await queue.send(sent)
    async with queue.receiver() as receiver:
        got = await one(receiver)
        await got.ack()
    assert got.error is None
    assert dict(got.message.attributes) == dict(sent.attributes)
    assert (got.message.headers, got.message.correlation_id) == (sent.headers, sent.correlation_id)
    assert got.message.group_id == sent.group_id


async def test_text_and_bytes_with_nul_are_carried(activemq):
    from eip.codec import TextCodec

    queue = activemq.queue(fresh())
    await queue.send(Message("a\0b: c\n").with_codec(TextCodec()), Message("plain").with_codec(TextCodec()))
    async with queue.receiver() as receiver:
        for body in ("a\0b: c\n", "plain"):
            got = await one(receiver)
            assert got.message.body == body
            await got.ack()


@pytest.mark.parametrize("attributes", [{"a": "\ud800"}, {"a\ud800": "x"}])
async def test_what_is_no_unicode_is_refused(activemq, attributes):
    with pytest.raises(InvalidMessage):
        await activemq.queue(fresh()).send(Message(1, attributes=attributes))


async def test_an_envelope_that_cannot_be_read_is_dead_lettered_with_its_body(activemq, foreign):
    """One such message stops nobody, whatever a stranger wrote."""
    queue, dead = activemq.queue(fresh()), activemq.queue(fresh())
    done = asyncio.Event()

    async def handle(message):
        assert message.body == {"good": 1}
        done.set()

    broken = ["[", "7", '{"at": "x"}', '{"seq": 1}', '{"types": 7}', '{"attrs": {"a": {"bytes": "%"}}}']
    broken.append(f'{{"at": {10**400}}}')
    for text in broken:
        foreign.connection.send(queue.destination, '{"bad": 1}', headers={"eip": text, "kind": "x"})
    foreign.connection.send(queue.destination, '{"good": 1}')
    consumer = Consumer(queue, handle, dead_letters=dead)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run())
        async with asyncio.timeout(30):
            await done.wait()
        await consumer.stop()
    async with dead.receiver(capacity=20) as morgue:
        for _ in broken:
            found = await one(morgue)
            assert found.message.body == {"bad": 1}
            assert "envelope cannot be read" in found.message.headers["dead-letter-reason"]
            assert found.message.attributes["kind"] == "x"
            await found.ack()


async def test_without_a_dead_letter_channel_bad_messages_hold_no_slots(activemq, foreign):
    """They come again later, as they were; as many as there are slots do not stop the consumer."""
    queue, seen = activemq.queue(fresh()), asyncio.Event()

    async def handle(_):
        seen.set()

    for _ in range(4):
        foreign.connection.send(queue.destination, "{}", headers={"eip": "["})
    foreign.connection.send(queue.destination, "{}")
    consumer = Consumer(queue, handle, concurrency=2, retry=Backoff(base=600))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run())
        async with asyncio.timeout(30):
            await seen.wait()
        await consumer.stop()


async def test_a_rejected_message_goes_to_the_dead_letter_queue_with_the_reason(activemq):
    dead = activemq.queue(fresh())
    queue = activemq.queue(fresh(), dead_letters=dead, max_receive_count=3)

    async def handle(_):
        raise Reject("no such customer")

    consumer = Consumer(queue, handle)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run())
        await queue.send(Message({"n": 1}, id="m"))
        async with dead.receiver() as morgue:
            found = await one(morgue)
            await found.ack()
        await consumer.stop()
    assert (found.message.id, found.message.body) == ("m", {"n": 1})
    assert found.message.headers["dead-letter-source"] == queue.name
    assert "no such customer" in found.message.headers["dead-letter-reason"]


async def test_what_fails_too_often_is_dead_lettered_across_consumers(activemq, activemq_broker):
    """The count travels in the copy: attempts in several processes add up."""
    dead = activemq.queue(fresh())
    queue = activemq.queue(fresh(), dead_letters=dead, max_receive_count=3)
    await queue.send(Message("poison", id="p"))
    for attempt in (1, 2, 3):
        async with ActiveMQTransport(activemq_broker.url) as other:
            same = other.queue(queue.name, dead_letters=other.queue(dead.name), max_receive_count=3)
            async with same.receiver() as receiver:
                delivery = await one(receiver)
                assert delivery.receive_count == attempt
                await delivery.nack(delay=0.1)
    async with dead.receiver() as morgue:
        found = await one(morgue)
        await found.ack()
    assert (found.message.id, found.message.headers["dead-letter-reason"]) == ("p", "received 3 times")


async def test_a_redrive_sees_all_of_a_dead_letter_queue(activemq):
    """What it leaves stays in its hands until the end, and is more than a receiver holds by default."""
    dead, queue = activemq.queue(fresh()), activemq.queue(fresh())
    await dead.send(*(Message(number, attributes={"kind": "ab"[number % 2]}) for number in range(40)))
    progress = await redrive(dead, queue, filter=FilterPolicy({"kind": ["b"]}), limit=20)
    assert (progress.moved, progress.left) == (20, 20)
    for channel, remainder in ((dead, 0), (queue, 1)):
        async with channel.receiver(capacity=40) as receiver:
            taken = [await one(receiver) for _ in range(20)]
            assert [each.message.body for each in taken] == list(range(remainder, 40, 2))
            assert {each.receive_count for each in taken} == {1}
            assert not await receiver.ack(taken)


async def test_what_was_never_handled_keeps_its_count(activemq, activemq_broker):
    """A consumer that stops gives back what it had not begun: that costs no attempt, not even the last."""
    dead = activemq.queue(fresh())
    queue = activemq.queue(fresh(), dead_letters=dead, max_receive_count=1)
    await queue.send(*(Message(number) for number in range(5)))
    for _ in range(3):
        async with queue.receiver() as receiver:
            taken = [await one(receiver) for _ in range(5)]
            assert [each.receive_count for each in taken] == [1] * 5
            assert not await receiver.nack(taken[::-1])
    async with queue.receiver() as receiver:
        for number in range(5):
            delivery = await one(receiver)
            assert delivery.message.body == number
            await delivery.ack()
    async with dead.receiver() as morgue:
        assert not await morgue.receive(1, wait=0.2)


async def test_a_dead_letter_queue_that_fails_loses_nothing(activemq, monkeypatch):
    """The message stays with its consumer, and is dead-lettered when that works again."""
    monkeypatch.setattr("eip.transports.activemq._redelivery._DEAD_LETTER_RETRY_S", 0.1)
    dead = activemq.queue(fresh())
    queue = activemq.queue(fresh(), dead_letters=activemq.resolve("activemq:temp-queue/ID:x-1:2"), max_receive_count=1)
    await queue.send(Message("poison"))
    async with queue.receiver() as receiver, dead.receiver() as morgue:
        await (await one(receiver)).nack(delay=0.1)
        assert not await receiver.receive(1, wait=0.5)
        receiver.dead_letters = dead
        assert not await receiver.receive(1, wait=0.5)
        found = await one(morgue)
        assert (found.message.body, found.message.headers["dead-letter-reason"]) == ("poison", "received 1 times")
        await found.ack()


async def test_an_expired_message_is_not_delivered(activemq):
    """The broker itself drops it, by the header that JMS has for that."""
    queue = activemq.queue(fresh())
    await queue.send(Message("late", expires_at=clock.now() + 0.3), Message("kept"))
    await asyncio.sleep(0.6)
    async with queue.receiver() as receiver:
        got = await one(receiver)
        await got.ack()
        assert got.message.body == "kept"
        assert not await receiver.receive(1, wait=0.3)


async def test_groups_keep_their_order_through_failures_and_two_consumers(activemq):
    """JMSXGroupID keeps a group with one consumer; a failing head holds its group, and nothing overtakes."""
    queue, seen, failed = activemq.queue(fresh()), [], set()
    done = asyncio.Event()

    async def handle(message):
        if message.id not in failed and message.body % 3 == 0:
            failed.add(message.id)
            raise ConnectionError("not now")
        seen.append((message.group_id, message.body))
        if len(seen) == 60:
            done.set()

    consumers = [Consumer(queue, handle, concurrency=5, retry=Backoff(base=0.02), local_retries=n) for n in (0, 3)]
    await queue.send(*(Message(number, group_id=f"g{group}") for number in range(10) for group in range(6)))
    async with asyncio.TaskGroup() as tasks:
        for consumer in consumers:
            tasks.create_task(consumer.run())
        async with asyncio.timeout(60):
            await done.wait()
        for consumer in consumers:
            await consumer.stop()
    for group in range(6):
        assert [body for name, body in seen if name == f"g{group}"] == list(range(10))


async def test_a_group_that_is_held_up_leaves_room_for_the_others(activemq):
    """With messages handed out ahead, those behind a failed head do not take all slots of their consumer."""
    queue, seen, done = activemq.queue(fresh(), extra_prefetch=20), [], asyncio.Event()

    async def handle(message):
        if message.group_id == "bad":
            raise ConnectionError("not for a long time")
        seen.append(message.body)
        if len(seen) == 10:
            done.set()

    await queue.send(*(Message(number, group_id="bad") for number in range(10)))
    await queue.send(*(Message(number, group_id=f"g{number}") for number in range(10)))
    consumer = Consumer(queue, handle, concurrency=2, local_retries=0, retry=Backoff(base=3000, cap=3000))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run())
        async with asyncio.timeout(30):
            await done.wait()
        await consumer.stop()
    assert sorted(seen) == list(range(10))


async def test_a_delay_is_kept_where_the_broker_has_no_scheduler(activemq, foreign):
    """What comes before it is due is held by its consumer, and holds nobody else."""
    queue = activemq.queue(fresh())
    due = str(int((clock.now() + 1.0) * 1000))
    foreign.connection.send(queue.destination, '"early"', headers={"eip-due": due})
    foreign.connection.send(queue.destination, '"now"')
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with queue.receiver() as receiver:
        bodies = []
        for _ in range(2):
            delivery = await one(receiver)
            bodies.append(delivery.message.body)
            await delivery.ack()
    assert bodies == ["now", "early"]
    assert loop.time() - start >= 0.7


async def test_a_refused_message_fails_alone(activemq):
    """A transaction that the broker refuses is sent one by one: the others arrive, and the error names the culprit."""
    queue = activemq.queue(fresh())
    gone = activemq.resolve("activemq:temp-queue/ID:nowhere-1-2-3:4:1")
    with pytest.raises(ChannelNotFound):
        await gone.send(Message("lost"))
    results = await asyncio.gather(
        queue.send(*(Message(number) for number in range(5))),
        gone.send(Message("lost"), Message("too")),
        queue.send(Message(5)),
        return_exceptions=True,
    )
    assert [type(each) for each in results] == [type(None), ChannelNotFound, type(None)]
    async with queue.receiver() as receiver:
        got: list[int] = []
        async with asyncio.timeout(30):
            while (taken := await receiver.receive(10, wait=0.5)) or len(set(got)) < 6:
                got += [each.message.body for each in taken]
                await receiver.ack(taken)
    assert sorted(set(got)) == list(range(6))


async def test_a_cancelled_send_takes_back_what_has_not_left(activemq):
    queue = activemq.queue(fresh())
    under_way = asyncio.create_task(queue.send(*(Message(number) for number in range(250))))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(queue.send(Message("cancelled")))
    await asyncio.sleep(0)
    waiting.cancel()
    await under_way
    async with queue.receiver(capacity=100) as receiver:
        got: list[int] = []
        while len(got) < 250:
            taken = await receiver.receive(100, wait=10)
            got += [each.message.body for each in taken]
            await receiver.ack(taken)
        assert got == list(range(250))
        assert not await receiver.receive(1, wait=0.3)


async def test_a_backlog_is_drained_in_batches_and_no_more_is_held(activemq):
    """Scenario S5, scaled down: however long the queue, a receiver holds at most what it was made for."""
    queue, backlog, batch = activemq.queue(fresh()), 3_000, 100
    for start in range(0, backlog, 500):
        await queue.send(*(Message(number) for number in range(start, start + 500)))
    drained: list[int] = []
    async with queue.receiver(capacity=batch) as receiver:
        assert isinstance(receiver, ActiveMQReceiver)
        while len(drained) < backlog:
            taken = await receiver.receive(batch, wait=30)
            assert len(receiver._held) <= batch
            drained += [each.message.body for each in taken]
            assert not await receiver.ack(taken)
        assert not await receiver.receive(1, wait=0.3)
    assert drained == list(range(backlog))


@pytest.mark.parametrize("priority", [-1, 10])
async def test_a_priority_is_0_to_9(activemq, priority):
    with pytest.raises(InvalidMessage):
        await activemq.queue(fresh()).send(Message(1), priority=priority)


@pytest.mark.parametrize("name", ["", "a,b", "a>", "*", "a?x=1", "topic://x", "a b", "a\nb", "x" * 300])
async def test_what_is_more_than_a_name_is_refused(activemq, name):
    """Lists, wildcards and options are the broker's language, not a channel's name."""
    with pytest.raises(ValueError, match="must be 1 to"):
        activemq.queue(name)


async def test_every_frame_is_metered(activemq_broker):
    meter = UsageMeter()
    async with ActiveMQTransport(activemq_broker.url, meter=meter) as transport:
        queue = transport.queue(fresh())
        await queue.send(*(Message(number) for number in range(150)))
        async with queue.receiver(capacity=10) as receiver:
            for _ in range(150):
                await (await one(receiver)).ack()
    counted = {call.operation: (usage.calls, usage.messages) for call, usage in meter.usage().items()}
    assert counted == {
        "BEGIN": (2, 0),
        "SEND": (150, 150),
        "COMMIT": (2, 0),
        "SUBSCRIBE": (1, 0),
        "MESSAGE": (150, 150),
        "ACK": (150, 150),
    }
    assert (meter.settled, meter.total().units) == (150, 0)
    assert meter.total().size > 150
