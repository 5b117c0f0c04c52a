"""Applies a topology to the embedded transport: channels are made in this process, and end with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Protocol

from eip.matching import EventPattern, FilterPolicy
from eip.topology import (
    Action,
    ArchiveSpec,
    BusSpec,
    Container,
    DriverResource,
    QueueSpec,
    Resource,
    RuleSpec,
    Step,
    StreamSpec,
    SubscriptionSpec,
    TargetSpec,
    TopicSpec,
)
from eip.topology.archives import archive_step
from eip.transports.memory.bus import MemoryBus
from eip.transports.memory.queue import MemoryQueue
from eip.transports.memory.stream import MemoryStream
from eip.transports.memory.topic import MemoryTopic

__all__ = ["Channels", "provision", "undeclared"]


class Channels(Protocol):
    """The part of a transport that provisioning needs; each method makes the channel if there is none."""

    def queue(self, name: str, **options: Any) -> MemoryQueue:
        """Return the queue of that name."""
        ...

    def topic(self, name: str, **options: Any) -> MemoryTopic:
        """Return the topic of that name."""
        ...

    def bus(self, name: str = "default", **options: Any) -> MemoryBus:
        """Return the bus of that name."""
        ...

    def stream(self, name: str, **options: Any) -> MemoryStream:
        """Return the stream of that name."""
        ...

    def knows(self, kind: str, name: str) -> bool:
        """Return whether there is such a channel."""
        ...


async def provision(channels: Channels, resource: Resource, *, apply: bool) -> Iterable[Step]:
    """Plan or apply one resource; see `eip.topology.Provisioner.provision`.

    Args:
        channels: the transport.
        resource: what is declared.
        apply: whether to make it; otherwise it is only planned.
    """
    steps: Iterable[Step]
    match resource:
        case QueueSpec():
            steps = [_queue(channels, resource, apply=apply)]
        case TopicSpec():
            steps = [_topic(channels, resource, apply=apply)]
        case StreamSpec():
            steps = [_stream(channels, resource, apply=apply)]
        case BusSpec():
            steps = [_bus(channels, resource, apply=apply)]
        case SubscriptionSpec():
            steps = [_subscription(channels, resource, apply=apply)]
        case RuleSpec():
            steps = _rule(channels, resource, apply=apply)
        case ArchiveSpec():
            steps = [await _archive(channels, resource, apply=apply)]
        case DriverResource():
            steps = []
    return steps


def _stream(channels: Channels, declared: StreamSpec, *, apply: bool) -> Step:
    """Make it with its shards; records are bounded by their number, so the retention is ignored."""
    if not channels.knows("stream", declared.name):
        if apply:
            channels.stream(declared.name, **({} if declared.shards is None else {"shards": declared.shards}))
        return Step("create", "stream", declared.name)
    stream = channels.stream(declared.name)
    before = stream.open_shards
    if declared.shards in (None, before):
        return Step("same", "stream", declared.name)
    if apply:
        stream.reshard(declared.shards)
    return Step("change", "stream", declared.name, f"shards: {before} -> {declared.shards}")


def _bus(channels: Channels, declared: BusSpec, *, apply: bool) -> Step:
    known = channels.knows("bus", declared.name)
    if apply:
        channels.bus(declared.name)
    return Step("same" if known else "create", "bus", declared.name)


async def _archive(channels: Channels, declared: ArchiveSpec, *, apply: bool) -> Step:
    if not apply and not channels.knows("bus", declared.bus):
        return Step("create", "archive", declared.name)
    return await archive_step(channels.bus(declared.bus).archives, declared, apply=apply)


def _queue(channels: Channels, declared: QueueSpec, *, apply: bool) -> Step:
    settings: dict[str, Any] = {
        "visibility": declared.visibility,
        "dead_letters": None,
        "max_receive_count": None,
        "content_based_deduplication": declared.content_based_deduplication,
        "deduplication_scope": declared.deduplication_scope,
        "max_message_bytes": declared.max_message_bytes,
    }
    known = channels.knows("queue", declared.name)
    if declared.dead_letter_name is not None and (apply or channels.knows("queue", declared.dead_letter_name)):
        settings["dead_letters"] = channels.queue(declared.dead_letter_name)
        settings["max_receive_count"] = declared.max_receive_count
    if not known:
        if apply:
            channels.queue(declared.name, **settings)
        return Step("create", "queue", declared.name)
    queue = channels.queue(declared.name)
    changes = _differences({name: getattr(queue, name) for name in settings}, settings)
    if not changes:
        return Step("same", "queue", declared.name)
    if apply:
        queue.configure(**settings)
    return Step("change", "queue", declared.name, changes)


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """For people: each setting that differs, its value now and the wanted one."""
    changes = (
        f"{name}: {_text(found[name])} -> {_text(value)}" for name, value in wanted.items() if found[name] != value
    )
    return ", ".join(changes)


def _text(value: Any) -> str:
    match value:
        case None:
            return "none"
        case MemoryQueue():
            return value.name
        case FilterPolicy() | EventPattern():
            return value.text
        case _:
            return str(value)


def _topic(channels: Channels, declared: TopicSpec, *, apply: bool) -> Step:
    by_content, name = declared.content_based_deduplication, declared.name
    if not channels.knows("topic", name):
        if apply:
            channels.topic(name, content_based_deduplication=by_content)
        return Step("create", "topic", name)
    topic = channels.topic(name)
    if topic.content_based_deduplication == by_content:
        return Step("same", "topic", name)
    before = topic.content_based_deduplication
    if apply:
        topic.content_based_deduplication = by_content
    return Step("change", "topic", name, f"content_based_deduplication: {before} -> {by_content}")


def _subscription(channels: Channels, declared: SubscriptionSpec, *, apply: bool) -> Step:
    name = f"{declared.topic} > {declared.name}"
    known = channels.knows("topic", declared.topic) and declared.name in channels.topic(declared.topic).subscriptions
    if not known and not apply:
        return Step("create", "subscription", name)
    topic, undelivered = channels.topic(declared.topic), declared.undelivered_name
    settings: dict[str, Any] = {
        "filter": declared.filter,
        "queue": channels.queue(declared.target.name),
        "dead_letters": None if undelivered is None else channels.queue(undelivered),
    }
    if not known:
        topic.subscription(declared.name, **settings)
        return Step("create", "subscription", name)
    changes = _differences(topic.settings(declared.name), settings)
    if changes and apply:
        topic.resubscribe(declared.name, **settings)
    return Step("change" if changes else "same", "subscription", name, changes)


def _rule(channels: Channels, declared: RuleSpec, *, apply: bool) -> Iterable[Step]:
    bus = channels.bus(declared.bus) if channels.knows("bus", declared.bus) else None
    known = bus.rules.get(declared.name) if bus else None
    there = bus.targets(declared.name) if bus else {}
    name = f"{declared.bus} > {declared.name}"
    if known is None:
        steps = [Step("create", "rule", name)]
    else:
        before: dict[str, Any] = {"EventPattern": known.pattern, "enabled": known.enabled}
        after: dict[str, Any] = {"EventPattern": declared.pattern, "enabled": declared.enabled}
        if not _pattern_differs(known, declared):
            before["EventPattern"] = after["EventPattern"]
        changes = _differences(before, after)
        steps = [Step("change" if changes else "same", "rule", name, changes)]
    steps += [_target(name, there.get(each.id), each) for each in declared.resolved_targets()]
    if apply:
        channels.bus(declared.bus).put_rule(declared)
    return steps


def _target(rule: str, found: TargetSpec | None, declared: TargetSpec) -> Step:
    name = f"{rule} > {declared.id}"
    if found is None:
        return Step("create", "target", name)
    changes = _differences(
        *({each.name: getattr(spec, each.name) for each in fields(spec)} for spec in (found, declared))
    )
    return Step("change" if changes else "same", "target", name, changes)


def _pattern_differs(known: RuleSpec, declared: RuleSpec) -> bool:
    """Compare two patterns; a function equals only itself."""
    if callable(known.pattern) or callable(declared.pattern):
        return known.pattern is not declared.pattern
    return bool(json.loads(known.event_pattern.text) != json.loads(declared.event_pattern.text))


def undeclared(channels: Channels, container: Container, declared: frozenset[str], *, delete: bool) -> Iterable[Step]:
    """Find, and delete if asked to, what a topic or bus has beyond its declaration.

    Args:
        channels: the transport.
        container: as declared.
        declared: the names that are declared for it; see `eip.topology.Provisioner.undeclared`.
        delete: whether to delete the rest.
    """
    if isinstance(container, BusSpec):
        yield from _undeclared_rules(channels, container, declared, delete=delete)
    elif isinstance(container, TopicSpec) and channels.knows("topic", container.name):
        found = channels.topic(container.name)
        for name, queue in found.subscriptions.items():
            if queue.name not in declared:
                if delete:
                    found.unsubscribe(name)
                yield Step("delete" if delete else "drift", "subscription", f"{container.name} > {name}")


def _undeclared_rules(
    channels: Channels, channel: BusSpec, declared: frozenset[str], *, delete: bool
) -> Iterable[Step]:
    if not channels.knows("bus", channel.name):
        return
    bus = channels.bus(channel.name)
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
