"""The envelope's wire form: one compact JSON object beside the user's body (DESIGN.md, section 5).

Drivers put it where their service has room (one message attribute named ``eip`` on SQS and SNS, a reserved key in an
EventBridge detail, a header on STOMP) and leave out what the service carries natively.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from eip.codec import JSON, TextCodec, load_json
from eip.errors import DecodeError
from eip.message import Message, SequenceInfo

__all__ = [
    "ENVELOPE_KEY",
    "dump_attributes",
    "dump_envelope",
    "dump_message",
    "envelope_fields",
    "from_wire",
    "load_attributes",
    "load_message",
    "parse_envelope",
    "to_wire",
]

ENVELOPE_KEY = "eip"
"""The name of the attribute, header or reserved key that carries the envelope."""

_TEXT = {
    "id": "id",
    "type": "type",
    "source": "source",
    "cid": "correlation_id",
    "reply": "return_address",
    "group": "group_id",
    "dedup": "deduplication_id",
    "trace": "traceparent",
}
_TIMES = {"at": "created_at", "exp": "expires_at"}


def envelope_fields(message: Message[Any]) -> dict[str, Any]:
    """The envelope's set fields, attributes aside, under their short wire keys."""
    fields = {
        key: value for key, name in (*_TEXT.items(), *_TIMES.items()) if (value := getattr(message, name)) is not None
    }
    if message.sequence is not None:
        fields["seq"] = list(message.sequence)
    if message.headers:
        fields["headers"] = dict(message.headers)
    return fields


def dump_envelope(message: Message[Any]) -> bytes:
    """The envelope as compact JSON in UTF-8."""
    return orjson.dumps(envelope_fields(message))


def parse_envelope(raw: bytes | str | Mapping[str, Any]) -> dict[str, Any]:
    """The constructor keywords of `Message` that an envelope holds; raises `DecodeError` for a malformed one.

    Unknown keys are ignored, so that newer senders can be read.
    """
    fields = raw if isinstance(raw, Mapping) else load_json(raw)
    if not isinstance(fields, Mapping):
        raise DecodeError("envelope is not a JSON object")
    parsed: dict[str, Any] = {}
    for key, value in fields.items():
        if value is None:
            continue
        if key in _TEXT:
            parsed[_TEXT[key]] = _checked(key, value, str)
        elif key in _TIMES:
            parsed[_TIMES[key]] = _time(key, value)
        elif key == "seq":
            parsed["sequence"] = _sequence(value)
        elif key == "headers":
            headers = _checked(key, value, Mapping)
            parsed["headers"] = {name: _checked(f"headers.{name}", text, str) for name, text in headers.items()}
    return parsed


def _checked(key: str, value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DecodeError(f"envelope field {key!r} has the wrong type {type(value).__name__}")
    return value


def _time(key: str, value: Any) -> float:
    try:
        return float(_checked(key, value, (int, float)))
    except OverflowError as error:
        raise DecodeError(f"envelope field {key!r} is no time") from error


def _sequence(value: Any) -> SequenceInfo:
    match value:
        case [str(whole), int(position), (int() | None) as size] if position >= 0:
            return SequenceInfo(whole, position, size)
    raise DecodeError("envelope field 'seq' is not [id, position, size]")


def dump_message(message: Message[Any]) -> bytes:
    """The whole message, as stores hold it: a line of JSON with envelope and attributes, then the body's own bytes."""
    fields = envelope_fields(message)
    if message.attributes:
        fields["attrs"] = dump_attributes(message.attributes)
    if message.codec.content_type != JSON.content_type:
        fields["ct"] = message.codec.content_type
    return orjson.dumps(fields) + b"\n" + message.encode()


def load_message(raw: bytes) -> Message[Any]:
    """The message of `dump_message`; raises `DecodeError` for anything else."""
    head, newline, body = raw.partition(b"\n")
    fields = load_json(head)
    if not newline or not isinstance(fields, Mapping):
        raise DecodeError("not a whole message: it has no body")
    envelope = parse_envelope(fields)
    envelope["attributes"] = load_attributes(fields.get("attrs", {}))
    content_type = fields.get("ct", JSON.content_type)
    if content_type == TextCodec.content_type:
        return Message.received(body, codec=TextCodec(), **envelope)
    if content_type != JSON.content_type:
        raise DecodeError(f"body of content type {content_type!r} cannot be read")
    return Message.received(body, **envelope)


def dump_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes as JSON can hold them, types kept."""
    return {name: to_wire(value) for name, value in attributes.items()}


def load_attributes(found: Any) -> dict[str, Any]:
    """The attributes of `dump_attributes`; raises `DecodeError` for anything else."""
    return {name: from_wire(value) for name, value in _checked("attrs", found, Mapping).items()}


def to_wire(value: Any) -> Any:
    """An attribute's value: plain JSON where that keeps the type, otherwise an object that names it."""
    match value:
        case bytes():
            return {"bytes": b64encode(value).decode()}
        case Decimal():
            return {"decimal": str(value)}
        case list() | tuple():
            return [to_wire(each) for each in value]
    return value


def from_wire(value: Any) -> Any:
    """The value of `to_wire`; raises `DecodeError`."""
    match value:
        case {"bytes": str(text)}:
            try:
                return b64decode(text, validate=True)
            except binascii.Error as error:
                raise DecodeError(f"attribute is not base64: {error}") from error
        case {"decimal": str(text)}:
            try:
                return Decimal(text)
            except InvalidOperation as error:
                raise DecodeError("attribute is no decimal number") from error
        case dict() | None:
            raise DecodeError("attribute of an unknown type")
        case list():
            return [from_wire(each) for each in value]
    return value
