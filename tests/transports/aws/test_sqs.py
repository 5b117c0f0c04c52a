"""SQS beyond the conformance suite: limits, calls, leases, groups, and other programs on the same queue."""

from __future__ import annotations

import asyncio
import json
import time
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from eip import Consumer, Message
from eip.errors import (
    ConfigurationError,
    ConnectionLost,
    InvalidMessage,
    LeaseLost,
    MessageTooLarge,
    PartialSendError,
    Reject,
    Retry,
    Throttled,
)
from eip.limits import MIB
from eip.topology import QueueSpec, Topology
from eip.transports.aws import AwsTransport
from eip.transports.aws._attributes import carried
from tests.support.timing import undisturbed

pytestmark = pytest.mark.aws


@pytest.fixture
def aws(proxied_aws):
    return proxied_aws


@pytest.fixture
def sqs(moto_server):
    """The other program: plain boto3."""
    return moto_server.client("sqs")


async def made(aws, *, fifo=False, **options):
    name = f"q{uuid4().hex[:12]}{'.fifo' if fifo else ''}"
    await Topology(QueueSpec(name, **options)).apply(aws)
    return aws.queue(name)


async def url_of(queue):
    return await queue.url()


# Limits, counted as the service counts them.


def test_the_size_is_that_of_body_and_attributes_in_utf_8():
    message = Message("ä", id="m", created_at=1.0, attributes={"näme"[0:1]: "ö", "n": 12, "b": b"\x00\xff"})
    sent = carried(message, channel="q", limit=MIB)
    expected = len('"ä"'.encode())
    for name, attribute in sent.attributes.items():
        value = attribute.get("BinaryValue") or attribute["StringValue"].encode()
        expected += len(name.encode()) + len(attribute["DataType"]) + len(value)
    assert sent.size == expected


async def test_a_message_of_exactly_the_limit_is_accepted_and_one_byte_more_is_refused_before_sending(aws, proxy):
    queue = await made(aws)
    room = MIB - carried(Message("", id="m", created_at=1.0), channel="q", limit=MIB).size
    await queue.send(Message("a" * room, id="m", created_at=1.0))
    assert proxy.calls["SendMessageBatch"] == 1
    with pytest.raises(MessageTooLarge, match="claim check"):
        await queue.send(Message("fits"), Message("a" * (room - 1) + "ä"[:1], id="m", created_at=1.0))
    assert proxy.calls["SendMessageBatch"] == 1


async def test_a_call_holds_no_more_than_ten_and_no_more_than_a_mebibyte(aws, proxy):
    queue = await made(aws)
    await queue.send(*(Message("x" * 300_000) for _ in range(7)))
    assert proxy.calls["SendMessageBatch"] == 3
    await queue.send(*(Message(number) for number in range(31)))
    assert proxy.calls["SendMessageBatch"] == 7


async def test_ten_attributes_one_of_them_ours(aws, proxy):
    queue = await made(aws)
    await queue.send(Message("x", attributes={f"a{number}": number for number in range(9)}))
    with pytest.raises(InvalidMessage, match="10 attributes, one of which is the envelope's; the message has 10"):
        await queue.send(Message("x", attributes={f"a{number}": number for number in range(10)}))
    assert proxy.calls["SendMessageBatch"] == 1


@pytest.mark.parametrize(
    "attributes",
    [
        {"": 1},
        {"eip": "mine"},
        {"AWS.x": 1},
        {"amazon.x": 1},
        {"a b": 1},
        {"a..b": 1},
        {".a": 1},
        {"a.": 1},
        {"ä": 1},
        {"a" * 257: 1},
        {"a": ""},
        {"a": b""},
        {"a": "\x00"},
    ],
)
def test_attributes_that_no_service_takes_are_refused_before_sending(attributes):
    with pytest.raises(InvalidMessage):
        carried(Message("x", attributes=attributes), channel="q", limit=MIB)


# Other programs.


