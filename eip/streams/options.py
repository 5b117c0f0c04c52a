"""How a group reads its stream."""

from __future__ import annotations

from dataclasses import dataclass

from eip.errors import ConfigurationError
from eip.limits import MIB

__all__ = ["GroupOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOptions:
    """The options of a group, the same for all of its workers; times in seconds.

    Args:
        failover: a shard whose lease was not renewed for so long is taken over; renewed every third of it.
        checkpoint_every: how often progress is written; what was done since is done again after a crash.
        hand_off: how long a shard that is handed over may take to finish what is being handled; then that is cancelled.
        discover_every: how often the list of shards is read again, beside when a shard ends.
        read_ahead: records of a shard that are held in memory, read and not yet done.
        read_ahead_bytes: the same in bytes of data; what one call brings is added whole.
        report_every: how often the iterator age is logged.
    """

    failover: float = 10.0
    checkpoint_every: float = 1.0
    hand_off: float = 30.0
    discover_every: float = 30.0
    read_ahead: int = 10_000
    read_ahead_bytes: int = 8 * MIB
    report_every: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        times = (self.failover, self.checkpoint_every, self.hand_off, self.discover_every, self.report_every)
        if min(times) <= 0 or self.read_ahead < 1 or self.read_ahead_bytes < 1:
            raise ConfigurationError("the times of a group are more than 0, and it reads at least a record ahead")
        if self.checkpoint_every > self.failover / 3:
            raise ConfigurationError("progress is written at least three times in a failover")

    @property
    def beat(self) -> float:
        """Seconds between looks at what is held."""
        return self.checkpoint_every
