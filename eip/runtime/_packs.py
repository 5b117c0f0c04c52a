"""Handles the messages of a pack as if each had come alone, and the pack as one delivery."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from typing import Any, Final, NamedTuple, cast

from eip.channels import Delivery, Queue, send_dead_letter
from eip.errors import stack_text
from eip.message import Message
from eip.packs import unpack, unreadable
from eip.runtime._failure_log import FailureLog
from eip.runtime._recovery import (
    ATTEMPTS_HEADER,
    Attempt,
    Attempts,
    DeadLetter,
    DelayedRetry,
    ImmediateRetry,
    ParkGroup,
    RecoveryAction,
    decide,
    earlier_attempts,
    is_counted,
)
from eip.runtime._settings import Settings, Stats
from eip.runtime._workers import CancelledWithin, absorbed, has_changed

__all__ = ["Packs"]


_RETRIES: Final = (DelayedRetry, ImmediateRetry)


class _Failure(NamedTuple):
    at: int
    """Its place in the pack."""
    error: Exception


class _Progress:
    """How far a pack that is handled in order has come."""

    __slots__ = ("attempt", "done")

    def __init__(self) -> None:
        self.done = 0
        """Messages that were handled, or dead-lettered on their own."""
        self.attempt: Attempt | None = None
        """The last one at the next message, where that has failed."""


class Packs:
    """Unpacks deliveries for a session.

    A pack of a message group is handled in order: at a failure the whole of it waits, and goes on where it was while it
    stays in this process; what is to be dead-lettered is so on its own. Of any other pack the messages are handled in
    parallel, no more at once than the consumer's concurrency, whatever the number of packs; those that fail are sent
    again on their own, with their attempt count, before the pack is acknowledged. Where ``channel`` is not a queue that
    can be sent to, or all failed for the moment, the pack is retried as a whole.
    """

    def __init__(
        self,
        settings: Settings,
        stats: Stats,
        process: Callable[[Message[Any]], Awaitable[None]],
        channel: Queue | None,
        is_interrupted: Callable[[asyncio.Task[Any] | None], bool],
        *,
        failures: FailureLog,
        attempts: Attempts,
    ) -> None:
        self._is_interrupted, self._failures, self._attempts = is_interrupted, failures, attempts
        self._settings, self._stats, self._process, self._channel = settings, stats, process, channel
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._progress: dict[Delivery, _Progress] = {}
        """Of those packs that one of their messages failed in. Not by their ids: strangers give one to several."""

    async def handle(self, delivery: Delivery) -> None:
        """Handle the pack; raises what its retry, or its way to the dead-letter channel, is decided by."""
        messages = unpack(delivery.message)
        self._stats.pack_sizes.observe(len(messages))
        if delivery.message.group_id is not None and delivery.receiver.ordered:
            await self._in_order(delivery, messages)
        else:
            await self._in_parallel(delivery, messages)
        self._stats.packs += 1

    def attempt(self, delivery: Delivery) -> Attempt | None:
        """Which attempt at the message that a pack is stopped at has failed; None for any other message."""
        progress = self._progress.get(delivery)
        return None if progress is None else progress.attempt

    def forget(self, delivery: Delivery) -> None:
        """The pack leaves this process."""
        self._progress.pop(delivery, None)

    # A message group's pack: one message after the other.

    async def _in_order(self, delivery: Delivery, messages: Sequence[Message[Any]]) -> None:
        progress = self._progress.get(delivery) or _Progress()
        host = asyncio.current_task()
        while progress.done < len(messages):
            try:
                # A task of their own: what a handler does to its task must not hinder what is decided here.
                await asyncio.create_task(self._advance(delivery, messages, progress, host))
            except Exception as error:
                self._progress[delivery] = progress
                received = _as_received(delivery)[progress.done]
                alone = Delivery(delivery.receiver, received, receive_count=delivery.receive_count)
                waits = Attempt(delivery.receive_count, 1)
                progress.attempt = attempt = self._attempts.count(alone) if is_counted(error) else waits
                action = self._decide_next(alone, error, attempt)
                if not isinstance(action, DeadLetter):
                    raise
                await self._dead_letter(alone, action.reason, stack_text(error))
                _forget_callbacks(delivery)
                self._failures.dead_lettered(alone, error, attempt.number)
                self._done(received, progress)
        self._progress.pop(delivery, None)

    async def _advance(
        self,
        delivery: Delivery,
        messages: Sequence[Message[Any]],
        progress: _Progress,
        host: asyncio.Task[Any] | None,
    ) -> None:
        """Handle one message after the other, until one fails, or leaves a context variable behind."""
        context = copy_context()
        while progress.done < len(messages) and not has_changed(context):
            message = messages[progress.done]
            await self._handle(delivery, message, host)
            self._done(message, progress)

    def _done(self, message: Message[Any], progress: _Progress) -> None:
        self._attempts.forget(message)
        progress.done += 1
        progress.attempt = None

    def _decide_next(self, alone: Delivery, error: Exception, attempt: Attempt) -> RecoveryAction:
        settings = self._settings
        return decide(
            alone,
            error,
            retry=settings.retry,
            on_group_failure=settings.on_group_failure,
            grouped=True,
            local_retries=settings.local_retries - (attempt.here - 1),
            attempt=attempt.number,
        )

    # Any other pack: its messages at once.

    async def _in_parallel(self, delivery: Delivery, messages: Sequence[Message[Any]]) -> None:
        # What nobody notes an outcome for has failed: a handler may have cancelled the task that was to take it.
        failures: dict[int, Exception] = {at: CancelledWithin() for at in range(len(messages))}
        rest = iter(enumerate(messages))
        most = min(self._settings.concurrency, len(messages))
        started, starting = 0, False
        host, context = asyncio.current_task(), copy_context()

        def start() -> None:
            nonlocal started, starting
            started, starting = started + 1, True
            tasks.create_task(work(), context=context.copy())

        async def work() -> None:
            nonlocal started, starting
            starting = False
            for at, message in rest:
                if not starting and started < most:
                    start()  # it gets its turn where this handler waits; where none waits, two tasks do all
                try:
                    async with self._slots:
                        await self._handle(delivery, message, host)
                    del failures[at]
                except Exception as error:  # noqa: BLE001 - recovered below, one by one
                    failures[at] = error
                if has_changed(context) or isinstance(failures.get(at), CancelledWithin):
                    started -= 1
                    start()  # the handler has left something behind in this task
                    return

        async with asyncio.TaskGroup() as tasks:
            start()
        if failures:
            failed = [_Failure(at, error) for at, error in failures.items()]
            await self._settle(delivery, failed, all_failed=len(failed) == len(messages))

    async def _settle(self, delivery: Delivery, failures: Sequence[_Failure], *, all_failed: bool) -> None:
        """Each failure to where it belongs; raises one of them where the pack is to be retried as a whole."""
        _forget_callbacks(delivery)
        messages = _as_received(delivery)
        decided = [
            (failure, *self._decide_alone(delivery, messages[failure.at], failure.error)) for failure in failures
        ]
        passing = [failure for failure, _, action in decided if isinstance(action, _RETRIES)]
        whole = bool(passing) and (self._channel is None or (all_failed and len(passing) == len(failures)))
        outcomes = await asyncio.gather(
            *(
                self._retry_alone(alone, failure.error, action)
                for failure, alone, action in decided
                if not (whole and isinstance(action, _RETRIES))
            ),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        if whole:
            raise passing[0].error

    def _decide_alone(
        self, delivery: Delivery, message: Message[Any], error: Exception
    ) -> tuple[Delivery, RecoveryAction]:
        """The failed message as a delivery of its own, which counts its own attempts, and the action for it.

        A pack comes again only where all of it failed, so each earlier receive was an attempt at each message.
        """
        attempts = earlier_attempts(message) + delivery.receive_count - (not is_counted(error))
        alone = Delivery(delivery.receiver, message, receive_count=attempts)
        return alone, decide(alone, error, retry=self._settings.retry, attempt=attempts)

    async def _retry_alone(self, alone: Delivery, error: Exception, action: RecoveryAction) -> None:
        """Send what failed once more on its own, or to the dead-letter channel."""
        if isinstance(action, (DeadLetter, ParkGroup)):
            await self._dead_letter(alone, action.reason, stack_text(error))
            self._failures.dead_lettered(alone, error, alone.receive_count)
        elif self._channel is not None:
            self._stats.retried += 1
            message = alone.message
            retried = message.replace(headers={**message.headers, ATTEMPTS_HEADER: str(alone.receive_count)})
            longest = self._channel.limits.max_delay
            delay = action.delay if longest is None else min(action.delay, longest)
            self._failures.retry_scheduled(alone, error, alone.receive_count, delay)
            await self._channel.send(retried, delay=delay)

    # One message.

    async def _handle(self, delivery: Delivery, message: Message[Any], host: asyncio.Task[Any] | None) -> None:
        if message.expired() and self._settings.on_expired != "handle":
            self._stats.expired += 1
            if self._settings.on_expired == "dead_letter" and delivery.receiver.dead_letters is not None:
                alone, reason = Delivery(delivery.receiver, message), "expired before it was handled"
                await self._dead_letter(alone, reason)
                self._failures.dead_lettered_unhandled(alone, reason)
            return
        if (unread := unreadable(message)) is not None:
            raise unread
        try:
            await self._process(message)
        except asyncio.CancelledError as error:
            if self._is_interrupted(host):
                raise
            # The handler's own doing: a task group would take it for the end of the task, the message for handled.
            await absorbed(cast("asyncio.Task[Any]", asyncio.current_task()))
            raise CancelledWithin from error
        self._stats.unpacked += 1

    async def _dead_letter(self, alone: Delivery, reason: str, stack: str | None = None) -> None:
        dead_letters = alone.receiver.dead_letters
        assert dead_letters is not None, "`decide` dead-letters only where there is a channel for it"
        await send_dead_letter(
            dead_letters, alone.message, reason, source=alone.receiver.name, count=alone.receive_count, stack=stack
        )
        self._stats.count_dead_letter(reason)


def _forget_callbacks(delivery: Delivery) -> None:
    """The pack will be acknowledged without a message that goes elsewhere; nobody knows which callbacks are of that."""
    delivery.on_acked = None


def _as_received(delivery: Delivery) -> Sequence[Message[Any]]:
    """The messages of a pack as they came, whatever handlers have made of their bodies before they failed."""
    return unpack(delivery.message.undecoded())
