"""A stream whose records are whatever bytes a test puts there, read as the Kinesis driver reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from eip import clock
from eip.stores import MemoryStore
from eip.streams import Cursor, Log, Page, Position, Record, Shard, StreamGroup
from eip.transports.aws.kinesis.reading import ReadAhead, message_of

SHARD = "shardId-000000000000"


class ScriptedLog(Log):
    """One shard of service records; `failures` are raised by the next reads."""

    name = "s"

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.changed = asyncio.Event()
        self.failures: list[Exception] = []
        self.made = 0

    def put(self, *datas: bytes, key: str | None = None) -> None:
        for data in datas:
            number = len(self.records) + 1
            self.records.append(
                {
                    "Data": data,
                    "SequenceNumber": str(number),
                    "PartitionKey": f"k{number}" if key is None else key,
                    "ApproximateArrivalTimestamp": datetime.fromtimestamp(clock.now(), UTC),
                }
            )
        self.changed.set()

    def group(self, name: str = "g", **options: Any) -> StreamGroup:
        return StreamGroup(self, name, **{"leases": MemoryStore(), "start": "trim_horizon", **options})

    async def shards(self) -> Sequence[Shard]:
        return [Shard(SHARD)]

    def latest(self) -> Position:
        return Position(sequence=str(len(self.records)))

    def cursor(self, shard: str, position: Position, *, group: str) -> Cursor:
        return _ScriptedCursor(self, position)

    def message(self, shard: str, record: Record):
        return message_of(shard, record)


class _ScriptedCursor(Cursor):
    max_read = None  # it waits for records

    def __init__(self, log: ScriptedLog, position: Position) -> None:
        self._log, self._position = log, position
        self._next = int(position.sequence or 0) - (position.part is not None)
        self._ahead = ReadAhead()

    async def read(self, limit: int) -> Page:
        if not self._ahead:
            while self._log.failures or self._next >= len(self._log.records):
                if self._log.failures:
                    raise self._log.failures.pop(0)
                self._log.changed.clear()
                await self._log.changed.wait()
            self._ahead.fill(self._log.records[self._next : self._next + limit], self._position)
            self._next = min(self._next + limit, len(self._log.records))
        return Page(self._ahead.take(limit))


async def until(condition, *, within=300.0):
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.1)
