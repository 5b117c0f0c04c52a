"""Topology: queues, topics, buses and what connects them, declared as values, compared with what there is, and made.

    topology = Topology(
        Queue("orders"),                                        # with a dead-letter queue, orders-dead
        Topic("JobEvents.fifo"),
        Subscription("JobEvents.fifo", "inventory", filter=FilterPolicy({"eventType": ["JobCreated", "JobDeleted"]})),
    )
    print(await topology.plan(transport))                       # create / change / same / drift
    await topology.apply(transport)                             # idempotent; deletes nothing unless told

A subscription has a queue of its own. Where the service needs it, the queue's policy lets exactly that topic send. A
rule of an event bus has a queue of its own too, or targets: `Target`, at most five.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

from eip.archiving import Archives
from eip.channels import Filter, Transport
from eip.errors import ChannelNotFound, ConfigurationError
from eip.limits import TARGETS_PER_RULE
from eip.matching import EventPattern, as_predicate, push_down
from eip.targets import Archive, Bus, Target

__all__ = [
    "Action",
    "Archive",
    "Bus",
    "Plan",
    "Provisioner",
    "Queue",
    "Resource",
    "Rule",
    "Step",
    "Stream",
    "Subscription",
    "Target",
    "Topic",
    "Topology",
]

Action: TypeAlias = Literal["create", "change", "same", "drift", "delete"]
"""Drift: there is something that is not declared; only ``apply(delete=True)`` removes it."""

_FIFO = ".fifo"
_LONGEST_PATTERN = 2048
ALL_EVENTS = EventPattern({"source": [{"prefix": ""}]})
"""What a rule without a pattern matches."""
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
        content_based_deduplication: of a FIFO queue: a message without a deduplication id is dropped where one with the
            same body was sent within five minutes; otherwise where one with the same id was.
    """

    name: str
    visibility: float = 30.0
    retention: timedelta = timedelta(days=4)
    dead_letters: str | bool = True
    max_receive_count: int = 5
    content_based_deduplication: bool = False

    def __post_init__(self) -> None:
        """Refuse what no service takes."""
        if not 0 < self.visibility <= 43_200 or not timedelta(minutes=1) <= self.retention <= _TWO_WEEKS:
            raise ConfigurationError("visibility is up to 12 hours, and retention from a minute to 14 days")
        if not 1 <= self.max_receive_count <= 1000:
            raise ConfigurationError("max_receive_count is from 1 to 1,000")
        if isinstance(self.dead_letters, str) and self.dead_letters.endswith(_FIFO) != self.fifo:
            raise ConfigurationError("the dead-letter queue of a FIFO queue is FIFO, of a standard queue standard")
        _check_deduplication(self.name, by_content=self.content_based_deduplication)

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
    """A topic, FIFO where its name ends in ``.fifo``; ``content_based_deduplication`` as of a `Queue`."""

    name: str
    content_based_deduplication: bool = False

    def __post_init__(self) -> None:
        """Refuse what no service takes."""
        _check_deduplication(self.name, by_content=self.content_based_deduplication)


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


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a bus: which events, and where to.

    Without targets they go to a queue of the rule's own, as `eip.Bus.subscription` reads them.

    Args:
        bus: the bus's name, declared besides.
        name: of the rule; its queue is called ``bus-name`` where ``queue`` says nothing else.
        pattern: an `EventPattern` or what can be pushed down to one. What cannot, e.g. a predicate, is evaluated by the
            consumer, who gives it to `eip.Bus.subscription`; so it is for rules without targets only. Default: all
            events.
        targets: at most five; none: the rule's own queue.
        queue: the own queue with its options, and another name if wished; default: `Queue`'s.
        enabled: whether it delivers.
        dead_letters: whether what cannot be delivered goes to the queue ``bus-name-undelivered``, where the target says
            nothing else.
    """

    bus: str
    name: str
    pattern: Filter | None = field(default=None, compare=False)
    targets: tuple[Target, ...] = ()
    queue: Queue | None = None
    enabled: bool = True
    dead_letters: bool = True

    def __post_init__(self) -> None:
        """Refuse what PutRule and PutTargets would refuse."""
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", self.name):
            raise ConfigurationError(f"{self.name!r} is no name of a rule: at most 64 letters, digits, and ._-")
        if self.targets and self.queue is not None:
            raise ConfigurationError(f"rule {self.name}: name the queue as one of its targets")
        if len(self.targets) > TARGETS_PER_RULE:
            raise ConfigurationError(
                f"rule {self.name} has {len(self.targets)} targets, and EventBridge delivers to {TARGETS_PER_RULE}: "
                "let a topic be the target, Target(topic=...), and subscribe the others to it"
            )
        if len({each.id for each in self.targets}) < len(self.targets):
            raise ConfigurationError(f"rule {self.name}: two targets have the same id")
        if self.target is not None and self.target.fifo:
            raise ConfigurationError(f"rule {self.name}: a bus delivers to standard queues")
        if self.pattern is not None:
            as_predicate(self.pattern)  # refuses what is no filter
        if self.targets and self._pushed() is None:
            raise ConfigurationError(
                f"rule {self.name}: EventBridge cannot evaluate its pattern, and its targets would get every event"
            )
        if len(self.event_pattern.text) > _LONGEST_PATTERN:
            raise ConfigurationError(f"rule {self.name}: a pattern has at most {_LONGEST_PATTERN} characters")

    @property
    def target(self) -> Queue | None:
        """The rule's own queue."""
        return None if self.targets else self.queue or Queue(own_queue(self.bus, self.name))

    @property
    def undelivered_name(self) -> str | None:
        """The name of the rule's dead-letter queue."""
        return own_queue(self.bus, f"{self.name}-undelivered") if self.dead_letters else None

    @property
    def event_pattern(self) -> EventPattern:
        """What the service evaluates."""
        return self._pushed() or ALL_EVENTS

    def resolved_targets(self) -> tuple[Target, ...]:
        """All targets, each with the dead-letter queue that counts."""
        targets = self.targets if self.target is None else (Target(queue=self.target.name),)
        return tuple(replace(each, dead_letters=each.dead_letters or self.undelivered_name) for each in targets)

    def _pushed(self) -> EventPattern | None:
        if self.pattern is None:
            return ALL_EVENTS
        pushed = push_down(self.pattern, "eventbridge")
        return None if pushed.pushed is None else EventPattern(pushed.pushed)


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream.

    Args:
        name: of the stream.
        shards: how many it has; None: as many as it needs, which the service decides ("on demand").
        retention: how long records are kept, from 24 hours to 365 days, in whole hours.
    """

    name: str
    shards: int | None = 1
    retention: timedelta = timedelta(hours=24)

    def __post_init__(self) -> None:
        """Refuse what no service takes."""
        if self.shards is not None and self.shards < 1:
            raise ConfigurationError("a stream has at least one shard")
        if not timedelta(hours=24) <= self.retention <= timedelta(days=365) or self.retention % timedelta(hours=1):
            raise ConfigurationError("a stream's retention is 24 hours to 365 days, in whole hours")


async def archive_step(archives: Archives, declared: Archive, *, apply: bool) -> Step:
    """The step for an archive, on any transport that has archives."""
    try:
        found = await archives.describe(declared.name)
    except ChannelNotFound:
        if apply:
            await archives.create(declared.name, pattern=declared.pattern, retention=declared.retention)
        return Step("create", "archive", declared.name)
    changes: dict[str, Any] = {}
    wanted, there = declared.pattern or ALL_EVENTS, found.pattern or ALL_EVENTS
    if json.loads(wanted.text) != json.loads(there.text):
        changes["pattern"] = wanted
    if found.retention != declared.retention:
        changes["retention"] = declared.retention or timedelta()
    if changes and apply:
        await archives.update(declared.name, **changes)
    return Step("change" if changes else "same", "archive", declared.name, ", ".join(changes))


def own_queue(bus: str, rule: str) -> str:
    """The name of a rule's own queue."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"{bus}-{rule}")


