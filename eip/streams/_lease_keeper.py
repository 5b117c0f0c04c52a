"""Keeps the leases of the shards that a worker holds: renews them, hands them over, gives them up, loses them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from eip.errors import StoreError
from eip.streams._context import WorkerContext, log
from eip.streams._held import Held
from eip.streams._reader import read_shard

__all__ = ["LeaseKeeper"]

_MAX_AHEAD: Final = 4000
"""Records done beyond the checkpoint that a lease names for its next owner: 250 KB; DynamoDB's items hold 400."""
_RELEASE_S: Final = 5.0
"""Seconds to write the last checkpoints at the end; leases not given up by then expire by themselves."""


class LeaseKeeper:
    """Owns the shards that a worker holds, from taking each until it is another's.

    A lease is kept by time and by version. By time: a worker stops handing records out once a lease was not renewed for
    the failover time (`Held.alive`), as from then on another may take it. By version: each write is conditional on the
    version read last, so what a worker writes that was replaced without knowing it is refused. Time alone would trust
    clocks and pauses; versions alone would let two workers handle the same records until the next write.

    Args:
        context: of the worker.
        tasks: run its readers and hand-overs.
        on_taken: called with each shard that is held from now on.
        on_lost: called with a shard of which nothing can be done any more; what is out of it is to be abandoned.
        on_records: called when records were read.
    """

    def __init__(
        self,
        context: WorkerContext,
        tasks: asyncio.TaskGroup,
        *,
        on_taken: Callable[[Held], None],
        on_lost: Callable[[Held], None],
        on_records: Callable[[], None],
    ) -> None:
        self.held: dict[str, Held] = {}
        self.moved = asyncio.Event()
        """Set when a shard ended or was lost: time to look for others."""
        self.finished: set[str] = set()
        """Shards whose end was written since the balancer last looked."""
        self.look = asyncio.Event()
        """Set when the last record of a shard that ended is done: time to write that."""
        self._context, self._options, self._tasks = context, context.options, tasks
        self._on_taken, self._on_lost, self._on_records = on_taken, on_lost, on_records
        self._reading = False
        """Whether shards that are taken are read at once: not before the worker has joined."""
        self._time = asyncio.get_running_loop().time

    def take(self, held: Held) -> None:
        """Hold the shard from now on."""
        self.held[held.shard] = held
        if self._reading:
            self._read(held)
        self._on_taken(held)

    def start(self) -> None:
        """Read what is held, and each shard that is taken from now on."""
        self._reading = True
        for held in self.held.values():
            self._read(held)

    async def keep(self) -> None:
        """Renew leases, write checkpoints, notice what was asked for, end what is done; for ever."""
        beat = self._options.checkpoint_interval
        while True:
            slept = self._time()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(beat):
                    await self.look.wait()
            self.look.clear()
            # A handler that blocked the loop kept everything from being renewed. Nobody need have noticed: the
            # conditional write decides whose the shard is.
            blocked = self._time() - slept - beat > self._options.failover / 2
            await asyncio.gather(*(self._look_after(held, blocked=blocked) for held in list(self.held.values())))

    async def release(self) -> None:
        """Write the last checkpoints, leave the shards to others; takes five seconds at most."""
        leaving = list(self.held.values())
        for held in leaving:
            held.leaving = True
        try:
            async with asyncio.timeout(_RELEASE_S):
                await asyncio.gather(*(self._release(held) for held in leaving))
        except TimeoutError:
            names = [held.shard for held in leaving if held.shard in self.held]
            log.warning("leases_not_released", stream=self._context.log.name, group=self._context.group, shards=names)
            for held in leaving:
                await self._drop(held)

    # A shard that is held.

    async def _look_after(self, held: Held, *, blocked: bool) -> None:
        try:
            if held.gone:
                return
            if held.leaving:
                await self._renew(held)
            elif self._time() - held.renewed >= self._options.failover:
                if not (blocked and await self._write(held)):
                    self._lose(held, "it was not renewed in time")
            elif held.ended and not held.window:
                await self._finish(held)
            else:
                await self._renew(held)
        except Exception as error:  # noqa: BLE001 - one shard's trouble is not the others'
            self._context.warn("lease_not_kept", held.shard, error)

    async def _renew(self, held: Held) -> None:
        """Write the checkpoint; without progress only every third of the failover time: idle shards cost little.

        Three writes to a failover leave room for two that fail.
        """
        unchanged = held.window.checkpoint == held.lease.position
        if unchanged and self._time() - held.renewed < self._options.failover / 3:
            return
        if await self._write(held) and held.lease.wanted_by is not None and not held.leaving:
            held.leaving = True
            held.changed.set()
            self._tasks.create_task(self._hand_over(held, held.lease.wanted_by), name=f"{held.shard} hand-over")

    async def _finish(self, held: Held) -> None:
        """The shard is closed and all of it is done: its children may be read."""
        if await self._write(held, owner=None, wanted_by=None, ended=True):
            self._context.info("shard_ended", held.shard)
            self.finished.add(held.shard)
            await self._drop(held)
            self.moved.set()

    async def _hand_over(self, held: Held, to: str) -> None:
        """Finish what is out, then let the other worker begin where that ends."""
        self._context.info("shard_handed_over", held.shard, to=to)
        self._stop_reading(held)
        try:
            async with asyncio.timeout(self._options.hand_off_timeout):
                while held.window.out:
                    held.changed.clear()
                    await held.changed.wait()
        except TimeoutError:
            self._on_lost(held)
        changes = {"owner": to, "wanted_by": None, "epoch": held.lease.epoch + 1}
        while not held.gone and not await self._write(held, leaving=True, **changes):
            await asyncio.sleep(self._options.checkpoint_interval)
            if self._time() - held.renewed >= self._options.failover:
                break
        await self._drop(held)

    async def _release(self, held: Held) -> None:
        """Leave the shard to whoever takes it first, or asked for it."""
        self._stop_reading(held)
        if not held.gone:
            ended = held.ended and not held.window
            asked = None if ended else held.lease.wanted_by
            epoch = held.lease.epoch + 1
            await self._write(held, leaving=True, owner=asked, wanted_by=None, ended=ended, epoch=epoch)
        await self._drop(held)

    def _lose(self, held: Held, why: str) -> None:
        """The shard is another's: nothing of it counts any more."""
        if held.gone:
            return
        log.warning(
            "shard_lost", stream=self._context.log.name, group=self._context.group, shard=held.shard, reason=why
        )
        held.gone = True
        self.held.pop(held.shard, None)
        self._stop_reading(held)
        self._on_lost(held)
        self.moved.set()

    async def _drop(self, held: Held) -> None:
        held.gone = True
        self.held.pop(held.shard, None)
        self._stop_reading(held)
        await held.cursor.aclose()

    def _read(self, held: Held) -> None:
        reading = read_shard(held, self._context, self._on_records)
        held.reader = self._tasks.create_task(reading, name=f"{self._context.group} {held.shard}")

    @staticmethod
    def _stop_reading(held: Held) -> None:
        held.changed.set()
        if held.reader is not None:
            held.reader.cancel()

    # Writing.

    async def _write(self, held: Held, *, leaving: bool = False, **changes: Any) -> bool:
        """Write the checkpoint, and changes of the lease; False where it is lost, or the store fails for the moment.

        ``leaving``: for another worker; the lease names what is done beyond the checkpoint.
        """
        context = self._context
        async with held.writing:
            while not held.gone:
                begun = self._time()
                changes |= self._progress(held, leaving=leaving)
                try:
                    async with asyncio.timeout(self._write_timeout(held, begun)):
                        written = await context.table.write(held.lease, **changes)
                        found = None if written is not None else await context.table.get(held.shard)
                except (StoreError, TimeoutError) as error:
                    context.warn("lease_not_written", held.shard, error)
                    return False
                context.health.succeeded()
                if written is not None:
                    # Renewed when the write began: the store may have done it at once, and others count from then on.
                    held.lease, held.renewed = written, begun
                    held.gone = written.owner != context.id  # nothing may be written after that
                    return True
                if found is None or (found.owner, found.epoch) != (context.id, held.lease.epoch):
                    self._lose(held, "another worker has it")
                    return False
                held.lease = found  # somebody asks for it, or the answer to our own last write was lost: once more
            return False

    @staticmethod
    def _progress(held: Held, *, leaving: bool) -> dict[str, Any]:
        window = held.window
        ahead = window.done_ahead(_MAX_AHEAD) if leaving else held.lease.ahead if window.ahead else ()
        return {"position": window.checkpoint, "ahead": tuple(ahead), "read_until": held.read_until}

    def _write_timeout(self, held: Held, now: float) -> float:
        """Seconds until a write counts as failed: while the lease surely lasts, and time for one where it may not."""
        failover = self._options.failover
        return max(held.renewed + failover - now, failover / 3)
