"""The envelope's wire form: one compact JSON object beside the user's body (docs/wire-format.md).

Drivers put it where their service has room (one message attribute named ``eip`` on SQS and SNS, a reserved key in an
EventBridge detail, a header on STOMP) and leave out what the service carries natively.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from math import inf, isfinite
from typing import Any, Final, NamedTuple

import orjson

from eip.attributes import dump_attributes, from_wire, is_unicode, load_attributes, to_wire
from eip.codec import JSON, Codec, codec_of, dump_json, is_embeddable, is_json, load_json
from eip.errors import DecodeError, InvalidMessage
from eip.message import Message, SequenceInfo

__all__ = [
    "ENVELOPE_KEY",
    "SAFE_LEVELS",
    "VERSION",
    "BodyForm",
    "body_from_bytes",
    "body_from_json",
    "body_from_text",
    "body_to_bytes",
    "body_to_json",
    "body_to_text",
    "dump_attributes",
    "dump_envelope",
    "dump_fields",
    "dump_message",
    "encoded_for",
    "envelope_fields",
    "from_wire",
    "has_unknown",
    "load_attributes",
    "load_envelope",
    "load_message",
    "parse_envelope",
    "to_wire",
]

ENVELOPE_KEY: Final = "eip"
"""The name of the attribute, header or reserved key that carries the envelope."""

VERSION: Final = 1
"""Of what this library writes, under the key ``v``. Every version is read: a later one only adds keys."""

_TEXT: Final = {
    "id": "id",
    "type": "type",
    "source": "source",
    "cid": "correlation_id",
    "reply": "return_address",
    "group": "group_id",
    "dedup": "deduplication_id",
    "trace": "traceparent",
}
_TIMES: Final = {"at": "created_at", "exp": "expires_at"}
_MAX_COUNT: Final = 10**3900
"""A position or size is below that; what is read can be written."""
_OTHERS: Final = frozenset(("attrs", "types", "ct", "enc", "in", "b", "body"))
"""Keys that the place which holds an envelope adds: how the attributes and the body are written there."""
_KNOWN: Final = frozenset((*_TEXT, *_TIMES, *_OTHERS, "v", "seq", "headers"))


# The fields.


def envelope_fields(message: Message[Any]) -> dict[str, Any]:  # noqa: C901 - spelled out, see below
    """The envelope's set fields, attributes aside, under their short wire keys; unknown ones as they came."""
    # Spelled out, since every message that leaves pays: a loop over the names takes six times as long.
    fields: dict[str, Any] = {"v": VERSION, **message.extensions} if message.extensions else {"v": VERSION}
    fields["id"] = message.id
    if message.type is not None:
        fields["type"] = message.type
    if message.source is not None:
        fields["source"] = message.source
    if message.correlation_id is not None:
        fields["cid"] = message.correlation_id
    if message.return_address is not None:
        fields["reply"] = message.return_address
    if message.group_id is not None:
        fields["group"] = message.group_id
    if message.deduplication_id is not None:
        fields["dedup"] = message.deduplication_id
    if message.traceparent is not None:
        fields["trace"] = message.traceparent
    fields["at"] = message.created_at
    if message.expires_at is not None:
        fields["exp"] = message.expires_at
    if message.sequence is not None:
        fields["seq"] = list(message.sequence)
    if headers := message.headers:
        fields["headers"] = dict(headers)
    return fields


def dump_fields(fields: Mapping[str, Any]) -> bytes:
    """The fields as compact JSON in UTF-8; raises `InvalidMessage` naming a field that is not Unicode text."""
    try:
        return orjson.dumps(fields)
    except TypeError:
        pass
    try:
        return dump_json(fields)  # integers beyond 64 bits
    except InvalidMessage as error:
        wrong = next((key for key in fields if not _writable(fields[key])), "")
        raise InvalidMessage(f"field {wrong!r} of the envelope cannot be written: {error}") from error


def _writable(value: Any) -> bool:
    try:
        dump_json(value)
    except InvalidMessage:
        return False
    return True


def _can_be_passed_on(value: Any) -> bool:
    try:
        return is_embeddable(dump_json(value))
    except InvalidMessage:
        return False


def dump_envelope(message: Message[Any]) -> bytes:
    """The envelope as compact JSON in UTF-8."""
    return dump_fields(envelope_fields(message))


def has_unknown(fields: Mapping[str, Any]) -> bool:
    """Whether there are fields that this version does not know."""
    return not _KNOWN.issuperset(fields)


