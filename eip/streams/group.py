"""A stream as read by one group: the source of its consumers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from typing_extensions import override

from eip.channels import Delivery, Receiver, Sender, Source, Unsettled
from eip.errors import ConfigurationError, DecodeError, LeaseLost
from eip.health import Health
from eip.message import Message
from eip.stores.base import Store
from eip.streams._dead_letters import send_dead_letters
from eip.streams._held import Held
from eip.streams._worker import Worker
from eip.streams.leases import LeaseTable
from eip.streams.log import HORIZON, Log, Position, Start
from eip.streams.options import GroupOptions
from eip.streams.window import Slot

__all__ = ["ShardStatus", "StreamDelivery", "StreamGroup", "StreamReceiver"]


class ShardStatus(NamedTuple):
    """A shard that a worker of this process holds."""

    shard: str
    iterator_age: float
    """Seconds since the arrival of the oldest record that is not done."""
    held: int
    """Records read and not done."""
    checkpoint: Position
    """Up to there everything is done."""
    missed: int
    """Records that fell out of the stream before they were read, where the log can tell."""
    health: Health
    """Whether it is read: since when not, and why."""


class StreamGroup(Source):
    """A stream as read by the named group; any number of workers in any number of processes share its shards.

    Delivery is at-least-once: what was done after the last checkpoint is done again where a worker dies, and where a
    shard is taken from one that went silent. A shard that is handed over in good order brings no duplicates.

    Args:
        log: the stream.
        name: of the group; groups are independent of each other.
        leases: where leases are kept, or what opens it when first needed.
        start: where the group begins where it is new: its first worker decides.
        options: timing and bounds.
        dead_letters: where consumers send what they give up.
    """

    def __init__(
        self,
        log: Log,
        name: str,
        *,
        leases: Store | Callable[[], Awaitable[Store]],
        start: Start = "latest",
        options: GroupOptions | None = None,
        dead_letters: Sender | None = None,
    ) -> None:
        log.position(start)  # refused here where it is none
        self.name = f"{log.name}/{name}"
        self.group, self.log = name, log
        self.start: Start = start
        self.options = options or GroupOptions()
        self.dead_letters = dead_letters
        self._leases = leases
        self._workers: set[Worker] = set()

    @override
    def receiver(self, *, capacity: int = 10) -> Receiver:
        """A worker of the group that hands out one message of a partition key at a time."""
        return StreamReceiver(self, capacity=capacity)

    @property
    def shards(self) -> list[ShardStatus]:
        """What the workers in this process hold."""
        held = [each for worker in self._workers for each in worker.held.values()]
        return [
            ShardStatus(
                each.shard, each.age, len(each.window), each.window.checkpoint, each.missed, each.health.health()
            )
            for each in held
        ]

    @property
    def iterator_age(self) -> float:
        """Seconds since the arrival of the oldest record that is not done, of the shards held here; 0 with none."""
        return max((each.iterator_age for each in self.shards), default=0.0)

    async def checkpoints(self) -> dict[str, Position]:
        """By shard, up to where everything is done, as the store has it."""
        leases = await (await self.table()).load(each.id for each in await self.log.shards())
        return {shard: lease.position for shard, lease in leases.items()}

    async def seek(self, start: Start) -> None:
        """Read again from a place, whoever reads now: workers lose their shards and take them up from there.

        Also the way on where the stream was deleted and made again, and the checkpoints are those of the old one.
        """
        table = await self.table()
        shards = await self.log.shards()
        place = self.log.position(start)
        latest = start == "latest"
        await table.reset(
            {each.id: HORIZON if start == "trim_horizon" else place for each in shards if not (latest and each.closed)}
        )
        await table.begin_again(place, shards, skip_closed=latest)

    @property
    def health(self) -> Health:
        """Whether the workers in this process read their shards and keep their leases; ok without a worker."""
        failing = [each for each in (worker.health for worker in self._workers) if not each.ok]
        return min(failing, key=lambda each: each.failing_since or 0.0) if failing else Health(ok=True)

    async def table(self) -> LeaseTable:
        """The group's leases."""
        if callable(self._leases):
            self._leases = await self._leases()
        return LeaseTable(self._leases, self.log.name, self.group)

    async def join(
        self, lane_of: Callable[[str], Any], options: GroupOptions | None = None, **callbacks: Any
    ) -> Worker:
        """A worker of the group, at work; close it with `leave`. For the callbacks see `Worker`."""
        worker = Worker(
            self.log,
            self.table,
            group=self.group,
            start=self.start,
            options=options or self.options,
            lane_of=lane_of,
            **callbacks,
        )
        self._workers.add(worker)
        try:
            await worker.open()
        except BaseException:
            self._workers.discard(worker)
            raise
        return worker

    async def leave(self, worker: Worker) -> None:
        """Close the worker: its last checkpoints are written, its shards left to others."""
        try:
            await worker.aclose()
        finally:
            self._workers.discard(worker)

    def message(self, held: Held, slot: Slot) -> tuple[Message[Any], Exception | None]:
        """A record of a shard as a message, and why it cannot be read where that is so; never raises."""
        record = slot.record
        try:
            return self.log.message(held.shard, record)
        except Exception as error:  # noqa: BLE001 - whatever reading a record raises concerns that record alone
            raw = record.payload if isinstance(record.payload, bytes) else b""
            where = {"shard": held.shard, "sequence-number": record.sequence}
            message = Message.received(
                raw, id=f"{held.shard}:{record.name}", group_id=record.key, created_at=record.at, headers=where
            )
            return message, DecodeError(f"record cannot be read: {type(error).__name__}: {error}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} shards={len(self.shards)}>"


class StreamDelivery(Delivery):
    """A record on its way through a handler."""

    __slots__ = ("held", "slot")

    def __init__(self, receiver: Receiver, message: Message[Any], held: Held, slot: Slot, **state: Any) -> None:
        super().__init__(receiver, message, receive_count=slot.attempts, **state)
        self.held, self.slot = held, slot


class StreamReceiver(Receiver):
    """A worker of a group, as `eip.Consumer` uses it: leases are of shards, so no delivery has one of its own."""

    settle_batch = 1

    def __init__(self, group: StreamGroup, *, capacity: int) -> None:
        self.name, self.dead_letters = group.name, group.dead_letters
        self.max_batch = max(capacity, 1)
        self._group = group
        self._worker: Worker | None = None
        self._turn: deque[Held] = deque()
        self._out: dict[StreamDelivery, None] = {}
        self._timers: dict[StreamDelivery, asyncio.TimerHandle] = {}
        self._changed = asyncio.Event()
        self._closed = False

    @override
    async def open(self) -> None:
        """Join the group."""
        self._worker = await self._group.join(
            _by_key, on_taken=self._turn.append, on_lost=self._lose, on_records=self._changed.set
        )

    @override
    async def receive(self, limit: int, *, wait: float = 20.0) -> Sequence[Delivery]:
        taken = self.receive_nowait(limit)
        if taken or wait <= 0:
            return taken
        try:
            async with asyncio.timeout(wait):
                while not taken and not self._closed:
                    self._changed.clear()
                    await self._changed.wait()
                    taken = self.receive_nowait(limit)
        except TimeoutError:
            pass
        return taken

    @override
    def receive_nowait(self, limit: int) -> Sequence[Delivery]:
        """One of each shard in turn, while there are some."""
        taken: list[Delivery] = []
        turn, group = self._turn, self._group
        dry = 0
        limit = min(limit, self.max_batch)
        while len(taken) < limit and dry < len(turn):
            held = turn[0]
            if held.gone:
                turn.popleft()
                continue
            turn.rotate(-1)
            slot = None if held.leaving or not held.alive else held.window.take()
            if slot is None:
                dry += 1
                continue
            dry = 0
            message, error = group.message(held, slot)
            delivery = StreamDelivery(self, message, held, slot, error=error)
            self._out[delivery] = None
            taken.append(delivery)
        return taken

    @override
    async def _ack(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
        return self._each(deliveries, self._done)

    @override
    async def _nack(self, deliveries: Sequence[Delivery], delay: float) -> Sequence[Unsettled]:
        return self._each(deliveries, self._back, delay)

    @override
    async def _extend(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        del seconds
        return [_lost(each) for each in deliveries if each not in self._out]

    def _each(self, deliveries: Sequence[Delivery], verb: Callable[..., None], *arguments: Any) -> list[Unsettled]:
        failed: list[Unsettled] = []
        for delivery in deliveries:
            assert isinstance(delivery, StreamDelivery)
            known = delivery in self._out
            self._out.pop(delivery, None)
            if known and not delivery.held.gone:  # after a blocked loop it may still be ours: its next write decides
                verb(delivery, *arguments)
            else:
                failed.append(_lost(delivery))
        self._changed.set()
        return failed

    @staticmethod
    def _done(delivery: StreamDelivery) -> None:
        delivery.held.done((delivery.slot,))

    def _back(self, delivery: StreamDelivery, delay: float) -> None:
        """Given back; with a delay its lane waits for it, but a shard that is handed over meanwhile does not."""
        held = delivery.held
        if delay <= 0:
            held.back((delivery.slot,))
            return
        held.window.hold(delivery.slot)
        held.changed.set()
        self._timers[delivery] = asyncio.get_running_loop().call_later(delay, self._again, delivery)

    def _again(self, delivery: StreamDelivery) -> None:
        del self._timers[delivery]
        if not delivery.held.gone:
            delivery.held.back((delivery.slot,), delayed=True)
            self._changed.set()

    @override
    def health(self) -> Health:
        """Whether its shards are read, and their leases kept."""
        return super().health() if self._worker is None else self._worker.health

    @override
    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Dead-letter it; what the channel can never carry is referred to, so that its key goes on."""
        if self.dead_letters is None:
            raise ConfigurationError(f"{self.name} has no dead-letter channel; give the group or the consumer one")
        count = delivery.receive_count
        await send_dead_letters(self.dead_letters, [delivery.message], reason, source=self.name, count=count)
        delivery.on_acked = None
        for unsettled in await self.ack((delivery,)):
            raise unsettled.error

    def _lose(self, held: Held) -> None:
        lost = [each for each in self._out if each.held is held]
        for delivery in lost:
            del self._out[delivery]
        if lost and self.on_lost is not None:
            self.on_lost(lost)

    @override
    async def aclose(self) -> None:
        """Give back what is out, write the last checkpoints, leave the group."""
        self._closed = True
        self._changed.set()
        for timer in self._timers.values():
            timer.cancel()
        worker, self._worker = self._worker, None
        if worker is not None:
            await self._group.leave(worker)
        self._out.clear()


def _by_key(key: str) -> str:
    return key


def _lost(delivery: Delivery) -> Unsettled:
    return Unsettled(delivery, LeaseLost(f"the shard of {delivery.message.id} is another worker's"))
