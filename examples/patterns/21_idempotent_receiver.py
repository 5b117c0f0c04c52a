"""Idempotent Receiver: a payment that is delivered again is not paid again, and its receipt is given once more.

Prints:

    paid 30 for order-1
    paid 12 for order-2
    receipts: order-1, order-1, order-2
    1 duplicate
"""

import asyncio

from eip import Consumer, Message
from eip.patterns.idempotent_receiver import idempotent
from eip.stores import MemoryStore
from eip.transports.memory import MemoryTransport


async def pay(message: Message) -> Message:
    print(f"paid {message.body} for {message.correlation_id}")
    return message.derive(message.correlation_id)


async def main() -> None:
    once = idempotent(MemoryStore(), key=lambda message: message.correlation_id)  # or SqliteStore("payments.sqlite")
    async with MemoryTransport() as memory:
        payments, receipts = memory.queue("payments"), memory.queue("receipts")
        await payments.send(
            Message(30, correlation_id="order-1"),
            Message(30, correlation_id="order-1"),  # its sender had no answer, and sent it again
            Message(12, correlation_id="order-2"),
        )
        payer = Consumer(payments, once(pay), output=receipts, concurrency=1)
        async with payer:
            while len(payments):
                await asyncio.sleep(0.01)
        print("receipts:", ", ".join(receipt.body for receipt in receipts.messages()))
        print(f"{once.duplicates} duplicate")


asyncio.run(main())