def load_envelope(raw: bytes | str) -> Any:
    """The fields of an envelope's text, for `parse_envelope`; what is passed on unread keeps the digits of its numbers.

    Raises:
        DecodeError: the text is not JSON.
    """
    fields = load_json(raw)
    if fields.__class__ is not dict or not has_unknown(fields):
        return fields
    with suppress(ValueError):  # an integer beyond the digits that Python reads from a text: it was read exactly
        exact = json.loads(raw, parse_float=_with_digits)
        fields |= {key: exact[key] for key in fields.keys() - _KNOWN}
    return fields


def _with_digits(text: str) -> float | Decimal:
    value = float(text)
    return value if repr(value) == text else Decimal(text)


def parse_envelope(raw: bytes | str | Mapping[str, Any]) -> dict[str, Any]:
    """The constructor keywords of `Message` that an envelope holds.

    Keys that this version does not know are kept under ``extensions``, and are passed on.

    Raises:
        DecodeError: a malformed envelope; the text names the key.
    """
    fields = load_envelope(raw) if isinstance(raw, (bytes, str)) else raw
    if fields.__class__ is not dict and not isinstance(fields, Mapping):
        raise DecodeError("envelope is not a JSON object")
    parsed: dict[str, Any] = {}
    for key, value in fields.items():
        if value is None or key in _OTHERS or (key == "id" and value == ""):
            continue  # an empty id would make all messages that have one the same
        if (name := _TEXT.get(key)) is not None:
            parsed[name] = value if value.__class__ is str and value.isascii() else _checked(key, value, str)
        elif (name := _TIMES.get(key)) is not None:
            parsed[name] = value if value.__class__ is float and value - value == 0.0 else _time(key, value)
        elif key == "seq":
            parsed["sequence"] = _sequence(value)
        elif key == "headers":
            headers = _checked(key, value, Mapping)
            parsed["headers"] = {
                _checked(key, name, str): _checked(f"headers.{name}", text, str) for name, text in headers.items()
            }
        elif key != "v" or _version(value) != VERSION:
            if not _can_be_passed_on({key: value}):
                raise DecodeError(f"envelope field {key!r:.80} cannot be passed on")
            parsed.setdefault("extensions", {})[key] = value
    return parsed


