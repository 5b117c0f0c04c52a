"""What a queue keeps: messages ready, delayed and on lease.

One timer per store wakes it for the next delay or lease that ends; nothing is scheduled per message.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any

from eip.channels import Delivery, Receiver, Unsettled
from eip.errors import LeaseLost
from eip.message import Message
from eip.transports.memory._ready import Entry, ReadyEntries

__all__ = ["Store"]


class Store:
    """The entries of one queue and their leases.

    Args:
        fifo: whether message groups are kept in order; see `ReadyEntries`.
        visibility: duration of a lease, in seconds.
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
        """Entries in the store, in any state."""
        self._leased: dict[Delivery, Entry] = {}
        self._delayed: list[tuple[float, int, Entry]] = []
        self._ready = ReadyEntries(fifo=fifo)
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def ready(self) -> int:
        """How many entries can be received now, or once their group is unlocked."""
        return self.size - len(self._leased) - len(self._delayed)

    @property
    def leased(self) -> int:
        """How many entries are on lease."""
        return len(self._leased)

    def messages(self) -> list[Message[Any]]:
        """Return all messages, in the order of their arrival."""
        entries = [*self._ready, *self._leased.values(), *(each for _, _, each in self._delayed)]
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
        self._ready.add(entry)
        if self._waiters:
            self._wake()

    def _delay(self, entry: Entry, delay: float) -> None:
        when = asyncio.get_running_loop().time() + delay
        heappush(self._delayed, (when, entry.serial, entry))
        self._schedule(when)

    # Receiving.

    def take(self, receiver: Receiver, limit: int) -> list[Delivery]:
        """Lease up to ``limit`` entries to a receiver."""
        taken: list[Delivery] = []
        until = asyncio.get_running_loop().time() + self.visibility
        for entry in self._ready.take(limit, self.max_receive_count, self._exhaust):
            entry.receive_count += 1
            delivery = Delivery(receiver, entry.message.sealed(), receive_count=entry.receive_count, lease_until=until)
            self._leased[delivery] = entry
            taken.append(delivery)
        if taken and self._timer is None:
            self._schedule(until)
        return taken

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
                self._wake()  # another waiter gets what this one does not take
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
        """Forget the entries; return the deliveries whose lease was over."""
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
        """Let the entries be received again after ``delay`` seconds; return the deliveries whose lease was over."""
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
        """Let the leases end ``seconds`` from now; return the deliveries whose lease was over."""
        until = asyncio.get_running_loop().time() + seconds
        live = [each for each in deliveries if each in self._leased]
        for delivery in live:
            delivery.lease_until = until
        if live:
            self._schedule(until)
        return [_lost(each) for each in deliveries if each not in self._leased]

    def release(self, receiver: Receiver) -> None:
        """Give back all that the receiver holds."""
        held = [each for each in self._leased if each.receiver is receiver]
        self.nack(held[::-1], 0.0)

    def _give_back(self, entry: Entry) -> None:
        self._make_ready(entry)
        if self.fifo:
            self._unlock(entry)

    def _unlock(self, entry: Entry) -> None:
        if self._ready.unlock(entry):
            self._wake()

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


def _lost(delivery: Delivery) -> Unsettled:
    return Unsettled(delivery, LeaseLost(f"the lease of {delivery.message.id} has ended"))


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
