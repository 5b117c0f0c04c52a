"""A message's attributes and envelope as SQS and SNS carry them: ten attributes, one of them our envelope's.

The user's attributes are native, so that filter policies and other programs read them; every field of the envelope is
in one attribute named ``eip`` (DESIGN.md, section 5). Types that a native attribute does not tell apart (bool, Decimal,
float) are noted in the envelope under ``types``.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

import orjson

from eip.codec import JSON, TextCodec, dump_json, load_json
from eip.envelope import ENVELOPE_KEY, envelope_fields, parse_envelope
from eip.errors import DecodeError, InvalidMessage
from eip.message import Message

__all__ = ["Carried", "carried", "from_carried", "plain_attributes"]

_MOST: Final = 10
_NAME: Final = re.compile(r"(?!(?:aws|amazon)\.)(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)", re.IGNORECASE)
_UNCARRIED: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""What XML 1.0 has no place for; in JSON text only the last two can occur."""


class Carried(NamedTuple):
    """A message as a service carries it."""

    body: str
    attributes: dict[str, dict[str, Any]]
    size: int
    """Bytes of UTF-8, attributes included: names, types and values, as the services count them."""


def carried(message: Message[Any], *, channel: str, native: frozenset[str] = frozenset()) -> Carried:
    """The message's body and attributes; raises `InvalidMessage` for what cannot be carried.

    ``native`` are the envelope's keys that the channel carries itself.
    """
    raw = message.encode()
    body = raw.decode()
    if not body:
        raise InvalidMessage(f"{channel} carries no empty body")
    if "\uffff" in body or "\ufffe" in body or (message.codec is not JSON and _UNCARRIED.search(body)):
        raise InvalidMessage(f"{channel} carries no control characters and neither U+FFFE nor U+FFFF")
    fields = envelope_fields(message)
    for key in native:
        fields.pop(key, None)
    if message.codec.content_type != JSON.content_type:
        fields["ct"] = message.codec.content_type
    size = len(raw)
    attributes: dict[str, dict[str, Any]] = {}
    if message.attributes:
        attributes, types, length = _natives(message.attributes, channel)
        size += length
        if types:
            fields["types"] = types
    envelope = orjson.dumps(fields)
    attributes[ENVELOPE_KEY] = {"DataType": "String", "StringValue": envelope.decode()}
    return Carried(body, attributes, size + len(ENVELOPE_KEY) + len("String") + len(envelope))


def _natives(given: Mapping[str, Any], channel: str) -> tuple[dict[str, dict[str, Any]], dict[str, str], int]:
    """The user's attributes, the types to note of them, and their bytes."""
    if len(given) >= _MOST:
        raise InvalidMessage(
            f"{channel} carries {_MOST} attributes, one of which is the envelope's; the message has {len(given)}"
        )
    attributes: dict[str, dict[str, Any]] = {}
    types: dict[str, str] = {}
    size = 0
    for name, value in given.items():
        if not _NAME.fullmatch(name) or name == ENVELOPE_KEY:
            raise InvalidMessage(f"{channel} carries no attribute named {name!r}")
        attributes[name], kind, length = _native(name, value, channel)
        if kind:
            types[name] = kind
        size += length
    return attributes, types, size


def _native(name: str, value: Any, channel: str) -> tuple[dict[str, Any], str, int]:
    """The attribute, the type to note, and its bytes."""
    kind, note, text = "String", "", ""
    match value:
        case bytes():
            if not value:
                raise InvalidMessage(f"attribute {name!r} is empty; {channel} carries no empty attribute")
            return {"DataType": "Binary", "BinaryValue": value}, "", len(name) + len("Binary") + len(value)
        case str():
            text = value
        case bool():
            text, note = str(value).lower(), "bool"
        case int():
            kind, text = "Number", str(value)
        case float():
            kind, text, note = "Number", repr(value), "" if value != int(value) else "float"
        case Decimal():
            kind, text, note = "Number", format(value, "f"), "decimal"
        case _:
            kind, text = "String.Array", dump_json(list(value)).decode()
    if not text or _UNCARRIED.search(text):
        raise InvalidMessage(f"attribute {name!r} is empty or has control characters; {channel} carries neither")
    return {"DataType": kind, "StringValue": text}, note, len(name.encode()) + len(kind) + len(text.encode())


def from_carried(
    body: str, attributes: Mapping[str, Mapping[str, Any]], **known: Any
) -> tuple[Message[Any], Exception | None]:
    """The message as it was sent, or as a foreign producer sent it, and why its envelope cannot be read.

    ``known`` are fields that the service itself told, e.g. the message group.
    """
    raw = body.encode()
    try:
        sent = attributes.get(ENVELOPE_KEY)
        fields = _object(load_json(sent["StringValue"])) if sent is not None else {}
        envelope = {**known, **parse_envelope(fields)}
        types = _object(fields.get("types") or {})
        envelope["attributes"] = {
            name: _value(each, types.get(name)) for name, each in attributes.items() if name != ENVELOPE_KEY
        }
    except (DecodeError, KeyError) as error:
        user = {name: each for name, each in attributes.items() if name != ENVELOPE_KEY}
        unread = Message.received(raw, attributes=plain_attributes(user), **known)
        return unread, DecodeError(f"envelope cannot be read: {error}")
    if fields.get("ct") == TextCodec.content_type:
        return Message.received(raw, codec=TextCodec(), **envelope), None
    return Message.received(raw, **envelope), None


def plain_attributes(attributes: Any) -> dict[str, Any]:
    """The attributes of a message that cannot be read, as far as they can: those that cannot are left out."""
    if not isinstance(attributes, Mapping):
        return {}
    found: dict[str, Any] = {}
    for name, each in attributes.items():
        with contextlib.suppress(Exception):
            found[name] = _value(each, None)
    return found


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DecodeError("not a JSON object")
    return value


def _value(attribute: Mapping[str, Any], kind: Any) -> Any:
    data_type = str(attribute.get("DataType", "String"))
    if data_type.startswith("Binary"):
        return attribute.get("BinaryValue", b"")
    text = str(attribute.get("StringValue", ""))
    if data_type.startswith("Number"):
        return _number(text, kind)
    if data_type == "String.Array":
        try:
            found = load_json(text)
        except DecodeError:
            return text
        return found if isinstance(found, list) else text
    return text == "true" if kind == "bool" else text


def _number(text: str, kind: Any) -> int | float | Decimal | str:
    try:
        if kind == "decimal":
            return Decimal(text)
        return int(text) if kind != "float" and re.fullmatch(r"[+-]?\d{1,40}", text) else float(text)
    except (ValueError, InvalidOperation):
        return text
