"""Faults 1, 3, 6 and 14 in Lambda: a malformed record is that record's failure, whatever the source."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from eip import Message
from eip.codec import TextCodec
from eip.envelope import dump_envelope
from eip.errors import ConfigurationError
from eip.packs import entry_of, pack
from eip.runtime.dispatch import Handlers
from eip.transports.aws import lambda_host
from eip.transports.aws.lambda_host import InvocationFailed
from eip.transports.aws.lambda_host._events import arrived
from tests.support.lambda_events import (
    Context,
    Recorder,
    failures,
    kinesis_record,
    mq_message,
    sns_record,
    sqs,
    sqs_record,
)


def sqs_with(odd: Any) -> dict:
    return sqs(sqs_record("1", 1), odd, sqs_record("2", 2))


def kinesis_with(odd: Any) -> dict:
    return {"Records": [kinesis_record(b"1", 1, "a"), odd, kinesis_record(b"2", 3, "b")]}


def sns_with(odd: Any) -> dict:
    return {"Records": [sns_record("1", 1), odd, sns_record("2", 2)]}


def mq_with(odd: Any) -> dict:
    return {"eventSource": "aws:mq", "messages": [mq_message(1, b"1"), odd, mq_message(2, b"2")]}


def changed(record: dict, path: str, value: Any) -> dict:
    """A copy of the record with a value put at a dotted path; `...` takes the key away."""
    copy: dict = json.loads(json.dumps(record))
    *outer, key = path.split(".")
    inner = copy
    for name in outer:
        inner = inner[name]
    if value is ...:
        del inner[key]
    else:
        inner[key] = value
    return copy


BINARY = {"a": {"dataType": "Binary", "binaryValue": "no base64!"}}
SQS = sqs_record('{"n": 1}', 7)
KINESIS = kinesis_record(b'{"n": 1}', 2, "k")
MQ = mq_message(7, b'{"n": 1}')
NOTIFICATION = sns_record('{"n": 1}', 7)
NO_OBJECTS: tuple[Any, ...] = (None, 7, "x", [], [[]], True)

#: The event with its odd record, the record's identifier, and the raw bytes of the dead letter (None: the JSON).
ODD: list[tuple[Any, Any, str, bytes | None]] = [
    *((sqs_with, odd, "", None) for odd in NO_OBJECTS),
    *((kinesis_with, odd, "", None) for odd in NO_OBJECTS),
    *((sns_with, odd, "", None) for odd in NO_OBJECTS),
    *((mq_with, odd, "", None) for odd in NO_OBJECTS),
    (sqs_with, {}, "", None),
    (sqs_with, changed(SQS, "messageId", ...), "", b'{"n": 1}'),
    (sqs_with, changed(SQS, "messageId", 7), "", b'{"n": 1}'),
    (sqs_with, changed(SQS, "body", ...), "m7", None),
    (sqs_with, changed(SQS, "body", {"n": 1}), "m7", None),
    (sqs_with, changed(SQS, "body", None), "m7", None),
    (sqs_with, changed(SQS, "attributes", 7), "m7", b'{"n": 1}'),
    (sqs_with, changed(SQS, "attributes.SentTimestamp", "yesterday"), "m7", b'{"n": 1}'),
    (sqs_with, changed(SQS, "attributes.SentTimestamp", "9" * 400), "m7", b'{"n": 1}'),
    (sqs_with, changed(SQS, "messageAttributes", [1]), "m7", b'{"n": 1}'),
    (sqs_with, changed(SQS, "messageAttributes", "x"), "m7", b'{"n": 1}'),
    (sqs_with, changed(SQS, "messageAttributes", {"a": None}), "m7", b'{"n": 1}'),
    (sqs_with, changed(SQS, "messageAttributes", {"a": {"dataType": 1}}), "m7", b'{"n": 1}'),
    (sqs_with, changed(SQS, "messageAttributes", BINARY), "m7", b'{"n": 1}'),
    (sqs_with, changed(SQS, "messageAttributes", {"a": {"dataType": "Binary"}}), "m7", b'{"n": 1}'),
    (kinesis_with, {}, "", None),
    (kinesis_with, changed(KINESIS, "kinesis", ...), "", None),
    (kinesis_with, changed(KINESIS, "kinesis", None), "", None),
    (kinesis_with, changed(KINESIS, "kinesis.data", ...), "2", None),
    (kinesis_with, changed(KINESIS, "kinesis.data", "no base64!"), "2", None),
    (kinesis_with, changed(KINESIS, "kinesis.data", "ü"), "2", None),
    (kinesis_with, changed(KINESIS, "kinesis.data", 7), "2", None),
    (kinesis_with, changed(KINESIS, "kinesis.partitionKey", None), "2", b'{"n": 1}'),
    (kinesis_with, changed(KINESIS, "kinesis.sequenceNumber", 7), "", b'{"n": 1}'),
    (kinesis_with, changed(KINESIS, "kinesis.approximateArrivalTimestamp", "soon"), "2", b'{"n": 1}'),
    (kinesis_with, changed(KINESIS, "kinesis.approximateArrivalTimestamp", 1e300), "2", b'{"n": 1}'),
    (kinesis_with, changed(KINESIS, "kinesis.approximateArrivalTimestamp", float("nan")), "2", b'{"n": 1}'),
    (sns_with, changed(NOTIFICATION, "Sns", ...), "", None),
    (sns_with, changed(NOTIFICATION, "Sns", []), "", None),
    (sns_with, changed(NOTIFICATION, "Sns.Message", ...), "s7", None),
    (sns_with, changed(NOTIFICATION, "Sns.Message", 7), "s7", None),
    (sns_with, changed(NOTIFICATION, "Sns.MessageId", ...), "", b'{"n": 1}'),
    (sns_with, changed(NOTIFICATION, "Sns.MessageAttributes", None), "s7", b'{"n": 1}'),
    (sns_with, changed(NOTIFICATION, "Sns.MessageAttributes", [1]), "s7", b'{"n": 1}'),
    (
        sns_with,
        changed(NOTIFICATION, "Sns.MessageAttributes", {"a": {"Type": "Binary", "Value": "!"}}),
        "s7",
        b'{"n": 1}',
    ),
    (mq_with, {}, "", None),
    (mq_with, changed(MQ, "data", ...), "ID:b-7:1:1:1:1", None),
    (mq_with, changed(MQ, "data", None), "ID:b-7:1:1:1:1", None),
    (mq_with, changed(MQ, "data", "no base64!"), "ID:b-7:1:1:1:1", None),
    (mq_with, changed(MQ, "properties", [1]), "ID:b-7:1:1:1:1", b'{"n": 1}'),
    (mq_with, changed(MQ, "properties", {"a": {}}), "ID:b-7:1:1:1:1", b'{"n": 1}'),
    (mq_with, changed(MQ, "timestamp", "yesterday"), "ID:b-7:1:1:1:1", b'{"n": 1}'),
    (mq_with, changed(MQ, "correlationId", {}), "ID:b-7:1:1:1:1", b'{"n": 1}'),
]


@pytest.mark.parametrize(("event_with", "odd", "identifier", "raw"), ODD)
def test_a_malformed_record_is_its_own_failure_and_its_neighbours_are_handled(
    event_with, odd, identifier, raw, lambda_handler
):
    """Fault 1: the service gets the answer that brings that record again, or all where it takes no part."""
    seen = []

    async def handle(message: Message) -> None:
        seen.append(message.body)

    event = event_with(odd)
    if event_with in (sqs_with, kinesis_with):
        assert failures(lambda_handler(handle)(event, Context())) == [identifier]
    else:
        with pytest.raises(InvocationFailed) as failed:
            lambda_handler(handle)(event, Context())
        assert failed.value.failed == (identifier,)
    assert sorted(seen) == [1, 2]
    dead = Recorder()
    assert failures(lambda_handler(handle, dead_letters=dead)(event, Context())) == []
    (letter,) = dead.sent
    assert "dead-letter-reason" in letter.headers
    if raw is not None:
        assert letter.raw == raw
    else:
        assert json.loads(letter.encode()) == odd


def test_a_malformed_record_of_a_group_keeps_what_follows_in_it(lambda_handler):
    """Fault 1: of a FIFO group that which stands behind the malformed record comes again, too."""
    seen = []

    async def handle(message: Message) -> None:
        seen.append(message.body)

    records = [sqs_record(str(n), n, group="ab"[n % 2]) for n in range(5)]
    records[2]["messageAttributes"] = BINARY
    assert failures(lambda_handler(handle)(sqs(*records), Context())) == ["m2", "m4"]
    assert sorted(seen) == [0, 1, 3]


@pytest.mark.parametrize("arn", [None, 7, {}])
def test_a_record_without_its_queue_does_not_hide_the_groups_of_the_others(arn, lambda_handler):
    """The first record named the queue: without it the groups of a FIFO queue did not order their messages."""

    async def handle(message: Message) -> None:
        if message.body == 1:
            raise ValueError("no")

    records = [sqs_record(str(n), n, group="ab"[n % 2]) for n in range(5)]
    records[0]["eventSourceARN"] = arn
    assert failures(lambda_handler(handle)(sqs(*records), Context())) == ["m1", "m3"]


@pytest.mark.parametrize("event", [{"Records": []}, []], ids=["mapping", "pipe"])
def test_a_batch_without_records_is_a_success(event, lambda_handler):
    """It was refused as an event of an unknown source, and came again."""
    seen = []

    async def handle(message: Message) -> None:
        seen.append(message.body)

    assert lambda_handler(handle)(event, Context()) == {"batchItemFailures": []}
    assert lambda_handler(handle, partial_responses=False)(event, Context()) == {"batchItemFailures": []}
    lambda_handler(handle, on_unknown="handle")(event, Context())
    assert seen == ([] if event else [[]])


def test_a_malformed_record_does_not_hide_its_source(lambda_handler):
    seen = []

    async def handle(message: Message) -> None:
        seen.append(message.body)

    assert failures(lambda_handler(handle)(sqs(None, sqs_record("1", 1)), Context())) == [""]
    assert seen == [1]


@pytest.mark.parametrize("messages", [None, {}, "x", 7])
def test_messages_that_are_no_list_fail_the_invocation(messages, lambda_handler):
    async def handle(message: Message) -> None: ...

    event = {"eventSource": "aws:mq", "messages": messages}
    with pytest.raises(InvocationFailed):
        lambda_handler(handle)(event, Context())
    dead = Recorder()
    lambda_handler(handle, dead_letters=dead)(event, Context())
    assert json.loads(dead.sent[0].encode()) == event


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ({"Records": [{"eventSource": "aws:docdb"}]}, "'aws:docdb'"),
        ({"eventSource": "aws:docdb", "rmqMessagesByQueue": {}}, "'aws:docdb'"),
        ({"hello": 1, "b": 2}, r"\['b', 'hello'\]"),
        ([1], "type list"),
        ([{"eventSource": "aws:docdb"}], "'aws:docdb'"),
        (None, "type NoneType"),
        ({"Records": "x"}, "Records"),
        ({"Records": [7]}, "Records"),
        ({"eventSource": ["aws:sqs"]}, "eventSource"),
    ],
)
def test_an_unknown_event_is_refused_with_what_came_and_what_is_known(event, text, lambda_handler):
    async def handle(message: Message) -> None: ...

    with pytest.raises(ConfigurationError, match=text) as refused:
        lambda_handler(handle)(event, Context())
    assert "aws:kinesis" in str(refused.value)


TEXTS = [
    (sqs(sqs_record("Message at 12:00", 1)), "Message at 12:00"),
    ({"Records": [sns_record("Message at 12:00", 1)]}, "Message at 12:00"),
    ({"Records": [kinesis_record(b"Message at 12:00", 1, "k")]}, "Message at 12:00"),
    ({"eventSource": "aws:mq", "messages": [mq_message(1, b"Message at 12:00")]}, "Message at 12:00"),
]


@pytest.mark.parametrize(("event", "text"), TEXTS)
def test_plain_text_is_handled_by_str_and_bytes_handlers_or_with_a_codec(event, text, lambda_handler):
    """Fault 6: the plain text of another producer."""
    seen: list[Any] = []

    async def take_text(body: str) -> None:
        seen.append(body)

    def take_bytes(body: bytes) -> None:
        seen.append(body)

    async def take_message(message: Message) -> None:
        seen.append(message.body)

    lambda_handler(take_text)(event, Context())
    lambda_handler(take_bytes)(event, Context())
    lambda_handler(take_message, codec=TextCodec())(event, Context())
    assert seen == [text, text.encode(), text]


def test_a_malformed_entry_of_a_pack_is_that_entrys_failure(lambda_handler):
    """Fault 1: it does not count as handled, though the handler never looks at a body."""
    handled, dead = [], Recorder()

    async def handle(message: Message) -> None:
        handled.append(message.id)

    packed = pack([entry_of(Message(1, id="a")), b'{"no": "message"}', entry_of(Message(2, id="b"))], Message(None))
    lambda_handler(handle, dead_letters=dead)(sqs(sqs_record(packed, 0)), Context())
    assert sorted(handled) == ["a", "b"]
    assert [each.raw for each in dead.sent] == [b'{"no": "message"}']  # byte for byte, its space too


class Placed(BaseModel):
    n: int


def test_handlers_by_type_are_a_function(lambda_handler):
    handlers, seen = Handlers(), []

    @handlers.add
    async def placed(order: Placed) -> None:
        seen.append(order.n)

    lambda_handler(handlers)(sqs(sqs_record(Message({"n": 3}, type="Placed"), 0)), Context())
    assert seen == [3]


# Amazon MQ.

SAMPLE = {
    "eventSource": "aws:mq",
    "eventSourceArn": "arn:aws:mq:us-west-2:111122223333:broker:test:b-9bcfa592-423a-4942-879d-eb284b418fc8",
    "messages": [
        {
            "messageID": "ID:b-9bcfa592-1.mq.us-west-2.amazonaws.com-37557-1234520418293-4:1:1:1:1",
            "messageType": "jms/text-message",
            "deliveryMode": 1,
            "replyTo": None,
            "type": None,
            "expiration": "60000",
            "priority": 1,
            "correlationId": "myJMSCoID",
            "redelivered": False,
            "destination": {"physicalName": "testQueue"},
            "data": "QUJDOkFBQUE=",
            "timestamp": 1598827811958,
            "properties": {"index": "1", "doAlarm": "false", "myCustomProperty": "value"},
        },
        {
            "messageID": "ID:b-9bcfa592-1.mq.us-west-2.amazonaws.com-37557-1234520418293-4:1:1:1:2",
            "messageType": "jms/bytes-message",
            "deliveryMode": 1,
            "replyTo": None,
            "type": None,
            "expiration": "60000",
            "priority": 2,
            "correlationId": "myJMSCoID1",
            "redelivered": False,
            "destination": {"physicalname": "otherQueue"},
            "data": "LQaGQ82S48k=",
            "timestamp": 1598827811958,
            "properties": {"index": "1", "doAlarm": "false", "myCustomProperty": "value"},
        },
    ],
}
"""The sample of the Developer Guide, "Using Lambda with Amazon MQ"; an older edition spells the queue's key small."""


