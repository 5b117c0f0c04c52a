"""CloudEvents 1.0: our messages as events, and the events of others as messages."""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eip import Consumer, Message, SequenceInfo
from eip.attributes import dump_attributes, from_native
from eip.cloudevents import dump_cloud_event, from_cloud_event, is_cloud_event, load_cloud_event, to_cloud_event
from eip.codec import BytesCodec, JsonCodec, TextCodec
from eip.envelope import dump_message, load_message
from eip.errors import DecodeError, InvalidMessage
from eip.packs import pack, unpack
from eip.patterns.cloud_events import CloudEvents, cloud_events
from eip.testing import run
from eip.transports.memory import MemoryTransport
from tests.fuzz import bounded_time, fuzz, mutated, odd_json
from tests.runtime.scripted import running, until

MESSAGE = Message(
    {"price": 3},
    id="m1",
    type="com.example.sold",
    source="/shop",
    correlation_id="c",
    return_address="memory:queue/r",
    group_id="g",
    deduplication_id="d",
    sequence=SequenceInfo("s", 1, 2),
    created_at=1.5e9,
    expires_at=1.6e9,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    attributes={"kind": "a"},
    headers={"history": "x"},
)


def foreign(**event: Any) -> Message[Any]:
    base = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
    return Message.received(json.dumps({**base, **event}).encode(), group_id="g", attributes={"kind": "a"})


def test_an_event_has_the_names_of_the_specification():
    event = json.loads(to_cloud_event(MESSAGE).encode())
    assert json.loads(event.pop("eipenvelope")) == {
        "v": 1,
        "seq": ["s", 1, 2],
        "reply": "memory:queue/r",
        "headers": {"history": "x"},
    }
    assert event == {
        "specversion": "1.0",
        "id": "m1",
        "source": "/shop",
        "type": "com.example.sold",
        "time": "2017-07-14T02:40:00Z",
        "expirytime": "2020-09-13T12:26:40Z",
        "datacontenttype": "application/json",
        "kind": "a",
        "correlationid": "c",
        "partitionkey": "g",
        "deduplicationid": "d",
        "traceparent": MESSAGE.traceparent,
        "data": {"price": 3},
    }


def test_a_message_comes_back_whole():
    event = to_cloud_event(MESSAGE)
    assert (event.id, event.group_id, event.attributes) == ("m1", "g", {"kind": "a"})
    assert is_cloud_event(event)
    assert from_cloud_event(event.sealed()) == MESSAGE
    text = Message("plain", source="/s", type="t").with_codec(TextCodec())
    back = from_cloud_event(to_cloud_event(text).sealed())
    assert (back.body, back.codec.content_type) == ("plain", "text/plain")


def test_what_the_specification_demands_and_a_message_lacks_is_filled_in():
    event = json.loads(to_cloud_event(Message(None)).encode())
    assert (event["source"], event["type"], event["data"]) == ("/", "message", None)


def test_a_foreign_event_is_a_message_whose_extensions_are_attributes():
    message = from_cloud_event(
        foreign(
            time="2026-01-01T00:00:00Z",
            subject="x",
            region="eu",
            level=3,
            urgent=True,
            partitionkey="p",
            data={"a": 1},
        )
    )
    assert (message.id, message.source, message.type, message.body) == ("1", "/s", "t", {"a": 1})
    assert (message.created_at, message.group_id) == (1767225600.0, "p")
    assert message.attributes == {"kind": "a", "subject": "x", "region": "eu", "level": 3, "urgent": True}
    assert from_cloud_event(foreign()).group_id == "g"
    assert from_cloud_event(foreign(data_base64="eyJhIjoxfQ==")).body == {"a": 1}
    assert from_cloud_event(foreign(data_base64="aGk=", datacontenttype="text/plain")).body == "hi"
    assert from_cloud_event(foreign(data="hi", datacontenttype="text/plain; charset=utf-8")).body == "hi"


@pytest.mark.parametrize(
    "event",
    [
        {"specversion": "0.3"},
        {"id": None},
        {"source": 7},
        {"type": None},
        {"time": "yesterday"},
        {"expirytime": 7},
        {"data_base64": "%"},
        {"data_base64": 7},
        {"data_base64": "aGk=", "data": "hi"},
        {"data": "hi", "datacontenttype": 7},
        {"id": ""},
        {"time": "2026-13-01T00:00:00Z"},
        {"time": "2026-01-01T24:00:00Z"},
        {"time": "2026-02-30T00:00:00Z"},
        {"level": "\ud800"},
        {"eipenvelope": "no json"},
    ],
    ids=str,
)
def test_what_is_no_event_is_a_decode_error(event):
    with pytest.raises(DecodeError):
        from_cloud_event(foreign(**event))


