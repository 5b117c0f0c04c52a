"""Calls a function for each request in a store that is complete: at least once, whichever process completed it.

A notice is a record of its own, written before the request is completed, and deleted once the function has returned.
So it is there for each completed request whose function was not called, or did not return. One whose request is not
complete (its process ended between the two writes, or is about to make the second) waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from pydantic import BaseModel

from eip import clock
from eip._logging import get_logger
from eip.errors import ConfigurationError
from eip.patterns._gathering import Gathered
from eip.patterns._records import Records
from eip.retry import Backoff
from eip.stores.base import Store

__all__ = ["CompletionNotices", "OnComplete"]

OnComplete = Callable[[Gathered], Awaitable[None]]

_log = get_logger("eip.scatter_gather")

_PREFIX: Final = "completed-"
"""Of the notices' keys; no request id looks like it."""
_COMPLETING_S: Final = 0.25
"""After a notice is written, the request is completed within that time, as a rule."""
_CALL_TIMEOUT_S: Final = 30.0
"""The function may take so long; nobody else calls it meanwhile."""
_RETRY_BACKOFF: Final = Backoff(base=1.0, cap=300.0)


class _Notice(BaseModel):
    attempts: int = 0
    until: float | None = None
    """When the attempts end; None: an earlier release wrote it."""


class CompletionNotices:
    """The notices of one scatter-gather.

    Args:
        store: the requests'.
        on_complete: the function; None: this process calls none.
        get: gives what a request has brought.
        wake: is called with the time at which something is due.
        retention: seconds for which it is tried.
    """

    def __init__(
        self,
        store: Store,
        on_complete: OnComplete | None,
        *,
        get: Callable[[str], Awaitable[Gathered | None]],
        wake: Callable[[float], None],
        retention: float,
    ) -> None:
        self._store, self._on_complete, self._get, self._wake = store, on_complete, get, wake
        self._retention = retention
        self._notices = Records(store, _Notice)

    @staticmethod
    def is_notice(key: str) -> bool:
        """Whether that key of the store is a notice's."""
        return key.startswith(_PREFIX)

    async def add(self, request: str) -> None:
        """Note that the request is about to be completed."""
        now = clock.now()
        notice = _Notice(until=now + self._retention)
        due = now + _COMPLETING_S
        await self._store.put(_PREFIX + request, notice.model_dump_json().encode(), due=due, expires_at=notice.until)
        self._wake(due)

    async def call(self, key: str) -> None:
        """Call the function for the notice of that key; raises what it raises, after which the notice is due again."""
        if self._on_complete is None:
            raise ConfigurationError("on_complete must be given to every ScatterGather of the store")
        held = await self._notices.read(key)
        if held is None:
            return
        gathered, notice = await self._get(key.removeprefix(_PREFIX)), held.value
        notice.attempts += 1
        notice.until = notice.until or clock.now() + self._retention
        if gathered is None or gathered.completed_by is None:
            await self._notices.write(key, held, due=self._next(notice), expires_at=notice.until)
        elif await self._notices.write(key, held, due=clock.now() + _CALL_TIMEOUT_S, expires_at=notice.until):
            try:
                async with asyncio.timeout(_CALL_TIMEOUT_S):
                    await self._on_complete(gathered)
            except Exception:
                due = self._next(notice)
                if due >= notice.until:
                    _log.error("on_complete_given_up", request_id=gathered.id, attempts=notice.attempts)
                await self._notices.write(key, held, due=due, expires_at=notice.until)
                raise
            await self._store.delete(key, version=held.version)

    def _next(self, notice: _Notice) -> float:
        """When it is tried again."""
        due = clock.now() + _RETRY_BACKOFF.delay(notice.attempts)
        self._wake(due)
        return due
