"""The embedded event bus: EventBridge's rules, targets and archives in this process.

Messages become events and messages again as on the wire (`eip.events`), so what EventBridge would refuse is refused
here, and patterns see what they would see there.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final
from uuid import uuid4

from eip import clock, limits
from eip._logging import get_logger
from eip.channels import Bus, Filter, Sender
from eip.codec import dump_json
from eip.errors import ChannelNotFound, ConfigurationError, EipError, TransportError
from eip.events import entry_of, message_of, read_event, undelivered
from eip.matching import EventPattern, InputTransformer, RuleSet, as_predicate
from eip.message import Message
from eip.retry import Backoff
from eip.telemetry.meter import Meter
from eip.topology import RuleSpec, TargetSpec
from eip.topology.names import rule_queue
from eip.transports.memory.archives import Account, Archive, MemoryArchives
from eip.transports.memory.queue import MemoryQueue
from eip.transports.memory.topic import MemoryTopic

__all__ = ["ACCOUNT", "REGION", "MemoryBus"]

_log = get_logger("eip.memory")

ACCOUNT: Final = "000000000000"
REGION: Final = "memory"
"""What events of this transport say about where they are from."""

_RETRY: Final = Backoff(base=1.0, cap=300.0)
_MOST_RETRYING: Final = 10_000
"""Deliveries that wait to be tried again; beyond them they go to the dead-letter queue at once."""


class _Rule:
    """A rule with its targets; what is compiled of them is kept."""

    __slots__ = ("declared", "targets", "transformers", "wants")

    def __init__(self, declared: RuleSpec, targets: Collection[TargetSpec]) -> None:
        self.declared = declared
        self.targets = {each.id: each for each in targets}
        arn = f"arn:memory:events:{REGION}:{ACCOUNT}:rule/{declared.bus}/{declared.name}"
        self.transformers: dict[str, InputTransformer | None] = {
            each.id: each.transformer(rule_name=declared.name, rule_arn=arn) for each in targets
        }
        indexed = declared.pattern is None or isinstance(declared.pattern, EventPattern)
        self.wants = None if indexed or declared.pattern is None else as_predicate(declared.pattern)
        """What no index can tell: a predicate, or a policy on attributes."""


class MemoryBus(Bus):
    """A bus in this process; `MemoryTransport.bus` makes it.

    Its rules are those of `eip.topology.Rule`, put by a topology or by `put_rule`; a subscription is a rule with a
    queue of its own. Delivery to a target waits while its queue is full. A delivery that fails for the moment is tried
    again as the target says; one that cannot succeed goes to the target's dead-letter queue, or is dropped and logged,
    as on EventBridge.
    """

    limits = limits.EVENTBRIDGE

    def __init__(
        self,
        name: str,
        *,
        address: str,
        account: Account,
        find: Callable[[str, str], Sender | None],
        make_queue: Callable[..., MemoryQueue],
        meter: Meter | None = None,
        replay_interval: float = 0.0,
    ) -> None:
        self.name, self.address = name, address
        self.archives = MemoryArchives(self, account, interval=replay_interval)
        self.replay_interval = replay_interval
        self._find, self._make_queue, self._meter = find, make_queue, meter
        self._rules: dict[str, _Rule] = {}
        self._index = RuleSet()
        self._by_code: dict[str, None] = {}
        """Names of rules that are not in the index."""
        self._archiving: dict[str, Archive] = {}
        """By the names of their managed rules."""
        self._retrying: set[asyncio.Task[None]] = set()

    # Publishing.

    async def send(self, *messages: Message[Any]) -> None:
        """Put the messages on the bus; see `Sender.send`. Waits while a target's queue is full."""
        entries = [entry_of(message, channel=self.name) for message in messages]
        if self._meter is not None:
            size = sum(entry.size for entry in entries)
            self._meter.record("memory", self.name, "send", messages=len(entries), size=size, units=0)
        for entry in entries:
            await self.route(entry.event(id=str(uuid4()), account=ACCOUNT, region=REGION))

    async def put_event(self, event: Mapping[str, Any]) -> None:
        """Put an event on the bus as it is, e.g. one of an AWS service; `ConfigurationError` for what is none."""
        own = read_event(dump_json(event))
        if own is None:
            raise ConfigurationError("an event has a source, a detail-type, and an object as its detail")
        await self.route(own)

    async def route(self, event: Mapping[str, Any], *, rules: Collection[str] = (), forwarded: bool = False) -> None:
        """Let the rules have an event that nobody will change.

        Args:
            event: has been checked.
            rules: only these get it; none: all.
            forwarded: whether it came from another bus.
        """
        matched = self._index.match(event)
        for name, archive in self._archiving.items():
            if name in matched:
                archive.keep(event)
        for name in (*sorted(matched), *self._by_code):  # not all rules: there may be thousands
            rule = self._rules.get(name)
            if rule is not None and rule.declared.enabled and (not rules or name in rules):
                await self._apply(rule, event, forwarded=forwarded)

    async def _apply(self, rule: _Rule, event: Mapping[str, Any], *, forwarded: bool) -> None:
        """Deliver to the targets of a rule whose pattern matches, or whose code still has to say."""
        try:
            wanted = rule.wants is None or rule.wants(message_of(event)[0])
        except Exception as error:  # noqa: BLE001 - a rule's broken predicate is not the publisher's concern
            _log.warning("filter_failed", channel=self.name, rule=rule.declared.name, error=str(error))
            for target in rule.targets.values():
                await self._give_up(rule, target, event, "FILTER_FAILED", error, attempts=0)
            return
        if wanted:
            for target in list(rule.targets.values()):
                await self._deliver(rule, target, event, forwarded=forwarded)

    # Delivering.

    async def _deliver(self, rule: _Rule, target: TargetSpec, event: Mapping[str, Any], *, forwarded: bool) -> None:
        try:
            await self._send(rule, target, event, forwarded=forwarded)
        except EipError as error:
            if not getattr(error, "transient", False) or len(self._retrying) >= _MOST_RETRYING:
                await self._give_up(rule, target, event, _code(error), error, attempts=0)
                return
            again = self._retry(rule, target, event, error, forwarded=forwarded)
            retry = asyncio.create_task(again, name=f"{target.id} retry")
            self._retrying.add(retry)
            retry.add_done_callback(self._retrying.discard)

    async def _send(self, rule: _Rule, target: TargetSpec, event: Mapping[str, Any], *, forwarded: bool) -> None:
        channel = self._find(target.kind, target.name)
        if channel is None:
            raise ChannelNotFound(f"there is no {target.kind} {target.name}")
        if isinstance(channel, MemoryBus):
            if forwarded:  # "cannot route events received from a sender event bus to a third" (user guide)
                reason = "it came from another bus, and is not forwarded again"
                _log.warning("event_dropped", rule=rule.declared.name, target=target.id, reason=reason)
            else:
                await channel.route(event, forwarded=True)
            return
        transformer = rule.transformers[target.id]
        text = None if transformer is None else transformer.transform(event)
        if transformer is not None and text is None:
            _log.warning("event_dropped", rule=rule.declared.name, target=target.id, reason="its input is no JSON")
        elif isinstance(channel, MemoryTopic):
            await channel.publish_event(text or dump_json(event).decode())
        else:
            await channel.send(_received(text, target, event))

    async def _retry(
        self, rule: _Rule, target: TargetSpec, event: Mapping[str, Any], error: Exception, *, forwarded: bool
    ) -> None:
        """Try again as often, and for as long, as the target says."""
        until, attempts = clock.now() + target.max_age.total_seconds(), 0
        while attempts < target.max_attempts and clock.now() + (delay := _RETRY.delay(attempts + 1)) <= until:
            attempts += 1
            await asyncio.sleep(delay)
            try:
                await self._send(rule, target, event, forwarded=forwarded)
            except Exception as failure:  # noqa: BLE001 - whatever it is, the event is not lost silently
                error = failure
                if not getattr(failure, "transient", False):
                    break
            else:
                return
        await self._give_up(rule, target, event, _code(error), error, attempts=attempts)

    async def _give_up(
        self, rule: _Rule, target: TargetSpec, event: Mapping[str, Any], code: str, error: Exception, *, attempts: int
    ) -> None:
        """To the dead-letter queue with the reason; dropped where there is none."""
        name = rule.declared.name
        dead_letters = None if target.dead_letters is None else self._find("queue", target.dead_letters)
        if dead_letters is None:
            _log.error("event_not_delivered", channel=self.name, rule=name, target=target.id, error=str(error))
            return
        message = message_of(event)[0]
        await dead_letters.send(undelivered(message, rule=name, reason=f"{code}: {error}", attempts=attempts))

    # Rules.

    @property
    def rules(self) -> dict[str, RuleSpec]:
        """By name; the managed rules of archives are in `managed_rules`."""
        return {name: each.declared for name, each in self._rules.items()}

    @property
    def managed_rules(self) -> dict[str, EventPattern]:
        """Those of its archives, by name."""
        return {name: each.managed_pattern for name, each in self._archiving.items()}

    def targets(self, rule: str) -> dict[str, TargetSpec]:
        """A rule's targets, by id."""
        return dict(self._rules[rule].targets) if rule in self._rules else {}

    def put_rule(self, declared: RuleSpec) -> None:
        """Make the rule, or change it; targets that it had besides stay. Its queues are the transport's."""
        if declared.bus != self.name:
            raise ConfigurationError(f"rule {declared.name} is one of the bus {declared.bus}, not of {self.name}")
        known = self._rules.get(declared.name)
        targets = {**(known.targets if known else {}), **{each.id: each for each in declared.resolved_targets()}}
        self._put(_Rule(declared, targets.values()))

    def _put(self, rule: _Rule) -> None:
        name = rule.declared.name
        self.remove_rule(name)
        self._rules[name] = rule
        if rule.wants is None:
            self._index.add(name, rule.declared.event_pattern.text)
        else:
            self._by_code[name] = None

    def remove_target(self, rule: str, target: str) -> None:
        """Remove a target of a rule."""
        known = self._rules[rule]
        self._put(_Rule(known.declared, [each for each in known.targets.values() if each.id != target]))

    def remove_rule(self, name: str) -> None:
        """Remove the rule; what its queue holds stays there."""
        if self._rules.pop(name, None) is not None:
            self._index.remove(name)
            self._by_code.pop(name, None)

    def subscription(
        self, name: str, *, pattern: Filter | None = None, dead_letters: MemoryQueue | None = None, **options: Any
    ) -> MemoryQueue:
        """The named rule's queue: made at the first call, which may give it a pattern and the options of a queue.

        ``dead_letters`` gets what cannot be delivered, or what the pattern, where it is a predicate, fails on.
        """
        known = self._rules.get(name)
        if known is None:
            declared = RuleSpec(self.name, name, pattern=pattern, dead_letters=False)
            queue = self._make_queue(rule_queue(self.name, name), **options)
            undeliverable = None if dead_letters is None else dead_letters.name
            self._put(_Rule(declared, [TargetSpec(queue=queue.name, dead_letters=undeliverable)]))
            return queue
        if options or (pattern is not None and pattern != known.declared.pattern):
            raise ConfigurationError(f"rule {name} of {self.name} exists; remove it to declare it anew")
        if known.declared.target is None:
            raise ConfigurationError(f"rule {name} of {self.name} has targets of its own; read from one of these")
        return self._make_queue(known.declared.target.name)

    def unsubscribe(self, name: str) -> None:
        """End the subscription; what its queue holds stays there."""
        self.remove_rule(name)

    def keep(self, archive: Archive) -> None:
        """Let an archive's managed rule feed it from now on."""
        self._archiving[archive.rule] = archive
        self._index.add(archive.rule, archive.managed_pattern.text)

    def drop(self, archive: Archive) -> None:
        """End an archive's managed rule."""
        self._archiving.pop(archive.rule, None)
        self._index.remove(archive.rule)

    async def aclose(self) -> None:
        """End what is retried or replayed."""
        for task in self._retrying:
            task.cancel()
        if self._retrying:
            await asyncio.wait(self._retrying)
        await self.archives.aclose()

    def __repr__(self) -> str:
        return f"<MemoryBus {self.name} rules={len(self._rules)} archives={len(self._archiving)}>"


def _received(text: str | None, target: TargetSpec, event: Mapping[str, Any]) -> Message[Any]:
    """What a consumer of the target gets: the event's message, or what the text is that was made of it."""
    parsed = event if text is None else read_event(text)
    message = Message.received((text or "").encode()) if parsed is None else message_of(parsed)[0]
    if target.group_id is not None:  # the service deduplicates by what it sends, the event's id included
        sent = dump_json(event) if text is None else text.encode()
        return message.replace(group_id=target.group_id, deduplication_id=hashlib.sha256(sent).hexdigest())
    if target.kind != "stream":
        return message
    if target.partition_key is None:
        return message.replace(group_id=message.group_id or message.id)
    found = InputTransformer(path=target.partition_key).transform(event)
    return message.replace(group_id=(found or message.id).strip('"'))


def _code(error: Exception) -> str:
    """As EventBridge tells it in a dead-letter queue."""
    if isinstance(error, ChannelNotFound):
        return "NO_RESOURCE"
    return "ERROR_FROM_TARGET" if isinstance(error, TransportError) else "INVALID_PARAMETER"
