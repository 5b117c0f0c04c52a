"""Records of Amazon MSK and of self-managed Kafka (AWS Lambda Developer Guide, "Processing Amazon MSK messages", 2026).

A record's value is the body, its key the message group (its partition where it has no key), its headers attributes
(``traceparent`` is the trace). The value of a deleted key (a "tombstone") is null.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from eip.codec import Codec
from eip.errors import DecodeError
from eip.message import Message
from eip.transports.aws.lambda_host._record import EventSource, Record, base64_of, text_of, text_or_bytes

__all__ = ["KAFKA"]


def _records(event: Mapping[str, Any]) -> Sequence[Any]:
    """The records of all partitions: the event has a list for each."""
    partitions = event.get("records")
    if not isinstance(partitions, Mapping):
        raise DecodeError(f"records must be an object, got {type(partitions).__name__}")
    found: list[Any] = []
    for each in partitions.values():
        found += each if isinstance(each, list) else [each]
    return found


def _read(record: Mapping[str, Any], codec: Codec) -> Iterable[Record]:
    partition, place = _partition(record), _place(record)
    value = record.get("value")
    headers = {"kafka-partition": partition, "kafka-offset": str(_integer(record, "offset"))}
    if value is None:
        headers["kafka-tombstone"] = "true"
    attributes = _attributes(record.get("headers") or ())
    trace = attributes.pop("traceparent", None)
    message = Message.received(
        b"null" if value is None else base64_of(record, "value"),
        codec=codec,
        id=place,
        group_id=partition if record.get("key") is None else f"{record['topic']}:{_key(record)}",
        created_at=_integer(record, "timestamp") / 1000,
        traceparent=trace if isinstance(trace, str) else None,
        attributes=attributes,
        headers=headers,
    )
    return (Record(place, message, None),)


def _partition(record: Mapping[str, Any]) -> str:
    return f"{text_of(record, 'topic')}-{_integer(record, 'partition')}"


def _place(record: Mapping[str, Any]) -> str:
    return f"{_partition(record)}-{_integer(record, 'offset')}"


def _integer(record: Mapping[str, Any], key: str) -> int:
    value = record[key]
    if not isinstance(value, int) or isinstance(value, bool):
        raise DecodeError(f"{key} must be an integer, got {type(value).__name__}")
    return value


def _key(record: Mapping[str, Any]) -> str:
    """The key as text; in base64 where it is none."""
    key = text_or_bytes(base64_of(record, "key"))
    return key if isinstance(key, str) else b64encode(key).decode()


def _attributes(headers: Iterable[Any]) -> dict[str, Any]:
    """The headers: text where they are UTF-8, otherwise bytes; of several with one name, the last."""
    found: dict[str, Any] = {}
    for each in headers:
        for name, numbers in each.items():
            found[name] = text_or_bytes(bytes(each % 256 for each in numbers))  # Java's bytes are signed
    return found


def _salvage(record: Mapping[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    with suppress(Exception):  # a record without its place
        known = {"identifier": _place(record), "id": _place(record), "group_id": _partition(record)}
    with suppress(Exception):  # then the record's JSON
        known["raw"] = base64_of(record, "value")
    return known


def _name(_: Any, records: Sequence[Any]) -> str:
    return ",".join(sorted({text_of(each, "topic") for each in records}))


KAFKA: Final = EventSource(_records, _read, _salvage, name=_name, default_name="kafka", ordered=lambda _: True)
