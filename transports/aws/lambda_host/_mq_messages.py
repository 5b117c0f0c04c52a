"""The messages that Amazon MQ (ActiveMQ) calls a Lambda function with.

They are JMS messages: what JMS has headers for are fields of the record, and what the producer set are properties. The
reader of the STOMP driver makes the message of both, given a frame in which no property can pass for a header.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final

from eip.codec import Codec, load_json
from eip.envelope import ENVELOPE_KEY
from eip.errors import DecodeError
from eip.message import Message
from eip.transports.activemq._decoding import from_frame
from eip.transports.activemq._headers import BROKER_HEADERS
from eip.transports.activemq._stomp.frames import Frame

__all__ = ["read_mq_message"]

_HEADERS: Final = {
    "messageID": "message-id",
    "correlationId": "correlation-id",
    "correlationID": "correlation-id",
    "type": "type",
    "timestamp": "timestamp",
}
"""Fields of a record, and the STOMP header of the same meaning."""
_SET_BY_CLIENTS: Final = frozenset(("content-type",))
"""STOMP headers of producers that JMS has no field for, so that the broker hands them on as properties."""
_EARLIEST_MS: Final = 10**12
"""Of a time in milliseconds since the epoch (the year 2001); what is less is a duration, or nothing at all."""


def read_mq_message(record: Mapping[str, Any], codec: Codec) -> tuple[Message[Any], Exception | None, int]:
    """The message of a record, why it cannot be read, and how often it was delivered; may raise anything."""
    data = record["data"]
    if not isinstance(data, str):
        raise DecodeError(f"data must be a string, got {type(data).__name__}")
    headers, attributes = _split(record.get("properties") or {})
    headers |= _native(record)
    read = from_frame(Frame("MESSAGE", headers, b64decode(data, validate=True)), codec)
    message = read.message
    if read.error is None:
        message = message.replace(
            attributes={**message.attributes, **attributes}, expires_at=_expiry(record, message.expires_at)
        )
    return message, read.error, read.attempts + 1 + (record.get("redelivered") is True)


def _split(properties: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """The properties that may be headers of the frame, and those that must not: attributes, whatever their names."""
    ours = _is_envelope(properties.get(ENVELOPE_KEY))
    headers: dict[str, str] = {}
    attributes: dict[str, Any] = {}
    for name, value in properties.items():
        reserved = name in BROKER_HEADERS and name not in _SET_BY_CLIENTS
        envelope = name == ENVELOPE_KEY or name.startswith(f"{ENVELOPE_KEY}-")
        if isinstance(value, str) and not reserved and (ours or not envelope):
            headers[name] = value
        elif value is not None:  # a null property is none
            attributes[name] = value
    return headers, attributes


def _is_envelope(value: Any) -> bool:
    """Whether a property is our envelope, or the first part of a long one, and not some producer's own."""
    if not isinstance(value, str):
        return False
    try:
        fields = load_json(value)
    except DecodeError:
        return value.startswith('{"v":')
    return isinstance(fields, Mapping) and "id" in fields and "at" in fields


def _native(record: Mapping[str, Any]) -> dict[str, str]:
    """The headers of the frame that JMS has fields for."""
    headers = {"amq-msg-type": "text" if record.get("messageType") == "jms/text-message" else "bytes"}
    for key, name in _HEADERS.items():
        value = record.get(key)
        if value in (None, "", "null"):
            continue
        if not isinstance(value, str) and name != "timestamp":
            raise DecodeError(f"{key} must be a string, got {type(value).__name__}")
        headers[name] = str(value)
    if "timestamp" in headers and not headers["timestamp"].isdecimal():
        raise DecodeError(f"timestamp must be milliseconds since the epoch, got {headers['timestamp']!r:.40}")
    if (reply := _destination(record.get("replyTo"))) is not None:
        headers["reply-to"] = reply
    return headers


def _destination(value: Any) -> str | None:
    """A JMS destination, ``queue://NAME`` or ``{"physicalName": NAME}``, in the words of STOMP."""
    if isinstance(value, Mapping):
        name = value.get("physicalName", value.get("physicalname"))
        return f"/queue/{name}" if isinstance(name, str) else None
    if not isinstance(value, str):
        return None
    kind, separator, name = value.partition("://")
    return f"/{kind}/{name}" if separator and kind in ("queue", "topic") else None


def _expiry(record: Mapping[str, Any], sent: float | None) -> float | None:
    """When the message expires, in seconds since the epoch; ``sent`` is its envelope's.

    A record has JMSExpiration, a time, where the samples of the documentation have the duration "60000": what cannot be
    a time after the message was sent is not one. 0 is a message that the broker lets live, as one in a dead-letter
    queue, whatever its sender wanted.
    """
    expiration = _milliseconds(record.get("expiration"))
    if expiration == 0:
        return None
    if expiration is None or expiration < max(_EARLIEST_MS, _milliseconds(record.get("timestamp")) or 0):
        return sent
    at = expiration / 1000
    return sent if sent is not None and abs(sent - at) < 0.01 else at


def _milliseconds(value: Any) -> int | None:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
