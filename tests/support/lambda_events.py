"""Events as AWS Lambda calls a function with them, one maker for each source."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from eip import Message
from eip.channels import Sender
from eip.limits import MIB
from eip.transports.aws._attributes import carried


class Context:
    """What Lambda gives, with so many seconds left."""

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self._seconds * 1000)


class Recorder(Sender):
    name = address = "recorder"

    def __init__(self, error: Exception | None = None) -> None:
        self.sent: list[Message] = []
        self._error = error

    async def send(self, *messages):
        if self._error is not None:
            raise self._error
        self.sent += messages


def sqs_record(message: Message | str, number: int, *, group: str | None = None, count: int = 1) -> dict:
    body, attributes = message if isinstance(message, str) else "", {}
    if isinstance(message, Message):
        sent = carried(
            message, channel="q", limit=MIB, native={"group": message.group_id, "dedup": message.deduplication_id}
        )
        body, attributes = sent.body, sent.attributes
    return {
        "messageId": f"m{number}",
        "receiptHandle": "r",
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": str(count),
            "SentTimestamp": "1700000000000",
            **({} if group is None else {"MessageGroupId": group, "MessageDeduplicationId": f"d{number}"}),
        },
        "messageAttributes": {
            name: {
                "dataType": each["DataType"],
                **(
                    {"binaryValue": b64encode(each["BinaryValue"]).decode()}
                    if "BinaryValue" in each
                    else {"stringValue": each["StringValue"]}
                ),
            }
            for name, each in attributes.items()
        },
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:eu-central-1:123456789012:orders{'' if group is None else '.fifo'}",
        "awsRegion": "eu-central-1",
    }


def sqs(*records: Any) -> dict:
    return {"Records": list(records)}


def failures(response: dict) -> list[str]:
    return [each["itemIdentifier"] for each in response["batchItemFailures"]]


SNS: dict[str, Any] = {
    "EventVersion": "1.0",
    "EventSubscriptionArn": "arn:aws:sns:eu-central-1:123456789012:rides:1",
    "EventSource": "aws:sns",
    "Sns": {
        "Type": "Notification",
        "MessageId": "s1",
        "TopicArn": "arn:aws:sns:eu-central-1:123456789012:rides",
        "Subject": None,
        "Message": '{"from":"Berlin"}',
        "Timestamp": "2026-01-01T00:00:00.000Z",
        "MessageAttributes": {"kind": {"Type": "String", "Value": "ride"}},
    },
}


def sns_record(body: str, number: int) -> dict[str, Any]:
    return {**SNS, "Sns": {**SNS["Sns"], "MessageId": f"s{number}", "Message": body}}


def kinesis_record(data: bytes, number: int, key: str) -> dict:
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": key,
            "sequenceNumber": str(number),
            "data": b64encode(data).decode(),
            "approximateArrivalTimestamp": 1_700_000_000.5,
        },
        "eventSource": "aws:kinesis",
        "eventID": f"shardId-000000000000:{number}",
        "eventSourceARN": "arn:aws:kinesis:eu-central-1:123456789012:stream/clicks",
    }


def mq_message(number: int, body: bytes, **properties: str) -> dict:
    return {
        "messageID": f"ID:b-{number}:1:1:1:1",
        "messageType": "jms/text-message",
        "deliveryMode": 1,
        "replyTo": None,
        "type": None,
        "expiration": 0,
        "priority": 4,
        "correlationId": "c1",
        "redelivered": False,
        "destination": {"physicalName": "orders"},
        "data": b64encode(body).decode(),
        "timestamp": 1_700_000_000_000,
        "properties": properties,
    }
