"""Messages out: as STOMP frames of a JMS broker.

The body is the user's own. Correlation id, return address, message group, type and expiry travel in the headers that
JMS has for them, the user's attributes in headers of their own names, so that a selector sees them; the rest of the
envelope is one header, ``eip``. Every frame that is sent is made here: first sends, copies for a retry, dead letters,
redrives. Source of the limits: ActiveMQ's StompWireFormat.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from eip import clock
from eip.attributes import to_wire
from eip.codec import dump_json
from eip.envelope import ENVELOPE_KEY, dump_fields, envelope_fields
from eip.errors import InvalidMessage
from eip.message import Message
from eip.transports.activemq._addresses import to_destination
from eip.transports.activemq._bodies import body_written, escaped_json
from eip.transports.activemq._headers import ATTEMPTS, DELAY, DUE, is_attribute_name, is_priority
from eip.transports.activemq._stomp.frames import escape

__all__ = ["delay_headers", "encoded", "retry_copy"]

_MAX_CHARACTERS: Final = 4_000
"""Of one header's value: the broker takes 10 KiB a line, and an escape has two bytes."""
_MAX_WIDE_CHARACTERS: Final = 3_000
"""The same for values that are not ASCII, with up to three bytes a character."""
_MAX_HEADERS: Final = 985
"""The broker takes 1,000 headers; the others are those of every message, receipts and transactions."""
_MAX_ATTRIBUTE_HEADERS: Final = 400
_UNSAFE: Final = re.compile(r"[\x00-\x09\x0b-\x1f]|^\s|\s$")
"""Characters that brokers trim, or have no escape for; such a value travels in the envelope instead."""
_WIDE: Final = re.compile("[\ud800-\udfff\U00010000-\U0010ffff]")
"""Characters that a broker loses in a property that it has read from its disk, or that a JMS producer has set."""
_NUMBERS: Final[Mapping[type, str]] = {int: "int", Decimal: "decimal", float: "float"}
_NATIVE: Final = {"cid": "correlation-id", "type": "type"}
"""By key in the envelope, the headers that JMS has for them."""


def encoded(
    message: Message[Any],
    *,
    destination: str,
    persistent: bool = True,
    priority: int | None = None,
    extra: Mapping[str, str] | None = None,
) -> tuple[bytes, bytes]:
    """Return the head of a SEND frame, without the empty line at its end, and the body.

    Args:
        message: the message.
        destination: the broker's own name of the channel.
        persistent: whether the broker keeps it on disk.
        priority: 0 to 9; None: the broker's default.
        extra: headers of this driver's own, which no attribute can set.

    Raises:
        InvalidMessage: the broker would refuse the envelope or the attributes.
    """
    body, is_text = body_written(message)
    start = f"SEND\ndestination:{escape(destination)}\ncontent-type:{escape(message.codec.content_type)}\n"
    start += f"content-length:{len(body)}\n"  # by itself it would make a BytesMessage
    if is_text:
        start += "amq-msg-type:text\n"
    if persistent:
        start += "persistent:true\n"
    headers = {} if priority is None else {"priority": str(priority)}
    try:
        fields = envelope_fields(message)
        _add_native(message, headers, fields)
        if extra:
            headers |= extra
        if message.attributes:
            _add_attributes(message.attributes, headers, fields)
        _add_envelope(fields, headers)
        return _head(start, headers), body
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, InvalidMessage):
            raise
        raise InvalidMessage(f"the envelope of {message.id} cannot be written: {error}") from error


def retry_copy(
    message: Message[Any], headers: Mapping[str, str], *, destination: str, attempts: int, delay: float
) -> tuple[bytes, bytes]:
    """Return head and body of a copy that is delivered ``delay`` seconds from now.

    Args:
        message: as it was received.
        headers: its headers as the broker sent them; priority and persistence are kept.
        destination: the broker's own name of the queue.
        attempts: how many times it was received so far.
        delay: seconds.
    """
    priority = headers.get("priority", "")
    return encoded(
        message,
        destination=destination,
        persistent=headers.get("persistent") == "true",
        priority=int(priority) if is_priority(priority) else None,
        extra={**delay_headers(delay), ATTEMPTS: str(attempts)},
    )


def delay_headers(delay: float) -> dict[str, str]:
    """Return the headers of a delay in seconds; {} for none."""
    if delay <= 0:
        return {}
    return {DELAY: str(math.ceil(delay * 1000)), DUE: str(math.ceil((clock.now() + delay) * 1000))}


def _add_native(message: Message[Any], headers: dict[str, str], fields: dict[str, Any]) -> None:
    """Add the envelope's fields that JMS has headers for."""
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
        if text is None or not room or not is_attribute_name(name) or not _fits(text) or _WIDE.search(text):
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


def _fits(text: str) -> bool:
    return 0 < len(text) <= _chunk(text) and not _UNSAFE.search(text)


def _chunk(text: str) -> int:
    return _MAX_CHARACTERS if text.isascii() else _MAX_WIDE_CHARACTERS


def _add_envelope(fields: Mapping[str, Any], headers: dict[str, str]) -> None:
    envelope = dump_fields(fields).decode()
    if not envelope.isascii():
        envelope = escaped_json(envelope)
    size = _chunk(envelope)
    if len(envelope) <= size:
        headers[ENVELOPE_KEY] = envelope
    else:
        headers[ENVELOPE_KEY] = envelope[:size]
        for start in range(size, len(envelope), size):
            headers[f"{ENVELOPE_KEY}-{start // size}"] = envelope[start : start + size]
    if len(headers) > _MAX_HEADERS:
        raise InvalidMessage(
            f"attributes and envelope have {len(envelope):,} characters, more than the headers of a broker hold"
        )


def _head(start: str, headers: Mapping[str, str]) -> bytes:
    """Return the head of those lines and headers, whose names are plain words and need no escapes."""
    lines = [f"{name}:{escape(value)}\n" for name, value in headers.items()]
    try:
        return f"{start}{''.join(lines)}".encode()
    except UnicodeEncodeError as error:
        raise InvalidMessage(f"a header is not Unicode text: {error.reason}") from error
