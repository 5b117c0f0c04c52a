"""Enhanced fan-out, on kinesis-local's own pushes: from each kind of start, over broken subscriptions and reshards."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from eip import Consumer, Message
from eip.stores import MemoryStore
from eip.telemetry.meter import UsageMeter
from eip.topology import StreamSpec, Topology
from eip.transports.aws import AwsTransport
from tests.support.kinesis import KinesisServer
from tests.support.kinesis_fan_out import FanOutProxy
from tests.transports.aws.kinesis.conftest import BRISK

pytestmark = pytest.mark.kinesis


@pytest.fixture
async def proxy(kinesis_server):
    if not isinstance(kinesis_server, KinesisServer):
        pytest.skip("moto does not push")
    async with FanOutProxy(kinesis_server.port) as proxy:
        yield proxy


@pytest.fixture
async def pushed(proxy, kinesis_server):
    meter = UsageMeter()
    async with AwsTransport(kinesis_server.region, proxy.url, account="000000000000", meter=meter) as transport:
        yield transport, meter


async def fresh(transport, harness, *, shards=2):
    name = harness.fresh("stream")
    await Topology(StreamSpec(name, shards=shards)).apply(transport)
    return transport.stream(name)


class Sink:
    def __init__(self):
        self.seen = []
        self._more = asyncio.Event()

    async def __call__(self, message):
        self.seen.append((message.group_id, message.body))
        self._more.set()

    async def until(self, count, *, within=60):
        async with asyncio.timeout(within):
            while len(self.seen) < count:
                self._more.clear()
                await self._more.wait()

    def check(self, count, keys):
        assert sorted(number for _, number in self.seen) == list(range(count))
        for key in range(keys):
            assert [number for each, number in self.seen if each == f"k{key}"] == list(range(key, count, keys))


@asynccontextmanager
async def running(group, sink):
    consumer = Consumer(group, sink)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run())
        await consumer.started.wait()
        yield
        await consumer.stop()


async def test_records_are_pushed_and_a_broken_subscription_goes_on_where_it_was(pushed, proxy, harness):
    transport, meter = pushed
    stream = await fresh(transport, harness)
    group = stream.group("pushed", start="trim_horizon", leases=MemoryStore(), options=BRISK, fan_out=True)
    sink = Sink()
    await stream.send(*(Message(number, group_id=f"k{number % 5}") for number in range(20)))
    async with running(group, sink):
        await sink.until(20)
        before = proxy.subscriptions
        proxy.cut()
        await stream.send(*(Message(number, group_id=f"k{number % 5}") for number in range(20, 40)))
        await sink.until(40)
        assert proxy.subscriptions > before
    sink.check(40, 5)
    calls = {call.operation: usage for call, usage in meter.usage().items() if "pushed" in call.channel}
    assert calls["SubscribeToShardEvent"].messages == 40
    assert not calls["SubscribeToShardEvent"].calls


async def test_a_group_pushed_to_reads_children_after_their_parents(pushed, proxy, harness, kinesis_server):
    stream = await fresh(pushed[0], harness, shards=1)
    group = stream.group("pushed", leases=MemoryStore(), options=BRISK, fan_out=True)
    sink = Sink()
    async with running(group, sink):
        await stream.send(*(Message(number, group_id=f"k{number % 5}") for number in range(20)))
        await asyncio.to_thread(
            kinesis_server.client("kinesis").split_shard,
            StreamName=stream.name,
            ShardToSplit="shardId-000000000000",
            NewStartingHashKey=str(1 << 127),
        )
        await stream.send(*(Message(number, group_id=f"k{number % 5}") for number in range(20, 40)))
        await sink.until(20)
        proxy.end("shardId-000000000001", "shardId-000000000002")
        await sink.until(40)
    sink.check(40, 5)
