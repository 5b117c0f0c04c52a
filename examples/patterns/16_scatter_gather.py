"""Scatter-Gather: ask many, take their answers until all have answered or the deadline has come.

Prints:

    cheapest of 2: pinkie for 25
    completed by deadline, missing: ['applejack']
"""

import asyncio

from eip import Consumer, Message, ReturnAddresses, running
from eip.patterns.scatter_gather import ScatterGather
from eip.testing import run  # in virtual time, so that the deadline passes at once
from eip.transports.memory import MemoryTransport

HERD = {"rarity": (1, 30), "pinkie": (2, 25), "applejack": (60, 20)}
"""By name: seconds until the answer, and the price."""


async def main() -> None:
    async with MemoryTransport() as memory:
        rides, replies = memory.topic("rides"), memory.queue("rfq-replies")
        addresses = ReturnAddresses(memory, prefix="rfq-")

        def unicorn(name: str, seconds: float, price: int) -> Consumer:
            async def quote(ride: Message) -> Message:
                await asyncio.sleep(seconds)
                return ride.reply(price, source=name)

            return Consumer(rides.subscription(name), quote, replies=addresses)

        herd = [unicorn(name, *offer) for name, offer in HERD.items()]
        async with running(*herd), ScatterGather(requests=rides, replies=replies) as rfq:
            quotes = await rfq.request({"from": "Berlin"}, expected=HERD, deadline=10)
        best = min(quotes.replies, key=lambda reply: reply.body)
        print(f"cheapest of {len(quotes.replies)}: {best.source} for {best.body}")
        print(f"completed by {quotes.completed_by}, missing: {sorted(quotes.missing)}")


run(main())
