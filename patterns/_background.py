"""Base of the patterns' services: a life that ends within its grace, whatever a store or a handler does."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final, TypeVar

from typing_extensions import override

from eip._checks import check_duration
from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.clock import Duration
from eip.errors import ConfigurationError, error_text
from eip.health import Health, HealthTracker
from eip.retry import Backoff
from eip.runtime.service import Service

__all__ = ["MAX_TRANSIENT_S", "BackgroundService", "retry_delay", "wait_for_event"]

T = TypeVar("T")

_CUT_S: Final = 2.0
"""After the grace: for tasks to end once they were cancelled, e.g. to give a claim back."""
_REPORT_S: Final = 5.0
"""After so long, and then each time after twice as long, a line states what is waited for."""
_RETRY_BACKOFF: Final = Backoff(base=2.0, cap=300.0)
MAX_TRANSIENT_S: Final = 10.0
"""Seconds between attempts at most, while a failure may pass by itself."""


def retry_delay(error: Exception, failures: int) -> float:
    """Seconds until what failed is tried again: soon while it may pass by itself, else up to five minutes.

    A permanent error (credentials, a missing table or channel) is tried again, too: somebody may mend it.

    Args:
        error: the latest failure.
        failures: in a row, from 1.
    """
    if not getattr(error, "transient", True):
        return _RETRY_BACKOFF.ceiling(failures)
    return min(_RETRY_BACKOFF.delay(failures), MAX_TRANSIENT_S)


class BackgroundService(Service):
    """A service whose `_serve` works until it is stopped; what is left of it after the grace is cut off.

    Args:
        name: for logs; the logger is ``eip.NAME``.
        grace: seconds that what is in hand may take after `stop`.
    """

    def __init__(self, name: str, *, grace: Duration = 20.0) -> None:
        self.name = name
        self.grace = check_duration("grace", grace)
        self.ready = asyncio.Event()
        self._log: Any = get_logger(f"eip.{name}")
        self._lines = RepeatedLines(self._log)
        self._tracker = HealthTracker()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._running = False
        self._limit: asyncio.Timeout | None = None
        """While `_serve` runs: when it is cut off."""

    @abstractmethod
    async def _serve(self) -> None:
        """Work until `_stopping` is set, and then until what is in hand is done."""

    def _wake_up(self) -> None:
        """Have `_serve` see that it is to stop."""

    @override
    async def run(self) -> None:
        if self._running:
            raise ConfigurationError(f"{self.name} is running already")
        self._running = True
        self._ended.clear()
        try:
            await self._serve_within_grace()
        finally:
            self.ready.clear()
            try:
                await self._cut_off()
            finally:
                self._running = False
                self._stopping.clear()
                self._ended.set()

    async def _serve_within_grace(self) -> None:
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._limit = limit
                await self._serve()
        except TimeoutError:
            if not limit.expired():
                raise
            self._log.error("stopped_unfinished", service=self.name, unfinished=self._names())
        finally:
            self._limit = None

    @override
    async def stop(self, *, grace: Duration | None = None) -> None:
        left = self.grace if grace is None else check_duration("grace", grace)
        self._stopping.set()
        self._wake_up()
        if self._limit is not None and not self._limit.expired():
            until, before = asyncio.get_running_loop().time() + left, self._limit.when()
            self._limit.reschedule(until if before is None else min(until, before))
        if self._running:
            await self._ended.wait()

    @override
    def health(self) -> Health:
        """Whether it runs, and its store answers; if not, since when and why."""
        found = self._tracker.health()
        if self.ready.is_set():
            return found
        return replace(found, ok=False, reason=found.reason or ("starting" if self._running else "not running"))

    def _start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Begin a task that ends with the service."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _unless_stopped(self, work: Coroutine[Any, Any, T], what: str) -> T | None:
        """What the work returns, and raises; None as soon as the service is to stop: a store that hangs is left alone.

        Args:
            work: may be cancelled at any time.
            what: the service waits for, for the log.
        """
        working = self._start(work, what)
        stopping = self._start(self._stopping.wait(), "stop")
        wait, waited = _REPORT_S, 0.0
        try:
            while True:
                await asyncio.wait((working, stopping), timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    return working.result()
                if stopping.done():
                    return None
                waited, wait = waited + wait, wait * 2
                self._tracker.failed(f"no answer for {waited:g} s: {what}")
                self._log.warning("still_waiting", service=self.name, waiting_for=what, seconds=waited)
        finally:
            working.cancel()
            stopping.cancel()

    async def _pause(self, seconds: float) -> None:
        """Sleep, until it is to stop at the latest."""
        await wait_for_event(self._stopping, seconds)

    async def _cut_off(self) -> None:
        """Cancel the tasks that are left. One that ignores it is named and left to itself: nothing else can end it."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _, stuck = await asyncio.wait(set(self._tasks), timeout=_CUT_S)
            if stuck:
                self._log.error("tasks_ignore_cancellation", service=self.name, tasks=self._names())
        self._tasks.clear()

    def _names(self) -> list[str]:
        return sorted(task.get_name() for task in self._tasks)[:10]

    def _failed(self, event: str, error: Exception, failures: int, **fields: Any) -> float:
        """Report a failure of the store; the seconds until the next attempt."""
        wait = retry_delay(error, failures)
        self._tracker.failed(error)
        self._lines.warning(event, varying={"retry_in": round(wait, 1)}, error=error_text(error), **fields)
        return wait

    def __repr__(self) -> str:
        state = "stopped" if not self._running else "stopping" if self._stopping.is_set() else "running"
        return f"<{type(self).__name__} {self.name} {state}>"


async def wait_for_event(event: asyncio.Event, seconds: float) -> None:
    """Return once the event is set, or after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
