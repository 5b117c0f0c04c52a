"""CloudEvents 1.0: our messages as events, and the events of others as messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eip import Consumer, Message, SequenceInfo
from eip.cloudevents import from_cloud_event, is_cloud_event, to_cloud_event
from eip.codec import TextCodec
from eip.errors import DecodeError, InvalidMessage
from eip.patterns.cloud_events import CloudEvents, cloud_events
from eip.testing import run
from eip.transports.memory import MemoryTransport
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
        "seq": ["s", 1, 2],
        "reply": "memory:queue/r",
        "headers": {"history": "x"},
    }
    assert event == {
        "specversion": "1.0",
        "id": "m1",
        "source": "/shop",
        "type": "com.example.sold",
        "time": "2017-07-14T02:40:00.000000Z",
        "expirytime": "2020-09-13T12:26:40.000000Z",
        "datacontenttype": "application/json",
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
    assert message.attributes == {"kind": "a", "region": "eu", "level": 3, "urgent": True}
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
        {"data_base64": "aGk="},
        {"data_base64": "/w==", "datacontenttype": "text/plain"},
        {"correlationid": 7},
        {"eipenvelope": "no json"},
    ],
    ids=str,
)
def test_what_is_no_event_is_a_decode_error(event):
    with pytest.raises(DecodeError):
        from_cloud_event(foreign(**event))


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.booleans()))
def test_whatever_an_event_holds_it_is_read_or_refused(extra):
    try:
        from_cloud_event(foreign(**extra))
    except DecodeError:
        return


def test_a_body_that_no_event_can_hold_is_refused():
    class Binary(TextCodec):
        content_type = "application/octet-stream"

    with pytest.raises(InvalidMessage):
        to_cloud_event(Message("x").with_codec(Binary()))


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
            async with running(Consumer(queue, cloud_events(strict=True)(handle), dead_letter=dead)):
                await until(lambda: len(dead) == 1)

    run(scenario())
