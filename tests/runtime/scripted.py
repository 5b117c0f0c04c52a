"""A channel whose every answer a test can script, with leases and batched settlement like SQS's."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from eip import Consumer, Delivery, Message, Receiver, Sender, Source
from eip.channels import Unsettled
from eip.errors import LeaseLost


class Outbox(Sender):
    """Keeps what was sent; `refuse` holds errors to raise first."""

    def __init__(self, name: str = "out") -> None:
        self.name = self.address = name
        self.sent: list[Message[Any]] = []
        self.refuse: deque[Exception] = deque()

    async def send(self, *messages: Message[Any]) -> None:
        await asyncio.sleep(0)
        if self.refuse:
            raise self.refuse.popleft()
        self.sent.extend(messages)


class Scripted(Source, Receiver):
    """One receiver over a list of messages; records each call, and fails as `*_errors` say."""

    def __init__(self, *messages: Message[Any], lease: float | None = 30.0, settle_batch: int = 10) -> None:
        self.name = "scripted"
        self.lease, self.settle_batch, self.billed = lease, settle_batch, True
        self.waiting: list[tuple[float, Message[Any], int]] = [(0.0, each, 1) for each in messages]
        self.errors: dict[str, Exception] = {}
        """By message id: the delivery's own error."""
        self.asked: list[int] = []
        self.acked: list[list[str]] = []
        self.nacked: list[tuple[list[str], float]] = []
        self.extended: list[list[str]] = []
        self.receive_errors: deque[Exception] = deque()
        self.ack_errors: deque[Exception | dict[str, Exception]] = deque()
        self.extend_errors: deque[Exception | dict[str, Exception]] = deque()
        self.nack_count = 1
        """How much the receive count has grown when a message given back comes again."""
        self.polling = 0
        self.most_polls = 0
        self.closed = False
        self._changed = asyncio.Event()

    def receiver(self, *, capacity: int = 10) -> Receiver:
        self.capacity = capacity
        return self

    def put(self, *messages: Message[Any], receive_count: int = 1) -> None:
        self.waiting.extend((0.0, each, receive_count) for each in messages)
        self._changed.set()

    async def receive(self, limit: int, *, wait: float = 20.0) -> Sequence[Delivery]:
        self.asked.append(limit)
        self.polling += 1
        self.most_polls = max(self.most_polls, self.polling)
        try:
            await asyncio.sleep(0.001)
            if self.receive_errors:
                raise self.receive_errors.popleft()
            until = self._now() + wait
            while not (got := self._take(limit)):
                pause = min([until, *(at for at, _, _ in self.waiting)]) - self._now()
                if self._now() >= until:
                    return ()
                self._changed.clear()
                try:
                    await asyncio.wait_for(self._changed.wait(), max(pause, 0.0001))
                except TimeoutError:
                    continue
            return got
        finally:
            self.polling -= 1

    def _take(self, limit: int) -> list[Delivery]:
        now = self._now()
        taken = [each for each in self.waiting if each[0] <= now][: min(limit, self.max_batch)]
        self.waiting = [each for each in self.waiting if each not in taken]
        until = None if self.lease is None else now + self.lease
        return [
            Delivery(self, message, receive_count=count, lease_until=until, error=self.errors.get(message.id))
            for _, message, count in taken
        ]

    async def _ack(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
        await asyncio.sleep(0.001)
        self.acked.append(_ids(deliveries))
        return _outcome(self.ack_errors, deliveries)

    async def _nack(self, deliveries: Sequence[Delivery], delay: float) -> Sequence[Unsettled]:
        self.nacked.append((_ids(deliveries), delay))
        for each in deliveries:
            self.waiting.append((self._now() + delay, each.message, each.receive_count + self.nack_count))
        self._changed.set()
        return ()

    async def _extend(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        self.extended.append(_ids(deliveries))
        return _outcome(self.extend_errors, deliveries)

    async def aclose(self) -> None:
        self.closed = True

    @property
    def acked_ids(self) -> list[str]:
        return [each for call in self.acked for each in call]

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _ids(deliveries: Sequence[Delivery]) -> list[str]:
    return [each.message.id for each in deliveries]


def _outcome(script: deque[Exception | dict[str, Exception]], deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
    if not script:
        return ()
    step = script.popleft()
    if isinstance(step, Exception):
        raise step
    return [Unsettled(each, step[each.message.id]) for each in deliveries if each.message.id in step]


def lost() -> LeaseLost:
    return LeaseLost("taken away")


@asynccontextmanager
async def running(consumer: Consumer) -> AsyncIterator[Consumer]:
    """The consumer, running until the block ends."""
    async with consumer:
        yield consumer


async def until(condition: Any, *, within: float = 3600.0) -> None:
    """Wait until the condition holds; in real time ``within`` is to be given."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.001)
