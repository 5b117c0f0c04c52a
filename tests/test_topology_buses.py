"""Buses, rules, targets and archives in a topology; in memory and on moto."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from eip import Message
from eip.errors import ConfigurationError, InvalidPattern, UnsupportedChannel
from eip.matching import EventPattern, FilterPolicy
from eip.topology import (
    ArchiveSpec,
    BusSpec,
    QueueSpec,
    RuleSpec,
    StreamSpec,
    SubscriptionSpec,
    TargetSpec,
    TopicSpec,
    Topology,
)
from eip.transports.activemq import ActiveMQTransport
from eip.transports.aws import AwsTransport
from tests.test_topology import name, said, transport

__all__ = ["name", "transport"]

SOLD = EventPattern({"detail-type": ["Sold"]})
NO_FILTER: Any = {"source": ["shop"]}


def sold(number, **envelope):
    return Message({"n": number}, type="Sold", source="shop", **envelope)


async def taken(source, count):
    async with source.receiver() as receiver:
        found: list[Message] = []
        while len(found) < count:
            deliveries = await receiver.receive(10, wait=5)
            assert deliveries, f"{len(found)} of {count} came"
            for each in deliveries:
                await each.ack()
                found.append(each.message)
        return found


async def nothing_comes(source):
    async with source.receiver() as receiver:
        assert not await receiver.receive(1, wait=0.2)


async def test_a_plan_changes_nothing_and_applying_twice_finds_all_the_same(transport, name):
    topology = Topology(
        BusSpec(name),
        BusSpec(f"{name}-audit"),
        TopicSpec(f"{name}-t"),
        QueueSpec(f"{name}-q"),
        RuleSpec(name, "own", SOLD),
        RuleSpec(
            name,
            "many",
            SOLD,
            (
                TargetSpec(queue=f"{name}-q", input_path="$.detail", max_attempts=3, max_age=timedelta(hours=1)),
                TargetSpec(topic=f"{name}-t"),
                TargetSpec(bus=f"{name}-audit"),
            ),
        ),
        ArchiveSpec(f"{name}-a", name, SOLD, timedelta(days=30)),
    )
    for _ in range(2):
        plan = await topology.plan(transport)
        assert {f"{name} > own", f"{name} > many", f"{name}-a", name} <= set(said(plan, "create"))
        assert not plan.in_force
        assert not plan["same"]
    made = await topology.apply(transport)
    assert said(made, "create") == said(plan, "create")
    again = await topology.apply(transport)
    assert {step.action for step in again.steps} == {"same"}, str(again)
    changed = Topology(
        BusSpec(name),
        QueueSpec(f"{name}-q"),
        RuleSpec(name, "own", EventPattern({"detail-type": ["Lost"]}), enabled=False),
        RuleSpec(name, "many", SOLD, (TargetSpec(queue=f"{name}-q", max_attempts=4),)),
        ArchiveSpec(f"{name}-a", name, SOLD, timedelta(days=31), "what was sold"),
    )
    plan = await changed.apply(transport)
    detail = next(step.detail for step in plan.steps if step.kind == "archive")
    assert detail == "retention: 30 days, 0:00:00 -> 31 days, 0:00:00, description: none -> what was sold"
    assert said(plan, "change") == [f"{name} > own", f"{name} > many > queue-{name}-q", f"{name}-a"]
    assert all(" -> " in each.detail for each in plan["change"]), str(plan)
    targets = [f"{name} > many > topic-{name}-t", f"{name} > many > bus-{name}-audit"]
    assert [each.name for each in plan["drift"] if each.kind == "target"] == targets
    roles = 1 if isinstance(transport, AwsTransport) else 0  # of the rule, for the bus alone
    plan = await changed.plan(transport)
    assert plan.in_force
    assert len(plan["drift"]) == 2 + roles, "nothing is deleted untold"
    assert len((await changed.apply(transport, delete=True))["delete"]) == 2 + roles
    fewer = Topology(BusSpec(name), ArchiveSpec(f"{name}-a", name, SOLD, timedelta(days=31), "what was sold"))
    assert said(await fewer.apply(transport), "drift") == [f"{name} > own", f"{name} > many"]
    assert len((await fewer.apply(transport, delete=True))["delete"]) == 2
    assert not (await fewer.plan(transport))["drift"], "the archive's managed rule is nobody's drift"


async def test_a_bus_feeds_queues_topics_and_other_buses(transport, name):
    audit = f"{name}-audit"
    topology = Topology(
        BusSpec(name),
        BusSpec(audit),
        QueueSpec(f"{name}-q"),
        RuleSpec(name, "out", SOLD, (TargetSpec(queue=f"{name}-q"), TargetSpec(bus=audit))),
        RuleSpec(audit, "all"),
    )
    await topology.apply(transport)
    await transport.bus(name).send(sold(1, attributes={"kind": "a"}), Message({}, type="Lost", source="shop"))
    for source in (transport.queue(f"{name}-q"), transport.bus(audit).subscription("all")):
        (message,) = await taken(source, 1)
        assert (message.body, message.type, message.source) == ({"n": 1}, "Sold", "shop")
        assert dict(message.attributes) == {"kind": "a"}
        assert message.replay_name is None
        await nothing_comes(source)


@pytest.mark.parametrize("resource", [RuleSpec("b", "r"), ArchiveSpec("a", "b")])
async def test_a_broker_without_buses_says_so(resource):
    with pytest.raises(UnsupportedChannel, match="it has: queue, topic"):
        await Topology(BusSpec("b"), resource).plan(ActiveMQTransport("stomp://127.0.0.1:1"))


async def test_a_fifo_queue_gets_events_in_one_group(transport, name):
    queue = QueueSpec(f"{name}.fifo", content_based_deduplication=True)
    rule = RuleSpec(name, "in-order", SOLD, (TargetSpec(queue=queue.name, group_id="sold"),))
    for _ in range(2):
        await Topology(BusSpec(name), queue, rule).apply(transport)
    for number in range(3):
        await transport.bus(name).send(sold(number, group_id="sender's"))
    found = await taken(transport.queue(queue.name), 3)
    assert [(each.body["n"], each.group_id) for each in found] == [(0, "sold"), (1, "sold"), (2, "sold")]


async def test_a_filter_policy_and_a_predicate_narrow_a_rules_own_queue(transport, name):
    few = FilterPolicy({"n": [{"numeric": ["<", 2]}]}, scope="MessageBody")
    kind = FilterPolicy({"kind": ["a"]})
    await Topology(BusSpec(name), RuleSpec(name, "few", few), RuleSpec(name, "kind", kind)).apply(transport)
    bus = transport.bus(name)
    await bus.send(sold(1, attributes={"kind": "b"}), sold(2, attributes={"kind": "a"}))
    assert [each.body["n"] for each in await taken(bus.subscription("few", pattern=few), 1)] == [1]
    assert [each.body["n"] for each in await taken(bus.subscription("kind", pattern=kind), 1)] == [2]
    await nothing_comes(bus.subscription("few"))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (TargetSpec, "exactly one"),
        (lambda: TargetSpec(queue="q", topic="t"), "exactly one"),
        (lambda: TargetSpec(queue="q.fifo"), "group_id"),
        (lambda: TargetSpec(queue="q", group_id="g" * 101), "1 to 100"),
        (lambda: TargetSpec(topic="t", group_id="g"), "group_id is for targets queue="),
        (lambda: TargetSpec(topic="t.fifo"), "FIFO"),
        (lambda: TargetSpec(queue="q", dead_letters="d.fifo"), "FIFO"),
        (
            lambda: Topology(
                BusSpec("b"), QueueSpec("q.fifo"), RuleSpec("b", "r", None, (TargetSpec(queue="q.fifo", group_id="g"),))
            ),
            "content_based_deduplication=True",
        ),
        (lambda: TargetSpec(queue="q", max_attempts=186), "185"),
        (lambda: TargetSpec(queue="q", max_age=timedelta(days=2)), "day"),
        (lambda: TargetSpec(stream="s", role="r"), "role must be the ARN"),
        (lambda: TargetSpec(queue="q", partition_key="$.id"), "partition_key is for targets stream="),
        (lambda: TargetSpec(function="f", headers={"A": "b"}), "headers is for targets api_destination="),
        (lambda: TargetSpec(queue="q", input_paths={"a": "$.id"}), "template"),
        (lambda: TargetSpec(bus="b", input="{}"), "as they are"),
        (lambda: TargetSpec(queue="q", input='"' + "x" * 8191 + '"'), "8,192"),
        (lambda: RuleSpec("b", "r", None, tuple(TargetSpec(queue=f"q{n}") for n in range(6))), r"TargetSpec\(topic="),
        (lambda: RuleSpec("b", "r", None, (TargetSpec(queue="q"), TargetSpec(queue="q"))), "same id"),
        (lambda: RuleSpec("b", "r", None, (TargetSpec(queue="q"),), queue=QueueSpec("q")), "one of targets"),
        (lambda: RuleSpec("b", "r", lambda _: True, (TargetSpec(queue="q"),)), "cannot evaluate"),
        (lambda: RuleSpec("b", "r", FilterPolicy({"kind": ["a"]}), (TargetSpec(queue="q"),)), "cannot evaluate"),
        (lambda: RuleSpec("b", "r", queue=QueueSpec("q.fifo")), "standard"),
        (lambda: RuleSpec("b", "no good"), "name of a rule"),
        (lambda: RuleSpec("b", "r", NO_FILTER), "an EventPattern"),
        (lambda: ArchiveSpec("a", pattern=NO_FILTER), "an EventPattern"),
        (lambda: RuleSpec("b", "r", EventPattern({"detail": {"n": ["x" * 2048]}})), "2,048"),
        (lambda: BusSpec("no good"), "name of a bus"),
        (lambda: ArchiveSpec("x" * 49), "48"),
        (lambda: ArchiveSpec("a", retention=timedelta(hours=1)), "whole days"),
        (lambda: ArchiveSpec("a", description="x" * 513), "description must be one line of at most 512"),
        (lambda: Topology(RuleSpec("b", "r")), "bus 'b' is not declared"),
        (lambda: Topology(ArchiveSpec("a", "b")), "bus 'b' is not declared"),
        (
            lambda: Topology(BusSpec("b"), RuleSpec("b", "r", None, (TargetSpec(queue="q"),))),
            "queue 'q' is not declared",
        ),
        (
            lambda: Topology(BusSpec("b"), RuleSpec("b", "r", None, (TargetSpec(topic="t"),))),
            "topic 't' is not declared",
        ),
        (
            lambda: Topology(BusSpec("b"), RuleSpec("b", "r", None, (TargetSpec(stream="s"),))),
            "stream 's' is not declared",
        ),
        (lambda: Topology(BusSpec("b"), RuleSpec("b", "r", None, (TargetSpec(bus="b"),))), "endless loop"),
        (lambda: Topology(BusSpec("b"), RuleSpec("b", "r"), RuleSpec("b", "r")), "twice"),
        (lambda: Topology(BusSpec("b"), RuleSpec("b", "r"), QueueSpec("b-r", visibility=5)), "with different options"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(make, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        make()


@pytest.mark.parametrize(
    "options",
    [
        {"input": "{}", "input_path": "$.detail"},
        {"template": "<unknown>"},
        {"input": "{"},
        {"input_path": "detail"},
        {"template": '"<a>"', "input_paths": {"aws.a": "$.id"}},
    ],
)
def test_an_input_that_the_service_would_refuse_is_refused(options):
    with pytest.raises(InvalidPattern):
        TargetSpec(queue="q", **options)


def test_a_pattern_that_the_service_would_refuse_makes_no_rule():
    with pytest.raises(InvalidPattern, match="Empty arrays"):
        RuleSpec("b", "r", EventPattern({"source": []}))


@pytest.mark.aws
async def test_queues_and_topics_let_exactly_that_rule_send(moto_server, name):
    async with AwsTransport(region=moto_server.region, endpoint_url=moto_server.url) as aws:
        topology = Topology(
            BusSpec(name),
            TopicSpec(f"{name}-t"),
            RuleSpec(name, "own"),
            RuleSpec(name, "more", None, (TargetSpec(topic=f"{name}-t"), TargetSpec(queue=f"{name}-own"))),
        )
        for _ in range(2):
            await topology.apply(aws)
        own, more = aws._arns.rule(name, "own"), aws._arns.rule(name, "more")
        policies = {}
        for queue in (f"{name}-own", f"{name}-own-undelivered", f"{name}-more-undelivered"):
            url = await aws.queue(queue).url()
            found = moto_server.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])
            policies[queue] = json.loads(found["Attributes"]["Policy"])["Statement"]
        topic = moto_server.client("sns").get_topic_attributes(TopicArn=aws.topic(f"{name}-t").address)
        policies["topic"] = json.loads(topic["Attributes"]["Policy"])["Statement"]
        allowed = {
            receiver: {
                each["Condition"]["ArnEquals"]["aws:SourceArn"]
                for each in statements
                if each["Principal"] == {"Service": "events.amazonaws.com"}
            }
            for receiver, statements in policies.items()
        }
        assert allowed == {
            f"{name}-own": {own, more},
            f"{name}-own-undelivered": {own},
            f"{name}-more-undelivered": {more},
            "topic": {more},
        }
        assert own == moto_server.client("events").describe_rule(Name="own", EventBusName=name)["Arn"]
        assert len(policies["topic"]) == 2, "the topic's own statement stays"


@pytest.mark.aws
async def test_a_rule_and_its_targets_are_what_was_declared(moto_server, name):
    async with AwsTransport(region=moto_server.region, endpoint_url=moto_server.url) as aws:
        target = TargetSpec(
            queue=f"{name}-q",
            template='{"id": "<id>"}',
            input_paths={"id": "$.id"},
            max_attempts=2,
            max_age=timedelta(minutes=5),
            dead_letters=f"{name}-dead",
            id="one",
        )
        stream = TargetSpec(stream=f"{name}-s", role="arn:aws:iam::123456789012:role/r", partition_key="$.detail.id")
        declared = (QueueSpec(f"{name}-q"), StreamSpec(f"{name}-s"))
        topology = Topology(BusSpec(name), *declared, RuleSpec(name, "r", SOLD, (target, stream)))
        await topology.apply(aws)
        events = moto_server.client("events")
        one, two = events.list_targets_by_rule(Rule="r", EventBusName=name)["Targets"]
        assert one == {
            "Id": "one",
            "Arn": aws.queue(f"{name}-q").address,
            "RetryPolicy": {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 300},
            "DeadLetterConfig": {"Arn": aws.queue(f"{name}-dead").address},
            "InputTransformer": {"InputPathsMap": {"id": "$.id"}, "InputTemplate": '{"id": "<id>"}'},
        }
        assert two["Arn"].endswith(f":stream/{name}-s")
        assert two["KinesisParameters"] == {"PartitionKeyPath": "$.detail.id"}
        assert two["RoleArn"] == "arn:aws:iam::123456789012:role/r"
        events.put_targets(Rule="r", EventBusName=name, Targets=[{"Id": "one", "Arn": one["Arn"]}])
        (step,) = (await topology.apply(aws))["change"]
        changed = ["DeadLetterConfig: none -> ", "InputTransformer: none -> ", "RetryPolicy: none -> "]
        assert all(each in step.detail for each in changed), step.detail
        assert (await topology.plan(aws)).in_force


async def test_more_than_five_receivers_are_reached_through_a_topic(transport, name):
    names = [f"s{number}" for number in range(7)]
    subscriptions = [SubscriptionSpec(f"{name}-t", each) for each in names]
    topology = Topology(
        BusSpec(name),
        TopicSpec(f"{name}-t"),
        *subscriptions,
        RuleSpec(name, "fan-out", SOLD, (TargetSpec(topic=f"{name}-t"),)),
    )
    await topology.apply(transport)
    topic = transport.topic(f"{name}-t")
    if isinstance(transport, AwsTransport):  # moto's rules do not deliver to topics: the event as SNS would send it
        event = {"id": "e", "source": "shop", "detail-type": "Sold", "detail": {"n": 1}}
        transport_sns = await transport.client("sns")
        await transport_sns.publish(TopicArn=topic.address, Message=json.dumps(event))
    else:
        await transport.bus(name).send(sold(1))
    for each in names:
        (message,) = await taken(topic.subscription(each), 1)
        assert (message.body, message.type) == ({"n": 1}, "Sold")
