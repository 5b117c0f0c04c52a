"""A model of the Kinesis service for virtual time: the calls of a reader, with the service's documented rates."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from hashlib import md5
from typing import Any, Final

from eip import clock
from eip.codec import JSON
from eip.errors import Throttled
from eip.transports.aws.kinesis.rates import ReadRate, ReadRates

__all__ = ["KinesisModel"]

_CALLS: Final = 5
"""GetRecords a second and shard, for all readers together (Developer Guide, "Quotas and limits")."""
_ANSWER_S: Final = 0.010
_PUSH_S: Final = 0.070
"""Seconds until a pushed record arrives (Developer Guide, "Enhanced fan-out": about 70 ms)."""
_HASHES: Final = 1 << 128


class KinesisModel:
    """A stream, as `eip.transports.aws.kinesis.calls.StreamCalls`; records are kept for ever.

    Args:
        shards: how many.
    """

    name, address, where, codec = "clicks", "arn:aws:kinesis:model:0:stream/clicks", "a model", JSON

    def __init__(self, shards: int) -> None:
        self.rates = ReadRates(ReadRate())
        self._shards: list[list[dict[str, Any]]] = [[] for _ in range(shards)]
        self._changed = [asyncio.Event() for _ in range(shards)]
        self._read: list[deque[float]] = [deque(maxlen=_CALLS) for _ in range(shards)]
        self.throttled = 0
        """Calls that were refused."""

    def put(self, key: str, data: bytes) -> None:
        """Add a record."""
        shard = int.from_bytes(md5(key.encode()).digest(), "big") * len(self._shards) // _HASHES
        records = self._shards[shard]
        number = str(len(records) + 1)
        arrived = {"ApproximateArrivalTimestamp": clock.now()}
        records.append({"Data": data, "PartitionKey": key, "SequenceNumber": number, **arrived})
        self._changed[shard].set()

    async def call(self, operation: str, *, named: bool = True, channel: str = "", **asked: Any) -> dict[str, Any]:
        """Answer a call."""
        del named, channel
        await asyncio.sleep(_ANSWER_S)
        match operation:
            case "ListShards":
                return {"Shards": [self._about(number) for number in range(len(self._shards))]}
            case "GetShardIterator":
                return {"ShardIterator": f"{_number(asked)} {self._place(_number(asked), asked)}"}
            case "GetRecords":
                return self._records(*map(int, asked["ShardIterator"].split()))
            case "DescribeStreamConsumer":
                return {"ConsumerDescription": {"ConsumerStatus": "ACTIVE", "ConsumerARN": self.address}}
            case "SubscribeToShard":
                number = _number(asked)
                return {"EventStream": _Pushed(self, number, self._place(number, asked["StartingPosition"]))}
        raise NotImplementedError(operation)

    def report(self, group: str, operation: str, received: Sequence[Mapping[str, Any]]) -> None:
        """Take no note of what was pushed."""

    def _records(self, number: int, place: int) -> dict[str, Any]:
        times, now = self._read[number], clock.now()
        if len(times) == _CALLS and now - times[0] < 0.999:
            self.throttled += 1
            raise Throttled("Rate exceeded for shard")
        times.append(now)
        found = self._shards[number][place:]
        return {"Records": found, "NextShardIterator": f"{number} {place + len(found)}", "MillisBehindLatest": 0}

    async def pushed(self, number: int, place: int) -> AsyncIterator[dict[str, Any]]:
        """The events of a subscription."""
        while True:
            while len(self._shards[number]) == place:
                self._changed[number].clear()
                await self._changed[number].wait()
            await asyncio.sleep(_PUSH_S)
            found = self._shards[number][place:]
            place += len(found)
            yield {"SubscribeToShardEvent": {"Records": found, "ContinuationSequenceNumber": str(place)}}

    def _place(self, number: int, asked: Mapping[str, Any]) -> int:
        sequence = asked.get("SequenceNumber") or asked.get("StartingSequenceNumber")
        if sequence is not None:
            return int(sequence)
        time = asked.get("Timestamp")
        times = [each["ApproximateArrivalTimestamp"] for each in self._shards[number]]
        return 0 if time is None else bisect_left(times, time.timestamp())

    def _about(self, number: int) -> dict[str, Any]:
        edges = [_HASHES * each // len(self._shards) for each in (number, number + 1)]
        hashes = {"StartingHashKey": str(edges[0]), "EndingHashKey": str(edges[1] - 1)}
        return {"ShardId": f"shardId-{number:012}", "HashKeyRange": hashes, "SequenceNumberRange": {}}


class _Pushed:
    """The event stream of a subscription."""

    def __init__(self, model: KinesisModel, number: int, place: int) -> None:
        self._events = model.pushed(number, place)

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return self._events

    def close(self) -> None:
        """End it; nothing is open."""


def _number(asked: Mapping[str, Any]) -> int:
    return int(asked["ShardId"][-12:])