def test_the_documented_sample_is_handled(lambda_handler):
    """Fault 14: its expiration is a duration, which is no time after which the message is dropped."""
    seen: list[Message] = []

    async def handle(message: Message) -> None:
        seen.append(message)

    lambda_handler(handle)(SAMPLE, Context())
    text, data = sorted(seen, key=lambda message: message.id)
    assert (text.raw, data.raw) == (b"ABC:AAAA", b"\x2d\x06\x86\x43\xcd\x92\xe3\xc9")
    assert (text.correlation_id, text.created_at, text.expires_at) == ("myJMSCoID", 1598827811.958, None)
    assert text.attributes == {"index": "1", "doAlarm": "false", "myCustomProperty": "value"}
    assert "jms-message" not in text.headers
    assert data.headers["jms-message"] == "bytes"
    assert arrived(SAMPLE).name == "otherQueue,testQueue"


SENT_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("expiration", "expires_at"),
    [
        (SENT_MS + 5_000, 1_700_000_005.0),
        (str(SENT_MS + 5_000), 1_700_000_005.0),
        (SENT_MS - 1, None),
        ("60000", None),
        (0, None),
        ("0", None),
        (None, None),
        ("soon", None),
        (-1, None),
        ([], None),
    ],
)
def test_an_expiration_counts_where_it_is_a_time_after_the_message_was_sent(expiration, expires_at):
    message = {**mq_message(1, b"1"), "expiration": expiration}
    (record,) = arrived({"eventSource": "aws:mq", "messages": [message]}).records
    assert (record.error, record.message.expires_at) == (None, expires_at)


