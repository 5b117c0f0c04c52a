"""Acknowledges what is held, over the connection that brought it; what came over a lost one is stale."""

from __future__ import annotations

from collections.abc import Sequence

from eip.channels import Delivery, Unsettled
from eip.errors import LeaseLost, TransportError
from eip.health import HealthTracker
from eip.transports.activemq._client import Client
from eip.transports.activemq._delivery import ActiveMQDelivery
from eip.transports.activemq._held import HeldMessages
from eip.transports.activemq._stomp.connection import MAY_BE_REFUSED, Connection
from eip.transports.activemq._stomp.frames import dump, escape

__all__ = ["Acks"]


class Acks:
    """The acknowledgements of one receiver.

    Args:
        client: the transport's.
        held: what the receiver holds; an acknowledged delivery leaves it.
        tracker: notes each acknowledgement.
        channel: its name, for the meter.
    """

    def __init__(self, client: Client, held: HeldMessages, tracker: HealthTracker, *, channel: str) -> None:
        self._client, self._held, self._tracker, self._channel = client, held, tracker, channel
        self.stale = 0
        """How many could not be settled because their connection is lost."""

    def one(self, delivery: Delivery) -> Connection | None:
        """Acknowledge a delivery; return its connection, or None where that is lost."""
        connection = self._acknowledge(delivery)
        if connection is not None:
            self._tracker.settled()
        return connection

    def _acknowledge(self, delivery: Delivery) -> Connection | None:
        if not isinstance(delivery, ActiveMQDelivery):
            return None
        connection = delivery.connection
        if not connection.open or not self._held.settle(delivery):
            return None
        self.write(connection, delivery.ack_ids)
        return connection

    async def all(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
        """Acknowledge deliveries; return those whose connection is lost."""
        failed: list[Unsettled] = []
        last: Connection | None = None
        for delivery in deliveries:
            if (connection := self._acknowledge(delivery)) is None:
                failed.append(self.refuse(delivery))
            else:
                last = connection
        if last is not None:
            self._tracker.settled()
        if last is not None and any(each.on_acked for each in deliveries):
            # A callback may delete what the message would need if it came again: wait until the broker has the acks.
            try:
                await last.probe(timeout=self._client.connector.answer_timeout)
            except TransportError as error:
                stale = {each.delivery for each in failed}
                failed += [Unsettled(each, LeaseLost(str(error))) for each in deliveries if each not in stale]
        return failed

    def refuse(self, delivery: Delivery) -> Unsettled:
        """Return a delivery as unsettled: its connection is lost."""
        self.stale += 1
        reason = f"the connection that {delivery.message.id} came over is lost: the broker hands it out again"
        return Unsettled(delivery, LeaseLost(reason))

    def write(self, connection: Connection, ack_ids: Sequence[str]) -> None:
        """Write the frame that acknowledges a message, or one for each of its candidate ids."""
        if len(ack_ids) == 1:
            connection.write(f"ACK\nid:{escape(ack_ids[0])}\n\n\0".encode())
        else:  # all but one are forged, which the broker refuses
            for number, ack_id in enumerate(ack_ids):
                connection.write(dump("ACK", {"id": ack_id, "receipt": f"{MAY_BE_REFUSED}{number}"}))
        if self._client.meter is not None:  # each message pays for a call
            self._client.record(self._channel, "ACK", messages=1)
