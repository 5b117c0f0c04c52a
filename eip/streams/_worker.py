"""One worker of a group: joins it, reads its share of the shards, and leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from eip._repeated import RepeatedLines
from eip.health import Health, HealthTracker
from eip.retry import Backoff
from eip.streams._balancer import ROUND_S, ShardBalancer
from eip.streams._context import WorkerContext, log
from eip.streams._held import Held
from eip.streams._lease_keeper import LeaseKeeper
from eip.streams.leases import LeaseTable
from eip.streams.log import Log, Start
from eip.streams.options import GroupOptions

__all__ = ["Worker"]

_repeated = RepeatedLines(log)
_BEGIN_S: Final = 10.0
"""Seconds after which the store or the service counts as away, while the group is joined."""
_JOIN_BACKOFF: Final = Backoff(base=0.5, cap=10.0)


class Worker:
    """Holds its share of the shards of a group until closed.

    Args:
        log: what is read.
        open_table: gives the group's leases; tried again while the store is away.
        group: its name, for the log's cursors.
        start: where the group begins, where this is its first worker.
        options: of the group.
        lane_of: see `Window`.
        parallelization: what the worker's consumer handles at once, for a warning where shards are more.
        on_taken: called with each shard that is held from now on.
        on_lost: called with a shard of which nothing can be done any more; what is out of it is to be abandoned.
        on_records: called when records were read.
    """

    def __init__(
        self,
        log: Log,
        open_table: Callable[[], Awaitable[LeaseTable]],
        *,
        group: str,
        start: Start,
        options: GroupOptions,
        lane_of: Callable[[str], Any],
        parallelization: int,
        on_taken: Callable[[Held], None],
        on_lost: Callable[[Held], None],
        on_records: Callable[[], None],
    ) -> None:
        self._log, self._open_table, self._group, self._options = log, open_table, group, options
        self._start: Start = start
        self._parallelization = parallelization
        self._lane_of, self._on_taken, self._on_lost, self._on_records = lane_of, on_taken, on_lost, on_records
        self._keeper: LeaseKeeper | None = None
        self._balancer: ShardBalancer
        self._tasks = asyncio.TaskGroup()
        self._main: asyncio.Task[None] | None = None
        self._health = HealthTracker()

    @property
    def held(self) -> Mapping[str, Held]:
        """The shards that it holds, by id."""
        return {} if self._keeper is None else self._keeper.held

    async def open(self) -> None:
        """Join the group, and take what is free of it; waits for a service that is away.

        Raises what the log or the store raises where another attempt will not help.
        """
        await self._retried(self._begin, limit_s=_BEGIN_S)
        await self._retried(self._balancer.look, limit_s=ROUND_S)
        opened = asyncio.Event()
        self._main = asyncio.create_task(self._run(opened), name=f"{self._group} worker")
        waiting = asyncio.create_task(opened.wait())
        try:
            await asyncio.wait((self._main, waiting), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._main.cancel()
            raise
        finally:
            waiting.cancel()
        if self._main.done():
            await self._main

    async def _begin(self) -> None:
        table = await self._open_table()
        shards = await self._log.shards()
        place = self._log.position(self._start)
        beginning = await table.begin(place, shards, skip_closed=self._start == "latest")
        context = WorkerContext(
            group=self._group, log=self._log, table=table, options=self._options, health=self._health
        )
        self._keeper = LeaseKeeper(
            context, self._tasks, on_taken=self._on_taken, on_lost=self._on_lost, on_records=self._on_records
        )
        self._balancer = ShardBalancer(
            context, self._keeper, beginning, self._lane_of, parallelization=self._parallelization
        )

    async def _retried(self, step: Callable[[], Awaitable[None]], *, limit_s: float) -> None:
        attempt = 0
        while True:
            try:
                async with asyncio.timeout(limit_s):
                    await step()
            except Exception as error:
                if not (isinstance(error, TimeoutError) or getattr(error, "transient", False)):
                    raise
                attempt += 1
                where = f" from {self._log.where}" if self._log.where else ""
                text = (
                    str(error) or f"no answer{where} within {limit_s:.0f} s, of the stream or the store of its leases"
                )
                self._health.failed(error if str(error) else text)
                _repeated.warning("join_failed", stream=self._log.name, group=self._group, error=text)
                await asyncio.sleep(_JOIN_BACKOFF.delay(attempt))
            else:
                self._health.succeeded()
                return

    async def aclose(self) -> None:
        """Write the last checkpoints, leave the shards to others; takes five seconds at most. Idempotent."""
        main, self._main = self._main, None
        if main is None:
            return
        main.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await main
        if self._keeper is not None:
            await self._keeper.release()

    @property
    def health(self) -> Health:
        """The worst of its shards, or of its own looks at leases and shards."""
        failing = [each for each in (held.health.health() for held in self.held.values()) if not each.ok]
        own = self._health.health()
        return own if not own.ok or not failing else min(failing, key=lambda each: each.failing_since or 0.0)

    async def _run(self, opened: asyncio.Event) -> None:
        assert self._keeper is not None, "`open` has made it"
        async with self._tasks as tasks:
            self._keeper.start()
            opened.set()
            tasks.create_task(self._keeper.keep(), name=f"{self._group} leases")
            tasks.create_task(self._balancer.keep_balance(), name=f"{self._group} balance")
            tasks.create_task(self._report(), name=f"{self._group} iterator age")

    async def _report(self) -> None:
        """Log the iterator age, the health metric of a group."""
        while True:
            await asyncio.sleep(self._options.report_interval)
            if self.held:
                oldest = max(self.held.values(), key=lambda held: held.age)
                log.info(
                    "iterator_age",
                    stream=self._log.name,
                    group=self._group,
                    seconds=round(oldest.age, 3),
                    shard=oldest.shard,
                    shards=len(self.held),
                )
