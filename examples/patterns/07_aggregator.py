"""Aggregator: gathers what belongs together, until it is complete or it is too late; kept in a file meanwhile.

Prints:

    ride-1: best of 3 quotes is 25, completed by size
    ride-2: best of 1 quotes is 99, completed by deadline
"""

import asyncio
import tempfile
from pathlib import Path

from eip import Consumer, Message, running
from eip.patterns.aggregator import Aggregate, Aggregator
from eip.stores import SqliteStore
from eip.testing import run  # in virtual time, so that the deadline passes at once
from eip.transports.memory import MemoryTransport


def best(aggregate: Aggregate) -> str:
    prices = [message.body for message in aggregate.messages]
    return f"best of {len(prices)} quotes is {min(prices)}, completed by {aggregate.completed_by}"


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "quotes.sqlite")
        async with MemoryTransport() as memory:
            quotes, results = memory.queue("quotes"), memory.queue("results")
            aggregator = Aggregator(store, output=results, size=3, deadline=300, combine=best)
            async with running(Consumer(quotes, aggregator), aggregator):
                for ride, price in (("ride-1", 30), ("ride-1", 25), ("ride-2", 99), ("ride-1", 40)):
                    await quotes.send(Message(price, correlation_id=ride))
                while len(results) < 2:
                    await asyncio.sleep(1)
            for result in results.messages():
                print(f"{result.correlation_id}: {result.body}")
        await store.aclose()


run(main())
