"""A message as an entry of PutEvents."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from eip.attributes import dump_attributes
from eip.channels import Filter
from eip.codec import JSON, is_json, load_json
from eip.envelope import ENVELOPE_KEY, dump_fields, envelope_fields
from eip.errors import DecodeError, InvalidMessage, MessageTooLarge
from eip.message import Message
from eip.transports._capabilities import EVENTBRIDGE

__all__ = ["CREATED_AT_DIGITS", "NATIVE_FIELDS", "EventEntry", "as_bus_predicate", "entry_of"]

NATIVE_FIELDS: Final = ("type", "source")
"""Envelope keys that an event has fields of its own for."""

CREATED_AT_DIGITS: Final = 5
"""Behind the point; with a digit more, reading every event would take the exact way."""

_MAX_TYPE_CHARACTERS: Final = 128
"""Of a detail-type (PutEventsRequestEntry)."""
_TIME_BYTES: Final = 14
"""What an entry's time counts for, whatever it is (user guide, "Calculating PutEvents event entry size")."""
_MAX_CREATED_AT_S: Final = 253_402_300_799
"""The last second of the year 9999."""
_NO_MEMBERS: Final = re.compile(rb"\{\s*\}")


class EventEntry(NamedTuple):
    """A message as an entry of PutEvents."""

    source: str
    detail_type: str
    detail: bytes
    """JSON text: the body and the envelope."""
    time: int
    """Seconds since the epoch."""
    body: bytes
    """The message's body by itself."""
    created_at: float
    """As the envelope has it."""

    @property
    def size(self) -> int:
        """Bytes, as the service counts them: the JSON around the fields is not included."""
        return _TIME_BYTES + _utf8_size(self.source) + _utf8_size(self.detail_type) + len(self.detail)


def _utf8_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def entry_of(message: Message[Any], *, channel: str) -> EventEntry:
    """The message as an entry; raises `InvalidMessage` if it cannot be an event, `MessageTooLarge` beyond the limit."""
    if not message.type or not message.source:
        raise InvalidMessage(f"{channel}: an event needs a type and a source; give the message both")
    if message.source.startswith("aws."):
        raise InvalidMessage(f"{channel}: source must not begin with 'aws.' (reserved), got {message.source!r}")
    if len(message.type) > _MAX_TYPE_CHARACTERS:
        raise InvalidMessage(
            f"{channel}: type must have at most {_MAX_TYPE_CHARACTERS} characters, got {message.type!r}"
        )
    if not 0 <= message.created_at <= _MAX_CREATED_AT_S:
        raise InvalidMessage(f"{channel}: created_at must be a time from 1970 to 9999, got {message.created_at}")
    body, fields = _body(message, channel), _fields(message)
    detail, at = _detail(body, fields), fields["at"]
    entry = EventEntry(message.source, message.type, detail, time=int(message.created_at), body=body, created_at=at)
    limit = EVENTBRIDGE.message_bytes or 0
    if entry.size > limit:
        raise MessageTooLarge(entry.size, limit, channel=channel)
    return entry


def _body(message: Message[Any], channel: str) -> bytes:
    """The body's own bytes, which are a JSON object and may have white space around it."""
    if not is_json(message.codec):
        raise InvalidMessage(f"{channel}: an event's detail is JSON, not {message.codec.content_type}")
    raw = message.encode()
    if not raw.startswith(b"{") and not raw.lstrip().startswith(b"{"):
        raise InvalidMessage(f"{channel}: an event's detail is a JSON object; put the body under a key")
    if message.raw is not None or raw.rfind(b'"eip"') >= 0:  # backwards: see `dump_json`
        _check(raw, channel)
    return raw


def _detail(body: bytes, fields: Mapping[str, Any]) -> bytes:
    """The body with the envelope as its last key."""
    body = body.strip()
    comma = b"" if _NO_MEMBERS.fullmatch(body) else b","
    return b'%b%b"eip":%b}' % (body[:-1], comma, dump_fields(fields))


def _fields(message: Message[Any]) -> dict[str, Any]:
    """The envelope under the reserved key."""
    fields = envelope_fields(message)
    if (kind := message.codec.content_type) != JSON.content_type:
        fields["ct"] = kind
    for key in NATIVE_FIELDS:
        fields.pop(key, None)
    fields["at"] = round(message.created_at, CREATED_AT_DIGITS)
    if message.attributes:
        fields["attrs"] = dump_attributes(message.attributes)
    return fields


def as_bus_predicate(filter: Filter) -> Callable[[Message[Any]], bool]:  # noqa: A002 - the field's word
    """Whether a message that came from a bus passes; event patterns see the event of the bus, the envelope included."""
    from eip.matching import EventPattern, as_event, as_predicate  # noqa: PLC0415 - a Lambda function needs none of it

    if not isinstance(filter, EventPattern):
        return as_predicate(filter)

    def passes(message: Message[Any]) -> bool:
        event = as_event(message)
        ours = message.headers.get("event-id") != message.id
        if ours and isinstance(event.get("detail"), Mapping):
            event["detail"] = {**event["detail"], ENVELOPE_KEY: _fields(message)}
        return filter.matches(event)

    return passes


def _check(raw: bytes, channel: str) -> None:
    """Refuse received bytes that are not an object, and a body that has the envelope's key."""
    try:
        body = load_json(raw)
    except DecodeError as error:
        raise InvalidMessage(f"{channel}: {error}") from error
    if not isinstance(body, dict):
        raise InvalidMessage(f"{channel}: an event's detail is a JSON object")
    if ENVELOPE_KEY in body:
        raise InvalidMessage(
            f"{channel}: the key {ENVELOPE_KEY!r} of an event's detail is the envelope's; rename yours"
        )
