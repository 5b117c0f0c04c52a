"""Throttle: a handler is called no more often than what it calls can take.

Messages that have to wait keep their handler slots, so the consumer fetches no more than it may handle, and their
leases are kept meanwhile. The rate is that of this process: divide what the other side allows by the number of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from eip._checks import check_duration, check_integer
from eip.clock import Duration, seconds
from eip.errors import ConfigurationError, Retry
from eip.message import Message
from eip.patterns.diagram import with_diagram
from eip.runtime.handlers import Handler, Middleware, Result, middleware

__all__ = ["limited_by", "throttle"]

_MAX_KEYS: Final = 10_000


def throttle(
    rate: float,
    *,
    per: Duration = 1.0,
    burst: int = 1,
    key: Callable[[Message[Any]], str | None] | None = None,
    max_wait: Duration = 60.0,
) -> Middleware:
    """Let ``rate`` messages through in ``per`` seconds (or timedelta), evenly spaced, in the order they came.

    Args:
        rate: messages in that time.
        per: the time.
        burst: how many may come at once after a pause.
        key: what the rate is counted by, e.g. the customer; None: the message is not throttled. Default: all together.
        max_wait: seconds (or timedelta) that a message waits for its turn in its handler slot; one that has to wait
            longer gives the slot to others meanwhile. Waiting does not use up receive attempts.
    """
    if not rate > 0:
        raise ConfigurationError(f"rate must be > 0, got {rate!r}")
    interval = check_duration("per", per, positive=True) / rate
    turns = _Turns(interval, check_integer("burst", burst, least=1))
    limit = check_duration("max_wait", max_wait)

    @middleware
    def wrap(handle: Handler) -> Handler:
        async def throttled(message: Message[Any]) -> Result:
            counted = "" if key is None else key(message)
            wait = 0.0 if counted is None else turns.take(counted, limit)
            if wait > limit:
                raise Retry("throttled", delay=wait, counted=False)
            if wait > 0:
                await asyncio.sleep(wait)
            return await handle(message)

        return with_diagram(throttled, f"throttle {rate:g} per {seconds(per):g} s", inside=handle)

    return wrap


def limited_by(limiter: AbstractAsyncContextManager[Any]) -> Middleware:
    """Call the handler inside of ``limiter``: a semaphore, or another library's rate limiter (``aiolimiter``)."""

    @middleware
    def wrap(handle: Handler) -> Handler:
        async def limited(message: Message[Any]) -> Result:
            async with limiter:
                return await handle(message)

        return with_diagram(limited, f"limited_by {type(limiter).__name__}", inside=handle)

    return wrap


class _Turns:
    """Whose turn is when: the generic cell rate algorithm (ITU-T I.371), which needs one number per key."""

    def __init__(self, interval: float, burst: int) -> None:
        self._interval, self._slack = interval, interval * (burst - 1)
        self._next: dict[str, float] = {}

    def take(self, key: str, max_wait: float) -> float:
        """Seconds until the key's next turn, which is taken unless that is longer than ``max_wait``."""
        now = asyncio.get_running_loop().time()
        due = max(self._next.get(key, now), now)
        wait = max(due - self._slack - now, 0.0)
        if wait <= max_wait:
            self._next[key] = due + self._interval
            if len(self._next) > _MAX_KEYS:
                self._next = {each: at for each, at in self._next.items() if at > now}
        return wait
