"""How a group reads its stream."""

from __future__ import annotations

from dataclasses import dataclass

from eip._checks import check_duration, check_integer
from eip.clock import Duration
from eip.errors import ConfigurationError
from eip.limits import MIB

__all__ = ["GroupOptions"]


@dataclass(frozen=True, slots=True, init=False)
class GroupOptions:
    """The options of a group, the same for all of its workers; durations as seconds or timedelta, kept in seconds.

    Args:
        failover: a shard whose lease was not renewed for so long is taken over; renewed every third of it.
        checkpoint_interval: between writes of progress, at most a third of failover; what was done since the last is
            done again after a crash.
        hand_off_timeout: how long a shard that is handed over may take to finish what is being handled; then that is
            cancelled.
        discovery_interval: between reads of the list of shards; it is read also when a shard ends.
        max_read_ahead: records of a shard that are held in memory, read and not yet done.
        max_read_ahead_bytes: the same in bytes of data; what one call brings is added whole.
        report_interval: between log lines with the iterator age.

    Raises:
        TypeError: a value of the wrong type.
        ConfigurationError: a value out of range.
    """

    failover: float
    checkpoint_interval: float
    hand_off_timeout: float
    discovery_interval: float
    max_read_ahead: int
    max_read_ahead_bytes: int
    report_interval: float

    def __init__(
        self,
        *,
        failover: Duration = 10.0,
        checkpoint_interval: Duration = 1.0,
        hand_off_timeout: Duration = 30.0,
        discovery_interval: Duration = 30.0,
        max_read_ahead: int = 10_000,
        max_read_ahead_bytes: int = 8 * MIB,
        report_interval: Duration = 60.0,
    ) -> None:
        durations = {
            "failover": failover,
            "checkpoint_interval": checkpoint_interval,
            "hand_off_timeout": hand_off_timeout,
            "discovery_interval": discovery_interval,
            "report_interval": report_interval,
        }
        for name, duration in durations.items():
            object.__setattr__(self, name, check_duration(name, duration, positive=True))
        for name, count in (("max_read_ahead", max_read_ahead), ("max_read_ahead_bytes", max_read_ahead_bytes)):
            object.__setattr__(self, name, check_integer(name, count, least=1))
        if self.checkpoint_interval > self.failover / 3:
            raise ConfigurationError(
                f"checkpoint_interval must be at most failover / 3 = {self.failover / 3:g}, got {checkpoint_interval}"
            )
