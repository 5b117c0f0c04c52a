"""Calls that bypass the SDK have the client spans that its instrumentations would make."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from aiobotocore.session import get_session
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from eip import Message
from eip._aws.sigv4 import SigV4Client
from eip.errors import ChannelNotFound
from eip.stores.dynamodb import DynamoStore, create_table
from eip.topology import QueueSpec, TopicSpec, Topology
from eip.transports.aws import AwsTransport
from tests.support.environment import REGION

pytestmark = pytest.mark.aws


@pytest.fixture
def spans(monkeypatch):
    """What the provider of the program gets."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield exporter
    provider.shutdown()


def named(spans: InMemorySpanExporter, name: str) -> list[Any]:
    return [each for each in spans.get_finished_spans() if each.name == name]


async def test_the_calls_of_messages_have_client_spans(moto_server, spans):
    name = f"s{uuid4().hex[:12]}"
    async with AwsTransport(REGION, moto_server.url, session=moto_server.session, long_poll=1.0) as aws:
        await Topology(QueueSpec(name, dead_letters=False), TopicSpec(name)).apply(aws)
        spans.clear()
        queue = aws.queue(name)
        with trace.get_tracer("tests").start_as_current_span("the program's") as parent:
            await queue.send(Message(1))
        await aws.topic(name).send(Message(1))
        async with queue.receiver() as receiver:
            (delivery,) = await receiver.receive(1)
            await receiver.ack([delivery])
            assert await receiver.receive(1, wait=0.0) == []
    (sent,) = named(spans, "SQS.SendMessageBatch")
    assert sent.kind is SpanKind.CLIENT
    assert sent.parent.span_id == parent.get_span_context().span_id
    assert sent.attributes["rpc.system.name"] == "aws-api"
    assert sent.attributes["rpc.method"] == "SQS/SendMessageBatch"
    assert sent.attributes["cloud.region"] == REGION
    assert sent.attributes["aws.sqs.queue.url"] == await queue.url()
    assert (sent.attributes["server.address"], sent.attributes["server.port"]) == ("127.0.0.1", moto_server.port)
    assert sent.attributes["aws.request_id"]
    assert sent.end_time > sent.start_time
    (published,) = named(spans, "SNS.PublishBatch")
    assert published.attributes["aws.sns.topic.arn"] == aws.topic(name).address
    assert len(named(spans, "SQS.ReceiveMessage")) == 1  # a poll that brings nothing has none
    assert len(named(spans, "SQS.DeleteMessageBatch")) == 1


async def test_a_refusal_and_a_lost_answer_are_errors(moto_server, spans, monkeypatch):
    async with AwsTransport(REGION, moto_server.url, session=moto_server.session) as aws:
        queue = aws.queue("nowhere")
        queue._queue._url = f"{moto_server.url}/{moto_server.account}/nowhere"
        with pytest.raises(ChannelNotFound):
            await queue.send(Message(1))
        (refused,) = named(spans, "SQS.SendMessageBatch")
        assert refused.status.status_code is StatusCode.ERROR
        assert "NonExistentQueue" in refused.attributes["error.type"]
        assert refused.attributes["http.response.status_code"] == 400
        spans.clear()

        async def lose(*_: object) -> Any:
            raise ConnectionResetError("reset")

        monkeypatch.setattr(SigV4Client, "_post", lose)
        with pytest.raises(Exception, match="reset"):
            await aws._client.call("sqs", "SendMessageBatch", retry=False, QueueUrl="https://q", Entries=[])
        (lost,) = named(spans, "SQS.SendMessageBatch")
        assert lost.attributes["error.type"] == "ConnectionResetError"
        assert "aws.request_id" not in lost.attributes


async def test_the_store_has_them_too(moto_server, spans):
    async with get_session().create_client("dynamodb", endpoint_url=moto_server.url) as client:
        await create_table(client, "spans")
        await DynamoStore(client, "spans", uuid4().hex).put("k", b"v")
    found = named(spans, "DynamoDB.PutItem")[-1]
    assert found.attributes["aws.dynamodb.table_names"] == ("spans",)


async def test_without_a_provider_nothing_is_recorded(moto_server, monkeypatch):
    monkeypatch.setattr("eip._aws.spans.Caller.record", lambda *_: pytest.fail("recorded"))
    async with get_session().create_client("dynamodb", endpoint_url=moto_server.url) as client:
        await create_table(client, "spans")
        await DynamoStore(client, "spans", uuid4().hex).put("k", b"v")
