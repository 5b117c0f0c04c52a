"""The batch consumer: a shard's records in batches, several of a shard at once, the order of each key kept.

Its levers are those of a Lambda function on a stream, and mean the same: batch size, batch window, parallelization
factor, bisecting a batch that fails, attempts, age, and an on-failure destination. Delivery is at-least-once.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias
from zlib import crc32

import anyio

from eip._logging import get_logger
from eip._runtime.acks import cancelled
from eip._runtime.recovery import is_permanent
from eip._runtime.settings import Stats
from eip.channels import Sender, put_aside
from eip.clock import Duration, now, seconds
from eip.errors import ConfigurationError, Disposition
from eip.handler import Result, messages_of
from eip.message import Message
from eip.packing import is_pack, unpack
from eip.retry import Backoff
from eip.streams._worker import Held, Worker
from eip.streams.group import StreamGroup
from eip.streams.window import Slot

__all__ = ["BatchConsumer", "BatchFailure", "BatchHandler"]

_log = get_logger("eip.streams")
_LARGEST: Final = 10_000
_LONGEST: Final = 300.0

BatchHandler: TypeAlias = Callable[[Sequence[Message[Any]]], Awaitable[Result]]
"""Takes messages of one shard, those of a key in order; returns what a handler of `eip.Consumer` returns."""


class BatchFailure(Disposition):
    """The handler did the first ``handled`` messages of its batch and failed at the next: it begins there again."""

    def __init__(self, reason: str = "", *, handled: int) -> None:
        self.handled = handled
        super().__init__(reason)


class BatchConsumer:
    """Runs a handler over the batches of a group's shards until stopped.

    Partition keys are spread over ``parallelization`` lanes of their shard; a lane has one batch at a time, so that the
    order of each key is kept; with one lane, the shard's. A batch that fails is cut in halves, down to the record that
    fails; what comes after it in its lane waits, until it succeeds or is put aside. Records are counted as done one by
    one, so that what was done is not done again.

    Args:
        group: what is read.
        handler: ``async def handle(messages)``; see `BatchHandler`.
        batch_size: most records of a batch, up to 10,000; one that is a pack brings the handler all its messages.
        batch_window: how long a batch may wait until it is full, up to 5 minutes; it also goes when as much is held
            of its shard as may be.
        parallelization: lanes of a shard, 1 to 10.
        output: where messages that the handler returns are sent, before the batch counts as done.
        on_failure: where what cannot be handled goes, with its shard and sequence number; default: the group's dead
            letters. Without it a batch is tried until it succeeds.
        bisect: cut a batch that failed; otherwise all of it is tried again.
        retry: delays between the attempts at what is not cut any more; its ``max_attempts``: then to ``on_failure``.
        max_age: the age at which a record that failed goes to ``on_failure``; None: none.
        max_processing: seconds after which the handler is cancelled and has failed.
        grace: seconds that handlers have to finish after `stop`.
        name: for logs; default: the group's.

    Raises:
        ConfigurationError: options that cannot be.
    """

    def __init__(
        self,
        group: StreamGroup,
        handler: BatchHandler,
        *,
        batch_size: int = 100,
        batch_window: Duration = 0.0,
        parallelization: int = 1,
        output: Sender | None = None,
        on_failure: Sender | None = None,
        bisect: bool = True,
        retry: Backoff | None = None,
        max_age: Duration | None = None,
        max_processing: Duration = 300.0,
        grace: Duration = 20.0,
        name: str | None = None,
    ) -> None:
        self.name = name or group.name
        self._group, self._handler = group, handler
        self._size, self._window, self._lanes = batch_size, seconds(batch_window), parallelization
        self._output, self._on_failure = output, group.dead_letters if on_failure is None else on_failure
        self._bisect, self._retry = bisect, retry or Backoff()
        self._max_age = None if max_age is None else seconds(max_age)
        self._max_processing, self._grace = seconds(max_processing), seconds(grace)
        if not 1 <= batch_size <= _LARGEST or not 0 <= self._window <= _LONGEST or not 1 <= parallelization <= 10:
            raise ConfigurationError("batch_size is 1 to 10,000, batch_window up to 300 s, parallelization 1 to 10")
        if self._max_processing <= 0 or self._grace < 0:
            raise ConfigurationError("max_processing is more than 0, and grace not negative")
        if self._on_failure is None and not (self._max_age is self._retry.max_attempts is None):
            raise ConfigurationError("max_attempts and max_age need on_failure: nothing is dropped unhandled")
        self.stats = Stats()
        """What it counted so far, in messages."""
        self.started = asyncio.Event()
        """Set while it runs."""
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._tasks: asyncio.TaskGroup
        self._running: dict[Held, list[asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Consume until `stop`; raises what joining the group raises. Cancelled, it ends without grace."""
        if not self._ended.is_set():
            raise ConfigurationError(f"{self.name} is running already")
        self._ended.clear()
        most = max(self._group.options.read_ahead, 2 * self._size * self._lanes)
        worker: Worker | None = None
        grace = 0.0
        try:
            async with asyncio.TaskGroup() as self._tasks:
                try:
                    worker = await self._group.join(
                        self._lane_of,
                        replace(self._group.options, read_ahead=most),
                        on_taken=self._begin,
                        on_lost=self._abandon,
                        on_records=_nothing,
                    )
                    self.started.set()
                    await self._stop.wait()
                    grace = self._grace
                finally:
                    with anyio.CancelScope(shield=True):
                        await self._drain(worker, grace)
        finally:
            self._stop.clear()
            self.started.clear()
            self._ended.set()

    async def stop(self) -> None:
        """End `run` and wait for it; before `run`, it lets the next `run` return at once."""
        self._stop.set()
        await self._ended.wait()

    async def _drain(self, worker: Worker | None, grace: float) -> None:
        tasks = [task for tasks in self._running.values() for task in tasks]
        for held in self._running:
            held.leaving = True
            held.changed.set()
        if tasks and grace > 0:
            await asyncio.wait(tasks, timeout=grace)
        await cancelled(tasks)
        self._running.clear()
        if worker is not None:
            await self._group.leave(worker)

    def _lane_of(self, key: str) -> int:
        return crc32(key.encode()) % self._lanes

    def _begin(self, held: Held) -> None:
        lanes = [self._tasks.create_task(self._work(held, lane)) for lane in range(self._lanes)]
        self._running[held] = lanes
        lanes[0].add_done_callback(lambda _: self._running.pop(held, None) if held.gone else None)

    def _abandon(self, held: Held) -> None:
        """Another worker has the shard, and all that is not done of it."""
        self.stats.lost += held.window.out
        for task in self._running.pop(held, ()):
            task.cancel()

    # One lane of a shard.

    async def _work(self, held: Held, lane: int) -> None:
        while batch := await self._gather(held, lane):
            self.stats.received += len(batch)
            self.stats.in_flight += len(batch)
            try:
                await self._settle(held, batch, last=True)
            finally:
                self.stats.in_flight -= len(batch)

    async def _gather(self, held: Held, lane: int) -> list[Slot]:
        """The lane's next batch; [] when there will be none."""
        time = asyncio.get_running_loop().time
        until: float | None = None
        while not held.leaving and not held.gone:
            waiting = held.window.waiting(lane)
            if waiting and until is None:
                until = time() + self._window
            complete = waiting >= self._size or held.full or held.ended
            if waiting and until is not None and (complete or time() >= until):
                return held.window.take_lane(lane, self._size)
            held.changed.clear()
            try:
                async with asyncio.timeout_at(until):
                    await held.changed.wait()
            except TimeoutError:
                continue
        return []

    async def _settle(self, held: Held, slots: Sequence[Slot], *, last: bool) -> None:
        """Try until every one is done or put aside. ``last``: nothing of the lane is out behind them."""
        attempt = 0
        while True:
            failure = await self._attempt(held, slots)
            if failure is None:
                self.stats.handled += len(slots)
                held.done(slots, more=not last)
                return
            if isinstance(failure, BatchFailure) and 0 < failure.handled < len(slots):
                done, slots = slots[: failure.handled], slots[failure.handled :]
                self.stats.handled += len(done)
                held.done(done, more=True)
                attempt = 0
            attempt += 1
            self.stats.retried += len(slots)
            if self._bisect and len(slots) > 1:
                middle = len(slots) // 2
                await self._settle(held, slots[:middle], last=False)
                await self._settle(held, slots[middle:], last=last)
                return
            if self._give_up(slots, failure, attempt) and await self._put_aside(held, slots, failure, attempt):
                held.done(slots, more=not last)
                return
            await asyncio.sleep(self._retry.delay(attempt))

    async def _attempt(self, held: Held, slots: Sequence[Slot]) -> Exception | None:
        """One call of the handler; returns what it raised."""
        ends: list[int] = []
        try:
            messages, ends = self._messages(held, slots)
            async with asyncio.timeout(self._max_processing):
                result = messages_of(await self._handler(messages))
            if result:
                await self._send(result)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is judged
            first = slots[0].record
            _log.warning(
                "batch_failed",
                group=self.name,
                shard=held.shard,
                sequence_number=first.sequence,
                messages=len(slots),
                error=f"{type(error).__name__}: {error}",
            )
            if isinstance(error, BatchFailure):
                return BatchFailure(error.reason, handled=bisect_right(ends, error.handled))
            return error
        return None

    async def _send(self, messages: Sequence[Message[Any]]) -> None:
        if self._output is None:
            raise ConfigurationError(f"{self.name}: the handler returned messages; give it output=...")
        await self._output.send(*messages)

    def _messages(self, held: Held, slots: Sequence[Slot]) -> tuple[list[Message[Any]], list[int]]:
        """The messages, packs unpacked, and how many of them there are up to the end of each slot."""
        messages: list[Message[Any]] = []
        ends: list[int] = []
        for slot in slots:
            message, error = self._group.message(held, slot)
            if error is not None:
                raise error
            messages += unpack(message) if is_pack(message) else [message]
            ends.append(len(messages))
        return messages, ends

    def _give_up(self, slots: Sequence[Slot], failure: Exception, attempt: int) -> bool:
        most = self._retry.max_attempts
        too_old = self._max_age is not None and now() - slots[0].record.at >= self._max_age
        return is_permanent(failure) or (most is not None and attempt >= most) or too_old

    async def _put_aside(self, held: Held, slots: Sequence[Slot], failure: Exception, attempt: int) -> bool:
        """Send the messages to the on-failure destination; whether that was done."""
        if self._on_failure is None:
            return False
        reason = f"{type(failure).__name__}: {failure}"
        messages = [self._group.message(held, slot)[0] for slot in slots]
        try:
            await self._on_failure.send(
                *(put_aside(each, reason, source=self._group.name, count=attempt) for each in messages)
            )
        except Exception as error:  # noqa: BLE001 - they stay where they are, and it is tried again
            _log.error("on_failure_failed", group=self.name, shard=held.shard, error=str(error))
            return False
        self.stats.dead_lettered += len(messages)
        return True

    def __repr__(self) -> str:
        return f"<BatchConsumer {self.name} in_flight={self.stats.in_flight}>"


def _nothing() -> None:
    return
