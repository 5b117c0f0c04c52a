"""What strangers put on a queue: the odd message is dead-lettered as it is, its neighbours are handled."""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import pytest

from eip import Consumer, Message
from eip.errors import DecodeError
from eip.topology import QueueSpec, Topology
from eip.transports.activemq._decoding import from_frame
from eip.transports.activemq._stomp.frames import Frame
from eip.transports.aws._reading import read_message
from eip.transports.aws.kinesis.records import load_record
from tests.support.aws import native_messages

pytestmark = pytest.mark.aws

NOTIFICATION = {"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:us-east-1:1:t", "Message": "1"}
EVENT = '{"version":"0","id":"e","detail-type":"T","source":"s","account":"1","time":"2026-11-24T00:00:00Z",'
DEEP = EVENT + '"detail":{"deep":' + "[" * 300 + "]" * 300 + "}}"
TEXT = {"DataType": "String", "StringValue": "x"}

ODD = {
    "attributes-null": (json.dumps({**NOTIFICATION, "MessageAttributes": None}), {}),
    "attributes-list": (json.dumps({**NOTIFICATION, "MessageAttributes": [1]}), {}),
    "attribute-null": (json.dumps({**NOTIFICATION, "MessageAttributes": {"a": None}}), {}),
    "attribute-no-base64": (
        json.dumps({**NOTIFICATION, "MessageAttributes": {"a": {"Type": "Binary", "Value": "%"}}}),
        {},
    ),
    "retries-no-number": (
        EVENT + '"detail":{}}',
        {"RULE_ARN": TEXT, "RETRY_ATTEMPTS": {"DataType": "String", "StringValue": "many"}},
    ),
    "surrogate": (EVENT + '"detail":{"a":"\\ud800","b":1.00000000000000000001}}', {}),
    "deep-event": (DEEP, {}),
    "deep-body": ("[" * 100_000, {}),
    "envelope-deep": ("{}", {"eip": {"DataType": "String", "StringValue": '{"eip":' * 300}}),
    "envelope-list": ("{}", {"eip": {"DataType": "String", "StringValue": "[]"}}),
    "envelope-wrong-types": ("{}", {"eip": {"DataType": "String", "StringValue": '{"id":1,"headers":[]}'}}),
    "envelope-binary": ("{}", {"eip": {"DataType": "Binary", "BinaryValue": b"\xff"}}),
}


@pytest.mark.parametrize("odd", ODD, ids=str)
async def test_a_strangers_message_stops_no_other(aws, moto_server, odd):
    """Fault 1: whatever reading one message raises belongs to that message."""
    name = f"s{uuid4().hex[:12]}"
    await Topology(QueueSpec(name, visibility=30)).apply(aws)
    queue, sqs = aws.queue(name), moto_server.client("sqs")
    url = await queue.url()
    body, attributes = ODD[odd]
    for each in ("1", "2"):
        sqs.send_message(QueueUrl=url, MessageBody=each)
    sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=attributes)
    for each in ("3", "4"):
        sqs.send_message(QueueUrl=url, MessageBody=each)
    handled: set[object] = set()

    async def handle(message: Message) -> None:
        handled.add(message.body)

    consumer = Consumer(queue, handle)
    task = asyncio.create_task(consumer.run())
    async with asyncio.timeout(60):
        while consumer.stats.handled < 4 or consumer.stats.dead_lettered < 1:
            await asyncio.sleep(0.02)
    await consumer.stop()
    await task
    assert handled == {1, 2, 3, 4}
    (dead,) = native_messages(sqs, await aws.queue(f"{name}-dead").url())
    assert dead["Body"] == body


@pytest.mark.parametrize(
    ("identity", "system", "attributes"),
    [
        ("\ud800", {}, {}),
        ("m", {"MessageGroupId": "\ud800"}, {}),
        ("m", {}, {"a": {"DataType": "String", "StringValue": "\ud800"}, "b": TEXT}),
        ("m", {}, {"eip": {"DataType": "String", "StringValue": "\ud800"}, "b": TEXT}),
    ],
)
def test_lone_surrogates_outside_the_body_are_the_error_of_that_message(identity, system, attributes):
    """Fault 1: the reader of what cannot be read raised as well; an emulator's JSON can hold them."""
    message, error = read_message(identity, "[" * 100, system, attributes)
    assert isinstance(error, DecodeError)
    assert message.raw == b"[" * 100
    assert set(message.attributes) <= {"b"}


@pytest.mark.parametrize("identity", ["", None, 5, ["x"]])
def test_an_id_that_names_nothing_is_the_channels_own(identity):
    """Kind of fault 12: two messages of one empty id were the same to an idempotent receiver, which dropped one."""
    wrapped = json.dumps({**NOTIFICATION, "MessageId": identity})
    event = json.dumps({**json.loads(EVENT + '"detail":{}}'), "id": identity})
    for body in (wrapped, event):
        message, error = read_message("sqs-id", body, {}, {})
        assert error is None
        assert message.id == "sqs-id"


def test_an_envelope_with_an_empty_id_has_none():
    """The same of what programs write that make envelopes themselves, on every wire."""
    envelope = {"id": "", "at": 1.0}
    attribute = {"DataType": "String", "StringValue": json.dumps(envelope)}
    event = json.dumps({**json.loads(EVENT + '"detail":{}}'), "detail": {"eip": envelope}})
    frame = Frame("MESSAGE", {"message-id": "mq-id", "eip": json.dumps(envelope)}, b"1")
    found = [
        read_message("sqs-id", "1", {}, {"eip": attribute})[0],
        read_message("sqs-id", event, {}, {})[0],
        load_record(json.dumps({"eip": envelope}).encode(), key="k", id="record-id")[0],
        from_frame(frame).message,
    ]
    assert [each.id for each in found] == ["sqs-id", "e", "record-id", "mq-id"]
