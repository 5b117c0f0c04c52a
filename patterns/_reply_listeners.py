"""The consumers of reply channels: one per channel, started again where it ends by itself, stopped within a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final, cast

from eip._logging import get_logger
from eip.channels import Sender, Source
from eip.errors import error_text
from eip.health import Health
from eip.message import Message
from eip.patterns._gathering import ReplyChannel
from eip.retry import Backoff
from eip.runtime.consumer import Consumer

__all__ = ["ReplyListeners"]

_log = get_logger("eip.scatter_gather")
_RESTART: Final = Backoff(base=1.0, cap=30.0)
"""Between starts of a consumer that ended with an error."""
_ABANDON_S: Final = 1.0
"""Seconds that a task may take to end once it was cancelled; a driver that hangs is left to itself after that."""


class _Listener:
    """One channel's consumer, and the task that runs it."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.error: Exception | None = None
        """Why it does not run now."""
        self._stopping = False
        self.task = asyncio.create_task(self._run(), name=f"{consumer.name} replies")

    async def started(self) -> None:
        """Wait until it consumes; raises what connecting raises, where that is the first attempt."""
        waiting = asyncio.ensure_future(self.consumer.started.wait())
        try:
            await asyncio.wait((waiting, self.task), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self.task.done():
            self.task.result()

    async def _run(self) -> None:
        failures, ever = 0, False
        while not self._stopping:
            try:
                await self._consume()
            except Exception as error:
                ever = ever or self._was_started
                if not ever:
                    raise
                failures = 1 if self._was_started else failures + 1
                self.error = error
                delay = _RESTART.delay(failures)
                _log.warning("replies_failed", channel=self.consumer.name, error=str(error), retry_in=delay)
                await asyncio.sleep(delay)

    async def _consume(self) -> None:
        self._was_started = False
        noting = asyncio.create_task(self._note_start())
        try:
            await self.consumer.run()
        finally:
            noting.cancel()

    async def _note_start(self) -> None:
        await self.consumer.started.wait()
        self._was_started, self.error = True, None

    def health(self) -> Health:
        """The consumer's, or why it waits to be started again."""
        found = self.consumer.health()
        reason = found.reason if self.error is None else error_text(self.error)
        return found if found.ok else replace(found, reason=f"{self.consumer.name}: {reason}")

    async def stop(self, grace: float) -> None:
        """Let the consumer drain for up to ``grace`` seconds, then cancel it."""
        self._stopping = True
        stopping = asyncio.ensure_future(self.consumer.stop())
        try:
            await asyncio.wait((stopping, self.task), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopping, self.task):
                task.cancel()
        _, pending = await asyncio.wait((stopping, self.task), timeout=_ABANDON_S)
        if pending:
            _log.error("replies_not_stopped", channel=self.consumer.name, grace=grace)


class ReplyListeners:
    """What consumes the reply channels, each once."""

    take: Callable[[Message[Any]], Awaitable[None]]
    """What handles the replies."""

    def __init__(self, *, concurrency: int, dead_letters: Sender | None) -> None:
        self._concurrency, self._dead_letters = concurrency, dead_letters
        self._listeners: dict[str, _Listener] = {}
        self._handled_before = 0
        """By consumers that were stopped."""
        self.active: set[str] = set()
        """The addresses of the channels that are consumed."""

    def listening(self, address: str) -> bool:
        """Whether the channel of that address can be consumed now."""
        listener = self._listeners.get(address)
        return listener is not None and listener.consumer.started.is_set()

    @property
    def handled(self) -> int:
        """Replies handled so far."""
        return self._handled_before + sum(each.consumer.stats.handled for each in self._listeners.values())

    def health(self) -> Health:
        """The first of the channels that cannot be consumed now, and why; ok: all can be."""
        healths = [each.health() for each in self._listeners.values()]
        failing = [each for each in healths if not each.ok]
        polls = [each.last_poll for each in healths if each.last_poll is not None]
        return failing[0] if failing else Health(ok=True, last_poll=min(polls, default=None))

    async def listen(self, channel: ReplyChannel) -> None:
        """Consume the channel; returns once that has begun, and raises what connecting raises."""
        listener = self._listeners.get(channel.address)
        if listener is None:
            # Replies expire with their request; those that come late are still counted.
            consumer = Consumer(
                cast("Source", channel),
                self.take,
                concurrency=self._concurrency,
                on_expired="handle",
                dead_letters=self._dead_letters,
            )
            listener = self._listeners[channel.address] = _Listener(consumer)
        try:
            await listener.started()
        except BaseException:
            if listener.task.done():
                self._listeners.pop(channel.address, None)
            raise
        self.active.add(channel.address)

    async def unlisten(self, address: str, *, grace: float) -> None:
        """Stop consuming the channel of that address."""
        self.active.discard(address)
        listener = self._listeners.pop(address, None)
        if listener is not None:
            await self._stop(listener, grace)

    async def stop(self, grace: float) -> None:
        """Stop consuming all channels."""
        listeners = list(self._listeners.values())
        self._listeners.clear()
        self.active.clear()
        await asyncio.gather(*(self._stop(each, grace) for each in listeners))

    async def _stop(self, listener: _Listener, grace: float) -> None:
        try:
            await listener.stop(grace)
        finally:
            self._handled_before += listener.consumer.stats.handled
