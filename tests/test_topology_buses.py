"""Buses, rules, targets and archives in a topology; in memory and on moto."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from eip import Message
from eip.errors import ConfigurationError, InvalidPattern, UnsupportedChannel
from eip.matching import EventPattern, FilterPolicy
from eip.topology import Archive, Bus, Queue, Rule, Stream, Subscription, Target, Topic, Topology
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
        Bus(name),
        Bus(f"{name}-audit"),
        Topic(f"{name}-t"),
        Queue(f"{name}-q"),
        Rule(name, "own", SOLD),
        Rule(
            name,
            "many",
            SOLD,
            (
                Target(queue=f"{name}-q", input_path="$.detail", max_attempts=3, max_age=timedelta(hours=1)),
                Target(topic=f"{name}-t"),
                Target(bus=f"{name}-audit"),
            ),
        ),
        Archive(f"{name}-a", name, SOLD, timedelta(days=30)),
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
        Bus(name),
        Queue(f"{name}-q"),
        Rule(name, "own", EventPattern({"detail-type": ["Lost"]}), enabled=False),
        Rule(name, "many", SOLD, (Target(queue=f"{name}-q", max_attempts=4),)),
        Archive(f"{name}-a", name, SOLD, timedelta(days=31)),
    )
    plan = await changed.apply(transport)
    assert said(plan, "change") == [f"{name} > own", f"{name} > many > queue-{name}-q", f"{name}-a"]
    assert said(plan, "drift") == [f"{name} > many > topic-{name}-t", f"{name} > many > bus-{name}-audit"]
    plan = await changed.plan(transport)
    assert plan.in_force
    assert len(plan["drift"]) == 2, "nothing is deleted untold"
    assert len((await changed.apply(transport, delete=True))["delete"]) == 2
    fewer = Topology(Bus(name), Archive(f"{name}-a", name, SOLD, timedelta(days=31)))
    assert said(await fewer.apply(transport), "drift") == [f"{name} > own", f"{name} > many"]
    assert len((await fewer.apply(transport, delete=True))["delete"]) == 2
    assert not (await fewer.plan(transport))["drift"], "the archive's managed rule is nobody's drift"


async def test_a_bus_feeds_queues_topics_and_other_buses(transport, name):
    audit = f"{name}-audit"
    topology = Topology(
        Bus(name),
        Bus(audit),
        Queue(f"{name}-q"),
        Rule(name, "out", SOLD, (Target(queue=f"{name}-q"), Target(bus=audit))),
        Rule(audit, "all"),
    )
    await topology.apply(transport)
    await transport.bus(name).send(sold(1, attributes={"kind": "a"}), Message({}, type="Lost", source="shop"))
    for source in (transport.queue(f"{name}-q"), transport.bus(audit).subscription("all")):
        (message,) = await taken(source, 1)
        assert (message.body, message.type, message.source) == ({"n": 1}, "Sold", "shop")
        assert dict(message.attributes) == {"kind": "a"}
        assert message.replay_name is None
        await nothing_comes(source)


@pytest.mark.parametrize("resource", [Rule("b", "r"), Archive("a", "b")])
async def test_a_broker_without_buses_says_so(resource):
    with pytest.raises(UnsupportedChannel, match="it has: queue, topic"):
        await Topology(Bus("b"), resource).plan(ActiveMQTransport("stomp://127.0.0.1:1"))


async def test_a_fifo_queue_gets_events_in_one_group(transport, name):
    queue = Queue(f"{name}.fifo", content_based_deduplication=True)
    rule = Rule(name, "in-order", SOLD, (Target(queue=queue.name, group_id="sold"),))
    for _ in range(2):
        await Topology(Bus(name), queue, rule).apply(transport)
    for number in range(3):
        await transport.bus(name).send(sold(number, group_id="sender's"))
    found = await taken(transport.queue(queue.name), 3)
    assert [(each.body["n"], each.group_id) for each in found] == [(0, "sold"), (1, "sold"), (2, "sold")]


async def test_a_filter_policy_and_a_predicate_narrow_a_rules_own_queue(transport, name):
    few = FilterPolicy({"n": [{"numeric": ["<", 2]}]}, scope="MessageBody")
    kind = FilterPolicy({"kind": ["a"]})
    await Topology(Bus(name), Rule(name, "few", few), Rule(name, "kind", kind)).apply(transport)
    bus = transport.bus(name)
    await bus.send(sold(1, attributes={"kind": "b"}), sold(2, attributes={"kind": "a"}))
    assert [each.body["n"] for each in await taken(bus.subscription("few", pattern=few), 1)] == [1]
    assert [each.body["n"] for each in await taken(bus.subscription("kind", pattern=kind), 1)] == [2]
    await nothing_comes(bus.subscription("few"))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (Target, "exactly one"),
        (lambda: Target(queue="q", topic="t"), "exactly one"),
        (lambda: Target(queue="q.fifo"), "group_id"),
        (lambda: Target(queue="q", group_id="g"), "group_id"),
        (lambda: Target(topic="t.fifo"), "FIFO"),
        (lambda: Target(queue="q", dead_letters="d.fifo"), "FIFO"),
        (
            lambda: Topology(Bus("b"), Queue("q.fifo"), Rule("b", "r", None, (Target(queue="q.fifo", group_id="g"),))),
            "content_based_deduplication=True",
        ),
        (lambda: Target(queue="q", max_attempts=186), "185"),
        (lambda: Target(queue="q", max_age=timedelta(days=2)), "day"),
        (lambda: Target(stream="s"), "role"),
        (lambda: Target(queue="q", role="arn:aws:iam::1:role/r"), "by policy"),
        (lambda: Target(queue="q", partition_key="$.id"), "streams"),
        (lambda: Target(queue="q", input_paths={"a": "$.id"}), "template"),
        (lambda: Target(bus="b", input="{}"), "as they are"),
        (lambda: Target(queue="q", input='"' + "x" * 8191 + '"'), "8,192"),
        (lambda: Rule("b", "r", None, tuple(Target(queue=f"q{n}") for n in range(6))), r"Target\(topic="),
        (lambda: Rule("b", "r", None, (Target(queue="q"), Target(queue="q"))), "same id"),
        (lambda: Rule("b", "r", None, (Target(queue="q"),), queue=Queue("q")), "one of its targets"),
        (lambda: Rule("b", "r", lambda _: True, (Target(queue="q"),)), "cannot evaluate"),
        (lambda: Rule("b", "r", FilterPolicy({"kind": ["a"]}), (Target(queue="q"),)), "cannot evaluate"),
        (lambda: Rule("b", "r", queue=Queue("q.fifo")), "standard"),
        (lambda: Rule("b", "no good"), "name of a rule"),
        (lambda: Rule("b", "r", NO_FILTER), "an EventPattern"),
        (lambda: Archive("a", pattern=NO_FILTER), "an EventPattern"),
        (lambda: Rule("b", "r", EventPattern({"detail": {"n": ["x" * 2048]}})), "2048"),
        (lambda: Bus("no good"), "name of a bus"),
        (lambda: Archive("x" * 49), "48"),
        (lambda: Archive("a", retention=timedelta(hours=1)), "whole days"),
        (lambda: Topology(Rule("b", "r")), "no bus b"),
        (lambda: Topology(Archive("a", "b")), "no bus b"),
        (lambda: Topology(Bus("b"), Rule("b", "r", None, (Target(queue="q"),))), "no queue q"),
        (lambda: Topology(Bus("b"), Rule("b", "r", None, (Target(topic="t"),))), "no topic t"),
        (lambda: Topology(Bus("b"), Rule("b", "r", None, (Target(stream="s", role="r"),))), "no stream s"),
        (lambda: Topology(Bus("b"), Rule("b", "r", None, (Target(bus="b"),))), "circle"),
        (lambda: Topology(Bus("b"), Rule("b", "r"), Rule("b", "r")), "twice"),
        (lambda: Topology(Bus("b"), Rule("b", "r"), Queue("b-r", visibility=5)), "differently"),
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
        Target(queue="q", **options)


def test_a_pattern_that_the_service_would_refuse_makes_no_rule():
    with pytest.raises(InvalidPattern, match="Empty arrays"):
        Rule("b", "r", EventPattern({"source": []}))


@pytest.mark.aws
async def test_queues_and_topics_let_exactly_that_rule_send(moto_server, name):
    async with AwsTransport(region=moto_server.region, endpoint_url=moto_server.url) as aws:
        topology = Topology(
            Bus(name),
            Topic(f"{name}-t"),
            Rule(name, "own"),
            Rule(name, "more", None, (Target(topic=f"{name}-t"), Target(queue=f"{name}-own"))),
        )
        for _ in range(2):
            await topology.apply(aws)
        own, more = aws.rule_arn(name, "own"), aws.rule_arn(name, "more")
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
        target = Target(
            queue=f"{name}-q",
            template='{"id": "<id>"}',
            input_paths={"id": "$.id"},
            max_attempts=2,
            max_age=timedelta(minutes=5),
            dead_letters=f"{name}-dead",
            id="one",
        )
        stream = Target(stream=f"{name}-s", role="arn:aws:iam::123456789012:role/r", partition_key="$.detail.id")
        declared = (Queue(f"{name}-q"), Stream(f"{name}-s"))
        topology = Topology(Bus(name), *declared, Rule(name, "r", SOLD, (target, stream)))
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
        assert step.detail == "DeadLetterConfig, InputTransformer, RetryPolicy"
        assert (await topology.plan(aws)).in_force


async def test_more_than_five_receivers_are_reached_through_a_topic(transport, name):
    names = [f"s{number}" for number in range(7)]
    subscriptions = [Subscription(f"{name}-t", each) for each in names]
    topology = Topology(
        Bus(name), Topic(f"{name}-t"), *subscriptions, Rule(name, "fan-out", SOLD, (Target(topic=f"{name}-t"),))
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
