"""Messages in: STOMP frames of a JMS broker as messages, whoever sent them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

from eip import clock
from eip._ids import new_id
from eip.attributes import from_native, from_wire
from eip.codec import JSON, Codec, codec_of, load_json
from eip.envelope import ENVELOPE_KEY, load_envelope, parse_envelope
from eip.errors import DecodeError
from eip.message import Message
from eip.transports.activemq._addresses import parse, to_address
from eip.transports.activemq._bodies import JMS_MESSAGE_HEADER, body_read
from eip.transports.activemq._headers import ATTEMPTS, DUE, attribute_headers, number
from eip.transports.activemq._stomp.frames import Frame

__all__ = ["Received", "from_frame"]

_SECOND_PART: Final = f"{ENVELOPE_KEY}-1"
"""Header: where an envelope goes on that is too long for one header."""
_BAD_ENVELOPE: Final = "stomp-envelope"
"""Message header: the envelope as it came, where it cannot be read."""
_BAD_HEAD: Final = "stomp-head"
"""Message header: the head of the frame as it came, in base64, where it is malformed."""
_MAX_INT_DIGITS: Final = 400
"""Of an attribute; Python's conversion takes time quadratic in the digits."""


class Received(NamedTuple):
    """A message as it was received."""

    message: Message[Any]
    attempts: int
    """How many times it was received before, as far as that was noted."""
    due: float | None
    """When it was to be delivered, seconds since the epoch."""
    error: Exception | None
    """Why it cannot be read."""


