"""Messages as STOMP frames of a JMS broker, and back.

The body is the user's own. Correlation id, return address, message group, type and expiry travel in the headers that
JMS has for them, the user's attributes in headers of their own names, so that a selector sees them; the rest of the
envelope is one header, ``eip``.

One rule keeps what comes from a message apart from headers: an attribute becomes a header only under a name that is a
plain word and not reserved, here and nowhere else; any other travels inside the envelope. Every frame that is sent is
made here: first sends, copies for a retry, dead letters, redrives. Sources:
https://activemq.apache.org/components/classic/documentation/stomp and, for the limits of headers, ActiveMQ's
StompWireFormat.
"""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

from eip import clock
from eip._ids import new_id
from eip.attributes import from_wire, to_wire
from eip.codec import JSON, Codec, codec_of, dump_json, load_json
from eip.envelope import ENVELOPE_KEY, dump_fields, envelope_fields, parse_envelope
from eip.errors import DecodeError, InvalidMessage
from eip.message import Message
from eip.transports.activemq._addresses import to_address, to_destination
from eip.transports.activemq._bodies import JMS_MESSAGE_HEADER, body_read, body_written, escaped_json
from eip.transports.activemq._frames import Frame, escape

__all__ = ["BROKER_HEADERS", "Received", "copied", "delayed", "encoded", "from_frame"]

_ATTEMPTS: Final = "eip-attempts"
"""How many times the message was received before it was sent again to be retried."""
_DUE: Final = "eip-due"
"""When a delayed message is to be delivered, in milliseconds since the epoch: not every broker has a scheduler."""
_DELAY: Final = "AMQ_SCHEDULED_DELAY"

_BAD_ENVELOPE: Final = "stomp-envelope"
"""Message header: the envelope as it came, where it cannot be read."""
_BAD_HEAD: Final = "stomp-head"
"""Message header: the head of the frame as it came, in base64, where it is malformed."""

_MAX_CHARACTERS: Final = 4_000
"""Of one header's value: the broker takes 10 KiB a line, and an escape has two bytes."""
_MAX_WIDE_CHARACTERS: Final = 3_000
"""The same where they have up to three bytes each."""
_MAX_HEADERS: Final = 990
"""The broker takes 1,000 headers; the last ones are for receipts and transactions."""
_MAX_ATTRIBUTE_HEADERS: Final = 400
_UNSAFE: Final = re.compile(r"[\x00-\x09\x0b-\x1f]|^\s|\s$")
"""What brokers trim, or know no escape for; it travels in the envelope instead."""
_WIDE: Final = re.compile("[\ud800-\udfff\U00010000-\U0010ffff]")
"""What a broker loses in a property that it has read from its disk, or that a JMS producer has set."""
_NUMBERS: Final[Mapping[type, str]] = {int: "int", Decimal: "decimal", float: "float"}
_NAME: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$.-]{0,249}")
_NATIVE: Final = {"cid": "correlation-id", "type": "type"}

_MESSAGE_NAMES: Final = """
    ack amq-msg-type content-length content-type correlation-id destination expires message-id original-destination
    originalDestination originalExpiration dlqDeliveryFailureCause persistent priority redelivered reply-to
    scheduledJobId subscription timestamp type
"""
BROKER_HEADERS: Final = frozenset(_MESSAGE_NAMES.split())
"""Headers that brokers put into the frames of messages."""
_COMMAND_NAMES: Final = """
    browser content-encoding host id login message passcode receipt receipt-id selector server session transaction
    transformation transformation-error version
"""
_OF_COMMANDS: Final = frozenset(_COMMAND_NAMES.split())
"""Headers that mean something in frames that clients send, or in other frames of brokers."""
_RESERVED: Final = BROKER_HEADERS | _OF_COMMANDS
_RESERVED_PREFIXES: Final = ("eip", "JMS", "AMQ_", "activemq.", "_AMQ")
_BROKERS_PREFIXES: Final = ("JMS", "AMQ_", "_AMQ", f"{ENVELOPE_KEY}-")


