"""The messages of a queue that can be received, in order per message group where the queue is FIFO."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final, NamedTuple

from eip.channels import Delivery, Receiver
from eip.message import AtRest, Message

__all__ = ["Entry", "ReadyEntries", "StoreDelivery", "next_serial"]

next_serial: Final = count().__next__
"""The place of the next message in the order of arrival."""


class Entry(NamedTuple):
    """A message in the queue."""

    serial: int
    rest: AtRest
    """The message as it arrived."""
    receive_count: int = 0


class StoreDelivery(Delivery):
    """A message on lease, made for its receiver, and what it takes to put it back as it arrived."""

    __slots__ = ("rest", "serial")

    def __init__(self, receiver: Receiver, serial: int, rest: AtRest, receive_count: int, until: float) -> None:
        self.serial, self.rest, self.receive_count = serial, rest, receive_count
        self.message = Message.woken(rest)
        self.receiver = receiver
        self.lease_until = until
        self.error = self.on_acked = None
        self.settled = False

    def entry(self) -> Entry:
        """What is put back."""
        return Entry(self.serial, self.rest, self.receive_count)


class _Line:
    """Messages that wait for the same receivers: new ones one after the other, those that come back where they were."""

    __slots__ = ("_arrived", "_returned")

    def __init__(self) -> None:
        self._arrived: deque[Any] = deque()
        """Serial numbers and messages at rest, in turn: a pair each would be one more object to collect."""
        self._returned: list[Entry] = []
        """A heap, by the order of arrival."""

    def __bool__(self) -> bool:
        return bool(self._arrived or self._returned)

    def __iter__(self) -> Iterator[Entry]:
        waiting = iter(self._arrived)
        for serial in waiting:
            yield Entry(serial, next(waiting))
        yield from self._returned

    def arrive(self, serial: int, rest: AtRest) -> None:
        self._arrived.append(serial)
        self._arrived.append(rest)

    def put_back(self, entry: Entry) -> None:
        heappush(self._returned, entry)

    def lease(self, receiver: Receiver, until: float) -> StoreDelivery:
        arrived, returned = self._arrived, self._returned
        if returned and (not arrived or returned[0].serial < arrived[0]):
            entry = heappop(returned)
            return StoreDelivery(receiver, entry.serial, entry.rest, entry.receive_count + 1, until)
        return StoreDelivery(receiver, arrived.popleft(), arrived.popleft(), 1, until)


class ReadyEntries:
    """Messages that wait to be received, with SQS's rule for message groups.

    One receive may return several messages of a group; then none of the group comes until all of those are settled, or
    their leases have ended. A message that comes back takes its old place. The runtime's `GroupQueue` cannot stand in:
    it has one head per group, which only its own consumer can settle, and messages never come back to it.

    Args:
        fifo: whether message groups are kept apart.
    """

    def __init__(self, *, fifo: bool) -> None:
        self._fifo = fifo
        self._ungrouped = _Line()
        self._groups: dict[str, _Line] = {}
        """What waits in each group that has something waiting or out."""
        self._out: dict[str, int] = {}
        """How many messages of each locked group are on lease, or delayed after one."""
        self._open: OrderedDict[str, None] = OrderedDict()
        """Groups that may be received from, in turn. The first of a plain dict is searched for behind all that left."""

    def __iter__(self) -> Iterator[Entry]:
        """All entries, those of locked groups included."""
        yield from self._ungrouped
        for waiting in self._groups.values():
            yield from waiting

    def arrive(self, serial: int, rest: AtRest) -> None:
        """Let a new message be received."""
        (self._line(rest[1]) if self._fifo else self._ungrouped).arrive(serial, rest)

    def put_back(self, entry: Entry) -> None:
        """Let a message be received again, at its old place."""
        self._line(entry.rest[1] if self._fifo else None).put_back(entry)

    def _line(self, group: str | None) -> _Line:
        """Where a message of that group waits, which is going to."""
        if group is None:
            return self._ungrouped
        waiting = self._groups.get(group)
        if waiting is None:
            waiting = self._groups[group] = _Line()
        if group not in self._out:
            self._open[group] = None
        return waiting

    def lease(
        self,
        receiver: Receiver,
        limit: int,
        until: float,
        *,
        max_receive_count: int | None,
        exhaust: Callable[[StoreDelivery], None],
    ) -> list[StoreDelivery]:
        """Remove messages, and return them as deliveries: the ungrouped, then the open groups in turn.

        Args:
            receiver: of the deliveries.
            limit: how many at most.
            until: when their leases end, by the event loop's clock.
            max_receive_count: None: no limit.
            exhaust: called with what is received once more than that, instead of returning it.
        """
        taken: list[StoreDelivery] = []
        waiting = self._ungrouped
        while len(taken) < limit and waiting:
            delivery = waiting.lease(receiver, until)
            if max_receive_count is None or delivery.receive_count <= max_receive_count:
                taken.append(delivery)
            else:
                exhaust(delivery)
        turn: deque[str] = deque()
        while len(taken) < limit and (self._open or turn):
            group = self._open.popitem(last=False)[0] if self._open else turn.popleft()
            waiting = self._groups[group]
            delivery = waiting.lease(receiver, until)
            if waiting:
                turn.append(group)
            if max_receive_count is None or delivery.receive_count <= max_receive_count:
                self._out[group] = self._out.get(group, 0) + 1
                taken.append(delivery)
            else:
                exhaust(delivery)
                if not waiting and group not in self._out:
                    del self._groups[group]
        for group in turn:
            if group not in self._out:
                self._open[group] = None
        return taken

    def unlock(self, group: str | None) -> bool:
        """Note that a message of a FIFO queue is settled or back; return whether its group has opened with messages."""
        if group is None:
            return False
        out = self._out[group] - 1
        if out:
            self._out[group] = out
            return False
        del self._out[group]
        if self._groups[group]:
            self._open[group] = None
            return True
        del self._groups[group]
        return False
