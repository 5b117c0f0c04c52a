"""Queues, topics, subscriptions and streams, declared as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Final, Literal, TypeAlias

from eip._checks import check_integer, check_name, check_one_of, check_type
from eip.channels import Filter
from eip.errors import ConfigurationError
from eip.topology.names import is_fifo, suffixed

__all__ = [
    "DEAD_LETTER_RETENTION",
    "DeduplicationScope",
    "DriverOptions",
    "DriverResource",
    "QueueSpec",
    "StreamSpec",
    "SubscriptionSpec",
    "TopicSpec",
    "check_extras",
]

DEAD_LETTER_RETENTION: Final = timedelta(days=14)
"""How long a dead-letter queue keeps messages unless it is declared otherwise: the longest that SQS knows."""
DeduplicationScope: TypeAlias = Literal["channel", "group"]
_STREAM_RETENTION: Final = (timedelta(hours=24), timedelta(days=365))


class DriverOptions:
    """Settings that one driver alone knows, e.g. `eip.transports.aws.SqsOptions`; other drivers ignore them."""

    __slots__ = ()


class DriverResource:
    """A resource that one driver alone knows; other drivers leave it out of their plans.

    A driver's frozen dataclass with a ``name`` inherits from it.
    """

    __slots__ = ()

    name: str
    kind: ClassVar[str]
    """For people, in a plan."""
    rank: ClassVar[int] = 0
    """Among the driver's own resources, the lower is made first; below 0: before subscriptions and rules."""

    @property
    def container(self) -> tuple[type, str] | None:
        """Type and name of what it is a part of, where its undeclared neighbours count as drift."""
        return None


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A queue and its dead-letter queue; FIFO if the name ends in ``.fifo``.

    Args:
        name: of the queue.
        visibility: duration of a lease, in seconds.
        retention: how long messages are kept.
        dead_letters: True declares a dead-letter queue ``name-dead`` with it, which keeps messages for 14 days; a name
            refers to a queue that is declared; False means none.
        max_receive_count: receives after which a message moves to the dead-letter queue.
        content_based_deduplication: drop a message without a deduplication id if one with the same body was sent within
            five minutes, instead of one with the same id. FIFO queues only.
        deduplication_scope: ``"group"``: the same id in two message groups is two messages, and the groups do not share
            a limit of throughput (SQS: high throughput mode). FIFO queues only.
        max_message_bytes: a larger message, attributes included, is refused; default: as the service has it.
        tags: key and value, for services that know them; other tags of the queue stay. Its dead-letter queue has the
            same.
        options: what one driver alone knows; its dead-letter queue has the same.

    Raises:
        ConfigurationError: a value out of range. A driver refuses what its service does not take when it plans.
    """

    name: str
    visibility: float = 30.0
    retention: timedelta = timedelta(days=4)
    dead_letters: str | bool = True
    max_receive_count: int = 5
    content_based_deduplication: bool = False
    deduplication_scope: DeduplicationScope = "channel"
    max_message_bytes: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    options: Sequence[DriverOptions] = field(default=(), hash=False)

    def __post_init__(self) -> None:
        """Validate the parameters."""
        check_name(self.name)
        check_type("dead_letters", self.dead_letters, (str, bool), "a name or a bool")
        if isinstance(self.dead_letters, str):
            check_name(self.dead_letters, "dead_letters")
        if self.visibility <= 0:
            raise ConfigurationError(f"visibility must be positive, got {self.visibility}")
        if self.retention <= timedelta():
            raise ConfigurationError(f"retention must be positive, got {self.retention}")
        if self.max_receive_count < 1:
            raise ConfigurationError(f"max_receive_count must be >= 1, got {self.max_receive_count}")
        if isinstance(self.dead_letters, str) and is_fifo(self.dead_letters) != self.fifo:
            raise ConfigurationError(
                f"dead_letters of {self.name} must be {'FIFO' if self.fifo else 'standard'} as the queue is, "
                f"got {self.dead_letters!r}"
            )
        _check_deduplication(self.name, by_content=self.content_based_deduplication, scope=self.deduplication_scope)
        if self.max_message_bytes is not None:
            check_integer("max_message_bytes", self.max_message_bytes, least=1)
        check_extras(self.tags, self.options)

    @property
    def fifo(self) -> bool:
        """Whether it is FIFO."""
        return is_fifo(self.name)

    @property
    def dead_letter_name(self) -> str | None:
        """The name of its dead-letter queue; None if it has none."""
        if isinstance(self.dead_letters, str):
            return self.dead_letters
        return suffixed(self.name, "dead") if self.dead_letters else None


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic; FIFO if the name ends in ``.fifo``.

    Args:
        name: of the topic.
        content_based_deduplication: as of a `QueueSpec`. FIFO topics only.
        deduplication_scope: as of a `QueueSpec`. FIFO topics only.
        tags: as of a `QueueSpec`.
        options: what one driver alone knows, e.g. `eip.transports.aws.SnsOptions`.

    Raises:
        ConfigurationError: deduplication options of a standard topic.
    """

    name: str
    content_based_deduplication: bool = False
    deduplication_scope: DeduplicationScope = "channel"
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    options: Sequence[DriverOptions] = field(default=(), hash=False)

    def __post_init__(self) -> None:
        """Validate the parameters."""
        check_name(self.name)
        _check_deduplication(self.name, by_content=self.content_based_deduplication, scope=self.deduplication_scope)
        check_extras(self.tags, self.options)


