"""The stub of SQS and SNS is one, as far as a benchmark needs it."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import sqs_stub
from eip import Consumer, Message
from eip.errors import ChannelNotFound, TransportError
from eip.transports.aws import AwsTransport


@pytest.fixture(scope="module")
def url():
    with sqs_stub.running() as url:
        yield url


@pytest.fixture
async def aws(url):
    async with AwsTransport(region=sqs_stub.REGION, endpoint_url=url) as aws:
        assert aws.account == sqs_stub.ACCOUNT
        yield aws


async def test_what_is_sent_and_published_is_consumed_and_counted(aws, url):
    await sqs_stub.make_queue(aws, "orders")
    topic = (await aws._client.call("sns", "CreateTopic", Name="events"))["TopicArn"]
    await aws._client.call("sns", "Subscribe", TopicArn=topic, Protocol="sqs", Endpoint=aws.queue("orders").address)
    seen: list[int] = []
    done = asyncio.Event()

    async def handle(message: Message) -> None:
        assert message.attributes == {"kind": "a", "raw": b"\x00\xff"}
        seen.append(message.body)
        if len(seen) == 100:
            done.set()

    consumer = Consumer(aws.queue("orders"), handle)
    task = asyncio.create_task(consumer.run())
    await consumer.started.wait()
    for number in range(50):
        message = Message(number, attributes={"kind": "a", "raw": b"\x00\xff"})
        await aws.queue("orders").send(message)
        await aws.topic("events").send(message.with_body(50 + number))
    await done.wait()
    await consumer.stop()
    await task
    assert sorted(seen) == list(range(100))
    told = sqs_stub.told(url)
    assert told["messages"]["SendMessageBatch"] == told["messages"]["PublishBatch"] == 50
    assert told["messages"]["ReceiveMessage"] == told["messages"]["DeleteMessageBatch"] == 100
    assert told["ready_and_held"]["orders"] == [0, 0]


async def test_a_lease_can_be_given_back_and_ends(aws):
    await sqs_stub.make_queue(aws, "leases", VisibilityTimeout="1")
    queue = aws.queue("leases")
    await queue.send(Message("x"))
    async with queue.receiver() as receiver:
        (first,) = await receiver.receive(1)
        await first.nack()
        (second,) = await receiver.receive(1)
        assert second.receive_count == 2
        (third,) = await receiver.receive(1, wait=20)
        assert third.receive_count == 3
        await third.ack()


async def test_what_it_does_not_know_it_refuses(aws):
    with pytest.raises(ChannelNotFound):
        await aws.queue("nowhere").send(Message("x"))
    with pytest.raises(TransportError, match="UnsupportedOperation"):
        await aws._client.call("sqs", "ListQueueTags", QueueUrl="x")


async def test_a_subscriptions_filter_policy_is_applied(aws, url):
    await sqs_stub.make_topic(aws, "filtered")
    await sqs_stub.subscribe(aws, "filtered", "filtered-some", policy={"kind": ["a"]})
    await sqs_stub.subscribe(aws, "filtered", "filtered-all")
    await aws.topic("filtered").send(*(Message(number, attributes={"kind": "ab"[number % 2]}) for number in range(10)))
    depth = sqs_stub.told(url)["ready_and_held"]
    assert (depth["filtered-some"], depth["filtered-all"]) == ([5, 0], [10, 0])


async def test_events_are_put(aws, url):
    answer = await aws._client.call(
        "events", "PutEvents", Entries=[{"Source": "s", "DetailType": "t", "Detail": "{}"}] * 3
    )
    assert [bool(entry["EventId"]) for entry in answer["Entries"]] == [True] * 3
    assert sqs_stub.told(url)["messages"]["PutEvents"] == 3
