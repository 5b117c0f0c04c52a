"""A message as the data of a record: the user's own JSON with one reserved key, which holds the envelope.

    {"eip": {"id": "...", "type": "Click", ...}, "page": "/", "user": 7}         a body that is an object
    {"eip": {"id": "...", "in": "body", ...}, "body": [1, 2, 3]}                 any other body

So a foreign consumer reads our records as plain JSON. Records without the key come from foreign producers: all of their
data is the body, and their id says where they are in the stream, so that it is the same each time they are read. Those
that a rule of an event bus wrote are the events that they hold.
"""

from __future__ import annotations

import json
from typing import Any, Final

from eip.codec import JSON, TextCodec, dump_json, load_json
from eip.envelope import ENVELOPE_KEY, dump_attributes, envelope_fields, load_attributes, parse_envelope
from eip.errors import DecodeError
from eip.events import message_of, read_event
from eip.message import Message

__all__ = ["dump_record", "load_record"]

_OPENING: Final = b'{"' + ENVELOPE_KEY.encode() + b'":'
_RESERVED: Final = b'"' + ENVELOPE_KEY.encode() + b'"'
_decode_at: Final = json.JSONDecoder().raw_decode


def dump_record(message: Message[Any]) -> bytes:
    """The message as a record's data. Raises `InvalidMessage` for a body that cannot be encoded."""
    fields = envelope_fields(message)
    fields.pop("group", None)  # the partition key carries it
    if message.attributes:
        fields["attrs"] = dump_attributes(message.attributes)
    body = message.encode()
    if message.codec.content_type == TextCodec.content_type:
        fields["ct"] = TextCodec.content_type
        body = dump_json(body.decode())
    elif body.startswith(b"{") and _RESERVED not in body:
        rest = b"}" if body == b"{}" else b"," + body[1:]
        return _OPENING + dump_json(fields) + rest
    fields["in"] = "body"
    return b"".join((_OPENING, dump_json(fields), b',"body":', body, b"}"))


def load_record(data: bytes, *, key: str, **known: Any) -> tuple[Message[Any], Exception | None]:
    """The message of a record's data, and why its envelope cannot be read where that is so.

    Its partition key is the message's group, or its id where it was sent without one. ``known`` are the constructor's
    keywords that the record itself tells (id, time of arrival); the envelope's take precedence.
    """
    known["group_id"] = key
    if not data.startswith(_OPENING):
        if b'"detail-type"' in data and (event := read_event(data)) is not None:
            return message_of(event, **known)
        return Message.received(data, **known), None
    try:
        text = data.decode()
        start = len(_OPENING)
        while text[start] == " ":  # written anew by someone else
            start += 1
        fields, end = _decode_at(text, start)
        envelope = parse_envelope(fields)
        if envelope.get("id") == key:
            envelope["group_id"] = None
        if "attrs" in fields:
            envelope["attributes"] = load_attributes(fields["attrs"])
        if "headers" in envelope:
            envelope["headers"] = {**envelope["headers"], **known.get("headers", {})}
        if fields.get("in") != "body":
            rest = text[end:].lstrip()
            body = "{" + rest[1:] if rest.startswith(",") else "{" + rest
            return Message.received(body.encode(), **{**known, **envelope}), None
        body = text[end:].partition(":")[2].strip()[:-1]
        if fields.get("ct") == TextCodec.content_type:
            return Message.received(load_json(body).encode(), codec=TextCodec(), **{**known, **envelope}), None
        return Message.received(body.encode(), codec=JSON, **{**known, **envelope}), None
    except (ValueError, AttributeError, TypeError, IndexError) as error:
        failure = error if isinstance(error, DecodeError) else DecodeError(f"envelope cannot be read: {error}")
        return Message.received(data, **known), failure
