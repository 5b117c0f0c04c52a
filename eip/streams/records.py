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
_BODY: Final = ',"body":'
"""What stands between the envelope and a body that is no object, as `dump_record` writes it."""


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_decode_at: Final = json.JSONDecoder(parse_constant=_refused).raw_decode


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
    try:
        return (_sent(data, key, known) if data.startswith(_OPENING) else _foreign(data, known)), None
    except Exception as error:  # noqa: BLE001 - whatever a stranger wrote concerns this record alone
        failure = error if isinstance(error, DecodeError) else DecodeError(f"record cannot be read: {error}")
        return Message.received(data, **known), failure


def _foreign(data: bytes, known: dict[str, Any]) -> Message[Any]:
    if b'"detail-type"' in data and (event := read_event(data)) is not None:
        message, error = message_of(event, **known)
        if error is not None:
            raise error
        return message
    return Message.received(data, **known)


def _sent(data: bytes, key: str, known: dict[str, Any]) -> Message[Any]:
    text = data.decode()
    start = len(_OPENING)
    while text[start] == " ":  # written again by someone else
        start += 1
    fields, end = _decode_at(text, start)
    if text.find("\\u", start, end) >= 0:
        load_json(text[start:end])  # refuses lone surrogates, which could be read and never be written
    envelope = parse_envelope(fields)
    if envelope.get("id") == key:
        envelope["group_id"] = None
    if "attrs" in fields:
        envelope["attributes"] = load_attributes(fields["attrs"])
    if "headers" in envelope:
        envelope["headers"] = {**envelope["headers"], **known.get("headers", {})}
    known = {**known, **envelope}
    if fields.get("in") != "body":
        rest = text[end:].lstrip()
        return Message.received(("{" + rest.removeprefix(",")).encode(), **known)
    body = _body(text[end:])
    if fields.get("ct") == TextCodec.content_type:
        return Message.received(load_json(body).encode(), codec=TextCodec(), **known)
    return Message.received(body.encode(), codec=JSON, **known)


def _body(rest: str) -> str:
    """The text after the envelope without its key and the last brace: to the letter where we wrote it."""
    if rest.startswith(_BODY) and rest.endswith("}"):
        return rest[len(_BODY) : -1]
    return rest.partition(":")[2].strip()[:-1]
