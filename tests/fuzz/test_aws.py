"""What SQS delivers, from SNS and EventBridge, too: neighbours are handled, the odd one keeps its raw bytes."""

from __future__ import annotations

import json
from typing import Any

import orjson
from hypothesis import strategies as st

from eip import Message
from eip.channels import with_dead_letter_headers
from eip.errors import DecodeError, InvalidMessage, MessageTooLarge
from eip.limits import MIB
from eip.transports.aws import AwsTransport
from eip.transports.aws._attributes import carried
from eip.transports.aws._batch_results import outcomes_of
from eip.transports.aws._reading import read_message
from eip.transports.aws.sqs.receiver import SqsReceiver
from tests.fuzz import bounded_time, fuzz, mutated, odd_json, odd_text
from tests.fuzz.events import EVENT

OWN = carried(
    Message({"n": 1}, type="T", group_id="g g", headers={"a": "b"}, attributes={"n": 7, "b": b"\0", "t": True}),
    channel="q",
    limit=MIB,
)
WRAPPED: dict[str, Any] = {
    "Type": "Notification",
    "MessageId": "m",
    "TopicArn": "arn:aws:sns:r:1:t",
    "Subject": "S",
    "Message": "1",
}
WRAPPED |= {"MessageAttributes": {"a": {"Type": "Number", "Value": "1.10"}, "b": {"Type": "Binary", "Value": "AP8="}}}
SEEDS = [json.dumps(each).encode() for each in (EVENT, WRAPPED, {**WRAPPED, "Message": json.dumps(EVENT)})]
SEEDS += [OWN.body.encode(), b"Message at 12:00"]

names = st.sampled_from(["eip", "RULE_ARN", "RETRY_ATTEMPTS", "AWS.x", "a"]) | odd_text
native = st.fixed_dictionaries(
    {},
    optional={
        "DataType": st.sampled_from(["String", "Number", "Number.int", "Binary", "Binary.gif", "String.Array", ""]),
        "StringValue": odd_text
        | mutated([OWN.attributes["eip"]["StringValue"].encode()]).map(lambda x: x.decode("latin")),
        "BinaryValue": st.binary(max_size=20),
    },
)
attributes = st.dictionaries(names, native | odd_json(), max_size=4) | odd_json()
system = (
    st.dictionaries(
        st.sampled_from(["MessageGroupId", "SentTimestamp", "ApproximateReceiveCount", "AWSTraceHeader"]), odd_json()
    )
    | odd_json()
)
bodies = mutated(SEEDS).map(lambda raw: raw.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode())
AWS = AwsTransport(region="us-east-1", account="1" * 12)
QUEUE, BUS = AWS.queue("q"), AWS.bus("b")


@fuzz(bodies, attributes, system)
def test_a_message_is_read_or_is_its_own_error_with_its_bytes(body, given, facts):
    with bounded_time():
        message, error = read_message("m", body, facts, given)
    if error is not None:
        assert isinstance(error, DecodeError)
        assert message.raw == body.encode()
    dead = with_dead_letter_headers(message, "because", source="q", count=1)
    with bounded_time():
        sent = carried(dead, channel="dead", limit=MIB)
    assert len(sent.attributes) <= 10
    again, error = read_message("m2", sent.body, {}, sent.attributes)
    assert error is None
    assert again.raw == message.raw


@fuzz(odd_json("Body", "MessageId", "ReceiptHandle", "Attributes", "MessageAttributes", "MD5OfBody"), bodies)
def test_an_odd_entry_of_a_receive_leaves_its_neighbours_alone(odd, body):
    receiver = SqsReceiver(QUEUE._queue, find_queue=AWS.queue, long_poll=1.0, capacity=10)
    good = {"MessageId": "g", "ReceiptHandle": "r1", "Body": "1"}
    odd = {**odd, "ReceiptHandle": "r2", "Body": body} if isinstance(odd, dict) else odd
    deliveries = receiver._deliveries([good, odd, {**good, "ReceiptHandle": "r3"}], 1.0)
    assert [each.receipt for each in deliveries if each.receipt != "r2"] == ["r1", "r3"]
    assert all(each.error is None and each.message.body == 1 for each in deliveries if each.receipt != "r2")


@fuzz(odd_json("Successful", "Failed", "Id", "0", "1", "Code", "SenderFault", "MD5OfMessageBody"))
def test_an_answer_gives_each_entry_an_outcome(answer):
    outcomes = outcomes_of("sqs", "SendMessageBatch", answer if isinstance(answer, dict) else {}, [object()] * 2)
    assert len(outcomes) == 2


@fuzz(odd_json("detail", "eip", "n"))
def test_what_was_read_of_a_bus_can_be_put_on_a_bus(detail):
    try:
        event = {**EVENT, "detail": detail}
        text = orjson.dumps(event, default=str).decode()
    except TypeError:
        return
    message: Any
    message, error = read_message("m", text, {}, {})
    if error is None and message.type:
        try:
            BUS._entry(message)
        except (InvalidMessage, MessageTooLarge):
            return
