"""What a consumer has in hand, and how much more it may take: the one place that counts slots."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from eip.channels import Delivery, Receiver
from eip.runtime._group_queue import GroupQueue
from eip.runtime._settings import Stats

__all__ = ["Backlog"]


class Backlog:
    """Deliveries that are ready, being handled, behind the head of their group, or waiting for their next attempt.

    A slot is taken by each delivery that is being handled or ready for it, and by each that a poll has asked for.
    Deliveries behind the head of their group, and those that wait for their next attempt, wait without a slot in
    bounded number. All methods are synchronous: each takes the state from one consistent one to the next.

    Args:
        receiver: where deliveries come from.
        concurrency: slots.
        stats: its ``in_flight`` mirrors the slots taken.
        on_ready: called when a delivery became ready by itself.
        on_behind: called with a delivery that was received before, and came behind another of its group.
        on_room: called when a delivery left that no worker need have had: more may be asked for.
    """

    def __init__(
        self,
        receiver: Receiver,
        concurrency: int,
        stats: Stats,
        *,
        on_ready: Callable[[], None],
        on_behind: Callable[[Delivery], None],
        on_room: Callable[[], None],
    ) -> None:
        self._ordered, self.concurrency, self._stats = receiver.ordered, concurrency, stats
        self._on_ready, self._on_behind, self._on_room = on_ready, on_behind, on_room
        self._max_waiting = max(concurrency, receiver.max_batch)
        self.ready: deque[Delivery] = deque()
        self._started: set[Delivery] = set()
        self._groups: GroupQueue[Delivery] = GroupQueue()
        self._sleeping: dict[Delivery, asyncio.TimerHandle] = {}
        self._asked_for = 0

    # Room.

    def free(self) -> int:
        """How many more deliveries may be asked for."""
        slots = self.concurrency - len(self.ready) - len(self._started)
        return min(slots, self._max_waiting - self._groups.waiting - len(self._sleeping)) - self._asked_for

    def reserve(self, count: int) -> None:
        """A poll asks for so many."""
        self._asked_for += count

    def unreserve(self, count: int) -> None:
        """The poll was answered."""
        self._asked_for -= count

    # In and out.

    def admit(self, deliveries: Sequence[Delivery]) -> None:
        """Take the deliveries in: heads of groups and ungrouped ones are ready, the others wait for their turn."""
        ready, ordered, enter = self.ready, self._ordered, self._groups.enter
        before = len(ready)
        for delivery in deliveries:
            group = delivery.message.group_id if ordered else None
            if group is None or enter(group, delivery):
                ready.append(delivery)
            elif delivery.receive_count > 1:
                self._on_behind(delivery)
        self._stats.received += len(deliveries)
        self._stats.in_flight += len(ready) - before

    def start(self) -> Delivery:
        """The next of the ready deliveries, to be handled now."""
        delivery = self.ready.popleft()
        self._started.add(delivery)
        return delivery

    def is_started(self, delivery: Delivery) -> bool:
        """Whether it was started, and is neither finished nor gone."""
        return delivery in self._started

    def finish(self, delivery: Delivery) -> None:
        """The delivery is settled: its slot is free, and the next of its group is ready."""
        if delivery in self._started:  # `_free`, without its call
            self._started.remove(delivery)
            self._stats.in_flight -= 1
        if self._ordered and (group := delivery.message.group_id) is not None:
            following = self._groups.leave(group, delivery)
            if following is not None:
                self.ready.append(following)
                self._stats.in_flight += 1

    def leave(self, delivery: Delivery) -> list[Delivery]:
        """The delivery goes back: its slot and its group are free; returns what waited behind it, newest first."""
        self._free(delivery)
        group = self._group_of(delivery)
        behind = [] if group is None else self._groups.close(group, delivery)[::-1]
        self._on_room()
        return behind

    def sleep(self, delivery: Delivery, delay: float) -> None:
        """Make it ready again after ``delay`` seconds; its slot is free meanwhile, its group is not."""
        self._free(delivery)
        self._sleeping[delivery] = asyncio.get_running_loop().call_later(delay, self._awake, delivery)

    def wake(self, delivery: Delivery) -> bool:
        """End the sleep of a delivery without making it ready; whether it slept."""
        timer = self._sleeping.pop(delivery, None)
        if timer is not None:
            timer.cancel()
        return timer is not None

    def unstarted(self, held: Iterable[Delivery]) -> set[Delivery]:
        """Take out all that is not being handled: ready, asleep, or behind the head of one of ``held``'s groups."""
        self._stats.in_flight -= len(self.ready)
        taken = {*self.ready, *self._sleeping}
        for timer in self._sleeping.values():
            timer.cancel()
        self.ready.clear()
        self._sleeping.clear()
        for delivery in held:
            group = self._group_of(delivery)
            if group is not None:
                taken.update(self._groups.close(group, delivery))
        return taken

    def _awake(self, delivery: Delivery) -> None:
        del self._sleeping[delivery]
        self.ready.append(delivery)
        self._stats.in_flight += 1
        self._on_ready()

    def _free(self, delivery: Delivery) -> None:
        if delivery in self._started:
            self._started.remove(delivery)
            self._stats.in_flight -= 1

    def _group_of(self, delivery: Delivery) -> str | None:
        return delivery.message.group_id if self._ordered else None
