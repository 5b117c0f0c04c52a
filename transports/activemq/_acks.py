"""Acknowledges what is held, over the connection that brought it; what came over a lost one is stale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

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

    def one(self, delivery: Delivery) -> bool:
        """Acknowledge a delivery; return False where its connection is lost."""
        if not self._settle(delivery):
            return False
        self._tracker.settled()
        self.write(delivery.connection, delivery.ack_ids)
        return True

    def _settle(self, delivery: Delivery) -> TypeGuard[ActiveMQDelivery]:
        """Let go of a delivery; return False where its connection is lost."""
        return isinstance(delivery, ActiveMQDelivery) and delivery.connection.open and self._held.settle(delivery)

    async def all(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
        """Acknowledge deliveries, in one write; return those whose connection is lost."""
        acked: list[ActiveMQDelivery] = []
        failed: list[Unsettled] = []
        is_awaited = False
        for delivery in deliveries:
            if self._settle(delivery):
                acked.append(delivery)
                is_awaited = is_awaited or bool(delivery.on_acked)
            else:
                failed.append(self.refuse(delivery))
        if not acked:
            return failed
        self._tracker.settled()
        connection = acked[0].connection  # of all: what came over an earlier one is lost with it
        connection.write(b"".join([self._frames(each.ack_ids) for each in acked]))
        if is_awaited:
            # A callback may delete what the message would need if it came again: wait until the broker has the acks.
            try:
                await connection.probe(timeout=self._client.connector.answer_timeout)
            except TransportError as error:
                failed += [Unsettled(each, LeaseLost(str(error))) for each in acked]
        return failed

    def refuse(self, delivery: Delivery) -> Unsettled:
        """Return a delivery as unsettled: its connection is lost."""
        self.stale += 1
        reason = f"the connection that {delivery.message.id} came over is lost: the broker hands it out again"
        return Unsettled(delivery, LeaseLost(reason))

    def write(self, connection: Connection, ack_ids: Sequence[str]) -> None:
        """Acknowledge one message; see `_frames`."""
        connection.write(self._frames(ack_ids))

    def _frames(self, ack_ids: Sequence[str]) -> bytes:
        """Return the frame that acknowledges a message, or one for each of its candidate ids."""
        if self._client.meter is not None:  # each message pays for a call
            self._client.record(self._channel, "ACK", messages=1)
        if len(ack_ids) == 1:
            return f"ACK\nid:{escape(ack_ids[0])}\n\n\0".encode()
        # All but one are forged, which the broker refuses.
        return b"".join(
            dump("ACK", {"id": ack_id, "receipt": f"{MAY_BE_REFUSED}{number}"}) for number, ack_id in enumerate(ack_ids)
        )