Resource: TypeAlias = Queue | Stream | Topic | Subscription | Bus | Rule | Archive
"""In the order in which they are made: each after what it refers to."""


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

    async def undeclared(self, channel: Topic | Bus, declared: frozenset[str], *, delete: bool) -> Iterable[Step]:
        """A step for each subscription of the topic whose queue is not one of ``declared``; deleted if told.

        Of a bus: for each rule whose name, and each target of a declared one whose ``rule > id`` is not declared.
        """
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

        ``delete``: also end subscriptions of declared topics, and rules and targets of declared buses, that are not
        declared. Queues, topics, buses and archives are never deleted.
        """
        return await self._provision(transport, apply=True, delete=delete)

    def cloudformation(self) -> dict[str, Any]:
        """The same as a CloudFormation template, policies included; queues, streams and archives outlive the stack."""
        from eip.cloudformation import template  # noqa: PLC0415 - it imports this module, and few need it

        return template(self)

    async def _provision(self, transport: Transport, *, apply: bool, delete: bool) -> Plan:
        if not isinstance(transport, Provisioner):
            raise ConfigurationError(f"{type(transport).__name__} makes no channels by itself")
        steps: list[Step] = []
        for resource in self._resources:
            steps += await transport.provision(resource, apply=apply)
        for each in self._resources:
            if isinstance(each, Topic):
                steps += await transport.undeclared(each, self._subscribed(each), delete=delete)
            elif isinstance(each, Bus):
                steps += await transport.undeclared(each, self._ruled(each), delete=delete)
        return Plan(tuple(steps))

    def _subscribed(self, topic: Topic) -> frozenset[str]:
        """The queues of the topic's declared subscriptions."""
        declared = (each for each in self._resources if isinstance(each, Subscription) and each.topic == topic.name)
        return frozenset(each.target.name for each in declared)

    def _ruled(self, bus: Bus) -> frozenset[str]:
        """The bus's declared rules, and their targets as ``rule > id``."""
        rules = [each for each in self._resources if isinstance(each, Rule) and each.bus == bus.name]
        targets = (f"{rule.name} > {target.id}" for rule in rules for target in rule.resolved_targets())
        return frozenset((*(rule.name for rule in rules), *targets))


