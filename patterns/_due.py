"""The loop of patterns with deadlines in a store: it does what is due, whichever process wrote it down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Final

from eip import clock
from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.errors import StoreError
from eip.health import Health, HealthTracker
from eip.retry import Backoff
from eip.stores.base import Store

__all__ = ["DueLoop"]

_LOOK_AGAIN: Final = 5.0
"""Seconds between looks for what other processes wrote down."""
_BUSY: Final = 0.1
"""Seconds between looks while what is due is being done already."""
_PUT_OFF: Final = 1.0
"""Seconds between looks while all that is due failed lately."""
_RETRY: Final = Backoff(base=2.0, cap=300.0)
"""Between attempts at a key, or a store, that fails."""
_MAX_FAILED: Final = 10_000
"""Keys whose failures are remembered; beyond that, the earliest is forgotten and tried again at once."""


class DueLoop:
    """Calls ``work`` with each key of the store that is due, until stopped.

    What ``work`` leaves due, by failing or otherwise, is done again a moment later.
    """

    def __init__(
        self, store: Store, work: Callable[[str], Awaitable[None]], *, name: str, concurrency: int = 100
    ) -> None:
        self._store, self._work, self._concurrency = store, work, concurrency
        self._log: Any = get_logger(name)
        self._lines = RepeatedLines(self._log)
        self._health = HealthTracker()
        self._busy: set[str] = set()
        self._failed: dict[str, tuple[int, float]] = {}
        """Keys that failed, with how often, and when they are tried again."""
        self._next_look = inf
        """When it looks again by itself; what is due before that has to wake it."""
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Work until `stop`, and then until what was begun is done."""
        try:
            async with asyncio.TaskGroup() as tasks:
                failures = 0
                while not self._stop.is_set():
                    self._wake.clear()
                    self._next_look = inf
                    try:
                        wait = await self._sweep(tasks)
                        failures = 0
                        self._health.polled()
                    except Exception as error:  # noqa: BLE001 - whatever a store raises, the next sweep tries again
                        failures += 1
                        # A permanent error is not looked at again and again, yet somebody may mend it.
                        wait = _RETRY.ceiling(failures) if not _transient(error) else min(_RETRY.delay(failures), 10.0)
                        self._health.failed(error)
                        self._lines.warning("store_failed", varying={"again_in": round(wait, 1)}, error=str(error))
                    self._next_look = clock.now() + wait
                    await _set_within(self._wake, wait)
        finally:
            self._stop.clear()

    def stop(self) -> None:
        """Let `run` return."""
        self._stop.set()
        self._wake.set()

    @property
    def stopping(self) -> bool:
        """Whether it was stopped, and works off what it had begun."""
        return self._stop.is_set()

    def health(self) -> Health:
        """Whether the store answered the latest sweep."""
        return self._health.health()

    def wake(self, due: float) -> None:
        """Something was written that is due then."""
        if due < self._next_look:
            self._wake.set()

    async def _sweep(self, tasks: asyncio.TaskGroup) -> float:
        """Begin what is due; the seconds until more may be."""
        now = clock.now()
        put_off = {key for key, (_, again_at) in self._failed.items() if again_at > now}
        # More than those that are busy or failed lately, or they would hide all others.
        due_keys = await self._store.due(now, limit=self._concurrency + len(self._busy) + len(put_off))
        keys = [key for key in due_keys if key not in self._busy and key not in put_off]
        begun = keys[: self._concurrency - len(self._busy)]
        for key in begun:
            self._busy.add(key)
            tasks.create_task(self._try(key), name=f"due {key}")
        due = await self._store.next_due()
        wait = _LOOK_AGAIN if due is None else min(max(due - clock.now(), 0.0), _LOOK_AGAIN)
        return max(wait, _BUSY if begun or not put_off else _PUT_OFF)

    async def _try(self, key: str) -> None:
        try:
            await self._work(key)
        except Exception as error:  # noqa: BLE001 - one key's failure must not keep the others waiting
            self._put_off(key, error)
        else:
            self._failed.pop(key, None)
        finally:
            self._busy.discard(key)
            self._wake.set()

    def _put_off(self, key: str, error: Exception) -> None:
        """Leave the key alone for a while: longer, the more often it failed, e.g. because its record is not ours."""
        failures = self._failed.pop(key, (0, 0.0))[0] + 1
        wait = _RETRY.ceiling(max(failures - 2, 1))  # most failures pass: the first few are tried again soon
        self._failed[key] = (failures, clock.now() + wait)
        if len(self._failed) > _MAX_FAILED:
            del self._failed[next(iter(self._failed))]
        self._log.warning("due_work_failed", key=key, error=repr(error), failures=failures, again_in=wait)


def _transient(error: Exception) -> bool:
    return not isinstance(error, StoreError) or error.transient


async def _set_within(event: asyncio.Event, timeout: float) -> None:  # noqa: ASYNC109 - no error when it passes
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        return
