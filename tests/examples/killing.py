"""Services that are killed under a fault plan, and started again over the channels and stores that outlive them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from eip.errors import TransportError
from eip.testing import FaultPlan
from eip.testing.faults import FaultyTransport
from eip.transports.memory import MemoryTransport

__all__ = ["live_and_die"]


async def live_and_die(
    plan: FaultPlan,
    memory: MemoryTransport,
    services: Callable[[Any], list[Any]],
    *,
    lives: int = 3,
    seconds: float,
    last_seconds: float = 4000.0,
) -> None:
    """Run services for some lives of so many seconds under the plan, each ended by a kill, and then one in peace.

    Args:
        plan: what goes wrong.
        memory: the channels.
        services: makes the services over a transport.
        lives: that end by a kill.
        seconds: of each of those.
        last_seconds: of the last.
    """
    for transport in (*(plan.wrap(memory) for _ in range(lives)), memory):
        running = services(transport)
        try:
            async with asyncio.TaskGroup() as tasks:
                for service in running:
                    tasks.create_task(service.run())
                await asyncio.sleep(last_seconds if transport is memory else seconds)
                if isinstance(transport, FaultyTransport):
                    transport.kill()
                for service in running:
                    await service.stop()
        except* TransportError:
            pass  # connecting failed: as good as killed
