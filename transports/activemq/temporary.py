"""Temporary queues: where replies to this process come in, gone with its connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eip._ids import new_id
from eip.channels import Receiver, Source
from eip.codec import JSON, Codec
from eip.errors import ConfigurationError
from eip.transports.activemq._addresses import SCHEME
from eip.transports.activemq._batching import BatchAccumulator
from eip.transports.activemq.receiver import ActiveMQReceiver, Subscription

if TYPE_CHECKING:
    from eip.transports.activemq.transport import ActiveMQTransport

__all__ = ["TemporaryQueue"]


class TemporaryQueue(Source):
    """A reply channel of one process, for `eip.patterns.RequestReply` and `eip.patterns.ScatterGather`.

    The broker makes it for a connection and knows it by another name: requests that carry its address are sent over
    that connection, and the broker puts the real name into them. When the connection breaks, the queue and the replies
    in it are gone; requests sent afterwards are answered to a new one.
    """

    def __init__(self, transport: ActiveMQTransport, codec: Codec = JSON) -> None:
        self._transport, self.codec = transport, codec
        self.name = f"eip-{new_id()}"
        self.address = f"{SCHEME}temp-queue/{self.name}"
        self._outbox: BatchAccumulator | None = None

    def receiver(self, *, capacity: int = 10) -> Receiver:
        """Its only receiver."""
        subscription = Subscription(destination=f"/temp-queue/{self.name}", name=self.name, capacity=capacity)
        receiver = _TemporaryReceiver(self._transport, subscription, again=None, codec=self.codec)
        receiver.queue = self
        return receiver

    @property
    def outbox(self) -> BatchAccumulator:
        """What requests are sent through; there is one while its receiver is open."""
        if self._outbox is None:
            raise ConfigurationError(f"{self.name}: nobody receives replies; open its receiver first")
        return self._outbox

    def opened(self, outbox: BatchAccumulator) -> None:
        """Its receiver is open."""
        if self._outbox is not None:
            raise ConfigurationError(f"{self.name} has a receiver already")
        self._outbox = outbox

    def closed(self) -> None:
        """Its receiver is closed."""
        self._outbox = None

    def __repr__(self) -> str:
        return f"<TemporaryQueue {self.name}>"


class _TemporaryReceiver(ActiveMQReceiver):
    """Receives replies, and lends its connection to the requests."""

    queue: TemporaryQueue

    async def open(self) -> None:
        """See `ActiveMQReceiver.open`."""
        self._requests = BatchAccumulator(self._link, self._transport.meter)
        self.queue.opened(self._requests)
        await super().open()

    async def aclose(self) -> None:
        """See `ActiveMQReceiver.aclose`."""
        if not self._closed:
            self.queue.closed()
            await self._requests.aclose()
        await super().aclose()
