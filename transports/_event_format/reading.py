"""An event as a message: of ours, of other programs, of AWS services."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from eip.attributes import load_attributes
from eip.codec import dump_json, json_members, load_json
from eip.envelope import ENVELOPE_KEY, body_from_bytes, has_unknown, load_envelope, parse_envelope
from eip.errors import DecodeError
from eip.message import Message
from eip.transports._event_format.detail_text import written_detail
from eip.transports._event_format.sent_event import HEADER_OF, SentEvent
from eip.transports._event_format.writing import NATIVE_FIELDS

__all__ = ["event_time", "is_event", "message_of", "read_event", "undelivered"]


def is_event(value: Any) -> bool:
    """Whether a decoded body is an event, as a rule's target gets it."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("detail-type"), str)
        and isinstance(value.get("source"), str)
        and isinstance(value.get("detail"), Mapping)
    )


class _Event(dict[str, Any]):
    """An event with the text it was read from, for the detail's digits and spaces."""

    __slots__ = ("text",)
    text: str


def read_event(raw: bytes | str) -> dict[str, Any] | None:
    """Parse an event; None if the text is not one. `message_of` keeps the bytes of its detail."""
    try:
        value = load_json(raw)
        if not is_event(value):
            return None
        event = _Event(value)
        event.text = raw if isinstance(raw, str) else raw.decode()
    except (DecodeError, UnicodeDecodeError):
        return None
    return event


def message_of(event: Mapping[str, Any], **known: Any) -> tuple[Message[Any], Exception | None]:
    """The message of an event, and the error if its envelope cannot be read.

    ``known`` are message fields from the channel that brought it, used where the event has no value.
    """
    if event.__class__ is SentEvent and not known:
        return event.received(), None
    detail = event["detail"]
    headers = {**known.get("headers", {}), **_headers(event)}
    native: dict[str, Any] = {**known, "type": event["detail-type"], "source": event["source"], "headers": headers}
    if isinstance(event.get("id"), str) and event["id"]:
        native["id"] = event["id"]
    occurred = event_time(event)
    if occurred is not None:
        native["created_at"] = occurred
    fields = detail.get(ENVELOPE_KEY)
    if not (isinstance(fields, Mapping) and "id" in fields and "at" in fields):  # e.g. an elastic IP
        return Message.received(_body(event), **native), None
    try:
        fields = _envelope(event, fields)
        sent = parse_envelope(fields)
        attributes = load_attributes(fields.get("attrs", {}))
    except DecodeError as error:
        return Message.received(_body(event), **native), DecodeError(f"envelope cannot be read: {error}")
    native |= {name: value for name, value in sent.items() if name not in NATIVE_FIELDS}
    native["headers"] = {**sent.get("headers", {}), **headers}
    form = body_from_bytes(_body(event, without=ENVELOPE_KEY), fields)
    return Message.received(form.raw, codec=form.codec, attributes=attributes, **native), None


def _envelope(event: Mapping[str, Any], fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The envelope's fields, as `load_envelope` reads them."""
    if isinstance(event, _Event) and has_unknown(fields):
        fields = load_envelope(json_members(written_detail(event.text, None).encode())[ENVELOPE_KEY])
    elif fields["at"].__class__ is not float:  # read the exact way: numbers are decimals, and were floats
        fields = load_envelope(dump_json(fields))
    return fields


def _body(event: Mapping[str, Any], *, without: str | None = None) -> bytes:
    """The event's detail without one key; byte for byte where the event was read from a text."""
    if isinstance(event, _Event):
        return written_detail(event.text, without).encode()
    return dump_json({key: value for key, value in event["detail"].items() if key != without})


def _headers(event: Mapping[str, Any]) -> dict[str, str]:
    headers = {header: str(event[name]) for name, header in HEADER_OF if isinstance(event.get(name), str)}
    resources = event.get("resources")
    if isinstance(resources, list) and resources:
        headers["event-resources"] = dump_json(resources).decode()
    if isinstance(event.get("replay-name"), str):
        headers["replay-name"] = event["replay-name"]
    return headers


def event_time(event: Mapping[str, Any]) -> float | None:
    """An event's time in seconds since the epoch; None if it has none."""
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
