"""Fix a consumer, replay the day: what its bug got wrong is put right, what it got right is left alone.

Loyalty points were credited wrongly for orders in dollars. The fixed consumer is given the day once more: its rule
only, so that nobody is shipped anything twice. Its idempotency key has the replay's name, so what the replay brings is
handled, and once; a second replay under that name is refused. In virtual time the day takes milliseconds.

Prints:

    09:00  ada   3 EUR: 3 points
    13:30  bob   5 USD: 0 points
    18:15  ada   7 USD: 0 points
    --- 21:00: fixed; replaying the day to the rule loyalty
    STARTING 0%, RUNNING 10%, RUNNING 52%, COMPLETED 100%
    points: ada 10, bob 5
    shipped: 3 parcels
    the same replay again: Replay loyalty-fix already exists.
"""

import asyncio
from collections import Counter

from eip import Consumer, Message, clock, running
from eip.errors import Conflict
from eip.patterns.idempotent_receiver import idempotent
from eip.patterns.replay import start_replay
from eip.stores import MemoryStore
from eip.testing import run
from eip.topology import ArchiveSpec, BusSpec, RuleSpec, Topology
from eip.transports.memory import MemoryTransport

HOUR = 3600.0
TOPOLOGY = Topology(
    BusSpec("shop"), RuleSpec("shop", "loyalty"), RuleSpec("shop", "shipping"), ArchiveSpec("orders", "shop")
)
ORDERS = ((9.0, "ada", 3, "EUR"), (13.5, "bob", 5, "USD"), (18.25, "ada", 7, "USD"))


async def main() -> None:
    points, parcels, done = Counter[str](), [], set[str]()
    midnight = clock.now()

    async def with_a_bug(message: Message) -> None:
        order = message.body
        earned = order["total"] if order["currency"] == "EUR" else 0
        points[order["customer"]] += earned
        done.update([message.id] if earned else [])
        hour = (message.created_at - midnight) / HOUR
        at = f"{int(hour):02}:{int(hour % 1 * 60):02}"
        print(f"{at}  {order['customer']}   {order['total']} {order['currency']}: {earned} points")

    async def fixed(message: Message) -> None:
        if message.id not in done:  # what was right stays as it is
            points[message.body["customer"]] += message.body["total"]

    async def ship(message: Message) -> None:
        parcels.append(message.id)

    async with MemoryTransport() as memory:
        memory.bus("shop", replay_interval=1.0)
        await TOPOLOGY.apply(memory)
        shop = memory.bus("shop")
        once = idempotent(MemoryStore(), replays=True)
        async with running(Consumer(shop.subscription("shipping"), ship)):
            async with running(Consumer(shop.subscription("loyalty"), once(with_a_bug))):
                for hour, customer, total, currency in ORDERS:
                    await asyncio.sleep(midnight + hour * HOUR - clock.now())
                    order = {"customer": customer, "total": total, "currency": currency}
                    await shop.send(Message(order, type="OrderPlaced", source="com.example.shop"))
                await asyncio.sleep(midnight + 21 * HOUR - clock.now())

            print("--- 21:00: fixed; replaying the day to the rule loyalty")
            async with running(Consumer(shop.subscription("loyalty"), once(fixed))):
                start, end = midnight + 8 * HOUR, midnight + 18.5 * HOUR
                replay = await start_replay(shop, "orders", start=start, end=end, rules=["loyalty"], name="loyalty-fix")
                states = [f"{status.state} {status.progress:.0%}" async for status in replay.watch(interval=0.7)]
                print(", ".join(dict.fromkeys(states)))
                await asyncio.sleep(1)
        print("points:", ", ".join(f"{name} {count}" for name, count in sorted(points.items())))
        print(f"shipped: {len(parcels)} parcels")
        try:
            await start_replay(shop, "orders", start=start, end=end, name="loyalty-fix")
        except Conflict as error:
            print("the same replay again:", error)


run(main())
