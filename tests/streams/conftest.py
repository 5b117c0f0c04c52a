"""Groups are tested in virtual time, on the embedded stream."""

from __future__ import annotations

import pytest

from eip.testing import VirtualTimeLoop
from eip.transports.memory import MemoryTransport


def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}


@pytest.fixture
async def memory():
    async with MemoryTransport() as transport:
        yield transport
