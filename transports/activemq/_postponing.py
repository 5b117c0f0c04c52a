"""Deliveries that are held here until their time comes: given back with a delay, or delivered before they are due."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from eip import clock
from eip._logging import get_logger
from eip.transports.activemq._delivery import ActiveMQDelivery
from eip.transports.activemq._held import HeldMessages

__all__ = ["Postponing", "Reschedule"]

_log = get_logger("eip.activemq")

_MAX_EARLY_S: Final = 0.05
"""Seconds that a delayed message may come before its time: clocks differ, and the broker's scheduler rounds."""
_MAX_HELD_S: Final = 60.0
"""Seconds that a message which is not due yet is held here, in a slot; then it is sent again, to be due later."""

Reschedule = Callable[[ActiveMQDelivery, float], Awaitable[None]]
"""Sends a copy of a delivery, to be received after so many seconds."""


class Postponing:
    """Makes held deliveries ready in time.

    Args:
        held: what the receiver holds.
        name: of the channel, for logs.
        reschedule: None: the channel cannot delay a copy, and deliveries wait here.
        ack: acknowledges what was sent again.
    """

    def __init__(
        self,
        held: HeldMessages,
        *,
        name: str,
        reschedule: Reschedule | None,
        ack: Callable[[Sequence[ActiveMQDelivery]], Awaitable[Any]],
    ) -> None:
        self._held, self._name, self._reschedule, self._ack = held, name, reschedule, ack
        self._rescheduling: set[asyncio.Task[None]] = set()

    def make_ready_when_due(self, delivery: ActiveMQDelivery, due: float | None) -> None:
        """Let it be handed out, at its due time where that is still to come; None: now."""
        early = 0.0 if due is None else due - clock.now()
        if early <= _MAX_EARLY_S:
            self._held.make_ready(delivery)
            return
        _log.warning("delivered_early", channel=self._name, by=round(early, 1), hint="does the broker schedule?")
        self.postpone(delivery, min(early, _MAX_HELD_S), due)

    def postpone(self, delivery: ActiveMQDelivery, delay: float, due: float | None = None) -> None:
        """Hold it here for ``delay`` seconds; afterwards it is ready, or if ``due`` is later, sent again for then."""
        self._held.postpone(delivery, delay, lambda each: self._postponed(each, due))

    def _postponed(self, delivery: ActiveMQDelivery, due: float | None) -> None:
        """Go on with a delivery that was held for as long as it may be."""
        early = 0.0 if due is None else due - clock.now()
        if early <= _MAX_EARLY_S or self._reschedule is None or delivery.message.group_id is not None:
            self._held.make_ready(delivery)
            return
        # Its due time may be a stranger's, years ahead: free the slot.
        self._held.withdraw(delivery)
        task = asyncio.create_task(self._reschedule_early(delivery, early), name=f"{self._name} not due")
        self._rescheduling.add(task)
        task.add_done_callback(self._rescheduling.discard)

    async def _reschedule_early(self, delivery: ActiveMQDelivery, delay: float) -> None:
        assert self._reschedule is not None
        delivery.receive_count -= 1  # nobody has handled it
        try:
            await self._reschedule(delivery, delay)
        except Exception as error:  # noqa: BLE001 - it stays here
            _log.warning("delayed_message_kept", channel=self._name, error=str(error))
            if (successor := self._held.take_back(delivery)) is not None:
                self.postpone(successor, _MAX_HELD_S, clock.now() + delay)
        else:
            await self._ack((delivery,))

    async def aclose(self) -> None:
        """Stop sending copies."""
        for task in self._rescheduling:
            task.cancel()
        await asyncio.gather(*self._rescheduling, return_exceptions=True)
