"""Dynamic Router: recipients say themselves what they want, and for how long, over a control channel.

Prints:

    known: {'berlin': 'workers-1', 'rest': 'workers-2'}
    workers-1: ['parcel to Berlin']
    workers-2: ['parcel to Rome']
    known after a minute: {'rest': 'workers-2'}
"""

import asyncio

from eip import Consumer, Message, ReturnAddresses, running
from eip.patterns.dynamic_router import Announcement, DynamicRouter
from eip.testing import run  # in virtual time, so that the minute passes at once
from eip.transports.memory import MemoryTransport


async def main() -> None:
    async with MemoryTransport() as memory:
        parcels, control = memory.queue("parcels"), memory.queue("control")
        one, two = memory.queue("workers-1"), memory.queue("workers-2")

        # Announcements come from strangers: only queues of this prefix can be made recipients.
        router = DynamicRouter(ReturnAddresses(memory, prefix="workers-").resolve)
        berlin = Announcement(recipient="berlin", address=one.address, policy={"to": ["Berlin"]}, priority=1, lasts=60)
        rest = Announcement(recipient="rest", address=two.address)

        async with running(Consumer(parcels, router), Consumer(control, router.control)):
            await control.send(Message(berlin), Message(rest))
            while len(control):
                await asyncio.sleep(0.01)
            print(f"known: {router.recipients}")
            for city in ("Berlin", "Rome"):
                await parcels.send(Message(f"parcel to {city}", attributes={"to": city}))
            while len(parcels):
                await asyncio.sleep(0.01)

        for queue in (one, two):
            print(f"{queue.name}: {[message.body for message in queue.messages()]}")
        await asyncio.sleep(60)
        print(f"known after a minute: {router.recipients}")


run(main())
