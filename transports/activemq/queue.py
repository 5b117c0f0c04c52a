"""Queues of an ActiveMQ broker.

Delivery is at-least-once: what was received and not acknowledged when a connection breaks comes again, to anyone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from typing_extensions import override

from eip._checks import check_delay
from eip.channels import Filter, Queue, Receiver, Sender
from eip.clock import Duration
from eip.errors import ConfigurationError, InvalidMessage
from eip.matching import as_predicate
from eip.message import Message
from eip.transports.activemq._batching import Entry
from eip.transports.activemq._browsing import browse
from eip.transports.activemq._delivery import ActiveMQDelivery
from eip.transports.activemq._encoding import delay_headers, retry_copy
from eip.transports.activemq._publisher import Publisher
from eip.transports.activemq._subscription import OnEmpty, Subscription
from eip.transports.activemq.receiver import ActiveMQReceiver

__all__ = ["ActiveMQQueue", "Redrive"]

_MAX_DELAY_S: Final = 10 * 365 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Redrive:
    """The redrive policy of a queue. The broker has none, so consumers apply it."""

    dead_letters: Sender
    max_receive_count: int

    def __post_init__(self) -> None:
        """Validate the parameters."""
        if self.max_receive_count < 1:
            raise ConfigurationError(f"max_receive_count must be >= 1, got {self.max_receive_count}")


class ActiveMQQueue(Publisher, Queue):
    """A queue; `ActiveMQTransport.queue` returns it, and the broker makes it at its first use."""

    peek_is_receive = False
    redrive: Redrive | None = None
    """Applied by the consumers of this transport."""
    on_empty: OnEmpty = "dead_letter"
    """What becomes of another program's message without a body; see `ActiveMQTransport.queue`."""
    extra_prefetch: int = 0
    """How many messages each receiver may be handed beyond its capacity; see `ActiveMQTransport.queue`."""

    @override
    async def send(
        self,
        *messages: Message[Any],
        delay: Duration = 0.0,
        priority: int | None = None,
        persistent: bool = True,
    ) -> None:
        """Send the messages, confirmed; see `Sender.send`.

        Args:
            messages: in the order of sending.
            delay: seconds or a timedelta, up to ten years, until they are delivered. Needs the broker's scheduler
                (``schedulerSupport``); without one, a message is held by its consumer until it is due.
            priority: 0 to 9; None: the broker's default, 4. A queue uses it only if its policy at the broker says so.
            persistent: whether the broker keeps it on disk; otherwise it is gone with the broker.
        """
        extra = delay_headers(check_delay(self.name, delay, most=_MAX_DELAY_S))
        await self._send(messages, priority=priority, persistent=persistent, extra=extra)

    @override
    async def peek(self, limit: int = 10, *, max_bytes: int | None = None) -> Sequence[Message[Any]]:
        found = await browse(self._client, self.destination, limit=limit, max_bytes=max_bytes, codec=self.codec)
        return [each.message for each in found]

    async def _reschedule(self, delivery: ActiveMQDelivery, delay: float) -> None:
        """Send a copy of a delivery with its receive count: as it came, not as a handler left it."""
        if delivery.may_hold_more:
            raise InvalidMessage(
                f"{delivery.message.id} may be a map, a stream or an object of JMS: a copy would be empty"
            )
        message = delivery.message.with_encoded(delivery.message.raw or b"")
        head, body = retry_copy(
            message,
            delivery.headers,
            destination=self.destination,
            attempts=delivery.receive_count,
            delay=min(delay, _MAX_DELAY_S),
        )
        await self._client.send([Entry(message, self.name, head, body)])

    @override
    def receiver(
        self,
        *,
        capacity: int = 10,
        filter: Filter | None = None,
        selector: str | None = None,
    ) -> Receiver:
        """Return a receiver with a connection of its own; any number, in any process, may share the queue.

        Args:
            capacity: how many deliveries its consumer holds at most.
            filter: messages that it refuses are acknowledged unseen.
            selector: a JMS selector; messages that it refuses stay in the queue, for other consumers (pattern
                "Selective Consumer").
        """
        subscription = Subscription(
            destination=self.destination,
            name=self.name,
            capacity=capacity,
            extra_prefetch=self.extra_prefetch,
            headers={} if selector is None else {"selector": selector},
            on_empty=self.on_empty,
        )
        return ActiveMQReceiver(
            self._client,
            subscription,
            reschedule=self._reschedule,
            codec=self.codec,
            filter=None if filter is None else as_predicate(filter),
            dead_letters=self.redrive.dead_letters if self.redrive else None,
            max_receive_count=self.redrive.max_receive_count if self.redrive else None,
        )