class Received(NamedTuple):
    """A message as it was received."""

    message: Message[Any]
    attempts: int
    """How many times it was received before, as far as that was noted."""
    due: float | None
    """When it was to be delivered, seconds since the epoch."""
    error: Exception | None
    """Why it cannot be read."""


# Messages out.


def encoded(
    message: Message[Any],
    *,
    destination: str,
    persistent: bool = True,
    priority: int | None = None,
    more: Mapping[str, str] | None = None,
) -> tuple[bytes, bytes]:
    """Return the head of a SEND frame, without the empty line at its end, and the body.

    Args:
        message: what is sent.
        destination: where to, in the broker's own words.
        persistent: whether the broker keeps it on disk.
        priority: 0 to 9; None: the broker's default.
        more: headers of this driver's own, which no attribute can set.

    Raises:
        InvalidMessage: an envelope or attributes that the broker would refuse.
    """
    body, is_text = body_written(message)
    headers = {"destination": destination, "content-type": message.codec.content_type}
    headers["content-length"] = str(len(body))  # by itself it would make a BytesMessage
    if is_text:
        headers["amq-msg-type"] = "text"
    if persistent:
        headers["persistent"] = "true"
    if priority is not None:
        headers["priority"] = str(priority)
    try:
        fields = envelope_fields(message)
        _add_native(message, headers, fields)
        if more:
            headers |= more
        if message.attributes:
            _add_attributes(message.attributes, headers, fields)
        _add_envelope(fields, headers)
        return _head(headers), body
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, InvalidMessage):
            raise
        raise InvalidMessage(f"the envelope of {message.id} cannot be written: {error}") from error


def copied(
    message: Message[Any], headers: Mapping[str, str], *, destination: str, attempts: int, delay: float
) -> tuple[bytes, bytes]:
    """Return head and body of another delivery, ``delay`` seconds from now, of a message that came with ``headers``."""
    priority = headers.get("priority", "")
    return encoded(
        message,
        destination=destination,
        persistent=headers.get("persistent") == "true",
        priority=int(priority) if _is_priority(priority) else None,
        more={**delayed(delay), _ATTEMPTS: str(attempts)},
    )


def delayed(delay: float) -> dict[str, str]:
    """Return the headers of a delay in seconds; {} for none."""
    if delay <= 0:
        return {}
    return {_DELAY: str(math.ceil(delay * 1000)), _DUE: str(math.ceil((clock.now() + delay) * 1000))}


def _add_native(message: Message[Any], headers: dict[str, str], fields: dict[str, Any]) -> None:
    """Add what JMS has headers for."""
    if message.expires_at is not None:
        headers["expires"] = str(round(message.expires_at * 1000))
    for key, name in _NATIVE.items():
        if key in fields and _fits(fields[key]):
            headers[name] = fields.pop(key)
    if message.group_id is not None and _fits(message.group_id):
        headers["JMSXGroupID"] = message.group_id  # in the envelope, too: Classic does not pass it on
    if "reply" in fields and (reply := to_destination(fields["reply"])) is not None:
        headers["reply-to"] = reply
        del fields["reply"]


def _add_attributes(attributes: Mapping[str, Any], headers: dict[str, str], fields: dict[str, Any]) -> None:
    """Add each in a header of its own where that keeps it, otherwise in the envelope."""
    types: dict[str, str] = {}
    inside: dict[str, Any] = {}
    room = _MAX_ATTRIBUTE_HEADERS
    for name, value in attributes.items():
        text, kind = _text_of(value)
        if text is None or not room or not _is_plain_name(name) or not _fits(text) or _WIDE.search(text):
            inside[name] = to_wire(value)
            continue
        room -= 1
        headers[name] = text
        if kind == "list":
            inside[name] = to_wire(value)  # the header is for selectors: its numbers have lost their types
        elif kind:
            types[name] = kind
    if types:
        fields["types"] = types
    if inside:
        fields["attrs"] = inside


def _text_of(value: Any) -> tuple[str | None, str]:
    """Return an attribute's value as a header has it, and its type; None for one that only the envelope keeps."""
    kind = type(value)
    if kind is str:
        return value, ""
    if kind is bool:
        return str(value).lower(), "bool"
    if kind in _NUMBERS:
        return str(value), _NUMBERS[kind]
    if kind in (list, tuple):
        return dump_json(list(value)).decode(), "list"
    return None, ""


