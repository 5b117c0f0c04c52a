"""Temporary queues: where replies to this process arrive, gone with its connection."""

from __future__ import annotations

from typing_extensions import override

from eip.channels import Receiver, TemporaryQueue
from eip.codec import JSON, Codec
from eip.errors import TransportError
from eip.transports.activemq._addresses import SCHEME
from eip.transports.activemq._artemis import is_artemis
from eip.transports.activemq._batching import BatchAccumulator
from eip.transports.activemq._client import Client, temporary_name
from eip.transports.activemq._stomp.connection import Connection
from eip.transports.activemq._subscription import OnEmpty, Subscription
from eip.transports.activemq.receiver import ActiveMQReceiver

__all__ = ["ActiveMQTemporaryQueue"]


class ActiveMQTemporaryQueue(TemporaryQueue):
    """A queue of one connection, that of its receiver.

    The broker makes it for a connection and knows it by another name: requests that carry its address are sent over
    that connection, and the broker puts the real name into them. When the connection breaks, the queue and the replies
    in it are gone; requests sent afterwards are answered to a new one.
    """

    def __init__(self, client: Client, codec: Codec = JSON, on_empty: OnEmpty = "dead_letter") -> None:
        self._client, self.codec, self._on_empty = client, codec, on_empty
        self.name = temporary_name()
        self.address = f"{SCHEME}temp-queue/{self.name}"

    @override
    def receiver(self, *, capacity: int = 10) -> Receiver:
        """Return its receiver; one at a time may be open."""
        subscription = Subscription(
            destination=f"/temp-queue/{self.name}", name=self.name, capacity=capacity, on_empty=self._on_empty
        )
        return _TemporaryReceiver(self._client, subscription, address=self.address, codec=self.codec)

    @override
    async def remove(self) -> None:
        """Do nothing: it ended with the connection of its receiver."""

    def __repr__(self) -> str:
        return f"<ActiveMQTemporaryQueue {self.name}>"


class _TemporaryReceiver(ActiveMQReceiver):
    """Receives replies, and sends the requests over its connection."""

    def __init__(self, client: Client, subscription: Subscription, *, address: str, codec: Codec) -> None:
        super().__init__(client, subscription, reschedule=None, codec=codec)
        self._address = address
        self._requests = BatchAccumulator(self._connection, client.meter)

    @override
    async def _subscribe(self, connection: Connection) -> None:
        if is_artemis(connection.broker):
            raise TransportError(
                f"{connection.server}: Artemis has no temporary queues over STOMP; receive replies from a queue, "
                "e.g. eip.patterns.reply_queues"
            )
        await super()._subscribe(connection)

    @override
    async def open(self) -> None:
        self._client.add_replies(self._address, self._requests)
        await super().open()

    @override
    async def aclose(self) -> None:
        self._client.remove_replies(self._address, self._requests)
        await self._requests.aclose()
        await super().aclose()
