"""The report of `eip.streams.diagnosis.diagnose`, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Diagnosis", "Finding", "GroupLag", "KeyShare", "ShardLoad"]

Finding: TypeAlias = Literal[
    "healthy", "idle", "hot key", "hot shard", "too few shards", "slow consumer", "stuck shard"
]
"""The fault, or ``healthy``; ``idle``: nothing came."""


class KeyShare(NamedTuple):
    """A key, and its part of a shard's records, from 0 to 1."""

    key: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardLoad:
    """The load of a shard."""

    shard: str
    records: int
    """Messages, those in aggregates each."""
    puts: int
    """Records as the service counts them."""
    size: int
    """Bytes of data."""
    seconds: float
    """Of the sample."""
    keys: tuple[KeyShare, ...] = ()
    """The most frequent."""
    use: float | None = None
    """The part that it gets of what a shard takes (Kinesis: 1,000 records and 1 MiB a second); None: not known."""

    @property
    def records_per_second(self) -> float:
        """Messages."""
        return self.records / self.seconds

    @property
    def puts_per_second(self) -> float:
        """Records as the service counts them."""
        return self.puts / self.seconds

    @property
    def bytes_per_second(self) -> float:
        """Of data."""
        return self.size / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLag:
    """How late a group is."""

    group: str
    ages: Mapping[str, float]
    """The iterator age by shard, in seconds, up to a checkpoint interval too high; without shards that are done."""
    workers: int
    """Those that hold a shard."""
    finding: Finding = "healthy"

    @property
    def age(self) -> float:
        """The highest of its iterator ages."""
        return max(self.ages.values(), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A report on a stream and the groups that read it."""

    stream: str
    shards: tuple[ShardLoad, ...]
    groups: tuple[GroupLag, ...]
    finding: Finding
    advice: str
    """The advice, in one sentence."""
