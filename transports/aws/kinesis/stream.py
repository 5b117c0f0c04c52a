"""Amazon Kinesis Data Streams: records put in order per key, and read by groups.

Sources: Amazon Kinesis Data Streams Developer Guide and API Reference, 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeAlias

from typing_extensions import override

from eip.channels import Sender, Stream
from eip.codec import JSON, Codec
from eip.envelope import encoded_for
from eip.errors import AccessDenied, ConfigurationError, InvalidMessage, MessageTooLarge
from eip.limits import KIB
from eip.message import Message
from eip.stores.base import Store
from eip.streams import GroupOptions, Start, StreamGroup
from eip.transports._capabilities import KINESIS
from eip.transports.aws._batch_dispatcher import FRUGAL, Batching, Outcome
from eip.transports.aws._batched_sender import BatchedSender
from eip.transports.aws._batching import BatchAccumulator
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._entry_queue import Entry
from eip.transports.aws.kinesis.aggregated_puts import AggregateAccumulator, outcomes_of
from eip.transports.aws.kinesis.log import KinesisLog, list_shards
from eip.transports.aws.kinesis.rates import ReadRates
from eip.transports.aws.kinesis.records import MAX_KEY_BYTES, RecordFields, dump_record, to_partition_key, to_put

__all__ = ["LEASE_TABLE", "HashKey", "KinesisStream"]

LEASE_TABLE: Final = "eip-leases"
"""The DynamoDB table of the leases, where a group is given no store."""

HashKey: TypeAlias = Callable[[Message[Any]], int | None]
"""The explicit hash key of a message, 0 to 2**128 - 1; None: its partition key's MD5."""

_ATTEMPTS: Final = 30
"""About a minute: a shard that is throttled holds its senders back before it fails them."""


