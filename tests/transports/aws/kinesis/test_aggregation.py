"""The producer library's format, written and read beside the aws_kinesis_agg package."""

from __future__ import annotations

import base64

import pytest
from aws_kinesis_agg.aggregator import RecordAggregator
from aws_kinesis_agg.deaggregator import deaggregate_records
from hypothesis import example, given
from hypothesis import strategies as st

from eip.transports.aws.kinesis.aggregation import MAGIC, AggregatedRecord, UserRecord, deaggregate

KEYS = st.text(min_size=1, max_size=20).filter(lambda key: key.isprintable())
HASHES = st.none() | st.integers(0, 2**128 - 1).map(str)
RECORDS = st.lists(st.tuples(KEYS, HASHES, st.binary(min_size=1, max_size=400)), min_size=1, max_size=30)


def written(records) -> bytes:
    made = AggregatedRecord(1 << 20)
    for record in records:
        assert made.add(*record)
    data = made.encode()
    assert made.size == len(data)
    return data


@given(RECORDS)
@example([("k", None, b"x" * 20_000), ("k", "7", b"y" * 128)])
def test_what_is_written_is_read(records):
    assert deaggregate(written(records)) == [UserRecord(*record) for record in records]


@given(RECORDS)
def test_the_package_reads_what_we_write(records):
    kinesis = {
        "data": base64.b64encode(written(records)).decode(),
        "partitionKey": "a",
        "sequenceNumber": "1",
        "approximateArrivalTimestamp": 1.0,
        "kinesisSchemaVersion": "1.0",
    }
    event = dict.fromkeys(("eventID", "eventSource", "eventName", "eventVersion", "invokeIdentityArn", "awsRegion"), "")
    read = deaggregate_records({"kinesis": kinesis, "eventSourceARN": "", **event})
    found = [each["kinesis"] for each in read]
    assert [(each["partitionKey"], base64.b64decode(each["data"])) for each in found] == [
        (key, data) for key, _, data in records
    ]
    # Of a record without one the package reads the first explicit hash key of the aggregate.
    assert all(
        each.get("explicitHashKey") == given for each, (_, given, _) in zip(found, records, strict=True) if given
    )


@given(RECORDS)
def test_we_read_what_the_package_writes(records):
    made = RecordAggregator()
    for key, hash_key, data in records:
        assert made.add_user_record(key, data, hash_key) is None
    _, _, data = made.clear_and_get().get_contents()
    read = deaggregate(data)
    assert read is not None
    # The package gives every record an explicit hash key: its own, or the MD5 of its partition key.
    assert [(each.key, each.data) for each in read] == [(key, data) for key, _, data in records]
    assert all(each.hash_key == hash_key for each, (_, hash_key, _) in zip(read, records, strict=True) if hash_key)


@given(RECORDS, st.data())
def test_what_is_damaged_is_an_ordinary_record(records, data):
    whole = written(records)
    place = data.draw(st.integers(len(MAGIC), len(whole) - 1))
    damaged = bytearray(whole)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    assert deaggregate(bytes(damaged)) is None
    assert deaggregate(whole[:place]) is None


@given(st.binary(max_size=300))
def test_any_bytes_with_a_right_digest_are_read_or_refused(body):
    from hashlib import md5

    found = deaggregate(MAGIC + body + md5(body).digest())
    assert found is None or all(isinstance(each, UserRecord) for each in found)


@pytest.mark.parametrize("data", [b"", b"{}", MAGIC, MAGIC + b"x" * 15])
def test_what_is_no_aggregate_is_none(data):
    assert deaggregate(data) is None


def test_tags_and_unknown_fields_are_passed_over():
    from hashlib import md5

    record = b"\x08\x00\x1a\x01x" + b"\x22\x03\x0a\x01t"
    body = b"\x0a\x01k" + b"\x2a\x01z" + b"\x30\x96\x01" + b"\x3d\0\0\0\0" + b"\x1a" + bytes([len(record)]) + record
    assert deaggregate(MAGIC + body + md5(body).digest()) == [UserRecord("k", None, b"x")]


def test_an_aggregate_takes_what_fits():
    made = AggregatedRecord(100)
    assert made.add("k", None, b"x" * 500)  # alone it may be larger: then it goes as it is
    assert not made.add("k", None, b"x")
    small = AggregatedRecord(100)
    taken = 0
    while small.add(f"key-{taken}", None, b"x" * 10):
        taken += 1
    assert taken == 3
    assert len(small.encode()) == small.size <= 100
