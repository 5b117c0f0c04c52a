"""What a worker knows of the stream's shards: which there are, which are done, and whose turn has come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping

from eip._repeated import RepeatedLines
from eip.health import HealthTracker
from eip.streams._context import WorkerContext, log
from eip.streams._held import Held
from eip.streams.leases import Beginning, Lease
from eip.streams.log import Position, Shard

__all__ = ["KnownShards"]

_repeated = RepeatedLines(log)


class KnownShards:
    """The stream's list of shards beside what the group has finished of them; iterates over those listed.

    Args:
        context: of the worker.
        held: the shards that the worker holds, by id.
        beginning: how the group began.
    """

    def __init__(self, context: WorkerContext, held: Mapping[str, Held], beginning: Beginning) -> None:
        self._context, self._held, self._begun = context, held, beginning
        self._listed: dict[str, Shard] = {}
        self._read_at = float("-inf")
        self._ended: set[str] = set()
        self._reopened: frozenset[str] = frozenset()
        """Shards that were open at the last look although the group has finished them."""
        self.unlisted: dict[str, float] = {}
        """Shards that the list leaves out, parents of listed ones and those that are held: since when."""
        self._health = HealthTracker()
        context.health.watched = self._health.health
        self._time = asyncio.get_running_loop().time

    def __iter__(self) -> Iterator[str]:
        """The ids of the shards that the stream lists."""
        return iter(self._listed)

    def unknown(self) -> list[str]:
        """The shards whose leases are to be read: not held, and not done as far as is known."""
        return [each for each in (*self, *self.unlisted) if each not in self._held and not self.finished(each)]

    def begin(self, shard: str) -> Position:
        """Where the group begins in a shard."""
        return self._begun.of(shard)

    def finish(self, shards: Iterable[str]) -> None:
        """Note shards that are done; their children are to be discovered at once."""
        if done := set(shards):
            self._ended |= done
            self._read_at = float("-inf")

    def finished(self, shard: str) -> bool:
        """Whether the group is done with the shard."""
        return shard in self._ended or shard in self._begun.skipped

    def readable(self, shard: str) -> bool:
        """Whether its turn has come: it is not done, and its parents are.

        Children before parents would break the order of keys: a key's later records are in a child.
        """
        listed = self._listed.get(shard)
        return listed is not None and not self.finished(shard) and all(map(self.finished, listed.parents))

    async def refresh(self) -> None:
        """Read the list where it is due."""
        if self._time() - self._read_at < self._context.options.discovery_interval:
            return
        now = self._time()
        self._listed = {each.id: each for each in await self._context.log.shards()}
        self._note_unlisted()
        self._ended &= self._listed.keys() | self.unlisted.keys()
        await self._look_for_a_new_beginning()
        self._read_at = now
        self._look_for_another_stream()
        for shard in self._vanished & self._held.keys():
            self._end(self._held[shard])

    async def _look_for_a_new_beginning(self) -> None:
        """Notice `StreamGroup.seek`: what the group had finished is to be read again."""
        found = await self._context.table.beginning()
        if found.version != self._begun.version:
            self._begun = found
            self._ended.clear()

    def _look_for_another_stream(self) -> None:
        """Report shards that are open although the group finished them: those of another stream of the same name.

        Twice in a row, as the list of shards may be a moment older than the leases.
        """
        finished = frozenset(each.id for each in self._listed.values() if not each.closed and self.finished(each.id))
        known, self._reopened = self._reopened & finished, finished
        if not known:
            self._health.succeeded()
            return
        error = (
            f"stream {self._context.log.name} was deleted and made again: the group has finished shards that are open "
            'now; begin again with `await group.seek("trim_horizon")`, which reads all of its records'
        )
        self._health.failed(error)
        _repeated.error("stream_made_again", group=self._context.group, shards=sorted(known)[:10], error=error)

    # Shards that the stream has no more: closed, and older than its retention.

    def _note_unlisted(self) -> None:
        """Note what the list leaves out; an empty list is of a stream that is being made."""
        parents = {parent for each in self._listed.values() for parent in each.parents}
        unlisted = (parents | self._held.keys()) - self._listed.keys() if self._listed else ()
        self.unlisted = {each: self.unlisted.get(each, self._time()) for each in unlisted}

    @property
    def _vanished(self) -> set[str]:
        """Shards that no list had for some time: one may be wrong for a moment."""
        before = self._time() - self._context.options.discovery_interval
        return {each for each, since in self.unlisted.items() if since <= before}

    def _end(self, held: Held) -> None:
        """Take a shard that has vanished, and that is read in vain, for ended: what was read of it is still done."""
        if held.ended or held.health.health().ok:
            return
        error = f"shard {held.shard} has vanished from the stream before all of it was read: the rest is lost"
        self._health.failed(error)
        log.error("shard_vanished", stream=self._context.log.name, group=self._context.group, error=error)
        held.end()

    async def finish_vanished(self, leases: Mapping[str, Lease], owned: Iterable[str]) -> None:
        """Finish parents that vanished before the group had them, or all of them, and that nobody holds.

        Args:
            leases: of them, where they have one.
            owned: those that a worker holds, which may have records of it left to do.
        """
        done = self.unlisted.keys() - leases.keys() - self._held.keys()
        for shard in (self._vanished & leases.keys()) - set(owned) - self._ended:
            if await self._context.table.write(leases[shard], owner=None, wanted_by=None, ended=True):
                self._context.info("shard_ended", shard, reason="it has vanished from the stream")
                done |= {shard}
        self._ended |= done
