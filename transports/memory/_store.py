"""What a queue keeps: messages ready, delayed and on lease.

One timer per store wakes it for the next delay or lease that ends; nothing is scheduled per message. The ends of
leases are in a heap, one element for all that one receive took; what was settled since is skipped, and what was
extended goes back under its new end. So neither a delay that is over nor a lease costs more the more are held.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from heapq import heapify, heappop, heappush
from typing import Any, Final

from eip.channels import Delivery, Receiver, Unsettled
from eip.errors import LeaseLost
from eip.message import AtRest, Message
from eip.transports.memory._ready import Entry, ReadyEntries, StoreDelivery, next_serial

__all__ = ["Store"]

_MAX_SPARE: Final = 100
"""Deliveries that are settled and still in the heap of ends, before that is rebuilt. Ten times as many outlived the
youngest generations of the garbage collector, which then looked at everything again and again."""
_Ends = tuple[float, int, Sequence[Delivery]]


class Store:
    """The messages of one queue and their leases.

    Args:
        fifo: whether message groups are kept in order; see `ReadyEntries`.
        visibility: duration of a lease, in seconds.
    """

    def __init__(self, *, fifo: bool, visibility: float) -> None:
        self.fifo = fifo
        self.visibility = visibility
        self.max_receive_count: int | None = None
        self.on_exhausted: Callable[[StoreDelivery], None] | None = None
        """Called with what was received ``max_receive_count`` times and is due again."""
        self.on_removed: Callable[[], None] | None = None
        """Called when a message left the store; None: nobody waits for room."""
        self.size = 0
        """Messages in the store, in any state."""
        self._leased: set[StoreDelivery] = set()
        self._ends: list[_Ends] = []
        """A heap of when leases end, at the earliest: a serial number, and what was leased together."""
        self._in_ends = 0
        """Deliveries in that heap, those settled since included."""
        self._delayed: list[tuple[float, Entry]] = []
        self._ready = ReadyEntries(fifo=fifo)
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0
        """When the timer fires, where there is one."""

    @property
    def ready(self) -> int:
        """How many messages can be received now, or once their group is unlocked."""
        return self.size - len(self._leased) - len(self._delayed)

    @property
    def leased(self) -> int:
        """How many messages are on lease."""
        return len(self._leased)

    @property
    def delayed(self) -> int:
        """How many entries are not due yet."""
        return len(self._delayed)

    def messages(self) -> list[Message[Any]]:
        """Return all messages, in the order of their arrival."""
        leased = [each.entry() for each in self._leased]
        entries = [*self._ready, *leased, *(each for _, each in self._delayed)]
        return [Message.woken(each.rest) for each in sorted(entries, key=lambda each: each.serial)]

    # Putting in.

    def put(self, rest: AtRest, *, delay: float = 0.0) -> None:
        """Add a message, to be received after ``delay`` seconds."""
        self.size += 1
        if delay > 0:
            self._delay(Entry(next_serial(), rest), delay)
        else:
            self._arrive(next_serial(), rest)

    def _arrive(self, serial: int, rest: AtRest) -> None:
        self._ready.arrive(serial, rest)
        if self._waiters:
            self._wake()

    def _delay(self, entry: Entry, delay: float) -> None:
        when = asyncio.get_running_loop().time() + delay
        heappush(self._delayed, (when, entry))
        self._schedule(when)

    # Receiving.

    def take(self, receiver: Receiver, limit: int) -> Sequence[Delivery]:
        """Lease up to ``limit`` messages to a receiver."""
        until = asyncio.get_running_loop().time() + self.visibility
        taken = self._ready.lease(
            receiver, limit, until, max_receive_count=self.max_receive_count, exhaust=self._exhaust
        )
        if taken:
            self._leased.update(taken)
            self._end_at(until, taken)
        return taken

    def _end_at(self, until: float, deliveries: Sequence[Delivery]) -> None:
        """See to it that the leases end at that time, or whenever they were extended to by then."""
        heappush(self._ends, (until, next_serial(), deliveries))
        self._in_ends += len(deliveries)
        if self._in_ends > 2 * len(self._leased) + _MAX_SPARE:
            self._sweep_ends()
        if self._timer is None or until < self._wakes_at:
            self._schedule(until)

    def _sweep_ends(self) -> None:
        """Take out what was settled, so that it is not kept in memory until its lease would have ended."""
        leased = self._leased
        left = [(until, serial, [each for each in old if each in leased]) for until, serial, old in self._ends]
        self._ends = [each for each in left if each[2]]
        heapify(self._ends)
        self._in_ends = sum(len(each[2]) for each in self._ends)

    def _exhaust(self, delivery: StoreDelivery) -> None:
        self._removed()
        if self.on_exhausted is not None:
            self.on_exhausted(delivery)

    async def wait(self, seconds: float) -> None:
        """Return when there may be something to receive, or after ``seconds``."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        self._waiters.append(woken)
        timer = loop.call_later(seconds, self._leave, woken)
        try:
            await woken
        except asyncio.CancelledError:
            if woken.done() and not woken.cancelled():
                self._wake()  # another waiter gets what this one does not take
            self._leave(woken)
            raise
        finally:
            timer.cancel()

    def _leave(self, waiter: asyncio.Future[None]) -> None:
        """Wait no more, and be remembered no more: an idle queue is waited for again and again."""
        with suppress(ValueError):  # it has been woken
            self._waiters.remove(waiter)
        _resolve(waiter)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    # Settling.

    def ack(self, deliveries: Sequence[Delivery]) -> list[Unsettled]:
        """Forget the messages; return the deliveries whose lease was over."""
        return [_lost(each) for each in deliveries if not self.ack_one(each)]

    def ack_one(self, delivery: Delivery) -> bool:
        """Forget the message; return whether its lease was still there."""
        if not (isinstance(delivery, StoreDelivery) and delivery in self._leased):
            return False
        self._leased.remove(delivery)
        self._removed()
        if self.fifo:
            self._unlock(delivery.rest[1])
        return True

    def nack(self, deliveries: Sequence[Delivery], delay: float) -> list[Unsettled]:
        """Let the messages be received again after ``delay`` seconds; return the deliveries whose lease was over."""
        lost: list[Unsettled] = []
        for delivery in deliveries:
            if not (isinstance(delivery, StoreDelivery) and delivery in self._leased):
                lost.append(_lost(delivery))
                continue
            self._leased.remove(delivery)
            if delay > 0:
                self._delay(delivery.entry(), delay)  # a group stays locked meanwhile
            else:
                self._give_back(delivery.entry())
        return lost

    def extend(self, deliveries: Sequence[Delivery], seconds: float) -> list[Unsettled]:
        """Let the leases end ``seconds`` from now; return the deliveries whose lease was over."""
        until = asyncio.get_running_loop().time() + seconds
        live = [each for each in deliveries if each in self._leased]
        sooner = [each for each in live if each.lease_until is None or each.lease_until > until]
        for delivery in live:
            delivery.lease_until = until
        if sooner:
            self._end_at(until, sooner)
        return [_lost(each) for each in deliveries if each not in self._leased]

    def release(self, receiver: Receiver) -> None:
        """Give back all that the receiver holds, and let it wait no more."""
        held = [each for each in self._leased if each.receiver is receiver]
        held.sort(key=lambda each: each.serial)
        self.nack(held, 0.0)
        self._wake_all()

    def _give_back(self, entry: Entry) -> None:
        self._ready.put_back(entry)
        if self._waiters:
            self._wake()
        if self.fifo:
            self._unlock(entry.rest[1])

    def _unlock(self, group: str | None) -> None:
        if self._ready.unlock(group):
            self._wake()

    def _removed(self) -> None:
        self.size -= 1
        if self.on_removed is not None:
            self.on_removed()

    # Time.

    def _schedule(self, when: float) -> None:
        if self._timer is not None:
            if self._wakes_at <= when:
                return
            self._timer.cancel()
        self._wakes_at = when
        self._timer = asyncio.get_running_loop().call_at(when, self._tick)

    def _tick(self) -> None:
        """End the delays and leases that are over, and sleep until the next."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._delayed and self._delayed[0][0] <= now:
            entry = heappop(self._delayed)[1]
            if entry.receive_count:
                self._give_back(entry)
            else:
                self._arrive(entry.serial, entry.rest)
        while self._ends and self._ends[0][0] <= now:
            self._end(heappop(self._ends)[2], now)
        for waiting in (self._delayed, self._ends):
            if waiting:
                self._schedule(waiting[0][0])

    def _end(self, deliveries: Sequence[Delivery], now: float) -> None:
        """End those leases that are over; those that were extended will end later."""
        self._in_ends -= len(deliveries)
        extended: dict[float, list[Delivery]] = {}
        for delivery in deliveries:
            if delivery in self._leased and delivery.lease_until is not None:
                if delivery.lease_until <= now:
                    self.nack((delivery,), 0.0)
                else:
                    extended.setdefault(delivery.lease_until, []).append(delivery)
        for until, group in extended.items():
            self._end_at(until, group)

    def close(self) -> None:
        """Stop the timer and wake all that wait, for messages or for room."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake_all()
        if self.on_removed is not None:
            self.on_removed()

    def _wake_all(self) -> None:
        for waiter in self._waiters:
            _resolve(waiter)
        self._waiters.clear()


def _lost(delivery: Delivery) -> Unsettled:
    return Unsettled(delivery, LeaseLost(f"the lease of {delivery.message.id} has ended"))


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
