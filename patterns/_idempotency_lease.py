"""Claims on messages: leases in a store, which only their owners can renew or turn into a note of success."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import anyio
import orjson
from pydantic import BaseModel

from eip import clock
from eip._ids import new_id
from eip._logging import get_logger
from eip.envelope import dump_message
from eip.errors import StoreError
from eip.message import Message
from eip.patterns._records import Records
from eip.retry import Backoff
from eip.stores.base import ABSENT, Store

__all__ = ["RETRY_BACKOFF", "Claim", "ClaimLostError", "State", "part_name"]

_log = get_logger("eip.idempotent")

RETRY_BACKOFF: Final = Backoff(base=0.2, cap=2.0)
"""Between attempts at a store that fails."""
_RELEASE_S: Final = 5.0
"""Seconds that giving a claim back may take, e.g. when its handler was cancelled."""


class State(BaseModel):
    """A message's record."""

    owner: str
    """Who claimed it: one attempt of one process."""
    until: float
    """When the claim ends, seconds since the epoch."""
    results: int | None = None
    """Once done: how many messages the handler returned; they are parts, named by the owner."""


class ClaimLostError(Exception):
    """Another attempt took the message over."""


class Claim:
    """One attempt at a message; every write of it depends on the version it wrote last."""

    def __init__(self, store: Store, key: str, lease: float) -> None:
        self._store, self._key, self._lease = store, key, lease
        self._version = ABSENT
        self.owner = new_id()
        self.until = 0.0

    async def take(self) -> State | None:
        """Claim the message (None), or what is known of it."""
        while not await self._put():
            found = await Records(self._store, State).read(self._key)
            if found is not None:
                return found.value
        return None

    async def renew(self) -> None:
        """Claim for another lease; raises `ClaimLostError`."""
        while not await self._put():
            await self._adopt()

    async def complete(self, results: list[Message[Any]], window: float) -> None:
        """Note the message as done, trying until the claim ends; raises `StoreError` and `ClaimLostError`."""
        failures = 0
        while True:
            try:
                return await self._complete(results, clock.now() + window)
            except StoreError:
                failures += 1
                wait = RETRY_BACKOFF.delay(failures)
                if failures > 1 and clock.now() + wait >= self.until:
                    raise
                await asyncio.sleep(wait)

    async def release(self) -> None:
        """Give the claim back, so that the message need not wait until it ends; no matter if that fails."""
        with anyio.move_on_after(_RELEASE_S, shield=True):
            try:
                if not await self._store.delete(self._key, version=self._version):
                    await self._adopt()
                    await self._store.delete(self._key, version=self._version)
            except (StoreError, ClaimLostError) as error:
                _log.warning("release_failed", key=self._key, error=str(error))

    async def _complete(self, results: list[Message[Any]], until: float) -> None:
        for number, result in enumerate(results):
            kept = until + clock.seconds(RETRY_BACKOFF.cap)  # the results outlive the note
            await self._store.put_part(self._key, part_name(self.owner, number), dump_message(result), expires_at=kept)
        while not await self._put(done=len(results), expires_at=until):
            if await self._adopt():
                return

    async def _put(self, *, done: int | None = None, expires_at: float | None = None) -> bool:
        until = clock.now() + self._lease
        value = orjson.dumps(
            {"owner": self.owner, "until": until, "results": done}
        )  # a `State`, at a third of the time
        expires_at = until if expires_at is None else expires_at
        written = await self._store.put(self._key, value, version=self._version, expires_at=expires_at)
        if written is not None:
            self._version, self.until = written, until
        return written is not None

    async def _adopt(self) -> bool:
        """Learn the version of a write that was made though its answer was lost; whether that noted it as done."""
        found = await Records(self._store, State).read(self._key)
        if found is None:  # the claim ended, and nobody else took it
            self._version = ABSENT
            return False
        state = found.value
        if state.owner != self.owner:
            raise ClaimLostError
        self._version = found.version
        return state.results is not None


def part_name(owner: str, number: int) -> str:
    """The name of the part that holds one of the results."""
    return f"{owner}/{number:06}"
