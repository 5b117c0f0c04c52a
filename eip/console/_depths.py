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
_PATIENCE_S: Final = 0.5
"""For answers, before what is known is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """The depth of a queue; None where its service does not report it."""

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
        self._looking: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """Ask all queues, unless that was done less than ``interval`` seconds ago.

        Waits for a moment only: answers of a slow service are there at a later call.
        """
        now = asyncio.get_running_loop().time()
        is_due = self._looked_at is None or now - self._looked_at >= self._interval
        if self._looking is None or (self._looking.done() and is_due):
            self._looked_at = now
            self._looking = asyncio.create_task(self._look(self._queues()), name="console depths")
        await asyncio.wait((self._looking,), timeout=_PATIENCE_S)

    async def aclose(self) -> None:
        """End a look that is under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait((self._looking,))
            self._looking = None

    async def _look(self, queues: Mapping[str, Queue]) -> None:
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
            except TimeoutError:
                return Depth(error=f"no answer within {_TIMEOUT_S:g} s")
            except Exception as error:  # noqa: BLE001 - whatever one queue answers, the others are shown
                return Depth(error=error_text(error))


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
