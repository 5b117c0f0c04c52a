"""Topology: queues, topics and subscriptions declared as values, compared with what there is, and made.

    topology = Topology(
        Queue("orders"),                                        # with a dead-letter queue, orders-dead
        Topic("JobEvents.fifo"),
        Subscription("JobEvents.fifo", "inventory", filter=FilterPolicy({"eventType": ["JobCreated", "JobDeleted"]})),
    )
    print(await topology.plan(transport))                       # create / change / same / drift
    await topology.apply(transport)                             # idempotent; deletes nothing unless told

A subscription has a queue of its own. Where the service needs it, the queue's policy lets exactly that topic send.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from eip.channels import Filter, Transport
from eip.errors import ConfigurationError

__all__ = ["Action", "Plan", "Provisioner", "Queue", "Resource", "Step", "Subscription", "Topic", "Topology"]

Action: TypeAlias = Literal["create", "change", "same", "drift", "delete"]
"""Drift: there is something that is not declared; only ``apply(delete=True)`` removes it."""

_FIFO = ".fifo"
_TWO_WEEKS = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue, FIFO where its name ends in ``.fifo``, and its dead-letter queue.

    Args:
        name: of the queue.
        visibility: seconds of a lease.
        retention: how long messages are kept, up to 14 days.
        dead_letters: the name of its dead-letter queue, declared besides; True: ``name-dead``, declared with it, which
            keeps messages for 14 days; False: none.
        max_receive_count: receives after which a message goes there.
    """

    name: str
    visibility: float = 30.0
    retention: timedelta = timedelta(days=4)
    dead_letters: str | bool = True
    max_receive_count: int = 5

    def __post_init__(self) -> None:
        """Refuse what no service takes."""
        if not 0 < self.visibility <= 43_200 or not timedelta(minutes=1) <= self.retention <= _TWO_WEEKS:
            raise ConfigurationError("visibility is up to 12 hours, and retention from a minute to 14 days")
        if not 1 <= self.max_receive_count <= 1000:
            raise ConfigurationError("max_receive_count is from 1 to 1,000")
        if isinstance(self.dead_letters, str) and self.dead_letters.endswith(_FIFO) != self.fifo:
            raise ConfigurationError("the dead-letter queue of a FIFO queue is FIFO, of a standard queue standard")

    @property
    def fifo(self) -> bool:
        """Whether it is FIFO."""
        return self.name.endswith(_FIFO)

    @property
    def dead_letter_name(self) -> str | None:
        """The name of its dead-letter queue."""
        if isinstance(self.dead_letters, str):
            return self.dead_letters
        return suffixed(self.name, "dead") if self.dead_letters else None


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic, FIFO where its name ends in ``.fifo``."""

    name: str


@dataclass(frozen=True, slots=True)
class Subscription:
    """A topic's messages in a queue of their own, as `eip.Topic.subscription` reads them.

    Args:
        topic: the topic's name, declared besides.
        name: of the subscription; its queue is called ``topic-name`` where ``queue`` says nothing else.
        filter: what is let through; evaluated by the service as far as that is exact, and otherwise by the consumer.
        raw: deliver messages as sent, without the service's wrapping.
        queue: the queue with its options, and another name if wished; default: `Queue`'s.
        dead_letters: whether what the topic cannot deliver goes to the queue ``topic-name-undelivered``.
    """

    topic: str
    name: str
    filter: Filter | None = field(default=None, compare=False)
    raw: bool = True
    queue: Queue | None = None
    dead_letters: bool = True

    @property
    def target(self) -> Queue:
        """The queue that it delivers to."""
        return self.queue or Queue(suffixed(self.topic, self.name))

    @property
    def undelivered_name(self) -> str | None:
        """The name of the subscription's own dead-letter queue."""
        return suffixed(self.topic, f"{self.name}-undelivered") if self.dead_letters else None


Resource: TypeAlias = Queue | Topic | Subscription


@dataclass(frozen=True, slots=True)
class Step:
    """What is, or is to be done, about one resource."""

    action: Action
    kind: str
    name: str
    detail: str = ""
    """Of a change: each setting, what it is and what it becomes."""

    def __str__(self) -> str:
        detail = f"  ({self.detail})" if self.detail else ""
        return f"{self.action:6}  {self.kind:12}  {self.name}{detail}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a topology on a transport, in their order; printed one a line."""

    steps: tuple[Step, ...]

    def __getitem__(self, action: Action) -> tuple[Step, ...]:
        """The steps of one action."""
        return tuple(step for step in self.steps if step.action == action)

    @property
    def in_force(self) -> bool:
        """Whether there is nothing to create or change."""
        return not self["create"] and not self["change"]

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps)) or "nothing is declared"


