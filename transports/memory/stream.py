"""The embedded stream: a partitioned log that groups of consumers read on their own, again if they wish."""

from __future__ import annotations

import asyncio
import hashlib
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any, Final, NamedTuple

from eip import clock, limits
from eip.channels import Sender, Stream
from eip.errors import ConfigurationError, MessageTooLarge
from eip.message import Message
from eip.stores import MemoryStore
from eip.stores.base import Store
from eip.streams import Cursor, GroupOptions, Log, Page, Position, Shard, Start, StreamGroup
from eip.streams import Record as LogRecord
from eip.telemetry.meter import Meter

__all__ = ["MemoryStream", "Record"]

_HASHES: Final = 1 << 128


class Record(NamedTuple):
    """A message in a shard."""

    sequence: int
    """Grows within the stream."""
    at: float
    """When it arrived, seconds since the epoch."""
    message: Message[Any]


@dataclass(slots=True)
class _Shard:
    """A log; the oldest records fall out at its capacity."""

    about: Shard
    capacity: int
    records: deque[Record] = field(default_factory=deque)
    trimmed: int = 0
    """How many records fell out: the place of the oldest that is left."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def end(self) -> int:
        """The place after the newest record."""
        return self.trimmed + len(self.records)

    def append(self, record: Record) -> None:
        self.records.append(record)
        if len(self.records) > self.capacity:
            self.records.popleft()
            self.trimmed += 1

    def read(self, place: int, limit: int) -> list[Record]:
        start = max(place - self.trimmed, 0)
        return list(islice(self.records, start, start + limit))

    def place(self, position: Position) -> int:
        """The place of the first record after a position."""
        if position.sequence is not None:
            return self.trimmed + bisect_right(self.records, int(position.sequence), key=lambda each: each.sequence)
        if position.at is not None:
            return self.trimmed + bisect_left(self.records, position.at, key=lambda each: each.at)
        return self.trimmed


class MemoryStream(Stream):
    """A stream in this process: records of one key (the message's group) are in one shard, in order.

    Records stay, read or not, until ``capacity`` newer ones of their shard push them out.
    """

    limits = limits.KINESIS

    def __init__(
        self, name: str, *, address: str, shards: int = 4, capacity: int = 100_000, meter: Meter | None = None
    ) -> None:
        if shards < 1 or capacity < 1:
            raise ConfigurationError("a stream has at least one shard, and a shard room for one record")
        self.name, self.address, self.capacity = name, address, capacity
        self._shards: dict[str, _Shard] = {}
        edges = [_HASHES * number // shards for number in range(shards + 1)]
        for first, after in pairwise(edges):
            self._add(first, after - 1)
        self._open = sorted(self._shards.values(), key=lambda shard: shard.about.first_hash)
        self._sequence = 0
        self.meter = meter
        self._groups: dict[str, StreamGroup] = {}
        self._leases = MemoryStore()

    @property
    def shards(self) -> tuple[Shard, ...]:
        """All its shards, the closed ones included, in the order they were made."""
        return tuple(shard.about for shard in self._shards.values())

    @property
    def open_shards(self) -> int:
        """How many shards records go to."""
        return len(self._open)

    def shard_of(self, key: str) -> str:
        """The id of the open shard of a key: by its MD5, as Kinesis does."""
        return self._of(key).about.id

    def records(self, shard: str, *, since: float = 0.0) -> list[Record]:
        """The shard's records that arrived at a time (seconds since the epoch) or later."""
        log = self._shards[shard]
        return log.read(log.place(Position(at=since)), len(log.records))

    async def send(self, *messages: Message[Any]) -> None:
        """Append the messages. See `Sender.send`."""
        sealed = [message.sealed() for message in messages]
        limit = self.limits.message_bytes or 0
        for message in sealed:
            if (size := len(message.encode())) > limit:
                raise MessageTooLarge(size, limit, channel=self.name)
        if self.meter is not None:
            total = sum(len(message.raw or b"") for message in sealed)
            self.meter.record("memory", self.name, "send", messages=len(sealed), size=total, units=0)
        now = clock.now()
        touched: dict[str, _Shard] = {}
        for message in sealed:
            self._sequence += 1
            shard = self._of(message.group_id or message.id)
            shard.append(Record(self._sequence, now, message))
            touched[shard.about.id] = shard
        for shard in touched.values():
            shard.changed.set()

    def group(
        self,
        name: str,
        *,
        start: Start = "latest",
        leases: Store | None = None,
        options: GroupOptions | None = None,
        dead_letters: Sender | None = None,
    ) -> StreamGroup:
        """The stream as read by the named group; made, with its options, at the first call.

        ``start`` counts where the group is new, and from this call on; for the others see `eip.streams.StreamGroup`.
        """
        if name not in self._groups:
            log = _MemoryLog(self)
            begin = log.position(start)
            self._groups[name] = StreamGroup(
                log,
                name,
                leases=self._leases if leases is None else leases,
                start=begin,
                options=options,
                dead_letters=dead_letters,
            )
        return self._groups[name]

    def split(self, shard: str) -> tuple[str, str]:
        """Close the shard and go on in two, each with half of its hash keys; returns their ids."""
        log = self._opened(shard)
        first, last = log.about.first_hash, log.about.last_hash
        middle = (first + last) // 2
        return tuple(self._reshard([log], [(first, middle), (middle + 1, last)]))  # type: ignore[return-value]

    def merge(self, shard: str, adjacent: str) -> str:
        """Close two shards whose hash keys adjoin and go on in one; returns its id."""
        logs = sorted((self._opened(shard), self._opened(adjacent)), key=lambda log: log.about.first_hash)
        if logs[0].about.last_hash + 1 != logs[1].about.first_hash:
            raise ConfigurationError("only shards whose hash keys adjoin are merged")
        (merged,) = self._reshard(logs, [(logs[0].about.first_hash, logs[1].about.last_hash)])
        return merged

    def reshard(self, shards: int) -> None:
        """Split the widest shards, or merge the narrowest neighbours, until so many are open."""
        while len(self._open) < shards:
            self.split(max(self._open, key=_width).about.id)
        while len(self._open) > max(shards, 1):
            left, right = min(pairwise(self._open), key=lambda pair: _width(pair[0]) + _width(pair[1]))
            self.merge(left.about.id, right.about.id)

    def _reshard(self, parents: Sequence[_Shard], ranges: Sequence[tuple[int, int]]) -> list[str]:
        ids = tuple(log.about.id for log in parents)
        made = [self._add(first, last, parents=ids) for first, last in ranges]
        for log in parents:
            log.about = log.about._replace(closed=True)
            log.changed.set()
        opened = [shard for shard in self._shards.values() if not shard.about.closed]
        self._open = sorted(opened, key=lambda shard: shard.about.first_hash)
        return [shard.about.id for shard in made]

    def _add(self, first: int, last: int, *, parents: tuple[str, ...] = ()) -> _Shard:
        about = Shard(f"shardId-{len(self._shards):012}", parents=parents, first_hash=first, last_hash=last)
        shard = self._shards[about.id] = _Shard(about, self.capacity)
        return shard

    def _opened(self, shard: str) -> _Shard:
        log = self._shards.get(shard)
        if log is None or log.about.closed:
            raise ConfigurationError(f"{self.name} has no open shard {shard}")
        return log

    def _of(self, key: str) -> _Shard:
        digest = int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest(), "big")
        return self._open[bisect_right(self._open, digest, key=lambda shard: shard.about.first_hash) - 1]

    def __repr__(self) -> str:
        return f"<MemoryStream {self.name} shards={len(self._open)} groups={len(self._groups)}>"


