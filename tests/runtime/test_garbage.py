"""The garbage collector's settings while services run."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

import eip
from eip import Consumer, GarbageCollection, Message
from eip.errors import ConfigurationError
from eip.transports.memory import MemoryTransport

pytestmark = pytest.mark.usefixtures("nothing_frozen")


async def settings_while_running(garbage: GarbageCollection | None) -> tuple[tuple[int, ...], int]:
    seen: list[tuple[tuple[int, ...], int]] = []

    async def handle(_: Message) -> None:
        seen.append((gc.get_threshold(), gc.get_freeze_count()))
        consumer._stop.set()
        asyncio.get_running_loop().call_soon(consumer._session.stop)

    async with MemoryTransport() as transport:
        queue = transport.queue("orders")
        consumer: Any = Consumer(queue, handle)
        running = asyncio.create_task(eip.run(consumer, garbage=garbage))
        await consumer.ready.wait()
        await asyncio.sleep(1)
        await queue.send(Message(1))
        await running
    return seen[0]


async def test_settings_hold_while_services_run_and_are_restored_after():
    before = gc.get_threshold()
    assert gc.get_freeze_count() == 0
    threshold, frozen = await settings_while_running(GarbageCollection(threshold=50_000))
    assert threshold == (50_000, *before[1:])
    assert frozen > 10_000
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


@pytest.mark.parametrize("garbage", [None, GarbageCollection(freeze=False)], ids=["default", "nothing set"])
async def test_nothing_changes_unasked(garbage: GarbageCollection | None):
    assert await settings_while_running(garbage) == (gc.get_threshold(), 0)


async def test_what_cannot_be_set_is_refused():
    with pytest.raises(ConfigurationError, match="threshold must be >= 1, got 0"):
        GarbageCollection(threshold=0)
    wrong: Any = {"freeze": True}
    with pytest.raises(TypeError, match="garbage must be a GarbageCollection"):
        await eip.run(garbage=wrong)
