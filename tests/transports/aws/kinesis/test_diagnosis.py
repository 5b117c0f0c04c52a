"""The diagnosis on Kinesis: what is aggregated counts as one put, and a group that waits is late."""

from __future__ import annotations

import asyncio

import pytest

from eip import Consumer, Message
from eip.streams import diagnose
from tests.transports.aws.kinesis.conftest import BRISK, FAST

pytestmark = pytest.mark.kinesis


async def test_shards_keys_and_groups_are_reported(harness):
    stream = await harness.stream(shards=2, reads=FAST, aggregate=True)
    group = stream.group("g", start="trim_horizon", leases=harness.leases, options=BRISK)
    first = asyncio.Event()

    async def handle(message: Message) -> None:
        first.set()
        await asyncio.Event().wait()  # it hangs

    consumer = Consumer(group, handle, concurrency=1, grace=0)
    async with asyncio.timeout(harness.timeout):
        async with consumer:
            await stream.send(*(Message({"n": n}, group_id="hot") for n in range(100)))
            await first.wait()
            report = await diagnose(stream, [group], max_age=0)
    load = max(report.shards, key=lambda each: each.records)
    assert len(report.shards) == 2
    assert (load.records, load.keys[0].key, load.keys[0].share) == (100, "hot", 1.0)
    assert 1 <= load.puts < 100, "in aggregates"
    assert 0 < (load.use or 0) < 0.1
    assert report.groups[0].ages[load.shard] > 0
    assert (report.finding, report.groups[0].workers) == ("hot key", 1)


async def test_a_quiet_stream_is_idle(harness):
    stream = await harness.stream(shards=2)
    async with asyncio.timeout(harness.timeout):
        report = await diagnose(stream, window=5)
    assert (report.finding, [each.records for each in report.shards]) == ("idle", [0, 0])
