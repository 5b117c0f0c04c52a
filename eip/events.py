"""Messages as EventBridge events, both ways: what the bus carries, and what its targets get.

    type    -> detail-type         body     -> detail, a JSON object, with the reserved key ``eip`` for the envelope
    source  -> source              created  -> time, in whole seconds

Events of others (AWS services, partners, programs without this library) are read the same way. What a message has no
field for is in its headers: ``event-id``, ``event-account``, ``event-region``, ``event-time``, ``event-resources``
(a JSON list), and ``replay-name`` for one that a replay brought.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

import orjson

from eip.channels import Filter
from eip.codec import JSON, dump_json, load_json
from eip.envelope import ENVELOPE_KEY, dump_attributes, envelope_fields, load_attributes, parse_envelope
from eip.errors import DecodeError, InvalidMessage, MessageTooLarge
from eip.limits import EVENTBRIDGE
from eip.matching import EventPattern, as_event, as_predicate
from eip.message import Message

__all__ = [
    "EventEntry",
    "as_bus_predicate",
    "entry_of",
    "event_time",
    "is_event",
    "message_of",
    "read_event",
    "undelivered",
]

_LONGEST_TYPE: Final = 128
"""Characters of a detail-type (PutEventsRequestEntry)."""
_TIME_BYTES: Final = 14
"""What a given time counts for, whatever it is (user guide, "Calculating PutEvents event entry size")."""
_LAST_SECOND: Final = 253_402_300_799
"""Of the year 9999."""
_TOLD: Final = ("account", "region", "time")
_FLOAT_LOSES: Final = re.compile(rb"[:\[,]\s*-?(?:\d[\d.]{16}|\d[\d.]*[eE])")
"""Text that may be a number with more digits, or another range, than a float has."""
_NATIVE: Final = ("type", "source")
"""Of the envelope's keys, those that an event has fields for."""


