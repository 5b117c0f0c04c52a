"""Applies a topology to a broker that makes queues and topics at their first use.

STOMP has no way to ask what exists, and a queue has neither a redrive policy nor a retention on the broker. So applying
a topology does two things: consumers of this transport learn the redrive policies and filters, which they apply
themselves; and the broker learns of each subscription, before anything is published. What this transport has not
applied is planned as "create", even if another process has applied it: doing it twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from eip.channels import Sender
from eip.errors import UnsupportedChannel
from eip.topology import DriverResource, QueueSpec, Resource, Step, SubscriptionSpec, TopicSpec
from eip.transports.activemq.queue import ActiveMQQueue
from eip.transports.activemq.topic import ActiveMQTopic, QueueSubscription

__all__ = ["Channels", "provision"]

_FIRST_USE: Final = "made by the broker at its first use"
_QUEUE_DETAIL: Final = f"{_FIRST_USE}; consumers apply its redrive policy, the broker has no retention"


class Channels(Protocol):
    """The part of a transport that provisioning needs."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of channels it has."""
        ...

    def queue(
        self, name: str, *, dead_letters: Sender | None = None, max_receive_count: int | None = None
    ) -> ActiveMQQueue:
        """Return the queue of that name, with a redrive policy if given."""
        ...

    def topic(self, name: str) -> ActiveMQTopic:
        """Return the topic of that name."""
        ...


async def provision(channels: Channels, resource: Resource, *, apply: bool) -> Iterable[Step]:
    """Plan or apply one resource; see `eip.topology.Provisioner.provision`.

    Args:
        channels: the transport.
        resource: what is declared.
        apply: whether to make it; otherwise it is only planned.
    """
    if isinstance(resource, DriverResource):
        return []
    kind = type(resource).__name__.removesuffix("Spec").lower()
    match resource:
        case QueueSpec(name):
            is_new = _redrive(channels, channels.queue(name), resource, apply=apply)
            detail = _QUEUE_DETAIL
        case TopicSpec(name):
            is_new, detail = False, _FIRST_USE
        case SubscriptionSpec():
            is_new = await _subscription(channels, resource, apply=apply)
            name, detail = f"{resource.topic} > {resource.name}", ""
        case _:
            raise UnsupportedChannel(type(channels).__name__, kind, channels.kinds)
    return [Step("create", kind, name, detail) if is_new else Step("same", kind, name, "")]


def _redrive(channels: Channels, queue: ActiveMQQueue, declared: QueueSpec, *, apply: bool) -> bool:
    """Let the queue's consumers know its redrive policy; return whether it is new to them."""
    if declared.dead_letter_name is None:
        return False
    dead_letters = channels.queue(declared.dead_letter_name)
    known = queue.redrive
    if known and (known.dead_letters, known.max_receive_count) == (dead_letters, declared.max_receive_count):
        return False
    if apply:
        channels.queue(queue.name, dead_letters=dead_letters, max_receive_count=declared.max_receive_count)
    return True


async def _subscription(channels: Channels, declared: SubscriptionSpec, *, apply: bool) -> bool:
    """Let the broker know the subscription, and its consumers the filter; return whether it is new."""
    topic = channels.topic(declared.topic)
    if topic.declared.get(declared.name, False) is declared.filter:
        return False
    if apply:
        topic.declared[declared.name] = declared.filter
        source = topic.subscription(declared.name)
        if isinstance(source, QueueSubscription):
            _redrive(channels, source.queue, declared.target, apply=True)
        await source.make_known()
    return True
