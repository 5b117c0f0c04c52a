"""Subscriptions of endpoints, of strangers' queues, and to strangers' topics: made, compared, ended, exported."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from eip import Message
from eip.errors import ConfigurationError
from eip.matching import FilterPolicy
from eip.topology import QueueSpec, SubscriptionSpec, TopicSpec, Topology
from eip.transports.aws import AwsTransport, EndpointSubscriptionSpec, HttpDelivery
from eip.transports.aws.cloudformation import template
from eip.transports.memory import MemoryTransport
from tests.transports.aws.test_bus_topology import aws, differing, emulator, function
from tests.transports.aws.test_cloudformation import findings

__all__ = ["aws", "emulator"]

pytestmark = pytest.mark.aws

STRANGER = "999999999999"
LATE = FilterPolicy({"kind": ["late"]})
URL = "https://partner.example/rides"


@pytest.fixture
def name():
    return f"e{uuid4().hex[:8]}"


def every_endpoint(name: str) -> list[Any]:
    return [
        TopicSpec(name),
        QueueSpec(f"{name}-lost", dead_letters=False),
        EndpointSubscriptionSpec(name, function=name, filter=LATE, dead_letters=f"{name}-lost"),
        EndpointSubscriptionSpec(name, firehose="lake", raw=True),
        EndpointSubscriptionSpec(name, queue=f"arn:aws:sqs:us-east-1:{STRANGER}:rides"),
    ]


def missing(plan: Any) -> list[str]:
    """What differs, but for the role of a subscription, which ministack forgets."""
    return [each for each in differing(plan) if "(SubscriptionRoleArn: none -> " not in each]


async def test_functions_firehose_and_strangers_queues_are_subscribed(aws, emulator, name):
    """Policies let the topic send, a role made for it writes to Firehose; a stranger's policies are left to them."""
    function_arn = function(emulator, name)
    declared = Topology(*every_endpoint(name))
    plan = await declared.plan(aws)
    assert {each.action for each in plan.steps} == {"create"}
    assert (await declared.apply(aws)).steps == plan.steps
    assert missing(await declared.plan(aws)) == []
    topic, sns = aws.topic(name).address, emulator.client("sns")
    found = {each["Protocol"]: each for each in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]}
    assert found["lambda"]["Endpoint"] == function_arn
    attributes = sns.get_subscription_attributes(SubscriptionArn=found["lambda"]["SubscriptionArn"])["Attributes"]
    assert json.loads(attributes["FilterPolicy"]) == {"kind": ["late"]}
    assert json.loads(attributes["RedrivePolicy"])["deadLetterTargetArn"] == aws.queue(f"{name}-lost").address
    policy = json.loads(emulator.client("lambda").get_policy(FunctionName=name)["Policy"])
    assert policy["Statement"][0]["Principal"] == {"Service": "sns.amazonaws.com"}
    role = next(each.name for each in plan.steps if each.kind == "role")
    if type(emulator).__name__ == "MotoServer":
        arn = found["firehose"]["SubscriptionArn"]
        attributes = sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
        assert attributes["SubscriptionRoleArn"].endswith(f":role/eip/{role}")
    (may,) = emulator.client("iam").get_role_policy(RoleName=role, PolicyName="eip")["PolicyDocument"]["Statement"]
    assert may["Resource"] == [f"arn:aws:firehose:{emulator.region}:{emulator.account}:deliverystream/lake"]
    assert "firehose:PutRecord" in may["Action"]
    bare = Topology(TopicSpec(name), every_endpoint(name)[1])
    assert len((await bare.plan(aws))["drift"]) == 3
    assert len((await bare.apply(aws, delete=True))["delete"]) == 3
    with pytest.raises(emulator.client("iam").exceptions.NoSuchEntityException):
        emulator.client("iam").get_role(RoleName=role)
    assert differing(await bare.plan(aws)) == []


async def test_what_was_changed_by_hand_is_planned_with_both_values_and_put_right(aws, emulator, name):
    function(emulator, name)
    declared = Topology(*every_endpoint(name)[:3])
    await declared.apply(aws)
    sns = emulator.client("sns")
    found = sns.list_subscriptions_by_topic(TopicArn=aws.topic(name).address)["Subscriptions"]
    arn = next(each["SubscriptionArn"] for each in found if each["Protocol"] == "lambda")
    sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName="FilterPolicy", AttributeValue='{"kind": ["x"]}')
    (found,) = missing(await declared.plan(aws))
    assert found.endswith('(FilterPolicy: {"kind": ["x"]} -> {"kind": ["late"]})')
    await declared.apply(aws)
    assert missing(await declared.plan(aws)) == []


