"""FIFO by the sender: numbers for a channel that keeps no order, and ids by which what is sent twice is dropped.

Prints:

    arrived: job-1 3, job-1 1, job-2 1, job-1 2
    in order: job-1 1, job-1 2, job-1 3
    in order: job-2 1
    sent twice, there once: 1
"""

import asyncio

from eip import Consumer, Message
from eip.patterns.fifo import DeduplicatingSender, SequencingSender
from eip.patterns.resequencer import Resequencer
from eip.stores import MemoryStore
from eip.transports.memory import MemoryTransport


def change(job: str, number: int) -> Message:
    return Message(f"{job} {number}", group_id=job)


async def main() -> None:
    async with MemoryTransport() as memory:
        outgoing, arriving, ordered = memory.queue("outgoing"), memory.queue("arriving"), memory.queue("ordered.fifo")
        sender = SequencingSender(outgoing, MemoryStore())  # a store that all senders share
        await sender.send(change("job-1", 1), change("job-1", 2), change("job-2", 1), change("job-1", 3))

        one, two, other, three = outgoing.messages()
        await arriving.send(three, one, other, two)  # as channels do that keep no order
        print("arrived:", ", ".join(message.body for message in arriving.messages()))

        consumer = Consumer(arriving, Resequencer(MemoryStore(), output=ordered))
        async with consumer:
            while len(arriving):
                await asyncio.sleep(0.01)
        for job in ("job-1", "job-2"):
            print("in order:", ", ".join(each.body for each in ordered.messages() if each.group_id == job))

        once = DeduplicatingSender(memory.queue("once.fifo"))  # by content; key=... chooses another id
        await once.send(change("job-3", 1), change("job-3", 1))
        print("sent twice, there once:", len(memory.queue("once.fifo")))


asyncio.run(main())
