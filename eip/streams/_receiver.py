"""A worker of a group as the receiver of an `eip.Consumer`: one message of a partition key at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from typing_extensions import override

from eip.channels import Delivery, Receiver, Sender, Unsettled
from eip.errors import ConfigurationError, LeaseLost
from eip.health import Health
from eip.message import Message
from eip.streams._dead_letters import send_dead_letters
from eip.streams._held import Held
from eip.streams._membership import Membership
from eip.streams._worker import Worker
from eip.streams.window import Slot

__all__ = ["StreamDelivery", "StreamReceiver"]


class StreamDelivery(Delivery):
    """A record on its way through a handler."""

    __slots__ = ("held", "slot")

    def __init__(self, receiver: Receiver, message: Message[Any], held: Held, slot: Slot, **state: Any) -> None:
        super().__init__(receiver, message, receive_count=slot.attempts, **state)
        self.held, self.slot = held, slot


class StreamReceiver(Receiver):
    """A worker of a group, as `eip.Consumer` uses it: leases are of shards, so no delivery has one of its own."""

    settle_batch = 1

    def __init__(self, members: Membership, *, name: str, dead_letters: Sender | None, capacity: int) -> None:
        self.name, self.dead_letters = name, dead_letters
        self.max_batch = max(capacity, 1)
        self._members = members
        self._worker: Worker | None = None
        self._turn: deque[Held] = deque()
        self._out: dict[StreamDelivery, None] = {}
        self._timers: dict[StreamDelivery, asyncio.TimerHandle] = {}
        self._changed = asyncio.Event()
        self._closed = False

    @override
    async def open(self) -> None:
        """Join the group."""
        self._worker = await self._members.join(
            _by_key,
            parallelization=self.max_batch,
            on_taken=self._turn.append,
            on_lost=self._lose,
            on_records=self._changed.set,
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
        turn, members = self._turn, self._members
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
            message, error = members.message(held, slot)
            delivery = StreamDelivery(self, message, held, slot, error=error)
            self._out[delivery] = None
            taken.append(delivery)
        return taken

    @override
    def ack_nowait(self, delivery: Delivery) -> bool:
        assert isinstance(delivery, StreamDelivery)
        if self.settling is not None or delivery.on_acked or delivery.held.gone or delivery not in self._out:
            return False
        del self._out[delivery]
        self._done(delivery)
        self._changed.set()
        return True

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
        self._timers[delivery] = asyncio.get_running_loop().call_later(delay, self._hand_out_again, delivery)

    def _hand_out_again(self, delivery: StreamDelivery) -> None:
        del self._timers[delivery]
        if not delivery.held.gone:
            delivery.held.back((delivery.slot,), delayed=True)
            self._changed.set()

    @override
    def health(self) -> Health:
        """Whether its shards are read, and their leases kept."""
        return super().health() if self._worker is None else self._worker.health

    @override
    async def dead_letter(self, delivery: Delivery, reason: str, *, stack: str | None = None) -> None:
        """Dead-letter it; what the channel can never carry is referred to, so that its key goes on."""
        if self.dead_letters is None:
            raise ConfigurationError(f"{self.name} has no dead-letter channel; give the group or the consumer one")
        count = delivery.receive_count
        await send_dead_letters(
            self.dead_letters, [delivery.message], reason, source=self.name, count=count, stack=stack
        )
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
            await self._members.leave(worker)
        self._out.clear()


def _by_key(key: str) -> str:
    return key


def _lost(delivery: Delivery) -> Unsettled:
    return Unsettled(delivery, LeaseLost(f"the shard of {delivery.message.id} is another worker's"))
