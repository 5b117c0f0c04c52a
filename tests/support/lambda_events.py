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


def dynamodb_record(number: int, key: str = "a", *, event: str = "INSERT", **images: Any) -> dict:
    return {
        "eventID": f"e{number}",
        "eventName": event,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "eu-central-1",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_700_000_000.0,
            "Keys": {"id": {"S": key}},
            "SequenceNumber": str(number),
            "SizeBytes": 26,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            **images,
        },
        "eventSourceARN": "arn:aws:dynamodb:eu-central-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000",
    }


def kafka_record(number: int, value: bytes | None, *, key: bytes | None = b"k", topic: str = "orders") -> dict:
    return {
        "topic": topic,
        "partition": 0,
        "offset": number,
        "timestamp": 1_700_000_000_000,
        "timestampType": "CREATE_TIME",
        "key": None if key is None else b64encode(key).decode(),
        "value": None if value is None else b64encode(value).decode(),
        "headers": [],
    }


def kafka(*records: Any) -> dict:
    return {
        "eventSource": "aws:kafka",
        "eventSourceArn": "arn:aws:kafka:eu-central-1:123456789012:cluster/c/u",
        "bootstrapServers": "b-1.c.kafka.eu-central-1.amazonaws.com:9092",
        "records": {"orders-0": list(records)},
    }


def s3_record(key: str = "photos/1.jpg", *, event: str = "ObjectCreated:Put", sequencer: str = "0A1B") -> dict:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-central-1",
        "eventTime": "2026-01-01T00:00:00.000Z",
        "eventName": event,
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "c",
            "bucket": {"name": "uploads", "arn": "arn:aws:s3:::uploads"},
            "object": {"key": key, "size": 1024, "eTag": "d41d8cd9", "sequencer": sequencer},
        },
    }


def windowed(*records: Any, state: Any = None, final: bool = False) -> dict:
    """A tumbling window's event: of a final one without records, only the ARN names the source."""
    return {
        "Records": list(records),
        "window": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:02:00Z"},
        "state": {} if state is None else state,
        "shardId": "shardId-000000000006",
        "eventSourceARN": "arn:aws:kinesis:eu-central-1:123456789012:stream/clicks",
        "isFinalInvokeForWindow": final,
        "isWindowTerminatedEarly": False,
    }


def sqs_event_record(received: dict[str, Any], arn: str) -> dict[str, Any]:
    """A message of ReceiveMessage as Lambda calls a function with it."""
    return {
        "messageId": received["MessageId"],
        "receiptHandle": received["ReceiptHandle"],
        "body": received["Body"],
        "attributes": received["Attributes"],
        "messageAttributes": {
            name: {
                "dataType": each["DataType"],
                "stringValue": each.get("StringValue"),
                "binaryValue": b64encode(each.get("BinaryValue", b"")).decode(),
            }
            for name, each in received.get("MessageAttributes", {}).items()
        },
        "md5OfBody": received["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": arn.split(":")[3],
    }


def rabbitmq_message(number: int, body: bytes, **properties: Any) -> dict:
    return {
        "basicProperties": {
            "contentType": "text/plain",
            "contentEncoding": None,
            "headers": {"kind": {"bytes": [111, 107]}, "n": 10},
            "deliveryMode": 1,
            "priority": 34,
            "correlationId": None,
            "replyTo": None,
            "expiration": "60000",
            "messageId": f"r{number}",
            "timestamp": "Jan 1, 1970, 12:33:41 AM",
            "type": None,
            "userId": "AIDACKCEVSQ6C2EXAMPLE",
            "appId": None,
            "clusterId": None,
            "bodySize": len(body),
            **properties,
        },
        "redelivered": False,
        "data": b64encode(body).decode(),
    }


def rabbitmq(*messages: Any) -> dict:
    return {
        "eventSource": "aws:rmq",
        "eventSourceArn": "arn:aws:mq:eu-central-1:123456789012:broker:r:b-1",
        "rmqMessagesByQueue": {"orders::/": list(messages)},
    }
