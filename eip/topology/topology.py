"""The topology: declared resources, checked against each other, compared with what exists, and made."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from eip.channels import Transport
from eip.errors import ConfigurationError, Conflict
from eip.retry import Backoff
from eip.topology._ordering import in_order
from eip.topology.events import BusSpec, RuleSpec
from eip.topology.plan import Container, Plan, Provisioner, Resource, Step
from eip.topology.resources import DriverResource, SubscriptionSpec, TopicSpec

__all__ = ["Topology"]

_MAX_CONFLICTS: Final = 5
"""Attempts at one resource that another process is changing."""
_CONFLICT_BACKOFF: Final = Backoff(base=0.1, cap=2.0)
_SHARED: Final = (SubscriptionSpec, BusSpec, RuleSpec)
"""Kinds that write policies of queues and topics, where other processes do, too."""
_MAX_LOOKS: Final = 3


class Topology:
    """Declared resources; each name once.

    Args:
        resources: specifications, in any order.

    Raises:
        ConfigurationError: a name that is declared twice, or a resource that refers to one that is not declared.
    """

    def __init__(self, *resources: Resource) -> None:
        self._resources = tuple(in_order(resources))

    @property
    def resources(self) -> tuple[Resource, ...]:
        """All that is declared, dead-letter queues included, each after what it refers to."""
        return self._resources

    async def plan(self, transport: Transport) -> Plan:
        """Return what `apply` would do, compared with what exists; change nothing."""
        return await self._provision(transport, apply=False, delete=False)

    async def apply(self, transport: Transport, *, delete: bool = False) -> Plan:
        """Make what is missing and change what differs; return what was done. Applying again changes nothing.

        Any number of processes may apply at once, and one that fails or dies in the middle leaves what the next apply
        finishes: each resource is made after what it refers to, by calls that may be repeated.

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
        made: list[Resource] = []
        for resource in self._resources:
            found = await _steps(transport, resource, apply=apply)
            steps += found
            if apply and any(step.action != "same" for step in found):
                made.append(resource)
        await _keep_shared(transport, made)
        for each in self._resources:
            if isinstance(each, (TopicSpec, BusSpec, DriverResource)):
                steps += await transport.undeclared(each, self._parts(each), delete=delete)
        return Plan(tuple(steps))

    def _parts(self, container: Container) -> frozenset[str]:
        """The declared parts of a topic, a bus or a driver's resource."""
        of_it = (type(container), container.name)
        own = (each for each in self._resources if isinstance(each, DriverResource))
        parts = frozenset(each.name for each in own if each.container == of_it)
        match container:
            case TopicSpec():
                return parts | self._subscribed(container)
            case BusSpec():
                return parts | self._ruled(container)
            case DriverResource():
                return parts

    def _subscribed(self, topic: TopicSpec) -> frozenset[str]:
        """The queues of the topic's declared subscriptions."""
        declared = (each for each in self._resources if isinstance(each, SubscriptionSpec) and each.topic == topic.name)
        return frozenset(each.target.name for each in declared)

    def _ruled(self, bus: BusSpec) -> frozenset[str]:
        """The bus's declared rules, and their targets as ``rule > id``."""
        rules = [each for each in self._resources if isinstance(each, RuleSpec) and each.bus == bus.name]
        targets = (f"{rule.name} > {target.id}" for rule in rules for target in rule.resolved_targets())
        return frozenset((*(rule.name for rule in rules), *targets))


async def _steps(transport: Provisioner, resource: Resource, *, apply: bool) -> Sequence[Step]:
    """The steps of one resource; where another process made or changed it meanwhile, compared with what is there."""
    attempt = 0
    while True:
        attempt += 1
        try:
            return list(await transport.provision(resource, apply=apply))
        except Conflict:
            if attempt == _MAX_CONFLICTS:
                raise
            await asyncio.sleep(_CONFLICT_BACKOFF.delay(attempt))


async def _keep_shared(transport: Provisioner, made: Iterable[Resource]) -> None:
    """Look again at what shares a policy with others, and make it again where it is missing.

    A policy is read and written as a whole, so that another process may have written an older one over ours.
    """
    shared = [each for each in made if isinstance(each, _SHARED)]
    for _ in range(_MAX_LOOKS):
        missing = [each for each in shared if any(step.action != "same" for step in await _look(transport, each))]
        if not missing:
            return


async def _look(transport: Provisioner, resource: Resource) -> Sequence[Step]:
    return await _steps(transport, resource, apply=True)
