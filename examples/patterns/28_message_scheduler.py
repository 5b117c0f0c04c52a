"""Message scheduler: a reminder that can be cancelled, and a message every so often, whatever process runs.

Prints:

    scheduled: ['invoice 1', 'invoice 2']
    cancelled: True
    sent: invoice 2 is due
    sent: look at the backlog
    sent: look at the backlog
"""

import asyncio
from datetime import timedelta

from eip import Message, running
from eip.patterns.message_scheduler import MessageScheduler
from eip.stores import MemoryStore  # or SqliteStore, PostgresStore, RedisStore, DynamoStore: it outlives the process
from eip.transports.memory import MemoryTransport


async def main() -> None:
    async with MemoryTransport() as memory:
        reminders = memory.queue("reminders")
        scheduler = MessageScheduler(MemoryStore(), {"reminders": reminders})
        for number in (1, 2):
            reminder = Message(f"invoice {number} is due", group_id=f"customer {number}")
            await scheduler.send(reminder, to="reminders", delay=timedelta(days=30), key=f"invoice {number}")
        print("scheduled:", [each.key for each in await scheduler.pending()])
        print("cancelled:", await scheduler.cancel("invoice 1"))  # it was paid

        async with running(scheduler):
            await scheduler.move("invoice 2", delay=0)  # the customer asks to be reminded now
            await scheduler.send(Message("look at the backlog"), to="reminders", interval=1, key="backlog")
            while len(reminders.messages()) < 3:
                await asyncio.sleep(0.01)
        for message in reminders.messages():
            print("sent:", message.body)


asyncio.run(main())
