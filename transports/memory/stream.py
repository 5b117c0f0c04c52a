"""The embedded stream: a partitioned log that groups of consumers read on their own, again if they wish."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from eip import clock
from eip.channels import Receiver, Sender, Source, Stream
from eip.errors import ConfigurationError, MessageTooLarge
from eip.limits import MIB, Limits
from eip.message import Message
from eip.metering import Meter
from eip.transports.memory._store import Entry, Store, StoreReceiver

__all__ = ["MemoryGroup", "MemoryStream", "Record", "Start"]

Start: TypeAlias = Literal["latest", "trim_horizon"] | float
"""Where a new group begins: with what comes, with the oldest there is, or at a time (seconds since the epoch)."""

_WINDOW: Final = 1000
"""Records that a group reads ahead of its checkpoint."""


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

    capacity: int
    records: deque[Record] = field(default_factory=deque)
    trimmed: int = 0
    """How many records fell out: the position of the oldest that is left."""

    @property
    def end(self) -> int:
        """The position after the newest record."""
        return self.trimmed + len(self.records)

    def append(self, record: Record) -> None:
        self.records.append(record)
        if len(self.records) > self.capacity:
            self.records.popleft()
            self.trimmed += 1

    def read(self, position: int, limit: int) -> Iterator[Record]:
        start = max(position - self.trimmed, 0)
        return islice(self.records, start, start + limit)

    def position_at(self, at: float) -> int:
        """The position of the first record that arrived at a time or later."""
        return self.trimmed + bisect_left(self.records, at, key=lambda record: record.at)


class MemoryStream(Stream):
    """A stream in this process: records of one key (the message's group) are in one shard, in order.

    Records stay, read or not, until ``capacity`` newer ones of their shard push them out.
    """

    limits = Limits(message_bytes=1 * MIB)

    def __init__(
        self, name: str, *, address: str, shards: int = 4, capacity: int = 100_000, meter: Meter | None = None
    ) -> None:
        if shards < 1 or capacity < 1:
            raise ConfigurationError("a stream has at least one shard, and a shard room for one record")
        self.name, self.address = name, address
        self._shards = [_Shard(capacity) for _ in range(shards)]
        self._sequence = 0
        self.meter = meter
        self._groups: dict[str, MemoryGroup] = {}

    @property
    def shards(self) -> int:
        """How many shards it has."""
        return len(self._shards)

    def shard_of(self, key: str) -> int:
        """The shard of a key: its MD5 in equal ranges, as Kinesis does."""
        digest = int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest(), "big")
        return digest * len(self._shards) >> 128

    def records(self, shard: int, *, since: float = 0.0) -> list[Record]:
        """The shard's records that arrived at a time (seconds since the epoch) or later."""
        log = self._shards[shard]
        return list(log.read(log.position_at(since), len(log.records)))

    async def send(self, *messages: Message[Any]) -> None:
        """Append the messages. See `Sender.send`."""
        sealed = [message.sealed() for message in messages]
        for message in sealed:
            if len(message.encode()) > 1 * MIB:
                raise MessageTooLarge(len(message.encode()), 1 * MIB, channel=self.name)
        if self.meter is not None:
            size = sum(len(message.raw or b"") for message in sealed)
            self.meter.record("memory", self.name, "send", messages=len(sealed), size=size, units=0)
        now = clock.now()
        for message in sealed:
            self._sequence += 1
            shard = self._shards[self.shard_of(message.group_id or message.id)]
            shard.append(Record(self._sequence, now, message))
        for group in self._groups.values():
            group.read_ahead()

    def group(
        self, name: str, *, start: Start = "latest", visibility: float = 30.0, dead_letters: Sender | None = None
    ) -> MemoryGroup:
        """The stream as read by the named group; ``start`` counts where the group is new.

        ``visibility`` is the lease of a record in seconds, ``dead_letters`` where consumers send what they give up.
        """
        if name not in self._groups:
            self._groups[name] = MemoryGroup(self, name, start, visibility, dead_letters)
        return self._groups[name]

    def close(self) -> None:
        """Stop the timers of its groups."""
        for group in self._groups.values():
            group.store.close()

    def __repr__(self) -> str:
        return f"<MemoryStream {self.name} shards={self.shards} groups={len(self._groups)}>"


class MemoryGroup(Source):
    """One group's progress: what it has read of each shard, and up to where all of that is done (its checkpoint)."""

    def __init__(
        self, stream: MemoryStream, name: str, start: Start, visibility: float, dead_letters: Sender | None
    ) -> None:
        self.name = f"{stream.name}/{name}"
        self.dead_letters = dead_letters
        self.skipped = 0
        """Records that fell out of the stream before the group read them."""
        self._shards = stream._shards  # noqa: SLF001 - a group is a part of its stream
        self._meter = stream.meter
        self._read = [_position(shard, start) for shard in self._shards]
        self._undone: list[dict[int, Record]] = [{} for _ in self._shards]
        """Per shard, by position: what was read and is not done yet."""
        self._places: dict[str, list[tuple[int, int]]] = {}
        self.store = Store(fifo=True, visibility=visibility)
        self.store.on_removed = self._done
        self.read_ahead()

    @property
    def checkpoints(self) -> list[int]:
        """Per shard, the position up to which every record is done."""
        return [min(undone, default=read) for undone, read in zip(self._undone, self._read, strict=True)]

    @property
    def iterator_age(self) -> float:
        """Seconds since the arrival of the oldest record that is not done; 0 where all are."""
        oldest = [next(iter(undone.values())).at for undone in self._undone if undone]
        return clock.now() - min(oldest) if oldest else 0.0

    def seek(self, start: Start) -> None:
        """Read again from a place; what is on lease then is handled besides."""
        self._read = [_position(shard, start) for shard in self._shards]
        self.read_ahead()

    def receiver(self, *, capacity: int = 10) -> Receiver:
        """A receiver; any number may share the group."""
        return StoreReceiver(
            self.name, self.store, capacity=capacity, dead_letters=self.dead_letters, meter=self._meter
        )

    def read_ahead(self) -> None:
        """Read on, as far as the window allows."""
        for number, shard in enumerate(self._shards):
            if self._read[number] < shard.trimmed:
                self.skipped += shard.trimmed - self._read[number]
                self._read[number] = shard.trimmed
            room = _WINDOW - self.store.size
            for record in list(shard.read(self._read[number], max(room, 0))):
                position = self._read[number]
                self._read[number] += 1
                self._undone[number][position] = record
                self._places.setdefault(record.message.id, []).append((number, position))
                self.store.put(_located(record, number))

    def _done(self, entry: Entry) -> None:
        places = self._places[entry.message.id]
        number, position = places.pop(0)
        if not places:
            del self._places[entry.message.id]
        self._undone[number].pop(position, None)
        self.read_ahead()


def _position(shard: _Shard, start: Start) -> int:
    if start == "latest":
        return shard.end
    return shard.trimmed if start == "trim_horizon" else shard.position_at(start)


def _located(record: Record, shard: int) -> Message[Any]:
    where = {"shard": str(shard), "sequence-number": str(record.sequence)}
    return record.message.replace(headers={**record.message.headers, **where})