# Fault 16: what the specification allows is kept, and passed on as it came.

MEMBERS = ("subject", "dataschema", "datacontenttype", "data", "data_base64", "time", "expirytime", "region", "level")
TIMES = (
    ("2026-01-01T00:00:00Z", 1_767_225_600.0),
    ("2026-01-01t00:00:00z", 1_767_225_600.0),
    ("2026-01-01T02:30:00+02:30", 1_767_225_600.0),
    ("2026-01-01T00:00:00.123456789Z", 1_767_225_600.123456789),
    ("2016-12-31T23:59:60Z", 1_483_228_800.0),
    ("9999-12-31T23:59:59-14:00", 253_402_351_199.0),
    ("9999-12-31T23:59:59Z", 253_402_300_799.0),
    ("0001-01-01T00:00:00+14:00", -62_135_647_200.0),
    ("0000-02-29T00:00:00Z", -62_162_121_600.0),
    ("1969-12-31T23:59:59Z", -1.0),
)


@pytest.mark.parametrize(("text", "moment"), TIMES)
def test_a_time_is_read_and_passed_on_as_it_came(text, moment):
    """Fault 16: lower-case t and z, second 60, offsets at both ends of the calendar."""
    message = from_cloud_event(foreign(time=text, expirytime=text))
    assert (message.created_at, message.expires_at) == (moment, moment)
    again = json.loads(to_cloud_event(load_message(dump_message(message))).encode())
    assert (again["time"], again["expirytime"], "eipenvelope" in again) == (text, text, False)
    changed = json.loads(to_cloud_event(message.replace(created_at=0)).encode())
    assert changed["time"] == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize("moment", [1e12, -1e12, 1e300])
def test_a_time_that_no_event_can_have_is_refused(moment):
    with pytest.raises(InvalidMessage, match="created_at"):
        to_cloud_event(Message(1, created_at=moment))


EVENTS: list[tuple[dict[str, Any], Any]] = [
    ({"subject": "s", "dataschema": "https://example.com/schema", "data": {"a": 1}}, {"a": 1}),
    ({"data_base64": "/wA=", "datacontenttype": "application/vnd.apache.thrift.binary"}, b"\xff\0"),
    ({"data_base64": "/wA="}, b"\xff\0"),
    ({"data_base64": "", "datacontenttype": "image/png"}, b""),
    ({"data": '<much wow="xml"/>', "datacontenttype": "application/xml"}, '<much wow="xml"/>'),
    ({"data": "a,b", "datacontenttype": "text/csv"}, "a,b"),
    ({"data": "a: 1", "datacontenttype": "application/yaml"}, "a: 1"),
    ({"data": "\u00fc", "datacontenttype": "text/plain; charset=iso-8859-1"}, "\u00fc"),
    ({"data": "I'm just a string"}, "I'm just a string"),
    ({"data": {"a": 1}, "datacontenttype": "application/vnd.example+json"}, {"a": 1}),
    ({"data": None}, None),
    ({}, None),
    ({"level": 3, "urgent": True, "region": "eu", "a" * 30: "x", "data": 1}, 1),
]


@pytest.mark.parametrize(("event", "body"), EVENTS)
def test_an_event_is_passed_on_as_it_came(event, body):
    """Fault 16: every attribute and any data, through a store and back."""
    message = from_cloud_event(foreign(**event).replace(attributes={}))
    assert (message.body, type(message.body)) == (body, type(body))
    again = json.loads(to_cloud_event(message).encode())
    known = {name: again[name] for name in event if name in again}
    if "data_base64" in event and "datacontenttype" not in event:
        assert again.pop("datacontenttype") == "application/octet-stream"
    if "data" in event and "datacontenttype" not in event:
        assert again.pop("datacontenttype") == "application/json"  # the implied one, which others may need
    again.pop("time")
    assert known == event
    assert again == {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "partitionkey": "g", **event}
    stored = load_message(dump_message(message))
    assert (stored.encode(), stored.codec.content_type) == (message.encode(), message.codec.content_type)


def test_data_is_the_same_bytes():
    """Fault 12, for CloudEvents: digits, spaces and doubled keys of data stay, alone and in a batch."""
    piece = b'{ "n": 1.10, "n": 1e400 }'
    event = b'{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": %b}' % piece
    assert from_cloud_event(Message.received(event)).encode() == piece
    assert json.loads(json.dumps(to_cloud_event(from_cloud_event(Message.received(event))).encode().decode()))
    assert piece in to_cloud_event(from_cloud_event(Message.received(event))).encode()
    batch = b"[%b, %b]" % (event, event.replace(piece, b"7"))
    assert [each.encode() for each in unpack(Message.received(batch))] == [piece, b"7"]