async def test_what_we_send_plain_boto3_reads_as_the_users_json(aws, sqs):
    queue = await made(aws)
    attributes: dict[str, Any] = {
        "kind": "ride",
        "count": 3,
        "price": Decimal("1.50"),
        "raw": b"\x00\xff",
        "tags": ["a", "b"],
    }
    await queue.send(Message({"ride": "Ünïcørn"}, type="Ride", attributes=attributes))
    (found,) = sqs.receive_message(QueueUrl=await queue.url(), MessageAttributeNames=["All"])["Messages"]
    assert json.loads(found["Body"]) == {"ride": "Ünïcørn"}
    native = found["MessageAttributes"]
    assert native["kind"] == {"DataType": "String", "StringValue": "ride"}
    assert native["count"] == {"DataType": "Number", "StringValue": "3"}
    assert native["price"] == {"DataType": "Number", "StringValue": "1.50"}
    assert native["raw"] == {"DataType": "Binary", "BinaryValue": b"\x00\xff"}
    assert json.loads(native["tags"]["StringValue"]) == ["a", "b"]
    assert set(native) == {*attributes, "eip"}
    assert json.loads(native["eip"]["StringValue"])["type"] == "Ride"


async def test_what_plain_boto3_sends_is_consumed_with_its_attributes(aws, sqs):
    queue = await made(aws)
    sqs.send_message(
        QueueUrl=await queue.url(),
        MessageBody='{"order": 7}',
        MessageAttributes={
            "kind": {"DataType": "String", "StringValue": "order"},
            "count": {"DataType": "Number", "StringValue": "3"},
            "share": {"DataType": "Number", "StringValue": "0.25"},
            "odd": {"DataType": "Number.mine", "StringValue": "12"},
            "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        },
    )
    async with queue.receiver() as receiver:
        (delivery,) = await receiver.receive(1)
        message = delivery.message
        assert message.body == {"order": 7}
        assert message.attributes == {"kind": "order", "count": 3, "share": 0.25, "odd": 12, "raw": b"\x00\xff"}
        assert message.created_at > 1_600_000_000
        await delivery.ack()


async def test_what_cannot_be_read_goes_to_the_dead_letter_queue_raw_and_holds_nobody_up(aws, sqs):
    queue = await made(aws)
    url = await queue.url()
    sqs.send_message(QueueUrl=url, MessageBody="not {json")
    sqs.send_message(
        QueueUrl=url,
        MessageBody="1",
        MessageAttributes={"eip": {"DataType": "String", "StringValue": "[]"}, "k": _text("v")},
    )
    sqs.send_message(QueueUrl=url, MessageBody="2")
    handled = await handled_of(queue, 1, typed=True)
    assert handled == [2]
    dead = aws.queue(f"{queue.name}-dead")
    async with dead.receiver() as receiver:
        found = [each for _ in range(2) for each in await receiver.receive(1, wait=5)]
        by_body = {each.message.encode(): each.message for each in found}
        assert set(by_body) == {b"not {json", b"1"}
        assert "JSON" in by_body[b"not {json"].headers["dead-letter-reason"]
        assert by_body[b"1"].headers["dead-letter-source"] == queue.name


def _text(value):
    return {"DataType": "String", "StringValue": value}


async def handled_of(queue, count, *, typed=False, **options):
    """Consume until so many were handled; their bodies."""
    bodies, done = [], asyncio.Event()

    async def untyped(message: Message) -> None:
        bodies.append(message.body)
        if len(bodies) == count:
            done.set()

    async def integers(message: Message[int]) -> None:
        await untyped(message)

    consumer = Consumer(queue, integers if typed else untyped, **options)
    task = asyncio.create_task(consumer.run())
    async with asyncio.timeout(60):
        await done.wait()
        while typed and consumer.stats.dead_lettered < 2:
            await asyncio.sleep(0.05)
    await consumer.stop()
    await task
    return bodies


# ServiceClient.


async def test_address_and_attributes_are_asked_for_once(aws, proxy):
    queue = await made(aws)
    proxy.calls.clear()
    await asyncio.gather(*(queue.send(Message(number)) for number in range(300)))
    for _ in range(3):
        async with queue.receiver() as receiver:
            await receiver.receive(1)
    assert proxy.calls["GetQueueUrl"] == 1
    assert proxy.calls["GetQueueAttributes"] == 1


async def test_sends_of_many_are_gathered_into_full_calls(aws, proxy):
    queue = await made(aws)
    await asyncio.gather(*(queue.send(Message(number)) for number in range(100)))
    assert proxy.calls["SendMessageBatch"] <= 12


async def test_an_idle_consumer_has_one_poll_and_a_busy_one_more(aws, proxy, moto_server):
    queue = await made(aws)
    held = asyncio.Event()

    async def handle(_: Message) -> None:
        await held.wait()

    consumer = Consumer(queue, handle, concurrency=100)
    task = asyncio.create_task(consumer.run())
    await consumer.started.wait()
    proxy.calls.clear()
    begun = time.monotonic()
    async with asyncio.timeout(30):
        while proxy.calls["ReceiveMessage"] < 3:
            await asyncio.sleep(0.02)
    assert time.monotonic() - begun > 1.0  # polls of half a second, one at a time: two are over
    await queue.send(*(Message(number) for number in range(95)))
    async with asyncio.timeout(30):
        while consumer.stats.in_flight < 95:
            await asyncio.sleep(0.02)
    held.set()
    async with asyncio.timeout(30):
        while consumer.stats.handled < 95:
            await asyncio.sleep(0.02)
    await consumer.stop()
    await task
    assert proxy.calls["DeleteMessageBatch"] <= 15  # ten at a time, or what there was after 50 ms
    assert (await queue.depth())["ready"] == (await queue.depth())["leased"] == 0


async def test_leases_are_kept_ten_a_call(aws, proxy):
    handled, lost, beats, seconds = await undisturbed(lambda: kept_for_two_leases(aws, proxy), reserve=0.5)
    assert sorted(handled) == list(range(20))  # nobody got one again
    assert lost == 0
    assert beats <= 2 * (seconds / 0.6 + 1)  # two calls every second, or a little sooner


async def kept_for_two_leases(aws, proxy) -> tuple[list[int], int, int, float]:
    queue = await made(aws, visibility=2)
    await queue.send(*(Message(number) for number in range(20)))
    go = asyncio.Event()
    handled: list[int] = []

    async def handle(message: Message) -> None:
        await go.wait()
        handled.append(message.body)

    consumer = Consumer(queue, handle, concurrency=20)
    task = asyncio.create_task(consumer.run())
    async with asyncio.timeout(60):
        while consumer.stats.in_flight < 20:
            await asyncio.sleep(0.02)
        proxy.calls.clear()
        begun = time.monotonic()
        while proxy.calls["ChangeMessageVisibilityBatch"] < 8 or time.monotonic() - begun < 2 * 2:  # twice the lease
            await asyncio.sleep(0.02)
    beats, seconds = proxy.calls["ChangeMessageVisibilityBatch"], time.monotonic() - begun
    go.set()
    async with asyncio.timeout(30):
        while consumer.stats.handled + consumer.stats.lost < 20:
            await asyncio.sleep(0.02)
    await consumer.stop()
    await task
    return handled, consumer.stats.lost, beats, seconds


async def test_a_heartbeat_that_hangs_does_not_make_the_consumer_believe_in_its_leases(aws, proxy, monkeypatch):
    monkeypatch.setattr("eip.transports.aws._client.service_client._TIMEOUT_S", 1.0)
    queue = await made(aws, visibility=3)
    await queue.send(Message("x"))
    proxy.faults = type(proxy.faults)(slow=1.0, slow_by=60.0, operations={"ChangeMessageVisibilityBatch"})
    cancelled = asyncio.Event()

    async def handle(_: Message) -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    consumer = Consumer(queue, handle)
    task = asyncio.create_task(consumer.run())
    async with asyncio.timeout(20):
        await cancelled.wait()
    assert consumer.stats.lost == 1
    proxy.calm()
    await consumer.stop()
    await task


async def test_a_failure_comes_back_after_its_delay_by_the_visibility_timeout(aws, proxy):
    queue = await made(aws)
    await queue.send(Message("x"))
    times: list[float] = []

    async def handle(_: Message) -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            raise Retry("later", delay=2.0)
        done.set()

    done = asyncio.Event()
    consumer = Consumer(queue, handle)
    task = asyncio.create_task(consumer.run())
    async with asyncio.timeout(30):
        await done.wait()
    await consumer.stop()
    await task
    assert times[1] - times[0] >= 1.9
    assert proxy.calls["ChangeMessageVisibilityBatch"] == 1


async def test_a_queue_without_a_lease_hands_a_message_out_once_at_a_time(aws):
    """Kind of fault 26: with a visibility timeout of 0 one message was handled in all slots at once."""
    name = f"q{uuid4().hex[:12]}"
    await Topology(QueueSpec(name)).apply(aws)
    queue = aws.queue(name)
    await leased_from_now_on(queue, 0)
    await queue.send(Message(1))
    async with queue.receiver() as receiver:
        (delivery,) = await receiver.receive(10, wait=1)
        assert await receiver.receive(10, wait=0) == []
        assert receiver.lease == 30.0
        await delivery.nack()
        (again,) = await receiver.receive(10, wait=1)
        await again.ack()


async def test_too_many_receives_go_to_the_dead_letter_queue_and_a_rejected_one_at_once(aws):
    queue = await made(aws, max_receive_count=3)
    await queue.send(Message("retried"), Message("rejected"))
    seen: list[str] = []

    async def handle(message: Message) -> None:
        seen.append(message.body)
        if message.body == "rejected":
            raise Reject("never")
        raise Retry("again", delay=0)

    consumer = Consumer(queue, handle)
    task = asyncio.create_task(consumer.run())
    dead = aws.queue(f"{queue.name}-dead")
    async with asyncio.timeout(30), dead.receiver() as receiver:
        found: list[Any] = []
        while len(found) < 2:
            found += await receiver.receive(10, wait=1)
    await consumer.stop()
    await task
    assert {each.message.body for each in found} == {"retried", "rejected"}
    assert (seen.count("retried"), seen.count("rejected")) == (3, 1)


# Leases.


async def leased_from_now_on(queue, seconds):
    """What is received before keeps its own lease."""
    await queue._queue.call("SetQueueAttributes", Attributes={"VisibilityTimeout": str(seconds)})
    queue.forget_attributes()


async def test_an_ack_after_the_lease_never_reaches_the_service(aws, proxy):
    queue = await made(aws, visibility=1)
    await queue.send(Message("x"))
    async with queue.receiver() as slow, queue.receiver() as other:
        (stale,) = await slow.receive(1)
        await leased_from_now_on(queue, 30)
        other.lease = 30.0
        async with asyncio.timeout(20):
            while not (again := await other.receive(1, wait=2)):
                pass
        with pytest.raises(LeaseLost):
            await stale.ack()
        assert proxy.calls["DeleteMessageBatch"] == 0
        await again[0].ack()
    assert proxy.calls["DeleteMessageBatch"] == 1


async def test_a_message_delivered_twice_into_one_batch_of_acks_does_not_fail_the_others(aws):
    queue = await made(aws, visibility=1)
    await queue.send(Message("x"))
    async with queue.receiver() as receiver:
        (stale,) = await receiver.receive(1)
        await leased_from_now_on(queue, 30)
        async with asyncio.timeout(20):
            while not (again := await receiver.receive(1, wait=2)):
                pass
        await queue.send(Message("y"))
        taken = [stale, *again, *await receiver.receive(1)]
        assert len({each.message.id for each in taken}) == 2
        for each in taken:  # as if the clock had not told
            each.lease_until = asyncio.get_running_loop().time() + 30
        failed = await receiver.ack(taken)
        assert {each.delivery for each in failed} <= {stale}
    assert sum((await queue.depth()).values()) == 0


async def test_a_failed_entry_of_a_batch_of_acks_is_told_and_the_others_are_gone(aws):
    queue = await made(aws)
    await queue.send(*(Message(number) for number in range(3)))
    async with queue.receiver() as receiver:
        taken: list[Any] = []
        while len(taken) < 3:
            taken += await receiver.receive(10, wait=5)
        taken[1].receipt = "no receipt at all"
        (failed,) = await receiver.ack(taken)
        assert failed.delivery is taken[1]
        assert isinstance(failed.error, LeaseLost)
    depth = await queue.depth()
    assert depth["ready"] + depth["leased"] == 1


async def test_what_a_cancelled_poll_still_brings_is_given_back(aws):
    queue = await made(aws)
    await queue.send(Message("x"))
    call, answered, cancelled = queue._queue.call, asyncio.Event(), asyncio.Event()

    async def late(operation, **parameters):
        answer = await call(operation, **parameters)
        if operation == "ReceiveMessage":
            answered.set()
            await cancelled.wait()
        return answer

    queue._queue.call = late
    async with queue.receiver() as receiver:
        poll = asyncio.create_task(receiver.receive(1))
        await answered.wait()
        poll.cancel()
        asyncio.get_running_loop().call_later(0.1, cancelled.set)
        await asyncio.wait([poll])
        assert poll.cancelled()
    assert (await queue.depth()) == {"ready": 1, "delayed": 0, "leased": 0}


# Groups.


async def test_a_lost_answer_to_a_receive_is_asked_for_again_by_the_same_id(aws, proxy, monkeypatch):
    queue = await made(aws, fifo=True)
    sent: list[str | None] = []
    call = aws._client.call

    async def watched(service, operation, **parameters):
        if operation == "ReceiveMessage":
            sent.append(parameters.get("ReceiveRequestAttemptId"))
        return await call(service, operation, **parameters)

    monkeypatch.setattr(aws._client, "call", watched)
    await queue.send(Message("x", group_id="g"))
    proxy.once("dropped_before", "ReceiveMessage", times=2)
    async with queue.receiver() as receiver:
        (delivery,) = await receiver.receive(1)
        await delivery.ack()
        await receiver.receive(1, wait=0)
    assert len(sent) >= 4
    assert sent[0] == sent[1] == sent[2] != sent[3]
    standard = await made(aws)
    async with standard.receiver() as receiver:
        await receiver.receive(1, wait=0)
        assert sent[-1] is None
        proxy.once("dropped_before", "ReceiveMessage")
        with pytest.raises(ConnectionLost):
            await receiver.receive(1)


async def test_group_ids_on_a_standard_queue_are_sent_for_fairness_and_order_nothing(aws):
    queue = await made(aws)
    await queue.send(Message(1, group_id="tenant"), Message(2, group_id="tenant"))
    async with queue.receiver() as receiver:
        assert not receiver.ordered
        taken: list[Any] = []
        while len(taken) < 2:  # the second is not held back behind the first
            taken += await receiver.receive(1, wait=5)
        assert {each.message.group_id for each in taken} == {"tenant"}


async def test_a_fifo_queue_wants_groups_and_has_no_delays(aws):
    queue = await made(aws, fifo=True)
    with pytest.raises(InvalidMessage, match="group_id"):
        await queue.send(Message("x"))
    with pytest.raises(InvalidMessage, match="delay"):
        await queue.send(Message("x", group_id="g"), delay=1)
    with pytest.raises(InvalidMessage, match="900"):
        await (await made(aws)).send(Message("x"), delay=901)


async def test_sent_again_after_a_lost_answer_it_is_there_once(aws, proxy):
    queue = await made(aws, fifo=True)
    proxy.once("dropped_after", "SendMessageBatch")
    proxy.once("truncated", "SendMessageBatch")
    await queue.send(*(Message(number, group_id="g") for number in range(5)))
    assert proxy.calls["SendMessageBatch"] == 3
    assert await handled_of(queue, 5) == list(range(5))
    assert sum((await queue.depth()).values()) == 0


async def test_throttling_is_waited_out_and_too_much_of_it_is_told(aws, proxy):
    queue = await made(aws)
    queue._accumulator._attempts = 3
    proxy.once("throttled", "SendMessageBatch", times=2)
    await queue.send(Message("x"))
    proxy.once("throttled", "SendMessageBatch", times=3)
    with pytest.raises(Throttled):
        await queue.send(Message("y"))


# The transport.


async def test_what_the_service_refuses_of_a_batch_is_told_by_message(aws, sqs):
    queue = await made(aws)
    await queue.send(Message("x" * 2000))  # reads its limit, which is changed then
    sqs.set_queue_attributes(QueueUrl=await queue.url(), Attributes={"MaximumMessageSize": "1024"})
    with pytest.raises(PartialSendError) as raised:
        await queue.send(Message("fits"), Message("x" * 2000), Message("fits too"))
    assert raised.value.sent == 2
    (failed,) = raised.value.failed
    assert len(failed.message.body) == 2000
    assert isinstance(failed.error, InvalidMessage)
    assert not raised.value.transient


async def test_closing_sends_what_lingers(moto_server, aws):
    queue = await made(aws)
    async with AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=moto_server.url, linger=60
    ) as other:
        send = asyncio.create_task(other.queue(queue.name).send(Message("x")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await send
    assert (await queue.depth())["ready"] == 1


def test_options_that_cannot_be():
    wrong: tuple[dict[str, Any], ...] = ({"linger": -1}, {"long_poll": 0}, {"long_poll": 21}, {"connections": 0})
    for options in wrong:
        with pytest.raises(ConfigurationError):
            AwsTransport(region="us-east-1", **options)
