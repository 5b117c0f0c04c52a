"""The envelope's wire form: one compact JSON object beside the user's body (DESIGN.md, section 5).

Drivers put it where their service has room (one message attribute named ``eip`` on SQS and SNS, a reserved key in an
EventBridge detail, a header on STOMP) and leave out what the service carries natively.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from eip.codec import load_json
from eip.errors import DecodeError
from eip.message import Message, SequenceInfo

__all__ = ["ENVELOPE_KEY", "dump_envelope", "envelope_fields", "parse_envelope"]

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
            parsed[_TIMES[key]] = float(_checked(key, value, (int, float)))
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


def _sequence(value: Any) -> SequenceInfo:
    match value:
        case [str(whole), int(position), (int() | None) as size] if position >= 0:
            return SequenceInfo(whole, position, size)
    raise DecodeError("envelope field 'seq' is not [id, position, size]")
