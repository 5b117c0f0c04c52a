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
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from eip.attributes import dump_attributes, load_attributes
from eip.channels import Filter
from eip.codec import dump_json, is_json, load_json
from eip.envelope import ENVELOPE_KEY, body_from_bytes, body_to_bytes, dump_fields, envelope_fields, parse_envelope
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
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_scan: Final = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str).raw_decode
"""Finds the end of a JSON value."""
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
    if not is_json(message.codec):
        raise InvalidMessage(f"{channel}: an event's detail is JSON, not {message.codec.content_type}")
    raw = message.encode().strip()
    if not raw.startswith(b"{"):
        raise InvalidMessage(f"{channel}: an event's detail is a JSON object; put the body under a key")
    if message.raw is not None or b'"eip"' in raw:
        _check(raw, channel)
    comma = b"" if raw[1:-1].strip() == b"" else b","
    return raw[:-1] + comma + b'"eip":' + dump_fields(_fields(message)) + b"}"


def _fields(message: Message[Any]) -> dict[str, Any]:
    """The envelope under the reserved key."""
    fields = {**envelope_fields(message), **body_to_bytes(message)[1]}
    for key in _NATIVE:
        fields.pop(key, None)
    fields["at"] = round(message.created_at, 5)  # a digit more, and reading every event would take the exact way
    if message.attributes:
        fields["attrs"] = dump_attributes(message.attributes)
    return fields


def as_bus_predicate(filter: Filter) -> Callable[[Message[Any]], bool]:  # noqa: A002 - the field's word
    """Whether a message that came from a bus passes; event patterns see what they saw there, the envelope included."""
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


class _Event(dict[str, Any]):
    """An event that was read from a text, and the text, which has the detail's digits and spaces."""

    __slots__ = ("text",)
    text: str


def read_event(raw: bytes | str) -> dict[str, Any] | None:
    """The event that a text is; None where it is none. `message_of` keeps the bytes of its detail."""
    try:
        value = load_json(raw)
        if not is_event(value):
            return None
        event = _Event(value)
        event.text = raw if isinstance(raw, str) else raw.decode()
    except (DecodeError, UnicodeDecodeError):
        return None
    return event


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
        return Message.received(_body(event), **native), None
    try:
        if fields["at"].__class__ is not float:  # read the exact way: numbers are decimals, and were floats
            fields = load_json(dump_json(fields))
        sent = parse_envelope(fields)
        attributes = load_attributes(fields.get("attrs", {}))
    except DecodeError as error:
        return Message.received(_body(event), **native), DecodeError(f"envelope cannot be read: {error}")
    native |= {name: value for name, value in sent.items() if name not in _NATIVE}
    native["headers"] = {**sent.get("headers", {}), **headers}
    form = body_from_bytes(_body(event, without=ENVELOPE_KEY), fields)
    return Message.received(form.raw, codec=form.codec, attributes=attributes, **native), None


def _body(event: Mapping[str, Any], *, without: str | None = None) -> bytes:
    """The event's detail, to the letter where the event was read from a text; less one key of it."""
    if isinstance(event, _Event):
        return _written_detail(event.text, without).encode()
    return dump_json({key: value for key, value in event["detail"].items() if key != without})


def _written_detail(text: str, without: str | None) -> str:
    member = [each for each in _members(text, _skip(text, 0)) if each.key == "detail"][-1]
    detail = text[member.value : member.end]
    if without is None:
        return detail
    members = list(_members(detail, 0))
    for place in reversed([place for place, each in enumerate(members) if each.key == without]):
        last = place == len(members) - 1
        start = members[place].comma if place else members[place].start
        end = members[place].end if place or last else members[place + 1].start
        detail = detail[:start] + detail[end:]
        del members[place]
    return detail


class _Member(NamedTuple):
    """Where a member of a JSON object stands in its text."""

    key: str
    comma: int
    """The comma before it; where there is none, its start."""
    start: int
    value: int
    end: int


def _members(text: str, at: int) -> Iterator[_Member]:
    """The members of the JSON object that begins at a place of a text, which is known to be JSON."""
    at = comma = _skip(text, at + 1)
    while text[at] != "}":
        start = at
        key, at = _scan(text, at)
        value = _skip(text, _skip(text, at) + 1)
        _, end = _scan(text, value)
        yield _Member(key, comma, start, value, end)
        at = comma = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    """The next place that is no white space."""
    found = _SPACE.match(text, at)
    return found.end() if found else at


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
    """The message as a rule's dead-letter queue holds it, as `eip.channels.with_dead_letter_headers` makes it."""
    why = {"dead-letter-reason": reason[:1000], "dead-letter-source": rule, "dead-letter-count": str(attempts)}
    return message.replace(headers={**message.headers, **why})
