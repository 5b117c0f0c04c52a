"""How messages are given back, and what becomes of those that were received too often."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from eip._logging import get_logger
from eip.channels import Delivery, Receiver, Unsettled, with_dead_letter_headers
from eip.errors import ConnectionLost, InvalidMessage, LeaseLost, TransportError
from eip.transports.activemq._acks import Acks
from eip.transports.activemq._broker_dead_letters import BrokerDeadLetters
from eip.transports.activemq._delivery import ActiveMQDelivery, NoContents
from eip.transports.activemq._held import HeldMessages
from eip.transports.activemq._postponing import Postponing, Reschedule

__all__ = ["Redelivery"]

_log = get_logger("eip.activemq")
_DEAD_LETTER_RETRY_S: Final = 5.0
"""Seconds until a message that could not be dead-lettered is tried again."""


class Redelivery:
    """Hands messages out again from here, sends a copy for later, or dead-letters them.

    Args:
        receiver: whose redrive policy and dead-letter channel count.
        held: what it holds.
        acks: acknowledges what was sent again or dead-lettered.
        postponing: holds what is handed out again later.
        broker_dead_letters: gets what the dead-letter channel can never carry.
        reschedule: None: retries are kept here.
    """

    def __init__(
        self,
        receiver: Receiver,
        held: HeldMessages,
        *,
        acks: Acks,
        postponing: Postponing,
        broker_dead_letters: BrokerDeadLetters,
        reschedule: Reschedule | None,
    ) -> None:
        self._receiver, self._held, self._acks = receiver, held, acks
        self._postponing, self._broker_dead_letters = postponing, broker_dead_letters
        self._reschedule = reschedule

    def is_exhausted(self, delivery: Delivery, *, more: int = 0) -> bool:
        """Return whether it was received more often than the redrive policy allows, if received ``more`` times."""
        limit = self._receiver.max_receive_count
        return limit is not None and delivery.receive_count + more > limit and self._receiver.dead_letters is not None

    async def dead_letter_exhausted(self, delivery: ActiveMQDelivery) -> Sequence[Unsettled]:
        """Dead-letter what was received too often; where that fails, try again later."""
        receiver = self._receiver
        assert receiver.dead_letters is not None
        if (left := self.leave_to_broker(delivery)) is not None:
            return left
        received = min(delivery.receive_count, receiver.max_receive_count or 0)
        try:
            await receiver.dead_letters.send(
                with_dead_letter_headers(
                    delivery.message,
                    f"received {received} times",
                    source=receiver.name,
                    count=delivery.receive_count,
                )
            )
        except InvalidMessage as error:
            if self.moved_by_broker(delivery, error):
                return ()
            return self._keep(delivery, _DEAD_LETTER_RETRY_S)
        except asyncio.CancelledError:
            self._keep(delivery, 0.0)
            raise
        except Exception as error:  # noqa: BLE001 - a dead-letter channel that fails keeps the message where it is
            _log.warning("dead_letter_failed", channel=receiver.name, error=str(error))
            return self._keep(delivery, _DEAD_LETTER_RETRY_S)
        return await self._acks.all((delivery,))

    def moved_by_broker(self, delivery: ActiveMQDelivery, error: Exception) -> bool:
        """Have the broker move the message to its own dead-letter queue; return whether it does."""
        if delivery not in self._held or not self._broker_dead_letters.move(
            delivery.connection, delivery.headers, delivery.ack_ids, str(error)
        ):
            return False
        self._held.settle(delivery)
        return True

    def leave_to_broker(self, delivery: ActiveMQDelivery) -> Sequence[Unsettled] | None:
        """Settle a message that a copy may lack the contents of: the broker keeps it. Return None for any other.

        One that the broker would drop is returned as unsettled: it stays where it is.
        """
        if not delivery.may_hold_more:
            return None
        reason = str(delivery.error or NoContents())
        if self.moved_by_broker(delivery, InvalidMessage(reason)):
            return ()
        if delivery.error is None:  # the program takes such messages for what they look like: empty texts
            return None
        if self._held.settle(delivery):
            self._leave(delivery, reason)
        return (Unsettled(delivery, LeaseLost(f"left with the broker: {reason}")),)

    def _leave(self, delivery: ActiveMQDelivery, reason: str) -> None:
        connection, loop = delivery.connection, asyncio.get_running_loop()
        if self._broker_dead_letters.leave(connection, delivery.headers, delivery.ack_ids, reason):
            # It takes a slot until the connection ends, which costs nobody a lease once nothing else is held. The
            # acknowledgement of the last one is written in the next turn of the loop.
            lost = ConnectionLost("a message that is set aside takes a slot")
            self._held.when_empty(lambda: loop.call_soon(loop.call_soon, connection.abort, lost))

    async def give_back(self, delivery: ActiveMQDelivery, delay: float) -> Sequence[Unsettled]:
        """Have the message received again after ``delay`` seconds, with its receive count raised."""
        if delay > 0 and self.is_exhausted(delivery, more=1):
            return await self.dead_letter_exhausted(delivery)
        if delay > 0 and delivery.error is not None and (left := self.leave_to_broker(delivery)) is not None:
            return left
        if delay > 0 and self._reschedule is not None and delivery.message.group_id is None:
            try:
                await self._reschedule(delivery, delay)
            except (TransportError, InvalidMessage) as error:
                _log.warning("retry_kept_here", channel=self._receiver.name, error=str(error))
            else:
                return await self._acks.all((delivery,))
        return self._keep(delivery, delay)

    def _keep(self, delivery: ActiveMQDelivery, delay: float) -> Sequence[Unsettled]:
        """Hand the message out again from here, as another delivery, after ``delay`` seconds."""
        successor = self._held.take_back(delivery)
        if successor is None:
            return [Unsettled(delivery, LeaseLost("its connection is lost: the broker hands it out again"))]
        if delay > 0:
            self._postponing.postpone(successor, delay)
        else:
            self._held.make_ready(successor, first=True)
        return ()