def test_an_expired_message_is_dropped_and_the_rest_handled(lambda_handler):
    seen = []

    async def handle(message: Message) -> None:
        seen.append(message.body)

    expired = {**mq_message(1, b"1"), "expiration": SENT_MS + 1}
    lambda_handler(handle)({"eventSource": "aws:mq", "messages": [expired, mq_message(2, b"2")]}, Context())
    assert seen == [2]


PROPERTIES = {
    "expires": "60000",
    "eip": "not ours",
    "eip-1": "x",
    "correlation-id": "theirs",
    "message-id": "theirs",
    "type": "theirs",
    "timestamp": "theirs",
    "reply-to": "/queue/theirs",
    "destination": "/queue/theirs",
    "priority": "9",
    "amq-msg-type": "bytes",
    "content-length": "3",
    "color": "red",
}


def test_properties_are_attributes_whatever_their_names():
    """Fault 14: no property of a JMS producer becomes a header of ours."""
    (record,) = arrived({"eventSource": "aws:mq", "messages": [mq_message(1, b"1", **PROPERTIES)]}).records
    message = record.message
    assert record.error is None
    assert message.attributes == PROPERTIES
    assert (message.id, message.correlation_id, message.type) == ("ID:b-1:1:1:1:1", "c1", None)
    assert (message.return_address, message.expires_at, message.headers) == (None, None, {})


