"""The embedded topic: every subscription gets a copy in a queue of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from typing_extensions import override

from eip._checks import check_message, check_name, check_type
from eip._logging import get_logger
from eip.channels import Filter, Topic
from eip.errors import ConfigurationError, InvalidMessage
from eip.message import Message
from eip.telemetry.meter import Meter
from eip.topology.names import suffixed
from eip.transports._event_format import message_of, read_event
from eip.transports.memory._lifetime import Lifetime
from eip.transports.memory._subscriptions import Subscription, Subscriptions
from eip.transports.memory.queue import MemoryQueue, digest

__all__ = ["MemoryTopic"]

_log = get_logger("eip.memory")
_MakeQueue = Callable[..., MemoryQueue]


class MemoryTopic(Topic):
    """A topic in this process; FIFO where its name ends in ``.fifo``. Messages arrive as sent ("raw delivery")."""

    system = "memory"

    def __init__(
        self,
        name: str,
        *,
        address: str,
        lifetime: Lifetime,
        fifo: bool,
        make_queue: _MakeQueue,
        content_based_deduplication: bool = False,
        meter: Meter | None = None,
    ) -> None:
        check_type("fifo", fifo, bool, "a bool")
        check_type("content_based_deduplication", content_based_deduplication, bool, "a bool")
        self.name, self.address, self.fifo = name, address, fifo
        self.content_based_deduplication = content_based_deduplication
        self._meter, self._lifetime = meter, lifetime
        self._make_queue = make_queue
        self._subscriptions = Subscriptions()

    @override
    async def send(self, *messages: Message[Any]) -> None:
        """Copy each message to the subscriptions whose filter accepts it; waits while one of their queues is full."""
        self._lifetime.check_open()
        for message in messages:
            check_message(message)
            if self.fifo and message.group_id is None:
                raise InvalidMessage(f"{self.name} is FIFO: a message needs a group_id")
            message.encode()  # what cannot be encoded reaches nobody
        if self._meter is not None:
            size = sum(len(message.encode()) for message in messages)
            self._meter.record("memory", self.name, "send", messages=len(messages), size=size, units=0)
        for message in messages:
            if self.content_based_deduplication and message.deduplication_id is None:
                message = message.replace(deduplication_id=digest(message.encode()))  # noqa: PLW2901 - the same message, as it is sent
            await self._fan_out(message, message)

    async def publish_event(self, event: str) -> None:
        """Publish an event for a rule of a bus: filters see its text, without attributes, as on SNS."""
        parsed = read_event(event)
        seen = Message.received(event.encode())
        await self._fan_out(seen, seen if parsed is None else message_of(parsed)[0])

    async def _fan_out(self, seen: Message[Any], message: Message[Any]) -> None:
        for subscription in self._subscriptions.matching(seen):
            await self._deliver(subscription, seen, message)

    async def _deliver(self, subscription: Subscription, seen: Message[Any], message: Message[Any]) -> None:
        try:
            accepted = subscription.predicate is None or subscription.predicate(seen)
        except Exception as error:  # noqa: BLE001 - one subscription's broken filter must not fail the publisher
            _log.warning("filter_failed", channel=self.name, subscription=subscription.queue.name, error=str(error))
            if subscription.dead_letters is not None:
                await subscription.dead_letters.send(message)
            return
        if accepted:
            await subscription.queue.send(message)

    @property
    def subscriptions(self) -> dict[str, MemoryQueue]:
        """By name, the queues of its subscriptions."""
        return {name: each.queue for name, each in self._subscriptions.by_name.items()}

    @override
    def subscription(
        self,
        name: str,
        *,
        filter: Filter | None = None,
        dead_letters: MemoryQueue | None = None,
        queue: MemoryQueue | None = None,
        **options: Any,
    ) -> MemoryQueue:
        """Return the queue of the named subscription, which is made at the first call.

        Args:
            name: the subscription's.
            filter: of a new subscription; default: all messages.
            dead_letters: gets the messages that the filter fails on.
            queue: the subscription's; default: one named ``topic-name``.
            options: of that queue, see `MemoryTransport.queue`.

        Raises:
            ConfigurationError: the subscription exists, and another filter or options were given.
        """
        known = self._subscriptions.by_name.get(check_name(name))
        if known is None:
            if queue is None:
                queue = self._make_queue(suffixed(self.name, name), fifo=self.fifo, **options)
            known = Subscription(queue, filter, dead_letters)
            self._subscriptions.put(name, known)
        elif options or (filter is not None and filter != known.filter):
            raise ConfigurationError(
                f"subscription {name} of {self.name} exists; unsubscribe it before declaring it differently"
            )
        return known.queue

    def settings(self, name: str) -> dict[str, Any]:
        """Return a subscription's ``filter``, ``queue`` and ``dead_letters``."""
        known = self._subscriptions.by_name[name]
        return {"filter": known.filter, "queue": known.queue, "dead_letters": known.dead_letters}

    def resubscribe(
        self,
        name: str,
        *,
        filter: Filter | None,  # noqa: A002 - the field's term
        queue: MemoryQueue,
        dead_letters: MemoryQueue | None,
    ) -> None:
        """Change a subscription; messages published before stay in the queue they went to."""
        self._subscriptions.put(name, Subscription(queue, filter, dead_letters))

    def unsubscribe(self, name: str) -> None:
        """End the subscription; the messages in its queue stay there."""
        self._subscriptions.remove(name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} subscriptions={len(self._subscriptions.by_name)}>"
