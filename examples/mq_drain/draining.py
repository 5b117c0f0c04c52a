"""Empties a queue in batches: so many messages to a call of the handler, so many calls at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from eip import Consumer, running
from eip.channels import Queue
from eip.patterns.batching import batched

__all__ = ["Drained", "drain"]

Work = Callable[[list[str]], Awaitable[None]]

_WINDOW_S = 0.5
"""Seconds that an incomplete batch waits for more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """Of one run."""

    messages: int
    calls: int
    most: int
    """Calls at once, at most."""
    seconds: float


async def drain(queue: Queue, messages: int, work: Work, *, batch: int = 100, at_once: int = 1) -> Drained:
    """Consume until so many messages are handled.

    Args:
        queue: of texts.
        messages: in it.
        work: is given the texts of a batch; an error of it brings the whole batch again.
        batch: texts in a call.
        at_once: calls under way at most. A consumer holds ``batch * at_once`` messages, no more.
    """
    handled = calls = busy = most = 0
    empty = asyncio.Event()

    @batched(batch, _WINDOW_S)
    async def handle(texts: list[str]) -> None:
        nonlocal handled, calls, busy, most
        busy += 1
        most = max(most, busy)
        try:
            await work(texts)
        finally:
            busy -= 1
        calls, handled = calls + 1, handled + len(texts)
        if handled >= messages:
            empty.set()

    loop = asyncio.get_running_loop()
    began = loop.time()
    async with running(Consumer(queue, handle, concurrency=batch * at_once)):
        await empty.wait()
    return Drained(messages=handled, calls=calls, most=most, seconds=loop.time() - began)
