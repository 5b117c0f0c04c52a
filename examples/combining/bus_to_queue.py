"""Bus to queue: the queue buffers what a rule lets through, so that a consumer may be away, or slow, for days.

A rule alone tries to deliver for a day at most; a queue keeps a message for up to fourteen. The topology declares bus,
rule and queue at once, and on AWS also the queue's policy that lets exactly that rule send.

    python examples/combining/bus_to_queue.py           # in memory
    AWS_REGION=... python examples/combining/bus_to_queue.py --aws

Prints:

    create  queue         shop-invoices-undelivered
    create  queue         shop-invoices-dead
    create  queue         shop-invoices
    create  bus           shop
    create  rule          shop > invoices
    create  target        shop > invoices > queue-shop-invoices
    the consumer is away; 3 orders wait
    invoice for order 1: 250
    invoice for order 2: 120
    invoice for order 4: 300
"""

import asyncio
import sys

from pydantic import BaseModel

from eip import Consumer, Message, Transport
from eip.matching import EventPattern
from eip.schemas import Catalog
from eip.topology import BusSpec, RuleSpec, Topology
from eip.transports.memory import MemoryTransport


class OrderPlaced(BaseModel):
    order: int
    total: int


LARGE = EventPattern({"detail-type": ["OrderPlaced"], "detail": {"total": [{"numeric": [">=", 100]}]}})
TOPOLOGY = Topology(BusSpec("shop"), RuleSpec("shop", "invoices", LARGE))
EVENTS = Catalog({"OrderPlaced": OrderPlaced})


async def run(transport: Transport) -> None:
    print(await TOPOLOGY.apply(transport))
    shop = EVENTS.checked(transport.bus("shop"))  # refuses invalid events before they are sent
    for number, total in enumerate((250, 120, 20, 300), start=1):
        event = OrderPlaced(order=number, total=total)
        await shop.send(Message(event, type="OrderPlaced", source="com.example.shop"))
    print("the consumer is away; 3 orders wait")

    left, done = 3, asyncio.Event()

    async def invoice(order: OrderPlaced) -> None:
        nonlocal left
        print(f"invoice for order {order.order}: {order.total}")
        left -= 1
        if not left:
            done.set()

    consumer = Consumer(transport.bus("shop").subscription("invoices"), invoice, concurrency=1)
    async with consumer:
        await done.wait()


async def main() -> None:
    if "--aws" in sys.argv:
        from eip.transports.aws import AwsTransport  # noqa: PLC0415 - an extra

        async with AwsTransport() as aws:
            await run(aws)
    else:
        async with MemoryTransport() as memory:
            await run(memory)


asyncio.run(main())
