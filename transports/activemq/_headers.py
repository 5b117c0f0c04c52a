"""Messages as STOMP frames of a JMS broker, and back.

The body is the user's own. Correlation id, return address, message group, type and expiry travel in the headers that
JMS has for them, the user's attributes in headers of their own names, so that a selector sees them; the rest of the
envelope is one header, ``eip``. Sources: https://activemq.apache.org/components/classic/documentation/stomp and, for
the length of a header line, ActiveMQ's StompWireFormat.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

import orjson

from eip import clock
from eip.codec import JSON, TextCodec, dump_json, load_json
from eip.envelope import ENVELOPE_KEY, envelope_fields, from_wire, parse_envelope, to_wire
from eip.errors import DecodeError, InvalidMessage
from eip.message import Message
from eip.transports.activemq._addresses import to_address, to_destination
from eip.transports.activemq._frames import Frame, escape

__all__ = ["Received", "delayed", "from_frame", "head_of", "head_of_copy"]

_ATTEMPTS: Final = "eip-attempts"
"""How many times the message was received before it was sent again to be retried."""
_DUE: Final = "eip-due"
"""When a delayed message is to be delivered, in milliseconds since the epoch: not every broker has a scheduler."""
_DELAY: Final = "AMQ_SCHEDULED_DELAY"

_LONGEST: Final = 4_000
"""Characters of a header's value: the broker takes 10 KiB of UTF-8 a line, escapes included."""
_TEXT: Final = TextCodec()
_UNSAFE: Final = re.compile(r"[\x00-\x09\x0b-\x1f]|^\s|\s$")
"""What brokers trim, or know no escape for; it travels in the envelope instead."""
_NAME: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$.-]{0,249}")
_NATIVE: Final = {"cid": "correlation-id", "type": "type"}
_TAKEN: Final = """
    ack amq-msg-type browser content-encoding content-length content-type correlation-id destination expires host id
    login message message-id passcode persistent priority receipt receipt-id redelivered reply-to scheduledJobId
    selector server session subscription timestamp transaction transformation transformation-error type version
    originalDestination originalExpiration dlqDeliveryFailureCause
"""
_RESERVED: Final = frozenset(_TAKEN.split())
_PASSING: Final = """
    ack content-length destination expires message-id receipt redelivered scheduledJobId subscription timestamp
    transaction AMQ_SCHEDULED_CRON AMQ_SCHEDULED_DELAY AMQ_SCHEDULED_PERIOD AMQ_SCHEDULED_REPEAT eip-attempts eip-due
"""
_OF_A_DELIVERY: Final = frozenset(_PASSING.split())
"""Headers that belong to one delivery of a message, and not to the message."""
_RESERVED_PREFIXES: Final = ("eip", "JMS", "AMQ_", "activemq.", "_AMQ")


class Received(NamedTuple):
    """A message as it was received."""

    message: Message[Any]
    attempts: int
    """How many times it was received before, as far as that was noted."""
    due: float | None
    """When it was to be delivered, seconds since the epoch."""
    error: Exception | None
    """Why its envelope cannot be read."""


def head_of(
    message: Message[Any],
    body: bytes,
    *,
    destination: str,
    persistent: bool,
    priority: int | None = None,
    more: Mapping[str, str] | None = None,
) -> bytes:
    """The head of a SEND frame, without the empty line at its end."""
    fields = envelope_fields(message)
    headers = {"destination": destination, "content-type": message.codec.content_type, **_measured(body)}
    if persistent:
        headers["persistent"] = "true"
    if priority is not None:
        headers["priority"] = str(priority)
    _add_native(message, headers, fields)
    if more:
        headers |= more
    if message.attributes:
        _add_attributes(message.attributes, headers, fields)
    try:
        envelope = orjson.dumps(fields).decode()
    except TypeError as error:
        raise InvalidMessage(f"the envelope cannot be written: {error}") from error
    headers[ENVELOPE_KEY] = envelope[:_LONGEST]
    for start in range(_LONGEST, len(envelope), _LONGEST):
        headers[f"{ENVELOPE_KEY}-{start // _LONGEST}"] = envelope[start : start + _LONGEST]
    return _head(headers)


def _measured(body: bytes) -> dict[str, str]:
    """The body's length, which by itself would make it a BytesMessage to JMS consumers."""
    length = {"content-length": str(len(body))}
    return length if 0 in body else {**length, "amq-msg-type": "text"}


def _add_native(message: Message[Any], headers: dict[str, str], fields: dict[str, Any]) -> None:
    """What JMS has headers for."""
    if message.expires_at is not None:
        headers["expires"] = str(round(message.expires_at * 1000))
    for key, name in _NATIVE.items():
        if key in fields and _plain(fields[key]):
            headers[name] = fields.pop(key)
    if message.group_id is not None and _plain(message.group_id):
        headers["JMSXGroupID"] = message.group_id  # in the envelope, too: the broker heeds it and does not pass it on
    if "reply" in fields and (reply := to_destination(fields["reply"])) is not None:
        headers["reply-to"] = reply
        del fields["reply"]


