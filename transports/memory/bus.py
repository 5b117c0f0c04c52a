"""The embedded event bus: EventBridge's rules, targets and archives in this process.

Messages become events and messages again as on the wire (`eip.transports._event_format`): what EventBridge would
refuse is refused here, and patterns see what they would see there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from typing_extensions import override

from eip._checks import check_duration, check_message, check_name
from eip._ids import new_uuid
from eip._logging import get_logger
from eip.channels import Filter, Sender
from eip.clock import Duration
from eip.codec import dump_json
from eip.errors import ConfigurationError
from eip.matching import EventPattern, RuleSet
from eip.message import Message
from eip.telemetry.meter import Meter
from eip.topology import RuleSpec, TargetSpec
from eip.topology.names import rule_queue
from eip.transports._capabilities import EVENTBRIDGE
from eip.transports._event_format import SentEvent, entry_of, message_of, read_event
from eip.transports.memory._lifetime import Lifetime
from eip.transports.memory._rule import ACCOUNT, REGION, Rule
from eip.transports.memory._targets import RoutingBus, Targets
from eip.transports.memory.archives import Account, MemoryArchives
from eip.transports.memory.queue import MemoryQueue

__all__ = ["MemoryBus"]

_log = get_logger("eip.memory")


class MemoryBus(RoutingBus):
    """A bus in this process; `MemoryTransport.bus` returns it.

    Its rules are those of `eip.topology.RuleSpec`, put by a topology or by `put_rule`; a subscription is a rule with a
    queue of its own. Delivery to a target waits while its queue is full. A delivery that fails for the moment is tried
    again within the target's limits; one that cannot succeed goes to the target's dead-letter queue, or is dropped and
    logged, as on EventBridge.

    Args:
        name: the bus's.
        address: the same as a return address.
        lifetime: the transport's.
        account: shared by all buses of the transport.
        find: returns the transport's channel of a kind and name; None if there is none.
        make_queue: returns the transport's queue of a name, with options at the first call.
        meter: records what is sent; None: nothing is recorded.
        replay_interval: seconds between the minutes of a replay.
    """

    limits = EVENTBRIDGE

    def __init__(
        self,
        name: str,
        *,
        address: str,
        lifetime: Lifetime,
        account: Account,
        find: Callable[[str, str], Sender | None],
        make_queue: Callable[..., MemoryQueue],
        meter: Meter | None = None,
        replay_interval: Duration = 0.0,
    ) -> None:
        self.name, self.address = name, address
        self.replay_interval = check_duration("replay_interval", replay_interval)
        self.archives = MemoryArchives(
            name,
            account,
            rules=lambda: self._rules,
            route=lambda event, rules: self.route(event, rules=rules),
            interval=self.replay_interval,
        )
        self._make_queue, self._meter, self._lifetime = make_queue, meter, lifetime
        self._targets = Targets(name, find)
        self._rules: dict[str, Rule] = {}
        self._index = RuleSet()
        self._unindexed: dict[str, None] = {}
        """Names of rules that the index does not find: all events pass, or a predicate decides."""

    # Publishing.

    @override
    async def send(self, *messages: Message[Any]) -> None:
        """Put the messages on the bus; see `Sender.send`. Waits while a target's queue is full."""
        self._lifetime.check_open()
        for message in messages:
            check_message(message)
        entries = [entry_of(message, channel=self.name) for message in messages]
        if self._meter is not None:
            size = sum(entry.size for entry in entries)
            self._meter.record("memory", self.name, "send", messages=len(entries), size=size, units=0)
        for message, entry in zip(messages, entries, strict=True):
            await self.route(SentEvent(message, entry, id=new_uuid(), account=ACCOUNT, region=REGION))

    async def put_event(self, event: Mapping[str, Any]) -> None:
        """Put an event on the bus as it is, e.g. one of an AWS service; raises `ConfigurationError` if malformed."""
        self._lifetime.check_open()
        own = read_event(dump_json(event))
        if own is None:
            raise ConfigurationError(
                f"event must have a source, a detail-type, and an object as its detail, got {str(event)[:80]}"
            )
        await self.route(own)

    @override
    async def route(self, event: Mapping[str, Any], *, rules: Collection[str] = (), forwarded: bool = False) -> None:
        """Give an event to the archives and the rules.

        Args:
            event: checked, and not changed any more.
            rules: only these get it; none: all.
            forwarded: whether it came from another bus.
        """
        self.archives.offer(event)
        for name in (*sorted(self._index.match(event)), *self._unindexed):  # not all rules: there may be thousands
            rule = self._rules.get(name)
            if rule is None or not rule.declared.enabled or (rules and name not in rules):
                continue
            if rule.predicate is None or await self._accepts(rule, rule.predicate, event):
                await self._targets.deliver(rule, event, forwarded=forwarded)

    async def _accepts(self, rule: Rule, predicate: Callable[[Message[Any]], bool], event: Mapping[str, Any]) -> bool:
        """Return whether a rule's predicate accepts the event; one that it fails on is refused."""
        try:
            return predicate(message_of(event)[0].sealed())
        except Exception as error:  # noqa: BLE001 - a rule's broken predicate must not fail the publisher
            _log.warning("filter_failed", channel=self.name, rule=rule.declared.name, error=str(error))
            await self._targets.refuse(rule, event, error)
            return False

    # Rules.

    @property
    def rules(self) -> dict[str, RuleSpec]:
        """By name; the managed rules of archives are in `managed_rules`."""
        return {name: each.declared for name, each in self._rules.items()}

    @property
    def managed_rules(self) -> dict[str, EventPattern]:
        """Those of its archives, by name."""
        return self.archives.managed_rules

    def targets(self, rule: str) -> dict[str, TargetSpec]:
        """Return a rule's targets, by id."""
        return self._rules[rule].declared_targets if rule in self._rules else {}

    def put_rule(self, declared: RuleSpec) -> None:
        """Make the rule, or change it; its other targets stay. Its queues are the transport's."""
        if declared.bus != self.name:
            raise ConfigurationError(
                f"rule {declared.name} must be declared for the bus {self.name}, got {declared.bus}"
            )
        targets = {**self.targets(declared.name), **{each.id: each for each in declared.resolved_targets()}}
        self._put(Rule(declared, targets.values()))

    def _put(self, rule: Rule) -> None:
        name = rule.declared.name
        self.remove_rule(name)
        self._rules[name] = rule
        if rule.predicate is None and rule.declared.pattern is not None:
            self._index.add(name, rule.declared.event_pattern.text)
        else:
            self._unindexed[name] = None

    def remove_target(self, rule: str, target: str) -> None:
        """Remove a target of a rule."""
        known = self._rules[rule]
        self._put(Rule(known.declared, [each for each in self.targets(rule).values() if each.id != target]))

    def remove_rule(self, name: str) -> None:
        """Remove the rule; the messages in its queue stay there."""
        if self._rules.pop(name, None) is not None:
            self._index.remove(name)
            self._unindexed.pop(name, None)

    @override
    def subscription(
        self, name: str, *, pattern: Filter | None = None, dead_letters: MemoryQueue | None = None, **options: Any
    ) -> MemoryQueue:
        """Return the queue of the named rule, which is made at the first call.

        Args:
            name: the rule's.
            pattern: of a new rule; default: all events.
            dead_letters: gets what cannot be delivered, or what the pattern, if it is a predicate, fails on.
            options: of the queue, see `MemoryTransport.queue`.

        Raises:
            ConfigurationError: the rule exists with another pattern, or with targets of its own.
        """
        known = self._rules.get(check_name(name))
        if known is None:
            declared = RuleSpec(self.name, name, pattern=pattern, dead_letters=False)
            queue = self._make_queue(rule_queue(self.name, name), **options)
            undeliverable = None if dead_letters is None else dead_letters.name
            self._put(Rule(declared, [TargetSpec(queue=queue.name, dead_letters=undeliverable)]))
            return queue
        if options or (pattern is not None and pattern != known.declared.pattern):
            raise ConfigurationError(f"rule {name} of {self.name} exists; remove it before declaring it differently")
        if known.declared.target is None:
            raise ConfigurationError(f"rule {name} of {self.name} has targets of its own; read from one of these")
        return self._make_queue(known.declared.target.name)

    def unsubscribe(self, name: str) -> None:
        """End the subscription; the messages in its queue stay there."""
        self.remove_rule(name)

    async def aclose(self) -> None:
        """End retries and replays."""
        await self._targets.aclose()
        await self.archives.aclose()

    def __repr__(self) -> str:
        return f"<MemoryBus {self.name} rules={len(self._rules)} archives={len(self.managed_rules)}>"
