"""One lane of a shard, as `eip.streams.BatchConsumer` works it off: a batch at a time, in order."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.channels import Sender
from eip.clock import now
from eip.errors import InvalidResult, error_text
from eip.message import Message
from eip.packs import is_pack, unpack, unreadable
from eip.retry import Backoff
from eip.runtime._recovery import is_permanent
from eip.runtime._settings import Stats
from eip.runtime._watchdog import HandlerCall
from eip.runtime._workers import absorbed
from eip.runtime.handlers import BatchForm, messages_of
from eip.streams._batch_handlers import BatchFailure, MessageFailure
from eip.streams._dead_letters import PLACE_HEADERS, send_dead_letters
from eip.streams._held import Held
from eip.streams.group import StreamGroup
from eip.streams.window import Slot

__all__ = ["BatchSettings", "Lane"]

_log = get_logger("eip.streams")
_repeated = RepeatedLines(_log)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """The options of a batch consumer, see `BatchConsumer`; durations in seconds."""

    name: str
    handler: BatchForm
    handler_name: str
    size: int
    window: float
    output: Sender | None
    on_failure: Sender | None
    bisect: bool
    retry: Backoff
    max_age: float | None
    max_processing: float


class _Item(NamedTuple):
    """A record, and what the handler gets of it: one message, or those of a pack."""

    slot: Slot
    arguments: Sequence[Any]
    unreadable: Sequence[tuple[Message[Any], Exception]]
    """What cannot be read of it, and why: all of it, or entries of a pack."""


class _Leaving(Exception):
    """The shard is being handed over, or the consumer stops: what waits for its next attempt is given back."""


class Lane:
    """Gathers, handles and settles the batches of one lane until the shard is left."""

    def __init__(self, settings: BatchSettings, group: StreamGroup, stats: Stats, held: Held, number: int) -> None:
        self._settings, self._group, self._stats = settings, group, stats
        self._held, self._number = held, number
        self._ending = False
        self._unread: dict[Slot, _Item] = {}
        """Of the batch, the records that are not done before their unreadable parts are put aside."""
        self._call: tuple[str, float] | None = None
        """The id of the first message that the handler has now, and since when by the loop's clock."""
        self.task: asyncio.Task[None]

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

    async def run(self) -> None:
        """Work until the shard is left, or lost."""
        stats = self._stats
        while batch := await self._gather():
            stats.received += len(batch)
            stats.in_flight += len(batch)
            try:
                await self._settle_batch(batch)
                self._held.free(self._number)
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
        """Have what is readable handled, then put the rest aside: its neighbours do not wait for it."""
        items = [self._read(slot) for slot in batch]
        self._unread = {item.slot: item for item in items if item.unreadable}
        self._done([item.slot for item in items if not item.arguments])  # an empty pack
        if handled := [item for item in items if item.arguments]:
            await self._settle(handled)
        for item in list(self._unread.values()):
            await self._settle_unreadable(item)

    def _read(self, slot: Slot) -> _Item:
        message, error = self._group.message(self._held, slot)
        if error is not None:
            return _Item(slot, (), [(message, error)])
        try:
            messages = unpack(message) if is_pack(message) else (message,)
        except Exception as failure:  # noqa: BLE001 - what reading a record raises concerns that record alone
            return _Item(slot, (), [(message, failure)])
        place = {name: message.headers[name] for name in PLACE_HEADERS if name in message.headers}
        return self._read_each(slot, messages, place)

    def _read_each(self, slot: Slot, messages: Sequence[Message[Any]], place: dict[str, str]) -> _Item:
        """The messages of a record as the handler asks for them; one that cannot be read says where it was."""
        read, arguments, odd = self._settings.handler.read, list[Any](), list[tuple[Message[Any], Exception]]()
        for each in messages:
            try:
                arguments.append(_checked(each) if read is None else read(_checked(each)))
            except Exception as failure:  # noqa: BLE001 - an entry of a pack, or a body that is not what is asked for
                odd.append((each.replace(headers={**each.headers, **place}), failure))
        return _Item(slot, arguments, odd)

    async def _settle(self, items: Sequence[_Item]) -> None:
        """Try until every one is done or put aside."""
        attempt = 0
        while items and (failure := await self._attempt(items)) is not None:
            items = [self._read(each.slot) for each in items]  # the handler may have changed what it was given
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

    def _handled(self, items: Sequence[_Item]) -> None:
        self._stats.handled += len(items)
        self._done([each.slot for each in items])

    def _done(self, slots: Sequence[Slot]) -> None:
        """Count the records as done, except where a part of one has still to be put aside."""
        if done := [slot for slot in slots if slot not in self._unread]:
            self._held.done(done, more=True)

    async def _settle_unreadable(self, item: _Item) -> None:
        """Try until all of it is put aside; without a destination it stays, and its lane waits."""
        for message, error in item.unreadable:
            attempt = 1
            self._warn("record_unreadable", item.slot, error)
            while not await self._send_aside([message], error, attempt):
                await self._pause(attempt)
                attempt += 1
        del self._unread[item.slot]
        self._done([item.slot])

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
        try:
            async with asyncio.timeout(self._settings.max_processing):
                await self._call_handler(items)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its batch's failure
            failure = self._failure(error)
            await self._take_back_cancellation()
            self._warn("batch_failed", items[0].slot, failure, messages=len(items))
            if isinstance(failure, BatchFailure):
                ends = list(accumulate(len(item.arguments) for item in items))
                failure.handled = bisect_right(ends, failure.handled)  # from messages to records
            return failure
        await self._take_back_cancellation()
        if self._ending:
            raise _Leaving  # the handler ignored its cancellation: the shard is not this consumer's any more
        return None

    async def _call_handler(self, items: Sequence[_Item]) -> None:
        arguments = [each for item in items for each in item.arguments]
        record, time = items[0].slot.record, asyncio.get_running_loop().time
        self._call = f"{self._held.shard}:{record.name}", time()
        try:
            results = messages_of(await self._settings.handler.call(arguments))
        except MessageFailure as failure:
            await self._send(failure.results)
            raise
        finally:
            self._call = None
        await self._send(results)

    def _failure(self, error: BaseException) -> Exception:
        """What a handler raised, as an error; raises it where the lane itself is to end."""
        if isinstance(error, Exception):
            return error
        if isinstance(error, asyncio.CancelledError) and self._ending:
            raise error
        failure = RuntimeError(f"the handler raised {type(error).__name__}")
        failure.__cause__ = error
        return failure

    async def _take_back_cancellation(self) -> None:
        """Undo what a handler did that cancelled its own task: nobody else wants the lane to end."""
        if self.task.cancelling() and not self._ending:
            await absorbed(self.task)

    async def _send(self, messages: Sequence[Message[Any]]) -> None:
        if not messages or self._ending:
            return
        if self._settings.output is None:
            raise InvalidResult(f"{self._settings.name}: the handler returned messages; give it output=...")
        await self._settings.output.send(*messages)

    def _gives_up(self, slots: Sequence[Slot], failure: Exception, attempt: int) -> bool:
        max_attempts, max_age = self._settings.retry.max_attempts, self._settings.max_age
        too_old = max_age is not None and now() - slots[0].record.at >= max_age
        return is_permanent(failure) or (max_attempts is not None and attempt >= max_attempts) or too_old

    async def _put_aside(self, slots: Sequence[Slot], failure: Exception, attempt: int) -> bool:
        """Send whole records to the on-failure destination; whether that was done, and they are."""
        messages = [self._group.message(self._held, slot)[0] for slot in slots]
        if not await self._send_aside(messages, failure, attempt):
            return False
        for slot in slots:
            self._unread.pop(slot, None)
        self._done(slots)
        return True

    async def _send_aside(self, messages: Sequence[Message[Any]], failure: Exception, attempt: int) -> bool:
        """Send messages to the on-failure destination; whether that was done."""
        destination, source = self._settings.on_failure, self._group.name
        if destination is None:
            return False
        try:
            await send_dead_letters(destination, messages, error_text(failure), source=source, count=attempt)
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
            error=error_text(error),
            **fields,
        )


def _checked(message: Message[Any]) -> Message[Any]:
    """The message; raises why an entry of a pack is none."""
    if (error := unreadable(message)) is not None:
        raise error
    return message
