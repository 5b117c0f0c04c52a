"""Splitter: one message becomes several, each knowing its place, with ids that a redelivery makes again.

Prints:

    lamp: part 1 of 2, order order-7
    rope: part 2 of 2, order order-7
    the same ids the second time: True
"""

import asyncio

from pydantic import BaseModel

from eip import Consumer, Message
from eip.patterns.splitter import splitter
from eip.transports.memory import MemoryTransport


class Order(BaseModel):
    lines: list[str]


def lines_of(order: Order) -> list[str]:
    return order.lines


async def main() -> None:
    async with MemoryTransport() as memory:
        orders, lines = memory.queue("orders"), memory.queue("lines")
        order = Message({"lines": ["lamp", "rope"]}, id="order-7")
        await orders.send(order)
        await orders.send(order)  # as if it were delivered twice

        consumer = Consumer(orders, splitter(lines_of, type="OrderLine"), output=lines)
        async with consumer:
            while len(orders):
                await asyncio.sleep(0.01)

        parts = lines.messages()
        for part in parts[:2]:
            assert part.sequence is not None
            place = f"part {part.sequence.position + 1} of {part.sequence.size}"
            print(f"{part.body}: {place}, order {part.correlation_id}")
        print(f"the same ids the second time: {[part.id for part in parts[:2]] == [part.id for part in parts[2:]]}")


asyncio.run(main())
