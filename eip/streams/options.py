"""How a group reads its stream."""

from __future__ import annotations

from dataclasses import dataclass, fields

from eip._checks import check_duration, check_integer
from eip.errors import ConfigurationError
from eip.limits import MIB

__all__ = ["GroupOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOptions:
    """The options of a group, the same for all of its workers; durations in seconds.

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

    failover: float = 10.0
    checkpoint_interval: float = 1.0
    hand_off_timeout: float = 30.0
    discovery_interval: float = 30.0
    max_read_ahead: int = 10_000
    max_read_ahead_bytes: int = 8 * MIB
    report_interval: float = 60.0

    def __post_init__(self) -> None:
        """Validate the options."""
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name.startswith("max_"):
                check_integer(each.name, value, least=1)
            else:
                check_duration(each.name, value, positive=True)
        if self.checkpoint_interval > self.failover / 3:
            raise ConfigurationError(
                f"checkpoint_interval must be at most failover / 3 = {self.failover / 3:g}, got "
                f"{self.checkpoint_interval}"
            )
