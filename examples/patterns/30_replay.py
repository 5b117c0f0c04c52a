"""Replay: a handler with a bug is fixed, and the events of that time are sent to it, and to nobody else, once more.

Prints:

    billing: charged 0 for order 1
    billing: charged 0 for order 2
    shipping: order 1
    shipping: order 2
    COMPLETED, 100% of the window
    billing: charged 30 for order 1 again (fix-17)
    billing: charged 12 for order 2 again (fix-17)
"""

import asyncio

from eip import Message, clock
from eip.patterns.replay import start_replay
from eip.transports.memory import MemoryQueue, MemoryTransport


async def handle_all(name: str, queue: MemoryQueue, handle: object) -> None:
    async with queue.receiver() as receiver:
        for delivery in sorted(receiver.receive_nowait(10), key=lambda each: each.message.body["order"]):
            order, replay = delivery.message.body, delivery.message.replay_name
            print(f"{name}: {handle(order)}{f' again ({replay})' if replay else ''}")  # type: ignore[operator]
            await delivery.ack()


async def main() -> None:
    async with MemoryTransport() as memory:
        bus = memory.bus("shop")
        await bus.archives.create("orders")
        billing, shipping = bus.subscription("billing"), bus.subscription("shipping")
        start = clock.now()
        for order, price in ((1, 30), (2, 12)):
            await bus.send(Message({"order": order, "price": price}, type="Placed", source="shop"))
        await handle_all(
            "billing", billing, lambda order: f"charged {order.get('prize', 0)} for order {order['order']}"
        )
        await handle_all("shipping", shipping, lambda order: f"order {order['order']}")

        replay = await start_replay(
            bus, "orders", start=start - 60, end=clock.now() + 1, rules=["billing"], name="fix-17"
        )
        status = await replay.wait(interval=0.01)
        print(f"{status.state}, {status.progress:.0%} of the window")
        await handle_all("billing", billing, lambda order: f"charged {order['price']} for order {order['order']}")
        await handle_all("shipping", shipping, lambda order: f"order {order['order']}")


asyncio.run(main())
