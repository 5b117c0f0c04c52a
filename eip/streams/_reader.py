"""Reads one shard into its window, as far ahead as the options let it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from eip.retry import Backoff
from eip.streams._context import WorkerContext, log
from eip.streams._held import Held
from eip.streams.log import Cursor, Page

__all__ = ["read_shard"]

_RETRY_BACKOFF: Final = Backoff(base=0.2, cap=5.0)
_DENIED_BACKOFF: Final = Backoff(base=1.0, cap=30.0)
"""After a failure that another attempt will most likely repeat."""


async def read_shard(held: Held, context: WorkerContext, on_records: Callable[[], None]) -> None:
    """Read the shard until its end; whatever fails is tried again.

    Args:
        held: the shard, whose window is filled.
        context: of the worker that holds it.
        on_records: called after each page that brought some.
    """
    failures, max_read_ahead = 0, context.options.max_read_ahead
    while not held.ended:
        await _room(held, context)
        try:
            page = await _read(held.cursor, max_read_ahead - len(held.window))
        except Exception as error:  # noqa: BLE001 - whatever failed, the shard is read on
            failures += 1
            held.not_read(error)
            context.warn("read_failed", held.shard, error)
            backoff = _RETRY_BACKOFF if getattr(error, "transient", True) else _DENIED_BACKOFF
            await asyncio.sleep(backoff.delay(failures))
            continue
        failures = 0
        held.add(page)
        if page.missed:
            log.error("records_missed", stream=context.log.name, shard=held.shard, count=page.missed)
        if page.records:
            on_records()


async def _read(cursor: Cursor, limit: int) -> Page:
    bound = asyncio.timeout(cursor.max_read)
    try:
        async with bound:
            return await cursor.read(limit)
    except TimeoutError as error:
        raise TimeoutError(f"no answer within {cursor.max_read:g} s") if bound.expired() else error from None


async def _room(held: Held, context: WorkerContext) -> None:
    """Wait until the window takes more.

    It is read on at half of the bound, not at each record that is done: a call of the service for one record would use
    up the five that a shard has per second.
    """
    window, options = held.window, context.options
    while len(window) > options.max_read_ahead // 2 or window.bytes >= options.max_read_ahead_bytes:
        held.full = True
        held.changed.clear()
        await held.changed.wait()
    held.full = False
