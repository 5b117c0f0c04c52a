"""Queues, topics, subscriptions and streams, declared as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from eip._checks import check_name, check_type
from eip.channels import Filter
from eip.errors import ConfigurationError
from eip.topology.names import is_fifo, suffixed

__all__ = ["DEAD_LETTER_RETENTION", "QueueSpec", "StreamSpec", "SubscriptionSpec", "TopicSpec"]

DEAD_LETTER_RETENTION: Final = timedelta(days=14)
"""How long a dead-letter queue keeps messages unless it is declared otherwise: the longest that SQS knows."""
_STREAM_RETENTION: Final = (timedelta(hours=24), timedelta(days=365))


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

    Raises:
        ConfigurationError: a value out of range. A driver refuses what its service does not take when it plans.
    """

    name: str
    visibility: float = 30.0
    retention: timedelta = timedelta(days=4)
    dead_letters: str | bool = True
    max_receive_count: int = 5
    content_based_deduplication: bool = False

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
        _check_deduplication(self.name, by_content=self.content_based_deduplication)

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

    Raises:
        ConfigurationError: content-based deduplication of a standard topic.
    """

    name: str
    content_based_deduplication: bool = False

    def __post_init__(self) -> None:
        """Validate the parameters."""
        check_name(self.name)
        _check_deduplication(self.name, by_content=self.content_based_deduplication)


@dataclass(frozen=True, slots=True)
class SubscriptionSpec:
    """A topic's messages in a queue of their own, which `eip.Topic.subscription` reads.

    Args:
        topic: the name of a declared topic.
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
        return self.queue or QueueSpec(suffixed(self.topic, self.name))

    @property
    def undelivered_name(self) -> str | None:
        """The name of the queue for what the topic cannot deliver; None if there is none."""
        return suffixed(self.topic, f"{self.name}-undelivered") if self.dead_letters else None


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream.

    Args:
        name: of the stream.
        shards: the number of shards; None lets the service scale them ("on demand").
        retention: how long records are kept: 24 hours to 365 days, in whole hours.

    Raises:
        ConfigurationError: a value out of range.
    """

    name: str
    shards: int | None = 1
    retention: timedelta = timedelta(hours=24)

    def __post_init__(self) -> None:
        """Validate the parameters."""
        check_name(self.name)
        if self.shards is not None and self.shards < 1:
            raise ConfigurationError(f"shards must be >= 1 or None, got {self.shards}")
        shortest, longest = _STREAM_RETENTION
        if not shortest <= self.retention <= longest or self.retention % timedelta(hours=1):
            raise ConfigurationError(f"retention must be 24 hours to 365 days, in whole hours, got {self.retention}")


def _check_deduplication(name: str, *, by_content: bool) -> None:
    if by_content and not is_fifo(name):
        raise ConfigurationError(
            f"content_based_deduplication needs a FIFO queue or topic, whose name ends in .fifo, got {name!r}"
        )