@dataclass(frozen=True, slots=True)
class SubscriptionSpec:
    """A topic's messages in a queue of their own, which `eip.Topic.subscription` reads.

    Args:
        topic: the name of a declared topic, or the address of one that others declare (an ARN).
        name: of the subscription. Its queue is called ``topic-name`` unless ``queue`` has another name.
        filter: which messages pass. The service evaluates it where it decides exactly the same, otherwise the consumer.
        raw: deliver messages as sent, without the service's wrapping.
        queue: the queue and its options; default: those of `QueueSpec`.
        dead_letters: keep what the topic cannot deliver in the queue ``topic-name-undelivered``.
    """

    topic: str
    name: str
    filter: Filter | None = field(default=None, compare=False)
    raw: bool = True
    queue: QueueSpec | None = None
    dead_letters: bool = True

    def __post_init__(self) -> None:
        """Validate the parameters."""
        check_name(self.topic, "topic")
        check_name(self.name)

    @property
    def target(self) -> QueueSpec:
        """The queue that it delivers to."""
        return self.queue or QueueSpec(suffixed(self._topic_name, self.name))

    @property
    def undelivered_name(self) -> str | None:
        """The name of the queue for what the topic cannot deliver; None if there is none."""
        return suffixed(self._topic_name, f"{self.name}-undelivered") if self.dead_letters else None

    @property
    def _topic_name(self) -> str:
        """The topic's name, where it is given by its address."""
        return self.topic.rpartition(":")[2]


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream.

    Args:
        name: of the stream.
        shards: the number of shards; None lets the service scale them ("on demand").
        retention: how long records are kept: 24 hours to 365 days, in whole hours.
        tags: as of a `QueueSpec`.
        options: what one driver alone knows, e.g. `eip.transports.aws.KinesisOptions`.

    Raises:
        ConfigurationError: a value out of range.
    """

    name: str
    shards: int | None = 1
    retention: timedelta = timedelta(hours=24)
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    options: Sequence[DriverOptions] = field(default=(), hash=False)

    def __post_init__(self) -> None:
        """Validate the parameters."""
        check_name(self.name)
        if self.shards is not None and self.shards < 1:
            raise ConfigurationError(f"shards must be >= 1 or None, got {self.shards}")
        shortest, longest = _STREAM_RETENTION
        if not shortest <= self.retention <= longest or self.retention % timedelta(hours=1):
            raise ConfigurationError(f"retention must be 24 hours to 365 days, in whole hours, got {self.retention}")
        check_extras(self.tags, self.options)


def check_extras(tags: Any, options: Any) -> None:
    """Validate the tags and options of a specification."""
    if not isinstance(tags, Mapping) or not all(isinstance(each, str) for pair in tags.items() for each in pair):
        raise TypeError(f"tags must be a mapping of strings to strings, got {tags!r}")
    if not isinstance(options, (list, tuple)) or not all(isinstance(each, DriverOptions) for each in options):
        raise TypeError(f"options must be a list of options of drivers, e.g. [SqsOptions(...)], got {options!r}")


def _check_deduplication(name: str, *, by_content: bool, scope: DeduplicationScope) -> None:
    check_one_of("deduplication_scope", scope, ("channel", "group"))
    if scope == "group" and not is_fifo(name):
        raise ConfigurationError(
            f"deduplication_scope='group' needs a FIFO queue or topic, whose name ends in .fifo, got {name!r}"
        )
    if by_content and not is_fifo(name):
        raise ConfigurationError(
            f"content_based_deduplication needs a FIFO queue or topic, whose name ends in .fifo, got {name!r}"
        )
