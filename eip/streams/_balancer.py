"""Gives a worker its share of the shards: looks at all leases, takes what is free, asks for what is missing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from eip._repeated import RepeatedLines
from eip.errors import error_text
from eip.streams._context import WorkerContext, log
from eip.streams._coverage import CoverageWarning
from eip.streams._held import Held
from eip.streams._known_shards import KnownShards
from eip.streams._lease_keeper import LeaseKeeper
from eip.streams.balance import Seen, balance
from eip.streams.leases import Beginning, Lease
from eip.streams.window import Window

__all__ = ["ROUND_S", "ShardBalancer"]

_repeated = RepeatedLines(log)
ROUND_S: Final = 30.0
"""Seconds after which the store or the service counts as away: it may accept a call and never answer."""


class ShardBalancer:
    """Looks at the group's leases again and again, and takes shards for its worker.

    No worker leads: each looks at the same leases and computes its own moves (`balance`). Two that want the same free
    shard write the same version, and the store lets one of them. A shard with an owner is only asked for; its owner
    finishes what is out and hands it over, so that nothing comes twice.

    Args:
        context: of the worker.
        keeper: keeps what is taken.
        beginning: how the group began.
        lane_of: see `Window`.
        parallelization: what the worker handles at once.
    """

    def __init__(
        self,
        context: WorkerContext,
        keeper: LeaseKeeper,
        beginning: Beginning,
        lane_of: Callable[[str], Any],
        *,
        parallelization: int,
    ) -> None:
        self._context, self._options, self._keeper = context, context.options, keeper
        self._lane_of = lane_of
        self._shards = KnownShards(context, keeper.held, beginning)
        self._unchanged: dict[str, tuple[str, float]] = {}
        """Of each lease of another worker: its version, and since when it is that."""
        self._pause = self._options.checkpoint_interval
        self._coverage = CoverageWarning(context, parallelization)
        self._time = asyncio.get_running_loop().time

    async def keep_balance(self) -> None:
        """Look for ever; what fails is tried again."""
        context, moved = self._context, self._keeper.moved
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause):
                    await moved.wait()
            moved.clear()
            try:
                async with asyncio.timeout(ROUND_S):
                    await self.look()
                context.health.succeeded()
            except Exception as error:  # noqa: BLE001 - what is held goes on, and the next round comes
                context.health.failed(error)
                _repeated.warning(
                    "balance_failed", stream=context.log.name, group=context.group, error=error_text(error)
                )
                await asyncio.sleep(self._options.checkpoint_interval)

    async def look(self) -> None:
        """Look at all leases, take what is free of them, ask for what is missing to the fair share."""
        now, shards, table = self._time(), self._shards, self._context.table
        shards.finish(self._keeper.finished)
        self._keeper.finished.clear()
        await shards.refresh()
        leases = await table.load(shards.unknown())
        ended = [each.shard for each in leases.values() if each.ended]
        shards.finish(ended)
        unlisted = [self._seen(each, leases.get(each), now) for each in shards.unlisted]
        await shards.finish_vanished(leases, {each.shard for each in unlisted if each.owner is not None})
        seen = [self._seen(each, leases.get(each), now) for each in shards if shards.readable(each)]
        moves = balance(self._context.id, seen)
        self._coverage.look(seen)
        for shard in dict.fromkeys((*self._handed(leases), *moves.take)):
            await self._take(leases.get(shard) or Lease(shard=shard, position=shards.begin(shard)))
        for shard in moves.ask:
            await table.write(leases[shard], wanted_by=self._context.id)
        self._pause = self._next_look(leases, moving=bool(moves.ask or ended), seen=seen)

    def _handed(self, leases: Mapping[str, Lease]) -> list[str]:
        """Shards that were handed to this worker, which it asked for.

        They are taken whatever its share is by now: to all others they are owned, so nobody else reads them.
        """
        mine = [each.shard for each in leases.values() if each.owner == self._context.id and not each.ended]
        return [each for each in mine if self._shards.readable(each)]

    def _next_look(self, leases: Mapping[str, Lease], *, moving: bool, seen: list[Seen]) -> float:
        """Seconds until the next look: soon while shards move, otherwise so that a silent owner is noticed in time.

        Each look reads a lease per shard of others. Two looks to a failover notice one that does not change.
        """
        asked = any(each.wanted_by == self._context.id for each in leases.values() if not each.ended)
        free = any(each.owner is None for each in seen if each.shard not in self._keeper.held)
        return self._options.checkpoint_interval if moving or asked or free else self._options.failover / 2

    # Leases of others.

    def _seen(self, shard: str, lease: Lease | None, now: float) -> Seen:
        """The shard as `balance` looks at it.

        An owner is silent once its lease was not changed for the failover time by this worker's own clock. Times that
        others wrote are not compared: their clocks may differ.
        """
        if shard in self._keeper.held:
            return Seen(shard, self._context.id, self._keeper.held[shard].lease.wanted_by)
        if lease is None or lease.owner is None or lease.owner == self._context.id:  # its own: handed to it, or lost
            self._unchanged.pop(shard, None)
            return Seen(shard, None)
        version, since = self._unchanged.get(shard, (None, now))
        if version != lease.version:
            since = now
            self._unchanged[shard] = (lease.version, now)
        silent = now - since >= self._options.failover
        return Seen(shard, None if silent else lease.owner, lease.wanted_by)

    async def _take(self, lease: Lease) -> None:
        context, begun = self._context, self._time()
        taken = await context.table.write(lease, owner=context.id, wanted_by=None, epoch=lease.epoch + 1)
        if taken is None:
            return  # another was faster
        context.info("shard_taken", lease.shard, before=lease.owner)
        cursor = context.log.cursor(lease.shard, taken.position, group=context.group)
        window = Window(taken.position, self._lane_of, taken.ahead)
        failover, look = self._options.failover, self._keeper.look
        self._keeper.take(Held(taken, cursor, window, now=begun, failover=failover, look=look))
