"""Durable Scatter-Gather: the process that asked ends before the answers come; another one has the result.

Prints:

    asked, and gone
    2 quotes, completed by expected: [20, 25]
"""

import asyncio
import tempfile
from pathlib import Path

from eip.patterns.scatter_gather import ScatterGather
from eip.stores import SqliteStore
from eip.testing import run  # in virtual time, so that the deadline passes at once
from eip.transports.memory import MemoryTransport


async def main(folder: Path) -> None:
    async with MemoryTransport() as memory:
        rides, replies = memory.queue("rides"), memory.queue("rfq-replies")
        store = SqliteStore(folder / "rfqs.sqlite")

        async with ScatterGather(rides, replies, store=store) as first:
            key = await first.request({"from": "Berlin"}, expected=2, deadline=300).start()
        print("asked, and gone")

        (ride,) = rides.messages()
        await replies.send(ride.reply(20, source="applejack"), ride.reply(25, source="pinkie"))

        async with ScatterGather(rides, replies, store=store) as second, asyncio.timeout(600):
            result = await second.result(key)
        prices = sorted(reply.body for reply in result.replies)
        print(f"{result.answered} quotes, completed by {result.completed_by}: {prices}")
        await store.aclose()


with tempfile.TemporaryDirectory() as name:
    run(main(Path(name)))
