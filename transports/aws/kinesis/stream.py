"""Amazon Kinesis Data Streams: records put in order per key, and read by groups.

Sources: Amazon Kinesis Data Streams Developer Guide and API Reference, 2026.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import md5
from typing import Any, Final, TypeAlias

from typing_extensions import override

from eip.channels import Sender, Stream
from eip.codec import JSON, Codec
from eip.envelope import encoded_for
from eip.errors import ConnectionLost, InvalidMessage, MessageTooLarge, StoreError
from eip.limits import KIB
from eip.message import Message
from eip.stores.base import Store
from eip.streams import GroupOptions, Start, StreamGroup
from eip.transports._capabilities import KINESIS
from eip.transports.aws._batching import BatchAccumulator, Entry, Outcome
from eip.transports.aws._client.errors import entry_error
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws.kinesis.aggregation import Aggregate
from eip.transports.aws.kinesis.log import KinesisLog, list_shards
from eip.transports.aws.kinesis.rates import ReadRates
from eip.transports.aws.kinesis.records import dump_record, to_partition_key

__all__ = ["LEASE_TABLE", "HashKey", "KinesisStream"]

LEASE_TABLE: Final = "eip-leases"
"""The DynamoDB table of the leases, where a group is given no store."""

HashKey: TypeAlias = Callable[[Message[Any]], int | None]
"""The explicit hash key of a message, 0 to 2**128 - 1; None: its partition key's MD5."""

_AGGREGATE: Final = 250 * KIB
"""Bytes of an aggregate: large enough to fill what is billed, small enough for a shard's megabyte a second."""
_AGGREGATED_ENTRIES: Final = 10_000
_ATTEMPTS: Final = 30
"""About a minute: a shard that is throttled holds its senders back before it fails them."""


class _Misplaced(ConnectionLost):
    """The stream was resharded: the aggregate is in a shard that is not its record's, where its readers drop it."""


