"""What those who run the service want to see: what is going on, what failed and why, and how to start that anew."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from eip import Delivery, Message, clock
from eip.patterns.redrive import Progress, redrive
from examples.rfq.channels import Channels

__all__ = ["DeadLetter", "Depth", "Desk", "Operations", "Rate"]

_LOOK: Final = 0.2
"""Seconds that a look at a dead-letter queue waits for messages."""
_MOST: Final = 1000
"""Messages of one redrive, where the broker does not tell how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """A queue, and about how many messages it and its dead-letter queue hold; None where the broker does not tell."""

    queue: str
    messages: int | None
    dead_letters: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that could not be handled."""

    queue: str
    """The queue that it failed on."""
    id: str
    type: str | None
    correlation_id: str | None
    reason: str
    attempts: str
    failed_on: str
    body: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """What is going on."""

    in_flight: int
    """RFQs that are not complete, of all processes that share the state."""
    responses_per_second: float
    """Answers noted by this process, over the last ten seconds."""
    late: int
    """Answers to this process that came too late, or belong to no RFQ."""
    refused: int
    """Return addresses that this process's unicorns did not answer to."""
    queues: tuple[Depth, ...]


class Rate:
    """Counts per second over the last seconds."""

    def __init__(self, seconds: int = 10) -> None:
        self._seconds = seconds
        self._counts: deque[list[int]] = deque()
        """Second and count, at most one more than the seconds."""

    def add(self) -> None:
        """One more, now."""
        now = int(clock.now())
        if not self._counts or self._counts[-1][0] != now:
            self._counts.append([now, 0])
        self._counts[-1][1] += 1
        self._forget(now)

    @property
    def per_second(self) -> float:
        """The mean of the last seconds."""
        self._forget(int(clock.now()))
        return sum(count for _, count in self._counts) / self._seconds

    def _forget(self, now: int) -> None:
        while self._counts and self._counts[0][0] <= now - self._seconds:
            self._counts.popleft()


class Desk:
    """The queues that booking reads, and what failed on them."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def depths(self) -> tuple[Depth, ...]:
        """How full the queues are."""
        return tuple(await asyncio.gather(*(self._depth(queue.name) for queue in self._channels.kept)))

    async def dead_letters(self, *, limit: int = 100) -> list[DeadLetter]:
        """What failed, up to ``limit`` of each queue; it stays where it is."""
        looks = (self._look(queue.name, limit) for queue in self._channels.kept)
        return [letter for letters in await asyncio.gather(*looks) for letter in letters]

    async def redrive(self, queue: str, *, only: Collection[str] | None = None) -> Progress:
        """Put what failed on the queue back onto it, or only the messages with those ids; see `eip.patterns.redrive`.

        As many as there are at the start: one that fails again at once is not put back again and again. Raises
        `LookupError` where booking reads no such queue.
        """
        found = next((each for each in self._channels.kept if each.name == queue), None)
        if found is None:
            raise LookupError(queue)
        dead = self._channels.dead_letters(found)
        there = await self._channels.depth(dead)
        limit = _MOST if there is None else there
        if only is None:
            return await redrive(dead, found, limit=limit, idle=_LOOK) if limit else Progress()
        if not only:
            return Progress()
        return await redrive(dead, found, filter=lambda message: message.id in only, limit=len(only), idle=_LOOK)

    async def _depth(self, name: str) -> Depth:
        queue = self._channels.transport.queue(name)
        dead = self._channels.dead_letters(queue)
        messages, dead_letters = await asyncio.gather(self._channels.depth(queue), self._channels.depth(dead))
        return Depth(queue=name, messages=messages, dead_letters=dead_letters)

    async def _look(self, name: str, limit: int) -> list[DeadLetter]:
        dead = self._channels.dead_letters(self._channels.transport.queue(name))
        held: list[Delivery] = []
        async with dead.receiver(capacity=limit) as receiver:
            try:
                while len(held) < limit and (batch := await receiver.receive(limit - len(held), wait=_LOOK)):
                    held += batch
            finally:
                await receiver.nack(held[::-1])
        return [_letter(name, delivery.message) for delivery in held]


def _letter(queue: str, message: Message) -> DeadLetter:
    headers = message.headers
    return DeadLetter(
        queue=queue,
        id=message.id,
        type=message.type,
        correlation_id=message.correlation_id,
        reason=headers.get("dead-letter-reason", "received too often"),
        attempts=headers.get("dead-letter-count", ""),
        failed_on=headers.get("dead-letter-source", queue),
        body=message.body,
    )
