"""Messages of Amazon MQ for RabbitMQ (AWS Lambda Developer Guide, "Using Lambda with Amazon MQ", 2026).

What AMQP has properties for are fields of the message; its headers are attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from eip.codec import Codec, codec_of, dump_json
from eip.errors import DecodeError
from eip.message import Message
from eip.transports.aws.lambda_host._record import EventSource, Record, base64_of, identifier_of, text_or_bytes

__all__ = ["RABBITMQ"]

_KEY: Final = "rmqMessagesByQueue"
_TIME: Final = "%b %d, %Y, %I:%M:%S %p"
"""As Lambda writes a timestamp: ``Jan 1, 1970, 12:33:41 AM``."""
_FIELDS: Final = {"messageId": "id", "correlationId": "correlation_id", "type": "type"}


def _records(event: Mapping[str, Any]) -> Sequence[Any]:
    """The messages of all queues: the event has a list for each."""
    queues = event.get(_KEY)
    if not isinstance(queues, Mapping):
        raise DecodeError(f"{_KEY} must be an object, got {type(queues).__name__}")
    found: list[Any] = []
    for each in queues.values():
        found += each if isinstance(each, list) else [each]
    return found


def _read(record: Mapping[str, Any], codec: Codec) -> Iterable[Record]:
    properties = record.get("basicProperties") or {}
    known = {ours: properties[theirs] for theirs, ours in _FIELDS.items() if properties.get(theirs)}
    if (at := _time(properties.get("timestamp"))) is not None:
        known["created_at"] = at
    if kind := properties.get("contentType"):
        codec = codec_of(kind, codec)
    message = Message.received(
        base64_of(record, "data"),
        codec=codec,
        attributes=_attributes(properties.get("headers") or {}),
        headers={"reply-to": properties["replyTo"]} if properties.get("replyTo") else {},
        **known,
    )
    count = 2 if record.get("redelivered") is True else 1
    return (Record(message.id, message, None, count),)


def _time(text: Any) -> float | None:
    try:
        return datetime.strptime(str(text), _TIME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _attributes(headers: Mapping[str, Any]) -> dict[str, Any]:
    """AMQP's headers: texts come as bytes; what no attribute can hold becomes its JSON."""
    found: dict[str, Any] = {}
    for name, value in headers.items():
        match value:
            case None:
                continue
            case {"bytes": list(numbers)}:
                found[name] = text_or_bytes(bytes(each % 256 for each in numbers))
            case str() | int() | float():
                found[name] = value
            case _:
                found[name] = dump_json(value).decode()
    return found


def _salvage(record: Mapping[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    with suppress(Exception):  # a message without an id
        known["id"] = known["identifier"] = identifier_of(record["basicProperties"]["messageId"])
    with suppress(Exception):  # then the record's JSON
        known["raw"] = base64_of(record, "data")
    return known


def _name(event: Any, _: Sequence[Any]) -> str:
    """The queues, each with its virtual host in the event."""
    return ",".join(sorted(each.partition("::")[0] for each in event[_KEY]))


RABBITMQ: Final = EventSource(_records, _read, _salvage, name=_name, default_name="rabbitmq")