@runtime_checkable
class Provisioner(Protocol):
    """A transport that can make its channels."""

    async def provision(self, resource: Resource, *, apply: bool) -> Iterable[Step]:
        """The steps for one resource, carried out where ``apply`` says so; what it refers to came before it."""
        ...

    async def undeclared(self, topic: Topic, declared: frozenset[str], *, delete: bool) -> Iterable[Step]:
        """A step for each subscription of the topic whose queue is not one of ``declared``; deleted if told."""
        ...


class Topology:
    """Declared resources; each name once.

    Raises `ConfigurationError` where a name is declared twice, or a subscription's topic or a dead-letter queue that
    was named is not declared.
    """

    def __init__(self, *resources: Resource) -> None:
        self._resources = tuple(_in_order(resources))

    @property
    def resources(self) -> tuple[Resource, ...]:
        """All that is declared, dead-letter queues included, each after what it refers to."""
        return self._resources

    async def plan(self, transport: Transport) -> Plan:
        """What `apply` would do, compared with what there is; changes nothing."""
        return await self._provision(transport, apply=False, delete=False)

    async def apply(self, transport: Transport, *, delete: bool = False) -> Plan:
        """Make what is missing and change what differs; returns what was done. Applied again, it finds all the same.

        ``delete``: also end subscriptions of declared topics that are not declared. Queues and topics are never
        deleted.
        """
        return await self._provision(transport, apply=True, delete=delete)

    async def _provision(self, transport: Transport, *, apply: bool, delete: bool) -> Plan:
        if not isinstance(transport, Provisioner):
            raise ConfigurationError(f"{type(transport).__name__} makes no channels by itself")
        steps: list[Step] = []
        for resource in self._resources:
            steps += await transport.provision(resource, apply=apply)
        for topic in self._resources:
            if isinstance(topic, Topic):
                steps += await transport.undeclared(topic, self._subscribed(topic), delete=delete)
        return Plan(tuple(steps))

    def _subscribed(self, topic: Topic) -> frozenset[str]:
        """The queues of the topic's declared subscriptions."""
        declared = (each for each in self._resources if isinstance(each, Subscription) and each.topic == topic.name)
        return frozenset(each.target.name for each in declared)


def suffixed(name: str, suffix: str) -> str:
    """``name-suffix``, FIFO where the name is."""
    fifo = _FIFO if name.endswith(_FIFO) else ""
    return f"{name.removesuffix(_FIFO)}-{suffix}{fifo}"


def _in_order(resources: Iterable[Resource]) -> Iterator[Resource]:
    """Dead-letter queues, queues, topics, subscriptions."""
    queues: dict[str, Queue] = {}
    topics: dict[str, Topic] = {}
    subscriptions: dict[tuple[str, str], Subscription] = {}
    for each in resources:
        if isinstance(each, Queue):
            _once(queues, each.name, each)
        elif isinstance(each, Topic):
            _once(topics, each.name, each)
        else:
            _once(subscriptions, (each.topic, each.name), each)
    for subscription in subscriptions.values():
        if subscription.topic not in topics:
            raise ConfigurationError(f"subscription {subscription.name}: no topic {subscription.topic} is declared")
        _add_target(queues, subscription)
    for queue in list(queues.values()):
        _add_dead_letters(queues, queue)
    yield from sorted(queues.values(), key=lambda queue: queue.dead_letters is not False)
    yield from topics.values()
    yield from subscriptions.values()


def _add_target(queues: dict[str, Queue], subscription: Subscription) -> None:
    """The queues of a subscription, where they are not declared besides."""
    target = subscription.target
    if target.fifo and not subscription.topic.endswith(_FIFO):
        raise ConfigurationError(f"subscription {subscription.name}: a standard topic delivers to standard queues")
    if queues.setdefault(target.name, target) != target:
        raise ConfigurationError(f"queue {target.name} is declared twice, differently")
    if subscription.undelivered_name is not None:
        _keep(queues, subscription.undelivered_name)


def _add_dead_letters(queues: dict[str, Queue], queue: Queue) -> None:
    if queue.dead_letters is True and queue.dead_letter_name is not None:
        _keep(queues, queue.dead_letter_name)
    elif isinstance(queue.dead_letters, str) and queue.dead_letters not in queues:
        raise ConfigurationError(f"queue {queue.name}: its dead-letter queue {queue.dead_letters} is not declared")


def _keep(queues: dict[str, Queue], name: str) -> None:
    """A queue for what went wrong: kept for as long as the service keeps anything."""
    queues.setdefault(name, Queue(name, retention=_TWO_WEEKS, dead_letters=False))


def _once(known: dict[Any, Any], key: object, resource: Resource) -> None:
    if key in known:
        raise ConfigurationError(f"{type(resource).__name__.lower()} {key} is declared twice")
    known[key] = resource
