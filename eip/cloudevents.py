"""CloudEvents 1.0 in JSON: a message as a structured event that others read, and theirs as messages.

The envelope's fields have the names of the specification and of its documented extensions where there are such
(``partitionkey``, ``expirytime``, ``traceparent``, ``correlationid``); what has none travels in one of ours,
``eipenvelope``. Extension attributes of a foreign event become attributes of the message.
Source: CloudEvents specification 1.0.2, "JSON Event Format" and its registry of extensions.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from eip.codec import JSON, Codec, TextCodec, dump_json, load_json
from eip.envelope import envelope_fields, parse_envelope
from eip.errors import DecodeError, InvalidMessage
from eip.message import Message

__all__ = ["dump_cloud_event", "from_cloud_event", "is_cloud_event", "load_cloud_event", "to_cloud_event"]

_TEXT: Final = TextCodec()
_EXTENSIONS: Final = {
    "correlationid": "cid",
    "partitionkey": "group",
    "deduplicationid": "dedup",
    "traceparent": "trace",
}
"""Extension attributes, and the envelope's wire keys."""
_REST: Final = ("seq", "reply", "headers")
"""Wire keys of the envelope that no attribute of the specification is made for."""
_KNOWN: Final = frozenset(
    (
        *("specversion", "id", "source", "type", "time", "subject", "dataschema", "datacontenttype"),
        *("data", "data_base64", "expirytime", "eipenvelope", *_EXTENSIONS),
    )
)


def dump_cloud_event(message: Message[Any]) -> bytes:
    """The message as a structured event, in JSON.

    A message without source or type, which the specification demands, gets ``/`` and ``message``. Attributes are not
    in it: they stay the channel's. Raises `InvalidMessage` for a body that is neither JSON nor text.
    """
    fields = envelope_fields(message)
    event = {
        "specversion": "1.0",
        "id": message.id,
        "source": message.source or "/",
        "type": message.type or "message",
        "time": _time(message.created_at),
        "datacontenttype": message.codec.content_type,
        **{name: fields[key] for name, key in _EXTENSIONS.items() if key in fields},
    }
    if message.expires_at is not None:
        event["expirytime"] = _time(message.expires_at)
    if rest := {key: fields[key] for key in _REST if key in fields}:
        event["eipenvelope"] = dump_json(rest).decode()
    event["data"] = _data(message)
    return orjson.dumps(event)


def _data(message: Message[Any]) -> Any:
    raw = message.encode()
    if message.codec.content_type == JSON.content_type:
        return orjson.Fragment(raw)
    if not message.codec.content_type.startswith("text/"):
        raise InvalidMessage(f"a body of {message.codec.content_type} cannot be a CloudEvent's data")
    return raw.decode()


def load_cloud_event(event: Any, *, like: Message[Any]) -> Message[Any]:
    """The message of a decoded event; it has the attributes of ``like``, which carried it, and its group by default.

    Raises `DecodeError` for what is no event of version 1.0.
    """
    match event:
        case {"specversion": "1.0", "id": str() as identity, "source": str() as source, "type": str() as kind}:
            pass
        case _:
            raise DecodeError("not a CloudEvent of version 1.0")
    fields: dict[str, Any] = {"group_id": like.group_id}
    if isinstance(event.get("eipenvelope"), str):
        fields.update(parse_envelope(event["eipenvelope"]))
    fields.update(parse_envelope({key: event[name] for name, key in _EXTENSIONS.items() if name in event}))
    for name, field in (("time", "created_at"), ("expirytime", "expires_at")):
        if event.get(name) is not None:
            fields[field] = _moment(name, event[name])
    fields.update(id=identity, source=source, type=kind, attributes={**_foreign(event), **like.attributes})
    body, codec = _body(event)
    made: Message[Any] = Message(body, **fields)
    return made if codec is JSON else made.with_codec(codec)


def is_cloud_event(message: Message[Any]) -> bool:
    """Whether the message's body is a structured event; decodes it where its text may be one."""
    raw = message.raw
    if raw is not None and b'"specversion"' not in raw:
        return False
    return isinstance(message.body, Mapping) and message.body.get("specversion") == "1.0"


def to_cloud_event(message: Message[Any]) -> Message[Any]:
    """The message with a structured event as its body; id, group, attributes and all else of the envelope stay."""
    return message.with_codec(JSON).with_encoded(dump_cloud_event(message))


def from_cloud_event(message: Message[Any]) -> Message[Any]:
    """The message that a structured event holds; raises `DecodeError` where the body is none."""
    return load_cloud_event(message.body, like=message)


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _moment(name: str, text: object) -> float:
    """Seconds since the epoch of an RFC 3339 time."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise DecodeError(f"{name} of a CloudEvent is no time") from error
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def _foreign(event: Mapping[str, Any]) -> dict[str, Any]:
    """Extension attributes that are not ours: text, numbers and booleans, as the specification has them."""
    return {name: value for name, value in event.items() if name not in _KNOWN and isinstance(value, (str, int, float))}


def _body(event: Mapping[str, Any]) -> tuple[Any, Codec]:
    kind = str(event.get("datacontenttype") or JSON.content_type)
    text = kind.startswith("text/")
    if event.get("data_base64") is None:
        data = event.get("data")
        return data, _TEXT if text and isinstance(data, str) else JSON
    try:
        raw = base64.b64decode(event["data_base64"], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise DecodeError(f"data_base64 of a CloudEvent cannot be read: {error}") from error
    return (_TEXT.decode(raw), _TEXT) if text else (load_json(raw), JSON)
