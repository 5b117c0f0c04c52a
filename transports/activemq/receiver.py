"""Receives from a queue or a subscription over a connection of its own.

The broker hands out as many messages as the consumer has slots (the prefetch), each acknowledged by itself. What is
held belongs to one connection: when that breaks, the broker gives it to whoever is there, and an acknowledgement
would come too late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from typing_extensions import override

from eip._logging import get_logger
from eip.channels import Delivery, Receiver, Sender, Unsettled
from eip.codec import JSON, Codec
from eip.errors import DecodeError, InvalidMessage, LeaseLost
from eip.health import Health
from eip.message import Message
from eip.transports.activemq._acks import Acks
from eip.transports.activemq._artemis import is_artemis, received, subscribe_headers
from eip.transports.activemq._broker_dead_letters import BrokerDeadLetters, ack_ids_of
from eip.transports.activemq._client import Client
from eip.transports.activemq._decoding import from_frame
from eip.transports.activemq._delivery import ActiveMQDelivery, NoContents, may_hold_more
from eip.transports.activemq._held import HeldMessages
from eip.transports.activemq._postponing import Postponing, Reschedule
from eip.transports.activemq._redelivery import Redelivery
from eip.transports.activemq._stomp.connection import Connection
from eip.transports.activemq._stomp.frames import Frame
from eip.transports.activemq._stomp.reconnecting import ReconnectingConnection
from eip.transports.activemq._subscription import SUBSCRIPTION_ID, Subscription

__all__ = ["ActiveMQReceiver"]

_log = get_logger("eip.activemq")


class ActiveMQReceiver(Receiver):
    """Leases messages for as long as its connection lasts.

    A message that is given back at once stays here and is handed out again, before all others; one that is given back
    for later is sent again with a delay, then acknowledged. Messages of a group stay here in both cases, and those
    behind wait: the broker keeps a group with one consumer, so that order holds. Of a group, one message is handed out
    at a time.

    Args:
        client: the transport's.
        subscription: what to subscribe to.
        reschedule: sends a copy of a delivery, to be received after so many seconds; None: retries are kept here.
        codec: decodes the messages of other programs.
        filter: messages that it refuses are acknowledged unseen; None: all are handed out.
        dead_letters: gets what was received ``max_receive_count`` times, or is rejected.
        max_receive_count: None: no limit.
    """

    system = "activemq"

    settle_batch = 1

    def __init__(
        self,
        client: Client,
        subscription: Subscription,
        *,
        reschedule: Reschedule | None,
        codec: Codec = JSON,
        filter: Callable[[Message[Any]], bool] | None = None,  # noqa: A002 - the field's term
        dead_letters: Sender | None = None,
        max_receive_count: int | None = None,
    ) -> None:
        self.name = subscription.name
        self.max_batch = subscription.max_held
        self.dead_letters, self.max_receive_count = dead_letters, max_receive_count
        self._client, self._subscription = client, subscription
        self._codec, self._filter = codec, filter
        self._connection = ReconnectingConnection(
            client.connector,
            name=f"from {self.name}",
            headers=subscription.connect_headers,
            restore=self._subscribe,
            on_lost=self._lost_connection,
        )
        self._held = HeldMessages()
        self._acks = Acks(client, self._held, self._connection.tracker, channel=self.name)
        self._broker_dead_letters = BrokerDeadLetters(self.name, subscription.destination)
        self._postponing = Postponing(self._held, name=self.name, reschedule=reschedule, ack=self._ack)
        self._redelivery = Redelivery(
            self,
            self._held,
            acks=self._acks,
            postponing=self._postponing,
            broker_dead_letters=self._broker_dead_letters,
            reschedule=reschedule,
        )
        self._closed = False

    @property
    def stale_acks(self) -> int:
        """How many deliveries could not be settled because their connection is lost."""
        return self._acks.stale

    # Connecting.

    @override
    async def open(self) -> None:
        """Connect and subscribe; raises `AccessDenied`, `ConnectionLost`, `StateError`."""
        self._client.check_open()
        self._client.connections.add(self._connection)
        try:
            await self._connection.connection(timeout=self._client.connector.open_timeout)
        except BaseException:
            await self.aclose()
            raise

    async def _subscribe(self, connection: Connection) -> None:
        headers: Mapping[str, str] = self._subscription.subscribe_headers
        if is_artemis(connection.broker):
            connection.subscribe(SUBSCRIPTION_ID, lambda frame: self._take(connection, received(frame)))
            headers = subscribe_headers(headers, capacity=self._subscription.prefetch)
        else:
            connection.subscribe(SUBSCRIPTION_ID, lambda frame: self._take(connection, frame))
            headers = self._broker_dead_letters.excluding(headers)
        await connection.request("SUBSCRIBE", headers, timeout=self._client.connector.answer_timeout)
        self._client.record(self.name, "SUBSCRIBE")

    def _lost_connection(self, _: Connection) -> None:
        """Forget what was held over it: the broker hands it out again, to anyone."""
        lost = self._held.clear()
        if lost and self.on_lost is not None and not self._closed:
            self.on_lost(lost)

    @override
    def health(self) -> Health:
        """Return whether its connection is up, and since when not; when it last received and settled."""
        return self._connection.tracker.health()

    # Messages in.

    def _take(self, connection: Connection, frame: Frame) -> None:
        """Take a message from the broker; must not raise."""
        ack_ids = ack_ids_of(frame)
        if not frame.complete or not ack_ids:
            self._broker_dead_letters.move_unreadable(connection, frame, ack_ids)
            return
        message, attempts, due, error = from_frame(frame, self._codec)
        if error is None and may_hold_more(frame.headers, frame.body) and self._subscription.on_empty != "handle":
            error = NoContents()
        if error is None and self._filter is not None:
            accepted, error = self._accepts(self._filter, message)
            if not accepted:
                self._acks.write(connection, ack_ids)
                return
        delivery = ActiveMQDelivery(
            self,
            message,
            connection=connection,
            headers=frame.headers,
            ack_ids=ack_ids,
            receive_count=attempts + 1,
            error=error,
        )
        if self._client.meter is not None:
            self._client.record(self.name, "MESSAGE", messages=1, size=len(frame.body))
        if self._held.enter(delivery):
            if due is None:
                self._held.make_ready(delivery)
            else:
                self._postponing.make_ready_when_due(delivery, due)

    @staticmethod
    def _accepts(accepts: Callable[[Message[Any]], bool], message: Message[Any]) -> tuple[bool, Exception | None]:
        """Return whether the filter accepts the message; one that the filter fails on has an error instead."""
        try:
            return accepts(message), None
        except Exception as failure:  # noqa: BLE001 - one message that the filter fails on must not stop the others
            return True, DecodeError(f"the subscription's filter fails on it: {type(failure).__name__}")

    # Receiving.

    @override
    async def receive(self, limit: int, *, wait: float = 20.0) -> Sequence[Delivery]:
        self._client.check_open()
        until = asyncio.get_running_loop().time() + wait
        while True:
            await self._held.wait_ready(until)
            first = self._held.first
            if first is None or not self._redelivery.is_exhausted(first):
                return self.receive_nowait(limit)
            self._held.hand_out(1)
            await self._redelivery.dead_letter_exhausted(first)

    @override
    def receive_nowait(self, limit: int) -> Sequence[Delivery]:
        taken = self._held.hand_out(
            limit, unless=None if self.max_receive_count is None else self._redelivery.is_exhausted
        )
        if taken:
            self._connection.tracker.polled()
        return taken

    # Settling.

    @override
    def ack_nowait(self, delivery: Delivery) -> bool:
        if delivery.on_acked or self.settling is not None:
            return False
        return self._acks.one(delivery)

    @override
    async def _ack(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
        return await self._acks.all(deliveries)

    @override
    async def dead_letter(self, delivery: Delivery, reason: str, *, stack: str | None = None) -> None:
        """Move the message as `Receiver.dead_letter` does, or to the broker's own dead-letter queue if invalid there.

        A message that the dead-letter channel can never carry would otherwise stay for ever. One that may be a map, a
        stream or an object of JMS would arrive there without its contents.
        """
        if isinstance(delivery, ActiveMQDelivery) and (left := self._redelivery.leave_to_broker(delivery)) is not None:
            for each in left:
                raise each.error
            return
        try:
            await super().dead_letter(delivery, reason, stack=stack)
        except InvalidMessage as error:
            if not isinstance(delivery, ActiveMQDelivery) or not self._redelivery.moved_by_broker(delivery, error):
                raise

    @override
    async def _nack(self, deliveries: Sequence[Delivery], delay: float) -> Sequence[Unsettled]:
        failed: list[Unsettled] = []
        for delivery in deliveries:
            if isinstance(delivery, ActiveMQDelivery) and delivery in self._held:
                failed += await self._redelivery.give_back(delivery, delay)
            else:
                failed.append(self._acks.refuse(delivery))
        return failed

    @override
    async def _extend(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        """Report those whose connection is lost; a lease lasts as long as the connection."""
        del seconds
        return [Unsettled(each, LeaseLost("its connection is lost")) for each in deliveries if each not in self._held]

    @override
    def extend_blocking(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        """Write a heart-beat while a handler blocks the event loop."""
        connection = self._connection.current
        if connection is not None and connection.beat_blocking():
            return ()
        return super().extend_blocking(deliveries, seconds)

    @override
    async def aclose(self) -> None:
        """Flush the acknowledgements and disconnect; the broker hands out again what is held, in its order."""
        self._closed = True
        self._held.close()
        await self._postponing.aclose()
        await self._connection.aclose()
        self._client.connections.discard(self._connection)
