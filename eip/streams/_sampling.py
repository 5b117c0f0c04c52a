"""The reads of `diagnose`: the last records of each shard, and how far the groups are."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Final

from eip import clock
from eip.errors import ConfigurationError
from eip.streams._report import GroupLag, KeyShare, ShardLoad
from eip.streams.group import StreamGroup
from eip.streams.leases import Lease
from eip.streams.log import Cursor, Log, Page, Position, Record, Shard

__all__ = ["READER", "KeyCounts", "lag_of", "load_of"]

_PAGE: Final = 10_000
_MAX_WAIT_S: Final = 0.5
"""Seconds for a read of a cursor that waits for records: those that are there come at once."""
_MAX_READS: Final = 100
"""Of one shard: the service gives empty pages before it gives records."""
_MAX_KEYS: Final = 10_000
"""Counted at once, of a shard; the rarest half is forgotten beyond it."""
_TOP_KEYS: Final = 5
READER: Final = "eip-diagnosis"
"""Names these reads in the meter."""


class KeyCounts:
    """Counts keys in bounded memory; a key that is frequent is counted in full, or nearly."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._total = 0

    def add(self, key: str) -> None:
        """Count a record of the key."""
        self._counts[key] += 1
        self._total += 1
        if len(self._counts) > _MAX_KEYS:
            self._counts = Counter(dict(self._counts.most_common(_MAX_KEYS // 2)))

    def top(self) -> tuple[KeyShare, ...]:
        """The most frequent keys, with their share of all records."""
        return tuple(KeyShare(key, number / self._total) for key, number in self._counts.most_common(_TOP_KEYS))


async def load_of(log: Log, shard: Shard, *, window: float, max_records: int) -> ShardLoad:
    """The load of the last ``window`` seconds, of the first ``max_records`` of them where there are more."""
    now = clock.now()
    start = now - window
    keys, records, puts, size, last = KeyCounts(), 0, 0, 0, start
    cursor = log.cursor(shard.id, Position(at=start), group=READER)
    async with contextlib.aclosing(cursor):
        for _ in range(_MAX_READS):
            page = await _read(cursor, _PAGE)
            for record in page.records:
                if record.at > now or records >= max_records:
                    break
                keys.add(record.key)
                records, puts, size, last = records + 1, puts + record.last, size + record.size, record.at
            if records >= max_records or _is_end(page, _PAGE, now):
                break
    seconds = window if records < max_records else max(last - start, 1.0)
    return ShardLoad(
        shard=shard.id, records=records, puts=puts, size=size, seconds=seconds, keys=keys.top() if records else ()
    )


async def lag_of(log: Log, group: StreamGroup, shards: list[Shard]) -> GroupLag:
    """How old the oldest record is that the group has not done, by shard; raises where the group never read.

    It is read by ``log``: the group's own may be a registered consumer, of which a shard has one at a time.
    """
    table = await group.table()
    beginning = await table.find_beginning()
    if beginning is None:
        raise ConfigurationError(f"group must have read {log.name}, got {group.group!r}: nothing is known of it")
    leases = await table.load(each.id for each in shards)
    known = [leases.get(each.id) or Lease(shard=each.id, position=beginning.of(each.id)) for each in shards]
    open_leases = [each for each in known if not each.ended and each.shard not in beginning.skipped]
    ages = await asyncio.gather(*(_age(log, each) for each in open_leases))
    return GroupLag(
        group=group.group,
        ages=dict(zip((each.shard for each in open_leases), ages, strict=True)),
        workers=len({each.owner for each in open_leases if each.owner is not None}),
    )


async def _age(log: Log, lease: Lease) -> float:
    """Seconds since the arrival of the first record after the lease's position; 0 where there is none."""
    cursor = log.cursor(lease.shard, lease.position, group=READER)
    async with contextlib.aclosing(cursor):
        for _ in range(_MAX_READS):
            page = await _read(cursor, len(lease.ahead) + 1)
            first = next((each for each in page.records if each.name not in lease.ahead), None)
            if first is not None:
                return max(clock.now() - first.at, 0.0)
            if _is_end(page, 1, clock.now()):
                break
    return 0.0


async def _read(cursor: Cursor, limit: int) -> Page:
    """The next page; an empty one where nothing is there."""
    if not cursor.waits:
        return await cursor.read(limit)  # however slow the service is: no answer is not the same as no records
    try:
        async with asyncio.timeout(_MAX_WAIT_S):
            return await cursor.read(limit)
    except TimeoutError:
        return Page(())


def _is_end(page: Page, limit: int, now: float) -> bool:
    """Whether nothing is left that arrived until now."""
    if page.ended or (page.records and _last(page).at > now):
        return True
    return page.behind == 0 and len(page.records) < limit


def _last(page: Page) -> Record:
    return page.records[-1]
