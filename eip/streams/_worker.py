"""One worker of a group: holds leases, reads its shards, writes checkpoints, takes and hands over shards."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from eip._ids import new_id
from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.errors import StoreError
from eip.health import Health, HealthTracker
from eip.retry import Backoff
from eip.streams._held import Held
from eip.streams.balance import Seen, balance
from eip.streams.leases import Beginning, Lease, LeaseTable
from eip.streams.log import Log, Shard, Start
from eip.streams.options import GroupOptions
from eip.streams.window import Window

__all__ = ["Held", "Worker"]

_log = get_logger("eip.streams")
_repeated = RepeatedLines(_log)
_MAX_AHEAD: Final = 4000
"""Records done beyond the checkpoint that a lease names for its next owner: 250 KB, where DynamoDB takes 400."""
_READ_BACKOFF: Final = Backoff(base=0.2, cap=5.0)
_DENIED_BACKOFF: Final = Backoff(base=1.0, cap=30.0)
"""After a failure that another attempt will most likely repeat."""
_BEGIN_WITHIN_S: Final = 10.0
_ROUND_WITHIN_S: Final = 30.0
"""Seconds after which the store or the service counts as away: it may accept a call and never answer."""
_JOIN_BACKOFF: Final = Backoff(base=0.5, cap=10.0)
_RELEASE_WITHIN_S: Final = 5.0
"""Seconds to write the last checkpoints at the end; leases not given up by then expire by themselves."""


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
        self._reading = False
        """Whether shards that are taken are read at once: not before the worker has joined."""
        self._health = HealthTracker()
        self._suspects: frozenset[str] = frozenset()
        """Shards that were open at the last look although the group has finished them."""

    async def open(self) -> None:
        """Join the group, and take what is free of it; waits for a service that is away.

        Raises what the log or the store raises where another attempt will not help.
        """
        await self._retried(self._begin, within=_BEGIN_WITHIN_S)
        await self._retried(self._round, within=_ROUND_WITHIN_S)
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
        shards = await self._log.shards()
        place = self._log.position(self._start)
        self._begun = await self._table.begin(place, shards, skip_closed=self._start == "latest")

    async def _retried(self, step: Callable[[], Awaitable[None]], *, within: float) -> None:
        attempt = 0
        while True:
            try:
                async with asyncio.timeout(within):
                    await step()
            except Exception as error:
                if not (isinstance(error, TimeoutError) or getattr(error, "transient", False)):
                    raise
                attempt += 1
                self._health.failed(error)
                text = str(error) or f"no answer within {within:.0f} s"
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
        await self._end(main)
        for held in self.held.values():
            held.leaving = True
        held_last = list(self.held.values())
        try:
            async with asyncio.timeout(_RELEASE_WITHIN_S):
                await asyncio.gather(*(self._release(held) for held in held_last))
        except TimeoutError:
            names = [held.shard for held in held_last if held.shard in self.held]
            _log.warning("leases_not_released", stream=self._log.name, group=self._group, shards=names)
            for held in held_last:
                await self._drop(held)

    @property
    def health(self) -> Health:
        """The worst of its shards, or of its own looks at leases and shards."""
        failing = [each for each in (held.health.health() for held in self.held.values()) if not each.ok]
        own = self._health.health()
        return own if not own.ok or not failing else min(failing, key=lambda each: each.failing_since or 0.0)

    # Tasks.

    async def _run(self, opened: asyncio.Event) -> None:
        async with self._tasks as tasks:
            self._reading = True
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
        time, options = asyncio.get_running_loop().time, self._options
        while True:
            slept = time()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(options.beat):
                    await self._look.wait()
            self._look.clear()
            # A handler that blocked the loop kept everything from being renewed. Nobody need have noticed: the
            # conditional write decides whose the shard is.
            blocked = time() - slept - options.beat > options.failover / 2
            await asyncio.gather(*(self._look_after_safely(held, blocked=blocked) for held in list(self.held.values())))

    async def _look_after_safely(self, held: Held, *, blocked: bool) -> None:
        try:
            await self._look_after(held, blocked=blocked)
        except Exception as error:  # noqa: BLE001 - one shard's trouble is not the others'
            self._warn_of(held, "lease_not_kept", error)

    async def _look_after(self, held: Held, *, blocked: bool) -> None:
        now = asyncio.get_running_loop().time()
        if held.gone or held.leaving:
            if held.leaving and not held.gone:
                await self._renew(held)
            return
        if now - held.renewed >= self._options.failover:
            if not (blocked and await self._write(held)):
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
                    ahead = window.done_ahead(_MAX_AHEAD) if leaving else held.lease.ahead if window.ahead else ()
                    changes |= {"position": window.checkpoint, "ahead": tuple(ahead), "read_until": held.read_until}
                    async with asyncio.timeout(self._write_timeout(held, begun)):
                        written = await self._table.write(held.lease, **changes)
                        found = None if written is not None else await self._table.get(held.shard)
                except (StoreError, TimeoutError) as error:
                    self._warn_of(held, "lease_not_written", error)
                    return False
                self._health.succeeded()
                if written is not None:
                    held.lease, held.renewed = written, begun
                    held.gone = written.owner != self.id  # nothing may be written after that
                    return True
                if found is None or (found.owner, found.epoch) != (self.id, held.lease.epoch):
                    self._lose(held, "another worker has it")
                    return False
                held.lease = found  # somebody asks for it, or the answer to our own last write was lost
            return False

    def _write_timeout(self, held: Held, now: float) -> float:
        """Seconds until a write counts as failed: while the lease surely lasts, and time for one where it may not."""
        failover = self._options.failover
        return max(held.renewed + failover - now, failover / 3)

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
            except Exception as error:  # noqa: BLE001 - whatever failed, the shard is read on
                failures += 1
                held.not_read(error)
                self._warn_of(held, "read_failed", error)
                backoff = _READ_BACKOFF if getattr(error, "transient", True) else _DENIED_BACKOFF
                await asyncio.sleep(backoff.delay(failures))
                continue
            failures = 0
            held.add(page)
            if page.missed:
                _log.error("records_missed", stream=self._log.name, shard=held.shard, count=page.missed)
            if page.records:
                self._on_records()
            if page.ended:
                self._look.set()

    # Balance.

    async def _balancing(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause):
                    await self._move.wait()
            self._move.clear()
            try:
                async with asyncio.timeout(_ROUND_WITHIN_S):
                    await self._round()
                if not self._suspects:
                    self._health.succeeded()
            except Exception as error:  # noqa: BLE001 - what is held goes on, and the next round comes
                self._health.failed(error)
                text = str(error) or type(error).__name__
                _repeated.warning("balance_failed", stream=self._log.name, group=self._group, error=text)
                await asyncio.sleep(self._options.beat)

    async def _round(self) -> None:
        """Look at all leases, take what is free of them, ask for what is missing to the fair share."""
        now = asyncio.get_running_loop().time()
        if now - self._discovered >= self._options.discover_every:
            self._shards = {each.id: each for each in await self._log.shards()}
            self._ended &= self._shards.keys()
            await self._look_for_a_new_beginning()
            self._discovered = now
            self._look_for_another_stream()
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

    async def _look_for_a_new_beginning(self) -> None:
        """Notice `StreamGroup.seek`: what the group had finished is to be read again."""
        found = await self._table.beginning()
        if found.version != self._begun.version:
            self._begun = found
            self._ended.clear()

    def _look_for_another_stream(self) -> None:
        """Report shards that are open although the group finished them: those of another stream of the same name.

        Twice in a row, as the list of shards may be a moment older than the leases.
        """
        finished = frozenset(each.id for each in self._shards.values() if not each.closed and self._finished(each.id))
        known, self._suspects = self._suspects & finished, finished
        if known:
            error = (
                f"stream {self._log.name} was deleted and made again: the group has finished shards that are open now; "
                'begin again with `await group.seek("trim_horizon")`, which reads all of its records'
            )
            self._health.failed(error)
            _repeated.error("stream_made_again", group=self._group, shards=sorted(known)[:10], error=error)

    def _warn_of(self, held: Held, event: str, error: Exception) -> None:
        text = str(error) or type(error).__name__
        _repeated.warning(event, stream=self._log.name, group=self._group, error=text, varying={"shard": held.shard})

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
        if self._reading:
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
