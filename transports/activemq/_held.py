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
        self._waiters: dict[asyncio.Future[None], float] = {}
        """Those who wait for a delivery, and until when by the loop's clock."""
        self._timer: asyncio.TimerHandle | None = None
        """Fires when the first of them has waited long enough, or earlier."""
        self._closed = False
        self._then: Callable[[], object] | None = None

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

    def hand_out(
        self, limit: int, *, unless: Callable[[ActiveMQDelivery], bool] | None = None
    ) -> list[ActiveMQDelivery]:
        """Remove ready deliveries and note that they are handed out.

        Args:
            limit: how many at most.
            unless: returns whether a delivery must stay, and with it those behind it; None: none must.
        """
        ready, out = self._ready, self._out
        taken: list[ActiveMQDelivery] = []
        while ready and len(taken) < limit and (unless is None or not unless(ready[0])):
            delivery = ready.popleft()
            out[delivery] = None
            taken.append(delivery)
        return taken

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

    def settle(self, delivery: ActiveMQDelivery) -> bool:
        """Forget a delivery; the next one of its group becomes ready. Return False if it was not handed out."""
        if delivery not in self._out:
            return False
        del self._out[delivery]
        group = delivery.message.group_id
        if group is not None and (following := self._groups.leave(group, delivery)) is not None:
            self.make_ready(following)
        if self._then is not None:
            self.when_empty(self._then)
        return True

    def when_empty(self, then: Callable[[], object]) -> None:
        """Call ``then`` once nothing is held, unless the connection is lost before."""
        self._then = then if self else None
        if not self:
            then()

    def clear(self) -> list[ActiveMQDelivery]:
        """Forget all, as their connection is lost; return those that were handed out."""
        lost = list(self._out)
        self._groups = GroupQueue()
        self._ready.clear()
        self._out.clear()
        for timer in self._postponed.values():
            timer.cancel()
        self._postponed.clear()
        self._then = None
        return lost

    # Waiting.

    async def wait_ready(self, until: float) -> None:
        """Return when a delivery is ready, at ``until`` by the loop's clock, or when it is closed."""
        loop = asyncio.get_running_loop()
        while not self._ready and until > loop.time() and not self._closed:
            waiter = loop.create_future()
            self._waiters[waiter] = until
            self._look_at(until)
            try:
                await waiter
            except asyncio.CancelledError:
                if self._ready:  # it was woken for a delivery that it does not take
                    self._wake_one()
                raise
            finally:
                self._waiters.pop(waiter, None)

    def _look_at(self, until: float) -> None:
        """Look who has waited long enough, at ``until`` at the latest."""
        # A timer of its own for each wait would be made and cancelled for every few messages.
        if self._timer is not None:
            if self._timer.when() <= until:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(until, self._end_waits)

    def _end_waits(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for waiter, until in self._waiters.items():
            if until <= now:
                _resolve(waiter)
        if later := [until for until in self._waiters.values() if until > now]:
            self._look_at(min(later))

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = next(iter(self._waiters))
            del self._waiters[waiter]
            if not waiter.done():
                waiter.set_result(None)
                return

    def close(self) -> None:
        """Wake all that wait, now and later."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiters:
            _resolve(waiter)


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
