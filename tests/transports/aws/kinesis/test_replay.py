"""A stream on Kinesis is replayed from a time."""

from __future__ import annotations

import asyncio

import pytest

from eip import Message, clock
from eip.patterns.replay import replay_stream
from eip.stores import MemoryStore
from tests.runtime.scripted import Outbox
from tests.transports.aws.kinesis.conftest import BRISK, FAST

pytestmark = pytest.mark.kinesis


class Complete(Outbox):
    """Tells when as many messages were sent as are expected."""

    def __init__(self, expected):
        super().__init__()
        self.expected, self.complete = expected, asyncio.Event()

    async def send(self, *messages):
        await super().send(*messages)
        if len(self.sent) >= self.expected:
            self.complete.set()


async def test_what_was_sent_in_a_window_is_sent_once_more(harness):
    stream, out, now = await harness.stream(reads=FAST), Complete(9), clock.now()
    for created_at, numbers in ((now, range(9, 18)), (now - 100, range(9))):
        await stream.send(*(Message(n, group_id="abc"[n % 3], created_at=created_at) for n in numbers))
    group = stream.group("again", start=now - 3600, leases=MemoryStore(), options=BRISK)
    replay = asyncio.create_task(replay_stream(group, out, name="again", until=now - 50, idle=60.0))
    async with asyncio.timeout(harness.timeout):
        await out.complete.wait()  # the later ones came first, and were left out
    replay.cancel()
    assert sorted(each.body for each in out.sent) == list(range(9))
    assert {each.replay_name for each in out.sent} == {"again"}
    for key in "abc":
        bodies = [each.body for each in out.sent if each.group_id == key]
        assert bodies == sorted(bodies)
