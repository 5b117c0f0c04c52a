"""Workers in three processes join, leave and are killed while records flow; shards are split and merged under load."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import pytest

from eip import Message
from tests.transports.aws.kinesis.workers import Fleet

pytestmark = pytest.mark.kinesis


@pytest.fixture
async def fleet_of(kinesis, kinesis_server, tmp_path):
    fleets = []

    def make(stream):
        fleet = Fleet(kinesis_server, kinesis.account, stream.name, tmp_path)
        fleets.append(fleet)
        return fleet

    yield make
    for fleet in fleets:
        await fleet.aclose()


class Producer:
    """Sends numbers, ever fewer at a time so that records flow for as long as a test needs; at once in a hurry."""

    def __init__(self, stream, count, *, keys):
        self._stream, self._count, self._keys, self._sent = stream, count, keys, 0
        self._hurry = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def finish(self):
        self._hurry.set()
        await self._task

    async def _run(self):
        while (rest := self._count - self._sent) > 0:
            size = min(500, rest) if self._hurry.is_set() else max(rest // 60, 1)
            numbers = range(self._sent, self._sent + size)
            await self._stream.send(*(Message(number, group_id=f"k{number % self._keys}") for number in numbers))
            self._sent += size
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await self._hurry.wait()


async def join_leave_and_kill(harness, fleet_of, record_property, count, *, within):
    stream = await harness.stream(shards=6, aggregate=True)
    fleet = fleet_of(stream)
    producer = Producer(stream, count, keys=200)
    await asyncio.gather(fleet.start("one"), fleet.start("two"))
    await fleet.until(lambda: fleet.handled("one") and fleet.handled("two"), within=within)
    await fleet.start("three")
    await fleet.until(lambda: fleet.handled("three"), within=within)
    await fleet.end("one", signal.SIGTERM)
    await fleet.end("two", signal.SIGKILL)
    await producer.finish()
    await fleet.until(lambda: len(fleet.all) == count, within=within)
    duplicates = fleet.check(count, killed={"two"})
    record_property("duplicates of the killed worker", duplicates)


async def test_three_workers_join_leave_and_are_killed(harness, fleet_of, record_property):
    await join_leave_and_kill(harness, fleet_of, record_property, 10_000, within=60)


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_three_workers_join_leave_and_are_killed_while_100_000_records_flow(harness, fleet_of, record_property):
    await join_leave_and_kill(harness, fleet_of, record_property, 100_000, within=300)


async def test_shards_are_split_and_merged_under_load(harness, fleet_of, kinesis_server):
    stream = await harness.stream(shards=2)
    fleet = fleet_of(stream)
    client = kinesis_server.client("kinesis")
    await asyncio.gather(fleet.start("one"), fleet.start("two"))
    producer = Producer(stream, 3000, keys=500)
    await fleet.until(lambda: len(fleet.all) > 100, within=60)
    middle = str(1 << 126)
    await asyncio.to_thread(
        client.split_shard, StreamName=stream.name, ShardToSplit="shardId-000000000000", NewStartingHashKey=middle
    )
    seen = len(fleet.all)
    await fleet.until(lambda: len(fleet.all) > seen + 100, within=60)
    await asyncio.to_thread(
        client.merge_shards,
        StreamName=stream.name,
        ShardToMerge="shardId-000000000003",
        AdjacentShardToMerge="shardId-000000000001",
    )
    await producer.finish()
    await fleet.until(lambda: len(fleet.all) == 3000, within=60)
    assert fleet.check(3000, killed=set()) == 0
