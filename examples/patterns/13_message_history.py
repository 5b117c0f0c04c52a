"""Message History: a message carries the names of the components that it came through.

Prints:

    came through: shop, pricing, shipping
    in circles: Reject
"""

import asyncio

from eip import Consumer, Message, Queue, running
from eip.errors import Reject
from eip.patterns.message_history import history_of, message_history
from eip.transports.memory import MemoryTransport


async def forward(message: Message) -> Message:
    return message


async def derive(message: Message) -> Message:
    return message.derive({**message.body, "price": 30})


async def main() -> None:
    async with MemoryTransport() as memory:
        names = ["orders", "accepted", "priced", "shipped"]
        queues: list[Queue] = [memory.queue(name) for name in names]
        handlers = [
            message_history("shop")(forward),
            message_history("pricing")(derive),
            message_history("shipping")(forward),
        ]
        consumers = [
            Consumer(source, handler, output=output)
            for source, handler, output in zip(queues, handlers, queues[1:], strict=False)
        ]
        await queues[0].send(Message({"sku": "lamp"}))
        async with running(*consumers):
            while not (arrived := memory.queue("shipped").messages()):
                await asyncio.sleep(0.01)

        print("came through:", ", ".join(hop.name for hop in history_of(arrived[0])))
        try:
            await message_history("pricing", max_visits=1)(forward)(arrived[0])
        except Reject as error:
            print(f"in circles: {type(error).__name__}")


asyncio.run(main())
