"""Whether the event loop was blocked while something was awaited."""

from __future__ import annotations

import asyncio

__all__ = ["LoopLag"]


class LoopLag:
    """Notices whether the event loop was held up while something was awaited.

    Args:
        interval: seconds between two looks. A loop that stood still for twice as long was late.
    """

    def __init__(self, interval: float) -> None:
        self._loop, self._interval = asyncio.get_running_loop(), interval
        self._late = False
        self._due = self._loop.time() + interval
        self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self._note()
        self._due = self._loop.time() + self._interval
        self._timer = self._loop.call_at(self._due, self._look)

    def _note(self) -> None:
        self._late = self._late or self._loop.time() > self._due + self._interval

    def stop(self) -> bool:
        """Return whether the loop was late."""
        self._timer.cancel()
        self._note()
        return self._late
