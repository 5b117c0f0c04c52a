"""Records of streams, KPL aggregates among them: neighbours are handled, the odd one keeps its raw bytes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from hashlib import md5
from typing import Any

import orjson
from hypothesis import strategies as st

from eip import Backoff, Message, SequenceInfo
from eip.channels import with_dead_letter_headers
from eip.errors import DecodeError, StoreError
from eip.packs import entry_of, pack
from eip.streams import BatchConsumer, Lease, Position
from eip.testing import run
from eip.transports.aws.kinesis.aggregation import MAGIC, AggregatedRecord, deaggregate
from eip.transports.aws.kinesis.reading import message_of, records_of
from eip.transports.aws.kinesis.records import dump_record, load_record, to_partition_key
from tests.fuzz import bounded_time, fuzz, mutated, odd_json, odd_text
from tests.fuzz.events import EVENT
from tests.runtime.scripted import Outbox
from tests.streams.scripted import ScriptedLog

WHOLE = Message(
    {"n": 1},
    type="T",
    group_id="g",
    correlation_id="c",
    expires_at=9e9,
    sequence=SequenceInfo("s", 1, 2),
    headers={"a": "b"},
    attributes={"n": 7, "b": b"\0", "l": ["a", 1]},
)
AGGREGATE = AggregatedRecord(10_000)
for number in range(3):
    AGGREGATE.add(f"k{number}", str(number), dump_record(Message({"n": number})))
PACK = pack([entry_of(Message(number)) for number in range(3)], Message(None))
SEEDS = [
    dump_record(WHOLE),
    dump_record(Message([1, 2])),
    dump_record(Message("text")),
    dump_record(Message(b"\xff")),
    dump_record(Message(None)),
    dump_record(PACK),
    orjson.dumps(EVENT),
    AGGREGATE.encode(),
    b"Message at 12:00",
    b'{"n": 1}',
]
BODY = AGGREGATE.encode()[len(MAGIC) : -16]

datas = mutated(SEEDS) | st.binary(max_size=40)
bodies = mutated([BODY], changes=3) | st.binary(max_size=60)


def aggregated(body: bytes) -> bytes:
    """An aggregate with a right digest, whatever its body is."""
    return MAGIC + body + md5(body, usedforsecurity=False).digest()


@fuzz(datas | bodies.map(aggregated), odd_text)
def test_a_record_is_read_or_is_its_own_error_with_its_bytes_and_can_be_written_again(data, key):
    received = {
        "Data": data,
        "SequenceNumber": "7",
        "PartitionKey": to_partition_key(key),
        "ApproximateArrivalTimestamp": datetime.fromtimestamp(1.7e9, UTC),
    }
    with bounded_time():
        records = list(records_of([received], Position()))
    assert records, "the record vanished"
    assert [each.last for each in records] == [False] * (len(records) - 1) + [True]
    for each in records:
        with bounded_time():
            message, error = message_of("shard", each)
        if error is not None:
            assert isinstance(error, DecodeError)
            assert message.raw == each.payload
        dead = with_dead_letter_headers(message, "because", source="s", count=1)
        again, error = load_record(dump_record(dead), key="k", id="i")
        assert (error, again.raw) == (None, message.raw)


@fuzz(bodies)
def test_an_aggregate_is_read_or_is_an_ordinary_record_in_bounded_time(body):
    with bounded_time():
        found = deaggregate(aggregated(body))
    assert found is None or sum(len(each.data) for each in found) <= len(body)


@fuzz(st.lists(datas, min_size=1, max_size=3), short=60)
def test_a_batch_s_neighbours_are_handled_and_the_odd_ones_settled(odd):
    """In virtual time, through the batch consumer: nothing stays behind, whatever the records are."""
    handled: list[Any] = []
    dead = Outbox("dead")

    async def handle(messages: list[Message]) -> None:
        for each in messages:
            try:
                handled.append(each.body)
            except DecodeError:
                handled.append(each.raw)

    async def scenario() -> None:
        log = ScriptedLog()
        log.put(b'"first"', *odd, b'"last"')
        group = log.group(dead_letters=dead)
        async with BatchConsumer(group, handle, retry=Backoff(base=1, cap=1, max_attempts=2)):
            while not group.shards or group.shards[0].checkpoint.sequence != str(len(odd) + 2):
                await asyncio.sleep(0.1)

    run(scenario())
    assert handled[0] == "first"
    assert "last" in handled
    for data in odd:
        if load_record(data, key="k", id="i")[1] is not None and deaggregate(data) is None:
            assert data in [each.raw for each in dead.sent]


@fuzz(odd_json("v", "position", "epoch", "owner", "wanted_by", "ended", "ahead", "read_until", "seq", "part", "at"))
def test_a_lease_is_read_and_can_be_written_or_is_a_store_error(value):
    try:
        raw = orjson.dumps(value, default=str)
    except TypeError:
        return
    try:
        lease = Lease.from_json("shard", raw, "v")
    except StoreError:
        return
    assert Lease.from_json("shard", lease.to_json(), "v") == lease
