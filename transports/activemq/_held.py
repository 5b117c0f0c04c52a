"""What a receiver holds: the one place where the state of a delivery changes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from eip.runtime._group_queue import GroupQueue
from eip.transports.activemq._delivery import ActiveMQDelivery

__all__ = ["HeldMessages"]


class HeldMessages:
    """The deliveries of one connection that the broker has handed out and that are not settled.

    Each is in one of four states: behind the head of its group, ready, postponed, or handed out to the consumer.
    """

    def __init__(self) -> None:
        self._groups: GroupQueue[ActiveMQDelivery] = GroupQueue()
        self._ready: deque[ActiveMQDelivery] = deque()
        self._postponed: dict[ActiveMQDelivery, asyncio.TimerHandle] = {}
        self._out: dict[ActiveMQDelivery, None] = {}
        self._waiters: dict[asyncio.Future[None], None] = {}
        self._closed = False

    def __len__(self) -> int:
        """How many messages are held, in any state."""
        return self._groups.waiting + len(self._ready) + len(self._postponed) + len(self._out)

    def __contains__(self, delivery: object) -> bool:
        """Whether the delivery is handed out."""
        return delivery in self._out

    @property
    def first(self) -> ActiveMQDelivery | None:
        """The next ready delivery."""
        return self._ready[0] if self._ready else None

    def enter(self, delivery: ActiveMQDelivery) -> bool:
        """Hold a new delivery; return False where it waits behind the head of its group."""
        group = delivery.message.group_id
        return group is None or self._groups.enter(group, delivery)

    def make_ready(self, delivery: ActiveMQDelivery, *, first: bool = False) -> None:
        """Let the delivery be handed out, after those that are ready, or ``first``."""
        if first:
            self._ready.appendleft(delivery)
        else:
            self._ready.append(delivery)
        self._wake_one()

    def postpone(self, delivery: ActiveMQDelivery, delay: float, then: Callable[[ActiveMQDelivery], None]) -> None:
        """Call ``then`` with the delivery after ``delay`` seconds, unless its connection is lost before."""

        def due() -> None:
            del self._postponed[delivery]
            then(delivery)

        self._postponed[delivery] = asyncio.get_running_loop().call_later(delay, due)

    def hand_out(self) -> ActiveMQDelivery:
        """Remove the next ready delivery and note that it is handed out."""
        delivery = self._ready.popleft()
        self._out[delivery] = None
        return delivery

    def withdraw(self, delivery: ActiveMQDelivery) -> None:
        """Note that a delivery which is neither ready nor postponed is being moved, so that nobody else gets it."""
        self._out[delivery] = None

    def take_back(self, delivery: ActiveMQDelivery) -> ActiveMQDelivery | None:
        """Return the delivery that takes the place of one that was handed out; None where it is not held any more."""
        if delivery not in self._out:
            return None
        del self._out[delivery]
        if not delivery.connection.open:
            return None
        successor = delivery.next_attempt()
        if (group := delivery.message.group_id) is not None:
            self._groups.replace_head(group, delivery, successor)
        return successor

    def settle(self, delivery: ActiveMQDelivery) -> None:
        """Forget a delivery that was handed out; the next one of its group becomes ready."""
        del self._out[delivery]
        group = delivery.message.group_id
        if group is not None and (following := self._groups.leave(group, delivery)) is not None:
            self.make_ready(following)

    def clear(self) -> list[ActiveMQDelivery]:
        """Forget all, as their connection is lost; return those that were handed out."""
        lost = list(self._out)
        self._groups = GroupQueue()
        self._ready.clear()
        self._out.clear()
        for timer in self._postponed.values():
            timer.cancel()
        self._postponed.clear()
        return lost

    # Waiting.

    async def wait_ready(self, until: float) -> None:
        """Return when a delivery is ready, at ``until`` by the loop's clock, or when it is closed."""
        loop = asyncio.get_running_loop()
        while not self._ready and (rest := until - loop.time()) > 0 and not self._closed:
            waiter = loop.create_future()
            self._waiters[waiter] = None
            timer = loop.call_later(rest, _resolve, waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if self._ready:  # it was woken for a delivery that it does not take
                    self._wake_one()
                raise
            finally:
                timer.cancel()
                self._waiters.pop(waiter, None)

    def _wake_one(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
                return

    def close(self) -> None:
        """Wake all that wait, now and later."""
        self._closed = True
        for waiter in self._waiters:
            _resolve(waiter)


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
