"""One lane of a shard, as `eip.streams.BatchConsumer` works it off: a batch at a time, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.clock import now
from eip.errors import error_text, stack_text
from eip.message import Message
from eip.runtime._recovery import is_permanent
from eip.runtime._settings import Stats
from eip.streams._batch_call import BatchCalls, Leaving
from eip.streams._batch_handlers import BatchFailure, MessageFailure
from eip.streams._batch_items import BatchItem, BatchItems
from eip.streams._batch_settings import BatchSettings
from eip.streams._dead_letters import send_dead_letters
from eip.streams._held import Held
from eip.streams._membership import Membership
from eip.streams.window import Slot

__all__ = ["Lane"]

_repeated = RepeatedLines(get_logger("eip.streams"))


class Lane:
    """Gathers, handles and settles the batches of one lane until the shard is left."""

    def __init__(self, settings: BatchSettings, members: Membership, stats: Stats, held: Held, number: int) -> None:
        self._settings, self._stats = settings, stats
        self._held, self._number = held, number
        self._items = BatchItems(members, held, settings.handler.read)
        self.calls = BatchCalls(settings, held.shard)
        self._unread: dict[Slot, BatchItem] = {}
        """Of the batch, the records that are not done before their unreadable parts are put aside."""

    async def run(self) -> None:
        """Work until the shard is left, or lost."""
        stats = self._stats
        while batch := await self._gather():
            stats.received += len(batch)
            stats.in_flight += len(batch)
            try:
                await self._settle_batch(batch)
                self._held.free(self._number)
            except Leaving:
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
        """Have what is readable handled, then put the rest aside: its neighbours do not wait for it."""
        items = [self._items.read(slot) for slot in batch]
        self._unread = {item.slot: item for item in items if item.unreadable}
        self._done([item.slot for item in items if not item.arguments])  # an empty pack
        if handled := [item for item in items if item.arguments]:
            await self._settle(handled)
        for item in list(self._unread.values()):
            await self._settle_unreadable(item)

    async def _settle(self, items: Sequence[BatchItem]) -> None:
        """Try until every one is done or put aside."""
        attempt = 0
        while items and (failure := await self.calls.attempt(items)) is not None:
            items = [self._items.read(each.slot) for each in items]  # the handler may have changed what it was given
            if isinstance(failure, BatchFailure) and 0 < failure.handled < len(items):
                self._handled(items[: failure.handled])
                items = items[failure.handled :]
                attempt = 0
            attempt += 1
            # A handler of single messages failed at the first one: that one alone is tried again, or put aside.
            failed = items[:1] if isinstance(failure, MessageFailure) else items
            error = failure.error if isinstance(failure, MessageFailure) else failure
            self._stats.retried += len(failed)
            if self._settings.bisect and len(failed) > 1:
                middle = len(failed) // 2
                await self._settle(failed[:middle])
                await self._settle(failed[middle:])
                return
            slots = [each.slot for each in failed]
            if self._gives_up(slots, error, attempt) and await self._put_aside(slots, error, attempt):
                items = items[len(failed) :]
                attempt = 0
            else:
                await self._pause(attempt)
        self._handled(items)

    def _handled(self, items: Sequence[BatchItem]) -> None:
        self._stats.handled += len(items)
        self._done([each.slot for each in items])

    def _done(self, slots: Sequence[Slot]) -> None:
        """Count the records as done, except where a part of one has still to be put aside."""
        if done := [slot for slot in slots if slot not in self._unread]:
            self._held.done(done, more=True)

    async def _settle_unreadable(self, item: BatchItem) -> None:
        """Try until all of it is put aside; without a destination it stays, and its lane waits."""
        for message, error in item.unreadable:
            attempt = 1
            self.calls.warn("record_unreadable", item.slot, error)
            while not await self._send_aside([message], error, attempt):
                await self._pause(attempt)
                attempt += 1
        del self._unread[item.slot]
        self._done([item.slot])

    async def _pause(self, attempt: int) -> None:
        """Wait for the next attempt; raises `Leaving` where it is another worker's to make."""
        held, time = self._held, asyncio.get_running_loop().time
        until = time() + self._settings.retry.delay(attempt)
        while time() < until:
            if held.leaving or held.gone:
                raise Leaving
            await self._changed(until)

    def _gives_up(self, slots: Sequence[Slot], failure: Exception, attempt: int) -> bool:
        max_attempts, max_age = self._settings.retry.max_attempts, self._settings.max_age
        too_old = max_age is not None and now() - slots[0].record.at >= max_age
        return is_permanent(failure) or (max_attempts is not None and attempt >= max_attempts) or too_old

    async def _put_aside(self, slots: Sequence[Slot], failure: Exception, attempt: int) -> bool:
        """Send whole records to the on-failure destination; whether that was done, and they are."""
        messages = [self._items.message(slot) for slot in slots]
        if not await self._send_aside(messages, failure, attempt):
            return False
        for slot in slots:
            self._unread.pop(slot, None)
        self._done(slots)
        return True

    async def _send_aside(self, messages: Sequence[Message[Any]], failure: Exception, attempt: int) -> bool:
        """Send messages to the on-failure destination; whether that was done."""
        destination, source = self._settings.on_failure, self._settings.source
        if destination is None:
            return False
        try:
            await send_dead_letters(
                destination,
                messages,
                error_text(failure),
                source=source,
                count=attempt,
                stack=stack_text(failure),
            )
        except Exception as error:  # noqa: BLE001 - they stay where they are, and it is tried again
            _repeated.error("on_failure_failed", group=self._settings.name, shard=self._held.shard, error=str(error))
            return False
        self._stats.dead_lettered += len(messages)
        return True
