"""Lambda events of every source: neighbours are handled, the odd record is settled with its raw bytes."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st

from eip import Message
from eip.channels import with_dead_letter_headers
from eip.envelope import dump_envelope, dump_message, load_message
from eip.errors import ConfigurationError, DecodeError
from eip.transports.aws.kinesis.aggregation import AggregatedRecord
from eip.transports.aws.kinesis.records import dump_record
from eip.transports.aws.lambda_host._events import _json_of, arrived
from tests.fuzz import bounded_time, fuzz, mutated, odd_json, odd_text
from tests.support.lambda_events import (
    dynamodb_record,
    kafka,
    kafka_record,
    kinesis_record,
    mq_message,
    rabbitmq,
    rabbitmq_message,
    s3_record,
    sns_record,
    sqs_record,
)

OWN = Message({"n": 1}, type="T", group_id="g", headers={"a": "b"}, attributes={"n": 7, "b": b"\0", "t": True})
ITEM: dict[str, Any] = {"n": {"N": "1.10"}, "l": {"L": [{"BOOL": True}, {"NULL": True}]}, "s": {"SS": ["a"]}}
ITEM |= {"m": {"M": {"b": {"B": "AA=="}}}}
AGGREGATE = AggregatedRecord(10_000)
for number in range(3):
    AGGREGATE.add(f"k{number}", None, b'{"n":1}')
GOOD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sqs": (sqs_record("1", 1, group="a"), sqs_record(OWN, 2, group="b")),
    "sns": (sns_record("1", 1), sns_record('{"n": 1}', 2)),
    "kinesis": (kinesis_record(b"1", 1, "a"), kinesis_record(dump_record(OWN), 3, "b")),
    "mq": (mq_message(1, b"1"), mq_message(2, OWN.encode(), eip=dump_envelope(OWN).decode())),
    "dynamodb": (dynamodb_record(1), dynamodb_record(3, NewImage=ITEM, OldImage=ITEM)),
    "kafka": (kafka_record(1, b"1"), kafka_record(2, b'{"n": 1}')),
    "rabbitmq": (
        rabbitmq_message(1, b"1", contentType="application/json"),
        rabbitmq_message(2, b'{"n": 1}', contentType="application/json"),
    ),
    "s3": (s3_record("1"), s3_record("a+b%20c")),
}
FIRST: dict[str, Any] = {"sqs": "m1", "sns": "s1", "kinesis": "1", "mq": "ID:b-1:1:1:1:1"}
FIRST |= {"rabbitmq": "r1", "dynamodb": "1", "kafka": "orders-0-1", "s3": "uploads/1"}
SEEDS: dict[str, list[dict[str, Any]]] = {
    **{source: list(records) for source, records in GOOD.items()},
    "kinesis": [*GOOD["kinesis"], kinesis_record(AGGREGATE.encode(), 2, "a")],
}
NAMES: tuple[str, ...] = (
    "eventSource",
    "eventID",
    "kinesis",
    "data",
    "Sns",
    "Message",
    "MessageAttributes",
    "properties",
    "eip",
)
NAMES += ("messageId", "body", "attributes", "messageAttributes", "expiration", "dataType", "binaryValue", "timestamp")
NAMES += (
    "dynamodb",
    "Keys",
    "NewImage",
    "SequenceNumber",
    "topic",
    "offset",
    "key",
    "value",
    "headers",
    "s3",
    "object",
    "basicProperties",
    "bytes",
)

binary = mutated([AGGREGATE.encode(), dump_record(OWN), b"\x1f\x8b\x08"]).map(lambda raw: b64encode(raw).decode())
values = odd_json(*NAMES) | binary | odd_text


def paths(record: dict[str, Any]) -> list[tuple[str, ...]]:
    """All keys of a record, of its inner objects, too."""
    found: list[tuple[str, ...]] = []
    for name, value in record.items():
        found.append((name,))
        if isinstance(value, dict):
            found += [(name, *rest) for rest in paths(value)]
    return found


@st.composite
def odd_records(draw: st.DrawFn, source: str) -> Any:
    """Any JSON at all, or a record of the source with some of its values replaced or taken away."""
    if draw(st.integers(0, 9)) == 0:
        return draw(odd_json(*NAMES))
    record = json.loads(json.dumps(draw(st.sampled_from(SEEDS[source]))))
    for path in draw(st.lists(st.sampled_from(paths(record)), min_size=1, max_size=3)):
        inner: Any = record
        for name in path[:-1]:
            inner = inner.get(name) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner[path[-1]] = draw(values)
            if draw(st.integers(0, 5)) == 0:
                del inner[path[-1]]
    return record


def event_of(source: str, records: list[Any]) -> dict[str, Any]:
    if source in ("kafka", "rabbitmq"):
        return (kafka if source == "kafka" else rabbitmq)(*records)
    return {"eventSource": "aws:mq", "messages": records} if source == "mq" else {"Records": records}


@fuzz(st.sampled_from(sorted(GOOD)).flatmap(lambda source: st.tuples(st.just(source), odd_records(source))), short=400)
def test_an_odd_record_leaves_its_neighbours_alone_and_can_be_put_aside(given):
    source, odd = given
    before, after = GOOD[source]
    with bounded_time():
        invocation = arrived(event_of(source, [before, odd, after]))
    first, *middle, last = invocation.records
    assert (first.identifier, first.error) == (FIRST[source], None)
    assert last.error is None
    if source not in ("dynamodb", "s3"):  # whose bodies are changes and notifications
        assert (first.message.body, last.message.body) == (1, {"n": 1})
    assert middle, "the odd record vanished"
    for each in middle:
        assert isinstance(each.identifier, str)
        assert each.receive_count >= 1
        assert each.error is None or isinstance(each.error, DecodeError)
        dead = with_dead_letter_headers(each.message, "because", source="q", count=1)
        assert load_message(dump_message(dead)).raw == each.message.raw
        if each.error is not None:
            assert each.message.raw == raw_of(source, odd)


def raw_of(source: str, odd: Any) -> bytes:
    """The bytes that came, or the record's JSON."""

    try:
        match source:
            case "sqs":
                raw = odd["body"]
            case "sns":
                raw = odd["Sns"]["Message"]
            case "kinesis":
                raw = b64decode(odd["kinesis"]["data"], validate=True)
            case "kafka":
                raw = b64decode(odd["value"], validate=True)
            case "dynamodb" | "s3":
                return _json_of(odd)
            case _:
                raw = b64decode(odd["data"], validate=True)
    except (KeyError, TypeError, ValueError):
        return _json_of(odd)
    if isinstance(raw, bytes):
        return raw
    return raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else _json_of(odd)


@fuzz(odd_json("Records", "messages", "eventSource", "EventSource", "detail", "detail-type", "source", *NAMES))
def test_any_event_has_messages_or_is_refused(event):
    with bounded_time(), suppress(ConfigurationError):
        arrived(event)
