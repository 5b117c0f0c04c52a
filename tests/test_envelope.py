"""The envelope's wire form: compact, complete, and hard against what strangers send."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from eip import Message, SequenceInfo, envelope
from eip.envelope import body_from_text, body_to_text, dump_envelope, envelope_fields, parse_envelope
from eip.errors import DecodeError
from eip.message import RESERVED_KEYS

TEXT = st.none() | st.text(max_size=20)


@given(
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    st.none() | st.floats(0, 1e12),
    st.none() | st.builds(SequenceInfo, st.text(), st.integers(0, 9), st.none() | st.integers(1, 9)),
    st.dictionaries(st.text(), st.text(), max_size=3),
)
def test_every_field_comes_back(kind, source, correlation_id, group_id, expires_at, sequence, headers):
    message = Message(
        1,
        type=kind,
        source=source,
        correlation_id=correlation_id,
        group_id=group_id,
        expires_at=expires_at,
        sequence=sequence,
        headers=headers,
        return_address="q",
        deduplication_id="d",
        traceparent="t",
    )
    assert Message(1, **parse_envelope(dump_envelope(message))) == message


def test_unset_fields_take_no_room():
    assert set(envelope_fields(Message(1))) == {"v", "id", "at"}


def test_unknown_keys_of_newer_senders_are_kept_and_passed_on():
    """Fault 50: a message of a later version, passed on by this one, has lost nothing."""
    fields = {"v": 9, "id": "m", "at": 1.0, "novel": {"deep": [1, None, 2**80]}}
    message = Message(1, **parse_envelope(fields))
    for passed in (message, message.replace(group_id="g"), message.with_body(2), message.sealed()):
        assert envelope_fields(passed).items() >= fields.items()
    assert "novel" not in envelope_fields(message.reply(2))


@pytest.mark.parametrize(
    "wrong",
    [
        "[]",
        "{",
        "null",
        '{"id":1}',
        '{"at":"now"}',
        '{"at":true}',
        '{"seq":["a",-1,2]}',
        '{"seq":["a"]}',
        '{"seq":{}}',
        '{"headers":[]}',
        '{"headers":{"a":1}}',
        "[" * 100_000,
    ],
)
def test_a_malformed_envelope_is_a_decode_error(wrong):
    with pytest.raises(DecodeError):
        parse_envelope(wrong)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_whatever_json_a_stranger_sends_is_parsed_or_refused(value):
    try:
        fields = parse_envelope(json.dumps(value))
    except DecodeError:
        return
    Message(1, **fields)


def test_extensions_cannot_have_the_key_of_a_field():
    """Fault 18: one list in the message, one in the envelope."""
    assert {*envelope._TEXT, *envelope._TIMES, *envelope._OTHERS, "seq", "headers"} == RESERVED_KEYS


def is_carried(character: str) -> bool:
    """Whether SQS and SNS take it: what XML 1.0 has a place for (SQS API reference, SendMessage)."""
    code = ord(character)
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000


@pytest.mark.parametrize("around", ["", "a", "Ünï🦄"])
def test_text_that_the_services_take_travels_as_it_is_and_any_other_in_base64(around):
    edges = (0xD7FF, 0xE000, 0xFFBE, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x1FFFE, 0x10FFFF)
    for character in map(chr, (*range(0x100), *edges)):
        raw = f"{around}{character}{around}".encode()
        text, fields = body_to_text(Message.received(raw))
        assert (text == raw.decode()) is is_carried(character), f"U+{ord(character):04X}"
        assert ("enc" in fields) is not is_carried(character)
        assert body_from_text(text, {"v": 1, **fields}).raw == raw


class Titled(BaseModel):
    title: str


@pytest.mark.parametrize("character", [*map(chr, range(0x20)), "\x7f", "\ufffe", "\uffff"])
def test_a_json_body_of_ours_never_leaves_with_a_character_that_the_services_refuse(character):
    """Such bodies are not searched for control characters, since JSON has them escaped."""
    for body in (character, {character: 1}, {"a": [character]}, Titled(title=character)):
        text, _ = body_to_text(Message(body))
        assert all(map(is_carried, text))
