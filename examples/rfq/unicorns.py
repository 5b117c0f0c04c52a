"""Unicorn management, simulated: unicorns that move about, and answer after a while or not at all."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, suppress

from eip import Backoff, Consumer, Message, Source, clock
from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.errors import EipError
from examples.rfq.channels import Channels
from examples.rfq.model import PRESENT, Presence, Quote, QuoteRequest
from examples.rfq.vicinity import Position

__all__ = ["Herd", "Unicorn"]

_lines = RepeatedLines(get_logger("examples.rfq.unicorns"))

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
_AGAIN = Backoff(base=2.0, cap=30.0)
"""How long one whose channels failed waits before it tries again."""
_FAREWELL = 2.0
"""Seconds that it may take to say that it leaves, and to end its subscription."""


class Unicorn:
    """One unicorn: subscribed to the topic of the zone it is in, wherever it goes."""

    def __init__(self, number: int, channels: Channels, dice: random.Random, *, herd: str, patience: float) -> None:
        self.id = f"{herd}-{number}"
        self.name = f"{_NAMES[number % len(_NAMES)]} {number // len(_NAMES) + 1}"
        self.position = Position(x=dice.random(), y=dice.random())
        self._channels, self._dice, self._patience = channels, dice, patience
        self._reliability = dice.uniform(0.7, 1.0)
        self.listening = False
        """Whether questions asked in its zone reach it."""

    async def run(self) -> None:
        """Wander about until cancelled; where its channels fail, it starts again."""
        failed = 0
        while True:
            self.listening = False
            try:
                await self._wander()
            except* EipError as errors:
                failed = 0 if self.listening else failed + 1
                _lines.warning("unicorn_lost", varying={"unicorn": self.id}, errors=_texts(errors))
            await asyncio.sleep(_AGAIN.delay(failed + 1))

    async def _wander(self) -> None:
        zone: str | None = None
        source: Source | None = None
        async with AsyncExitStack() as ears:
            try:
                while True:
                    before, zone = zone, self.position.zone
                    if (entered := await self._channels.enter(zone, self.id)) is not source:
                        await ears.aclose()
                        source = await self._listen(entered, ears)
                    await self._say(zone, left=before)
                    self.listening = True
                    if before is not None:
                        await self._channels.leave(before, self.id)
                    await self._stay(zone)
            finally:
                if zone is not None:
                    await self._take_leave(zone)

    async def _take_leave(self, zone: str) -> None:
        """Tell that it leaves, where that is possible: a failure must not take the place of what ended its walk."""
        with suppress(EipError, TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await self._say(None, left=zone)
                await self._channels.leave(zone, self.id)

    async def _listen(self, source: Source, ears: AsyncExitStack) -> Source:
        """Quote for what comes from there, until the stack is closed."""
        consumer = Consumer(
            source,
            self.quote,
            replies=self._channels.return_addresses,
            dead_letters=self._channels.unreadable,
            concurrency=1000,
            grace=0.0,
            name=self.id,
        )
        tasks = await ears.enter_async_context(asyncio.TaskGroup())
        ears.push_async_callback(consumer.stop)
        tasks.create_task(consumer.run())
        await consumer.started.wait()
        return source

    async def _stay(self, zone: str) -> None:
        """Move about in the zone, and say so now and then, until that leads out of it."""
        while True:
            await asyncio.sleep(self._dice.uniform(0.5, 1.5) * _MOVES_EVERY)
            self._move()
            if self.position.zone != zone:
                return
            await self._say(zone)

    async def _say(self, zone: str | None, *, left: str | None = None) -> None:
        presence = Presence(unicorn=self.id, name=self.name, zone=zone, left=left, position=self.position)
        until = clock.now() + PRESENT
        await self._channels.presence.send(
            Message(presence, type="Presence", source=self.id, group_id=self.id, expires_at=until)
        )

    def _move(self) -> None:
        def step(value: float) -> float:
            return min(max(value + self._dice.gauss(0, 0.03), 0.0), 0.999)

        self.position = Position(x=step(self.position.x), y=step(self.position.y))

    async def quote(self, message: Message[QuoteRequest]) -> Message | None:
        """Answer after a random time, decline, dawdle until it is too late, or forget about it."""
        request = message.body
        remaining = (message.expires_at or clock.now() + 60.0) - clock.now()
        await asyncio.sleep(self._dice.uniform(0.05, 0.7) * min(remaining, self._patience))
        mood = self._dice.random()
        if mood > self._reliability:
            return None
        if mood < 0.05:
            return message.reply({"reason": "too tired"}, type="Declined", source=self.id)
        if mood < 0.09:
            until_then = (message.expires_at or clock.now()) - clock.now()
            await asyncio.sleep(max(0.0, until_then) + self._dice.uniform(0.5, 3.0))
        return message.reply(self._offer(request), type="Quote", source=self.id)

    def _offer(self, request: QuoteRequest) -> Quote:
        way = self.position.distance(request.start)
        ride = request.start.distance(request.to)
        price = round((2.0 + 30.0 * ride + 8.0 * way) * self._dice.uniform(0.85, 1.25), 2)
        return Quote(unicorn=self.id, name=self.name, price=price, minutes=round(1 + 40 * way, 1))


def _texts(errors: BaseExceptionGroup[EipError]) -> list[str]:
    """The errors of a group, of the groups inside too."""
    inside = [_texts(each) if isinstance(each, BaseExceptionGroup) else [repr(each)] for each in errors.exceptions]
    return sorted({text for texts in inside for text in texts})


class Herd:
    """All unicorns, as a service.

    Args:
        channels: the transport's channels for this application.
        size: how many there are.
        seed: of their luck and their ways; None: another one each time.
        patience: seconds that an answer takes at most.
        name: what its unicorns' ids begin with; each herd on the same channels needs another.
    """

    def __init__(
        self,
        channels: Channels,
        *,
        size: int = 60,
        seed: int | None = None,
        patience: float = 20.0,
        name: str = "unicorn",
    ) -> None:
        dice = random.Random(seed)
        self.unicorns = [
            Unicorn(number, channels, random.Random(dice.random()), herd=name, patience=patience)
            for number in range(size)
        ]
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Let them run until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(unicorn.run()) for unicorn in self.unicorns]
            await self._stopping.wait()
            for task in running:
                task.cancel()

    @property
    def ids(self) -> list[str]:
        """The ids of its unicorns."""
        return [unicorn.id for unicorn in self.unicorns]

    async def missing(self) -> list[str]:
        """What it is not ready without, for people to read; empty: ready."""
        deaf = sum(not unicorn.listening for unicorn in self.unicorns)
        return [f"{deaf} of {len(self.unicorns)} unicorns, which do not listen yet"] if deaf else []

    async def stop(self) -> None:
        """Call them home."""
        self._stopping.set()
