"""How the records of each event source of AWS Lambda are read, and what can be had of a malformed one.

Sources: AWS Lambda Developer Guide, the chapters on SQS, SNS, Kinesis and Amazon MQ, 2026.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from eip.codec import Codec, dump_json
from eip.errors import DecodeError
from eip.message import Message
from eip.streams import Position
from eip.transports.aws._attributes import readable_attributes
from eip.transports.aws._reading import read_message
from eip.transports.aws.kinesis.reading import message_of as message_of_record
from eip.transports.aws.kinesis.reading import records_of

__all__ = ["SOURCES", "EventSource", "Record", "identifier_of"]


class Record(NamedTuple):
    """A message of an invocation."""

    identifier: str
    """Its name in ``batchItemFailures``; "" where it has none, by which the service takes the whole batch as failed."""
    message: Message[Any]
    error: Exception | None
    """Why it cannot be read."""
    receive_count: int = 1


class EventSource(NamedTuple):
    """How the events of one kind of source are read."""

    key: str
    """Where the event has its records."""
    read: Callable[[Mapping[str, Any], Codec], Iterable[Record]]
    """The messages of a record; may raise anything."""
    salvage: Callable[[Mapping[str, Any]], dict[str, Any]]
    """Of a record that cannot be read: ``identifier``, ``raw``, and keywords of its message. May raise anything."""
    name: Callable[[Mapping[str, Any], Mapping[str, Any]], Any]
    """Of the channel, from the event and its first record. May raise anything."""
    default_name: str
    partial: bool = False
    first_only: bool = False
    ordered: Callable[[str], bool] = lambda _: False
    """Whether message groups order the records of the channel of that name."""


def identifier_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record[key]
    if not isinstance(value, str):
        raise DecodeError(f"{key} must be a string, got {type(value).__name__}")
    return value


def _count(value: Any) -> int:
    """A receive count; 1 where it is malformed."""
    text = str(value)
    return max(int(text), 1) if text.isascii() and text.isdigit() and len(text) < 10 else 1


def _last(arn: Any, separator: str) -> str:
    return _text({"arn": arn}, "arn").rpartition(separator)[2]


def _read_sqs(record: Mapping[str, Any], codec: Codec) -> Iterable[Record]:
    system, given = record.get("attributes") or {}, record.get("messageAttributes") or {}
    body, attributes = _text(record, "body"), {name: _sqs_attribute(each) for name, each in given.items()}
    message, error = read_message(record.get("messageId"), body, system, attributes, codec=codec)
    count = _count(system.get("ApproximateReceiveCount")) if isinstance(system, Mapping) else 1
    return (Record(identifier_of(record.get("messageId")), message, error, count),)


def _sqs_attribute(attribute: Mapping[str, Any]) -> dict[str, Any]:
    """An attribute as ReceiveMessage returns it: Lambda's names begin small, and its binary values are base64."""
    kind = _text(attribute, "dataType")
    if kind.startswith("Binary"):
        return {"DataType": kind, "BinaryValue": b64decode(_text(attribute, "binaryValue"), validate=True)}
    return {"DataType": kind, "StringValue": _text(attribute, "stringValue")}


def _salvage_sqs(record: Mapping[str, Any]) -> dict[str, Any]:
    system, given = record.get("attributes"), record.get("messageAttributes")
    identifier = record.get("messageId")
    return {
        "identifier": identifier,
        "raw": record.get("body"),
        "id": identifier,
        "group_id": system.get("MessageGroupId") if isinstance(system, Mapping) else None,
        "attributes": _readable(given, _sqs_attribute),
    }


