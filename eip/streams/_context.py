"""Shared by the parts of a worker: its name, its stream, its leases."""

from __future__ import annotations

from dataclasses import dataclass, field

from eip._ids import new_id
from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.errors import error_text
from eip.health import HealthTracker
from eip.streams.leases import LeaseTable
from eip.streams.log import Log
from eip.streams.options import GroupOptions

__all__ = ["WorkerContext"]

log = get_logger("eip.streams")
_repeated = RepeatedLines(log)


@dataclass(frozen=True, kw_only=True)
class WorkerContext:
    """A worker of a group, for its parts."""

    group: str
    log: Log
    table: LeaseTable
    options: GroupOptions
    id: str = field(default_factory=new_id)
    """The worker's name in leases."""
    health: HealthTracker = field(default_factory=HealthTracker)
    """Of its looks at leases and shards."""

    def info(self, event: str, shard: str, **fields: object) -> None:
        """Log what happened to a shard."""
        log.info(event, stream=self.log.name, group=self.group, shard=shard, **fields)

    def warn(self, event: str, shard: str, error: Exception) -> None:
        """Log what fails at a shard, and will be tried again; a repeated line is counted."""
        shards = {"shard": shard}
        _repeated.warning(event, stream=self.log.name, group=self.group, error=error_text(error), varying=shards)
