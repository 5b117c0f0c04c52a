"""Streams of a test's own on the kinesis-local emulator; leases are in this process, as it has no DynamoDB."""

from __future__ import annotations

import pytest

from eip.stores import MemoryStore
from eip.streams import GroupOptions
from eip.testing.conformance import Harness
from eip.topology import StreamSpec, Topology
from eip.transports.aws import AwsTransport, ReadRate

#: Quick hand-overs, for tests that wait for them.
BRISK = GroupOptions(failover=1.5, checkpoint_interval=0.1, hand_off_timeout=10.0)

#: Polls as fast as it likes: an emulator is nobody else's.
FAST = ReadRate(calls=50, bytes=1 << 30, idle=0.1)


@pytest.fixture
async def kinesis(kinesis_server):
    account = getattr(kinesis_server, "account", "000000000000")
    async with AwsTransport(kinesis_server.region, kinesis_server.url, account=account) as transport:
        yield transport


class KinesisHarness(Harness):
    def __init__(self, transport):
        super().__init__(transport, quiet=0.6, timeout=90.0)
        self.leases = MemoryStore()

    async def stream(self, *, shards=3, **options):
        name = self.fresh("stream")
        await Topology(StreamSpec(name, shards=shards)).apply(self.transport)
        return self.transport.stream(name, **{"reads": FAST, **options})

    async def group(self, stream, name):
        return stream.group(name, start="trim_horizon", leases=self.leases, options=BRISK)


@pytest.fixture
def harness(kinesis):
    return KinesisHarness(kinesis)
