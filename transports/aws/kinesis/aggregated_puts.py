"""Putting many records as one: aggregates that keep the order of each shard.

A refused aggregate must not be overtaken by the next one of its shard, so there is one of a shard in a call, and what
comes after a failed one fails with it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import md5
from typing import Any, Final, Protocol

from eip.errors import ConnectionLost
from eip.limits import KIB
from eip.streams import Shard
from eip.transports._capabilities import KINESIS
from eip.transports.aws._client.errors import entry_error
from eip.transports.aws._entry_queue import Entry, Outcome
from eip.transports.aws.kinesis.aggregation import AggregatedRecord

__all__ = ["AGGREGATED_ENTRIES", "AggregatedPuts", "PutRecords", "outcome_of"]

_AGGREGATE_BYTES: Final = 250 * KIB
"""Large enough to fill what is billed, small enough for a shard's megabyte a second."""
AGGREGATED_ENTRIES: Final = 10_000
"""Messages that one call of `AggregatedPuts.put` takes."""
_MAX_KNOWN: Final = 10_000
"""Keys whose shards are remembered."""


class PutRecords(Protocol):
    """One call of PutRecords; returns the answer for each record."""

    async def __call__(self, records: Sequence[dict[str, Any]], *, messages: int) -> list[dict[str, Any]]:
        """Put records that hold so many messages."""
        ...


class _Misplaced(ConnectionLost):
    """The stream was resharded: the aggregate is in a shard that is not its record's, where its readers drop it."""


class AggregatedPuts:
    """Puts entries as aggregates.

    Args:
        put_records: makes the call.
        list_shards: of the stream, closed ones included.
    """

    def __init__(self, put_records: PutRecords, list_shards: Callable[[], Awaitable[Sequence[Shard]]]) -> None:
        self._put_records, self._list_shards = put_records, list_shards
        self._shards: list[tuple[int, int, str]] = []
        """The open shards, as last seen: first and last hash key, and id."""
        self._starts: list[int] = []
        """Their first hash keys."""
        self._known: dict[str, tuple[int, int, str]] = {}
        """Shards by keys that come again."""

    async def put(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        """Put the entries; returns the outcome of each."""
        outcomes: list[Outcome] = [None] * len(entries)
        if not self._shards:
            await self._look_at_shards()
        per_shard: dict[str, list[_Bundle]] = {}
        for place, entry in enumerate(entries):
            first, _, shard = self._shard_of(entry)
            bundles = per_shard.setdefault(shard, [])
            if not bundles or not bundles[-1].add(place, entry):
                bundles.append(_Bundle(shard, first, place, entry))
        while per_shard:
            turn = [bundles.pop(0) for bundles in per_shard.values()][: KINESIS.batch_entries]
            await self._put_bundles(turn, entries, outcomes)
            for bundle in turn:
                failure = next((outcomes[place] for place in bundle.places if outcomes[place] is not None), None)
                if failure is not None:  # what comes after it in its shard must not overtake it
                    for later in per_shard[bundle.shard]:
                        for place in later.places:
                            outcomes[place] = failure
                    per_shard[bundle.shard].clear()
            per_shard = {shard: bundles for shard, bundles in per_shard.items() if bundles}
        return outcomes

    async def _put_bundles(self, bundles: Sequence[_Bundle], entries: Sequence[Entry], outcomes: list[Outcome]) -> None:
        """One call; notes the outcome of each entry."""
        try:
            answers = await self._put_records(
                [bundle.record(entries) for bundle in bundles],
                messages=sum(len(bundle.places) for bundle in bundles),
            )
        except Exception as error:  # noqa: BLE001 - the outcome of each
            for bundle in bundles:
                for place in bundle.places:
                    outcomes[place] = error
            return
        moved = False
        for bundle, answer in zip(bundles, answers, strict=True):
            outcome = outcome_of(answer)
            elsewhere = outcome is None and answer["ShardId"] != bundle.shard
            if elsewhere and not moved:
                moved = True
                await self._look_at_shards()
            for place in bundle.places:
                misplaced = elsewhere and self._shard_of(entries[place])[2] != answer["ShardId"]
                outcomes[place] = _Misplaced("the stream was resharded") if misplaced else outcome

    async def _look_at_shards(self) -> None:
        shards = [each for each in await self._list_shards() if not each.closed]
        self._shards = sorted((each.first_hash, each.last_hash, each.id) for each in shards)
        self._starts = [first for first, _, _ in self._shards]
        self._known.clear()

    def _shard_of(self, entry: Entry) -> tuple[int, int, str]:
        if (chosen := entry.payload.get("ExplicitHashKey")) is not None:
            return self._shard_at(int(chosen))
        key: str = entry.payload["PartitionKey"]
        if (shard := self._known.get(key)) is not None:
            return shard
        shard = self._shard_at(int.from_bytes(md5(key.encode(), usedforsecurity=False).digest(), "big"))
        if entry.group is not None:  # otherwise the key is the message's own id
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[key] = shard
        return shard

    def _shard_at(self, hashed: int) -> tuple[int, int, str]:
        return self._shards[bisect_right(self._starts, hashed) - 1]


class _Bundle:
    """Entries for one shard that go as one record."""

    __slots__ = ("_aggregate", "_first_hash", "places", "shard")

    def __init__(self, shard: str, first_hash: int, place: int, entry: Entry) -> None:
        self.shard, self._first_hash = shard, first_hash
        self.places: list[int] = []
        self._aggregate = AggregatedRecord(_AGGREGATE_BYTES)
        self.add(place, entry)

    def add(self, place: int, entry: Entry) -> bool:
        """Take the entry in, where it fits."""
        payload = entry.payload
        if not self._aggregate.add(payload["PartitionKey"], payload.get("ExplicitHashKey"), payload["Data"]):
            return False
        self.places.append(place)
        return True

    def record(self, entries: Sequence[Entry]) -> dict[str, Any]:
        """As it is put: an aggregate into its shard, or the one entry as it is."""
        first = entries[self.places[0]].payload
        if len(self.places) == 1:
            return first
        return {
            "Data": self._aggregate.encode(),
            "PartitionKey": first["PartitionKey"],
            "ExplicitHashKey": str(self._first_hash),
        }


def outcome_of(answer: Mapping[str, Any]) -> Outcome:
    """The outcome of a record that was put."""
    if not answer.get("ErrorCode"):
        return None
    return entry_error("kinesis", "PutRecords", answer)
