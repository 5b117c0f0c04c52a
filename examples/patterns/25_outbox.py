"""Transactional Outbox: a message is sent if, and once, the transaction commits that wrote it beside the order.

Prints:

    order-1 failed: card declined
    sent: order-2 ordered
    sent: order-2 shipped
    left in the outbox: {}
"""

import asyncio
import sqlite3
import tempfile
from pathlib import Path

from eip import Message
from eip.patterns.outbox import OutboxRelay
from eip.stores.outbox import SqliteOutbox  # or eip.stores.postgres_outbox.PostgresOutbox
from eip.transports.memory import MemoryTransport


def order(db: sqlite3.Connection, outbox: SqliteOutbox, name: str, *, declined: bool = False) -> None:
    with db:  # one transaction: the order, and the message about it
        db.execute("INSERT INTO orders VALUES (?)", (name,))
        outbox.add(db, "orders", Message(f"{name} ordered", group_id=name), Message(f"{name} shipped", group_id=name))
        if declined:
            raise ValueError("card declined")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.sqlite"
        db, outbox = sqlite3.connect(path), SqliteOutbox(path)
        db.execute("CREATE TABLE orders (name TEXT PRIMARY KEY)")
        try:
            order(db, outbox, "order-1", declined=True)
        except ValueError as error:
            print(f"order-1 failed: {error}")
        order(db, outbox, "order-2")

        async with MemoryTransport() as memory:
            orders = memory.queue("orders.fifo")
            async with OutboxRelay(outbox, {"orders": orders}):  # `await run(relay)` in a process of its own
                while await outbox.unsent():
                    await asyncio.sleep(0.01)
            for message in orders.messages():
                print(f"sent: {message.body}")
        print(f"left in the outbox: {await outbox.unsent()}")
        await outbox.aclose()
        db.close()


asyncio.run(main())
