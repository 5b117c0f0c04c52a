"""Handles the messages of a pack as if each had come alone, and the pack as one delivery."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

import structlog

from eip.channels import Delivery, Queue, dead_lettered
from eip.message import Message
from eip.packing import unpack

from .settings import Settings, Stats
from .verdicts import DeadLetter, Later, judge

__all__ = ["ATTEMPTS_HEADER", "Packs"]

_log = structlog.get_logger("eip.consumer")

ATTEMPTS_HEADER: Final = "attempts"
"""Counts the attempts at a message that failed in a pack and was sent again on its own."""


class _Failure(NamedTuple):
    message: Message[Any]
    error: Exception


class Packs:
    """Unpacks deliveries for a session.

    A pack of a message group is handled in order and fails as a whole at its first failure; what was handled is
    remembered while the pack is retried in this process. Of any other pack the messages are handled in parallel, and
    those that fail are sent again on their own, with their attempt count, before the pack is acknowledged. Where
    ``channel`` is no queue that can be sent to, or all failed, the pack is retried as a whole.
    """

    def __init__(
        self,
        settings: Settings,
        stats: Stats,
        process: Callable[[Message[Any]], Awaitable[None]],
        channel: Queue | None,
    ) -> None:
        self._settings, self._stats, self._process, self._channel = settings, stats, process, channel
        self._done: dict[str, int] = {}
        """By the pack's id: how many of its messages were handled, where one failed."""

    async def handle(self, delivery: Delivery) -> None:
        """Handle the pack; raises what its retry, or its way to the dead-letter channel, is decided by."""
        messages = unpack(delivery.message)
        if delivery.message.group_id is not None and delivery.receiver.ordered:
            await self._in_order(delivery, messages)
        else:
            await self._in_parallel(delivery, messages)
        self._stats.packs += 1

    def forget(self, delivery: Delivery) -> None:
        """The pack leaves this process."""
        self._done.pop(delivery.message.id, None)

    async def _in_order(self, delivery: Delivery, messages: Sequence[Message[Any]]) -> None:
        pack = delivery.message.id
        for message in messages[self._done.setdefault(pack, 0) :]:
            try:
                await self._unless_expired(message)
            except Exception as error:
                alone = Delivery(delivery.receiver, message, receive_count=delivery.receive_count)
                verdict = judge(alone, error, retry=self._settings.retry, grouped=True, retries_left=1)
                if not isinstance(verdict, DeadLetter):
                    raise
                await self._dead_letter(alone, verdict.reason)
            self._done[pack] += 1
        del self._done[pack]

    async def _in_parallel(self, delivery: Delivery, messages: Sequence[Message[Any]]) -> None:
        failures: list[_Failure] = []
        rest = iter(messages)

        async def work() -> None:
            for message in rest:
                try:
                    await self._unless_expired(message)
                except Exception as error:  # noqa: BLE001 - judged below, one by one
                    failures.append(_Failure(message, error))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(self._settings.concurrency, len(messages))):
                tasks.create_task(work())
        if failures and (len(failures) == len(messages) or self._channel is None):
            raise failures[0].error
        for failure in failures:
            await self._again(delivery, failure, self._channel)

    async def _unless_expired(self, message: Message[Any]) -> None:
        if message.expired():
            self._stats.expired += 1
        else:
            await self._process(message)
            self._stats.unpacked += 1

    async def _again(self, delivery: Delivery, failure: _Failure, channel: Queue | None) -> None:
        """Send what failed once more on its own, or to the dead-letter channel."""
        message = failure.message
        count = message.headers.get(ATTEMPTS_HEADER, "")
        attempts = (int(count) if count.isdecimal() and len(count) < 9 else 0) + 1
        alone = Delivery(delivery.receiver, message, receive_count=attempts)
        verdict = judge(alone, failure.error, retry=self._settings.retry, attempt=attempts)
        most = delivery.receiver.max_receive_count
        if isinstance(verdict, Later) and most is not None and attempts >= most and delivery.receiver.dead_letters:
            verdict = DeadLetter(f"{type(failure.error).__name__} in each of {attempts} attempts")
        _log.warning(
            "handling_failed",
            channel=delivery.receiver.name,
            message_id=message.id,
            correlation_id=message.correlation_id,
            attempt=attempts,
            verdict=type(verdict).__name__,
            error=f"{type(failure.error).__name__}: {failure.error}",
        )
        if isinstance(verdict, Later) and channel is not None:
            self._stats.retried += 1
            retried = message.replace(headers={**message.headers, ATTEMPTS_HEADER: str(attempts)})
            await channel.send(retried, delay=verdict.delay)
        else:
            await self._dead_letter(alone, getattr(verdict, "reason", str(failure.error)))

    async def _dead_letter(self, alone: Delivery, reason: str) -> None:
        if alone.receiver.dead_letters is not None:
            await alone.receiver.dead_letters.send(dead_lettered(alone, reason, source=alone.receiver.name))
            self._stats.dead_lettered += 1
