"""The batch consumer: a shard's records in batches, several of a shard at once, the order of each key kept.

Its levers are those of a Lambda function on a stream, and mean the same: batch size, batch window, parallelization
factor, bisecting a batch that fails, attempts, age, and an on-failure destination. Delivery is at-least-once.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Final
from zlib import crc32

import anyio
from typing_extensions import override

from eip._checks import check_duration, check_integer
from eip._logging import get_logger
from eip.channels import Sender
from eip.clock import Duration
from eip.errors import ConfigurationError
from eip.health import Health
from eip.retry import Backoff
from eip.runtime._settings import Stats
from eip.runtime._watchdog import abandoned, log_stuck
from eip.runtime.handlers import name_of, threads
from eip.runtime.service import Service
from eip.streams._batch_handlers import BatchFailure, BatchHandler, form_of
from eip.streams._batch_lane import Lane
from eip.streams._batch_settings import BatchSettings
from eip.streams._held import Held
from eip.streams._worker import Worker
from eip.streams.group import StreamGroup

__all__ = ["BatchConsumer", "BatchFailure", "BatchHandler"]

_log = get_logger("eip.streams")
_MAX_BATCH: Final = 10_000
_MAX_WINDOW_S: Final = 300.0
_MAX_LANES: Final = 10
_MAX_THREADS: Final = 128
"""Of handlers that are ``def`` functions, over all lanes of all shards; each is made when it is first needed."""
_FORCE_S: Final = 2.0
"""Seconds that a cancelled handler has to end; then it is left behind, by name."""


class BatchConsumer(Service):
    """Runs a handler over the batches of a group's shards until stopped.

    Partition keys are spread over ``parallelization`` lanes of their shard; a lane has one batch at a time, so that the
    order of each key is kept; with one lane, the shard's. A batch that fails is cut in halves, down to the record that
    fails; what comes after it in its lane waits, until it succeeds or is put aside. Records are counted as done one by
    one, so that what was done is not done again.

    Args:
        group: what is read.
        handler: ``async def handle(messages)``, a ``def`` function, or `eip.Handlers`; see `BatchHandler`. A message
            that is not what its annotation asks for is that record's failure.
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
        TypeError: an argument of the wrong type.
        ConfigurationError: a value out of range, or a handler whose annotations show that it cannot work.
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
        self._group, self._grace = group, check_duration("grace", grace)
        self._lanes = check_integer("parallelization", parallelization, least=1)
        self._settings = BatchSettings(
            name=self.name,
            source=group.name,
            handler=form_of(handler),
            handler_name=name_of(handler),
            size=check_integer("batch_size", batch_size, least=1),
            window=check_duration("batch_window", batch_window, most=_MAX_WINDOW_S),
            output=output,
            on_failure=group.dead_letters if on_failure is None else on_failure,
            bisect=bisect,
            retry=retry or Backoff(),
            max_age=None if max_age is None else check_duration("max_age", max_age),
            max_processing=check_duration("max_processing", max_processing, positive=True),
        )
        self._validate()
        self.stats = Stats()
        """The counts so far, in messages."""
        self.ready = asyncio.Event()
        self.started = self.ready
        """The earlier name of `ready`."""
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._held: dict[Held, list[Lane]] = {}
        self._working: set[Lane] = set()
        """Lanes whose task has not ended, those of shards that were lost included."""
        self._failure: BaseException | None = None
        self._grace_left = self._grace

    def _validate(self) -> None:
        settings = self._settings
        if settings.size > _MAX_BATCH:
            raise ConfigurationError(f"batch_size must be at most {_MAX_BATCH:,}, got {settings.size}")
        if self._lanes > _MAX_LANES:
            raise ConfigurationError(f"parallelization must be at most {_MAX_LANES}, got {self._lanes}")
        if settings.on_failure is None and not (settings.max_age is settings.retry.max_attempts is None):
            raise ConfigurationError("max_attempts and max_age need on_failure: nothing is dropped unhandled")

    @override
    async def run(self) -> None:
        """Consume until `stop`; raises what joining the group raises. Cancelled, it ends without grace."""
        if not self._ended.is_set():
            raise ConfigurationError(f"{self.name} is running already")
        self._ended.clear()
        worker: Worker | None = None
        grace = 0.0
        pool = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix=self.name)
        threads.set(pool)
        try:
            worker = await self._join()
            if worker is not None:
                self.ready.set()
                await self._stop.wait()
                grace = self._grace_left
        finally:
            try:
                with anyio.CancelScope(shield=True):
                    await self._drain(worker, grace)
            finally:
                pool.shutdown(wait=False)
                self._stop.clear()
                self.ready.clear()
                self._ended.set()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def _join(self) -> Worker | None:
        """A worker of the group; None where the consumer is stopped before the group can be joined."""
        options = self._group.options
        max_read_ahead = max(options.max_read_ahead, 2 * self._settings.size * self._lanes)
        joining = asyncio.ensure_future(
            self._group.members.join(
                self._lane_of,
                replace(options, max_read_ahead=max_read_ahead),
                parallelization=self._lanes,
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

    @override
    async def stop(self, *, grace: Duration | None = None) -> None:
        """End `run` and wait for it; before `run`, it lets the next `run` return at once.

        A handler that does not end even when cancelled is named in the log, and `run` ends without it.

        Args:
            grace: seconds that handlers have to finish; default: the consumer's.
        """
        self._grace_left = self._grace if grace is None else check_duration("grace", grace)
        self._stop.set()
        await self._ended.wait()

    @override
    def health(self) -> Health:
        """Whether it reads its shards and keeps their leases."""
        if self.ready.is_set():
            return self._group.health()
        state = "not running" if self._ended.is_set() else "connecting"
        return Health(ok=False, reason=self._group.health().reason or state)

    async def _drain(self, worker: Worker | None, grace: float) -> None:
        for held in self._held:
            held.leaving = True
            held.changed.set()
        await self._lanes_ended(grace)
        for lane in self._working:
            lane.calls.cancel()
        await self._lanes_ended(_FORCE_S)
        for lane in self._working:
            self._leave_behind(lane)
        self._working.clear()
        self._held.clear()
        if worker is not None:
            await self._group.members.leave(worker)

    async def _lanes_ended(self, seconds: float) -> None:
        if self._working and seconds > 0:
            await asyncio.wait([lane.calls.task for lane in self._working], timeout=seconds)

    def _leave_behind(self, lane: Lane) -> None:
        """Go on without a handler that ignores its cancellation, or sits in a thread; its shard is given up."""
        call = lane.calls.running()
        if call is not None:
            abandoned[lane.calls.task] = call
            log_stuck(call)

    def _lane_of(self, key: str) -> int:
        return crc32(key.encode("utf-8", "surrogatepass")) % self._lanes

    def _begin(self, held: Held) -> None:
        """A shard is held from now on: one task works off each of its lanes."""
        lanes = [Lane(self._settings, self._group.members, self.stats, held, number) for number in range(self._lanes)]
        for number, lane in enumerate(lanes):
            lane.calls.task = asyncio.create_task(lane.run(), name=f"{self.name} {held.shard} lane {number}")
            lane.calls.task.add_done_callback(partial(self._lane_ended, held, lane))
        self._working.update(lanes)
        self._held[held] = lanes

    def _lane_ended(self, held: Held, lane: Lane, task: asyncio.Task[None]) -> None:
        self._working.discard(lane)
        if held.gone:
            self._held.pop(held, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error  # a fault of this library's, or what ends the process
            self._stop.set()

    def _abandon(self, held: Held) -> None:
        """Another worker has the shard, and all that is not done of it."""
        self.stats.lost += held.window.out
        for lane in self._held.pop(held, ()):
            lane.calls.cancel()

    def __repr__(self) -> str:
        return f"<BatchConsumer {self.name} in_flight={self.stats.in_flight}>"


def _nothing() -> None:
    return
