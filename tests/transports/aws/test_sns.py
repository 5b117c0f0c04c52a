"""SNS beyond the conformance suite: deliveries raw and wrapped, filters in the service, other programs on the topic."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest

from benchmarks import sqs_stub
from eip import Message
from eip.errors import InvalidMessage, MessageTooLarge
from eip.limits import KIB, MIB
from eip.matching import EventPattern, FilterPolicy
from eip.topology import QueueSpec, SubscriptionSpec, TopicSpec, Topology
from eip.transports.aws import AwsTransport
from eip.transports.aws._attributes import carried

pytestmark = pytest.mark.aws

ATTRIBUTES: dict[str, Any] = {"kind": "a", "count": 3, "tags": ["x", "y"], "flag": True}


@pytest.fixture
def aws(proxied_aws):
    return proxied_aws


@pytest.fixture
def sns(moto_server):
    return moto_server.client("sns")


async def made(aws, *subscriptions, suffix=""):
    name = f"t{uuid4().hex[:12]}{suffix}"
    await Topology(
        TopicSpec(name), *(SubscriptionSpec(name, each, **options) for each, options in subscriptions)
    ).apply(aws)
    return aws.topic(name)


async def received(source, count):
    messages: list[Message] = []
    async with asyncio.timeout(30), source.receiver() as receiver:
        while len(messages) < count:
            taken = await receiver.receive(10, wait=2)
            assert all(each.error is None for each in taken)
            await receiver.ack(taken)
            messages += [each.message for each in taken]
        assert not await receiver.receive(1, wait=0)
    return messages


async def test_raw_and_wrapped_deliveries_are_the_same_message(aws):
    topic = await made(aws, ("raw", {}), ("wrapped", {"raw": False}))
    sent = Message({"a": "Ünï"}, type="T", correlation_id="c", attributes=ATTRIBUTES)
    await topic.send(sent)
    for name in ("raw", "wrapped"):
        (got,) = await received(topic.subscription(name), 1)
        assert (got.body, got.id, got.type, got.correlation_id) == (sent.body, sent.id, "T", "c")
        assert dict(got.attributes) == ATTRIBUTES


async def test_a_wrapped_delivery_carries_bytes_in_its_own_way(aws):
    topic = await made(aws, ("wrapped", {"raw": False}))  # moto fails on them in raw ones
    await topic.send(Message("x", attributes={"raw": b"\x00\xff"}))
    (got,) = await received(topic.subscription("wrapped"), 1)
    assert got.attributes == {"raw": b"\x00\xff"}


async def test_what_plain_boto3_publishes_is_received_raw_and_wrapped(aws, sns):
    topic = await made(aws, ("raw", {}), ("wrapped", {"raw": False}))
    attributes = {"kind": {"DataType": "String", "StringValue": "a"}, "n": {"DataType": "Number", "StringValue": "7"}}
    sns.publish(TopicArn=topic.address, Message='{"order": 7}', MessageAttributes=attributes)
    for name in ("raw", "wrapped"):
        (got,) = await received(topic.subscription(name), 1)
        assert got.body == {"order": 7}
        assert got.attributes == {"kind": "a", "n": 7}


async def test_plain_boto3_reads_what_we_publish(aws, moto_server):
    topic = await made(aws, ("s", {}))
    await topic.send(Message({"order": 7}, attributes={"kind": "a"}))
    sqs = moto_server.client("sqs")
    url = sqs.get_queue_url(QueueName=f"{topic.name}-s")["QueueUrl"]
    (found,) = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"], WaitTimeSeconds=5)["Messages"]
    assert json.loads(found["Body"]) == {"order": 7}
    assert found["MessageAttributes"]["kind"]["StringValue"] == "a"


@pytest.mark.parametrize(
    "wanted",
    [
        FilterPolicy({"kind": ["a"]}),
        FilterPolicy({"kind": ["a"]}, scope="MessageBody"),
    ],
    ids=["attributes", "body"],
)
async def test_the_service_itself_filters_by_attributes_or_by_the_body(aws, wanted):
    topic = await made(aws, ("some", {"filter": wanted}), ("all", {}))
    messages = [Message({"kind": kind}, attributes={"kind": kind}) for kind in "abab"]
    await topic.send(*messages)
    assert len(await received(topic.subscription("all"), 4)) == 4
    # Read without a filter: what is not here was not delivered.
    assert [each.body["kind"] for each in await received(topic.subscription("some"), 2)] == ["a", "a"]


async def test_what_the_service_cannot_evaluate_the_subscriber_does(aws):
    only_here = EventPattern({"detail": {"price": [{"numeric": [">", 10]}]}})
    topic = await made(aws, ("s", {"filter": lambda message: message.body % 2}), ("p", {"filter": only_here}))
    await topic.send(*(Message(number) for number in range(6)))
    got = await received(topic.subscription("s", filter=lambda message: message.body % 2), 3)
    assert sorted(each.body for each in got) == [1, 3, 5]
    assert sum((await aws.queue(f"{topic.name}-s").depth()).values()) == 0  # acknowledged unseen


async def test_a_subscription_has_a_redrive_policy_and_its_queue_lets_the_topic_in(aws, sns, moto_server):
    topic = await made(aws, ("s", {}))
    (there,) = sns.list_subscriptions_by_topic(TopicArn=topic.address)["Subscriptions"]
    found = sns.get_subscription_attributes(SubscriptionArn=there["SubscriptionArn"])["Attributes"]
    undelivered = aws.queue(f"{topic.name}-s-undelivered")
    assert json.loads(found["RedrivePolicy"]) == {"deadLetterTargetArn": undelivered.address}
    for queue in (undelivered, aws.queue(f"{topic.name}-s")):
        (statement,) = json.loads((await queue.attributes())["Policy"])["Statement"]
        assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": topic.address}}
        assert statement["Resource"] == queue.address


async def test_calls_are_full_and_within_the_limit(aws, proxy):
    topic = await made(aws, ("s", {}))
    await topic.send(*(Message(number) for number in range(25)))
    assert proxy.calls["PublishBatch"] == 3
    await topic.send(*(Message("x" * 100_000) for _ in range(5)))
    assert proxy.calls["PublishBatch"] == 6
    room = 256 * KIB - carried(Message("", id="m", created_at=1.0), channel="t", limit=MIB).size
    await topic.send(Message("a" * room, id="m", created_at=1.0))
    with pytest.raises(MessageTooLarge):
        await topic.send(Message("a" * (room + 1), id="m", created_at=1.0))
    with pytest.raises(InvalidMessage, match="10 attributes"):
        await topic.send(Message("x", attributes={f"a{number}": 1 for number in range(10)}))


async def test_a_topics_own_limit_is_read_once_a_message_is_larger_than_the_default(monkeypatch):
    """A topic may take up to 1 MiB; no call is larger than its limit (developer guide, "Publishing large messages")."""
    server, stub = await sqs_stub.serve()
    attributes = {"MaximumMessageSize": str(600 * KIB)}
    listed = "".join(f"<entry><key>{key}</key><value>{value}</value></entry>" for key, value in attributes.items())
    monkeypatch.setattr(stub, "GetTopicAttributes", lambda given: f"<Attributes>{listed}</Attributes>", raising=False)
    async with server, AwsTransport(region=sqs_stub.REGION, endpoint_url=stub.url) as aws:
        topic = aws.topic("large")
        stub.CreateTopic({"Name": "large"})
        await topic.send(Message("small"))
        assert stub.calls["GetTopicAttributes"] == 0
        await topic.send(Message("x" * 500 * KIB), Message("x" * 200 * KIB), Message("y" * 500 * KIB))
        assert topic.limits.message_bytes == 600 * KIB
        assert stub.calls["PublishBatch"] == 4  # no call is above the limit
        for _ in range(2):
            with pytest.raises(MessageTooLarge):
                await topic.send(Message("x" * 600 * KIB))
        assert (stub.calls["GetTopicAttributes"], stub.calls["PublishBatch"]) == (1, 4)


async def test_a_fifo_topic_keeps_order_and_drops_what_a_lost_answer_made_it_send_twice(aws, proxy):
    topic = await made(aws, ("s", {}), suffix=".fifo")
    with pytest.raises(InvalidMessage, match="group_id"):
        await topic.send(Message("x"))
    proxy.once("dropped_after", "PublishBatch")
    proxy.once("truncated", "PublishBatch")
    proxy.once("throttled", "PublishBatch")
    await topic.send(*(Message(number, group_id="g") for number in range(12)))
    got = await received(topic.subscription("s"), 12)
    assert [each.body for each in got] == list(range(12))
    assert proxy.calls["PublishBatch"] == 5


async def test_a_fifo_topic_feeds_standard_queues_too(aws):
    name = f"t{uuid4().hex[:12]}"
    standard = QueueSpec(f"{name}-standard")
    await Topology(TopicSpec(f"{name}.fifo"), SubscriptionSpec(f"{name}.fifo", "s", queue=standard)).apply(aws)
    await aws.topic(f"{name}.fifo").send(*(Message(number, group_id="g") for number in range(3)))
    got = await received(aws.queue(standard.name), 3)
    assert sorted(each.body for each in got) == [0, 1, 2]
