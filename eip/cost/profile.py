"""The traffic that an advice is for."""

from __future__ import annotations

from dataclasses import dataclass

from eip.errors import ConfigurationError

__all__ = ["HOURS", "SECONDS", "Profile"]

HOURS = 730.0
"""Hours of a month, as AWS's calculator counts them."""
SECONDS = HOURS * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One flow of messages, from its producers to all of its consumers."""

    rate: float
    """Messages a second, the mean over the month."""
    size: int
    """Bytes of a message, attributes and envelope included."""
    peak: float = 1.0
    """The busiest second's rate, as a multiple of the mean: what quotas and shards are measured by."""
    shares: tuple[float, ...] = (1.0,)
    """Per consumer (a service that gets its own copy), the share of the messages that it wants: 0 to 1."""
    pollers: int = 1
    """Processes of each consumer that poll."""
    ordered: bool = False
    """Whether messages of one key must stay in order."""
    groups: int = 1000
    """Keys whose messages are in order, where they are."""
    kinds: int = 1
    """Different values of what is filtered on: only messages of one kind share a pack."""
    retention_days: float = 4.0
    """How long a message must be kept for a consumer that is down."""
    replay: bool = False
    """Whether consumers must be able to read again what they have handled."""
    targets: int | None = None
    """Endpoints that get messages; default: one per consumer."""
    batch: float | None = None
    """Messages that a call carries on average; default: what comes in 50 ms, at most as many as a call takes."""
    linger: float = 1.0
    """Seconds that a message may wait for its pack to fill."""
    compression: float = 3.0
    """How many times smaller zstd makes a pack's messages, base64 included; measure yours."""
    function_seconds: float | None = None
    """Seconds that an invocation takes of the Lambda function that consumes; None: consumers are not functions."""
    function_memory: int = 128
    """MB of it."""
    function_batch: float = 1.0
    """Messages of an invocation, on average."""

    def __post_init__(self) -> None:
        """Validate the parameters."""
        if self.rate <= 0 or self.size < 1 or self.peak < 1:
            raise ConfigurationError("a profile wants rate > 0, size >= 1 byte and peak >= 1")
        if not self.shares or not all(0 <= share <= 1 for share in self.shares):
            raise ConfigurationError("there is a consumer, and the share that each wants is from 0 to 1")
        if min(self.pollers, self.groups, self.kinds) < 1 or self.retention_days < 0 or self.linger < 0:
            raise ConfigurationError("pollers, groups and kinds are at least 1; retention and linger not negative")
        if (self.batch is not None and self.batch < 1) or self.compression < 1:
            raise ConfigurationError("batch and compression are at least 1")
        if self.function_batch < 1:
            raise ConfigurationError(f"function_batch must be at least 1, got {self.function_batch!r}")

    @property
    def consumers(self) -> int:
        """Services that get their own copy."""
        return len(self.shares)

    @property
    def endpoints(self) -> int:
        """Where messages are delivered to."""
        return self.consumers if self.targets is None else max(self.targets, self.consumers)

    @property
    def messages(self) -> float:
        """A month's messages."""
        return self.rate * SECONDS

    @property
    def busiest(self) -> float:
        """Messages of the busiest second."""
        return self.rate * self.peak

    def gathered(self, rate: float, max_batch: int) -> float:
        """Messages that a call carries, of so many a second."""
        return min(max_batch, self.batch if self.batch is not None else max(1.0, rate * _ROUND_TRIP))


_ROUND_TRIP = 0.05
"""Seconds in which calls gather messages by themselves: a slow call's time, and the age at which acks are sent."""
