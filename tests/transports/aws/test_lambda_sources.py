"""DynamoDB streams, Kafka, S3 and Scheduler as event sources, their pipes, and what a handler can ask for."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from eip import Message
from eip.channels import Sender, without_dead_letter_headers
from eip.codec import TextCodec
from eip.errors import ConfigurationError, Reject
from eip.limits import MIB
from eip.transports.aws._attributes import carried
from eip.transports.aws.lambda_host import InvocationFailed, current_invocation
from tests.support.lambda_events import (
    Context,
    Recorder,
    dynamodb_record,
    failures,
    kafka,
    kafka_record,
    kinesis_record,
    mq_message,
    rabbitmq,
    rabbitmq_message,
    s3_record,
    sns_record,
    sqs,
    sqs_record,
)

ITEM: dict[str, Any] = {
    "id": {"S": "a"},
    "total": {"N": "1.10"},
    "big": {"N": "12345678901234567890123456789012345678"},
    "lines": {"L": [{"M": {"sku": {"S": "ü"}, "n": {"N": "2"}}}, {"NULL": True}]},
    "paid": {"BOOL": False},
    "tags": {"SS": ["x", "y"]},
    "sizes": {"NS": ["1", "2.5"]},
    "raw": {"B": "AAEC"},
    "raws": {"BS": ["AA=="]},
}


class Order(BaseModel):
    id: str
    total: Decimal
    big: Decimal


class Change(BaseModel):
    keys: dict[str, str]
    new: Order | None = None
    old: Order | None = None


class Seen:
    """A handler that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)
        if b"fail" in message.encode():
            raise ValueError("no")


# DynamoDB streams.


def test_a_change_of_a_table_is_a_message_with_plain_items(lambda_handler):
    seen = Seen()
    event = sqs(dynamodb_record(1, NewImage=ITEM), dynamodb_record(2, event="REMOVE", OldImage=ITEM))
    assert failures(lambda_handler(seen)(event, Context())) == []
    inserted, removed = seen.messages
    assert inserted.body["new"]["lines"] == [{"sku": "ü", "n": 2}, None]
    assert inserted.body["new"] | {"lines": 0} == {
        "id": "a",
        "total": 1.1,
        "big": 12345678901234567890123456789012345678,
        "lines": 0,
        "paid": False,
        "tags": ["x", "y"],
        "sizes": [1, 2.5],
        "raw": "AAEC",
        "raws": ["AA=="],
    }
    assert (inserted.type, inserted.id, inserted.source) == ("INSERT", "e1", "orders")
    assert (inserted.group_id, inserted.created_at) == ('{"id":"a"}', 1_700_000_000.0)
    assert (removed.type, set(removed.body)) == ("REMOVE", {"keys", "old"})


def test_a_numbers_digits_are_kept(lambda_handler):
    seen: list[Message[Change]] = []

    async def handle(message: Message[Change]) -> None:
        seen.append(message)

    lambda_handler(handle)(sqs(dynamodb_record(1, NewImage=ITEM)), Context())
    assert seen[0].body.new is not None
    assert seen[0].body.new.big == int(ITEM["big"]["N"])
    assert b'"total":1.10' in seen[0].encode()


def test_of_a_stream_of_changes_the_batch_comes_again_from_the_first_failed_record(lambda_handler):
    bad = {"id": {"S": "fail"}}
    records = [dynamodb_record(n, key, NewImage=image) for n, key, image in
               ((1, "a", ITEM), (2, "b", bad), (3, "b", ITEM), (4, "c", bad))]  # fmt: skip
    seen = Seen()
    assert failures(lambda_handler(seen, concurrency=1)(sqs(*records), Context())) == ["2"]
    assert '{"id":"a"}' in {each.group_id for each in seen.messages}


ODD_CHANGES: list[Any] = [
    {"NewImage": {"n": {"N": "1,5"}}},
    {"NewImage": {"n": {"N": "NaN"}}},
    {"NewImage": {"n": {"S": 5}}},
    {"NewImage": {"n": {"S": "a", "N": "1"}}},
    {"NewImage": {"n": {"X": "a"}}},
    {"NewImage": [1]},
    {"NewImage": {"n": "plain"}},
    {"NewImage": {"n": {"L": "no list"}}},
    {"Keys": None},
]


