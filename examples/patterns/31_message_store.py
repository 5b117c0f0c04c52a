"""Message Store: a queue forgets what was handled; what passed is kept beside it, and can be sent once more.

Prints:

    handled: a, b, c
    in the queue: 0, in the store: 3
    handled again: b, c
"""

import asyncio

from eip import Consumer, Message
from eip.patterns.message_store import MessageStore
from eip.patterns.replay import replay_messages
from eip.patterns.wire_tap import wire_tap
from eip.stores.objects import MemoryObjects
from eip.transports.memory import MemoryQueue, MemoryTransport

NOON = 1_795_521_600.0


async def handle_all(queue: MemoryQueue, store: MessageStore) -> list[str]:
    handled = []

    async def handle(message: Message) -> None:
        handled.append(f"{message.body}")

    consumer = Consumer(queue, wire_tap(store, required=True)(handle), concurrency=1)  # kept before it is handled
    async with consumer:
        while len(queue):
            await asyncio.sleep(0.01)
    return handled


async def main() -> None:
    store = MessageStore(MemoryObjects(), prefix="orders/")  # or FileObjects("audit"), S3Objects(client, "audit")
    async with MemoryTransport() as memory:
        orders = memory.queue("orders")
        await orders.send(*(Message(body, created_at=NOON + 60 * n) for n, body in enumerate("abc")))
        print("handled:", ", ".join(await handle_all(orders, store)))
        kept = [message async for message in store.messages(NOON, NOON + 3600)]
        print(f"in the queue: {len(orders)}, in the store: {len(kept)}")

        await replay_messages(store.messages(NOON + 60, NOON + 3600), orders, name="second-try")
        print("handled again:", ", ".join(await handle_all(orders, store)))


asyncio.run(main())
