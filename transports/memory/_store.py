"""What a queue keeps: messages ready, delayed and on lease, in order per message group where it is FIFO.

One timer per store wakes it for the next delay or lease that ends; nothing is scheduled per message.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

from eip.channels import Delivery, Receiver, Sender, Unsettled
from eip.errors import LeaseLost
from eip.message import Message
from eip.telemetry.meter import Meter

__all__ = ["Entry", "Store", "StoreReceiver"]

_serial: Final = count()


class Entry:
    """A message in a store."""

    __slots__ = ("message", "receive_count", "serial")

    def __init__(self, message: Message[Any]) -> None:
        self.message = message
        self.receive_count = 0
        self.serial = next(_serial)
        """Its place in the order of arrival."""


class Store:
    """The entries of one channel and their leases.

    FIFO: entries of one group come in order. One receive may return several of a group; then none of the group comes
    until all of those are settled, or their leases have ended, as on SQS.
    """

    def __init__(self, *, fifo: bool, visibility: float) -> None:
        self.fifo = fifo
        self.visibility = visibility
        self.max_receive_count: int | None = None
        self.on_exhausted: Callable[[Entry], None] | None = None
        """Called with an entry that was received ``max_receive_count`` times and is due again."""
        self.on_removed: Callable[[Entry], None] | None = None
        """Called with an entry that left the store."""
        self.size = 0
        """Entries in the store, in whatever state."""
        self._leased: dict[Delivery, Entry] = {}
        self._delayed: list[tuple[float, int, Entry]] = []
        self._ready: deque[Entry] = deque()
        self._groups: dict[str, deque[Entry]] = {}
        """What waits in each group that has something waiting or out."""
        self._out: dict[str, int] = {}
        """How many entries of each locked group are on lease, or delayed after one."""
        self._open: dict[str, None] = {}
        """Groups that may be received from, in turn."""
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def ready(self) -> int:
        """How many entries could be received, or will be once their group is unlocked."""
        return self.size - len(self._leased) - len(self._delayed)

    @property
    def leased(self) -> int:
        """How many entries are on lease."""
        return len(self._leased)

    def messages(self) -> list[Message[Any]]:
        """All messages kept, in the order of their arrival."""
        waiting = [*self._ready, *(each for group in self._groups.values() for each in group)]
        entries = [*waiting, *self._leased.values(), *(each for _, _, each in self._delayed)]
        return [each.message for each in sorted(entries, key=lambda each: each.serial)]

    # Putting in.

    def put(self, message: Message[Any], *, delay: float = 0.0) -> None:
        """Add a message, to be received after ``delay`` seconds."""
        entry = Entry(message)
        self.size += 1
        if delay > 0:
            self._delay(entry, delay)
        else:
            self._make_ready(entry)

    def _make_ready(self, entry: Entry) -> None:
        """Let the entry be received; one that was received before goes back to its old place."""
        group = entry.message.group_id if self.fifo else None
        waiting = self._ready if group is None else self._groups.get(group)
        if waiting is None:
            waiting = self._groups[group] = deque()  # type: ignore[index]  # waiting is None only where group is not
        if entry.receive_count and waiting and entry.serial < waiting[-1].serial:
            _insert(waiting, entry)
        else:
            waiting.append(entry)
        if group is not None and group not in self._out:
            self._open[group] = None
        if self._waiters:
            self._wake()

    def _delay(self, entry: Entry, delay: float) -> None:
        when = asyncio.get_running_loop().time() + delay
        heappush(self._delayed, (when, entry.serial, entry))
        self._schedule(when)

    # Receiving.

    def take(self, receiver: Receiver, limit: int) -> list[Delivery]:
        """Lease up to ``limit`` entries."""
        taken: list[Delivery] = []
        until = asyncio.get_running_loop().time() + self.visibility
        for entry in self._next(limit):
            entry.receive_count += 1
            delivery = Delivery(receiver, entry.message.sealed(), receive_count=entry.receive_count, lease_until=until)
            self._leased[delivery] = entry
            taken.append(delivery)
        if taken and self._timer is None:
            self._schedule(until)
        return taken

    def _next(self, limit: int) -> Iterator[Entry]:
        """Up to ``limit`` entries that are due: the ungrouped, then the open groups in turn."""
        ready, most = self._ready, self.max_receive_count
        while ready and limit:
            entry = ready.popleft()
            if most is None or entry.receive_count < most:
                limit -= 1
                yield entry
            else:
                self._exhaust(entry)
        turn: deque[str] = deque()
        while limit and (self._open or turn):
            group = turn.popleft() if not self._open else next(iter(self._open))
            self._open.pop(group, None)
            waiting = self._groups[group]
            entry = waiting.popleft()
            if waiting:
                turn.append(group)
            if most is None or entry.receive_count < most:
                self._out[group] = self._out.get(group, 0) + 1
                limit -= 1
                yield entry
            else:
                self._exhaust(entry)
                if not waiting and group not in self._out:
                    del self._groups[group]
        for group in turn:
            if group not in self._out:
                self._open[group] = None

    def _exhaust(self, entry: Entry) -> None:
        self._removed(entry)
        if self.on_exhausted is not None:
            self.on_exhausted(entry)

    async def wait(self, seconds: float) -> None:
        """Return when there may be something to receive, or after ``seconds``."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        self._waiters.append(woken)
        timer = loop.call_later(seconds, _resolve, woken)
        try:
            await woken
        except asyncio.CancelledError:
            if woken.done() and not woken.cancelled():
                self._wake()  # pass on what this one can no longer use
            raise
        finally:
            timer.cancel()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    # Settling.

    def ack(self, deliveries: Sequence[Delivery]) -> list[Unsettled]:
        """Forget the entries; returns the deliveries whose lease was over."""
        lost: list[Unsettled] = []
        for delivery in deliveries:
            entry = self._leased.pop(delivery, None)
            if entry is None:
                lost.append(_lost(delivery))
                continue
            self._removed(entry)
            if self.fifo:
                self._unlock(entry)
        return lost

    def nack(self, deliveries: Sequence[Delivery], delay: float) -> list[Unsettled]:
        """Let the entries be received again after ``delay`` seconds; returns the deliveries whose lease was over."""
        lost: list[Unsettled] = []
        for delivery in deliveries:
            entry = self._leased.pop(delivery, None)
            if entry is None:
                lost.append(_lost(delivery))
            elif delay > 0:
                self._delay(entry, delay)  # a group stays locked meanwhile
            else:
                self._give_back(entry)
        return lost

    def extend(self, deliveries: Sequence[Delivery], seconds: float) -> list[Unsettled]:
        """Let the leases end ``seconds`` from now; returns the deliveries whose lease was over."""
        until = asyncio.get_running_loop().time() + seconds
        live = [each for each in deliveries if each in self._leased]
        for delivery in live:
            delivery.lease_until = until
        if live:
            self._schedule(until)
        return [_lost(each) for each in deliveries if each not in self._leased]

    def release(self, receiver: Receiver) -> None:
        """Give back all that the receiver holds, the newest first."""
        held = [each for each in self._leased if each.receiver is receiver]
        self.nack(held[::-1], 0.0)

    def _give_back(self, entry: Entry) -> None:
        self._make_ready(entry)
        if self.fifo:
            self._unlock(entry)

    def _unlock(self, entry: Entry) -> None:
        group = entry.message.group_id
        if group is None:
            return
        out = self._out[group] - 1
        if out:
            self._out[group] = out
            return
        del self._out[group]
        if self._groups[group]:
            self._open[group] = None
            self._wake()
        else:
            del self._groups[group]

    def _removed(self, entry: Entry) -> None:
        self.size -= 1
        if self.on_removed is not None:
            self.on_removed(entry)

    # Time.

    def _schedule(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._tick)

    def _tick(self) -> None:
        """End the delays and leases that are over, and sleep until the next."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._delayed and self._delayed[0][0] <= now:
            entry = heappop(self._delayed)[2]
            if entry.receive_count:
                self._give_back(entry)
            else:
                self._make_ready(entry)
        over = [each for each in self._leased if each.lease_until is not None and each.lease_until <= now]
        for delivery in over:
            self._give_back(self._leased.pop(delivery))
        ends = [each.lease_until for each in self._leased if each.lease_until is not None]
        if self._delayed:
            ends.append(self._delayed[0][0])
        if ends:
            self._schedule(min(ends))

    def close(self) -> None:
        """Stop the timer and wake all that wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for waiter in self._waiters:
            _resolve(waiter)
        self._waiters.clear()


