"""Content Enricher: a message gets what its sender did not have; where that is not there yet, it is tried again.

Prints:

    {'order': 1, 'customer': {'name': 'Ann'}}
    {'order': 2, 'customer': {'name': 'Bob'}}
    tried again: 1
"""

import asyncio

from eip import Backoff, Consumer, Message
from eip.patterns.content_enricher import content_enricher
from eip.transports.memory import MemoryTransport

CUSTOMERS = {7: {"name": "Ann"}}
ARRIVING = {8: {"name": "Bob"}}
"""Known a moment later than the order: the second look-up finds it."""


async def look_up(message: Message) -> dict[str, str] | None:
    number = message.body["customer"]
    found = CUSTOMERS.get(number)
    CUSTOMERS.update(ARRIVING)
    return found


async def main() -> None:
    async with MemoryTransport() as memory:
        orders, enriched = memory.queue("orders"), memory.queue("enriched")
        await orders.send(Message({"order": 2, "customer": 8}), Message({"order": 1, "customer": 7}))

        enricher = content_enricher(look_up, into="customer", on_missing="retry", timeout=2)
        consumer = Consumer(orders, enricher, output=enriched, retry=Backoff(base=0.1))
        async with consumer:
            while len(orders):
                await asyncio.sleep(0.01)

        for message in enriched.messages():
            print(message.body)
        print(f"tried again: {consumer.stats.retried}")


asyncio.run(main())