@pytest.mark.parametrize("odd", ODD_CHANGES, ids=str)
def test_a_change_that_cannot_be_read_is_that_records_failure(odd, lambda_handler):
    seen, dead = Seen(), Recorder()
    event = sqs(dynamodb_record(1, "a"), dynamodb_record(2, "b", **odd), dynamodb_record(3, "c"))
    assert failures(lambda_handler(seen)(event, Context())) == ["2"]
    assert failures(lambda_handler(seen, dead_letters=dead)(event, Context())) == []
    assert b'"SequenceNumber":"2"' in dead.sent[0].encode()


# Kafka.


def test_a_record_of_kafka_is_a_message_of_its_keys_group(lambda_handler):
    seen = Seen()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = [{"kind": [111, 107]}, {"raw": [-1, 0]}, {"traceparent": list(trace.encode())}]
    record = kafka_record(15, b'{"n":1}') | {"headers": headers}
    event = kafka(record, kafka_record(16, None, key=None))
    lambda_handler(seen)(event, Context())
    first, deleted = sorted(seen.messages, key=lambda message: message.id)
    assert (first.body, first.id, first.group_id) == ({"n": 1}, "orders-0-15", "orders:k")
    assert first.traceparent == trace
    assert (first.attributes, first.created_at) == ({"kind": "ok", "raw": b"\xff\x00"}, 1_700_000_000.0)
    assert (deleted.body, deleted.group_id, deleted.headers["kafka-tombstone"]) == (None, "orders-0", "true")


@pytest.mark.parametrize("source", ["aws:kafka", "SelfManagedKafka"])
def test_of_kafka_the_whole_batch_comes_again(source, lambda_handler):
    event = kafka(kafka_record(1, b"1"), kafka_record(2, b'"fail"', key=b"z")) | {"eventSource": source}
    handler = lambda_handler(Seen())
    with pytest.raises(InvocationFailed, match="orders-0-2"):
        handler(event, Context())


@pytest.mark.parametrize(
    "odd",
    [
        None,
        {},
        kafka_record(2, b"2") | {"value": "no base64!"},
        kafka_record(2, b"2") | {"offset": "2"},
        kafka_record(2, b"2") | {"key": 7},
        kafka_record(2, b"2") | {"headers": [{"a": ["x"]}]},
        kafka_record(2, b"2") | {"timestamp": None},
    ],
    ids=str,
)
def test_a_record_of_kafka_that_cannot_be_read_is_put_aside_alone(odd, lambda_handler):
    seen, dead = Seen(), Recorder()
    lambda_handler(seen, dead_letters=dead)(kafka(kafka_record(1, b"1"), odd, kafka_record(3, b"3")), Context())
    assert [each.body for each in seen.messages] == [1, 3]
    assert len(dead.sent) == 1


@pytest.mark.parametrize("records", [None, [], "x", {"orders-0": None}])
def test_an_event_of_kafka_without_its_records_fails_as_a_whole(records, lambda_handler):
    with pytest.raises(InvocationFailed):
        lambda_handler(Seen())(kafka() | {"records": records}, Context())


# RabbitMQ.


def test_a_message_of_rabbitmq_has_its_properties_as_fields_and_its_headers_as_attributes(lambda_handler):
    seen = Seen()
    odd = {"no": None, "list": [1], "raw": {"bytes": [-1]}}
    named = rabbitmq_message(1, b"hello", replyTo="answers", type="T", correlationId="c")
    plain = rabbitmq_message(2, b'{"n":1}', contentType="application/json", messageId=None, headers=odd)
    lambda_handler(seen)(rabbitmq(named, plain), Context())
    first, second = sorted(seen.messages, key=lambda message: message.type is None)
    assert (first.id, first.body, first.type, first.correlation_id) == ("r1", "hello", "T", "c")
    assert (first.attributes, first.headers) == ({"kind": "ok", "n": 10}, {"reply-to": "answers"})
    assert first.created_at == 33 * 60 + 41
    assert (second.body, second.attributes) == ({"n": 1}, {"list": "[1]", "raw": b"\xff"})


