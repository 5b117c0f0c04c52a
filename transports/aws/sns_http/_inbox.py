"""Messages between the requests that brought them and the consumer that settles them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from eip.channels import Delivery, Receiver, Unsettled
from eip.errors import LeaseLost
from eip.message import Message

__all__ = ["Inbox", "InboxReceiver", "RequestDelivery"]


class RequestDelivery(Delivery):
    """A message whose request waits for its outcome."""

    __slots__ = ("outcome",)

    def __init__(self, receiver: Receiver, message: Message[Any], error: Exception | None) -> None:
        super().__init__(receiver, message, error=error)
        self.outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Whether it is done; False: it is to come again. Cancelled: nobody waits any more."""


class Inbox:
    """What waits for a consumer, up to ``capacity`` messages, those being handled included."""

    def __init__(self, name: str, capacity: int) -> None:
        self.name, self._capacity = name, capacity
        self._waiting: deque[RequestDelivery] = deque()
        self.held = 0
        """Messages that wait or are handled."""
        self._arrived = asyncio.Event()
        self.receivers: list[InboxReceiver] = []
        """Those that are open."""

    async def outcome(self, message: Message[Any], error: Exception | None, *, seconds: float) -> bool | None:
        """Hand the message to a consumer and return whether it is done; None where there is no room, or no consumer."""
        if not self.receivers or self.held >= self._capacity:
            return None
        self.held += 1
        delivery = RequestDelivery(self.receivers[0], message, error)
        self._waiting.append(delivery)
        self._arrived.set()
        try:
            async with asyncio.timeout(seconds):
                return await delivery.outcome
        except TimeoutError:
            return False
        finally:
            self.held -= 1
            self._withdraw(delivery)

    def _withdraw(self, delivery: RequestDelivery) -> None:
        """The request is answered: whoever has its message has it no more."""
        if delivery in self._waiting:
            self._waiting.remove(delivery)
        elif delivery.outcome.cancelled() and (on_lost := delivery.receiver.on_lost) is not None:
            on_lost([delivery])

    def take(self, limit: int) -> list[RequestDelivery]:
        """The next messages."""
        return [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]

    async def wait(self, seconds: float) -> None:
        """Return once a message waits, or after that time."""
        self._arrived.clear()
        if self._waiting:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            return

    def refuse_all(self) -> None:
        """Nobody consumes any more: what waits comes again."""
        for each in self._waiting:
            if not each.outcome.done():
                each.outcome.set_result(False)


class InboxReceiver(Receiver):
    """Receives from an inbox; the lease of a message ends when its request is answered."""

    system = "aws.sns"
    settle_batch = 1
    ordered = False

    def __init__(self, inbox: Inbox, capacity: int) -> None:
        self.name, self._inbox = inbox.name, inbox
        self.max_batch = max(capacity, 1)

    @override
    async def open(self) -> None:
        self._inbox.receivers.append(self)

    @override
    async def aclose(self) -> None:
        if self in self._inbox.receivers:
            self._inbox.receivers.remove(self)
        if not self._inbox.receivers:
            self._inbox.refuse_all()

    @override
    async def receive(self, limit: int, *, wait: float = 20.0) -> Sequence[Delivery]:
        if not (taken := self.receive_nowait(limit)):
            await self._inbox.wait(wait)
            taken = self.receive_nowait(limit)
        return taken

    @override
    def receive_nowait(self, limit: int) -> Sequence[Delivery]:
        taken = self._inbox.take(min(limit, self.max_batch))
        for each in taken:
            each.receiver = self
        return taken

    @override
    async def _ack(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
        return self._settle(deliveries, done=True)

    @override
    async def _nack(self, deliveries: Sequence[Delivery], delay: float) -> Sequence[Unsettled]:
        del delay  # SNS decides when it comes again
        return self._settle(deliveries, done=False)

    @override
    async def _extend(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        del seconds
        return self._lost(deliveries)

    def _settle(self, deliveries: Sequence[Delivery], *, done: bool) -> Sequence[Unsettled]:
        lost = self._lost(deliveries)
        for each in deliveries:
            assert isinstance(each, RequestDelivery)
            if not each.outcome.done():
                each.outcome.set_result(done)
        return lost

    @staticmethod
    def _lost(deliveries: Sequence[Delivery]) -> list[Unsettled]:
        error = LeaseLost("its request was answered already")
        ours = (each for each in deliveries if isinstance(each, RequestDelivery))
        return [Unsettled(each, error) for each in ours if each.outcome.done()]
