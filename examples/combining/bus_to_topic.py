"""Bus to topic: a rule has at most five targets; a topic behind it has as many subscriptions as there are departments.

Prints:

    rule everyone: targets must be at most 5, got 7
    bus shop -> topic orders -> 7 departments
    accounting: order 1
    analytics: order 1
    billing: order 1
    marketing: order 1
    purchasing: order 1
    shipping: order 1
    support: order 1
"""

import asyncio

from eip import Message
from eip.errors import ConfigurationError
from eip.matching import EventPattern
from eip.topology import BusSpec, QueueSpec, RuleSpec, SubscriptionSpec, TargetSpec, TopicSpec, Topology
from eip.transports.memory import MemoryTransport

DEPARTMENTS = ("accounting", "analytics", "billing", "marketing", "purchasing", "shipping", "support")
PLACED = EventPattern({"detail-type": ["OrderPlaced"]})


def direct() -> Topology:
    targets = tuple(TargetSpec(queue=name) for name in DEPARTMENTS)
    return Topology(BusSpec("shop"), *map(QueueSpec, DEPARTMENTS), RuleSpec("shop", "everyone", PLACED, targets))


def through_a_topic() -> Topology:
    return Topology(
        BusSpec("shop"),
        TopicSpec("orders"),
        RuleSpec("shop", "everyone", PLACED, (TargetSpec(topic="orders"),)),
        *(SubscriptionSpec("orders", name) for name in DEPARTMENTS),
    )


async def main() -> None:
    try:
        direct()
    except ConfigurationError as error:
        print(str(error).partition(";")[0])
    async with MemoryTransport() as memory:
        await through_a_topic().apply(memory)
        print(f"bus shop -> topic orders -> {len(DEPARTMENTS)} departments")
        await memory.bus("shop").send(Message({"order": 1}, type="OrderPlaced", source="com.example.shop"))
        for name in DEPARTMENTS:
            async with memory.topic("orders").subscription(name).receiver() as receiver:
                (delivery,) = await receiver.receive(1)
                print(f"{name}: order {delivery.message.body['order']}")
                await delivery.ack()


asyncio.run(main())
