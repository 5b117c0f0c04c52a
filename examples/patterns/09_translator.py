"""Message Translator: another body in the same envelope; what cannot be translated is dead-lettered.

Prints:

    booked: Order(sku='lamp', pieces=2)
    dead letter: ['rope', 'two'] (Reject: cannot be translated: ValueError)
"""

import asyncio

from pydantic import BaseModel

from eip import Consumer, Message
from eip.patterns.pipeline import pipeline
from eip.patterns.translator import translator
from eip.transports.memory import MemoryTransport


class Order(BaseModel):
    sku: str
    pieces: int


def from_legacy(message: Message) -> dict[str, object]:
    sku, pieces = message.body
    return {"sku": sku, "pieces": int(pieces)}


async def book(order: Order) -> None:
    print(f"booked: {order!r}")


async def main() -> None:
    async with MemoryTransport() as memory:
        legacy, dead = memory.queue("legacy"), memory.queue("dead")
        await legacy.send(Message(["lamp", "2"]), Message(["rope", "two"]))

        steps = pipeline(translator(from_legacy, reject=(ValueError,)), translator(Order), book)
        consumer = Consumer(legacy, steps, dead_letters=dead)
        async with consumer:
            while len(legacy):
                await asyncio.sleep(0.01)

        for message in dead.messages():
            print(f"dead letter: {message.body} ({message.headers['dead-letter-reason']})")


asyncio.run(main())
