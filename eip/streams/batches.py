"""The batch consumer: a shard's records in batches, several of a shard at once, the order of each key kept.

Its levers are those of a Lambda function on a stream, and mean the same: batch size, batch window, parallelization
factor, bisecting a batch that fails, attempts, age, and an on-failure destination. Delivery is at-least-once.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final
from zlib import crc32

import anyio

from eip._logging import get_logger
from eip.channels import Sender
from eip.clock import Duration, seconds
from eip.errors import ConfigurationError
from eip.retry import Backoff
from eip.runtime._settings import Stats
from eip.streams._batch_lane import BatchFailure, BatchHandler, BatchSettings, Lane
from eip.streams._worker import Held, Worker
from eip.streams.group import StreamGroup

__all__ = ["BatchConsumer", "BatchFailure", "BatchHandler"]

_log = get_logger("eip.streams")
_MAX_BATCH: Final = 10_000
_MAX_WINDOW_S: Final = 300.0
_MAX_LANES: Final = 10
_CANCEL_WITHIN_S: Final = 2.0
"""Seconds that a cancelled handler has to end; then it is left behind, by name."""


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
        self._group, self._lanes, self._grace = group, parallelization, seconds(grace)
        self._settings = BatchSettings(
            name=self.name,
            handler=handler,
            size=batch_size,
            window=seconds(batch_window),
            output=output,
            on_failure=group.dead_letters if on_failure is None else on_failure,
            bisect=bisect,
            retry=retry or Backoff(),
            max_age=None if max_age is None else seconds(max_age),
            max_processing=seconds(max_processing),
        )
        self._validate()
        self.stats = Stats()
        """What it counted so far, in messages."""
        self.started = asyncio.Event()
        """Set while it runs."""
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._tasks: asyncio.TaskGroup
        self._running: dict[Held, list[Lane]] = {}

    def _validate(self) -> None:
        settings = self._settings
        if not 1 <= settings.size <= _MAX_BATCH:
            raise ConfigurationError(f"batch_size must be 1 to {_MAX_BATCH:,}, got {settings.size}")
        if not 0 <= settings.window <= _MAX_WINDOW_S:
            raise ConfigurationError(f"batch_window must be 0 to {_MAX_WINDOW_S:.0f} seconds, got {settings.window}")
        if not 1 <= self._lanes <= _MAX_LANES:
            raise ConfigurationError(f"parallelization must be 1 to {_MAX_LANES}, got {self._lanes}")
        if settings.max_processing <= 0:
            raise ConfigurationError(f"max_processing must be positive, got {settings.max_processing}")
        if self._grace < 0:
            raise ConfigurationError(f"grace must not be negative, got {self._grace}")
        if settings.on_failure is None and not (settings.max_age is settings.retry.max_attempts is None):
            raise ConfigurationError("max_attempts and max_age need on_failure: nothing is dropped unhandled")

    async def run(self) -> None:
        """Consume until `stop`; raises what joining the group raises. Cancelled, it ends without grace."""
        if not self._ended.is_set():
            raise ConfigurationError(f"{self.name} is running already")
        self._ended.clear()
        worker: Worker | None = None
        grace = 0.0
        try:
            async with asyncio.TaskGroup() as self._tasks:
                try:
                    worker = await self._join()
                    if worker is not None:
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

    async def _join(self) -> Worker | None:
        """A worker of the group; None where the consumer is stopped before the group can be joined."""
        options = self._group.options
        read_ahead = max(options.read_ahead, 2 * self._settings.size * self._lanes)
        joining = asyncio.ensure_future(
            self._group.join(
                self._lane_of,
                replace(options, read_ahead=read_ahead),
                on_taken=self._begin,
                on_lost=self._abandon,
                on_records=_nothing,
            )
        )
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((joining, stopping), return_when=asyncio.FIRST_COMPLETED)
            return await joining if joining.done() else None
        finally:
            stopping.cancel()
            joining.cancel()
            await asyncio.wait((joining,))

    async def stop(self) -> None:
        """End `run` and wait for it; before `run`, it lets the next `run` return at once."""
        self._stop.set()
        await self._ended.wait()

    async def _drain(self, worker: Worker | None, grace: float) -> None:
        lanes = [lane for lanes in self._running.values() for lane in lanes]
        for held in self._running:
            held.leaving = True
            held.changed.set()
        if lanes and grace > 0:
            await asyncio.wait([lane.task for lane in lanes], timeout=grace)
        await self._end(lanes)
        self._running.clear()
        if worker is not None:
            await self._group.leave(worker)

    async def _end(self, lanes: list[Lane]) -> None:
        for lane in lanes:
            lane.cancel()
        if lanes:
            _, left = await asyncio.wait([lane.task for lane in lanes], timeout=_CANCEL_WITHIN_S)
            for task in left:
                _log.error("handler_ignores_cancellation", group=self.name, lane=task.get_name())

    def _lane_of(self, key: str) -> int:
        return crc32(key.encode("utf-8", "surrogatepass")) % self._lanes

    def _begin(self, held: Held) -> None:
        lanes = [Lane(self._settings, self._group, self.stats, held, number) for number in range(self._lanes)]
        for number, lane in enumerate(lanes):
            lane.task = self._tasks.create_task(lane.run(), name=f"{self.name} {held.shard} lane {number}")
        self._running[held] = lanes
        lanes[0].task.add_done_callback(lambda _: self._running.pop(held, None) if held.gone else None)

    def _abandon(self, held: Held) -> None:
        """Another worker has the shard, and all that is not done of it."""
        self.stats.lost += held.window.out
        for lane in self._running.pop(held, ()):
            lane.cancel()

    def __repr__(self) -> str:
        return f"<BatchConsumer {self.name} in_flight={self.stats.in_flight}>"


def _nothing() -> None:
    return