def _checked(key: str, value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DecodeError(f"envelope field {key!r} has the wrong type {type(value).__name__}")
    if value.__class__ is str and not value.isascii() and not is_unicode(value):
        raise DecodeError(f"envelope field {key!r} is not Unicode text")
    return value


def _version(value: Any) -> int:
    version: int = value if value.__class__ is int else _checked("v", value, int)
    if version < 1:
        raise DecodeError(f"envelope field 'v' must be 1 or more, not {version}")
    return version


def _time(key: str, value: Any) -> float:
    try:
        time = float(_checked(key, value, (int, float)))
    except OverflowError:
        time = inf
    if not isfinite(time):
        raise DecodeError(f"envelope field {key!r} is not a time")
    return time


def _sequence(value: Any) -> SequenceInfo:
    match value:
        case [str(whole), position, size] if _is_count(position) and (size is None or _is_count(size)):
            return SequenceInfo(whole, position, size)
    raise DecodeError("envelope field 'seq' is not [id, position, size]")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT


# The body.


_CONTROLS: Final = bytes({*range(0x20)} - {*b"\t\n\r"})
_NONCHARACTERS: Final = ("\ufffe", "\uffff")
"""Both: what XML 1.0 has no place for, and neither SQS nor SNS (SQS API reference, SendMessage)."""
_EMPTY: Final = " "
"""Stands for an empty body where a service takes none."""


def encoded_for(message: Message[Any], codec: Codec) -> Message[Any]:
    """The message as a channel of that codec sends it.

    A body that was made here, with no codec of its own, is encoded by the channel's. What was received is passed on as
    the bytes that came.
    """
    if codec is JSON or message.codec is not JSON or message.raw is not None:
        return message
    return message.with_codec(codec)


class BodyForm(NamedTuple):
    """A received body: its bytes, and what decodes them."""

    raw: bytes
    codec: Codec


def body_to_text(message: Message[Any]) -> tuple[str, dict[str, str]]:
    """The body for a channel that carries text only, and the envelope's fields that say how to read it.

    The fields are ``ct``, the content type where it is not JSON, and ``enc``, where the bytes are not text:
    ``"base64"``, or ``"empty"`` for a body of no bytes, which travels as a space.
    """
    raw, fields = body_to_bytes(message)
    if not raw:
        return _EMPTY, {**fields, "enc": "empty"}
    text = _as_text(raw, escaped=message.raw is None and message.codec is JSON)
    if text is None:
        return b64encode(raw).decode(), {**fields, "enc": "base64"}
    return text, fields


def _as_text(raw: bytes, *, escaped: bool = False) -> str | None:
    """The bytes as text that a service takes, or None; ``escaped``: JSON written here has no control characters."""
    # UTF-8 has these bytes for control characters only. It takes a fifth of a regular expression's time.
    if not escaped and len(raw.translate(None, _CONTROLS)) < len(raw):
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return None if not text.isascii() and any(each in text for each in _NONCHARACTERS) else text


def body_from_text(text: str, fields: Mapping[str, Any], *, channel: Codec = JSON) -> BodyForm:
    """The body of `body_to_text`; raises `DecodeError`.

    Args:
        text: what the channel carried.
        fields: the envelope's; {} for a message of a foreign producer, whose body is the text's UTF-8.
        channel: the channel's codec, taken where the message came without an envelope.
    """
    if "enc" not in fields:  # nearly every body
        return body_from_bytes(text.encode(), fields, channel=channel)
    match _encoding(fields, None, "empty", "base64"):
        case "empty":
            raw = b""
        case "base64":
            raw = _unbased(text)
        case _:
            raw = text.encode()
    return body_from_bytes(raw, fields, channel=channel)


def _encoding(fields: Mapping[str, Any], *known: str | None) -> str | None:
    """How the body is written. One of a later version must not be taken for plain text: the body would be another."""
    encoding: str | None = fields.get("enc")
    if encoding not in known:
        raise DecodeError(f"envelope field 'enc' is {encoding!r:.80}, which this version does not know")
    return encoding


def _unbased(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DecodeError(f"body is not base64: {error}") from error


def body_to_bytes(message: Message[Any]) -> tuple[bytes, dict[str, str]]:
    """The body for a channel that carries bytes, and the field ``ct`` where its content type is not JSON."""
    kind = message.codec.content_type
    return message.encode(), {} if kind == JSON.content_type else {"ct": kind}


def body_from_bytes(raw: bytes, fields: Mapping[str, Any], *, channel: Codec = JSON) -> BodyForm:
    """The body of `body_to_bytes`; see `body_from_text`."""
    if not fields or (channel is JSON and "ct" not in fields):
        return BodyForm(raw, channel)
    return BodyForm(raw, codec_of(_checked("ct", fields.get("ct", JSON.content_type), str), channel))


def body_to_json(message: Message[Any]) -> tuple[bytes, dict[str, str]]:
    """The body as a piece of a JSON text, and the fields that say how to read it.

    JSON is the piece itself, text of another content type is a string. ``enc`` names what else a string holds:
    ``"text"`` a body that should be JSON and is not, ``"base64"`` bytes that are not text.
    """
    raw, fields = body_to_bytes(message)
    json = is_json(message.codec)
    if json and ((message.raw is None and raw.count(b"[") + raw.count(b"{") < SAFE_LEVELS) or is_embeddable(raw)):
        return raw, fields
    text = _as_text(raw)
    if text is None:
        return dump_json(b64encode(raw).decode()), {**fields, "enc": "base64"}
    return dump_json(text), {**fields, "enc": "text"} if json else fields


SAFE_LEVELS: Final = 150
"""So many levels of JSON are read even inside of something else; the parser's limit is about 200."""


def body_from_json(piece: bytes, fields: Mapping[str, Any], *, channel: Codec = JSON) -> BodyForm:
    """The body of `body_to_json`; raises `DecodeError`."""
    form, encoding = body_from_bytes(piece, fields, channel=channel), _encoding(fields, None, "text", "base64")
    if encoding is None and is_json(form.codec):
        return form
    text = _checked("body", load_json(piece), str)
    return form._replace(raw=_unbased(text) if encoding == "base64" else text.encode())


# The whole message.


def dump_message(message: Message[Any]) -> bytes:
    """The whole message, as stores hold it: a line of JSON with envelope and attributes, then the body's own bytes."""
    raw, form = body_to_bytes(message)
    fields = {**envelope_fields(message), **form}
    if message.attributes:
        fields["attrs"] = dump_attributes(message.attributes)
    return dump_fields(fields) + b"\n" + raw


def load_message(raw: bytes) -> Message[Any]:
    """The message of `dump_message`; raises `DecodeError` for anything else."""
    head, newline, body = raw.partition(b"\n")
    fields = load_envelope(head)
    if not newline or not isinstance(fields, dict):
        raise DecodeError("not a whole message: it has no body")
    envelope = parse_envelope(fields)
    envelope["attributes"] = load_attributes(fields.get("attrs", {}))
    form = body_from_bytes(body, fields)
    return Message.received(form.raw, codec=form.codec, **envelope)
