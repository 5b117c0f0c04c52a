"""Topics of an ActiveMQ broker: virtual ones, whose subscriptions are queues, and plain ones with durable subscribers.

Source: https://activemq.apache.org/components/classic/documentation/virtual-destinations
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from eip.channels import Filter, Receiver, Source, Topic
from eip.errors import ConfigurationError
from eip.matching import as_predicate
from eip.matching.pushdown import push_down
from eip.message import Message
from eip.transports.activemq.queue import ActiveMQQueue, Publisher
from eip.transports.activemq.receiver import ActiveMQReceiver, Subscription

if TYPE_CHECKING:
    from eip.transports.activemq.transport import ActiveMQTransport

__all__ = ["VIRTUAL", "ActiveMQTopic", "DurableSubscription", "QueueSubscription"]

VIRTUAL: Final = "VirtualTopic."
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")


class ActiveMQTopic(Publisher, Topic):
    """A topic; `ActiveMQTransport.topic` makes it.

    A subscription of a virtual topic is the queue ``Consumer.NAME.VirtualTopic.TOPIC``, and has all that a queue has:
    consumers share it, and it keeps what nobody consumes. It gets what is published once the broker knows the queue:
    declare it with `eip.topology`, or open a receiver. On a plain topic a subscription is a durable subscriber, which
    the broker knows once a receiver was open.
    """

    def __init__(self, transport: ActiveMQTransport, **about: str) -> None:
        super().__init__(transport, **about)
        self.declared: dict[str, Filter | None] = {}
        """By subscription, the filters that a topology declared."""

    @property
    def virtual(self) -> bool:
        """Whether its subscriptions are queues."""
        return self.name.startswith(VIRTUAL)

    def subscription(self, name: str, *, filter: Filter | None = None) -> QueueSubscription | DurableSubscription:  # noqa: A002 - the field's term
        """The named subscription; the name has no dots. ``filter`` is by default the one that a topology declared.

        A durable subscriber's ``filter`` is pushed down to the broker as a selector as far as that can tell, and
        evaluated here besides. On a virtual topic it is evaluated here only: the queue would keep for ever what its
        consumers' selector does not let through.
        """
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"{name[:80]!r} is no name of a subscription: letters, digits, - and _")
        filter = self.declared.get(name) if filter is None else filter  # noqa: A001 - as above
        if self.virtual:
            return QueueSubscription(self._transport.queue(f"Consumer.{name}.{self.name}", codec=self.codec), filter)
        return DurableSubscription(self._transport, self, name, filter)


class QueueSubscription(Source):
    """A virtual topic's queue, and the filter that is evaluated here: what that refuses is acknowledged."""

    def __init__(self, queue: ActiveMQQueue, wanted: Filter | None) -> None:
        self.name, self.queue = queue.name, queue
        self._wanted = _predicate(wanted)

    async def make_known(self) -> None:
        """Have the broker make the queue, which gets what is published from now on."""
        async with self.queue.receiver(capacity=1, selector="FALSE"):
            return

    def receiver(self, *, capacity: int = 10) -> Receiver:
        """A receiver; any number may share the subscription."""
        return self.queue.receiver(capacity=capacity, wanted=self._wanted)


class DurableSubscription(Source):
    """A durable subscriber of a topic: one receiver at a time, and what is to be tried again is kept by that."""

    def __init__(self, transport: ActiveMQTransport, topic: ActiveMQTopic, name: str, wanted: Filter | None) -> None:
        self._transport, self._codec = transport, topic.codec
        self.name = f"{topic.name}/{name}"
        self._wanted = _predicate(wanted)
        headers = {"activemq.subscriptionName": name}
        pushed = None if wanted is None else push_down(wanted, "jms").pushed
        if pushed is not None:
            headers["selector"] = pushed
        self.selector = pushed
        """What the broker evaluates; None: nothing."""
        self._headers, self._destination = headers, topic.destination
        self._client_id = f"{topic.name}.{name}"

    async def make_known(self) -> None:
        """Have the broker keep, from now on, what is published."""
        async with self.receiver(capacity=1):
            return

    def receiver(self, *, capacity: int = 10) -> Receiver:
        """The receiver; the broker refuses a second one while it is open."""
        subscription = Subscription(
            destination=self._destination,
            name=self.name,
            capacity=capacity,
            headers=self._headers,
            client_id=self._client_id,
        )
        return ActiveMQReceiver(self._transport, subscription, again=None, codec=self._codec, wanted=self._wanted)


def _predicate(wanted: Filter | None) -> Callable[[Message[Any]], bool] | None:
    return None if wanted is None else as_predicate(wanted)
