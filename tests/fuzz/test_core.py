"""The core's own readers: envelopes, stored messages, attributes."""

from __future__ import annotations

from typing import Any

from eip import Message, SequenceInfo
from eip.codec import json_members, load_json
from eip.envelope import (
    body_from_json,
    body_from_text,
    body_to_json,
    body_to_text,
    dump_message,
    load_message,
    parse_envelope,
)
from eip.errors import DecodeError
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