class EventEntry(NamedTuple):
    """A message as an entry of PutEvents."""

    source: str
    detail_type: str
    detail: bytes
    """JSON text: the body and the envelope."""
    time: int
    """Seconds since the epoch."""

    @property
    def size(self) -> int:
        """Bytes, as the service counts them: the JSON around the fields is not included."""
        return _TIME_BYTES + len(self.source.encode()) + len(self.detail_type.encode()) + len(self.detail)

    def event(self, *, id: str, account: str, region: str) -> dict[str, Any]:  # noqa: A002 - the event's own term
        """The event that a bus makes of the entry."""
        return {
            "version": "0",
            "id": id,
            "detail-type": self.detail_type,
            "source": self.source,
            "account": account,
            "time": datetime.fromtimestamp(self.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": region,
            "resources": [],
            "detail": _load(self.detail),
        }


def entry_of(message: Message[Any], *, channel: str) -> EventEntry:
    """The message as an entry; raises `InvalidMessage` for what is no event, `MessageTooLarge` for too large a one."""
    if not message.type or not message.source:
        raise InvalidMessage(f"{channel}: an event needs a type and a source; give the message both")
    if message.source.startswith("aws."):
        raise InvalidMessage(f"{channel}: sources that begin with 'aws.' are those of the services")
    if len(message.type) > _LONGEST_TYPE:
        raise InvalidMessage(f"{channel}: a type has at most {_LONGEST_TYPE} characters")
    if not 0 <= message.created_at <= _LAST_SECOND:
        raise InvalidMessage(f"{channel}: created_at is no time that an event can have")
    entry = EventEntry(message.source, message.type, _detail(message, channel), int(message.created_at))
    limit = EVENTBRIDGE.message_bytes or 0
    if entry.size > limit:
        raise MessageTooLarge(entry.size, limit, channel=channel)
    return entry


def _detail(message: Message[Any], channel: str) -> bytes:
    """The body's own text with the envelope as its last key."""
    if message.codec.content_type != JSON.content_type:
        raise InvalidMessage(f"{channel}: an event's detail is JSON, not {message.codec.content_type}")
    raw = message.encode().strip()
    if not raw.startswith(b"{"):
        raise InvalidMessage(f"{channel}: an event's detail is a JSON object; put the body under a key")
    if message.raw is not None or b'"eip"' in raw:
        _check(raw, channel)
    comma = b"" if raw[1:-1].strip() == b"" else b","
    return raw[:-1] + comma + b'"eip":' + orjson.dumps(_fields(message)) + b"}"


def _fields(message: Message[Any]) -> dict[str, Any]:
    """The envelope under the reserved key."""
    fields = envelope_fields(message)
    for key in _NATIVE:
        fields.pop(key, None)
    fields["at"] = round(message.created_at, 5)  # a digit more, and reading every event would take the exact way
    if message.attributes:
        fields["attrs"] = dump_attributes(message.attributes)
    return fields


def as_bus_predicate(wanted: Filter) -> Callable[[Message[Any]], bool]:
    """Whether a message that came from a bus passes; event patterns see what they saw there, the envelope included."""
    if not isinstance(wanted, EventPattern):
        return as_predicate(wanted)

    def passes(message: Message[Any]) -> bool:
        event = as_event(message)
        ours = message.headers.get("event-id") != message.id
        if ours and isinstance(event.get("detail"), Mapping):
            event["detail"] = {**event["detail"], ENVELOPE_KEY: _fields(message)}
        return wanted.matches(event)

    return passes


def _check(raw: bytes, channel: str) -> None:
    """Refuse bytes that were received and are no object, and the key that is the envelope's."""
    try:
        body = load_json(raw)
    except DecodeError as error:
        raise InvalidMessage(f"{channel}: {error}") from error
    if not isinstance(body, dict):
        raise InvalidMessage(f"{channel}: an event's detail is a JSON object")
    if ENVELOPE_KEY in body:
        raise InvalidMessage(f"{channel}: the key {ENVELOPE_KEY!r} of an event's detail is the envelope's")


def is_event(value: Any) -> bool:
    """Whether a decoded body is an event, as a rule's target gets it."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("detail-type"), str)
        and isinstance(value.get("source"), str)
        and isinstance(value.get("detail"), Mapping)
    )


def read_event(raw: bytes | str) -> dict[str, Any] | None:
    """The event that a text is; None where it is none. Numbers keep their digits."""
    data = raw.encode() if isinstance(raw, str) else raw
    try:
        value = _load(data)
    except (ValueError, RecursionError):
        return None
    return value if is_event(value) else None


def _load(data: bytes) -> Any:
    return json.loads(data, parse_float=Decimal) if _FLOAT_LOSES.search(data) else load_json(data)


def message_of(event: Mapping[str, Any], **known: Any) -> tuple[Message[Any], Exception | None]:
    """The message of an event, and why its envelope cannot be read.

    ``known`` are fields that the channel which brought it told, used where the event says nothing.
    """
    detail = event["detail"]
    headers = {**known.get("headers", {}), **_headers(event)}
    native: dict[str, Any] = {**known, "type": event["detail-type"], "source": event["source"], "headers": headers}
    if isinstance(event.get("id"), str):
        native["id"] = event["id"]
    occurred = event_time(event)
    if occurred is not None:
        native["created_at"] = occurred
    fields = detail.get(ENVELOPE_KEY)
    if not (isinstance(fields, Mapping) and "id" in fields and "at" in fields):  # an elastic IP, or what else it is
        return Message.received(dump_json(detail), **native), None
    try:
        if fields["at"].__class__ is not float:  # read the exact way: numbers are decimals, and were floats
            fields = load_json(dump_json(fields))
        sent = parse_envelope(fields)
        attributes = load_attributes(fields.get("attrs", {}))
    except DecodeError as error:
        return Message.received(dump_json(detail), **native), DecodeError(f"envelope cannot be read: {error}")
    native |= {name: value for name, value in sent.items() if name not in _NATIVE}
    native["headers"] = {**sent.get("headers", {}), **headers}
    body = {key: value for key, value in detail.items() if key != ENVELOPE_KEY}
    return Message.received(dump_json(body), attributes=attributes, **native), None


def _headers(event: Mapping[str, Any]) -> dict[str, str]:
    headers = {f"event-{name}": str(event[name]) for name in ("id", *_TOLD) if isinstance(event.get(name), str)}
    resources = event.get("resources")
    if isinstance(resources, list) and resources:
        headers["event-resources"] = dump_json(resources).decode()
    if isinstance(event.get("replay-name"), str):
        headers["replay-name"] = event["replay-name"]
    return headers


def event_time(event: Mapping[str, Any]) -> float | None:
    """An event's time, seconds since the epoch; None where it tells none."""
    time = event.get("time")
    if not isinstance(time, str):
        return None
    try:
        parsed = datetime.fromisoformat(time)
    except ValueError:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def undelivered(message: Message[Any], *, rule: str, reason: str, attempts: int) -> Message[Any]:
    """The message as a rule's dead-letter queue holds it, told as by `eip.channels.dead_lettered`."""
    why = {"dead-letter-reason": reason[:1000], "dead-letter-source": rule, "dead-letter-count": str(attempts)}
    return message.replace(headers={**message.headers, **why})