def head_of_copy(
    message: Message[Any], body: bytes, headers: Mapping[str, str], *, destination: str, attempts: int, delay: float
) -> bytes:
    """The head of a SEND frame for another delivery of what was received, ``delay`` seconds from now.

    Its headers are those received, whoever sent them; a message without an envelope gets one, to keep its id.
    """
    kept = {name: value for name, value in headers.items() if name not in _OF_A_DELIVERY}
    if headers.get("expires", "0") != "0":
        kept["expires"] = headers["expires"]
    if ENVELOPE_KEY not in headers:
        kept[ENVELOPE_KEY] = orjson.dumps({"id": message.id, "at": message.created_at}).decode()
    copied = {
        "destination": destination,
        **_measured(body),
        **kept,
        **delayed(delay),
        _ATTEMPTS: str(attempts),
    }
    return _head(copied)


def delayed(delay: float) -> dict[str, str]:
    """The headers of a delay in seconds; {} for none."""
    if delay <= 0:
        return {}
    return {_DELAY: str(math.ceil(delay * 1000)), _DUE: str(math.ceil((clock.now() + delay) * 1000))}


def _head(headers: Mapping[str, str]) -> bytes:
    lines = [f"{name}:{escape(value)}\n" for name, value in headers.items()]
    try:
        return f"SEND\n{''.join(lines)}".encode()
    except UnicodeEncodeError as error:
        raise InvalidMessage(f"a header is no text of Unicode: {error.reason}") from error


def _add_attributes(attributes: Mapping[str, Any], headers: dict[str, str], fields: dict[str, Any]) -> None:
    """Each in a header of its own where that keeps it, otherwise in the envelope."""
    types: dict[str, str] = {}
    inside: dict[str, Any] = {}
    for name, value in attributes.items():
        text, kind = _text_of(value)
        if text is None or not _attribute_name(name) or not _plain(text):
            inside[name] = to_wire(value)
            continue
        headers[name] = text
        if kind:
            types[name] = kind
    if types:
        fields["types"] = types
    if inside:
        fields["attrs"] = inside


def _text_of(value: Any) -> tuple[str | None, str]:
    match value:
        case str():
            return value, ""
        case bool():
            return str(value).lower(), "bool"
        case int() | Decimal():
            return str(value), "int" if isinstance(value, int) else "decimal"
        case float():
            return repr(value), "float"
        case bytes():
            return None, ""
    return dump_json(list(value)).decode(), "list"


def _attribute_name(name: str) -> bool:
    return name not in _RESERVED and not name.startswith(_RESERVED_PREFIXES) and bool(_NAME.fullmatch(name))


def _plain(text: str) -> bool:
    return 0 < len(text) <= _LONGEST and not _UNSAFE.search(text)


def from_frame(frame: Frame) -> Received:
    """The message as it was sent, or as a foreign producer sent it."""
    headers = frame.headers
    codec = _TEXT if headers.get("content-type", "").startswith(_TEXT.content_type) else JSON
    known = _native(headers)
    attempts, due = _number(headers.get(_ATTEMPTS)), _number(headers.get(_DUE))
    try:
        fields = _envelope(headers)
        envelope = {**known, **parse_envelope(fields)}
        envelope["attributes"] = _attributes(headers, fields)
        message = Message.received(frame.body, codec=codec, **envelope)
        error: Exception | None = None
    except Exception as failure:  # noqa: BLE001 - whatever a stranger wrote there must not end the connection
        message = Message.received(frame.body, codec=codec, **known, attributes=_attributes(headers, {}))
        error = DecodeError(f"envelope cannot be read: {failure}")
    return Received(message, attempts, due / 1000 if due else None, error)


def _native(headers: Mapping[str, str]) -> dict[str, Any]:
    known: dict[str, Any] = {"id": headers.get("message-id", "")}
    if "correlation-id" in headers:
        known["correlation_id"] = headers["correlation-id"]
    if "type" in headers:
        known["type"] = headers["type"]
    if "JMSXGroupID" in headers:
        known["group_id"] = headers["JMSXGroupID"]
    if (reply := headers.get("reply-to")) and (address := to_address(reply)) is not None:
        known["return_address"] = address
    if expires := _number(headers.get("expires")):
        known["expires_at"] = expires / 1000
    if timestamp := _number(headers.get("timestamp")):
        known["created_at"] = timestamp / 1000
    return known


def _envelope(headers: Mapping[str, str]) -> Mapping[str, Any]:
    text = headers.get(ENVELOPE_KEY)
    if text is None:
        return {}
    number = 1
    while (more := headers.get(f"{ENVELOPE_KEY}-{number}")) is not None:
        text += more
        number += 1
    fields = load_json(text)
    if not isinstance(fields, Mapping):
        raise DecodeError("not a JSON object")
    return fields


def _attributes(headers: Mapping[str, str], fields: Mapping[str, Any]) -> dict[str, Any]:
    types = fields.get("types") or {}
    inside = fields.get("attrs") or {}
    if not isinstance(types, Mapping) or not isinstance(inside, Mapping):
        raise DecodeError("attributes are no JSON object")
    found = {name: _value(text, types.get(name)) for name, text in headers.items() if _attribute_name(name)}
    return {**found, **{name: from_wire(value) for name, value in inside.items()}}


def _value(text: str, kind: Any) -> Any:
    try:
        match kind:
            case "bool":
                return text == "true"
            case "int" if len(text) <= 400:
                return int(text)
            case "float":
                return float(text)
            case "decimal":
                return Decimal(text)
            case "list":
                listed = load_json(text)
                return listed if isinstance(listed, list) else text
    except (ValueError, InvalidOperation):
        pass
    return text


def _number(text: str | None) -> int:
    """0 for what is no number: headers come from strangers."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 15 else 0
