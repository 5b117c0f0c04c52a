"""Recipient List: one message to several channels, chosen for each; done once all have accepted it.

Prints:

    email: ['parcel sent', 'parcel lost']
    text: ['parcel lost']
"""

import asyncio
from collections.abc import Iterable

from eip import Consumer, Message, Queue
from eip.patterns.recipient_list import RecipientList
from eip.transports.memory import MemoryTransport


async def main() -> None:
    async with MemoryTransport() as memory:
        notices, email, text = memory.queue("notices"), memory.queue("email"), memory.queue("text")

        def channels(message: Message) -> Iterable[Queue]:
            yield email
            if message.attributes.get("urgent"):
                yield text

        await notices.send(Message("parcel sent"), Message("parcel lost", attributes={"urgent": True}))
        consumer = Consumer(notices, RecipientList(channels))
        async with consumer:
            while len(notices):
                await asyncio.sleep(0.01)

        for queue in (email, text):
            print(f"{queue.name}: {[message.body for message in queue.messages()]}")


asyncio.run(main())