@pytest.mark.parametrize("value", ["{}", '{"id": 1}', "[]", "null", "[" * 3000, '{"a": "eip"}', "\ud800"])
def test_a_property_that_is_not_our_envelope_is_an_attribute(value):
    (record,) = arrived({"eventSource": "aws:mq", "messages": [mq_message(1, b"1", eip=value)]}).records
    if value == "\ud800":
        assert record.error is not None
        assert record.message.raw == b"1"
    else:
        assert (record.error, record.message.attributes) == (None, {"eip": value})


def test_an_envelope_that_is_ours_counts_with_its_attributes_and_the_reserved_names_beside_it():
    sent = Message({"n": 1}, type="T", correlation_id="c1", group_id="g", expires_at=1_700_000_005.0)
    event = mq_message(1, sent.encode(), eip=dump_envelope(sent).decode(), JMSXGroupID="g", expires="never")
    event |= {"type": "T", "expiration": SENT_MS + 5_000}
    (record,) = arrived({"eventSource": "aws:mq", "messages": [event]}).records
    assert record.message == sent.replace(attributes={"expires": "never"})


def test_a_message_of_mq_has_its_return_address_and_count():
    event = {**mq_message(1, b"1"), "replyTo": {"physicalName": "answers"}, "redelivered": True}
    event["correlationID"] = event.pop("correlationId")
    (record,) = arrived({"eventSource": "aws:mq", "messages": [event]}).records
    assert record.message.return_address == "activemq:queue/answers"
    assert (record.message.correlation_id, record.receive_count) == ("c1", 2)


def test_an_event_of_a_bus_that_cannot_be_read_fails_with_its_json():
    event = {"detail-type": "T", "source": "s", "id": "e", "detail": {"a": "\ud800"}}
    (record,) = arrived(event).records
    assert record.error is not None
    assert json.loads(record.message.encode().decode("utf-8", "surrogatepass")) == event


@pytest.mark.parametrize("margin", [-1, float("nan")])
def test_a_margin_is_a_duration(margin):
    async def handle(message: Message) -> None: ...

    with pytest.raises(ConfigurationError, match="margin"):
        lambda_host.lambda_handler(handle, margin=margin)
    with pytest.raises(TypeError, match="margin"):
        lambda_host.lambda_handler(handle, margin="1 s")  # type: ignore[arg-type]
