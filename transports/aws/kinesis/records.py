"""A message as the data of a record: the user's own JSON with one reserved key, which holds the envelope.

    {"eip": {"id": "...", "type": "Click", ...}, "page": "/", "user": 7}         a body that is an object
    {"eip": {"id": "...", "in": "body", ...}, "body": [1, 2, 3]}                 any other body

So a foreign consumer reads our records as plain JSON. A body that is no JSON is a string, see
`eip.envelope.body_to_json`. The partition key is the message's group, see `to_partition_key`.

Records without the key come from foreign producers: all of their data is the body, and their id says where they are in
the stream, so that it is the same each time they are read. Those that a rule of an event bus wrote are the events that
they hold.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, Final, TypeAlias

import orjson

from eip._ids import MAPPED_PREFIX
from eip.attributes import dump_attributes, load_attributes
from eip.codec import JSON, Codec
from eip.envelope import (
    ENVELOPE_KEY,
    SAFE_LEVELS,
    body_from_json,
    body_to_json,
    dump_fields,
    envelope_fields,
    has_unknown,
    load_envelope,
    parse_envelope,
)
from eip.errors import DecodeError
from eip.message import Message
from eip.transports._event_format import message_of, read_event

__all__ = ["MAX_KEY_BYTES", "RecordFields", "dump_record", "load_record", "to_partition_key", "to_put"]

_OPENING: Final = b'{"' + ENVELOPE_KEY.encode() + b'":'
_RESERVED: Final = b'"' + ENVELOPE_KEY.encode() + b'"'
_BODY: Final = b',"body":'
"""What stands between the envelope and a body that is no object, as `dump_record` writes it."""
_MAX_KEY: Final = 256
"""Characters of a partition key (API reference, PutRecords)."""
MAX_KEY_BYTES: Final = 4 * _MAX_KEY

RecordFields: TypeAlias = tuple[str, str | None, bytes]
"""Partition key, explicit hash key and data of a record."""


def to_put(fields: RecordFields) -> dict[str, Any]:
    """The record as PutRecords takes it."""
    key, hash_key, data = fields
    record: dict[str, Any] = {"Data": data, "PartitionKey": key}
    if hash_key is not None:
        record["ExplicitHashKey"] = hash_key
    return record


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_decode_at: Final = json.JSONDecoder(parse_constant=_refused).raw_decode


def to_partition_key(text: str) -> str:
    """The text as a partition key: itself where Kinesis takes it (1 to 256 characters), otherwise a digest of it.

    As `eip._ids.to_native_id`: the same in every process and version, and no two texts become the same key.
    """
    if 1 <= len(text) <= _MAX_KEY and not text.startswith(MAPPED_PREFIX):
        return text
    return MAPPED_PREFIX + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def dump_record(message: Message[Any], key: str | None = None) -> bytes:
    """The message as a record's data.

    Args:
        message: what is put.
        key: its partition key, if that is known already.

    Raises:
        InvalidMessage: a body that cannot be encoded.
    """
    fields = envelope_fields(message)
    group = message.group_id
    if group is not None and (key or to_partition_key(group)) is group:
        del fields["group"]  # the partition key carries it
    if message.attributes:
        fields["attrs"] = dump_attributes(message.attributes)
    if message.raw is None and message.codec is JSON and message.body.__class__ is dict:
        data = _dump_at_once(fields, message.body)
        if data is not None:
            return data
    body, form = body_to_json(message)
    fields |= form
    if body.startswith(b"{") and _RESERVED not in body:
        members = body[1:2] == b'"' or body[1:].lstrip(b" \t\r\n") != b"}"
        if members or body == b"{}":
            return b"%b%b%b%b" % (_OPENING, dump_fields(fields), b"," if members else b"", body[1:])
    fields["in"] = "body"
    return b"".join((_OPENING, dump_fields(fields), _BODY, body, b"}"))


def _dump_at_once(fields: dict[str, Any], body: dict[str, Any]) -> bytes | None:
    """Envelope and body in one pass, at half the cost; None where something needs a closer look.

    That is a value beyond orjson's, a null that may be a NaN, the reserved key in the body, and many levels.
    """
    if ENVELOPE_KEY in body:
        return None
    try:
        data = b"%b" % orjson.dumps({ENVELOPE_KEY: fields, **body})  # a copy, for the reason of `dump_json`
    except TypeError:
        return None
    if data.rfind(b"null") >= 0 or data.rfind(_RESERVED) != 1:  # backwards, as `dump_json`
        return None
    # Counting takes ten times as long as a look whether there is anything to count.
    nested = data.find(b"{", len(_OPENING) + 1) >= 0 or data.find(b"[") >= 0
    return None if nested and data.count(b"{") + data.count(b"[") >= SAFE_LEVELS else data


def load_record(data: bytes, *, key: str, codec: Codec = JSON, **known: Any) -> tuple[Message[Any], Exception | None]:
    """The message of a record's data, and why it cannot be read where that is so; raises nothing.

    Args:
        data: of the record.
        key: its partition key: the message's group, or its id where it was sent without one.
        codec: of bodies that came without an envelope.
        known: the constructor's keywords that the record itself holds (id, time of arrival); the envelope's take
            precedence.
    """
    known["group_id"] = key
    try:
        return (_sent(data, key, codec, known) if data.startswith(_OPENING) else _foreign(data, codec, known)), None
    except Exception as error:  # noqa: BLE001 - whatever a stranger wrote concerns this record alone
        failure = error if isinstance(error, DecodeError) else DecodeError(f"record cannot be read: {error}")
        return Message.received(data, **known), failure


def _foreign(data: bytes, codec: Codec, known: dict[str, Any]) -> Message[Any]:
    if b'"detail-type"' in data and (event := read_event(data)) is not None:
        message, error = message_of(event, **known)
        if error is not None:
            raise error
        return message
    return Message.received(data, codec=codec, **known)


def _sent(data: bytes, key: str, codec: Codec, known: dict[str, Any]) -> Message[Any]:
    fields, end = _envelope(data)
    envelope = parse_envelope(fields)
    envelope["group_id"] = _group(envelope, key)
    if "attrs" in fields:
        envelope["attributes"] = load_attributes(fields["attrs"])
    if "headers" in envelope:
        envelope["headers"] = {**envelope["headers"], **known.get("headers", {})}
    rest = data[end:]
    piece = _body(rest) if fields.get("in") == "body" else b"{" + rest.lstrip().removeprefix(b",")
    form = body_from_json(piece, fields, channel=codec)
    return Message.received(form.raw, codec=form.codec, **{**known, **envelope})


def _envelope(data: bytes) -> tuple[dict[str, Any], int]:
    """The envelope's fields, and where it ends. Raises `ValueError` where it is none, or the data is not UTF-8."""
    if data.isascii():
        end = data.find(b"}") + 1
        try:  # what is JSON up to the first brace ends there, by itself: most have no object inside
            return load_envelope(data[len(_OPENING) : end]), end
        except DecodeError:
            pass
    text = data.decode()
    start = len(_OPENING)
    while text[start] == " ":  # written again by someone else
        start += 1
    fields, end = _decode_at(text, start)
    if has_unknown(fields) or text.find("\\u", start, end) >= 0:
        fields = load_envelope(text[start:end])  # refuses lone surrogates, which could be read and never be written
    return fields, len(text[:end].encode())


def _group(envelope: dict[str, Any], key: str) -> str | None:
    """The group: the envelope's where it is the key's, none where the key is the message's id, otherwise the key."""
    sent, identity = envelope.get("group_id"), envelope.get("id")
    if sent is not None:
        return str(sent) if to_partition_key(sent) == key else key
    return None if identity is not None and to_partition_key(identity) == key else key


def _body(rest: bytes) -> bytes:
    """The data after the envelope without its key and the last brace: to the letter where we wrote it."""
    if rest.startswith(_BODY) and rest.endswith(b"}"):
        return rest[len(_BODY) : -1]
    return rest.partition(b":")[2].strip()[:-1]
