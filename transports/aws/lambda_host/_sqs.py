"""Records of Amazon SQS (AWS Lambda Developer Guide, "Using Lambda with Amazon SQS", 2026)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from eip.codec import Codec
from eip.transports.aws._reading import read_message
from eip.transports.aws.lambda_host._record import (
    EventSource,
    Record,
    base64_of,
    identifier_of,
    last_part,
    listed,
    readable,
    text_of,
)

__all__ = ["SQS"]


def _read(record: Mapping[str, Any], codec: Codec) -> Iterable[Record]:
    system, given = record.get("attributes") or {}, record.get("messageAttributes") or {}
    body, attributes = text_of(record, "body"), {name: _attribute(each) for name, each in given.items()}
    message, error = read_message(record.get("messageId"), body, system, attributes, codec=codec)
    count = _count(system.get("ApproximateReceiveCount")) if isinstance(system, Mapping) else 1
    return (Record(identifier_of(record.get("messageId")), message, error, count),)


def _attribute(attribute: Mapping[str, Any]) -> dict[str, Any]:
    """An attribute as ReceiveMessage returns it: Lambda's names begin small, and its binary values are base64."""
    kind = text_of(attribute, "dataType")
    if kind.startswith("Binary"):
        return {"DataType": kind, "BinaryValue": base64_of(attribute, "binaryValue")}
    return {"DataType": kind, "StringValue": text_of(attribute, "stringValue")}


def _salvage(record: Mapping[str, Any]) -> dict[str, Any]:
    system, given = record.get("attributes"), record.get("messageAttributes")
    identifier = record.get("messageId")
    return {
        "identifier": identifier,
        "raw": record.get("body"),
        "id": identifier,
        "group_id": system.get("MessageGroupId") if isinstance(system, Mapping) else None,
        "attributes": readable(given, _attribute),
    }


def _count(value: Any) -> int:
    """A receive count; 1 where it is malformed."""
    text = str(value)
    return max(int(text), 1) if text.isascii() and text.isdigit() and len(text) < 10 else 1


SQS: Final = EventSource(
    listed("Records"),
    _read,
    _salvage,
    name=lambda _, records: last_part(records[0]["eventSourceARN"], ":"),
    default_name="sqs",
    partial=True,
    ordered=lambda name: name.endswith(".fifo"),
)
