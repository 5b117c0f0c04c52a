"""The loop of patterns with deadlines in a store: it does what is due, whichever process wrote it down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from eip import clock
from eip.errors import StoreError
from eip.retry import Backoff
from eip.stores.base import Store

__all__ = ["DueLoop"]

_LOOK_AGAIN: Final = 5.0
"""Seconds between looks for what other processes wrote down."""
_AGAIN: Final = Backoff(base=0.1, cap=5.0)


class DueLoop:
    """Calls ``work`` with each key of the store that is due, until stopped; what fails is due again a moment later."""

    def __init__(self, store: Store, work: Callable[[str], Awaitable[None]], *, name: str) -> None:
        self._store, self._work = store, work
        self._log: Any = structlog.get_logger(name)
        self._wake = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Work until `stop`."""
        failures = 0
        try:
            while not self._stopping:
                self._wake.clear()
                failures = 0 if await self._sweep() else failures + 1
                wait = _AGAIN.delay(failures) if failures else await self._until_next()
                await self._pause(wait)
        finally:
            self._stopping = False

    def stop(self) -> None:
        """Let `run` return once the work at hand is done."""
        self._stopping = True
        self._wake.set()

    def wake(self) -> None:
        """Something may be due earlier than thought."""
        self._wake.set()

    async def _sweep(self) -> bool:
        """Do what is due; whether all of it went well."""
        try:
            keys = await self._store.due(clock.now())
        except StoreError as error:
            self._log.warning("store_failed", error=str(error))
            return False
        return all(await asyncio.gather(*(self._try(key) for key in keys)))

    async def _try(self, key: str) -> bool:
        try:
            await self._work(key)
        except Exception as error:  # noqa: BLE001 - one key's failure must not keep the others waiting
            self._log.warning("due_work_failed", key=key, error=repr(error))
            return False
        return True

    async def _until_next(self) -> float:
        try:
            due = await self._store.next_due()
        except StoreError as error:
            self._log.warning("store_failed", error=str(error))
            due = None
        return _LOOK_AGAIN if due is None else min(max(due - clock.now(), 0.0), _LOOK_AGAIN)

    async def _pause(self, wait: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), wait)
        except TimeoutError:
            return
