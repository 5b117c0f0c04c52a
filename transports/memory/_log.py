"""The records of an embedded stream, as its groups read them."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from typing_extensions import override

from eip.message import Message
from eip.streams import Cursor, Log, Page, Position, Shard
from eip.streams import Record as LogRecord
from eip.telemetry.meter import Meter
from eip.transports.memory._lifetime import Lifetime

__all__ = ["MemoryLog", "Record", "ShardLog"]


class Record(NamedTuple):
    """A message in a shard."""

    sequence: int
    """Grows within the stream."""
    at: float
    """When it arrived, in seconds since the epoch."""
    message: Message[Any]


@dataclass(slots=True)
class ShardLog:
    """The records of a shard; the oldest are dropped at its capacity."""

    shard: Shard
    capacity: int
    records: deque[Record] = field(default_factory=deque)
    trimmed: int = 0
    """How many records were dropped: the place of the oldest that is left."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def end(self) -> int:
        """The place after the newest record."""
        return self.trimmed + len(self.records)

    @property
    def width(self) -> int:
        """How many hash keys it has, less one."""
        return self.shard.last_hash - self.shard.first_hash

    def append(self, record: Record) -> None:
        """Add a record; readers learn of it by `changed`, which the caller sets."""
        self.records.append(record)
        if len(self.records) > self.capacity:
            self.records.popleft()
            self.trimmed += 1

    def read(self, place: int, limit: int) -> list[Record]:
        """Return up to ``limit`` records from a place, or from the oldest that is left."""
        records, size = self.records, len(self.records)
        start = max(place - self.trimmed, 0)
        if start <= size // 2:
            return list(islice(records, start, start + limit))
        # From the newest, where most readers are: a deque is walked from its end.
        found = list(islice(reversed(records), max(size - start - limit, 0), max(size - start, 0)))
        found.reverse()
        return found

    def place(self, position: Position) -> int:
        """Return the place of the first record after a position."""
        if position.sequence is not None:
            return self.trimmed + bisect_right(self.records, int(position.sequence), key=lambda each: each.sequence)
        if position.at is not None:
            return self.trimmed + bisect_left(self.records, position.at, key=lambda each: each.at)
        return self.trimmed

    def close(self) -> None:
        """Let readers go on with its children once they have read it."""
        self.shard = self.shard._replace(closed=True)
        self.changed.set()


class MemoryLog(Log):
    """A stream as its groups read it.

    Args:
        name: the stream's.
        shards: all its shards, by id.
        lifetime: the transport's.
        latest: returns the sequence number of the newest record.
        meter: records what is read; None: nothing is recorded.
    """

    def __init__(
        self,
        name: str,
        shards: Mapping[str, ShardLog],
        *,
        lifetime: Lifetime,
        latest: Callable[[], int],
        meter: Meter | None,
    ) -> None:
        self.name, self._shards, self._latest, self._meter = name, shards, latest, meter
        self._lifetime = lifetime

    @override
    async def shards(self) -> Sequence[Shard]:
        self._lifetime.check_open()
        return tuple(each.shard for each in self._shards.values())

    @override
    def latest(self) -> Position:
        return Position(sequence=str(self._latest()))

    @override
    def cursor(self, shard: str, position: Position, *, group: str) -> Cursor:
        return _MemoryCursor(self._shards[shard], position, self._meter, f"{self.name}/{group}")

    @override
    def message(self, shard: str, record: LogRecord) -> tuple[Message[Any], Exception | None]:
        where = {"shard": shard, "sequence-number": record.sequence}
        message: Message[Any] = record.payload
        return message.replace(headers={**message.headers, **where}), None


class _MemoryCursor(Cursor):
    def __init__(self, log: ShardLog, position: Position, meter: Meter | None, channel: str) -> None:
        self._log, self._place = log, log.place(position)
        self._meter, self._channel = meter, channel

    waits = True
    max_read = None  # it waits for records

    @override
    async def read(self, limit: int) -> Page:
        log = self._log
        while not (found := log.read(self._place, limit)) and not log.shard.closed:
            log.changed.clear()
            await log.changed.wait()
        missed = max(log.trimmed - self._place, 0)
        self._place += missed + len(found)
        behind = log.records[-1].at - found[-1].at if found else 0.0
        ended = log.shard.closed and self._place >= log.end
        records = [_logged(each) for each in found]
        if self._meter is not None:
            size = sum(each.size for each in records)
            self._meter.record("memory", self._channel, "receive", messages=len(records), size=size, units=0)
        return Page(records, behind, ended, missed)


def _logged(record: Record) -> LogRecord:
    message = record.message
    size = len(message.raw or b"")
    return LogRecord(str(record.sequence), message.group_id or message.id, record.at, size, message)
