"""One lane of a shard, as `eip.streams.BatchConsumer` works it off: a batch at a time, in order."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.channels import Sender
from eip.clock import now
from eip.errors import ConfigurationError, Disposition
from eip.message import Message
from eip.packing import is_pack, unpack
from eip.retry import Backoff
from eip.runtime._recovery import is_permanent
from eip.runtime._settings import Stats
from eip.runtime.handlers import Result, messages_of
from eip.streams._dead_letters import send_dead_letters
from eip.streams._worker import Held
from eip.streams.group import StreamGroup
from eip.streams.window import Slot

__all__ = ["BatchFailure", "BatchHandler", "BatchSettings", "Lane"]

_log = get_logger("eip.streams")
_repeated = RepeatedLines(_log)

BatchHandler: TypeAlias = Callable[[Sequence[Any]], Awaitable[Result]]
"""Takes messages of one shard, those of a key in order; returns what a handler of `eip.Consumer` returns."""


class BatchFailure(Disposition):
    """The handler did the first ``handled`` messages of its batch and failed at the next: it begins there again."""

    def __init__(self, reason: str = "", *, handled: int) -> None:
        self.handled = handled
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """The options of a batch consumer, see `BatchConsumer`; durations in seconds."""

    name: str
    handler: BatchHandler
    size: int
    window: float
    output: Sender | None
    on_failure: Sender | None
    bisect: bool
    retry: Backoff
    max_age: float | None
    max_processing: float


class _Item(NamedTuple):
    """A record and what the handler gets of it: one message, or those of a pack."""

    slot: Slot
    messages: Sequence[Any]


class _Leaving(Exception):
    """The shard is being handed over, or the consumer stops: what waits for its next attempt is given back."""


class Lane:
    """Gathers, handles and settles the batches of one lane until the shard is left."""

    def __init__(self, settings: BatchSettings, group: StreamGroup, stats: Stats, held: Held, number: int) -> None:
        self._settings, self._group, self._stats = settings, group, stats
        self._held, self._number = held, number
        self._ending = False
        self.task: asyncio.Task[None]

    def cancel(self) -> None:
        """End it at once; what it has out is not settled."""
        self._ending = True
        self.task.cancel()

    async def run(self) -> None:
        """Work until the shard is left, or lost."""
        stats = self._stats
        while batch := await self._gather():
            stats.received += len(batch)
            stats.in_flight += len(batch)
            try:
                await self._settle_batch(batch)
            except _Leaving:
                self._held.back([slot for slot in batch if not slot.done])
            finally:
                stats.in_flight -= len(batch)

    async def _gather(self) -> list[Slot]:
        """The next batch; [] when there will be none."""
        held, settings, number = self._held, self._settings, self._number
        time = asyncio.get_running_loop().time
        until: float | None = None
        while not held.leaving and not held.gone:
            waiting = held.window.waiting(number)
            if waiting and until is None:
                until = time() + settings.window
            complete = waiting >= settings.size or held.full or held.ended
            if waiting and until is not None and (complete or time() >= until):
                return held.window.take_lane(number, settings.size)
            await self._changed(until)
        return []

    async def _changed(self, until: float | None) -> None:
        """Return when something of the shard changed, or at that time by the loop's clock."""
        self._held.changed.clear()
        try:
            async with asyncio.timeout_at(until):
                await self._held.changed.wait()
        except TimeoutError:
            return

    async def _settle_batch(self, batch: Sequence[Slot]) -> None:
        """Have the readable records handled, then put each unreadable one aside: its neighbours do not wait for it."""
        items: list[_Item] = []
        unreadable: list[tuple[Slot, Exception]] = []
        for slot in batch:
            try:
                items.append(self._item(slot))
            except Exception as error:  # noqa: BLE001 - what reading a record raises concerns that record alone
                unreadable.append((slot, error))
        if items:
            await self._settle(items, last=not unreadable)
        for slot, failure in unreadable:
            await self._settle_unreadable(slot, failure, last=slot is unreadable[-1][0])

    def _item(self, slot: Slot) -> _Item:
        message, error = self._group.message(self._held, slot)
        if error is not None:
            raise error
        return _Item(slot, unpack(message) if is_pack(message) else (message,))

    async def _settle(self, items: Sequence[_Item], *, last: bool) -> None:
        """Try until every one is done or put aside. ``last``: nothing of the lane is out behind them."""
        attempt = 0
        while (failure := await self._attempt(items)) is not None:
            items = [self._item(each.slot) for each in items]  # the handler may have changed what it was given
            if isinstance(failure, BatchFailure) and 0 < failure.handled < len(items):
                self._handled(items[: failure.handled], more=True)
                items = items[failure.handled :]
                attempt = 0
            attempt += 1
            self._stats.retried += len(items)
            if self._settings.bisect and len(items) > 1:
                middle = len(items) // 2
                await self._settle(items[:middle], last=False)
                await self._settle(items[middle:], last=last)
                return
            slots = [each.slot for each in items]
            if self._gives_up(slots, failure, attempt) and await self._put_aside(slots, failure, attempt):
                self._held.done(slots, more=not last)
                return
            await self._pause(attempt)
        self._handled(items, more=not last)

    def _handled(self, items: Sequence[_Item], *, more: bool) -> None:
        self._stats.handled += len(items)
        self._held.done([each.slot for each in items], more=more)

    async def _settle_unreadable(self, slot: Slot, error: Exception, *, last: bool) -> None:
        """Try until it is put aside; without a destination it stays, and its lane waits."""
        attempt = 1
        self._warn("record_unreadable", slot, error)
        while not await self._put_aside([slot], error, attempt):
            await self._pause(attempt)
            attempt += 1
        self._held.done([slot], more=not last)

    async def _pause(self, attempt: int) -> None:
        """Wait for the next attempt; raises `_Leaving` where it is another worker's to make."""
        held, time = self._held, asyncio.get_running_loop().time
        until = time() + self._settings.retry.delay(attempt)
        while time() < until:
            if held.leaving or held.gone:
                raise _Leaving
            await self._changed(until)

    async def _attempt(self, items: Sequence[_Item]) -> Exception | None:
        """One call of the handler; returns what it raised."""
        settings = self._settings
        try:
            async with asyncio.timeout(settings.max_processing):
                result = messages_of(await settings.handler([each for item in items for each in item.messages]))
            if result:
                await self._send(result)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its batch's failure
            failure = self._failure(error)
            self._warn("batch_failed", items[0].slot, failure, messages=len(items))
            if isinstance(failure, BatchFailure):
                ends = list(accumulate(len(item.messages) for item in items))
                return BatchFailure(failure.reason, handled=bisect_right(ends, failure.handled))
            return failure
        return None

    def _failure(self, error: BaseException) -> Exception:
        """What a handler raised, as an error; raises it where the lane itself is to end."""
        if isinstance(error, Exception):
            return error
        if isinstance(error, asyncio.CancelledError):
            if self._ending:
                raise error
            while self.task.uncancel():  # the handler cancelled its own task: nobody else wants it to end
                pass
        failure = RuntimeError(f"the handler raised {type(error).__name__}")
        failure.__cause__ = error
        return failure

    async def _send(self, messages: Sequence[Message[Any]]) -> None:
        if self._settings.output is None:
            raise ConfigurationError(f"{self._settings.name}: the handler returned messages; give it output=...")
        await self._settings.output.send(*messages)

    def _gives_up(self, slots: Sequence[Slot], failure: Exception, attempt: int) -> bool:
        max_attempts, max_age = self._settings.retry.max_attempts, self._settings.max_age
        too_old = max_age is not None and now() - slots[0].record.at >= max_age
        return is_permanent(failure) or (max_attempts is not None and attempt >= max_attempts) or too_old

    async def _put_aside(self, slots: Sequence[Slot], failure: Exception, attempt: int) -> bool:
        """Send the messages to the on-failure destination; whether that was done."""
        destination, source = self._settings.on_failure, self._group.name
        if destination is None:
            return False
        reason = f"{type(failure).__name__}: {failure}"
        messages = [self._group.message(self._held, slot)[0] for slot in slots]
        try:
            await send_dead_letters(destination, messages, reason, source=source, count=attempt)
        except Exception as error:  # noqa: BLE001 - they stay where they are, and it is tried again
            _repeated.error("on_failure_failed", group=self._settings.name, shard=self._held.shard, error=str(error))
            return False
        self._stats.dead_lettered += len(messages)
        return True

    def _warn(self, event: str, slot: Slot, error: Exception, **fields: Any) -> None:
        _log.warning(
            event,
            group=self._settings.name,
            shard=self._held.shard,
            sequence_number=slot.record.sequence,
            error=f"{type(error).__name__}: {error}",
            **fields,
        )
