"""What AWS Lambda calls a function with, as messages: one reader for each kind of event source.

Sources: AWS Lambda Developer Guide, the chapters on SQS, SNS, EventBridge, Kinesis and Amazon MQ, 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from eip.codec import dump_json
from eip.errors import ConfigurationError
from eip.events import is_event, message_of
from eip.message import Message
from eip.streams import Position
from eip.transports.aws._reading import base64_of, read_message
from eip.transports.aws.kinesis.reading import message_of as message_of_record
from eip.transports.aws.kinesis.reading import records_of

__all__ = ["Invocation", "Record", "invocation_of"]


class Record(NamedTuple):
    """A message of an invocation."""

    identifier: str
    """What the service calls it in ``batchItemFailures``."""
    message: Message[Any]
    error: Exception | None
    """Why its envelope cannot be read."""
    receive_count: int


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


def invocation_of(event: Any) -> Invocation:
    """The messages of an event; raises `ConfigurationError` for one of a source that is not known."""
    if isinstance(event, Mapping):
        if is_event(event):
            return _of_event(event)
        source = str(event.get("eventSource", ""))
        records = event.get("Records")
        if isinstance(records, list) and records and isinstance(records[0], Mapping):
            source = str(records[0].get("eventSource", records[0].get("EventSource", "")))
        if source in _READERS:
            return _READERS[source](event)
    raise ConfigurationError(
        f"no event of a source that is known: {', '.join(sorted(_READERS))}, or an event of EventBridge"
    )


def _name(arn: object) -> str:
    return str(arn).rpartition(":")[2]


def _of_event(event: Mapping[str, Any]) -> Invocation:
    message, error = message_of(event)
    record = Record(message.id, message, error, 1)
    return Invocation(name=str(event["source"]), records=(record,), ordered=False, partial=False)


def _of_sqs(event: Mapping[str, Any]) -> Invocation:
    name = _name(event["Records"][0].get("eventSourceARN", "sqs"))
    records = tuple(_sqs_record(each) for each in event["Records"])
    return Invocation(name=name, records=records, ordered=name.endswith(".fifo"), partial=True)


def _sqs_record(record: Mapping[str, Any]) -> Record:
    system = record.get("attributes") or {}
    attributes = {name: _sqs_attribute(each) for name, each in (record.get("messageAttributes") or {}).items()}
    message, error = read_message(record["messageId"], record["body"], system, attributes)
    return Record(record["messageId"], message, error, int(system.get("ApproximateReceiveCount", 1)))


def _sqs_attribute(attribute: Mapping[str, Any]) -> dict[str, Any]:
    """As ReceiveMessage tells it: Lambda's names begin small, and its binary values are base64."""
    kind = str(attribute.get("dataType", "String"))
    if kind.startswith("Binary"):
        return {"DataType": kind, "BinaryValue": base64_of(str(attribute.get("binaryValue", "")))}
    return {"DataType": kind, "StringValue": str(attribute.get("stringValue", ""))}


def _of_sns(event: Mapping[str, Any]) -> Invocation:
    name = _name(event["Records"][0]["Sns"].get("TopicArn", "sns"))
    return Invocation(
        name=name, records=tuple(_sns_record(each["Sns"]) for each in event["Records"]), ordered=False, partial=False
    )


def _sns_record(notification: Mapping[str, Any]) -> Record:
    wrapped = dump_json({**notification, "Type": "Notification"}).decode()
    message, error = read_message(str(notification.get("MessageId", "")), wrapped, {}, {})
    return Record(message.id, message, error, 1)


def _of_kinesis(event: Mapping[str, Any]) -> Invocation:
    """The user records of a batch of one shard; keys are groups, so that each key's order is kept."""
    found: list[Record] = []
    for each in event["Records"]:
        shard, record = str(each.get("eventID", "")).partition(":")[0], each["kinesis"]
        received = {
            "Data": base64_of(record["data"]),
            "SequenceNumber": record["sequenceNumber"],
            "PartitionKey": record["partitionKey"],
            "ApproximateArrivalTimestamp": datetime.fromtimestamp(float(record["approximateArrivalTimestamp"]), UTC),
        }
        for part in records_of([received], Position()):
            message, error = message_of_record(shard, part)
            found.append(Record(record["sequenceNumber"], message, error, 1))
    name = str(event["Records"][0].get("eventSourceARN", "kinesis")).rpartition("/")[2]
    return Invocation(name=name, records=tuple(found), ordered=True, partial=True, first_only=True)


def _of_mq(event: Mapping[str, Any]) -> Invocation:
    from eip.transports.activemq._frames import Frame  # noqa: PLC0415 - only where ActiveMQ is the source
    from eip.transports.activemq._headers import from_frame  # noqa: PLC0415

    def records() -> Iterator[Record]:
        for each in event.get("messages") or ():
            read = from_frame(Frame("MESSAGE", _stomp_headers(each), base64_of(str(each.get("data", "")))))
            count = read.attempts + 1 + bool(each.get("redelivered"))
            yield Record(str(each.get("messageID", "")), read.message, read.error, count)

    found = tuple(records())
    queues = {each["destination"]["physicalName"] for each in event["messages"] if each.get("destination")}
    return Invocation(name=",".join(sorted(queues)) or "activemq", records=found, ordered=True, partial=False)


_JMS: Final = {
    "messageID": "message-id",
    "correlationId": "correlation-id",
    "type": "type",
    "timestamp": "timestamp",
    "expiration": "expires",
}


def _stomp_headers(message: Mapping[str, Any]) -> dict[str, str]:
    """The headers of the frame that a STOMP client would have been given."""
    headers = {name: str(value) for name, value in (message.get("properties") or {}).items()}
    for key, name in _JMS.items():
        if message.get(key) not in (None, "", "null", 0):
            headers[name] = str(message[key])
    if message.get("messageType") == "jms/text-message":
        headers.setdefault("content-type", "application/json")
    return headers


_READERS: Final[dict[str, Callable[[Mapping[str, Any]], Invocation]]] = {
    "aws:sqs": _of_sqs,
    "aws:sns": _of_sns,
    "aws:kinesis": _of_kinesis,
    "aws:mq": _of_mq,
    "aws:amq": _of_mq,
}