def _is_plain_name(name: str) -> bool:
    return name not in _RESERVED and not name.startswith(_RESERVED_PREFIXES) and _NAME.fullmatch(name) is not None


def _fits(text: str) -> bool:
    return 0 < len(text) <= _chunk(text) and not _UNSAFE.search(text)


def _chunk(text: str) -> int:
    return _MAX_CHARACTERS if text.isascii() else _MAX_WIDE_CHARACTERS


def _add_envelope(fields: Mapping[str, Any], headers: dict[str, str]) -> None:
    envelope = dump_fields(fields).decode()
    if not envelope.isascii():
        envelope = escaped_json(envelope)
    size = _chunk(envelope)
    headers[ENVELOPE_KEY] = envelope[:size]
    for start in range(size, len(envelope), size):
        headers[f"{ENVELOPE_KEY}-{start // size}"] = envelope[start : start + size]
    if len(headers) > _MAX_HEADERS:
        raise InvalidMessage(
            f"attributes and envelope have {len(envelope):,} characters, more than the headers of a broker hold"
        )


def _head(headers: Mapping[str, str]) -> bytes:
    lines = [f"{escape(name)}:{escape(value)}\n" for name, value in headers.items()]
    try:
        return f"SEND\n{''.join(lines)}".encode()
    except UnicodeEncodeError as error:
        raise InvalidMessage(f"a header is not Unicode text: {error.reason}") from error


# Messages in.


def from_frame(frame: Frame, channel: Codec = JSON) -> Received:
    """Return the message as it was sent, or as a foreign producer sent it; never raises.

    ``channel`` is the channel's codec, which decodes what other programs send.

    Whatever is wrong with it is its own error, for which it is dead-lettered with the bytes that came.
    """
    try:
        received = _read(frame, channel)
    except Exception as failure:  # noqa: BLE001 - whatever reading one message raises belongs to that message
        received = _unreadable(frame, channel, failure)
    if frame.error is not None:
        error = DecodeError(f"frame cannot be read: {frame.error}")
        marked = {**received.message.headers, _BAD_HEAD: b64encode(frame.head).decode()}
        received = received._replace(message=received.message.replace(headers=marked), error=error)
    return received


def _read(frame: Frame, channel: Codec) -> Received:
    headers = frame.headers
    fields = _fields(headers)
    envelope = {**_of_the_broker(headers), **parse_envelope(fields), **_native(headers)}
    attributes = _attributes(headers, fields)
    expires_at, is_property = _expiry(headers, envelope.get("expires_at"))
    envelope["expires_at"] = expires_at
    if is_property:
        attributes["expires"] = headers["expires"]
    is_text = _is_text(headers)
    if not fields and not is_text:
        envelope["headers"] = {JMS_MESSAGE_HEADER: "bytes"}
    message = Message.received(
        body_read(frame.body, text=is_text),
        codec=_codec(headers, channel, is_foreign=not fields),
        attributes=attributes,
        **envelope,
    )
    error: Exception | None = None
    if not message.headers.keys().isdisjoint((_BAD_ENVELOPE, _BAD_HEAD)):  # a copy of one that could not be read
        error = None if "dead-letter-reason" in message.headers else DecodeError("it could not be read before")
    due = _number(headers.get(_DUE))
    return Received(message, _number(headers.get(_ATTEMPTS)), due / 1000 if due else None, error)


def _unreadable(frame: Frame, channel: Codec, failure: Exception) -> Received:
    """Return a message with what could be read; its envelope goes along as it came."""
    headers = frame.headers
    envelope: dict[str, Any] = {"headers": {_BAD_ENVELOPE: _envelope_text(headers) or ""}}
    envelope |= {**_of_the_broker(headers), **_native(headers)}
    envelope["codec"] = _codec(headers, channel, is_foreign=True)
    body = body_read(frame.body, text=_is_text(headers))
    try:
        message = Message.received(body, attributes=_attributes(headers, {}), **envelope)
    except Exception:  # noqa: BLE001 - the attributes are what cannot be read
        head = b64encode(repr(headers).encode("utf-8", "backslashreplace")).decode()
        envelope["headers"][_BAD_HEAD] = head
        message = Message.received(body, **envelope)
    error = DecodeError(f"envelope cannot be read: {failure}")
    return Received(message, _number(headers.get(_ATTEMPTS)), None, error)


