"""A new service learns the past: its own rule gets a replay of the archive, while it already hears what is new.

The rule comes first, then the replay, so that no event falls between. What the service hears twice it counts once: the
default of an idempotent receiver is that a replay brings duplicates.

Prints:

    yesterday: 5 orders, nobody counts them
    today: a service that counts; it hears the new orders only
    counted: 2
    after the replay: 7, of which 2 came twice and were counted once
"""

import asyncio

from eip import Consumer, Message, clock
from eip.patterns.idempotent_receiver import idempotent
from eip.patterns.replay import start_replay
from eip.stores import MemoryStore
from eip.testing import run
from eip.topology import ArchiveSpec, BusSpec, RuleSpec, Topology
from eip.transports.memory import MemoryTransport

DAY = 86_400.0


def placed(number: int) -> Message:
    return Message({"order": number}, type="OrderPlaced", source="com.example.shop")


async def main() -> None:
    async with MemoryTransport() as memory:
        await Topology(BusSpec("shop"), ArchiveSpec("orders", "shop")).apply(memory)
        shop, start = memory.bus("shop"), clock.now()
        await shop.send(*(placed(number) for number in range(5)))
        print("yesterday: 5 orders, nobody counts them")
        await asyncio.sleep(DAY)

        print("today: a service that counts; it hears the new orders only")
        await Topology(BusSpec("shop"), RuleSpec("shop", "counting"), ArchiveSpec("orders", "shop")).apply(memory)
        counted: list[int] = []

        async def count(message: Message) -> None:
            counted.append(message.body["order"])

        once = idempotent(MemoryStore())
        consumer = Consumer(shop.subscription("counting"), once(count))
        async with consumer:
            await shop.send(placed(5), placed(6))
            await asyncio.sleep(60)
            print(f"counted: {len(counted)}")
            replay = await start_replay(shop, "orders", start=start, end=clock.now(), rules=["counting"])
            await replay.wait()
            await asyncio.sleep(60)
        print(f"after the replay: {len(counted)}, of which {once.duplicates} came twice and were counted once")


run(main())
