"""The messages of one invocation as something to consume."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from typing_extensions import override

from eip._logging import get_logger
from eip.channels import Delivery, Receiver, Source, Unsettled
from eip.codec import dump_json, load_json
from eip.errors import InvalidMessage
from eip.transports.aws.lambda_host._events import Arrived
from eip.transports.aws.lambda_host._invocation import TumblingWindow

__all__ = ["InvocationReceiver", "InvocationSource"]

_log = get_logger("eip.lambda")


class InvocationSource(Source):
    """The messages of one invocation as something to consume."""

    def __init__(self, arrived: Arrived, window: TumblingWindow | None = None) -> None:
        self.name = arrived.name
        self.messages = InvocationReceiver(arrived) if window is None else WindowReceiver(arrived, window)

    @override
    def receiver(self, *, capacity: int = 10) -> Receiver:
        del capacity
        return self.messages


class InvocationReceiver(Receiver):
    """Hands out each message once; given back is failed, and what is left at the end as well."""

    settle_batch = 1

    def __init__(self, arrived: Arrived) -> None:
        self.name, self.ordered = arrived.name, arrived.ordered
        self._records = arrived.records
        self._waiting = deque(range(len(arrived.records)))
        self._out: dict[Delivery, int] = {}
        self._failed: list[int] = []
        self.settled = asyncio.Event()
        """Set once nothing is left to do."""
        self._look()

    @property
    def left(self) -> int:
        """Messages that are not settled."""
        return len(self._waiting) + len(self._out)

    @property
    def failed(self) -> Sequence[int]:
        """The places of what has to come again."""
        return sorted([*self._failed, *self._out.values(), *self._waiting])

    @override
    async def receive(self, limit: int, *, wait: float = 20.0) -> Sequence[Delivery]:
        if not self._waiting:
            await asyncio.sleep(wait)
        return self.receive_nowait(limit)

    @override
    def receive_nowait(self, limit: int) -> Sequence[Delivery]:
        taken: list[Delivery] = []
        while self._waiting and len(taken) < limit:
            place = self._waiting.popleft()
            record = self._records[place]
            delivery = Delivery(self, record.message, receive_count=record.receive_count, error=record.error)
            self._out[delivery] = place
            taken.append(delivery)
        return taken

    @override
    async def _ack(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
        for delivery in deliveries:
            self._out.pop(delivery, None)
            delivery.on_acked = None  # the service forgets it after the invocation, and may call with it again
        self._look()
        return ()

    @override
    async def _nack(self, deliveries: Sequence[Delivery], delay: float) -> Sequence[Unsettled]:
        del delay  # the service decides when it comes again
        for delivery in deliveries:
            place = self._out.pop(delivery, None)
            if place is not None:
                self._failed.append(place)
        self._look()
        return ()

    @override
    async def _extend(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        del deliveries, seconds
        return ()

    def undo(self) -> None:
        """Restore the state of a time window as of the last handled message."""

    def _look(self) -> None:
        if not self.left:
            self.settled.set()


class WindowReceiver(InvocationReceiver):
    """Hands out the messages of a time window one after the other, and none after the first that failed.

    What came behind a failed message comes again with it, so that counting it now would count it twice. For the same
    reason the window's state is the one after the last message that is done: what failed leaves no trace in it.
    """

    def __init__(self, arrived: Arrived, window: TumblingWindow) -> None:
        super().__init__(arrived)
        self._window = window
        self._state = dump_json(window.state)

    @override
    def undo(self) -> None:
        self._window.state = load_json(self._state)

    @override
    def receive_nowait(self, limit: int) -> Sequence[Delivery]:
        return () if self._out else super().receive_nowait(1)

    @override
    async def _ack(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
        try:
            self._state = dump_json(self._window.state)
        except InvalidMessage as error:
            _log.error("window_state_refused", channel=self.name, error=str(error))
            return await self._nack(deliveries, 0.0)
        return await super()._ack(deliveries)

    @override
    async def _nack(self, deliveries: Sequence[Delivery], delay: float) -> Sequence[Unsettled]:
        self.undo()
        self._failed += self._waiting
        self._waiting.clear()
        return await super()._nack(deliveries, delay)

    @override
    async def dead_letter(self, delivery: Delivery, reason: str, *, stack: str | None = None) -> None:
        self.undo()
        await super().dead_letter(delivery, reason, stack=stack)
