"""One call of a batch handler at a time: bounded, and whatever the handler raises is its batch's failure."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from eip._logging import get_logger
from eip.errors import InvalidResult, error_text
from eip.message import Message
from eip.runtime._processing import in_own_task
from eip.runtime._watchdog import HandlerCall
from eip.runtime._workers import absorbed
from eip.runtime.handlers import messages_of
from eip.streams._batch_handlers import BatchFailure, MessageFailure
from eip.streams._batch_items import BatchItem
from eip.streams._batch_settings import BatchSettings
from eip.streams.window import Slot

__all__ = ["BatchCalls", "Leaving"]

_log = get_logger("eip.streams")


class Leaving(Exception):
    """The shard is handed over, or the consumer stops: give back what waits for its next attempt."""


class BatchCalls:
    """Calls the handler of one lane, in the lane's task."""

    def __init__(self, settings: BatchSettings, shard: str) -> None:
        self._settings, self._shard = settings, shard
        self._ending = False
        self._call: tuple[str, float] | None = None
        """The id of the first message that the handler has now, and since when by the loop's clock."""
        self.task: asyncio.Task[None]
        """The lane's."""

    def cancel(self) -> None:
        """End it at once; what it has out is not settled."""
        self._ending = True
        self.task.cancel()

    def running(self) -> HandlerCall | None:
        """The call of the handler that runs now."""
        if self._call is None:
            return None
        message_id, since = self._call
        settings, seconds = self._settings, asyncio.get_running_loop().time() - since
        return HandlerCall(settings.name, settings.handler_name, message_id, seconds, self.task)

    async def attempt(self, items: Sequence[BatchItem]) -> Exception | None:
        """One call of the handler; returns what it raised."""
        try:
            async with asyncio.timeout(self._settings.max_processing):
                await in_own_task(self._call_handler(items), name="the handler")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its batch's failure
            failure = self._failure(error)
            self.warn("batch_failed", items[0].slot, failure, messages=len(items))
            if isinstance(failure, BatchFailure):
                ends = list(accumulate(len(item.arguments) for item in items))
                failure.handled = bisect_right(ends, failure.handled)  # from messages to records
            return failure
        if self._ending:
            raise Leaving  # the handler ignored its cancellation: the shard is not this consumer's any more
        return None

    async def _call_handler(self, items: Sequence[BatchItem]) -> None:
        arguments = [each for item in items for each in item.arguments]
        record, time = items[0].slot.record, asyncio.get_running_loop().time
        self._call = f"{self._shard}:{record.name}", time()
        try:
            results = messages_of(await self._settings.handler.call(arguments))
            await _take_back_cancellation()
        except MessageFailure as failure:
            await self._send(failure.results)
            raise
        finally:
            self._call = None
        await self._send(results)

    def _failure(self, error: BaseException) -> Exception:
        """The error that a handler raised; raises it where the lane itself must end."""
        if isinstance(error, Exception):
            return error
        if isinstance(error, asyncio.CancelledError) and self._ending:
            raise error
        failure = RuntimeError(f"the handler raised {type(error).__name__}")
        failure.__cause__ = error
        return failure

    async def _send(self, messages: Sequence[Message[Any]]) -> None:
        if not messages or self._ending:
            return
        if self._settings.output is None:
            raise InvalidResult(f"{self._settings.name}: the handler returned messages; give it output=...")
        await self._settings.output.send(*messages)

    def warn(self, event: str, slot: Slot, error: Exception, **fields: Any) -> None:
        """Log a failure at a record."""
        _log.warning(
            event,
            group=self._settings.name,
            shard=self._shard,
            sequence_number=slot.record.sequence,
            error=error_text(error),
            **fields,
        )


async def _take_back_cancellation() -> None:
    """Undo what a handler did that cancelled its own task and returned all the same."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        await absorbed(task)
