"""Packing: many small messages in the one unit of 64 KB that services bill for; and ten rows written at once.

Prints:

    100 readings sent as 1 message(s)
    rows written: 100, in calls of at most 10
"""

import asyncio
from collections.abc import Sequence

from eip import Consumer, Message
from eip.patterns.batching import batched
from eip.patterns.packer import Packer
from eip.transports.memory import MemoryTransport


async def main() -> None:
    async with MemoryTransport() as memory:
        readings = memory.queue("readings")
        async with Packer(readings) as packer:
            await packer.send(*(Message({"celsius": number}) for number in range(100)))
        print(f"100 readings sent as {len(readings)} message(s)")

        calls: list[int] = []

        @batched(10, 0.05)
        async def write(rows: Sequence[Message]) -> None:
            calls.append(len(rows))

        consumer = Consumer(readings, write)  # any consumer unpacks
        async with consumer:
            while len(readings):
                await asyncio.sleep(0.01)
        print(f"rows written: {sum(calls)}, in calls of at most {max(calls)}")


asyncio.run(main())
