"""Redrive: what a bug sent to the dead-letter queue goes back once it is mended; first looked at, then moved.

Prints:

    dry run: 2 would move, 1 stays
    moved 2
    handled order-1: 30
    handled order-3: 12
    still dead: order-2
"""

import asyncio

from eip import Consumer, Message
from eip.errors import Reject
from eip.patterns.redrive import redrive
from eip.testing import run  # in virtual time: an empty queue is known by nothing coming for a while
from eip.transports.memory import MemoryQueue, MemoryTransport


async def broken(message: Message) -> None:
    raise Reject("price missing" if message.body is None else "a bug of ours")


async def mended(message: Message) -> None:
    print(f"handled {message.id}: {message.body}")


def ours(message: Message) -> bool:
    return "a bug of ours" in message.headers["dead-letter-reason"]


async def main() -> None:
    async with MemoryTransport() as memory:
        dead = memory.queue("orders-dead")
        orders = memory.queue("orders", dead_letters=dead, max_receive_count=5)
        await orders.send(Message(30, id="order-1"), Message(None, id="order-2"), Message(12, id="order-3"))
        await consume(orders, Consumer(orders, broken))

        seen = await redrive(dead, orders, filter=ours, dry_run=True)
        print(f"dry run: {seen.moved} would move, {seen.left} stays")
        print(f"moved {(await redrive(dead, orders, filter=ours, rate=10)).moved}")
        await consume(orders, Consumer(orders, mended, concurrency=1))
        print("still dead:", ", ".join(message.id for message in dead.messages()))


async def consume(orders: MemoryQueue, consumer: Consumer) -> None:
    async with consumer:
        while len(orders):
            await asyncio.sleep(1)


run(main())
