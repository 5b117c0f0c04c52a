"""Pipes and Filters: a handler made of steps, which also shows itself.

Prints:

    pipeline
      parse
      message_filter is_valid
        -> refused (rejected)
      add_tax
    shipped: {'sku': 'lamp', 'price': 119.0}
    refused: {'sku': 'rope', 'price': 0}
"""

import asyncio

from eip import Consumer, Message
from eip.patterns.message_filter import message_filter
from eip.patterns.pipeline import around, pipeline
from eip.transports.memory import MemoryTransport


def parse(message: Message[str]) -> Message:
    sku, price = message.body.split(":")
    return message.with_body({"sku": sku, "price": int(price)})


def is_valid(message: Message) -> bool:
    return bool(message.body["price"] > 0)


async def add_tax(message: Message) -> Message:
    return message.with_body({**message.body, "price": message.body["price"] * 1.19})


async def main() -> None:
    async with MemoryTransport() as memory:
        orders, shipped, refused = memory.queue("orders"), memory.queue("shipped"), memory.queue("refused")
        steps = pipeline(parse, around(message_filter(is_valid, rejected=refused)), add_tax)
        print(steps.diagram())  # steps.mermaid() is the same as a flowchart

        await orders.send(Message("lamp:100"), Message("rope:0"))
        consumer = Consumer(orders, steps, output=shipped)
        async with consumer:
            while len(orders):
                await asyncio.sleep(0.01)

        for queue in (shipped, refused):
            for message in queue.messages():
                print(f"{queue.name}: {message.body}")


asyncio.run(main())
