"""Notifications of Amazon SNS (AWS Lambda Developer Guide, "Invoking Lambda functions with Amazon SNS", 2026)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from eip.codec import Codec, dump_json
from eip.transports.aws._reading import read_message
from eip.transports.aws.lambda_host._record import (
    EventSource,
    Record,
    base64_of,
    last_part,
    listed,
    readable,
    text_of,
)

__all__ = ["SNS"]


def _read(record: Mapping[str, Any], codec: Codec) -> Iterable[Record]:
    notification = record["Sns"]
    identifier, _ = text_of(notification, "MessageId"), text_of(notification, "Message")
    topic = {"Type": "Notification", "TopicArn": str(notification.get("TopicArn"))}
    wrapped = dump_json({**notification, **topic}).decode()  # as a queue without raw delivery gets it
    message, error = read_message(identifier, wrapped, {}, {}, codec=codec)
    if error is not None:
        raise error
    return (Record(identifier, message, None),)


def _attribute(attribute: Mapping[str, Any]) -> dict[str, Any]:
    kind = text_of(attribute, "Type")
    if kind.startswith("Binary"):
        return {"DataType": kind, "BinaryValue": base64_of(attribute, "Value")}
    return {"DataType": kind, "StringValue": text_of(attribute, "Value")}


def _salvage(record: Mapping[str, Any]) -> dict[str, Any]:
    notification = record["Sns"]
    return {
        "identifier": notification.get("MessageId"),
        "raw": notification.get("Message"),
        "id": notification.get("MessageId"),
        "attributes": readable(notification.get("MessageAttributes"), _attribute),
    }


SNS: Final = EventSource(
    listed("Records"),
    _read,
    _salvage,
    name=lambda _, records: last_part(records[0]["Sns"]["TopicArn"], ":"),
    default_name="sns",
)