class StoreReceiver(Receiver):
    """Leases the entries of one store."""

    settle_batch = 1

    def __init__(
        self,
        name: str,
        store: Store,
        *,
        capacity: int,
        dead_letters: Sender | None,
        max_receive_count: int | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.name, self.dead_letters, self.max_receive_count = name, dead_letters, max_receive_count
        self.lease, self.ordered = store.visibility, store.fifo
        self.max_batch = max(capacity, 1)
        self._store, self._meter = store, meter
        self._closed = False

    async def receive(self, limit: int, *, wait: float = 20.0) -> Sequence[Delivery]:
        """See `Receiver.receive`."""
        limit = min(limit, self.max_batch)
        taken = self._store.take(self, limit)
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        while not taken and not self._closed and (rest := until - loop.time()) > 0:
            await self._store.wait(rest)
            taken = self._store.take(self, limit)
        if self._meter is not None:
            self._report("receive", taken)
        return taken

    def receive_nowait(self, limit: int) -> Sequence[Delivery]:
        """See `Receiver.receive_nowait`."""
        taken = self._store.take(self, limit)
        if taken and self._meter is not None:
            self._report("receive", taken)
        return taken

    def extend_blocking(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        """Nothing to do: the store ends leases by ``lease_until``, which the caller sets."""
        del deliveries, seconds
        return ()

    async def _ack(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
        if self._meter is not None:
            self._report("ack", deliveries)
        return self._store.ack(deliveries)

    async def _nack(self, deliveries: Sequence[Delivery], delay: float) -> Sequence[Unsettled]:
        if self._meter is not None:
            self._report("nack", deliveries)
        return self._store.nack(deliveries, delay)

    async def _extend(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        if self._meter is not None:
            self._report("extend", deliveries, heartbeats=len(deliveries))
        return self._store.extend(deliveries, seconds)

    def _report(self, operation: str, deliveries: Sequence[Delivery], *, heartbeats: int = 0) -> None:
        size = sum(len(each.message.raw or b"") for each in deliveries) if operation == "receive" else 0
        if self._meter is not None:
            self._meter.record(
                "memory", self.name, operation, messages=len(deliveries), size=size, units=0, heartbeats=heartbeats
            )

    async def aclose(self) -> None:
        """See `Receiver.aclose`."""
        self._closed = True
        self._store.release(self)


def _insert(waiting: deque[Entry], entry: Entry) -> None:
    """Put the entry where it was: before all that arrived later."""
    place = next(index for index, each in enumerate(waiting) if entry.serial < each.serial)
    waiting.insert(place, entry)


def _lost(delivery: Delivery) -> Unsettled:
    return Unsettled(delivery, LeaseLost(f"the lease of {delivery.message.id} has ended"))


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
