"""Declared resources checked against each other, and brought into the order in which they are made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from eip.errors import ConfigurationError
from eip.topology.events import ArchiveSpec, BusSpec, RuleSpec
from eip.topology.names import is_fifo
from eip.topology.plan import Resource
from eip.topology.resources import (
    DEAD_LETTER_RETENTION,
    DriverResource,
    QueueSpec,
    StreamSpec,
    SubscriptionSpec,
    TopicSpec,
)

__all__ = ["in_order"]

_CHANNELS: Final = (StreamSpec, TopicSpec)
_ROUTES: Final = (SubscriptionSpec, BusSpec, RuleSpec, ArchiveSpec)
"""Resources that refer to channels."""


def in_order(resources: Iterable[Resource]) -> Iterator[Resource]:
    """Return all that is declared, each after what it refers to, and dead-letter queues first.

    Raises:
        ConfigurationError: see `eip.topology.Topology`.
    """
    kinds = (QueueSpec, *_CHANNELS, *_ROUTES, DriverResource)
    declared: dict[type, dict[Any, Any]] = {kind: {} for kind in kinds}
    for each in resources:
        _declare(declared, each)
    queues: dict[str, QueueSpec] = declared[QueueSpec]
    for subscription in declared[SubscriptionSpec].values():
        if subscription.topic not in declared[TopicSpec] and not subscription.topic.startswith("arn:"):
            raise ConfigurationError(f"subscription {subscription.name}: topic {subscription.topic!r} is not declared")
        _add_queues_of_subscription(subscription, queues)
    for part in (*declared[RuleSpec].values(), *declared[ArchiveSpec].values()):
        if part.bus not in declared[BusSpec]:
            raise ConfigurationError(f"{_kind(part)} {part.name}: bus {part.bus!r} is not declared")
    for bus in declared[BusSpec].values():
        if bus.undelivered_name is not None:
            _add_dead_letter_queue(queues, bus.undelivered_name, tags=bus.tags)
    known = {"queue": queues, "topic": declared[TopicSpec], "bus": declared[BusSpec], "stream": declared[StreamSpec]}
    for rule in declared[RuleSpec].values():
        _add_queues_of_rule(rule, queues)
        _check_targets(rule, known)
    for queue in list(queues.values()):
        _add_dead_letters(queue, queues)
    own = sorted(declared[DriverResource].values(), key=lambda each: each.rank)
    yield from sorted(queues.values(), key=lambda queue: queue.dead_letters is not False)
    yield from (each for kind in _CHANNELS for each in declared[kind].values())
    yield from (each for each in own if each.rank < 0)
    yield from (each for kind in _ROUTES for each in declared[kind].values())
    yield from (each for each in own if each.rank >= 0)


def _declare(declared: dict[type, dict[Any, Any]], resource: Resource) -> None:
    kind = DriverResource if isinstance(resource, DriverResource) else type(resource)
    if kind not in declared or isinstance(resource, type):
        raise ConfigurationError(f"a topology takes specifications such as QueueSpec, got {resource!r}")
    known, key = declared[kind], _key(resource)
    if key in known:
        raise ConfigurationError(f"{_kind(resource)} {key} is declared twice")
    known[key] = resource


def _kind(resource: Resource) -> str:
    if isinstance(resource, DriverResource):
        return resource.kind
    return type(resource).__name__.removesuffix("Spec").lower()


def _key(resource: Resource) -> object:
    """The identity of a resource among those of its kind."""
    match resource:
        case SubscriptionSpec(topic=topic, name=name):
            return topic, name
        case RuleSpec(bus=bus, name=name):
            return bus, name
        case DriverResource(name=name, container=container):
            return resource.kind, container, name
        case _:
            return resource.name


def _add_queues_of_subscription(subscription: SubscriptionSpec, queues: dict[str, QueueSpec]) -> None:
    """Add the subscription's queues where they are not declared on their own."""
    if subscription.target.fifo and not is_fifo(subscription.topic):
        raise ConfigurationError(
            f"subscription {subscription.name}: the queue of a standard topic must be standard, "
            f"got {subscription.target.name!r}"
        )
    _add(queues, subscription.target)
    if subscription.undelivered_name is not None:
        target = subscription.target
        _add_dead_letter_queue(queues, subscription.undelivered_name, tags=target.tags, options=target.options)


def _add_queues_of_rule(rule: RuleSpec, queues: dict[str, QueueSpec]) -> None:
    """Add the rule's own queue, and those for what cannot be delivered, where they are not declared on their own."""
    if rule.target is not None:
        _add(queues, rule.target)
    for target in rule.resolved_targets():
        if target.dead_letters is not None:
            _add_dead_letter_queue(queues, target.dead_letters)


def _check_targets(rule: RuleSpec, known: Mapping[str, Mapping[str, Any]]) -> None:
    """Validate that targets of the kinds that a topology makes are declared, unless they are given by their ARN."""
    for target in rule.targets:
        if target.kind == "bus" and target.name == rule.bus:
            raise ConfigurationError(f"rule {rule.name}: its target is its own bus {rule.bus!r}, an endless loop")
        if target.name not in known.get(target.kind, (target.name,)) and not target.name.startswith("arn:"):
            raise ConfigurationError(f"rule {rule.name}: {target.kind} {target.name!r} is not declared")
        queue = known["queue"].get(target.name) if target.group_id is not None else None
        if queue is not None and queue.fifo and not queue.content_based_deduplication:
            raise ConfigurationError(
                f"rule {rule.name}: EventBridge sends no deduplication ids; declare {target.name} with "
                "content_based_deduplication=True"
            )


def _add_dead_letters(queue: QueueSpec, queues: dict[str, QueueSpec]) -> None:
    if queue.dead_letters is True and queue.dead_letter_name is not None:
        _add_dead_letter_queue(queues, queue.dead_letter_name, tags=queue.tags, options=queue.options)
    elif isinstance(queue.dead_letters, str) and queue.dead_letters not in queues:
        raise ConfigurationError(f"queue {queue.name}: its dead-letter queue {queue.dead_letters!r} is not declared")


def _add(queues: dict[str, QueueSpec], queue: QueueSpec) -> None:
    if queues.setdefault(queue.name, queue) != queue:
        raise ConfigurationError(f"queue {queue.name} is declared twice, with different options")


def _add_dead_letter_queue(queues: dict[str, QueueSpec], name: str, **extras: Any) -> None:
    """Add it where it is not declared on its own; one that belongs to a queue is encrypted and tagged as that is."""
    queues.setdefault(name, QueueSpec(name, retention=DEAD_LETTER_RETENTION, dead_letters=False, **extras))
