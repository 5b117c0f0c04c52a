"""The core's own readers: envelopes, stored messages, attributes."""

from __future__ import annotations

from typing import Any

from eip import Message, SequenceInfo
from eip.codec import TextCodec, json_members, load_json
from eip.envelope import (
    body_from_json,
    body_from_text,
    body_to_json,
    body_to_text,
    dump_message,
    load_message,
    parse_envelope,
)
from eip.errors import DecodeError, InvalidMessage
from eip.packs import entry_of, pack, unpack, unreadable
from eip.transports._event_format import entry_of as entry_of_event
from eip.transports._event_format import message_of, read_event
from tests.fuzz import bounded_time, fuzz, mutated, odd_json

WHOLE = Message(
    {"a": [1, 2.5, "x"]},
    type="T",
    group_id="g",
    correlation_id="c",
    expires_at=9e9,
    sequence=SequenceInfo("s", 1, 2),
    headers={"attempts": "1"},
    attributes={"n": 7, "b": b"\0", "l": ["a", 1]},
    extensions={"novel": 1},
)
KEYS = ("v", "id", "type", "at", "exp", "seq", "headers", "attrs", "cid", "novel", "ct", "enc", "types")


@fuzz(mutated([dump_message(WHOLE), dump_message(Message("text")), dump_message(Message(b"\xff\0"))]))
def test_a_stored_message_is_read_and_can_be_written_or_is_a_decode_error(raw):
    with bounded_time():
        try:
            read = load_message(raw)
        except DecodeError:
            return
        assert load_message(dump_message(read)) == read


@fuzz(odd_json(*KEYS))
def test_an_envelope_is_read_and_can_be_written_or_is_a_decode_error(value):
    try:
        envelope = parse_envelope(value)
    except DecodeError:
        return
    message: Message[Any] = Message.received(b"1", **envelope)
    assert load_message(dump_message(message)) == message


@fuzz(
    mutated(
        [
            b'{"a": 1}',
            b'"text"',
            b"plain text",
            b"\x1f\x8b\x08\0",
            b"[1.10, 1e400]",
            b"",
            b"1,2",
            b"],[",
            b'1,"b":2',
            b'{"a":1,"a":2}',
        ]
    )
)
def test_a_body_is_the_same_bytes_wherever_it_travels(raw):
    """Faults 3 and 12: bodies that are not UTF-8, not JSON, empty, or that JSON would write in another way."""
    message = Message.received(raw)
    text, fields = body_to_text(message)
    assert body_from_text(text, {"id": "x", **fields}).raw == raw
    piece, fields = body_to_json(message)
    assert list(json_members(b'{"b":' + piece + b"}").values()) == [piece]
    load_json(b'{"b":' + piece + b"}")
    assert body_from_json(piece, {"id": "x", **fields}).raw == raw
    assert load_message(dump_message(message)).encode() == raw


MEMBERS: list[Message[Any]] = [
    Message({"a": 1.10}, id="a", type="T"),
    Message("text", id="b", codec=TextCodec()),
    Message(b"\xff", id="c"),
]
PACKS = [
    pack([entry_of(each) for each in MEMBERS], MEMBERS[0], encoding=encoding).encode()
    for encoding in ("identity", "gzip", "zstd")
]
PACKS += [
    pack([entry_of(each, shared=True) for each in MEMBERS], MEMBERS[0], shared=True).encode(),
    pack([entry_of(each, format="cloudevents") for each in MEMBERS], MEMBERS[0], format="cloudevents").encode(),
]


@fuzz(mutated(PACKS), short=300)
def test_a_pack_is_unpacked_into_messages_that_can_be_packed_again_or_is_a_decode_error(raw):
    """The oracle: what is read and written again is read as the same, byte for byte."""
    with bounded_time():
        try:
            members = unpack(Message.received(raw))
        except DecodeError:
            return
        for each in members:
            assert load_message(dump_message(each)).encode() == each.encode()
        whole = [each for each in members if unreadable(each) is None]
        if whole:
            again = unpack(pack([entry_of(each) for each in whole], Message(0)).sealed())
            assert [each.encode() for each in again] == [each.encode() for each in whole]
            assert [each.extensions for each in again] == [each.extensions for each in whole]


EVENT = entry_of_event(
    Message({"a": [1.10, None], "b": "\u00fc"}, type="T", source="s", attributes={"n": 7}, extensions={"novel": 1}),
    channel="bus",
)
EVENTS = [
    b'{"version":"0","id":"i","detail-type":"T","source":"s","time":"2026-01-01T00:00:00Z","resources":["r"],"detail":%b}'
    % detail
    for detail in (EVENT.detail, b"{}", b'{ "n": 1.10, "n": 1e400, "eip": 7 }')
]


@fuzz(mutated(EVENTS), short=300)
def test_an_event_is_read_and_can_be_stored_and_sent_or_has_an_error(raw):
    with bounded_time():
        event = read_event(raw)
        if event is None:
            return
        message, error = message_of(event, group_id="g")
        assert error is None or isinstance(error, DecodeError)
        stored = load_message(dump_message(message))
        assert stored.encode() == message.encode()
        try:
            sent = entry_of_event(message, channel="bus")
        except InvalidMessage:  # an empty type or source, "aws.…", a time before 1970, the reserved key
            return
        head = b'{"version":"0","id":"i","detail-type":"T","source":"s","detail":%b}' % sent.detail
        again = read_event(head)
        assert again is not None
        back, error = message_of(again)
        assert error is None
        assert (back.encode(), back.extensions) == (message.encode(), message.extensions)