def _codec(headers: Mapping[str, str], channel: Codec, *, is_foreign: bool) -> Codec:
    content_type = headers.get("content-type")
    if content_type is None or (is_foreign and channel is not JSON):
        return channel
    return codec_of(content_type, channel)


def _is_text(headers: Mapping[str, str]) -> bool:
    """Return whether it is a TextMessage: the broker gives the length of other kinds only."""
    return headers.get("amq-msg-type", "bytes" if "content-length" in headers else "text") == "text"


def _of_the_broker(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return what the broker gave this delivery, for messages whose sender gave nothing else."""
    known: dict[str, Any] = {"id": headers.get("message-id") or new_id()}
    if timestamp := _number(headers.get("timestamp")):
        known["created_at"] = timestamp / 1000
    return known


def _native(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return what the broker knows of the message itself, which wins over its envelope."""
    known: dict[str, Any] = {}
    if "correlation-id" in headers:
        known["correlation_id"] = headers["correlation-id"]
    if "type" in headers:
        known["type"] = headers["type"]
    if "JMSXGroupID" in headers:
        known["group_id"] = headers["JMSXGroupID"]
    if (address := to_address(headers.get("reply-to", ""))) is not None:
        known["return_address"] = address
    return known


def _expiry(headers: Mapping[str, str], sent: float | None) -> tuple[float | None, bool]:
    """Return when the message expires, and whether the header is a property of a JMS producer.

    STOMP does not tell a property called ``expires`` from the header. The broker does not deliver what has expired, so
    a time that had passed when it came is not the message's expiry.
    """
    text = headers.get("expires")
    if text is None:
        return sent, False
    at = _number(text) / 1000
    if text == "0":  # the broker lets it live, also where the sender wanted an end: it is in a dead-letter queue
        return None, False
    if sent is not None and abs(sent - at) < 0.01:
        return sent, False
    return (at, False) if at > clock.now() else (sent, True)


def _fields(headers: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the envelope's fields; {} for a message without one."""
    text = _envelope_text(headers)
    if text is None:
        return {}
    fields = load_json(text)
    if not isinstance(fields, Mapping):
        raise DecodeError("not a JSON object")
    return fields


def _envelope_text(headers: Mapping[str, str]) -> str | None:
    if ENVELOPE_KEY not in headers:
        return None
    parts = [headers[ENVELOPE_KEY]]
    while (more := headers.get(f"{ENVELOPE_KEY}-{len(parts)}")) is not None:
        parts.append(more)
    return "".join(parts)


def _attributes(headers: Mapping[str, str], fields: Mapping[str, Any]) -> dict[str, Any]:
    types = fields.get("types") or {}
    inside = fields.get("attrs") or {}
    if not isinstance(types, Mapping) or not isinstance(inside, Mapping):
        raise DecodeError("attributes are not a JSON object")
    found = {name: _value(text, types.get(name)) for name, text in headers.items() if _is_attribute(name, text)}
    return {**found, **{name: from_wire(value) for name, value in inside.items()}}


def _is_attribute(name: str, text: str) -> bool:
    """Return whether a header is a property of the message, by its name, or by a value that no broker gives it."""
    if name in BROKER_HEADERS:
        return _is_property(name, text)
    return bool(name) and name != ENVELOPE_KEY and not name.startswith(_BROKERS_PREFIXES)


def _is_property(name: str, text: str) -> bool:
    match name:
        case "timestamp":
            return not _number(text) and text != "0"
        case "priority":
            return not _is_priority(text)
        case "persistent" | "redelivered":
            return text not in ("true", "false")
        case "destination":
            return not text.startswith("/")
        case "reply-to":
            return to_address(text) is None
    return False


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


def _is_priority(text: str) -> bool:
    return len(text) == 1 and text in "0123456789"


def _number(text: str | None) -> int:
    """Parse a numeric header; 0 if malformed (headers are untrusted)."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 15 else 0
