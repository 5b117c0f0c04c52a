"""The embedded stream: a partitioned log that groups of consumers read on their own, again if they wish."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from typing_extensions import override

from eip import clock
from eip._checks import check_integer, check_message, check_name
from eip.channels import Sender, Stream
from eip.errors import ConfigurationError, MessageTooLarge
from eip.message import Message
from eip.stores import MemoryStore
from eip.stores.base import Store
from eip.streams import GroupOptions, Position, Shard, Start, StreamGroup
from eip.telemetry.meter import Meter
from eip.transports._capabilities import KINESIS
from eip.transports.memory._lifetime import Lifetime
from eip.transports.memory._log import MemoryLog, Record, ShardLog

__all__ = ["MemoryStream"]

_HASH_KEYS: Final = 1 << 128
"""Of an MD5 digest."""


class MemoryStream(Stream):
    """A stream in this process: records of one key (the message's group) are in one shard, in order.

    Records stay, read or not, until ``capacity`` newer ones of their shard push them out.

    Args:
        name: the stream's.
        address: the same as a return address.
        lifetime: the transport's.
        shards: how many it has at first.
        capacity: how many records a shard keeps.
        meter: records what is sent and read; None: nothing is recorded.
    """

    system = "memory"

    limits = KINESIS

    def __init__(
        self,
        name: str,
        *,
        address: str,
        lifetime: Lifetime,
        shards: int = 4,
        capacity: int = 100_000,
        meter: Meter | None = None,
    ) -> None:
        check_integer("shards", shards, least=1)
        check_integer("capacity", capacity, least=1)
        self.name, self.address, self.capacity = name, address, capacity
        self._shards: dict[str, ShardLog] = {}
        edges = [_HASH_KEYS * number // shards for number in range(shards + 1)]
        for first, after in pairwise(edges):
            self._add(first, after - 1)
        self._open = sorted(self._shards.values(), key=lambda each: each.shard.first_hash)
        self._sequence = 0
        self._meter, self._lifetime = meter, lifetime
        self._groups: dict[str, StreamGroup] = {}
        self._leases = MemoryStore()

    @property
    def shards(self) -> tuple[Shard, ...]:
        """All its shards, the closed ones included, in the order they were made."""
        return tuple(each.shard for each in self._shards.values())

    @property
    def open_shards(self) -> int:
        """How many shards take records."""
        return len(self._open)

    def shard_of(self, key: str) -> str:
        """Return the id of the open shard of a key: by its MD5, as on Kinesis."""
        return self._of(key).shard.id

    def records(self, shard: str, *, since: float = 0.0) -> list[Record]:
        """Return the shard's records that arrived at a time (seconds since the epoch) or later."""
        log = self._shards[shard]
        return log.read(log.place(Position(at=since)), len(log.records))

    @override
    async def send(self, *messages: Message[Any]) -> None:
        """Append the messages. See `Sender.send`."""
        self._lifetime.check_open()
        for message in messages:
            check_message(message)
        sealed = [message.sealed() for message in messages]
        limit = self.limits.message_bytes or 0
        for message in sealed:
            if (size := len(message.encode())) > limit:
                raise MessageTooLarge(size, limit, channel=self.name)
        if self._meter is not None:
            total = sum(len(message.raw or b"") for message in sealed)
            self._meter.record("memory", self.name, "send", messages=len(sealed), size=total, units=0)
        now = clock.now()
        touched: dict[str, ShardLog] = {}
        for message in sealed:
            self._sequence += 1
            log = self._of(message.group_id or message.id)
            log.append(Record(self._sequence, now, message))
            touched[log.shard.id] = log
        for log in touched.values():
            log.changed.set()

    @override
    def group(
        self,
        name: str,
        *,
        start: Start = "latest",
        leases: Store | None = None,
        options: GroupOptions | None = None,
        dead_letters: Sender | None = None,
    ) -> StreamGroup:
        """Return the stream as the named group reads it; made, with its options, at the first call.

        Args:
            name: the group's.
            start: where a new group begins; ``latest`` means from this call on.
            leases: of the group's shards; default: in memory.
            options: see `eip.streams.GroupOptions`.
            dead_letters: gets the records that cannot be read or handled.
        """
        if check_name(name) not in self._groups:
            log = MemoryLog(
                self.name, self._shards, lifetime=self._lifetime, latest=lambda: self._sequence, meter=self._meter
            )
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
        """Close the shard and go on in two, each with half of its hash keys; return their ids."""
        log = self._opened(shard)
        first, last = log.shard.first_hash, log.shard.last_hash
        middle = (first + last) // 2
        return tuple(self._reshard([log], [(first, middle), (middle + 1, last)]))  # type: ignore[return-value]

    def merge(self, shard: str, adjacent: str) -> str:
        """Close two shards whose hash keys adjoin and go on in one; return its id."""
        logs = sorted((self._opened(shard), self._opened(adjacent)), key=lambda log: log.shard.first_hash)
        if logs[0].shard.last_hash + 1 != logs[1].shard.first_hash:
            raise ConfigurationError(f"the hash keys of merged shards must adjoin, got {shard} and {adjacent}")
        (merged,) = self._reshard(logs, [(logs[0].shard.first_hash, logs[1].shard.last_hash)])
        return merged

    def reshard(self, shards: int) -> None:
        """Split the widest shards, or merge the narrowest neighbours, until so many are open."""
        while len(self._open) < shards:
            self.split(max(self._open, key=lambda each: each.width).shard.id)
        while len(self._open) > max(shards, 1):
            left, right = min(pairwise(self._open), key=lambda pair: pair[0].width + pair[1].width)
            self.merge(left.shard.id, right.shard.id)

    def _reshard(self, parents: Sequence[ShardLog], ranges: Sequence[tuple[int, int]]) -> list[str]:
        ids = tuple(log.shard.id for log in parents)
        made = [self._add(first, last, parents=ids) for first, last in ranges]
        for log in parents:
            log.close()
        opened = [each for each in self._shards.values() if not each.shard.closed]
        self._open = sorted(opened, key=lambda each: each.shard.first_hash)
        return [each.shard.id for each in made]

    def _add(self, first: int, last: int, *, parents: tuple[str, ...] = ()) -> ShardLog:
        shard = Shard(f"shardId-{len(self._shards):012}", parents=parents, first_hash=first, last_hash=last)
        log = self._shards[shard.id] = ShardLog(shard, self.capacity)
        return log

    def _opened(self, shard: str) -> ShardLog:
        log = self._shards.get(shard)
        if log is None or log.shard.closed:
            raise ConfigurationError(f"{self.name} has no open shard {shard}")
        return log

    def _of(self, key: str) -> ShardLog:
        digest = int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest(), "big")
        return self._open[bisect_right(self._open, digest, key=lambda each: each.shard.first_hash) - 1]

    def __repr__(self) -> str:
        return f"<MemoryStream {self.name} shards={len(self._open)} groups={len(self._groups)}>"
