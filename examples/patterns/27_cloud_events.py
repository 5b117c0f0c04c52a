"""CloudEvents: messages in a form that other programs know, written and read; anything else is refused.

Prints:

    on the wire: ['data', 'datacontenttype', 'id', 'source', 'specversion', 'time', 'type']
    handled com.example.ride.requested of /rides: {'to': 'Potsdam'}
    handled com.example.ride.requested of /other-program: {'to': 'Kiel'}
    dead: {'to': 'nowhere'}
"""

import asyncio

from eip import Consumer, Message
from eip.patterns.cloud_events import CloudEvents, cloud_events
from eip.transports.memory import MemoryTransport

FOREIGN = {
    "specversion": "1.0",
    "id": "1",
    "type": "com.example.ride.requested",
    "source": "/other-program",
    "data": {"to": "Kiel"},
}


async def handle(ride: Message) -> None:
    print(f"handled {ride.type} of {ride.source}: {ride.body}")


async def main() -> None:
    async with MemoryTransport() as memory:
        dead = memory.queue("dead")
        rides = memory.queue("rides", dead_letters=dead, max_receive_count=3)
        ride = Message({"to": "Potsdam"}, type="com.example.ride.requested", source="/rides")
        await CloudEvents(rides).send(ride)
        print("on the wire:", sorted(name for name in rides.messages()[0].body if not name.startswith("eip")))

        await rides.send(Message(FOREIGN), Message({"to": "nowhere"}))
        consumer = Consumer(rides, cloud_events(strict=True)(handle), concurrency=1)
        async with consumer:
            while len(rides):
                await asyncio.sleep(0.01)
        print("dead:", dead.messages()[0].body)


asyncio.run(main())