async def test_a_subscription_that_waits_for_its_confirmation_is_not_asked_for_again(aws, emulator, name):
    """Ministack leaves it to the endpoint, as SNS does; moto confirms by itself."""
    delivery = HttpDelivery(max_attempts=10, min_delay=1, max_delay=60, backoff="exponential", max_rate=5)
    declared = Topology(
        TopicSpec(name),
        EndpointSubscriptionSpec(name, url=URL, delivery=delivery, raw=True),
        EndpointSubscriptionSpec(name, email="ops@shop.example", as_json=True),
    )
    await declared.apply(aws)
    again = await declared.apply(aws)
    assert differing(again) == []
    waiting = [each for each in again.steps if each.detail == "waits for confirmation"]
    sns = emulator.client("sns")
    found = sns.list_subscriptions_by_topic(TopicArn=aws.topic(name).address)["Subscriptions"]
    assert {each["Endpoint"] for each in found} == {URL, "ops@shop.example"}, "subscribed once"
    if type(emulator).__name__ == "MiniStack":
        assert len(waiting) == 1, "it confirms addresses by itself"
    else:
        arn = next(each["SubscriptionArn"] for each in found if each["Protocol"] == "https")
        policy = sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]["DeliveryPolicy"]
        assert json.loads(policy)["throttlePolicy"] == {"maxReceivesPerSecond": 5}
        slower = EndpointSubscriptionSpec(name, url=URL, delivery=HttpDelivery(max_attempts=1), raw=True)
        (step,) = (await Topology(TopicSpec(name), slower).plan(aws))["change"]
        assert '"numRetries": 10' in step.detail
        assert '"numRetries": 1,' in step.detail
    bare = Topology(TopicSpec(name))
    assert len((await bare.plan(aws))["drift"]) == 2


async def test_a_topic_of_another_region_fills_a_queue_of_this_one(aws, emulator, name):
    """The subscription is made where the topic is, the policy where the queue is."""
    async with AwsTransport(region="ap-east-1", session=emulator.session, endpoint_url=emulator.url) as far:
        await Topology(TopicSpec(name)).apply(far)
        topic = far.topic(name).address
        declared = Topology(SubscriptionSpec(topic, "mine"))
        await declared.apply(aws)
        assert differing(await declared.plan(aws)) == []
        assert await far.topic(name).subscribers() == {f"{name}-mine"}
        attributes = await aws.queue(f"{name}-mine").attributes()
        (statement,) = json.loads(attributes["Policy"])["Statement"]
        assert statement["Principal"] == {"Service": "sns.ap-east-1.amazonaws.com"}, "an opt-in region"
        if type(emulator).__name__ == "MotoServer":  # ministack delivers within a region only
            await far.topic(name).send(Message("far"))
            async with aws.topic(topic).subscription("mine").receiver() as receiver:
                (found,) = await receiver.receive(1, wait=5)
                assert found.message.body == "far"


def test_the_template_has_them():
    made = template(
        Topology(
            *every_endpoint("x"),
            EndpointSubscriptionSpec("x", url=URL, delivery=HttpDelivery()),
            EndpointSubscriptionSpec("x", email="ops@shop.example"),
            SubscriptionSpec(f"arn:aws:sns:eu-west-1:{STRANGER}:prices", "mine"),
        )
    )
    assert findings(made) == []
    subscriptions = [
        each["Properties"] for each in made["Resources"].values() if each["Type"] == "AWS::SNS::Subscription"
    ]
    assert {each["Protocol"] for each in subscriptions} == {"lambda", "firehose", "sqs", "https", "email"}
    assert {each.get("Region") for each in subscriptions} == {None, "eu-west-1"}
    assert any(each["Type"] == "AWS::Lambda::Permission" for each in made["Resources"].values())


async def test_the_embedded_transport_leaves_them_out():
    async with MemoryTransport() as memory:
        made = await Topology(TopicSpec("t"), EndpointSubscriptionSpec("t", url=URL)).apply(memory)
        assert [each.kind for each in made.steps] == ["topic"]


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: EndpointSubscriptionSpec("t"), "exactly one of"),
        (lambda: EndpointSubscriptionSpec("t", url=URL, email="a@b"), "exactly one of"),
        (lambda: EndpointSubscriptionSpec("t", url="ftp://x"), "url must begin with"),
        (lambda: EndpointSubscriptionSpec("t", email="nobody"), "email must be an address"),
        (lambda: EndpointSubscriptionSpec("t", queue="mine"), "queue must be an ARN"),
        (lambda: EndpointSubscriptionSpec("t.fifo", url=URL), "delivers to queues only"),
        (lambda: EndpointSubscriptionSpec("t", function="f", raw=True), "raw is for queues"),
        (
            lambda: EndpointSubscriptionSpec("t", function="f", role="arn:aws:iam::1:role/r"),
            "role is for subscriptions",
        ),
        (lambda: EndpointSubscriptionSpec("t", firehose="f", role="r"), "role must be the ARN"),
        (lambda: EndpointSubscriptionSpec("t", url=URL, filter=lambda _: True), "must be one that SNS evaluates"),
        (lambda: HttpDelivery(max_attempts=101), "max_attempts must be 0 to 100"),
        (lambda: HttpDelivery(min_delay=9, max_delay=8), "min_delay and max_delay must be"),
        (lambda: HttpDelivery(backoff="fast"), "backoff must be one of"),  # type: ignore[arg-type]
        (
            lambda: Topology(EndpointSubscriptionSpec("t", url=URL), EndpointSubscriptionSpec("t", url=URL)),
            "declared twice",
        ),
    ],
)
def test_what_the_service_would_refuse_is_refused(make, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        make()
