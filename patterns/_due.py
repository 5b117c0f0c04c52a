"""The loop of patterns with deadlines in a store: it does what is due, whichever process wrote it down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Final

from eip import clock
from eip._logging import get_logger
from eip.errors import StoreError
from eip.stores.base import Store

__all__ = ["DueLoop"]

_LOOK_AGAIN: Final = 5.0
"""Seconds between looks for what other processes wrote down."""
_BUSY: Final = 0.1
"""Seconds between looks while what is due is being done already."""
_FAILED: Final = 2.0
"""Seconds after which what failed is tried again."""


class DueLoop:
    """Calls ``work`` with each key of the store that is due, until stopped.

    What ``work`` leaves due, by failing or otherwise, is done again a moment later.
    """

    def __init__(
        self, store: Store, work: Callable[[str], Awaitable[None]], *, name: str, concurrency: int = 100
    ) -> None:
        self._store, self._work, self._concurrency = store, work, concurrency
        self._log: Any = get_logger(name)
        self._busy: set[str] = set()
        self._next_look = inf
        """When it looks again by itself; what is due before that has to wake it."""
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Work until `stop`, and then until what was begun is done."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while not self._stop.is_set():
                    self._wake.clear()
                    self._next_look = inf
                    try:
                        wait = await self._sweep(tasks)
                    except StoreError as error:
                        self._log.warning("store_failed", error=str(error))
                        wait = _FAILED
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

    def wake(self, due: float) -> None:
        """Something was written that is due then."""
        if due < self._next_look:
            self._wake.set()

    async def _sweep(self, tasks: asyncio.TaskGroup) -> float:
        """Begin what is due; the seconds until more may be."""
        keys = [key for key in await self._store.due(clock.now()) if key not in self._busy]
        begun = keys[: self._concurrency - len(self._busy)]
        for key in begun:
            self._busy.add(key)
            tasks.create_task(self._try(key), name=f"due {key}")
        due = await self._store.next_due()
        wait = _LOOK_AGAIN if due is None else min(max(due - clock.now(), 0.0), _LOOK_AGAIN)
        return max(wait, _BUSY)

    async def _try(self, key: str) -> None:
        try:
            await self._work(key)
        except Exception as error:  # noqa: BLE001 - one key's failure must not keep the others waiting
            self._log.warning("due_work_failed", key=key, error=repr(error), again_in=_FAILED)
            await _set_within(self._stop, _FAILED)
        finally:
            self._busy.discard(key)
            self._wake.set()


async def _set_within(event: asyncio.Event, timeout: float) -> None:  # noqa: ASYNC109 - no error when it passes
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        return
