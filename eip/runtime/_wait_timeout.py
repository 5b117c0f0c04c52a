"""One timeout for the many waits of a task, one after another."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self, cast

__all__ = ["WaitTimeout"]


class WaitTimeout:
    """Cancels a wait that takes too long, as `asyncio.timeout` does; enter it for each wait of the current task.

    `asyncio.timeout` makes and cancels a timer each time, which costs more than all else of a poll that is answered
    soon. Here one timer is set, and looks again when it fires before its time.

    Args:
        seconds: of one wait.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._task = cast("asyncio.Task[object]", asyncio.current_task())
        self._deadline: float | None = None
        """When the wait has taken too long, by the loop's clock; None: there is none."""
        self._timer: asyncio.TimerHandle | None = None
        self._expired = False
        self._cancelling = 0

    def __enter__(self) -> Self:
        self._cancelling = self._task.cancelling()
        self._deadline = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._deadline = None
        if self._expired:
            self._expired = False
            # A cancellation from outside at the same time is more: it goes on.
            if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise TimeoutError(f"no answer within {self._seconds:g} s") from error

    def _look(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._loop.time() >= self._deadline:
            self._expired = True
            self._task.cancel()
        else:
            self._timer = self._loop.call_at(self._deadline, self._look)

    def close(self) -> None:
        """End the timer."""
        if self._timer is not None:
            self._timer.cancel()
