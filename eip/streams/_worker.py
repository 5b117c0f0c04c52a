"""One worker of a group: holds leases, reads its shards, writes checkpoints, takes and hands over shards."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from eip import clock
from eip._ids import new_id
from eip._logging import get_logger
from eip.errors import StoreError
from eip.retry import Backoff
from eip.streams.balance import Seen, balance
from eip.streams.leases import Beginning, Lease, LeaseTable
from eip.streams.log import Cursor, Log, Shard, Start
from eip.streams.options import GroupOptions
from eip.streams.window import Slot, Window

__all__ = ["Held", "Worker"]

_log = get_logger("eip.streams")
_MOST_AHEAD: Final = 4000
"""Records done beyond the checkpoint that a lease tells its next owner: 250 KB, where DynamoDB takes 400."""
_READ_AGAIN: Final = Backoff(base=0.2, cap=5.0)


class Held:
    """A shard that a worker has the lease of."""

    def __init__(
        self, lease: Lease, cursor: Cursor, window: Window, *, now: float, failover: float, look: asyncio.Event
    ) -> None:
        self.shard, self.lease, self.cursor, self.window = lease.shard, lease, cursor, window
        self._failover, self._look = failover, look
        self._time = asyncio.get_running_loop().time
        self.renewed = now
        """When the last write of the lease that succeeded was begun, by the loop's clock."""
        self.behind = 0.0
        """Seconds between the newest record and what was read last."""
        self.missed = 0
        """Records that fell out of the stream before they were read."""
        self.ended = False
        """Whether the last record was read, as the shard is closed."""
        self.full = False
        """Whether it is not read on until something of it is done."""
        self.leaving = False
        """It is being handed over: nothing more of it is handed out."""
        self.gone = False
        """It is not this worker's any more: nothing of it can be done."""
        self.reader: asyncio.Task[None] | None = None
        self.writing = asyncio.Lock()
        self.changed = asyncio.Event()
        """Set when something was done, given back, or added, or nothing more is to be taken."""

    @property
    def alive(self) -> bool:
        """Whether it is surely still held: another may take it once its lease was silent for long enough."""
        return not self.gone and self._time() - self.renewed < self._failover

    def done(self, slots: Sequence[Slot], *, more: bool = False) -> None:
        """Handled; all of one lane, see `Window.done`."""
        self.window.done(slots, more=more)
        self.changed.set()
        if self.ended and not self.window:
            self._look.set()

    def back(self, slots: Sequence[Slot], *, delayed: bool = False) -> None:
        """Given back; all of one lane. ``delayed``: after `Window.hold`."""
        self.window.back(slots, held=delayed)
        self.changed.set()

    @property
    def age(self) -> float:
        """Seconds since the oldest record that is not done arrived; with none held, how far reading is behind."""
        oldest = self.window.oldest
        return self.behind if oldest is None else max(clock.now() - oldest, 0.0)