class KinesisStream(BatchedSender[BatchAccumulator | AggregateAccumulator], Stream):
    """A stream; `AwsTransport.stream` makes it. It must exist: declare it with `eip.topology`.

    The partition key is the message's group, or its id where it has none; a digest of it where Kinesis takes no such
    key, see `eip.transports.aws.kinesis.records.to_partition_key`.
    """

    system = "aws.kinesis"

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
        batching: Batching = FRUGAL,
        codec: Codec = JSON,
    ) -> None:
        self._client, self.address, self.rates, self.codec = client, address, rates, codec
        self.name = address.rpartition("/")[2]
        self._named: dict[str, str] = {"StreamName": self.name} if own else {"StreamARN": address}
        self._hash_key = hash_key
        self._described, self._keeps_groups = False, True
        if aggregate:
            self._accumulator = AggregateAccumulator(
                self._put_records, partial(list_shards, self), batching=batching, attempts=_ATTEMPTS
            )
        else:
            # The service takes the records of a call in any order and refuses single ones: two of a key could swap.
            self._accumulator = BatchAccumulator(
                self._put, self.limits, batching=batching, attempts=_ATTEMPTS, per_group=1
            )

    @override
    async def send(self, *messages: Message[Any]) -> None:
        """Put the messages; see `Sender.send`.

        Those of one group are put one call after the other, or in one aggregate, so that a refused one is not
        overtaken by its retry. Throttling holds senders back for about a minute, then fails them. A record may have
        1 MiB, or what the stream's ``MaxRecordSizeInKiB`` says, which is read once.

        Raises:
            ConfigurationError: the messages have a group, and the stream distributes records automatically: it ignores
                partition keys, and so would lose the order of each group.
        """
        if not self._described and any(message.group_id is not None for message in messages):
            await self._describe()
        try:
            records = self._records(messages)
        except MessageTooLarge:
            if self._described:
                raise
            await self._describe()
            records = self._records(messages)
        if not records:
            return
        if isinstance(self._accumulator, AggregateAccumulator):
            await self._accumulator.send(messages, records)
        else:
            await self._accumulator.send([_entry(*each) for each in zip(messages, records, strict=True)])

    async def _describe(self) -> None:
        """Take over the stream's own limit of a record, and whether it keeps groups together; once."""
        try:
            found = (await self.call("DescribeStreamSummary", units=0)).get("StreamDescriptionSummary", {})
        except AccessDenied:  # one that may only put: the service has the last word
            found = {}
        self._described = True
        if size := found.get("MaxRecordSizeInKiB"):
            self.limits = replace(KINESIS, message_bytes=size * KIB)
        self._keeps_groups = found.get("RecordDistributionStrategy") != "AUTO"

    def forget_attributes(self) -> None:
        """Look again at the stream's limit at the next use, since it was changed."""
        self._described = False

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

        Leases are in the DynamoDB table ``eip-leases``, made by the first worker, where no store is given. With
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

    @property
    def where(self) -> str:
        """The endpoint or region."""
        return self._client.where

    async def call(self, operation: str, *, named: bool = True, channel: str = "", **parameters: Any) -> dict[str, Any]:
        """A call about this stream, which ``named`` adds to the parameters."""
        given = {**self._named, **parameters} if named else parameters
        return await self._client.call("kinesis", operation, channel=channel or self.name, **given)

    def report(self, group: str, operation: str, received: Sequence[Mapping[str, Any]]) -> None:
        """Record what the service pushed."""
        size = sum(len(each["Data"]) for each in received)
        self._client.record_pushed("kinesis", f"{self.name}/{group}", operation, messages=len(received), size=size)

    async def _lease_table(self) -> Store:
        """The store of the leases."""
        from eip.stores.dynamodb import DynamoStore  # noqa: PLC0415 - only where it is wanted

        client = await self._client.client("dynamodb")
        return DynamoStore(client, LEASE_TABLE, "streams", create=True, fast_path=self._client.fast_path)

    # Putting.

    def _records(self, messages: Sequence[Message[Any]]) -> list[RecordFields]:
        """Partition key, explicit hash key and data of each message's record."""
        if not self._keeps_groups and any(each.group_id is not None for each in messages):
            raise ConfigurationError(
                f"{self.name} distributes records automatically, which keeps no group in order: "
                "send without group_id, or to a stream whose RecordDistributionStrategy is USER_PARTITION_KEY"
            )
        choose, limit, has_codec = self._hash_key, self.limits.message_bytes or 0, self.codec is not JSON
        records: list[RecordFields] = []
        for message in messages:
            group = message.group_id
            key = to_partition_key(message.id if group is None else group)
            data = dump_record(encoded_for(message, self.codec) if has_codec else message, key)
            if len(data) + MAX_KEY_BYTES > limit and (size := len(data) + len(key.encode())) > limit:
                raise MessageTooLarge(size, limit, channel=self.name)
            records.append((key, None if choose is None else self._hash_key_text(choose(message)), data))
        return records

    def _hash_key_text(self, chosen: int | None) -> str | None:
        if chosen is None:
            return None
        if not 0 <= chosen < 1 << 128:
            raise InvalidMessage(f"{self.name}: an explicit hash key is 0 to 2**128 - 1")
        return str(chosen)

    async def _put(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        answer = await self._put_records([entry.payload for entry in entries], messages=len(entries))
        return outcomes_of(answer, len(entries))

    async def _put_records(self, records: Sequence[dict[str, Any]], *, messages: int) -> Mapping[str, Any]:
        sizes = [len(each["Data"]) + len(each["PartitionKey"].encode()) for each in records]
        unit = self.limits.unit_bytes or 1
        return await self.call(
            "PutRecords",
            Records=records,
            messages=messages,
            size=sum(sizes),
            units=sum(-(-size // unit) for size in sizes),
            retry=False,
        )

    def __repr__(self) -> str:
        return f"<KinesisStream {self.name}>"


def _entry(message: Message[Any], record: RecordFields) -> Entry:
    key, _, data = record
    return Entry(message, to_put(record), len(data) + len(key.encode()), message.group_id)
