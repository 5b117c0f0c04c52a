"""CloudEvents 1.0 in JSON: a message as a structured event that others read, and theirs as messages.

The envelope's fields have the names of the specification and of its documented extensions where there are such
(``partitionkey``, ``expirytime``, ``traceparent``, ``correlationid``); the others travel in one of ours,
``eipenvelope``. ``subject``, ``dataschema`` and extension attributes are attributes of the message, in both directions.
The data stays the same bytes, of whatever content type: JSON, text, or binary.
Source: CloudEvents specification 1.0.2, "JSON Event Format" and its registry of extensions.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

import orjson

from eip.attributes import dump_attributes, from_wire, load_attributes
from eip.codec import (
    BYTES,
    JSON,
    Codec,
    JsonCodec,
    TextCodec,
    ViewCodec,
    codec_of,
    dump_json,
    is_embeddable,
    is_json,
    json_members,
    load_json,
)
from eip.envelope import VERSION, dump_fields, envelope_fields, load_envelope, parse_envelope
from eip.errors import DecodeError, InvalidMessage
from eip.message import Message

__all__ = [
    "CLOUD_EVENT",
    "dump_cloud_event",
    "from_cloud_event",
    "is_cloud_event",
    "load_cloud_event",
    "to_cloud_event",
]

CLOUD_EVENT: Final[Codec] = JsonCodec("application/cloudevents+json")
"""The codec of a body that is a structured event."""

_EXTENSIONS: Final = {
    "correlationid": "cid",
    "partitionkey": "group",
    "deduplicationid": "dedup",
    "traceparent": "trace",
}
"""Extension attributes, and the envelope's wire keys."""
_TIMES: Final = {"time": "created_at", "expirytime": "expires_at"}
_NATIVE: Final = frozenset(("id", "type", "source", "at", "exp", *_EXTENSIONS.values()))
"""Wire keys of the envelope that an event has attributes for."""
_OURS: Final = frozenset(
    (
        *("specversion", "id", "source", "type", "datacontenttype", "data", "data_base64", "eipenvelope"),
        *(*_EXTENSIONS, *_TIMES),
    )
)
"""Members of an event that are not attributes of the message."""
_NAME: Final = re.compile("[a-z0-9]+")
_NOT_A_STRING: Final = re.compile("[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")
"""Characters that the specification's type String excludes."""
_MAX_INTEGER: Final = 2**31
_KEPT: Final = "ce-"
"""Prefix of the headers that keep a time as it came, where ours would be written in another way."""


# A message as an event.


def dump_cloud_event(message: Message[Any]) -> bytes:
    """The message as a structured event, in JSON.

    A message without source or type, which the specification demands, gets ``/`` and ``message``. Attributes that the
    specification has a type for are extension attributes of the event; others are in ``eipenvelope``.

    Raises:
        InvalidMessage: the body cannot be encoded, or a time is outside of the years 0 to 9999.
    """
    fields = envelope_fields(message)
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": message.id,
        "source": message.source or "/",
        "type": message.type or "message",
        **{name: _time(message, name) for name, field in _TIMES.items() if getattr(message, field) is not None},
        **{name: fields[key] for name, key in _EXTENSIONS.items() if key in fields},
    }
    inside: dict[str, Any] = {}
    for name, value in message.attributes.items():
        (event if _is_extension(name, value) else inside)[name] = value
    if rest := _envelope(fields, inside):
        event["eipenvelope"] = dump_fields(rest).decode()
    event.update(_data(message))
    return dump_fields(event)


def _is_extension(name: str, value: Any) -> bool:
    """Whether the specification has a name and a type for the attribute."""
    if name in _OURS or not _NAME.fullmatch(name):
        return False
    if value.__class__ is str:
        return value != "" and not _NOT_A_STRING.search(value)
    return value.__class__ is bool or (value.__class__ is int and -_MAX_INTEGER <= value < _MAX_INTEGER)


