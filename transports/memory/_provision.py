"""Makes what a topology declares in this process; what the embedded transport holds is kept until the process ends."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from eip.topology import (
    Action,
    ArchiveSpec,
    BusSpec,
    QueueSpec,
    Resource,
    RuleSpec,
    Step,
    StreamSpec,
    SubscriptionSpec,
    TopicSpec,
)
from eip.topology.archives import archive_step

if TYPE_CHECKING:
    from eip.transports.memory.transport import MemoryTransport

__all__ = ["provision", "undeclared"]


async def provision(memory: MemoryTransport, resource: Resource, *, apply: bool) -> Iterable[Step]:
    """See `eip.topology.Provisioner.provision`."""
    steps: Iterable[Step]
    match resource:
        case QueueSpec():
            steps = [_queue(memory, resource, apply=apply)]
        case TopicSpec():
            steps = [_topic(memory, resource, apply=apply)]
        case StreamSpec():
            steps = [_stream(memory, resource, apply=apply)]
        case BusSpec():
            steps = [_bus(memory, resource, apply=apply)]
        case SubscriptionSpec():
            steps = [_subscription(memory, resource, apply=apply)]
        case RuleSpec():
            steps = _rule(memory, resource, apply=apply)
        case ArchiveSpec():
            steps = [await _archive(memory, resource, apply=apply)]
    return steps


def _stream(memory: MemoryTransport, declared: StreamSpec, *, apply: bool) -> Step:
    """Made with its shards; how long it keeps records is bounded by their number, so retention is not looked at."""
    if not memory.knows("stream", declared.name):
        if apply:
            memory.stream(declared.name, **({} if declared.shards is None else {"shards": declared.shards}))
        return Step("create", "stream", declared.name)
    stream = memory.stream(declared.name)
    before = stream.open_shards
    if declared.shards in (None, before):
        return Step("same", "stream", declared.name)
    if apply:
        stream.reshard(declared.shards)
    return Step("change", "stream", declared.name, f"shards: {before} -> {declared.shards}")


def _bus(memory: MemoryTransport, declared: BusSpec, *, apply: bool) -> Step:
    known = memory.knows("bus", declared.name)
    if apply:
        memory.bus(declared.name)
    return Step("same" if known else "create", "bus", declared.name)


async def _archive(memory: MemoryTransport, declared: ArchiveSpec, *, apply: bool) -> Step:
    if not apply and not memory.knows("bus", declared.bus):
        return Step("create", "archive", declared.name)
    return await archive_step(memory.bus(declared.bus).archives, declared, apply=apply)


def _queue(memory: MemoryTransport, declared: QueueSpec, *, apply: bool) -> Step:
    wanted: dict[str, Any] = {
        "visibility": declared.visibility,
        "dead_letters": None,
        "max_receive_count": None,
        "content_based_deduplication": declared.content_based_deduplication,
    }
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


def _topic(memory: MemoryTransport, declared: TopicSpec, *, apply: bool) -> Step:
    wanted, name = declared.content_based_deduplication, declared.name
    if not memory.knows("topic", name):
        if apply:
            memory.topic(name, content_based_deduplication=wanted)
        return Step("create", "topic", name)
    topic = memory.topic(name)
    if topic.content_based_deduplication == wanted:
        return Step("same", "topic", name)
    if apply:
        topic.content_based_deduplication = wanted
    return Step("change", "topic", name, "content_based_deduplication")


def _subscription(memory: MemoryTransport, declared: SubscriptionSpec, *, apply: bool) -> Step:
    name = f"{declared.topic} > {declared.name}"
    known = memory.knows("topic", declared.topic) and declared.name in memory.topic(declared.topic).subscriptions
    if not known and not apply:
        return Step("create", "subscription", name)
    topic, undelivered = memory.topic(declared.topic), declared.undelivered_name
    wanted: dict[str, Any] = {
        "filter": declared.filter,
        "queue": memory.queue(declared.target.name),
        "dead_letters": None if undelivered is None else memory.queue(undelivered),
    }
    if not known:
        topic.subscription(declared.name, **wanted)
        return Step("create", "subscription", name)
    changes = topic.differences(declared.name, **wanted)
    if changes and apply:
        topic.resubscribe(declared.name, **wanted)
    return Step("change" if changes else "same", "subscription", name, ", ".join(changes))


def _rule(memory: MemoryTransport, declared: RuleSpec, *, apply: bool) -> Iterable[Step]:
    bus = memory.bus(declared.bus) if memory.knows("bus", declared.bus) else None
    known = bus.rules.get(declared.name) if bus else None
    there = bus.targets(declared.name) if bus else {}
    name = f"{declared.bus} > {declared.name}"
    if known is None:
        steps = [Step("create", "rule", name)]
    else:
        differs = {"EventPattern": _pattern_differs(known, declared), "State": known.enabled != declared.enabled}
        changes = ", ".join(setting for setting, differ in differs.items() if differ)
        steps = [Step("change" if changes else "same", "rule", name, changes)]
    for target in declared.resolved_targets():
        found = there.get(target.id)
        action: Action = "create" if found is None else "same" if found == target else "change"
        steps.append(Step(action, "target", f"{name} > {target.id}"))
    if apply:
        memory.bus(declared.bus).put_rule(declared)
    return steps


def _pattern_differs(known: RuleSpec, declared: RuleSpec) -> bool:
    """Code is the same only if it is the same object."""
    if callable(known.pattern) or callable(declared.pattern):
        return known.pattern is not declared.pattern
    return bool(json.loads(known.event_pattern.text) != json.loads(declared.event_pattern.text))


def undeclared(
    memory: MemoryTransport, channel: TopicSpec | BusSpec, declared: frozenset[str], *, delete: bool
) -> Iterable[Step]:
    """See `eip.topology.Provisioner.undeclared`."""
    if isinstance(channel, BusSpec):
        yield from _undeclared_rules(memory, channel, declared, delete=delete)
    elif memory.knows("topic", channel.name):
        found = memory.topic(channel.name)
        for name, queue in found.subscriptions.items():
            if queue.name not in declared:
                if delete:
                    found.unsubscribe(name)
                yield Step("delete" if delete else "drift", "subscription", f"{channel.name} > {name}")


def _undeclared_rules(
    memory: MemoryTransport, channel: BusSpec, declared: frozenset[str], *, delete: bool
) -> Iterable[Step]:
    if not memory.knows("bus", channel.name):
        return
    bus = memory.bus(channel.name)
    action: Action = "delete" if delete else "drift"
    for name in bus.rules:
        if name not in declared:
            if delete:
                bus.remove_rule(name)
            yield Step(action, "rule", f"{channel.name} > {name}")
            continue
        for target in bus.targets(name):
            if f"{name} > {target}" not in declared:
                if delete:
                    bus.remove_target(name, target)
                yield Step(action, "target", f"{channel.name} > {name} > {target}")
