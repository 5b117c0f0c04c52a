"""Queues of an ActiveMQ broker, and what receives from them.

Delivery is at-least-once: what was received and not acknowledged when a connection breaks comes again, to anyone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from eip.channels import Queue, Receiver, Sender
from eip.codec import JSON, Codec
from eip.envelope import encoded_for
from eip.errors import ConfigurationError, InvalidMessage, MessageTooLarge
from eip.limits import Limits
from eip.message import Message
from eip.transports.activemq._batching import Entry
from eip.transports.activemq._headers import copied, delayed, encoded
from eip.transports.activemq.receiver import ActiveMQDelivery, ActiveMQReceiver, Subscription

if TYPE_CHECKING:
    from eip.transports.activemq.transport import ActiveMQTransport

__all__ = ["ActiveMQQueue", "Publisher", "Redrive"]

_LONGEST_DELAY: Final = 10 * 365 * 86_400.0


class Publisher(Sender):
    """What queues and topics share: messages become frames of one destination."""

    def __init__(self, transport: ActiveMQTransport, *, kind: str, name: str, destination: str, address: str) -> None:
        self._transport, self.kind = transport, kind
        self.name, self.destination, self.address = name, destination, address
        self.limits: Limits = transport.limits
        self.codec: Codec = JSON
        """Decodes what other programs send, and encodes bodies that have no codec of their own."""

    async def send(self, *messages: Message[Any], priority: int | None = None, persistent: bool = True) -> None:
        """Send the messages, confirmed; see `Sender.send`.

        Args:
            messages: what is sent, in this order.
            priority: 0 to 9, the broker's default being 4; a queue heeds it where its policy says so.
            persistent: whether the broker keeps it on disk; otherwise it is gone with the broker.
        """
        await self._send(messages, priority=priority, persistent=persistent)

    async def _send(
        self,
        messages: tuple[Message[Any], ...],
        *,
        priority: int | None,
        persistent: bool,
        more: Mapping[str, str] | None = None,
    ) -> None:
        if priority is not None and not 0 <= priority <= 9:
            raise InvalidMessage(f"priority must be 0 to 9, got {priority}")
        entries = [self._entry(each, priority=priority, persistent=persistent, more=more) for each in messages]
        if entries:
            await self._transport.dispatch(entries)

    def _entry(self, message: Message[Any], **options: Any) -> Entry:
        if not isinstance(message, Message):
            raise TypeError(f"messages must be Message, got {type(message).__name__}; wrap it: Message(...)")
        entry = Entry(
            message, self.name, *encoded(encoded_for(message, self.codec), destination=self.destination, **options)
        )
        limit = self.limits.message_bytes or 0
        if entry.size > limit:
            raise MessageTooLarge(entry.size, limit, channel=self.name)
        return entry

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Redrive:
    """What becomes of a message that was given back too often: the broker has no such policy, so consumers keep it."""

    dead_letters: Sender
    max_receive_count: int

    def __post_init__(self) -> None:
        """Validate the parameters."""
        if self.max_receive_count < 1:
            raise ConfigurationError(f"max_receive_count must be at least 1, got {self.max_receive_count}")


class ActiveMQQueue(Publisher, Queue):
    """A queue; `ActiveMQTransport.queue` makes it, and the broker at its first use."""

    redrive: Redrive | None = None
    """Kept by the consumers of this transport."""
    ahead: int = 0
    """Messages that each receiver may be handed beyond its capacity; see `ActiveMQTransport.queue`."""

    async def send(
        self,
        *messages: Message[Any],
        delay: float = 0.0,
        priority: int | None = None,
        persistent: bool = True,
    ) -> None:
        """See `Publisher.send`; ``delay`` needs the broker's scheduler (``schedulerSupport``).

        Where the broker has none, what comes too early is held by its consumer until it is due.
        """
        if not 0 <= delay <= _LONGEST_DELAY:
            raise InvalidMessage(f"delay must be 0 seconds to ten years, got {delay:g}")
        await self._send(messages, priority=priority, persistent=persistent, more=delayed(delay))

    async def send_again(self, delivery: ActiveMQDelivery, *, delay: float) -> None:
        """Send a copy to be received after ``delay`` seconds; it tells how often the message was received before."""
        message = delivery.message.with_encoded(delivery.message.raw or b"")  # as it came, whatever a handler did to it
        copy = copied(
            message, delivery.headers, destination=self.destination, attempts=delivery.receive_count, delay=delay
        )
        await self._transport.dispatch([Entry(message, self.name, *copy)])

    def receiver(
        self,
        *,
        capacity: int = 10,
        wanted: Callable[[Message[Any]], bool] | None = None,
        selector: str | None = None,
    ) -> Receiver:
        """A receiver with a connection of its own; any number, in any process, may share the queue.

        What is not ``wanted`` is acknowledged unseen; what a JMS ``selector`` does not let through stays in the queue,
        for other consumers (pattern "Selective Consumer").
        """
        headers = {} if selector is None else {"selector": selector}
        return ActiveMQReceiver(
            self._transport,
            Subscription(
                destination=self.destination, name=self.name, capacity=capacity, ahead=self.ahead, headers=headers
            ),
            again=self,
            codec=self.codec,
            wanted=wanted,
            dead_letters=self.redrive.dead_letters if self.redrive else None,
            max_receive_count=self.redrive.max_receive_count if self.redrive else None,
        )
