"""Least privilege: a function's role may do what its channels and stores call in a run, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from eip import Message
from eip.errors import ConfigurationError
from eip.stores.dynamodb import DynamoStore, create_table
from eip.stores.s3 import S3Objects
from eip.topology import BusSpec, QueueSpec, StreamSpec, TopicSpec, Topology
from eip.transports.aws import AwsTransport, EventSourceMappingSpec, FunctionSpec
from eip.transports.aws.cloudformation import template
from tests.support.iam import actions_of, recorded_actions

BROKER = "arn:aws:mq:eu-central-1:123456789012:broker:b:b-1"
SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:mq-AbCdEf"
CONSUMER = "arn:aws:kinesis:eu-central-1:123456789012:stream/clicks/consumer/c:1"
TOPIC = "arn:aws:sns:eu-central-1:123456789012:failed"


def role_of(*resources: Any, uses: list[str], **more: Any) -> dict[str, Any]:
    function = FunctionSpec(name="f", handler="a.b", uses=uses, **more)
    made: dict[str, Any] = template(Topology(*resources, function))["Resources"]["RoleF"]
    return made


def statements(role: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    return found


@pytest.mark.aws
async def test_what_a_function_uses_is_what_it_calls(moto_server):
    name = f"p{uuid4().hex[:8]}"
    fifo = (QueueSpec(f"{name}.fifo", dead_letters=False), TopicSpec(f"{name}.fifo"))
    channels = (QueueSpec(name, dead_letters=False), TopicSpec(name), BusSpec(name), StreamSpec(name), *fifo)
    moto_server.client("s3").create_bucket(Bucket=name)
    options = {"region": moto_server.region, "session": moto_server.session, "endpoint_url": moto_server.url}
    async with (
        AwsTransport(**options) as aws,
        moto_server.session.create_client("dynamodb", endpoint_url=moto_server.url) as dynamodb,
        moto_server.session.create_client("s3", endpoint_url=moto_server.url) as s3,
    ):
        await Topology(*channels).apply(aws)
        await create_table(dynamodb, name)
        store, objects = DynamoStore(dynamodb, name), S3Objects(s3, name)
        called: dict[str, set[str]] = {}
        for used, sender in {
            f"queue:{name}": aws.queue(name),
            f"queue:{name}.fifo": aws.queue(f"{name}.fifo"),
            f"topic:{name}": aws.topic(name),
            f"topic:{name}.fifo": aws.topic(f"{name}.fifo"),
            f"bus:{name}": aws.bus(name),
            f"stream:{name}": aws.stream(name),
        }.items():
            with recorded_actions() as called[used]:
                await sender.send(Message({"n": 1}, type="T", source="s", group_id="g"))
        with recorded_actions() as called[f"table:{name}"]:
            await store.put("a", b"1")
            await store.put_part("a", "p", b"2")
            await store.get("a")
            await store.due(0)
            await store.delete("a")
        with recorded_actions() as called[f"bucket:{name}"]:
            await objects.put("a", b"1")
            await objects.get(name, "a", limit=10)
    for used, actions in called.items():
        assert actions == actions_of(role_of(*channels, uses=[used]), without=("logs",)), used


def test_resources_are_named_and_never_all():
    role = role_of(QueueSpec("q"), uses=["queue:q", "queue:other", f"topic:{TOPIC}", "table:t", "bucket:b"])
    logs, declared, other, topic, table, bucket = (each["Resource"] for each in statements(role))
    place = "${AWS::Region}:${AWS::AccountId}"
    assert logs == [{"Fn::Sub": f"arn:${{AWS::Partition}}:logs:{place}:log-group:/aws/lambda/f:*"}]
    assert declared == [{"Fn::GetAtt": ["QueueQ", "Arn"]}]
    assert other == [{"Fn::Sub": f"arn:${{AWS::Partition}}:sqs:{place}:other"}]
    assert topic == [TOPIC]
    assert [each["Fn::Sub"].partition("table/")[2] for each in table] == ["t", "t/index/*"]
    assert bucket == [{"Fn::Sub": "arn:${AWS::Partition}:s3:::b/*"}]


def test_a_role_reads_its_own_sources_only():
    mine = [
        EventSourceMappingSpec(function="f", queue="q"),
        EventSourceMappingSpec(function="f", stream=CONSUMER, on_failure=TOPIC, max_age=timedelta(hours=1)),
        EventSourceMappingSpec(function="f", broker=BROKER, destination="d", secret=SECRET),
    ]
    role = role_of(QueueSpec("q"), *mine, EventSourceMappingSpec(function="g", stream="s"), uses=[])
    found = {tuple(map(str, each["Resource"])): each["Action"] for each in statements(role)[1:]}
    assert found.pop(("{'Fn::GetAtt': ['QueueQ', 'Arn']}",)) == [
        *("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"),
    ]
    assert "kinesis:SubscribeToShard" in found.pop((CONSUMER,))
    assert found.pop((CONSUMER.partition("/consumer")[0],))
    assert found.pop((TOPIC,)) == ["sns:Publish"]
    assert found.pop((BROKER,)) == ["mq:DescribeBroker"]
    assert found.pop((SECRET,)) == ["secretsmanager:GetSecretValue"]
    assert all(each.startswith("ec2:") for each in found.pop(("*",))), "these take no resource"
    assert not found


def test_what_a_handler_calls_by_itself_is_named_without_wildcards():
    role = role_of(uses=[], allows={"table:t": ["dynamodb:PutItem"], TOPIC: ["sns:Publish"]})
    assert [each["Action"] for each in statements(role)[1:]] == [["dynamodb:PutItem"], ["sns:Publish"]]
    for wrong in (["dynamodb:*"], ["*"], [], "s3:GetObject"):
        with pytest.raises(ConfigurationError, match="allows must have actions"):
            FunctionSpec(name="f", handler="a.b", allows={"table:t": wrong})
