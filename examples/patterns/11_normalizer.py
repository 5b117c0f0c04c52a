"""Normalizer: messages of several formats, each translated to the common one.

Prints:

    21.0 degrees from kitchen
    20.0 degrees from cellar
    dead letter: {'temperature': 'warm'}
"""

import asyncio

from eip import Consumer, Message
from eip.matching import EventPattern
from eip.patterns.normalizer import Normalizer
from eip.patterns.pipeline import pipeline
from eip.transports.memory import MemoryTransport


def from_metric(message: Message) -> dict[str, object]:
    return {"celsius": message.body["celsius"], "room": message.body["room"]}


def from_imperial(message: Message) -> dict[str, object]:
    return {"celsius": (message.body["f"] - 32) / 1.8, "room": message.body["place"].lower()}


async def show(message: Message) -> None:
    print(f"{message.body['celsius']:.1f} degrees from {message.body['room']}")


async def main() -> None:
    async with MemoryTransport() as memory:
        readings, dead = memory.queue("readings"), memory.queue("dead")
        await readings.send(
            Message({"celsius": 21, "room": "kitchen"}),
            Message({"f": 68, "place": "CELLAR"}),
            Message({"temperature": "warm"}),
        )
        normalizer = (
            Normalizer()
            .when(EventPattern({"detail": {"celsius": [{"exists": True}]}}), from_metric)
            .when(EventPattern({"detail": {"f": [{"exists": True}]}}), from_imperial)
        )
        consumer = Consumer(readings, pipeline(normalizer, show), dead_letters=dead)
        async with consumer:
            while len(readings):
                await asyncio.sleep(0.01)
        for message in dead.messages():
            print(f"dead letter: {message.body}")


asyncio.run(main())
