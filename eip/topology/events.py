"""Event buses, rules, their targets, and archives, declared as values.

The limits and terms are those of Amazon EventBridge ("Quotas" and "Targets", user guide, November 2026); the embedded
transport keeps the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, Literal, TypeAlias

from eip._checks import check_name
from eip.channels import Filter
from eip.errors import ConfigurationError, InvalidPattern
from eip.matching import EventPattern, InputTransformer, as_predicate, push_down
from eip.topology.names import is_fifo, rule_queue
from eip.topology.resources import QueueSpec

__all__ = ["ALL_EVENTS", "TARGETS_PER_RULE", "ArchiveSpec", "BusSpec", "RuleSpec", "TargetKind", "TargetSpec"]

TargetKind: TypeAlias = Literal["queue", "topic", "bus", "stream"]

ALL_EVENTS: Final = EventPattern({"source": [{"prefix": ""}]})
"""The pattern of a rule that is declared without one."""
TARGETS_PER_RULE: Final = 5

_BUS_NAME: Final = re.compile(r"[A-Za-z0-9._/-]{1,256}")
_RULE_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ARCHIVE_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,48}")
_MAX_ID_CHARACTERS: Final = 64
_MAX_INPUT_CHARACTERS: Final = 8192
_MAX_PATTERN_CHARACTERS: Final = 2048
_KINDS: Final[tuple[TargetKind, ...]] = ("queue", "topic", "bus", "stream")
_DAY: Final = timedelta(days=1)
_MAX_ATTEMPTS: Final = 185
_MIN_AGE: Final = timedelta(minutes=1)
_MAX_AGE: Final = _DAY


@dataclass(frozen=True, slots=True)
class BusSpec:
    """An event bus; ``default`` exists in every account.

    Raises:
        ConfigurationError: not a valid name.
    """

    name: str = "default"

    def __post_init__(self) -> None:
        """Validate the parameters."""
        check_name(self.name)
        if not _BUS_NAME.fullmatch(self.name):
            raise ConfigurationError(f"name of a bus must be 1 to 256 letters, digits and ._-/, got {self.name!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """Where a rule sends events: exactly one queue, topic, bus or stream, given by name and declared in the topology.

    The target gets the event itself, or at most one of these: a constant, a part of the event, or a template filled
    with parts of it. Such a text has no envelope: the consumer reads it as a foreign producer's message.

    Args:
        queue: a standard queue, or a FIFO queue with a ``group_id`` and content-based deduplication.
        topic: a standard topic: the way to more than five receivers.
        bus: another bus. Events keep their source, time and replay name, and are not forwarded a second time.
        stream: records are events; needs a ``role``.
        input: JSON text that replaces every event (Input).
        input_path: a JSON path, e.g. ``"$.detail"`` (InputPath).
        input_paths: JSON paths by variable (InputPathsMap), with ``template``.
        template: text with ``<variable>`` placeholders (InputTemplate).
        max_attempts: retries of a delivery that failed transiently, 0 to 185.
        max_age: how long a delivery is retried, one minute to one day.
        dead_letters: the queue for what cannot be delivered; default: the rule's.
        group_id: the message group of all that the target gets. FIFO queues only.
        partition_key: a JSON path; default: the event's id. Streams only.
        role: ARN of the role that EventBridge assumes: required for a stream (kinesis:PutRecord), and on AWS for a bus
            (events:PutEvents). Queues and topics have policies instead.
        id: unique within the rule; default: kind and name.

    Raises:
        ConfigurationError: what PutTargets would refuse.
        InvalidPattern: an ``input`` that is not JSON, or a template that names no path.
    """

    queue: str | None = None
    topic: str | None = None
    bus: str | None = None
    stream: str | None = None
    input: str | None = None
    input_path: str | None = None
    input_paths: Mapping[str, str] = field(default_factory=dict, hash=False)
    template: str | None = None
    max_attempts: int = _MAX_ATTEMPTS
    max_age: timedelta = _MAX_AGE
    dead_letters: str | None = None
    group_id: str | None = None
    partition_key: str | None = None
    role: str | None = None
    id: str = ""

    def __post_init__(self) -> None:
        """Validate the parameters."""
        named = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(named) != 1:
            raise ConfigurationError(
                f"a target must be exactly one of {', '.join(_KINDS)}, got {', '.join(named) or 'none'}"
            )
        if not 0 <= self.max_attempts <= _MAX_ATTEMPTS:
            raise ConfigurationError(f"max_attempts must be 0 to {_MAX_ATTEMPTS}, got {self.max_attempts}")
        if not _MIN_AGE <= self.max_age <= _MAX_AGE:
            raise ConfigurationError(f"max_age must be {_MIN_AGE} to {_MAX_AGE}, got {self.max_age}")
        self._check_fifo()
        self._check_role()
        self._check_input()
        if not self.id:
            object.__setattr__(self, "id", _target_id(f"{self.kind}-{self.name}"))
        self.transformer()

    def _check_fifo(self) -> None:
        for parameter, name in (("topic", self.topic), ("dead_letters", self.dead_letters)):
            if name is not None and is_fifo(name):
                raise ConfigurationError(f"{parameter} must be standard: EventBridge sends to no FIFO {name!r}")
        if (self.group_id is not None) != is_fifo(self.queue or ""):
            raise ConfigurationError(
                f"target {self.name}: group_id is required for a FIFO queue and for nothing else, got {self.group_id!r}"
            )

    def _check_role(self) -> None:
        if self.stream is not None and self.role is None:
            raise ConfigurationError(f"target {self.name}: a stream needs role, the ARN that EventBridge assumes")
        if self.role is not None and self.kind in ("queue", "topic"):
            raise ConfigurationError(
                f"target {self.name}: role is for streams and buses; queues and topics use policies"
            )
        if self.partition_key is not None and self.stream is None:
            raise ConfigurationError(f"target {self.name}: partition_key is for streams, got {self.partition_key!r}")

    def _check_input(self) -> None:
        if self.bus is not None and (self.input, self.input_path, self.template) != (None, None, None):
            raise ConfigurationError(
                f"target {self.name}: a bus gets events as they are; drop input, input_path, template"
            )
        if self.input_paths and self.template is None:
            raise ConfigurationError(f"target {self.name}: input_paths needs a template")
        if self.input is not None and not _is_json(self.input):
            raise InvalidPattern(f"JSON syntax error in input for target {self.name}.")
        for parameter, text in (("input", self.input), ("template", self.template)):
            if len(text or "") > _MAX_INPUT_CHARACTERS:
                raise ConfigurationError(
                    f"target {self.name}: {parameter} must have at most {_MAX_INPUT_CHARACTERS:,} characters, "
                    f"got {len(text or ''):,}"
                )

    @property
    def kind(self) -> TargetKind:
        """The kind of channel."""
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    @property
    def name(self) -> str:
        """The channel's name."""
        return str(getattr(self, self.kind))

    def transformer(self, *, rule_name: str = "", rule_arn: str = "") -> InputTransformer | None:
        """Return the transformer that makes the target's text; None if the target gets the event itself."""
        if self.input is None and self.input_path is None and self.template is None:
            return None
        return InputTransformer(
            constant=self.input,
            path=self.input_path,
            paths=self.input_paths,
            template=self.template,
            target=self.id,
            rule_name=rule_name,
            rule_arn=rule_arn,
        )


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

    Raises:
        ConfigurationError: what CreateArchive would refuse.
    """

    name: str
    bus: str = "default"
    pattern: EventPattern | None = None
    retention: timedelta | None = None

    def __post_init__(self) -> None:
        """Validate the parameters."""
        if not _ARCHIVE_NAME.fullmatch(self.name):
            raise ConfigurationError(f"name of an archive must be 1 to 48 letters, digits and ._-, got {self.name!r}")
        if not isinstance(self.pattern, (EventPattern, type(None))):
            raise ConfigurationError(f"pattern must be an EventPattern or None, got {type(self.pattern).__name__}")
        if self.retention is not None and (self.retention < _DAY or self.retention % _DAY):
            raise ConfigurationError(f"retention must be whole days, at least one, or None, got {self.retention}")

    @property
    def retention_days(self) -> int:
        """The service's number for it; 0 means without end."""
        return 0 if self.retention is None else self.retention.days


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _target_id(text: str) -> str:
    """The text where it is a valid target id, otherwise as much of it as fits and a hash."""
    made = re.sub(r"[^A-Za-z0-9._-]", "-", text)
    if made == text and len(made) <= _MAX_ID_CHARACTERS:
        return made
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{made[: _MAX_ID_CHARACTERS - 9]}-{digest}"
