"""One timer over a store: it does what is due, whichever process wrote it down."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from math import inf
from typing import Final, NamedTuple

from typing_extensions import override

from eip import clock
from eip.clock import Duration
from eip.errors import StoreError, error_text
from eip.health import Health
from eip.patterns._background import MAX_TRANSIENT_S, BackgroundService, wait_for_event
from eip.retry import Backoff
from eip.runtime.service import Service
from eip.stores.base import Store

__all__ = ["ScheduledService", "Scheduler"]

_LOOK_S: Final = 5.0
"""Between looks for what other processes wrote down."""
_LOOK_BUSY_S: Final = 0.1
"""Between looks while what is due is being done already."""
_LOOK_FAILED_S: Final = 1.0
"""Between looks while all that is due failed lately."""
_RETRY_BACKOFF: Final = Backoff(base=2.0, cap=300.0)
"""Between attempts at a key that fails."""
_MAX_FAILED_KEYS: Final = 10_000
"""Keys whose failures are remembered; beyond that, the earliest is forgotten and tried again at once."""
_STUCK_AFTER: Final = 3
"""Failures in a row from which a key is not well; fewer pass by themselves."""
_OVERDUE_S: Final = 330.0
"""After its next attempt was due, a key that was not due again is done: by another process, or removed. More than the
five minutes for which the patterns put off what fails."""


class _Failed(NamedTuple):
    """A key that fails: how often it did, since when and why, and when, by the loop's clock, it is tried again."""

    failures: int
    since: float
    reason: str
    retry_at: float