class Worker:
    """Holds its share of the shards of a group until closed.

    Args:
        log: what is read.
        table: the group's leases.
        group: its name, for the log's cursors.
        start: where the group begins, where this is its first worker.
        options: of the group.
        lane_of: see `Window`.
        on_taken: called with each shard that is held from now on.
        on_lost: called with a shard of which nothing can be done any more; what is out of it is to be abandoned.
        on_records: called when records were read.
    """

    def __init__(
        self,
        log: Log,
        table: LeaseTable,
        *,
        group: str,
        start: Start,
        options: GroupOptions,
        lane_of: Callable[[str], Any],
        on_taken: Callable[[Held], None],
        on_lost: Callable[[Held], None],
        on_records: Callable[[], None],
    ) -> None:
        self.id = new_id()
        self.held: dict[str, Held] = {}
        self._log, self._table, self._group, self._options = log, table, group, options
        self._start: Start = start
        self._lane_of, self._on_taken, self._on_lost, self._on_records = lane_of, on_taken, on_lost, on_records
        self._begun: Beginning
        self._shards: dict[str, Shard] = {}
        self._discovered = float("-inf")
        self._ended: set[str] = set()
        self._unchanged: dict[str, tuple[str, float]] = {}
        """Of each lease of another worker: its version, and since when it is that."""
        self._look = asyncio.Event()
        self._move = asyncio.Event()
        self._pause = options.beat
        self._tasks = asyncio.TaskGroup()
        self._main: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Join the group, and take what is free of it. Raises what the log or the store raises."""
        shards = await self._log.shards()
        self._begun = await self._table.begin(
            self._log.position(self._start), shards, skip_closed=self._start == "latest"
        )
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

    async def aclose(self) -> None:
        """Write the last checkpoints, leave the shards to others. Idempotent."""
        main, self._main = self._main, None
        if main is None:
            return
        await self._end(main)
        for held in self.held.values():
            held.leaving = True
        await asyncio.gather(*(self._release(held) for held in list(self.held.values())))

    # Tasks.

    async def _run(self, opened: asyncio.Event) -> None:
        await self._round()
        async with self._tasks as tasks:
            for held in self.held.values():
                self._start_reading(held)
            opened.set()
            tasks.create_task(self._looking_after(), name=f"{self._group} leases")
            tasks.create_task(self._balancing(), name=f"{self._group} balance")
            tasks.create_task(self._reporting(), name=f"{self._group} iterator age")

    async def _end(self, main: asyncio.Task[None]) -> None:
        main.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await main

    async def _looking_after(self) -> None:
        """Renew leases, write checkpoints, notice what was asked for, end what is done."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.beat):
                    await self._look.wait()
            self._look.clear()
            await asyncio.gather(*map(self._look_after_safely, list(self.held.values())))

    async def _look_after_safely(self, held: Held) -> None:
        try:
            await self._look_after(held)
        except Exception as error:  # noqa: BLE001 - one shard's trouble is not the others'
            _log.warning("lease_not_kept", stream=self._log.name, shard=held.shard, error=str(error))

    async def _look_after(self, held: Held) -> None:
        now = asyncio.get_running_loop().time()
        if held.gone or held.leaving:
            if held.leaving and not held.gone:
                await self._renew(held)
            return
        if now - held.renewed >= self._options.failover:
            self._lose(held, "it was not renewed in time")
        elif held.ended and not held.window:
            if await self._write(held, owner=None, wanted_by=None, ended=True):
                _log.info("shard_ended", stream=self._log.name, group=self._group, shard=held.shard)
                self._ended.add(held.shard)
                self._discovered = float("-inf")
                await self._drop(held)
                self._move.set()
        else:
            await self._renew(held)

    async def _renew(self, held: Held) -> None:
        unchanged = held.window.checkpoint == held.lease.position
        if unchanged and asyncio.get_running_loop().time() - held.renewed < self._options.failover / 3:
            return
        if await self._write(held) and held.lease.wanted_by is not None and not held.leaving:
            held.leaving = True
            held.changed.set()
            self._tasks.create_task(self._hand_over(held, held.lease.wanted_by), name=f"{held.shard} hand-over")

    async def _write(self, held: Held, *, leaving: bool = False, **changes: Any) -> bool:
        """Write the checkpoint, and changes of the lease; False where it is lost, or the store fails for the moment.

        ``leaving``: for another worker, which is told what is done beyond the checkpoint.
        """
        async with held.writing:
            while not held.gone:
                begun = asyncio.get_running_loop().time()
                try:
                    window = held.window
                    ahead = window.done_ahead(_MOST_AHEAD) if leaving else held.lease.ahead if window.ahead else ()
                    changes |= {"position": window.checkpoint, "ahead": tuple(ahead)}
                    written = await self._table.write(held.lease, **changes)
                    found = None if written is not None else await self._table.get(held.shard)
                except StoreError as error:
                    _log.warning("lease_not_written", stream=self._log.name, shard=held.shard, error=str(error))
                    return False
                if written is not None:
                    held.lease, held.renewed = written, begun
                    held.gone = written.owner != self.id  # nothing may be written after that
                    return True
                if found is None or (found.owner, found.epoch) != (self.id, held.lease.epoch):
                    self._lose(held, "another worker has it")
                    return False
                held.lease = found  # somebody asks for it, or the answer to our own last write was lost
            return False

    async def _hand_over(self, held: Held, to: str) -> None:
        """Finish what is out, then let the other worker begin where that ends."""
        _log.info("shard_handed_over", stream=self._log.name, group=self._group, shard=held.shard, to=to)
        self._stop_reading(held)
        try:
            async with asyncio.timeout(self._options.hand_off):
                while held.window.out:
                    held.changed.clear()
                    await held.changed.wait()
        except TimeoutError:
            self._on_lost(held)
        changes = {"owner": to, "wanted_by": None, "epoch": held.lease.epoch + 1}
        while not held.gone and not await self._write(held, leaving=True, **changes):
            await asyncio.sleep(self._options.beat)
            if asyncio.get_running_loop().time() - held.renewed >= self._options.failover:
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
        _log.warning("shard_lost", stream=self._log.name, group=self._group, shard=held.shard, reason=why)
        held.gone = True
        self.held.pop(held.shard, None)
        self._stop_reading(held)
        self._on_lost(held)
        self._move.set()

    async def _drop(self, held: Held) -> None:
        held.gone = True
        self.held.pop(held.shard, None)
        self._stop_reading(held)
        await held.cursor.aclose()

    # Reading.

    def _start_reading(self, held: Held) -> None:
        held.reader = self._tasks.create_task(self._read(held), name=f"{self._group} {held.shard}")

    @staticmethod
    def _stop_reading(held: Held) -> None:
        held.changed.set()
        if held.reader is not None:
            held.reader.cancel()

    async def _read(self, held: Held) -> None:
        failures, options, window = 0, self._options, held.window
        while not held.ended:
            while len(window) > options.read_ahead // 2 or window.bytes >= options.read_ahead_bytes:
                held.full = True
                held.changed.clear()
                await held.changed.wait()
            held.full = False
            try:
                page = await held.cursor.read(options.read_ahead - len(window))
                failures = 0
            except Exception as error:  # noqa: BLE001 - whatever failed, the shard is read on
                failures += 1
                delay = _READ_AGAIN.delay(failures)
                _log.warning("read_failed", stream=self._log.name, shard=held.shard, error=str(error))
                await asyncio.sleep(delay)
                continue
            held.behind, held.ended = page.behind, page.ended
            if page.missed:
                held.missed += page.missed
                _log.error("records_missed", stream=self._log.name, shard=held.shard, count=page.missed)
            window.add(page.records)
            held.changed.set()
            if page.records:
                self._on_records()
            if held.ended:
                self._look.set()

    # Balance.

    async def _balancing(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause):
                    await self._move.wait()
            self._move.clear()
            try:
                await self._round()
            except Exception as error:  # noqa: BLE001 - what is held goes on, and the next round comes
                _log.warning("balance_failed", stream=self._log.name, group=self._group, error=str(error))
                await asyncio.sleep(self._options.beat)

    async def _round(self) -> None:
        """Look at all leases, take what is free of them, ask for what is missing to the fair share."""
        now = asyncio.get_running_loop().time()
        if now - self._discovered >= self._options.discover_every:
            self._shards = {each.id: each for each in await self._log.shards()}
            self._ended &= self._shards.keys()
            self._discovered = now
        others = [each for each in self._shards if each not in self.held and not self._finished(each)]
        leases = await self._table.load(others)
        ended = {each.shard for each in leases.values() if each.ended}
        if ended:
            self._ended |= ended
            self._discovered = float("-inf")
        seen = [self._seen(each, leases.get(each), now) for each in self._shards if self._readable(each)]
        moves = balance(self.id, seen)
        for shard in moves.take:
            await self._take(leases.get(shard) or Lease(shard=shard, position=self._begun.of(shard)))
        for shard in moves.ask:
            await self._table.write(leases[shard], wanted_by=self.id)
        asked = any(each.wanted_by == self.id for each in leases.values() if not each.ended)
        more = bool(ended) or any(each.owner is None for each in seen if each.shard not in self.held)
        self._pause = self._options.beat if moves.ask or asked or more else self._options.failover / 2

    def _finished(self, shard: str) -> bool:
        return shard in self._ended or shard in self._begun.skipped

    def _readable(self, shard: str) -> bool:
        """Whether its turn has come: it is not done, and its parents are, those that still exist."""
        parents = self._shards[shard].parents
        return not self._finished(shard) and all(self._finished(each) or each not in self._shards for each in parents)

    def _seen(self, shard: str, lease: Lease | None, now: float) -> Seen:
        if shard in self.held:
            held = self.held[shard]
            return Seen(shard, self.id, held.lease.wanted_by)
        if lease is None or lease.owner is None or lease.owner == self.id:  # its own: handed over to it, or lost
            self._unchanged.pop(shard, None)
            return Seen(shard, None)
        version, since = self._unchanged.get(shard, (None, now))
        if version != lease.version:
            since = now
            self._unchanged[shard] = (lease.version, now)
        silent = now - since >= self._options.failover
        return Seen(shard, None if silent else lease.owner, lease.wanted_by)

    async def _take(self, lease: Lease) -> None:
        begun = asyncio.get_running_loop().time()
        taken = await self._table.write(lease, owner=self.id, wanted_by=None, epoch=lease.epoch + 1)
        if taken is None:
            return  # another was faster
        _log.info("shard_taken", stream=self._log.name, group=self._group, shard=lease.shard, before=lease.owner)
        cursor = self._log.cursor(lease.shard, taken.position, group=self._group)
        window = Window(taken.position, self._lane_of, taken.ahead)
        held = Held(taken, cursor, window, now=begun, failover=self._options.failover, look=self._look)
        self.held[lease.shard] = held
        if self._main is not None and self._main is not asyncio.current_task():
            self._start_reading(held)
        self._on_taken(held)

    # The health metric.

    async def _reporting(self) -> None:
        while True:
            await asyncio.sleep(self._options.report_every)
            if self.held:
                oldest = max(self.held.values(), key=lambda held: held.age)
                _log.info(
                    "iterator_age",
                    stream=self._log.name,
                    group=self._group,
                    seconds=round(oldest.age, 3),
                    shard=oldest.shard,
                    shards=len(self.held),
                )
