"""Handles the messages of a pack as if each had come alone, and the pack as one delivery."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from eip._logging import get_logger
from eip.channels import Delivery, Queue, dead_lettered
from eip.message import Message
from eip.packing import unpack

from .settings import Settings, Stats
from .verdicts import DeadLetter, Later, ParkGroup, Verdict, judge

__all__ = ["ATTEMPTS_HEADER", "Packs", "own_cancellation"]

_log = get_logger("eip.consumer")

ATTEMPTS_HEADER: Final = "attempts"
"""Counts the attempts at a message that failed in a pack and was sent again on its own."""


class _Failure(NamedTuple):
    message: Message[Any]
    error: Exception


class _Progress:
    """How far a pack that is handled in order has come."""

    __slots__ = ("done", "tries")

    def __init__(self) -> None:
        self.done = 0
        """Messages that were handled, or dead-lettered on their own."""
        self.tries = 0
        """Attempts, in this process, that the next one has failed in."""


class Packs:
    """Unpacks deliveries for a session.

    A pack of a message group is handled in order: at a failure the whole of it waits, and goes on where it was while it
    stays in this process; what is to be dead-lettered is so on its own. Of any other pack the messages are handled in
    parallel, no more at once than the consumer's concurrency, whatever the number of packs; those that fail are sent
    again on their own, with their attempt count, before the pack is acknowledged. Where ``channel`` is no queue that
    can be sent to, or all failed for the moment, the pack is retried as a whole.
    """

    def __init__(
        self,
        settings: Settings,
        stats: Stats,
        process: Callable[[Message[Any]], Awaitable[None]],
        channel: Queue | None,
    ) -> None:
        self._settings, self._stats, self._process, self._channel = settings, stats, process, channel
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._progress: dict[str, _Progress] = {}
        """By the pack's id, of those that one of their messages failed in."""

    async def handle(self, delivery: Delivery) -> None:
        """Handle the pack; raises what its retry, or its way to the dead-letter channel, is decided by."""
        messages = unpack(delivery.message)
        if delivery.message.group_id is not None and delivery.receiver.ordered:
            await self._in_order(delivery, messages)
        else:
            await self._in_parallel(delivery, messages)
        self._stats.packs += 1

    def tries(self, delivery: Delivery, default: int) -> int:
        """How often the message that a pack is stopped at was tried before; ``default`` for what is no such pack."""
        progress = self._progress.get(delivery.message.id)
        return default if progress is None else progress.tries - 1

    def forget(self, delivery: Delivery) -> None:
        """The pack leaves this process."""
        self._progress.pop(delivery.message.id, None)

    # A message group's pack: one message after the other.

    async def _in_order(self, delivery: Delivery, messages: Sequence[Message[Any]]) -> None:
        pack = delivery.message.id
        progress = self._progress.get(pack) or _Progress()
        while progress.done < len(messages):
            message = messages[progress.done]
            try:
                await self._handle(delivery, message)
            except Exception as error:
                progress.tries += 1
                self._progress[pack] = progress
                alone = Delivery(delivery.receiver, message, receive_count=delivery.receive_count)
                verdict = self._judge_next(alone, error, progress.tries)
                if not isinstance(verdict, DeadLetter):
                    raise
                self._warn(alone, error, progress.tries, verdict)
                await self._dead_letter(alone, verdict.reason)
            progress.done += 1
            progress.tries = 0
        self._progress.pop(pack, None)

    def _judge_next(self, alone: Delivery, error: Exception, tries: int) -> Verdict:
        settings = self._settings
        return judge(
            alone,
            error,
            retry=settings.retry,
            on_group_failure=settings.on_group_failure,
            grouped=True,
            retries_left=settings.local_retries - (tries - 1),
            attempt=alone.receive_count + tries - 1,
        )

    # Any other pack: its messages at once.

    async def _in_parallel(self, delivery: Delivery, messages: Sequence[Message[Any]]) -> None:
        failures: list[_Failure] = []
        rest = iter(messages)
        most = min(self._settings.concurrency, len(messages))
        started, starting = 0, False

        def start() -> None:
            nonlocal started, starting
            started, starting = started + 1, True
            tasks.create_task(work())

        async def work() -> None:
            nonlocal starting
            starting = False
            for message in rest:
                if not starting and started < most:
                    start()  # it gets its turn where this handler waits; where none waits, two tasks do all
                try:
                    async with self._slots:
                        await self._handle(delivery, message)
                except Exception as error:  # noqa: BLE001 - judged below, one by one
                    failures.append(_Failure(message, error))

        async with asyncio.TaskGroup() as tasks:
            start()
        if failures:
            await self._settle(delivery, failures, all_failed=len(failures) == len(messages))

    async def _settle(self, delivery: Delivery, failures: Sequence[_Failure], *, all_failed: bool) -> None:
        """Each failure to where it belongs; raises one of them where the pack is to be retried as a whole."""
        judged = [(failure, *self._judge_alone(delivery, failure)) for failure in failures]
        passing = [failure for failure, _, verdict in judged if isinstance(verdict, Later)]
        whole = bool(passing) and (self._channel is None or (all_failed and len(passing) == len(failures)))
        outcomes = await asyncio.gather(
            *(
                self._again(failure, alone, verdict)
                for failure, alone, verdict in judged
                if not (whole and isinstance(verdict, Later))
            ),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        if whole:
            raise passing[0].error

    def _judge_alone(self, delivery: Delivery, failure: _Failure) -> tuple[Delivery, Verdict]:
        """The failed message as a delivery of its own, which counts its own attempts, and the verdict on it."""
        count = failure.message.headers.get(ATTEMPTS_HEADER, "")
        attempts = (int(count) if count.isdecimal() and len(count) < 9 else 0) + 1
        alone = Delivery(delivery.receiver, failure.message, receive_count=attempts)
        verdict = judge(alone, failure.error, retry=self._settings.retry, attempt=attempts)
        most = delivery.receiver.max_receive_count
        if isinstance(verdict, Later) and most is not None and attempts >= most and delivery.receiver.dead_letters:
            verdict = DeadLetter(f"{type(failure.error).__name__} in each of {attempts} attempts")
        return alone, verdict

    async def _again(self, failure: _Failure, alone: Delivery, verdict: Verdict) -> None:
        """Send what failed once more on its own, or to the dead-letter channel."""
        self._warn(alone, failure.error, alone.receive_count, verdict)
        if isinstance(verdict, (DeadLetter, ParkGroup)):
            await self._dead_letter(alone, verdict.reason)
        elif self._channel is not None:
            self._stats.retried += 1
            message = failure.message
            retried = message.replace(headers={**message.headers, ATTEMPTS_HEADER: str(alone.receive_count)})
            longest = self._channel.limits.max_delay
            delay = verdict.delay if longest is None else min(verdict.delay, longest)
            await self._channel.send(retried, delay=delay)

    # One message.

    async def _handle(self, delivery: Delivery, message: Message[Any]) -> None:
        if message.expired() and self._settings.on_expired != "handle":
            self._stats.expired += 1
            if self._settings.on_expired == "dead_letter" and delivery.receiver.dead_letters is not None:
                await self._dead_letter(Delivery(delivery.receiver, message), "expired before it was handled")
            return
        try:
            await self._process(message)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise own_cancellation(error) from error  # a task group would take it for the end of the task
        self._stats.unpacked += 1

    async def _dead_letter(self, alone: Delivery, reason: str) -> None:
        dead_letters = alone.receiver.dead_letters
        assert dead_letters is not None, "`judge` dead-letters only where there is a channel for it"
        await dead_letters.send(dead_lettered(alone, reason, source=alone.receiver.name))
        self._stats.dead_lettered += 1

    def _warn(self, alone: Delivery, error: Exception, attempt: int, verdict: Verdict) -> None:
        _log.warning(
            "handling_failed",
            channel=alone.receiver.name,
            message_id=alone.message.id,
            correlation_id=alone.message.correlation_id,
            attempt=attempt,
            verdict=type(verdict).__name__,
            error=f"{type(error).__name__}: {error}",
        )


def own_cancellation(error: asyncio.CancelledError) -> Exception:
    """A handler whose own call was cancelled has failed; nobody has stopped it."""
    failure = RuntimeError("the handler was cancelled from within")
    failure.__cause__ = error
    return failure
