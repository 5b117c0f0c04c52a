"""How full the queues are, asked now and then while somebody looks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from eip import clock
from eip.channels import Queue
from eip.errors import ChannelNotFound, error_text

__all__ = ["Depth", "Depths"]

_TIMEOUT_S: Final = 5.0
_AT_ONCE: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """What a queue holds; None where its service does not tell."""

    ready: int | None = None
    delayed: int | None = None
    leased: int | None = None
    oldest_at: float | None = None
    """When its first message was created, where a look at it leaves no trace."""
    error: str | None = None
    """Why it could not be asked."""
    gone: bool = False
    """Whether there is no such queue (any more)."""

    @property
    def total(self) -> int | None:
        """All that it holds."""
        return None if self.ready is None else self.ready + (self.delayed or 0) + (self.leased or 0)


class Depths:
    """The depths of queues, each asked at most every ``interval`` seconds.

    Args:
        queues: what to ask, by name; called before each look, as queues come and go.
        interval: seconds; each look at a queue is a billed call on SQS.
    """

    def __init__(self, queues: Callable[[], Mapping[str, Queue]], interval: float) -> None:
        self._queues, self._interval = queues, interval
        self.found: dict[str, Depth] = {}
        self._looked_at: float | None = None
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def refresh(self) -> None:
        """Ask all queues, unless that was done less than ``interval`` seconds ago."""
        now = asyncio.get_running_loop().time()
        if self._looked_at is not None and now - self._looked_at < self._interval:
            return
        self._looked_at = now
        queues = self._queues()
        depths = await asyncio.gather(*map(self._ask, queues.values()))
        self.found = dict(zip(queues, depths, strict=True))

    def forget(self) -> None:
        """Ask again at the next `refresh`: something was moved."""
        self._looked_at = None

    async def _ask(self, queue: Queue) -> Depth:
        async with self._turn:
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    return await _depth_of(queue)
            except ChannelNotFound as error:
                return Depth(error=error_text(error), gone=True)
            except Exception as error:  # noqa: BLE001 - whatever one queue answers, the others are shown
                return Depth(error=error_text(error) or "no answer")


async def _depth_of(queue: Queue) -> Depth:
    found = await queue.depth()
    if found is None:
        return Depth()
    oldest: float | None = None
    if not queue.peek_is_receive and any(found.values()):
        first = await queue.peek(1)
        oldest = first[0].created_at if first else None
    return Depth(
        ready=found.get("ready"), delayed=found.get("delayed"), leased=found.get("leased"), oldest_at=_past(oldest)
    )


def _past(time: float | None) -> float | None:
    """A time that a stranger's message gives, not later than now."""
    return None if time is None else min(time, clock.now())