class Scheduler(BackgroundService):
    """Calls ``work`` with each key of the store that is due, until stopped.

    What ``work`` leaves due, by failing or otherwise, is done again a moment later.

    Args:
        store: whose due keys.
        work: does what is due of a key.
        name: for logs.
        concurrency: keys worked on at once.
        grace: seconds that the work in hand may take after `stop`.
    """

    def __init__(
        self,
        store: Store,
        work: Callable[[str], Awaitable[None]],
        *,
        name: str,
        concurrency: int = 100,
        grace: Duration = 20.0,
    ) -> None:
        super().__init__(name, grace=grace)
        self._store, self._work, self._concurrency = store, work, concurrency
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._failed_keys: OrderedDict[str, _Failed] = OrderedDict()
        self._worked_on: dict[str, str | None] = {}
        """Keys that were worked on since they are due, with their record's version after that; "": it was not read."""
        self._next_look = inf
        """When it looks again by itself; what is due before that has to wake it."""
        self._wake = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether it was stopped, and finishes what it had begun."""
        return self._stopping.is_set()

    def wake(self, due: float) -> None:
        """Report that something was written that is due at that time."""
        if due < self._next_look:
            self._wake.set()

    @override
    def health(self) -> Health:
        """Whether it runs, its store answers, and all that is due gets done; if not, since when and why."""
        found = super().health()
        stuck = [each for each in list(self._failed_keys.items()) if each[1].failures >= _STUCK_AFTER]
        if not (found.ok and stuck):
            return found
        key, first = min(stuck, key=lambda each: each[1].since)
        reason = f"{len(stuck)} due keys fail, since the longest time {key!r}: {first.reason}"
        return replace(found, ok=False, failing_since=first.since, reason=reason)

    @override
    def _wake_up(self) -> None:
        self._wake.set()

    @override
    async def _serve(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._wake.clear()
            self._next_look = inf
            try:
                wait = await self._unless_stopped(self._sweep(), f"{self._store!r}")
                failures = 0
            except Exception as error:  # noqa: BLE001 - whatever a store raises, the next sweep tries again
                failures += 1
                wait = self._failed("store_failed", error, failures, service=self.name, store=repr(self._store))
            if wait is not None:
                self._next_look = clock.now() + wait
                await wait_for_event(self._wake, wait)
        if self._busy:
            await asyncio.wait(self._busy.values())

    async def _sweep(self) -> float:
        """Begin what is due; the seconds until more may be."""
        now, time = clock.now(), asyncio.get_running_loop().time()
        for key in [key for key, each in self._failed_keys.items() if each.retry_at + _OVERDUE_S < time]:
            del self._failed_keys[key]
        put_off = {key for key, each in self._failed_keys.items() if each.retry_at > time}
        # More than those that are busy or failed lately, or they would hide all others.
        due_keys = await self._store.due(now, limit=self._concurrency + len(self._busy) + len(put_off))
        self._worked_on = {key: self._worked_on[key] for key in due_keys if key in self._worked_on}
        keys = [key for key in due_keys if key not in self._busy and key not in put_off]
        due = await self._store.next_due()
        self._tracker.polled()
        self.ready.set()
        begun = keys[: self._concurrency - len(self._busy)]
        for key in begun:
            self._busy[key] = self._start(self._try(key), f"due {key}")
        wait = _LOOK_S if due is None else max(min(_LOOK_S, due - clock.now()), 0.0)
        return max(wait, _LOOK_BUSY_S if begun or not put_off else _LOOK_FAILED_S)

    async def _try(self, key: str) -> None:
        try:
            await self._work(key)
            await self._check_done(key)
        except Exception as error:  # noqa: BLE001 - one key's failure must not keep the others waiting
            self._put_off(key, error)
        else:
            self._failed_keys.pop(key, None)
        finally:
            self._busy.pop(key, None)
            self._wake.set()

    async def _check_done(self, key: str) -> None:
        """Raise where a key is due again and again though its work changes nothing: a row that is not ours, or broken.

        Otherwise each look would find it, ten times a second.
        """
        if key not in self._worked_on:
            self._worked_on[key] = ""
            return
        found = await self._store.get(key)
        version = None if found is None else found.version
        if version == self._worked_on[key]:
            raise StoreError("it stays due, though its work changes nothing: is it ours, and whole?", transient=False)
        self._worked_on[key] = version

    def _put_off(self, key: str, error: Exception) -> None:
        """Leave the key alone for a while: longer, the more often it failed, e.g. because its record is not ours."""
        failures, since, *_ = self._failed_keys.pop(key, (0, clock.now()))
        failures, reason = failures + 1, error_text(error)
        wait = _RETRY_BACKOFF.ceiling(max(failures - 2, 1))  # most failures pass: the first few are tried again soon
        if getattr(error, "transient", False):
            wait = min(wait, MAX_TRANSIENT_S)
        self._failed_keys[key] = _Failed(failures, since, reason, asyncio.get_running_loop().time() + wait)
        if len(self._failed_keys) > _MAX_FAILED_KEYS:
            self._failed_keys.popitem(last=False)
        varying = {"key": key, "failures": failures, "retry_in": wait}
        self._lines.warning("due_work_failed", varying=varying, error=reason)


class ScheduledService(Service):
    """A pattern that is a service because of its scheduler."""

    def __init__(
        self,
        store: Store,
        work: Callable[[str], Awaitable[None]],
        *,
        name: str,
        concurrency: int = 100,
        grace: Duration = 20.0,
    ) -> None:
        self._store = store
        self._scheduler = Scheduler(store, work, name=name, concurrency=concurrency, grace=grace)
        self.name, self.ready, self.grace = name, self._scheduler.ready, self._scheduler.grace

    @override
    async def run(self) -> None:
        """Do what is due, what other processes left behind included, until `stop`."""
        await self._scheduler.run()

    @override
    async def stop(self, *, grace: Duration | None = None) -> None:
        """Let `run` finish what it has begun, and wait for that; the rest is for its peers, or the next `run`.

        Args:
            grace: seconds for what is in hand, then it is cancelled; default: the constructor's. A store that does not
                answer is not waited for.
        """
        await self._scheduler.stop(grace=grace)

    @override
    def health(self) -> Health:
        """Whether it runs, its store answers, and all that is due gets done; if not, since when and why."""
        return self._scheduler.health()
