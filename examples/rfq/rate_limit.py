"""How often a caller may call."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

__all__ = ["RateLimit"]

_REMEMBERED: Final = 10_000
"""Callers whose rate is known; the one who called longest ago is forgotten first."""


class RateLimit:
    """A token bucket for each caller.

    Args:
        rate: calls a second, in the long run; after a rest, twice as many (at least one) may come at once.
    """

    def __init__(self, rate: float) -> None:
        self._rate, self._burst = rate, max(1.0, 2 * rate)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By caller, how much was left and when."""

    def take(self, key: str) -> float:
        """Note a call; the seconds after which it may be tried again, 0 where it may be made now."""
        now = asyncio.get_running_loop().time()
        left, then = self._buckets.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        wait = max(0.0, (1 - left) / self._rate)
        self._buckets[key] = (left if wait else left - 1, now)
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        return wait