def _envelope(fields: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The envelope's fields that a CloudEvent has no attributes for."""
    rest = {key: value for key, value in fields.items() if key not in _NATIVE}
    headers = {name: text for name, text in rest.pop("headers", {}).items() if not name.startswith(_KEPT)}
    if headers:
        rest["headers"] = headers
    if attributes:
        rest["attrs"] = dump_attributes(attributes)
    return {} if rest == {"v": VERSION} else rest


def _data(message: Message[Any]) -> dict[str, Any]:
    """The members that hold the body, and its content type."""
    raw, codec = message.encode(), message.codec
    kind = {"datacontenttype": codec.content_type}
    if is_json(codec):
        if is_embeddable(raw):
            return {**kind, "data": orjson.Fragment(raw)}
        if not raw:
            return {} if codec.content_type == JSON.content_type else kind
    text = _as_text(raw, codec)
    return {**kind, "data_base64": base64.b64encode(raw).decode()} if text is None else {**kind, "data": text}


def _as_text(raw: bytes, codec: Codec) -> str | None:
    known = codec if isinstance(codec, TextCodec) else codec_of(codec.content_type)
    if not isinstance(known, TextCodec):
        return None
    try:
        text = known.decode(raw)
        return text if known.encode(text) == raw else None  # not so where UTF-16 begins with its mark
    except (DecodeError, InvalidMessage):
        return None


def _time(message: Message[Any], name: str) -> str:
    moment = getattr(message, _TIMES[name])
    kept = message.headers.get(f"{_KEPT}{name}")
    if kept is not None and (found := _moment(kept)) is not None and abs(found - moment) < 1e-4:
        return kept
    try:
        return _written_time(moment)
    except (OverflowError, ValueError, OSError) as error:
        raise InvalidMessage(f"{_TIMES[name]} is {moment}, which a CloudEvent has no form for") from error


def _written_time(moment: float) -> str:
    return _shortest(datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z"))


def _shortest(time: str) -> str:
    """A time in UTC without the zeros that end its fraction."""
    return f"{time[:-1].rstrip('0').rstrip('.')}Z" if "." in time and time.endswith("Z") else time


# An event as a message.


def load_cloud_event(event: Any, *, like: Message[Any], data: bytes | None = None) -> Message[Any]:
    """The message of a decoded event.

    Args:
        event: the object that JSON has it as.
        like: the message that carried it; its attributes, and by default its group, are the event's.
        data: the text of the event's ``data``, whose digits and spaces are kept; default: its value is written again.

    Raises:
        DecodeError: it is not an event of version 1.0.
    """
    match event:
        case {"specversion": "1.0", "id": str() as identity, "source": str() as source, "type": str() as kind} if (
            identity and source and kind
        ):
            pass
        case _:
            raise DecodeError("not a CloudEvent of version 1.0")
    fields, attributes = _read_envelope(event)
    extensions = {key: event[name] for name, key in _EXTENSIONS.items() if isinstance(event.get(name), str)}
    fields = {"group_id": like.group_id, **fields, **parse_envelope(extensions), **_read_times(event)}
    fields["headers"] = {**fields.get("headers", {}), **_kept_times(event, fields)}
    fields["attributes"] = {**_attributes(event), **attributes, **like.attributes}
    raw, codec = _body(event, data)
    try:
        return Message.received(raw, codec=codec, **{**fields, "id": identity, "source": source, "type": kind})
    except InvalidMessage as error:
        raise DecodeError(f"not a CloudEvent that can be passed on: {error}") from error


def _read_envelope(event: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The envelope's fields that an event has no attributes for, and the attributes."""
    text = event.get("eipenvelope")
    if not isinstance(text, str):
        return {}, {}
    fields = load_envelope(text)
    return parse_envelope(fields), load_attributes(fields.get("attrs", {}))


def _read_times(event: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, field in _TIMES.items():
        if event.get(name) is not None:
            moment = _moment(event[name])
            if moment is None:
                raise DecodeError(f"{name} of a CloudEvent is not a time")
            found[field] = moment
    return found


def _kept_times(event: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, str]:
    """The times that we would write in another way: with another offset, more digits, or beyond our calendar."""
    kept: dict[str, str] = {}
    for name, field in _TIMES.items():
        if event.get(name) is not None:
            try:
                same = _written_time(fields[field]) == _shortest(event[name])
            except (OverflowError, ValueError, OSError):
                same = False
            if not same:
                kept[f"{_KEPT}{name}"] = event[name]
    return kept


_RFC_3339: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))?"
)
_DAYS_OF_400_YEARS: Final = 146_097


def _moment(text: object) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None where it is none.

    The standard library's calendar ends with UTC's year 9999 and has no second 60, nor the year 0.
    """
    found = _RFC_3339.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    year, month, day, hour, minute, second, ahead, behind = (int(found[place] or 0) for place in (*range(1, 7), 9, 10))
    if hour > 23 or minute > 59 or second > 60 or ahead > 23 or behind > 59:
        return None
    try:
        days = date(year or 400, month, day).toordinal() - date(1970, 1, 1).toordinal()
    except ValueError:
        return None
    days -= 0 if year else _DAYS_OF_400_YEARS
    offset = (ahead * 60 + behind) * (-60 if found[8] == "-" else 60)
    return days * 86_400 + hour * 3_600 + minute * 60 + second - offset + float(found[7] or 0)


def _attributes(event: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that are not fields of a message."""
    return {
        name: from_wire(value)
        for name, value in event.items()
        if value is not None and (name not in _OURS or (name in _EXTENSIONS and not isinstance(value, str)))
    }


def _body(event: Mapping[str, Any], data: bytes | None) -> tuple[bytes, Codec]:
    """The body's bytes and codec."""
    kind, encoded, value = (event.get(name) for name in ("datacontenttype", "data_base64", "data"))
    if kind is not None and not isinstance(kind, str):
        raise DecodeError("datacontenttype of a CloudEvent is not a string")
    codec = codec_of(kind or JSON.content_type)
    if encoded is not None:
        if value is not None:
            raise DecodeError("a CloudEvent has data or data_base64, not both")
        raw = _unbased(encoded)
        return raw, codec if kind or is_embeddable(raw) else BYTES
    if is_json(codec):
        if "data" not in event:
            return b"", ViewCodec(codec, _json_or_nothing)
        return dump_json(value) if data is None else data, codec
    if not isinstance(value, str):
        return b"" if value is None else dump_json(value), codec
    codec = codec if isinstance(codec, TextCodec) else TextCodec(kind)
    return codec.encode(value), codec


def _json_or_nothing(raw: bytes) -> Any:
    """The body of an event without data is None."""
    return load_json(raw) if raw else None


def _unbased(text: object) -> bytes:
    try:
        return base64.b64decode(text, validate=True)  # type: ignore[arg-type]  # it is checked by that
    except (binascii.Error, TypeError, ValueError) as error:
        raise DecodeError(f"data_base64 of a CloudEvent cannot be read: {error}") from error


# Messages whose body is an event.


def is_cloud_event(message: Message[Any]) -> bool:
    """Whether the message's body is a structured event; decodes it where its text may be one."""
    raw = message.raw
    if raw is not None and (b"specversion" not in raw or not is_json(message.codec)):
        return False
    try:
        body = message.body
    except DecodeError:
        return False
    return isinstance(body, Mapping) and body.get("specversion") == "1.0"


def to_cloud_event(message: Message[Any]) -> Message[Any]:
    """The message with a structured event as its body; id, group, attributes and all else of the envelope stay."""
    return message.with_encoded(dump_cloud_event(message), codec=CLOUD_EVENT)


def from_cloud_event(message: Message[Any]) -> Message[Any]:
    """The message that a structured event holds; raises `DecodeError` where the body is none."""
    event, raw, data = message.body, message.raw, None
    if raw is not None and isinstance(event, Mapping) and "data" in event and not _is_written_so(event, raw):
        data = json_members(raw)["data"]
    return load_cloud_event(event, like=message, data=data)


def _is_written_so(event: Mapping[str, Any], raw: bytes) -> bool:
    """Whether the event's values, written again, are the same bytes."""
    try:
        return dump_json(event) == raw
    except InvalidMessage:  # 1e400, which is read as an infinity
        return False
