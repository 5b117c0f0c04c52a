"""From the name of a transport to the application's channels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from eip.transports.memory import MemoryTransport
from examples.rfq.channels import Channels, MemoryChannels

__all__ = ["TRANSPORTS", "connected"]

TRANSPORTS: Final = ("memory",)


@asynccontextmanager
async def connected(transport: str, endpoint_url: str | None = None) -> AsyncIterator[Channels]:
    """The application's channels on a transport, until the block ends."""
    if transport != "memory":
        raise ValueError(f"no transport {transport!r}; there are: {', '.join(TRANSPORTS)}")
    if endpoint_url is not None:
        raise ValueError("the embedded transport has no endpoint")
    async with MemoryTransport() as memory:
        channels = MemoryChannels(memory)
        await channels.prepare()
        yield channels
