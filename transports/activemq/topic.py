"""Topics of an ActiveMQ broker: virtual ones, whose subscriptions are queues, and plain ones with durable subscribers.

Source: https://activemq.apache.org/components/classic/documentation/virtual-destinations
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from typing_extensions import override

from eip._checks import check_type
from eip.channels import Filter, Receiver, Source, Topic
from eip.errors import ConfigurationError
from eip.matching import as_predicate
from eip.matching.pushdown import push_down
from eip.transports.activemq._client import Client
from eip.transports.activemq._publisher import Publisher
from eip.transports.activemq._subscription import OnEmpty, Subscription
from eip.transports.activemq.queue import ActiveMQQueue
from eip.transports.activemq.receiver import ActiveMQReceiver

__all__ = ["VIRTUAL_PREFIX", "ActiveMQTopic", "DurableSubscription", "QueueSubscription"]

VIRTUAL_PREFIX: Final = "VirtualTopic."
_SUBSCRIPTION_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")


class ActiveMQTopic(Publisher, Topic):
    """A topic; `ActiveMQTransport.topic` returns it.

    A subscription of a virtual topic is the queue ``Consumer.NAME.VirtualTopic.TOPIC``, and has all that a queue has:
    consumers share it, and it keeps what nobody consumes. It gets what is published once the broker knows the queue:
    declare it with `eip.topology`, or open a receiver. On a plain topic a subscription is a durable subscriber, which
    the broker knows once a receiver was open.

    Args:
        client: the transport's.
        queue: returns the transport's queue of a name.
        name: the topic's.
        destination: the broker's own name of it.
        address: the same as a return address.
    """

    def __init__(
        self, client: Client, *, queue: Callable[[str], ActiveMQQueue], name: str, destination: str, address: str
    ) -> None:
        super().__init__(client, name=name, destination=destination, address=address)
        self._queue = queue
        self.on_empty: OnEmpty | None = None
        """Of its subscriptions; see `ActiveMQTransport.queue`. None: of a virtual one, as its queue has it."""
        self.declared: dict[str, Filter | None] = {}
        """By subscription, the filters that a topology declared."""

    @property
    def virtual(self) -> bool:
        """Whether its subscriptions are queues."""
        return self.name.startswith(VIRTUAL_PREFIX)

    @override
    def subscription(self, name: str, *, filter: Filter | None = None) -> QueueSubscription | DurableSubscription:
        """Return the named subscription.

        Args:
            name: letters, digits, ``-`` and ``_``, up to 100.
            filter: default: the one that a topology declared. For a durable subscriber the broker evaluates what a
                JMS selector can express, and the receiver all of it. On a virtual topic only the receiver does: the
                queue would keep for ever what its consumers' selector refuses.
        """
        check_type("name", name, str, "a string")
        if not _SUBSCRIPTION_NAME.fullmatch(name):
            raise ConfigurationError(
                f"the name of a subscription must be 1 to 100 letters, digits, - or _, got {name[:80]!r}"
            )
        filter = self.declared.get(name) if filter is None else filter  # noqa: A001 - as above
        if not self.virtual:
            return DurableSubscription(self._client, self, name, filter)
        queue = self._queue(f"Consumer.{name}.{self.name}")
        queue.use_codec(self._asked_for)
        queue.on_empty = self.on_empty or queue.on_empty
        return QueueSubscription(queue, filter)


class QueueSubscription(Source):
    """A virtual topic's queue with a filter, which the receiver evaluates: what it refuses is acknowledged."""

    def __init__(self, queue: ActiveMQQueue, filter: Filter | None) -> None:  # noqa: A002 - the field's term
        self.name, self.queue = queue.name, queue
        self._filter = filter

    async def make_known(self) -> None:
        """Have the broker make the queue, which gets what is published from now on."""
        async with self.queue.receiver(capacity=1, selector="FALSE"):
            return

    @override
    def receiver(self, *, capacity: int = 10) -> Receiver:
        """Return a receiver; any number may share the subscription."""
        return self.queue.receiver(capacity=capacity, filter=self._filter)


class DurableSubscription(Source):
    """A durable subscriber of a plain topic. It has one receiver at a time, which also keeps what is to be retried."""

    def __init__(self, client: Client, topic: ActiveMQTopic, name: str, filter: Filter | None) -> None:  # noqa: A002 - the field's term
        self.name = f"{topic.name}/{name}"
        self.selector = None if filter is None else push_down(filter, "jms").pushed
        """The part of the filter that the broker evaluates; None: nothing."""
        self._client, self._topic, self._subscription = client, topic, name
        self._filter = None if filter is None else as_predicate(filter)

    async def make_known(self) -> None:
        """Have the broker keep, from now on, what is published."""
        async with self.receiver(capacity=1):
            return

    @override
    def receiver(self, *, capacity: int = 10) -> Receiver:
        """Return the receiver; the broker lets no second one in while it is open."""
        headers = {"activemq.subscriptionName": self._subscription}
        if self.selector is not None:
            headers["selector"] = self.selector
        subscription = Subscription(
            destination=self._topic.destination,
            name=self.name,
            capacity=capacity,
            headers=headers,
            on_empty=self._topic.on_empty or "dead_letter",
            client_id=f"{self._topic.name}.{self._subscription}",
        )
        return ActiveMQReceiver(
            self._client, subscription, reschedule=None, codec=self._topic.codec, filter=self._filter
        )
