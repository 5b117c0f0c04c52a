"""The meter counts what drivers ask of their services, and shows it three ways."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from structlog.testing import capture_logs

from eip import Delivery, Message
from eip.telemetry.meter import Call, Usage, UsageMeter
from eip.telemetry.metrics import export_metrics
from eip.testing import run
from eip.topology import QueueSpec, SubscriptionSpec, TopicSpec, Topology
from eip.transports.aws import AwsTransport
from eip.transports.memory import MemoryTransport


def counted(meter: UsageMeter, service: str, channel: str, operation: str) -> Usage:
    return meter.usage().get(Call(service, channel, operation), Usage())


def test_reports_add_up():
    meter = UsageMeter()
    meter.record("sqs", "q", "SendMessageBatch", messages=10, size=1000)
    meter.record("sqs", "q", "SendMessageBatch", messages=1, size=100_000, units=2)
    meter.record("sqs", "q", "ReceiveMessage")
    meter.record("sqs", "q", "ChangeMessageVisibilityBatch", messages=3, heartbeats=3)
    meter.record("sqs", "q", "DeleteMessageBatch", messages=7)
    assert counted(meter, "sqs", "q", "SendMessageBatch") == Usage(calls=2, units=3, messages=11, size=101_000)
    assert counted(meter, "sqs", "q", "ReceiveMessage") == Usage(calls=1, units=1, empty_receives=1)
    assert counted(meter, "sqs", "q", "ChangeMessageVisibilityBatch").heartbeats == 3
    assert meter.total("sqs").calls == meter.total().calls == 5
    assert meter.total("sns") == Usage()
    assert meter.settled == 7
    assert meter.as_dict()["sqs"]["q"]["ReceiveMessage"]["empty_receives"] == 1


def test_usage_is_a_copy():
    meter = UsageMeter()
    meter.record("sqs", "q", "ReceiveMessage")
    before = meter.usage()
    meter.record("sqs", "q", "ReceiveMessage")
    assert before[Call("sqs", "q", "ReceiveMessage")].calls == 1


def test_a_queue_per_customer_does_not_fill_the_memory():
    meter = UsageMeter(max_channels=10)
    for number in range(1000):
        meter.record("sqs", f"replies-{number}", "SendMessageBatch", messages=1)
    assert len(meter.usage()) == 11
    assert counted(meter, "sqs", "(others)", "SendMessageBatch").messages == 990


def test_each_log_tells_what_is_new():
    meter = UsageMeter()
    with capture_logs() as logs:
        meter.record("sqs", "q", "SendMessageBatch", messages=2)
        meter.record("sqs", "q", "ReceiveMessage", messages=1)
        meter.log()
        meter.record("sqs", "q", "ReceiveMessage")
        meter.log()
        meter.log()
    assert [(each["event"], each["channel"], each["calls"], each["empty_receives"]) for each in logs] == [
        ("usage", "q", 2, 0),
        ("usage", "q", 1, 1),
    ]


def test_it_logs_at_intervals_and_when_it_is_cancelled():
    async def main() -> list:
        meter = UsageMeter()
        with capture_logs() as logs:
            logging = asyncio.create_task(meter.log_every(60))
            meter.record("sqs", "q", "ReceiveMessage")
            await asyncio.sleep(61)
            assert len(logs) == 1
            meter.record("sqs", "q", "ReceiveMessage")
            logging.cancel()
            await asyncio.wait([logging])
        return logs

    assert len(run(main())) == 2


def test_opentelemetry_reads_the_counts():
    reader = InMemoryMetricReader()
    meter = UsageMeter()
    export_metrics(meter, MeterProvider(metric_readers=[reader]).get_meter("test"))
    meter.record("sqs", "q", "SendMessageBatch", messages=10, size=1000, units=2)
    data = reader.get_metrics_data()
    assert data is not None
    found: dict[str, Any] = {
        metric.name: metric.data.data_points[0]
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        if metric.data.data_points
    }
    assert {name: point.value for name, point in found.items()} == {
        "eip.transport.calls": 1,
        "eip.transport.units": 2,
        "eip.transport.messages": 10,
        "eip.transport.size": 1000,
        "eip.transport.empty_receives": 0,
        "eip.transport.heartbeats": 0,
    }
    assert dict(found["eip.transport.calls"].attributes) == {
        "messaging.system": "aws_sqs",
        "messaging.destination.name": "q",
        "messaging.operation.name": "SendMessageBatch",
    }


def test_the_embedded_transport_reports_what_it_is_asked_and_bills_nothing():
    async def main() -> UsageMeter:
        meter = UsageMeter()
        async with MemoryTransport(meter=meter) as transport:
            topic, stream = transport.topic("t"), transport.stream("s")
            queue = topic.subscription("sub")
            group = stream.group("g", start="trim_horizon")
            await topic.send(Message("one"), Message("two"))
            await stream.send(Message("three"))
            async with queue.receiver() as receiver, group.receiver() as reader:
                taken = await receiver.receive(10)
                await receiver.extend(taken, 60)
                await receiver.nack(taken[:1])
                await receiver.ack(taken[1:])
                again = await receiver.receive(10)
                await receiver.ack(again)
                assert not await receiver.receive(1, wait=1)
                assert not receiver.receive_nowait(1)
                await reader.ack(await reader.receive(1))
        return meter

    meter = run(main())
    assert counted(meter, "memory", "t", "send") == Usage(calls=1, messages=2, size=10)
    assert counted(meter, "memory", "t-sub", "send") == Usage(calls=2, messages=2, size=10)
    assert counted(meter, "memory", "t-sub", "receive") == Usage(calls=3, messages=3, size=15, empty_receives=1)
    assert counted(meter, "memory", "t-sub", "extend") == Usage(calls=1, messages=2, heartbeats=2)
    assert counted(meter, "memory", "t-sub", "nack").messages == 1
    assert counted(meter, "memory", "t-sub", "ack").messages == 2
    assert counted(meter, "memory", "s", "send").messages == counted(meter, "memory", "s/g", "receive").messages == 1
    assert meter.total().units == 0


@pytest.mark.aws
async def test_sqs_and_sns_report_calls_chunks_bytes_empty_receives_and_heartbeats(moto_server):
    meter = UsageMeter()
    async with AwsTransport(region=moto_server.region, endpoint_url=moto_server.url, long_poll=1.0, meter=meter) as aws:
        await Topology(
            QueueSpec("metered", dead_letters=False), TopicSpec("metering"), SubscriptionSpec("metering", "sub")
        ).apply(aws)
        queue, topic = aws.queue("metered"), aws.topic("metering")
        await queue.send(*(Message("x" * 10_000) for _ in range(10)))
        await topic.send(*(Message("x" * 1_000) for _ in range(10)))
        async with queue.receiver() as receiver:
            taken: list[Delivery] = []
            while len(taken) < 10:
                taken += await receiver.receive(10, wait=1)
            await receiver.extend(taken, 60)
            await receiver.nack(taken[:1])
            await receiver.ack(taken[1:])
            await receiver.ack(await receiver.receive(1, wait=1))
            assert not await receiver.receive(1, wait=0)
    sent = counted(meter, "sqs", "metered", "SendMessageBatch")
    assert (sent.calls, sent.units, sent.messages) == (1, 2, 10)
    assert 100_000 < sent.size < 102_000
    received = counted(meter, "sqs", "metered", "ReceiveMessage")
    assert received.messages == 11
    assert received.empty_receives >= 1
    assert received.units >= received.calls
    assert abs(received.size - 1.1 * sent.size) < 200
    changed = counted(meter, "sqs", "metered", "ChangeMessageVisibilityBatch")
    assert (changed.calls, changed.messages, changed.heartbeats) == (2, 11, 10)
    assert meter.settled == 10
    published = counted(meter, "sns", "metering", "PublishBatch")
    assert (published.calls, published.units, published.messages) == (1, 1, 10)
