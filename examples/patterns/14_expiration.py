"""Message Expiration: what comes too late is not handled, and the work on what expires meanwhile is ended.

Prints:

    quoted: fast ride
    too late: ['old ride', 'slow ride']
"""

import asyncio

from eip import Consumer, Message, clock
from eip.patterns.expiration import Expiring, expiration
from eip.testing import run  # in virtual time, so that the seconds pass at once
from eip.transports.memory import MemoryTransport


async def main() -> None:
    async with MemoryTransport() as memory:
        rides, late = memory.queue("rides"), memory.queue("late")

        @expiration(on_expired=late, margin=1, cancel=True)
        async def quote(message: Message) -> None:
            await asyncio.sleep(60 if message.body == "slow ride" else 2)
            print(f"quoted: {message.body}")

        sender = Expiring(rides, after=10)  # gives an expiry to what has none
        await sender.send(
            Message("old ride", expires_at=clock.now() + 0.5),
            Message("fast ride"),
            Message("slow ride"),
        )
        consumer = Consumer(rides, quote, on_expired="handle")
        async with consumer:
            while len(rides):
                await asyncio.sleep(0.1)
        print(f"too late: {[message.body for message in late.messages()]}")


run(main())