def suffixed(name: str, suffix: str) -> str:
    """``name-suffix``, FIFO where the name is."""
    fifo = _FIFO if name.endswith(_FIFO) else ""
    return f"{name.removesuffix(_FIFO)}-{suffix}{fifo}"


def _check_deduplication(name: str, *, by_content: bool) -> None:
    if by_content and not name.endswith(_FIFO):
        raise ConfigurationError(f"{name} deduplicates nothing: only FIFO queues and topics do")


def _in_order(resources: Iterable[Resource]) -> Iterator[Resource]:
    """Dead-letter queues, queues, streams, topics, subscriptions, buses, rules, archives."""
    declared: dict[type, dict[Any, Any]] = {kind: {} for kind in get_args(Resource)}
    for each in resources:
        _once(declared[type(each)], _key(each), each)
    queues: dict[str, Queue] = declared[Queue]
    for subscription in declared[Subscription].values():
        if subscription.topic not in declared[Topic]:
            raise ConfigurationError(f"subscription {subscription.name}: no topic {subscription.topic} is declared")
        _add_target(queues, subscription)
    for part in (*declared[Rule].values(), *declared[Archive].values()):
        if part.bus not in declared[Bus]:
            raise ConfigurationError(f"{type(part).__name__.lower()} {part.name}: no bus {part.bus} is declared")
    for rule in declared[Rule].values():
        _add_queues_of(rule, queues)
        known = {"queue": queues, "topic": declared[Topic], "bus": declared[Bus], "stream": declared[Stream]}
        _check_targets(rule, known)
    for queue in list(queues.values()):
        _add_dead_letters(queues, queue)
    yield from sorted(queues.values(), key=lambda queue: queue.dead_letters is not False)
    for kind, found in declared.items():
        if kind is not Queue:
            yield from found.values()


def _key(resource: Resource) -> object:
    """What only one resource of its kind may have."""
    match resource:
        case Subscription(topic=topic, name=name):
            return topic, name
        case Rule(bus=bus, name=name):
            return bus, name
        case _:
            return resource.name


def _add_queues_of(rule: Rule, queues: dict[str, Queue]) -> None:
    """A rule's own queue, and those for what cannot be delivered, where they are not declared besides."""
    own = rule.target
    if own is not None and queues.setdefault(own.name, own) != own:
        raise ConfigurationError(f"queue {own.name} is declared twice, differently")
    for target in rule.resolved_targets():
        if target.dead_letters is not None:
            _keep(queues, target.dead_letters)


def _check_targets(rule: Rule, known: Mapping[str, Mapping[str, Any]]) -> None:
    """Targets are declared; what is elsewhere has an ARN."""
    for target in rule.targets:
        if target.kind == "bus" and target.name == rule.bus:
            raise ConfigurationError(f"rule {rule.name} of {rule.bus} would send its events round in a circle")
        if target.name not in known[target.kind] and not target.name.startswith("arn:"):
            raise ConfigurationError(f"rule {rule.name}: no {target.kind} {target.name} is declared")
        queue = known["queue"].get(target.name) if target.group_id is not None else None
        if queue is not None and not queue.content_based_deduplication:
            raise ConfigurationError(
                f"rule {rule.name}: EventBridge gives no deduplication ids; declare {target.name} with "
                "content_based_deduplication=True"
            )


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