def test_of_rabbitmq_the_whole_batch_comes_again_and_an_odd_message_is_put_aside_alone(lambda_handler):
    seen, dead = Seen(), Recorder()
    with pytest.raises(InvocationFailed, match="r2"):
        lambda_handler(seen)(rabbitmq(rabbitmq_message(1, b"1"), rabbitmq_message(2, b"fail")), Context())
    for odd in (None, {}, rabbitmq_message(2, b"2") | {"data": "!"}, rabbitmq_message(2, b"2", headers=7)):
        lambda_handler(seen, dead_letters=dead)(rabbitmq(rabbitmq_message(1, b"1"), odd), Context())
    assert len(dead.sent) == 4
    assert lambda_handler(seen)(rabbitmq(), Context()) == {"batchItemFailures": []}


# S3.


def test_a_notification_of_a_bucket_has_the_objects_own_key_beside_the_encoded_one(lambda_handler):
    seen = Seen()
    record = s3_record("a+b/%C3%BC%201.jpg")
    lambda_handler(seen)(sqs(record, record), Context())
    first, again = seen.messages
    assert (first.type, first.source, first.headers["s3-key"]) == ("ObjectCreated:Put", "uploads", "a b/ü 1.jpg")
    assert first.body == record
    assert first.id == again.id, "a notification that comes twice is no other message"
    assert (first.group_id, first.created_at) == ("uploads/a b/ü 1.jpg", 1_767_225_600.0)


def test_of_a_bucket_the_invocation_fails_where_a_notification_failed(lambda_handler):
    with pytest.raises(InvocationFailed, match="uploads/fail"):
        lambda_handler(Seen())(sqs(s3_record("fail"), s3_record("2")), Context())


@pytest.mark.parametrize("odd", [s3_record("%FF"), s3_record() | {"s3": {}}, s3_record() | {"eventTime": "soon"}])
def test_a_notification_that_cannot_be_read_is_put_aside_alone(odd, lambda_handler):
    seen, dead = Seen(), Recorder()
    lambda_handler(seen, dead_letters=dead)(sqs(odd, s3_record("2")), Context())
    assert [each.headers["s3-key"] for each in seen.messages] == ["2"]
    assert len(dead.sent) == 1


# Scheduler, and direct calls.

SCHEDULED = {
    "version": "0",
    "id": "d32c5kdocf5bm",
    "detail-type": "Scheduled Event",
    "source": "aws.scheduler",
    "account": "123456789012",
    "time": "2026-01-01T00:00:00Z",
    "region": "eu-central-1",
    "resources": ["arn:aws:scheduler:eu-central-1:123456789012:schedule/default/nightly"],
    "detail": "{}",
}


def test_a_schedule_without_input_sends_an_event_whose_detail_is_text(lambda_handler):
    seen = Seen()
    lambda_handler(seen)(SCHEDULED, Context())
    (message,) = seen.messages
    assert (message.type, message.source, message.body, message.id) == (
        *("Scheduled Event", "aws.scheduler"),
        *({}, "d32c5kdocf5bm"),
    )
    with pytest.raises(ConfigurationError, match="detail-type"):
        lambda_handler(seen)(SCHEDULED | {"detail": "no json"}, Context())


@pytest.mark.parametrize("payload", [{"report": "daily"}, [1, 2], "text", None, 7])
def test_a_schedules_own_input_is_handled_where_that_is_asked_for(payload, lambda_handler):
    seen = Seen()
    with pytest.raises(ConfigurationError, match="the event must be of"):
        lambda_handler(seen)(payload, Context())
    assert lambda_handler(seen, on_unknown="handle")(payload, Context()) == {"batchItemFailures": []}
    assert seen.messages[0].body == payload
    with pytest.raises(InvocationFailed):
        lambda_handler(seen, on_unknown="handle")({"a": "fail"}, Context())
    with pytest.raises(ConfigurationError, match="on_unknown"):
        lambda_handler(seen, on_unknown="ignore")


# All sources.

