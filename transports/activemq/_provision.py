"""What a topology means to a broker that makes queues and topics at their first use.

STOMP does not tell what there is, and a queue has neither a redrive policy nor a retention on the broker. So applying
a topology does two things: consumers of this transport learn the redrive policies and filters, which they keep
themselves; and the broker learns of each subscription, before anything is published. What this transport has not
applied is planned as "create", wherever else it may have been: making it twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from eip.errors import UnsupportedChannel
from eip.topology import QueueSpec, Resource, Step, SubscriptionSpec, TopicSpec
from eip.transports.activemq.topic import QueueSubscription

if TYPE_CHECKING:
    from eip.transports.activemq.queue import ActiveMQQueue
    from eip.transports.activemq.transport import ActiveMQTransport

__all__ = ["provision"]

_QUEUE: Final = "made by the broker at its first use; consumers keep its redrive policy, the broker has no retention"


async def provision(activemq: ActiveMQTransport, resource: Resource, *, apply: bool) -> Iterable[Step]:
    """See `eip.topology.Provisioner.provision`."""
    match resource:
        case QueueSpec():
            action, detail = _redrive(activemq, activemq.queue(resource.name), resource, apply=apply), _QUEUE
            name = resource.name
        case TopicSpec(name):
            action, detail = "same", "made by the broker at its first use"
        case SubscriptionSpec():
            name, detail = f"{resource.topic} > {resource.name}", ""
            action = await _subscription(activemq, resource, apply=apply)
        case _:
            raise UnsupportedChannel(
                type(activemq).__name__, type(resource).__name__.removesuffix("Spec").lower(), activemq.kinds
            )
    kind = type(resource).__name__.removesuffix("Spec").lower()
    return [Step("same" if action == "same" else "create", kind, name, "" if action == "same" else detail)]


def _redrive(activemq: ActiveMQTransport, queue: ActiveMQQueue, declared: QueueSpec, *, apply: bool) -> str:
    """Let the queue's consumers know its redrive policy."""
    if declared.dead_letter_name is None:
        return "same"
    dead_letters = activemq.queue(declared.dead_letter_name)
    known = queue.redrive
    if known and (known.dead_letters, known.max_receive_count) == (dead_letters, declared.max_receive_count):
        return "same"
    if apply:
        activemq.queue(queue.name, dead_letters=dead_letters, max_receive_count=declared.max_receive_count)
    return "create"


async def _subscription(activemq: ActiveMQTransport, declared: SubscriptionSpec, *, apply: bool) -> str:
    topic = activemq.topic(declared.topic)
    if topic.declared.get(declared.name, False) is declared.filter:
        return "same"
    if apply:
        topic.declared[declared.name] = declared.filter
        source = topic.subscription(declared.name)
        if isinstance(source, QueueSubscription):
            _redrive(activemq, source.queue, declared.target, apply=True)
        await source.make_known()
    return "create"
