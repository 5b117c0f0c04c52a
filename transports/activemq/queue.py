"""Queues of an ActiveMQ broker, and what receives from them.

Delivery is at-least-once: what was received and not acknowledged when a connection breaks comes again, to anyone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from eip.channels import Queue, Receiver, Sender
from eip.errors import ConfigurationError, InvalidMessage, MessageTooLarge
from eip.limits import Limits
from eip.message import Message
from eip.transports.activemq._headers import delayed, head_of, head_of_copy
from eip.transports.activemq._outbox import Entry
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
            raise InvalidMessage(f"a priority is 0 to 9, not {priority}")
        entries = [self._entry(each, priority=priority, persistent=persistent, more=more) for each in messages]
        if entries:
            await self._transport.dispatch(entries)

    def _entry(self, message: Message[Any], **options: Any) -> Entry:
        body = message.encode()
        entry = Entry(message, self.name, head_of(message, body, destination=self.destination, **options), body)
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
        """Refuse what makes no policy."""
        if self.max_receive_count < 1:
            raise ConfigurationError("max_receive_count is at least 1")


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
            raise InvalidMessage(f"a delay is 0 seconds to ten years, not {delay:g}")
        await self._send(messages, priority=priority, persistent=persistent, more=delayed(delay))

    async def send_again(self, delivery: ActiveMQDelivery, *, delay: float) -> None:
        """Send a copy to be received after ``delay`` seconds; it tells how often the message was received before."""
        message = delivery.message
        body = message.raw or b""
        head = head_of_copy(
            message,
            body,
            delivery.headers,
            destination=self.destination,
            attempts=delivery.receive_count,
            delay=delay,
        )
        await self._transport.dispatch([Entry(message, self.name, head, body)])

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
            wanted=wanted,
            dead_letters=self.redrive.dead_letters if self.redrive else None,
            max_receive_count=self.redrive.max_receive_count if self.redrive else None,
        )
