"""Inbox: a payment, the note that it was made, and the receipt commit together; a duplicate leaves no second trace.

Prints:

    order-1 failed: no answer from the bank
    paid: order-1 30
    paid: order-2 12
    receipts: order-1, order-2
    1 duplicate
"""

import asyncio
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from eip import Consumer, Message, running
from eip.patterns.inbox import Inbox
from eip.patterns.outbox import OutboxRelay
from eip.stores.inbox import SqliteInbox  # or eip.stores.postgres_inbox.PostgresInbox
from eip.stores.outbox import SqliteOutbox
from eip.transports.memory import MemoryTransport


async def main(folder: Path) -> None:
    path = folder / "shop.sqlite"
    table, outbox = SqliteInbox(path), SqliteOutbox(path)
    inbox = Inbox(table, table.connect, outbox=outbox)  # or SQLAlchemy's `sessions.begin`
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE payments (name TEXT, cents INTEGER)")
    trouble = ["no answer from the bank"]

    @inbox.handler("payments", output="receipts")
    def pay(message: Message[int], db: sqlite3.Connection) -> Message[str]:
        db.execute("INSERT INTO payments VALUES (?, ?)", (message.id, message.body))
        if trouble:
            print(f"{message.id} failed: {trouble[0]}")
            raise ConnectionError(trouble.pop())  # the payment above is taken back, and the message comes again
        return Message(message.id)

    async with MemoryTransport() as memory:
        payments, receipts = memory.queue("payments"), memory.queue("receipts")
        await payments.send(Message(30, id="order-1"))
        await payments.send(Message(12, id="order-2"), Message(30, id="order-1"))  # sent twice
        consumer = Consumer(payments, pay, concurrency=1)
        async with running(consumer, OutboxRelay(outbox, {"receipts": receipts}, poll=0.05)):
            while len(payments) or len(receipts) < 2:
                await asyncio.sleep(0.01)
        with closing(sqlite3.connect(path)) as db:
            for name, cents in db.execute("SELECT name, cents FROM payments ORDER BY name"):
                print(f"paid: {name} {cents}")
        print("receipts:", ", ".join(sorted(each.body for each in receipts.messages())))
        print(f"{inbox.duplicates} duplicate")
    await table.aclose()
    await outbox.aclose()


with tempfile.TemporaryDirectory() as name:
    asyncio.run(main(Path(name)))
