"""Makes what a topology declares in this process; what the embedded transport holds is kept until the process ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from eip.topology import Queue, Resource, Step, Subscription, Topic

if TYPE_CHECKING:
    from eip.transports.memory.transport import MemoryTransport

__all__ = ["provision", "undeclared"]


def provision(memory: MemoryTransport, resource: Resource, *, apply: bool) -> Iterable[Step]:
    """See `eip.topology.Provisioner.provision`."""
    match resource:
        case Queue():
            return [_queue(memory, resource, apply=apply)]
        case Topic(name):
            known = memory.knows("topic", name)
            if apply:
                memory.topic(name)
            return [Step("same" if known else "create", "topic", name)]
        case Subscription():
            return [_subscription(memory, resource, apply=apply)]


def _queue(memory: MemoryTransport, declared: Queue, *, apply: bool) -> Step:
    wanted: dict[str, Any] = {"visibility": declared.visibility, "dead_letters": None, "max_receive_count": None}
    known = memory.knows("queue", declared.name)
    if declared.dead_letter_name is not None and (apply or memory.knows("queue", declared.dead_letter_name)):
        wanted["dead_letters"] = memory.queue(declared.dead_letter_name)
        wanted["max_receive_count"] = declared.max_receive_count
    if not known:
        if apply:
            memory.queue(declared.name, **wanted)
        return Step("create", "queue", declared.name)
    queue = memory.queue(declared.name)
    changes = [name for name, value in wanted.items() if getattr(queue, name) != value]
    if not changes:
        return Step("same", "queue", declared.name)
    if apply:
        queue.configure(**wanted)
    return Step("change", "queue", declared.name, ", ".join(changes))


def _subscription(memory: MemoryTransport, declared: Subscription, *, apply: bool) -> Step:
    name = f"{declared.topic} > {declared.name}"
    if memory.knows("topic", declared.topic) and declared.name in memory.topic(declared.topic).subscriptions:
        return Step("same", "subscription", name)
    if apply:
        undelivered = declared.undelivered_name
        memory.topic(declared.topic).subscription(
            declared.name,
            filter=declared.filter,
            dead_letters=None if undelivered is None else memory.queue(undelivered),
            queue=memory.queue(declared.target.name),
        )
    return Step("create", "subscription", name)


def undeclared(memory: MemoryTransport, topic: Topic, declared: frozenset[str], *, delete: bool) -> Iterable[Step]:
    """See `eip.topology.Provisioner.undeclared`."""
    if not memory.knows("topic", topic.name):
        return
    found = memory.topic(topic.name)
    for name, queue in found.subscriptions.items():
        if queue.name not in declared:
            if delete:
                found.unsubscribe(name)
            yield Step("delete" if delete else "drift", "subscription", f"{topic.name} > {name}")
