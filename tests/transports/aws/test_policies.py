"""Least privilege for processes: a policy lets them make the calls of a run, and no others."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from eip import Consumer, Message, current_delivery, running
from eip.errors import ConfigurationError, Reject, Retry
from eip.stores import MemoryStore
from eip.topology import QueueSpec, StreamSpec, Topology
from eip.transports.aws import AwsTransport
from eip.transports.aws.policies import policy
from tests.support.iam import recorded_actions

PLACE: dict[str, Any] = {"account": "123456789012", "region": "eu-central-1"}


def actions(document: dict[str, Any]) -> set[str]:
    return {action for each in document["Statement"] for action in each["Action"]}


@pytest.mark.aws
async def test_a_consumer_of_a_queue_and_its_dead_letters(moto_server):
    name, done = f"p{uuid4().hex[:8]}", asyncio.Event()
    topology = Topology(QueueSpec(name))
    options = {"region": moto_server.region, "session": moto_server.session, "endpoint_url": moto_server.url}

    async def handle(message: Message) -> None:
        if message.body == "no":
            raise Reject("no")
        if current_delivery().receive_count == 1:
            raise Retry("once more")
        done.set()

    async with AwsTransport(**options, long_poll=1.0) as aws:
        await topology.apply(aws)
        await aws.queue(name).send(Message("no"), Message("again"))
    async with AwsTransport(**options, long_poll=1.0) as aws:
        with recorded_actions() as called:
            async with running(Consumer(aws.queue(name), handle)), asyncio.timeout(30):
                await done.wait()
    assert called == actions(policy(topology, consumes=[f"queue:{name}"], **PLACE))


@pytest.mark.aws
async def test_a_consumer_of_a_stream(moto_server):
    name, done = f"p{uuid4().hex[:8]}", asyncio.Event()
    options = {"region": moto_server.region, "session": moto_server.session, "endpoint_url": moto_server.url}

    async def handle(message: Message) -> None:
        done.set()

    async with AwsTransport(**options) as aws:
        await Topology(StreamSpec(name)).apply(aws)
        await aws.stream(name).send(Message(1))
    async with AwsTransport(**options) as aws:
        with recorded_actions() as called:
            group = aws.stream(name).group("g", start="trim_horizon", leases=MemoryStore())
            async with running(Consumer(group, handle)), asyncio.timeout(30):
                await done.wait()
    assert called == actions(policy(consumes=[f"stream:{name}"], **PLACE))


def test_resources_are_those_that_are_named():
    topology = Topology(QueueSpec("orders"), QueueSpec("other"))
    made = policy(topology, consumes=["queue:orders"], uses=["topic:quotes", "table:t", "bucket:b"], **PLACE)
    found = [each["Resource"] for each in made["Statement"]]
    assert found == [
        ["arn:aws:sqs:eu-central-1:123456789012:orders"],
        ["arn:aws:sns:eu-central-1:123456789012:quotes"],
        [f"arn:aws:dynamodb:eu-central-1:123456789012:table/t{rest}" for rest in ("", "/index/*")],
        ["arn:aws:s3:::b/*"],
        ["arn:aws:sqs:eu-central-1:123456789012:orders-dead"],
    ]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"consumes": ["topic:t"]}, "consumes must be of queue and stream"),
        ({"consumes": ["orders"]}, "consumes must be kind:name"),
        ({"uses": ["queues:q"]}, "uses must be kind:name"),
        ({"uses": ["queue:a b"]}, "name must be an ARN"),
        ({"account": "12"}, "account must be 12 digits"),
    ],
)
def test_what_is_no_channel_is_refused(given, text):
    with pytest.raises(ConfigurationError, match=text):
        policy(**{**PLACE, **given})
