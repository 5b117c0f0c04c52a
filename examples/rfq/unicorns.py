"""Unicorn management, simulated: unicorns that move about, and answer after a while or not at all."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

from eip import Consumer, Message, clock
from examples.rfq.channels import Channels
from examples.rfq.model import Position, Presence, Quote, QuoteRequest

__all__ = ["Herd", "Unicorn"]

_NAMES = (
    "Shadowfax",
    "Rocinante",
    "Bucephalus",
    "Binky",
    "Pegasus",
    "Stormcloud",
    "Twinkle",
    "Amalthea",
    "Ixion",
    "Luna",
)
_MOVES_EVERY = 5.0
"""Seconds."""


class Unicorn:
    """One unicorn: subscribed to the topic of the zone it is in, wherever it goes."""

    def __init__(self, number: int, channels: Channels, dice: random.Random, *, patience: float) -> None:
        self.id = f"unicorn-{number}"
        self.name = f"{_NAMES[number % len(_NAMES)]} {number // len(_NAMES) + 1}"
        self.position = Position(x=dice.random(), y=dice.random())
        self._channels, self._dice, self._patience = channels, dice, patience
        self._reliability = dice.uniform(0.7, 1.0)
        self._consumer: Consumer | None = None

    async def run(self) -> None:
        """Wander about until cancelled."""
        try:
            while True:
                async with AsyncExitStack() as stay:
                    zone = await self._enter(stay)
                    while self.position.zone == zone:
                        await asyncio.sleep(self._dice.uniform(0.5, 1.5) * _MOVES_EVERY)
                        self._move()
        finally:
            await self._say(None)

    async def _enter(self, stay: AsyncExitStack) -> str:
        zone = self.position.zone
        source = await self._channels.enter(zone, self.id)
        stay.push_async_callback(self._channels.leave, zone, self.id)
        self._consumer = Consumer(
            source, self.quote, replies=self._channels.return_addresses, concurrency=1000, grace=0.0, name=self.id
        )
        tasks = await stay.enter_async_context(asyncio.TaskGroup())
        stay.push_async_callback(self._consumer.stop)
        tasks.create_task(self._consumer.run())
        await self._consumer.started.wait()
        await self._say(zone)
        return zone

    async def _say(self, zone: str | None) -> None:
        presence = Presence(unicorn=self.id, zone=zone, position=self.position)
        await self._channels.presence.send(Message(presence, type="Presence", source=self.id))

    def _move(self) -> None:
        def step(value: float) -> float:
            return min(max(value + self._dice.gauss(0, 0.03), 0.0), 0.999)

        self.position = Position(x=step(self.position.x), y=step(self.position.y))

    async def quote(self, message: Message[QuoteRequest]) -> Message | None:
        """Answer after a random time, decline, or forget about it."""
        request = message.body
        remaining = (message.expires_at or clock.now() + 60.0) - clock.now()
        await asyncio.sleep(self._dice.uniform(0.05, 0.7) * min(remaining, self._patience))
        mood = self._dice.random()
        if mood > self._reliability:
            return None
        if mood < 0.05:
            return message.reply({"reason": "too tired"}, type="Declined", source=self.id)
        return message.reply(self._offer(request), type="Quote", source=self.id)

    def _offer(self, request: QuoteRequest) -> Quote:
        way = self.position.distance(request.start)
        ride = request.start.distance(request.to)
        price = round((2.0 + 30.0 * ride + 8.0 * way) * self._dice.uniform(0.85, 1.25), 2)
        return Quote(unicorn=self.id, name=self.name, price=price, minutes=round(1 + 40 * way, 1))


class Herd:
    """All unicorns, as a service.

    Args:
        channels: the transport's channels for this application.
        size: how many there are.
        seed: of their luck and their ways; None: another one each time.
        patience: seconds that an answer takes at most.
    """

    def __init__(self, channels: Channels, *, size: int = 60, seed: int | None = None, patience: float = 20.0) -> None:
        dice = random.Random(seed)
        self.unicorns = [
            Unicorn(number, channels, random.Random(dice.random()), patience=patience) for number in range(size)
        ]
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Let them run until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(unicorn.run()) for unicorn in self.unicorns]
            await self._stopping.wait()
            for task in running:
                task.cancel()

    async def stop(self) -> None:
        """Call them home."""
        self._stopping.set()
