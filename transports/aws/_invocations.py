"""The events that AWS Lambda calls a function with, as messages: one reader for each kind of event source.

`_records_of` is the border of one record: whatever reading it raises is the failure of that record alone. Its message
holds the bytes that came (the body, ``Sns.Message``, the data), or the record's JSON where those cannot be had.

Sources: AWS Lambda Developer Guide, the chapters on SQS, SNS, EventBridge, Kinesis and Amazon MQ, 2026.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from eip.codec import JSON, Codec, dump_json
from eip.errors import ConfigurationError, DecodeError, error_text
from eip.events import is_event, message_of
from eip.message import Message
from eip.streams import Position
from eip.transports.aws._attributes import readable_attributes
from eip.transports.aws._reading import read_message
from eip.transports.aws.kinesis.reading import message_of as message_of_record
from eip.transports.aws.kinesis.reading import records_of

__all__ = ["Invocation", "Record", "invocation_of"]


class Record(NamedTuple):
    """A message of an invocation."""

    identifier: str
    """Its name in ``batchItemFailures``; "" where it has none, by which the service takes the whole batch as failed."""
    message: Message[Any]
    error: Exception | None
    """Why it cannot be read."""
    receive_count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """The messages that a function was called with."""

    name: str
    """Of the queue, topic, stream or bus, for logs and dead letters."""
    records: Sequence[Record]
    ordered: bool
    """Whether message groups order them."""
    partial: bool
    """Whether the service takes ``batchItemFailures``; otherwise the whole invocation succeeds or fails."""
    first_only: bool = False
    """Whether only the first that failed counts: what follows it comes again (streams)."""


class _Source(NamedTuple):
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


def invocation_of(event: Any, codec: Codec = JSON) -> Invocation:
    """The messages of an event.

    Args:
        event: as Lambda calls the function with it.
        codec: of the channel; decodes the bodies of foreign producers.

    Raises:
        ConfigurationError: an event of a source that is not known.
    """
    if is_event(event):
        return Invocation(name=event["source"], records=(_of_event(event),), ordered=False, partial=False)
    source = _SOURCES.get(_source_name(event))
    if source is None:
        raise ConfigurationError(
            f"the event must be of {', '.join(sorted(_SOURCES))} or EventBridge, got {_describe(event)}"
        )
    name = source.default_name
    with suppress(Exception):  # only a name
        name = str(source.name(event, _first_object(event.get(source.key))) or name)
    return Invocation(
        name=name,
        records=_records_of(event, source, codec),
        ordered=source.ordered(name),
        partial=source.partial,
        first_only=source.first_only,
    )


def _source_name(event: Any) -> str:
    """The event source: of the event, or of the first record that names a known one; "" where there is none."""
    if not isinstance(event, Mapping):
        return ""
    records = event.get("Records")
    named = [event, *(each for each in (records if isinstance(records, list) else ()) if isinstance(each, Mapping))]
    sources = [each.get("eventSource", each.get("EventSource")) for each in named]
    texts = [each for each in sources if isinstance(each, str)]
    return next((each for each in texts if each in _SOURCES), texts[0] if texts else "")


def _describe(event: Any) -> str:
    """An event of an unknown source, for the error."""
    if not isinstance(event, Mapping):
        return f"a value of type {type(event).__name__}"
    if source := _source_name(event):
        return f"event source {source!r:.80}"
    return f"an object with the keys {sorted(map(str, event))[:20]} and no event source"


def _first_object(records: Any) -> Mapping[str, Any]:
    return next(each for each in records if isinstance(each, Mapping))


# The border of one record.


def _records_of(event: Mapping[str, Any], source: _Source, codec: Codec) -> tuple[Record, ...]:
    records = event.get(source.key)
    if not isinstance(records, list):
        error = DecodeError(f"{source.key} must be a list, got {type(records).__name__}")
        return (_unreadable(event, source, error),)
    found: list[Record] = []
    for each in records:
        try:
            found += tuple(source.read(_object(each), codec))
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this record only
            found.append(_unreadable(each, source, error))
    return tuple(found)


def _object(record: Any) -> Mapping[str, Any]:
    if not isinstance(record, Mapping):
        raise DecodeError(f"a record must be an object, got {type(record).__name__}")
    return record


def _unreadable(record: Any, source: _Source, failure: Exception) -> Record:
    known: dict[str, Any] = {}
    with suppress(Exception):  # a record that is no object, or lacks even these
        known = source.salvage(record)
    identifier, raw = known.pop("identifier", None), known.pop("raw", None)
    texts = {name: value for name, value in known.items() if name == "attributes" or (value and type(value) is str)}
    if not isinstance(raw, (str, bytes)):
        raw = _json_of(record)
    error = (
        failure if isinstance(failure, DecodeError) else DecodeError(f"record cannot be read: {error_text(failure)}")
    )
    return Record(_identifier(identifier), _received(raw, texts), error)


def _received(raw: str | bytes, known: Mapping[str, Any]) -> Message[Any]:
    data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    try:
        return Message.received(data, **known)
    except Exception:  # noqa: BLE001 - an id or a group that no message can have
        return Message.received(data)


def _json_of(record: Any) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False, separators=(",", ":"), default=str).encode(
            "utf-8", "surrogatepass"
        )
    except (TypeError, ValueError, RecursionError):  # not what Lambda's JSON can hold
        return repr(type(record)).encode()


def _identifier(value: Any) -> str:
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


# The sources.


def _of_event(event: Mapping[str, Any]) -> Record:
    try:
        message, error = message_of(event)
    except Exception as failure:  # noqa: BLE001 - as in `_records_of`
        message, error = Message.received(_json_of(event)), DecodeError(f"event cannot be read: {error_text(failure)}")
    return Record(_identifier(event.get("id")), message, error)


def _read_sqs(record: Mapping[str, Any], codec: Codec) -> Iterable[Record]:
    system, given = record.get("attributes") or {}, record.get("messageAttributes") or {}
    body, attributes = _text(record, "body"), {name: _sqs_attribute(each) for name, each in given.items()}
    message, error = read_message(record.get("messageId"), body, system, attributes, codec=codec)
    count = _count(system.get("ApproximateReceiveCount")) if isinstance(system, Mapping) else 1
    return (Record(_identifier(record.get("messageId")), message, error, count),)


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
    return (Record(_identifier(record.get("messageID")), message, error, count),)


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


_SQS: Final = _Source(
    "Records",
    _read_sqs,
    _salvage_sqs,
    name=lambda _, record: _last(record["eventSourceARN"], ":"),
    default_name="sqs",
    partial=True,
    ordered=lambda name: name.endswith(".fifo"),
)
_SNS: Final = _Source(
    "Records",
    _read_sns,
    _salvage_sns,
    name=lambda _, record: _last(record["Sns"]["TopicArn"], ":"),
    default_name="sns",
)
_KINESIS: Final = _Source(
    "Records",
    _read_kinesis,
    _salvage_kinesis,
    name=lambda _, record: _last(record["eventSourceARN"], "/"),
    default_name="kinesis",
    partial=True,
    first_only=True,
    ordered=lambda _: True,
)
_MQ: Final = _Source("messages", _read_mq, _salvage_mq, name=_mq_name, default_name="activemq", ordered=lambda _: True)
_SOURCES: Final = {"aws:sqs": _SQS, "aws:sns": _SNS, "aws:kinesis": _KINESIS, "aws:mq": _MQ, "aws:amq": _MQ}
