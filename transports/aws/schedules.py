"""EventBridge Scheduler, declared: groups, and schedules that invoke a target at a time, or again and again.

    ScheduleGroupSpec("shop", sends_to=(TargetSpec(queue="invoices"),)),
    ScheduleSpec("close-the-books", "cron(0 3 1 * ? *)", TargetSpec(queue="books"), group="shop"),

A message that a program schedules is `eip.patterns.MessageScheduler`'s. Source: CreateSchedule (EventBridge Scheduler
API Reference), "Schedule types", "Templated targets" (User Guide), 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from typing_extensions import override

from eip._checks import check_type
from eip.errors import ConfigurationError
from eip.topology import DriverResource, TargetSpec

__all__ = ["MESSAGE_PREFIX", "ScheduleGroupSpec", "ScheduleSpec"]

MESSAGE_PREFIX: Final = "eip-message-"
"""Prefix of the names of schedules that programs make for messages; drift detection ignores them."""
_NAME: Final = re.compile(r"[0-9a-zA-Z._-]{1,64}")
_EXPRESSION: Final = re.compile(
    r"at\(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\)|rate\([1-9]\d* (?:minute|hour|day)s?\)|cron\([^()\s]+(?: [^()\s]+){5}\)"
)
_MAX_WINDOW: Final = timedelta(hours=24)
_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class ScheduleGroupSpec(DriverResource):
    """A group of schedules; ``default`` exists in every account.

    Args:
        name: of the group.
        tags: of the group; other tags stay.
        sends_to: makes a role with which schedules of programs' messages (`eip.transports.aws.AwsTransport.schedules`)
            send to these queues, topics and buses, and to nothing else.

    Raises:
        ConfigurationError: not a valid name, or a receiver of another kind.
    """

    kind: ClassVar[str] = "schedule group"
    rank: ClassVar[int] = 10

    name: str = "default"
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    sends_to: Sequence[TargetSpec] = ()

    def __post_init__(self) -> None:
        """Validate the parameters."""
        _check_name("group", self.name)
        check_type("sends_to", self.sends_to, (list, tuple), "a list of TargetSpec")
        for each in self.sends_to:
            if each.kind not in ("queue", "topic", "bus"):
                raise ConfigurationError(f"sends_to must have queues, topics and buses, got a {each.kind}")
        if self.name == "default" and self.tags:
            raise ConfigurationError("tags of the group default are not known to the service; name another group")


@dataclass(frozen=True, slots=True)
class ScheduleSpec(DriverResource):
    """A schedule: when it invokes which target with what.

    Args:
        name: unique in its group.
        expression: ``at(yyyy-mm-ddThh:mm:ss)``, ``rate(value unit)`` or ``cron(six fields)``.
        target: a queue, topic, bus, stream, function, state machine or Firehose, with ``group_id``, ``max_attempts``,
            ``max_age``, ``dead_letters`` and ``role`` as in a rule. Its ``input`` is what the target gets, JSON or, for
            queues, any text.
        group: the name of a declared group, or ``default``.
        timezone: of the expression, a name of the tz database.
        start: a datetime with a time zone: not before. Default: at once.
        end: a datetime with a time zone: not after. Default: for ever.
        window: the invocation may come up to that much later, whole minutes up to a day, so that many spread.
        enabled: False stops it.
        description: for people.
        encryption: ARN of a KMS key for its data; default: EventBridge's own.
        source: of the event, for a bus.
        detail_type: of the event, for a bus; ``input`` of the schedule is its detail.
        input: JSON text that the target gets; in place of the target's own, which a bus cannot have.

    Raises:
        ConfigurationError: what CreateSchedule would refuse.
    """

    kind: ClassVar[str] = "schedule"
    rank: ClassVar[int] = 11

    name: str
    expression: str
    target: TargetSpec
    group: str = field(default="default", kw_only=True)
    timezone: str = field(default="UTC", kw_only=True)
    start: datetime | None = field(default=None, kw_only=True)
    end: datetime | None = field(default=None, kw_only=True)
    window: timedelta = field(default=timedelta(), kw_only=True)
    enabled: bool = field(default=True, kw_only=True)
    description: str = field(default="", kw_only=True)
    encryption: str | None = field(default=None, kw_only=True)
    source: str | None = field(default=None, kw_only=True)
    detail_type: str | None = field(default=None, kw_only=True)
    input: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Validate the parameters."""
        _check_name("schedule", self.name)
        _check_name("group", self.group)
        if self.name.startswith(MESSAGE_PREFIX):
            raise ConfigurationError(f"name of a schedule must not begin with {MESSAGE_PREFIX!r}, got {self.name!r}")
        if not _EXPRESSION.fullmatch(self.expression):
            raise ConfigurationError(f"expression must be at(...), rate(...) or cron(...), got {self.expression!r}")
        for parameter in ("start", "end"):
            value: datetime | None = getattr(self, parameter)
            if value is not None and value.tzinfo is None:
                raise ConfigurationError(f"{parameter} must have a time zone, got {value!r}")
        if not timedelta() <= self.window <= _MAX_WINDOW or self.window % _MINUTE:
            raise ConfigurationError(f"window must be whole minutes, at most a day, got {self.window}")
        self._check_target()

    def _check_target(self) -> None:
        target = check_type("target", self.target, TargetSpec, "a TargetSpec")
        unknown = ("input_path", "template", "api_destination", "partition_key")
        for parameter in unknown[:3]:
            if getattr(target, parameter) is not None:
                raise ConfigurationError(f"schedule {self.name}: a schedule has no {parameter}; give input")
        if (target.kind == "bus") != (self.source is not None) or (target.kind == "bus") != bool(self.detail_type):
            raise ConfigurationError(
                f"schedule {self.name}: source and detail_type are needed for a bus, and only there"
            )
        if target.kind == "stream" and target.partition_key is None:
            raise ConfigurationError(
                f"schedule {self.name}: a stream needs a partition_key, which is a plain text here"
            )
        if self.input is not None and target.input is not None:
            raise ConfigurationError(f"schedule {self.name}: give input once")

    @property
    def payload(self) -> str | None:
        """What the target gets; None: what the service makes."""
        return self.target.input if self.input is None else self.input

    @property
    def parameters(self) -> dict[str, Any]:
        """What the target is given beside its ARN, role and dead letters, as CreateSchedule takes it."""
        target = self.target
        made: dict[str, Any] = {
            "RetryPolicy": {
                "MaximumRetryAttempts": target.max_attempts,
                "MaximumEventAgeInSeconds": round(target.max_age.total_seconds()),
            }
        }
        if self.payload is not None:
            made["Input"] = self.payload
        if target.group_id is not None:
            made["SqsParameters"] = {"MessageGroupId": target.group_id}
        if target.partition_key is not None:
            made["KinesisParameters"] = {"PartitionKey": target.partition_key}
        if self.source is not None:
            made["EventBridgeParameters"] = {"Source": self.source, "DetailType": self.detail_type}
        return made

    @property
    @override
    def container(self) -> tuple[type, str]:
        return ScheduleGroupSpec, self.group


def _check_name(of: str, name: str) -> None:
    if not _NAME.fullmatch(check_type("name", name, str, "a str")):
        raise ConfigurationError(f"name of a {of} must be 1 to 64 letters, digits and ._-, got {name!r}")
