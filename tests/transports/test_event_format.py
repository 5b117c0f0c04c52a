"""Messages as events and back: nothing is lost, what is no event is refused, events of others are read."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eip import Message
from eip.codec import TextCodec
from eip.errors import DecodeError, InvalidMessage, MessageTooLarge
from eip.message import SequenceInfo
from eip.transports._capabilities import EVENTBRIDGE
from eip.transports._event_format import EventEntry, SentEvent, entry_of, message_of, read_event
from eip.transports.aws.kinesis.records import load_record

PLACE = {"id": "e1", "account": "123456789012", "region": "eu-central-1"}

OF_A_SERVICE = """{"version": "0", "id": "6a7e8feb", "detail-type": "Object Created", "source": "aws.s3",
 "account": "111122223333", "time": "2026-11-12T00:00:00Z", "region": "ca-central-1",
 "resources": ["arn:aws:s3:::bucket"], "detail": {"bucket": {"name": "bucket"}, "size": 5}}"""


def event_of(message):
    return SentEvent(message, entry_of(message, channel="b"), **PLACE)


def there_and_back(message):
    event = event_of(message)
    text = json.dumps(dict(event), default=float)
    found = read_event(text)
    assert found is not None
    received, error = message_of(found)
    assert error is None
    return received


scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
bodies = st.dictionaries(st.text(max_size=10).filter(lambda key: key != "eip"), values, max_size=5)
attributes = st.dictionaries(
    st.text(min_size=1, max_size=10), st.text() | st.booleans() | st.integers(-9, 9) | st.binary() | st.floats(-9, 9)
)


@given(body=bodies, attributes=attributes, group=st.none() | st.text(min_size=1, max_size=9))
def test_nothing_is_lost_on_the_way(body, attributes, group):
    message = Message(
        body,
        type="Sold",
        source="shop",
        group_id=group,
        correlation_id="c",
        return_address="memory:queue/r",
        sequence=SequenceInfo("s", 1, 2),
        expires_at=4_000_000_000.5,
        headers={"attempts": "1"},
        attributes=attributes,
    )
    received = there_and_back(message)
    assert received.body == body
    assert dict(received.attributes) == attributes
    assert received.headers["attempts"] == "1"
    for name in ("id", "type", "source", "group_id", "correlation_id", "return_address", "sequence", "expires_at"):
        assert getattr(received, name) == getattr(message, name)
    assert received.created_at == pytest.approx(message.created_at)


EXACT = Decimal("0.12345678901234567890")


@pytest.mark.parametrize(
    "body",
    [{"a": [{"b": EXACT}]}, {"many": [0] * 2_000, "last": EXACT}, {"first": EXACT, "many": [[]] * 2_000}],
    ids=["nested", "behind many values", "before many values"],
)
def test_digits_that_a_float_loses_are_kept_wherever_they_are(body):
    """Events without such a number are read the quick way."""
    event = event_of(Message(body, type="T", source="s", expires_at=1.5))
    assert {key: event["detail"][key] for key in body} == body
    plain = event_of(Message({"n": 1}, type="T", source="s", expires_at=4e9))
    assert isinstance(plain["detail"]["eip"]["exp"], float)


def test_a_foreign_consumer_sees_the_users_object_and_one_key_more():
    detail = json.loads(entry_of(Message({"n": 1}, type="T", source="s"), channel="b").detail)
    assert detail.pop("eip")["id"]
    assert detail == {"n": 1}
    assert json.loads(entry_of(Message({}, type="T", source="s"), channel="b").detail).keys() == {"eip"}


def test_numbers_keep_their_digits():
    event = event_of(Message({"price": Decimal("0.12345678901234567890"), "n": 2**70}, type="T", source="s"))
    message, error = message_of(dict(event))
    assert error is None
    assert b"0.12345678901234567890" in message.encode()
    assert message.body["n"] == 2**70


def test_an_event_of_a_service_is_a_message():
    event = read_event(OF_A_SERVICE)
    assert event is not None
    message, error = message_of({**event, "replay-name": "again"})
    assert error is None
    assert (message.id, message.type, message.source) == ("6a7e8feb", "Object Created", "aws.s3")
    assert message.body == {"bucket": {"name": "bucket"}, "size": 5}
    assert message.created_at == 1_794_441_600.0
    assert message.replay_name == "again"
    assert message.headers["event-account"] == "111122223333"
    assert message.headers["event-region"] == "ca-central-1"
    assert message.headers["event-time"] == "2026-11-12T00:00:00Z"
    assert json.loads(message.headers["event-resources"]) == ["arn:aws:s3:::bucket"]


def test_an_event_in_a_record_of_a_stream_is_a_message():
    """As a rule with a stream as its target writes it: the event's id is the partition key."""
    where = {"shard": "shardId-000000000000", "sequence-number": "5"}
    known: dict[str, Any] = {"id": "shardId-000000000000:5", "created_at": 1.0, "headers": where}
    message, error = load_record(OF_A_SERVICE.encode(), key="6a7e8feb", **known)
    assert error is None
    assert (message.id, message.type, message.group_id) == ("6a7e8feb", "Object Created", "6a7e8feb")
    assert message.headers["event-region"] == "ca-central-1"
    assert {name: message.headers[name] for name in where} == where
    ours = event_of(Message({"n": 1}, type="T", source="s", group_id="g"))
    message, error = load_record(json.dumps(dict(ours)).encode(), key="e1", **known)
    assert (message.body, message.group_id) == ({"n": 1}, "g")


