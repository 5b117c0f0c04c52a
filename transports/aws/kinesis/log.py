"""A stream as its groups read it: shards, and polling by GetRecords."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from typing_extensions import override

from eip import clock
from eip.errors import EipError, Throttled
from eip.limits import MIB
from eip.message import Message
from eip.streams import Cursor, Log, Page, Position, Record, Shard
from eip.streams.log import ShardLimits
from eip.transports.aws._client.errors import IteratorExpired
from eip.transports.aws.kinesis.calls import StreamCalls
from eip.transports.aws.kinesis.fan_out import FanOutCursor
from eip.transports.aws.kinesis.reading import ReadAhead, checked_position, message_of, starting_at

__all__ = ["KinesisLog", "PollingCursor", "list_shards"]

_MAX_RECORDS: Final = 10_000
"""Records of a GetRecords."""


class KinesisLog(Log):
    """The log of a stream; ``fan_out``: each group is a registered consumer with its own throughput."""

    limits = ShardLimits(records=1000.0, bytes=float(MIB))
    """Of writing (Kinesis Data Streams Developer Guide, "Quotas and limits")."""

    def __init__(self, stream: StreamCalls, *, fan_out: bool) -> None:
        self.name, self.address, self.where = stream.name, stream.address, stream.where
        self._stream, self._fan_out = stream, fan_out

    @override
    async def shards(self) -> Sequence[Shard]:
        return await list_shards(self._stream)

    @override
    def latest(self) -> Position:
        """Now, by this machine's clock: so whoever reads on after a crash begins at the same record.

        In whole milliseconds, as the service notes arrivals.
        """
        return Position(at=math.floor(clock.now() * 1000) / 1000)

    @override
    def cursor(self, shard: str, position: Position, *, group: str) -> Cursor:
        if self._fan_out:
            return FanOutCursor(self._stream, shard, position, group=group)
        return PollingCursor(self._stream, shard, position, group=group)

    @override
    def message(self, shard: str, record: Record) -> tuple[Message[Any], Exception | None]:
        return message_of(shard, record, codec=self._stream.codec)


class PollingCursor(Cursor):
    """Polls a shard within its rates: at once while there is more, ever more slowly while nothing comes."""

    max_read = None  # its calls have their own bound, and its rates may let it wait for longer

    def __init__(self, stream: StreamCalls, shard: str, position: Position, *, group: str) -> None:
        self._stream, self._shard, self._position = stream, shard, position
        self._channel = f"{stream.name}/{group}"
        self._budget = stream.rates.of(shard)
        self._iterator: str | None = None
        self._pause = 0.0
        self._read_ahead = ReadAhead()
        self._behind = 0.0
        self._ended = False

    @override
    async def read(self, limit: int) -> Page:
        if self._read_ahead:
            return self._page(limit)
        if self._pause:
            await asyncio.sleep(self._pause)
        if self._iterator is None:
            self._iterator = await self._locate()
        await self._budget.wait()
        try:
            answer = await self._stream.call(
                "GetRecords",
                named=False,
                channel=self._channel,
                ShardIterator=self._iterator,
                Limit=max(1, min(limit, _MAX_RECORDS)),
                measure=_received,
                retry=False,
            )
        except IteratorExpired:
            self._iterator = None  # five minutes old, as nothing was read for so long; found again by the position
            return Page((), behind=None)
        except Throttled:
            self._budget.throttled()
            return Page((), behind=None)
        except EipError as error:
            if not getattr(error, "transient", False):
                self._iterator = None  # it may be of a stream that was deleted, and made again
            raise
        self._take_in(answer)
        return self._page(limit)

    def _take_in(self, answer: Mapping[str, Any]) -> None:
        """Note what came, all in one step, or nothing: an answer may be malformed."""
        received, behind = answer["Records"], answer["MillisBehindLatest"] / 1000
        self._read_ahead.fill(received, self._position)
        self._budget.spend(sum(len(each["Data"]) for each in received))
        if received:
            self._position = Position(sequence=received[-1]["SequenceNumber"])
        self._iterator = answer.get("NextShardIterator")
        self._behind = behind
        rate = self._stream.rates.rate
        self._pause = 0.0 if received or self._behind else min(max(2 * self._pause, 1 / rate.calls), rate.idle)
        self._ended = self._iterator is None

    def _page(self, limit: int) -> Page:
        records = self._read_ahead.take(limit)
        return Page(records, self._behind, ended=self._ended and not self._read_ahead)

    async def _locate(self) -> str:
        asked = starting_at(self._position)
        if "SequenceNumber" in asked:
            asked["StartingSequenceNumber"] = asked.pop("SequenceNumber")
        asked["ShardIteratorType"] = asked.pop("Type")
        with checked_position(self._channel, self._shard, self._position):
            answer = await self._stream.call("GetShardIterator", ShardId=self._shard, units=0, **asked)
        iterator: str = answer["ShardIterator"]
        return iterator


async def list_shards(stream: StreamCalls) -> list[Shard]:
    """All shards of the stream that still have records or get them."""
    found: list[Shard] = []
    answer = await stream.call("ListShards", units=0)
    while True:
        for each in answer["Shards"]:
            parents = tuple(each[name] for name in ("ParentShardId", "AdjacentParentShardId") if each.get(name))
            hashes = each["HashKeyRange"]
            closed = bool(each["SequenceNumberRange"].get("EndingSequenceNumber"))
            first, last = int(hashes["StartingHashKey"]), int(hashes["EndingHashKey"])
            found.append(Shard(each["ShardId"], parents, closed, first, last))
        if not answer.get("NextToken"):
            return found
        answer = await stream.call("ListShards", named=False, NextToken=answer["NextToken"], units=0)


def _received(answer: Mapping[str, Any]) -> tuple[int, int, int]:
    records = answer.get("Records") or ()
    return len(records), sum(len(each["Data"]) for each in records), 0
