"""Topology: planned before it is made, made once, never deleted unless told; in memory and on moto."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from eip import Message
from eip.errors import ConfigurationError
from eip.matching import FilterPolicy
from eip.topology import QueueSpec, SubscriptionSpec, TopicSpec, Topology
from eip.transports.aws import AwsTransport
from eip.transports.memory import MemoryTransport


@pytest.fixture(params=["memory", pytest.param("aws", marks=pytest.mark.aws)])
async def transport(request):
    if request.param == "memory":
        async with MemoryTransport() as transport:
            yield transport
    else:
        moto = request.getfixturevalue("moto_server")
        async with AwsTransport(
            region=moto.region, session=moto.session, endpoint_url=moto.url, long_poll=1.0
        ) as transport:
            yield transport


@pytest.fixture
def name():
    return f"t{uuid4().hex[:10]}"


def said(plan, action) -> list[str]:
    return [step.name for step in plan[action]]


async def test_a_plan_changes_nothing_and_applying_twice_finds_all_the_same(transport, name):
    topology = Topology(QueueSpec(f"{name}-q"), TopicSpec(f"{name}-t"), SubscriptionSpec(f"{name}-t", "s"))
    expected = [f"{name}-q-dead", f"{name}-t-s-undelivered", f"{name}-t-s-dead", f"{name}-q", f"{name}-t-s"]
    for _ in range(2):
        plan = await topology.plan(transport)
        assert sorted(said(plan, "create")) == sorted([*expected, f"{name}-t", f"{name}-t > s"])
        assert not plan.in_force
    made = await topology.apply(transport)
    assert said(made, "create") == said(plan, "create")
    again = await topology.apply(transport)
    assert {step.action for step in again.steps} == {"same"}
    assert again.in_force
    assert str(again).count("\n") == len(again.steps) - 1


async def test_a_subscription_delivers_to_the_queue_that_it_names(transport, name):
    await Topology(TopicSpec(name), SubscriptionSpec(name, "s", queue=QueueSpec(f"{name}-mine"))).apply(transport)
    await transport.topic(name).send(Message(1))
    async with transport.queue(f"{name}-mine").receiver() as receiver:
        (found,) = await receiver.receive(10, wait=5)
        await found.ack()
    assert found.message.body == 1


async def test_what_is_published_arrives_filtered(transport, name):
    topology = Topology(TopicSpec(name), SubscriptionSpec(name, "some", filter=FilterPolicy({"kind": ["a"]})))
    await topology.apply(transport)
    topic = transport.topic(name)
    await topic.send(Message(1, attributes={"kind": "b"}), Message(2, attributes={"kind": "a"}))
    async with topic.subscription("some").receiver() as receiver:
        (found,) = await receiver.receive(10, wait=5)
        assert found.message.body == 2
        await found.ack()


async def test_what_differs_is_changed_and_said(transport, name):
    await Topology(QueueSpec(name)).apply(transport)
    changed = Topology(QueueSpec(name, visibility=90, max_receive_count=9))
    plan = await changed.plan(transport)
    (step,) = plan["change"]
    assert step.name == name
    assert "isibility" in step.detail
    await changed.apply(transport)
    assert (await changed.plan(transport)).in_force
    async with transport.queue(name).receiver() as receiver:
        assert receiver.max_receive_count == 9


EVERY_CHANGE: dict[str, tuple[Any, Any]] = {
    "visibility": (QueueSpec("q"), QueueSpec("q", visibility=77)),
    "max_receive_count": (QueueSpec("q"), QueueSpec("q", max_receive_count=2)),
    "dead letters, none": (QueueSpec("q"), QueueSpec("q", dead_letters=False)),
    "dead letters, others": (QueueSpec("q"), QueueSpec("q", dead_letters="other")),
    "deduplication of a queue": (QueueSpec("q.fifo"), QueueSpec("q.fifo", content_based_deduplication=True)),
    "deduplication of a topic": (TopicSpec("t.fifo"), TopicSpec("t.fifo", content_based_deduplication=True)),
    "filter, added": (SubscriptionSpec("t", "s"), SubscriptionSpec("t", "s", filter=FilterPolicy({"kind": ["a"]}))),
    "filter, removed": (SubscriptionSpec("t", "s", filter=FilterPolicy({"kind": ["a"]})), SubscriptionSpec("t", "s")),
    "filter, scope": (
        SubscriptionSpec("t", "s", filter=FilterPolicy({"kind": ["a"]})),
        SubscriptionSpec("t", "s", filter=FilterPolicy({"kind": ["a"]}, scope="MessageBody")),
    ),
    "undelivered, none": (SubscriptionSpec("t", "s"), SubscriptionSpec("t", "s", dead_letters=False)),
    "undelivered": (SubscriptionSpec("t", "s", dead_letters=False), SubscriptionSpec("t", "s")),
}
ONLY_ON_AWS: dict[str, tuple[Any, Any]] = {
    "retention": (QueueSpec("q"), QueueSpec("q", retention=timedelta(days=1))),
    "raw": (SubscriptionSpec("t", "s"), SubscriptionSpec("t", "s", raw=False)),
}


def named(resource, name: str) -> Any:
    """The resource under names that no other test has."""
    new = {"name": f"{name}-{resource.name}"}
    if isinstance(resource, SubscriptionSpec):
        new = {"topic": f"{name}-{resource.topic}"}
    elif isinstance(resource, QueueSpec) and isinstance(resource.dead_letters, str):
        new["dead_letters"] = f"{name}-{resource.dead_letters}"
    return replace(resource, **new)


@pytest.mark.parametrize("what", EVERY_CHANGE | ONLY_ON_AWS)
async def test_whatever_changes_is_planned_and_said_and_changed_once(what, transport, name):
    if what in ONLY_ON_AWS and isinstance(transport, MemoryTransport):
        pytest.skip(f"{what} means nothing in memory")
    before, after = (named(each, name) for each in (EVERY_CHANGE | ONLY_ON_AWS)[what])
    beside: list[Any] = [QueueSpec(f"{name}-other"), TopicSpec(f"{name}-t")]
    await Topology(*beside, before).apply(transport)
    assert (await Topology(*beside, before).plan(transport)).in_force
    changed = Topology(*beside, after)
    (planned,) = (await changed.plan(transport))["change"]
    assert " -> " in planned.detail, "with its old and its new value"
    (done,) = (await changed.apply(transport))["change"]
    assert done == planned
    assert (await changed.apply(transport)).in_force
    (back,) = (await Topology(*beside, before).apply(transport))["change"]
    assert back.name == planned.name
    assert (await Topology(*beside, before).plan(transport)).in_force


async def test_what_is_not_declared_is_drift_and_deleted_only_when_told(transport, name):
    await Topology(TopicSpec(name), SubscriptionSpec(name, "old"), SubscriptionSpec(name, "kept")).apply(transport)
    topology = Topology(TopicSpec(name), SubscriptionSpec(name, "kept"))
    assert len((await topology.apply(transport))["drift"]) == 1
    assert len((await topology.apply(transport, delete=True))["delete"]) == 1
    assert not (await topology.plan(transport))["drift"]


async def test_queues_and_topics_are_never_deleted(transport, name):
    await Topology(QueueSpec(f"{name}-old"), TopicSpec(f"{name}-t")).apply(transport)
    await transport.queue(f"{name}-old").send(Message("kept"))
    await Topology(QueueSpec(f"{name}-new")).apply(transport, delete=True)
    async with transport.queue(f"{name}-old").receiver() as receiver:
        assert len(await receiver.receive(1, wait=5)) == 1
    await transport.topic(f"{name}-t").send(Message("x"))


async def test_content_based_deduplication_drops_the_same_body_only_where_declared(transport, name):
    topology = Topology(
        QueueSpec(f"{name}-by-id.fifo"),
        QueueSpec(f"{name}-by-body.fifo", content_based_deduplication=True),
        TopicSpec(f"{name}-t.fifo", content_based_deduplication=True),
        # SNS hands its queues the digest as their id; moto does not, so that this queue has to do it again.
        SubscriptionSpec(f"{name}-t.fifo", "s", queue=QueueSpec(f"{name}-t-s.fifo", content_based_deduplication=True)),
    )
    await topology.apply(transport)
    topic = transport.topic(f"{name}-t.fifo")
    by_id, by_body = transport.queue(f"{name}-by-id.fifo"), transport.queue(f"{name}-by-body.fifo")
    for channel, source, expected in (
        (by_id, by_id, ["a", "a", "a"]),
        (by_body, by_body, ["a", "a"]),
        (topic, topic.subscription("s"), ["a", "a"]),
    ):
        await channel.send(Message("a", group_id="g"))
        await channel.send(Message("a", group_id="g"))
        await channel.send(Message("a", group_id="g", deduplication_id="another"))
        async with source.receiver() as receiver:
            found = await receiver.receive(10, wait=5)
            assert [each.message.body for each in found] == expected


async def test_fifo_has_fifo_dead_letter_queues(transport, name):
    topology = Topology(TopicSpec(f"{name}.fifo"), SubscriptionSpec(f"{name}.fifo", "s"))
    await topology.apply(transport)
    queues = {each.name for each in topology.resources if isinstance(each, QueueSpec)}
    assert queues == {f"{name}-s.fifo", f"{name}-s-dead.fifo", f"{name}-s-undelivered.fifo"}
    topic = transport.topic(f"{name}.fifo")
    await topic.send(*(Message(number, group_id="g") for number in range(3)))
    async with topic.subscription("s").receiver() as receiver:
        assert [each.message.body for each in await receiver.receive(10, wait=5)] == [0, 1, 2]


@pytest.mark.aws
async def test_only_that_topic_may_send_and_what_the_policy_says_else_stays(moto_server, name):
    async with AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=moto_server.url
    ) as aws:
        await Topology(QueueSpec(f"{name}-one-s")).apply(aws)
        sqs = moto_server.client("sqs")
        url = sqs.get_queue_url(QueueName=f"{name}-one-s")["QueueUrl"]
        foreign = {"Sid": "mine", "Effect": "Allow", "Principal": "*", "Action": "sqs:GetQueueUrl", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [foreign]})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        queue = QueueSpec(f"{name}-one-s")
        for _ in range(2):
            await Topology(TopicSpec(f"{name}-one"), SubscriptionSpec(f"{name}-one", "s", queue=queue)).apply(aws)
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        statements = json.loads(found["Policy"])["Statement"]
        assert [each["Sid"] for each in statements] == ["mine", f"eip-{name}-one"]
        assert statements[1]["Condition"] == {"ArnEquals": {"aws:SourceArn": aws.topic(f"{name}-one").address}}
        assert statements[1]["Principal"] == {"Service": "sns.amazonaws.com"}
        dead = json.loads(found["RedrivePolicy"])
        assert dead["deadLetterTargetArn"].endswith(f"{name}-one-s-dead")
        assert int(dead["maxReceiveCount"]) == 5
        kept = await aws.queue(f"{name}-one-s-dead").attributes()
        assert kept["MessageRetentionPeriod"] == str(14 * 24 * 3600)


@pytest.mark.aws
async def test_a_filter_that_changed_by_hand_is_put_right(moto_server, name):
    async with AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=moto_server.url
    ) as aws:
        topology = Topology(TopicSpec(name), SubscriptionSpec(name, "s", filter=FilterPolicy({"kind": ["a", "b"]})))
        await topology.apply(aws)
        sns = moto_server.client("sns")
        (there,) = sns.list_subscriptions_by_topic(TopicArn=aws.topic(name).address)["Subscriptions"]
        arn = there["SubscriptionArn"]
        sns.set_subscription_attributes(
            SubscriptionArn=arn, AttributeName="FilterPolicy", AttributeValue='{"kind": ["c"]}'
        )
        sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName="RawMessageDelivery", AttributeValue="false")
        (step,) = (await topology.apply(aws))["change"]
        assert "FilterPolicy" in step.detail
        found = sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
        assert json.loads(found["FilterPolicy"]) == {"kind": ["a", "b"]}
        assert found["RawMessageDelivery"] == "true"
        assert (await topology.plan(aws)).in_force


@pytest.mark.parametrize(
    ("resources", "complaint"),
    [
        ((QueueSpec("q"), QueueSpec("q")), "twice"),
        ((TopicSpec("t"), TopicSpec("t")), "twice"),
        ((SubscriptionSpec("t", "s"),), "topic 't' is not declared"),
        ((QueueSpec("q", dead_letters="other"),), "not declared"),
        (
            (TopicSpec("t"), SubscriptionSpec("t", "s", queue=QueueSpec("x")), QueueSpec("x", visibility=5)),
            "with different options",
        ),
        ((TopicSpec("t"), SubscriptionSpec("t", "s", queue=QueueSpec("x.fifo"))), "standard"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(resources, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        Topology(*resources)


@pytest.mark.parametrize(
    "options",
    [
        {"visibility": 0},
        {"retention": timedelta()},
        {"max_receive_count": 0},
        {"dead_letters": "dead.fifo"},
        {"content_based_deduplication": True},
    ],
)
def test_a_queue_no_service_would_take_is_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        QueueSpec("q", **options)


@pytest.mark.parametrize(
    "options", [{"visibility": 50_000}, {"retention": timedelta(days=15)}, {"max_receive_count": 1001}]
)
@pytest.mark.aws
async def test_what_sqs_alone_restricts_is_refused_when_it_is_planned_there(options, moto_server):
    topology = Topology(QueueSpec("q", **options))
    async with MemoryTransport() as memory:
        assert (await topology.plan(memory))["create"]
    async with AwsTransport(region=moto_server.region, endpoint_url=moto_server.url) as aws:
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            await topology.plan(aws)


async def test_a_transport_that_makes_no_channels_says_so():
    with pytest.raises(ConfigurationError, match="cannot make channels"):
        await Topology(QueueSpec("q")).plan(object())  # type: ignore[arg-type]