SOURCES: dict[str, tuple[str, Any]] = {
    "sqs": ("aws:sqs", sqs(sqs_record("hello", 1))),
    "sns": ("aws:sns", sqs(sns_record("hello", 1))),
    "kinesis": ("aws:kinesis", sqs(kinesis_record(b"hello", 1, "a"))),
    "mq": ("aws:mq", {"eventSource": "aws:mq", "messages": [mq_message(1, b"hello")]}),
    "kafka": ("aws:kafka", kafka(kafka_record(1, b"hello"))),
    "rabbitmq": ("aws:rmq", rabbitmq(rabbitmq_message(1, b"hello"))),
}
PIPES: list[tuple[Any, int]] = [
    ([dynamodb_record(1), dynamodb_record(2)], 2),
    ([{"eventSource": "aws:kafka", **kafka_record(1, b"1")}], 1),
    ([sqs_record("1", 1)], 1),
]


@pytest.mark.parametrize(("source", "event"), SOURCES.values(), ids=SOURCES)
def test_a_handler_of_text_or_bytes_gets_any_body(source, event, lambda_handler):
    texts: list[str] = []
    raws: list[bytes] = []
    bodies: list[Any] = []

    async def text(body: str) -> None:
        texts.append(body)

    def raw(body: bytes) -> None:
        raws.append(body)

    async def decoded(message: Message) -> None:
        bodies.append(message.body)

    for handler, codec in ((text, None), (raw, None), (decoded, TextCodec())):
        lambda_handler(handler, **({} if codec is None else {"codec": codec}))(event, Context())
    assert (texts, raws, bodies) == (["hello"], [b"hello"], ["hello"])


@pytest.mark.parametrize(("source", "event"), SOURCES.values(), ids=SOURCES)
def test_a_handler_can_ask_for_the_invocation(source, event, lambda_handler):
    context = Context(30)
    seen = []

    async def handle(body: str) -> None:
        invocation = current_invocation()
        seen.append((invocation.source, invocation.context, invocation.event, invocation.window))
        assert 0 < invocation.remaining() <= 30

    lambda_handler(handle)(event, context)
    assert seen == [(source, context, event, None)]


def test_a_handler_in_a_thread_has_the_invocation_too_and_outside_there_is_none(lambda_handler):
    seen = []

    def handle(body: str) -> None:
        seen.append(current_invocation().source)

    lambda_handler(handle)(sqs(sqs_record("x", 1)), Context())
    assert seen == ["aws:sqs"]
    with pytest.raises(LookupError):
        current_invocation()


@pytest.mark.parametrize(("event", "count"), PIPES)
def test_a_pipes_bare_list_is_handled_as_its_sources_own(event, count, lambda_handler):
    seen = Seen()
    assert failures(lambda_handler(seen)(event, Context())) == []
    assert len(seen.messages) == count


# Dead letters.


class Sqs(Sender):
    """Takes what SQS takes: ten attributes, by names of its alphabet."""

    name = address = "dead"

    def __init__(self) -> None:
        self.sent: list[Message] = []

    async def send(self, *messages: Message[Any]) -> None:
        for each in messages:
            carried(each, channel=self.name, limit=MIB, native={})
            self.sent.append(each)


@pytest.mark.parametrize("names", [["a b"], ["ü"], ["eip"], ["AWS.x"], [f"h{n}" for n in range(15)], ["x" * 300]])
def test_attributes_that_the_dead_letter_channel_cannot_carry_keep_no_message_in_its_batch(names, lambda_handler):
    """Other brokers know names and numbers of headers that SQS does not: the batch would come again for ever."""
    dead, headers = Sqs(), [{name: [111, 107]} for name in names]
    event = kafka(kafka_record(1, b'"fail"') | {"headers": headers})

    async def reject(message: Message) -> None:
        raise Reject("no")

    lambda_handler(reject, dead_letters=dead)(event, Context())
    (message,) = dead.sent
    assert message.headers["dead-letter-reason"] == "Reject: no"
    assert without_dead_letter_headers(message).attributes == dict.fromkeys(names, "ok")


@pytest.mark.parametrize("text", ["no json", "[]", "7", '{"a": {"x": 1}}', "null"])
def test_a_header_of_attributes_that_are_none_changes_nothing(text):
    message = Message(1, attributes={"n": 1}, headers={"dead-letter-attributes": text, "h": "x"})
    plain = without_dead_letter_headers(message)
    assert (plain.attributes["n"], plain.headers) == (1, {"h": "x"})
