"""The embedded transport, put through the conformance suite with everything declared."""

from __future__ import annotations

from typing import Any

import pytest

from eip.message import Message
from eip.testing.conformance import Conformance, Guarantees, Harness
from eip.transports.memory import MemoryTransport


class MemoryHarness(Harness):
    async def queue(self, *, fifo: bool = False, dead_letters: Any = None, max_receive_count: int | None = None) -> Any:
        options = {"dead_letters": dead_letters, "max_receive_count": max_receive_count, "visibility": self.lease}
        return self.transport.queue(self.fresh("queue", fifo=fifo), **options)

    async def send_raw(self, queue: Any, raw: bytes) -> None:
        await queue.send(Message.received(raw))


class TestMemory(Conformance):
    guarantees = Guarantees(
        topic=True,
        bus=True,
        archives=True,
        stream=True,
        order=True,
        groups=True,
        deduplication=True,
        fifo_topics=True,
        leases=True,
        receive_count=True,
        nack_delay=True,
        send_delay=True,
        dead_letters=True,
        filters=True,
        foreign=True,
        largest=1_000_000,
    )

    @pytest.fixture
    async def harness(self):
        async with MemoryTransport() as transport:
            yield MemoryHarness(transport)
