"""Event buses, the targets of their rules, and their archives, as values; re-exported by `eip.topology`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal, TypeAlias

from eip.errors import ConfigurationError, InvalidPattern
from eip.matching import EventPattern, InputTransformer

__all__ = ["Archive", "Bus", "Target", "TargetKind"]

TargetKind: TypeAlias = Literal["queue", "topic", "bus", "stream"]

_NAME: Final = re.compile(r"[A-Za-z0-9._/-]{1,256}")
_ARCHIVE_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,48}")
_FIFO: Final = ".fifo"
_LONGEST_ID: Final = 64
_LONGEST_INPUT: Final = 8192
_KINDS: Final[tuple[TargetKind, ...]] = ("queue", "topic", "bus", "stream")
_DAY: Final = timedelta(days=1)
_ATTEMPTS: Final = 185
_AGE: Final = (timedelta(minutes=1), _DAY)


@dataclass(frozen=True, slots=True)
class Bus:
    """An event bus; ``default`` is there in every account."""

    name: str = "default"

    def __post_init__(self) -> None:
        """Refuse what no service takes."""
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"{self.name!r} is no name of a bus: letters, digits, and ._-/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a rule sends events: exactly one of a queue, a topic, a bus or a stream, by name, declared besides.

    What is sent is the event; or, with at most one of them, a constant, a part of it, or what a template makes of it.
    A message made by one of these has no envelope: the consumer gets the text as a foreign producer's.

    Args:
        queue: standard, or FIFO with a ``group_id`` and content-based deduplication.
        topic: a standard topic: the way to more than five receivers.
        bus: another bus; events keep their source, time and replay name, and are not forwarded a second time.
        stream: records are events; needs a ``role``.
        input: JSON text that every event is replaced by (Input).
        input_path: a JSON path, e.g. ``"$.detail"`` (InputPath).
        input_paths: variable to JSON path (InputPathsMap), with ``template``.
        template: text with ``<variable>`` (InputTemplate).
        max_attempts: retries of a delivery that failed for the moment, 0 to 185.
        max_age: how long a delivery is retried, a minute to a day.
        dead_letters: the queue for what cannot be delivered; default: the rule's.
        group_id: of a FIFO queue, the message group of all that the target gets.
        partition_key: of a stream, a JSON path; default: the event's id.
        role: ARN of the role that EventBridge assumes: a stream needs one (kinesis:PutRecord), and AWS wants one for a
            bus (events:PutEvents). Queues and topics have policies instead.
        id: unique within the rule; default: kind and name.
    """

    queue: str | None = None
    topic: str | None = None
    bus: str | None = None
    stream: str | None = None
    input: str | None = None
    input_path: str | None = None
    input_paths: Mapping[str, str] = field(default_factory=dict, hash=False)
    template: str | None = None
    max_attempts: int = _ATTEMPTS
    max_age: timedelta = _DAY
    dead_letters: str | None = None
    group_id: str | None = None
    partition_key: str | None = None
    role: str | None = None
    id: str = ""

    def __post_init__(self) -> None:
        """Refuse what PutTargets would refuse; raises `InvalidPattern` for an input."""
        named = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(named) != 1:
            raise ConfigurationError(f"a target is exactly one of {', '.join(_KINDS)}, not {named or 'nothing'}")
        self._check_fifo()
        if not 0 <= self.max_attempts <= _ATTEMPTS or not _AGE[0] <= self.max_age <= _AGE[1]:
            raise ConfigurationError("max_attempts is from 0 to 185, and max_age from a minute to a day")
        if self.stream is not None and self.role is None:
            raise ConfigurationError(f"target {self.name}: a stream needs the role that EventBridge assumes to write")
        if self.role is not None and self.kind in ("queue", "topic"):
            raise ConfigurationError(f"target {self.name}: queues and topics let rules in by policy, not by role")
        if self.partition_key is not None and self.stream is None:
            raise ConfigurationError(f"target {self.name}: only streams have a partition key")
        self._check_input()
        if not self.id:
            object.__setattr__(self, "id", _id(f"{self.kind}-{self.name}"))
        self.transformer()

    def _check_fifo(self) -> None:
        for name in (self.topic, self.dead_letters):
            if name is not None and name.endswith(_FIFO):
                raise ConfigurationError(
                    f"{name}: EventBridge sends to no FIFO topic, and keeps nothing in a FIFO queue"
                )
        if (self.group_id is not None) != (self.queue or "").endswith(_FIFO):
            raise ConfigurationError(f"target {self.name}: a FIFO queue needs a group_id, and nothing else has one")

    def _check_input(self) -> None:
        if self.bus is not None and (self.input, self.input_path, self.template) != (None, None, None):
            raise ConfigurationError(f"target {self.name}: a bus gets events as they are")
        if self.input_paths and self.template is None:
            raise ConfigurationError(f"target {self.name}: input_paths are for a template")
        if self.input is not None and not _is_json(self.input):
            raise InvalidPattern(f"JSON syntax error in input for target {self.name}.")
        if any(len(each or "") > _LONGEST_INPUT for each in (self.input, self.template)):
            raise ConfigurationError(f"target {self.name}: an input has at most {_LONGEST_INPUT:,} characters")

    @property
    def kind(self) -> TargetKind:
        """What it is."""
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    @property
    def name(self) -> str:
        """The channel's name."""
        return str(getattr(self, self.kind))

    def transformer(self, *, rule_name: str = "", rule_arn: str = "") -> InputTransformer | None:
        """What makes the text that the target gets; None where it gets the event itself."""
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


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _id(text: str) -> str:
    """A target id: the text where it is one, otherwise as much of it as fits and a hash."""
    made = re.sub(r"[^A-Za-z0-9._-]", "-", text)
    if made == text and len(made) <= _LONGEST_ID:
        return made
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{made[: _LONGEST_ID - 9]}-{digest}"


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive of a bus: events are kept, to be replayed to that bus (see `eip.patterns.replay`).

    Args:
        name: unique in the account, at most 48 characters.
        bus: whose events, declared besides.
        pattern: which of them; default: all. What a replay brought is never archived again.
        retention: how long, in whole days; default: for ever.
    """

    name: str
    bus: str = "default"
    pattern: EventPattern | None = None
    retention: timedelta | None = None

    def __post_init__(self) -> None:
        """Refuse what CreateArchive would refuse."""
        if not _ARCHIVE_NAME.fullmatch(self.name):
            raise ConfigurationError(f"{self.name!r} is no name of an archive: at most 48 letters, digits, and ._-")
        if not isinstance(self.pattern, (EventPattern, type(None))):
            raise ConfigurationError("an archive's pattern is an EventPattern")
        if self.retention is not None and (self.retention < _DAY or self.retention % _DAY):
            raise ConfigurationError("an archive keeps events for whole days, at least one, or for ever")

    @property
    def retention_days(self) -> int:
        """As the service counts: 0 is for ever."""
        return 0 if self.retention is None else self.retention.days