class KinesisStream(Stream):
    """A stream; `AwsTransport.stream` makes it. It must exist: declare it with `eip.topology`.

    The partition key is the message's group, or its id where it has none; a digest of it where Kinesis takes no such
    key, see `eip.transports.aws.kinesis.records.to_partition_key`.
    """

    limits = KINESIS

    def __init__(
        self,
        client: ServiceClient,
        address: str,
        *,
        own: bool,
        aggregate: bool,
        hash_key: HashKey | None,
        rates: ReadRates,
        linger: float = 0.0,
        codec: Codec = JSON,
    ) -> None:
        self._client, self.address, self.rates, self.codec = client, address, rates, codec
        self.name = address.rpartition("/")[2]
        self._named: dict[str, str] = {"StreamName": self.name} if own else {"StreamARN": address}
        self._hash_key = hash_key
        self._shards: list[tuple[int, int, str]] = []
        """Of the open shards, as far as an aggregating sender knows them: first and last hash key, and id."""
        if aggregate:
            many = replace(self.limits, batch_entries=_AGGREGATED_ENTRIES)
            self._accumulator = BatchAccumulator(self._put_aggregated, many, linger=linger, attempts=_ATTEMPTS)
        else:
            # The service takes the records of a call in any order and refuses single ones: two of a key could swap.
            self._accumulator = BatchAccumulator(self._put, self.limits, linger=linger, attempts=_ATTEMPTS, per_group=1)

    @override
    async def send(self, *messages: Message[Any]) -> None:
        """Put the messages; see `Sender.send`.

        Those of one group are put one call after the other, or in one aggregate, so that a refused one is not
        overtaken by its retry. Throttling holds senders back for about a minute, then fails them.
        """
        entries = [self._entry(message) for message in messages]
        if entries:
            await self._accumulator.send(entries)

    @override
    def group(
        self,
        name: str,
        *,
        start: Start = "latest",
        leases: Store | None = None,
        options: GroupOptions | None = None,
        dead_letters: Sender | None = None,
        fan_out: bool = False,
    ) -> StreamGroup:
        """The stream as read by the named group; see `eip.streams.StreamGroup`.

        Leases are in the DynamoDB table ``eip-leases``, made at the first use, where no store is given. With
        ``fan_out`` the group is a registered consumer, billed by the hour and by volume.
        """
        return StreamGroup(
            KinesisLog(self, fan_out=fan_out),
            name,
            leases=self._lease_table if leases is None else leases,
            start=start,
            options=options,
            dead_letters=dead_letters,
        )

    async def flush(self) -> None:
        """Return when every message was accepted or has failed."""
        await self._accumulator.flush()

    async def aclose(self, *, timeout: float) -> None:  # noqa: ASYNC109 - expiry is no error here
        """Flush for at most ``timeout`` seconds; `AwsTransport.aclose` calls it."""
        await self._accumulator.aclose(timeout=timeout)

    async def call(self, operation: str, *, named: bool = True, channel: str = "", **parameters: Any) -> dict[str, Any]:
        """A call about this stream, which ``named`` adds to the parameters."""
        given = {**self._named, **parameters} if named else parameters
        return await self._client.call("kinesis", operation, channel=channel or self.name, **given)

    def report(self, group: str, operation: str, received: Sequence[Mapping[str, Any]]) -> None:
        """Record what the service pushed."""
        size = sum(len(each["Data"]) for each in received)
        self._client.record_pushed("kinesis", f"{self.name}/{group}", operation, messages=len(received), size=size)

    async def _lease_table(self) -> Store:
        """The store of the leases; its table is made where there is none, and waited for where another makes it."""
        from eip.stores._aws_errors import error_code  # noqa: PLC0415 - only where it is wanted
        from eip.stores.dynamodb import DynamoStore, create_table  # noqa: PLC0415

        client = await self._client.client("dynamodb")
        store = DynamoStore(client, LEASE_TABLE, "streams")
        try:
            await store.get(self.name)
        except StoreError as error:
            if error_code(error) != "ResourceNotFoundException":
                raise
            await create_table(client, LEASE_TABLE)
        return store

    # Putting.

    def _entry(self, message: Message[Any]) -> Entry:
        key = to_partition_key(message.id if message.group_id is None else message.group_id)
        data = dump_record(encoded_for(message, self.codec))
        size = len(data) + len(key.encode())
        limit = self.limits.message_bytes or 0
        if size > limit:
            raise MessageTooLarge(size, limit, channel=self.name)
        payload: dict[str, Any] = {"Data": data, "PartitionKey": key}
        if self._hash_key is not None and (chosen := self._hash_key(message)) is not None:
            if not 0 <= chosen < 1 << 128:
                raise InvalidMessage(f"{self.name}: an explicit hash key is 0 to 2**128 - 1")
            payload["ExplicitHashKey"] = str(chosen)
        return Entry(message, payload, size, message.group_id)

    async def _put(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        answer = await self._put_records([entry.payload for entry in entries], messages=len(entries))
        return [_outcome(each) for each in answer]

    async def _put_records(self, records: Sequence[dict[str, Any]], *, messages: int) -> list[dict[str, Any]]:
        sizes = [len(each["Data"]) + len(each["PartitionKey"].encode()) for each in records]
        unit = self.limits.unit_bytes or 1
        answer = await self.call(
            "PutRecords",
            Records=records,
            messages=messages,
            size=sum(sizes),
            units=sum(-(-size // unit) for size in sizes),
            retry=False,
        )
        found: list[dict[str, Any]] = answer["Records"]
        return found

    # Putting aggregates: one of a shard at a time, so that its records keep their order.

    async def _put_aggregated(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
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
            turn = [bundles.pop(0) for bundles in per_shard.values()][: self.limits.batch_entries]
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
            outcome = _outcome(answer)
            elsewhere = outcome is None and answer["ShardId"] != bundle.shard
            if elsewhere and not moved:
                moved = True
                await self._look_at_shards()
            for place in bundle.places:
                misplaced = elsewhere and self._shard_of(entries[place])[2] != answer["ShardId"]
                outcomes[place] = _Misplaced("the stream was resharded") if misplaced else outcome

    async def _look_at_shards(self) -> None:
        shards = [each for each in await list_shards(self) if not each.closed]
        self._shards = sorted((each.first_hash, each.last_hash, each.id) for each in shards)

    def _shard_of(self, entry: Entry) -> tuple[int, int, str]:
        chosen = entry.payload.get("ExplicitHashKey")
        key: str = entry.payload["PartitionKey"]
        digest = md5(key.encode(), usedforsecurity=False).digest()
        hashed = int.from_bytes(digest, "big") if chosen is None else int(chosen)
        return self._shards[bisect_right(self._shards, hashed, key=lambda shard: shard[0]) - 1]

    def __repr__(self) -> str:
        return f"<KinesisStream {self.name}>"


class _Bundle:
    """Entries for one shard that go as one record."""

    __slots__ = ("_aggregate", "_first_hash", "places", "shard")

    def __init__(self, shard: str, first_hash: int, place: int, entry: Entry) -> None:
        self.shard, self._first_hash = shard, first_hash
        self.places: list[int] = []
        self._aggregate = Aggregate(_AGGREGATE)
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


def _outcome(answer: Mapping[str, Any]) -> Outcome:
    if not answer.get("ErrorCode"):
        return None
    return entry_error("kinesis", "PutRecords", answer)
