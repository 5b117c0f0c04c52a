"""The plan of applying a topology, as steps, and the protocol by which a transport carries it out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from eip.topology.events import ArchiveSpec, BusSpec, RuleSpec
from eip.topology.resources import DriverResource, QueueSpec, StreamSpec, SubscriptionSpec, TopicSpec

__all__ = ["Action", "Container", "Plan", "Provisioner", "Resource", "Step"]

Action: TypeAlias = Literal["create", "change", "same", "drift", "delete"]
"""Drift: a resource exists that is not declared, which only ``apply(delete=True)`` removes; or a partner has deleted
the event source of a bus, which only the partner can mend."""

Resource: TypeAlias = (
    QueueSpec | StreamSpec | TopicSpec | SubscriptionSpec | BusSpec | RuleSpec | ArchiveSpec | DriverResource
)
Container: TypeAlias = TopicSpec | BusSpec | DriverResource
"""Resources with parts: a topic has subscriptions, a bus has rules, a driver's resource has parts of its own."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a resource, planned or done."""

    action: Action
    kind: str
    name: str
    detail: str = ""
    """For a change: each setting with its old and its new value."""

    def __str__(self) -> str:
        detail = f"  ({self.detail})" if self.detail else ""
        return f"{self.action:6}  {self.kind:12}  {self.name}{detail}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a topology on a transport, in their order; printed one per line."""

    steps: tuple[Step, ...]

    def __getitem__(self, action: Action) -> tuple[Step, ...]:
        """The steps of one action."""
        return tuple(step for step in self.steps if step.action == action)

    @property
    def in_force(self) -> bool:
        """Whether nothing is to be created or changed."""
        return not self["create"] and not self["change"]

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps)) or "nothing is declared"


@runtime_checkable
class Provisioner(Protocol):
    """A transport that can make its channels."""

    async def provision(self, resource: Resource, *, apply: bool) -> Iterable[Step]:
        """Return the steps for one resource, and carry them out if ``apply``; what it refers to exists already."""
        ...

    async def undeclared(self, container: Container, declared: frozenset[str], *, delete: bool) -> Iterable[Step]:
        """Return a step for each undeclared part of the container, and delete it if ``delete``.

        A subscription of a topic is known by its queue's name. For a bus: a step for each rule whose name, and each
        target of a declared rule whose ``rule > id``, is not declared. Parts of a driver's resource by their names.
        """
        ...