def _width(shard: _Shard) -> int:
    return shard.about.last_hash - shard.about.first_hash


class _MemoryLog(Log):
    """A stream as its groups read it."""

    def __init__(self, stream: MemoryStream) -> None:
        self.name, self._stream = stream.name, stream

    async def shards(self) -> Sequence[Shard]:
        return self._stream.shards

    def latest(self) -> Position:
        return Position(sequence=str(self._stream._sequence))  # noqa: SLF001 - a part of its stream

    def cursor(self, shard: str, position: Position, *, group: str) -> Cursor:
        stream = self._stream
        return _MemoryCursor(stream._shards[shard], position, stream.meter, f"{stream.name}/{group}")  # noqa: SLF001

    def message(self, shard: str, record: LogRecord) -> tuple[Message[Any], Exception | None]:
        where = {"shard": shard, "sequence-number": record.sequence}
        message: Message[Any] = record.payload
        return message.replace(headers={**message.headers, **where}), None


class _MemoryCursor(Cursor):
    def __init__(self, shard: _Shard, position: Position, meter: Meter | None, channel: str) -> None:
        self._shard, self._place = shard, shard.place(position)
        self._meter, self._channel = meter, channel

    async def read(self, limit: int) -> Page:
        shard = self._shard
        while not (found := shard.read(self._place, limit)) and not shard.about.closed:
            shard.changed.clear()
            await shard.changed.wait()
        missed = max(shard.trimmed - self._place, 0)
        self._place += missed + len(found)
        behind = shard.records[-1].at - found[-1].at if found else 0.0
        ended = shard.about.closed and self._place >= shard.end
        records = [_logged(each) for each in found]
        if self._meter is not None:
            size = sum(each.size for each in records)
            self._meter.record("memory", self._channel, "receive", messages=len(records), size=size, units=0)
        return Page(records, behind, ended, missed)


def _logged(record: Record) -> LogRecord:
    message = record.message
    size = len(message.raw or b"")
    return LogRecord(str(record.sequence), message.group_id or message.id, record.at, size, message)