def from_frame(frame: Frame, channel: Codec = JSON) -> Received:
    """Return the message as it was sent, or as a foreign producer sent it; never raises.

    A message that cannot be read has an error, for which it is dead-lettered with the bytes that came.

    Args:
        frame: as received.
        channel: the channel's codec, which decodes the messages of other programs.
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
    envelope = parse_envelope(fields) if fields else {}
    _add_native(headers, envelope)
    if _replies_to_us(headers, envelope):
        raise DecodeError("its return address is a temporary queue by a name that only its own connection knows")
    attributes = _attributes(headers, fields)
    expires = headers.get("expires")
    if expires == "0":  # set by the broker in its dead-letter queue, even if the sender gave an expiry
        envelope.pop("expires_at", None)
    elif expires is not None:
        envelope["expires_at"], is_property = _expiry(expires, envelope.get("expires_at"))
        if is_property:
            attributes["expires"] = expires
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
    if message.headers and not message.headers.keys().isdisjoint((_BAD_ENVELOPE, _BAD_HEAD)):
        # A copy of one that could not be read.
        error = None if "dead-letter-reason" in message.headers else DecodeError("it could not be read before")
    attempts = number(headers[ATTEMPTS]) if ATTEMPTS in headers else 0
    due = number(headers[DUE]) if DUE in headers else 0
    return Received(message, attempts, due / 1000 if due else None, error)


def _unreadable(frame: Frame, channel: Codec, failure: Exception) -> Received:
    """Return a message with what could be read; its envelope goes along as it came."""
    headers = frame.headers
    envelope: dict[str, Any] = {"headers": {_BAD_ENVELOPE: _envelope_text(headers) or ""}}
    _add_native(headers, envelope)
    if _replies_to_us(headers, envelope):
        del envelope["return_address"]
    envelope["codec"] = _codec(headers, channel, is_foreign=True)
    body = body_read(frame.body, text=_is_text(headers))
    try:
        message = Message.received(body, attributes=_attributes(headers, {}), **envelope)
    except Exception:  # noqa: BLE001 - the attributes are what cannot be read
        head = b64encode(repr(headers).encode("utf-8", "backslashreplace")).decode()
        envelope["headers"][_BAD_HEAD] = head
        message = Message.received(body, **envelope)
    error = DecodeError(f"envelope cannot be read: {failure}")
    return Received(message, number(headers.get(ATTEMPTS)), None, error)


def _codec(headers: Mapping[str, str], channel: Codec, *, is_foreign: bool) -> Codec:
    content_type = headers.get("content-type")
    if content_type is None or (is_foreign and channel is not JSON):
        return channel
    return codec_of(content_type, channel)


def _is_text(headers: Mapping[str, str]) -> bool:
    """Return whether it is a TextMessage: the broker gives the length of other kinds only."""
    return headers.get("amq-msg-type", "bytes" if "content-length" in headers else "text") == "text"


def _add_native(headers: Mapping[str, str], envelope: dict[str, Any]) -> None:
    """Add the fields that the broker knows itself, which win over the envelope, and those that it sets by default."""
    if "correlation-id" in headers:
        envelope["correlation_id"] = headers["correlation-id"]
    if "type" in headers:
        envelope["type"] = headers["type"]
    if "JMSXGroupID" in headers:
        envelope["group_id"] = headers["JMSXGroupID"]
    if "reply-to" in headers and (address := to_address(headers["reply-to"])) is not None:
        envelope["return_address"] = address
    if "id" not in envelope:
        envelope["id"] = headers.get("message-id") or new_id()
    if "created_at" not in envelope and (timestamp := number(headers.get("timestamp"))):
        envelope["created_at"] = timestamp / 1000


def _replies_to_us(headers: Mapping[str, str], envelope: Mapping[str, Any]) -> bool:
    """Return whether a stranger made the return address up: it is how a connection names a temporary queue of its own.

    The broker puts the real name in its place, except in what comes through that queue. Nothing could be sent with it.
    """
    address = envelope.get("return_address")
    if address is None or headers.get("destination", "").startswith("/temp-queue/"):
        return False
    return isinstance(address, str) and (parse(address) or ("", ""))[0] == "own-temp-queue"


def _expiry(text: str, sent: float | None) -> tuple[float | None, bool]:
    """Return when the message expires, and whether its header ``expires`` is a property of a JMS producer.

    In STOMP a property called ``expires`` looks like the header. The broker does not deliver expired messages, so a
    time that had passed when it came is not the message's expiry.
    """
    at = number(text) / 1000
    if sent is not None and abs(sent - at) < 0.01:
        return sent, False
    return (at, False) if at > clock.now() else (sent, True)


def _fields(headers: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the envelope's fields; {} for a message without one."""
    text = _envelope_text(headers)
    if text is None:
        return {}
    fields = load_envelope(text)
    if not isinstance(fields, dict):
        raise DecodeError("not a JSON object")
    return fields


def _envelope_text(headers: Mapping[str, str]) -> str | None:
    text = headers.get(ENVELOPE_KEY)
    if text is None or _SECOND_PART not in headers:
        return text
    parts = [text]
    while (more := headers.get(f"{ENVELOPE_KEY}-{len(parts)}")) is not None:
        parts.append(more)
    return "".join(parts)


def _attributes(headers: Mapping[str, str], fields: Mapping[str, Any]) -> dict[str, Any]:
    texts = attribute_headers(headers)
    types, inside = fields.get("types"), fields.get("attrs")
    if not texts and inside is types is None:
        return {}
    if not isinstance(types := types or {}, dict) or not isinstance(inside := inside or {}, dict):
        raise DecodeError("attributes are not a JSON object")
    found = {name: _value(text, types.get(name)) for name, text in texts}
    for name, value in inside.items():
        found[name] = from_wire(value)
    return found


def _value(text: str, kind: Any) -> Any:  # noqa: PLR0911 - one return for each type
    try:
        match kind:
            case "bool":
                return text == "true"
            case "int" if len(text) <= _MAX_INT_DIGITS:
                return int(text)
            case "float":
                return float(text)
            case "decimal":
                return Decimal(text)
            case "list":
                listed = load_json(text)
                return listed if isinstance(listed, list) else text
            case str() if kind != "int":  # a type that a later version adds
                return from_native("String", text, kind)
    except (ValueError, InvalidOperation):
        pass
    return text