def test_a_key_eip_that_is_no_envelope_is_the_users():
    event = {"id": "1", "source": "aws.ec2", "detail-type": "T", "detail": {"eip": "203.0.113.7"}}
    assert message_of(event)[0].body == {"eip": "203.0.113.7"}
    assert message_of({**event, "detail": {"eip": {"id": "eipalloc-1"}}})[0].body == {"eip": {"id": "eipalloc-1"}}


@pytest.mark.parametrize("envelope", [{"id": 5, "at": 1}, {"id": "x", "at": "now"}, {"id": "x", "at": 1, "attrs": [1]}])
def test_an_envelope_that_cannot_be_read_is_told_and_the_raw_body_kept(envelope):
    event = {"id": "1", "source": "s", "detail-type": "T", "detail": {"n": 1, "eip": envelope}}
    message, error = message_of(event)
    assert isinstance(error, DecodeError)
    assert message.body == {"n": 1, "eip": envelope}
    assert message.id == "1"


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (Message({"n": 1}), "type and a source"),
        (Message({"n": 1}, type="T"), "type and a source"),
        (Message({"n": 1}, type="T", source="aws.ec2"), "must not begin with 'aws.'"),
        (Message({"n": 1}, type="T" * 129, source="s"), "128"),
        (Message([1], type="T", source="s"), "JSON object"),
        (Message("text", type="T", source="s"), "JSON object"),
        (Message({"eip": 1}, type="T", source="s"), "the envelope's"),
        (Message("text", type="T", source="s").with_codec(TextCodec()), "text/plain"),
        (Message({"n": 1}, type="T", source="s", created_at=-1.0), "created_at"),
        (Message.received(b'{"n": ', type="T", source="s"), "not JSON"),
        (Message.received(b'{"eip": 1}', type="T", source="s"), "the envelope's"),
    ],
)
def test_what_is_no_event_is_refused(message, complaint):
    with pytest.raises(InvalidMessage, match=complaint):
        entry_of(message, channel="b")


def test_size_is_counted_as_the_service_does():
    """Time counts 14 bytes, the rest its UTF-8 (user guide, "Calculating PutEvents event entry size")."""
    assert EventEntry("sö", "Tü", b'{"a":"\xc3\xa4"}', time=0, body=b"", created_at=0.0).size == 14 + 3 + 3 + 10
    limit = EVENTBRIDGE.message_bytes
    assert limit is not None
    empty = entry_of(Message({"x": ""}, type="T", source="s", id="i", created_at=1.0), channel="b").size
    fits = Message({"x": "x" * (limit - empty)}, type="T", source="s", id="i", created_at=1.0)
    assert entry_of(fits, channel="b").size == limit
    with pytest.raises(MessageTooLarge) as refused:
        entry_of(fits.with_body({"x": "x" * (limit - empty + 1)}), channel="b")
    assert refused.value.size == limit + 1
    event = json.dumps(dict(event_of(fits)))
    assert len(event) < 1024 * 1024, "the event around the entry fits into a queue"


@pytest.mark.parametrize(
    "raw",
    ["", "[]", "5", '{"detail-type": 1, "source": "s", "detail": {}}', '{"detail-type": "T", "source": "s"}', "{"],
)
def test_other_text_is_no_event(raw):
    assert read_event(raw) is None
