"""Event buses, rules and archives, declared as values.

The limits and terms are those of Amazon EventBridge ("Quotas" and "Targets", user guide, November 2026); the embedded
transport keeps the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from eip._checks import check_name, check_type
from eip.channels import Filter
from eip.errors import ConfigurationError
from eip.matching import EventPattern, as_predicate, push_down
from eip.topology.names import rule_queue
from eip.topology.resources import DriverOptions, QueueSpec, check_extras
from eip.topology.targets import TargetSpec

__all__ = ["ALL_EVENTS", "TARGETS_PER_RULE", "ArchiveSpec", "BusSpec", "RuleSpec", "check_description"]

ALL_EVENTS: Final = EventPattern({"source": [{"prefix": ""}]})
"""The pattern of a rule that is declared without one."""
TARGETS_PER_RULE: Final = 5

_BUS_NAME: Final = re.compile(r"[A-Za-z0-9._/-]{1,256}")
_EVENT_SOURCE: Final = re.compile(r"(?=.{1,256}\Z)aws\.partner(/[A-Za-z0-9._-]+){2,}")
_RULE_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ARCHIVE_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,48}")
_MAX_PATTERN_CHARACTERS: Final = 2048
_MAX_DESCRIPTION: Final = 512
"""Characters that describe an archive or a replay (CreateArchive, StartReplay)."""
_DAY: Final = timedelta(days=1)


def check_description(text: str) -> str:
    """The description of an archive or a replay; raises `TypeError`, and `ConfigurationError` where it is too long."""
    if len(check_type("description", text, str, "a string")) > _MAX_DESCRIPTION or "\n" in text:
        raise ConfigurationError(
            f"description must be one line of at most {_MAX_DESCRIPTION} characters, got {len(text):,}: {text[:40]!r}"
        )
    return text


@dataclass(frozen=True, slots=True)
class BusSpec:
    """An event bus; ``default`` exists in every account.

    Args:
        name: of the bus.
        dead_letters: keep what the bus itself cannot handle (EventBridge: events that cannot be encrypted with the
            bus's own key) in the queue ``name-bus-undelivered``.
        tags: as of a `QueueSpec`.
        options: what one driver alone knows, e.g. `eip.transports.aws.EventBridgeOptions`.
        event_source: the partner event source whose events the bus receives, e.g.
            ``aws.partner/example.com/123/orders``; the partner makes it first. The bus has its name, which need not
            be given.

    Raises:
        ConfigurationError: not a valid name, or not the event source's.
    """

    name: str = "default"
    dead_letters: bool = False
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    options: Sequence[DriverOptions] = field(default=(), hash=False)
    event_source: str | None = None

    def __post_init__(self) -> None:
        """Validate the parameters."""
        if self.event_source is not None:
            self._check_event_source(self.event_source)
        check_name(self.name)
        if not _BUS_NAME.fullmatch(self.name):
            raise ConfigurationError(f"name of a bus must be 1 to 256 letters, digits and ._-/, got {self.name!r}")
        if "/" in self.name and self.event_source is None:
            raise ConfigurationError(f"only a partner's bus has a / in its name; give event_source={self.name!r}")
        check_type("dead_letters", self.dead_letters, bool, "a bool")
        check_extras(self.tags, self.options)

    def _check_event_source(self, source: str) -> None:
        """Validate the event source, and give the bus its name."""
        if not _EVENT_SOURCE.fullmatch(check_type("event_source", source, str, "a string")):
            raise ConfigurationError(f"event_source must be aws.partner/PARTNER/NAME, got {source!r}")
        if self.name not in ("default", source):
            raise ConfigurationError(f"name of a partner's bus must be its event_source {source!r}, got {self.name!r}")
        object.__setattr__(self, "name", source)

    @property
    def undelivered_name(self) -> str | None:
        """The name of the bus's dead-letter queue; None if it has none."""
        return rule_queue(self.name, "bus-undelivered") if self.dead_letters else None


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """A rule of a bus: which events, and where to.

    Without targets the events go to a queue of the rule's own, which `eip.Bus.subscription` reads.

    Args:
        bus: the name of a declared bus.
        name: of the rule. Its queue is called ``bus-name`` unless ``queue`` has another name.
        pattern: an `EventPattern`, or a filter that can be expressed as one; default: all events. Predicates and
            attribute policies cannot be expressed as event patterns; the consumer evaluates them, so they are for
            rules without targets only: give the same filter to `eip.Bus.subscription`.
        targets: at most five; none means the rule's own queue.
        queue: the own queue and its options; default: those of `QueueSpec`.
        enabled: False stops delivery.
        dead_letters: keep what cannot be delivered in the queue ``bus-name-undelivered``, unless a target has its own.

    Raises:
        ConfigurationError: what PutRule or PutTargets would refuse.
    """

    bus: str
    name: str
    pattern: Filter | None = field(default=None, compare=False)
    targets: tuple[TargetSpec, ...] = ()
    queue: QueueSpec | None = None
    enabled: bool = True
    dead_letters: bool = True

    def __post_init__(self) -> None:
        """Validate the parameters."""
        check_name(self.bus, "bus")
        check_name(self.name)
        if not _RULE_NAME.fullmatch(self.name):
            raise ConfigurationError(f"name of a rule must be 1 to 64 letters, digits and ._-, got {self.name!r}")
        self._check_targets()
        self._check_pattern()

    def _check_targets(self) -> None:
        if self.targets and self.queue is not None:
            raise ConfigurationError(f"rule {self.name}: give the queue as one of targets, or leave targets out")
        if len(self.targets) > TARGETS_PER_RULE:
            raise ConfigurationError(
                f"rule {self.name}: targets must be at most {TARGETS_PER_RULE}, got {len(self.targets)}; "
                "use a topic as target, TargetSpec(topic=...), and subscribe the others to it"
            )
        if len({each.id for each in self.targets}) < len(self.targets):
            raise ConfigurationError(f"rule {self.name}: two targets have the same id; give them different ids")
        if self.target is not None and self.target.fifo:
            raise ConfigurationError(f"rule {self.name}: queue must be standard, got {self.target.name!r}")

    def _check_pattern(self) -> None:
        if self.pattern is not None:
            as_predicate(self.pattern)  # raises for a value of another type
        if self.targets and self._pushed() is None:
            raise ConfigurationError(
                f"rule {self.name}: EventBridge cannot evaluate the pattern, so its targets would get every event; "
                "use an EventPattern"
            )
        size = len(self.event_pattern.text)
        if size > _MAX_PATTERN_CHARACTERS:
            raise ConfigurationError(
                f"rule {self.name}: pattern must have at most {_MAX_PATTERN_CHARACTERS:,} characters, got {size:,}"
            )

    @property
    def target(self) -> QueueSpec | None:
        """The rule's own queue; None if it has targets."""
        return None if self.targets else self.queue or QueueSpec(rule_queue(self.bus, self.name))

    @property
    def undelivered_name(self) -> str | None:
        """The name of the rule's dead-letter queue; None if it has none."""
        return rule_queue(self.bus, f"{self.name}-undelivered") if self.dead_letters else None

    @property
    def event_pattern(self) -> EventPattern:
        """The pattern that the service evaluates."""
        return self._pushed() or ALL_EVENTS

    def resolved_targets(self) -> tuple[TargetSpec, ...]:
        """Return all targets, each with the dead-letter queue that applies to it."""
        targets = self.targets if self.target is None else (TargetSpec(queue=self.target.name),)
        return tuple(replace(each, dead_letters=each.dead_letters or self.undelivered_name) for each in targets)

    def _pushed(self) -> EventPattern | None:
        if self.pattern is None:
            return ALL_EVENTS
        pushed = push_down(self.pattern, "eventbridge")
        return None if pushed.pushed is None else EventPattern(pushed.pushed)


@dataclass(frozen=True, slots=True)
class ArchiveSpec:
    """An archive of a bus: it keeps events, to be replayed to that bus (see `eip.patterns.replay`).

    Args:
        name: unique in the account, at most 48 characters.
        bus: the name of a declared bus.
        pattern: which events; default: all. Replayed events are never archived again.
        retention: in whole days; default: without end.
        description: for people, at most 512 characters.

    Raises:
        ConfigurationError: what CreateArchive would refuse.
    """

    name: str
    bus: str = "default"
    pattern: EventPattern | None = None
    retention: timedelta | None = None
    description: str = ""

    def __post_init__(self) -> None:
        """Validate the parameters."""
        if not _ARCHIVE_NAME.fullmatch(self.name):
            raise ConfigurationError(f"name of an archive must be 1 to 48 letters, digits and ._-, got {self.name!r}")
        if not isinstance(self.pattern, (EventPattern, type(None))):
            raise ConfigurationError(f"pattern must be an EventPattern or None, got {type(self.pattern).__name__}")
        if self.retention is not None and (self.retention < _DAY or self.retention % _DAY):
            raise ConfigurationError(f"retention must be whole days, at least one, or None, got {self.retention}")
        check_description(self.description)

    @property
    def retention_days(self) -> int:
        """The service's number for it; 0 means without end."""
        return 0 if self.retention is None else self.retention.days
