"""The topology: declared resources, checked against each other, compared with what exists, and made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, get_args

from eip.channels import Transport
from eip.errors import ConfigurationError
from eip.topology.events import ArchiveSpec, BusSpec, RuleSpec
from eip.topology.names import is_fifo
from eip.topology.plan import Plan, Provisioner, Resource, Step
from eip.topology.resources import DEAD_LETTER_RETENTION, QueueSpec, StreamSpec, SubscriptionSpec, TopicSpec

__all__ = ["Topology"]


class Topology:
    """Declared resources; each name once.

    Args:
        resources: specifications, in any order.

    Raises:
        ConfigurationError: a name that is declared twice, or a resource that refers to one that is not declared.
    """

    def __init__(self, *resources: Resource) -> None:
        self._resources = tuple(_in_order(resources))

    @property
    def resources(self) -> tuple[Resource, ...]:
        """All that is declared, dead-letter queues included, each after what it refers to."""
        return self._resources

    async def plan(self, transport: Transport) -> Plan:
        """Return what `apply` would do, compared with what exists; change nothing."""
        return await self._provision(transport, apply=False, delete=False)

    async def apply(self, transport: Transport, *, delete: bool = False) -> Plan:
        """Make what is missing and change what differs; return what was done. Applying again changes nothing.

        Args:
            transport: where to make them.
            delete: also end subscriptions of declared topics, and rules and targets of declared buses, that are not
                declared. Queues, topics, buses, streams and archives are never deleted.

        Raises:
            ConfigurationError: the transport makes no channels, or does not take a resource.
            TransportError: the service failed; apply again to finish.
        """
        return await self._provision(transport, apply=True, delete=delete)

    async def _provision(self, transport: Transport, *, apply: bool, delete: bool) -> Plan:
        if not isinstance(transport, Provisioner):
            raise ConfigurationError(f"{type(transport).__name__} cannot make channels; create them by its own tools")
        steps: list[Step] = []
        for resource in self._resources:
            steps += await transport.provision(resource, apply=apply)
        for each in self._resources:
            if isinstance(each, TopicSpec):
                steps += await transport.undeclared(each, self._subscribed(each), delete=delete)
            elif isinstance(each, BusSpec):
                steps += await transport.undeclared(each, self._ruled(each), delete=delete)
        return Plan(tuple(steps))

    def _subscribed(self, topic: TopicSpec) -> frozenset[str]:
        """The queues of the topic's declared subscriptions."""
        declared = (each for each in self._resources if isinstance(each, SubscriptionSpec) and each.topic == topic.name)
        return frozenset(each.target.name for each in declared)

    def _ruled(self, bus: BusSpec) -> frozenset[str]:
        """The bus's declared rules, and their targets as ``rule > id``."""
        rules = [each for each in self._resources if isinstance(each, RuleSpec) and each.bus == bus.name]
        targets = (f"{rule.name} > {target.id}" for rule in rules for target in rule.resolved_targets())
        return frozenset((*(rule.name for rule in rules), *targets))


def _in_order(resources: Iterable[Resource]) -> Iterator[Resource]:
    """Dead-letter queues, queues, streams, topics, subscriptions, buses, rules, archives."""
    declared: dict[type, dict[Any, Any]] = {kind: {} for kind in get_args(Resource)}
    for each in resources:
        _declare(declared, each)
    queues: dict[str, QueueSpec] = declared[QueueSpec]
    for subscription in declared[SubscriptionSpec].values():
        if subscription.topic not in declared[TopicSpec]:
            raise ConfigurationError(f"subscription {subscription.name}: topic {subscription.topic!r} is not declared")
        _add_queues_of_subscription(subscription, queues)
    for part in (*declared[RuleSpec].values(), *declared[ArchiveSpec].values()):
        if part.bus not in declared[BusSpec]:
            raise ConfigurationError(f"{_kind(part)} {part.name}: bus {part.bus!r} is not declared")
    known = {"queue": queues, "topic": declared[TopicSpec], "bus": declared[BusSpec], "stream": declared[StreamSpec]}
    for rule in declared[RuleSpec].values():
        _add_queues_of_rule(rule, queues)
        _check_targets(rule, known)
    for queue in list(queues.values()):
        _add_dead_letters(queue, queues)
    yield from sorted(queues.values(), key=lambda queue: queue.dead_letters is not False)
    for kind, found in declared.items():
        if kind is not QueueSpec:
            yield from found.values()


def _declare(declared: dict[type, dict[Any, Any]], resource: Resource) -> None:
    if type(resource) not in declared:
        raise ConfigurationError(f"a topology takes specifications such as QueueSpec, got {resource!r}")
    known, key = declared[type(resource)], _key(resource)
    if key in known:
        raise ConfigurationError(f"{_kind(resource)} {key} is declared twice")
    known[key] = resource


def _kind(resource: Resource) -> str:
    return type(resource).__name__.removesuffix("Spec").lower()


def _key(resource: Resource) -> object:
    """What identifies a resource among those of its kind."""
    match resource:
        case SubscriptionSpec(topic=topic, name=name):
            return topic, name
        case RuleSpec(bus=bus, name=name):
            return bus, name
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
        _add_dead_letter_queue(queues, subscription.undelivered_name, like=subscription.target)


def _add_queues_of_rule(rule: RuleSpec, queues: dict[str, QueueSpec]) -> None:
    """Add the rule's own queue, and those for what cannot be delivered, where they are not declared on their own."""
    if rule.target is not None:
        _add(queues, rule.target)
    for target in rule.resolved_targets():
        if target.dead_letters is not None:
            _add_dead_letter_queue(queues, target.dead_letters)


def _check_targets(rule: RuleSpec, known: Mapping[str, Mapping[str, Any]]) -> None:
    """Validate that the targets are declared; one of another account or region is given by its ARN."""
    for target in rule.targets:
        if target.kind == "bus" and target.name == rule.bus:
            raise ConfigurationError(f"rule {rule.name}: its target is its own bus {rule.bus!r}, an endless loop")
        if target.name not in known[target.kind] and not target.name.startswith("arn:"):
            raise ConfigurationError(f"rule {rule.name}: {target.kind} {target.name!r} is not declared")
        queue = known["queue"].get(target.name) if target.group_id is not None else None
        if queue is not None and not queue.content_based_deduplication:
            raise ConfigurationError(
                f"rule {rule.name}: EventBridge sends no deduplication ids; declare {target.name} with "
                "content_based_deduplication=True"
            )


def _add_dead_letters(queue: QueueSpec, queues: dict[str, QueueSpec]) -> None:
    if queue.dead_letters is True and queue.dead_letter_name is not None:
        _add_dead_letter_queue(queues, queue.dead_letter_name, like=queue)
    elif isinstance(queue.dead_letters, str) and queue.dead_letters not in queues:
        raise ConfigurationError(f"queue {queue.name}: its dead-letter queue {queue.dead_letters!r} is not declared")


def _add(queues: dict[str, QueueSpec], queue: QueueSpec) -> None:
    if queues.setdefault(queue.name, queue) != queue:
        raise ConfigurationError(f"queue {queue.name} is declared twice, with different options")


def _add_dead_letter_queue(queues: dict[str, QueueSpec], name: str, *, like: QueueSpec | None = None) -> None:
    """Add it where it is not declared on its own; one that belongs to a queue is encrypted and tagged as that is."""
    made = QueueSpec(name, retention=DEAD_LETTER_RETENTION, dead_letters=False)
    if like is not None:
        made = replace(made, tags=like.tags, options=like.options)
    queues.setdefault(name, made)
