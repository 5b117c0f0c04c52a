"""A handler that only counts, for measuring what is around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from eip import Message

__all__ = ["counting"]


def counting(count: int) -> tuple[Callable[[Message], Awaitable[None]], asyncio.Event]:
    """A handler, and the event that it sets with the last of so many messages."""
    handled, done = 0, asyncio.Event()

    async def handle(_: Message) -> None:
        nonlocal handled
        handled += 1
        if handled == count:
            done.set()

    return handle, done
