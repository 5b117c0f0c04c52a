"""Why a group is late: a hot shard, a hot key, a slow consumer, or a shard that is stuck.

    report = await diagnose(aws.stream("clicks"), ["sessions", "billing"], window=60)
    print(report.finding, report.advice)

It reads the stream itself: the records of the last minute, by shard and key, and for each group the first record after
its checkpoint. So it needs no metrics service, and works on every stream; its reads count among those of the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from eip._checks import check_duration, check_integer, check_type
from eip.channels import Stream
from eip.clock import Duration
from eip.errors import ConfigurationError
from eip.streams._findings import conclude
from eip.streams._report import Diagnosis, Finding, GroupLag, KeyShare, ShardLoad
from eip.streams._sampling import READER, lag_of, load_of
from eip.streams.group import StreamGroup

__all__ = ["Diagnosis", "Finding", "GroupLag", "KeyShare", "ShardLoad", "diagnose"]

_MAX_WINDOW_S: Final = 86_400.0


async def diagnose(
    stream: Stream,
    groups: Collection[str | StreamGroup] = (),
    *,
    window: Duration = 60.0,
    max_age: Duration = 30.0,
    max_records: int = 50_000,
) -> Diagnosis:
    """Read the stream's latest records and the groups' checkpoints, and report what is wrong.

    A shard is hot that gets at least twice the mean of the others; a key is that has half of its shard. A group is late
    whose iterator age is above ``max_age``: because of a hot shard, where it is late there alone; because it is slow,
    where it is late at most shards.

    Args:
        stream: open shards of it are sampled.
        groups: that read it, by name; one whose leases are not where the stream keeps them by default: itself.
        window: how far back records are read, up to a day.
        max_age: above it a group is late.
        max_records: read of a shard, at most.

    Raises:
        TypeError: groups that are neither names nor groups of a stream.
        ConfigurationError: a group of another stream, one that never read, or a value out of range.
    """
    seconds = check_duration("window", window, positive=True, most=_MAX_WINDOW_S)
    late = check_duration("max_age", max_age)
    check_integer("max_records", max_records, least=1)
    found = _groups(stream, groups)
    log = _group(stream, READER).log
    shards = list(await log.shards())
    lags = await asyncio.gather(*(lag_of(log, each, shards) for each in found))
    loads = await asyncio.gather(
        *(load_of(log, each, window=seconds, max_records=max_records) for each in shards if not each.closed)
    )
    return conclude(log.name, loads, lags, limits=log.limits, max_age=late)


def _groups(stream: Stream, groups: Collection[str | StreamGroup]) -> list[StreamGroup]:
    check_type("groups", groups, Collection, "a collection of names or groups")
    if isinstance(groups, str):
        raise TypeError(f"groups must be a collection of names or groups, got {groups!r}")
    found = [_group(stream, each) if isinstance(each, str) else each for each in groups]
    for each in found:
        check_type("groups", each, StreamGroup, "names or groups of a stream")
        if each.log.name != stream.name:
            raise ConfigurationError(f"groups must be of the stream {stream.name}, got {each.name}")
    return found


def _group(stream: Stream, name: str) -> StreamGroup:
    group = stream.group(name)
    if not isinstance(group, StreamGroup):
        raise TypeError(f"stream must be one that is read by shards, got {stream!r}")
    return group