def test_an_attribute_that_the_specification_has_no_type_for_comes_back_with_its_own():
    attributes: dict[str, Any] = {
        "Upper": "x",
        "price": 1.5,
        "exact": Decimal("1.10"),
        "big": 2**31,
        "raw": b"\xff",
        "tags": ["a", 1],
        "empty": "",
        "bell": "\a",
        "id": "mine",
        "uuid": from_native("String.UUID", "8a1b"),
    }
    event = to_cloud_event(Message(1, attributes=attributes)).replace(attributes={})
    assert json.loads(event.encode()).keys().isdisjoint(attributes.keys() - {"id"})
    read = from_cloud_event(event.sealed()).attributes
    assert dump_attributes(read) == dump_attributes(attributes)


def test_an_event_says_what_it_is():
    """The media types of structured events and batches (JSON Event Format, sections 3 and 4.2)."""
    event = to_cloud_event(MESSAGE)
    assert event.codec.content_type == "application/cloudevents+json"
    assert pack([dump_cloud_event(MESSAGE)], MESSAGE, format="cloudevents").codec.content_type == (
        "application/cloudevents-batch+json"
    )


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
attribute = (
    texts | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.binary(max_size=8)
)
codecs = st.sampled_from(
    [
        JsonCodec(),
        JsonCodec("application/x+json"),
        TextCodec(),
        TextCodec("text/xml; charset=windows-1252"),
        BytesCodec(),
    ]
)


@given(
    body=st.binary(max_size=30) | st.sampled_from([b'{"a": 1.10}', b"null", b"", b"text", "\u20ac".encode()]),
    codec=codecs,
    attributes=st.dictionaries(st.sampled_from(["subject", "data", "a1", "B"]) | texts, attribute, max_size=4),
    created_at=st.floats(-6e10, 2.5e11),
    headers=st.dictionaries(texts, texts, max_size=2),
    group_id=st.none() | texts,
)
def test_any_message_comes_back_whole(body, codec, attributes, created_at, headers, group_id):
    """A property of both directions: the same bytes, content type, attributes and types, envelope."""
    message = Message.received(
        body,
        codec=codec,
        source="/s",
        type="t",
        attributes=attributes,
        created_at=round(created_at, 6),
        headers=headers,
        group_id=group_id,
        extensions={"novel": 1},
    )
    event = Message.received(to_cloud_event(message).encode())
    back = from_cloud_event(event)
    assert (back.encode(), back.codec.content_type) == (body, codec.content_type)
    assert dump_attributes(back.attributes) == dump_attributes(message.attributes)
    assert abs(back.created_at - message.created_at) < 1e-5
    for name in ("id", "source", "type", "group_id", "headers", "extensions"):
        assert getattr(back, name) == getattr(message, name)


@fuzz(mutated([to_cloud_event(MESSAGE).encode(), *(foreign(**event).encode() for event, _ in EVENTS)]))
def test_whatever_comes_as_an_event_is_read_and_can_be_written_or_is_a_decode_error(raw):
    with bounded_time():
        try:
            read = from_cloud_event(Message.received(raw))
        except DecodeError:
            return
        event = to_cloud_event(read)
        assert from_cloud_event(event.sealed()).encode() == read.encode()
        assert load_message(dump_message(read)).encode() == read.encode()


@given(odd_json(*MEMBERS))
def test_whatever_an_event_holds_it_is_read_or_refused(extra):
    if isinstance(extra, dict):
        with suppress(DecodeError):
            load_cloud_event({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", **extra}, like=MESSAGE)
    with pytest.raises(DecodeError):
        load_cloud_event(extra, like=MESSAGE)


def test_what_is_not_json_is_no_event_and_is_handed_on():
    assert not is_cloud_event(Message.received(b'specversion "1.0"'))
    assert not is_cloud_event(Message.received(b'"specversion"', codec=TextCodec()))


def test_events_as_the_codec_of_a_channel():
    async def scenario() -> None:
        async with MemoryTransport() as transport:
            queue, dead = transport.queue("q"), transport.queue("dead")
            seen: list[Message[Any]] = []

            async def handle(message: Message[dict]) -> None:
                seen.append(message)

            await CloudEvents(queue).send(MESSAGE.replace(expires_at=None))
            assert is_cloud_event(queue.messages()[0])
            await queue.send(Message({"plain": True}))
            async with running(Consumer(queue, cloud_events()(handle))):
                await until(lambda: len(seen) == 2)
            assert [each.body for each in seen] == [{"price": 3}, {"plain": True}]
            assert seen[0] == MESSAGE.replace(expires_at=None)
            await queue.send(Message({"plain": True}))
            async with running(Consumer(queue, cloud_events(strict=True)(handle), dead_letters=dead)):
                await until(lambda: len(dead) == 1)

    run(scenario())