def _readable(given: Any, read: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """The attributes that can be read."""
    found: dict[str, Any] = {}
    for name, each in given.items() if isinstance(given, Mapping) else ():
        with suppress(Exception):  # one that cannot; the record has failed already
            found[name] = read(each)
    return readable_attributes(found)


def _read_sns(record: Mapping[str, Any], codec: Codec) -> Iterable[Record]:
    notification = record["Sns"]
    identifier, _ = _text(notification, "MessageId"), _text(notification, "Message")
    topic = {"Type": "Notification", "TopicArn": str(notification.get("TopicArn"))}
    wrapped = dump_json({**notification, **topic}).decode()  # as a queue without raw delivery gets it
    message, error = read_message(identifier, wrapped, {}, {}, codec=codec)
    if error is not None:
        raise error
    return (Record(identifier, message, None),)


def _sns_attribute(attribute: Mapping[str, Any]) -> dict[str, Any]:
    kind, value = _text(attribute, "Type"), _text(attribute, "Value")
    if kind.startswith("Binary"):
        return {"DataType": kind, "BinaryValue": b64decode(value, validate=True)}
    return {"DataType": kind, "StringValue": value}


def _salvage_sns(record: Mapping[str, Any]) -> dict[str, Any]:
    notification = record["Sns"]
    return {
        "identifier": notification.get("MessageId"),
        "raw": notification.get("Message"),
        "id": notification.get("MessageId"),
        "attributes": _readable(notification.get("MessageAttributes"), _sns_attribute),
    }


def _read_kinesis(record: Mapping[str, Any], codec: Codec) -> Iterable[Record]:
    """The user records of a record; keys are groups, so that each key's order is kept."""
    shard, inner = str(record.get("eventID", "")).partition(":")[0], record["kinesis"]
    sequence = _text(inner, "sequenceNumber")
    received = {
        "Data": b64decode(_text(inner, "data"), validate=True),
        "SequenceNumber": sequence,
        "PartitionKey": _text(inner, "partitionKey"),
        "ApproximateArrivalTimestamp": datetime.fromtimestamp(float(inner["approximateArrivalTimestamp"]), UTC),
    }
    for part in records_of([received], Position()):
        message, error = message_of_record(shard, part, codec=codec)
        yield Record(sequence, message, error)


def _salvage_kinesis(record: Mapping[str, Any]) -> dict[str, Any]:
    inner = record["kinesis"]
    known = {
        "identifier": inner.get("sequenceNumber"),
        "group_id": inner.get("partitionKey"),
        "id": record.get("eventID"),
    }
    with suppress(Exception):  # then the record's JSON
        known["raw"] = b64decode(inner["data"], validate=True)
    return known


def _read_mq(record: Mapping[str, Any], codec: Codec) -> Iterable[Record]:
    from eip.transports.aws._mq_messages import read_mq_message  # noqa: PLC0415 - only where ActiveMQ is the source

    message, error, count = read_mq_message(record, codec)
    return (Record(identifier_of(record.get("messageID")), message, error, count),)


def _salvage_mq(record: Mapping[str, Any]) -> dict[str, Any]:
    identifier, properties = record.get("messageID"), record.get("properties")
    known = {"identifier": identifier, "id": identifier}
    if isinstance(properties, Mapping):
        known["group_id"] = properties.get("JMSXGroupID")
    with suppress(Exception):  # then the record's JSON
        known["raw"] = b64decode(record["data"], validate=True)
    return known


def _mq_name(event: Mapping[str, Any], _: Mapping[str, Any]) -> str:
    """The queues of the messages; the documentation spells their key in two ways."""
    found: set[str] = set()
    for each in event["messages"]:
        with suppress(Exception):  # a message without one
            destination = each["destination"]
            found.add(_text({"name": destination.get("physicalName", destination.get("physicalname"))}, "name"))
    return ",".join(sorted(found))


_SQS: Final = EventSource(
    "Records",
    _read_sqs,
    _salvage_sqs,
    name=lambda _, record: _last(record["eventSourceARN"], ":"),
    default_name="sqs",
    partial=True,
    ordered=lambda name: name.endswith(".fifo"),
)
_SNS: Final = EventSource(
    "Records",
    _read_sns,
    _salvage_sns,
    name=lambda _, record: _last(record["Sns"]["TopicArn"], ":"),
    default_name="sns",
)
_KINESIS: Final = EventSource(
    "Records",
    _read_kinesis,
    _salvage_kinesis,
    name=lambda _, record: _last(record["eventSourceARN"], "/"),
    default_name="kinesis",
    partial=True,
    first_only=True,
    ordered=lambda _: True,
)
_MQ: Final = EventSource(
    "messages", _read_mq, _salvage_mq, name=_mq_name, default_name="activemq", ordered=lambda _: True
)
SOURCES: Final = {"aws:sqs": _SQS, "aws:sns": _SNS, "aws:kinesis": _KINESIS, "aws:mq": _MQ, "aws:amq": _MQ}
"""By the name that Lambda has for the source."""
